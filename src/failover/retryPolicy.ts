/**
 * When a server is tried again.
 *
 * @since 0.1.0
 */
import type { Attempt } from "../Errors.js"
import { classifyFailure } from "../fleet/failureClass.js"

/** No pause is longer than this, in milliseconds; nor, where the caller did not say how often to try, than the second. */
const maxPause = 30_000
const maxDefaultPause = 1_000

/**
 * How long to wait before the same servers are tried for another round, in milliseconds: `first` doubled with each
 * round, up to 30 s, less by up to a half. `round` counts from 1; `chance` is from 0 to 1.
 *
 * @since 0.1.0
 * @category accessors
 */
export const pauseBefore = (round: number, first: number, chance: number, longest = maxPause): number =>
  Math.min(first * 2 ** Math.min(round - 1, 30), Math.max(first, longest)) * (0.5 + chance / 2)

/**
 * The same where the caller did not say how often to try: up to 1 s.
 *
 * @since 0.1.0
 * @category accessors
 */
export const defaultPauseBefore = (round: number, first: number, chance: number): number =>
  pauseBefore(round, first, chance, maxDefaultPause)

/**
 * How long, in milliseconds, servers are tried again after each of them has failed, where the caller did not say how often
 * to try: one that restarts is back by then, and nobody waits for long where all of them are down.
 *
 * @since 0.1.0
 * @category constants
 */
export const retryWindow = 10_000

/**
 * How many attempts a call has in all where the caller did not say: two rounds over so many servers, and at least six, so
 * that one server that fails at a fifth of what it is asked fails a call in 15,000.
 *
 * @since 0.1.0
 * @category accessors
 */
export const defaultAttempts = (servers: number): number => Math.max(2 * servers, 6)

/** A server that was silent for so long, in milliseconds, is not worth the same wait once more. */
const longSilence = 4_000

/**
 * Whether a server that failed like this is worth another try within moments.
 *
 * @since 0.1.0
 * @category guards
 */
export const isWorthRetry = (attempt: Attempt): boolean =>
  classifyFailure(attempt).retryable &&
  !(
    (attempt.reason === "connect-timeout" ||
      attempt.reason === "first-token-timeout" ||
      attempt.reason === "idle-timeout") &&
    attempt.elapsed >= longSilence
  )
