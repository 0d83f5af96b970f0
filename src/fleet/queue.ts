/**
 * The queue for the servers of one model, and what is known of the model's requests as a whole.
 *
 * @since 0.1.0
 */

import { FairQueue, type Waiter } from "./fairQueue.js"

/**
 * A model's line. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export class ModelQueue {
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

  private readonly waiters: FairQueue
  private serving = false
  private servesAgain = false

  /** `now` is in milliseconds. */
  constructor(now: () => number) {
    this.waiters = new FairQueue(now)
  }

  get length(): number {
    return this.waiters.size
  }

  get full(): boolean {
    return this.waiters.size >= this.capacity
  }

  /** Makes room for one more where it can; false where the queue stays full. */
  hasRoom(waiter: Waiter): boolean {
    if (!this.full) return true
    const displaced = this.waiters.displaceable(waiter)
    displaced?.displaced?.()
    return !this.full
  }

  /** `first`: before everybody else, for who has waited already. */
  join(waiter: Waiter, first: boolean): void {
    this.waiters.join(waiter, first)
  }

  leave(waiter: Waiter): void {
    this.waiters.leave(waiter)
  }

  /** It has found a place, and leaves. */
  served(waiter: Waiter): void {
    this.waiters.served(waiter)
  }

  /** Something has changed: the first in line look for a place, until one finds none. */
  serve(): void {
    if (this.serving) {
      this.servesAgain = true
      return
    }
    this.serving = true
    try {
      do {
        this.servesAgain = false
        this.turn()
      } while (this.servesAgain && this.waiters.size > 0)
    } finally {
      this.serving = false
    }
  }

  private turn(): void {
    for (const waiter of this.waiters.order()) {
      // Looking may have had it leave.
      if (!waiter.look() && this.waiters.has(waiter) && !waiter.narrow()) return
    }
  }
}
