/**
 * Observers of calls: notified at turning points, never per token.
 *
 * @since 0.1.0
 */
import type { Span } from "effect/Tracer"
import type { ResumeSupport } from "../Backend.js"
import type { FinishReason, Usage } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { FailureReason, Phase } from "../Errors.js"
import type { Host } from "../Server.js"
import type { TraceContext } from "../Transport.js"
import type { Trace } from "./trace.js"

/**
 * A call as observed. `began` is in milliseconds since the epoch; `events` is whether they are emitted; `operation` is
 * its name in the conventions, if the request does not determine it. Without a `trace`, servers get `context`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Observed {
  readonly request: Pick<ChatRequest, "model"> & Partial<ChatRequest>
  readonly began: number
  readonly events: boolean
  readonly trace?: Trace | undefined
  readonly context?: TraceContext | undefined
  readonly operation?: Operation | undefined
}

/**
 * The operation of a call.
 *
 * @since 0.1.0
 * @category models
 */
export type Operation = "chat" | "text_completion" | "embeddings"

/**
 * How an attempt resumes a broken answer: as the server supports it (see `ResumeSupport`), or by restarting and telling
 * the caller (`discards`).
 *
 * @since 0.1.0
 * @category models
 */
export type Resumption = ResumeSupport | "discards"

/**
 * What an answer reports at its end; `firstTokenTime` is in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ending {
  readonly model: string
  readonly finishReason: FinishReason | undefined
  readonly usage: Usage
  readonly firstTokenTime: number | undefined
}

/**
 * One attempt on one server. Of its outcomes only the first counts.
 *
 * - `failed`, `cancelled`, `overtaken` (a hedge won): with the phase that it reached
 *
 * `context` is the trace context of its requests.
 *
 * @since 0.1.0
 * @category models
 */
export interface AttemptObserver {
  readonly context: TraceContext | undefined
  /** It continues a broken answer; the last call counts. */
  resumes(how: Resumption): void
  /** With the time to its first piece, in milliseconds, and its tokens per second, if known. */
  succeeded(firstTokenTime: number | undefined, tokensPerSecond: number | undefined): void
  failed(reason: FailureReason, phase: Phase, status: number | undefined): void
  cancelled(phase: Phase): void
  overtaken(phase: Phase): void
}

/**
 * One call. Of its outcomes only the first counts.
 *
 * - `queued`, `dequeued`: it waits for a slot, and no longer
 * - `answered`, `failed`, `closed`: complete, failed, or abandoned
 *
 * `span` is its span, if a tracer is set.
 *
 * @since 0.1.0
 * @category models
 */
export interface CallObserver {
  readonly span: Span | undefined
  /** A server is asked; `loads` is whether it must load the model, `hedge` whether another attempt is running late. */
  attempt(host: Host, loads: boolean, hedge: boolean): AttemptObserver
  queued(): void
  dequeued(): void
  /** Tokens of one answer; a call with tools has several. */
  used(usage: Usage): void
  answered(ending: Ending): void
  failed(error: unknown): void
  closed(): void
}
