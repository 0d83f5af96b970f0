/** Writes the answers of `POST /v1/responses`, complete or as events. */
import type { FinishReason, Usage } from "../../../../ChatEvent.js"
import type { Result } from "../../../../Failover.js"
import * as ToolArguments from "../../../../internal/toolArguments.js"
import type * as Message from "../../../../Message.js"
import type { Fields } from "../../../http/body.js"
import type { ErrorResponse } from "../../../http/errorResponse.js"
import * as Id from "../../../http/id.js"
import type { CalledTool, Codec, Writer } from "../../../pipeline/codec.js"
import { comment, eventStream } from "../chat.js"
import { CustomToolInputReader } from "./customToolInput.js"
import type { Tools } from "./tools.js"

/** The request's parameters, repeated in the response. */
export interface Echo {
  readonly store: boolean
}

export const usage = ({
  cachedTokens = 0,
  completionTokens = 0,
  promptTokens = 0,
  reasoningTokens = 0,
  totalTokens
}: Usage): object => ({
  input_tokens: promptTokens,
  input_tokens_details: { cached_tokens: cachedTokens },
  output_tokens: completionTokens,
  output_tokens_details: { reasoning_tokens: reasoningTokens },
  total_tokens: totalTokens ?? promptTokens + completionTokens
})

const textPart = (text: string): object => ({ type: "output_text", text, annotations: [], logprobs: [] })
const messageItem = (id: string, text: string, status: string): object => ({
  id,
  type: "message",
  status,
  role: "assistant",
  content: status === "in_progress" ? [] : [textPart(text)]
})
const reasoningItem = (id: string, text: string, status: string): object => ({
  id,
  type: "reasoning",
  status,
  summary: [],
  content: status === "in_progress" ? [] : [{ type: "reasoning_text", text }]
})
/** Id prefixes of call items. */
const prefixOf = (tools: Tools, { name }: CalledTool): string => (tools.kindOf(name)?.custom === true ? "ctc_" : "fc_")
const callItem = (id: string, call: CalledTool, args: string, status: string): Fields => ({
  id,
  type: "function_call",
  status,
  call_id: call.id,
  name: call.name,
  arguments: args
})

/** A response object. `store` is known last. */
export interface ResponseState {
  readonly id: string
  readonly status: string
  store: boolean
  readonly [field: string]: unknown
}

const skeleton = (model: string, echo: Echo): ResponseState => ({
  id: Id.make("resp_"),
  object: "response",
  status: "in_progress",
  created_at: Math.floor(Date.now() / 1000),
  model,
  error: null,
  incomplete_details: null,
  ...echo
})

const ending = (reason: FinishReason): { readonly status: string; readonly incomplete_details?: object } =>
  reason === "length" || reason === "content_filter"
    ? {
        status: "incomplete",
        incomplete_details: { reason: reason === "length" ? "max_output_tokens" : "content_filter" }
      }
    : { status: "completed" }

const complete = (
  model: string,
  { finishReason, text, thinking, toolCalls, usage: counted }: Result,
  echo: Echo,
  tools: Tools
): ResponseState => ({
  ...skeleton(model, echo),
  output: [
    ...(thinking === "" ? [] : [reasoningItem(Id.make("rs_"), thinking, "completed")]),
    ...(text === "" && toolCalls.length > 0 ? [] : [messageItem(Id.make("msg_"), text, "completed")]),
    ...toolCalls.map((call) =>
      tools.forClient(callItem(Id.make(prefixOf(tools, call)), call, ToolArguments.text(call), "completed"))
    )
  ],
  usage: usage(counted),
  ...ending(finishReason)
})

/** A tool call that has started. */
interface StreamedCall {
  readonly id: string
  readonly called: CalledTool
  readonly at: number
  readonly head: string
  text: string
  /** Set for custom tools. */
  readonly input: CustomToolInputReader | undefined
}

/**
 * Writes the items, each with its start and end. A text ends where another item starts, and so does a tool call whose
 * arguments are whole by then: servers may send the pieces of parallel calls in turn.
 */
class EventWriter implements Writer {
  private number = 0
  private items = 0
  private readonly output: Array<object> = []
  private readonly calls = new Map<number, StreamedCall>()
  private readonly response: ResponseState
  private open:
    | {
        readonly kind: "message" | "reasoning"
        readonly id: string
        readonly output: number
        text: string
        readonly head: string
      }
    | undefined
  /** The final response object. */
  complete: ResponseState | undefined

  constructor(
    model: string,
    echo: Echo,
    private readonly tools: Tools
  ) {
    this.response = skeleton(model, echo)
  }

  private event(type: string, fields: object): string {
    return `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: this.number++, ...fields })}\n\n`
  }

  begin(): string {
    const response = { ...this.response, output: [], usage: null }
    return this.event("response.created", { response }) + this.event("response.in_progress", { response })
  }

  private start(kind: "message" | "reasoning"): string {
    const closed = this.close() + this.endWholeCalls()
    const id = Id.make(kind === "message" ? "msg_" : "rs_")
    const type = kind === "message" ? "response.output_text.delta" : "response.reasoning_text.delta"
    const output = this.items++
    const at = { item_id: id, output_index: output, content_index: 0 }
    // Only the sequence number and the text differ between deltas.
    this.open = {
      kind,
      id,
      output,
      text: "",
      head: `event: ${type}\ndata: ${JSON.stringify({ type, ...at }).slice(0, -1)},"sequence_number":`
    }
    const item = kind === "message" ? messageItem(id, "", "in_progress") : reasoningItem(id, "", "in_progress")
    const part = kind === "message" ? textPart("") : { type: "reasoning_text", text: "" }
    return (
      closed +
      this.event("response.output_item.added", { output_index: output, item }) +
      this.event("response.content_part.added", { ...at, part })
    )
  }

