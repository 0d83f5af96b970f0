/** Converts the system prompt and the messages of Anthropic's Messages API. */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as Blocks from "./blocks.js"

type Part = Message.TextPart | Message.ImagePart

const { of: ofUser } = Blocks.ofUser
const { of: ofAssistant } = Blocks.ofAssistant

/** The blocks of a content. A string is one text block. */
const blocks = (
  value: string | ReadonlyArray<unknown> | undefined,
  at: string,
  ignored: IgnoredFields
): ReadonlyArray<BodyFields.Fields> => {
  if (value === undefined) return []
  if (typeof value === "string") return [{ type: "text", text: value }]
  for (let i = 0; i < value.length; i++) {
    const block: unknown = value[i]
    if (!BodyFields.isObject(block)) return reject(`${at}[${i}]`, "must be an object")
    ignored.checkObject(block, Blocks.names, at, i)
  }
  return value as ReadonlyArray<BodyFields.Fields>
}

const wrongType = (block: BodyFields.Fields, at: string, known: string): never => {
  const type = BodyFields.required(block, "type", `${at}.type`)
  return reject(`${at}.type`, `must be ${known} here, not '${type.slice(0, 40)}'`)
}

const { text } = ofUser.text.within

/** Contents that consist of text only. */
const texts = (
  value: string | ReadonlyArray<unknown> | undefined,
  at: string,
  ignored: IgnoredFields
): ReadonlyArray<string> =>
  blocks(value, at, ignored).map((block, i) => {
    if (block["type"] !== "text") wrongType(block, `${at}[${i}]`, "text")
    return text(block, at, i)
  })

/**
 * The first line of Claude Code's system prompt is for Anthropic's billing and differs in each request: it would defeat
 * every server's prompt cache.
 */
const billing = /^x-anthropic-billing-header:[^\n]*\n*/i

const withoutBilling = (all: ReadonlyArray<string>): string => all.map((one) => one.replace(billing, "")).join("")

const image = (block: BodyFields.Fields, at: string): Message.ImagePart => {
  const where = `${at}.source`
  const source = ofUser.image.within.source(block, at) ?? reject(where, "is missing")
  const type = BodyFields.required(source, "type", `${where}.type`)
  const { base64, url } = Blocks.imageSource.of
  switch (type) {
    case "base64": {
      const mediaType = base64.within.media_type(source, where)
      const data = base64.within.data(source, where)
      return { type: "image", data, mediaType: mediaType ?? reject(`${where}.media_type`, "is missing") }
    }
    case "url":
      return { type: "image", url: url.within.url(source, where) }
    default:
      return reject(`${where}.type`, `must be base64 or url, not '${type.slice(0, 40)}': no files are kept here`)
  }
}

