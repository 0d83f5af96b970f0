/**
 * Notices silence. Each sign of life only notes the time; the one timer looks, when it fires, how long ago that was,
 * and sleeps for the rest.
 *
 * @internal
 */

/** A longer timer than this fires at once. */
export const maxTimer = 0x7fffffff

/** @internal */
export interface SilenceListener {
  silent(): void
}

const fire = (watch: SilenceTimer): void => watch.fired()

/** @internal */
export class SilenceTimer {
  private handle: ReturnType<typeof setTimeout> | undefined
  /** When the timer fires. */
  private wakes = 0
  private last = 0
  private limit = 0
  /** When it is too long in any case. */
  private end = Number.POSITIVE_INFINITY
  /** The time is over, but what has arrived meanwhile has not been read yet. */
  private late = false

  constructor(private readonly watched: SilenceListener) {}

  /** From now on a silence of `limit` milliseconds is too long, and so are `total` milliseconds with whatever is heard. */
  expect(limit: number, total = Number.POSITIVE_INFINITY): void {
    this.last = performance.now()
    this.limit = limit
    this.end = this.last + total
    this.late = false
    const due = this.due
    if (this.handle !== undefined) {
      if (this.wakes <= due) return
      clearTimeout(this.handle)
    }
    this.sleep(due)
  }

  /** Whether something was heard since, and only the time in all is over. */
  get onTouch(): boolean {
    return this.last + this.limit > this.end
  }

  touch(): void {
    this.last = performance.now()
    // The time in all is over, whatever is heard.
    if (this.last < this.end) this.late = false
  }

  clear(): void {
    if (this.handle === undefined) return
    clearTimeout(this.handle)
    this.handle = undefined
  }

  fired(): void {
    this.handle = undefined
    const due = this.due
    // Timers may fire a fraction of a millisecond early.
    if (due - performance.now() > 1) this.sleep(due)
    else if (this.late) this.watched.silent()
    else {
      // A process that was busy reads its sockets only after its timers: one more turn, before a server is blamed.
      this.late = true
      this.sleep(performance.now())
    }
  }

  private get due(): number {
    return Math.min(this.last + this.limit, this.end)
  }

  private sleep(due: number): void {
    this.wakes = due
    this.handle = setTimeout(fire, Math.min(due - performance.now(), maxTimer), this)
  }
}
