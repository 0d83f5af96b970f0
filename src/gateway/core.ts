/**
 * Which endpoint a request is for, who may use it, and what becomes of it when something is wrong. Knows node:http's
 * requests and responses, but no server: whoever has one hands them over.
 *
 * @since 0.1.0
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { version } from "../internal/version.js"
import * as Access from "./access.js"
import type { Ask } from "./ask.js"
import type { Codec } from "./codec.js"
import * as Embeddings from "./embeddings.js"
import { Exchange, type Surface } from "./exchange.js"
import type * as Fields from "./fields.js"
import type { ServerGauge } from "./metrics.js"
import * as Admin from "./ollama/admin.js"
import * as OllamaRequest from "./ollama/request.js"
import * as Chat from "./openai/chat.js"
import * as Completions from "./openai/completions.js"
import * as Models from "./openai/models.js"
import * as Responses from "./openai/responses.js"
import * as OpenApi from "./openapi.js"
import * as Problem from "./problem.js"
import { type House, relay } from "./relay.js"
import * as Sessions from "./sessions.js"

// =============================================================================
// endpoints
// =============================================================================

/**
 * - `rest`: what stands after the path, where it goes on
 * - `body`: the fields of the body, empty where none is read
 */
type Handler = (house: House, exchange: Exchange, body: Fields.Fields, rest: string) => Promise<void> | void

/**
 * - `open`: needs no key
 * - `admin`: changes servers
 * - `counts`: is held to the limits of its key
 */
interface Endpoint {
  readonly handler: Handler
  readonly reads: boolean
  readonly open: boolean
  readonly admin: boolean
  readonly counts: boolean
  readonly surface: Surface
  readonly route: string
}

const endpoints = new Map<string, Map<string, Endpoint>>()

/** A path that ends in `/` goes on: what stands after it is a name. */
const at = (
  methods: string,
  path: string,
  handler: Handler,
  options: {
    readonly open?: boolean
    readonly admin?: boolean
    readonly counts?: boolean
    readonly reads?: boolean
  } = {}
): void => {
  for (const method of methods.split(" ")) {
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
      counts: options.counts ?? false,
      surface: path.startsWith("/api") ? "ollama" : "openai",
      route: path
    })
  }
}

const answered =
  <A extends Ask>(decode: (body: Fields.Fields) => A, codec: (ask: A) => Codec): Handler =>
  (house, exchange, body) => {
    const started = performance.now()
    const ask = withHeaders(decode(body), exchange)
    const written = codec(ask)
    exchange.own += performance.now() - started
    return relay(house, exchange, ask, written)
  }

/** A session may be named in a header too: not every client can add a field. */
const withHeaders = <A extends Ask>(ask: A, { request }: Exchange): A => {
  const session = request.headers["x-aicortex-session"]
  return typeof session === "string" && ask.session === undefined ? { ...ask, session } : ask
}

const ollamaAsk =
  (decode: (body: Fields.Fields) => Ask, generates: boolean): Handler =>
  (house, exchange, body) => {
    const ask = withHeaders(decode(body), exchange)
    if (ask.request.messages.length === 0) return Admin.load(house, exchange, ask, generates)
    const name = ask.model ?? Models.defaultModel(house)
    return relay(house, exchange, ask, OllamaRequest.codec(name, generates))
  }

const counted = { counts: true }
at("POST", "/v1/chat/completions", answered(Chat.decode, Chat.codec), counted)
at("POST", "/v1/completions", answered(Completions.decode, Completions.codec), counted)
at("POST", "/v1/responses", answered(Responses.decode, Responses.codec), counted)
at("POST", "/v1/embeddings", Embeddings.openAI, counted)
at("GET HEAD", "/v1/models", Models.list)
at("GET HEAD", "/v1/models/", (house, exchange, _, id) => Models.one(house, exchange, id))
at("POST", "/v1/sessions", Sessions.create, { reads: false })
at("GET", "/v1/sessions/", (house, exchange, _, id) => Sessions.read(house, exchange, id))
at("DELETE", "/v1/sessions/", (house, exchange, _, id) => Sessions.remove(house, exchange, id))

