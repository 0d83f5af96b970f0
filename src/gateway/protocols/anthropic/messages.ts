/** Converts the system prompt and the messages of Anthropic's Messages API. */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"

type Part = Message.TextPart | Message.ImagePart

type BlockContext = readonly [block: BodyFields.Fields, at: string]

const blockNames: ReadonlySet<string> = new Set([
  "type",
  "text",
  "cache_control",
  "citations",
  "source",
  "title",
  "context",
  "id",
  "name",
  "input",
  "caller",
  "tool_use_id",
  "tool_name",
  "content",
  "is_error",
  "thinking",
  "signature",
  "data"
])

/** The blocks of a content with their paths. A string is one text block. */
const blocks = (value: unknown, at: string, ignored: IgnoredFields): ReadonlyArray<BlockContext> => {
  if (value === undefined || value === null) return []
  if (typeof value === "string") return [[{ type: "text", text: value }, at]]
  if (!Array.isArray(value)) return reject(at, "must be a string or an array of blocks")
  return value.map((block: unknown, i) => {
    const where = `${at}[${i}]`
    if (!BodyFields.isObject(block)) return reject(where, "must be an object")
    ignored.checkObject(block, blockNames, where)
    return [block, where]
  })
}

const wrongType = (block: BodyFields.Fields, at: string, known: string): never => {
  const type = BodyFields.required(block, "type", `${at}.type`)
  return reject(`${at}.type`, `must be ${known} here, not '${type.slice(0, 40)}'`)
}

const text = (block: BodyFields.Fields, at: string): string => BodyFields.required(block, "text", `${at}.text`)

/** Contents that consist of text only. */
const texts = (value: unknown, at: string, ignored: IgnoredFields): ReadonlyArray<string> =>
  blocks(value, at, ignored).map(([block, where]) => {
    if (block["type"] !== "text") wrongType(block, where, "text")
    return text(block, where)
  })

/**
 * The first line of Claude Code's system prompt is for Anthropic's billing and differs in each request: it would defeat
 * every server's prompt cache.
 */
const billing = /^x-anthropic-billing-header:[^\n]*\n*/i

const withoutBilling = (all: ReadonlyArray<string>): string => all.map((one) => one.replace(billing, "")).join("")

const mediaTypes = ["image/jpeg", "image/png", "image/gif", "image/webp"] as const

const image = (block: BodyFields.Fields, at: string): Message.ImagePart => {
  const where = `${at}.source`
  const source = BodyFields.object(block, "source", where) ?? reject(where, "is missing")
  const type = BodyFields.required(source, "type", `${where}.type`)
  switch (type) {
    case "base64": {
      const mediaType = BodyFields.oneOf(source, "media_type", mediaTypes, `${where}.media_type`)
      const data = BodyFields.required(source, "data", `${where}.data`)
      if (!/^[A-Za-z0-9+/=_-]+$/.test(data)) reject(`${where}.data`, "must be base64")
      return { type: "image", data, mediaType: mediaType ?? reject(`${where}.media_type`, "is missing") }
    }
    case "url": {
      const url = BodyFields.required(source, "url", `${where}.url`)
      return /^https?:\/\//i.test(url) ? { type: "image", url } : reject(`${where}.url`, "must be an http(s) address")
    }
    default:
      return reject(`${where}.type`, `must be base64 or url, not '${type.slice(0, 40)}': no files are kept here`)
  }
}

