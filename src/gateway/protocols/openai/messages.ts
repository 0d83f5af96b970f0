/** Converts the messages of OpenAI's chat completions. */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as Fields from "./messageFields.js"

const dataUrl = /^data:([\w.+-]+\/[\w.+-]+)?(?:;[\w=.-]+)*?;base64,/i

/** An image from a web address or data URL. */
export const image = (url: string, at: string, detail: Message.ImagePart["detail"]): Message.ImagePart => {
  const closely = detail === undefined ? {} : { detail }
  if (/^https?:\/\//i.test(url)) return { type: "image", url, ...closely }
  const match = dataUrl.exec(url)
  if (match === null) return reject(at, "must be an http(s) address or a base64 data URL")
  const data = url.slice(match[0].length)
  if (data === "" || !/^[A-Za-z0-9+/=_-]+$/.test(data)) return reject(at, "does not hold base64")
  return { type: "image", data, mediaType: match[1] ?? "image/png", ...closely }
}

type Part = Message.TextPart | Message.ImagePart

/** The content of a message: its parts, its text, and its thinking. */
interface Content {
  readonly parts: ReadonlyArray<Part>
  readonly text: string
  readonly thinking: string
}

const nothing: Content = { parts: [], text: "", thinking: "" }

const { image_url: imagePart, refusal: refusalPart, text: textPart, thinking: thinkingPart } = Fields.parts.of

/** The text of a thinking part: a string, or nested parts. */
const thinkingText = (value: unknown): string =>
  typeof value === "string"
    ? value
    : Array.isArray(value)
      ? value.map((one) => (BodyFields.isObject(one) && typeof one["text"] === "string" ? one["text"] : "")).join("")
      : ""

/** Absent, `null`, an empty list and an empty text all mean no content. */
const contentAt = (value: string | ReadonlyArray<unknown> | undefined, at: string, ignored: IgnoredFields): Content => {
  if (value === undefined) return nothing
  if (typeof value === "string") return { parts: [{ type: "text", text: value }], text: value, thinking: "" }
  const parts: Array<Part> = []
  let all = ""
  let thinking = ""
  for (let i = 0; i < value.length; i++) {
    const part: unknown = value[i]
    if (typeof part === "string") {
      parts.push({ type: "text", text: part })
      all += part
      continue
    }
    if (!BodyFields.isObject(part)) return reject(BodyFields.pathOf(at, i), "must be an object")
    ignored.checkObject(part, Fields.parts.names, at, i)
    switch (part["type"]) {
      case "text":
      case "input_text":
      case "output_text":
      case "refusal": {
        const words =
          part["type"] === "refusal" ? refusalPart.within.refusal(part, at, i) : textPart.within.text(part, at, i)
        parts.push({ type: "text", text: words })
        all += words
        break
      }
      case "image_url": {
        const where = BodyFields.pathOf(at, i)
        const inner = imagePart.within.image_url(part, where)
        const detail = Fields.imageUrl.read.detail(inner, `${where}.image_url.detail`)
        parts.push(image(inner["url"] as string, `${where}.image_url.url`, detail))
        break
      }
      case "thinking":
      case "reasoning":
        thinking += thinkingText(thinkingPart.read.thinking(part) ?? thinkingPart.read.text(part))
        break
      default:
        return reject(`${at}[${i}].type`, "must be text or image_url", "unsupported_parameter")
    }
  }
  return { parts, text: all, thinking }
}

const contentOf = ({ parts, text }: Content): Message.Content =>
  parts.every(({ type }) => type === "text") ? text : parts.filter((part) => part.type === "image" || part.text !== "")

/** Images in a place that cannot hold them. */
const imagesOf = ({ parts }: Content): ReadonlyArray<Part> => parts.filter(({ type }) => type === "image")

const { assistant, tool: resultMessage, user: anyMessage } = Fields.messages.of

const toolCalls = (message: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Message.ToolCall> => {
  const { call, called } = Fields
  const calls = (assistant.within.tool_calls(message, at) ?? []).map((one, i) => {
    const where = `${at}.tool_calls[${i}]`
    if (!BodyFields.isObject(one)) return reject(where, "must be an object")
    ignored.checkObject(one, call.names, where)
    call.within.type(one, where)
    const inner = call.within.function(one, where) ?? reject(`${where}.function`, "is missing")
    ignored.checkObject(inner, called.names, `${where}.function`)
    return {
      id: call.within.id(one, where) ?? "",
      name: called.read.name(inner, `${where}.function.name`),
      arguments: called.read.arguments(inner, `${where}.function.arguments`)
    }
  })
  const older = assistant.within.function_call(message, at)
  if (older === undefined) return calls
  const name = called.read.name(older, `${at}.function_call.name`)
  return [...calls, { id: "", name, arguments: called.read.arguments(older, `${at}.function_call.arguments`) }]
}

/** The field `messages`. */
export const field = CommonFields.messages(Fields.messages)
const { read: readBody } = Body.struct({ messages: field })
const { role: roleOf } = Body.struct({ role: Fields.role }).within

const list = "messages"
const nobody = {}

/** The messages as sent. Missing pieces and unusual orders are normalised by the backends. */
export const messages = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<Message.Message> => {
  const all = readBody.messages(body)
  let names: Map<string, string> | undefined
  const made: Array<Message.Message> = []
  // Tool messages cannot hold images: they go into a user message after the last result.
  let shown: Array<Part> = []
  const show = () => {
    if (shown.length === 0) return
    made.push(Message.user(shown))
    shown = []
  }
  for (let i = 0; i < all.length; i++) {
    const message = all[i]
    if (!BodyFields.isObject(message)) return reject(`${list}[${i}]`, "must be an object")
    ignored.checkObject(message, Fields.messages.names, list, i)
    const role = roleOf(message, list, i) ?? reject(`${list}[${i}].role`, "is missing")
    const given = anyMessage.within.content(message, list, i)
    const name = anyMessage.within.name(message, list, i)
    const named = name === undefined || name === "" ? nobody : { name }
    if (role !== "tool" && role !== "function") show()
    if (typeof given === "string" && role !== "tool" && role !== "function" && role !== "assistant") {
      made.push({ role, content: given, ...named })
      continue
    }
    const at = `${list}[${i}]`
    const where = `${at}.content`
    const content = contentAt(given, where, ignored)
    switch (role) {
      case "user":
        made.push({ role, content: contentOf(content), ...named })
        break
      case "system":
      case "developer":
        if (imagesOf(content).length > 0) reject(where, "must be text in this role")
        made.push({ role, content: content.text, ...named })
        break
      case "assistant": {
        if (imagesOf(content).length > 0) reject(where, "must be text in this role")
        if (message["audio"] != null) ignored.add(`${at}.audio`)
        const calls = toolCalls(message, at, ignored)
        for (const call of calls) {
          names ??= new Map()
          names.set(call.id, call.name)
        }
        const rejection = content.text === "" ? assistant.within.refusal(message, at) : undefined
        const thinking =
          assistant.within.reasoning_content(message, at) || assistant.within.reasoning(message, at) || content.thinking
        made.push({
          role,
          content: content.text || (rejection ?? ""),
          ...named,
          ...(thinking === "" ? {} : { thinking }),
          ...(calls.length === 0 ? {} : { toolCalls: calls })
        })
        break
      }
      case "tool":
      case "function": {
        const toolCallId = resultMessage.within.tool_call_id(message, at) ?? ""
        made.push({
          role: "tool",
          content: content.text,
          toolCallId,
          toolName: names?.get(toolCallId) ?? name ?? ""
        })
        shown.push(...imagesOf(content))
      }
    }
  }
  show()
  return made
}
