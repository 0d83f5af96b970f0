/**
 * The messages, tools and formats of OpenAI's chat completions, in our words.
 *
 * @since 0.1.0
 */
import type { Format, ToolChoice, ToolDefinition } from "../../../ChatRequest.js"
import * as Message from "../../../Message.js"
import * as Fields from "../../http/body.js"
import { refuse } from "../../http/errorResponse.js"
import type { Ignored } from "../../http/fieldPolicy.js"
import * as Ask from "../../pipeline/gatewayRequest.js"

const dataUrl = /^data:([\w.+-]+\/[\w.+-]+)?(?:;[\w=.-]+)*?;base64,/i

/**
 * An image of a web address, or of a data URL, as closely looked at as `part` says.
 *
 * @since 0.1.0
 * @category constructors
 */
export const image = (url: string, at: string, part: Fields.Fields): Message.ImagePart => {
  const detail = Fields.oneOf(part, "detail", ["auto", "low", "high"], `${at.slice(0, at.lastIndexOf("."))}.detail`)
  const closely = detail === undefined ? {} : { detail }
  if (/^https?:\/\//i.test(url)) return { type: "image", url, ...closely }
  const match = dataUrl.exec(url)
  if (match === null) return refuse(at, "must be an http(s) address or a base64 data URL")
  const data = url.slice(match[0].length)
  if (data === "" || !/^[A-Za-z0-9+/=_-]+$/.test(data)) return refuse(at, "does not hold base64")
  return { type: "image", data, mediaType: match[1] ?? "image/png", ...closely }
}

type Part = Message.TextPart | Message.ImagePart

/** What a content comes to: its parts, its words, and the thoughts that stand among them. */
interface Content {
  readonly parts: ReadonlyArray<Part>
  readonly text: string
  readonly thinking: string
}

const nothing: Content = { parts: [], text: "", thinking: "" }

const partNames: ReadonlySet<string> = new Set(["type", "text", "refusal", "image_url", "thinking", "annotations"])

/** The words of a part that holds thoughts: a string, or parts again. */
const thoughts = (value: unknown): string =>
  typeof value === "string"
    ? value
    : Array.isArray(value)
      ? value.map((one) => (Fields.isObject(one) && typeof one["text"] === "string" ? one["text"] : "")).join("")
      : ""

/** Clients send nothing, `null`, an empty list or an empty text where there is nothing to say. */
const read = (value: unknown, at: string, ignored: Ignored): Content => {
  if (value === undefined || value === null) return nothing
  if (typeof value === "string") return { parts: [{ type: "text", text: value }], text: value, thinking: "" }
  if (!Array.isArray(value)) return refuse(at, "must be a string or an array of parts")
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
    if (!Fields.isObject(part)) return refuse(where, "must be an object")
    ignored.within(part, partNames, where)
    switch (part["type"]) {
      case "text":
      case "input_text":
      case "output_text":
      case "refusal": {
        const name = part["type"] === "refusal" ? "refusal" : "text"
        const words = Fields.needed(part, name, `${where}.${name}`)
        parts.push({ type: "text", text: words })
        all += words
        break
      }
      case "image_url": {
        const inner = part["image_url"]
        const url = typeof inner === "string" ? inner : Fields.isObject(inner) ? inner["url"] : undefined
        if (typeof url !== "string") return refuse(`${where}.image_url.url`, "must be a string")
        parts.push(image(url, `${where}.image_url.url`, Fields.isObject(inner) ? inner : {}))
        break
      }
      case "thinking":
      case "reasoning":
        thinking += thoughts(part["thinking"] ?? part["text"])
        break
      default:
        return refuse(`${where}.type`, "must be text or image_url", "unsupported_parameter")
    }
  }
  return { parts, text: all, thinking }
}

const contentOf = ({ parts, text }: Content): Message.Content =>
  parts.every(({ type }) => type === "text") ? text : parts.filter((part) => part.type === "image" || part.text !== "")

/** Images of a content where there is no place for them. */
const imagesOf = ({ parts }: Content): ReadonlyArray<Part> => parts.filter(({ type }) => type === "image")

const callNames: ReadonlySet<string> = new Set(["id", "type", "index", "function"])
const calledNames: ReadonlySet<string> = new Set(["name", "arguments"])

