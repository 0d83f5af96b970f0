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
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Path from "@effect/platform/Path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Services } from "./Cortex.js"
import type * as Declared from "./config/gateway.js"
import type { InvalidConfig, StoreUnavailable } from "./Errors.js"
import type * as Lifecycle from "./gateway/lifecycle.js"
import type { IncomingTrace } from "./gateway/observability/tracing.js"
import type * as Standalone from "./gateway/standalone.js"
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
export const make = (options: Options = {}): Effect.Effect<Service, InvalidConfig, Services> =>
  Effect.flatMap(
    Effect.promise(() => import("./gateway/mounted.js")),
    (mounted) => mounted.make(options)
  )

/**
 * The gateway as a layer. Fails with `InvalidConfig` where an option cannot be used.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<Gateway, InvalidConfig, Services> =>
  Layer.effect(Gateway, make(options))

/** Loads a server with WebSockets too, so only who mounts a gateway pays for it. */
const nodeRequests = Effect.promise(() => import("@effect/platform-node/NodeHttpServerRequest"))

/**
 * The gateway as an application of `@effect/platform`, for a server of `@effect/platform-node`: mounted anywhere. Its
 * spans go below the one that the server makes of the request, with that one's tracer.
 *
 * @since 0.1.0
 * @category constructors
 */
export const app: HttpApp.Default<never, Gateway> = Effect.flatMap(
  Effect.all([Gateway, HttpServerRequest.HttpServerRequest, nodeRequests]),
  ([{ handle }, request, { toIncomingMessage, toServerResponse }]) =>
    Effect.withFiberRuntime<HttpServerResponse.HttpServerResponse>((fiber) => {
      const given = { trace: Telemetry.traceOf(fiber) }
      return Effect.async<HttpServerResponse.HttpServerResponse>((resume) => {
        const response = toServerResponse(request)
        // It has been sent by then: only the status is seen, by observers of the server.
        const closed = () => resume(Effect.succeed(HttpServerResponse.empty({ status: response.statusCode })))
        // The client may be gone before the first import is done.
        if (response.closed) return closed()
        response.on("close", closed)
        handle(toIncomingMessage(request), response, request.url, given)
      })
    })
)

// =============================================================================
// a server of its own
// =============================================================================

/**
 * The settings and the parts of a gateway with a server of its own: see `gateway/standalone`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServeOptions extends Standalone.ServeOptions {}

/**
 * A gateway that is running.
 *
 * @since 0.1.0
 * @category models
 */
export interface RunningGateway extends Lifecycle.RunningGateway {}

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
export const serve = (
  options: ServeOptions = {}
): Effect.Effect<RunningGateway, InvalidConfig | StoreUnavailable, Scope.Scope | FileSystem.FileSystem | Path.Path> =>
  Effect.flatMap(
    Effect.promise(() => import("./gateway/standalone.js")),
    (standalone) => standalone.serve(options)
  )
