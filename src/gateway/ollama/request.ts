/**
 * What Ollama's `/api/chat` and `/api/generate` ask for, and how their answers are written.
 *
 * @since 0.1.0
 */
import type { FinishReason, Usage } from "../../ChatEvent.js"
import type { ChatRequest, Format } from "../../ChatRequest.js"
import * as Message from "../../Message.js"
import * as Ask from "../ask.js"
import type { Answered, Codec, Writer } from "../codec.js"
import * as Fields from "../fields.js"
import * as Problem from "../problem.js"

const { refuse } = Problem

// =============================================================================
// request
// =============================================================================

const common = [
  "model",
  "stream",
  "format",
  "options",
  "keep_alive",
  "think",
  "logprobs",
  "top_logprobs",
  ...Ask.extraNames
]
const chatNames: ReadonlySet<string> = new Set([...common, "messages", "tools", "truncate", "shift"])
const generateNames: ReadonlySet<string> = new Set([
  ...common,
  "prompt",
  "suffix",
  "raw",
  "system",
  "images",
  "truncate",
  "shift"
])

const refused: Fields.Reasons = new Map([
  ["_debug_render_only", "it belongs to one server"],
  ["template", "every server has its own; with raw, the prompt is what the model gets"],
  ["context", "it belongs to one server; use /api/chat"]
])

/** Ollama's options that have a name of their own here, so that servers with OpenAI's API understand them too. */
const shared = {
  temperature: [0, Number.POSITIVE_INFINITY],
  top_p: [0, 1],
  min_p: [0, 1],
  frequency_penalty: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  presence_penalty: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  repeat_penalty: [0, Number.POSITIVE_INFINITY]
} as const

/** What `options` and the fields beside it ask for. */
type Asked = Ask.Sampling & Pick<ChatRequest, "maxTokens" | "format" | "logprobs">

const format = (body: Fields.Fields): Format => {
  const { format: value } = body
  if (value === undefined || value === null || value === "") return "text"
  if (value === "json") return "json"
  return Fields.isObject(value)
    ? (Fields.json(body, "format") ?? "text")
    : refuse("format", `must be "json" or a JSON Schema`)
}

const sampling = (body: Fields.Fields): Asked => {
  const given = Fields.json(body, "options") ?? {}
  const { seed, num_predict, stop, top_k, ...rest } = given
  const read = (name: keyof typeof shared) => {
    const [min, max] = shared[name]
    return Fields.number(given, name, min, max, `options.${name}`)
  }
  const limit =
    num_predict == null ? undefined : Fields.whole(given, "num_predict", -2, undefined, "options.num_predict")
  const others = Object.fromEntries(Object.entries(rest).filter(([name]) => !(name in shared)))
  return {
    temperature: read("temperature"),
    topP: read("top_p"),
    minP: read("min_p"),
    frequencyPenalty: read("frequency_penalty"),
    presencePenalty: read("presence_penalty"),
    repeatPenalty: read("repeat_penalty"),
    topK: top_k == null ? undefined : Fields.whole(given, "top_k", 0, undefined, "options.top_k"),
    seed: seed == null ? undefined : Fields.whole(given, "seed", Number.MIN_SAFE_INTEGER, undefined, "options.seed"),
    stop: stop == null ? [] : Fields.strings(given, "stop", 64, "options.stop"),
    // Less than 0 is without a limit, which is what no limit means here.
    maxTokens: limit === undefined || limit <= 0 ? undefined : limit,
    keepAlive: Ask.keepAlive(body),
    think: Ask.think(body),
    options: Object.keys(others).length === 0 ? undefined : others,
    format: format(body),
    logitBias: undefined,
    logprobs: logprobs(body)
  }
}

const logprobs = (body: Fields.Fields): ChatRequest["logprobs"] => {
  const wanted = Fields.flag(body, "logprobs") ?? false
  const top = Fields.whole(body, "top_logprobs", 0, 20)
  return wanted ? (top ?? 0) : undefined
}

const image = (value: unknown, at: string): Message.ImagePart =>
  typeof value === "string" && value !== "" && /^[A-Za-z0-9+/=\s]+$/.test(value)
    ? Ask.image(value)
    : refuse(at, "must be base64")

const images = (fields: Fields.Fields, at: string): ReadonlyArray<Message.ImagePart> =>
  (Fields.list(fields, "images", at) ?? []).map((one, i) => image(one, `${at}[${i}]`))

const user = (text: string, pictures: ReadonlyArray<Message.ImagePart>): Message.Message =>
  Message.user(pictures.length === 0 ? text : [{ type: "text", text }, ...pictures])

let callIds = 0

