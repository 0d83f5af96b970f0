/** Observers of calls: notified at turning points, never per token. */
import type { Span } from "effect/Tracer"
import type { ResumeSupport } from "../Backend.js"
import type { FinishReason, Usage } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { Decision } from "../Decision.js"
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
  /** What is asked. */
  readonly request: Pick<ChatRequest, "model"> & Partial<ChatRequest>
  /** When the call began, in milliseconds since the epoch. */
  readonly began: number
  /** Whether events are emitted. */
  readonly events: boolean
  /** Where its spans go, if anywhere. */
  readonly trace?: Trace | undefined
  /** Without a `trace`, the trace context that servers get. */
  readonly context?: TraceContext | undefined
  /** Its name in the conventions, if the request does not determine it. */
  readonly operation?: Operation | undefined
  /** Told of the same turning points. */
  readonly listener?: CallListener | undefined
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
export interface AnswerEnd {
  /** The model that answered. */
  readonly model: string
  /** Why the answer ended. */
  readonly finishReason: FinishReason | undefined
  /** The tokens, as far as the server counted them. */
  readonly usage: Usage
  /** From the start of the call to the first piece, in milliseconds. */
  readonly firstTokenTime: number | undefined
  /** Why this model on this server answered, where that is known. */
  readonly decision?: Decision | undefined
}

/**
 * One attempt on one server. Of its outcomes only the first counts.
 *
 * @since 0.1.0
 * @category models
 */
export interface AttemptObserver {
  /** The trace context of its requests. */
  readonly context: TraceContext | undefined
  /** The attempt has reached this phase; not called for the first one. */
  phase?(phase: Phase): void
  /** It continues a broken answer; the last call counts. */
  resumes(how: Resumption): void
  /** With the time to its first piece, in milliseconds, and its tokens per second, if known. */
  succeeded(firstTokenTime: number | undefined, tokensPerSecond: number | undefined): void
  /** It failed in this phase. */
  failed(reason: FailureReason, phase: Phase, status: number | undefined): void
  /** It was cancelled in this phase. */
  cancelled(phase: Phase): void
  /** Another attempt won, when this one was in this phase. */
  overtaken(phase: Phase): void
}

/**
 * Told of an attempt, as `AttemptObserver` is.
 *
 * @since 0.3.0
 * @category models
 */
export interface AttemptWatch extends Omit<AttemptObserver, "context" | "phase"> {
  /** It has come so far. */
  phase(phase: Phase): void
}

/**
 * Told of a call, as `CallObserver` is.
 *
 * @since 0.3.0
 * @category models
 */
export interface CallListener extends Omit<CallObserver, "span" | "attempt"> {
  /** A server is asked. */
  attempt(host: Host, loads: boolean, hedge: boolean): AttemptWatch
}

/**
 * One call. Of its outcomes only the first counts.
 *
 * @since 0.1.0
 * @category models
 */
export interface CallObserver {
  /** The call's span, if a tracer is set. */
  readonly span: Span | undefined
  /** A server is asked; `loads` is whether it must load the model, `hedge` whether another attempt is running late. */
  attempt(host: Host, loads: boolean, hedge: boolean): AttemptObserver
  /** The call waits for a slot. */
  queued(): void
  /** The call waits no longer. */
  dequeued(): void
  /** Tokens of one answer; a call with tools has several. */
  used(usage: Usage): void
  /** The answer is complete. */
  answered(ending: AnswerEnd): void
  /** The call failed. */
  failed(error: unknown): void
  /** The call was abandoned. */
  closed(): void
}
