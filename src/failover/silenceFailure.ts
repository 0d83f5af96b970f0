/** The failures of silent servers. */
import type { ServerFailure } from "../Backend.js"
import type { Limits } from "../ChatRequest.js"
import type { Phase } from "../Errors.js"

/**
 * The failure of an attempt that was silent for as long as its phase allows; `unanswered` describes the timeout of the
 * first piece.
 */
export const silenceFailure = (
  phase: Phase,
  { connectTimeout, idleTimeout }: Pick<Limits, "connectTimeout" | "idleTimeout">,
  unanswered: () => string
): ServerFailure => {
  switch (phase) {
    case "connect":
      return { reason: "connect-timeout", message: `no connection within ${connectTimeout} ms` }
    case "first-token":
      return { reason: "first-token-timeout", message: unanswered() }
    case "stream":
      return { reason: "idle-timeout", message: `silent for ${idleTimeout} ms in the middle of the answer` }
  }
}
