/** A running gateway: applies new settings without dropping a stream, and drains requests when it stops. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import { defaults } from "../ChatRequest.js"
import type { Services } from "../Cortex.js"
import type { Settings } from "../config/gatewaySettings.js"
import type { InvalidConfig } from "../Errors.js"
import type { Control } from "../LocalModels.js"
import { keepAliveTimeout } from "../transport/connections.js"
import * as FileWatch from "./fileWatch.js"
import * as GatewayContext from "./GatewayContext.js"
import * as AccessLog from "./observability/accessLog.js"
import * as FleetMetrics from "./observability/fleetMetrics.js"
import * as Router from "./router.js"
import * as Server from "./server.js"

/** What a gateway is made from; read again at each change. */
export interface GatewayPlan {
  readonly settings: Settings
  readonly services: Layer.Layer<Services, InvalidConfig>
  /** Where the settings come from. */
  readonly explained?: GatewayContext.GatewayContext["explained"]
}

export interface LifecycleOptions {
  /** Reads the settings, or fails with what is wrong with them. */
  readonly plan: Effect.Effect<GatewayPlan, InvalidConfig>
  /** The file whose change triggers a reload. */
  readonly watched?: string | undefined
  /** Receives messages for the operator. */
  readonly log?: ((text: string) => void) | undefined
  /** State shared with other processes; default: none. */
  readonly shared?: Partial<GatewayContext.SharedState> | undefined
  /** Receives access log lines if the settings enable them; default: standard error. */
  readonly accessLog?: ((text: string) => void) | undefined
  /** Combines the metrics of several processes. */
  readonly metrics?: ((own: () => Promise<string>) => Promise<string>) | undefined
  /** How long clients may take; default: 20 s for headers, 120 s for a request, and `timeout` of the settings for silence. */
  readonly timeouts?: Server.ClientTimeouts | undefined
  /** Why no request can be answered yet; `undefined` once it can. Default: it can from the beginning. */
  readonly starting?: (() => string | undefined) | undefined
  /** Manages the models of this machine; default: that is not for this gateway to do. */
  readonly local?: Control | undefined
}

export interface RunningGateway {
  /** Its address. */
  readonly url: string
  /** Where it listens. */
  readonly host: string
  /** The port that it has, where 0 took a free one too. */
  readonly port: number
  /**
   * Applies the current settings; requests in flight keep the old ones. Invalid settings are not applied. Host and port
   * cannot be changed.
   */
  readonly reload: Effect.Effect<void, InvalidConfig>
  /** The `/metrics` text of this process. */
  readonly metricsText: () => Promise<string>
  /** How many requests were cut off at shutdown because they had not ended within `drain`. */
  readonly aborted: () => number
}

/** A gateway context, and how many requests still use it. */
interface Generation {
  readonly gateway: GatewayContext.GatewayContext
  readonly scope: Scope.CloseableScope
  inFlight: number
  retired: boolean
}

/** What is said of settings that are invalid. */
export const notTaken = (reason: string): string =>
  `${reason}${/[.?!]$/.test(reason) ? "" : "."} The settings stay as they were.`

const urlOf = (host: string, port: number): string => `http://${host.includes(":") ? `[${host}]` : host}:${port}`

