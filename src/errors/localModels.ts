/** What getting and keeping models on this machine can fail with. */
import * as Schema from "effect/Schema"
import { TaggedError } from "./taggedError.js"

/**
 * A name of a model means nothing, or nothing that can be had this way. Nothing was read or sent.
 *
 * @since 0.3.0
 * @category errors
 */
export class InvalidModelReference extends TaggedError<InvalidModelReference>("aicortex/InvalidModelReference")(
  "InvalidModelReference",
  {
    /** The name as it was given, without a password. */
    reference: Schema.String,
    /** What is wrong with it, and what would be right. */
    reason: Schema.String
  }
) {
  override get message() {
    return `'${this.reference}' is not the name of a model: ${this.reason}`
  }
}

/**
 * The model is not on this machine. `stored` are those that are (at most 20).
 *
 * @since 0.3.0
 * @category errors
 */
export class ModelNotStored extends TaggedError<ModelNotStored>("aicortex/ModelNotStored")("ModelNotStored", {
  /** The name that was asked for. */
  model: Schema.String,
  /** The models that are stored, at most 20. */
  stored: Schema.Array(Schema.String)
}) {
  override get message() {
    const there = this.stored.length === 0 ? "It has none." : `It has ${this.stored.join(", ")}.`
    return `The model '${this.model}' is not on this machine. ${there} Get it with \`aicortex pull ${this.model}\`.`
  }
}

/**
 * The name is taken by a model from elsewhere. `source` is where that one came from.
 *
 * @since 0.3.0
 * @category errors
 */
export class ModelNameTaken extends TaggedError<ModelNameTaken>("aicortex/ModelNameTaken")("ModelNameTaken", {
  /** The name. */
  model: Schema.String,
  /** Where the model with this name came from. */
  source: Schema.String
}) {
  override get message() {
    return `The name '${this.model}' is taken by the model from ${this.source}. Give another name, or remove that one first.`
  }
}

/**
 * A file is not a model that can be run: it is no GGUF, of a version that is not known, or incomplete.
 *
 * @since 0.3.0
 * @category errors
 */
export class InvalidModelFile extends TaggedError<InvalidModelFile>("aicortex/InvalidModelFile")("InvalidModelFile", {
  /** The file, or its address. */
  file: Schema.String,
  /** What is wrong with it. */
  reason: Schema.String
}) {
  override get message() {
    return `${this.file} is not a model that can be run: ${this.reason}`
  }
}

/**
 * The folder of the models cannot be used.
 *
 * @since 0.3.0
 * @category errors
 */
export class ModelStoreUnavailable extends TaggedError<ModelStoreUnavailable>("aicortex/ModelStoreUnavailable")(
  "ModelStoreUnavailable",
  {
    /** Why. */
    reason: Schema.String
  }
) {
  override get message() {
    return `The models of this machine cannot be used: ${this.reason}`
  }
}

/**
 * The disk has not the room for a model: nothing of it was downloaded. Both amounts are in bytes.
 *
 * @since 0.3.0
 * @category errors
 */
export class InsufficientDiskSpace extends TaggedError<InsufficientDiskSpace>("aicortex/InsufficientDiskSpace")(
  "InsufficientDiskSpace",
  {
    /** The model. */
    model: Schema.String,
    /** The folder of the models. */
    folder: Schema.String,
    /** How much is still to be written, in bytes. */
    needed: Schema.Number,
    /** How much is free, in bytes. */
    available: Schema.Number
  }
) {
  override get message() {
    const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1)} GB`
    return (
      `The disk of ${this.folder} has not the room for ${this.model}: it needs ${gigabytes(this.needed)} and ` +
      `${gigabytes(this.available)} are free. Make room, or set AICORTEX_MODELS to a folder on another disk.`
    )
  }
}

/**
 * Why a download failed.
 *
 * @since 0.3.0
 * @category models
 */
export const DownloadReason = Schema.Literal(
  "not-found",
  "unauthorized",
  "gated",
  "rate-limited",
  "refused",
  "server-error",
  "network",
  "stalled",
  "redirect",
  "changed",
  "invalid-response",
  "size-mismatch",
  "hash-mismatch"
)
/**
 * @since 0.3.0
 * @category models
 */
export type DownloadReason = typeof DownloadReason.Type

/**
 * A model could not be downloaded. What was downloaded is kept, and the next attempt goes on with it, except where it is
 * wrong (`size-mismatch`, `hash-mismatch`): then it was deleted.
 *
 * @since 0.3.0
 * @category errors
 */
export class ModelDownloadFailed extends TaggedError<ModelDownloadFailed>("aicortex/ModelDownloadFailed")(
  "ModelDownloadFailed",
  {
    /** The model. */
    model: Schema.String,
    /** What went wrong. */
    reason: DownloadReason,
    /** The same in words, with what to do. */
    detail: Schema.String,
    /** The status of the server's answer, where there was one. */
    status: Schema.optionalWith(Schema.Number, { exact: true })
  }
) {
  override get message() {
    return `The model '${this.model}' could not be downloaded: ${this.detail}`
  }
}
