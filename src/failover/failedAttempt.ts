/**
 * What is remembered of an attempt that failed.
 *
 * @since 0.1.0
 */
import type { ServerFailure } from "../Backend.js"
import type { Attempt, Phase } from "../Errors.js"
import type { Host } from "../Server.js"

/**
 * `elapsed` is how long it took, in milliseconds.
 *
 * @since 0.1.0
 * @category constructors
 */
export const failedAttempt = (
  { server }: Host,
  phase: Phase,
  { message, reason, retryAfter, status }: ServerFailure,
  elapsed: number
): Attempt => ({
  server: server.url,
  phase,
  reason,
  message,
  elapsed,
  ...(status === undefined ? {} : { status }),
  ...(retryAfter === undefined ? {} : { retryAfter })
})
