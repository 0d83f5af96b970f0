/** Ollama's error messages for invalid bodies: the wording of Go's JSON decoder, and the type of each field. */
import * as Duration from "../../../internal/duration.js"
import { canonical } from "../../../Model.js"
import type { Fields } from "../../http/body.js"
import { type ErrorResponse, make, RequestRejected } from "../../http/errorResponse.js"

/** Rejects a request with Ollama's wording. */
export const refuse = (status: number, message: string, code: string | null = null, param: string | null = null) => {
  throw new RequestRejected(make(status, message, code, param))
}

// =============================================================================
// Bodies
// =============================================================================

/** Ollama's Go type of each endpoint's body. */
export type Struct =
  | "ChatRequest"
  | "GenerateRequest"
  | "EmbedRequest"
  | "EmbeddingRequest"
  | "ShowRequest"
  | "PullRequest"
  | "PushRequest"
  | "CreateRequest"
  | "CopyRequest"
  | "DeleteRequest"

const structs: { readonly [path: string]: Struct } = {
  "/api/chat": "ChatRequest",
  "/api/generate": "GenerateRequest",
  "/api/embed": "EmbedRequest",
  "/api/embeddings": "EmbeddingRequest",
  "/api/show": "ShowRequest",
  "/api/pull": "PullRequest",
  "/api/push": "PushRequest",
  "/api/create": "CreateRequest",
  "/api/copy": "CopyRequest",
  "/api/delete": "DeleteRequest"
}

const goTypeOf = (value: unknown): string => {
  if (Array.isArray(value)) return "array"
  return typeof value === "boolean" ? "bool" : typeof value
}

/** Go names the position after a complete value differently than Node. */
const expectations: ReadonlyArray<readonly [words: RegExp, message: string]> = [
  [/after property value/, "after object key:value pair"],
  [/after array element/, "after array element"],
  [/':' after property name/, "after object key"],
  [/property name/, "looking for beginning of object key string"],
  [/after JSON/, "after top-level value"],
  [/control character/i, "in string literal"],
  [/escape/i, "in string escape code"]
]

/** Go's message for invalid JSON. `error` is Node's message. */
export const syntaxError = (text: string, error: string): string => {
  const [, at] = /at position (\d+)/.exec(error) ?? []
  const [, token] = /^Unexpected token '(.+?)'/su.exec(error) ?? []
  const position = at === undefined ? undefined : Number(at)
  if (/^Unexpected end|^Unterminated/.test(error) || (position !== undefined && position >= text.trimEnd().length)) {
    return "unexpected EOF"
  }
  const found = token ?? (position === undefined ? text.trimStart()[0] : [...text.slice(position, position + 2)][0])
  const [, where = "looking for beginning of value"] = expectations.find(([words]) => words.test(error)) ?? []
  return `invalid character '${found ?? ""}' ${where}`
}

/** Ollama's message for JSON that is not an object. */
export const notAnObject = (path: string, value: unknown): string =>
  `json: cannot unmarshal ${goTypeOf(value)} into Go value of type api.${structs[path] ?? "Request"}`

// =============================================================================
// Fields
// =============================================================================

type Kind = "string" | "bool" | "number" | "object" | "array"

interface Field {
  readonly kind: Kind
  /** The name of the type in Go. */
  readonly type: string
  /** The fields of an object or of the objects in a list, or the type of the items. */
  readonly fields?: { readonly [name: string]: Field }
  readonly item?: Field
}

const text: Field = { kind: "string", type: "string" }
const flag: Field = { kind: "bool", type: "bool" }
const whole: Field = { kind: "number", type: "int" }
const map: Field = { kind: "object", type: "map[string]interface {}" }
const list = (type: string, item: Field): Field => ({ kind: "array", type: `[]${type}`, item })
const image: Field = { kind: "string", type: "api.ImageData" }
const images = list("api.ImageData", image)

const toolCall: Field = {
  kind: "object",
  type: "api.ToolCall",
  fields: {
    id: text,
    function: {
      kind: "object",
      type: "api.ToolCallFunction",
      fields: { name: text, arguments: { kind: "object", type: "api.ToolCallFunctionArguments" } }
    }
  }
}
const message: Field = {
  kind: "object",
  type: "api.Message",
  fields: {
    role: text,
    content: text,
    thinking: text,
    images,
    tool_calls: list("api.ToolCall", toolCall),
    tool_name: text,
    tool_call_id: text
  }
}

