/** Converts between items of the Responses API and messages. */
import * as Message from "../../../../Message.js"
import * as BodyFields from "../../../http/body.js"
import * as Body from "../../../http/bodyDeclaration.js"
import { reject } from "../../../http/errorResponse.js"
import type { IgnoredFields } from "../../../http/fieldPolicy.js"
import * as Id from "../../../http/id.js"
import * as Messages from "../messages.js"
import * as Fields from "./itemFields.js"
import { Tools } from "./tools.js"

type Part = Message.TextPart | Message.ImagePart

const { input_image: imagePart, input_text: textPart, refusal: refusalPart } = Fields.parts.of

/** The parts of a message or of a tool result. */
const partsOf = (content: string | ReadonlyArray<unknown> | undefined, at: string): ReadonlyArray<Part> => {
  if (content === undefined) return []
  if (typeof content === "string") return [{ type: "text", text: content }]
  return content.map((part, i): Part => {
    if (!BodyFields.isObject(part)) return reject(`${at}[${i}]`, "must be an object")
    switch (part["type"]) {
      case "input_text":
      case "output_text":
      case "summary_text":
      case "text":
        return { type: "text", text: textPart.within.text(part, at, i) }
      case "refusal":
        return { type: "text", text: refusalPart.within.refusal(part, at, i) }
      case "input_image": {
        const here = `${at}[${i}]`
        const url = imagePart.within.image_url(part, here)
        return Messages.image(url, `${here}.image_url`, imagePart.within.detail(part, here))
      }
      default:
        return reject(`${at}[${i}].type`, "must be input_text, input_image or output_text", "unsupported_parameter")
    }
  })
}

const textOf = (parts: ReadonlyArray<Part>): string =>
  parts.map((part) => (part.type === "text" ? part.text : "")).join("")

const imagesOf = (parts: ReadonlyArray<Part>): ReadonlyArray<Part> => parts.filter(({ type }) => type === "image")

const message = (item: BodyFields.Fields, at: string, i: number): Message.Message => {
  const { within } = Fields.items.of.message
  const role = within.role(item, at, i) ?? reject(`${at}[${i}].role`, "is missing")
  const content = within.content(item, at, i)
  if (typeof content === "string") return { role, content }
  const where = `${at}[${i}].content`
  const parts = partsOf(content, where)
  const text = textOf(parts)
  if (role === "user") return { role, content: imagesOf(parts).length === 0 ? text : parts }
  if (imagesOf(parts).length > 0) reject(where, "must be text in this role")
  return { role, content: text }
}

/** The `input` of a request, which is read as items. */
export const field = Body.required(
  Body.custom(
    () => Body.anyOf({ type: "string", minLength: 1 }, { type: "array", items: Fields.itemSchema(), minItems: 1 }),
    (body, name, at): ReadonlyArray<BodyFields.Fields> | undefined => {
      const input = body[name]
      if (typeof input === "string") {
        return input === "" ? reject(at, "is empty") : [{ type: "message", role: "user", content: input }]
      }
      if (!Array.isArray(input)) return reject(at, "must be a string or an array of items")
      if (input.length === 0) reject(at, "must hold at least one item")
      return input.map((item, i) => (BodyFields.isObject(item) ? item : reject(`${at}[${i}]`, "must be an object")))
    }
  )
)

/** Clients may omit the type of a reference. */
const isReference = (item: unknown): item is { readonly id: string } =>
  BodyFields.isObject(item) &&
  typeof item["id"] === "string" &&
  (item["type"] === "item_reference" || ((item["type"] ?? null) === null && item["role"] === undefined))

/** The ids of referenced items. */
export const references = ({ input }: BodyFields.Fields): ReadonlyArray<string> =>
  Array.isArray(input) ? (input as ReadonlyArray<unknown>).filter(isReference).map(({ id }) => id) : []

/** Replaces references with the items. */
export const replaced = (body: BodyFields.Fields, item: (id: string) => BodyFields.Fields): BodyFields.Fields => ({
  ...body,
  input: (body["input"] as ReadonlyArray<unknown>).map((one) => (isReference(one) ? item(one.id) : one))
})

/** Items that are not part of the prompt: server-side actions of OpenAI, and client annotations. */
const silent: ReadonlySet<string> = new Set([
  "web_search_call",
  "file_search_call",
  "image_generation_call",
  "code_interpreter_call",
  "computer_call",
  "computer_call_output",
  "mcp_call",
  "mcp_list_tools",
  "mcp_approval_request",
  "mcp_approval_response",
  "tool_search_call",
  "ghost_snapshot",
  "context_compaction"
])

const {
  additional_tools: moreTools,
  compaction: summary,
  custom_tool_call: customCall,
  function_call: functionCall,
  function_call_output: result,
  local_shell_call: shellCall
} = Fields.items.of

const { type: typeOf } = Body.struct({ type: Body.text() }).within

const summaryMark = "aicortex.summary."

