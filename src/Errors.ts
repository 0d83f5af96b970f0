/**
 * Every way in which a call can fail, as typed errors: each says what happened and what to do next.
 *
 * The Promise facade throws these same objects, so `error._tag === "ModelNotFound"` and
 * `error instanceof ModelNotFound` both work there. None of them ever carries a secret.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

// =============================================================================
// Attempts
// =============================================================================

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
  "deadline"
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
export const Unsupported = Schema.Struct({ field: Schema.String, reason: Schema.String })
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
  server: Schema.String,
  phase: Phase,
  reason: FailureReason,
  message: Schema.String,
  elapsed: Schema.Number,
  status: Schema.optionalWith(Schema.Number, { exact: true }),
  retryAfter: Schema.optionalWith(Schema.Number, { exact: true }),
  unsupported: Schema.optionalWith(Schema.NonEmptyArray(Unsupported), { exact: true })
})
/**
 * @since 0.1.0
 * @category models
 */
export type Attempt = typeof Attempt.Type

const describeAttempt = (attempt: Attempt): string =>
  `${attempt.server} (${attempt.reason}, ${attempt.phase}, ${Math.round(attempt.elapsed)} ms): ${attempt.message}`

const describeAttempts = (attempts: ReadonlyArray<Attempt>): string =>
  attempts.map((attempt) => `\n  - ${describeAttempt(attempt)}`).join("")

/**
 * A server that could not be asked which models it has, and why.
 *
 * @since 0.2.0
 * @category models
 */
export const Unreachable = Schema.Struct({ url: Schema.String, reason: Schema.String })
/**
 * @since 0.2.0
 * @category models
 */
export type Unreachable = typeof Unreachable.Type

const unasked = (unreachable: ReadonlyArray<Unreachable>): string =>
  unreachable.map(({ reason, url }) => `${url} could not be asked (${reason})`).join(", ")

// =============================================================================
// errors
// =============================================================================

/**
 * The request is invalid and was rejected before anything was sent, or by the servers: two of them agreed, or there was
 * only one. `field` names the option at fault. `code` is `context_length_exceeded` if the prompt exceeds the model's
 * context.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>("aicortex/InvalidRequest")("InvalidRequest", {
  field: Schema.String,
  reason: Schema.String,
  server: Schema.optionalWith(Schema.String, { exact: true }),
  code: Schema.optionalWith(Schema.Literal("context_length_exceeded"), { exact: true })
}) {
  override get message() {
    return this.server === undefined
      ? `Invalid request: ${this.field}: ${this.reason}`
      : `Invalid request: ${this.server} answered: ${this.reason}`
  }
}

/**
 * Unknown model: it is neither in the catalogue nor on a known server. `suggestions` are the nearest names, nearest
 * first; `unreachable` are the servers that could not be asked, and why. Reference: AI Cortex's `ValueError`.
 *
 * @since 0.1.0
 * @category errors
 */
export class ModelNotFound extends Schema.TaggedError<ModelNotFound>("aicortex/ModelNotFound")("ModelNotFound", {
  model: Schema.String,
  suggestions: Schema.Array(Schema.String),
  unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true })
}) {
  override get message() {
    const near = this.suggestions.length === 0 ? "" : ` Did you mean ${this.suggestions.join(", ")}?`
    const silent = this.unreachable === undefined ? "" : ` ${unasked(this.unreachable)}.`
    return `Model '${this.model}' not found.${near}${silent} List what there is with models() or \`aicortex models\`.`
  }
}

/**
 * The model is known, but no server of yours has it. `servers` are yours, `unreachable` those of them that could not
 * be asked, with the reason, and `available` the models that the others do have (at most 20).
 *
 * @since 0.1.0
 * @category errors
 */
