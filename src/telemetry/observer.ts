/**
 * Who is told what becomes of a call: at its turning points, never per token.
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
 * A call, as far as it is observed. `began` is in milliseconds since the epoch; `events` is whether they are given out;
 * `operation` is what it does, as the conventions call it, where the request does not tell. Where there is no `trace`, servers are told
 * `context`.
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
 * What a call does.
 *
 * @since 0.1.0
 * @category models
 */
export type Operation = "chat" | "text_completion" | "embeddings"

/**
 * How an attempt goes on with an answer that broke: as the server was seen to do it (see `ResumeSupport`), or with the answer
 * begun anew and the reader told so (`discards`).
 *
 * @since 0.1.0
 * @category models
 */
export type Resumption = ResumeSupport | "discards"

/**
 * What an answer says of itself at its end; `firstTokenTime` is in milliseconds.
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
 * One attempt on one server. Of its four ends only the first counts.
 *
 * - `resumes`: it goes on with an answer that broke; the last word counts
 * - `succeeded`: with the time to its first piece, in milliseconds, and its tokens per second, where they are known
 * - `failed`, `cancelled`, `overtaken` (another one has the first piece): and how far it had come
 *
 * `context` is the place in a trace that its requests are to carry.
 *
 * @since 0.1.0
 * @category models
 */
export interface AttemptObserver {
  readonly context: TraceContext | undefined
  resumes(how: Resumption): void
  succeeded(firstTokenTime: number | undefined, tokensPerSecond: number | undefined): void
  failed(reason: FailureReason, phase: Phase, status: number | undefined): void
  cancelled(phase: Phase): void
  overtaken(phase: Phase): void
}

/**
 * One call. Of its three ends only the first counts.
 *
 * - `attempt`: a server is asked; `loads` is whether that makes it load the model, `hedge` whether another one is at work
 *   and only late
 * - `queued`, `dequeued`: it waits for a place, and waits no more
 * - `used`: tokens, of one answer of those that a call with tools has
 * - `answered`, `failed`, `closed`: it is complete, has failed, or was given up
 *
 * `span` is its span, where a tracer is set.
 *
 * @since 0.1.0
 * @category models
 */
export interface CallObserver {
  readonly span: Span | undefined
  attempt(host: Host, loads: boolean, hedge: boolean): AttemptObserver
  queued(): void
  dequeued(): void
  used(usage: Usage): void
  answered(ending: Ending): void
  failed(error: unknown): void
  closed(): void
}
