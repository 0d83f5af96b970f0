/** The lifetime of a call: until its deadline, and no longer than the services that it uses. */
import type { Limits } from "../ChatRequest.js"
import type { LiveMember, LiveSet } from "../internal/liveSet.js"
import { maxTimer } from "../internal/silenceTimer.js"

/**
 * Base class of calls in progress: a deadline that counts from the call's start, and membership in the set of calls
 * that are cancelled when the services close.
 */
export abstract class Lifetime implements LiveMember {
  seat = -1
  protected over = false
  private deadline: ReturnType<typeof setTimeout> | undefined
  private liveSet: Pick<LiveSet<LiveMember>, "remove"> | undefined

  /** Called when the deadline has passed. */
  protected abstract expired(deadline: number): void

  /** Registers the call until it closes. */
  register<A extends LiveMember>(this: this & A, liveSet: Pick<LiveSet<A>, "add" | "remove">): void {
    if (this.over) return
    liveSet.add(this)
    this.liveSet = liveSet as Pick<LiveSet<LiveMember>, "remove">
  }

  /** Schedules `expired`; `now` is in milliseconds since the epoch, as is the call's start. */
  protected expireIn({ deadline }: Limits, began: number, now: number): void {
    if (deadline === undefined || this.over) return
    const left = Math.max(1, deadline - (now - began))
    this.deadline = setTimeout(() => this.expired(deadline), Math.min(left, maxTimer))
  }

  /** Closes the call: nothing more will happen. */
  protected finish(): void {
    this.over = true
    if (this.deadline !== undefined) clearTimeout(this.deadline)
    this.liveSet?.remove(this)
  }
}
