/** Sampling parameters: Ollama's `options` and the fields beside them. */
import type { ChatRequest, Format } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import { reject } from "../../http/errorResponse.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as Validation from "./validation.js"

/** The parameters in `options` and beside it. */
export type OllamaParameters = GatewayRequest.Sampling & Pick<ChatRequest, "maxTokens" | "format" | "logprobs">

/** Ollama options with an equivalent here, so that OpenAI-compatible servers understand them too. */
const shared = [
  "temperature",
  "top_p",
  "min_p",
  "frequency_penalty",
  "presence_penalty",
  "repeat_penalty",
  "top_k",
  "seed",
  "num_predict",
  "stop"
] as const
/** Options that other servers may support under the same names. */
const samplers: ReadonlySet<string> = new Set([
  "typical_p",
  "repeat_last_n",
  "mirostat",
  "mirostat_tau",
  "mirostat_eta",
  "tfs_z"
])
const isShared: ReadonlySet<string> = new Set(shared)

/** Option names of other APIs, which some clients send beside `options`. */
const aliases: { readonly [name: string]: string } = {
  ...Object.fromEntries(shared.map((name) => [name, name])),
  num_ctx: "num_ctx",
  max_tokens: "num_predict",
  max_completion_tokens: "num_predict",
  max_output_tokens: "num_predict"
}

const fits = (name: string, value: unknown): boolean => {
  if (name === "stop") {
    return typeof value === "string" || (Array.isArray(value) && value.every((one) => typeof one === "string"))
  }
  if (typeof value !== "number" || !Number.isFinite(value)) return false
  if (name === "num_predict" || name === "num_ctx") return Number.isSafeInteger(value) && value > 0
  return name === "top_k" || name === "seed" ? Number.isSafeInteger(value) : true
}

/**
 * Reads the options of a body. An option outside `options`, which Ollama would ignore, is used if it has the right type
 * and `options` does not set it; else it is added to `ignored`.
 */
export const options = (body: BodyFields.Fields, ignored: Array<string>): BodyFields.Fields => {
  const given = BodyFields.json(body, "options") ?? {}
  Validation.checkOptions(given)
  let all: { [name: string]: unknown } | undefined
  for (const name in body) {
    const option = Object.hasOwn(aliases, name) ? aliases[name] : undefined
    const value = body[name]
    if (option === undefined || value === null) continue
    if ((given[option] ?? all?.[option]) != null || !fits(option, value)) {
      ignored.push(name)
      continue
    }
    all ??= { ...given }
    all[option] = value
  }
  return all ?? given
}

/** Whether `options` knows this field. */
export const isOption = (name: string): boolean => Object.hasOwn(aliases, name)

const format = (body: BodyFields.Fields): Format => {
  const { format: value } = body
  if (value === undefined || value === null || value === "") return "text"
  if (value === "json") return "json"
  if (BodyFields.isObject(value)) return BodyFields.json(body, "format") ?? "text"
  const shown = JSON.stringify(JSON.stringify(value).slice(0, 60))
  Validation.refuse(
    400,
    `invalid format: ${shown}; expected "json" or a valid JSON Schema object`,
    "invalid_type",
    "format"
  )
  return "text"
}

const logprobs = (body: BodyFields.Fields): ChatRequest["logprobs"] => {
  const wanted = BodyFields.flag(body, "logprobs") ?? false
  const top = BodyFields.whole(body, "top_logprobs", 0, 20)
  return wanted ? (top ?? 0) : undefined
}

/** Converts to an integer as Go does. */
const whole = (value: unknown): number | undefined => {
  if (typeof value !== "number") return undefined
  const cut = Math.trunc(value)
  return Number.isSafeInteger(cut) ? cut : undefined
}

const stops = (value: unknown): ReadonlyArray<string> => {
  if (value === undefined || value === null) return []
  const all = typeof value === "string" ? [value] : (value as ReadonlyArray<string>)
  if (all.length > 64) reject("options.stop", `must hold at most 64 strings, not ${all.length}`)
  return all.filter((one) => one !== "")
}

export const sampling = (body: BodyFields.Fields, ignored: Array<string>): OllamaParameters => {
  const given = options(body, ignored)
  const number = (name: string): number | undefined => (typeof given[name] === "number" ? given[name] : undefined)
  const limit = whole(given["num_predict"])
  const topK = whole(given["top_k"])
  const others: { [name: string]: unknown } = {}
  const extra: { [name: string]: unknown } = {}
  for (const [name, value] of Object.entries(given)) {
    if (isShared.has(name) || value === null) continue
    if (samplers.has(name)) extra[name] = value
    else others[name] = value
  }
  return {
    temperature: number("temperature"),
    topP: number("top_p"),
    minP: number("min_p"),
    frequencyPenalty: number("frequency_penalty"),
    presencePenalty: number("presence_penalty"),
    repeatPenalty: number("repeat_penalty"),
    topK: topK === undefined || topK < 0 ? undefined : topK,
    seed: whole(given["seed"]),
    stop: stops(given["stop"]),
    // Negative means unlimited.
    maxTokens: limit === undefined || limit <= 0 ? undefined : limit,
    keepAlive: GatewayRequest.keepAlive(body),
    think: GatewayRequest.think(body),
    options: Object.keys(others).length === 0 ? undefined : others,
    extra: Object.keys(extra).length === 0 ? undefined : extra,
    format: format(body),
    logitBias: undefined,
    logprobs: logprobs(body)
  }
}
