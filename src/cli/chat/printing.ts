/** Prints answers: as text, whole or as it comes, or for programs. */
import type { Chunk } from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ChatEvent } from "../../ChatEvent.js"
import type { ChatError } from "../../Errors.js"
import type { Result } from "../../Failover.js"
import * as Output from "../output.js"
import { summary } from "./summary.js"

/**
 * Prints the answer as it comes. Standard output gets only the answer, and ends with a line break. `begun` runs before
 * anything is written.
 */
export const stream = Effect.fnUntraced(function* (
  events: Stream.Stream<ChatEvent, ChatError>,
  begun: Effect.Effect<void>,
  verbose: boolean
) {
  let last = ""
  let thinking = ""
  let cached = false
  /** A failed server is only reported if another one continues; otherwise the error reports all. */
  let failures: Array<string> = []

  const thought = Effect.suspend(() => {
    if (thinking === "") return Effect.void
    const end = thinking.endsWith("\n") ? "" : "\n"
    thinking = ""
    return Output.writeDim(end)
  })
  const failed = Effect.suspend(() => {
    const lines = failures
    failures = []
    return Effect.forEach(lines, Output.dimNotice, { discard: true })
  })
  const endLine = Effect.suspend(() => {
    const isOpen = last !== "" && !last.endsWith("\n")
    last = ""
    return isOpen ? Output.write("\n") : Effect.void
  })
  const onChunk = Effect.fnUntraced(function* (chunk: Chunk<ChatEvent>) {
    let text = ""
    const flush = Effect.suspend(() => {
      if (text === "") return Effect.void
      last = text
      text = ""
      return Output.writeLine(last)
    })
    for (const event of chunk) {
      switch (event.type) {
        case "token":
          text += event.content
          break
        case "thinking":
          if (!verbose || event.content === "") break
          yield* begun
          yield* failed
          thinking = event.content
          yield* Output.writeDim(event.content)
          break
        case "meta":
          if (event.meta.type === "cached") cached = true
          break
        case "error":
          failures.push(event.next === undefined ? event.content : `${event.content}; ${event.next} goes on`)
          break
        case "restart":
          yield* begun
          yield* flush
          yield* endLine
          yield* thought
          yield* failed
          yield* Output.notice(`the text above is discarded: the answer restarts on ${event.server}`)
          break
        case "end":
          yield* begun
          if (!verbose) break
          yield* flush
          yield* endLine
          yield* thought
          yield* Output.dimNotice(summary(event, cached))
      }
    }
    if (text === "") return
    yield* begun
    yield* thought
    yield* failed
    yield* flush
  })
  // Ends the line of a broken answer, so that the next output starts on its own line.
  yield* Effect.ensuring(Stream.runForEachChunk(events, onChunk), Effect.ignore(endLine))
})

export const print = Effect.fnUntraced(function* (result: Result, verbose: boolean) {
  if (verbose) {
    for (const attempt of result.attempts) yield* Output.dimNotice(`${attempt.server} failed: ${attempt.message}`)
    if (result.thinking !== "") yield* Output.writeDim(`${result.thinking.trimEnd()}\n`)
  }
  yield* Output.writeLine(result.text.endsWith("\n") ? result.text : `${result.text}\n`)
  if (verbose) yield* Output.dimNotice(summary(result, result.cached))
})

/** What `--output json` prints: everything that is known of an answer. `value` is its text as JSON, if it had to be. */
export const printResult = (result: Result, took: number, value?: unknown) => {
  const { warnings, ...rest } = result
  return Output.writeJson({
    ...(value === undefined ? {} : { value }),
    ...rest,
    duration: took,
    ...(warnings === undefined ? {} : { warnings: warnings.map(({ message }) => message) })
  })
}

/** What `--output jsonl` prints: each event in a line of its own. `begun` runs before anything is written. */
export const streamEvents = (events: Stream.Stream<ChatEvent, ChatError>, begun: Effect.Effect<void>) =>
  Stream.runForEachChunk(events, (chunk) =>
    Effect.zipRight(begun, Output.write([...chunk].map((event) => `${JSON.stringify(event, plainly)}\n`).join("")))
  )

/** A warning is an error, which JSON does not show. */
const plainly = (_: string, value: unknown): unknown => (value instanceof Error ? value.message : value)
