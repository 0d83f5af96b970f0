/** A state that changes at most once in a window, and comes back only with a margin. */

/** How bad a value is: `0` below the first limit, `1` from there on, `2` from the second one on. */
export type Level = 0 | 1 | 2

export interface Limit {
  readonly at: number
  /** From where on it is critical; default: nowhere. */
  readonly critical?: number
}

/**
 * The level of a value, where it was at `before`: to leave a level it must be below its limit by the margin, a fraction of
 * the limit.
 */
export const levelOf = (
  value: number,
  { at, critical = Number.POSITIVE_INFINITY }: Limit,
  before: Level,
  margin: number
): Level => {
  const back = 1 - margin
  if (value >= (before === 2 ? critical * back : critical)) return 2
  return value >= (before >= 1 ? at * back : at) ? 1 : 0
}

/** Keeps a state for a window after each change. The first state that is known is no change. */
export class Settled<State> {
  private changedAt = Number.NEGATIVE_INFINITY
  private current: State | undefined

  constructor(private readonly window: number) {}

  get state(): State | undefined {
    return this.current
  }

  /** The state that holds, where the values now say `next`. */
  settle(next: State, now: number): State {
    const { current } = this
    if (current === undefined) {
      this.current = next
      return next
    }
    // A clock that was set back does not hold a state for longer than the window.
    if (this.changedAt > now) this.changedAt = now
    if (next === current || now - this.changedAt < this.window) return current
    this.changedAt = now
    this.current = next
    return next
  }
}
