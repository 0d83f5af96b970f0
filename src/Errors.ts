/**
 * Every way in which a call can fail, as typed errors: each says what happened and what to do next.
 *
 * The Promise facade throws these same objects, so `error._tag === "ModelNotFound"` and
 * `error instanceof ModelNotFound` both work there. None of them ever carries a secret.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { adviceOn } from "./errors/advice.js"
import { Attempt, describeAttempts, describeExcluded, Excluded, Unreachable, unasked } from "./errors/attempts.js"
import { EngineFailed, EngineNotInstalled, NotRunning, SupervisorUnavailable } from "./errors/engines.js"
import {
  InsufficientDiskSpace,
  InvalidModelFile,
  InvalidModelReference,
  ModelDownloadFailed,
  ModelNameTaken,
  ModelNotStored,
  ModelStoreUnavailable
} from "./errors/localModels.js"
import { ModelPriceUnknown, RemoteBudgetExhausted, RemoteTokensExhausted } from "./errors/remoteLimits.js"
import { StoreUnavailable } from "./errors/store.js"
import { TaggedError } from "./errors/taggedError.js"

export { Attempt, Excluded, FailureReason, Phase, Unreachable, Unsupported } from "./errors/attempts.js"

export { EngineFailed, EngineNotInstalled, NotRunning, SupervisorUnavailable } from "./errors/engines.js"

export {
  DownloadReason,
  InsufficientDiskSpace,
  InvalidModelFile,
  InvalidModelReference,
  ModelDownloadFailed,
  ModelNameTaken,
  ModelNotStored,
  ModelStoreUnavailable
} from "./errors/localModels.js"

export {
  RegistryChangeRefused,
  RegistryFileFailed,
  RegistryRefusal,
  RegistrySourceFailed,
  RegistrySourceReason,
  RegistryUnanswered
} from "./errors/registry.js"

export { ModelPriceUnknown, RemoteBudgetExhausted, RemoteTokensExhausted } from "./errors/remoteLimits.js"

export { StoreUnavailable } from "./errors/store.js"

export { RegistryWarning, SavedStateWarning, TurnNotStored } from "./errors/warnings.js"

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
export class InvalidRequest extends TaggedError<InvalidRequest>("aicortex/InvalidRequest")("InvalidRequest", {
  /** The option at fault; `request` if a server rejected the request and named none. */
  field: Schema.String,
  /** What is wrong with it. */
  reason: Schema.String,
  /** The server that rejected the request; absent if nothing was sent. */
  server: Schema.optionalWith(Schema.String, { exact: true }),
  /** Set if the prompt exceeds the model's context. */
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
 * first, of models that your servers have, where any has one; `available` are models that they have; `unreachable` are
 * the servers that could not be asked, and why. Reference: AI Cortex's `ValueError`.
 *
 * @since 0.1.0
 * @category errors
 */
export class ModelNotFound extends TaggedError<ModelNotFound>("aicortex/ModelNotFound")("ModelNotFound", {
  /** The name that was asked for. */
  model: Schema.String,
  /** The nearest names, nearest first. */
  suggestions: Schema.Array(Schema.String),
  /** Models that your servers have, at most 20. */
  available: Schema.optionalWith(Schema.Array(Schema.String), { exact: true }),
  /** The servers that could not be asked, and why. */
  unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true })
}) {
  override get message() {
    const near = this.suggestions.length === 0 ? "" : ` Did you mean ${this.suggestions.join(", ")}?`
    const others =
      near !== "" || this.available === undefined ? "" : ` Your servers have: ${this.available.join(", ")}.`
    const silent = this.unreachable === undefined ? "" : ` ${unasked(this.unreachable)}.`
    return `Model '${this.model}' not found.${near}${others}${silent} List what there is with models() or \`aicortex models\`.`
  }
}

/**
 * The model is known, but no server of yours has it. `servers` are yours, `unreachable` those of them that could not
 * be asked, with the reason, and `available` the models that the others do have (at most 20).
 *
 * @since 0.1.0
 * @category errors
 */
