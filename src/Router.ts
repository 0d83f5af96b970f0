/**
 * In which order to try the servers of a model.
 *
 * The strategies are pure functions over what the fleet knows (`router/pick`), so that the same code runs in
 * production, in property tests and in the fleet simulation; the service only gathers what they need.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { ResumeSupports } from "./backend/resumeSupport.js"
import type { Routing } from "./ChatRequest.js"
import { type ModelNotFound, NoServers } from "./Errors.js"
import { Fleet } from "./Fleet.js"
import * as Prng from "./internal/prng.js"
import { type Host, Registry } from "./Registry.js"
import { remoteness } from "./router/distance.js"
import { emptiest, pick } from "./router/pick.js"
import { waitForSlot } from "./router/pickInput.js"
import { type Route, type RouteHints, RoutePlan } from "./router/routePlan.js"
import type { Protocol, ServerInfo } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

export {
  /**
   * @since 0.1.0
   * @category accessors
   */
  distance,
  /**
   * @since 0.1.0
   * @category accessors
   */
  remoteness,
  /**
   * @since 0.1.0
   * @category accessors
   */
  resting,
  /**
   * @since 0.1.0
   * @category models
   */
  type ServerCandidate,
  /**
   * @since 0.1.0
   * @category accessors
   */
  speed
} from "./router/distance.js"
export {
  /**
   * @since 0.1.0
   * @category constructors
   */
  columnsOf,
  /**
   * @since 0.1.0
   * @category combinators
   */
  order,
  /**
   * @since 0.1.0
   * @category combinators
   */
  pick
} from "./router/pick.js"
export {
  /**
   * What `pick` gives where no server remains.
   *
   * @since 0.1.0
   * @category constants
   */
  none,
  /**
   * @since 0.1.0
   * @category models
   */
  type PickInput,
  /**
   * What `pick` gives where the request should wait.
   *
   * @since 0.1.0
   * @category constants
   */
  waitForSlot
} from "./router/pickInput.js"
export {
  /**
   * @since 0.1.0
   * @category models
   */
  type Route,
  /**
   * @since 0.1.0
   * @category models
   */
  type RouteHints,
  /**
   * @since 0.1.0
   * @category constructors
   */
  RoutePlan
} from "./router/routePlan.js"

// =============================================================================
// Service
// =============================================================================

/**
 * Which server a call tries, and in what order.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** That of a call over the servers of its model. */
  readonly plan: (hosts: ReadonlyArray<Host>, strategy: Routing, hints?: RouteHints) => Route
  /**
   * The server that a call would try first, remembered per model and strategy for `Settings.bestServerTtl`, but not
   * past a failure of that server or a benchmark. With `protocol` only those count that speak it. `model` is a name on the servers:
   * `ModelSelection.bestServer` knows aliases too.
   */
  readonly best: (
    model: string,
    strategy: Routing,
    protocol?: Protocol
  ) => Effect.Effect<ServerInfo, ModelNotFound | NoServers>
  /**
   * Forgets all three caches: which servers are bad, which are good and how fast, and which is best; and how each goes
   * on with an answer that broke.
   */
  readonly clear: Effect.Effect<void>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Router extends Context.Tag("aicortex/Router")<Router, Service>() {}

const noHints: RouteHints = {}

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const registry = yield* Registry
  const fleet = yield* Fleet
  const resumeSupport = yield* Effect.serviceOption(ResumeSupports)
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const best = new Map<string, { readonly url: string; readonly since: number; readonly until: number }>()
  const now = () => clock.unsafeCurrentTimeMillis()
  const seed = yield* Effect.flatMap(Effect.random, (random) => random.nextIntBetween(0, 0x7fffffff))
  // One random stream for all calls: a draw is cheap, and reproducible by the seed.
  const random = Prng.make(seed)
  const remotenessOf = (host: Host, roundTrip: number | undefined): number =>
    remoteness({ host, snapshot: { roundTrip } }, settings.coordinates ?? settings.location) ?? Number.NaN

  const takesTogether = ({ model, protocol, server }: Host): boolean =>
    protocol === "openai" && Option.exists(resumeSupport, ({ takesN }) => takesN(server.url, model) !== false)

  return Router.of({
    plan: (hosts, strategy, hints = noHints) =>
      new RoutePlan(fleet.pool(hosts, remotenessOf), strategy, fleet, random, now, hints, takesTogether),
    best: Effect.fnUntraced(function* (model: string, strategy: Routing, protocol?: Protocol) {
      const key = `${strategy} ${protocol ?? ""} ${model}`
      const located = Effect.flatMap(registry.locate(model), (hosts) => {
        const suitable = protocol === undefined ? hosts : hosts.filter((host) => host.protocol === protocol)
        return suitable.length > 0 || hosts.length === 0
          ? Effect.succeed(suitable)
          : new NoServers({ model, servers: hosts.map(({ server }) => server.url), available: [] })
      })
      const known = best.get(key)
      if (known !== undefined && known.until > now() && known.since > fleet.lastBenchmark()) {
        const host = (yield* located).find((host) => host.server.url === known.url)
        if (host !== undefined && fleet.snapshot(host.server.url, host.model).breaker === "closed") {
          return yield* registry.serverInfo(model, known.url)
        }
      }
      const columns = fleet.pool(yield* located, remotenessOf)
      const input = { now: now(), random, explore: false, waited: true }
      const at = pick(strategy, columns, new Uint8Array(columns.size), input)
      const host = columns.hosts[at === waitForSlot ? emptiest(columns, now()) : at]
      if (host === undefined) return yield* registry.missing(model)
      const url = host.server.url
      best.set(key, { url, since: now(), until: now() + settings.bestServerTtl })
      return yield* registry.serverInfo(model, url)
    }),
    clear: Effect.all(
      [
        fleet.clear,
        Effect.sync(() => best.clear()),
        Option.match(resumeSupport, { onNone: () => Effect.void, onSome: ({ clear }) => clear })
      ],
      { discard: true }
    )
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Router, never, Registry | Fleet | CurrentSettings> = Layer.effect(Router, make)

// =============================================================================
// accessors
// =============================================================================

/**
 * The server that a call would try first.
 *
 * @since 0.1.0
 * @category accessors
 */
export const best = (
  model: string,
  strategy: Routing = "fastest"
): Effect.Effect<ServerInfo, ModelNotFound | NoServers, Router> =>
  Effect.flatMap(Router, (router) => router.best(model, strategy))

/**
 * Forgets which servers failed, which were fast, and which was best.
 *
 * @since 0.1.0
 * @category accessors
 */
export const clear: Effect.Effect<void, never, Router> = Effect.flatMap(Router, (router) => router.clear)
