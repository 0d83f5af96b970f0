/** Records of failed attempts. */
import type { ServerFailure } from "../Backend.js"
import { mayExpectTls } from "../backend/wrongAddress.js"
import type { Attempt, Phase } from "../Errors.js"
import type { Host } from "../Server.js"

/**
 * `elapsed` is its duration in milliseconds. A server whose list of models was read is one: there a page, a redirect or a
 * name that is gone is a disturbance, as while it restarts.
 */
export const failedAttempt = (
  { certain, server }: Host,
  phase: Phase,
  { lasting, message, reason, retryAfter, status, unsupported }: ServerFailure,
  elapsed: number
): Attempt => ({
  server: server.url,
  phase,
  reason,
  message:
    !certain && phase === "first-token" && reason === "reset" && server.url.startsWith("http:")
      ? `closed the connection without an answer (${message}); ${mayExpectTls}`
      : message,
  elapsed,
  ...(status === undefined ? {} : { status }),
  ...(retryAfter === undefined ? {} : { retryAfter }),
  ...(lasting === undefined || certain ? {} : { lasting }),
  ...(unsupported === undefined ? {} : { unsupported })
})

/**
 * Adds an attempt to the earlier ones. Repeated attempts on a server that is loading the model count as one, which
 * lasts until it is loaded.
 */
export const remember = (attempts: Array<Attempt>, attempt: Attempt): void => {
  const at = attempt.reason === "loading" ? attempts.findLastIndex(({ server }) => server === attempt.server) : -1
  const before = attempts[at]
  if (before?.reason === "loading") attempts[at] = { ...attempt, elapsed: before.elapsed + attempt.elapsed }
  else attempts.push(attempt)
}