const messages = (body: Fields.Fields): ReadonlyArray<Message.Message> => {
  const names: Array<Message.ToolCall> = []
  return (Fields.list(body, "messages") ?? []).map((message, i): Message.Message => {
    const at = `messages[${i}]`
    if (!Fields.isObject(message)) return refuse(at, "must be an object")
    const role = Fields.needed(message, "role", `${at}.role`)
    const content = Fields.text(message, "content", `${at}.content`) ?? ""
    const pictures = images(message, `${at}.images`)
    switch (role) {
      case "system":
      case "developer":
        return { role, content }
      case "assistant": {
        const thinking = Fields.text(message, "thinking", `${at}.thinking`)
        const calls = (Fields.list(message, "tool_calls", `${at}.tool_calls`) ?? []).map((call, j) => {
          const where = `${at}.tool_calls[${j}]`
          if (!Fields.isObject(call)) return refuse(where, "must be an object")
          const called =
            Fields.object(call, "function", `${where}.function`) ?? refuse(`${where}.function`, "is missing")
          const made: Message.ToolCall = {
            id: Fields.text(call, "id", `${where}.id`) || `call_g${(callIds++).toString(36)}`,
            name: Fields.needed(called, "name", `${where}.function.name`),
            arguments: Fields.json(called, "arguments", `${where}.function.arguments`) ?? {}
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
        const id = Fields.text(message, "tool_call_id", `${at}.tool_call_id`)
        const name = Fields.text(message, "tool_name", `${at}.tool_name`) ?? Fields.text(message, "name", `${at}.name`)
        // Without an id it answers the first call of that tool which has no answer yet.
        const k = names.findIndex((call) =>
          id === undefined ? name === undefined || call.name === name : call.id === id
        )
        const [call] = k === -1 ? [] : names.splice(k, 1)
        return { role, content, toolCallId: id ?? call?.id ?? "", toolName: name ?? call?.name ?? "" }
      }
      case "user":
        return user(content, pictures)
      default:
        return refuse(`${at}.role`, "must be one of system, user, assistant, tool")
    }
  })
}

const tools = (body: Fields.Fields) =>
  (Fields.list(body, "tools") ?? []).map((tool, i) => {
    const at = `tools[${i}]`
    if (!Fields.isObject(tool)) return refuse(at, "must be an object")
    const inner = Fields.object(tool, "function", `${at}.function`) ?? refuse(`${at}.function`, "is missing")
    const description = Fields.text(inner, "description", `${at}.function.description`)
    const parameters = Fields.json(inner, "parameters", `${at}.function.parameters`)
    return {
      name: Fields.needed(inner, "name", `${at}.function.name`),
      ...(description === undefined ? {} : { description }),
      ...(parameters === undefined ? {} : { parameters })
    }
  })

const check = (body: Fields.Fields, names: ReadonlySet<string>): void => {
  for (const name in body) {
    if (names.has(name)) continue
    const reason = refused.get(name)
    if (reason === undefined) refuse(name, "is not a parameter of this endpoint", "unknown_parameter")
    else if (body[name]) Fields.unsupported(name, reason)
  }
  if (Fields.flag(body, "truncate") === false) refuse("truncate", "cannot be turned off over a fleet")
  Fields.flag(body, "shift")
}

const stream = (body: Fields.Fields) => Fields.flag(body, "stream") ?? true

/**
 * @since 0.1.0
 * @category decoding
 */
export const chat = (body: Fields.Fields): Ask.Ask => {
  check(body, chatNames)
  const model = Ask.model(body)
  const asked = sampling(body)
  return {
    model,
    stream: stream(body),
    n: 1,
    oneTool: false,
    ...Ask.extras(body),
    request: Ask.request(model, messages(body), asked, { ...asked, tools: tools(body) })
  }
}

/** A text that is completed stands alone. Ollama itself would leave out in silence what goes with a template only. */
const checkAlone = (body: Fields.Fields, name: "raw" | "suffix"): void => {
  const others = ["system", "images", "format", "think", ...(name === "raw" ? ["suffix"] : [])]
  for (const other of others) {
    const value = body[other]
    if (value === undefined || value === null || value === "" || value === false) continue
    if (Array.isArray(value) && value.length === 0) continue
    refuse(other, `cannot be used with ${name}: the model gets the text alone, without a chat template`)
  }
}

/**
 * @since 0.1.0
 * @category decoding
 */
export const generate = (body: Fields.Fields): Ask.Ask => {
  check(body, generateNames)
  const raw = Fields.flag(body, "raw") === true || undefined
  const suffix = Fields.text(body, "suffix") || undefined
  if (raw || suffix !== undefined) checkAlone(body, raw ? "raw" : "suffix")
  const prompt = Fields.text(body, "prompt") ?? ""
  const system = Fields.text(body, "system")
  const pictures = images(body, "images")
  const said = prompt === "" && pictures.length === 0 ? [] : [user(prompt, pictures)]
  const model = Ask.model(body)
  const all = system === undefined || system === "" || said.length === 0 ? said : [Message.system(system), ...said]
  const asked = sampling(body)
  return {
    model,
    stream: stream(body),
    n: 1,
    oneTool: false,
    ...Ask.extras(body),
    request: Ask.request(model, all, asked, { ...asked, raw, suffix })
  }
}

// =============================================================================
// response
// =============================================================================

/** Times are in nanoseconds; only ours are known for every server. */
const counts = (began: number, firstPiece: number | undefined, { completionTokens, promptTokens }: Usage): object => {
  const now = performance.now()
  const nano = (milliseconds: number) => Math.max(1, Math.round(milliseconds * 1e6))
  const first = firstPiece ?? now
  return {
    total_duration: nano(now - began),
    load_duration: 1,
    prompt_eval_count: promptTokens ?? 0,
    prompt_eval_duration: nano(first - began),
    eval_count: completionTokens ?? 0,
    eval_duration: nano(now - first)
  }
}

const doneReason = (reason: FinishReason): string => (reason === "length" ? "length" : "stop")

const call = ({ arguments: args, id, name }: Message.ToolCall, index: number): object => ({
  id,
  function: { index, name, arguments: args }
})

class LineWriter implements Writer {
  private readonly head: string
  private first: number | undefined

  constructor(
    model: string,
    private readonly generates: boolean,
    private readonly began: number
  ) {
    this.head = `{"model":${JSON.stringify(model)},"created_at":"`
  }

  /** The fields of a line, after the model and the time. */
  private line(rest: string): string {
    this.first ??= performance.now()
    return `${this.head}${new Date().toISOString()}",${rest}\n`
  }
  begin(): string {
    return ""
  }
  text(_: number, content: string, logprobs?: ReadonlyArray<unknown>): string {
    const words = JSON.stringify(content)
    const likely = logprobs === undefined ? "" : `,"logprobs":${JSON.stringify(logprobs)}`
    return this.line(
      this.generates
        ? `"response":${words},"done":false${likely}}`
        : `"message":{"role":"assistant","content":${words}},"done":false${likely}}`
    )
  }
  thinking(_: number, content: string): string {
    const words = JSON.stringify(content)
    return this.line(
      this.generates
        ? `"response":"","thinking":${words},"done":false}`
        : `"message":{"role":"assistant","content":"","thinking":${words}},"done":false}`
    )
  }
  toolCall(_: number, index: number, made: Message.ToolCall): string {
    const calls = JSON.stringify([call(made, index)])
    return this.line(`"message":{"role":"assistant","content":"","tool_calls":${calls}},"done":false}`)
  }
  end(_: number, reason: FinishReason, usage: Usage): string {
    const words = this.generates ? `"response":""` : `"message":{"role":"assistant","content":""}`
    const rest = JSON.stringify({ done_reason: doneReason(reason), ...counts(this.began, this.first, usage) })
    return this.line(`${words},"done":true,${rest.slice(1)}`)
  }
  finish(): string {
    return ""
  }
}

/**
 * @since 0.1.0
 * @category encoding
 */
export const codec = (model: string, generates: boolean): Codec => {
  const began = performance.now()
  const beat = {
    model,
    created_at: new Date().toISOString(),
    ...(generates ? { response: "" } : { message: { role: "assistant", content: "" } }),
    done: false
  }
  return {
    contentType: "application/x-ndjson",
    whole: (name, [result]) => (result === undefined ? {} : whole(name, result, generates, began)),
    writer: (name) => new LineWriter(name, generates, began),
    failure: (problem) => `${JSON.stringify(Problem.ollama(problem))}\n`,
    // Lines cannot hold a comment: a piece without words is one that every client takes.
    heartbeat: `${JSON.stringify(beat)}\n`
  }
}

const whole = (
  model: string,
  { finishReason, firstTokenTime, logprobs, text, thinking, toolCalls, usage }: Answered,
  generates: boolean,
  began: number
): object => ({
  model,
  created_at: new Date().toISOString(),
  ...(generates
    ? { response: text, ...(thinking === "" ? {} : { thinking }) }
    : {
        message: {
          role: "assistant",
          content: text,
          ...(thinking === "" ? {} : { thinking }),
          ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls.map(call) })
        }
      }),
  done: true,
  done_reason: doneReason(finishReason),
  ...(logprobs === undefined ? {} : { logprobs }),
  ...counts(began, firstTokenTime === undefined ? undefined : began + firstTokenTime, usage)
})
