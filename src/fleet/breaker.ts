/**
 * The circuit breaker of a server, or of one model on a server: it opens after a failure; after a rest it lets one
 * probe through.
 */
import type { FailureReason } from "../Errors.js"
import type { BreakerChange } from "../Telemetry.js"

/**
 * `closed`: in use. `open`: resting until `restsUntil`. `half-open`: one probe request at a time is allowed.
 *
 * @since 0.1.0
 * @category models
 */
export type BreakerState = "closed" | "open" | "half-open"

/**
 * The rest doubles after each failed probe, up to this multiple of the first rest: probing every ten minutes a server
 * that has been down for an hour is cheap.
 */
export const longestRest = 10

/**
 * What a breaker opened for.
 *
 * @since 0.3.0
 * @category models
 */
export interface BreakerCause {
  /** What went wrong; `rest`: nothing, an operator lets the server rest. */
  readonly reason: FailureReason | "rest"
  /** What the server or the operating system said. */
  readonly message: string
}

/** Times are in milliseconds since the epoch. `notify` is called on every change. */
export class Breaker {
  /** 0: closed. */
  restsUntil = 0
  /** When it last opened. */
  opened = 0
  /** Consecutive failures; those of requests in flight together count as one. */
  failures = 0
  /** A probe is in flight. */
  probing = false
  /** It rests only because it was unreachable. */
  unreachable = false
  /** What it last opened for. */
  cause: BreakerCause | undefined
  /** When an operator last began or ended its rest, here or at another process; 0: never. */
  setAt = 0
  /** How long that rest was to be, in milliseconds; 0: it was ended. */
  setRest = 0

  /** The state before the provisional failures, how many these are, and whether a firm one came since. */
  private before: { readonly restsUntil: number; readonly opened: number; readonly failures: number } | undefined
  private pending = 0
  private firm = false

  constructor(private readonly notify: (change: BreakerChange) => void) {}

  state(now: number): BreakerState {
    return this.restsUntil === 0 ? "closed" : this.restsUntil > now ? "open" : "half-open"
  }

  /**
   * A request that began at `began` has failed; `rest` is for the first failure, `asked` is the server's Retry-After.
   */
  open(began: number, now: number, rest: number, retryAfter: number | undefined): void {
    if (this.restsUntil <= now) this.notify("open")
    if (retryAfter !== undefined) {
      this.opened = now
      this.restsUntil = Math.max(this.restsUntil, now + retryAfter)
      return
    }
    // Requests that were in flight when it opened count as the same failure.
    if (this.restsUntil > now && began < this.opened) return
    const early = this.restsUntil > now
    if (!early) this.failures++
    this.opened = now
    // A request that was sent although it rests, because no other server was left, is no probe: it only postpones the
    // next one.
    this.restsUntil = early
      ? Math.max(this.restsUntil, now + rest)
      : now + Math.min(longestRest * rest, rest * 2 ** Math.min(30, this.failures - 1))
  }

  /** The next `open` is provisional: exactly one of `pardon` and `confirm` follows. */
  suspect(): void {
    if (this.pending++ > 0) return
    const { opened, restsUntil, failures: strikes } = this
    this.before = { opened, restsUntil, failures: strikes }
    this.firm = false
  }

  /** A firm failure follows, or has happened. */
  confirm(): void {
    if (this.pending > 0) this.pending--
    this.firm = true
  }

  /** The request was at fault: restores the state before, unless something else has changed since. */
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

  /** The clock was set back: the elapsed rest is unknown, so one probe is allowed. */
  clockWentBack(now: number): void {
    if (this.restsUntil > now) this.restsUntil = now
    if (this.opened > now) this.opened = now
    if (this.before !== undefined && this.before.restsUntil > now) this.before = { ...this.before, restsUntil: now }
  }

  /**
   * A request that began at `began` got its first token: only requests begun after the failure show that the server has
   * recovered.
   */
  answered(began: number): void {
    if (this.opened <= began) this.close()
  }

  /** The request was answered completely. */
  succeeded(began: number): void {
    if (this.opened > began) return
    this.close()
    this.failures = 0
  }

  reset(): void {
    this.unreachable = false
    this.cause = undefined
    this.close()
    this.failures = 0
  }

  /** An operator has begun or ended its rest, after all that is known here of operators. */
  noteOperator(at: number): void {
    this.setAt = Math.max(at, this.setAt + 1)
    this.setRest = Math.max(0, this.restsUntil - at)
  }

  /**
   * Whether what an operator did elsewhere is the last action. Of two in the same millisecond the longer rest wins, in
   * every process.
   */
  isOutdated(at: number, rest: number): boolean {
    return at > this.setAt || (at === this.setAt && rest > this.setRest)
  }

  /** Another process reported the same server: it rests until then; 0: it does not rest any more. */
  adopt(restsUntil: number, failures: number, now: number): void {
    if (restsUntil === 0) {
      this.close()
      this.failures = 0
      return
    }
    if (this.restsUntil <= now && restsUntil > now) this.notify("open")
    this.firm = true
    this.opened = now
    this.restsUntil = restsUntil
    this.failures = failures
  }

  /** A probe begins. */
  probe(now: number): void {
    this.probing = true
    if (this.state(now) === "half-open") this.notify("half-open")
  }

  private close(): void {
    this.firm = true
    if (this.restsUntil === 0) return
    this.restsUntil = 0
    this.notify("closed")
  }
}