export class NoServers extends Schema.TaggedError<NoServers>("aicortex/NoServers")("NoServers", {
  model: Schema.String,
  servers: Schema.Array(Schema.String),
  available: Schema.Array(Schema.String),
  unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true })
}) {
  override get message() {
    const { unreachable = [] } = this
    const asked = this.servers.filter((server) => !unreachable.some(({ url }) => url === server))
    if (this.servers.length === 0) {
      return (
        `No servers available for model '${this.model}': no server is known. Name yours with \`aicortex servers add ` +
        `URL\`, AICORTEX_SERVERS or createCortex({ servers }), or use the model that is built in: "aicortex-demo".`
      )
    }
    const silent = unreachable.length === 0 ? "" : unasked(unreachable)
    if (asked.length === 0) {
      return `No servers available for model '${this.model}': ${silent}.`
    }
    const others = this.available.length === 0 ? "" : ` They have: ${this.available.join(", ")}.`
    return (
      `No servers available for model '${this.model}': none of ${asked.join(", ")} has it` +
      `${silent === "" ? "" : `, and ${silent}`}.${others} Get it with \`ollama pull ${this.model}\` on one of them, or choose another model.`
    )
  }
}

/**
 * `auto` was asked for, and no model on the servers suits the request: `lacks` is what it needs besides an answer
 * (`insert`: to fill in the middle of a text). `servers` are yours, `unreachable` those of them that could not be asked
 * which models they have, and why.
 *
 * @since 0.2.0
 * @category errors
 */
export class NoSuitableModel extends Schema.TaggedError<NoSuitableModel>("aicortex/NoSuitableModel")(
  "NoSuitableModel",
  {
    lacks: Schema.Array(Schema.Literal("tools", "vision", "insert")),
    servers: Schema.Array(Schema.String),
    unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true })
  }
) {
  /** Whether no server could be asked at all. */
  get unanswered() {
    return this.servers.length > 0 && this.unreachable?.length === this.servers.length
  }
  /** What no model is known to do, in words. */
  get abilities() {
    const words = { tools: "call tools", vision: "see images", insert: "fill in the middle" }
    return this.lacks.map((one) => words[one])
  }
  override get message() {
    const { abilities, unreachable = [] } = this
    const silent = unreachable.length === 0 ? "" : ` ${unasked(unreachable)}.`
    if (this.unanswered) return `No model can be chosen, because no server answers.${silent}`
    const reason = abilities.length === 0 ? "can answer" : `is known to ${abilities.join(" and ")}`
    return `No model on the servers ${reason}.${silent} Name one, or add a server that has one.`
  }
}

/**
 * Every server that could serve the model was tried and failed. `attempts` lists each of them, in order; `unreachable`
 * are others, which could not be asked whether they have it.
 *
 * @since 0.1.0
 * @category errors
 */
export class AllServersFailed extends Schema.TaggedError<AllServersFailed>("aicortex/AllServersFailed")(
  "AllServersFailed",
  {
    model: Schema.String,
    attempts: Schema.Array(Attempt),
    unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true })
  }
) {
  override get message() {
    const n = this.attempts.length
    const silent = (this.unreachable ?? []).map(
      ({ reason, url }) => `\n  - ${url} could not be asked which models it has (${reason})`
    )
    return (
      `All server attempts failed for model '${this.model}' (${n} ${n === 1 ? "attempt" : "attempts"}). ` +
      `Check that the servers are up, or add another:${describeAttempts(this.attempts)}${silent.join("")}`
    )
  }
}

/**
 * The answer broke after a part of it was sent, and no server could continue it. `partial` is the text so far.
 *
 * @since 0.1.0
 * @category errors
 */
export class StreamInterrupted extends Schema.TaggedError<StreamInterrupted>("aicortex/StreamInterrupted")(
  "StreamInterrupted",
  { model: Schema.String, partial: Schema.String, attempts: Schema.Array(Attempt) }
) {
  override get message() {
    return (
      `The answer of '${this.model}' broke after ${this.partial.length} characters and no server could go on with it. ` +
      `The text so far is in \`partial\`; ask again to start over:${describeAttempts(this.attempts)}`
    )
  }
}

