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
import * as Prng from "./internal/prng.js"
import { type Host, Registry } from "./Registry.js"
import type { Location, ServerInfo } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

// =============================================================================
// models
// =============================================================================

/**
 * A server that may serve a request, and what is known of it at this moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface Candidate {
  readonly host: Host
  readonly snapshot: Snapshot
}

/**
 * What an order depends on besides the candidates: where the user is, and chance (`random` gives a number from 0
 * up to, but not including, 1).
 *
 * @since 0.1.0
 * @category models
 */
export interface Circumstances {
  readonly location: Location | undefined
  readonly random: () => number
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
export const remoteness = (candidate: Candidate, location: Location | undefined): number | undefined => {
  const kilometres = distance(location, candidate.host.server.location)
  return kilometres === undefined ? candidate.snapshot.roundTrip : kilometres / kilometresPerMillisecond
}

// =============================================================================
// strategies
// =============================================================================

/** What is tried earlier has the lower score. */
type Score = (candidate: Candidate) => number

const max = (values: ReadonlyArray<number | undefined>): number => {
  let result = 0
  for (const value of values) if (value !== undefined && value > result) result = value
  return result
}

/**
 * A weighted shuffle: a server of weight 2 comes first twice as often as one of weight 1. Servers that have shown
 * their speed weigh up to four times more, or less, than the average of those.
 */
const randomScore = (candidates: ReadonlyArray<Candidate>, { random }: Circumstances): Score => {
  let sum = 0
  let known = 0
  for (const { snapshot } of candidates) {
    if (snapshot.proven && snapshot.tokensPerSecond !== undefined) {
      sum += snapshot.tokensPerSecond
      known++
    }
  }
  const mean = sum / known
  return ({ host, snapshot }) => {
    const relative =
      snapshot.proven && snapshot.tokensPerSecond !== undefined && mean > 0 ? snapshot.tokensPerSecond / mean : 1
    const weight = host.server.weight * Math.min(4, Math.max(0.25, relative))
    return -Math.log(1 - random()) / weight
  }
}

/** A server that has not shown its speed counts as the fastest of the others, so that it is tried, and shows it. */
const fastestScore = (candidates: ReadonlyArray<Candidate>): Score => {
  const fastest = max(candidates.map(speed))
  return (candidate) => -(speed(candidate) ?? fastest)
}

const nearestScore =
  ({ location }: Circumstances): Score =>
  (candidate) =>
    remoteness(candidate, location) ?? Number.POSITIVE_INFINITY

/** 60 % speed and 40 % proximity, each as a share of the best and the farthest. What is unknown counts as worst. */
const balancedScore = (candidates: ReadonlyArray<Candidate>, { location }: Circumstances): Score => {
  const fastest = max(candidates.map(speed))
  const farthest = max(candidates.map((candidate) => remoteness(candidate, location)))
  return (candidate) => {
    const far = remoteness(candidate, location)
    const fast = fastest === 0 ? 0 : (speed(candidate) ?? 0) / fastest
    const near = far === undefined ? 0 : farthest === 0 ? 1 : 1 - far / farthest
    return -(0.6 * fast + 0.4 * near)
  }
}

const score = (strategy: Routing, candidates: ReadonlyArray<Candidate>, circumstances: Circumstances): Score => {
  switch (strategy) {
    case "random":
      return randomScore(candidates, circumstances)
    case "fastest":
      return fastestScore(candidates)
    case "nearest":
      return nearestScore(circumstances)
    case "balanced":
      return balancedScore(candidates, circumstances)
  }
}

/**
 * Whether a server should be left alone while there are others: it rests after a failure, its one probe is under
 * way, or it has as many requests as it may have.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resting = ({ host, snapshot }: Candidate): boolean =>
  snapshot.breaker === "open" ||
  (snapshot.breaker === "half-open" && snapshot.probing) ||
  (host.server.maxInFlight !== undefined && snapshot.inFlight >= host.server.maxInFlight)

/**
 * The candidates in the order in which to try them: always all of them. Those that rest come last, the one that has
 * rested longest first; before them the lower `priority`; then servers that are certain to have the model; then the
 * strategy decides, at equal merit the fewest requests in flight, then chance.
 *
 * @since 0.1.0
 * @category combinators
 */
export const order = (
  strategy: Routing,
  candidates: ReadonlyArray<Candidate>,
  circumstances: Circumstances
): ReadonlyArray<Candidate> => {
  if (candidates.length < 2) return candidates
  const scoreOf = score(strategy, candidates, circumstances)
  const ranked = candidates.map((candidate) => ({
    candidate,
    rests: resting(candidate),
    score: scoreOf(candidate),
    chance: circumstances.random()
  }))
  ranked.sort((a, b) => {
    const x = a.candidate
    const y = b.candidate
    if (a.rests !== b.rests) return a.rests ? 1 : -1
    if (a.rests && x.snapshot.restsUntil !== y.snapshot.restsUntil) return x.snapshot.restsUntil - y.snapshot.restsUntil
    if (x.host.server.priority !== y.host.server.priority) return x.host.server.priority - y.host.server.priority
    if (x.host.certain !== y.host.certain) return x.host.certain ? -1 : 1
    if (a.score !== b.score) return a.score - b.score
    if (x.snapshot.inFlight !== y.snapshot.inFlight) return x.snapshot.inFlight - y.snapshot.inFlight
    return a.chance - b.chance
  })
  return ranked.map((entry) => entry.candidate)
}

// =============================================================================
// service
// =============================================================================

/**
 * - `order`: the servers of a model, in the order in which a call should try them
 * - `best`: the first of them, remembered per model and strategy for `Settings.bestServerTtl`, but not past a
 *   failure of that server
 * - `clear`: forgets all three caches: which servers are bad, which are good and how fast, and which is best; and how
 *   each goes on with an answer that broke
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly order: (
    model: string,
    strategy: Routing
  ) => Effect.Effect<ReadonlyArray<Candidate>, ModelNotFound | NoServers>
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
  const random = yield* Effect.random
  const best = new Map<string, { readonly url: string; readonly until: number }>()

  const candidates = (model: string) =>
    Effect.map(registry.locate(model), (hosts) =>
      hosts.map((host): Candidate => ({ host, snapshot: fleet.snapshot(host.server.url, host.model) }))
    )

  const ordered = (
    model: string,
    strategy: Routing
  ): Effect.Effect<ReadonlyArray<Candidate>, ModelNotFound | NoServers> =>
    Effect.flatMap(candidates(model), (found) =>
      found.length < 2
        ? Effect.succeed(found)
        : Effect.map(random.nextIntBetween(0, 0x7fffffff), (seed) =>
            order(strategy, found, { location: settings.location, random: Prng.make(seed) })
          )
    )

  return Router.of({
    order: ordered,
    best: Effect.fnUntraced(function* (model: string, strategy: Routing) {
      const key = `${strategy} ${model}`
      const known = best.get(key)
      if (known !== undefined && known.until > clock.unsafeCurrentTimeMillis()) {
        const host = (yield* registry.locate(model)).find((host) => host.server.url === known.url)
        if (host !== undefined && fleet.snapshot(host.server.url, host.model).breaker === "closed") {
          return yield* registry.serverInfo(model, known.url)
        }
      }
      const [first] = yield* ordered(model, strategy)
      if (first === undefined) return yield* registry.missing(model)
      const url = first.host.server.url
      best.set(key, { url, until: clock.unsafeCurrentTimeMillis() + settings.bestServerTtl })
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
