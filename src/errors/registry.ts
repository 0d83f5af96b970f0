/**
 * Why a registry could not be read or changed.
 */
import * as Schema from "effect/Schema"
import { TaggedError } from "./taggedError.js"

/**
 * Why the content of a registry source could not be taken over.
 *
 * - `unreachable`: no connection, or it broke
 * - `timeout`: no answer within the `timeout` of the source
 * - `too-large`: more than `maxBytes`
 * - `redirect`: too many redirects, or one that leads from https to http
 * - `http-status`: the address answered with an error
 * - `not-a-registry`: the content has none of the known forms
 * - `empty`: it names no server and no model
 * - `much-smaller`: it has less than half of what the copy in use has
 * - `unreadable`: a folder or a file cannot be read
 *
 * @since 0.3.0
 * @category models
 */
export const RegistrySourceReason = Schema.Literal(
  "unreachable",
  "timeout",
  "too-large",
  "redirect",
  "http-status",
  "not-a-registry",
  "empty",
  "much-smaller",
  "unreadable"
)

/**
 * @since 0.3.0
 * @category models
 */
export type RegistrySourceReason = typeof RegistrySourceReason.Type

/**
 * A source of the registry (an address, a folder or a file) could not be read, or what it holds is not taken over. The
 * last good copy stays in use. It fails no call: see `Registry.sources`; it is among `Registry.warnings`, too.
 *
 * @since 0.3.0
 * @category errors
 */
export class RegistrySourceFailed extends TaggedError<RegistrySourceFailed>("aicortex/RegistrySourceFailed")(
  "RegistrySourceFailed",
  {
    /** The source: an address without what may be secret in it, a folder or a file. */
    source: Schema.String,
    /** The kind of failure. */
    reason: RegistrySourceReason,
    /** The same in words. It holds no secret. */
    detail: Schema.String,
    /** The HTTP status, where the source answered with an error. */
    status: Schema.optionalWith(Schema.Number, { exact: true })
  }
) {
  override get message() {
    return `The registry ${this.source} ${this.detail}.`
  }
}

/**
 * A file or a folder of a registry could not be read, written or locked. What was to be changed is as it was.
 *
 * @since 0.4.0
 * @category errors
 */
export class RegistryFileFailed extends TaggedError<RegistryFileFailed>("aicortex/RegistryFileFailed")(
  "RegistryFileFailed",
  {
    /** The file or the folder. */
    path: Schema.String,
    /** What is wrong with it, as it completes "the path …". */
    detail: Schema.String
  }
) {
  override get message() {
    return `${this.path} ${this.detail}`
  }
}

/**
 * None of the servers that were asked answered with a list of models. Nothing was written.
 *
 * @since 0.4.0
 * @category errors
 */
export class RegistryUnanswered extends TaggedError<RegistryUnanswered>("aicortex/RegistryUnanswered")(
  "RegistryUnanswered",
  {
    /** How many servers were asked. */
    asked: Schema.Number,
    /** What was left out, and why: servers, and what could not be read of the sources. */
    rejected: Schema.Array(
      Schema.Struct({
        /** The file or the server. */
        source: Schema.String,
        /** The model, where it is about one. */
        model: Schema.optionalWith(Schema.String, { exact: true }),
        /** What is wrong with it. */
        reason: Schema.String
      })
    )
  }
) {
  override get message() {
    return `none of ${this.asked} server${this.asked === 1 ? "" : "s"} answered with a list of models; nothing is written`
  }
}

/**
 * Why records did not replace those of a registry.
 *
 * - `not-a-list`: they are no list
 * - `empty`: no record would be left
 * - `much-smaller`: less than half of the records would be left
 * - `unreadable`: a file that would be replaced is not JSON, and what it holds would be lost
 *
 * @since 0.4.0
 * @category models
 */
export const RegistryRefusal = Schema.Literal("not-a-list", "empty", "much-smaller", "unreadable")

/**
 * @since 0.4.0
 * @category models
 */
export type RegistryRefusal = typeof RegistryRefusal.Type

/**
 * Records were not taken into a registry, whose files are as they were. All but `not-a-list` are applied with `force`.
 *
 * @since 0.4.0
 * @category errors
 */
export class RegistryChangeRefused extends TaggedError<RegistryChangeRefused>("aicortex/RegistryChangeRefused")(
  "RegistryChangeRefused",
  {
    /** The folder of the registry. */
    registry: Schema.String,
    /** The kind of refusal. */
    reason: RegistryRefusal,
    /** The same in words. */
    detail: Schema.String
  }
) {
  override get message() {
    return `${this.registry} is left as it is: ${this.detail}`
  }
}
