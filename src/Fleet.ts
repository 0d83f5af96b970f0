/**
 * Live knowledge of each server: requests in flight, speed, time to first token, and whether it is resting after a
 * failure (its circuit breaker).
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ServerFailure } from "./Backend.js"
import { Pool } from "./fleet/pool.js"
import type { Host } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

// =============================================================================
// models
// =============================================================================

/**
 * `closed`: in use. `open`: resting until `restsUntil`. `half-open`: rested; one request at a time may try it.
 *
 * @since 0.1.0
 * @category models
 */
export type BreakerState = "closed" | "open" | "half-open"

/**
 * What is known of one server for one model, at one moment.
 *
 * - `residentUntil`: until when the server is taken to hold the model in memory, in milliseconds since the epoch
 * - `tokensPerSecond`: EWMA over this model's answers, `undefined` before the first
 * - `firstTokenTime`: peak EWMA, in milliseconds: it follows a rise at once and a fall slowly
 * - `roundTrip`: EWMA of a small request's round trip, in milliseconds
 * - `restsUntil`: when the breaker lets a probe through, in milliseconds since the epoch
 * - `proven`: the last attempt there succeeded (the reference's "good" cache)
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
  readonly residentUntil?: number | undefined
}

/**
 * What a finished attempt has shown. Times are in milliseconds; `keepAlive` is how long the server will hold the model
 * in memory from now on.
 *
 * @since 0.1.0
 * @category models
 */
export interface Observation {
  readonly firstTokenTime: number | undefined
  readonly tokensPerSecond: number | undefined
  readonly keepAlive: number
}

/**
 * One attempt's place on a server. Exactly one of its three ends counts, the first; each gives the place back.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  /** Whether the server is known to have to load the model for it. */
  readonly cold: boolean
  /** The first token came: what had to be loaded is loaded. */
  answered(): void
  succeed(observation: Observation): void
  fail(failure: ServerFailure): void
  /** The caller left: nothing is learned. */
  cancel(): void
}

/**
 * - `pool`: the columns of these hosts, kept up to date; the same hosts give the same pool. `remoteness` is asked once
 *   per host, and again when its round trip was measured anew
 * - `lease`: takes a place on a server of a pool
 * - `queue`: has `granted` called, with the index of a server that is not in `tried`, once there is a place, or with
 *   `undefined` once the caller should look again because servers failed; gives back how to leave the queue, or, where
 *   the queue is full, after how many milliseconds to try again
 * - `roundTrip`: a small request to this server took so many milliseconds
 * - `resident`: the server was seen to hold exactly these models, each until then (milliseconds since the epoch)
 * - `clear`: forgets every failure and every speed
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly snapshot: (url: string, model: string) => Snapshot
  readonly pool: (hosts: ReadonlyArray<Host>, remoteness: (host: Host, roundTrip: number | undefined) => number) => Pool
  readonly lease: (pool: Pool, at: number) => Lease
  readonly queue: (
    pool: Pool,
    tried: Uint8Array,
    granted: (at: number | undefined) => void
  ) => { readonly leave: () => void } | { readonly retryAfter: number }
  readonly roundTrip: (url: string, milliseconds: number) => void
  readonly resident: (url: string, models: ReadonlyMap<string, number>) => void
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
 * No server is believed to be faster than this, in tokens per second: registries and servers report impossible
 * figures.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxBelievableSpeed = 2_000

/** What the newest observation weighs in an average. */
const alpha = 0.3

const average = (old: number | undefined, value: number | undefined): number | undefined =>
  value === undefined || !Number.isFinite(value) ? old : old === undefined ? value : old + alpha * (value - old)

/** A peak EWMA: what is slower than the average counts at once, what is faster only in part. */
const peak = (old: number | undefined, value: number | undefined): number | undefined =>
  value !== undefined && old !== undefined && value > old ? value : average(old, value)

/**
 * How long Ollama keeps a model in memory unless told otherwise, in milliseconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultKeepAlive = 300_000

/** So many requests an Ollama server runs at once for one model, unless `OLLAMA_NUM_PARALLEL` or `maxInFlight` says. */
const ollamaParallel = 4

/** So many requests may wait for one model. */
const maxQueue = 512

interface Breaker {
  /** 0: closed. */
  restsUntil: number
  /** When it last opened. */
  opened: number
  probing: boolean
}

/** Where a server stands in a pool. */
interface Slot {
  readonly pool: Pool
  readonly at: number
  readonly host: Host
  readonly remoteness: (host: Host, roundTrip: number | undefined) => number
}