const named = { model: text, name: text }
const asked = {
  model: text,
  stream: flag,
  options: map,
  truncate: flag,
  shift: flag,
  logprobs: flag,
  top_logprobs: whole
}

const fieldsOf: { readonly [struct in Struct]: { readonly [name: string]: Field } } = {
  ChatRequest: { ...asked, messages: list("api.Message", message), _debug_render_only: flag },
  GenerateRequest: {
    ...asked,
    prompt: text,
    suffix: text,
    system: text,
    template: text,
    raw: flag,
    images,
    context: list("int", whole),
    _debug_render_only: flag
  },
  EmbedRequest: { model: text, truncate: flag, dimensions: whole, options: map },
  EmbeddingRequest: { model: text, prompt: text, options: map },
  ShowRequest: { ...named, system: text, template: text, verbose: flag, options: map },
  PullRequest: { ...named, insecure: flag, username: text, password: text, stream: flag },
  PushRequest: { ...named, insecure: flag, username: text, password: text, stream: flag },
  CreateRequest: {
    ...named,
    from: text,
    quantize: text,
    template: text,
    system: text,
    stream: flag,
    files: { kind: "object", type: "map[string]string" },
    adapters: { kind: "object", type: "map[string]string" },
    parameters: { kind: "object", type: "map[string]interface {}" },
    messages: list("api.Message", message)
  },
  CopyRequest: { source: text, destination: text },
  DeleteRequest: named
}

const kindOf = (value: unknown): string => {
  const type = goTypeOf(value)
  return type === "bool" ? "bool" : type
}

const checkOne = (at: string, field: Field, value: unknown): void => {
  if (value === undefined || value === null) return
  if (kindOf(value) !== field.kind || (field.type === "int" && !Number.isSafeInteger(value))) {
    const found = typeof value === "number" && field.kind === "number" ? `number ${value}` : goTypeOf(value)
    refuse(400, `json: cannot unmarshal ${found} into Go struct field ${at} of type ${field.type}`, "invalid_type", at)
  }
  if (field === image) {
    const bad = (value as string).search(/[^A-Za-z0-9+/=\r\n]/)
    if (bad !== -1) refuse(400, `illegal base64 data at input byte ${bad}`, "invalid_type", at)
  }
  if (field.fields !== undefined) checkAll(at, field.fields, value as Fields)
  if (field.item !== undefined) for (const item of value as ReadonlyArray<unknown>) checkOne(at, field.item, item)
}

const checkAll = (at: string, fields: { readonly [name: string]: Field }, body: Fields): void => {
  for (const name in body) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined
    if (field !== undefined) checkOne(`${at}.${name}`, field, body[name])
  }
}

/** Go's messages, which say what is wrong with a duration. */
const checkDuration = (value: unknown): void => {
  if (value === undefined || value === null || typeof value === "number") return
  if (typeof value !== "string") {
    const type = Array.isArray(value)
      ? "[]interface {}"
      : typeof value === "boolean"
        ? "bool"
        : "map[string]interface {}"
    refuse(400, `Unsupported type: '${type}'`, "invalid_type", "keep_alive")
    return
  }
  if (Duration.parse(value) !== undefined) return
  const shown = value.length > 40 ? `${value.slice(0, 40)}…` : value
  const [, unit] = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)([a-zA-Z]*)$/.exec(value) ?? []
  const quoted = JSON.stringify(shown)
  const message =
    unit === ""
      ? `time: missing unit in duration ${quoted}`
      : unit === undefined
        ? `time: invalid duration ${quoted}`
        : `time: unknown unit ${JSON.stringify(unit)} in duration ${quoted}`
  refuse(400, message, "invalid_type", "keep_alive")
}

const levels: ReadonlyArray<unknown> = ["high", "medium", "low", "max", true, false, undefined, null]

