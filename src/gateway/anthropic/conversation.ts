/**
 * The system prompt and the messages of Anthropic's Messages API, in our words.
 *
 * @since 0.1.0
 */
import * as Message from "../../Message.js"
import * as Fields from "../fields.js"
import { refuse } from "../problem.js"

type Part = Message.TextPart | Message.ImagePart

/** The blocks of a content, each with where it stands. A string is one of text. */
const blocks = (value: unknown, at: string): ReadonlyArray<readonly [block: Fields.Fields, at: string]> => {
  if (value === undefined || value === null) return refuse(at, "is missing", "missing_required_parameter")
  if (typeof value === "string") return [[{ type: "text", text: value }, at]]
  if (!Array.isArray(value)) return refuse(at, "must be a string or an array of blocks")
  return value.map((block: unknown, i) => {
    const where = `${at}[${i}]`
    if (!Fields.isObject(block)) return refuse(where, "must be an object")
    Fields.object(block, "cache_control", `${where}.cache_control`)
    return [block, where]
  })
}

const wrongType = (block: Fields.Fields, at: string, known: string): never => {
  const type = Fields.needed(block, "type", `${at}.type`)
  return refuse(`${at}.type`, `must be ${known} here, not '${type.slice(0, 40)}'`)
}

const text = (block: Fields.Fields, at: string): string => Fields.needed(block, "text", `${at}.text`)

/** Blocks that hold nothing but text. */
const texts = (value: unknown, at: string): string => {
  let all = ""
  for (const [block, where] of blocks(value, at)) {
    if (block["type"] !== "text") wrongType(block, where, "text")
    all += text(block, where)
  }
  return all
}

const mediaTypes = ["image/jpeg", "image/png", "image/gif", "image/webp"] as const

const image = (block: Fields.Fields, at: string): Message.ImagePart => {
  const where = `${at}.source`
  const source = Fields.object(block, "source", where) ?? refuse(where, "is missing")
  const type = Fields.needed(source, "type", `${where}.type`)
  switch (type) {
    case "base64": {
      const mediaType = Fields.oneOf(source, "media_type", mediaTypes, `${where}.media_type`)
      const data = Fields.needed(source, "data", `${where}.data`)
      if (!/^[A-Za-z0-9+/=_-]+$/.test(data)) refuse(`${where}.data`, "must be base64")
      return { type: "image", data, mediaType: mediaType ?? refuse(`${where}.media_type`, "is missing") }
    }
    case "url": {
      const url = Fields.needed(source, "url", `${where}.url`)
      return /^https?:\/\//i.test(url) ? { type: "image", url } : refuse(`${where}.url`, "must be an http(s) address")
    }
    default:
      return refuse(`${where}.type`, `must be base64 or url, not '${type.slice(0, 40)}': no files are kept here`)
  }
}

/** What a document says, marked off from the words around it. */
const document = (block: Fields.Fields, at: string): ReadonlyArray<Part> => {
  for (const name of ["title", "context"]) Fields.text(block, name, `${at}.${name}`)
  const citations = Fields.object(block, "citations", `${at}.citations`)
  if (citations !== undefined && Fields.flag(citations, "enabled", `${at}.citations.enabled`) === true) {
    Fields.unsupported(`${at}.citations.enabled`, "no server says where it has something from")
  }
  const where = `${at}.source`
  const source = Fields.object(block, "source", where) ?? refuse(where, "is missing")
  const head = ["title", "context"].map((name) =>
    typeof block[name] === "string" ? `<${name}>${block[name]}</${name}>\n` : ""
  )
  const [before, after] = [`<document>\n${head.join("")}`, "\n</document>\n"]
  const type = Fields.needed(source, "type", `${where}.type`)
  switch (type) {
    case "text": {
      Fields.oneOf(source, "media_type", ["text/plain"], `${where}.media_type`)
      return [{ type: "text", text: before + Fields.needed(source, "data", `${where}.data`) + after }]
    }
    case "content": {
      const parts = blocks(source["content"], `${where}.content`).map(([inner, place]): Part => {
        if (inner["type"] === "image") return image(inner, place)
        return inner["type"] === "text"
          ? { type: "text", text: text(inner, place) }
          : wrongType(inner, place, "text or image")
      })
      return [{ type: "text", text: before }, ...parts, { type: "text", text: after }]
    }
    default:
      return refuse(
        `${where}.type`,
        `must be text or content, not '${type.slice(0, 40)}': no server reads files; send its text, or its pages as images`
      )
  }
}

