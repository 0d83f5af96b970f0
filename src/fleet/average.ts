/** Running averages: exponentially weighted moving averages (EWMA). */

/** Weight of a new observation of one server: after five, older ones count for a sixth. */
export const alpha = 0.3

/** Weight of a new observation in the average over all servers of a model. */
export const sharedAlpha = 0.05

/**
 * The average with one more observation. Values that are not finite and non-negative are ignored: clocks are set back,
 * and servers report nonsense.
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

/** A peak EWMA: values above the average count fully, values below it only in part. */
export const peak = (old: number | undefined, value: number | undefined): number | undefined =>
  value !== undefined && old !== undefined && value > old ? value : average(old, value)

/** A floor: values below the average count fully, values above it hardly. */
export const floor = (old: number | undefined, value: number): number =>
  old === undefined || value < old ? value : old + 0.02 * (value - old)
