/** So many of the newest are remembered. */
const capacity = 32

/** Fewer than this say nothing. */
const minCount = 20

/**
 * The newest of a series of figures, for what an average cannot tell.
 *
 * @since 0.1.0
 * @category models
 */
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

  /** What this share (0 to 1) of them does not exceed; `undefined` with fewer than 20. */
  percentile(share: number): number | undefined {
    if (this.values === undefined || this.count < minCount) return undefined
    const known = this.values.slice(0, Math.min(this.count, capacity)).sort()
    return known[Math.ceil(share * known.length) - 1]
  }
}