/**
 * The deadline that all attempts of one call share has passed. `deadline` is in milliseconds.
 *
 * @since 0.1.0
 * @category errors
 */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>("aicortex/DeadlineExceeded")(
  "DeadlineExceeded",
  {
    model: Schema.String,
    deadline: Schema.Number,
    partial: Schema.String,
    attempts: Schema.Array(Attempt)
  }
) {
  override get message() {
    const list = this.attempts.length === 0 ? "" : ` The attempts:${describeAttempts(this.attempts)}`
    return `No complete answer from '${this.model}' within the deadline of ${this.deadline} ms. Allow more time, or ask for less.${list}`
  }
}

/**
 * Every server of the model is full, and so is the queue. `retryAfter` is an estimate, in milliseconds, of when there
 * will be room.
 *
 * @since 0.1.0
 * @category errors
 */
export class Overloaded extends Schema.TaggedError<Overloaded>("aicortex/Overloaded")("Overloaded", {
  model: Schema.String,
  queued: Schema.Number,
  retryAfter: Schema.Number
}) {
  override get message() {
    return (
      `All servers of '${this.model}' are busy and ${this.queued} requests are waiting already. ` +
      `Try again in about ${Math.ceil(this.retryAfter / 1000)} s, add a server, or raise maxInFlight or maxQueued.`
    )
  }
}

/**
 * A mismatch between a reply and its schema. `path` is a dotted path into the value, empty for the whole. `unchecked`:
 * the reply was too costly to check, so it is unknown whether it matches.
 *
 * @since 0.1.0
 * @category models
 */
export const SchemaIssue = Schema.Struct({
  path: Schema.String,
  message: Schema.String,
  unchecked: Schema.optional(Schema.Literal(true))
})
/**
 * @since 0.1.0
 * @category models
 */
export type SchemaIssue = typeof SchemaIssue.Type

/**
 * The model's reply is not JSON or does not match the schema, even after one attempt at repair. `text` is the last raw
 * reply.
 *
 * @since 0.1.0
 * @category errors
 */
export class SchemaMismatch extends Schema.TaggedError<SchemaMismatch>("aicortex/SchemaMismatch")("SchemaMismatch", {
  model: Schema.String,
  issues: Schema.Array(SchemaIssue),
  text: Schema.String
}) {
  override get message() {
    const issues = this.issues.map((i) => (i.path === "" ? i.message : `${i.path}: ${i.message}`)).join("; ")
    const text = this.text.length > 200 ? `${this.text.slice(0, 200)}…` : this.text
    return `The reply of '${this.model}' does not fit: ${issues}. Try a larger model or a simpler schema. The reply: ${text}`
  }
}

/**
 * No conversation has this id. Reference: AI Cortex's `KeyError`.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>("aicortex/SessionNotFound")(
  "SessionNotFound",
  { id: Schema.String }
) {
  override get message() {
    return (
      `No session with id '${this.id}' found. Create one, with Session.create() or Sessions.create(), and use its id; ` +
      `sessions end with their process unless \`sessions.folder\` is set.`
    )
  }
}

/**
 * A conversation is not available now: its store does not respond (another process, or a custom store), or 512 calls
 * already wait for their turn in it. Without a response, the operation may have been carried out all the same.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionsUnavailable extends Schema.TaggedError<SessionsUnavailable>("aicortex/SessionsUnavailable")(
  "SessionsUnavailable",
  { reason: Schema.String }
) {
  override get message() {
    return `The session cannot be used now: ${this.reason}. Try again in a moment.`
  }
}

/**
 * No persona has this name. `known` are the names that exist in the configuration.
 *
 * @since 0.1.0
 * @category errors
 */
export class PersonaNotFound extends Schema.TaggedError<PersonaNotFound>("aicortex/PersonaNotFound")(
  "PersonaNotFound",
  { persona: Schema.String, known: Schema.Array(Schema.String) }
) {
  override get message() {
    const known = this.known.length === 0 ? "the configuration names none" : `there are: ${this.known.join(", ")}`
    return `No persona is named '${this.persona}': ${known}. Add it under "personas" in the configuration.`
  }
}

/**
 * The embedded engine cannot run. `install` is the command that fixes it.
 *
 * @since 0.1.0
 * @category errors
 */
