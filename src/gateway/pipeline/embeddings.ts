/**
 * Embeddings over the fleet: `POST /v1/embeddings`, `/api/embed` and `/api/embeddings`.
 *
 * @since 0.1.0
 */
import * as CallDefaults from "../../CallDefaults.js"
import type { Embedded, EmbedRequest, Input } from "../../EmbedRequest.js"
import { execute } from "../../embeddings/execute.js"
import { isAuto } from "../../modelSelection/candidate.js"
import { tokensOf } from "../../modelSelection/needs.js"
import type { House } from "../GatewayContext.js"
import * as Fields from "../http/body.js"
import { make, Refusal, refuse } from "../http/errorResponse.js"
import type { Exchange } from "../http/RequestContext.js"
import * as Rights from "../permissions.js"
import * as Wire from "../protocols/ollama/validation.js"
import * as Ask from "./gatewayRequest.js"
import { limitsFor } from "./retries.js"

// =============================================================================
// models
// =============================================================================

type Wanted = Omit<EmbedRequest, "model"> & { readonly model: string | undefined }

// =============================================================================
// reading
// =============================================================================

const maxInputs = 2048

const isTokens = (value: unknown): value is ReadonlyArray<number> =>
  Array.isArray(value) && value.length > 0 && value.every((one) => Number.isSafeInteger(one) && one >= 0)

const input = (body: Fields.Fields, emptyAllowed: boolean): Input => {
  const { input: value } = body
  if (value === undefined || value === null) {
    return emptyAllowed ? [] : refuse("input", "is missing", "missing_required_parameter")
  }
  if (typeof value === "string") return value === "" && !emptyAllowed ? refuse("input", "is empty") : [value]
  if (!Array.isArray(value)) return refuse("input", "must be a string, or an array of strings or tokens")
  if (value.length === 0) return emptyAllowed ? [] : refuse("input", "must not be empty")
  if (value.length > maxInputs && typeof value[0] !== "number") refuse("input", `must hold at most ${maxInputs} inputs`)
  const all: ReadonlyArray<unknown> = value
  if (all.every((one) => typeof one === "string")) {
    if (!emptyAllowed && all.includes("")) refuse("input", "must not hold an empty string")
    return all
  }
  if (isTokens(all)) return [all]
  if (all.every(isTokens)) return all
  return refuse("input", "must be a string, or an array of strings or tokens")
}

const openAINames: ReadonlySet<string> = new Set([
  "model",
  "input",
  "encoding_format",
  "dimensions",
  "user",
  "keep_alive",
  "options"
])
const ollamaNames: ReadonlySet<string> = new Set(["model", "input", "truncate", "dimensions", "keep_alive", "options"])
const legacyNames: ReadonlySet<string> = new Set(["model", "prompt", "keep_alive", "options"])

/** The fields of Ollama's bodies; what Ollama does not know has no effect there. */
const read = (
  struct: Wire.Struct,
  exchange: Exchange,
  body: Fields.Fields,
  names: ReadonlySet<string>
): ReturnType<typeof common> => {
  Wire.check(struct, body)
  exchange.ignore(Object.keys(body).filter((name) => !names.has(name) && body[name] !== null))
  return common(body)
}

const common = (body: Fields.Fields): Omit<Wanted, "input" | "truncate"> => ({
  model: Ask.model(body),
  dimensions: Fields.whole(body, "dimensions", 1),
  keepAlive: Ask.keepAlive(body),
  options: Fields.json(body, "options")
})

// =============================================================================
// asking
// =============================================================================

/** About how many tokens there are in it, where the server does not say. */
const lengthOf = (input: Input): number =>
  input.reduce((sum, one) => sum + (typeof one === "string" ? tokensOf(one.length) : one.length), 0)

/** The model as it was named. */
const nameOf = ({ model }: Wanted): string => {
  const name = model?.trim() ?? ""
  if (name !== "" && !isAuto(name)) return name
  const message = "'model' must name a model that makes embeddings"
  throw new Refusal(make(400, message, "missing_required_parameter", "model"))
}

