/**
 * In which order to try the servers of a model.
 *
 * The strategies are pure functions over a snapshot, so that the same code runs in production and in property
 * tests; the service only gathers what they need.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Abilities } from "./backend/abilities.js"
import type { Routing } from "./ChatRequest.js"
import type { ModelNotFound, NoServers } from "./Errors.js"
import { Fleet, maxBelievableSpeed, type Snapshot } from "./Fleet.js"
import { Pool } from "./fleet/pool.js"
import * as Prng from "./internal/prng.js"
import { type Host, Registry } from "./Registry.js"
import type { Location, ServerInfo } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

// =============================================================================
// models
// =============================================================================

/**
 * A server that may serve a request, and what is known of it at one moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface Candidate {
  readonly host: Host
  readonly snapshot: Snapshot
}

/**
 * What a pick depends on besides what is known of the servers: the time (milliseconds since the epoch), chance (a
 * number from 0 up to, but not including, 1), the index of the server that served the same session last, and whether
 * `fastest` may try a server whose speed is not known (default: it does).
 *
 * @since 0.1.0
 * @category models
 */
export interface Circumstances {
  readonly now: number
  readonly random: () => number
  readonly affinity?: number | undefined
  readonly explore?: boolean | undefined
}

// =============================================================================
// measures
// =============================================================================

/**
 * Tokens per second: what we measured ourselves, else the registry's figure.
 *
 * @since 0.1.0
 * @category accessors
 */
export const speed = (candidate: Candidate): number | undefined => {
  const value = candidate.snapshot.tokensPerSecond ?? candidate.host.performance?.tokens_per_second
  return value === undefined || !(value > 0) ? undefined : Math.min(value, maxBelievableSpeed)
}

const radians = (degrees: number): number => (degrees * Math.PI) / 180

/**
 * The great-circle distance between two places, in kilometres; `undefined` where one of them has no coordinates.
 *
 * @since 0.1.0
 * @category accessors
 */
export const distance = (a: Location | undefined, b: Location | undefined): number | undefined => {
  if (a?.latitude === undefined || a.longitude === undefined) return undefined
  if (b?.latitude === undefined || b.longitude === undefined) return undefined
  const dLat = radians(b.latitude - a.latitude)
  const dLon = radians(b.longitude - a.longitude)
  const h =
    Math.sin(dLat / 2) ** 2 + Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * Math.sin(dLon / 2) ** 2
  return 2 * 6371 * Math.asin(Math.min(1, Math.sqrt(h)))
}

/** Light in a fibre goes there and back over 100 km in a millisecond. */
const kilometresPerMillisecond = 100

/**
 * How far away a server is, as a round trip in milliseconds: from its distance where both places are known, else as
 * measured, else `undefined`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remoteness = (
  candidate: { readonly host: Host; readonly snapshot: Pick<Snapshot, "roundTrip"> },
  location: Location | undefined
): number | undefined => {
  const kilometres = distance(location, candidate.host.server.location)
  return kilometres === undefined ? candidate.snapshot.roundTrip : kilometres / kilometresPerMillisecond
}

// =============================================================================
// strategies
// =============================================================================

/** No place is free now: the request should wait for one. */
export const wait = -1

/** There is no server left. */
export const none = -2

/**
 * Whether a server should be left alone while there are others: it rests after a failure, or its one probe is under
 * way.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resting = ({ snapshot }: Candidate): boolean =>
  snapshot.breaker === "open" || (snapshot.breaker === "half-open" && snapshot.probing)

/** The same, of an entry of a pool. */
const restingAt = (pool: Pool, i: number, now: number): boolean => {
  const until = pool.restsUntil[i] ?? 0
  return until !== 0 && (until > now || pool.probing[i] === 1)
}

/**
 * How soon a server can begin: 0 where the model is in memory, 1 where it is being loaded, 2 where it must be loaded
 * first, or nothing is known.
 */
const readiness = (pool: Pool, i: number, now: number): number =>
  (pool.residentUntil[i] ?? 0) > now ? 0 : (pool.loading[i] ?? 0) > 0 ? 1 : 2

/** What a rank is made of: tiers of priority, then certainty, then readiness. */
const uncertain = 4
const tier = 8

let scratch = new Int32Array(256)

/** The scores of a strategy: lower is tried first. */
type Score = (i: number) => number