  private close(): string {
    const { open } = this
    if (open === undefined) return ""
    this.open = undefined
    const { id, kind, output, text } = open
    const at = { item_id: id, output_index: output, content_index: 0 }
    const item = kind === "message" ? messageItem(id, text, "completed") : reasoningItem(id, text, "completed")
    const part = kind === "message" ? textPart(text) : { type: "reasoning_text", text }
    const done =
      kind === "message"
        ? this.event("response.output_text.done", { ...at, text, logprobs: [] })
        : this.event("response.reasoning_text.done", { ...at, text })
    const all =
      done +
      this.event("response.content_part.done", { ...at, part }) +
      this.event("response.output_item.done", { output_index: output, item })
    this.output[output] = item
    return all
  }

  private delta(kind: "message" | "reasoning", content: string): string {
    const before = this.open?.kind === kind ? "" : this.start(kind)
    const { open } = this
    if (open === undefined) return before
    open.text += content
    const end = kind === "message" ? `,"logprobs":[]}\n\n` : "}\n\n"
    return `${before}${open.head}${this.number++},"delta":${JSON.stringify(content)}${end}`
  }
  text(_: number, content: string): string {
    return this.delta("message", content)
  }
  thinking(_: number, content: string): string {
    return this.delta("reasoning", content)
  }
  private startCall(index: number, call: CalledTool): string {
    const closed = this.close() + this.endWholeCalls()
    const id = Id.make(prefixOf(this.tools, call))
    const at = this.items++
    const custom = this.tools.kindOf(call.name)?.custom === true
    const type = custom ? "response.custom_tool_call_input.delta" : "response.function_call_arguments.delta"
    const head = `event: ${type}\ndata: ${JSON.stringify({ type, item_id: id, output_index: at }).slice(0, -1)},"sequence_number":`
    this.calls.set(index, {
      id,
      called: call,
      at,
      head,
      text: "",
      input: custom ? new CustomToolInputReader() : undefined
    })
    const item = this.tools.forClient(callItem(id, call, "", "in_progress"))
    return closed + this.event("response.output_item.added", { output_index: at, item })
  }
  private callDelta({ head }: StreamedCall, text: string): string {
    return text === "" ? "" : `${head}${this.number++},"delta":${JSON.stringify(text)}}\n\n`
  }
  toolCallDelta(_: number, index: number, call: CalledTool, text: string, first: boolean): string {
    const before = first ? this.startCall(index, call) : ""
    const open = this.calls.get(index)
    if (open === undefined) return before
    open.text += text
    return before + this.callDelta(open, open.input === undefined ? text : open.input.push(text))
  }
  toolCall(choice: number, index: number, call: Message.ToolCall, streamed: boolean): string {
    const before = streamed ? "" : this.toolCallDelta(choice, index, call, ToolArguments.text(call), true)
    return before + this.endCall(index)
  }
  private endWholeCalls(): string {
    let all = ""
    for (const [index, { text }] of this.calls) if (ToolArguments.isWhole(text)) all += this.endCall(index)
    return all
  }
  private endCall(index: number): string {
    const open = this.calls.get(index)
    if (open === undefined) return ""
    this.calls.delete(index)
    const at = { item_id: open.id, output_index: open.at }
    const item = this.tools.forClient(callItem(open.id, open.called, open.text, "completed"))
    this.output[open.at] = item
    const input = String(item["input"])
    const done =
      open.input === undefined
        ? this.event("response.function_call_arguments.done", { ...at, name: item["name"], arguments: open.text })
        : this.callDelta(open, open.input.end(input)) +
          this.event("response.custom_tool_call_input.done", { ...at, input })
    return done + this.event("response.output_item.done", { output_index: open.at, item })
  }
  end(_: number, reason: FinishReason, counted: Usage): string {
    const empty = this.items === 0 ? this.start("message") : ""
    const closed = this.close()
    this.complete = { ...this.response, output: this.output, usage: usage(counted), ...ending(reason) }
    return empty + closed
  }
  /** The last event of a stream that cannot continue. */
  fail({ code, message, param, requestId }: ErrorResponse): string {
    return this.event("error", { code, message, param, request_id: requestId })
  }
  finish(): string {
    const { complete: response } = this
    if (response === undefined) return ""
    return this.event(response.status === "incomplete" ? "response.incomplete" : "response.completed", { response })
  }
}

/** `keep` receives the complete response before the client does, and may change whether it is stored. */
export const codec = (
  echo: Echo,
  keep: ((response: ResponseState) => Promise<void>) | undefined,
  tools: Tools
): Codec => {
  let writer: EventWriter | undefined
  return {
    contentType: eventStream,
    complete: (model, [result]) => {
      if (result === undefined) return "{}"
      const response = complete(model, result, echo, tools)
      return keep === undefined ? JSON.stringify(response) : keep(response).then(() => JSON.stringify(response))
    },
    writer: (model) => {
      writer = new EventWriter(model, echo, tools)
      return writer
    },
    settle:
      keep === undefined
        ? undefined
        : async () => {
            if (writer?.complete !== undefined) await keep(writer.complete)
          },
    failure: (errorResponse) => (writer ?? new EventWriter("", echo, tools)).fail(errorResponse),
    heartbeat: comment
  }
}
