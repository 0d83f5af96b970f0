/**
 * Finds the route of a request, authenticates it, and sends errors. It takes node:http requests and responses from any
 * server.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Priority } from "../Fleet.js"
import * as Auth from "./auth.js"
import { type GatewayContext, needsKey } from "./GatewayContext.js"
import * as ErrorResponse from "./http/errorResponse.js"
import * as FieldPolicy from "./http/fieldPolicy.js"
import { RequestContext } from "./http/RequestContext.js"
import { Transcript } from "./http/transcript.js"
import type { Caller } from "./keys/keyPolicy.js"
import * as FleetMetrics from "./observability/fleetMetrics.js"
import * as Prometheus from "./observability/prometheus.js"
import * as Tracing from "./observability/tracing.js"
import * as Permissions from "./permissions.js"
import * as ConversationId from "./pipeline/conversationId.js"
import * as RateLimits from "./rateLimits.js"
import { metricsRoute, protocolOf, type Route, routes } from "./routes.js"
import * as EndUser from "./usage/endUser.js"

const decodeName = (rest: string): string => {
  try {
    return decodeURIComponent(rest)
  } catch {
    throw new ErrorResponse.RequestRejected(ErrorResponse.make(400, "The path is not well-formed."))
  }
}

/** Collections whose members have parts: their names hold no slash. */
const withParts = new Set(["/v1/responses/", "/v1/sessions/", "/keys/"])

/** Splits a path that contains a name. Model names may contain slashes. */
const splitNamedPath = (path: string): readonly [endpoint: string, name: string] | undefined => {
  const task = /^(\/v1\/models\/pull\/)(task-[\w-]+)$/.exec(path)
  if (task !== null) return [task[1] ?? "", task[2] ?? ""]
  const [, collection, rest] =
    /^(\/v1\/(?:models|sessions|responses)\/|\/api\/blobs\/|\/requests\/|\/servers\/|\/dashboard\/|\/keys\/)(.+)$/.exec(
      path
    ) ?? []
  if (collection === undefined || rest === undefined || path === "/v1/sessions/search") return undefined
  const slash = withParts.has(collection) ? rest.indexOf("/") : -1
  return slash === -1 ? [collection, rest] : [`${collection}{id}${rest.slice(slash)}`, rest.slice(0, slash)]
}

/**
 * The path without the query. A server must also accept an absolute URL as the request target; doubled slashes are
 * collapsed.
 */
const pathOf = (url: string): string => {
  const target = url.startsWith("/") ? url : url.replace(/^https?:\/\/[^/?]*/i, "")
  const query = target.indexOf("?")
  let path = query === -1 ? target : target.slice(0, query)
  if (path.includes("//")) path = path.replace(/\/{2,}/g, "/")
  if (path === "") return "/"
  return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path
}

/**
 * The parts of a gateway that survive a change of settings.
 *
 * - `enter`, `leave`: called for each request with the context that answers it
 */
export interface GatewayHandle {
  /** The context of new requests. */
  readonly gateway: () => GatewayContext
  readonly enter: (gateway: GatewayContext) => void
  readonly leave: (gateway: GatewayContext) => void
  /** The text of `/metrics`. */
  readonly metrics: (own: () => Promise<string>) => Promise<string>
  readonly draining: () => boolean
}

const cors = (gateway: GatewayContext, context: RequestContext, origin: string | undefined): void => {
  if (origin === undefined) return
  const { headers } = context
  headers["access-control-allow-origin"] = gateway.settings.cors.includes("*") ? "*" : origin
  headers["access-control-expose-headers"] =
    "x-request-id, request-id, x-aicortex-server, x-aicortex-attempts, x-aicortex-reason, x-aicortex-session, x-aicortex-ignored, x-aicortex-warning, x-aicortex-unreachable, retry-after"
  headers["vary"] = "origin"
}

/** Private Network Access: browsers ask for permission under one of these names. */
const allowPrivateNetwork = ({ headers, request }: RequestContext): void => {
  for (const name of ["private-network", "local-network", "local-network-access"]) {
    if (request.headers[`access-control-request-${name}`] === "true") headers[`access-control-allow-${name}`] = "true"
  }
}

/** A request may lower the priority of its key, but not raise it. */
const priorityOf = ({ request }: RequestContext, access: Caller | undefined): Priority => {
  const header = request.headers["x-aicortex-priority"]
  if (header !== undefined && header !== "batch" && header !== "interactive") {
    throw new ErrorResponse.RequestRejected(
      ErrorResponse.make(
        400,
        "X-Aicortex-Priority must be interactive or batch.",
        "invalid_priority",
        "X-Aicortex-Priority"
      )
    )
  }
  return header === "batch" ? header : (access?.priority ?? "interactive")
}

