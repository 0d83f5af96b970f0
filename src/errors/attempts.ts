/**
 * What errors say about the attempts of a call, and about servers that could not be asked.
 */
import * as Schema from "effect/Schema"

/**
 * The phase in which an attempt failed: `connect` until the request is sent, `first-token` until the first piece of the
 * answer, `stream` after it.
 *
 * @since 0.1.0
 * @category models
 */
export const Phase = Schema.Literal("connect", "first-token", "stream")

/**
 * @since 0.1.0
 * @category models
 */
export type Phase = typeof Phase.Type

/**
 * Why an attempt on one server failed.
 *
 * - `refused`, `dns`, `reset`, `tls`, `network`: the connection could not be made or broke
 * - `blocked`: in a browser, the server cannot be reached, or the page may not ask it; `message` says how to allow it
 * - `connect-timeout`, `first-token-timeout`, `idle-timeout`: the server was silent for too long in that phase
 * - `server-error`: HTTP 5xx, or an error the server reported inside its answer
 * - `malformed`: the response violates the protocol
 * - `cut`: the answer ended without an end marker
 * - `rate-limited`, `busy`: HTTP 429 and 503
 * - `model-not-found`: the server does not have the model
 * - `unauthorized`: HTTP 401, 402 and 403
 * - `rejected`: any other HTTP 4xx
 * - `invalid-request`: HTTP 400, 413, 414, 415, 422 and 431, or an equivalent error text (a chat template that rejects
 *   the roles, an unusable schema)
 * - `context-length`: the prompt exceeds the model's context, according to the error text, with any status
 * - `model-failed`: the server cannot run the model, or its runner crashed (such as out of memory)
 * - `loading`: HTTP 503 while the model is loaded
 * - `bad-output`: the server could not parse the model's output
 * - `unsupported`: the server's protocol cannot express an option of the request, and nothing was sent; or the server
 *   says that it does not support it
 * - `diverged`: a second server's answer does not begin with the text already sent
 * - `engine`: the embedded engine failed
 * - `deadline`: the call's deadline passed while the server was at work; it is not at fault
 * - `asleep`: the server's machine was woken (`wake`) and did not come within `loadTimeout`, or could not be woken
 * - `remote-limit`: the server is remote, the ceiling of remote tokens is reached (`remoteTokensPerDay`), and nothing was
 *   sent
 *
 * @since 0.1.0
 * @category models
 */
export const FailureReason = Schema.Literal(
  "refused",
  "dns",
  "reset",
  "tls",
  "network",
  "blocked",
  "connect-timeout",
  "first-token-timeout",
  "idle-timeout",
  "server-error",
  "malformed",
  "cut",
  "rate-limited",
  "busy",
  "model-not-found",
  "unauthorized",
  "rejected",
  "invalid-request",
  "context-length",
  "model-failed",
  "loading",
  "bad-output",
  "unsupported",
  "diverged",
  "engine",
  "deadline",
  "asleep",
  "remote-limit"
)

/**
 * @since 0.1.0
 * @category models
 */
export type FailureReason = typeof FailureReason.Type

/**
 * An option that a server cannot take, and why.
 *
 * @since 0.2.0
 * @category models
 */
export const Unsupported = Schema.Struct({
  /** The option. */
  field: Schema.String,
  /** Why it cannot be taken. */
  reason: Schema.String
})

/**
 * @since 0.2.0
 * @category models
 */
export type Unsupported = typeof Unsupported.Type

/**
 * One failed attempt on one server. `elapsed` is in milliseconds; `status` is the HTTP status, if any; `retryAfter` is
 * the wait that the server asked for, in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export const Attempt = Schema.Struct({
  /** The server's address. */
  server: Schema.String,
  /** How far the attempt had come. */
  phase: Phase,
  /** What went wrong. */
  reason: FailureReason,
  /** The same in words. It holds no secret. */
  message: Schema.String,
  /** How long the attempt took, in milliseconds. */
  elapsed: Schema.Number,
  /** The HTTP status of the response, if there was one. */
  status: Schema.optionalWith(Schema.Number, { exact: true }),
  /** The wait that the server asked for, in milliseconds. */
  retryAfter: Schema.optionalWith(Schema.Number, { exact: true }),
  /**
   * Another attempt within seconds can come to nothing else: the address leads to no model server. It is set where the
   * server has not shown that it is one, and such a server is not asked again in this call.
   */
  lasting: Schema.optionalWith(Schema.Literal(true), { exact: true }),
  /** The options that the server cannot take, where `reason` is `unsupported`. */
  unsupported: Schema.optionalWith(Schema.NonEmptyArray(Unsupported), { exact: true }),
  /** The model that was asked, where a call asked several (`auto`, an alias). */
  model: Schema.optionalWith(Schema.String, { exact: true })
})

/**
 * @since 0.1.0
 * @category models
 */
export type Attempt = typeof Attempt.Type

const describeAttempt = (attempt: Attempt, times: number, longest: number): string => {
  const model = attempt.model === undefined ? "" : `${attempt.model} at `
  const duration = times === 1 ? `${Math.round(longest)} ms` : `${times} times, at most ${Math.round(longest)} ms`
  return `${model}${attempt.server} (${attempt.reason}, ${attempt.phase}, ${duration}): ${attempt.message}`
}

/** The attempts as lines of an error message; those that failed in the same way share one. */
export const describeAttempts = (attempts: ReadonlyArray<Attempt>): string => {
  const alike = new Map<string, Array<Attempt>>()
  for (const attempt of attempts) {
    const { message, model, phase, reason, server } = attempt
    const way = JSON.stringify([model, server, reason, phase, message])
    const before = alike.get(way)
    if (before === undefined) alike.set(way, [attempt])
    else before.push(attempt)
  }
  return Array.from(alike.values(), (same) => {
    const longest = same.reduce((most, { elapsed }) => Math.max(most, elapsed), 0)
    return `\n  - ${describeAttempt(same[0] as Attempt, same.length, longest)}`
  }).join("")
}

/**
 * A model on a server that was not asked, and why; `server` is empty where that holds for all of them.
 *
 * @since 0.2.0
 * @category models
 */
export const Excluded = Schema.Struct({
  /** The model. */
  model: Schema.String,
  /** The server's address; empty: any. */
  server: Schema.String,
  /** Why it was not asked. */
  reason: Schema.String
})

/**
 * @since 0.2.0
 * @category models
 */
export type Excluded = typeof Excluded.Type

/** A message lists no more than this many; the error itself has all. */
const maxDescribed = 20

/** What was not asked, as lines of an error message. */
export const describeExcluded = (excluded: ReadonlyArray<Excluded> = []): string => {
  const lines = excluded
    .slice(0, maxDescribed)
    .map(({ model, reason, server }) => `\n  - not asked: ${model}${server === "" ? "" : ` at ${server}`}: ${reason}`)
  const more = excluded.length - maxDescribed
  return more > 0 ? `${lines.join("")}\n  - and ${more} more` : lines.join("")
}

/**
 * A server that could not be asked which models it has, and why.
 *
 * @since 0.2.0
 * @category models
 */
export const Unreachable = Schema.Struct({
  /** The server's address. */
  url: Schema.String,
  /** Why it could not be asked. */
  reason: Schema.String
})

/**
 * @since 0.2.0
 * @category models
 */
export type Unreachable = typeof Unreachable.Type

/** The servers that could not be asked, as a part of a sentence. */
export const unasked = (unreachable: ReadonlyArray<Unreachable>): string =>
  unreachable.map(({ reason, url }) => `${url} could not be asked (${reason})`).join(", ")
