/** What a store that is shared and outlives the process can fail with. */
import * as Schema from "effect/Schema"
import { TaggedError } from "./taggedError.js"

/**
 * The store cannot be used now: its package is not installed, the file or the database cannot be opened, or it does not
 * answer.
 *
 * @since 0.4.0
 * @category errors
 */
export class StoreUnavailable extends TaggedError<StoreUnavailable>("aicortex/StoreUnavailable")("StoreUnavailable", {
  /** Why, and what to do where the reason is not the store itself. */
  reason: Schema.String,
  /** Whether what was asked for may have been done all the same: the store was lost while it ended. */
  uncertain: Schema.Boolean,
  /** Whether there is no store at all: its package or its binary is not installed, or its file cannot be made. */
  absent: Schema.optionalWith(Schema.Literal(true), { exact: true })
}) {
  override get message() {
    return `The store cannot be used now: ${this.reason}`
  }
}