const balanced = (pool: Pool, chosen: Int32Array, count: number): Score => {
  let fastest = 0
  let farthest = 0
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    fastest = Math.max(fastest, pool.speed[i] || 0)
    farthest = Math.max(farthest, pool.remoteness[i] || 0)
  }
  return (i) => {
    const far = pool.remoteness[i] ?? Number.NaN
    const fast = fastest === 0 ? 0 : (pool.speed[i] || 0) / fastest
    const near = Number.isNaN(far) ? 0 : farthest === 0 ? 1 : 1 - far / farthest
    return -(0.6 * fast + 0.4 * near)
  }
}

/** A server that has not shown its speed counts as faster than the others, so that it is tried, and shows it. */
const fastest = (pool: Pool, explore: boolean): Score => {
  let best = 0
  if (explore) for (let i = 0; i < pool.size; i++) best = Math.max(best, pool.speed[i] || 0)
  return (i) => -(pool.speed[i] || (explore ? best + 1 : 0))
}

/** The lowest score; of equals the one that can begin soonest, then the fewest requests in flight, then chance. */
const lowest = (
  pool: Pool,
  chosen: Int32Array,
  count: number,
  score: Score,
  random: () => number,
  now: number
): number => {
  let best = chosen[0] ?? 0
  let bestScore = score(best)
  let equals = 1
  for (let k = 1; k < count; k++) {
    const i = chosen[k] ?? 0
    const value = score(i)
    const order =
      value - bestScore ||
      readiness(pool, i, now) - readiness(pool, best, now) ||
      (pool.inFlight[i] ?? 0) - (pool.inFlight[best] ?? 0)
    if (order > 0) continue
    if (order === 0) {
      equals++
      if (random() * equals >= 1) continue
    } else equals = 1
    best = i
    bestScore = value
  }
  return best
}

/**
 * One of them by weight. Servers that have shown their speed weigh up to four times more, or less, than the average
 * of those.
 */
const byWeight = (pool: Pool, chosen: Int32Array, count: number, random: () => number): number => {
  let sum = 0
  let known = 0
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    const speed = pool.proven[i] === 1 ? (pool.speed[i] ?? Number.NaN) : Number.NaN
    if (speed > 0) {
      sum += speed
      known++
    }
  }
  const mean = sum / known
  const weigh = (i: number): number => {
    const speed = pool.proven[i] === 1 ? (pool.speed[i] ?? Number.NaN) : Number.NaN
    return (pool.weight[i] ?? 1) * (speed > 0 ? Math.min(4, Math.max(0.25, speed / mean)) : 1)
  }
  let total = 0
  for (let k = 0; k < count; k++) total += weigh(chosen[k] ?? 0)
  let left = random() * total
  for (let k = 0; k < count - 1; k++) {
    left -= weigh(chosen[k] ?? 0)
    if (left < 0) return chosen[k] ?? 0
  }
  return chosen[count - 1] ?? 0
}

/** What a server that has not answered yet is taken to need to its first token, in milliseconds. */
const unknownFirstToken = 1_000

/** Power of two choices over how long a request may have to wait: first-token time × (requests in flight + 1). */
const leastBusy = (pool: Pool, chosen: Int32Array, count: number, random: () => number): number => {
  const cost = (i: number): number =>
    ((pool.firstToken[i] || unknownFirstToken) * ((pool.inFlight[i] ?? 0) + 1)) / (pool.weight[i] ?? 1)
  const at = Math.floor(random() * count)
  const a = chosen[at] ?? 0
  if (count === 1) return a
  const other = Math.floor(random() * (count - 1))
  const b = chosen[other < at ? other : other + 1] ?? 0
  return cost(b) < cost(a) ? b : a
}

const choose = (
  strategy: Routing,
  pool: Pool,
  chosen: Int32Array,
  count: number,
  random: () => number,
  now: number,
  explore: boolean
): number => {
  if (count === 1) return chosen[0] ?? 0
  switch (strategy) {
    case "random":
      return byWeight(pool, chosen, count, random)
    case "fastest":
      return lowest(pool, chosen, count, fastest(pool, explore), random, now)
    case "nearest":
      return lowest(
        pool,
        chosen,
        count,
        (i) => (Number.isNaN(pool.remoteness[i]) ? Number.MAX_VALUE : (pool.remoteness[i] ?? 0)),
        random,
        now
      )
    case "balanced":
      return lowest(pool, chosen, count, balanced(pool, chosen, count), random, now)
    case "least-busy":
    case "warm":
      return leastBusy(pool, chosen, count, random)
  }
}

/** A server may have this much more than the average of its equals before a session leaves it. */
const affinityBound = 1.25

