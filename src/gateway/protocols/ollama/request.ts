/** Decodes the bodies of Ollama's `/api/chat` and `/api/generate`. */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import { reject } from "../../http/errorResponse.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as Context from "./context.js"
import { isOption, sampling } from "./parameters.js"
import * as Validation from "./validation.js"

const common = [
  "model",
  "stream",
  "format",
  "options",
  "keep_alive",
  "think",
  "logprobs",
  "top_logprobs",
  "truncate",
  "shift",
  "_debug_render_only",
  ...GatewayRequest.extraNames
]
const chatNames: ReadonlySet<string> = new Set([...common, "messages", "tools", "tool_choice"])
const generateNames: ReadonlySet<string> = new Set([
  ...common,
  "prompt",
  "suffix",
  "raw",
  "system",
  "template",
  "context",
  "images"
])

/** A decoded body. */
export interface OllamaGatewayRequest extends GatewayRequest.GatewayRequest {
  /** Fields without effect. */
  readonly ignored: ReadonlyArray<string>
  /** Only the rendered prompt is requested. */
  readonly renderOnly: boolean
}

const image = (value: unknown, at: string): Message.ImagePart =>
  typeof value === "string" && value !== "" && /^[A-Za-z0-9+/=\s]+$/.test(value)
    ? GatewayRequest.image(value)
    : reject(at, "must be base64")

const images = (fields: BodyFields.Fields, at: string): ReadonlyArray<Message.ImagePart> =>
  (BodyFields.list(fields, "images", at) ?? []).map((one, i) => image(one, `${at}[${i}]`))

const user = (text: string, pictures: ReadonlyArray<Message.ImagePart>): Message.Message =>
  Message.user(pictures.length === 0 ? text : [{ type: "text", text }, ...pictures])

let callIds = 0

const messages = (body: BodyFields.Fields): ReadonlyArray<Message.Message> => {
  const names: Array<Message.ToolCall> = []
  return (BodyFields.list(body, "messages") ?? []).map((message, i): Message.Message => {
    const at = `messages[${i}]`
    if (!BodyFields.isObject(message)) return reject(at, "must be an object")
    const role = BodyFields.text(message, "role", `${at}.role`) ?? ""
    const content = BodyFields.text(message, "content", `${at}.content`) ?? ""
    const pictures = images(message, `${at}.images`)
    switch (role) {
      case "system":
      case "developer":
        return { role, content }
      case "assistant": {
        const thinking = BodyFields.text(message, "thinking", `${at}.thinking`)
        const calls = (BodyFields.list(message, "tool_calls", `${at}.tool_calls`) ?? []).map((call, j) => {
          const where = `${at}.tool_calls[${j}]`
          if (!BodyFields.isObject(call)) return reject(where, "must be an object")
          const called =
            BodyFields.object(call, "function", `${where}.function`) ?? reject(`${where}.function`, "is missing")
          const made: Message.ToolCall = {
            id: BodyFields.text(call, "id", `${where}.id`) || `call_g${(callIds++).toString(36)}`,
            name: BodyFields.required(called, "name", `${where}.function.name`),
            arguments: BodyFields.json(called, "arguments", `${where}.function.arguments`) ?? {}
          }
          names.push(made)
          return made
        })
        return {
          role,
          content,
          ...(thinking === undefined || thinking === "" ? {} : { thinking }),
          ...(calls.length === 0 ? {} : { toolCalls: calls })
        }
      }
      case "tool": {
        const id = BodyFields.text(message, "tool_call_id", `${at}.tool_call_id`)
        const name =
          BodyFields.text(message, "tool_name", `${at}.tool_name`) ?? BodyFields.text(message, "name", `${at}.name`)
        // Without an id it belongs to the first unanswered call of that tool.
        const k = names.findIndex((call) =>
          id === undefined ? name === undefined || call.name === name : call.id === id
        )
        const [call] = k === -1 ? [] : names.splice(k, 1)
        return { role, content, toolCallId: id ?? call?.id ?? "", toolName: name ?? call?.name ?? "" }
      }
      // Ollama accepts any role; unknown ones become user messages.
      default:
        return user(content, pictures)
    }
  })
}

const tools = (body: BodyFields.Fields) =>
  (BodyFields.list(body, "tools") ?? []).map((tool, i) => {
    const at = `tools[${i}]`
    if (!BodyFields.isObject(tool)) return reject(at, "must be an object")
    const inner = BodyFields.object(tool, "function", `${at}.function`) ?? reject(`${at}.function`, "is missing")
    const description = BodyFields.text(inner, "description", `${at}.function.description`)
    const parameters = BodyFields.json(inner, "parameters", `${at}.function.parameters`)
    return {
      name: BodyFields.required(inner, "name", `${at}.function.name`),
      ...(description === undefined ? {} : { description }),
      ...(parameters === undefined ? {} : { parameters })
    }
  })

/** Ollama ignores unknown fields, and clients rely on that. */
const unknown = (body: BodyFields.Fields, names: ReadonlySet<string>): Array<string> => {
  const found: Array<string> = []
  for (const name in body) if (!names.has(name) && !isOption(name) && body[name] !== null) found.push(name)
  return found
}

const messageNames: ReadonlySet<string> = new Set([
  "role",
  "content",
  "thinking",
  "images",
  "tool_calls",
  "tool_name",
  "tool_call_id",
  "name"
])
const callNames: ReadonlySet<string> = new Set(["id", "type", "index", "function"])
const calledNames: ReadonlySet<string> = new Set(["index", "name", "arguments"])
const toolNames: ReadonlySet<string> = new Set(["type", "function", "items"])
const functionNames: ReadonlySet<string> = new Set(["name", "description", "parameters", "strict"])

