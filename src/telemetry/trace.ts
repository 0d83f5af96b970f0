/** The trace of a call. */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"
import type { TraceContext } from "../Transport.js"

/**
 * A tracer, and what its spans have in common.
 *
 * @since 0.1.0
 * @category models
 */
export interface Trace {
  /** What makes the spans. */
  readonly tracer: Tracer.Tracer
  /** The caller's span. */
  readonly parent: Option.Option<Tracer.AnySpan>
  /** As set with `Effect.linkSpans`. */
  readonly links: ReadonlyArray<Tracer.SpanLink>
  /** As set with `Effect.annotateSpans`. */
  readonly annotations: HashMap.HashMap<string, unknown>
  /** In nanoseconds. */
  readonly now: () => bigint
  /** The session id. */
  readonly conversation?: string | undefined
  /** Vendor data of the caller's trace (`tracestate`), passed on with it. */
  readonly state?: string | undefined
}

/**
 * Effect's native tracer, whose spans no exporter receives. Where a process holds several copies of Effect, they share
 * the one of the copy that was loaded first, which is not this module's.
 */
const native = Effect.runSync(Effect.tracer)

// =============================================================================
// Traces of callers
// =============================================================================

/** The headers that an external span was made of. */
class ReceivedContext extends Context.Tag("aicortex/Telemetry/ReceivedContext")<ReceivedContext, TraceContext>() {}

const traceparent = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
const zeros = /^0+$/

/** The length of `tracestate` that everyone must support, in characters. */
const longestState = 512

/**
 * The caller's span from the request headers (W3C Trace Context); `undefined` if missing or invalid: then the trace
 * starts here.
 *
 * @since 0.1.0
 * @category decoding
 */
export const fromHeaders = (parent: unknown, state: unknown): Tracer.ExternalSpan | undefined => {
  const parts = typeof parent === "string" ? traceparent.exec(parent) : null
  if (parts === null || typeof parent !== "string" || parent.length > longestState) return undefined
  const [, version = "", traceId = "", spanId = "", flags = "", rest] = parts
  // Only later versions may have further fields.
  if (version === "ff" || (version === "00" && rest !== undefined)) return undefined
  if (zeros.test(traceId) || zeros.test(spanId)) return undefined
  const given = typeof state === "string" && state !== "" && /^[\x20-\x7e\t]+$/.test(state) ? state : undefined
  const received: TraceContext =
    given === undefined || given.length > longestState
      ? { traceparent: parent }
      : { traceparent: parent, tracestate: given }
  return Tracer.externalSpan({
    traceId,
    spanId,
    sampled: (Number.parseInt(flags, 16) & 1) === 1,
    context: Context.make(ReceivedContext, received)
  })
}

const receivedOf = (span: Tracer.AnySpan): TraceContext | undefined =>
  Option.getOrUndefined(Context.getOption(span.context, ReceivedContext))

/** The outermost, external ancestor. */
const outermost = (span: Tracer.AnySpan | undefined): Tracer.ExternalSpan | undefined => {
  let at = span
  while (at !== undefined && at._tag === "Span") at = Option.getOrUndefined(at.parent)
  return at
}

/**
 * The trace context for servers; `undefined` if the span's ids are not W3C ids.
 *
 * @since 0.1.0
 * @category encoding
 */
export const contextOf = (span: Tracer.AnySpan, state: string | undefined): TraceContext | undefined => {
  const received = span._tag === "ExternalSpan" ? receivedOf(span) : undefined
  if (received !== undefined) return received
  const parent = `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
  if (!traceparent.test(parent)) return undefined
  return state === undefined ? { traceparent: parent } : { traceparent: parent, tracestate: state }
}

/**
 * The trace context to pass on unchanged when no tracer is set.
 *
 * @since 0.1.0
 * @category accessors
 */
export const incomingContext = (fiber: Fiber.RuntimeFiber<unknown, unknown>): TraceContext | undefined => {
  if (fiber.currentSpan === undefined) return undefined
  const span = outermost(fiber.currentSpan)
  return span === undefined ? undefined : contextOf(span, undefined)
}

// =============================================================================
// Traces
// =============================================================================

/** The nearest visible ancestor. */
const visible = (span: Tracer.AnySpan | undefined): Option.Option<Tracer.AnySpan> => {
  let at = span
  while (at !== undefined && at._tag === "Span" && Context.get(at.context, Tracer.DisablePropagation)) {
    at = Option.getOrUndefined(at.parent)
  }
  return Option.fromNullable(at)
}

/**
 * Where a fiber's spans go; `undefined` if no tracer is set, or tracing is disabled: then no span is made.
 *
 * @since 0.1.0
 * @category accessors
 */
export const traceOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Trace | undefined => {
  const tracer = fiber.currentTracer
  if (tracer === native || !fiber.getFiberRef(FiberRef.currentTracerEnabled)) return undefined
  const clock = Context.get(fiber.currentDefaultServices, Clock.Clock)
  const timed = fiber.getFiberRef(FiberRef.currentTracerTimingEnabled)
  const outer = outermost(fiber.currentSpan)
  return {
    tracer,
    parent: visible(fiber.currentSpan),
    links: Chunk.toReadonlyArray(fiber.getFiberRef(FiberRef.currentTracerSpanLinks)),
    annotations: fiber.getFiberRef(FiberRef.currentTracerSpanAnnotations),
    now: () => (timed ? clock.unsafeCurrentTimeNanos() : 0n),
    state: outer === undefined ? undefined : receivedOf(outer)?.tracestate
  }
}

/**
 * Starts a span.
 *
 * @since 0.1.0
 * @category constructors
 */
export const open = (
  { annotations, links, tracer }: Trace,
  name: string,
  parent: Option.Option<Tracer.AnySpan>,
  begins: bigint,
  attributes: Record<string, unknown>,
  kind: Tracer.SpanKind = "client"
): Tracer.Span => {
  const span = tracer.span(name, parent, Context.empty(), links, begins, kind, { attributes, kind })
  for (const [key, value] of HashMap.entries(annotations)) span.attribute(key, value)
  for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
  return span
}

/**
 * A failed span's error. It contains only the type: a server's message may quote the prompt.
 */
class Failure extends Data.TaggedError("Failure")<{ readonly message: string }> {
  constructor(type: string) {
    super({ message: type })
    this.name = type
  }
}

/**
 * Ends a failed span. `type` is its `error.type`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const fail = (span: Tracer.Span, ends: bigint, type: string): void => {
  span.attribute("error.type", type)
  span.end(ends, Exit.fail(new Failure(type)))
}

/**
 * Ends a span with success.
 *
 * @since 0.1.0
 * @category combinators
 */
export const succeed = (span: Tracer.Span, ends: bigint): void => span.end(ends, Exit.void)

/**
 * Ends a span with an interruption.
 *
 * @since 0.1.0
 * @category combinators
 */
export const interrupt = (span: Tracer.Span, ends: bigint): void =>
  span.end(ends, Exit.failCause(Cause.interrupt(FiberId.none)))
