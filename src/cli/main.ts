/** The command line: its commands. */
import { setFlagsFromString } from "node:v8"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ConfigFile from "../config/file.js"
import { version } from "../internal/version.js"
import { auto, autoShape } from "./auto.js"
import { bench, benchShape } from "./bench.js"
import { best, bestShape } from "./best.js"
import { chat, chatShape } from "./chat.js"
import { type About, normalize, shape } from "./commandLine.js"
import { completions, completionsShape, print } from "./completions.js"
import { conditions, conditionsShape } from "./conditions.js"
import { config, configShape } from "./config.js"
import { discover, discoverShape } from "./discover.js"
import { doctor, doctorShape } from "./doctor.js"
import { embed, embedShape } from "./embed.js"
import { engine, engineShape } from "./engine.js"
import { type CommandContext, UsageError } from "./errors.js"
import * as Flags from "./flags.js"
import * as Help from "./help.js"
import { keys, keysShape } from "./keys.js"
import { llmParams, llmParamsShape } from "./llmParams.js"
import {
  engines,
  enginesShape,
  logs,
  logsShape,
  run,
  runShape,
  service,
  serviceShape,
  start,
  startShape,
  status,
  statusShape,
  stop,
  stopShape
} from "./local.js"
import { list, listShape, ls, lsShape, ps, psShape, pull, pullShape, rm, rmShape, show, showShape } from "./manage.js"
import { models, modelsShape } from "./models.js"
import * as Output from "./output.js"
import { runProgram } from "./program.js"
import { registryCommand, registryShape } from "./registry.js"
import { requests, requestsShape } from "./requests.js"
import { serve, serveShape } from "./serve.js"
import { servers, serversShape } from "./servers.js"
import { sessions, sessionsShape } from "./sessions.js"
import { setup, setupShape } from "./setup.js"
import { top, topShape } from "./top.js"
import { usage, usageShape } from "./usage.js"
import { use, useShape } from "./use.js"

// =============================================================================
// Commands
// =============================================================================

const about: About = {
  about: [
    "Talk to a fleet of language-model servers as if it were one server that never fails.",
    "Your servers come from AICORTEX_SERVERS, OLLAMA_HOST or the configuration file; else it is an Ollama on this machine.",
    "With no server, the small built-in model answers."
  ],
  examples: ['aicortex chat "Why is the sky blue?"', "aicortex servers add http://gpu-1:11434", "aicortex chat --help"]
}

/** The command line with all its commands. */
export const root = shape(
  about,
  {
    completions: Flags.text("completions", {
      value: "SHELL",
      about: "The same as `aicortex completions SHELL`."
    }),
    version: Flags.flag("version", { alias: "V", about: "Print the version." })
  },
  {
    chat: chatShape,
    run: runShape,
    start: startShape,
    stop: stopShape,
    status: statusShape,
    logs: logsShape,
    engines: enginesShape,
    service: serviceShape,
    embed: embedShape,
    ls: lsShape,
    list: listShape,
    ps: psShape,
    show: showShape,
    pull: pullShape,
    rm: rmShape,
    models: modelsShape,
    use: useShape,
    servers: serversShape,
    discover: discoverShape,
    registry: registryShape,
    doctor: doctorShape,
    sessions: sessionsShape,
    serve: serveShape,
    top: topShape,
    keys: keysShape,
    usage: usageShape,
    requests: requestsShape,
    engine: engineShape,
    bench: benchShape,
    best: bestShape,
    auto: autoShape,
    conditions: conditionsShape,
    "llm-params": llmParamsShape,
    config: configShape,
    setup: setupShape,
    completions: completionsShape
  }
)

const execute = Command.make("aicortex").pipe(
  Command.withDescription(about.about[0] ?? ""),
  Command.withSubcommands([
    chat,
    run,
    start,
    stop,
    status,
    logs,
    engines,
    service,
    embed,
    ls,
    list,
    ps,
    show,
    pull,
    rm,
    models,
    use,
    servers,
    discover,
    registryCommand,
    doctor,
    sessions,
    serve,
    top,
    keys,
    usage,
    requests,
    engine,
    bench,
    best,
    auto,
    conditions,
    llmParams,
    config,
    setup,
    completions
  ]),
  Command.run({ name: "aicortex", version, executable: "aicortex" })
)

// =============================================================================
// Running
// =============================================================================

/** A command line that its parser refuses. The parser words it for a terminal. */
const usageError = ({ error }: ValidationError.ValidationError, command: ReadonlyArray<string>): UsageError => {
  const text = Output.withoutEscapes(HelpDoc.toAnsiText(error)).replace(/\s+/g, " ").trim()
  return new UsageError({ message: text === "" ? "the command line cannot be read" : text, command })
}

/** Colours in the help are only for terminals; errors are reported once, at the end. */
const withOutputs = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Console.consoleWith((console) =>
    Effect.withConsole(effect, {
      ...console,
      log: (...parts) => {
        const text = `${parts.join(" ").trimEnd()}\n`
        return Effect.ignore(Output.write(Output.supportsColor(process.stdout) ? text : Output.withoutEscapes(text)))
      },
      error: () => Effect.void
    })
  )

/** What may follow a command line that is being typed. */
const complete = (words: ReadonlyArray<string>) =>
  Effect.flatMap(
    Effect.promise(() => import("./completions/run.js")),
    ({ run }) => run(root, words)
  )

/** Commands that may send any number of requests. */
const lasting: ReadonlySet<string> = new Set(["bench", "engine", "run", "serve", "start", "top"])

/**
 * What parses HTTP is WebAssembly, which V8 optimises at the first request: 0.1 s and 35 MB, in commands that send a
 * handful. With this budget it begins some 15 requests later, for some parts of it much later. Versions of V8 where this
 * was not tried are left alone: they may not know the flag, and would say so on standard error.
 */
const optimiseParserLater = (words: ReadonlyArray<string>) => {
  if (words.some((word) => lasting.has(word))) return
  if (/^1[1-3]\./.test(process.versions.v8)) setFlagsFromString("--wasm-tiering-budget=100000000")
}

/** Runs a command line, then exits. */
export const main = (words: ReadonlyArray<string>): void => {
  optimiseParserLater(words)
  let context: CommandContext = { path: [], flags: root.flags, file: "" }
  // Completion scripts ask for what may follow, which need not be a command line yet.
  const read = ConfigFile.filePath.pipe(
    Effect.flatMap((file) => {
      context = { ...context, file }
      return normalize(root, words)
    }),
    Effect.flatMap((read): ReturnType<typeof execute> => {
      context = { ...context, path: read.path, flags: read.shape.flags }
      const [word, shell = ""] = read.words ?? []
      if (word === "--completions") return print("--completions", shell, [])
      return read.words === undefined || read.words.length === 0
        ? Output.write(Help.text(read.path, Help.page(read.shape)))
        : execute(["node", "aicortex", ...read.words])
    })
  )
  const started: typeof read = words[0] === "__complete" ? complete(words.slice(1)) : read
  runProgram(
    started.pipe(
      Effect.mapError((error) => (ValidationError.isValidationError(error) ? usageError(error, context.path) : error)),
      withOutputs,
      Effect.provide(
        Layer.mergeAll(
          NodeFileSystem.layer,
          NodePath.layer,
          NodeTerminal.layer,
          CliConfig.layer({ isCaseSensitive: true, showBuiltIns: false, showTypes: false })
        )
      )
    ),
    () => context
  )
}