/** A request may be private where its key is not, but not the other way round. */
const isPrivate = ({ request }: RequestContext, access: Caller | undefined): boolean => {
  const header = request.headers["x-aicortex-private"]
  if (header !== undefined && header !== "true" && header !== "false") {
    throw new ErrorResponse.RequestRejected(
      ErrorResponse.make(400, "X-Aicortex-Private must be true or false.", "invalid_private", "X-Aicortex-Private")
    )
  }
  return header === "true" || access?.private === true
}

/** Makes the request listener. */
export const make = (handle: GatewayHandle) => {
  const authenticators = new WeakMap<GatewayContext, ReturnType<typeof Auth.authenticator>>()

  const findRoute = (context: RequestContext, path: string): { readonly endpoint: Route; readonly rest: string } => {
    const { method = "GET" } = context.request
    let known = routes.get(path)
    let rest = ""
    if (known === undefined) {
      const [key = "", name = ""] = splitNamedPath(path) ?? []
      known = routes.get(key)
      if (known !== undefined) rest = decodeName(name)
    }
    if (known === undefined) {
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(404, `There is no endpoint ${path.slice(0, 200)}. See /docs.`, "unknown_url")
      )
    }
    const endpoint = known.get(method) ?? (method === "HEAD" ? known.get("GET") : undefined)
    if (endpoint === undefined) {
      const methods = [...known.keys()].flatMap((name) => (name === "GET" ? ["GET", "HEAD"] : [name]))
      context.headers["allow"] = [...methods, "OPTIONS"].join(", ")
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(405, `${path} takes ${methods.join(", ")}, not ${method}.`, "method_not_allowed")
      )
    }
    return { endpoint, rest }
  }

  /** Whether the request continues: a preflight is answered here. */
  const passesOriginChecks = (gateway: GatewayContext, context: RequestContext): boolean => {
    const { request } = context
    const { host, origin } = request.headers
    if (!Auth.allowsHost(gateway.settings, needsKey(gateway), host)) {
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(
          403,
          "The Host header does not name this gateway: call it by its address, or give it an API key.",
          "forbidden_host"
        )
      )
    }
    if (origin !== undefined) {
      if (!Auth.allowsOrigin(gateway.settings, origin, host)) {
        throw new ErrorResponse.RequestRejected(
          ErrorResponse.make(
            403,
            "Web pages of this origin may not use this gateway: allow them with --cors.",
            "forbidden_origin"
          )
        )
      }
      cors(gateway, context, origin)
    }
    if (request.method !== "OPTIONS") return true
    context.route = "OPTIONS"
    const requestedHeaders = request.headers["access-control-request-headers"]
    if (origin !== undefined) allowPrivateNetwork(context)
    context.send(204, "text/plain", "", {
      "access-control-allow-methods": "GET, HEAD, POST, PATCH, DELETE, OPTIONS",
      "access-control-allow-headers":
        typeof requestedHeaders === "string" && requestedHeaders.length < 1000
          ? requestedHeaders
          : "authorization, content-type",
      "access-control-max-age": 600
    })
    return false
  }

  const acceptTicket = (context: RequestContext, ticket: RateLimits.RateTicket | ErrorResponse.ErrorResponse) => {
    if (RateLimits.isRejection(ticket)) throw new ErrorResponse.RequestRejected(ticket)
    // The client disconnected meanwhile, and the end of the request has already been handled.
    if (context.disconnected) ticket.release({ prompt: 0, completion: 0 })
    else context.rateTicket = ticket
  }

  /** What a caller may do, and a place within its limits. */
  const admit = (
    gateway: GatewayContext,
    context: RequestContext,
    endpoint: Route,
    found: Auth.Authenticated
  ): Promise<void> | undefined => {
    if (found !== undefined && "status" in found) throw new ErrorResponse.RequestRejected(found)
    context.caller = found?.name
    context.identity = found === undefined ? undefined : RateLimits.identityOf(found)
    context.models = found?.models
    context.priority = priorityOf(context, found)
    context.private = isPrivate(context, found)
    context.privateByHeader = context.private && found?.private !== true
    context.admin = found === undefined ? Permissions.isLocal(context.request) : found.admin
    context.manages = found === undefined ? context.admin : found.manages
    if (endpoint.admin && !(endpoint.managesModels === true ? context.manages : context.admin)) {
      throw new ErrorResponse.RequestRejected(Permissions.notAllowed(found?.name, endpoint.managesModels === true))
    }
    if (found === undefined) return undefined
    if (!endpoint.isRateLimited) return undefined
    const ticket = gateway.keyLimits.acquire(found)
    if (ticket instanceof Promise) return ticket.then((answer) => acceptTicket(context, answer))
    if (ticket !== undefined) acceptTicket(context, ticket)
    return undefined
  }

  /** Asynchronous only if another process, or the store, must be asked. */
  const authenticate = (
    gateway: GatewayContext,
    context: RequestContext,
    endpoint: Route
  ): Promise<void> | undefined => {
    if (endpoint.isPublic) return undefined
    let check = authenticators.get(gateway)
    if (check === undefined) {
      check = Auth.authenticator(gateway.settings.keys, gateway.storedKeys, gateway.pageSessions)
      authenticators.set(gateway, check)
    }
    const found = check(context.request)
    return found instanceof Promise
      ? found.then((caller) => (context.disconnected ? undefined : admit(gateway, context, endpoint, caller)))
      : admit(gateway, context, endpoint, found)
  }

  const serve = async (gateway: GatewayContext, context: RequestContext, path: string): Promise<void> => {
    context.protocol = protocolOf(path, context.request.headers)
    try {
      if (!passesOriginChecks(gateway, context)) return
      if (gateway.settings.strict) context.ignored = new FieldPolicy.IgnoredFields(true)
      const { endpoint, rest } = findRoute(context, path)
      context.route = endpoint.name
      if (endpoint.isAnswer === true || endpoint.namesServer === true) {
        context.asksModel = true
        gateway.requests.enter(context, gateway.labels)
      }
      const admitted = authenticate(gateway, context, endpoint)
      if (admitted !== undefined) {
        await admitted
        if (context.disconnected) return
      }
      if (endpoint === metricsRoute) {
        const text = await handle.metrics(() => FleetMetrics.text(gateway))
        context.send(200, Prometheus.contentType, text)
        return
      }
      if (handle.draining()) context.headers["connection"] = "close"
      const body = endpoint.readsBody ? await context.fields(gateway.settings.maxBody, endpoint.body?.name) : {}
      if (endpoint.readsBody) context.conversation = ConversationId.conversationIdOf(context.request.headers, body)
      if (context.asksModel && gateway.usage !== undefined) {
        context.endUser = EndUser.endUserOf(context.request.headers, body)
      }
      if (context.asksModel && gateway.settings.requestLog === "bodies" && gateway.requestRecorder !== undefined) {
        context.transcript = new Transcript(body)
      }
      await endpoint.handler(gateway, context, body, rest)
    } catch (error) {
      if (context.disconnected) return
      const errorResponse = ErrorResponse.fromError(error, gateway.labels)
      if (errorResponse.code === "internal_error") {
        gateway.log(`${context.id}: ${error instanceof Error ? error.stack : String(error)}`)
      }
      if (context.headersSent) context.response.destroy()
      else context.sendError(errorResponse)
    }
  }

  return (
    request: IncomingMessage,
    response: ServerResponse,
    url = request.url ?? "/",
    embedding?: Tracing.IncomingTrace | undefined
  ): void => {
    const gateway = handle.gateway()
    handle.enter(gateway)
    const { metrics } = gateway
    metrics.inFlight++
    const context = new RequestContext(request, response, (context) => {
      metrics.inFlight--
      context.rateTicket?.release(context.usage())
      if (context.disconnected) metrics.clientDisconnected()
      const status = context.disconnected && context.status === 0 ? 499 : context.status
      const duration = performance.now() - context.began
      metrics.request(context.route, status, duration / 1000, context.ownTime / 1000)
      gateway.accessLog.record(gateway.settings.log, context, status, duration)
      gateway.requests.leave(context, status, duration)
      // A rejected request has no usage.
      if (context.asksModel && status !== 401) {
        gateway.usage?.record(context, status)
        gateway.requestRecorder?.record(gateway.settings, context, status, duration)
      }
      if (span !== undefined) Tracing.end(context, span, status)
      handle.leave(gateway)
    })
    context.redactMessage = gateway.labels.redactMessage
    const span = Tracing.begin(gateway, context, embedding)
    void serve(gateway, context, pathOf(url))
  }
}