/**
 * The next server to try, as its index in the pool; `wait` where all that remain are full; `none` where none remains.
 *
 * Servers that rest come last, the one that has rested longest first. Before them the lower `priority`; then servers
 * that are certain to have the model; then, with `least-busy` and `warm`, those that hold it in memory, before those
 * that are loading it, before those that must load it; then the strategy decides. A session's last server (`affinity`) goes before its equals as
 * long as it is not much busier than they are.
 *
 * Where every server that holds the model is full, `least-busy` waits for one of them unless a load elsewhere would be
 * sooner, and `warm` waits in any case.
 *
 * @since 0.1.0
 * @category combinators
 */
export const pick = (strategy: Routing, pool: Pool, tried: Uint8Array, circumstances: Circumstances): number => {
  const { affinity, now, random } = circumstances
  const loads = strategy === "least-busy" || strategy === "warm"
  const { size } = pool
  if (scratch.length < size) scratch = new Int32Array(size * 2)
  const chosen = scratch
  let count = 0
  let best = Number.POSITIVE_INFINITY
  let full = 0
  let bestFull = Number.POSITIVE_INFINITY
  let rested = none
  let restedUntil = Number.POSITIVE_INFINITY
  let restedRank = Number.POSITIVE_INFINITY
  for (let i = 0; i < size; i++) {
    if (tried[i] === 1) continue
    const rank =
      (pool.priority[i] ?? 0) * tier + (pool.certain[i] === 1 ? 0 : uncertain) + (loads ? readiness(pool, i, now) : 0)
    if (pool.restsUntil[i] !== 0 && restingAt(pool, i, now)) {
      const until = pool.restsUntil[i] ?? 0
      if (until < restedUntil || (until === restedUntil && rank < restedRank)) {
        restedUntil = until
        restedRank = rank
        rested = i
      }
      continue
    }
    if ((pool.free[i] ?? 0) <= 0) {
      full++
      if (rank < bestFull) bestFull = rank
      continue
    }
    if (rank > best) continue
    if (rank < best) {
      best = rank
      count = 0
    }
    chosen[count++] = i
  }
  if (count === 0) return full > 0 ? wait : rested
  if (bestFull < best && Math.floor(bestFull / uncertain) === Math.floor(best / uncertain)) {
    const expected = ((pool.queued + 1) * pool.serviceTime) / full
    if (strategy === "warm" || expected < pool.loadTime) return wait
  }
  if (affinity !== undefined && affinity < size && tried[affinity] !== 1) {
    let load = 0
    let among = false
    for (let k = 0; k < count; k++) {
      const i = chosen[k] ?? 0
      load += pool.inFlight[i] ?? 0
      if (i === affinity) among = true
    }
    if (among && (pool.inFlight[affinity] ?? 0) <= affinityBound * (load / count + 1)) return affinity
  }
  return choose(strategy, pool, chosen, count, random, now, circumstances.explore !== false)
}

/**
 * The candidates in the order in which `pick` would try them if none were full: always all of them.
 *
 * @since 0.1.0
 * @category combinators
 */
export const order = (
  strategy: Routing,
  candidates: ReadonlyArray<Candidate>,
  circumstances: Omit<Circumstances, "now"> & { readonly location: Location | undefined; readonly now?: number }
): ReadonlyArray<Candidate> => {
  const now = circumstances.now ?? 0
  const pool = poolOf(candidates, circumstances.location, now)
  pool.free.fill(Number.POSITIVE_INFINITY)
  const tried = new Uint8Array(pool.size)
  const ordered: Array<Candidate> = []
  for (;;) {
    const at = pick(strategy, pool, tried, { ...circumstances, now })
    const candidate = candidates[at]
    if (candidate === undefined) return ordered
    tried[at] = 1
    ordered.push(candidate)
  }
}

/** The server with the fewest requests, of those that do not rest. */
const emptiest = (pool: Pool, now: number): number => {
  let best = none
  for (let i = 0; i < pool.size; i++) {
    if (restingAt(pool, i, now)) continue
    if (best === none || (pool.inFlight[i] ?? 0) < (pool.inFlight[best] ?? 0)) best = i
  }
  return best
}

/**
 * The columns of candidates that are described one by one, as tests and simulations do.
 *
 * @since 0.1.0
 * @category constructors
 */
