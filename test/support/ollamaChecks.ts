import type { Json } from "./script.js"

/** JSON as Go writes it: `<`, `>` and `&` are escaped. */
export const goJson = (value: Json): string =>
  JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

/** An error of Ollama's runner: JSON nested as a string. */
export const nested = (type: string, message: string, extra: Json = {}): string =>
  JSON.stringify({ error: { code: 400, message, type, ...extra } })

/** What Go says about a body that is not JSON. */
export function syntaxError(raw: string): string {
  const char = raw.trimStart().charAt(0)
  return '{["tfn-0123456789'.includes(char)
    ? "unexpected EOF"
    : `invalid character '${char}' looking for beginning of value`
}

const goType = (value: Json): string =>
  Array.isArray(value) ? "array" : value === null ? "null" : typeof value === "boolean" ? "bool" : typeof value

const mismatch = (value: Json, field: string, type: string): [number, string] => [
  400,
  `json: cannot unmarshal ${goType(value)} into Go struct field ${field} of type ${type}`
]

const given = (value: Json) => value !== undefined && value !== null

const options: Readonly<Record<string, "integer" | "float32" | "array">> = {
  num_predict: "integer",
  num_ctx: "integer",
  num_keep: "integer",
  num_batch: "integer",
  num_gpu: "integer",
  num_thread: "integer",
  seed: "integer",
  top_k: "integer",
  repeat_last_n: "integer",
  temperature: "float32",
  top_p: "float32",
  min_p: "float32",
  typical_p: "float32",
  repeat_penalty: "float32",
  presence_penalty: "float32",
  frequency_penalty: "float32",
  stop: "array"
}

/** The status and text with which Ollama refuses a chat or generate body, if it does. */
export function checkOllamaBody(
  body: Json,
  chat: boolean,
  model: { readonly name: string; readonly capabilities: ReadonlyArray<string> } | undefined
): [number, string] | undefined {
  const struct = chat ? "ChatRequest" : "GenerateRequest"
  const shape = checkShape(body, struct)
  if (shape !== undefined) return shape
  if (chat && !body.model) return [400, "model is required"]
  if (model === undefined) return undefined
  if (!chat && body.raw === true && (body.template || body.system || body.context?.length > 0)) {
    return [400, "raw mode does not support template, system, or context"]
  }

  const name = body.model
  const can = (capability: string) => model.capabilities.includes(capability)
  if (body.think && !can("thinking")) return [400, `"${name}" does not support thinking`]
  if (chat && !can("completion")) return [400, `"${name}" does not support chat`]
  const full = `registry.ollama.ai/library/${model.name.includes(":") ? model.name : `${model.name}:latest`}`
  if (!chat && !can("completion")) return [400, `"${name}" does not support generate`]
  if (body.tools?.length > 0 && !can("tools")) return [400, `${full} does not support tools`]
  if (body.suffix && !can("insert")) return [400, `${full} does not support insert`]
  if (chat ? !body.messages?.length : !body.prompt) return undefined
  const images = chat ? body.messages.flatMap((m: Json) => m.images ?? []) : (body.images ?? [])
  if (images.length > 0 && !can("vision")) {
    const message = "Multimodal data provided, but model does not support multimodal requests."
    return [400, nested("invalid_request_error", message)]
  }
  for (const [key, value] of Object.entries(body.options ?? {})) {
    const type = options[key]
    if (type === undefined || value === null) continue
    if (type === "array" ? !Array.isArray(value) : typeof value !== "number") {
      return [500, `option "${key}" must be of type ${type}`]
    }
    if (Array.isArray(value) && value.some((item) => typeof item !== "string")) {
      return [500, `option "${key}" must be of an array of strings`]
    }
  }
  const format = body.format
  if (given(format) && format !== "" && format !== "json" && goType(format) !== "object") {
    const quoted = JSON.stringify(JSON.stringify(format))
    return [500, `invalid format: ${quoted}; expected "json" or a valid JSON Schema object`]
  }
  return undefined
}

function checkShape(body: Json, struct: string): [number, string] | undefined {
  for (const [key, type] of [
    ["model", "string"],
    ["prompt", "string"],
    ["system", "string"],
    ["suffix", "string"],
    ["raw", "bool"],
    ["stream", "bool"]
  ]) {
    const value = body[key as string]
    // /api/chat has no such fields, and Go passes over what it does not know.
    if (["prompt", "suffix", "raw"].includes(key as string) && struct === "ChatRequest") continue
    if (given(value) && goType(value) !== type) return mismatch(value, `${struct}.${key}`, type as string)
  }
  const think = body.think
  if (given(think) && typeof think !== "boolean" && !["high", "medium", "low", "max"].includes(think)) {
    const levels = 'must be "high", "medium", "low", "max", true, or false'
    return [400, `invalid think value: ${JSON.stringify(think)} (${levels})`]
  }
  const alive = body.keep_alive
  if (typeof alive === "string" && !/^-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+$|^-?0$/.test(alive)) {
    return [400, `time: invalid duration ${JSON.stringify(alive)}`]
  }
  if (given(body.options) && goType(body.options) !== "object") {
    return mismatch(body.options, `${struct}.options`, "map[string]interface {}")
  }
  if (given(body.messages) && !Array.isArray(body.messages)) {
    return mismatch(body.messages, `${struct}.messages`, "[]api.Message")
  }
  for (const message of body.messages ?? []) {
    for (const key of ["role", "content", "thinking", "tool_name", "tool_call_id"]) {
      const value = message?.[key]
      if (given(value) && typeof value !== "string") return mismatch(value, `${struct}.messages.${key}`, "string")
    }
    for (const image of message?.images ?? []) {
      const bad = /[^A-Za-z0-9+/=\r\n]/.exec(image)
      if (bad !== null) return [400, `illegal base64 data at input byte ${bad.index}`]
    }
    for (const call of message?.tool_calls ?? []) {
      const args = call?.function?.arguments
      if (given(args) && goType(args) !== "object") {
        const field = `${struct}.messages.tool_calls.function.arguments`
        return mismatch(args, field, "api.ToolCallFunctionArguments")
      }
    }
  }
  return undefined
}
