/**
 * Speaks to one server in its own protocol, and tells what it answers in ours.
 *
 * This is the token path: a backend is a plain function from a request to calls of a `Sink`, one network read at a
 * time, and never runs an Effect.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { Service as Abilities } from "./backend/abilities.js"
import type { FinishReason, Usage } from "./ChatEvent.js"
import type { ChatRequest } from "./ChatRequest.js"
import type { FailureReason } from "./Errors.js"
import type { ToolCall } from "./Message.js"
import type { Protocol, Server } from "./Server.js"
import type { Exchange } from "./Transport.js"

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
 * How an answer ended. `tokensPerSecond` is the server's own count, where it reports one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Finish {
  readonly reason: FinishReason
  readonly usage: Usage
  readonly tokensPerSecond?: number
}

/**
 * Told what a server answers. `read` comes before the calls of one network read and `flush` after them. Ends with
 * one `finish` (which is followed by `flush`) or one `fail`; nothing comes after either.
 *
 * @since 0.1.0
 * @category models
 */
export interface Sink {
  connected(): void
  read(): void
  text(content: string): void
  thinking(content: string): void
  toolCall(call: ToolCall): void
  finish(finish: Finish): void
  flush(): void
  fail(failure: ServerFailure): void
}

/**
 * An answer that broke, as far as it was given out: its text, its reasoning, and how many tokens that was.
 *
 * @since 0.1.0
 * @category models
 */
export interface Broken {
  readonly text: string
  readonly thinking: string
  readonly tokens: number
}

/**
 * The sink of an answer that is gone on with. Before any text comes, `joins` tells what this text must first repeat
 * of what was given out, and whether the server writes the `whole` answer once more, and counts it so. It may be
 * called again, when the way that was tried turns out not to be open.
 *
 * @since 0.1.0
 * @category models
 */
export interface Joint extends Sink {
  joins(expected: string, whole: boolean): void
}

/**
 * `unsupported` names the options of a request that this protocol cannot express, each with the reason; such a
 * request is never sent. `start` sends it. `resume` has this server go on with an answer that broke on another.
 *
 * @since 0.1.0
 * @category models
 */
export interface Backend {
  readonly unsupported: (request: ChatRequest) => ReadonlyArray<string>
  readonly start: (server: Server, request: ChatRequest, sink: Sink) => Exchange
  readonly resume: (server: Server, request: ChatRequest, broken: Broken, sink: Joint, abilities: Abilities) => Exchange
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
