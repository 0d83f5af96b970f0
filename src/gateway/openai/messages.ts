/**
 * The messages, tools and formats of OpenAI's chat completions, in our words.
 *
 * @since 0.1.0
 */
import type { Format, ToolChoice, ToolDefinition } from "../../ChatRequest.js"
import type * as Message from "../../Message.js"
import * as Ask from "../ask.js"
import * as Fields from "../fields.js"
import { refuse } from "../problem.js"

/**
 * A text, or parts of one, as a text.
 *
 * @since 0.1.0
 * @category constructors
 */
export const joined = (value: unknown, at: string, types: ReadonlyArray<string>): string | undefined => {
  if (value === undefined || value === null) return undefined
  if (typeof value === "string") return value
  if (!Array.isArray(value)) return refuse(at, "must be a string or an array of parts")
  let all = ""
  for (const [i, part] of value.entries()) {
    const where = `${at}[${i}]`
    if (!Fields.isObject(part)) return refuse(where, "must be an object")
    const type = part["type"]
    if (typeof type !== "string" || !types.includes(type)) {
      return refuse(`${where}.type`, `must be one of ${types.join(", ")}`)
    }
    const name = type === "refusal" ? "refusal" : "text"
    all += Fields.needed(part, name, `${where}.${name}`)
  }
  return all
}

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

const userContent = (value: unknown, at: string): Message.Content => {
  if (typeof value === "string") return value
  if (!Array.isArray(value)) return refuse(at, "must be a string or an array of parts")
  return value.map((part: unknown, i): Message.TextPart | Message.ImagePart => {
    const where = `${at}[${i}]`
    if (!Fields.isObject(part)) return refuse(where, "must be an object")
    switch (part["type"]) {
      case "text":
        return { type: "text", text: Fields.needed(part, "text", `${where}.text`) }
      case "image_url": {
        const inner = part["image_url"]
        const url = typeof inner === "string" ? inner : Fields.isObject(inner) ? inner["url"] : undefined
        if (typeof url !== "string") return refuse(`${where}.image_url.url`, "must be a string")
        return image(url, `${where}.image_url.url`, Fields.isObject(inner) ? inner : {})
      }
      default:
        return refuse(`${where}.type`, "must be text or image_url")
    }
  })
}

/**
 * The arguments of a tool call, which OpenAI writes as a string.
 *
 * @since 0.1.0
 * @category constructors
 */
export const toolArguments = (text: string, at: string): Fields.Fields => {
  if (text.trim() === "") return {}
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return refuse(at, "must be a JSON object, as a string")
  }
  if (!Fields.isObject(value)) return refuse(at, "must be a JSON object, as a string")
  return Fields.shallow(value, at)
}

const toolCalls = (message: Fields.Fields, at: string): ReadonlyArray<Message.ToolCall> | undefined =>
  Fields.list(message, "tool_calls", `${at}.tool_calls`)?.map((call, i) => {
    const where = `${at}.tool_calls[${i}]`
    if (!Fields.isObject(call)) return refuse(where, "must be an object")
    const type = call["type"]
    if (type !== undefined && type !== "function") return refuse(`${where}.type`, "must be function")
    const called = Fields.object(call, "function", `${where}.function`) ?? refuse(`${where}.function`, "is missing")
    return {
      id: Fields.needed(call, "id", `${where}.id`),
      name: Fields.needed(called, "name", `${where}.function.name`),
      arguments: toolArguments(
        Fields.text(called, "arguments", `${where}.function.arguments`) ?? "",
        `${where}.function.arguments`
      )
    }
  })

const roles = ["system", "developer", "user", "assistant", "tool"] as const

/**
 * @since 0.1.0
 * @category constructors
 */
