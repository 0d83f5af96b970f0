import type { IncomingHttpHeaders } from "node:http"
import { version } from "../internal/version.js"
import type { GatewayContext } from "./GatewayContext.js"
import type * as BodyFields from "./http/body.js"
import type * as FieldPolicy from "./http/fieldPolicy.js"
import type { ApiProtocol, RequestContext } from "./http/RequestContext.js"
import * as OpenApi from "./openapi/document.js"
import type { Codec } from "./pipeline/codec.js"
import { dispatch } from "./pipeline/dispatch.js"
import * as Embeddings from "./pipeline/embeddings.js"
import type { GatewayRequest } from "./pipeline/gatewayRequest.js"
import * as ModelSelection from "./pipeline/modelSelection.js"
import * as Models from "./pipeline/models.js"
import * as Sessions from "./protocols/aicortex/sessions.js"
import * as Messages from "./protocols/anthropic/handlers.js"
import * as AnthropicModels from "./protocols/anthropic/models.js"
import * as Blobs from "./protocols/ollama/blobs.js"
import * as OllamaCodec from "./protocols/ollama/codec.js"
import * as DebugRender from "./protocols/ollama/debugRender.js"
import * as Listings from "./protocols/ollama/listings.js"
import * as Manage from "./protocols/ollama/manage.js"
import * as OllamaRequest from "./protocols/ollama/request.js"
import * as Thinking from "./protocols/ollama/thinking.js"
import * as Chat from "./protocols/openai/chat.js"
import * as Completions from "./protocols/openai/completions.js"
import * as OpenAIModels from "./protocols/openai/models.js"
import * as Responses from "./protocols/openai/responses/handlers.js"

/**
 * - `rest`: the part of the path after the endpoint's prefix
 * - `body`: the fields of the body; empty if none is read
 */
export type Handler = (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  rest: string
) => Promise<void> | void

export interface Route {
  readonly handler: Handler
  readonly readsBody: boolean
  /** Needs no key. */
  readonly isPublic: boolean
  /** Needs administrator rights. */
  readonly admin: boolean
  /** Counts against the limits of its key. */
  readonly isRateLimited: boolean
  readonly name: string
}

/** The API of a path. Anthropic clients send their API version also on paths that OpenAI has. */
export const protocolOf = (path: string, headers?: IncomingHttpHeaders): ApiProtocol => {
  if (path.startsWith("/api")) return "ollama"
  if (path.startsWith("/v1/messages") || headers?.["anthropic-version"] !== undefined) return "anthropic"
  return "openai"
}

/** Every route, by path and then by method. */
export const routes = new Map<string, Map<string, Route>>()

/**
 * A path that ends in `/` is followed by a name, and one that continues after it contains `{id}`. HEAD is answered like
 * GET, without the body.
 */
const addRoute = (
  method: string,
  path: string,
  handler: Handler,
  options: {
    readonly open?: boolean
    readonly admin?: boolean
    readonly readsBody?: boolean
  } = {}
): void => {
  let known = routes.get(path)
  if (known === undefined) {
    known = new Map()
    routes.set(path, known)
  }
  known.set(method, {
    handler,
    readsBody: options.readsBody ?? method === "POST",
    isPublic: options.open ?? false,
    admin: options.admin ?? false,
    isRateLimited: options.open !== true,
    name: path
  })
}

const dispatched =
  <A extends GatewayRequest>(
    decode: (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields) => A,
    codec: (gatewayRequest: A) => Codec
  ): Handler =>
  (gateway, context, body) => {
    const started = performance.now()
    const gatewayRequest = Sessions.joined(context.decode(decode, body), context)
    const written = codec(gatewayRequest)
    context.ownTime += performance.now() - started
    return dispatch(gateway, context, gatewayRequest, written)
  }

const ollamaAsk =
  (decode: (body: BodyFields.Fields) => OllamaRequest.OllamaGatewayRequest, generates: boolean): Handler =>
  (gateway, context, body) => {
    const gatewayRequest = Sessions.joined(decode(body), context)
    context.ignore(gatewayRequest.ignored)
    context.record.model = gatewayRequest.model
    if (gatewayRequest.request.messages.length === 0) return Manage.load(gateway, context, gatewayRequest, generates)
    if (gatewayRequest.renderOnly) return DebugRender.renderOnly(gateway, context, gatewayRequest, body, generates)
    const name = gatewayRequest.model ?? ModelSelection.defaultModel(gateway)
    const codec = OllamaCodec.codec(name, generates, gatewayRequest.request)
    return gatewayRequest.request.think === false
      ? Thinking.modelsWithoutThinking(gateway, context, gatewayRequest).then((fitting) =>
          dispatch(gateway, context, fitting, codec)
        )
      : dispatch(gateway, context, gatewayRequest, codec)
  }

/** Anthropic clients look for the request id in a header without `x-`. */
const anthropic =
  (handler: Handler): Handler =>
  (gateway, context, body, rest) => {
    context.headers["request-id"] = context.id
    return handler(gateway, context, body, rest)
  }

/** Two APIs share this path. */
const byProtocol =
  (openai: Handler, other: Handler): Handler =>
  (gateway, context, body, rest) =>
    protocolOf("", context.request.headers) === "anthropic"
      ? other(gateway, context, body, rest)
      : openai(gateway, context, body, rest)