/** Rejects a body with a field of the wrong type, with Ollama's message. Unknown fields are not checked. */
export const check = (struct: Struct, body: Fields): void => {
  checkAll(struct, fieldsOf[struct], body)
  checkDuration(body["keep_alive"])
  const { think } = body
  if ((struct === "ChatRequest" || struct === "GenerateRequest") && !levels.includes(think)) {
    const given = JSON.stringify(think)
    const clipped = given.length > 60 ? `${given.slice(0, 60)}…` : given
    const allowed = `must be "high", "medium", "low", "max", true, or false`
    refuse(400, `invalid think value: ${clipped} (${allowed})`, "invalid_type", "think")
  }
}

// =============================================================================
// Options
// =============================================================================

const integers = ["num_keep", "seed", "num_predict", "top_k", "repeat_last_n", "num_ctx", "num_batch", "num_gpu"]
const floats = ["top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty"]
const optionTypes: ReadonlyMap<string, string> = new Map([
  ...[...integers, "main_gpu", "num_thread"].map((name) => [name, "integer"] as const),
  ...floats.map((name) => [name, "float32"] as const),
  ["use_mmap", "boolean"],
  ["stop", "array"]
])

/**
 * Rejects options of the wrong type with Ollama's message. Ollama returns 500, but clients would retry that; 400 is
 * returned here. A single string is accepted as a list of stops.
 */
export const checkOptions = (options: Fields): void => {
  const wrong = (name: string, type: string) =>
    refuse(400, `option ${JSON.stringify(name)} must be of type ${type}`, "invalid_type", `options.${name}`)
  for (const name in options) {
    const value = options[name]
    const type = optionTypes.get(name)
    if (type === undefined || value === null) continue
    if (type === "boolean" && typeof value !== "boolean") wrong(name, type)
    if ((type === "integer" || type === "float32") && !(typeof value === "number" && Number.isFinite(value))) {
      wrong(name, type)
    }
    if (type === "array" && typeof value !== "string") {
      if (!Array.isArray(value)) wrong(name, type)
      else if (value.some((one) => typeof one !== "string")) {
        refuse(400, `option ${JSON.stringify(name)} must be of an array of strings`, "invalid_type", "options.stop")
      }
    }
  }
}

// =============================================================================
// Names
// =============================================================================

/** Whether a model name is valid in Ollama: no blanks, and something on each side of a colon or slash. */
export const isName = (name: string): boolean => name.length <= 350 && !/[\s\p{Cc}]|^[/:]|[/:]$|\/\/|::/u.test(name)

/** A name with its tag. */
export const tagged = (name: string): string =>
  name.slice(name.lastIndexOf("/") + 1).includes(":") ? name : `${name}:latest`

/** Ollama's message at this endpoint for a model that does not exist. */
export const notFound = (path: string, model: string): string => {
  switch (path) {
    case "/api/embed":
    case "/api/embeddings":
      return `model ${JSON.stringify(model)} not found, try pulling it first`
    case "/api/copy":
      return `model ${JSON.stringify(model)} not found`
    case "/api/show":
      return `model '${tagged(model)}' not found`
    default:
      return `model '${model}' not found`
  }
}

/** For aliases of several models, the gateway's own message says more. */
const isOne = (model: string | undefined): model is string => model !== undefined && model !== "auto"

/** The server's message names its model; the client used another name. */
const asNamed = (message: string, model: string | undefined): string =>
  model === undefined
    ? message
    : message.replace(/^(?:"([^"]+)"|model '([^']+)') (?=does not support|not found)/, (all, quoted, single) => {
        const name = quoted ?? single
        return canonical(name) === canonical(model) ? all.replace(name, () => model) : all
      })

/** An error in Ollama's wording at this endpoint, where Ollama has one. */
export const ollamaErrorOf = (errorResponse: ErrorResponse, path: string, model: string | undefined): ErrorResponse => {
  if (errorResponse.code === "model_not_found" && isOne(model))
    return { ...errorResponse, message: notFound(path, model) }
  // The server names the field in its own way.
  const message = asNamed(errorResponse.message.replace(/^'suffix': (?=.* does not support insert$)/, ""), model)
  return message === errorResponse.message ? errorResponse : { ...errorResponse, message }
}
