/**
 * Who waits for a place on any server of one model, first come, first served, and what is known of the model's
 * requests as a whole.
 *
 * @since 0.1.0
 */

/**
 * One that waits.
 *
 * - `look`: looks for a place now; whether it has found one, or leaves for another reason. It is asked again until
 *   it has
 * - `narrow`: whether there are servers that it cannot go to, because it failed there or they do not speak what it
 *   needs: then it does not hold up those behind it
 *
 * @since 0.1.0
 * @category models
 */
export interface Waiter {
  readonly look: () => boolean
  readonly narrow: () => boolean
}

/**
 * A model's line. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export class Line {
  /** EWMA of how long a request occupies its place, without loads and waits. Before the first: a short answer. */
  serviceTime = 5_000
  /** EWMA of how long a load takes. Before the first: some gigabytes from a disk. */
  loadTime = 15_000
  /** EWMA over all servers, in prompt tokens per second; NaN before the first. */
  promptSpeed = Number.NaN
  /** Whether `serviceTime` is an observation. */
  observed = false
  /** How many may wait. */
  capacity = 512

  private readonly waiters: Array<Waiter> = []
  private attending = false
  private again = false

  get queued(): number {
    return this.waiters.length
  }

  get full(): boolean {
    return this.waiters.length >= this.capacity
  }

  /** `first`: before everybody else, for who has waited already. */
  join(waiter: Waiter, first: boolean): void {
    if (first) this.waiters.unshift(waiter)
    else this.waiters.push(waiter)
  }

  leave(waiter: Waiter): void {
    const at = this.waiters.indexOf(waiter)
    if (at >= 0) this.waiters.splice(at, 1)
  }

  /** Something has changed: the first in line look for a place, until one finds none. */
  attend(): void {
    if (this.attending) {
      this.again = true
      return
    }
    this.attending = true
    try {
      do {
        this.again = false
        this.turn()
      } while (this.again && this.waiters.length > 0)
    } finally {
      this.attending = false
    }
  }

  private turn(): void {
    let at = 0
    for (;;) {
      const waiter = this.waiters[at]
      if (waiter === undefined) return
      if (waiter.look()) {
        this.leave(waiter)
        continue
      }
      // Looking may have had others join or leave.
      if (this.waiters[at] !== waiter) continue
      if (!waiter.narrow()) return
      at++
    }
  }
}