addRoute("POST", "/v1/chat/completions", dispatched(Chat.decode, Chat.codec))
addRoute("POST", "/v1/completions", dispatched(Completions.decode, Completions.codec))
addRoute("POST", "/v1/responses", Responses.create)
addRoute("POST", "/v1/responses/compact", Responses.compact)
addRoute("GET", "/v1/responses/", (gateway, context, _, id) => Responses.read(gateway, context, id))
addRoute("DELETE", "/v1/responses/", (gateway, context, _, id) => Responses.remove(gateway, context, id))
addRoute("GET", "/v1/responses/{id}/input_items", (gateway, context, _, id) =>
  Responses.inputItems(gateway, context, id)
)
addRoute("POST", "/v1/embeddings", Embeddings.openAI)
addRoute("POST", "/v1/messages", anthropic(Messages.create))
addRoute("POST", "/v1/messages/count_tokens", anthropic(Messages.countTokens))
addRoute("GET", "/v1/models", byProtocol(OpenAIModels.list, anthropic(AnthropicModels.list)))
addRoute(
  "GET",
  "/v1/models/",
  byProtocol(
    (gateway, context, _, id) => OpenAIModels.one(gateway, context, id),
    anthropic((gateway, context, _, id) => AnthropicModels.one(gateway, context, id))
  )
)
addRoute("POST", "/v1/sessions", Sessions.create, { readsBody: false })
addRoute("GET", "/v1/sessions", Sessions.list)
addRoute("GET", "/v1/sessions/", (gateway, context, _, id) => Sessions.read(gateway, context, id))
addRoute("DELETE", "/v1/sessions/", (gateway, context, _, id) => Sessions.remove(gateway, context, id))

addRoute("POST", "/api/chat", ollamaAsk(OllamaRequest.chat, false))
addRoute("POST", "/api/generate", ollamaAsk(OllamaRequest.generate, true))
addRoute("POST", "/api/embed", Embeddings.ollama)
addRoute("POST", "/api/embeddings", Embeddings.legacy)
addRoute("GET", "/api/tags", Listings.tags)
addRoute("GET", "/api/ps", Listings.ps)
addRoute("GET", "/api/version", Listings.versions)
addRoute("POST", "/api/show", Listings.show)
addRoute("POST", "/api/pull", Manage.pull, { admin: true })
addRoute("POST", "/api/copy", Manage.copy, { admin: true })
addRoute("DELETE", "/api/delete", Manage.remove, { admin: true, readsBody: true })
addRoute("POST", "/api/create", Manage.create, { admin: true })
addRoute("POST", "/api/push", Manage.push, { admin: true })
addRoute("HEAD", "/api/blobs/", (gateway, context, _, digest) => Blobs.has(gateway, context, digest), { admin: true })
addRoute("POST", "/api/blobs/", (gateway, context, _, digest) => Blobs.upload(gateway, context, digest), {
  admin: true,
  readsBody: false
})

addRoute("GET", "/models", Models.plainList)
const liveness: Handler = (_, context) => context.json({ status: "ok", version, timestamp: new Date().toISOString() })
addRoute("GET", "/health", liveness, { open: true })
addRoute("GET", "/healthz", liveness, { open: true })
addRoute(
  "GET",
  "/ready",
  async (gateway, context) => {
    const statuses = await gateway.library.run(gateway.library.registry.servers).result
    const reachable = statuses.filter((one) => one.reachable).length
    // Without any server, the built-in model answers.
    const ready = reachable > 0 || statuses.length === 0
    context.json(
      { status: ready ? "ready" : "no server answers", servers: statuses.length, reachable },
      ready ? 200 : 503
    )
  },
  { open: true }
)
const welcomePage = (gateway: GatewayContext, context: RequestContext): void =>
  context.json({
    service: "aicortex",
    version,
    default_model: ModelSelection.defaultModel(gateway),
    docs: "/docs",
    endpoints: Object.fromEntries(OpenApi.summaries.map(([method, path, about]) => [`${method} ${path}`, about]))
  })

/** Ollama clients check whether it runs; browsers and JSON clients get more information. */
const root: Handler = (gateway, context) => {
  context.headers["vary"] = context.headers["vary"] === undefined ? "accept" : `${context.headers["vary"]}, accept`
  if (/\b(application\/json|text\/html)\b/i.test(context.request.headers.accept ?? "")) welcomePage(gateway, context)
  else context.send(200, "text/plain; charset=utf-8", "Ollama is running")
}
addRoute("GET", "/", root, { open: true })
addRoute("GET", "/config", async (gateway, context) => {
  const models = await Models.available(gateway)
  const { settings } = gateway
  context.json({
    default_model: ModelSelection.defaultModel(gateway),
    host: settings.host,
    // Port 0 is any free port.
    port: context.request.socket.localPort ?? settings.port,
    available_models: models,
    model_count: models.length,
    aliases: Object.fromEntries(gateway.aliases),
    routing: gateway.routing,
    max_body: settings.maxBody,
    responses: settings.responses ?? false,
    keys: settings.keys.map(({ name }) => name)
  })
})
addRoute("GET", "/openapi.json", (_, context) => context.json(OpenApi.document), { open: true })
addRoute("GET", "/docs", (_, context) => context.send(200, "text/html; charset=utf-8", OpenApi.page), { open: true })
