/**
 * What the library tells of itself: metrics in Effect's own registry, always, and spans, where a tracer is set.
 *
 * - Metrics are read with `Metric.snapshot` and exported by whatever exports Effect's metrics
 * - Spans go to the tracer of the caller's fiber: `chat {model}` for the call, and below it one for each attempt on a
 *   server. A call without a fiber takes the tracer that was set when the services were made. Without a tracer none is
 *   made, and a kept answer has none, because no model was asked
 *
 * Names follow the OpenTelemetry conventions for generative AI. Prompts, answers and what servers said are in neither;
 * servers are named by host and port alone.
 *
 * @since 0.1.0
 */
import type { CallObserver, Observed } from "./telemetry/observer.js"
import { CallRecord } from "./telemetry/record.js"

export {
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
   * @category combinators
   */
  probed
} from "./telemetry/instruments.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  AttemptObserver,
  /**
   * @since 0.1.0
   * @category models
   */
  CallObserver,
  /**
   * @since 0.1.0
   * @category models
   */
  Ending,
  /**
   * @since 0.1.0
   * @category models
   */
  Observed,
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
export const observe = (call: Observed, model: string | undefined, now: () => number): CallObserver =>
  new CallRecord(call, model, now)