export class NoServers extends TaggedError<NoServers>("aicortex/NoServers")("NoServers", {
  /** The name that was asked for. */
  model: Schema.String,
  /** The addresses of your servers. */
  servers: Schema.Array(Schema.String),
  /** Models that your servers have, at most 20. */
  available: Schema.Array(Schema.String),
  /** Those of your servers that could not be asked, and why. */
  unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true })
}) {
  /** Those of `available` that have the same name with another tag: `llama3.2:3b` for `llama3.2`. */
  get otherTags(): ReadonlyArray<string> {
    const nameOf = (model: string) =>
      model
        .trim()
        .toLowerCase()
        .replace(/:[^:/]*$/, "")
    return this.available.filter((other) => nameOf(other) === nameOf(this.model))
  }
  override get message() {
    const { unreachable = [] } = this
    const none = this.model === "auto" ? "No servers available" : `No servers available for model '${this.model}'`
    const reachable = this.servers.filter((server) => !unreachable.some(({ url }) => url === server))
    if (this.servers.length === 0) {
      return (
        `${none}: no server is known. Name yours with \`aicortex servers add ` +
        `URL\`, AICORTEX_SERVERS or createCortex({ servers }), or use the model that is built in: "aicortex-demo".`
      )
    }
    const silent = unreachable.length === 0 ? "" : unasked(unreachable)
    if (reachable.length === 0) {
      return `${none}: ${silent}.`
    }
    const near = this.otherTags.length === 0 ? "" : ` Did you mean ${this.otherTags.join(", ")}?`
    const others = this.available.length === 0 ? "" : ` They have: ${this.available.join(", ")}.`
    return (
      `${none}: none of ${reachable.join(", ")} has ${this.model === "auto" ? "a model" : "it"}` +
      `${silent === "" ? "" : `, and ${silent}`}.${near}${others}${this.model === "auto" ? "" : ` Get it with \`ollama pull ${this.model}\` on one of them, or choose another model.`}`
    )
  }
}

/**
 * `auto` was asked for, and no model on the servers suits the request: `lacks` is what it needs in addition to an
 * answer (`insert`: to fill in the middle of a text). `servers` are yours, `unreachable` those of them that could not
 * be asked which models they have, and why; `excluded` lists each model on each of the others, and why it does not
 * suit.
 *
 * @since 0.2.0
 * @category errors
 */
export class NoSuitableModel extends TaggedError<NoSuitableModel>("aicortex/NoSuitableModel")("NoSuitableModel", {
  /** What the request needs in addition to an answer; `insert` is to fill in the middle of a text. */
  lacks: Schema.Array(Schema.Literal("tools", "vision", "insert")),
  /** The addresses of your servers. */
  servers: Schema.Array(Schema.String),
  /** Those of your servers that could not be asked, and why. */
  unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true }),
  /** Each model on each server that could be asked, and why it does not suit. */
  excluded: Schema.optionalWith(Schema.Array(Excluded), { exact: true })
}) {
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
    if (this.servers.length === 0) {
      return `No server is known, and the built-in model cannot ${abilities.join(" or ")}. Add a server with a model that can.`
    }
    const reason = abilities.length === 0 ? "can answer" : `is known to ${abilities.join(" and ")}`
    return (
      `No model on the servers (${this.servers.join(", ")}) ${reason}.${silent} ` +
      `Get one there, such as with \`ollama pull llama3.2:3b\`, or name one.${describeExcluded(this.excluded)}`
    )
  }
}

/**
 * The call is private, and no local server has the model. Nothing was sent. `servers` are those that do have it, or,
 * for `auto`, all of yours.
 *
 * @since 0.2.0
 * @category errors
 */
export class NoLocalServer extends TaggedError<NoLocalServer>("aicortex/NoLocalServer")("NoLocalServer", {
  /** The name that was asked for. */
  model: Schema.String,
  /** The addresses of the servers that were not asked, because they are remote. */
  servers: Schema.Array(Schema.String)
}) {
  override get message() {
    const what = this.model === "auto" ? "no model that suits it is" : `'${this.model}' is not`
    return (
      `The call is private, and ${what} on a local server. Get it on one, or mark a server that you trust with ` +
      "`local: true`."
    )
  }
}

/**
 * Every server that could serve the model was tried and failed. `attempts` lists each of them, in order; `unreachable`
 * are others, which could not be asked whether they have it. Where several models could answer (`auto`, an alias) they
 * were all tried: each attempt has its `model`, and `excluded` are the models on servers that were not asked, and why.
 *
 * @since 0.1.0
 * @category errors
 */
