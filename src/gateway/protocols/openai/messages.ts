/** Converts the messages of OpenAI's chat completions. */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"

const dataUrl = /^data:([\w.+-]+\/[\w.+-]+)?(?:;[\w=.-]+)*?;base64,/i

/** An image from a web address or data URL, with the `detail` of `part`. */
export const image = (url: string, at: string, part: BodyFields.Fields): Message.ImagePart => {
  const detail = BodyFields.oneOf(part, "detail", ["auto", "low", "high"], `${at.slice(0, at.lastIndexOf("."))}.detail`)
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

const partNames: ReadonlySet<string> = new Set(["type", "text", "refusal", "image_url", "thinking", "annotations"])

/** The text of a thinking part: a string, or nested parts. */
const thinkingText = (value: unknown): string =>
  typeof value === "string"
    ? value
    : Array.isArray(value)
      ? value.map((one) => (BodyFields.isObject(one) && typeof one["text"] === "string" ? one["text"] : "")).join("")
      : ""

/** Absent, `null`, an empty list and an empty text all mean no content. */
const read = (value: unknown, at: string, ignored: IgnoredFields): Content => {
  if (value === undefined || value === null) return nothing
  if (typeof value === "string") return { parts: [{ type: "text", text: value }], text: value, thinking: "" }
  if (!Array.isArray(value)) return reject(at, "must be a string or an array of parts")
  const parts: Array<Part> = []
  let all = ""
  let thinking = ""
  for (const [i, part] of value.entries()) {
    const where = `${at}[${i}]`
    if (typeof part === "string") {
      parts.push({ type: "text", text: part })
      all += part
      continue
    }
    if (!BodyFields.isObject(part)) return reject(where, "must be an object")
    ignored.checkObject(part, partNames, where)
    switch (part["type"]) {
      case "text":
      case "input_text":
      case "output_text":
      case "refusal": {
        const name = part["type"] === "refusal" ? "refusal" : "text"
        const words = BodyFields.required(part, name, `${where}.${name}`)
        parts.push({ type: "text", text: words })
        all += words
        break
      }
      case "image_url": {
        const inner = part["image_url"]
        const url = typeof inner === "string" ? inner : BodyFields.isObject(inner) ? inner["url"] : undefined
        if (typeof url !== "string") return reject(`${where}.image_url.url`, "must be a string")
        parts.push(image(url, `${where}.image_url.url`, BodyFields.isObject(inner) ? inner : {}))
        break
      }
      case "thinking":
      case "reasoning":
        thinking += thinkingText(part["thinking"] ?? part["text"])
        break
      default:
        return reject(`${where}.type`, "must be text or image_url", "unsupported_parameter")
    }
  }
  return { parts, text: all, thinking }
}

const contentOf = ({ parts, text }: Content): Message.Content =>
  parts.every(({ type }) => type === "text") ? text : parts.filter((part) => part.type === "image" || part.text !== "")

/** Images in a place that cannot hold them. */
const imagesOf = ({ parts }: Content): ReadonlyArray<Part> => parts.filter(({ type }) => type === "image")

const callNames: ReadonlySet<string> = new Set(["id", "type", "index", "function"])
const calledNames: ReadonlySet<string> = new Set(["name", "arguments"])

const toolCalls = (message: BodyFields.Fields, at: string, ignored: IgnoredFields): ReadonlyArray<Message.ToolCall> => {
  const calls = (BodyFields.list(message, "tool_calls", `${at}.tool_calls`) ?? []).map((call, i) => {
    const where = `${at}.tool_calls[${i}]`
    if (!BodyFields.isObject(call)) return reject(where, "must be an object")
    ignored.checkObject(call, callNames, where)
    const type = call["type"]
    if (type !== undefined && type !== null && type !== "function") return reject(`${where}.type`, "must be function")
    const called = BodyFields.object(call, "function", `${where}.function`) ?? reject(`${where}.function`, "is missing")
    ignored.checkObject(called, calledNames, `${where}.function`)
    return {
      id: BodyFields.text(call, "id", `${where}.id`) ?? "",
      name: BodyFields.required(called, "name", `${where}.function.name`),
      arguments: GatewayRequest.toolArguments(called["arguments"], `${where}.function.arguments`)
    }
  })
  const older = BodyFields.object(message, "function_call", `${at}.function_call`)
  if (older === undefined) return calls
  const name = BodyFields.required(older, "name", `${at}.function_call.name`)
  return [
    ...calls,
    { id: "", name, arguments: GatewayRequest.toolArguments(older["arguments"], `${at}.function_call.arguments`) }
  ]
}

const roles = ["system", "developer", "user", "assistant", "tool", "function"] as const

const messageNames: ReadonlySet<string> = new Set([
  "role",
  "content",
  "name",
  "tool_calls",
  "tool_call_id",
  "function_call",
  "refusal",
  "audio",
  "reasoning_content",
  "reasoning"
])

/** The field `messages`. */
export const field = CommonFields.messages()
const { read: readBody } = Body.struct({ messages: field })

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
  for (const [i, message] of all.entries()) {
    const at = `messages[${i}]`
    if (!BodyFields.isObject(message)) return reject(at, "must be an object")
    ignored.checkObject(message, messageNames, at)
    const role = BodyFields.oneOf(message, "role", roles, `${at}.role`) ?? reject(`${at}.role`, "is missing")
    const content = read(message["content"], `${at}.content`, ignored)
    const name = BodyFields.text(message, "name", `${at}.name`)
    const named = name === undefined || name === "" ? {} : { name }
    if (role !== "tool" && role !== "function") show()
    switch (role) {
      case "user":
        made.push({ role, content: contentOf(content), ...named })
        break
      case "system":
      case "developer":
        if (imagesOf(content).length > 0) reject(`${at}.content`, "must be text in this role")
        made.push({ role, content: content.text, ...named })
        break
      case "assistant": {
        if (imagesOf(content).length > 0) reject(`${at}.content`, "must be text in this role")
        if (message["audio"] != null) ignored.add(`${at}.audio`)
        const calls = toolCalls(message, at, ignored)
        for (const call of calls) {
          names ??= new Map()
          names.set(call.id, call.name)
        }
        const rejection = content.text === "" ? BodyFields.text(message, "refusal", `${at}.refusal`) : undefined
        const thinking =
          BodyFields.text(message, "reasoning_content", `${at}.reasoning_content`) ||
          BodyFields.text(message, "reasoning", `${at}.reasoning`) ||
          content.thinking
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
        const toolCallId = BodyFields.text(message, "tool_call_id", `${at}.tool_call_id`) ?? ""
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
