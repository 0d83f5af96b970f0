/** Number of recent values kept. */
const capacity = 32

/** Fewer values than this say nothing. */
const minCount = 20

/** The most recent values of a series, for percentiles. */
export class SlidingWindow {
  private values: Float64Array | undefined
  private count = 0

  add(value: number): void {
    this.values ??= new Float64Array(capacity)
    this.values[this.count++ % capacity] = value
  }

  clear(): void {
    this.count = 0
  }

  /** The percentile for `share` (0 to 1); `undefined` with fewer than 20 values. */
  percentile(share: number): number | undefined {
    if (this.values === undefined || this.count < minCount) return undefined
    const known = this.values.slice(0, Math.min(this.count, capacity)).sort()
    return known[Math.ceil(share * known.length) - 1]
  }
}
