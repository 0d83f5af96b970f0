import * as Message from "../../Message.js"
import * as Ask from "../ask.js"
import * as Fields from "../fields.js"
import { refuse } from "../problem.js"
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
              return Messages.image(Fields.needed(part, "image_url", `${here}.image_url`), `${here}.image_url`, part)
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
        const where = `${at}.output`
        const content = Messages.joined(item["output"], where, ["input_text", "output_text", "text"])
        if (content === undefined) return refuse(where, "is missing", "missing_required_parameter")
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

/** A format as it was understood. */
const echoed = ({ name, schema, strict, type }: Fields.Fields): object =>
  type === "json_schema" ? { type, name, schema, strict: strict ?? null } : { type }

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
  const text = Fields.object(body, "text") ?? {}
  for (const name in text) {
    if (name !== "format" && name !== "verbosity")
      refuse(`text.${name}`, "is not a parameter of it", "unknown_parameter")
  }
  if ((Fields.text(text, "verbosity", "text.verbosity") ?? "medium") !== "medium") {
    refuse("text.verbosity", "is not supported", "unsupported_parameter")
  }
  const format = Fields.object(text, "format", "text.format")
  const reasoning = Fields.object(body, "reasoning") ?? {}
  const parallel = Fields.flag(body, "parallel_tool_calls") ?? true
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
  const toolChoice = Messages.toolChoice(body, tools, false)
  const messages = input(body)
  return {
    model: Ask.model(body),
    stream,
    n: 1,
    oneTool: !parallel,
    ...Ask.extras(body),
    request: {
      messages:
        instructions === undefined || instructions === "" ? messages : [Message.system(instructions), ...messages],
      ...sampling,
      maxTokens,
      tools,
      toolChoice,
      format: Messages.format(format, "text.format", false)
    },
    echo: {
      instructions: instructions ?? null,
      max_output_tokens: maxTokens ?? null,
      metadata: body["metadata"] ?? {},
      parallel_tool_calls: parallel,
      previous_response_id: null,
      reasoning: { effort: reasoning["effort"] ?? null, summary: null },
      store: false,
      temperature: sampling.temperature,
      text: { format: format === undefined ? { type: "text" } : echoed(format) },
      tool_choice:
        toolChoice === undefined || typeof toolChoice === "string"
          ? (toolChoice ?? "auto")
          : { type: "function", ...toolChoice },
      tools: tools.map((tool) => ({ type: "function", parameters: null, ...tool, strict: false })),
      top_p: sampling.topP,
      truncation: "disabled",
      user: body["user"] ?? null
    }
  }
}
