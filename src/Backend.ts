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
import type { Exchange, TraceContext, Transfer } from "./Transport.js"

/**
 * Why one attempt failed. `retryAfter`, in milliseconds, is what the server asked for.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerFailure {
  /** What went wrong. */
  readonly reason: FailureReason
  /** The same in words. It holds no secret. */
  readonly message: string
  /** The HTTP status of the response, if there was one. */
  readonly status?: number
  /** The wait that the server asked for (`Retry-After`), in milliseconds. */
  readonly retryAfter?: number
  /** The option that it names as the one at fault, if it names one. */
  readonly option?: string
  /** Its address leads to no such server: within seconds nothing else can come of it. */
  readonly lasting?: true
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
  /** What is missing. */
  readonly missing: string
  /** The command that installs it. */
  readonly command: string
}

/**
 * How an answer ended, with the server's own counts, if reported; times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Finish {
  /** Why the answer ended. */
  readonly reason: FinishReason
  /** The tokens, as far as the server counted them. */
  readonly usage: Usage
  /** The text that ended it, one of the request's or the model's own. */
  readonly stopSequence?: string
  /** Generation speed. */
  readonly tokensPerSecond?: number
  /** How long the evaluation of the prompt took, in milliseconds. */
  readonly promptTime?: number
  /** How long loading the model took, in milliseconds. */
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
  /** The trace context for HTTP requests. */
  readonly context?: TraceContext | undefined
  /** The connection is made, and the request is being written. */
  connected(): void
  /** One network read has come; the calls for what it held follow. */
  read(): void
  /** The next piece of the answer's text. */
  text(content: string): void
  /** Log probabilities of the next text's tokens. */
  logprobs?(values: ReadonlyArray<unknown>): void
  /** The next piece of the model's reasoning. */
  thinking(content: string): void
  /**
   * A piece of the arguments of tool call number `index`, from 0. All pieces together begin as an object; `toolCall`
   * follows for each call, in order.
   */
  toolCallDelta?(index: number, id: string, name: string, text: string): void
  /** A complete tool call. */
  toolCall(call: ToolCall): void
  /** A piece came that cannot be emitted yet, as of a tool call. */
  progress?(): void
  /** The answer is complete. Comes once; only `flush` follows. */
  finish(finish: Finish): void
  /** All that one network read held has been given. */
  flush(): void
  /** The attempt failed. Comes once, and nothing follows. */
  fail(failure: ServerFailure): void
}

/**
 * The emitted part of a tool call: `text` is the beginning of its arguments.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartialToolCall {
  /** The id of the call. */
  readonly id: string
  /** The tool that is called. */
  readonly name: string
  /** The beginning of the arguments, as the model wrote them. */
  readonly text: string
}

/**
 * The emitted part of a broken answer: text, reasoning, number of tokens, and tool calls.
 *
 * @since 0.1.0
 * @category models
 */
export interface PartialAnswer {
  /** The text that the caller has. */
  readonly text: string
  /** The reasoning that the caller has. */
  readonly thinking: string
  /** How many tokens these are. */
  readonly tokens: number
  /** The tool calls that the caller has, the last one possibly incomplete. */
  readonly calls: ReadonlyArray<PartialToolCall>
}

/**
 * The sink of a resumed answer. Before any text comes, `joins` says what this text must first repeat of the emitted
 * part, how many tokens of it the server counts again, and which way is tried. It may be called again if that way turns
 * out not to be supported.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResumeSink extends Sink {
  /**
   * Before any text: `expected` is what the text must first repeat, `repeated` how many tokens the server counts again,
   * and `how` the way that is tried. Called again if that way turns out not to be supported.
   */
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
  /** The trial's request is being written. */
  connected(): void
  /** The trial's request has received something. */
  read(): void
  /** The result: how the server continues a broken answer. */
  shown(ability: ResumeSupport): void
  /** The trial failed. */
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
  /** Remembers whether this server renders prompts. */
  readonly setRenders: (url: string, model: string, renders: boolean) => void
  /** Whether this server gives several answers to one request with `n`, if known. */
  readonly takesN: (url: string, model: string) => boolean | undefined
  /** Remembers whether this server gives several answers to one request with `n`. */
  readonly setTakesN: (url: string, model: string, takes: boolean) => void
  /** Forgets one server. */
  readonly forget: (url: string) => void
  /** Forgets all servers. */
  readonly clear: Effect<void>
}

/**
 * Receives the result of an embedding request: signs of life as in a `Sink`, and one `embedded`, with the prompt tokens
 * if reported, or one `fail`.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmbedSink extends Pick<Sink, "context" | "connected" | "read" | "fail"> {
  /** How long the response may be, in bytes. */
  readonly maxBytes: number
  /**
   * The vectors, one for each text in order, the number of prompt tokens if reported, and how the response arrived if
   * that was measured. Comes once, and nothing follows.
   */
  embedded(
    embeddings: ReadonlyArray<ReadonlyArray<number>>,
    promptTokens: number | undefined,
    transfer?: Transfer | undefined
  ): void
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
  /** The options that this protocol cannot express, each with the reason; such a request is never sent. */
  readonly unsupported: (request: ChatRequest) => ReadonlyArray<Unsupported>
  /** Sends a request. Without `resumeSupport`, one request asks for one answer. */
  readonly start: (server: Server, request: ChatRequest, sink: Sink, resumeSupport?: ResumeSupportCache) => Exchange
  /** Continues an answer that broke on another server. */
  readonly resume: (
    server: Server,
    request: ChatRequest,
    partial: PartialAnswer,
    sink: ResumeSink,
    resumeSupport: ResumeSupportCache
  ) => Exchange
  /** The same as `unsupported`, for embeddings. */
  readonly cannotEmbed: (request: EmbedRequest) => ReadonlyArray<Unsupported>
  /** Sends a request for embeddings. */
  readonly embed: (server: Server, request: EmbedRequest, sink: EmbedSink) => Exchange
}

/**
 * The backends by protocol.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The backend of a protocol. */
  readonly get: (protocol: Protocol) => Backend
}

/**
 * The tag of the backends.
 *
 * @since 0.1.0
 * @category tags
 */
export class Backends extends Context.Tag("aicortex/Backend")<Backends, Service>() {}
