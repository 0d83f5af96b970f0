/** The routes of the gateway itself: what it is, how it is, and what happens in it. */
import { version } from "../internal/version.js"
import * as Dashboard from "./dashboard/files.js"
import * as Login from "./dashboard/login.js"
import * as Watching from "./events/handlers.js"
import { onlyOf } from "./events/requestLog.js"
import * as EventStream from "./events/stream.js"
import type { GatewayContext } from "./GatewayContext.js"
import type { RequestContext } from "./http/RequestContext.js"
import * as OpenApi from "./openapi/document.js"
import * as ModelSelection from "./pipeline/modelSelection.js"
import * as Models from "./pipeline/models.js"
import * as Benchmarks from "./protocols/aicortex/benchmarks.js"
import * as Keys from "./protocols/aicortex/keys.js"
import * as RequestLog from "./protocols/aicortex/requestLog.js"
import * as Settings from "./protocols/aicortex/settings.js"
import * as Usage from "./protocols/aicortex/usage.js"
import { addRoute, type Handler, routes } from "./routeTable.js"

const liveness: Handler = ({ starting }, context) => {
  const reason = starting()
  const timestamp = new Date().toISOString()
  if (reason === undefined) context.json({ status: "ok", version, timestamp })
  else context.json({ status: "starting", reason, version, timestamp }, 503)
}
const ready: Handler = async (gateway, context) => {
  if (gateway.starting() !== undefined) return liveness(gateway, context, {}, "")
  const statuses = await gateway.library.run(gateway.library.registry.servers).result
  const reachable = statuses.filter((one) => one.reachable).length
  // Without any server, the built-in model answers.
  const isReady = reachable > 0 || statuses.length === 0
  const { replicas, storedKeys } = gateway
  // Without its store a gateway goes on with the keys that it knows.
  const isAway = storedKeys?.available === false || replicas?.available === false
  const store = storedKeys === undefined ? {} : { store: isAway ? "unavailable" : "ok", replicas: replicas?.size }
  context.json(
    { status: isReady ? "ready" : "no server answers", servers: statuses.length, reachable, ...store },
    isReady ? 200 : 503
  )
}

const welcomePage = (gateway: GatewayContext, context: RequestContext): void =>
  context.json({
    service: "aicortex",
    version,
    default_model: ModelSelection.defaultModel(gateway),
    docs: "/docs",
    endpoints: OpenApi.summaries(routes)
  })

/** Ollama clients check whether it runs; browsers and JSON clients get more information. */
const root: Handler = (gateway, context) => {
  context.headers["vary"] = context.headers["vary"] === undefined ? "accept" : `${context.headers["vary"]}, accept`
  const accept = context.request.headers.accept ?? ""
  if (/\btext\/html\b/i.test(accept) && Dashboard.isBuilt()) Dashboard.page(context)
  else if (/\b(application\/json|text\/html)\b/i.test(accept)) welcomePage(gateway, context)
  else context.send(200, "text/plain; charset=utf-8", "Ollama is running")
}
const config: Handler = async (gateway, context) => {
  const models = await Models.available(gateway)
  const { settings } = gateway
  const only = onlyOf(context)
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
    // A key that may only use models sees no other key's name.
    keys: settings.keys.map(({ name }) => name).filter((name) => only === undefined || name === only)
  })
}

