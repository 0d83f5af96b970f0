/** Second requests per call that allows hedging, and how many may accumulate. */
const share = 0.05
const most = 10

/**
 * A budget that keeps hedged requests rare: if all servers became slow at once, asking two each time would make it
 * worse.
 */
export class HedgeBudget {
  private credit = 0

  /** Records a call that allows hedging. */
  callStarted(): void {
    this.credit = Math.min(most, this.credit + share)
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
