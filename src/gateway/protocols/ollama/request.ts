/** Decodes the bodies of Ollama's `/api/chat` and `/api/generate`. */
import * as Message from "../../../Message.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as OptionNames from "../../pipeline/optionNames.js"
import * as Context from "./context.js"
import * as Go from "./goFields.js"
import * as Parameters from "./parameters.js"
import * as Validation from "./validation.js"

// =============================================================================
// Fields
// =============================================================================

const calledFunction = Go.struct({
  index: Body.unread,
  name: Body.needed(Go.text()),
  arguments: Go.map({}, "api.ToolCallFunctionArguments")
})
const toolCall = Go.struct({
  id: Go.text(),
  type: Body.unread,
  index: Body.unread,
  function: Body.needed(Go.object("api.ToolCallFunction", calledFunction))
})
const message = Go.struct({
  role: Go.text({ doc: "Unknown ones are taken as user." }),
  content: Go.text(),
  thinking: Go.text(),
  images: Go.images,
  tool_calls: Go.objects("api.ToolCall", toolCall),
  tool_name: Go.text(),
  tool_call_id: Go.text(),
  name: Body.text({ doc: "Another name of tool_name." })
})
/** A conversation. */
export const messagesField = Go.objects("api.Message", message)

const definition = Go.struct({
  name: Body.required(Body.text()),
  description: Body.text(),
  parameters: Body.json(),
  strict: Body.unread
})
const tool = Go.struct({
  type: Body.unread,
  function: Body.required(Body.object({}, definition)),
  items: Body.unread
})

const common = {
  model: Go.model,
  stream: Go.flag({ default: true }),
  ...Parameters.fields,
  truncate: Go.flag({ default: true, doc: "Whether Ollama leaves out old messages where the prompt is too long." }),
  shift: Go.flag({ default: true, doc: "Whether Ollama forgets the beginning where the answer is too long." }),
  _debug_render_only: Go.flag({ doc: "Only the prompt that an Ollama server would give its model." }),
  ...CommonFields.extensions
}
const { read } = Body.struct(common)

const choices = ["auto", "none"] as const

/** The body of `/api/chat`. */
export const chatBody = Go.body("ChatRequest", {
  messages: messagesField,
  tools: Body.list(tool),
  // Ollama has no such field, and no way to force a tool call.
  tool_choice: Body.lenient(
    Body.custom({ enum: choices, description: "Anything else is ignored, and listed." }, (body, name) => body[name])
  ),
  ...common
})

/** The body of `/api/generate`. */
export const generateBody = Go.body("GenerateRequest", {
  prompt: Go.text({ doc: "None loads the model." }),
  suffix: Go.text({ doc: "The text after the gap to fill. Not together with raw." }),
  raw: Go.flag({ default: false, doc: "The prompt goes to the model as it is, without a chat template." }),
  system: Go.text(),
  template: Go.text({
    doc: "What the prompt is put into, instead of the model's own template. Ollama's servers only."
  }),
  context: Go.wholes({ doc: "The context of an earlier answer of this gateway, which the prompt continues." }),
  images: Go.images,
  ...common
})

// =============================================================================
// Reading them
// =============================================================================

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

const imagesAt = (all: ReadonlyArray<unknown> | undefined, at: string): ReadonlyArray<Message.ImagePart> =>
  (all ?? []).map((one, i) => image(one, `${at}[${i}]`))

const user = (text: string, pictures: ReadonlyArray<Message.ImagePart>): Message.Message =>
  Message.user(pictures.length === 0 ? text : [{ type: "text", text }, ...pictures])

let callIds = 0