export class EngineUnavailable extends Schema.TaggedError<EngineUnavailable>("aicortex/EngineUnavailable")(
  "EngineUnavailable",
  { reason: Schema.String, install: Schema.String }
) {
  override get message() {
    return `The embedded engine cannot run: ${this.reason}. Install it with \`${this.install}\`, or use a model server.`
  }
}

/**
 * A setting (environment variable, configuration file, or option of the constructor) cannot be used.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>("aicortex/InvalidConfig")("InvalidConfig", {
  source: Schema.String,
  field: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `Invalid configuration in ${this.source}: ${this.field}: ${this.reason}`
  }
}

/**
 * A tool that the model called failed. `cause` is what it threw or failed with.
 *
 * @since 0.1.0
 * @category errors
 */
export class ToolFailed extends Schema.TaggedError<ToolFailed>("aicortex/ToolFailed")("ToolFailed", {
  tool: Schema.String,
  reason: Schema.String,
  cause: Schema.optionalWith(Schema.Defect, { exact: true })
}) {
  override get message() {
    // A call that nobody answered has no cause: there is nothing that the tool could return instead.
    const hint =
      this.cause === undefined ? "" : " Let it return a value that describes the failure if the model should see it."
    return `The tool '${this.tool}' failed: ${this.reason}.${hint}`
  }
}

/**
 * The instance was closed, before the call or during it.
 *
 * @since 0.1.0
 * @category errors
 */
export class Closed extends Schema.TaggedError<Closed>("aicortex/Closed")("Closed", {}) {
  override get message() {
    return "This instance has been closed. Make a new one with createCortex()."
  }
}

/**
 * What a chat call can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export const ChatError = Schema.Union(
  InvalidRequest,
  ModelNotFound,
  NoServers,
  NoSuitableModel,
  AllServersFailed,
  StreamInterrupted,
  DeadlineExceeded,
  Overloaded,
  SessionNotFound,
  SessionsUnavailable,
  PersonaNotFound,
  EngineUnavailable,
  ToolFailed,
  Closed
)
/**
 * @since 0.1.0
 * @category errors
 */
export type ChatError = typeof ChatError.Type

/**
 * Something in a registry file that could not be read: the record was left out (or the field ignored), the rest
 * is used. A warning is data, not a failure: see `Registry.warnings`.
 *
 * @since 0.1.0
 * @category errors
 */
export class RegistryWarning extends Schema.TaggedError<RegistryWarning>("aicortex/RegistryWarning")(
  "RegistryWarning",
  {
    file: Schema.String,
    record: Schema.optionalWith(Schema.Union(Schema.Number, Schema.String), { exact: true }),
    field: Schema.optionalWith(Schema.String, { exact: true }),
    reason: Schema.String
  }
) {
  override get message() {
    const record = this.record === undefined ? "" : `, record ${this.record}`
    const field = this.field === undefined ? "" : `, field ${this.field}`
    return `${this.file}${record}${field}: ${this.reason}`
  }
}

/**
 * The model has answered, and the turn could not be stored: the disk is full or read-only, a quota is used up, or what
 * holds the conversations does not answer. The caller has the whole answer, and the conversation is as it was before.
 * A warning, never a failure: see `Result.warnings` and the `end` event; it is logged as well. `session` is the id.
 *
 * @since 0.2.0
 * @category errors
 */
export class TurnNotStored extends Schema.TaggedError<TurnNotStored>("aicortex/TurnNotStored")("TurnNotStored", {
  session: Schema.String,
  reason: Schema.String
}) {
  override get message() {
    return `The answer is complete, but was not added to the session '${this.session}': ${this.reason}.`
  }
}

/**
 * What was learned of the servers in an earlier run could not be used, or not be kept: the program goes on without. A
 * warning is logged, never a failure.
 *
 * @since 0.1.0
 * @category errors
 */
export class SavedStateWarning extends Schema.TaggedError<SavedStateWarning>("aicortex/SavedStateWarning")(
  "SavedStateWarning",
  { source: Schema.String, reason: Schema.String }
) {
  override get message() {
    return `What was learned of the servers in ${this.source} is not used: ${this.reason.replace(/\s+/g, " ").slice(0, 300)}`
  }
}
