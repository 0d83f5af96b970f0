/**
 * How long a call lives: until its deadline, and no longer than the services that it was made by.
 *
 * @since 0.2.0
 */
import type { Limits } from "../ChatRequest.js"
import type { LiveMember, LiveSet } from "../internal/liveSet.js"
import { maxTimer } from "../internal/silenceTimer.js"

/**
 * What every call under way has: a deadline that counts from the call's beginning, and a place on the roster of those
 * that are cancelled when the services are closed.
 *
 * @since 0.2.0
 * @category models
 */
export abstract class Lifetime implements LiveMember {
  seat = -1
  protected over = false
  private deadline: ReturnType<typeof setTimeout> | undefined
  private liveSet: Pick<LiveSet<LiveMember>, "remove"> | undefined

  /** The deadline has passed. */
  protected abstract expired(deadline: number): void

  /** It is on this roster until nothing more will happen. */
  register<A extends LiveMember>(this: this & A, liveSet: Pick<LiveSet<A>, "add" | "remove">): void {
    if (this.over) return
    liveSet.add(this)
    this.liveSet = liveSet as Pick<LiveSet<LiveMember>, "remove">
  }

  /** Has `expired` called in time; `now` is in milliseconds since the epoch, as `began` is. */
  protected expireIn({ deadline }: Limits, began: number, now: number): void {
    if (deadline === undefined || this.over) return
    const left = Math.max(1, deadline - (now - began))
    this.deadline = setTimeout(() => this.expired(deadline), Math.min(left, maxTimer))
  }

  /** Nothing more will happen. */
  protected finish(): void {
    this.over = true
    if (this.deadline !== undefined) clearTimeout(this.deadline)
    this.liveSet?.remove(this)
  }
}
