/** Second requests per first one that allows them, and how many may be saved up for a bad moment. */
const share = 0.05
const most = 10

/**
 * Keeps second requests rare: if all servers became slow at once, each asking two would make it worse.
 *
 * @since 0.1.0
 * @category models
 */
export class HedgeBudget {
  private credit = 0

  /** A request that allows a second one has begun. */
  callStarted(): void {
    this.credit = Math.min(most, this.credit + share)
  }

  /** Whether a second request may be sent now. */
  allowed(): boolean {
    // Twenty times a twentieth is not quite one.
    return this.credit >= 1 - 1e-9
  }

  /** A second request is sent. */
  spend(): void {
    this.credit -= 1
  }
}