/** The text of a document, delimited from the text around it. */
const document = (block: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Part> => {
  for (const name of ["title", "context"]) BodyFields.text(block, name, `${at}.${name}`)
  const citations = BodyFields.object(block, "citations", `${at}.citations`)
  if (citations !== undefined && BodyFields.flag(citations, "enabled", `${at}.citations.enabled`) === true) {
    BodyFields.unsupported(`${at}.citations.enabled`, "no server supports citations")
  }
  const where = `${at}.source`
  const source = BodyFields.object(block, "source", where) ?? reject(where, "is missing")
  const head = ["title", "context"].map((name) =>
    typeof block[name] === "string" ? `<${name}>${block[name]}</${name}>\n` : ""
  )
  const [before, after] = [`<document>\n${head.join("")}`, "\n</document>\n"]
  const type = BodyFields.required(source, "type", `${where}.type`)
  switch (type) {
    case "text": {
      BodyFields.oneOf(source, "media_type", ["text/plain"], `${where}.media_type`)
      return [{ type: "text", text: before + BodyFields.required(source, "data", `${where}.data`) + after }]
    }
    case "content": {
      const parts = blocks(source["content"], `${where}.content`, ignored).map(([inner, place]): Part => {
        if (inner["type"] === "image") return image(inner, place)
        return inner["type"] === "text"
          ? { type: "text", text: text(inner, place) }
          : wrongType(inner, place, "text or image")
      })
      return [{ type: "text", text: before }, ...parts, { type: "text", text: after }]
    }
    default:
      return reject(
        `${where}.type`,
        `must be text or content, not '${type.slice(0, 40)}': no server reads files; send its text, or its pages as images`
      )
  }
}

const toolCall = (block: BodyFields.Fields, at: string): Message.ToolCall => ({
  id: BodyFields.required(block, "id", `${at}.id`),
  name: BodyFields.required(block, "name", `${at}.name`),
  arguments: GatewayRequest.toolArguments(block["input"], `${at}.input`)
})

/** Server-side tool calls with their results. */
const ofServers = (type: unknown): boolean =>
  typeof type === "string" && (/^(server|mcp)_tool_use$|_tool_result$/.test(type) || type === "container_upload")

/** A search result as a document. */
const searchResult = (block: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Part> => {
  const title = BodyFields.text(block, "title", `${at}.title`)
  const source = BodyFields.text(block, "source", `${at}.source`)
  const content = texts(block["content"], `${at}.content`, ignored).join("")
  const head = [title, source].map((one) => (one === undefined ? "" : `${one}\n`)).join("")
  return [{ type: "text", text: `<search_result>\n${head}${content}\n</search_result>\n` }]
}

/** A tool that a search has found and that is available from now on. */
const reference = (block: BodyFields.Fields, at: string): string =>
  `The tool ${BodyFields.required(block, "tool_name", `${at}.tool_name`)} can be called now.\n`

/** A failed tool result says so: otherwise the model would take the error text for the result. */
const failed = (text: string): string => (/^\W{0,8}error/i.test(text) ? text : `Error: ${text}`)

/** Collects the messages in order. */
class MessageReader {
  constructor(private readonly ignored: IgnoredFields) {}

  readonly messages: Array<Message.Message> = []
  /** Maps each call id to its tool. */
  private readonly names = new Map<string, string>()

  system(value: unknown, at: string): void {
    const content = withoutBilling(texts(value, at, this.ignored))
    if (content !== "") this.messages.push(Message.system(content))
  }

  /** Tool results come before the user's text, because they must follow the calls. */
  user(value: unknown, at: string): void {
    if (typeof value === "string") {
      this.messages.push(Message.user(value))
      return
    }
    const parts: Array<Part> = []
    let results = 0
    for (const [block, where] of blocks(value, at, this.ignored)) {
      switch (block["type"]) {
        case "text":
          parts.push({ type: "text", text: text(block, where) })
          break
        case "image":
          parts.push(image(block, where))
          break
        case "document":
          parts.push(...document(block, where, this.ignored))
          break
        case "tool_result":
          results++
          this.result(block, where, parts)
          break
        case "search_result":
          parts.push(...searchResult(block, where, this.ignored))
          break
        case "container_upload":
          this.ignored.add(`${where}.container_upload`)
          break
        default:
          wrongType(block, where, "text, image, document, search_result or tool_result")
      }
    }
    const [only] = parts
    if (only === undefined) {
      if (results === 0) this.messages.push(Message.user(""))
    } else this.messages.push(Message.user(parts.length === 1 && only.type === "text" ? only.text : parts))
  }

  /** Tool messages cannot hold images and documents: they go into the user message that follows. */
  private result(block: BodyFields.Fields, at: string, parts: Array<Part>): void {
    const id = BodyFields.required(block, "tool_use_id", `${at}.tool_use_id`)
    let content = ""
    for (const [inner, where] of blocks(block["content"], `${at}.content`, this.ignored)) {
      if (inner["type"] === "text") content += text(inner, where)
      else if (inner["type"] === "image") parts.push(image(inner, where))
      else if (inner["type"] === "document") parts.push(...document(inner, where, this.ignored))
      else if (inner["type"] === "search_result") parts.push(...searchResult(inner, where, this.ignored))
      else if (inner["type"] === "tool_reference") content += reference(inner, where)
      else wrongType(inner, where, "text, image, document, search_result or tool_reference")
    }
    const isError = BodyFields.flag(block, "is_error", `${at}.is_error`) ?? false
    this.messages.push({
      role: "tool",
      content: isError ? failed(content) : content,
      toolCallId: id,
      toolName: this.names.get(id) ?? ""
    })
  }

  assistant(value: unknown, at: string): void {
    let content = ""
    let thinking = ""
    const toolCalls: Array<Message.ToolCall> = []
    for (const [block, where] of blocks(value, at, this.ignored)) {
      switch (block["type"]) {
        case "text":
          content += text(block, where)
          break
        case "thinking":
          thinking += BodyFields.text(block, "thinking", `${where}.thinking`) ?? ""
          break
        case "redacted_thinking":
          // Redacted thinking is encrypted: only its provider can read it.
          break
        case "compaction":
          content += BodyFields.text(block, "content", `${where}.content`) ?? ""
          break
        case "tool_use": {
          const call = toolCall(block, where)
          this.names.set(call.id, call.name)
          toolCalls.push(call)
          break
        }
        default:
          // Server-side tool use of another provider is in the past: its answer already contains the outcome.
          if (!ofServers(block["type"])) wrongType(block, where, "text, thinking, redacted_thinking or tool_use")
          this.ignored.add(`${where}.${block["type"]}`)
      }
    }
    this.messages.push({
      role: "assistant",
      content,
      ...(thinking === "" ? {} : { thinking }),
      ...(toolCalls.length === 0 ? {} : { toolCalls })
    })
  }
}

const messageNames: ReadonlySet<string> = new Set(["role", "content", "cache_control", "id", "type"])

const roles = ["user", "assistant", "system"] as const

/** The fields of a conversation. */
export const fields = {
  messages: CommonFields.messages("Of the roles user, assistant and system."),
  system: Body.custom(
    Body.anyOf({ type: "string" }, { type: "array", items: { type: "object" } }),
    (body, name) => body[name] ?? undefined
  )
}

const { read } = Body.struct(fields)

/** The system prompt, then the messages. */
export const messages = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<Message.Message> => {
  const conversation = new MessageReader(ignored)
  const system = read.system(body)
  if (system !== undefined) conversation.system(system, "system")
  for (const [i, message] of read.messages(body).entries()) {
    const at = `messages[${i}]`
    if (!BodyFields.isObject(message)) return reject(at, "must be an object")
    ignored.checkObject(message, messageNames, at)
    const role = BodyFields.oneOf(message, "role", roles, `${at}.role`) ?? reject(`${at}.role`, "is missing")
    conversation[role](message["content"], `${at}.content`)
  }
  return conversation.messages
}
