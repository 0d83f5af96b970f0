/**
 * Speaks to one server in its own protocol, and tells what it answers in ours.
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
import type { FailureReason } from "./Errors.js"
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
}

/**
 * How an answer ended, with what the server counted itself, where it says so; times are in milliseconds.
 *
 * - `stopSequence`: the text that ended it, of those that it was to stop at or of the model's own
 * - `tokensPerSecond`: how fast it answered
 * - `promptTime`, `loadTime`: how long it worked at the prompt, and at loading the model
 * - `promptEvaluated`: how many tokens of the prompt were not in its cache
 * - `uncounted`: it ended, or became unreadable, before it had told what the answer cost
 * - `sharedPrompt`: the prompt was read once for several answers, and is counted with another one of them
 *
 * @since 0.1.0
 * @category models
 */
export interface Finish {
  readonly reason: FinishReason
  readonly usage: Usage
  readonly stopSequence?: string
  readonly tokensPerSecond?: number
  readonly promptTime?: number
  readonly loadTime?: number
  readonly promptEvaluated?: number
  readonly uncounted?: boolean
  readonly sharedPrompt?: boolean
}

/**
 * Told what a server answers. `read` comes before the calls of one network read and `flush` after them; `progress` where
 * a piece came that cannot be given out yet, as of a tool call. A read without any of them was no part of the answer,
 * but a comment or a blank that only keeps the connection open. Ends with one `finish` (which is followed by `flush`) or
 * one `fail`; nothing comes after either. `context` is the place in a trace that requests over HTTP are to carry.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sink {
  readonly context?: TraceContext | undefined
  connected(): void
  read(): void
  text(content: string): void
  /** How likely the tokens of the next text were. */
  logprobs?(values: ReadonlyArray<unknown>): void
  thinking(content: string): void
  /**
   * A piece of the arguments of the answer's tool call number `index`, from 0. All of them together begin as an object does;
   * `toolCall` follows for each call, in their order.
   */
  toolCallDelta?(index: number, id: string, name: string, text: string): void
  toolCall(call: ToolCall): void
  progress?(): void
  finish(finish: Finish): void
  flush(): void
  fail(failure: ServerFailure): void
}

/**
 * The part of a tool call that was given out: `text` is the beginning of its arguments.
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
 * An answer that broke, as far as it was given out: its text, its reasoning, how many tokens that was, and the tool
 * calls.
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
 * The sink of an answer that is gone on with. Before any text comes, `joins` tells what this text must first repeat
 * of what was given out, how many tokens of it the server counts once more, and which way is tried. It may be called
 * again, when that way turns out not to be open.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResumeSink extends Sink {
  joins(expected: string, repeated: number, how: ResumeSupport): void
}

/**
 * - `continues`: the first new piece is what comes next
 * - `trims`: the same, but white space at the end of the message is lost, and said again
 * - `echoes`: the message is said again, then it goes on
 * - `restarts`: the answer begins anew, or the message was refused
 *
 * @since 0.1.0
 * @category models
 */
export type ResumeSupport = "continues" | "trims" | "echoes" | "restarts"

/**
 * Told what a trial shows. `connected` and `read` are the signs of life of the trial's own request.
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
 * What each server was seen to do with an answer that it is to go on with; see `backend/resumeSupport`.
 *
 * - `support`: tells `listener`, at once where it is known; else `trial` is started, once for all who ask meanwhile, and
 *   stopped when all of them have left
 * - `renders`: whether this server shows the prompt that it makes of a conversation, as far as it is known
 * - `takesN`: whether this server gives several answers to one request that asks for `n`, as far as it is known
 * - `forget`: what is known of one server
 *
 * @since 0.1.0
 * @category models
 */
export interface ResumeSupportCache {
  readonly support: (url: string, model: string, trial: (sink: Sink) => Exchange, listener: TrialListener) => Exchange
  readonly renders: (url: string, model: string) => boolean | undefined
  readonly setRenders: (url: string, model: string, renders: boolean) => void
  readonly takesN: (url: string, model: string) => boolean | undefined
  readonly setTakesN: (url: string, model: string, takes: boolean) => void
  readonly forget: (url: string) => void
  readonly clear: Effect<void>
}

/**
 * Told what comes of texts that are to be turned into vectors: signs of life as a `Sink` is, and one `embedded`, with
 * how many tokens the texts had where the server says so, or one `fail`.
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
 * `unsupported` names the options of a request that this protocol cannot express, each with the reason; such a
 * request is never sent. `start` sends it; without `resumeSupport`, one request asks for one answer. `resume` has this server go on with an answer that broke on another.
 * `cannotEmbed` and `embed` are the same for texts that are to be turned into vectors.
 *
 * @since 0.1.0
 * @category models
 */
export interface Backend {
  readonly unsupported: (request: ChatRequest) => ReadonlyArray<string>
  readonly start: (server: Server, request: ChatRequest, sink: Sink, resumeSupport?: ResumeSupportCache) => Exchange
  readonly resume: (
    server: Server,
    request: ChatRequest,
    partial: PartialAnswer,
    sink: ResumeSink,
    resumeSupport: ResumeSupportCache
  ) => Exchange
  readonly cannotEmbed: (request: EmbedRequest) => ReadonlyArray<string>
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
