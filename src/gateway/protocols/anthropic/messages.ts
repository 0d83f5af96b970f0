/**
 * The system prompt and the messages of Anthropic's Messages API, in our words.
 *
 * @since 0.1.0
 */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
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

/** The blocks of a content, each with where it stands. A string is one of text. */
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

/** Blocks that hold nothing but text, each of them. */
const texts = (value: unknown, at: string, ignored: IgnoredFields): ReadonlyArray<string> =>
  blocks(value, at, ignored).map(([block, where]) => {
    if (block["type"] !== "text") wrongType(block, where, "text")
    return text(block, where)
  })

/**
 * The first line that Claude Code sends is for Anthropic's accounts, and another one in each request: with it, no server
 * would find the beginning of a prompt in its cache.
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

/** What a document says, marked off from the words around it. */
const document = (block: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Part> => {
  for (const name of ["title", "context"]) BodyFields.text(block, name, `${at}.${name}`)
  const citations = BodyFields.object(block, "citations", `${at}.citations`)
  if (citations !== undefined && BodyFields.flag(citations, "enabled", `${at}.citations.enabled`) === true) {
    BodyFields.unsupported(`${at}.citations.enabled`, "no server says where it has something from")
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

/** Calls of tools that a server has run, with their results. */
const ofServers = (type: unknown): boolean =>
  typeof type === "string" && (/^(server|mcp)_tool_use$|_tool_result$/.test(type) || type === "container_upload")

/** What was found, as a document. */
const searchResult = (block: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Part> => {
  const title = BodyFields.text(block, "title", `${at}.title`)
  const source = BodyFields.text(block, "source", `${at}.source`)
  const said = texts(block["content"], `${at}.content`, ignored).join("")
  const head = [title, source].map((one) => (one === undefined ? "" : `${one}\n`)).join("")
  return [{ type: "text", text: `<search_result>\n${head}${said}\n</search_result>\n` }]
}

/** A tool that a search has found, and that is offered from now on. */
const reference = (block: BodyFields.Fields, at: string): string =>
  `The tool ${BodyFields.required(block, "tool_name", `${at}.tool_name`)} can be called now.\n`

/** A model that is not told that a tool has failed takes what it says for its result. */
const failed = (text: string): string => (/^\W{0,8}error/i.test(text) ? text : `Error: ${text}`)

/** Gathers the messages, in their order. */
class MessageReader {
  constructor(private readonly ignored: IgnoredFields) {}

  readonly messages: Array<Message.Message> = []
  /** Which tool each call was for. */
  private readonly names = new Map<string, string>()

  system(value: unknown, at: string): void {
    const content = withoutBilling(texts(value, at, this.ignored))
    if (content !== "") this.messages.push(Message.system(content))
  }

  /** What tools gave stands before what the user says, as the calls want it. */
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

  /** A tool's message has no place for images and documents: they go into the user's, which follows. */
  private result(block: BodyFields.Fields, at: string, parts: Array<Part>): void {
    const id = BodyFields.required(block, "tool_use_id", `${at}.tool_use_id`)
    let said = ""
    for (const [inner, where] of blocks(block["content"], `${at}.content`, this.ignored)) {
      if (inner["type"] === "text") said += text(inner, where)
      else if (inner["type"] === "image") parts.push(image(inner, where))
      else if (inner["type"] === "document") parts.push(...document(inner, where, this.ignored))
      else if (inner["type"] === "search_result") parts.push(...searchResult(inner, where, this.ignored))
      else if (inner["type"] === "tool_reference") said += reference(inner, where)
      else wrongType(inner, where, "text, image, document, search_result or tool_reference")
    }
    const isError = BodyFields.flag(block, "is_error", `${at}.is_error`) ?? false
    this.messages.push({
      role: "tool",
      content: isError ? failed(said) : said,
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
          // Only who wrote it can read it.
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
          // What servers of another provider have done by themselves is behind: their answer tells of it.
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

/**
 * The system prompt, and then the messages.
 *
 * @since 0.1.0
 * @category constructors
 */
export const messages = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<Message.Message> => {
  const conversation = new MessageReader(ignored)
  const { system } = body
  if (system !== undefined && system !== null) conversation.system(system, "system")
  const all = BodyFields.list(body, "messages") ?? reject("messages", "is missing", "missing_required_parameter")
  if (all.length === 0) reject("messages", "must hold at least one message")
  for (const [i, message] of all.entries()) {
    const at = `messages[${i}]`
    if (!BodyFields.isObject(message)) return reject(at, "must be an object")
    ignored.checkObject(message, messageNames, at)
    const role = BodyFields.oneOf(message, "role", roles, `${at}.role`) ?? reject(`${at}.role`, "is missing")
    conversation[role](message["content"], `${at}.content`)
  }
  return conversation.messages
}
