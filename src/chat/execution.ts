/** A chat that has been checked, as every face hands it over. */
import type * as Effect from "effect/Effect"
import type { StructuredEvent } from "../ChatEvent.js"
import type { ChatRequest, Limits, Routing } from "../ChatRequest.js"
import type { ChatError, SchemaIssue, SchemaMismatch } from "../Errors.js"
import type { OpenAnswer, Result } from "../Failover.js"
import type { ModelCandidate } from "../ModelSelection.js"
import type { RouteHints } from "../Router.js"
import type * as StructuredOutput from "../StructuredOutput.js"
import type { CallListener, Trace } from "../Telemetry.js"
import type { TraceContext } from "../Transport.js"
import type { OpenEvents } from "./openEvents.js"
import type { OnToolError, Tool } from "./tool.js"

/** How a tool is run. */
export interface Executor {
  /** What it is called with, or what does not fit. */
  readonly decode: ((args: unknown) => Effect.Effect<unknown, ReadonlyArray<SchemaIssue>>) | undefined
  readonly execute: NonNullable<Tool["execute"]>
  readonly onError: OnToolError
}

export interface Execution {
  /** What a server is sent; in a session its messages are what is new. Its model is as it was named. */
  readonly request: ChatRequest
  /** The models that may answer. */
  readonly models: Effect.Effect<ReadonlyArray<ModelCandidate>, ChatError>
  readonly limits: Limits
  readonly routing: Routing
  /** Hints for the router. Without a `conversation` it is identified by the session, or by the messages. */
  readonly routeHints: RouteHints
  /** How long its answer is cached, in milliseconds, for `cacheOwner`; `undefined`: not at all. */
  readonly cacheTtl: number | undefined
  readonly cacheOwner: string | undefined
  /** The conversation that it continues. */
  readonly session: string | undefined
  /** The tools that are run here, in at most `maxToolRounds` rounds. */
  readonly executors: ReadonlyMap<string, Executor> | undefined
  readonly maxToolRounds: number
  /** Whether the end reports how long the server took, by the server's own clock. */
  readonly timed?: boolean | undefined
  /** Where its deadline counts from, in milliseconds since the epoch; default: when it is executed. */
  readonly began?: number | undefined
  /** The trace that it is a part of; default: that of the fiber. */
  readonly origin?: Origin | undefined
  /** The request as one of the models is asked. */
  readonly adapted?: ((request: ChatRequest, candidate: ModelCandidate) => ChatRequest) | undefined
  /** Whether no other model may begin, for reasons that lie elsewhere. */
  readonly committed?: (() => boolean) | undefined
  /** Told of each model whose answer begins. */
  readonly onModel?: ((candidate: ModelCandidate) => void) | undefined
  /** Told of the turning points of its calls. */
  readonly listener?: CallListener | undefined
  /** Told of each whole reply, where the answer must be JSON. */
  readonly replied?: ((result: Result) => void) | undefined
}

/** Where its spans go, if anywhere; and if they go nowhere, the trace context that is sent to servers. */
export interface Origin {
  readonly trace: Trace | undefined
  readonly context: TraceContext | undefined
}

/** A reply that was to be JSON. `value` is `undefined` where it need not fit: it was cut off, or calls tools. */
export interface Decoded<A> {
  readonly result: Result
  readonly value: A | undefined
}

/**
 * - `open`: the answer as a plain pull of events
 * - `complete`: the whole answer, or what `use` makes of it
 * - `structured`: a reply that `decoder` accepts, asked for once more if the first one does not fit. `mustFit` says
 *   whether a reply has to
 */
export interface Engine {
  readonly open: (execution: Execution) => Effect.Effect<OpenAnswer, ChatError>
  readonly complete: <A>(execution: Execution, use: (result: Result) => A | ChatError) => Effect.Effect<A, ChatError>
  readonly structured: <A>(
    execution: Execution,
    decoder: StructuredOutput.AsyncDecoder<A>,
    mustFit: (result: Result) => boolean | ChatError
  ) => Effect.Effect<Decoded<A>, ChatError | SchemaMismatch>
}

/** The engine of a `Chat`, which streams JSON, too. */
export interface StreamingEngine extends Engine {
  /** The events of a reply that `decoder` accepts, and its value; as `structured` in all else. */
  readonly openStructured: <A>(
    execution: Execution,
    decoder: StructuredOutput.AsyncDecoder<A>,
    mustFit: (result: Result) => boolean | ChatError
  ) => Effect.Effect<OpenEvents<StructuredEvent<A>>, ChatError>
}
