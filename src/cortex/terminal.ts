/** The terminal on Node: standard output, and the lines of standard input. */
import { createInterface } from "node:readline"
import * as Layer from "effect/Layer"
import { type Lines, Terminal } from "../Execute.js"

/** Each question is read by itself, so that Ctrl-C in between is what it is everywhere. */
const typed = (): Lines => {
  let history: Array<string> = []
  return {
    next: () =>
      new Promise((resolve) => {
        const reader = createInterface({ input: process.stdin, output: process.stdout, history })
        reader.on("history", (lines: Array<string>) => {
          history = lines
        })
        reader.once("close", () => resolve(undefined))
        reader.question("> ", (line) => {
          resolve(line)
          reader.close()
        })
      }),
    close: () => {}
  }
}

/** What is piped in may come faster than it is asked for: one reader keeps it. */
const piped = (): Lines => {
  const reader = createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
  const lines = reader[Symbol.asyncIterator]()
  return {
    next: async () => {
      const { done, value } = await lines.next()
      return done === true ? undefined : value
    },
    close: () => reader.close()
  }
}

/** The terminal of this process. */
export const layer: Layer.Layer<Terminal> = Layer.succeed(Terminal, {
  output: { write: (text) => void process.stdout.write(text) },
  lines: () => (process.stdin.isTTY === true && process.stdout.isTTY === true ? typed() : piped())
})
