/**
 * Which speeds, in tokens per second, are believed.
 *
 * @internal
 */

/** No server is faster than this: registries and servers report impossible figures. @internal */
export const maxSpeed = 2_000

/**
 * A speed, unless it is impossible: an impossible figure says nothing about how fast a server is.
 *
 * @internal
 */
export const believable = (speed: number | undefined): number | undefined =>
  speed !== undefined && speed > 0 && speed <= maxSpeed ? speed : undefined

/** Measured over less than this, in milliseconds, a speed says nothing; over less than that, it refutes nobody. */
const minMeasured = 50
const minRefuting = 200

/** A reader who pauses makes the server seem slower, but not so many times over a whole answer. */
const tolerance = 3

/**
 * How fast a server was: what it says, unless that is impossible or contradicts our clock; else what our clock says. What
 * lies between may pass an answer on in bursts, and only makes it seem faster: a lower figure is the server's to give.
 *
 * @param claimed what the server says
 * @param tokens how many tokens came
 * @param duration from the first to the last of them, in milliseconds
 *
 * @internal
 */
export const reconcile = (claimed: number | undefined, tokens: number, duration: number): number | undefined => {
  const measured = duration >= minMeasured && tokens > 1 ? (tokens - 1) / (duration / 1_000) : undefined
  const told = believable(claimed)
  if (told === undefined) return believable(measured)
  if (measured !== undefined && duration >= minRefuting && told > tolerance * measured) return measured
  return told
}
