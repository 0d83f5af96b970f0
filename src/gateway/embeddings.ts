/**
 * Embeddings over the fleet: `POST /v1/embeddings`, `/api/embed` and `/api/embeddings`.
 *
 * @since 0.1.0
 */
import { AllServersFailed, type Attempt, InvalidRequest, Overloaded, type Phase } from "../Errors.js"
import { defaultKeepAlive } from "../Fleet.js"
import { type Route, wait } from "../Router.js"
import * as Telemetry from "../Telemetry.js"
import * as Ask from "./ask.js"
import * as Control from "./control.js"
import type { Exchange } from "./exchange.js"
import * as Fields from "./fields.js"
import type { House } from "./house.js"
import { make, Refusal, refuse } from "./problem.js"
import type { Candidate } from "./selection.js"

// =============================================================================
// models
// =============================================================================

/** Texts, or tokens by their numbers. */
type Input = ReadonlyArray<string> | ReadonlyArray<ReadonlyArray<number>>

interface Wanted {
  readonly model: string | undefined
  readonly input: Input
  readonly dimensions: number | undefined
  readonly truncate: boolean | undefined
  readonly keepAlive: number | string | undefined
  readonly options: Fields.Fields | undefined
}

interface Embedded {
  readonly model: string
  readonly vectors: ReadonlyArray<ReadonlyArray<number>>
  readonly tokens: number
  readonly server: string
  readonly attempts: ReadonlyArray<Attempt>
}

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

const common = (body: Fields.Fields): Omit<Wanted, "input" | "truncate"> => ({
  model: Fields.text(body, "model"),
  dimensions: Fields.whole(body, "dimensions", 1),
  keepAlive: Ask.keepAlive(body),
  options: Fields.json(body, "options")
})

// =============================================================================
// asking
// =============================================================================

const isTexts = (given: Input): given is ReadonlyArray<string> => typeof given[0] === "string"

const vectorsOf = (value: unknown, n: number): ReadonlyArray<ReadonlyArray<number>> => {
  if (
    Array.isArray(value) &&
    value.length === n &&
    value.every((vector) => Array.isArray(vector) && vector.every((one) => typeof one === "number"))
  ) {
    return value
  }
  throw new Control.ControlFailed({ reason: "malformed", message: "not the embeddings that were asked for" })
}

const count = (value: unknown): number => (typeof value === "number" ? value : 0)

const next = (route: Route, model: string, observer: Telemetry.CallObserver): Promise<number> => {
  const at = route.next()
  if (at !== wait) return Promise.resolve(at)
  return new Promise((resolve, reject) => {
    const ticket = route.queue((at) => {
      observer.dequeued()
      resolve(at)
    })
    if ("retryAfter" in ticket) reject(new Overloaded({ model, ...ticket }))
    else observer.queued()
  })
}

/** Embeds, counted and traced as a chat is. */
const embed = async (house: House, exchange: Exchange, wanted: Wanted, candidate: Candidate): Promise<Embedded> => {
  const began = Date.now()
  const { library, settings } = house
  const { context, trace } = exchange
  const { model, only } = candidate
  const observe = (known: string | undefined): Telemetry.CallObserver =>
    Telemetry.observe(
      { request: { model }, began, events: false, operation: "embeddings", trace, context },
      known,
      Date.now
    )
  let observer: Telemetry.CallObserver | undefined
  try {
    const found = library.router.route(model, settings.routing, only === undefined ? {} : { only })
    const route = await library.run(found).result
    observer = observe(route.pool.hosts[0]?.model ?? model)
    const embedded = await over(house, exchange, wanted, model, route, observer)
    observer.used({ promptTokens: embedded.tokens })
    observer.answered({
      model: embedded.model,
      finishReason: undefined,
      usage: { promptTokens: embedded.tokens },
      firstTokenTime: undefined
    })
    return embedded
  } catch (error) {
    observer ??= observe(undefined)
    if (exchange.left) observer.closed()
    else observer.failed(error)
    throw error
  }
}

