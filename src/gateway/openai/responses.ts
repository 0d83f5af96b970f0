/**
 * `POST /v1/responses`: text, reasoning and tools, whole or as events. Nothing is stored.
 *
 * @since 0.1.0
 */
import type { FinishReason, Usage } from "../../ChatEvent.js"
import type { Result } from "../../Failover.js"
import * as Message from "../../Message.js"
import * as Ask from "../ask.js"
import type { Codec, Writer } from "../codec.js"
import * as Fields from "../fields.js"
import * as Id from "../id.js"
import { type Problem, refuse } from "../problem.js"
import { comment, eventStream } from "./chat.js"
import * as Messages from "./messages.js"
import * as Parameters from "./parameters.js"

// =============================================================================
// request
// =============================================================================

const known: ReadonlySet<string> = new Set([
  ...Parameters.commonNames,
  "input",
  "instructions",
  "max_output_tokens",
  "tools",
  "tool_choice",
  "parallel_tool_calls",
  "text",
  "truncation",
  "include"
])

const refused = {
  previous_response_id: "responses are not stored; send the whole conversation as input, or use session",
  conversation: "responses are not stored; send the whole conversation as input, or use session",
  background: "a response is only given to who waits for it",
  prompt: "no prompts are stored",
  max_tool_calls: "tools are called by the client",
  top_logprobs: "it is not known for every server"
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Response extends Ask.Ask {
  /** What is told back about the request. */
  readonly echo: object
}

const roles = ["system", "developer", "user", "assistant"] as const

const message = (item: Fields.Fields, at: string): Message.Message => {
  const role = Fields.oneOf(item, "role", roles, `${at}.role`) ?? refuse(`${at}.role`, "is missing")
  const { content } = item
  const where = `${at}.content`
  if (typeof content !== "string" && !Array.isArray(content)) refuse(where, "must be a string or an array of parts")
  const parts =
    typeof content === "string"
      ? [{ type: "text" as const, text: content }]
      : (content as ReadonlyArray<unknown>).map((part, i): Message.TextPart | Message.ImagePart => {
          const here = `${where}[${i}]`
          if (!Fields.isObject(part)) return refuse(here, "must be an object")
          switch (part["type"]) {
            case "input_text":
            case "output_text":
            case "text":
              return { type: "text", text: Fields.needed(part, "text", `${here}.text`) }
            case "refusal":
              return { type: "text", text: Fields.needed(part, "refusal", `${here}.refusal`) }
            case "input_image":
              return Messages.image(Fields.needed(part, "image_url", `${here}.image_url`), `${here}.image_url`)
            default:
              return refuse(`${here}.type`, "must be input_text, input_image or output_text")
          }
        })
  const text = parts.map((part) => (part.type === "text" ? part.text : "")).join("")
  if (role === "user") return { role, content: parts.length === 1 && parts[0]?.type === "text" ? text : parts }
  if (parts.some((part) => part.type === "image")) refuse(where, "must be text in this role")
  return { role, content: text }
}

const input = (body: Fields.Fields): Array<Message.Message> => {
  const given = body["input"]
  if (typeof given === "string") return given === "" ? refuse("input", "is empty") : [Message.user(given)]
  if (!Array.isArray(given)) return refuse("input", "must be a string or an array of items")
  if (given.length === 0) refuse("input", "must hold at least one item")
  const names = new Map<string, string>()
  const messages: Array<Message.Message> = []
  for (const [i, item] of (given as ReadonlyArray<unknown>).entries()) {
    const at = `input[${i}]`
    if (!Fields.isObject(item)) return refuse(at, "must be an object")
    const type = item["type"] ?? "message"
    switch (type) {
      case "message":
        messages.push(message(item, at))
        break
      case "function_call": {
        const call: Message.ToolCall = {
          id: Fields.needed(item, "call_id", `${at}.call_id`),
          name: Fields.needed(item, "name", `${at}.name`),
          arguments: Messages.toolArguments(Fields.text(item, "arguments", `${at}.arguments`) ?? "", `${at}.arguments`)
        }
        names.set(call.id, call.name)
        const last = messages.at(-1)
        // Calls of one turn come one after the other, and belong to what was said with them.
        if (last?.role === "assistant") {
          messages[messages.length - 1] = { ...last, toolCalls: [...(last.toolCalls ?? []), call] }
        } else messages.push({ role: "assistant", content: "", toolCalls: [call] })
        break
      }
      case "function_call_output": {
        const id = Fields.needed(item, "call_id", `${at}.call_id`)
        const output = item["output"]
        const content = typeof output === "string" ? output : JSON.stringify(output ?? "")
        messages.push({ role: "tool", content, toolCallId: id, toolName: names.get(id) ?? "" })
        break
      }
      case "reasoning":
        // What a model thought about earlier turns is no part of the next one.
        break
      default:
        refuse(`${at}.type`, "must be message, function_call, function_call_output or reasoning")
    }
  }
  return messages
}

/**
 * @since 0.1.0
 * @category decoding
 */
export const decode = (body: Fields.Fields): Response => {
  Fields.unsupported(body, refused)
  Fields.only(body, known)
  Parameters.checkHarmless(body)
  const stream = Fields.flag(body, "stream") ?? false
  const tools = (Fields.list(body, "tools") ?? []).map((tool, i) => {
    const at = `tools[${i}]`
    if (!Fields.isObject(tool)) return refuse(at, "must be an object")
    if (tool["type"] !== "function") refuse(`${at}.type`, "must be function")
    return Messages.definition(tool, at)
  })
  const text = Fields.object(body, "text")
  const instructions = Fields.text(body, "instructions")
  if (Fields.oneOf(body, "truncation", ["auto", "disabled"]) === "auto") {
    refuse("truncation", "must be disabled", "unsupported_parameter")
  }
  const include = Fields.list(body, "include") ?? []
  if (include.some((one) => one !== "reasoning.encrypted_content")) {
    refuse("include", "is not supported", "unsupported_parameter")
  }
  const sampling = Parameters.sampling(body)
  const maxTokens = Fields.whole(body, "max_output_tokens", 1)
  const messages = input(body)
  return {
    model: Fields.text(body, "model"),
    stream,
    n: 1,
    oneTool: Fields.flag(body, "parallel_tool_calls") === false,
    ...Ask.extras(body),
    request: {
      messages:
        instructions === undefined || instructions === "" ? messages : [Message.system(instructions), ...messages],
      ...sampling,
      maxTokens,
      tools,
      toolChoice: Messages.toolChoice(body, tools, false),
      format:
        text === undefined
          ? "text"
          : Messages.format(Fields.object(text, "format", "text.format"), "text.format", false)
    },
    echo: {
      instructions: instructions ?? null,
      max_output_tokens: maxTokens ?? null,
      metadata: body["metadata"] ?? {},
      parallel_tool_calls: body["parallel_tool_calls"] ?? true,
      previous_response_id: null,
      reasoning: body["reasoning"] ?? { effort: null, summary: null },
      store: false,
      temperature: sampling.temperature,
      text: text ?? { format: { type: "text" } },
      tool_choice: body["tool_choice"] ?? "auto",
      tools: body["tools"] ?? [],
      top_p: sampling.topP,
      truncation: "disabled",
      user: body["user"] ?? null
    }
  }
}

// =============================================================================
// response
// =============================================================================

const usage = ({ completionTokens = 0, promptTokens = 0, totalTokens }: Usage): object => ({
  input_tokens: promptTokens,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: completionTokens,
  output_tokens_details: { reasoning_tokens: 0 },
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
const callItem = (id: string, { arguments: args, id: call, name }: Message.ToolCall, status: string): object => ({
  id,
  type: "function_call",
  status,
  call_id: call,
  name,
  arguments: status === "in_progress" ? "" : JSON.stringify(args)
})

const skeleton = (model: string, echo: object) => ({
  id: Id.make("resp_"),
  object: "response",
  created_at: Math.floor(Date.now() / 1000),
  model,
  error: null,
  incomplete_details: null,
  ...echo
})

const ending = (reason: FinishReason): object =>
  reason === "length" || reason === "content_filter"
    ? {
        status: "incomplete",
        incomplete_details: { reason: reason === "length" ? "max_output_tokens" : "content_filter" }
      }
    : { status: "completed" }

const whole = (
  model: string,
  { finishReason, text, thinking, toolCalls, usage: counted }: Result,
  echo: object
): object => ({
  ...skeleton(model, echo),
  output: [
    ...(thinking === "" ? [] : [reasoningItem(Id.make("rs_"), thinking, "completed")]),
    ...(text === "" && toolCalls.length > 0 ? [] : [messageItem(Id.make("msg_"), text, "completed")]),
    ...toolCalls.map((call) => callItem(Id.make("fc_"), call, "completed"))
  ],
  usage: usage(counted),
  ...ending(finishReason)
})

/** Writes the items one after the other, each with its beginning and its end. */
class EventWriter implements Writer {
  private number = 0
  private readonly output: Array<object> = []
  private readonly response: object
  private open:
    | { readonly kind: "message" | "reasoning"; readonly id: string; text: string; readonly head: string }
    | undefined
  private last = ""

  constructor(model: string, echo: object) {
    this.response = skeleton(model, echo)
  }

  private event(type: string, fields: object): string {
    return `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: this.number++, ...fields })}\n\n`
  }

  begin(): string {
    const response = { ...this.response, status: "in_progress", output: [], usage: null }
    return this.event("response.created", { response }) + this.event("response.in_progress", { response })
  }

  private start(kind: "message" | "reasoning"): string {
    const closed = this.close()
    const id = Id.make(kind === "message" ? "msg_" : "rs_")
    const type = kind === "message" ? "response.output_text.delta" : "response.reasoning_text.delta"
    const at = { item_id: id, output_index: this.output.length, content_index: 0 }
    // Only the count and the words differ from one delta to the next.
    this.open = {
      kind,
      id,
      text: "",
      head: `event: ${type}\ndata: ${JSON.stringify({ type, ...at }).slice(0, -1)},"sequence_number":`
    }
    const item = kind === "message" ? messageItem(id, "", "in_progress") : reasoningItem(id, "", "in_progress")
    const part = kind === "message" ? textPart("") : { type: "reasoning_text", text: "" }
    return (
      closed +
      this.event("response.output_item.added", { output_index: this.output.length, item }) +
      this.event("response.content_part.added", { ...at, part })
    )
  }

  private close(): string {
    const { open } = this
    if (open === undefined) return ""
    this.open = undefined
    const { id, kind, text } = open
    const at = { item_id: id, output_index: this.output.length, content_index: 0 }
    const item = kind === "message" ? messageItem(id, text, "completed") : reasoningItem(id, text, "completed")
    const part = kind === "message" ? textPart(text) : { type: "reasoning_text", text }
    const done =
      kind === "message"
        ? this.event("response.output_text.done", { ...at, text, logprobs: [] })
        : this.event("response.reasoning_text.done", { ...at, text })
    const all =
      done +
      this.event("response.content_part.done", { ...at, part }) +
      this.event("response.output_item.done", { output_index: this.output.length, item })
    this.output.push(item)
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
  toolCall(_: number, __: number, call: Message.ToolCall): string {
    const closed = this.close()
    const id = Id.make("fc_")
    const at = { item_id: id, output_index: this.output.length }
    const args = JSON.stringify(call.arguments)
    const item = callItem(id, call, "completed")
    const all =
      closed +
      this.event("response.output_item.added", {
        output_index: at.output_index,
        item: callItem(id, call, "in_progress")
      }) +
      this.event("response.function_call_arguments.delta", { ...at, delta: args }) +
      this.event("response.function_call_arguments.done", { ...at, name: call.name, arguments: args }) +
      this.event("response.output_item.done", { output_index: at.output_index, item })
    this.output.push(item)
    return all
  }
  end(_: number, reason: FinishReason, counted: Usage): string {
    const empty = this.open === undefined && this.output.length === 0 ? this.start("message") : ""
    const closed = this.close()
    const end = ending(reason)
    const response = { ...this.response, output: this.output, usage: usage(counted), ...end }
    this.last = this.event(
      "status" in end && end.status === "incomplete" ? "response.incomplete" : "response.completed",
      {
        response
      }
    )
    return empty + closed
  }
  finish(): string {
    return this.last
  }
}

const failure = ({ code, message, param }: Problem): string =>
  `event: error\ndata: ${JSON.stringify({ type: "error", code, message, param, sequence_number: 0 })}\n\n`

/**
 * @since 0.1.0
 * @category encoding
 */
export const codec = ({ echo }: Response): Codec => ({
  contentType: eventStream,
  whole: (model, [result]) => (result === undefined ? {} : whole(model, result, echo)),
  writer: (model) => new EventWriter(model, echo),
  failure,
  heartbeat: comment
})
