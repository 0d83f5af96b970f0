/** The events of a download. Amounts are in bytes, over all files of the model. */
import type { DownloadReason } from "../Errors.js"
import type { StoredModel } from "./catalogue.js"

/**
 * How much of a model is there.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullAmount {
  /** The name under which the model will be stored. */
  readonly model: string
  /** How much is there, in bytes. */
  readonly completed: number
  /** How much there is to come in all, in bytes, where that is known. */
  readonly total?: number
}

/**
 * It is known what is to be downloaded.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullResolved extends PullAmount {
  /** Which event this is. */
  readonly type: "resolved"
  /** Where it comes from. */
  readonly source: string
  /** How many files it has. */
  readonly files: number
}

/**
 * Another process downloads the same model: this one waits for it.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullWaiting extends PullAmount {
  /** Which event this is. */
  readonly type: "waiting"
  /** The machine of that process. */
  readonly host: string
  /** The number of that process. */
  readonly pid: number
}

/**
 * More of it is there.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullProgress extends PullAmount {
  /** Which event this is; `verifying`: the checksum of a file is computed, of which that much is read. */
  readonly type: "progress" | "verifying"
}

/**
 * Something went wrong, and is tried again.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullRetry {
  /** Which event this is. */
  readonly type: "retry"
  /** The model. */
  readonly model: string
  /** What went wrong. */
  readonly reason: DownloadReason
  /** The same in words. */
  readonly detail: string
  /** How long it waits, in milliseconds. */
  readonly wait: number
}

/**
 * The model is there.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullDone {
  /** Which event this is. */
  readonly type: "done"
  /** The model. */
  readonly model: StoredModel
  /** Whether something was downloaded or imported. */
  readonly fresh: boolean
}

/**
 * What happens while a model is downloaded.
 *
 * @since 0.3.0
 * @category models
 */
export type PullEvent = PullResolved | PullWaiting | PullProgress | PullRetry | PullDone
