/** Where answers are written to and questions come from. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/**
 * Where answers are written to, such as `process.stdout`. Where `write` gives a promise, the next piece waits for it.
 *
 * @since 0.2.0
 * @category models
 */
export interface Output {
  /** Writes a piece of text as it is. What it throws or rejects with ends the call. */
  readonly write: (text: string) => unknown
}

/**
 * The questions of a conversation, one line each.
 *
 * @since 0.2.0
 * @category models
 */
export interface Lines {
  /** The next line; `undefined` at the end of the input. */
  readonly next: () => Promise<string | undefined>
  /** Called once, when no more lines are needed. */
  readonly close: () => void
}

/**
 * A terminal. Its lines begin when they are asked for.
 *
 * @since 0.2.0
 * @category models
 */
export interface TerminalService {
  /** Where answers are written to. */
  readonly output: Output
  /** Begins to read. */
  readonly lines: () => Lines
}

/**
 * The terminal that calls use which name no output or input of their own; `undefined`, the default, where there is none,
 * as in a browser. On Node it is standard output and standard input. `Effect.provideService` gives a call another one.
 *
 * @since 0.2.0
 * @category tags
 */
export class Terminal extends Context.Reference<Terminal>()("aicortex/Execute/Terminal", {
  defaultValue: (): TerminalService | undefined => undefined
}) {}

/** The lines of an iterable. */
export const linesOf = (input: AsyncIterable<string> | Iterable<string>): Lines => {
  const iterator =
    Symbol.asyncIterator in input ? input[Symbol.asyncIterator]() : (input as Iterable<string>)[Symbol.iterator]()
  return {
    next: async () => {
      const { done, value } = await iterator.next()
      return done === true ? undefined : value
    },
    close: () => void iterator.return?.()
  }
}

/** Writes a piece, and waits where the output says so. */
export const writeTo = (output: Output | undefined, text: string): Effect.Effect<void> =>
  output === undefined || text === ""
    ? Effect.void
    : Effect.suspend(() => {
        const written = output.write(text)
        return written instanceof Promise ? Effect.promise(() => written) : Effect.void
      })
