/** Reads what the user types, line by line. */
import { createInterface, type Interface } from "node:readline"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface LineReader {
  /** The next line, with a prompt on a terminal; `undefined` at the end of input or after Ctrl-C. */
  readonly next: Effect.Effect<string | undefined>
  /** Ends when Ctrl-C is pressed, on a terminal. */
  readonly stopped: Effect.Effect<void>
}

const prompt = "> "

/** The lines of standard input until the scope closes. Lines that come early are buffered. */
export const make: Effect.Effect<LineReader, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true
    const reader: Interface = terminal
      ? createInterface({ input: process.stdin, output: process.stdout, prompt })
      : createInterface({ input: process.stdin, terminal: false })
    const waiting: Array<string> = []
    let ended = false
    let take: ((line: string | undefined) => void) | undefined
    let stop: (() => void) | undefined
    const give = (line: string | undefined) => {
      const taker = take
      take = undefined
      taker?.(line)
    }
    reader.on("line", (line) => {
      if (take === undefined) waiting.push(line)
      else give(line)
    })
    reader.on("close", () => {
      ended = true
      give(undefined)
    })
    reader.on("SIGINT", () => {
      if (stop !== undefined) return stop()
      reader.close()
    })
    const next = Effect.async<string | undefined>((resume) => {
      const line = waiting.shift()
      if (line !== undefined || ended) return resume(Effect.succeed(line))
      take = (line) => resume(Effect.succeed(line))
      if (terminal) reader.prompt()
      return Effect.sync(() => {
        take = undefined
      })
    })
    const stopped = Effect.async<void>((resume) => {
      stop = () => resume(Effect.void)
      return Effect.sync(() => {
        stop = undefined
      })
    })
    return {
      reader,
      next,
      stopped: Effect.ensuring(
        stopped,
        Effect.sync(() => (stop = undefined))
      )
    }
  }),
  ({ reader }) => Effect.sync(() => reader.close())
)