addRoute("GET", "/", "What this is, and its endpoints; for browsers, the page", root, { isPublic: true })
addRoute(
  "GET",
  "/dashboard/",
  "A file of the page",
  (gateway, context, _, id) => Dashboard.asset(gateway, context, id),
  { isPublic: true, returns: "text/javascript" }
)
addRoute("GET", "/session", "Whether the page is signed in", Login.session, { isPublic: true })
addRoute("POST", "/login", "Signs the page in with an API key", Login.login, { isPublic: true, body: Login.loginBody })
addRoute("POST", "/logout", "Signs the page out", Login.logout, { isPublic: true })
addRoute("GET", "/models", "The names of the models", Models.plainList)
addRoute("GET", "/health", "Whether the gateway is alive", liveness, { isPublic: true })
addRoute("GET", "/healthz", "The same", liveness, { isPublic: true })
addRoute("GET", "/ready", "Whether a server answers", ready, { isPublic: true })
addRoute("GET", "/config", "The settings, without secrets", config)
addRoute("GET", "/fleet", "The state of the fleet: servers, models, queues", Watching.fleet, { holdsNoPlace: true })
addRoute("GET", "/servers", "The state of each server", Watching.servers, { holdsNoPlace: true })
addRoute(
  "POST",
  "/servers/",
  "Lets a server rest, drains it, or wakes it",
  (gateway, context, body, id) => Watching.act(gateway, context, body, id),
  { admin: true, body: Watching.actionBody, example: { action: "rest", seconds: 60 } }
)
addRoute("GET", "/requests", "The requests to models under way, and the latest that ended", Watching.requests, {
  holdsNoPlace: true
})
addRoute("GET", "/requests/log", "Requests to models that have ended, from the store", RequestLog.read, {
  parameters: [
    OpenApi.query("id", "One of them, with its bodies where they are logged."),
    OpenApi.query("limit", "How many at most, from 1 to 1,000. Default: 100."),
    OpenApi.query("since", "From this time on, such as 2026-01-31T12:00:00Z. Default: all."),
    OpenApi.query("before", "Before this time: for the next page.")
  ],
  admin: true
})
addRoute(
  "DELETE",
  "/requests/",
  "Breaks off a request",
  (gateway, context, _, id) => Watching.cancel(gateway, context, id),
  { admin: true }
)
addRoute(
  "GET",
  "/events",
  "What happens, as server-sent events: the fleet, requests, downloads and models",
  EventStream.events,
  {
    returns: "text/event-stream",
    holdsNoPlace: true,
    parameters: [
      OpenApi.query("types", "fleet, request, download and model, separated by commas. Default: all of them."),
      OpenApi.header("Last-Event-ID", "The events after this one; an event gap tells where some are missing.")
    ]
  }
)
/** The router answers it: it has the metrics of all processes. */
export const metricsRoute = addRoute("GET", "/metrics", "Metrics for Prometheus", () => undefined, {
  returns: "text/plain"
})
const admins = { admin: true } as const
addRoute("POST", "/keys", "Creates an API key, and tells it once", Keys.create, {
  body: Keys.createBody,
  creates: true,
  ...admins
})
addRoute("GET", "/keys", "The API keys of the store", Keys.list, {
  parameters: [OpenApi.query("all", "true: those that are revoked too. Default: false.")],
  ...admins
})
addRoute(
  "GET",
  "/keys/",
  "An API key, by its id or name",
  (gateway, context, _, id) => Keys.show(gateway, context, id),
  admins
)
addRoute(
  "DELETE",
  "/keys/",
  "Revokes an API key",
  (gateway, context, _, id) => Keys.revoke(gateway, context, id),
  admins
)
addRoute("POST", "/keys/{id}/rotate", "Gives an API key another text, and tells it once", Keys.rotate, {
  body: Keys.rotateBody,
  ...admins
})
addRoute("GET", "/usage", "What requests have used, by key, end user, model, server and hour", Usage.read, {
  parameters: [
    OpenApi.query("by", "Some of key, user, model, server, hour and day, separated by commas. Default: key,model."),
    OpenApi.query("since", "A time, such as 2026-01-31T12:00:00Z. Default: a week ago."),
    OpenApi.query("format", "json or csv. Default: as Accept says, else json.")
  ]
})
addRoute("GET", "/benchmarks", "How fast the servers were when `aicortex bench` measured them", Benchmarks.list, {
  parameters: [
    OpenApi.query("model", "Only of this model."),
    OpenApi.query("server", "Only of this server, as GET /servers names it."),
    OpenApi.query("limit", "Maximum number, from 1 to 2,000. Default: 200, the latest.")
  ]
})
addRoute("GET", "/settings", "The settings that hold and where each comes from, without secrets", Settings.read, admins)
addRoute("GET", "/openapi.json", "This description", (_, context) => context.json(document()), { isPublic: true })
addRoute(
  "GET",
  "/docs",
  "This documentation as a web page",
  (_, context) => context.send(200, "text/html; charset=utf-8", OpenApi.page(routes)),
  { isPublic: true, returns: "text/html" }
)

let made: OpenApi.Document | undefined

/** The OpenAPI document of all routes. */
export const document = (): OpenApi.Document => {
  made ??= OpenApi.make(routes)
  return made
}