interface ModelState {
  readonly breaker: Breaker
  inFlight: number
  loading: number
  /** At most so many at once for this model. */
  parallel: number
  proven: boolean
  tokensPerSecond: number | undefined
  firstTokenTime: number | undefined
  residentUntil: number
  /** Where it stands in the newest pool, and in older ones that still have requests. */
  slots: ReadonlyArray<Slot>
}

interface ServerState {
  inFlight: number
  maxInFlight: number
  roundTrip: number | undefined
  /** It has said what it holds in memory. */
  tellsResident: boolean
  readonly breaker: Breaker
  readonly models: Map<string, ModelState>
  /** Who waits for a place here, by pool; the pools take turns. */
  readonly waiting: Map<Pool, Array<Waiter>>
  /** Places are being given out, and meanwhile something has changed. */
  serving: boolean
  again: boolean
}

interface Waiter {
  readonly pool: Pool
  readonly tried: Uint8Array
  readonly granted: (at: number | undefined) => void
  over: boolean
}

const breakerState = (breaker: Breaker, now: number): BreakerState =>
  breaker.restsUntil === 0 ? "closed" : breaker.restsUntil > now ? "open" : "half-open"

/**
 * What a failure says of the server: `server` rests it whole, `model` rests it for this model only, `none` says
 * nothing about its health (the request or the key is wrong).
 */
