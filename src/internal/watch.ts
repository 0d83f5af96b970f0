/**
 * Notices silence. Each sign of life only notes the time; the one timer looks, when it fires, how long ago that was,
 * and sleeps for the rest.
 *
 * @internal
 */

/** A longer timer than this fires at once. */
export const maxTimer = 0x7fffffff

/** @internal */
export interface Watched {
  silent(): void
}

const fire = (watch: Watch): void => watch.fired()

/** @internal */
export class Watch {
  private handle: ReturnType<typeof setTimeout> | undefined
  /** When the timer fires. */
  private wakes = 0
  private last = 0
  private limit = 0
  /** The time is over, but what has arrived meanwhile has not been read yet. */
  private late = false

  constructor(private readonly watched: Watched) {}

  /** From now on a silence of `limit` milliseconds is too long. */
  expect(limit: number): void {
    this.last = performance.now()
    this.limit = limit
    this.late = false
    const due = this.last + limit
    if (this.handle !== undefined) {
      if (this.wakes <= due) return
      clearTimeout(this.handle)
    }
    this.sleep(due)
  }

  heard(): void {
    this.last = performance.now()
    this.late = false
  }

  clear(): void {
    if (this.handle === undefined) return
    clearTimeout(this.handle)
    this.handle = undefined
  }

  fired(): void {
    this.handle = undefined
    const due = this.last + this.limit
    // Timers may fire a fraction of a millisecond early.
    if (due - performance.now() > 1) this.sleep(due)
    else if (this.late) this.watched.silent()
    else {
      // A process that was busy reads its sockets only after its timers: one more turn, before a server is blamed.
      this.late = true
      this.sleep(performance.now())
    }
  }

  private sleep(due: number): void {
    this.wakes = due
    this.handle = setTimeout(fire, Math.min(due - performance.now(), maxTimer), this)
  }
}
