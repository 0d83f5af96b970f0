/** Prints an answer on a terminal. */
import type { Chunk } from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ChatEvent } from "../../../ChatEvent.js"
import type { ChatError } from "../../../Errors.js"
import * as Output from "../../output.js"
import { summary } from "../summary.js"
import { AnswerView, screen } from "./answerView.js"
import type { ViewSettings } from "./conversation.js"
import { markdown, plain, wrap } from "./markdown.js"

/** A line about the answer; where both streams are this terminal, it stands above what is being written. */
const notice = (view: AnswerView, message: string): void => {
  const line = `aicortex: ${Output.withoutControls(message)}`
  if (process.stderr.isTTY === true) {
    const lines = wrap(line, screen.columns() - 1)
    view.insert(lines.map((one) => Output.dim(one, process.stderr)).join("\n"))
  } else process.stderr.write(`${line}\n`)
}

/** `begun` runs before anything is written; it may run more than once. */
export const print = Effect.fnUntraced(function* (
  events: Stream.Stream<ChatEvent, ChatError>,
  begun: Effect.Effect<void>,
  { markdown: formatted, verbose }: ViewSettings
) {
  const view = new AnswerView(screen, formatted ? markdown(Output.supportsColor(process.stdout)) : plain)
  const thoughts = new AnswerView(screen, plain, (text) => Output.dim(text, process.stdout))
  let cached = false
  let saysSomething = false
  /** Before the answer has begun, a failed server is only reported if another one answers. */
  let failures: Array<string> = []

  const tellFailures = () => {
    for (const failure of failures) notice(view, failure)
    failures = []
  }

  const show = (event: ChatEvent) => {
    switch (event.type) {
      case "token":
        if (event.content === "") break
        thoughts.end()
        tellFailures()
        saysSomething = true
        view.push(event.content)
        break
      case "thinking":
        if (!verbose || event.content === "") break
        tellFailures()
        thoughts.push(event.content)
        break
      case "meta":
        if (event.meta.type === "cached") cached = true
        break
      case "error": {
        const { content, next } = event
        failures.push(next === undefined ? content : `${content}; ${next} goes on`)
        if (saysSomething && next !== undefined) tellFailures()
        break
      }
      case "restart":
        thoughts.end()
        tellFailures()
        view.end()
        notice(view, `the text above is discarded: the answer restarts on ${event.server}`)
        break
      case "end":
        thoughts.end()
        if (!verbose) break
        view.end()
        notice(view, summary(event, cached))
    }
  }
  const writes = ({ type }: ChatEvent) =>
    type === "token" || type === "thinking" || type === "restart" || type === "end"
  const onChunk = (chunk: Chunk<ChatEvent>): Effect.Effect<void> => {
    const showAll = Effect.sync(() => {
      for (const event of chunk) show(event)
    })
    for (const event of chunk) if (writes(event)) return Effect.zipRight(begun, showAll)
    return showAll
  }
  yield* Effect.ensuring(
    Stream.runForEachChunk(events, onChunk),
    Effect.sync(() => {
      thoughts.end()
      view.end()
    })
  )
})
