/**
 * Which endpoint a request is for, who may use it, and what becomes of it when something is wrong. Knows node:http's
 * requests and responses, but no server: whoever has one hands them over.
 *
 * @since 0.1.0
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type * as Settings from "../config/gatewaySettings.js"
import type { Priority } from "../Fleet.js"
import * as Access from "./auth.js"
import type { House } from "./GatewayContext.js"
import * as Problem from "./http/errorResponse.js"
import * as Policy from "./http/fieldPolicy.js"
import { Exchange } from "./http/RequestContext.js"
import * as Figures from "./observability/fleetMetrics.js"
import * as Exposition from "./observability/prometheus.js"
import * as Tracing from "./observability/tracing.js"
import * as Rights from "./permissions.js"
import * as Conversation from "./pipeline/conversationId.js"
import * as Limits from "./rateLimits.js"
import { type Endpoint, endpoints, surfaceOf } from "./routes.js"

const label = (rest: string): string => {
  try {
    return decodeURIComponent(rest)
  } catch {
    throw new Problem.Refusal(Problem.make(400, "The path is not well-formed."))
  }
}

/** The endpoint of a path that holds a name, and the name. That of a model may hold slashes. */
const named = (path: string): readonly [endpoint: string, name: string] | undefined => {
  const [, collection, rest] = /^(\/v1\/(?:models|sessions|responses)\/|\/api\/blobs\/)(.+)$/.exec(path) ?? []
  if (collection === undefined || rest === undefined) return undefined
  const slash = collection === "/v1/responses/" ? rest.indexOf("/") : -1
  return slash === -1 ? [collection, rest] : [`${collection}{id}${rest.slice(slash)}`, rest.slice(0, slash)]
}

