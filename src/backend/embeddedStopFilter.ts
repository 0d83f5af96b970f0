/**
 * Ends a text at a stop sequence.
 */

interface StopFilter {
  readonly push: (text: string) => string
  readonly rest: () => string
  /** The stop sequence that was found. */
  readonly stopped: () => string | undefined
}

/** Emits text up to the first stop sequence, and holds back what may become the beginning of one. */
export const makeStopFilter = (stops: ReadonlyArray<string>): StopFilter => {
  let held = ""
  let stopped: string | undefined
  const take = (length: number): string => {
    const out = held.slice(0, length)
    held = held.slice(length)
    return out
  }
  const push = (text: string): string => {
    held += text
    let first = Number.POSITIVE_INFINITY
    for (const stop of stops) {
      const at = held.indexOf(stop)
      if (at === -1 || at >= first) continue
      first = at
      stopped = stop
    }
    if (stopped !== undefined) {
      const out = take(first)
      held = ""
      return out
    }
    let keep = 0
    for (const stop of stops) {
      let n = Math.min(stop.length - 1, held.length)
      while (n > keep && !held.endsWith(stop.slice(0, n))) n--
      keep = Math.max(keep, n)
    }
    return take(held.length - keep)
  }
  return { push, rest: () => take(held.length), stopped: () => stopped }
}
