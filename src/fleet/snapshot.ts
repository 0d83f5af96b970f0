/** The known state of one server for one model, as plain data. */
import type { BreakerCause, BreakerState } from "./breaker.js"
import type { ServerState } from "./state.js"

/**
 * The known state of one server for one model at one moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface Snapshot {
  /** Requests of this process on the server, for all models. */
  readonly inFlight: number
  /** Requests of other processes on the server, for all models, as far as known. */
  readonly inFlightElsewhere?: number | undefined
  /** Those of this process for this model. */
  readonly modelInFlight?: number | undefined
  /** The state of the circuit breaker. */
  readonly breaker: BreakerState
  /** When the breaker allows a probe, in milliseconds since the epoch. */
  readonly restsUntil: number
  /** Whether the server gets no new requests, because an operator drains it. */
  readonly drained?: boolean | undefined
  /** Since when it is not closed, in milliseconds since the epoch. */
  readonly restsSince?: number | undefined
  /** What it opened for, as far as this process has seen it. */
  readonly restsBecause?: BreakerCause | undefined
  /** Whether a probe of the breaker runs. */
  readonly probing: boolean
  /** The last attempt there succeeded (the reference's "good" cache). */
  readonly proven: boolean
  /** EWMA over this model's answers, `undefined` before the first. */
  readonly tokensPerSecond: number | undefined
  /** Peak EWMA, in milliseconds: follows a rise at once and a fall slowly. */
  readonly firstTokenTime: number | undefined
  /** EWMA of a small request's round trip, in milliseconds. */
  readonly roundTrip: number | undefined
  /** EWMA of prompt evaluation speed. */
  readonly promptTokensPerSecond?: number | undefined
  /**
   * When a benchmark measured these speeds, in milliseconds since the epoch; `undefined` once own traffic was measured
   * after it.
   */
  readonly benchmarkedAt?: number | undefined
  /** Until when the model is assumed to stay loaded, in milliseconds since the epoch. */
  readonly residentUntil?: number | undefined
  /** How many requests for the model it gets at once (slots). */
  readonly places?: number | undefined
  /** How many requests wait for the model, on any server. */
  readonly queued?: number | undefined
}

export const snapshotOf = (server: ServerState | undefined, model: string, now: number): Snapshot => {
  const state = server?.find(model)
  const whole = server?.breaker.state(now) ?? "closed"
  const ofModel = state?.breaker.state(now) ?? "closed"
  const resting = whole !== "closed" ? server?.breaker : ofModel !== "closed" ? state?.breaker : undefined
  return {
    inFlight: server?.inFlight ?? 0,
    inFlightElsewhere: server?.elsewhere,
    modelInFlight: state?.inFlight,
    breaker:
      whole === "open" || ofModel === "open"
        ? "open"
        : whole === "half-open" || ofModel === "half-open"
          ? "half-open"
          : "closed",
    drained: server?.drained,
    restsSince: resting === undefined || resting.opened === 0 ? undefined : resting.opened,
    restsBecause: resting?.cause,
    restsUntil: Math.max(server?.breaker.restsUntil ?? 0, state?.breaker.restsUntil ?? 0),
    probing: server?.breaker.probing === true || state?.breaker.probing === true,
    proven: state?.proven ?? false,
    tokensPerSecond: state?.tokensPerSecond,
    firstTokenTime: state?.firstTokenTime,
    roundTrip: server?.roundTrip,
    promptTokensPerSecond: state?.promptSpeed,
    benchmarkedAt: state?.benchmarkedAt,
    residentUntil: state?.residentUntil,
    places: state === undefined || server === undefined ? undefined : Math.min(server.maxInFlight, state.places),
    queued: state?.queued
  }
}