/** Listens until the scope closes, then waits up to `drain` for requests in flight. */
export const make = Effect.fnUntraced(function* (
  options: LifecycleOptions
): Effect.fn.Return<RunningGateway, InvalidConfig, Scope.Scope> {
  const log = options.log ?? (() => {})
  const accessLog =
    options.accessLog === undefined ? AccessLog.toStandardError() : new AccessLog.AccessLog(options.accessLog)
  const state = GatewayContext.makeState(log, accessLog, options.shared, options.starting, options.local)
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const generations = new Map<GatewayContext.GatewayContext, Generation>()
  let draining = false
  let aborted = 0
  let onIdle: (() => void) | undefined

  /** A reload never opens access that required one of `keys`. */
  const withRequiredKeys = (settings: Settings, keys: Settings["keys"]): Settings => {
    if (keys.length === 0 || settings.keys.length > 0 || settings.insecure) return settings
    const names = keys.map(({ name }) => name).join(", ")
    log(`WARNING: the settings name no API key any more. Until a restart, the old keys stay in force: ${names}`)
    return { ...settings, keys }
  }

  const build = Effect.fnUntraced(function* (keys: Settings["keys"]) {
    const { explained, services, settings: planned } = yield* options.plan
    const settings = withRequiredKeys(planned, keys)
    const scope = yield* Scope.make()
    // Background fibers of the services must end with them, so they are built in an interruptible region.
    const context: Context.Context<Services> = yield* Effect.interruptible(Layer.buildWithScope(services, scope)).pipe(
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
    const gateway = yield* Effect.provide(GatewayContext.make(settings, state, explained), context)
    const generation: Generation = { gateway, scope, inFlight: 0, retired: false }
    generations.set(gateway, generation)
    return generation
  })

  const close = ({ gateway, scope }: Generation) => {
    generations.delete(gateway)
    return Scope.close(scope, Exit.void)
  }

  let current = yield* Effect.uninterruptible(build([]))

  const handle = Router.make({
    gateway: () => current.gateway,
    enter: (gateway) => {
      const generation = generations.get(gateway)
      if (generation !== undefined) generation.inFlight++
    },
    leave: (gateway) => {
      const generation = generations.get(gateway)
      if (generation !== undefined) {
        generation.inFlight--
        if (generation.retired && generation.inFlight === 0) runFork(close(generation))
      }
      if (draining && state.metrics.inFlight === 0) onIdle?.()
    },
    metrics: options.metrics ?? ((own) => own()),
    draining: () => draining
  })

  const permit = yield* Effect.makeSemaphore(1)
  const reload = Effect.uninterruptible(
    Effect.map(
      Effect.suspend(() => build(current.gateway.settings.keys)),
      (next) => {
        const before = current
        const { host, port } = before.gateway.settings
        if (next.gateway.settings.host !== host || next.gateway.settings.port !== port) {
          log("host and port stay as they were until the gateway is started again")
        }
        current = next
        before.retired = true
        Server.limitIdle(server, idleTimeout())
        // Their clients come again, to the new settings.
        state.events.disconnect()
        return before
      }
    ).pipe(Effect.flatMap((before) => (before.inFlight === 0 ? close(before) : Effect.void)))
  ).pipe(permit.withPermits(1))

  const { host, port } = current.gateway.settings
  const idleTimeout = () => options.timeouts?.idleTimeout ?? current.gateway.settings.timeout
  const server = Server.create(
    handle,
    () => current.gateway.settings.maxBody,
    () => current.gateway.settings.maxConnections,
    { ...options.timeouts, idleTimeout: idleTimeout() },
    [defaults.connectTimeout, keepAliveTimeout]
  )

  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      draining = true
      Server.stopAccepting(server)
      state.events.close()
      const { drain } = current.gateway.settings
      const { inFlight } = state.metrics
      if (inFlight > 0) {
        log(`stopping: ${inFlight === 1 ? "1 request is" : `${inFlight} requests are`} still being answered`)
      }
      yield* Effect.async<void>((resume) => {
        let lingering: ReturnType<typeof setTimeout> | undefined
        const ended = () => {
          clearTimeout(timer)
          clearTimeout(lingering)
          onIdle = undefined
          resume(Effect.void)
        }
        const timer = setTimeout(() => {
          aborted = state.metrics.inFlight
          if (aborted > 0)
            log(`cut off ${aborted} that had not ended after ${drain / 1000} s; --drain gives them longer`)
          ended()
        }, drain)
        const endIfIdle = () => {
          if (state.metrics.inFlight === 0) ended()
        }
        onIdle = () => {
          clearTimeout(lingering)
          // After a busy turn timers run before sockets are read.
          lingering = setTimeout(() => setImmediate(endIfIdle), Server.lingerTime)
        }
        server.once("close", endIfIdle)
        if (inFlight === 0) onIdle()
      })
      // Requests still in flight end with an error, then their connections are closed.
      yield* Effect.forEach([...generations.values()], close, { discard: true })
      yield* Effect.yieldNow()
      yield* Effect.async<void>((resume) => {
        setImmediate(() => {
          server.close()
          server.closeAllConnections()
          // Requests that end with their connection are recorded, too.
          setImmediate(() => resume(Effect.void))
        })
      })
      accessLog.flush()
    })
  )
  const boundPort = yield* Server.listen(server, host, port)

  const { watched } = options
  if (watched !== undefined) {
    const changed = () => {
      runFork(
        Effect.match(reload, {
          onFailure: (error) => log(notTaken(error.message)),
          onSuccess: () => log(`read ${watched} again`)
        })
      )
    }
    const lost = () => log(`${watched} can no longer be watched: send SIGHUP after a change`)
    yield* Effect.acquireRelease(
      Effect.sync(() => FileWatch.watchFile(watched, changed, lost)),
      (stop) => Effect.sync(stop)
    )
  }

  return {
    url: urlOf(host, boundPort),
    host,
    port: boundPort,
    reload,
    metricsText: () => FleetMetrics.text(current.gateway),
    aborted: () => aborted
  }
})
