import type { IncomingHttpHeaders } from "node:http"
import { version } from "../internal/version.js"
import type { House } from "./GatewayContext.js"
import type * as Fields from "./http/body.js"
import type * as Policy from "./http/fieldPolicy.js"
import type { Exchange, Surface } from "./http/RequestContext.js"
import * as OpenApi from "./openapi/document.js"
import type { Codec } from "./pipeline/codec.js"
import { relay } from "./pipeline/dispatch.js"
import * as Embeddings from "./pipeline/embeddings.js"
import type { Ask } from "./pipeline/gatewayRequest.js"
import * as Selection from "./pipeline/modelSelection.js"
import * as Models from "./pipeline/models.js"
import * as Sessions from "./protocols/aicortex/sessions.js"
import * as Messages from "./protocols/anthropic/handlers.js"
import * as AnthropicModels from "./protocols/anthropic/models.js"
import * as Blobs from "./protocols/ollama/blobs.js"
import * as OllamaAnswer from "./protocols/ollama/codec.js"
import * as Render from "./protocols/ollama/debugRender.js"
import * as Lists from "./protocols/ollama/listings.js"
import * as Changes from "./protocols/ollama/manage.js"
import * as OllamaRequest from "./protocols/ollama/request.js"
import * as Thinking from "./protocols/ollama/thinking.js"
import * as Chat from "./protocols/openai/chat.js"
import * as Completions from "./protocols/openai/completions.js"
import * as OpenAIModels from "./protocols/openai/models.js"
import * as Responses from "./protocols/openai/responses/handlers.js"

/**
 * - `rest`: what stands after the path, where it goes on
 * - `body`: the fields of the body, empty where none is read
 *
 * @since 0.1.0
 * @category models
 */
export type Handler = (house: House, exchange: Exchange, body: Fields.Fields, rest: string) => Promise<void> | void

/**
 * - `open`: needs no key
 * - `admin`: changes servers
 * - `counts`: is held to the limits of its key: all that need one
 *
 * @since 0.1.0
 * @category models
 */
export interface Endpoint {
  readonly handler: Handler
  readonly reads: boolean
  readonly open: boolean
  readonly admin: boolean
  readonly counts: boolean
  readonly route: string
}

/**
 * Whose words an answer at this path is told in. Clients of Anthropic's say which version of the API they speak, also
 * where it has paths of OpenAI's.
 *
 * @since 0.1.0
 * @category accessors
 */
export const surfaceOf = (path: string, headers?: IncomingHttpHeaders): Surface => {
  if (path.startsWith("/api")) return "ollama"
  if (path.startsWith("/v1/messages") || headers?.["anthropic-version"] !== undefined) return "anthropic"
  return "openai"
}

/**
 * Every endpoint, by its path and then by its method.
 *
 * @since 0.1.0
 * @category constants
 */
export const endpoints = new Map<string, Map<string, Endpoint>>()

/**
 * A path that ends in `/` goes on with a name, and one that goes on after the name has `{id}` there. HEAD is answered as
 * GET is, without the body.
 */
const at = (
  method: string,
  path: string,
  handler: Handler,
  options: {
    readonly open?: boolean
    readonly admin?: boolean
    readonly reads?: boolean
  } = {}
): void => {
  let known = endpoints.get(path)
  if (known === undefined) {
    known = new Map()
    endpoints.set(path, known)
  }
  known.set(method, {
    handler,
    reads: options.reads ?? method === "POST",
    open: options.open ?? false,
    admin: options.admin ?? false,
    counts: options.open !== true,
    route: path
  })
}

const answered =
  <A extends Ask>(decode: (body: Fields.Fields, ignored: Policy.Ignored) => A, codec: (ask: A) => Codec): Handler =>
  (house, exchange, body) => {
    const started = performance.now()
    const ask = Sessions.joined(exchange.decoded(decode, body), exchange)
    const written = codec(ask)
    exchange.own += performance.now() - started
    return relay(house, exchange, ask, written)
  }

const ollamaAsk =
  (decode: (body: Fields.Fields) => OllamaRequest.OllamaAsk, generates: boolean): Handler =>
  (house, exchange, body) => {
    const ask = Sessions.joined(decode(body), exchange)
    exchange.ignore(ask.ignored)
    exchange.account.model = ask.model
    if (ask.request.messages.length === 0) return Changes.load(house, exchange, ask, generates)
    if (ask.rendersOnly) return Render.only(house, exchange, ask, body, generates)
    const name = ask.model ?? Selection.defaultModel(house)
    const codec = OllamaAnswer.codec(name, generates, ask.request)
    return ask.request.think === false
      ? Thinking.without(house, exchange, ask).then((fitting) => relay(house, exchange, fitting, codec))
      : relay(house, exchange, ask, codec)
  }

/** Clients of Anthropic's look for the request's name in a header without `x-`. */
const anthropic =
  (handler: Handler): Handler =>
  (house, exchange, body, rest) => {
    exchange.headers["request-id"] = exchange.id
    return handler(house, exchange, body, rest)
  }