at("POST", "/api/chat", ollamaAsk(OllamaRequest.chat, false), counted)
at("POST", "/api/generate", ollamaAsk(OllamaRequest.generate, true), counted)
at("POST", "/api/embed", Embeddings.ollama, counted)
at("POST", "/api/embeddings", Embeddings.legacy, counted)
at("GET HEAD", "/api/tags", Admin.tags)
at("GET HEAD", "/api/ps", Admin.ps)
at("GET HEAD", "/api/version", Admin.versions)
at("POST", "/api/show", Admin.show)
at("POST", "/api/pull", Admin.pull, { admin: true })
at("POST", "/api/copy", Admin.copy, { admin: true })
at("DELETE", "/api/delete", Admin.remove, { admin: true, reads: true })
for (const path of ["/api/push", "/api/create"]) {
  at("POST", path, () => {
    throw new Problem.Refusal(Problem.make(501, `${path} belongs to one server: ask that one itself.`))
  })
}

at("GET HEAD", "/models", Models.plain)
const alive: Handler = (_, exchange) => exchange.json({ status: "ok", version, timestamp: new Date().toISOString() })
at("GET HEAD", "/health", alive, { open: true })
at("GET HEAD", "/healthz", alive, { open: true })
at(
  "GET HEAD",
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
at(
  "GET HEAD",
  "/",
  (house, exchange) =>
    exchange.json({
      service: "aicortex",
      version,
      default_model: Models.defaultModel(house),
      docs: "/docs",
      endpoints: Object.fromEntries(OpenApi.summaries.map(([method, path, about]) => [`${method} ${path}`, about]))
    }),
  { open: true }
)
at("GET", "/config", async (house, exchange) => {
  const models = await Models.available(house)
  const { settings } = house
  exchange.json({
    default_model: Models.defaultModel(house),
    host: settings.host,
    port: settings.port,
    available_models: models,
    model_count: models.length,
    aliases: Object.fromEntries(settings.aliases),
    routing: settings.routing,
    max_body: settings.maxBody,
    keys: settings.keys.map(({ name }) => name)
  })
})
at("GET", "/openapi.json", (_, exchange) => exchange.json(OpenApi.document), { open: true })
at("GET", "/docs", (_, exchange) => exchange.send(200, "text/html; charset=utf-8", OpenApi.page), { open: true })

// =============================================================================
// requests
// =============================================================================

const label = (rest: string): string => {
  try {
    return decodeURIComponent(rest)
  } catch {
    throw new Problem.Refusal(Problem.make(400, "The path is not well-formed."))
  }
}

/**
 * A gateway's own state, over changes of its settings.
 *
 * - `house`: what requests are answered with from now on
 * - `enter`, `leave`: told of each request, with the house that it is answered by
 * - `metrics`: the text of `/metrics`
 *
 * @since 0.1.0
 * @category models
 */
export interface Owner {
  readonly house: () => House
  readonly enter: (house: House) => void
  readonly leave: (house: House) => void
  readonly metrics: (own: () => Promise<string>) => Promise<string>
  readonly draining: () => boolean
}

/**
 * What `/metrics` tells of this process.
 *
 * @since 0.1.0
 * @category accessors
 */
export const metricsText = async (house: House): Promise<string> => {
  const { labels, library, metrics } = house
  const statuses = await library.run(library.registry.servers).result
  return metrics.text(
    statuses.map(({ models, reachable, url }): ServerGauge => {
      const inFlight = models.reduce((sum, model) => sum + library.fleet.snapshot(url, model).inFlight, 0)
      return { server: labels.label(url), up: reachable, inFlight, models: models.length }
    })
  )
}

const cors = (house: House, exchange: Exchange, origin: string | undefined): void => {
  if (origin === undefined) return
  const { headers } = exchange
  headers["access-control-allow-origin"] = house.settings.cors.includes("*") ? "*" : origin
  headers["access-control-expose-headers"] =
    "x-request-id, x-aicortex-server, x-aicortex-attempts, x-aicortex-reason, retry-after"
  headers["vary"] = "origin"
}

/**
 * What answers requests.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (owner: Owner) => {
  const authenticators = new WeakMap<House, ReturnType<typeof Access.authenticator>>()

  const find = (exchange: Exchange, path: string): { readonly endpoint: Endpoint; readonly rest: string } => {
    const { method = "GET" } = exchange.request
    if (path.startsWith("/api")) exchange.surface = "ollama"
    let known = endpoints.get(path)
    let rest = ""
    if (known === undefined && (path.startsWith("/v1/models/") || path.startsWith("/v1/sessions/"))) {
      const slash = path.indexOf("/", 4) + 1
      known = endpoints.get(path.slice(0, slash))
      rest = label(path.slice(slash))
    }
    if (known === undefined) {
      throw new Problem.Refusal(
        Problem.make(404, `There is no endpoint ${path.slice(0, 200)}. See /docs.`, "unknown_url")
      )
    }
    const endpoint = known.get(method)
    if (endpoint === undefined) {
      exchange.headers["allow"] = [...known.keys(), "OPTIONS"].join(", ")
      throw new Problem.Refusal(
        Problem.make(405, `${path} takes ${[...known.keys()].join(", ")}, not ${method}.`, "method_not_allowed")
      )
    }
    return { endpoint, rest }
  }

  /** Whether the request goes on: a preflight is answered here. */
  const mayEnter = (house: House, exchange: Exchange): boolean => {
    const { request } = exchange
    const { host, origin } = request.headers
    if (!Access.allowsHost(house.settings, host)) {
      throw new Problem.Refusal(Problem.make(403, "The Host header does not name this gateway.", "forbidden_host"))
    }
    if (origin !== undefined) {
      if (!Access.allowsOrigin(house.settings, origin, host)) {
        throw new Problem.Refusal(
          Problem.make(
            403,
            "Web pages of this origin may not use this gateway: allow them with --cors.",
            "forbidden_origin"
          )
        )
      }
      cors(house, exchange, origin)
    }
    if (request.method !== "OPTIONS") return true
    exchange.route = "OPTIONS"
    const asked = request.headers["access-control-request-headers"]
    exchange.send(204, "text/plain", "", {
      "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
      "access-control-allow-headers":
        typeof asked === "string" && asked.length < 1000 ? asked : "authorization, content-type",
      "access-control-max-age": 600
    })
    return false
  }

  const authenticate = (house: House, exchange: Exchange, endpoint: Endpoint): void => {
    if (endpoint.open) return
    let check = authenticators.get(house)
    if (check === undefined) {
      check = Access.authenticator(house.settings.keys)
      authenticators.set(house, check)
    }
    const found = check(exchange.request)
    if (found === undefined) return
    if ("status" in found) throw new Problem.Refusal(found)
    if (endpoint.admin && !found.admin) {
      throw new Problem.Refusal(Problem.make(403, `The API key '${found.name}' may not change models.`, "not_admin"))
    }
    if (!endpoint.counts) return
    const problem = house.keyLimits.enter(found)
    if (problem !== undefined) throw new Problem.Refusal(problem)
    exchange.access = found
  }

  const serve = async (house: House, exchange: Exchange, path: string): Promise<void> => {
    try {
      if (!mayEnter(house, exchange)) return
      if (path === "/metrics" && exchange.request.method === "GET") {
        exchange.route = "/metrics"
        authenticate(house, exchange, metricsEndpoint)
        const text = await owner.metrics(() => metricsText(house))
        exchange.send(200, "text/plain; version=0.0.4; charset=utf-8", text)
        return
      }
      const { endpoint, rest } = find(exchange, path)
      exchange.surface = endpoint.surface
      exchange.route = endpoint.route
      authenticate(house, exchange, endpoint)
      if (owner.draining()) exchange.headers["connection"] = "close"
      const body = endpoint.reads ? await exchange.fields(house.settings.maxBody) : {}
      await endpoint.handler(house, exchange, body, rest)
    } catch (error) {
      if (exchange.left) return
      const problem = Problem.of(error, house.labels)
      if (problem.code === "internal_error") {
        house.log(`${exchange.id}: ${error instanceof Error ? error.stack : String(error)}`)
      }
      if (exchange.headSent) exchange.response.destroy()
      else exchange.problem(problem)
    }
  }

  return (request: IncomingMessage, response: ServerResponse, url = request.url ?? "/"): void => {
    const house = owner.house()
    owner.enter(house)
    const { metrics } = house
    metrics.inFlight++
    const exchange = new Exchange(request, response, (exchange) => {
      metrics.inFlight--
      if (exchange.access !== undefined) house.keyLimits.leave(exchange.access)
      if (exchange.left) metrics.clientLeft()
      metrics.request(exchange.route, exchange.left && exchange.status === 0 ? 499 : exchange.status)
      metrics.duration.observe((performance.now() - exchange.began) / 1000)
      metrics.overhead.observe(exchange.own / 1000)
      owner.leave(house)
    })
    const query = url.indexOf("?")
    const path = query === -1 ? url : url.slice(0, query)
    void serve(house, exchange, path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path)
  }
}

const metricsEndpoint: Endpoint = {
  handler: () => {},
  reads: false,
  open: false,
  admin: false,
  counts: false,
  surface: "openai",
  route: "/metrics"
}
