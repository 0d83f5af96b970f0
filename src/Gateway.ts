/**
 * The whole fleet behind one server that speaks OpenAI's, Anthropic's and Ollama's APIs: as a part of an application's
 * own server, or as a server of its own. For Node.
 *
 * ```ts
 * import { Cortex, Gateway } from "aicortex"
 * import { HttpRouter, HttpServer } from "@effect/platform"
 * import { NodeHttpServer } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { createServer } from "node:http"
 *
 * const server = HttpRouter.empty.pipe(
 *   HttpRouter.mountApp("/llm", Gateway.app),
 *   HttpServer.serve(),
 *   Layer.provide(Gateway.layer()),
 *   Layer.provide(Cortex.layer({ servers: ["http://gpu-1:11434"] })),
 *   Layer.provide(NodeHttpServer.layer(createServer, { port: 3000 }))
 * )
 * ```
 *
 * @since 0.1.0
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Path from "@effect/platform/Path"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type { Services } from "./Cortex.js"
import * as Cortex from "./Cortex.js"
import * as ConfigFile from "./config/file.js"
import type * as Declared from "./config/gateway.js"
import * as Settings from "./config/gatewaySettings.js"
import * as Config from "./config/resolve.js"
import * as Explained from "./config/shown.js"
import { environment } from "./cortex/environment.js"
import type { InvalidConfig, StoreUnavailable } from "./Errors.js"
import { RemoteTokenCounter, SharedRemoteTokens } from "./Fleet.js"
import { CurrentReplicaLink } from "./fleet/replicas.js"
import * as GatewayContext from "./gateway/GatewayContext.js"
import * as KeyCache from "./gateway/keys/KeyCache.js"
import * as Lifecycle from "./gateway/lifecycle.js"
import * as AccessLog from "./gateway/observability/accessLog.js"
import type { IncomingTrace } from "./gateway/observability/tracing.js"
import * as LeasedLimits from "./gateway/replicas/LeasedLimits.js"
import * as LimitTable from "./gateway/replicas/limitTable.js"
import * as ReplicaGroup from "./gateway/replicas/ReplicaGroup.js"
import * as RequestRecorder from "./gateway/requestLog/RequestRecorder.js"
import * as Router from "./gateway/router.js"
import * as StoredResponses from "./gateway/storedResponses.js"
import * as Quotas from "./gateway/usage/quotas.js"
import * as Retention from "./gateway/usage/retention.js"
import * as UsageRecorder from "./gateway/usage/UsageRecorder.js"
import * as Servers from "./Servers.js"
import * as Sessions from "./Sessions.js"
import * as Telemetry from "./Telemetry.js"

// =============================================================================
// Models
// =============================================================================

/**
 * The settings of a gateway: see `config/gateway`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Declared.GatewayOptions {}

/**
 * Who may use a gateway, and how much: see `config/gateway`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Key extends Declared.ApiKey {}

/**
 * `handle` answers a request of a `node:http` server; `url` is its path, if a prefix was removed. With the tracer that
 * was set when the gateway was made, the request is a span below its caller's (`traceparent`); `given` sets another
 * place for its spans.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Answers a request of a `node:http` server; `url` is its path, if a prefix was removed, and `given` another place
   * for its spans.
   */
  readonly handle: (request: IncomingMessage, response: ServerResponse, url?: string, given?: IncomingTrace) => void
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Gateway extends Context.Tag("aicortex/Gateway")<Gateway, Service>() {}

// =============================================================================
// in a server of one's own
// =============================================================================

/**
 * Fails with `InvalidConfig` if an option is invalid. Neither the environment nor the configuration file is read.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<Service, InvalidConfig, Services> {
  // Where it listens is up to the application.
  const settings = yield* Settings.resolve({ ...options, insecure: true })
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const log = (text: string) => {
    runFork(Effect.logError(text))
  }
  const gateway = yield* GatewayContext.make(settings, GatewayContext.makeState(log, AccessLog.toStandardError()))
  const handle = Router.make({
    gateway: () => gateway,
    enter: () => {},
    leave: () => {},
    metrics: (own) => own(),
    draining: () => false
  })
  return Gateway.of({ handle })
})

/**
 * The gateway as a layer. Fails with `InvalidConfig` where an option cannot be used.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Gateway, InvalidConfig, Services> =>
  Layer.effect(Gateway, make(options))

/**
 * The gateway as an application of `@effect/platform`, for a server of `@effect/platform-node`: mounted anywhere. Its
 * spans go below the one that the server makes of the request, with that one's tracer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const app: HttpApp.Default<never, Gateway> = Effect.flatMap(
  Effect.zip(Gateway, HttpServerRequest.HttpServerRequest),
  ([{ handle }, request]) =>
    Effect.withFiberRuntime<HttpServerResponse.HttpServerResponse>((fiber) => {
      const given = { trace: Telemetry.traceOf(fiber) }
      return Effect.async<HttpServerResponse.HttpServerResponse>((resume) => {
        const response = NodeHttpServerRequest.toServerResponse(request)
        // It has been sent by then: only the status is seen, by observers of the server.
        response.on("close", () => resume(Effect.succeed(HttpServerResponse.empty({ status: response.statusCode }))))
        handle(NodeHttpServerRequest.toIncomingMessage(request), response, request.url, given)
      })
    })
)

// =============================================================================
// a server of its own
// =============================================================================

/**
 * - `log`: receives messages for the operator; default: they are dropped
 * - `local`: manages the models of this machine, over HTTP
 * - `accessLog`, `common`, `metrics`, `patience`: see `gateway/lifecycle`; the sessions of `common` replace those that
 *   `cortex` would keep
 *
 * @since 0.1.0
 * @category models
 */
