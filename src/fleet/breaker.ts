/**
 * The circuit breaker of a server, or of one model on a server: after a failure it rests, then one request may try it.
 *
 * @since 0.1.0
 */
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
  failures = 0
  /** The one request that may try it is under way. */
  probing = false
  /** It was out of reach, and for no other reason it rests. */
  unreachable = false

  /** How it stood before the failures that may yet be taken back, how many these are, and whether another one was since. */
  private before: { readonly restsUntil: number; readonly opened: number; readonly failures: number } | undefined
  private pending = 0
  private firm = false

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
    if (!early) this.failures++
    this.opened = now
    // Who was tried although it rests, because nobody else was left, is no probe: it only goes to the end of the line.
    this.restsUntil = early
      ? Math.max(this.restsUntil, now + rest)
      : now + Math.min(longestRest * rest, rest * 2 ** Math.min(30, this.failures - 1))
  }

  /** What `open` says next may be taken back: exactly one of `pardon` and `confirm` is to follow. */
  suspect(): void {
    if (this.pending++ > 0) return
    const { opened, restsUntil, failures: strikes } = this
    this.before = { opened, restsUntil, failures: strikes }
    this.firm = false
  }

  /** What cannot be taken back follows, or happened. */
  confirm(): void {
    if (this.pending > 0) this.pending--
    this.firm = true
  }

  /** The request was to blame: as though it had not failed, unless something else has shown since how it is. */
  pardon(): void {
    if (this.pending > 0) this.pending--
    if (this.pending > 0 || this.firm || this.before === undefined) return
    const { opened, restsUntil, failures: strikes } = this.before
    this.before = undefined
    this.opened = opened
    this.failures = strikes
    if (restsUntil === 0) this.close()
    else this.restsUntil = restsUntil
  }

  /** The clock was set back: how long it has rested is not known any more, so that one request may try it. */
  clockWentBack(now: number): void {
    if (this.restsUntil > now) this.restsUntil = now
    if (this.opened > now) this.opened = now
    if (this.before !== undefined && this.before.restsUntil > now) this.before = { ...this.before, restsUntil: now }
  }

  /** A request that began at `began` got its first token: only one from after the failure says how it is since. */
  answered(began: number): void {
    if (this.opened <= began) this.close()
  }

  /** It got all of its answer. */
  succeeded(began: number): void {
    if (this.opened > began) return
    this.close()
    this.failures = 0
  }

  reset(): void {
    this.unreachable = false
    this.close()
    this.failures = 0
  }

  /** The one request that may try it begins. */
  probe(now: number): void {
    this.probing = true
    if (this.state(now) === "half-open") this.told("half-open")
  }

  private close(): void {
    this.firm = true
    if (this.restsUntil === 0) return
    this.restsUntil = 0
    this.told("closed")
  }
}