/**
 * The summary in an item of `/v1/responses/compact`. It is not encrypted: it holds only what the client has sent or
 * received.
 */
export const compacted = (summary: string): string => summaryMark + Buffer.from(summary).toString("base64url")

const summaryOf = (content: unknown): string | undefined =>
  typeof content === "string" && content.startsWith(summaryMark)
    ? Buffer.from(content.slice(summaryMark.length), "base64url").toString("utf8")
    : undefined

/**
 * Converts items to messages, optionally continuing earlier ones: `at` is their path in errors. Tools among them are
 * added to `tools`.
 */
export class Conversation {
  readonly messages: Array<Message.Message> = []
  /** Maps each call id to its tool. */
  private readonly names = new Map<string, string>()
  /** Images in tool results: they go into a user message after them. */
  private shown: Array<Part> = []

  constructor(
    private readonly ignored: IgnoredFields,
    private readonly tools: Tools
  ) {}

  private show(): void {
    if (this.shown.length === 0) return
    this.messages.push(Message.user(this.shown))
    this.shown = []
  }

  private call(item: BodyFields.Fields, at: string, name: string, args: BodyFields.Fields): void {
    const namespace = functionCall.within.namespace(item, at)
    const call: Message.ToolCall = {
      id: functionCall.within.call_id(item, at),
      name: Tools.offered(name, namespace),
      arguments: args
    }
    this.names.set(call.id, call.name)
    const { messages } = this
    const last = messages.at(-1)
    // The calls of one turn are adjacent, and belong to the text written with them.
    if (last?.role === "assistant") {
      messages[messages.length - 1] = { ...last, toolCalls: [...(last.toolCalls ?? []), call] }
    } else messages.push({ role: "assistant", content: "", toolCalls: [call] })
  }

  private output(item: BodyFields.Fields, at: string): void {
    const id = result.within.call_id(item, at)
    const parts = partsOf(result.within.output(item, at), `${at}.output`)
    this.messages.push({
      role: "tool",
      content: textOf(parts),
      toolCallId: id,
      toolName: this.names.get(id) ?? ""
    })
    this.shown.push(...imagesOf(parts))
  }

  add(items: ReadonlyArray<BodyFields.Fields>, at: string): void {
    for (let i = 0; i < items.length; i++) {
      const item = items[i] as BodyFields.Fields
      const type = typeOf(item, at, i) ?? "message"
      this.ignored.checkObject(item, Fields.items.names, at, i)
      if (type === "message") {
        this.show()
        this.messages.push(message(item, at, i))
        continue
      }
      const here = `${at}[${i}]`
      switch (type) {
        case "function_call": {
          this.show()
          const name = functionCall.within.name(item, here)
          this.call(item, here, name, functionCall.within.arguments(item, here))
          break
        }
        case "custom_tool_call": {
          this.show()
          const name = customCall.within.name(item, here)
          this.call(item, here, name, { input: customCall.within.input(item, here) ?? "" })
          break
        }
        case "local_shell_call":
          this.show()
          this.call(item, here, "local_shell", shellCall.within.action(item, here) ?? {})
          break
        case "function_call_output":
        case "custom_tool_call_output":
        case "local_shell_call_output":
          this.output(item, here)
          break
        case "additional_tools":
        case "tool_search_output":
          this.tools.add(moreTools.within.tools(item, here) ?? [], `${here}.tools`)
          break
        case "compaction":
        case "compaction_summary": {
          const text = summaryOf(summary.read.encrypted_content(item))
          if (text === undefined) this.ignored.add(`${here}.${type}`)
          else this.messages.push(Message.user(`This is what was said before:\n${text}`))
          break
        }
        case "compaction_trigger":
          reject(`${here}.type`, "is not supported: use /v1/responses/compact", "unsupported_parameter")
          break
        case "reasoning":
          // Reasoning about earlier turns is not part of the prompt.
          break
        default:
          if (silent.has(type)) this.ignored.add(`${here}.${type}`)
          else this.ignored.unknown(`${here}.${type}`, "of it")
      }
    }
    this.show()
  }
}

const prefixes: { readonly [type: string]: string } = {
  message: "msg_",
  function_call: "fc_",
  function_call_output: "fco_",
  custom_tool_call: "ctc_",
  custom_tool_call_output: "ctco_",
  reasoning: "rs_"
}

/** Items for listing: each with an id, and texts as parts. */
export const listed = (items: ReadonlyArray<BodyFields.Fields>): ReadonlyArray<BodyFields.Fields> =>
  items.map((item) => {
    const type = String(item["type"] ?? "message")
    const { content, id, status } = item
    const part = item["role"] === "assistant" ? { type: "output_text", annotations: [] } : { type: "input_text" }
    return {
      ...item,
      id: typeof id === "string" && id !== "" ? id : Id.make(prefixes[type] ?? "item_"),
      type,
      ...(type === "reasoning" ? {} : { status: status ?? "completed" }),
      ...(typeof content === "string" ? { content: [{ ...part, text: content }] } : {})
    }
  })
