/**
 * The items of a conversation in the Responses API, and the messages that they come to.
 *
 * @since 0.1.0
 */
import type * as Message from "../../../Message.js"
import * as Ask from "../../ask.js"
import * as Fields from "../../fields.js"
import * as Id from "../../id.js"
import { refuse } from "../../problem.js"
import * as Messages from "../messages.js"

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

/** The words of a result. */
const texts = (value: unknown, at: string): string => {
  if (value === undefined || value === null) return ""
  if (typeof value === "string") return value
  if (!Array.isArray(value)) return refuse(at, "must be a string or an array of parts")
  return (value as ReadonlyArray<unknown>)
    .map((part, i) =>
      Fields.isObject(part)
        ? Fields.needed(part, "text", `${at}[${i}].text`)
        : refuse(`${at}[${i}]`, "must be an object")
    )
    .join("")
}

/**
 * The `input` of a request as items.
 *
 * @since 0.1.0
 * @category readers
 */
export const given = (body: Fields.Fields): ReadonlyArray<Fields.Fields> => {
  const input = body["input"]
  if (typeof input === "string") {
    return input === "" ? refuse("input", "is empty") : [{ type: "message", role: "user", content: input }]
  }
  if (!Array.isArray(input)) return refuse("input", "must be a string or an array of items")
  if (input.length === 0) refuse("input", "must hold at least one item")
  return input.map((item, i) => (Fields.isObject(item) ? item : refuse(`input[${i}]`, "must be an object")))
}

/**
 * The messages of items, which may go on from earlier ones: `at` is what errors call an item of them.
 *
 * @since 0.1.0
 * @category decoding
 */
export class Conversation {
  readonly messages: Array<Message.Message> = []
  /** Which tool each call was for. */
  private readonly names = new Map<string, string>()

  add(items: ReadonlyArray<Fields.Fields>, at: string): void {
    const { messages, names } = this
    for (const [i, item] of items.entries()) {
      const here = `${at}[${i}]`
      const type = item["type"] ?? "message"
      switch (type) {
        case "message":
          messages.push(message(item, here))
          break
        case "function_call": {
          const call: Message.ToolCall = {
            id: Fields.needed(item, "call_id", `${here}.call_id`),
            name: Fields.needed(item, "name", `${here}.name`),
            arguments: Ask.toolArguments(item["arguments"], `${here}.arguments`)
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
          const id = Fields.needed(item, "call_id", `${here}.call_id`)
          const content = texts(item["output"], `${here}.output`)
          messages.push({ role: "tool", content, toolCallId: id, toolName: names.get(id) ?? "" })
          break
        }
        case "reasoning":
          // What a model thought about earlier turns is no part of the next one.
          break
        default:
          refuse(`${here}.type`, "must be message, function_call, function_call_output or reasoning")
      }
    }
  }
}

const prefixes: { readonly [type: string]: string } = {
  message: "msg_",
  function_call: "fc_",
  function_call_output: "fco_",
  reasoning: "rs_"
}

/**
 * Items as they are listed: with a name each, and texts as parts.
 *
 * @since 0.1.0
 * @category encoding
 */
export const listed = (items: ReadonlyArray<Fields.Fields>): ReadonlyArray<Fields.Fields> =>
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
