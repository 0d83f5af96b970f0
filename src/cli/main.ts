/**
 * The command line: which commands there are, and what becomes of what they end with.
 *
 * @since 0.1.0
 */
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Span from "@effect/cli/HelpDoc/Span"
import * as Options from "@effect/cli/Options"
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
import { version } from "../internal/version.js"
import * as Best from "./best.js"
import * as Chat from "./chat.js"
import { normalize, type Shape, shape } from "./commandLine.js"
import * as Config from "./config.js"
import { withExamples } from "./examples.js"
import * as LlmParams from "./llmParams.js"
import * as Models from "./models.js"
import * as Output from "./output.js"
import * as Servers from "./servers.js"
import * as ServersAdd from "./serversAdd.js"
import * as ServersList from "./serversList.js"

// =============================================================================
// commands
// =============================================================================

const command = Command.make("aicortex").pipe(
  Command.withDescription(
    withExamples(
      [
        "Talk to a fleet of language-model servers as if it were one server that never fails.",
        "Each command tells more with --help. Servers come from AICORTEX_SERVERS, OLLAMA_HOST or the configuration file, or are an Ollama on this machine."
      ],
      ['aicortex chat "Why is the sky blue?"', "aicortex servers add http://gpu-1:11434", "aicortex models --available"]
    )
  ),
  Command.withSubcommands([
    Chat.command,
    Models.command,
    Servers.command,
    Best.command,
    LlmParams.command,
    Config.command
  ])
)

const root: Shape = shape(
  { version: Options.boolean("version").pipe(Options.withAlias("V")), completions: Options.text("completions") },
  {
    children: {
      chat: shape(Chat.options, { free: true }),
      models: shape(Models.options),
      servers: shape(Servers.options, {
        free: true,
        children: {
          list: shape(ServersList.options),
          add: shape(ServersAdd.options, { free: true }),
          remove: shape({}, { free: true })
        }
      }),
      best: shape(Best.options, { free: true }),
      "llm-params": shape(LlmParams.options, { free: true }),
      config: shape(Config.options)
    }
  }
)

const execute = Command.run(command, {
  name: "aicortex",
  version,
  summary: Span.text("a fleet of language-model servers that behaves like one"),
  executable: "aicortex"
})

// =============================================================================
// ends
// =============================================================================

const hint = (path: ReadonlyArray<string>): string => `See \`${["aicortex", ...path, "--help"].join(" ")}\`.`

/** What standard error says of a failure, and the exit code. */
const describe = (error: unknown, path: ReadonlyArray<string>): readonly [message: string, code: number] => {
  if (ValidationError.isValidationError(error)) {
    const text = Output.plain(HelpDoc.toAnsiText(error.error)).replace(/\s+/g, " ").trim()
    return [`${text === "" ? "the command line cannot be read" : text}. ${hint(path)}`, 2]
  }
  if (!(error instanceof Error)) return [`unexpected failure: ${String(error)}`, 1]
  if (!("_tag" in error)) return [`unexpected failure: ${error.stack ?? error.message}`, 1]
  switch (error._tag) {
    case "OutputClosed":
      return ["", 0]
    case "UsageError":
      return [`${error.message}. ${hint("command" in error && Array.isArray(error.command) ? error.command : [])}`, 2]
    default:
      return [error.message, 1]
  }
}

/** The help is written in colours that only a terminal wants; errors are told at the end, once. */
const withOutputs = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Console.consoleWith((console) =>
    Effect.withConsole(effect, {
      ...console,
      log: (...parts) => {
        const text = `${parts.join(" ").trimEnd()}\n`
        return Effect.ignore(Output.write(Output.coloured(process.stdout) ? text : Output.plain(text)))
      },
      error: () => Effect.void
    })
  )

/**
 * Runs a command line to its end, and the process with it. An interruption (SIGINT, SIGTERM) stops the servers' work
 * first; a second one does not wait.
 *
 * @since 0.1.0
 * @category constructors
 */
export const main = (words: ReadonlyArray<string>): void => {
  // Each write tells its own failure.
  process.stdout.on("error", () => {})
  process.stderr.on("error", () => {})
  let signal: number | undefined
  const onSignal = (code: number) => () => {
    if (signal !== undefined) process.exit(signal)
    signal = code
  }
  process.on("SIGINT", onSignal(130))
  process.on("SIGTERM", onSignal(143))

  let path: ReadonlyArray<string> = []
  Effect.suspend(() => normalize(root, words)).pipe(
    Effect.flatMap((args) => {
      const flags = args.findIndex((word) => word.startsWith("-"))
      path = args.slice(0, flags === -1 ? undefined : flags)
      return execute(["node", "aicortex", ...(args.length === 0 ? ["--help"] : args)])
    }),
    withOutputs,
    Effect.provide(
      Layer.mergeAll(
        NodeFileSystem.layer,
        NodePath.layer,
        NodeTerminal.layer,
        CliConfig.layer({ isCaseSensitive: true, showBuiltIns: false, showTypes: false })
      )
    ),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit) => {
        if (Exit.isSuccess(exit)) return process.exit(0)
        if (Cause.isInterruptedOnly(exit.cause)) return process.exit(signal ?? 130)
        const [message, code] = describe(Cause.squash(exit.cause), path)
        if (message === "") return process.exit(code)
        process.stderr.write(`aicortex: ${message}\n`, () => process.exit(code))
      }
    })
  )
}