export class AllServersFailed extends TaggedError<AllServersFailed>("aicortex/AllServersFailed")("AllServersFailed", {
  /** The model that was asked. */
  model: Schema.String,
  /** Each attempt, in order. */
  attempts: Schema.Array(Attempt),
  /** Other servers, which could not be asked whether they have the model. */
  unreachable: Schema.optionalWith(Schema.Array(Unreachable), { exact: true }),
  /** Models on servers that were not asked, and why. */
  excluded: Schema.optionalWith(Schema.Array(Excluded), { exact: true })
}) {
  override get message() {
    const n = this.attempts.length
    const isMisled = n > 0 && this.attempts.every(({ lasting }) => lasting === true)
    const silent = (this.unreachable ?? []).map(
      ({ reason, url }) => `\n  - ${url} could not be asked which models it has (${reason})`
    )
    return (
      `All server attempts failed for model '${this.model}' (${n} ${n === 1 ? "attempt" : "attempts"}). ` +
      `Check ${isMisled ? "their addresses" : "that the servers are up"}, or add another:${describeAttempts(this.attempts)}${describeExcluded(this.excluded)}${silent.join("")}`
    )
  }
}

/**
 * The answer broke after a part of it was sent, and no server could continue it. `partial` is the text so far.
 *
 * @since 0.1.0
 * @category errors
 */
