/**
 * One timer that is set again and again, once per network read: setting it to the same length costs no allocation
 * where the platform can restart a timer.
 *
 * @internal
 */
export class Timer {
  private handle: ReturnType<typeof setTimeout> | undefined
  private length = -1

  constructor(private readonly expired: () => void) {}

  /** Expires after `milliseconds` from now, whatever was set before. */
  set(milliseconds: number): void {
    const handle = this.handle
    if (handle !== undefined && this.length === milliseconds && typeof handle === "object" && "refresh" in handle) {
      handle.refresh()
      return
    }
    this.clear()
    this.length = milliseconds
    // A longer delay than 2^31 - 1 ms would expire at once.
    this.handle = setTimeout(this.fire, Math.min(milliseconds, 0x7fffffff))
  }

  clear(): void {
    if (this.handle !== undefined) clearTimeout(this.handle)
    this.handle = undefined
  }

  private readonly fire = (): void => {
    this.handle = undefined
    this.expired()
  }
}
