/** Filters reasoning that a server leaves in the text before the requested JSON. */
import type { Finish, Sink } from "../Backend.js"
import type { ToolCall } from "../Message.js"

const opening = /^<(think|thinking|thought|reasoning)>/
const closing = /<\/(think|thinking|thought|reasoning)>/
/** The longest tag minus one character: that much of one may have arrived. */
const longest = "</reasoning>".length - 1

/** The JSON at the end of a text without a mark where the reasoning ends. */
const jsonAtEnd = (text: string): string | undefined => {
  const end = text.trimEnd()
  if (!/[}\]]$/.test(end)) return undefined
  let tries = 0
  for (const match of end.matchAll(/[{[]/g)) {
    if (++tries > 100) return undefined
    const rest = end.slice(match.index)
    try {
      JSON.parse(rest)
      return rest
    } catch {
      // It starts further on.
    }
  }
  return undefined
}

/**
 * Passes on the answer to a JSON request: tagged reasoning before it (opened here, or by the chat template) becomes
 * reasoning, the text after it the answer. Text that starts like JSON is passed on immediately; anything else is held
 * until it is known what it is.
 */
export class ThinkingFilter implements Sink {
  readonly context: Sink["context"]
  private held = ""
  private state: "begin" | "tagged" | "open" | "after" | "through" = "begin"

  constructor(private readonly sink: Sink) {
    this.context = sink.context
  }

  text(content: string): void {
    if (this.state === "through") {
      this.sink.text(content)
      return
    }
    if (this.state === "after") {
      const rest = content.trimStart()
      if (rest !== "") this.pass(rest)
      return
    }
    this.held += content
    if (this.state === "begin") this.begin()
    if (this.state === "tagged" || this.state === "open") this.seek(content.length)
    this.sink.progress?.()
  }

  private begin(): void {
    const text = this.held.trimStart()
    if (text === "") return
    if (/^[{[]/.test(text)) this.pass(this.held)
    else if (opening.test(text)) {
      this.held = text.replace(opening, "")
      this.state = "tagged"
    } else if (!text.startsWith("<") || text.length > longest) this.state = "open"
  }

  private seek(fresh: number): void {
    const from = Math.max(0, this.held.length - fresh - longest)
    const match = closing.exec(this.held.slice(from))
    if (match === null) return
    const at = from + match.index
    const thought = this.held.slice(0, at).trim()
    if (thought !== "") this.sink.thinking(thought)
    const rest = this.held.slice(at + match[0].length).trimStart()
    this.held = ""
    this.state = "after"
    if (rest !== "") this.pass(rest)
  }

  private pass(text: string): void {
    this.held = ""
    this.state = "through"
    this.sink.text(text)
  }

  /** Emits what is still held. */
  private release(): void {
    const { held, state } = this
    if (state === "through" || held === "") return
    this.held = ""
    this.state = "through"
    const json = state === "tagged" ? jsonAtEnd(held) : undefined
    if (state !== "tagged") this.sink.text(held)
    else if (json === undefined) this.sink.thinking(held)
    else {
      const thought = held.slice(0, held.lastIndexOf(json)).trim()
      if (thought !== "") this.sink.thinking(thought)
      this.sink.text(json)
    }
  }

  finish(finish: Finish): void {
    this.release()
    this.sink.finish(finish)
  }
  connected(): void {
    this.sink.connected()
  }
  read(): void {
    this.sink.read()
  }
  logprobs(values: ReadonlyArray<unknown>): void {
    this.sink.logprobs?.(values)
  }
  thinking(content: string): void {
    this.sink.thinking(content)
  }
  toolCallDelta(index: number, id: string, name: string, text: string): void {
    this.sink.toolCallDelta?.(index, id, name, text)
  }
  toolCall(call: ToolCall): void {
    this.release()
    this.sink.toolCall(call)
  }
  progress(): void {
    this.sink.progress?.()
  }
  flush(): void {
    this.sink.flush()
  }
  fail(failure: Parameters<Sink["fail"]>[0]): void {
    this.sink.fail(failure)
  }
}

/** The sink of an answer to this request: filtered if JSON is requested. */
export const filtered = (format: unknown, sink: Sink): Sink => (format === "text" ? sink : new ThinkingFilter(sink))