export class StreamInterrupted extends TaggedError<StreamInterrupted>("aicortex/StreamInterrupted")(
  "StreamInterrupted",
  {
    /** The model that was asked. */
    model: Schema.String,
    /** The text so far. */
    partial: Schema.String,
    /** Each attempt, in order. */
    attempts: Schema.Array(Attempt)
  }
) {
  override get message() {
    return (
      `The answer of '${this.model}' broke after ${this.partial.length} characters and no server could continue it. ` +
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
export class DeadlineExceeded extends TaggedError<DeadlineExceeded>("aicortex/DeadlineExceeded")("DeadlineExceeded", {
  /** The model that was asked. */
  model: Schema.String,
  /** The call's `deadline`, in milliseconds. */
  deadline: Schema.Number,
  /** The text so far; empty if there is none. */
  partial: Schema.String,
  /** Each attempt that had failed, in order. */
  attempts: Schema.Array(Attempt)
}) {
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
export class Overloaded extends TaggedError<Overloaded>("aicortex/Overloaded")("Overloaded", {
  /** The model that was asked. */
  model: Schema.String,
  /** How many requests wait for it. */
  queued: Schema.Number,
  /** An estimate of when there will be room, in milliseconds. */
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
  /** A dotted path into the value; empty for the whole. */
  path: Schema.String,
  /** What does not match. */
  message: Schema.String,
  /** The reply was too costly to check: it is unknown whether it matches. */
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
export class SchemaMismatch extends TaggedError<SchemaMismatch>("aicortex/SchemaMismatch")("SchemaMismatch", {
  /** The model that answered. */
  model: Schema.String,
  /** What does not match. */
  issues: Schema.Array(SchemaIssue),
  /** The last raw reply. */
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
export class SessionNotFound extends TaggedError<SessionNotFound>("aicortex/SessionNotFound")("SessionNotFound", {
  /** The id that was asked for. */
  id: Schema.String
}) {
  override get message() {
    return (
      `No session with id '${this.id}' found. Create one, with Session.create() or Sessions.create(), and use its id; ` +
      `sessions end with their process unless a \`store\` is set.`
    )
  }
}

/**
 * A conversation is not available now: its store does not respond (another process, or a custom store), has no room or
 * cannot be written, or 512 calls already wait for their turn in it. Without a response, the operation may still have been carried out.
 *
 * @since 0.1.0
 * @category errors
 */
export class SessionsUnavailable extends TaggedError<SessionsUnavailable>("aicortex/SessionsUnavailable")(
  "SessionsUnavailable",
  {
    /** Why the conversation cannot be used now. */
    reason: Schema.String
  }
) {
  override get message() {
    return `The session cannot be used now: ${this.reason}. ${adviceOn(this.reason)}`
  }
}

/**
 * No persona has this name. `known` are the names that exist in the configuration.
 *
 * @since 0.1.0
 * @category errors
 */
export class PersonaNotFound extends TaggedError<PersonaNotFound>("aicortex/PersonaNotFound")("PersonaNotFound", {
  /** The name that was asked for. */
  persona: Schema.String,
  /** The names in the configuration. */
  known: Schema.Array(Schema.String)
}) {
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
export class EngineUnavailable extends TaggedError<EngineUnavailable>("aicortex/EngineUnavailable")(
  "EngineUnavailable",
  {
    /** Why the engine cannot run. */
    reason: Schema.String,
    /** The command that installs it. */
    install: Schema.String
  }
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
export class InvalidConfig extends TaggedError<InvalidConfig>("aicortex/InvalidConfig")("InvalidConfig", {
  /** Where the setting was given: a variable, a file, or the options. */
  source: Schema.String,
  /** The setting at fault. */
  field: Schema.String,
  /** What is wrong with it. */
  reason: Schema.String
}) {
  override get message() {
    return this.field === "file"
      ? `The configuration file ${this.source} cannot be used: ${this.reason}`
      : `Invalid configuration in ${this.source}: ${this.field}: ${this.reason}`
  }
}

/**
 * A tool that the model called failed. `cause` is what it threw or failed with.
 *
 * @since 0.1.0
 * @category errors
 */
export class ToolFailed extends TaggedError<ToolFailed>("aicortex/ToolFailed")("ToolFailed", {
  /** The tool that failed. */
  tool: Schema.String,
  /** What went wrong, in words. */
  reason: Schema.String,
  /** What the tool threw or failed with. */
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
export class Closed extends TaggedError<Closed>("aicortex/Closed")("Closed", {}) {
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
  NoLocalServer,
  RemoteTokensExhausted,
  RemoteBudgetExhausted,
  ModelPriceUnknown,
  AllServersFailed,
  StreamInterrupted,
  DeadlineExceeded,
  Overloaded,
  SessionNotFound,
  SessionsUnavailable,
  PersonaNotFound,
  EngineUnavailable,
  EngineFailed,
  ToolFailed,
  Closed
)
/**
 * @since 0.1.0
 * @category errors
 */
export type ChatError = typeof ChatError.Type

/**
 * The errors of downloading, starting or calling a model of this machine, in addition to `ChatError`.
 *
 * @since 0.3.0
 * @category errors
 */
export const LocalModelError = Schema.Union(
  EngineFailed,
  EngineNotInstalled,
  NotRunning,
  SupervisorUnavailable,
  InsufficientDiskSpace,
  InvalidModelFile,
  InvalidModelReference,
  ModelDownloadFailed,
  ModelNameTaken,
  ModelNotStored,
  ModelStoreUnavailable
)
/**
 * @since 0.3.0
 * @category errors
 */
export type LocalModelError = typeof LocalModelError.Type

// =============================================================================
// guards
// =============================================================================

/**
 * The errors of a call in addition to `ChatError`: with a schema, or because the settings of the fleet are unusable.
 */
const others = [SchemaMismatch, InvalidConfig, StoreUnavailable, ...LocalModelError.members] as const

type Class = (typeof ChatError.members)[number] | (typeof others)[number]

const byTag: ReadonlyMap<unknown, Class> = new Map(
  [...ChatError.members, ...others].map((one): [string, Class] => [one._tag, one])
)

/**
 * Whether a value is one of the errors that a call can fail with, on any face: a `ChatError`, `SchemaMismatch` (calls
 * with a schema), `InvalidConfig` (functions that make the fleet they use), `StoreUnavailable` (what is kept in a
 * store) or a `LocalModelError` (models of this machine). A bug, an abort, and an error of another library with the
 * same `_tag` are none.
 *
 * @since 0.2.0
 * @category guards
 * @example
 * ```ts
 * import { chat, isChatError } from "aicortex/promise"
 *
 * export const answer = (question: string): Promise<string> =>
 *   chat(question).catch((error: unknown) => {
 *     if (isChatError(error)) return `no answer (${error._tag}): ${error.message}`
 *     throw error
 *   })
 * ```
 */
export const isChatError = <A>(
  value: A
): value is A & (ChatError | SchemaMismatch | InvalidConfig | StoreUnavailable | LocalModelError) => {
  if (!(value instanceof Error && "_tag" in value)) return false
  const expected = byTag.get(value._tag)
  return expected !== undefined && value instanceof expected
}
