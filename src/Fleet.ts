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
 * - `tokensPerSecond`: EWMA over this model's answers, `undefined` before the first
 * - `firstTokenTime`: EWMA, in milliseconds
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
}

/**
 * What a finished attempt has shown.
 *
 * @since 0.1.0
 * @category models
 */
export interface Observation {
  readonly firstTokenTime: number | undefined
  readonly tokensPerSecond: number | undefined
}

/**
 * One attempt's place on a server. Exactly one of its three ends counts, the first; each gives the place back.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  succeed(observation: Observation): void
  fail(failure: ServerFailure): void
  /** The caller left: nothing is learned. */
  cancel(): void
}

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly snapshot: (url: string, model: string) => Snapshot
  readonly lease: (url: string, model: string) => Lease
  /** A small request to this server took so many milliseconds. */
  readonly roundTrip: (url: string, milliseconds: number) => void
  /** Forgets every failure and every speed. */
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

interface Breaker {
  /** 0: closed. */
  restsUntil: number
  /** When it last opened. */
  opened: number
  probing: boolean
}

interface ModelState {
  breaker: Breaker
  proven: boolean
  tokensPerSecond: number | undefined
  firstTokenTime: number | undefined
}

interface ServerState {
  inFlight: number
  roundTrip: number | undefined
  breaker: Breaker
  readonly models: Map<string, ModelState>
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
        roundTrip: undefined,
        breaker: { restsUntil: 0, opened: 0, probing: false },
        models: new Map()
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
        proven: false,
        tokensPerSecond: undefined,
        firstTokenTime: undefined
      }
      server.models.set(model, state)
    }
    return state
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
      roundTrip: server?.roundTrip
    }
  }

  const lease = (url: string, model: string): Lease => {
    const server = serverState(url)
    const state = modelState(server, model)
    const began = clock.unsafeCurrentTimeMillis()
    server.inFlight++
    const probes = server.breaker.restsUntil !== 0 || state.breaker.restsUntil !== 0
    if (probes) {
      server.breaker.probing = true
      state.breaker.probing = true
    }
    let open = true
    const release = (): boolean => {
      if (!open) return false
      open = false
      server.inFlight--
      if (probes) {
        server.breaker.probing = false
        state.breaker.probing = false
      }
      return true
    }
    return {
      succeed(observation) {
        if (!release()) return
        // A request that began before a failure says nothing about how the server is since.
        for (const breaker of [server.breaker, state.breaker]) if (breaker.opened <= began) breaker.restsUntil = 0
        state.proven = true
        const speed = observation.tokensPerSecond
        state.tokensPerSecond = average(
          state.tokensPerSecond,
          speed === undefined ? undefined : Math.min(speed, maxBelievableSpeed)
        )
        state.firstTokenTime = average(state.firstTokenTime, observation.firstTokenTime)
      },
      fail(failure) {
        if (!release()) return
        const whose = blame(failure)
        if (whose === "none") return
        state.proven = false
        const breaker = whose === "server" ? server.breaker : state.breaker
        breaker.opened = clock.unsafeCurrentTimeMillis()
        breaker.restsUntil = breaker.opened + (failure.retryAfter ?? settings.cacheTtl)
      },
      cancel() {
        release()
      }
    }
  }

  const roundTrip = (url: string, milliseconds: number): void => {
    const server = serverState(url)
    server.roundTrip = average(server.roundTrip, milliseconds)
  }

  return Fleet.of({
    snapshot,
    lease,
    roundTrip,
    clear: Effect.sync(() => {
      // The leases of requests under way keep counting on the states they hold.
      for (const [url, server] of servers) {
        if (server.inFlight === 0) servers.delete(url)
        else {
          server.breaker.restsUntil = 0
          for (const state of server.models.values()) {
            state.breaker.restsUntil = 0
            state.proven = false
            state.tokensPerSecond = undefined
            state.firstTokenTime = undefined
          }
        }
      }
    })
  })
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Fleet, never, CurrentSettings> = Layer.effect(Fleet, make)
