/**
 * Live knowledge of each server: requests in flight, speed, time to first token, what it holds in memory, how many
 * requests it answers at once, and whether it is resting after a failure (its circuit breaker); and the lines of those
 * who wait for a place.
 *
 * Everything is learned from the answers themselves, and from what servers say of themselves when they are asked for
 * their models.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import { average } from "./fleet/average.js"
import type { BreakerState } from "./fleet/breaker.js"
import { Conversations, type Whereabouts } from "./fleet/conversations.js"
import { type Lease, Place } from "./fleet/lease.js"
import type { Line, Waiter } from "./fleet/line.js"
import { Pool } from "./fleet/pool.js"
import { type ModelState, type Remoteness, ServerState } from "./fleet/state.js"
import type { Host } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  BreakerState
} from "./fleet/breaker.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Whereabouts
} from "./fleet/conversations.js"
export {
  /**
   * @since 0.1.0
   * @category constants
   */
  defaultKeepAlive,
  /**
   * @since 0.1.0
   * @category models
   */
  type Lease,
  /**
   * @since 0.1.0
   * @category models
   */
  type Observation
} from "./fleet/lease.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Waiter
} from "./fleet/line.js"
export {
  /**
   * @since 0.1.0
   * @category models
   */
  Pool
} from "./fleet/pool.js"
export {
  /**
   * @since 0.1.0
   * @category constants
   */
  maxBelievableSpeed
} from "./fleet/state.js"

// =============================================================================
// models
// =============================================================================

/**
 * What is known of one server for one model, at one moment.
 *
 * - `inFlight`: requests of this process on the server, whatever their model
 * - `restsUntil`: when the breaker lets a probe through, in milliseconds since the epoch
 * - `proven`: the last attempt there succeeded (the reference's "good" cache)
 * - `tokensPerSecond`: EWMA over this model's answers, `undefined` before the first
 * - `firstTokenTime`: peak EWMA, in milliseconds: it follows a rise at once and a fall slowly
 * - `promptTokensPerSecond`: EWMA of how fast it reads prompts
 * - `roundTrip`: EWMA of a small request's round trip, in milliseconds
 * - `residentUntil`: until when the server is taken to hold the model in memory, in milliseconds since the epoch
 * - `places`: how many requests for the model it is given at once
 * - `queued`: how many requests wait for the model, on whatever server
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot {
  readonly inFlight: number
  readonly breaker: BreakerState
  readonly restsUntil: number
  readonly probing: boolean
  readonly proven: boolean
  readonly tokensPerSecond: number | undefined
  readonly firstTokenTime: number | undefined
  readonly roundTrip: number | undefined
  readonly promptTokensPerSecond?: number | undefined
  readonly residentUntil?: number | undefined
  readonly places?: number | undefined
  readonly queued?: number | undefined
}

/**
 * A place in a line; or, where the line is full, how many wait in it, and after how many milliseconds to try again.
 *
 * @since 0.1.0
 * @category models
 */
export type Ticket = { readonly leave: () => void } | { readonly retryAfter: number; readonly queued: number }

/**
 * - `pool`: the columns of these hosts, kept up to date; the same hosts give the same pool. `remoteness` is asked once
 *   per host, and again when its round trip was measured anew
 * - `lease`: takes a place on a server of a pool; `cached` is how many tokens of the prompt are believed to be in its
 *   cache
 * - `queue`: puts somebody into the model's line, `first` before all others. It is asked to look for a place whenever
 *   one may have become free, and once a second, because time alone changes things too
 * - `roundTrip`: a small request to this server took so many milliseconds
 * - `resident`: the server was seen to hold exactly these models, each until then (milliseconds since the epoch)
 * - `whereabouts`, `remember`: where a conversation was answered last
 * - `clear`: forgets every failure and every speed
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly snapshot: (url: string, model: string) => Snapshot
  readonly pool: (hosts: ReadonlyArray<Host>, remoteness: Remoteness) => Pool
  readonly lease: (pool: Pool, at: number, cached?: number) => Lease
  readonly queue: (pool: Pool, waiter: Waiter, first: boolean) => Ticket
  readonly roundTrip: (url: string, milliseconds: number) => void
  readonly resident: (url: string, models: ReadonlyMap<string, number>) => void
  readonly whereabouts: (conversation: string) => Whereabouts | undefined
  readonly remember: (conversation: string, whereabouts: Whereabouts) => void
  readonly clear: Effect.Effect<void>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Fleet extends Context.Tag("aicortex/Fleet")<Fleet, Service>() {}

// =============================================================================
// implementation
// =============================================================================

/**
 * So many requests an Ollama server is given at once for one model to begin with, unless `OLLAMA_NUM_PARALLEL` or
 * `maxInFlight` says: Ollama's own default where there is memory for it.
 */
