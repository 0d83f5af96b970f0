/** The types of a call: what it asks for, its dependencies, and its result. */
import type { Span } from "effect/Tracer"
import type { Service as Backends, ResumeSupportCache, ServerFailure } from "../Backend.js"
import type { ChatEvent, FinishReason, Timings, Usage } from "../ChatEvent.js"
import type { ChatRequest, Limits, Routing } from "../ChatRequest.js"
import type { Decision } from "../Decision.js"
import type { Attempt, ChatError, TurnNotStored, Unreachable } from "../Errors.js"
import type { PricedTokens } from "../fleet/prices.js"
import type { RemoteLimit } from "../fleet/remoteLimit.js"
import type { ToolCall } from "../Message.js"
import type { ModelCandidate } from "../modelSelection/candidate.js"
import type { Route } from "../Router.js"
import type { Host } from "../Server.js"
import type { CallListener, CallObserver, Observed, Trace } from "../Telemetry.js"
import type { TraceContext } from "../Transport.js"
import type { RejectedRequests } from "./faultAttribution.js"
import type { HedgeBudget } from "./hedging.js"
import type { Waking } from "./waking.js"

/**
 * A whole answer. `stopSequence` is the text that ended it, if the server reports it; `attempts` are those that failed
 * before it; times are in milliseconds; `cached` is whether it is a kept one, which no server was asked for; `warnings`
 * is what went wrong after the answer, where anything did.
 *
 * @since 0.1.0
 * @category models
 */
export interface Result {
  /** The text. */
  readonly text: string
  /** The reasoning; empty if there is none. */
  readonly thinking: string
  /** The tool calls of the model that were not executed. */
  readonly toolCalls: ReadonlyArray<ToolCall>
  /** The model that answered. */
  readonly model: string
  /** The address of the server that answered. */
  readonly server: string
  /** Why the answer ended. */
  readonly finishReason: FinishReason
  /** The text that ended it, if the server reports it. */
  readonly stopSequence?: string | undefined
  /** The tokens, as far as the server counted them. */
  readonly usage: Usage
  /** From the start of the call to the first piece, in milliseconds. */
  readonly firstTokenTime: number | undefined
  /** Generation speed. */
  readonly tokensPerSecond: number | undefined
  /** The server's own timings, if requested and reported. */
  readonly timings?: Timings | undefined
  /** Log probabilities, if requested and reported. */
  readonly logprobs?: ReadonlyArray<unknown> | undefined
  /** The attempts that failed before. */
  readonly attempts: ReadonlyArray<Attempt>
  /** Whether it is a cached answer, which no server was asked for. */
  readonly cached: boolean
  /** What went wrong after the answer, if anything. */
  readonly warnings?: ReadonlyArray<TurnNotStored> | undefined
  /** Why this model on this server answered. Its lists are made when they are read. */
  readonly decision: Decision
}

/**
 * What follows an answer with tool calls: events to emit, and the next request.
 *
 * @since 0.1.0
 * @category models
 */
export interface Continuation {
  /** Events to emit first. */
  readonly events: ReadonlyArray<ChatEvent>
  /** What to ask next. */
  readonly request: ChatRequest
}

/**
 * What follows an answer; `undefined`: nothing, the call ends.
 *
 * @since 0.2.0
 * @category models
 */
export type Completion = Continuation | TurnNotStored | undefined

/**
 * A call, as `Chat` starts it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Call {
  /** What is asked. */
  readonly request: ChatRequest
  /** Timeouts and attempts. */
  readonly limits: Limits
  /** When the call began: its deadline counts from here. */
  readonly began: number
  /** Emit events; otherwise only the `Result` is kept, and a broken attempt simply starts over. */
  readonly events: boolean
  /** Whether the end reports how long the server took, by the server's own clock. */
  readonly timed?: boolean | undefined
  /** Events to emit after `start`. */
  readonly preface: ReadonlyArray<ChatEvent>
  /**
   * May hold the end back, fail, add a warning to it, or go on with another request; `span` is that of the call, if it
   * has one.
   */
  readonly complete: ((result: Result, span: Span | undefined) => Promise<Completion>) | undefined
  /** Called once, when nothing more will happen. */
  readonly closed: (() => void) | undefined
  /** The model as it was chosen, for the decision; default: it was named. */
  readonly candidate?: ModelCandidate | undefined
  /** Whether each server is asked once until one has begun to answer, because other models follow; default `false`. */
  readonly once?: boolean | undefined
  /** The strategy that the servers are chosen by, for the decision. */
  readonly routing?: Routing | undefined
  /** Whether remote servers are left out, for the decision. */
  readonly private?: boolean | undefined
  /** Where its spans go, if anywhere. */
  readonly trace?: Trace | undefined
  /** Without a tracer, the caller's trace context, which is passed on to servers. */
  readonly context?: TraceContext | undefined
  /** Told of the call's turning points. */
  readonly listener?: CallListener | undefined
}

/** The shared dependencies of all answers. */
export interface Dependencies {
  readonly backends: Backends
  readonly resumeSupport: ResumeSupportCache
  readonly now: () => number
  readonly random: () => number
  /** How long an answer may be. */
  readonly maxAnswerBytes: number
  /** The ceiling of remote servers that is reached: nothing else may be sent to one. */
  readonly exhausted: () => RemoteLimit | undefined
  /** Whether remote servers must not be asked for a model because it has no price; `undefined`: it never matters. */
  readonly lacksPrice: ((model: string) => boolean) | undefined
  /** Counts tokens of a remote server. */
  readonly spend: (tokens: number, priced: PricedTokens & { readonly model: string }) => void
  /** The budget for second requests. */
  readonly hedges: HedgeBudget
  /** Requests that servers have agreed to reject. */
  readonly agreements: RejectedRequests
  /** Wakes machines that sleep. */
  readonly waking: Waking
  /** Receives every failure that says something about a server. */
  readonly failed: (host: Host, failure: ServerFailure) => void
  /** The error for a model that no server turned out to have. */
  readonly missing: (model: string) => Promise<ChatError>
  /** The servers that could not be asked for their models. */
  readonly unreachable: () => ReadonlyArray<Unreachable>
  /** Makes the observer of a call; `model` is the servers' name for the model. */
  readonly observe: (call: Observed, model: string) => CallObserver
}

/** Locates the servers of the model again; `undefined` if there are none now. */
export type Relocate = () => Promise<Route | undefined>

/** The request for a server: it carries the server's own name for the model. */
export const requestFor = (request: ChatRequest, host: Host): ChatRequest =>
  request.model === host.model ? request : { ...request, model: host.model }
