/** Failure classes: who is at fault for a failure. Routing, retries and circuit breakers all use this table. */
import type { FailureReason } from "../Errors.js"

/**
 * - `request`: would fail anywhere, says the server; believed when a second one agrees
 * - `model`: this model on this server; the breaker opens for this model only
 * - `output`: what the model wrote; no breaker opens
 * - `server`: the breaker opens for all models
 * - `none`: says nothing about health (a key, an option, a deadline)
 */
export type FaultOwner = "request" | "model" | "output" | "server" | "none"

export interface FailureClass {
  readonly fault: FaultOwner
  /** The request may be at fault after all: taken back if every other server fails alike. */
  readonly provisional: boolean
  /** Whether the same server may succeed with the same request shortly. */
  readonly retryable: boolean
  /** The server or its model runner may have restarted, so nothing is loaded. */
  readonly losesMemory: boolean
  /** The server did not respond at all. */
  readonly unreachable: boolean
}

type FailureTrait = Exclude<keyof FailureClass, "fault">

const failureClass = (fault: FaultOwner, ...traits: ReadonlyArray<FailureTrait>): FailureClass => ({
  fault,
  provisional: traits.includes("provisional"),
  retryable: traits.includes("retryable"),
  losesMemory: traits.includes("losesMemory"),
  unreachable: traits.includes("unreachable")
})

const table: { readonly [R in FailureReason]: FailureClass } = {
  // The request.
  "invalid-request": failureClass("request"),
  "context-length": failureClass("request"),
  // The model on that server.
  "model-failed": failureClass("model", "provisional", "retryable", "losesMemory"),
  loading: failureClass("model", "retryable"),
  "rate-limited": failureClass("model", "retryable"),
  busy: failureClass("model", "retryable"),
  "model-not-found": failureClass("model"),
  // What the model wrote.
  "bad-output": failureClass("output", "retryable"),
  // The server.
  refused: failureClass("server", "retryable", "losesMemory", "unreachable"),
  dns: failureClass("server", "retryable", "unreachable"),
  network: failureClass("server", "retryable", "losesMemory", "unreachable"),
  // What a page may not ask now, it may not ask in a second.
  blocked: failureClass("server", "unreachable"),
  "connect-timeout": failureClass("server", "retryable", "unreachable"),
  reset: failureClass("server", "retryable", "losesMemory"),
  tls: failureClass("server"),
  "first-token-timeout": failureClass("server", "retryable"),
  "idle-timeout": failureClass("server", "retryable"),
  "server-error": failureClass("server", "provisional", "retryable", "losesMemory"),
  malformed: failureClass("server", "retryable"),
  cut: failureClass("server", "retryable", "losesMemory"),
  // None: nothing is learnt of the server.
  unauthorized: failureClass("none"),
  rejected: failureClass("none"),
  unsupported: failureClass("none"),
  diverged: failureClass("none"),
  engine: failureClass("none"),
  deadline: failureClass("none"),
  asleep: failureClass("none"),
  "remote-limit": failureClass("none")
}

export const classifyFailure = ({ reason }: { readonly reason: FailureReason }): FailureClass => table[reason]

/** What an attempt that failed says of the way to the server; `undefined`: nothing. */
export const contactOf = ({ reason }: { readonly reason: FailureReason }): "reached" | "lost" | undefined => {
  if (table[reason].unreachable || reason === "reset" || reason === "cut") return "lost"
  const tells = reason !== "first-token-timeout" && reason !== "idle-timeout" && table[reason].fault !== "none"
  return tells ? "reached" : undefined
}
