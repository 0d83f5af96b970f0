/** Runs a program as this process: its signals, its last words on standard error, and its exit code. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Logger from "effect/Logger"
import { type CommandContext, codeOf, messageOf, pageOf } from "./errors.js"
import * as Output from "./output.js"

const withHint = (message: string, path: ReadonlyArray<string>): string =>
  `${message}${/[.?!]$/.test(message) ? "" : "."} See \`${["aicortex", ...path, "--help"].join(" ")}\`.`

/** The message on standard error, and the exit code. */
const describe = (error: unknown, context: CommandContext): readonly [message: string, code: number] => {
  if (!(error instanceof Error)) return [`unexpected failure: ${String(error)}`, 1]
  if (!("_tag" in error)) return [`unexpected failure: ${error.stack ?? error.message}`, 1]
  switch (error._tag) {
    case "OutputClosed":
      return ["", 0]
    case "UsageError":
      return [withHint(error.message, "command" in error && Array.isArray(error.command) ? error.command : []), 2]
    default: {
      const page = pageOf(error)
      return [`${messageOf(error, context)}${page === undefined ? "" : `\n  See ${page}`}`, codeOf(error)]
    }
  }
}

/** Standard output is for answers: logs of services go to standard error. */
const logger = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ message }) => {
    process.stderr.write(`aicortex: ${Output.withoutControls([message].flat().join(" "))}\n`)
  })
)

/**
 * Runs a program, then exits. An interruption (SIGINT, SIGTERM) cancels the servers' work first; a second one exits at
 * once, except in a worker, which is controlled by the first process. A command that ends well when interrupted sets
 * `process.exitCode`. `context`: what an error is described with.
 */
export const runProgram = <E>(program: Effect.Effect<void, E>, context: () => CommandContext): void => {
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

  program.pipe(
    Effect.provide(logger),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      disablePrettyLogger: true,
      teardown: (exit) => {
        if (Exit.isSuccess(exit)) return process.exit(0)
        if (Cause.isInterruptedOnly(exit.cause)) return process.exit(process.exitCode ?? signal ?? 130)
        const [message, code] = describe(Cause.squash(exit.cause), context())
        if (message === "") return process.exit(code)
        process.stderr.write(`aicortex: ${Output.withoutControls(message)}\n`, () => process.exit(code))
      }
    })
  )
}
