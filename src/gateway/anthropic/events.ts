/**
 * How the answers of `POST /v1/messages` are written, whole or as events.
 *
 * @since 0.1.0
 */
import type { End, FinishReason, Usage } from "../../ChatEvent.js"
import type * as Message from "../../Message.js"
import type { Answered, Codec, Writer } from "../codec.js"
import * as Id from "../id.js"
import { anthropic, type Problem } from "../problem.js"
import { type Asked, promptTokens } from "./request.js"

interface Stop {
  readonly stop_reason: string | null
  readonly stop_sequence: string | null
}

const unstopped: Stop = { stop_reason: null, stop_sequence: null }

/** A model may end with a sequence of its own, which nobody has asked for. */
const stopOf = (reason: FinishReason, sequence: string | undefined, asked: ReadonlyArray<string>): Stop =>
  reason === "stop" && sequence !== undefined && asked.includes(sequence)
    ? { stop_reason: "stop_sequence", stop_sequence: sequence }
    : { stop_reason: stopReason(reason), stop_sequence: null }

const stopReason = (reason: FinishReason): string => {
  switch (reason) {
    case "length":
      return "max_tokens"
    case "tool_calls":
      return "tool_use"
    case "content_filter":
      return "refusal"
    default:
      return "end_turn"
  }
}

const usage = ({ completionTokens = 0, promptTokens = 0 }: Usage): object => ({
  input_tokens: promptTokens,
  output_tokens: completionTokens
})

/** Clients keep a thought for the next turn only where it is signed. Nobody checks it: no server of the fleet signs. */
const signature = "aicortex"

const message = (model: string, content: ReadonlyArray<object>, stop: Stop, counted: object): object => ({
  id: Id.make("msg_"),
  type: "message",
  role: "assistant",
  model,
  content,
  ...stop,
  usage: counted
})

const toolUse = ({ id, name }: Message.ToolCall, input: object): object => ({ type: "tool_use", id, name, input })

const whole = (
  model: string,
  { finishReason, stopSequence, text, thinking, toolCalls, usage: counted }: Answered,
  { request, tellsThinking }: Asked
): object =>
  message(
    model,
    [
      ...(thinking === "" ? [] : [{ type: "thinking", thinking: tellsThinking ? thinking : "", signature }]),
      ...(text === "" ? [] : [{ type: "text", text }]),
      ...toolCalls.map((call) => toolUse(call, call.arguments))
    ],
    stopOf(finishReason, stopSequence, request.stop),
    usage(counted)
  )

const event = (type: string, fields: object): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`

/** Writes the blocks one after the other, each with its beginning and its end. */
class EventWriter implements Writer {
  /** Of the block that was begun last. */
  private index = -1
  private open: "text" | "thinking" | undefined
  /** Only the words differ from one delta of a block to the next. */
  private head = ""

  constructor(
    private readonly model: string,
    private readonly asked: Asked
  ) {}

  begin(): string {
    const counted = usage({ promptTokens: promptTokens(this.asked.request) })
    return event("message_start", { message: message(this.model, [], unstopped, counted) })
  }

  private delta(delta: object): string {
    return event("content_block_delta", { index: this.index, delta })
  }
  private start(kind: "text" | "thinking"): string {
    const closed = this.close()
    const index = ++this.index
    this.open = kind
    this.head = `event: content_block_delta\ndata: {"type":"content_block_delta","index":${index},"delta":{"type":"${kind}_delta","${kind}":`
    const block = kind === "text" ? { type: "text", text: "" } : { type: "thinking", thinking: "", signature: "" }
    return closed + event("content_block_start", { index, content_block: block })
  }
  private close(): string {
    const { index, open } = this
    if (open === undefined) return ""
    this.open = undefined
    const signed = open === "thinking" ? this.delta({ type: "signature_delta", signature }) : ""
    return signed + event("content_block_stop", { index })
  }

  text(_: number, content: string): string {
    const before = this.open === "text" ? "" : this.start("text")
    return `${before}${this.head}${JSON.stringify(content)}}}\n\n`
  }
  thinking(_: number, content: string): string {
    const before = this.open === "thinking" ? "" : this.start("thinking")
    return this.asked.tellsThinking ? `${before}${this.head}${JSON.stringify(content)}}}\n\n` : before
  }
  toolCall(_: number, __: number, call: Message.ToolCall): string {
    const closed = this.close()
    const index = ++this.index
    return (
      closed +
      event("content_block_start", { index, content_block: toolUse(call, {}) }) +
      this.delta({ type: "input_json_delta", partial_json: JSON.stringify(call.arguments) }) +
      event("content_block_stop", { index })
    )
  }
  end(_: number, reason: FinishReason, counted: Usage, { stopSequence }: End): string {
    const delta = stopOf(reason, stopSequence, this.asked.request.stop)
    return this.close() + event("message_delta", { delta, usage: usage(counted) })
  }
  finish(): string {
    return event("message_stop", {})
  }
}

/** The last event of a stream that cannot go on. No `message_stop` follows it. */
const failure = (problem: Problem): string => `event: error\ndata: ${JSON.stringify(anthropic(problem))}\n\n`

/**
 * @since 0.1.0
 * @category encoding
 */
export const codec = (asked: Asked): Codec => ({
  contentType: "text/event-stream; charset=utf-8",
  whole: (model, [result]) => (result === undefined ? {} : whole(model, result, asked)),
  writer: (model) => new EventWriter(model, asked),
  failure,
  heartbeat: event("ping", {})
})
