/** Embeddings over the fleet: `POST /v1/embeddings`, `/api/embed` and `/api/embeddings`. */
import * as CallDefaults from "../../CallDefaults.js"
import type { Embedded, EmbedRequest, Input } from "../../EmbedRequest.js"
import { execute } from "../../embeddings/execute.js"
import { isAuto } from "../../modelSelection/candidate.js"
import { tokensOf } from "../../modelSelection/needs.js"
import type { GatewayContext } from "../GatewayContext.js"
import type * as BodyFields from "../http/body.js"
import * as Body from "../http/bodyDeclaration.js"
import { make, RequestRejected, reject } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as ModelAccess from "../keys/modelAccess.js"
import * as Permissions from "../permissions.js"
import * as Go from "../protocols/ollama/goFields.js"
import * as Validation from "../protocols/ollama/validation.js"
import * as CommonFields from "./commonFields.js"
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

const notInput = "must be a string, or an array of strings or tokens"

const readInput = (body: BodyFields.Fields, name: string, at: string, emptyAllowed: boolean): Input | undefined => {
  const value = body[name]
  if (value === undefined || value === null) return undefined
  if (typeof value === "string") return value === "" && !emptyAllowed ? reject(at, "is empty") : [value]
  if (!Array.isArray(value)) return reject(at, notInput)
  if (value.length === 0) return emptyAllowed ? [] : reject(at, "must not be empty")
  if (value.length > maxInputs && typeof value[0] !== "number") reject(at, `must hold at most ${maxInputs} inputs`)
  const all: ReadonlyArray<unknown> = value
  if (all.every((one) => typeof one === "string")) {
    if (!emptyAllowed && all.includes("")) reject(at, "must not hold an empty string")
    return all
  }
  if (isTokens(all)) return [all]
  if (all.every(isTokens)) return all
  return reject(at, notInput)
}

const token = { type: "integer", minimum: 0 }
const someText = { type: "string", minLength: 1 }

/** - `input`: texts or tokens */
const input = Body.required(
  Body.custom(
    Body.anyOf(someText, {
      type: "array",
      items: Body.anyOf(someText, token, { type: "array", items: token, minItems: 1 }),
      minItems: 1,
      maxItems: maxInputs
    }),
    (body, name, at) => readInput(body, name, at, false)
  )
)

const texts = Body.custom(
  Body.anyOf({ type: "string" }, { type: "array", items: { type: "string" }, maxItems: maxInputs }),
  (body, name, at): Input => {
    const value = body[name]
    const all = Array.isArray(value) ? value : [value ?? ""]
    if (!all.every((one) => typeof one === "string")) Validation.refuse(400, "invalid input type", "invalid_type", at)
    return readInput(body, name, at, true) ?? []
  }
)

const model = CommonFields.modelName("A model that makes embeddings, an alias, or provider:model.")

/** The body of `/v1/embeddings`. */
export const openAIBody = Body.struct({
  model: Body.needed(model),
  input,
  encoding_format: Body.oneOf(["float", "base64"], { default: "float" }),
  dimensions: Body.whole(1),
  user: Body.withoutEffect(Body.text()),
  ...CommonFields.ollamaOnly,
  ...CommonFields.harmless
})

/** The body of `/api/embed`. */
export const ollamaBody = Go.body("EmbedRequest", {
  model: Body.needed(Go.modelNamed(model)),
  input: texts,
  truncate: Go.flag(),
  dimensions: Go.whole(1),
  keep_alive: Go.keepAlive,
  options: Go.options
})

/** The body of `/api/embeddings`. */
export const legacyBody = Go.body("EmbeddingRequest", {
  model: Body.needed(Go.modelNamed(model)),
  prompt: Go.text(),
  keep_alive: Go.keepAlive,
  options: Go.options
})

/** The fields of Ollama's bodies; Ollama ignores unknown ones. */
const readOllama = (
  { check, names }: typeof ollamaBody | typeof legacyBody,
  context: RequestContext,
  body: BodyFields.Fields
): ReturnType<typeof common> => {
  check(body)
  context.ignore(Object.keys(body).filter((name) => !names.has(name) && body[name] !== null))
  return common(body)
}

const { read } = openAIBody

const common = (body: BodyFields.Fields) => ({
  model: read.model(body),
  keepAlive: read.keep_alive(body),
  options: read.options(body)
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
  const { record: account, traceContext, owner, priority, private: localOnly, trace } = context
  const { labels, library, limits, routing, settings } = gateway
  account.model = request.model
  Permissions.check(settings, context.manages, request)
  const model = nameOf(request)
  ModelAccess.check(gateway, context, model)
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
      private: localOnly || library.settings.defaults.private,
      policy: gateway,
      began: Date.now(),
      listener: gateway.requests.begin(context),
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
    account.url = embedded.server
    if (request.lenient === true && library.protocol(embedded.server, candidate.model) !== "ollama") {
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
  context.decode((body, ignored) => ignored.check(body, openAIBody), body)
  read.user(body)
  const packed = read.encoding_format(body) === "base64"
  const request = { ...common(body), dimensions: read.dimensions(body), input: read.input(body), truncate: undefined }
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
  const known = readOllama(ollamaBody, context, body)
  const began = performance.now()
  const request = {
    ...known,
    dimensions: ollamaBody.read.dimensions(body),
    input: ollamaBody.read.input(body),
    truncate: ollamaBody.read.truncate(body),
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
  const known = readOllama(legacyBody, context, body)
  const request = {
    ...known,
    dimensions: undefined,
    input: [legacyBody.read.prompt(body) ?? ""],
    truncate: undefined,
    lenient: true as const
  }
  return answer(gateway, context, request, ({ embeddings }) => ({ embedding: embeddings[0] ?? [] }))
}