export const messages = (body: Fields.Fields): ReadonlyArray<Message.Message> => {
  const all = Fields.list(body, "messages") ?? refuse("messages", "is missing", "missing_required_parameter")
  if (all.length === 0) refuse("messages", "must hold at least one message")
  let names: Map<string, string> | undefined
  return all.map((message, i): Message.Message => {
    const at = `messages[${i}]`
    if (!Fields.isObject(message)) return refuse(at, "must be an object")
    const role = Fields.oneOf(message, "role", roles, `${at}.role`) ?? refuse(`${at}.role`, "is missing")
    const content = message["content"]
    const where = `${at}.content`
    const name = Fields.text(message, "name", `${at}.name`)
    const named = name === undefined || name === "" ? {} : { name }
    switch (role) {
      case "user":
        return { role, content: userContent(content, where), ...named }
      case "system":
      case "developer":
        return { role, content: joined(content, where, ["text"]) ?? refuse(where, "is missing"), ...named }
      case "assistant": {
        if (message["function_call"] != null) refuse(`${at}.function_call`, "is not supported: use tool_calls")
        if (message["audio"] != null) refuse(`${at}.audio`, "is not supported")
        const calls = toolCalls(message, at)
        for (const call of calls ?? []) {
          names ??= new Map()
          names.set(call.id, call.name)
        }
        const text = joined(content, where, ["text", "refusal"])
        if (text === undefined && (calls ?? []).length === 0) refuse(where, "is missing, and so are tool_calls")
        const thinking =
          Fields.text(message, "reasoning_content", `${at}.reasoning_content`) ??
          Fields.text(message, "reasoning", `${at}.reasoning`)
        return {
          role,
          content: text ?? "",
          ...named,
          ...(thinking === undefined || thinking === "" ? {} : { thinking }),
          ...(calls === undefined || calls.length === 0 ? {} : { toolCalls: calls })
        }
      }
      case "tool": {
        const toolCallId = Fields.needed(message, "tool_call_id", `${at}.tool_call_id`)
        return {
          role,
          content: joined(content, where, ["text"]) ?? refuse(where, "is missing"),
          toolCallId,
          toolName: names?.get(toolCallId) ?? name ?? ""
        }
      }
    }
  })
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const tools = (body: Fields.Fields): ReadonlyArray<ToolDefinition> =>
  (Fields.list(body, "tools") ?? []).map((tool, i) => {
    const at = `tools[${i}]`
    if (!Fields.isObject(tool)) return refuse(at, "must be an object")
    if (tool["type"] !== "function") return refuse(`${at}.type`, "must be function")
    const inner = Fields.object(tool, "function", `${at}.function`) ?? refuse(`${at}.function`, "is missing")
    return definition(inner, `${at}.function`)
  })

/**
 * @since 0.1.0
 * @category constructors
 */
export const definition = (inner: Fields.Fields, at: string): ToolDefinition => {
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
  if (Fields.isObject(value)) {
    if (value["type"] !== "function") refuse("tool_choice.type", "must be function")
    const inner = nested ? (Fields.object(value, "function", "tool_choice.function") ?? {}) : value
    const name = Fields.needed(inner, "name", nested ? "tool_choice.function.name" : "tool_choice.name")
    if (!all.some((tool) => tool.name === name)) refuse("tool_choice", `names '${name}', which is not among tools`)
    choice = { name }
  } else choice = Fields.oneOf(body, "tool_choice", choices) ?? "auto"
  if (all.length === 0 && choice !== "none" && choice !== "auto") refuse("tool_choice", "is given without tools")
  return all.length === 0 ? undefined : choice
}

const formats = ["text", "json_object", "json_schema"] as const

/**
 * The form of an answer: `value` holds `type`, and the schema, in itself or in `json_schema`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const format = (value: Fields.Fields | undefined, at: string, nested: boolean): Format => {
  if (value === undefined) return "text"
  const type = Fields.oneOf(value, "type", formats, `${at}.type`) ?? refuse(`${at}.type`, "is missing")
  if (type === "text") return "text"
  if (type === "json_object") return "json"
  const where = nested ? `${at}.json_schema` : at
  const inner = nested ? (Fields.object(value, "json_schema", where) ?? refuse(where, "is missing")) : value
  Fields.needed(inner, "name", `${where}.name`)
  Fields.flag(inner, "strict", `${where}.strict`)
  return Fields.json(inner, "schema", `${where}.schema`) ?? refuse(`${where}.schema`, "is missing")
}