export const poolOf = (candidates: ReadonlyArray<Candidate>, location: Location | undefined, now: number): Pool => {
  const pool = new Pool(candidates.map((candidate) => candidate.host))
  candidates.forEach((candidate, i) => {
    const { host, snapshot } = candidate
    pool.remoteness[i] = remoteness(candidate, location) ?? Number.NaN
    pool.speed[i] = speed(candidate) ?? Number.NaN
    pool.proven[i] = snapshot.proven ? 1 : 0
    pool.inFlight[i] = snapshot.inFlight
    pool.free[i] = (host.server.maxInFlight ?? Number.POSITIVE_INFINITY) - snapshot.inFlight
    pool.restsUntil[i] =
      snapshot.breaker === "closed"
        ? 0
        : snapshot.breaker === "open"
          ? Math.max(snapshot.restsUntil, now + 1)
          : Math.min(snapshot.restsUntil, now) || -1
    pool.probing[i] = snapshot.probing ? 1 : 0
    pool.firstToken[i] = snapshot.firstTokenTime ?? Number.NaN
    pool.residentUntil[i] = snapshot.residentUntil ?? 0
  })
  return pool
}

// =============================================================================
// service
// =============================================================================

/**
 * One call's way over the servers of its model: which it has tried, and which comes next.
 *
 * @since 0.1.0
 * @category models
 */
export interface Route {
  readonly pool: Pool
  readonly tried: Uint8Array
  /** The index of the next server, `wait`, or `none`. It counts as tried from now on. */
  readonly next: () => number
  /** Begins anew with every server that is able; `first` goes before its equals. */
  readonly restart: (first?: number) => void
  /** How many servers there are that can serve the request at all. */
  readonly able: () => number
  /** Leaves a server out for good. */
  readonly exclude: (at: number) => void
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const makeRoute = (
  pool: Pool,
  strategy: Routing,
  random: () => number,
  now: () => number,
  affinity: number | undefined
): Route => {
  const tried = new Uint8Array(pool.size)
  let excluded: Array<number> | undefined
  let preferred = affinity
  return {
    pool,
    tried,
    next: () => {
      const at =
        pool.size === 1
          ? only(pool, tried, now())
          : pick(strategy, pool, tried, { now: now(), random, affinity: preferred })
      if (at >= 0) tried[at] = 1
      return at
    },
    restart: (first) => {
      tried.fill(0)
      if (excluded !== undefined) for (const at of excluded) tried[at] = 1
      preferred = first ?? affinity
    },
    able: () => pool.size - (excluded?.length ?? 0),
    exclude: (at) => {
      excluded ??= []
      excluded.push(at)
      tried[at] = 1
    }
  }
}

const only = (pool: Pool, tried: Uint8Array, now: number): number =>
  tried[0] === 1 ? none : (pool.free[0] ?? 0) <= 0 && !restingAt(pool, 0, now) ? wait : 0

/**
 * - `route`: the way of a call over the servers of a model; `last` is the address of the server that served the same
 *   session last
 * - `best`: the server that a call would try first, remembered per model and strategy for `Settings.bestServerTtl`,
 *   but not past a failure of that server
 * - `clear`: forgets all three caches: which servers are bad, which are good and how fast, and which is best; and how
 *   each goes on with an answer that broke
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly route: (model: string, strategy: Routing, last?: string) => Effect.Effect<Route, ModelNotFound | NoServers>
  readonly best: (model: string, strategy: Routing) => Effect.Effect<ServerInfo, ModelNotFound | NoServers>
  readonly clear: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Router extends Context.Tag("aicortex/Router")<Router, Service>() {}

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
    remoteness({ host, snapshot: { roundTrip } }, settings.location) ?? Number.NaN

  const route = (model: string, strategy: Routing, last?: string) =>
    Effect.map(registry.locate(model), (hosts) => {
      const pool = fleet.pool(hosts, remotenessOf)
      const affinity = last === undefined ? -1 : hosts.findIndex((host) => host.server.url === last)
      return makeRoute(pool, strategy, random, now, affinity === -1 ? undefined : affinity)
    })

  return Router.of({
    route,
    best: Effect.fnUntraced(function* (model: string, strategy: Routing) {
      const key = `${strategy} ${model}`
      const known = best.get(key)
      if (known !== undefined && known.until > now()) {
        const host = (yield* registry.locate(model)).find((host) => host.server.url === known.url)
        if (host !== undefined && fleet.snapshot(host.server.url, host.model).breaker === "closed") {
          return yield* registry.serverInfo(model, known.url)
        }
      }
      const { pool } = yield* route(model, strategy)
      const at = pick(strategy, pool, new Uint8Array(pool.size), { now: now(), random, explore: false })
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
