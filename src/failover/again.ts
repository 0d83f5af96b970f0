/**
 * When a server is tried again.
 *
 * @since 0.1.0
 */
import type { Attempt } from "../Errors.js"

/** No pause is longer than this, in milliseconds. */
const longestPause = 30_000

/**
 * How long to wait before the same servers are tried for another round, in milliseconds: `first` doubled with each
 * round, up to 30 s, less by up to a half. `round` counts from 1; `chance` is from 0 to 1.
 *
 * @since 0.1.0
 * @category accessors
 */
export const pauseBefore = (round: number, first: number, chance: number): number =>
  Math.min(first * 2 ** Math.min(round - 1, 30), Math.max(first, longestPause)) * (0.5 + chance / 2)

/**
 * Whether a server that failed like this may answer the same request later, once it has answered another.
 *
 * @since 0.1.0
 * @category accessors
 */
export const mayRecover = ({ reason }: Attempt): boolean => {
  switch (reason) {
    case "unauthorized":
    case "rejected":
    case "invalid-request":
    case "unsupported":
    case "diverged":
    case "engine":
    case "deadline":
      return false
    default:
      return true
  }
}