/** Two APIs have this path. */
const either =
  (openai: Handler, other: Handler): Handler =>
  (house, exchange, body, rest) =>
    surfaceOf("", exchange.request.headers) === "anthropic"
      ? other(house, exchange, body, rest)
      : openai(house, exchange, body, rest)

at("POST", "/v1/chat/completions", answered(Chat.decode, Chat.codec))
at("POST", "/v1/completions", answered(Completions.decode, Completions.codec))
at("POST", "/v1/responses", Responses.create)
at("POST", "/v1/responses/compact", Responses.compact)
at("GET", "/v1/responses/", (house, exchange, _, id) => Responses.read(house, exchange, id))
at("DELETE", "/v1/responses/", (house, exchange, _, id) => Responses.remove(house, exchange, id))
at("GET", "/v1/responses/{id}/input_items", (house, exchange, _, id) => Responses.inputItems(house, exchange, id))
at("POST", "/v1/embeddings", Embeddings.openAI)
at("POST", "/v1/messages", anthropic(Messages.create))
at("POST", "/v1/messages/count_tokens", anthropic(Messages.countTokens))
at("GET", "/v1/models", either(OpenAIModels.list, anthropic(AnthropicModels.list)))
at(
  "GET",
  "/v1/models/",
  either(
    (house, exchange, _, id) => OpenAIModels.one(house, exchange, id),
    anthropic((house, exchange, _, id) => AnthropicModels.one(house, exchange, id))
  )
)
at("POST", "/v1/sessions", Sessions.create, { reads: false })
at("GET", "/v1/sessions", Sessions.list)
at("GET", "/v1/sessions/", (house, exchange, _, id) => Sessions.read(house, exchange, id))
at("DELETE", "/v1/sessions/", (house, exchange, _, id) => Sessions.remove(house, exchange, id))

at("POST", "/api/chat", ollamaAsk(OllamaRequest.chat, false))
at("POST", "/api/generate", ollamaAsk(OllamaRequest.generate, true))
at("POST", "/api/embed", Embeddings.ollama)
at("POST", "/api/embeddings", Embeddings.legacy)
at("GET", "/api/tags", Lists.tags)
at("GET", "/api/ps", Lists.ps)
at("GET", "/api/version", Lists.versions)
at("POST", "/api/show", Lists.show)
at("POST", "/api/pull", Changes.pull, { admin: true })
at("POST", "/api/copy", Changes.copy, { admin: true })
at("DELETE", "/api/delete", Changes.remove, { admin: true, reads: true })
at("POST", "/api/create", Changes.create, { admin: true })
at("POST", "/api/push", Changes.push, { admin: true })
at("HEAD", "/api/blobs/", (house, exchange, _, digest) => Blobs.has(house, exchange, digest), { admin: true })
at("POST", "/api/blobs/", (house, exchange, _, digest) => Blobs.upload(house, exchange, digest), {
  admin: true,
  reads: false
})

at("GET", "/models", Models.plain)
const alive: Handler = (_, exchange) => exchange.json({ status: "ok", version, timestamp: new Date().toISOString() })
at("GET", "/health", alive, { open: true })
at("GET", "/healthz", alive, { open: true })
at(
  "GET",
  "/ready",
  async (house, exchange) => {
    const statuses = await house.library.run(house.library.registry.servers).result
    const reachable = statuses.filter((one) => one.reachable).length
    // With no server at all, the built-in model is what there is.
    const ready = reachable > 0 || statuses.length === 0
    exchange.json(
      { status: ready ? "ready" : "no server answers", servers: statuses.length, reachable },
      ready ? 200 : 503
    )
  },
  { open: true }
)
const welcome = (house: House, exchange: Exchange): void =>
  exchange.json({
    service: "aicortex",
    version,
    default_model: Selection.defaultModel(house),
    docs: "/docs",
    endpoints: Object.fromEntries(OpenApi.summaries.map(([method, path, about]) => [`${method} ${path}`, about]))
  })

/** Clients of Ollama's ask whether it runs; browsers, and programs that ask for JSON, get to know more. */
const root: Handler = (house, exchange) => {
  exchange.headers["vary"] = exchange.headers["vary"] === undefined ? "accept" : `${exchange.headers["vary"]}, accept`
  if (/\b(application\/json|text\/html)\b/i.test(exchange.request.headers.accept ?? "")) welcome(house, exchange)
  else exchange.send(200, "text/plain; charset=utf-8", "Ollama is running")
}
at("GET", "/", root, { open: true })
at("GET", "/config", async (house, exchange) => {
  const models = await Models.available(house)
  const { settings } = house
  exchange.json({
    default_model: Selection.defaultModel(house),
    host: settings.host,
    // Port 0 is any that is free.
    port: exchange.request.socket.localPort ?? settings.port,
    available_models: models,
    model_count: models.length,
    aliases: Object.fromEntries(house.aliases),
    routing: house.routing,
    max_body: settings.maxBody,
    responses: settings.responses ?? false,
    keys: settings.keys.map(({ name }) => name)
  })
})
at("GET", "/openapi.json", (_, exchange) => exchange.json(OpenApi.document), { open: true })
at("GET", "/docs", (_, exchange) => exchange.send(200, "text/html; charset=utf-8", OpenApi.page), { open: true })
