/**
 * Detects silence with one timer. Each sign of life only records the time; when the timer fires, it checks how long ago
 * that was, and sleeps for the rest.
 *
 * @internal
 */

/** Longer timers fire at once. */
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
  /** The deadline in any case. */
  private end = Number.POSITIVE_INFINITY
  /** The time is up, but data that has arrived meanwhile was not read yet. */
  private late = false

  constructor(private readonly watched: SilenceListener) {}

  /** From now on a silence of `limit` milliseconds is too long, and so are `total` milliseconds whatever arrives. */
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
    this.sleep(due, this.last)
  }

  /** Whether there were signs of life, and only the total time is up. */
  get onTouch(): boolean {
    return this.last + this.limit > this.end
  }

  touch(): void {
    this.last = performance.now()
    // The total time is up.
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
    const now = performance.now()
    // Timers may fire a fraction of a millisecond early.
    if (due - now > 1) this.sleep(due, now)
    else if (this.late) this.watched.silent()
    else {
      // After a busy turn timers run before sockets are read: waits one more turn before blaming a server.
      this.late = true
      this.sleep(now, now)
    }
  }

  private get due(): number {
    return Math.min(this.last + this.limit, this.end)
  }

  private sleep(due: number, now: number): void {
    this.wakes = due
    // Newer versions of Node print a warning for a negative time. Rounded, as timers of one duration cost less.
    this.handle = setTimeout(fire, Math.min(Math.max(0, Math.round(due - now)), maxTimer), this)
  }
}
