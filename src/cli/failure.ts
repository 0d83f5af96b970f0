/**
 * The failures that only the command line has.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * The command line itself is wrong: exit code 2. `command` is the one whose help says how it is used.
 *
 * @since 0.1.0
 * @category errors
 */
export class UsageError extends Data.TaggedError("UsageError")<{
  readonly message: string
  readonly command: ReadonlyArray<string>
}> {}

/**
 * A command could not do what it was asked to: exit code 1.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{ readonly message: string }> {}

/**
 * Whoever read standard output has gone, as `head -1` does: nothing is left to do, and nothing is wrong.
 *
 * @since 0.1.0
 * @category errors
 */
export class OutputClosed extends Data.TaggedError("OutputClosed") {}
