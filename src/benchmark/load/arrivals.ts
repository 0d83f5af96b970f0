/** When the requests of an open loop are sent. */
import * as Prng from "../../internal/prng.js"

/**
 * Gives the time of one arrival after the other, in milliseconds from the beginning. `poisson`: the times between them
 * are independent, and exponentially distributed with the mean `1 / rate`; `constant`: all are `1 / rate`.
 */
export const arrivals = (kind: "constant" | "poisson", rate: number, seed: number): (() => number) => {
  const mean = 1_000 / rate
  if (kind === "constant") {
    let count = 0
    return () => count++ * mean
  }
  const random = Prng.make(seed)
  let at = 0
  return () => {
    // The logarithm of 0 is infinite.
    at -= Math.log(1 - random()) * mean
    return at
  }
}
