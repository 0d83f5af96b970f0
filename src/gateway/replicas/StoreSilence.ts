/** When a store that does not answer counts as away: until then requests wait for it. */

/** How long requests wait for a store that is slow, and for one whose connections fail; in milliseconds. */
export const maxSilence = 8_000
const maxSilenceAfterFailure = 500

/** The pause before it is asked again, in milliseconds. */
export const failurePause = 100

export class StoreSilence {
  private since: number | undefined
  /** Whether it answers, as far as known. */
  available = true
  /** Why it did not answer last. */
  reason = ""

  asked(now: number): void {
    this.since ??= now
  }

  /** Whether it was away until now. */
  answered(): boolean {
    const isBack = !this.available
    this.since = undefined
    this.available = true
    return isBack
  }

  /** Whether it counts as away from now on. `isSlow`: it took too long, and did not refuse. */
  failed(now: number, isSlow: boolean, reason: string): boolean {
    this.reason = reason
    const silence = now - (this.since ?? now)
    if (!this.available || silence < (isSlow ? maxSilence : maxSilenceAfterFailure)) return false
    this.available = false
    return true
  }
}
