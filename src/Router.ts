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
import { Abilities } from "./backend/resumeSupport.js"
import type { Routing } from "./ChatRequest.js"
import type { ModelNotFound, NoServers } from "./Errors.js"
import { Fleet } from "./Fleet.js"
import * as Prng from "./internal/prng.js"
import { type Host, Registry } from "./Registry.js"
import { remoteness } from "./router/distance.js"
import { emptiest, pick } from "./router/pick.js"
import { wait } from "./router/pickInput.js"
import { type Route, type Traveller, Way } from "./router/routePlan.js"
import type { ServerInfo } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

export {
  /**
   * @since 0.1.0
   * @category models
   */
  type Candidate,
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
   * @category accessors
   */
  speed
} from "./router/distance.js"
export {
  /**
   * @since 0.1.0
   * @category combinators
   */
  order,
  /**
   * @since 0.1.0
   * @category combinators
   */
  pick,
  /**
   * @since 0.1.0
   * @category constructors
   */
  poolOf
} from "./router/pick.js"
export {
  /**
   * @since 0.1.0
   * @category models
   */
  type Circumstances,
  /**
   * What `pick` gives where no server remains.
   *
   * @since 0.1.0
   * @category constants
   */
  none,
  /**
   * What `pick` gives where the request should wait.
   *
   * @since 0.1.0
   * @category constants
   */
  wait
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
  type Traveller,
  /**
   * @since 0.1.0
   * @category constructors
   */
  Way
} from "./router/routePlan.js"

// =============================================================================
// service
// =============================================================================

/**
 * - `way`: that of a call over the servers of its model
 * - `best`: the server that a call would try first, remembered per model and strategy for `Settings.bestServerTtl`,
 *   but not past a failure of that server
 * - `clear`: forgets all three caches: which servers are bad, which are good and how fast, and which is best; and how
 *   each goes on with an answer that broke
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly way: (hosts: ReadonlyArray<Host>, strategy: Routing, traveller?: Traveller) => Route
  readonly best: (model: string, strategy: Routing) => Effect.Effect<ServerInfo, ModelNotFound | NoServers>
  readonly clear: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Router extends Context.Tag("aicortex/Router")<Router, Service>() {}

const nobody: Traveller = {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const registry = yield* Registry
  const fleet = yield* Fleet
  const abilities = yield* Effect.serviceOption(Abilities)
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const best = new Map<string, { readonly url: string; readonly until: number }>()
  const now = () => clock.unsafeCurrentTimeMillis()
  const seed = yield* Effect.flatMap(Effect.random, (random) => random.nextIntBetween(0, 0x7fffffff))
  // One stream of chance for all calls: a draw costs nothing, and is as repeatable as the seed.
  const random = Prng.make(seed)
  const remotenessOf = (host: Host, roundTrip: number | undefined): number =>
    remoteness({ host, snapshot: { roundTrip } }, settings.coordinates ?? settings.location) ?? Number.NaN

  const takesTogether = ({ model, protocol, server }: Host): boolean =>
    protocol === "openai" && Option.exists(abilities, ({ takesN }) => takesN(server.url, model) !== false)

  return Router.of({
    way: (hosts, strategy, traveller = nobody) =>
      new Way(fleet.pool(hosts, remotenessOf), strategy, fleet, random, now, traveller, takesTogether),
    best: Effect.fnUntraced(function* (model: string, strategy: Routing) {
      const key = `${strategy} ${model}`
      const known = best.get(key)
      if (known !== undefined && known.until > now()) {
        const host = (yield* registry.locate(model)).find((host) => host.server.url === known.url)
        if (host !== undefined && fleet.snapshot(host.server.url, host.model).breaker === "closed") {
          return yield* registry.serverInfo(model, known.url)
        }
      }
      const pool = fleet.pool(yield* registry.locate(model), remotenessOf)
      const circumstances = { now: now(), random, explore: false, waited: true }
      const at = pick(strategy, pool, new Uint8Array(pool.size), circumstances)
      const host = pool.hosts[at === wait ? emptiest(pool, now()) : at]
      if (host === undefined) return yield* registry.missing(model)
      const url = host.server.url
      best.set(key, { url, until: now() + settings.bestServerTtl })
      return yield* registry.serverInfo(model, url)
    }),
    clear: Effect.all(
      [
        fleet.clear,
        Effect.sync(() => best.clear()),
        Option.match(abilities, { onNone: () => Effect.void, onSome: ({ clear }) => clear })
      ],
      { discard: true }
    )
  })
})

/**
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
