/**
 * Whether a second server is asked because the first one is late. When that is, is decided here; which one it is, by
 * `ServerSelection.hedgeTarget`; the first piece of either ends the other (`answer.ts`).
 */
import type { Limits } from "../ChatRequest.js"
import { maxTimer } from "../internal/silenceTimer.js"
import type { Route } from "../Router.js"

/** Second requests per call that allows hedging, and how many may accumulate. */
const share = 0.05
const most = 10

/**
 * A budget that keeps hedged requests rare: if all servers became slow at once, asking two each time would make it
 * worse.
 */
export class HedgeBudget {
  private credit = 0

  /**
   * For each call that allows hedging: after how many milliseconds the attempt on the server at this index is late,
   * which is `after` or else as its own times to first token say; `undefined` if too little is known of it.
   */
  lateAfter({ after }: NonNullable<Limits["hedge"]>, route: Pick<Route, "hedgeDelay">, at: number): number | undefined {
    this.credit = Math.min(most, this.credit + share)
    const delay = after ?? route.hedgeDelay(at)
    return delay === undefined ? undefined : Math.min(delay, maxTimer)
  }

  /** Whether a hedged request may be sent now. */
  allowed(): boolean {
    // Twenty times a twentieth is slightly below one in floating point.
    return this.credit >= 1 - 1e-9
  }

  /** Records a hedged request. */
  spend(): void {
    this.credit -= 1
  }
}