/** The path alone. Servers must take a whole address too; and who joins addresses by hand may double a slash. */
const pathOf = (url: string): string => {
  const target = url.startsWith("/") ? url : url.replace(/^https?:\/\/[^/?]*/i, "")
  const query = target.indexOf("?")
  let path = query === -1 ? target : target.slice(0, query)
  if (path.includes("//")) path = path.replace(/\/{2,}/g, "/")
  if (path === "") return "/"
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path
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

const cors = (house: House, exchange: Exchange, origin: string | undefined): void => {
  if (origin === undefined) return
  const { headers } = exchange
  headers["access-control-allow-origin"] = house.settings.cors.includes("*") ? "*" : origin
  headers["access-control-expose-headers"] =
    "x-request-id, request-id, x-aicortex-server, x-aicortex-attempts, x-aicortex-reason, x-aicortex-ignored, x-aicortex-warning, x-aicortex-unreachable, retry-after"
  headers["vary"] = "origin"
}

/** Browsers ask whether a page of a wider network may reach this one, under one of these names. */
const network = ({ headers, request }: Exchange): void => {
  for (const name of ["private-network", "local-network", "local-network-access"]) {
    if (request.headers[`access-control-request-${name}`] === "true") headers[`access-control-allow-${name}`] = "true"
  }
}

/** Only the owner can tell the figures of all processes. */
const metricsEndpoint: Endpoint = {
  handler: () => {},
  reads: false,
  open: false,
  admin: false,
  counts: true,
  route: "/metrics"
}
const metricsMethods: ReadonlyMap<string, Endpoint> = new Map([["GET", metricsEndpoint]])

/** A request may stand behind where its key lets it stand, but not before. */
const priorityOf = ({ request }: Exchange, access: Settings.Access | undefined): Priority => {
  const given = request.headers["x-aicortex-priority"]
  if (given !== undefined && given !== "batch" && given !== "interactive") {
    throw new Problem.Refusal(
      Problem.make(400, "X-Aicortex-Priority must be interactive or batch.", "invalid_priority", "X-Aicortex-Priority")
    )
  }
  return given === "batch" ? given : (access?.priority ?? "interactive")
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
    let known = endpoints.get(path) ?? (path === "/metrics" ? metricsMethods : undefined)
    let rest = ""
    if (known === undefined) {
      const [key = "", name = ""] = named(path) ?? []
      known = endpoints.get(key)
      if (known !== undefined) rest = label(name)
    }
    if (known === undefined) {
      throw new Problem.Refusal(
        Problem.make(404, `There is no endpoint ${path.slice(0, 200)}. See /docs.`, "unknown_url")
      )
    }
    const endpoint = known.get(method) ?? (method === "HEAD" ? known.get("GET") : undefined)
    if (endpoint === undefined) {
      const methods = [...known.keys()].flatMap((name) => (name === "GET" ? ["GET", "HEAD"] : [name]))
      exchange.headers["allow"] = [...methods, "OPTIONS"].join(", ")
      throw new Problem.Refusal(
        Problem.make(405, `${path} takes ${methods.join(", ")}, not ${method}.`, "method_not_allowed")
      )
    }
    return { endpoint, rest }
  }

  /** Whether the request goes on: a preflight is answered here. */
  const mayEnter = (house: House, exchange: Exchange): boolean => {
    const { request } = exchange
    const { host, origin } = request.headers
    if (!Access.allowsHost(house.settings, host)) {
      throw new Problem.Refusal(
        Problem.make(
          403,
          "The Host header does not name this gateway: call it by its address, or give it an API key.",
          "forbidden_host"
        )
      )
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
    if (origin !== undefined) network(exchange)
    exchange.send(204, "text/plain", "", {
      "access-control-allow-methods": "GET, HEAD, POST, DELETE, OPTIONS",
      "access-control-allow-headers":
        typeof asked === "string" && asked.length < 1000 ? asked : "authorization, content-type",
      "access-control-max-age": 600
    })
    return false
  }

  const admit = (exchange: Exchange, entered: Limits.Ticket | Problem.Problem) => {
    if (Limits.isProblem(entered)) throw new Problem.Refusal(entered)
    // The end of a request whose client left while this was asked is over already.
    if (exchange.left) entered.leave({ prompt: 0, completion: 0 })
    else exchange.ticket = entered
  }

  /** Waits only where another process has to be asked. */
  const authenticate = (house: House, exchange: Exchange, endpoint: Endpoint): Promise<void> | undefined => {
    if (endpoint.open) return undefined
    let check = authenticators.get(house)
    if (check === undefined) {
      check = Access.authenticator(house.settings.keys)
      authenticators.set(house, check)
    }
    const found = check(exchange.request)
    if (found !== undefined && "status" in found) throw new Problem.Refusal(found)
    exchange.caller = found?.name
    exchange.priority = priorityOf(exchange, found)
    exchange.admin = found === undefined ? Rights.isLocal(exchange.request) : found.admin
    if (endpoint.admin && !exchange.admin) {
      const message =
        found === undefined
          ? 'Without API keys, models can be changed from this machine only. Give the gateway a key with "admin": true.'
          : `The API key '${found.name}' may not change models: it has no "admin".`
      throw new Problem.Refusal(Problem.make(403, message, "not_admin"))
    }
    if (found === undefined) return undefined
    if (!endpoint.counts) return undefined
    const entered = house.keyLimits.enter(found)
    if (entered instanceof Promise) return entered.then((answer) => admit(exchange, answer))
    if (entered !== undefined) admit(exchange, entered)
    return undefined
  }

  const serve = async (house: House, exchange: Exchange, path: string): Promise<void> => {
    exchange.surface = surfaceOf(path, exchange.request.headers)
    try {
      if (!mayEnter(house, exchange)) return
      if (house.settings.strict) exchange.ignored = new Policy.Ignored(true)
      const { endpoint, rest } = find(exchange, path)
      exchange.route = endpoint.route
      const admitted = authenticate(house, exchange, endpoint)
      if (admitted !== undefined) {
        await admitted
        if (exchange.left) return
      }
      if (endpoint === metricsEndpoint) {
        const text = await owner.metrics(() => Figures.text(house))
        exchange.send(200, Exposition.contentType, text)
        return
      }
      if (owner.draining()) exchange.headers["connection"] = "close"
      const body = endpoint.reads ? await exchange.fields(house.settings.maxBody) : {}
      if (endpoint.reads) exchange.conversation = Conversation.nameOf(exchange.request.headers, body)
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

  return (
    request: IncomingMessage,
    response: ServerResponse,
    url = request.url ?? "/",
    given?: Tracing.Given | undefined
  ): void => {
    const house = owner.house()
    owner.enter(house)
    const { metrics } = house
    metrics.inFlight++
    const exchange = new Exchange(request, response, (exchange) => {
      metrics.inFlight--
      exchange.ticket?.leave(exchange.used())
      if (exchange.left) metrics.clientLeft()
      const status = exchange.left && exchange.status === 0 ? 499 : exchange.status
      const duration = performance.now() - exchange.began
      metrics.request(exchange.route, status, duration / 1000, exchange.own / 1000)
      house.accessLog.tell(house.settings.log, exchange, status, duration)
      if (span !== undefined) Tracing.end(exchange, span, status)
      owner.leave(house)
    })
    exchange.leaving = house.labels.leaving
    const span = Tracing.begin(house, exchange, given)
    void serve(house, exchange, pathOf(url))
  }
}
