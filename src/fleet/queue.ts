/** The queue for the servers of one model, and statistics about the model's requests. */

import { FairQueue, type Waiter } from "./fairQueue.js"

/** The queue of a model. Times are in milliseconds. */
export class ModelQueue {
  /** EWMA of how long a request occupies its slot, without loads and waits. Initially: a short answer. */
  serviceTime = 5_000
  /** EWMA of load times. Initially: a few gigabytes from disk. */
  loadTime = 15_000
  /** EWMA over all servers, in prompt tokens per second; NaN before the first. */
  promptSpeed = Number.NaN
  /** Whether `serviceTime` is an observation. */
  observed = false
  /** Maximum queue length. */
  capacity = 512

  private readonly waiters: FairQueue
  private serving = false
  private servesAgain = false

  /** `now` is in milliseconds; `busy` are all queues that are not empty. */
  constructor(
    now: () => number,
    private readonly busy?: Set<ModelQueue>
  ) {
    this.waiters = new FairQueue(now)
  }

  get length(): number {
    return this.waiters.size
  }

  get full(): boolean {
    return this.waiters.size >= this.capacity
  }

  /** Displaces a request if the rules allow it; false if the queue stays full. */
  hasRoom(waiter: Waiter): boolean {
    if (!this.full) return true
    const displaced = this.waiters.displaceable(waiter)
    displaced?.displaced?.()
    return !this.full
  }

  /** `first`: ahead of all others, for a request that has waited before. */
  join(waiter: Waiter, first: boolean): void {
    this.waiters.join(waiter, first)
    this.busy?.add(this)
  }

  leave(waiter: Waiter): void {
    this.waiters.leave(waiter)
    if (this.waiters.size === 0) this.busy?.delete(this)
  }

  /** It has found a slot, and leaves. */
  served(waiter: Waiter): void {
    this.waiters.served(waiter)
    if (this.waiters.size === 0) this.busy?.delete(this)
  }

  /** Something has changed: the first in the queue look for a slot, until one finds none. */
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
      // It may have left during its look.
      if (!waiter.look() && this.waiters.has(waiter) && !waiter.narrow()) return
    }
  }
}
