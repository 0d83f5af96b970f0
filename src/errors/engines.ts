/**
 * Failures of engines: the child processes that run models on this machine.
 */
import * as Schema from "effect/Schema"
import { TaggedError } from "./taggedError.js"

/**
 * An engine that runs models on this machine is not installed. `install` says how to get it.
 *
 * @since 0.2.0
 * @category errors
 */
export class EngineNotInstalled extends TaggedError<EngineNotInstalled>("aicortex/EngineNotInstalled")(
  "EngineNotInstalled",
  {
    /** The engine's name, such as `llama-server`. */
    engine: Schema.String,
    /** What is missing. */
    reason: Schema.String,
    /** How to get it. */
    install: Schema.String
  }
) {
  override get message() {
    return `The engine ${this.engine} is not installed: ${this.reason}. ${this.install}`
  }
}

/**
 * An engine did not become ready, or ended. `log` holds the last 80 lines that it wrote.
 *
 * @since 0.2.0
 * @category errors
 */
export class EngineFailed extends TaggedError<EngineFailed>("aicortex/EngineFailed")("EngineFailed", {
  /** The engine's name; `any` where none was chosen yet. */
  engine: Schema.String,
  /** The model that it was to run. */
  model: Schema.String,
  /** What happened. */
  reason: Schema.String,
  /** The last lines that it wrote, at most 80. */
  log: Schema.Array(Schema.String)
}) {
  override get message() {
    const lines = this.log.length === 0 ? "" : `. Its last lines:\n  ${this.log.join("\n  ")}`
    const what =
      this.engine === "any"
        ? `'${this.model}' cannot be served`
        : `The engine ${this.engine} cannot serve '${this.model}'`
    return `${what}: ${this.reason}${lines}`
  }
}

/**
 * A local model was asked before it was started, or after it ended. Reference: RamaLama's `RuntimeError`.
 *
 * @since 0.2.0
 * @category errors
 */
export class NotRunning extends TaggedError<NotRunning>("aicortex/NotRunning")("NotRunning", {
  /** The model. */
  model: Schema.String,
  /** How its engine ended, if it was running before. */
  reason: Schema.optionalWith(Schema.String, { exact: true })
}) {
  override get message() {
    const ended = this.reason === undefined ? "" : ` (${this.reason})`
    return `The server of '${this.model}' is not running${ended}. Call serve() first.`
  }
}

/**
 * The supervisor of this machine's models cannot be reached or started. `log` holds its last lines.
 *
 * @since 0.3.0
 * @category errors
 */
export class SupervisorUnavailable extends TaggedError<SupervisorUnavailable>("aicortex/SupervisorUnavailable")(
  "SupervisorUnavailable",
  {
    /** What happened. */
    reason: Schema.String,
    /** The last lines of its log. */
    log: Schema.Array(Schema.String)
  }
) {
  override get message() {
    const lines = this.log.length === 0 ? "" : `. Its last lines:\n  ${this.log.join("\n  ")}`
    return `The models of this machine cannot be managed: ${this.reason}${lines}`
  }
}
