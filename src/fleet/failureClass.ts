/**
 * Who is to blame for a failure: the one table that routing, retries and circuit breakers go by.
 *
 * @since 0.1.0
 */
import type { FailureReason } from "../Errors.js"

/**
 * - `request`: it would fail anywhere, says the server; believed when a second one agrees
 * - `model`: this model on this server, which rests for this model only
 * - `output`: what the model wrote; nobody rests
 * - `server`: it rests, for all models
 * - `nobody`: nothing is said of anybody's health (a key, an option, a deadline)
 *
 * @since 0.1.0
 * @category models
 */
export type Culprit = "request" | "model" | "output" | "server" | "nobody"

/**
 * - `provisional`: it may be the request all the same: the blame is taken back where every other server fails like this
 * - `again`: whether the same server may do better at the same request in a moment
 * - `forgets`: the server, or what ran the model on it, may have been started anew: then nothing is in its memory
 * - `unreachable`: nothing was heard of the server at all
 *
 * @since 0.1.0
 * @category models
 */
export interface Verdict {
  readonly culprit: Culprit
  readonly provisional: boolean
  readonly again: boolean
  readonly forgets: boolean
  readonly unreachable: boolean
}

type Trait = Exclude<keyof Verdict, "culprit">

const is = (culprit: Culprit, ...traits: ReadonlyArray<Trait>): Verdict => ({
  culprit,
  provisional: traits.includes("provisional"),
  again: traits.includes("again"),
  forgets: traits.includes("forgets"),
  unreachable: traits.includes("unreachable")
})

const table: { readonly [R in FailureReason]: Verdict } = {
  // The request.
  "invalid-request": is("request"),
  "context-length": is("request"),
  // The model on that server.
  "model-failed": is("model", "provisional", "again", "forgets"),
  loading: is("model", "again"),
  "rate-limited": is("model", "again"),
  busy: is("model", "again"),
  "model-not-found": is("model"),
  // What the model wrote.
  "bad-output": is("output", "again"),
  // The server.
  refused: is("server", "again", "forgets", "unreachable"),
  dns: is("server", "again", "unreachable"),
  network: is("server", "again", "forgets", "unreachable"),
  "connect-timeout": is("server", "again", "unreachable"),
  reset: is("server", "again", "forgets"),
  tls: is("server"),
  "first-token-timeout": is("server", "again"),
  "idle-timeout": is("server", "again"),
  "server-error": is("server", "provisional", "again", "forgets"),
  malformed: is("server", "again"),
  cut: is("server", "again", "forgets"),
  // Nobody.
  unauthorized: is("nobody"),
  rejected: is("nobody"),
  unsupported: is("nobody"),
  diverged: is("nobody"),
  engine: is("nobody"),
  deadline: is("nobody")
}

/**
 * @since 0.1.0
 * @category accessors
 */
export const verdict = ({ reason }: { readonly reason: FailureReason }): Verdict => table[reason]
