/**
 * Which speeds (tokens per second) are plausible.
 *
 * @internal
 */

/** Upper bound: registries and servers report impossible figures. @internal */
export const maxSpeed = 2_000

/**
 * A speed, unless it is implausible.
 *
 * @internal
 */
export const plausible = (speed: number | undefined): number | undefined =>
  speed !== undefined && speed > 0 && speed <= maxSpeed ? speed : undefined

/**
 * A number that a server reports, if it can be one of tokens or milliseconds.
 *
 * @internal
 */
export const positive = (value: number | undefined): number | undefined =>
  value !== undefined && Number.isFinite(value) && value > 0 ? value : undefined

/** Below the first duration, in milliseconds, a measured speed says nothing; below the second, it refutes no claim. */
const minMeasured = 50
const minRefuting = 200

/** A pausing reader makes the server seem slower, but not by this factor over a whole answer. */
const tolerance = 3

/**
 * The speed of a server: its own figure, unless that is implausible or contradicts our measurement; else what was
 * measured. Proxies may pass an answer on in bursts, which only makes it seem faster: a lower figure of the server is
 * accepted.
 *
 * @param claimed what the server says
 * @param tokens how many tokens came
 * @param duration from the first to the last of them, in milliseconds
 *
 * @internal
 */
export const reconcile = (claimed: number | undefined, tokens: number, duration: number): number | undefined => {
  const measured = duration >= minMeasured && tokens > 1 ? (tokens - 1) / (duration / 1_000) : undefined
  const believed = plausible(claimed)
  if (believed === undefined) return plausible(measured)
  if (measured !== undefined && duration >= minRefuting && believed > tolerance * measured) return measured
  return believed
}