/** The text of a document, delimited from the text around it. */
const document = (block: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Part> => {
  const { within } = ofUser.document
  const titles = [
    ["title", within.title(block, at)],
    ["context", within.context(block, at)]
  ] as const
  const citations = within.citations(block, at)
  if (citations !== undefined) Blocks.citations.within.enabled(citations, `${at}.citations`)
  const where = `${at}.source`
  const source = within.source(block, at) ?? reject(where, "is missing")
  const head = titles.map(([name, value]) => (value === undefined ? "" : `<${name}>${value}</${name}>\n`))
  const [before, after] = [`<document>\n${head.join("")}`, "\n</document>\n"]
  const type = BodyFields.required(source, "type", `${where}.type`)
  const { content, text: plain } = Blocks.documentSource.of
  switch (type) {
    case "text": {
      plain.within.media_type(source, where)
      return [{ type: "text", text: before + plain.within.data(source, where) + after }]
    }
    case "content": {
      const inner = `${where}.content`
      const parts = blocks(content.within.content(source, where), inner, ignored).map((block, i): Part => {
        if (block["type"] === "image") return image(block, `${inner}[${i}]`)
        return block["type"] === "text"
          ? { type: "text", text: text(block, inner, i) }
          : wrongType(block, `${inner}[${i}]`, "text or image")
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
  id: ofAssistant.tool_use.within.id(block, at),
  name: ofAssistant.tool_use.within.name(block, at),
  arguments: ofAssistant.tool_use.within.input(block, at)
})

/** Server-side tool calls with their results. */
const ofServers = (type: unknown): boolean => typeof type === "string" && Blocks.ofServers.test(type)

/** A search result as a document. */
const searchResult = (block: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Part> => {
  const { within } = ofUser.search_result
  const title = within.title(block, at)
  const source = within.source(block, at)
  const content = texts(within.content(block, at), `${at}.content`, ignored).join("")
  const head = [title, source].map((one) => (one === undefined ? "" : `${one}\n`)).join("")
  return [{ type: "text", text: `<search_result>\n${head}${content}\n</search_result>\n` }]
}

/** A tool that a search has found and that is available from now on. */
const reference = (block: BodyFields.Fields, at: string): string =>
  `The tool ${Blocks.toolReference.within.tool_name(block, at)} can be called now.\n`

/** A failed tool result says so: otherwise the model would take the error text for the result. */
const failed = (text: string): string => (/^\W{0,8}error/i.test(text) ? text : `Error: ${text}`)

/** Collects the messages in order. */
class MessageReader {
  constructor(private readonly ignored: IgnoredFields) {}

  readonly messages: Array<Message.Message> = []
  /** Maps each call id to its tool. */
  private readonly names = new Map<string, string>()

  system(value: string | ReadonlyArray<unknown> | undefined, at: string): void {
    const content = withoutBilling(texts(value, at, this.ignored))
    if (content !== "") this.messages.push(Message.system(content))
  }

  /** Tool results come before the user's text, because they must follow the calls. */
  user(value: string | ReadonlyArray<unknown> | undefined, at: string): void {
    if (typeof value === "string") {
      this.messages.push(Message.user(value))
      return
    }
    const parts: Array<Part> = []
    let results = 0
    const all = blocks(value, at, this.ignored)
    for (let i = 0; i < all.length; i++) {
      const block = all[i] as BodyFields.Fields
      if (block["type"] === "text") {
        parts.push({ type: "text", text: text(block, at, i) })
        continue
      }
      const where = `${at}[${i}]`
      switch (block["type"]) {
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
    const { within } = ofUser.tool_result
    const id = within.tool_use_id(block, at)
    let content = ""
    const path = `${at}.content`
    const all = blocks(within.content(block, at), path, this.ignored)
    for (let i = 0; i < all.length; i++) {
      const inner = all[i] as BodyFields.Fields
      if (inner["type"] === "text") {
        content += text(inner, path, i)
        continue
      }
      const where = `${path}[${i}]`
      if (inner["type"] === "image") parts.push(image(inner, where))
      else if (inner["type"] === "document") parts.push(...document(inner, where, this.ignored))
      else if (inner["type"] === "search_result") parts.push(...searchResult(inner, where, this.ignored))
      else if (inner["type"] === "tool_reference") content += reference(inner, where)
      else wrongType(inner, where, "text, image, document, search_result or tool_reference")
    }
    const isError = within.is_error(block, at) ?? false
    this.messages.push({
      role: "tool",
      content: isError ? failed(content) : content,
      toolCallId: id,
      toolName: this.names.get(id) ?? ""
    })
  }

  assistant(value: string | ReadonlyArray<unknown> | undefined, at: string): void {
    if (typeof value === "string") {
      this.messages.push({ role: "assistant", content: value })
      return
    }
    let content = ""
    let thinking = ""
    const toolCalls: Array<Message.ToolCall> = []
    const all = blocks(value, at, this.ignored)
    for (let i = 0; i < all.length; i++) {
      const block = all[i] as BodyFields.Fields
      if (block["type"] === "text") {
        content += text(block, at, i)
        continue
      }
      const where = `${at}[${i}]`
      switch (block["type"]) {
        case "thinking":
          thinking += ofAssistant.thinking.within.thinking(block, where) ?? ""
          break
        case "redacted_thinking":
          // Redacted thinking is encrypted: only its provider can read it.
          break
        case "compaction":
          content += ofAssistant.compaction.within.content(block, where) ?? ""
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

/** The fields of a conversation. */
export const fields = {
  messages: CommonFields.messages(Blocks.messages),
  system: Body.content(Blocks.texts, "blocks")
}

const { read } = Body.struct(fields)
const { role: roleOf } = Body.struct({ role: Body.oneOf(Blocks.messages.kinds) }).within

/** The system prompt, then the messages. */
export const messages = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<Message.Message> => {
  const conversation = new MessageReader(ignored)
  const system = read.system(body)
  if (system !== undefined) conversation.system(system, "system")
  const all = read.messages(body)
  for (let i = 0; i < all.length; i++) {
    const message = all[i]
    if (!BodyFields.isObject(message)) return reject(`messages[${i}]`, "must be an object")
    ignored.checkObject(message, Blocks.messages.names, "messages", i)
    const role = roleOf(message, "messages", i) ?? reject(`messages[${i}].role`, "is missing")
    const content = Blocks.messages.of[role].within.content(message, "messages", i)
    conversation[role](content, typeof content === "string" ? "" : `messages[${i}].content`)
  }
  return conversation.messages
}
