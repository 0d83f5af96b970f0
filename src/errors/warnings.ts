/**
 * Warnings: data about what went wrong without a failure.
 */
import * as Schema from "effect/Schema"
import { TaggedError } from "./taggedError.js"

/**
 * Something in a registry file that could not be read: the record was left out (or the field ignored), the rest
 * is used. A warning is data, not a failure: see `Registry.warnings`.
 *
 * @since 0.1.0
 * @category errors
 */
export class RegistryWarning extends TaggedError<RegistryWarning>("aicortex/RegistryWarning")("RegistryWarning", {
  /** The file. */
  file: Schema.String,
  /** The record's number in the file, or its name. */
  record: Schema.optionalWith(Schema.Union(Schema.Number, Schema.String), { exact: true }),
  /** The field at fault. */
  field: Schema.optionalWith(Schema.String, { exact: true }),
  /** What is wrong with it. */
  reason: Schema.String
}) {
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
export class TurnNotStored extends TaggedError<TurnNotStored>("aicortex/TurnNotStored")("TurnNotStored", {
  /** The id of the session. */
  session: Schema.String,
  /** Why the turn could not be stored. */
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
export class SavedStateWarning extends TaggedError<SavedStateWarning>("aicortex/SavedStateWarning")(
  "SavedStateWarning",
  {
    /** Where the state is kept. */
    source: Schema.String,
    /** Why it cannot be used. */
    reason: Schema.String
  }
) {
  override get message() {
    return `${this.source}, which holds what was learned of the servers, cannot be used: ${this.reason.replace(/\s+/g, " ").slice(0, 300)}`
  }
}
