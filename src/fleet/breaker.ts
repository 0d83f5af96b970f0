/**
 * The circuit breaker of a server, or of one model on a server: after a failure it rests, then one request may try it.
 *
 * @since 0.1.0
 */
import type { ServerFailure } from "../Backend.js"
import type { BreakerChange } from "../Telemetry.js"

/**
 * `closed`: in use. `open`: resting until `restsUntil`. `half-open`: rested; one request at a time may try it.
 *
 * @since 0.1.0
 * @category models
 */
export type BreakerState = "closed" | "open" | "half-open"

/**
 * A server that fails its probes rests twice as long each time, up to so many times the first rest: it costs little to
 * ask a server once in ten minutes that has not answered for an hour.
 *
 * @since 0.1.0
 * @category constants
 */
export const longestRest = 10

/**
 * Times are in milliseconds since the epoch. `told` hears of every change.
 *
 * @since 0.1.0
 * @category models
 */
export class Breaker {
  /** 0: closed. */
  restsUntil = 0
  /** When it last opened. */
  opened = 0
  /** Failures in a row, where those of requests that were under way together count as one. */
  strikes = 0
  /** The one request that may try it is under way. */
  probing = false
  /** It was out of reach, and for no other reason it rests. */
  unreachable = false

  constructor(private readonly told: (change: BreakerChange) => void) {}

  state(now: number): BreakerState {
    return this.restsUntil === 0 ? "closed" : this.restsUntil > now ? "open" : "half-open"
  }

  /** A request that began at `began` has failed; `rest` is for the first failure, `asked` what the server wants. */
  open(began: number, now: number, rest: number, asked: number | undefined): void {
    if (this.restsUntil <= now) this.told("open")
    if (asked !== undefined) {
      this.opened = now
      this.restsUntil = Math.max(this.restsUntil, now + asked)
      return
    }
    // What was under way when it broke is the same failure once more.
    if (this.restsUntil > now && began < this.opened) return
    const early = this.restsUntil > now
    if (!early) this.strikes++
    this.opened = now
    // Who was tried although it rests, because nobody else was left, is no probe: it only goes to the end of the line.
    this.restsUntil = early
      ? Math.max(this.restsUntil, now + rest)
      : now + Math.min(longestRest * rest, rest * 2 ** Math.min(30, this.strikes - 1))
  }

  /** A request that began at `began` got its first token: only one from after the failure says how it is since. */
  answered(began: number): void {
    if (this.opened <= began) this.close()
  }

  /** It got all of its answer. */
  succeeded(began: number): void {
    if (this.opened > began) return
    this.close()
    this.strikes = 0
  }

  reset(): void {
    this.unreachable = false
    this.close()
    this.strikes = 0
  }

  /** The one request that may try it begins. */
  probe(now: number): void {
    this.probing = true
    if (this.state(now) === "half-open") this.told("half-open")
  }

  private close(): void {
    if (this.restsUntil === 0) return
    this.restsUntil = 0
    this.told("closed")
  }
}

/**
 * What a failure says of the server: `server` rests it whole, `model` rests it for this model only, `none` says
 * nothing about its health (the request or the key is wrong).
 *
 * @since 0.1.0
 * @category accessors
 */
export const blame = (failure: ServerFailure): "server" | "model" | "none" => {
  switch (failure.reason) {
    case "rate-limited":
    case "busy":
    case "model-not-found":
      return "model"
    case "unauthorized":
    case "rejected":
    case "invalid-request":
    case "unsupported":
    case "deadline":
    case "diverged":
    case "engine":
      return "none"
    default:
      return "server"
  }
}

/**
 * Whether the server, or what ran the model on it, may have been started anew: then nothing is in its memory.
 *
 * @since 0.1.0
 * @category accessors
 */
export const forgets = (failure: ServerFailure): boolean => {
  switch (failure.reason) {
    case "refused":
    case "reset":
    case "network":
    case "server-error":
    case "cut":
      return true
    default:
      return false
  }
}

/**
 * Whether nothing was heard of the server at all.
 *
 * @since 0.1.0
 * @category accessors
 */
export const isUnreachable = (failure: ServerFailure): boolean => {
  switch (failure.reason) {
    case "refused":
    case "dns":
    case "network":
    case "connect-timeout":
      return true
    default:
      return false
  }
}
