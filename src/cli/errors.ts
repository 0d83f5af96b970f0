/** Failures of the command line itself, and how library errors are worded for it. */
import * as Data from "effect/Data"
import * as Errors from "../Errors.js"
import {
  InvalidConfig,
  InvalidModelReference,
  InvalidRequest,
  ModelNotFound,
  NoServers,
  SessionNotFound
} from "../Errors.js"
import { demoModel } from "../Model.js"
import { isAuto } from "../modelSelection/candidate.js"

/** The command line is wrong: exit code 2. `command` is the one whose help to show. */
export class UsageError extends Data.TaggedError("UsageError")<{
  readonly message: string
  readonly command: ReadonlyArray<string>
}> {}

/** A command failed: exit code 1. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{ readonly message: string }> {}

/** The reader of standard output is gone, as with `head -1`: exit without an error. */
export class OutputClosed extends Data.TaggedError("OutputClosed") {}

// =============================================================================
// Flags
// =============================================================================

/** The flag that sets an option of the library. */
export const flagOf = (field: string): string => `--${field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** Converts an invalid option into an error of the command line. */
export const refused = (
  command: string,
  { field, reason }: { readonly field: string; readonly reason: string },
  value?: number
): UsageError => {
  const words = reason.replace(/\s+/g, " ")
  const message = words.startsWith("must ") ? ` ${words}${value === undefined ? "" : `, not '${value}'`}` : `: ${words}`
  return new UsageError({ message: `${flagOf(field)}${message}`, command: command.split(" ") })
}

/** A setting in the environment counts as part of the command line. */
const isVariable = ({ source }: InvalidConfig): boolean =>
  source === "the environment" || /^[A-Z][A-Z0-9_]+$/.test(source)

/** The exit code of a failure: 2 if the command line, or its environment, is wrong. */
export const codeOf = (error: Error): number =>
  error instanceof UsageError ||
  error instanceof InvalidModelReference ||
  (error instanceof InvalidConfig && isVariable(error))
    ? 2
    : 1

// =============================================================================
// Messages
// =============================================================================

/** How to add a server, for users who have none. */
export const addServer = "`aicortex servers add http://HOST:11434`"

/** The message if an address is requested for the built-in model. */
export const noAddress = (): CommandFailed =>
  new CommandFailed({
    message: `the built-in model "${demoModel}" has no address: it runs in the process that asks it`
  })

/** The failed command, its flags, and the path of the configuration file. */
export interface CommandContext {
  readonly path: ReadonlyArray<string>
  readonly flags: ReadonlyMap<string, unknown>
  readonly file: string
}

/** The message of a failure on the command line: the advice in library errors is meant for programs. */
export const messageOf = (error: Error, { file, flags, path }: CommandContext): string => {
  if (error instanceof SessionNotFound) {
    return `No session with id '${error.id}' found. List them with \`aicortex sessions\`, or make one with \`aicortex sessions create\`.`
  }
  if (error instanceof ModelNotFound) {
    return error.message.replace("models() or ", "")
  }
  if (error instanceof NoServers && error.servers.length === 0) {
    const demo = path[0] === "chat" ? ", or ask the built-in model with `-m aicortex-demo`" : ""
    return (
      `No servers available${isAuto(error.model) ? "" : ` for model '${error.model}'`}: no server is known. Add one with ${addServer}, or name yours ` +
      `in AICORTEX_SERVERS${demo}.`
    )
  }
  if (error instanceof InvalidRequest && error.server === undefined && flags.has(flagOf(error.field))) {
    return `Invalid request: ${flagOf(error.field)}: ${error.reason}`
  }
  // Editing the file does not help if an environment variable is missing or the file cannot be read.
  const elsewhere: ReadonlySet<string> = new Set(["servers.apiKey", "file"])
  if (error instanceof InvalidConfig && error.source === file && !elsewhere.has(error.field)) {
    return `${error.message.replace(/[.?]$/, "")}; repair it, or delete it`
  }
  return error.message
}

/** Where the documentation explains an error of the library: a page and its anchor. */
export const pageOf = (error: Error): string | undefined =>
  Errors.isChatError(error) ? `docs/errors.md#${error._tag.toLowerCase()}` : undefined
