/**
 * Running averages: exponentially weighted moving averages (EWMA) of what was observed.
 *
 * @since 0.1.0
 */

/**
 * What the newest observation of one server weighs: after five of them the older ones count for a sixth.
 *
 * @since 0.1.0
 * @category constants
 */
export const alpha = 0.3

/**
 * What the newest observation weighs in the average over all servers of a model, which many observations share.
 *
 * @since 0.1.0
 * @category constants
 */
export const sharedAlpha = 0.05

/**
 * The average after one more observation. What is no finite number from 0 changes nothing: clocks are set back, and servers
 * report nonsense.
 *
 * @since 0.1.0
 * @category combinators
 */
export const average = (
  old: number | undefined,
  value: number | undefined,
  weight: number = alpha
): number | undefined =>
  value === undefined || !Number.isFinite(value) || value < 0
    ? old
    : old === undefined
      ? value
      : old + weight * (value - old)

/**
 * A peak EWMA: what is above the average counts at once, what is below it only in part.
 *
 * @since 0.1.0
 * @category combinators
 */
export const peak = (old: number | undefined, value: number | undefined): number | undefined =>
  value !== undefined && old !== undefined && value > old ? value : average(old, value)

/**
 * A floor: what is below the average counts at once, what is above it hardly.
 *
 * @since 0.1.0
 * @category combinators
 */
export const floor = (old: number | undefined, value: number): number =>
  old === undefined || value < old ? value : old + 0.02 * (value - old)
