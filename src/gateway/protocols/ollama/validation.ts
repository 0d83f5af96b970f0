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

const goTypeOf = (value: unknown): string => {
  if (Array.isArray(value)) return "array"
  return typeof value === "boolean" ? "bool" : typeof value
}

/** Ollama's message for JSON that is not an object. `struct`: the name of the body's type in Go. */
export const notAnObject = (struct: string, value: unknown): string =>
  `json: cannot unmarshal ${goTypeOf(value)} into Go value of type api.${struct}`

// =============================================================================
// Fields
// =============================================================================

/** The type of a field in Go. */
export interface GoType {
  readonly kind: "string" | "bool" | "number" | "object" | "array" | "any"
  /** Its name. */
  readonly type: string
  /** The fields of an object. */
  readonly fields?: { readonly [name: string]: GoType }
  /** The type of the items of a list. */
  readonly item?: GoType
  /** Rejects values of the right type that are not valid. */
  readonly check?: (value: unknown, at: string) => void
}

const checkOne = (at: string, field: GoType, value: unknown): void => {
  if (value === undefined || value === null) return
  const { check, fields, item, kind, type } = field
  if (kind !== "any" && (goTypeOf(value) !== kind || (type === "int" && !Number.isSafeInteger(value)))) {
    const found = typeof value === "number" && kind === "number" ? `number ${value}` : goTypeOf(value)
    refuse(400, `json: cannot unmarshal ${found} into Go struct field ${at} of type ${type}`, "invalid_type", at)
  }
  check?.(value, at)
  if (fields !== undefined) checkAll(at, fields, value as Fields)
  if (item !== undefined) for (const one of value as ReadonlyArray<unknown>) checkOne(at, item, one)
}

/** Rejects an object with a field of the wrong type, with Ollama's message. Unknown fields are not checked. */
export const checkAll = (at: string, fields: { readonly [name: string]: GoType }, body: Fields): void => {
  for (const name in body) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined
    if (field !== undefined) checkOne(`${at}.${name}`, field, body[name])
  }
}

/** Rejects what is no duration, with Go's messages, which say what is wrong with it. */
export const checkDuration = (value: unknown): void => {
  if (typeof value === "number") return
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

/** The JSON Schema of the options. Others are passed on as they are. */
export const optionsSchema = (): object => ({
  type: "object",
  properties: Object.fromEntries(
    [...optionTypes].map(([name, type]) => [
      name,
      type === "array"
        ? { anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }] }
        : { type: type === "boolean" ? type : "number" }
    ])
  )
})

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
