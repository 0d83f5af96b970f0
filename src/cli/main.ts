/** The command line: its commands, and how their results become exit codes. */
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
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
import { doctor, doctorShape } from "./doctor.js"
import { embed, embedShape } from "./embed.js"
import { engine, engineShape } from "./engine.js"
import { codeOf, messageOf, type Place, pageOf } from "./errors.js"
import * as Flags from "./flags.js"
import * as Help from "./help.js"
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
import { registryCommand, registryShape } from "./registry.js"
import { serve, serveShape } from "./serve.js"
import { servers, serversShape } from "./servers.js"
import { sessions, sessionsShape } from "./sessions.js"
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
    registry: registryShape,
    doctor: doctorShape,
    sessions: sessionsShape,
    serve: serveShape,
    engine: engineShape,
    bench: benchShape,
    best: bestShape,
    auto: autoShape,
    conditions: conditionsShape,
    "llm-params": llmParamsShape,
    config: configShape,
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
    registryCommand,
    doctor,
    sessions,
    serve,
    engine,
    bench,
    best,
    auto,
    conditions,
    llmParams,
    config,
    completions
  ]),
  Command.run({ name: "aicortex", version, executable: "aicortex" })
)

// =============================================================================
// Exit
// =============================================================================

const withHint = (message: string, path: ReadonlyArray<string>): string =>
  `${message}${/[.?!]$/.test(message) ? "" : "."} See \`${["aicortex", ...path, "--help"].join(" ")}\`.`

/** The message on standard error, and the exit code. */
const describe = (error: unknown, place: Place): readonly [message: string, code: number] => {
  if (ValidationError.isValidationError(error)) {
    const text = Output.withoutEscapes(HelpDoc.toAnsiText(error.error)).replace(/\s+/g, " ").trim()
    return [withHint(text === "" ? "the command line cannot be read" : text, place.path), 2]
  }
  if (!(error instanceof Error)) return [`unexpected failure: ${String(error)}`, 1]
  if (!("_tag" in error)) return [`unexpected failure: ${error.stack ?? error.message}`, 1]
  switch (error._tag) {
    case "OutputClosed":
      return ["", 0]
    case "UsageError":
      return [withHint(error.message, "command" in error && Array.isArray(error.command) ? error.command : []), 2]
    default: {
      const page = pageOf(error)
      return [`${messageOf(error, place)}${page === undefined ? "" : `\n  See ${page}`}`, codeOf(error)]
    }
  }
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

/** Standard output is for answers: logs of services go to standard error. */
const logger = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ message }) => {
    process.stderr.write(`aicortex: ${Output.withoutControls([message].flat().join(" "))}\n`)
  })
)

/** What may follow a command line that is being typed. */
const complete = (words: ReadonlyArray<string>) =>
  Effect.flatMap(
    Effect.promise(() => import("./completions/run.js")),
    ({ run }) => run(root, words)
  )

/**
 * Runs a command line, then exits. An interruption (SIGINT, SIGTERM) cancels the servers' work first; a second one
 * exits at once, except in a worker, which is controlled by the first process. A command that ends well when
 * interrupted sets `process.exitCode`.
 */
export const main = (words: ReadonlyArray<string>): void => {
  // Each write reports its own failure.
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  let signal: number | undefined
  const onSignal = (code: number) => () => {
    if (signal !== undefined && process.connected !== true) process.exit(signal)
    signal = code
  }
  process.on("SIGINT", onSignal(130))
  process.on("SIGTERM", onSignal(143))

  let place: Place = { path: [], flags: root.flags, file: "" }
  // Completion scripts ask for what may follow, which need not be a command line yet.
  const read = ConfigFile.filePath.pipe(
    Effect.flatMap((file) => {
      place = { ...place, file }
      return normalize(root, words)
    }),
    Effect.flatMap((read): ReturnType<typeof execute> => {
      place = { ...place, path: read.path, flags: read.shape.flags }
      const [word, shell = ""] = read.words ?? []
      if (word === "--completions") return print("--completions", shell, [])
      return read.words === undefined || read.words.length === 0
        ? Output.write(Help.text(read.path, read.shape))
        : execute(["node", "aicortex", ...read.words])
    })
  )
  const started: typeof read = words[0] === "__complete" ? complete(words.slice(1)) : read
  started.pipe(
    withOutputs,
    Effect.provide(
      Layer.mergeAll(
        logger,
        NodeFileSystem.layer,
        NodePath.layer,
        NodeTerminal.layer,
        CliConfig.layer({ isCaseSensitive: true, showBuiltIns: false, showTypes: false })
      )
    ),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      disablePrettyLogger: true,
      teardown: (exit) => {
        if (Exit.isSuccess(exit)) return process.exit(0)
        if (Cause.isInterruptedOnly(exit.cause)) return process.exit(process.exitCode ?? signal ?? 130)
        const [message, code] = describe(Cause.squash(exit.cause), place)
        if (message === "") return process.exit(code)
        process.stderr.write(`aicortex: ${Output.withoutControls(message)}\n`, () => process.exit(code))
      }
    })
  )
}