const blame = (failure: ServerFailure): "server" | "model" | "none" => {
  switch (failure.reason) {
    case "rate-limited":
    case "busy":
    case "model-not-found":
      return "model"
    case "unauthorized":
    case "rejected":
    case "invalid-request":
    case "unsupported":
    case "diverged":
    case "engine":
    case "deadline":
      return "none"
    default:
      return "server"
  }
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const servers = new Map<string, ServerState>()

  const serverState = (url: string): ServerState => {
    let state = servers.get(url)
    if (state === undefined) {
      state = {
        inFlight: 0,
        maxInFlight: Number.POSITIVE_INFINITY,
        roundTrip: undefined,
        tellsResident: false,
        breaker: { restsUntil: 0, opened: 0, probing: false },
        models: new Map(),
        waiting: new Map(),
        serving: false,
        again: false
      }
      servers.set(url, state)
    }
    return state
  }
  const modelState = (server: ServerState, model: string): ModelState => {
    let state = server.models.get(model)
    if (state === undefined) {
      state = {
        breaker: { restsUntil: 0, opened: 0, probing: false },
        inFlight: 0,
        loading: 0,
        parallel: Number.POSITIVE_INFINITY,
        proven: false,
        tokensPerSecond: undefined,
        firstTokenTime: undefined,
        residentUntil: 0,
        slots: []
      }
      server.models.set(model, state)
    }
    return state
  }

  // ---------------------------------------------------------------------------
  // columns
  // ---------------------------------------------------------------------------

  const pools = new WeakMap<ReadonlyArray<Host>, Pool>()

  const writeModel = (server: ServerState, state: ModelState): void => {
    for (const slot of state.slots) writeSlot(server, state, slot)
  }
  const writeSlot = (server: ServerState, state: ModelState, { at, host, pool }: Slot): void => {
    const figure = host.performance?.tokens_per_second
    const speed = state.tokensPerSecond ?? figure
    pool.speed[at] = speed === undefined || !(speed > 0) ? Number.NaN : Math.min(speed, maxBelievableSpeed)
    pool.proven[at] = state.proven ? 1 : 0
    pool.firstToken[at] = state.firstTokenTime ?? Number.NaN
    pool.residentUntil[at] = state.residentUntil
    pool.loading[at] = state.loading
    pool.inFlight[at] = server.inFlight
    pool.free[at] = Math.min(server.maxInFlight - server.inFlight, state.parallel - state.inFlight)
    pool.restsUntil[at] = Math.max(server.breaker.restsUntil, state.breaker.restsUntil)
    pool.probing[at] = server.breaker.probing || state.breaker.probing ? 1 : 0
  }
  const writeServer = (server: ServerState): void => {
    for (const state of server.models.values()) writeModel(server, state)
  }

  const pool = (
    hosts: ReadonlyArray<Host>,
    remoteness: (host: Host, roundTrip: number | undefined) => number
  ): Pool => {
    const known = pools.get(hosts)
    if (known !== undefined) return known
    const made = new Pool(hosts)
    hosts.forEach((host, at) => {
      const server = serverState(host.server.url)
      const state = modelState(server, host.model)
      server.maxInFlight = host.server.maxInFlight ?? Number.POSITIVE_INFINITY
      // A limit of the user's holds for the server as it is; Ollama's own is per model.
      state.parallel =
        host.protocol === "ollama" && host.server.maxInFlight === undefined
          ? (settings.parallel ?? ollamaParallel)
          : Number.POSITIVE_INFINITY
      // Whatever speaks the OpenAI API, or runs in this process, serves only what it has loaded.
      if (host.protocol !== "ollama") state.residentUntil = Number.POSITIVE_INFINITY
      const before = state.slots.at(-1)?.pool
      if (before !== undefined) {
        made.serviceTime = before.serviceTime
        made.loadTime = before.loadTime
      }
      const used = state.slots.filter(({ pool }) => pool.queued > 0 || pool.active > 0)
      state.slots = [...used, { pool: made, at, host, remoteness }]
      made.remoteness[at] = remoteness(host, server.roundTrip)
      writeModel(server, state)
    })
    pools.set(hosts, made)
    return made
  }

  // ---------------------------------------------------------------------------
  // waiting
  // ---------------------------------------------------------------------------

  /** The first in line for a place in this pool, or whoever must look elsewhere because the server rests. */
  const serveOne = (url: string, server: ServerState, pool: Pool): boolean => {
    const waiters = server.waiting.get(pool)
    if (waiters === undefined) return false
    const at = pool.hosts.findIndex((host) => host.server.url === url)
    const rests = at === -1 || (pool.restsUntil[at] ?? 0) !== 0
    if (!rests && (pool.free[at] ?? 0) <= 0) return false
    // Whoever must look again may come back here: to the end of a new line, so that this one ends.
    server.waiting.delete(pool)
    let next = 0
    let served = false
    while (next < waiters.length && (rests || !served)) {
      const waiter = waiters[next++]
      if (waiter === undefined || waiter.over) continue
      waiter.over = true
      pool.queued--
      served = !rests
      waiter.granted(rests || waiter.tried[at] === 1 ? undefined : at)
    }
    const left = waiters.slice(next).filter((waiter) => !waiter.over)
    const come = server.waiting.get(pool) ?? []
    server.waiting.delete(pool)
    if (left.length + come.length > 0) server.waiting.set(pool, [...left, ...come])
    return served
  }

  /** Gives free places to those who wait, one a turn, the models in turn. */
  const serve = (url: string, server: ServerState): void => {
    if (server.waiting.size === 0 && !server.serving) return
    if (server.serving) {
      server.again = true
      return
    }
    server.serving = true
    let more = true
    while (more) {
      more = false
      server.again = false
      for (const pool of [...server.waiting.keys()]) if (serveOne(url, server, pool)) more = true
      more ||= server.again && server.waiting.size > 0
    }
    server.serving = false
  }

  /** A pool that a newer one has replaced is kept up to date again, for whoever waits in it. */
  const relink = (pool: Pool): void => {
    pool.hosts.forEach((host, at) => {
      const server = serverState(host.server.url)
      const state = modelState(server, host.model)
      if (state.slots.some((slot) => slot.pool === pool)) return
      const remoteness = state.slots.at(-1)?.remoteness ?? (() => Number.NaN)
      state.slots = [{ pool, at, host, remoteness }, ...state.slots]
      writeModel(server, state)
    })
  }

  const queue: Service["queue"] = (pool, tried, granted) => {
    if (pool.queued >= maxQueue) {
      let places = 0
      for (let i = 0; i < pool.size; i++) places += Math.max(0, pool.inFlight[i] ?? 0)
      return { retryAfter: Math.ceil((pool.queued * pool.serviceTime) / Math.max(1, places)) }
    }
    const waiter: Waiter = { pool, tried, granted, over: false }
    pool.queued++
    relink(pool)
    pool.hosts.forEach((host, at) => {
      if (tried[at] === 1) return
      const { waiting } = serverState(host.server.url)
      const waiters = waiting.get(pool)
      if (waiters === undefined) waiting.set(pool, [waiter])
      // Who was served elsewhere is still in line here: not without bound.
      else if (waiters.length < 2 * maxQueue) waiters.push(waiter)
      else waiting.set(pool, [...waiters.filter((other) => !other.over), waiter])
    })
    return {
      leave: () => {
        if (waiter.over) return
        waiter.over = true
        pool.queued--
      }
    }
  }

  const snapshot = (url: string, model: string): Snapshot => {
    const now = clock.unsafeCurrentTimeMillis()
    const server = servers.get(url)
    const state = server?.models.get(model)
    const whole = server === undefined ? "closed" : breakerState(server.breaker, now)
    const own = state === undefined ? "closed" : breakerState(state.breaker, now)
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
      residentUntil: state?.residentUntil
    }
  }

  const lease = (pool: Pool, at: number): Lease => {
    const host = pool.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at} in a pool of ${pool.size}`)
    const { url } = host.server
    const server = serverState(url)
    const state = modelState(server, host.model)
    const began = clock.unsafeCurrentTimeMillis()
    let loads = state.residentUntil <= began
    const cold = loads && server.tellsResident
    server.inFlight++
    state.inFlight++
    pool.active++
    if (loads) state.loading++
    const probes = server.breaker.restsUntil !== 0 || state.breaker.restsUntil !== 0
    if (probes) {
      server.breaker.probing = true
      state.breaker.probing = true
    }
    writeServer(server)
    let open = true
    const loaded = (): void => {
      if (!loads) return
      loads = false
      state.loading--
    }
    const release = (): boolean => {
      if (!open) return false
      open = false
      loaded()
      server.inFlight--
      state.inFlight--
      pool.active--
      if (probes) {
        server.breaker.probing = false
        state.breaker.probing = false
      }
      return true
    }
    const settled = (): void => {
      writeServer(server)
      serve(url, server)
    }
    return {
      cold,
      answered() {
        if (!open) return
        const now = clock.unsafeCurrentTimeMillis()
        if (loads) pool.loadTime += alpha * (now - began - pool.loadTime)
        loaded()
        // Until the answer is complete nothing can evict it.
        if (state.residentUntil <= now) state.residentUntil = now + defaultKeepAlive
        writeModel(server, state)
      },
      succeed(observation) {
        if (!release()) return
        const now = clock.unsafeCurrentTimeMillis()
        // A request that began before a failure says nothing about how the server is since.
        for (const breaker of [server.breaker, state.breaker]) if (breaker.opened <= began) breaker.restsUntil = 0
        state.proven = true
        const speed = observation.tokensPerSecond
        state.tokensPerSecond = average(
          state.tokensPerSecond,
          speed === undefined ? undefined : Math.min(speed, maxBelievableSpeed)
        )
        if (!cold) state.firstTokenTime = peak(state.firstTokenTime, observation.firstTokenTime)
        if (state.residentUntil !== Number.POSITIVE_INFINITY) state.residentUntil = now + observation.keepAlive
        pool.serviceTime += alpha * (now - began - pool.serviceTime)
        settled()
      },
      fail(failure) {
        if (!release()) return
        const whose = blame(failure)
        if (whose !== "none") {
          state.proven = false
          const breaker = whose === "server" ? server.breaker : state.breaker
          breaker.opened = clock.unsafeCurrentTimeMillis()
          breaker.restsUntil = breaker.opened + (failure.retryAfter ?? settings.cacheTtl)
        }
        settled()
      },
      cancel() {
        if (release()) settled()
      }
    }
  }

  const roundTrip = (url: string, milliseconds: number): void => {
    const server = serverState(url)
    server.roundTrip = average(server.roundTrip, milliseconds)
    for (const { slots } of server.models.values()) {
      for (const { at, host, pool, remoteness } of slots) pool.remoteness[at] = remoteness(host, server.roundTrip)
    }
  }

  const resident = (url: string, models: ReadonlyMap<string, number>): void => {
    const server = serverState(url)
    server.tellsResident = true
    for (const [model, until] of models) modelState(server, model).residentUntil = until
    for (const [model, state] of server.models) {
      if (!models.has(model) && state.residentUntil !== Number.POSITIVE_INFINITY) state.residentUntil = 0
    }
    writeServer(server)
  }

  return Fleet.of({
    snapshot,
    pool,
    lease,
    queue,
    roundTrip,
    resident,
    clear: Effect.sync(() => {
      // Requests under way keep their places; only what was learned goes.
      for (const [url, server] of servers) {
        server.breaker.restsUntil = 0
        server.roundTrip = undefined
        for (const state of server.models.values()) {
          state.breaker.restsUntil = 0
          state.proven = false
          state.tokensPerSecond = undefined
          state.firstTokenTime = undefined
        }
        writeServer(server)
        serve(url, server)
      }
    })
  })
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Fleet, never, CurrentSettings> = Layer.effect(Fleet, make)