const answer = async (
  house: House,
  exchange: Exchange,
  wanted: Wanted,
  body: (embedded: Embedded, tokens: number) => object
): Promise<void> => {
  const { account, context, owner, priority, trace } = exchange
  const { labels, library, limits, routing, settings } = house
  account.model = wanted.model
  Rights.check(settings, exchange.admin, wanted)
  const model = nameOf(wanted)
  const reserved = exchange.reserve(() => ({
    answers: 1,
    param: "input",
    prompt: lengthOf(wanted.input),
    maxTokens: 0
  }))
  if (reserved !== undefined) await reserved
  if (exchange.left) return
  const running = library.run(
    execute(library.models, library.failover, {
      request: CallDefaults.forEmbedRequest({ ...wanted, model }, library.settings.defaults),
      limits: limitsFor(exchange, limits),
      routing,
      owner,
      priority,
      policy: house,
      began: Date.now(),
      trace,
      context
    })
  )
  exchange.onLeave(running.stop)
  exchange.asked = true
  try {
    const { candidate, ...embedded } = await running.result
    if (exchange.left) return
    const tokens = embedded.promptTokens || lengthOf(wanted.input)
    account.model = embedded.model
    account.server = labels.label(embedded.server)
    if (wanted.lenient === true && library.protocol(embedded.server, candidate.model) === "openai") {
      exchange.ignore(Ask.onlyOllamas(wanted))
    }
    account.attempts = embedded.attempts.length + 1
    account.promptTokens = tokens
    exchange.headers["x-aicortex-server"] = account.server
    exchange.headers["x-aicortex-attempts"] = account.attempts
    const failure = embedded.attempts.at(-1)?.reason
    exchange.headers["x-aicortex-reason"] = failure === undefined ? routing : `failover after ${failure}`
    exchange.json(body({ ...embedded, model: candidate.name }, tokens))
  } catch (error) {
    if (!exchange.left) throw error
  }
}

const base64 = (vector: ReadonlyArray<number>): string => {
  const floats = Float32Array.from(vector)
  return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength).toString("base64")
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const openAI = (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  exchange.decoded((body, ignored) => ignored.check(body, openAINames), body)
  Fields.text(body, "user")
  const packed = Fields.oneOf(body, "encoding_format", ["float", "base64"]) === "base64"
  const wanted = { ...common(body), input: input(body, false), truncate: undefined }
  return answer(house, exchange, wanted, ({ embeddings, model }, tokens) => ({
    object: "list",
    data: embeddings.map((vector, index) => ({
      object: "embedding",
      index,
      embedding: packed ? base64(vector) : vector
    })),
    model,
    usage: { prompt_tokens: tokens, total_tokens: tokens }
  }))
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const ollama = (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  const known = read("EmbedRequest", exchange, body, ollamaNames)
  const { input: given } = body
  const texts = Array.isArray(given) ? given : [given ?? ""]
  if (!texts.every((one) => typeof one === "string")) Wire.refuse(400, "invalid input type", "invalid_type", "input")
  const began = performance.now()
  const wanted = { ...known, input: input(body, true), truncate: Fields.flag(body, "truncate"), lenient: true as const }
  return answer(house, exchange, wanted, ({ embeddings, model }, tokens) => ({
    model,
    embeddings,
    ...(embeddings.length === 0
      ? {}
      : {
          total_duration: Math.round((performance.now() - began) * 1e6),
          load_duration: 1,
          ...(tokens === 0 ? {} : { prompt_eval_count: tokens })
        })
  }))
}

/**
 * The older form, for one text.
 *
 * @since 0.1.0
 * @category handlers
 */
export const legacy = (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  const known = read("EmbeddingRequest", exchange, body, legacyNames)
  const wanted = {
    ...known,
    input: [Fields.text(body, "prompt") ?? ""],
    truncate: undefined,
    lenient: true as const
  }
  return answer(house, exchange, wanted, ({ embeddings }) => ({ embedding: embeddings[0] ?? [] }))
}