const messages = (body: BodyFields.Fields): ReadonlyArray<Message.Message> => {
  const names: Array<Message.ToolCall> = []
  return (chatBody.read.messages(body) ?? []).map((one, i): Message.Message => {
    const at = `messages[${i}]`
    if (!BodyFields.isObject(one)) return reject(at, "must be an object")
    const role = message.within.role(one, at) ?? ""
    const content = message.within.content(one, at) ?? ""
    const pictures = imagesAt(message.within.images(one, at), `${at}.images`)
    switch (role) {
      case "system":
      case "developer":
        return { role, content }
      case "assistant": {
        const thinking = message.within.thinking(one, at)
        const calls = (message.within.tool_calls(one, at) ?? []).map((call, j) => {
          const where = `${at}.tool_calls[${j}]`
          if (!BodyFields.isObject(call)) return reject(where, "must be an object")
          const called = toolCall.within.function(call, where) ?? reject(`${where}.function`, "is missing")
          const made: Message.ToolCall = {
            id: toolCall.within.id(call, where) || `call_g${(callIds++).toString(36)}`,
            name:
              calledFunction.read.name(called, `${where}.function.name`) ??
              reject(`${where}.function.name`, "is missing", "missing_required_parameter"),
            arguments: calledFunction.read.arguments(called, `${where}.function.arguments`) ?? {}
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
        const id = message.within.tool_call_id(one, at)
        const name = message.within.tool_name(one, at) ?? message.within.name(one, at)
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
  (chatBody.read.tools(body) ?? []).map((one, i) => {
    const at = `tools[${i}]`
    if (!BodyFields.isObject(one)) return reject(at, "must be an object")
    const inner = tool.within.function(one, at)
    const description = definition.read.description(inner, `${at}.function.description`)
    const parameters = definition.read.parameters(inner, `${at}.function.parameters`)
    return {
      name: definition.read.name(inner, `${at}.function.name`),
      ...(description === undefined ? {} : { description }),
      ...(parameters === undefined ? {} : { parameters })
    }
  })

/** Ollama ignores unknown fields, and clients rely on that. */
const unknown = (body: BodyFields.Fields, names: ReadonlySet<string>): Array<string> => {
  const found: Array<string> = []
  for (const name in body) if (!names.has(name) && body[name] !== null) found.push(name)
  return found
}

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
  each(body["messages"], "messages", (one, at) => {
    look(one, message.names, at)
    each(one["tool_calls"], `${at}.tool_calls`, (call, at) => {
      look(call, toolCall.names, at)
      look(call["function"], calledFunction.names, `${at}.function`)
    })
  })
  each(body["tools"], "tools", (one, at) => {
    look(one, tool.names, at)
    look(one["function"], definition.names, `${at}.function`)
  })
  return found
}

const shared = (body: BodyFields.Fields) => ({
  model: read.model(body),
  stream: read.stream(body) ?? true,
  n: 1,
  oneTool: false,
  names: OptionNames.ollama,
  ...CommonFields.extras(body),
  renderOnly: read._debug_render_only(body) === true
})

/** Ollama clients send memory hints with every request: they are not sent to other servers. */
const hints = ({ keepAlive, options }: ReturnType<typeof Parameters.sampling>) =>
  keepAlive === undefined && options === undefined ? {} : { lenient: true as const }

/** Ollama's handling of overlong input; other servers reject what does not fit. */
const bounds = (body: BodyFields.Fields) => {
  const truncate = read.truncate(body)
  const shift = read.shift(body)
  return { ...(truncate === undefined ? {} : { truncate }), ...(shift === undefined ? {} : { shift }) }
}

const toolChoice = (body: BodyFields.Fields, ignored: Array<string>): "auto" | "none" | undefined => {
  const choice = chatBody.read.tool_choice(body)
  if (choice === "none" || choice === "auto") return choice
  if (choice !== undefined && choice !== null) ignored.push("tool_choice")
  return undefined
}

export const chat = (body: BodyFields.Fields): OllamaGatewayRequest => {
  chatBody.check(body)
  const ignored = [...unknown(body, chatBody.names), ...within(body)]
  const sampling = Parameters.sampling(body, ignored)
  const request = GatewayRequest.request(read.model(body), messages(body), sampling, {
    ...sampling,
    tools: tools(body),
    toolChoice: toolChoice(body, ignored)
  })
  return { ...shared(body), ignored, request: { ...request, ...hints(sampling), ...bounds(body) } }
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
  messages: ReadonlyArray<Message.Message>
): ReadonlyArray<Message.Message> => {
  if (messages.length === 0) return []
  const known = before.some(({ content, role }) => role === "system" && content === system)
  return [...before, ...(system === "" || known ? [] : [Message.system(system)]), ...messages]
}

export const generate = (body: BodyFields.Fields): OllamaGatewayRequest => {
  const { read: readGenerate } = generateBody
  generateBody.check(body)
  const ignored = unknown(body, generateBody.names)
  const raw = readGenerate.raw(body) === true || undefined
  const suffix = readGenerate.suffix(body) || undefined
  const numbers = (readGenerate.context(body) ?? []) as ReadonlyArray<number>
  if (raw && (readGenerate.template(body) || numbers.length > 0)) {
    Validation.refuse(
      400,
      "raw mode does not support template, system, or context",
      "unsupported_parameter",
      "template"
    )
  }
  const template = readGenerate.template(body) || undefined
  if (template !== undefined && numbers.length > 0) {
    reject("context", "cannot be used with template, which is applied to one prompt")
  }
  if (raw || suffix !== undefined) checkAlone(body, raw ? "raw" : "suffix")
  const prompt = readGenerate.prompt(body) ?? ""
  const pictures = imagesAt(readGenerate.images(body), "images")
  const messages = prompt === "" && pictures.length === 0 ? [] : [user(prompt, pictures)]
  const all = conversation(Context.decode(numbers), readGenerate.system(body) ?? "", messages)
  const sampling = Parameters.sampling(body, ignored)
  return {
    ...shared(body),
    ignored,
    request: {
      ...GatewayRequest.request(read.model(body), all, sampling, { ...sampling, raw, suffix }),
      ...hints(sampling),
      ...bounds(body),
      ...(template === undefined ? {} : { template })
    }
  }
}
