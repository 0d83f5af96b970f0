/**
 * Speaks a server's protocol, and reports its answers in a common form.
 *
 * This is the token path: a backend is a plain function from a request to calls of a `Sink`, one network read at a
 * time, and never runs an Effect.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { Effect } from "effect/Effect"
import type { FinishReason, Usage } from "./ChatEvent.js"
import type { ChatRequest } from "./ChatRequest.js"
import type { EmbedRequest } from "./EmbedRequest.js"
import type { FailureReason, Unsupported } from "./Errors.js"
import type { ToolCall } from "./Message.js"
import type { Protocol, Server } from "./Server.js"
import type { Exchange, TraceContext } from "./Transport.js"

/**
 * Why one attempt failed. `retryAfter`, in milliseconds, is what the server asked for.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerFailure {
  readonly reason: FailureReason
  readonly message: string
  readonly status?: number
  readonly retryAfter?: number
  /** The options that the server cannot take, where `reason` is `unsupported`. */
  readonly unsupported?: readonly [Unsupported, ...ReadonlyArray<Unsupported>]
  /** What installs what is missing, where `reason` is `engine`. */
  readonly install?: EngineInstall
}

/**
 * What an engine in this process lacks, and the command that installs it.
 *
 * @since 0.2.0
 * @category models
 */
export interface EngineInstall {
  readonly missing: string
  readonly command: string
}

/**
 * How an answer ended, with the server's own counts, if reported; times are in milliseconds.
 *
 * - `promptTime`, `loadTime`: time for prompt evaluation, and for loading the model
 *
 * @since 0.1.0
 * @category models
 */
export interface Finish {
  readonly reason: FinishReason
  readonly usage: Usage
  /** The text that ended it, one of the request's or the model's own. */
  readonly stopSequence?: string
  /** Generation speed. */
  readonly tokensPerSecond?: number
  readonly promptTime?: number
  readonly loadTime?: number
  /** Prompt tokens that were not cached. */
  readonly promptEvaluated?: number
  /** It ended, or became unreadable, before the usage was reported. */
  readonly uncounted?: boolean
  /** The prompt was evaluated once for several answers, and is counted with another one. */
  readonly sharedPrompt?: boolean
}

/**
 * Receives a server's answer. `read` comes before the calls of one network read and `flush` after them; `progress` if a
 * piece came that cannot be emitted yet, as of a tool call. A read without any of them was not part of the answer, but
 * a comment or white space that keeps the connection open. Ends with one `finish` (which is followed by `flush`) or one
 * `fail`; nothing comes after either. `context` is the trace context for HTTP requests.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sink {
  readonly context?: TraceContext | undefined
  connected(): void
  read(): void
  text(content: string): void
  /** Log probabilities of the next text's tokens. */
  logprobs?(values: ReadonlyArray<unknown>): void
  thinking(content: string): void
  /**
   * A piece of the arguments of tool call number `index`, from 0. All pieces together begin as an object; `toolCall`
   * follows for each call, in order.
   */
  toolCallDelta?(index: number, id: string, name: string, text: string): void
  toolCall(call: ToolCall): void
  progress?(): void
  finish(finish: Finish): void
  flush(): void
  fail(failure: ServerFailure): void
}

/**
 * The emitted part of a tool call: `text` is the beginning of its arguments.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartialToolCall {
  readonly id: string
  readonly name: string
  readonly text: string
}

/**
 * The emitted part of a broken answer: text, reasoning, number of tokens, and tool calls.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartialAnswer {
  readonly text: string
  readonly thinking: string
  readonly tokens: number
  readonly calls: ReadonlyArray<PartialToolCall>
}

/**
 * The sink of a resumed answer. Before any text comes, `joins` tells what this text must first repeat of the emitted
 * part, how many tokens of it the server counts again, and which way is tried. It may be called again if that way turns
 * out not to be supported.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResumeSink extends Sink {
  joins(expected: string, repeated: number, how: ResumeSupport): void
}

/**
 * - `continues`: the first new piece is the continuation
 * - `trims`: the same, but white space at the end of the message is lost and repeated
 * - `echoes`: the message is repeated, then continued
 * - `restarts`: the answer starts over, or the message was rejected
 *
 * @since 0.1.0
 * @category models
 */
export type ResumeSupport = "continues" | "trims" | "echoes" | "restarts"

/**
 * Receives the result of a trial. `connected` and `read` are signs of life of the trial's own request.
 *
 * @since 0.1.0
 * @category models
 */
export interface TrialListener {
  connected(): void
  read(): void
  shown(ability: ResumeSupport): void
  fail(failure: ServerFailure): void
}

/**
 * How each server resumes a broken answer; see `backend/resumeSupport`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResumeSupportCache {
  /**
   * Tells `listener`, at once if known; else `trial` is started, once for all concurrent listeners, and cancelled when
   * all of them have left.
   */
  readonly support: (url: string, model: string, trial: (sink: Sink) => Exchange, listener: TrialListener) => Exchange
  /** Whether this server renders prompts, if known. */
  readonly renders: (url: string, model: string) => boolean | undefined
  readonly setRenders: (url: string, model: string, renders: boolean) => void
  /** Whether this server gives several answers to one request with `n`, if known. */
  readonly takesN: (url: string, model: string) => boolean | undefined
  readonly setTakesN: (url: string, model: string, takes: boolean) => void
  /** Forgets one server. */
  readonly forget: (url: string) => void
  readonly clear: Effect<void>
}

/**
 * Receives the result of an embedding request: signs of life as in a `Sink`, and one `embedded`, with the prompt tokens
 * if reported, or one `fail`.
 *
 * @since 0.1.0
 * @category models
 */
/** `maxBytes`: how long the answer may be. */
export interface EmbedSink extends Pick<Sink, "context" | "connected" | "read" | "fail"> {
  readonly maxBytes: number
  embedded(embeddings: ReadonlyArray<ReadonlyArray<number>>, promptTokens: number | undefined): void
}

/**
 * `unsupported` names the options that this protocol cannot express, each with the reason; such a request is never
 * sent. `start` sends it; without `resumeSupport`, one request asks for one answer. `resume` continues an answer that
 * broke on another server. `cannotEmbed` and `embed` are the same for embeddings.
 *
 * @since 0.1.0
 * @category models
 */
export interface Backend {
  readonly unsupported: (request: ChatRequest) => ReadonlyArray<Unsupported>
  readonly start: (server: Server, request: ChatRequest, sink: Sink, resumeSupport?: ResumeSupportCache) => Exchange
  readonly resume: (
    server: Server,
    request: ChatRequest,
    partial: PartialAnswer,
    sink: ResumeSink,
    resumeSupport: ResumeSupportCache
  ) => Exchange
  readonly cannotEmbed: (request: EmbedRequest) => ReadonlyArray<Unsupported>
  readonly embed: (server: Server, request: EmbedRequest, sink: EmbedSink) => Exchange
}

/**
 * The backends by protocol.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly get: (protocol: Protocol) => Backend
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Backends extends Context.Tag("aicortex/Backend")<Backends, Service>() {}
