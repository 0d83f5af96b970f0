/** When a server is tried again. */
import type { Attempt } from "../Errors.js"
import { classifyFailure } from "../fleet/failureClass.js"
import type { Host } from "../Server.js"

/** Maximum pauses in milliseconds: in general, and when the caller set no number of attempts. */
const maxPause = 30_000
const maxDefaultPause = 1_000

/**
 * Exponential backoff before the next round over the same servers, in milliseconds: `first` doubled with each round, up
 * to 30 s, minus a jitter of up to a half. `round` counts from 1; `chance` is from 0 to 1.
 */
export const pauseBefore = (round: number, first: number, chance: number, longest = maxPause): number =>
  Math.min(first * 2 ** Math.min(round - 1, 30), Math.max(first, longest)) * (0.5 + chance / 2)

/** The same if the caller set no number of attempts: up to 1 s. */
export const defaultPauseBefore = (round: number, first: number, chance: number): number =>
  pauseBefore(round, first, chance, maxDefaultPause)

/**
 * How long, in milliseconds, servers are retried after all have failed, if the caller set no number of attempts: long
 * enough for a restart, short enough not to delay the error when all are down.
 */
export const retryWindow = 10_000

/**
 * Default number of attempts of a call: two rounds over the servers, but at least six, so that one server with a
 * failure rate of a fifth fails one call in 15,000.
 */
export const defaultAttempts = (servers: number): number => Math.max(2 * servers, 6)

/**
 * Whether asking this server again in this call may come to something else. One that has also failed in another way may
 * be restarting, and one whose list could be read meanwhile is there.
 */
export const mayChange = ({ certain, server }: Host, attempts: ReadonlyArray<Attempt>): boolean => {
  if (certain) return true
  const own = attempts.filter((attempt) => attempt.server === server.url)
  return own.length === 0 || own.some(({ lasting }) => lasting !== true)
}

/** A server that was silent for this long, in milliseconds, is not tried again. */
const longSilence = 4_000

/** Whether a server with this failure is worth another try within moments. */
export const isWorthRetry = (attempt: Attempt): boolean =>
  classifyFailure(attempt).retryable &&
  !(
    (attempt.reason === "connect-timeout" ||
      attempt.reason === "first-token-timeout" ||
      attempt.reason === "idle-timeout") &&
    attempt.elapsed >= longSilence
  )
