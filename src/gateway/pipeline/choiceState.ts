/** The state of one choice of a stream, updated by its events. */
import type { ChatEvent, End } from "../../ChatEvent.js"
import { callOf } from "../../failover/answerEnd.js"
import type * as Message from "../../Message.js"
import type { Writer } from "./codec.js"

export class ChoiceState {
  server = ""
  attempts = 1
  failed: string | undefined
  cached = false
  model: string | undefined
  end: End | undefined
  text = ""
  readonly calls: Array<Message.ToolCall> = []
  private logprobs: ReadonlyArray<unknown> | undefined
  private pieces = 0
  /** How many calls were streamed in pieces. */
  private streamed = 0

  constructor(
    private readonly oneTool: boolean,
    private readonly keepText: boolean
  ) {}

  /** Updates the state; true if the event writes nothing. */
  absorb(event: ChatEvent): boolean {
    switch (event.type) {
      case "token":
      case "thinking":
        return false
      case "logprobs":
        this.logprobs = this.logprobs === undefined ? event.logprobs : [...this.logprobs, ...event.logprobs]
        return true
      case "tool_call_delta":
        return this.oneTool && event.index > 0
      case "tool_call":
        return this.oneTool && this.calls.length > 0
      case "meta": {
        const { meta } = event
        if ("server" in meta) {
          this.server = meta.server
          this.attempts = meta.attempt
          // Another model begins.
          if (meta.attempt === 1) this.failed = undefined
        } else if ("cached" in meta) this.cached = true
        return true
      }
      case "error":
        this.failed = event.attempt.reason
        return true
      case "end":
        this.end = event
        this.server = event.server
        this.model = event.model
        return true
      default:
        return true
    }
  }

  write(writer: Writer, choice: number, event: ChatEvent): string {
    this.pieces++
    switch (event.type) {
      case "token":
        if (this.keepText) this.text += event.content
        if (this.logprobs !== undefined) {
          const { logprobs } = this
          this.logprobs = undefined
          return writer.text(choice, event.content, logprobs)
        }
        return writer.text(choice, event.content)
      case "thinking":
        return writer.thinking(choice, event.content)
      case "tool_call_delta": {
        const first = event.index >= this.streamed
        if (first) this.streamed = event.index + 1
        return writer.toolCallDelta(choice, event.index, event, event.content, first)
      }
      case "tool_call": {
        const call = callOf(event)
        this.calls.push(call)
        const index = this.calls.length - 1
        return writer.toolCall(choice, index, call, index < this.streamed)
      }
      default:
        return ""
    }
  }

  /** Whether the client received some of it. */
  get started(): boolean {
    return this.pieces > 0
  }

  finishReason(): End["finishReason"] {
    return this.end?.finishReason ?? "stop"
  }

  /** For servers that report no count: one token per piece. */
  usage(): End["usage"] {
    const usage = this.end?.usage ?? {}
    return usage.completionTokens === undefined ? { ...usage, completionTokens: this.pieces } : usage
  }
}
