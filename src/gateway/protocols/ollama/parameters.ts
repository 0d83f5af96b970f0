/** Sampling parameters: Ollama's `options` and the fields beside them. */
import type { ChatRequest, Format } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as Go from "./goFields.js"
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

// =============================================================================
// Fields
// =============================================================================

interface OptionKind {
  readonly schema: Body.JsonSchema
  readonly fits: (value: unknown) => boolean
}

const anyNumber: OptionKind = { schema: { type: "number" }, fits: Number.isFinite }
const integer: OptionKind = { schema: { type: "integer" }, fits: Number.isSafeInteger }
const count: OptionKind = {
  schema: { type: "integer", minimum: 1 },
  fits: (value) => Number.isSafeInteger(value) && (value as number) > 0
}
const texts: OptionKind = {
  schema: Body.anyOf({ type: "string" }, { type: "array", items: { type: "string" } }),
  fits: (value) => typeof value === "string" || (Array.isArray(value) && value.every((one) => typeof one === "string"))
}

const kinds: { readonly [option: string]: OptionKind } = {
  top_k: integer,
  seed: integer,
  num_predict: count,
  num_ctx: count,
  stop: texts
}

/** Option names of other APIs, which some clients send beside `options`. */
const aliases: { readonly [name: string]: string } = {
  ...Object.fromEntries(shared.map((name) => [name, name])),
  num_ctx: "num_ctx",
  max_tokens: "num_predict",
  max_completion_tokens: "num_predict",
  max_output_tokens: "num_predict"
}

const kindOf = (option: string): OptionKind => kinds[option] ?? anyNumber

const aliasFields: { readonly [name: string]: Body.Field<unknown> } = Object.fromEntries(
  Object.entries(aliases).map(([name, option]) => [
    name,
    Body.lenient(
      Body.custom(
        { ...kindOf(option).schema, description: `The same as options.${option}, which goes before it.` },
        (body) => body[name] ?? undefined
      )
    )
  ])
)

const format = Body.custom(
  { ...Body.anyOf({ enum: ["json", ""] }, { type: "object" }), description: "json, or a JSON Schema." },
  (body, name, at): Format => {
    const value = body[name]
    if (value === undefined || value === null || value === "") return "text"
    if (value === "json") return "json"
    if (BodyFields.isObject(value)) return BodyFields.json(body, name, at) ?? "text"
    const shown = JSON.stringify(JSON.stringify(value).slice(0, 60))
    Validation.refuse(
      400,
      `invalid format: ${shown}; expected "json" or a valid JSON Schema object`,
      "invalid_type",
      at
    )
    return "text"
  }
)

/** The fields that are read here. */
export const fields = {
  options: Go.options,
  keep_alive: Go.keepAlive,
  think: Go.think,
  format,
  logprobs: Go.flag(),
  top_logprobs: Go.whole(0, 20),
  ...aliasFields
}

const { read } = Body.struct(fields)

// =============================================================================
// Reading them
// =============================================================================

/**
 * Reads the options of a body. An option outside `options`, which Ollama would ignore, is used if it has the right type
 * and `options` does not set it; else it is added to `ignored`.
 */
export const options = (body: BodyFields.Fields, ignored: Array<string>): BodyFields.Fields => {
  const given = read.options(body) ?? {}
  Validation.checkOptions(given)
  let all: { [name: string]: unknown } | undefined
  for (const name in body) {
    const option = Object.hasOwn(aliases, name) ? aliases[name] : undefined
    const value = body[name]
    if (option === undefined || value === null) continue
    if ((given[option] ?? all?.[option]) != null || !kindOf(option).fits(value)) {
      ignored.push(name)
      continue
    }
    all ??= { ...given }
    all[option] = value
  }
  return all ?? given
}

const logprobs = (body: BodyFields.Fields): ChatRequest["logprobs"] => {
  const wanted = read.logprobs(body) ?? false
  const top = read.top_logprobs(body)
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
    keepAlive: read.keep_alive(body),
    think: read.think(body),
    options: Object.keys(others).length === 0 ? undefined : others,
    extra: Object.keys(extra).length === 0 ? undefined : extra,
    format: read.format(body),
    logitBias: undefined,
    logprobs: logprobs(body)
  }
}
