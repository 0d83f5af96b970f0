/**
 * The telemetry of the library: metrics in Effect's own registry, always, and spans, where a tracer is set.
 *
 * - Metrics are read with `Metric.snapshot` and exported by whatever exports Effect's metrics
 * - Spans go to the tracer of the caller's fiber: `chat {model}` for the call (or `text_completion`, `embeddings`), and
 *   below it one for each attempt on a server. A call without a fiber takes the tracer that was set when the services
 *   were made. Without a tracer none is made. A call that is given a kept answer, or another call's, has a span without
 *   attempts
 * - Servers are told the span of their attempt (`traceparent`); where no tracer is set, the trace that the caller is a
 *   part of
 *
 * Names follow the OpenTelemetry conventions for generative AI. Prompts, answers and what servers said are in neither;
 * servers are named by host and port alone.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { ListenedCall } from "./telemetry/both.js"
import type { CallObserver, Observed } from "./telemetry/observer.js"
import { CachedCallRecord, type CacheSource, CallRecord } from "./telemetry/record.js"

export {
  /**
   * @since 0.1.0
   * @category models
   */
  type Address,
  /**
   * @since 0.1.0
   * @category accessors
   */
  addressOf,
  /**
   * @since 0.1.0
   * @category models
   */
  type BreakerChange,
  /**
   * @since 0.1.0
   * @category constructors
   */
  breaker,
  /**
   * @since 0.1.0
   * @category constants
   */
  cache,
  /**
   * @since 0.1.0
   * @category combinators
   */
  probed,
  /**
   * @since 0.2.0
   * @category combinators
   */
  remoteTokensUsed,
  /**
   * @since 0.1.0
   * @category accessors
   */
  snapshot
} from "./telemetry/instruments.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  AnswerEnd,
  /**
   * @since 0.1.0
   * @category models
   */
  AttemptObserver,
  /**
   * @since 0.3.0
   * @category models
   */
  AttemptWatch,
  /**
   * @since 0.3.0
   * @category models
   */
  CallListener,
  /**
   * @since 0.1.0
   * @category models
   */
  CallObserver,
  /**
   * @since 0.1.0
   * @category models
   */
  Observed,
  /**
   * @since 0.1.0
   * @category models
   */
  Operation,
  /**
   * @since 0.1.0
   * @category models
   */
  Resumption
} from "./telemetry/observer.js"
export {
  /**
   * @since 0.1.0
   * @category models
   */
  type CacheSource,
  /**
   * @since 0.1.0
   * @category combinators
   */
  tool
} from "./telemetry/record.js"
export {
  /**
   * @since 0.1.0
   * @category encoding
   */
  contextOf,
  /**
   * @since 0.1.0
   * @category combinators
   */
  fail,
  /**
   * @since 0.1.0
   * @category decoding
   */
  fromHeaders,
  /**
   * @since 0.1.0
   * @category accessors
   */
  incomingContext,
  /**
   * @since 0.1.0
   * @category combinators
   */
  interrupt,
  /**
   * @since 0.1.0
   * @category constructors
   */
  open,
  /**
   * @since 0.1.0
   * @category combinators
   */
  succeed,
  /**
   * @since 0.1.0
   * @category models
   */
  type Trace,
  /**
   * @since 0.1.0
   * @category accessors
   */
  traceOf
} from "./telemetry/trace.js"

/**
 * Observes a call from now on. `model` is its name on the servers that have it, `undefined` where none is known to;
 * `now` gives milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category constructors
 */
export const observe = (call: Observed, model: string | undefined, now: () => number): CallObserver => {
  const record = new CallRecord(call, model, now)
  return call.listener === undefined ? record : new ListenedCall(record, call.listener)
}

/**
 * Observes a call that ends before any server is asked, where `effect` fails or is interrupted.
 *
 * @since 0.2.0
 * @category combinators
 */
export const observeUnstarted = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  call: () => Observed,
  now: () => number
): Effect.Effect<A, E, R> =>
  Effect.onError(effect, (cause) =>
    Effect.sync(() => {
      const observer = observe(call(), undefined, now)
      if (Cause.isInterruptedOnly(cause)) observer.closed()
      else observer.failed(Cause.squash(cause))
    })
  )

/**
 * Observes a call that is given an answer that no server is asked for; `undefined` where no tracer is set, because
 * there is nothing else to be told.
 *
 * @since 0.1.0
 * @category constructors
 */
export const observeCached = (call: Observed, how: CacheSource, now: number): CachedCallRecord | undefined =>
  call.trace === undefined ? undefined : new CachedCallRecord(call, call.trace, how, now)
