/** Embeddings over the fleet: `POST /v1/embeddings`, `/api/embed` and `/api/embeddings`. */
import * as CallDefaults from "../../CallDefaults.js"
import type { Embedded, EmbedRequest, Input } from "../../EmbedRequest.js"
import { execute } from "../../embeddings/execute.js"
import { isAuto } from "../../modelSelection/candidate.js"
import { tokensOf } from "../../modelSelection/needs.js"
import type { GatewayContext } from "../GatewayContext.js"
import * as BodyFields from "../http/body.js"
import { make, RequestRejected, reject } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as Permissions from "../permissions.js"
import * as Validation from "../protocols/ollama/validation.js"
import * as GatewayRequest from "./gatewayRequest.js"
import { limitsFor } from "./retries.js"

// =============================================================================
// Models
// =============================================================================

type EmbeddingWanted = Omit<EmbedRequest, "model"> & { readonly model: string | undefined }

// =============================================================================
// Reading the body
// =============================================================================

const maxInputs = 2048

const isTokens = (value: unknown): value is ReadonlyArray<number> =>
  Array.isArray(value) && value.length > 0 && value.every((one) => Number.isSafeInteger(one) && one >= 0)

const input = (body: BodyFields.Fields, emptyAllowed: boolean): Input => {
  const { input: value } = body
  if (value === undefined || value === null) {
    return emptyAllowed ? [] : reject("input", "is missing", "missing_required_parameter")
  }
  if (typeof value === "string") return value === "" && !emptyAllowed ? reject("input", "is empty") : [value]
  if (!Array.isArray(value)) return reject("input", "must be a string, or an array of strings or tokens")
  if (value.length === 0) return emptyAllowed ? [] : reject("input", "must not be empty")
  if (value.length > maxInputs && typeof value[0] !== "number") reject("input", `must hold at most ${maxInputs} inputs`)
  const all: ReadonlyArray<unknown> = value
  if (all.every((one) => typeof one === "string")) {
    if (!emptyAllowed && all.includes("")) reject("input", "must not hold an empty string")
    return all
  }
  if (isTokens(all)) return [all]
  if (all.every(isTokens)) return all
  return reject("input", "must be a string, or an array of strings or tokens")
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

/** The fields of Ollama's bodies; Ollama ignores unknown ones. */
const read = (
  struct: Validation.Struct,
  context: RequestContext,
  body: BodyFields.Fields,
  names: ReadonlySet<string>
): ReturnType<typeof common> => {
  Validation.check(struct, body)
  context.ignore(Object.keys(body).filter((name) => !names.has(name) && body[name] !== null))
  return common(body)
}

const common = (body: BodyFields.Fields): Omit<EmbeddingWanted, "input" | "truncate"> => ({
  model: GatewayRequest.model(body),
  dimensions: BodyFields.whole(body, "dimensions", 1),
  keepAlive: GatewayRequest.keepAlive(body),
  options: BodyFields.json(body, "options")
})

// =============================================================================
// Calling the fleet
// =============================================================================

/** Estimates the tokens, where the server does not report them. */
const lengthOf = (input: Input): number =>
  input.reduce((sum, one) => sum + (typeof one === "string" ? tokensOf(one.length) : one.length), 0)

/** The model as it was named. */
const nameOf = ({ model }: EmbeddingWanted): string => {
  const name = model?.trim() ?? ""
  if (name !== "" && !isAuto(name)) return name
  const message = "'model' must name a model that makes embeddings"
  throw new RequestRejected(make(400, message, "missing_required_parameter", "model"))
}

const answer = async (
  gateway: GatewayContext,
  context: RequestContext,
  request: EmbeddingWanted,
  body: (embedded: Embedded, tokens: number) => object
): Promise<void> => {
  const { record: account, traceContext, owner, priority, trace } = context
  const { labels, library, limits, routing, settings } = gateway
  account.model = request.model
  Permissions.check(settings, context.admin, request)
  const model = nameOf(request)
  const reserved = context.reserve(() => ({
    answers: 1,
    param: "input",
    prompt: lengthOf(request.input),
    maxTokens: 0
  }))
  if (reserved !== undefined) await reserved
  if (context.disconnected) return
  const running = library.run(
    execute(library.models, library.failover, {
      request: CallDefaults.forEmbedRequest({ ...request, model }, library.settings.defaults),
      limits: limitsFor(context, limits),
      routing,
      owner,
      priority,
      policy: gateway,
      began: Date.now(),
      trace,
      context: traceContext
    })
  )
  context.onDisconnect(running.stop)
  context.dispatched = true
  try {
    const { candidate, ...embedded } = await running.result
    if (context.disconnected) return
    const tokens = embedded.promptTokens || lengthOf(request.input)
    account.model = embedded.model
    account.server = labels.label(embedded.server)
    if (request.lenient === true && library.protocol(embedded.server, candidate.model) === "openai") {
      context.ignore(GatewayRequest.ollamaOnly(request))
    }
    account.attempts = embedded.attempts.length + 1
    account.promptTokens = tokens
    context.headers["x-aicortex-server"] = account.server
    context.headers["x-aicortex-attempts"] = account.attempts
    const failure = embedded.attempts.at(-1)?.reason
    context.headers["x-aicortex-reason"] = failure === undefined ? routing : `failover after ${failure}`
    context.json(body({ ...embedded, model: candidate.name }, tokens))
  } catch (error) {
    if (!context.disconnected) throw error
  }
}

const base64 = (vector: ReadonlyArray<number>): string => {
  const floats = Float32Array.from(vector)
  return Buffer.from(floats.buffer, floats.byteOffset, floats.byteLength).toString("base64")
}

export const openAI = (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields): Promise<void> => {
  context.decode((body, ignored) => ignored.check(body, openAINames), body)
  BodyFields.text(body, "user")
  const packed = BodyFields.oneOf(body, "encoding_format", ["float", "base64"]) === "base64"
  const request = { ...common(body), input: input(body, false), truncate: undefined }
  return answer(gateway, context, request, ({ embeddings, model }, tokens) => ({
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

export const ollama = (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields): Promise<void> => {
  const known = read("EmbedRequest", context, body, ollamaNames)
  const { input: given } = body
  const texts = Array.isArray(given) ? given : [given ?? ""]
  if (!texts.every((one) => typeof one === "string"))
    Validation.refuse(400, "invalid input type", "invalid_type", "input")
  const began = performance.now()
  const request = {
    ...known,
    input: input(body, true),
    truncate: BodyFields.flag(body, "truncate"),
    lenient: true as const
  }
  return answer(gateway, context, request, ({ embeddings, model }, tokens) => ({
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

/** The older endpoint, for one text. */
export const legacy = (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields): Promise<void> => {
  const known = read("EmbeddingRequest", context, body, legacyNames)
  const request = {
    ...known,
    input: [BodyFields.text(body, "prompt") ?? ""],
    truncate: undefined,
    lenient: true as const
  }
  return answer(gateway, context, request, ({ embeddings }) => ({ embedding: embeddings[0] ?? [] }))
}
