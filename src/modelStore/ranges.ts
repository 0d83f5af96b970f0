/** Which parts of a file are there, and which are missing. */

/** From `start`, up to `end` and without it. */
export interface Range {
  readonly start: number
  readonly end: number
}

/** The same bytes in as few ranges as can be, in order. */
export const merged = (ranges: ReadonlyArray<Range>): ReadonlyArray<Range> => {
  const sorted = ranges.filter(({ end, start }) => end > start).sort((a, b) => a.start - b.start)
  const all: Array<{ start: number; end: number }> = []
  for (const { end, start } of sorted) {
    const last = all.at(-1)
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end)
    else all.push({ start, end })
  }
  return all
}

/** How many bytes ranges have that do not overlap. */
export const lengthOf = (ranges: ReadonlyArray<Range>): number =>
  ranges.reduce((sum, { end, start }) => sum + end - start, 0)

/** What is missing of a file of this size, in pieces of at most `piece` bytes. */
export const missing = (size: number, there: ReadonlyArray<Range>, piece: number): Array<Range> => {
  const pieces: Array<Range> = []
  let at = 0
  for (const { end, start } of [...merged(there), { start: size, end: size }]) {
    for (; at < Math.min(start, size); at = Math.min(at + piece, start, size)) {
      pieces.push({ start: at, end: Math.min(at + piece, start, size) })
    }
    at = Math.max(at, end)
  }
  return pieces
}
