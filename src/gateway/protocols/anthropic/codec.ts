/** Writes the answers of `POST /v1/messages`, complete or as events. */
import type { End, FinishReason, Usage } from "../../../ChatEvent.js"
import * as ToolArguments from "../../../internal/toolArguments.js"
import type * as Message from "../../../Message.js"
import { anthropic, type ErrorResponse } from "../../http/errorResponse.js"
import * as Id from "../../http/id.js"
import type { CalledTool, Codec, CompletedAnswer, Writer } from "../../pipeline/codec.js"
import { type AnthropicRequest, promptTokens } from "./request.js"

interface StopFields {
  readonly stop_reason: string | null
  readonly stop_sequence: string | null
}

const notStopped: StopFields = { stop_reason: null, stop_sequence: null }

/** A model may end with a stop sequence of its own, which the client did not ask for. */
const stopOf = (
  reason: FinishReason,
  sequence: string | undefined,
  stopSequences: ReadonlyArray<string>
): StopFields =>
  reason === "stop" && sequence !== undefined && stopSequences.includes(sequence)
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

/** In this API, cached prompt tokens are not included in the input tokens. Clients add up all three. */
const usage = ({ cachedTokens = 0, cacheWriteTokens = 0, completionTokens = 0, promptTokens = 0 }: Usage): object => {
  const cached = Math.min(cachedTokens, promptTokens)
  const written = Math.min(cacheWriteTokens, promptTokens - cached)
  return {
    input_tokens: promptTokens - cached - written,
    cache_creation_input_tokens: written,
    cache_read_input_tokens: cached,
    output_tokens: completionTokens
  }
}

/** Clients keep thinking blocks for the next turn only if they are signed. The signature is not verified. */
const signature = "aicortex"

const message = (model: string, content: ReadonlyArray<object>, stop: StopFields, counted: object): object => ({
  id: Id.make("msg_"),
  type: "message",
  role: "assistant",
  model,
  content,
  ...stop,
  usage: counted
})

const toolUse = ({ id, name }: CalledTool, input: object): object => ({ type: "tool_use", id, name, input })

const complete = (
  model: string,
  { finishReason, stopSequence, text, thinking, toolCalls, usage: counted }: CompletedAnswer,
  { request, showsThinking: tellsThinking }: AnthropicRequest
): object =>
  message(
    model,
    [
      ...(thinking === "" ? [] : [{ type: "thinking", thinking: tellsThinking ? thinking : "", signature }]),
      ...(text === "" ? [] : [{ type: "text", text }]),
      ...toolCalls.map((call) => toolUse(call, ToolArguments.object(call)))
    ],
    stopOf(finishReason, stopSequence, request.stop),
    usage(counted)
  )

const event = (type: string, fields: object): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`

/**
 * Writes the content blocks one after another, each with its start and stop. Tool arguments are streamed as the model
 * writes them, even if they are not JSON; a complete answer puts those into `INVALID_JSON`.
 */
class EventWriter implements Writer {
  /** Index of the last block that was started. */
  private index = -1
  private open: "text" | "thinking" | undefined
  /** Open tool calls, and their blocks. */
  private readonly calls = new Map<number, { readonly block: number; text: string }>()
  /** Only the text differs between the deltas of a block. */
  private head = ""

  constructor(
    private readonly model: string,
    private readonly request: AnthropicRequest
  ) {}

  begin(): string {
    const counted = usage({ promptTokens: promptTokens(this.request.request) })
    return event("message_start", { message: message(this.model, [], notStopped, counted) })
  }

  private delta(delta: object): string {
    return event("content_block_delta", { index: this.index, delta })
  }
  private start(kind: "text" | "thinking"): string {
    const closed = this.close() + this.closeCalls()
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
    return this.request.showsThinking ? `${before}${this.head}${JSON.stringify(content)}}}\n\n` : before
  }
  /** Ends the blocks of calls whose arguments are complete. */
  private closeCalls(): string {
    let all = ""
    for (const [call, { block, text }] of this.calls) {
      if (!ToolArguments.isWhole(text)) continue
      this.calls.delete(call)
      all += event("content_block_stop", { index: block })
    }
    return all
  }
  toolCallDelta(_: number, call: number, called: CalledTool, text: string, first: boolean): string {
    let before = ""
    if (first) {
      before = this.close() + this.closeCalls()
      const block = ++this.index
      this.calls.set(call, { block, text: "" })
      before += event("content_block_start", { index: block, content_block: toolUse(called, {}) })
    }
    const open = this.calls.get(call)
    if (open === undefined) return before
    open.text += text
    const delta = { type: "input_json_delta", partial_json: text }
    return before + event("content_block_delta", { index: open.block, delta })
  }
  toolCall(choice: number, index: number, call: Message.ToolCall, streamed: boolean): string {
    const before = streamed ? "" : this.toolCallDelta(choice, index, call, ToolArguments.text(call), true)
    const open = this.calls.get(index)
    if (open === undefined) return before
    this.calls.delete(index)
    return before + event("content_block_stop", { index: open.block })
  }
  end(_: number, reason: FinishReason, counted: Usage, { stopSequence }: End): string {
    const delta = stopOf(reason, stopSequence, this.request.request.stop)
    return this.close() + event("message_delta", { delta, usage: usage(counted) })
  }
  finish(): string {
    return event("message_stop", {})
  }
}

/** The last event of a stream that cannot continue. No `message_stop` follows. */
const failure = (errorResponse: ErrorResponse): string =>
  `event: error\ndata: ${JSON.stringify(anthropic(errorResponse))}\n\n`

export const codec = (request: AnthropicRequest): Codec => ({
  contentType: "text/event-stream; charset=utf-8",
  complete: (model, [result]) => JSON.stringify(result === undefined ? {} : complete(model, result, request)),
  writer: (model) => new EventWriter(model, request),
  failure,
  heartbeat: event("ping", {})
})