const toolCalls = (message: Fields.Fields, at: string, ignored: Ignored): ReadonlyArray<Message.ToolCall> => {
  const calls = (Fields.list(message, "tool_calls", `${at}.tool_calls`) ?? []).map((call, i) => {
    const where = `${at}.tool_calls[${i}]`
    if (!Fields.isObject(call)) return refuse(where, "must be an object")
    ignored.within(call, callNames, where)
    const type = call["type"]
    if (type !== undefined && type !== null && type !== "function") return refuse(`${where}.type`, "must be function")
    const called = Fields.object(call, "function", `${where}.function`) ?? refuse(`${where}.function`, "is missing")
    ignored.within(called, calledNames, `${where}.function`)
    return {
      id: Fields.text(call, "id", `${where}.id`) ?? "",
      name: Fields.needed(called, "name", `${where}.function.name`),
      arguments: Ask.toolArguments(called["arguments"], `${where}.function.arguments`)
    }
  })
  const older = Fields.object(message, "function_call", `${at}.function_call`)
  if (older === undefined) return calls
  const name = Fields.needed(older, "name", `${at}.function_call.name`)
  return [...calls, { id: "", name, arguments: Ask.toolArguments(older["arguments"], `${at}.function_call.arguments`) }]
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

/**
 * The messages as they were said. What clients leave out or send in another order is put right where it is sent on.
 *
 * @since 0.1.0
 * @category constructors
 */
export const messages = (body: Fields.Fields, ignored: Ignored): ReadonlyArray<Message.Message> => {
  const all = Fields.list(body, "messages") ?? refuse("messages", "is missing", "missing_required_parameter")
  if (all.length === 0) refuse("messages", "must hold at least one message")
  let names: Map<string, string> | undefined
  const made: Array<Message.Message> = []
  // A result has no place for images: they go into a message of the user behind the last of the results.
  let shown: Array<Part> = []
  const show = () => {
    if (shown.length === 0) return
    made.push(Message.user(shown))
    shown = []
  }
  for (const [i, message] of all.entries()) {
    const at = `messages[${i}]`
    if (!Fields.isObject(message)) return refuse(at, "must be an object")
    ignored.within(message, messageNames, at)
    const role = Fields.oneOf(message, "role", roles, `${at}.role`) ?? refuse(`${at}.role`, "is missing")
    const content = read(message["content"], `${at}.content`, ignored)
    const name = Fields.text(message, "name", `${at}.name`)
    const named = name === undefined || name === "" ? {} : { name }
    if (role !== "tool" && role !== "function") show()
    switch (role) {
      case "user":
        made.push({ role, content: contentOf(content), ...named })
        break
      case "system":
      case "developer":
        if (imagesOf(content).length > 0) refuse(`${at}.content`, "must be text in this role")
        made.push({ role, content: content.text, ...named })
        break
      case "assistant": {
        if (imagesOf(content).length > 0) refuse(`${at}.content`, "must be text in this role")
        if (message["audio"] != null) ignored.add(`${at}.audio`)
        const calls = toolCalls(message, at, ignored)
        for (const call of calls) {
          names ??= new Map()
          names.set(call.id, call.name)
        }
        const refusal = content.text === "" ? Fields.text(message, "refusal", `${at}.refusal`) : undefined
        const thinking =
          Fields.text(message, "reasoning_content", `${at}.reasoning_content`) ||
          Fields.text(message, "reasoning", `${at}.reasoning`) ||
          content.thinking
        made.push({
          role,
          content: content.text || (refusal ?? ""),
          ...named,
          ...(thinking === "" ? {} : { thinking }),
          ...(calls.length === 0 ? {} : { toolCalls: calls })
        })
        break
      }
      case "tool":
      case "function": {
        const toolCallId = Fields.text(message, "tool_call_id", `${at}.tool_call_id`) ?? ""
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

const toolNames: ReadonlySet<string> = new Set(["type", "function"])

/**
 * @since 0.1.0
 * @category constructors
 */
export const tools = (body: Fields.Fields, ignored: Ignored): ReadonlyArray<ToolDefinition> => {
  const made: Array<ToolDefinition> = []
  for (const [i, tool] of (Fields.list(body, "tools") ?? []).entries()) {
    const at = `tools[${i}]`
    if (!Fields.isObject(tool)) return refuse(at, "must be an object")
    const type = Fields.text(tool, "type", `${at}.type`) ?? "function"
    if (type === "custom") {
      refuse(`${at}.type`, "must be function here; custom tools are taken by /v1/responses", "unsupported_parameter")
    }
    // Nobody here runs the tools of a server.
    if (type !== "function") {
      ignored.add(`${at}.${type}`)
      continue
    }
    ignored.within(tool, toolNames, at)
    const inner = Fields.object(tool, "function", `${at}.function`) ?? refuse(`${at}.function`, "is missing")
    made.push(definition(inner, `${at}.function`, ignored))
  }
  return made
}

const definitionNames: ReadonlySet<string> = new Set(["type", "name", "description", "parameters", "strict"])

/**
 * @since 0.1.0
 * @category constructors
 */
export const definition = (inner: Fields.Fields, at: string, ignored: Ignored): ToolDefinition => {
  ignored.within(inner, definitionNames, at)
  const name = Ask.toolName(inner, at)
  const description = Fields.text(inner, "description", `${at}.description`)
  const parameters = Fields.json(inner, "parameters", `${at}.parameters`)
  const strict = Fields.flag(inner, "strict", `${at}.strict`)
  return {
    name,
    ...(description === undefined ? {} : { description }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(strict === undefined ? {} : { strict })
  }
}

const choices = ["none", "auto", "required"] as const

/**
 * @since 0.1.0
 * @category constructors
 */
export const toolChoice = (
  body: Fields.Fields,
  all: ReadonlyArray<ToolDefinition>,
  nested: boolean
): ToolChoice | undefined => {
  const value = body["tool_choice"]
  if (value === undefined || value === null) return undefined
  let choice: ToolChoice
  if (Fields.isObject(value) && value["type"] === "allowed_tools") {
    const allowed = Fields.object(value, "allowed_tools", "tool_choice.allowed_tools") ?? value
    choice = Fields.oneOf(allowed, "mode", ["auto", "required"], "tool_choice.allowed_tools.mode") ?? "auto"
  } else if (Fields.isObject(value)) {
    if (value["type"] !== "function") refuse("tool_choice.type", "must be function")
    const inner = nested ? (Fields.object(value, "function", "tool_choice.function") ?? {}) : value
    const name = Fields.needed(inner, "name", nested ? "tool_choice.function.name" : "tool_choice.name")
    if (!all.some((tool) => tool.name === name)) refuse("tool_choice", `names '${name}', which is not among tools`)
    choice = { name }
  } else choice = Fields.oneOf(body, "tool_choice", choices) ?? "auto"
  if (all.length === 0 && choice !== "none" && choice !== "auto") refuse("tool_choice", "is given without tools")
  return all.length === 0 ? undefined : choice
}

/**
 * Those of the tools that may be called, where `tool_choice` of `/v1/chat/completions` says so: the others are not offered.
 *
 * @since 0.2.0
 * @category constructors
 */
export const allowed = (body: Fields.Fields, all: ReadonlyArray<ToolDefinition>): ReadonlyArray<ToolDefinition> => {
  const value = body["tool_choice"]
  if (!Fields.isObject(value) || value["type"] !== "allowed_tools") return all
  const at = "tool_choice.allowed_tools"
  const list = Fields.list(Fields.object(value, "allowed_tools", at) ?? value, "tools", `${at}.tools`) ?? []
  const names = list.map((tool, i) => {
    const here = `${at}.tools[${i}]`
    if (!Fields.isObject(tool)) return refuse(here, "must be an object")
    const name = Fields.needed(
      Fields.object(tool, "function", `${here}.function`) ?? tool,
      "name",
      `${here}.function.name`
    )
    return all.some((one) => one.name === name) ? name : refuse(here, `names '${name}', which is not among tools`)
  })
  if (names.length === 0) refuse(`${at}.tools`, "names no tool")
  return all.filter(({ name }) => names.includes(name))
}

const formatNames: ReadonlySet<string> = new Set(["type", "json_schema", "schema"])
const flatFormatNames: ReadonlySet<string> = new Set(["type", "name", "description", "schema", "strict"])

/** A schema under the names that vLLM and llama.cpp have for it: an object, or its JSON as a string. */
const schemaOf = (body: Fields.Fields, name: string): Format | undefined => {
  const value = body[name]
  if (typeof value !== "string") return Fields.json(body, name)
  try {
    return Fields.json({ [name]: JSON.parse(value) }, name)
  } catch (error) {
    if (error instanceof SyntaxError) refuse(name, "must be a JSON Schema")
    throw error
  }
}

/**
 * The form of an answer, under all the names that servers of OpenAI's API have for it.
 *
 * @since 0.2.0
 * @category constructors
 */
export const responseFormat = (body: Fields.Fields, ignored: Ignored): Format => {
  const given = format(Fields.object(body, "response_format"), "response_format", true, ignored)
  if (given !== "text") return given
  return schemaOf(body, "guided_json") ?? schemaOf(body, "json_schema") ?? "text"
}

const formats = ["text", "json_object", "json_schema"] as const

/**
 * The form of an answer: `value` holds `type`, and the schema, in itself or in `json_schema`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const format = (value: Fields.Fields | undefined, at: string, nested: boolean, ignored: Ignored): Format => {
  if (value === undefined) return "text"
  ignored.within(value, nested ? formatNames : flatFormatNames, at)
  const type = Fields.oneOf(value, "type", formats, `${at}.type`) ?? refuse(`${at}.type`, "is missing")
  if (type === "text") return "text"
  // llama.cpp and DeepSeek take a schema here, too.
  if (type === "json_object") return Fields.json(value, "schema", `${at}.schema`) ?? "json"
  const where = nested ? `${at}.json_schema` : at
  const inner = nested ? (Fields.object(value, "json_schema", where) ?? refuse(where, "is missing")) : value
  Fields.needed(inner, "name", `${where}.name`)
  Fields.flag(inner, "strict", `${where}.strict`)
  return Fields.json(inner, "schema", `${where}.schema`) ?? refuse(`${where}.schema`, "is missing")
}