const toolCall = (block: Fields.Fields, at: string): Message.ToolCall => ({
  id: Fields.needed(block, "id", `${at}.id`),
  name: Fields.needed(block, "name", `${at}.name`),
  arguments: Fields.json(block, "input", `${at}.input`) ?? refuse(`${at}.input`, "is missing")
})

/** A model that is not told that a tool has failed takes what it says for its result. */
const failed = (text: string): string => (/^\W{0,8}error/i.test(text) ? text : `Error: ${text}`)

/** Gathers the messages, in their order. */
class Conversation {
  readonly messages: Array<Message.Message> = []
  /** Which tool each call was for. */
  private readonly names = new Map<string, string>()

  system(value: unknown, at: string): void {
    const content = texts(value, at)
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
    for (const [block, where] of blocks(value, at)) {
      switch (block["type"]) {
        case "text":
          parts.push({ type: "text", text: text(block, where) })
          break
        case "image":
          parts.push(image(block, where))
          break
        case "document":
          parts.push(...document(block, where))
          break
        case "tool_result":
          results++
          this.result(block, where, parts)
          break
        default:
          wrongType(block, where, "text, image, document or tool_result")
      }
    }
    const [only] = parts
    if (only === undefined) {
      if (results === 0) refuse(at, "must not be empty")
    } else this.messages.push(Message.user(parts.length === 1 && only.type === "text" ? only.text : parts))
  }

  /** A tool's message has no place for images and documents: they go into the user's, which follows. */
  private result(block: Fields.Fields, at: string, parts: Array<Part>): void {
    const id = Fields.needed(block, "tool_use_id", `${at}.tool_use_id`)
    let said = ""
    for (const [inner, where] of blocks(block["content"] ?? "", `${at}.content`)) {
      if (inner["type"] === "text") said += text(inner, where)
      else if (inner["type"] === "image") parts.push(image(inner, where))
      else if (inner["type"] === "document") parts.push(...document(inner, where))
      else wrongType(inner, where, "text, image or document")
    }
    const isError = Fields.flag(block, "is_error", `${at}.is_error`) ?? false
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
    for (const [block, where] of blocks(value, at)) {
      switch (block["type"]) {
        case "text":
          content += text(block, where)
          break
        case "thinking":
          thinking += Fields.needed(block, "thinking", `${where}.thinking`)
          break
        case "redacted_thinking":
          // Only who wrote it can read it.
          break
        case "tool_use": {
          const call = toolCall(block, where)
          this.names.set(call.id, call.name)
          toolCalls.push(call)
          break
        }
        default:
          wrongType(block, where, "text, thinking, redacted_thinking or tool_use")
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

const roles = ["user", "assistant", "system"] as const

/**
 * The system prompt, and then the messages.
 *
 * @since 0.1.0
 * @category constructors
 */
export const messages = (body: Fields.Fields): ReadonlyArray<Message.Message> => {
  const conversation = new Conversation()
  const { system } = body
  if (system !== undefined && system !== null) conversation.system(system, "system")
  const all = Fields.list(body, "messages") ?? refuse("messages", "is missing", "missing_required_parameter")
  if (all.length === 0) refuse("messages", "must hold at least one message")
  for (const [i, message] of all.entries()) {
    const at = `messages[${i}]`
    if (!Fields.isObject(message)) return refuse(at, "must be an object")
    const role = Fields.oneOf(message, "role", roles, `${at}.role`) ?? refuse(`${at}.role`, "is missing")
    conversation[role](message["content"], `${at}.content`)
  }
  return conversation.messages
}
