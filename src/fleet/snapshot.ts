/**
 * The known state of one server for one model, as plain data.
 *
 * @since 0.1.0
 */
import type { BreakerState } from "./breaker.js"
import type { ServerState } from "./state.js"

/**
 * The known state of one server for one model at one moment.
 *
 * - `inFlight`: requests of this process on the server, for all models
 * - `restsUntil`: when the breaker allows a probe, in milliseconds since the epoch
 * - `proven`: the last attempt there succeeded (the reference's "good" cache)
 * - `tokensPerSecond`: EWMA over this model's answers, `undefined` before the first
 * - `firstTokenTime`: peak EWMA, in milliseconds: follows a rise at once and a fall slowly
 * - `promptTokensPerSecond`: EWMA of prompt evaluation speed
 * - `roundTrip`: EWMA of a small request's round trip, in milliseconds
 * - `residentUntil`: until when the model is assumed to stay loaded, in milliseconds since the epoch
 * - `places`: how many requests for the model it gets at once (slots)
 * - `queued`: how many requests wait for the model, on any server
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
 * @since 0.1.0
 * @category constructors
 */
export const snapshotOf = (server: ServerState | undefined, model: string, now: number): Snapshot => {
  const state = server?.find(model)
  const whole = server?.breaker.state(now) ?? "closed"
  const inFlight = state?.breaker.state(now) ?? "closed"
  return {
    inFlight: server?.inFlight ?? 0,
    breaker:
      whole === "open" || inFlight === "open"
        ? "open"
        : whole === "half-open" || inFlight === "half-open"
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