/** Asks one server after the other, as chats do: what failed rests, and what is wrong with the request stops at once. */
const over = async (
  house: House,
  exchange: Exchange,
  wanted: Wanted,
  model: string,
  route: Route,
  observer: Telemetry.CallObserver
): Promise<Embedded> => {
  const { library } = house
  const attempts: Array<Attempt> = []
  const { input } = wanted
  const { limits } = house
  for (;;) {
    const at = await next(route, model, observer)
    if (at < 0) throw new AllServersFailed({ model, attempts })
    const host = route.pool.hosts[at]
    if (host === undefined) continue
    const began = Date.now()
    const record = (reason: Attempt["reason"], message: string, status?: number) =>
      attempts.push({
        server: host.server.url,
        phase: "first-token",
        reason,
        message,
        elapsed: Date.now() - began,
        ...(status === undefined ? {} : { status })
      })
    const ollama = host.protocol === "ollama"
    if (host.protocol === "embedded" || (ollama && input.length > 0 && !isTexts(input))) {
      record("unsupported", host.protocol === "embedded" ? "it makes no embeddings" : "Ollama takes no tokens as input")
      if (route.able() === attempts.length) {
        throw new InvalidRequest({ field: "input", reason: attempts.at(-1)?.message ?? "" })
      }
      continue
    }
    if (!ollama && (wanted.keepAlive !== undefined || wanted.options !== undefined || wanted.truncate === false)) {
      record("unsupported", "the OpenAI API has no keep_alive, options or truncate")
      if (route.able() === attempts.length) {
        throw new InvalidRequest({ field: "options", reason: "no server that has the model takes them" })
      }
      continue
    }
    const idle = route.pool.own[at] === 0
    const lease = route.lease(at)
    const attempt = observer.attempt(host, idle && lease.cold, false)
    let phase: Phase = "connect"
    let stop: (() => void) | undefined
    exchange.onLeave(() => stop?.())
    try {
      const body = await Control.json(library.transport, host.server, {
        method: "POST",
        path: ollama ? "/api/embed" : "/v1/embeddings",
        connected: () => {
          phase = "first-token"
        },
        context: attempt.context,
        timeout: lease.cold ? limits.loadTimeout : Math.max(limits.firstTokenTimeout, limits.idleTimeout),
        stop: (how) => {
          stop = how
        },
        body: ollama
          ? {
              model: host.model,
              input,
              ...(wanted.truncate === undefined ? {} : { truncate: wanted.truncate }),
              ...(wanted.dimensions === undefined ? {} : { dimensions: wanted.dimensions }),
              ...(wanted.keepAlive === undefined ? {} : { keep_alive: wanted.keepAlive }),
              ...(wanted.options === undefined ? {} : { options: wanted.options })
            }
          : {
              model: host.model,
              input,
              encoding_format: "float",
              ...(wanted.dimensions === undefined ? {} : { dimensions: wanted.dimensions })
            }
      })
      const usage = Fields.isObject(body["usage"]) ? body["usage"] : {}
      const data = Array.isArray(body["data"]) ? (body["data"] as ReadonlyArray<unknown>) : []
      const vectors = vectorsOf(
        ollama
          ? body["embeddings"]
          : data
              .filter(Fields.isObject)
              .sort((a, b) => count(a["index"]) - count(b["index"]))
              .map((one) => one["embedding"]),
        input.length
      )
      lease.succeed({ firstTokenTime: undefined, tokensPerSecond: undefined, keepAlive: defaultKeepAlive })
      attempt.succeeded(undefined, undefined)
      return {
        model: host.model,
        vectors,
        tokens: ollama ? count(body["prompt_eval_count"]) : count(usage["prompt_tokens"]),
        server: host.server.url,
        attempts
      }
    } catch (error) {
      if (!(error instanceof Control.ControlFailed) || exchange.left) {
        lease.cancel()
        attempt.cancelled(phase)
        throw error
      }
      const { failure } = error
      lease.fail(failure)
      attempt.failed(failure.reason, phase, failure.status)
      if (failure.reason === "model-not-found") library.run(library.registry.markAbsent(host.model, host.server.url))
      if (failure.reason === "invalid-request") {
        throw new InvalidRequest({ field: "input", reason: failure.message, server: host.server.url })
      }
      record(failure.reason, failure.message, failure.status)
    } finally {
      stop = undefined
    }
  }
}

const chain = (house: House, wanted: Wanted): ReadonlyArray<Candidate> => {
  const name = wanted.model?.trim() ?? ""
  if (name === "" || name === "auto") {
    throw new Refusal(
      make(400, "'model' must name a model that makes embeddings", "missing_required_parameter", "model")
    )
  }
  const models = house.settings.aliases.get(name) ?? [name]
  return models.map((one) => {
    const provider = /^(ollama|openai):(.+)$/.exec(one)
    return {
      model: provider?.[2] ?? one,
      only: provider === null ? undefined : (host) => host.protocol === provider[1],
      shown: () => one
    }
  })
}

const answer = async (
  house: House,
  exchange: Exchange,
  wanted: Wanted,
  body: (embedded: Embedded) => object
): Promise<void> => {
  exchange.account.model = wanted.model
  const all = chain(house, wanted)
  for (const [i, candidate] of all.entries()) {
    try {
      const embedded = await embed(house, exchange, wanted, candidate)
      if (exchange.left) return
      const { account } = exchange
      account.model = embedded.model
      account.server = house.labels.label(embedded.server)
      account.attempts = embedded.attempts.length + 1
      account.promptTokens = embedded.tokens
      exchange.headers["x-aicortex-server"] = account.server
      exchange.headers["x-aicortex-attempts"] = embedded.attempts.length + 1
      exchange.headers["x-aicortex-reason"] = house.settings.routing
      if (exchange.access !== undefined) house.keyLimits.spend(exchange.access, embedded.tokens)
      exchange.json(body({ ...embedded, model: candidate.shown(embedded.model, "ollama") }))
      return
    } catch (error) {
      const servers = error instanceof AllServersFailed || (error instanceof Error && error.name === "ModelNotFound")
      if (!servers || i + 1 >= all.length || exchange.left) throw error
    }
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
  Fields.only(body, openAINames)
  Fields.text(body, "user")
  const packed = Fields.oneOf(body, "encoding_format", ["float", "base64"]) === "base64"
  const wanted = { ...common(body), input: input(body, false), truncate: undefined }
  return answer(house, exchange, wanted, ({ model, tokens, vectors }) => ({
    object: "list",
    data: vectors.map((vector, index) => ({
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
  Fields.only(body, ollamaNames)
  const began = performance.now()
  const wanted = { ...common(body), input: input(body, true), truncate: Fields.flag(body, "truncate") }
  return answer(house, exchange, wanted, ({ model, tokens, vectors }) => ({
    model,
    embeddings: vectors,
    total_duration: Math.round((performance.now() - began) * 1e6),
    load_duration: 1,
    prompt_eval_count: tokens
  }))
}

/**
 * The older form, for one text.
 *
 * @since 0.1.0
 * @category handlers
 */
export const legacy = (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Fields.only(body, legacyNames)
  const wanted = { ...common(body), input: [Fields.needed(body, "prompt")], truncate: undefined }
  return answer(house, exchange, wanted, ({ vectors }) => ({ embedding: vectors[0] ?? [] }))
}