const ollamaPlaces = 4

/** How many may wait for one model: so many per server, and at least so many in all. */
const queuedPerServer = 4
const leastCapacity = 512

/** How often those who wait look although nothing was heard. */
const lookInterval = Duration.seconds(1)

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const now = () => clock.unsafeCurrentTimeMillis()
  const servers = new Map<string, ServerState>()
  const conversations = new Conversations()
  const around = { now, rest: settings.cacheTtl }

  const serverState = (url: string): ServerState => {
    let state = servers.get(url)
    if (state === undefined) {
      state = new ServerState(url)
      servers.set(url, state)
    }
    return state
  }
  const stateAt = (pool: Pool, at: number): ModelState => {
    const host = pool.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at} in a pool of ${pool.size}`)
    return serverState(host.server.url).model(host.model)
  }

  // ---------------------------------------------------------------------------
  // columns
  // ---------------------------------------------------------------------------

  const pools = new WeakMap<ReadonlyArray<Host>, Pool>()

  /** Puts a pool's columns among those that are kept up to date; `newest` where it replaces the one before. */
  const link = (pool: Pool, remoteness: Remoteness | undefined, newest: boolean): void => {
    pool.hosts.forEach((host, at) => {
      const state = serverState(host.server.url).model(host.model)
      const others = state.slots.filter((slot) => slot.pool !== pool)
      const measure = remoteness ?? others.at(-1)?.remoteness ?? (() => Number.NaN)
      const slot = { pool, at, host, remoteness: measure }
      const used = newest ? others.filter((slot) => slot.pool.waiting > 0 || slot.pool.active > 0) : others
      for (const other of others) if (!used.includes(other)) other.pool.linked = false
      state.slots = newest ? [...used, slot] : [slot, ...used]
      pool.remoteness[at] = measure(host, state.server.roundTrip)
      state.writeSlot(slot, now())
    })
    pool.linked = true
  }

  const pool = (hosts: ReadonlyArray<Host>, remoteness: Remoteness): Pool => {
    const known = pools.get(hosts)
    if (known !== undefined) return known
    const made = new Pool(hosts)
    // The line outlives the list of servers that it was made for.
    const before = hosts.length === 0 ? undefined : stateAt(made, 0).slots.at(-1)?.pool.line
    if (before !== undefined) made.line = before
    made.line.capacity = Math.max(leastCapacity, queuedPerServer * hosts.length)
    hosts.forEach((host, at) => {
      const state = stateAt(made, at)
      const { server } = state
      server.maxInFlight = host.server.maxInFlight ?? Number.POSITIVE_INFINITY
      // What the user says holds; and only Ollama tells when a request had to wait for a slot.
      const said = host.server.maxInFlight !== undefined || settings.parallel !== undefined
      const limited = host.protocol === "ollama" && host.server.maxInFlight === undefined
      if (!limited || said || !state.learns) {
        state.places = limited ? (settings.parallel ?? ollamaPlaces) : Number.POSITIVE_INFINITY
        state.learns = limited && !said
      }
      // Whatever speaks the OpenAI API, or runs in this process, serves only what it has loaded.
      if (host.protocol !== "ollama") state.residentUntil = Number.POSITIVE_INFINITY
      state.line = made.line
      made.neighbours[at] = server.models
      made.self[at] = state
    })
    link(made, remoteness, true)
    pools.set(hosts, made)
    return made
  }

  // ---------------------------------------------------------------------------
  // waiting
  // ---------------------------------------------------------------------------

  const lines = new Set<Line>()
  let looking: Fiber.RuntimeFiber<void> | undefined

  const look = (): void => {
    looking = undefined
    for (const line of [...lines]) {
      if (line.queued > 0) line.attend()
      if (line.queued === 0) lines.delete(line)
    }
    if (lines.size > 0) lookLater()
  }
  const lookLater = (): void => {
    looking ??= runFork(Effect.andThen(clock.sleep(lookInterval), Effect.sync(look)))
  }
  const stopLooking = (line: Line): void => {
    if (line.queued > 0) return
    lines.delete(line)
    if (lines.size > 0 || looking === undefined) return
    runFork(Fiber.interruptFork(looking))
    looking = undefined
  }

  const retryAfter = (pool: Pool): number => {
    let busy = 0
    for (let i = 0; i < pool.size; i++) busy += pool.own[i] ?? 0
    return Math.ceil((pool.queued * pool.line.serviceTime) / Math.max(1, busy))
  }

  const queue: Service["queue"] = (pool, { look, narrow }, first) => {
    const { line } = pool
    if (line.full) return { retryAfter: retryAfter(pool), queued: line.queued }
    if (!pool.linked) link(pool, undefined, false)
    let waits = true
    const leave = (): void => {
      if (!waits) return
      waits = false
      pool.waiting--
      line.leave(waiter)
      stopLooking(line)
    }
    const waiter: Waiter = {
      look: () => {
        if (!waits) return true
        if (!look()) return false
        leave()
        return true
      },
      narrow
    }
    pool.waiting++
    line.join(waiter, first)
    lines.add(line)
    lookLater()
    // One more that waits may be what makes another load worth it.
    if (line.queued > 1) line.attend()
    return { leave }
  }

  const lease: Service["lease"] = (pool, at, cached = 0) => {
    if (!pool.linked) link(pool, undefined, false)
    const state = stateAt(pool, at)
    return new Place(around, pool, state.server, state, cached)
  }

  // ---------------------------------------------------------------------------
  // what servers say
  // ---------------------------------------------------------------------------

  const snapshot = (url: string, model: string): Snapshot => {
    const server = servers.get(url)
    const state = server?.find(model)
    const at = now()
    const whole = server?.breaker.state(at) ?? "closed"
    const own = state?.breaker.state(at) ?? "closed"
    return {
      inFlight: server?.inFlight ?? 0,
      breaker:
        whole === "open" || own === "open"
          ? "open"
          : whole === "half-open" || own === "half-open"
            ? "half-open"
            : "closed",
      restsUntil: Math.max(server?.breaker.restsUntil ?? 0, state?.breaker.restsUntil ?? 0),
      probing: server?.breaker.probing === true || state?.breaker.probing === true,
      proven: state?.proven ?? false,
      tokensPerSecond: state?.tokensPerSecond,
      firstTokenTime: state?.firstTokenTime,
      roundTrip: server?.roundTrip,
      promptTokensPerSecond: state?.promptSpeed,
      residentUntil: state?.residentUntil,
      places: state === undefined || server === undefined ? undefined : Math.min(server.maxInFlight, state.places),
      queued: state?.queued
    }
  }

  const roundTrip = (url: string, milliseconds: number): void => {
    const server = serverState(url)
    server.roundTrip = average(server.roundTrip, milliseconds)
    for (const { slots } of server.models) {
      for (const { at, host, pool, remoteness } of slots) pool.remoteness[at] = remoteness(host, server.roundTrip)
    }
  }

  const resident = (url: string, models: ReadonlyMap<string, number>): void => {
    const server = serverState(url)
    const at = now()
    server.tellsResident = true
    for (const [model, until] of models) server.model(model).setResident(until, at)
    for (const state of server.models) {
      if (!models.has(state.model) && state.residentUntil !== Number.POSITIVE_INFINITY) state.setResident(0, at)
    }
    server.write(at)
    server.attend()
  }

  return Fleet.of({
    snapshot,
    pool,
    lease,
    queue,
    roundTrip,
    resident,
    whereabouts: (conversation) => conversations.find(conversation),
    remember: (conversation, whereabouts) => conversations.remember(conversation, whereabouts),
    clear: Effect.sync(() => {
      // Requests under way keep their places; only what was learned goes.
      conversations.clear()
      for (const server of servers.values()) {
        server.breaker.reset()
        server.roundTrip = undefined
        for (const state of server.models) {
          state.breaker.reset()
          state.proven = false
          state.tokensPerSecond = undefined
          state.firstTokenTime = undefined
          state.promptSpeed = undefined
          state.overhead = undefined
        }
        server.write(now())
        server.attend()
      }
    })
  })
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Fleet, never, CurrentSettings> = Layer.effect(Fleet, make)