export interface ServeOptions extends Omit<Lifecycle.LifecycleOptions, "plan" | "watched"> {
  /** Overrides the environment and the configuration file. */
  readonly gateway?: Options | undefined
  /** The fleet; omitted options come from the environment and the configuration file. */
  readonly cortex?: Cortex.Options | undefined
  /** Servers that come and go, in addition to those of the fleet; default: none. */
  readonly servers?: Servers.Service | undefined
}

/**
 * Serves the fleet until the scope closes: then requests in flight may end within `drain`. A change of the
 * configuration file is applied without dropping one. Conversations survive it. A file that `configFile` or
 * `AICORTEX_CONFIG` names must exist; if it disappears later, the change is rejected. Fails with `StoreUnavailable`
 * where the settings name a store that cannot be used.
 *
 * @example
 * import { Gateway } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Effect.scoped(
 *   Effect.gen(function* () {
 *     const { url } = yield* Gateway.serve({ gateway: { port: 8000 }, cortex: { servers: ["http://gpu-1:11434"] } })
 *     yield* Effect.log(`listening on ${url}`)
 *     yield* Effect.never
 *   })
 * )
 *
 * @since 0.1.0
 * @category constructors
 */
export const serve = Effect.fnUntraced(function* (
  options: ServeOptions = {}
): Effect.fn.Return<
  Lifecycle.RunningGateway,
  InvalidConfig | StoreUnavailable,
  Scope.Scope | FileSystem.FileSystem | Path.Path
> {
  const { cortex = {}, gateway = {}, servers, ...rest } = options
  const files = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
  const alone = cortex.configFile === false
  const { named, path } =
    cortex.configFile === false ? { named: false, path: "" } : yield* ConfigFile.place(cortex.configFile)
  // What is stored survives a change of the settings, so the store is chosen once; whether it can be used is known
  // before anything is served.
  const fleet = yield* Config.settings(cortex)
  const database = options.shared?.store ?? (yield* Cortex.openStore(fleet, options.log ?? (() => {})))
  const sessions = options.shared?.sessions ?? (yield* Cortex.makeSessionStore(fleet.sessions, database))
  const store = Layer.succeed(Sessions.SessionStore, sessions)
  const storedKeys = database === undefined ? undefined : yield* KeyCache.make(database, options.log ?? (() => {}))
  // Its last counts are stored after the last request has ended.
  const usage = database === undefined ? undefined : yield* UsageRecorder.make(database, options.log ?? (() => {}))
  const requestRecorder =
    database === undefined ? undefined : yield* RequestRecorder.make(database, options.log ?? (() => {}))
  const shared: { -readonly [K in keyof GatewayContext.SharedState]?: GatewayContext.SharedState[K] } = {
    ...(database === undefined ? {} : { store: database, responses: StoredResponses.make(database) }),
    ...(storedKeys === undefined ? {} : { storedKeys }),
    ...(usage === undefined ? {} : { usage }),
    ...(requestRecorder === undefined ? {} : { requestRecorder }),
    ...options.shared
  }
  if (database !== undefined && usage !== undefined) {
    const limits =
      options.shared?.keyLimits ??
      (yield* LeasedLimits.make(LimitTable.exchangeIn(database), options.log ?? (() => {})))
    shared.keyLimits = Quotas.limiter(new Quotas.Quotas(database, usage), limits)
  }
  // So does the count of the tokens of remote servers.
  const remoteTokens = options.shared?.remoteTokens ?? new RemoteTokenCounter()
  const channel = database?.messages ?? options.shared?.channel
  const replicas =
    channel === undefined ? undefined : yield* ReplicaGroup.make(channel, remoteTokens, options.log ?? (() => {}))
  if (replicas !== undefined) shared.replicas = replicas
  const counted = Layer.merge(
    Layer.succeed(SharedRemoteTokens, remoteTokens),
    Layer.succeed(CurrentReplicaLink, replicas)
  )
  let usageRetention: number | undefined
  if (database !== undefined) yield* Retention.run(database, () => usageRetention, options.log ?? (() => {}))
  // Without the file there would be no keys: its disappearance must not open the gateway.
  let needed = named
  const read = Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const file = yield* ConfigFile.readFile(path, needed)
    needed ||= yield* Effect.orElseSucceed(fs.exists(path), () => true)
    return file
  })
  const plan = Effect.gen(function* () {
    const file = alone ? {} : yield* read
    const variable = alone ? () => undefined : environment
    const from = {
      variable,
      file: file.gateway ?? {},
      path,
      hasStoredKeys: storedKeys?.isUsed ?? false
    }
    const { places, settings } = yield* Settings.resolvePlaces(gateway, from)
    usageRetention = settings.usageRetention === false ? undefined : settings.usageRetention
    const options = needed ? { ...cortex, configFile: path } : cortex
    const resolved = yield* Config.resolve(options)
    const keys = { names: settings.keys.map(({ name }) => name), origin: places.keys?.origin ?? "default" }
    const explained = {
      file: resolved.file,
      fleet: Explained.fleetShown(resolved),
      gateway: Explained.gatewayShown(settings, places, keys)
    }
    const services = Cortex.layer(options, { store })
    const counting = Layer.provide(services, counted)
    return {
      settings,
      explained,
      services: servers === undefined ? counting : Layer.provideMerge(counting, Layer.succeed(Servers.Servers, servers))
    }
  }).pipe(Effect.provide(files))
  return yield* Lifecycle.make({ ...rest, shared, plan, ...(alone ? {} : { watched: path }) })
})