/** The same within messages and tools. */
const within = (body: BodyFields.Fields): Array<string> => {
  const found: Array<string> = []
  const look = (value: unknown, names: ReadonlySet<string>, at: string): void => {
    if (!BodyFields.isObject(value)) return
    for (const name in value) if (!names.has(name) && value[name] != null) found.push(`${at}.${name}`)
  }
  const each = (value: unknown, at: string, use: (item: BodyFields.Fields, at: string) => void): void => {
    if (!Array.isArray(value)) return
    for (const [i, item] of value.entries()) if (BodyFields.isObject(item)) use(item, `${at}[${i}]`)
  }
  each(body["messages"], "messages", (message, at) => {
    look(message, messageNames, at)
    each(message["tool_calls"], `${at}.tool_calls`, (call, at) => {
      look(call, callNames, at)
      look(call["function"], calledNames, `${at}.function`)
    })
  })
  each(body["tools"], "tools", (tool, at) => {
    look(tool, toolNames, at)
    look(tool["function"], functionNames, `${at}.function`)
  })
  return found
}

const shared = (body: BodyFields.Fields) => ({
  model: GatewayRequest.model(body),
  stream: BodyFields.flag(body, "stream") ?? true,
  n: 1,
  oneTool: false,
  ...GatewayRequest.extras(body),
  renderOnly: body["_debug_render_only"] === true
})

/** Ollama clients send memory hints with every request: they are not sent to other servers. */
const hints = ({ keepAlive, options }: ReturnType<typeof sampling>) =>
  keepAlive === undefined && options === undefined ? {} : { lenient: true as const }

/** Ollama's handling of overlong input; other servers reject what does not fit. */
const bounds = (body: BodyFields.Fields) => {
  const truncate = BodyFields.flag(body, "truncate")
  const shift = BodyFields.flag(body, "shift")
  return { ...(truncate === undefined ? {} : { truncate }), ...(shift === undefined ? {} : { shift }) }
}

/** Ollama has no such field, and no way to force a tool call. */
const toolChoice = (body: BodyFields.Fields, ignored: Array<string>): "auto" | "none" | undefined => {
  const { tool_choice: choice } = body
  if (choice === "none" || choice === "auto") return choice
  if (choice !== undefined && choice !== null) ignored.push("tool_choice")
  return undefined
}

export const chat = (body: BodyFields.Fields): OllamaGatewayRequest => {
  Validation.check("ChatRequest", body)
  const ignored = [...unknown(body, chatNames), ...within(body)]
  const asked = sampling(body, ignored)
  const request = GatewayRequest.request(GatewayRequest.model(body), messages(body), asked, {
    ...asked,
    tools: tools(body),
    toolChoice: toolChoice(body, ignored)
  })
  return { ...shared(body), ignored, request: { ...request, ...hints(asked), ...bounds(body) } }
}

/** Text completion excludes these fields. Ollama would silently drop what needs a chat template. */
const checkAlone = (body: BodyFields.Fields, name: "raw" | "suffix"): void => {
  const others = ["system", "images", "format", "think", ...(name === "raw" ? ["suffix"] : ["context"])]
  for (const other of others) {
    const value = body[other]
    if (value === undefined || value === null || value === "" || value === false) continue
    if (Array.isArray(value) && value.length === 0) continue
    if (name === "raw" && other === "system") {
      Validation.refuse(400, "raw mode does not support template, system, or context", "unsupported_parameter", other)
    }
    reject(other, `cannot be used with ${name}: the model gets the text alone, without a chat template`)
  }
}

/** The system prompt is not repeated if the conversation already has it. */
const conversation = (
  before: ReadonlyArray<Message.Message>,
  system: string,
  said: ReadonlyArray<Message.Message>
): ReadonlyArray<Message.Message> => {
  if (said.length === 0) return []
  const known = before.some(({ content, role }) => role === "system" && content === system)
  return [...before, ...(system === "" || known ? [] : [Message.system(system)]), ...said]
}

export const generate = (body: BodyFields.Fields): OllamaGatewayRequest => {
  Validation.check("GenerateRequest", body)
  const ignored = unknown(body, generateNames)
  const raw = BodyFields.flag(body, "raw") === true || undefined
  const suffix = BodyFields.text(body, "suffix") || undefined
  const numbers = (body["context"] ?? []) as ReadonlyArray<number>
  if (raw && (body["template"] || numbers.length > 0)) {
    Validation.refuse(
      400,
      "raw mode does not support template, system, or context",
      "unsupported_parameter",
      "template"
    )
  }
  const template = BodyFields.text(body, "template") || undefined
  if (template !== undefined && numbers.length > 0) {
    reject("context", "cannot be used with template, which is applied to one prompt")
  }
  if (raw || suffix !== undefined) checkAlone(body, raw ? "raw" : "suffix")
  const prompt = BodyFields.text(body, "prompt") ?? ""
  const pictures = images(body, "images")
  const said = prompt === "" && pictures.length === 0 ? [] : [user(prompt, pictures)]
  const all = conversation(Context.decode(numbers), BodyFields.text(body, "system") ?? "", said)
  const asked = sampling(body, ignored)
  return {
    ...shared(body),
    ignored,
    request: {
      ...GatewayRequest.request(GatewayRequest.model(body), all, asked, { ...asked, raw, suffix }),
      ...hints(asked),
      ...bounds(body),
      ...(template === undefined ? {} : { template })
    }
  }
}
