/**
 * Where the spans of a call go.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DefaultServices from "effect/DefaultServices"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import * as Tracer from "effect/Tracer"

/**
 * A tracer, and what its spans have in common.
 *
 * - `parent`: the caller's span
 * - `links`, `annotations`: as set with `Effect.linkSpans` and `Effect.annotateSpans`
 * - `now`: in nanoseconds
 * - `conversation`: the id of the session
 *
 * @since 0.1.0
 * @category models
 */
export interface Trace {
  readonly tracer: Tracer.Tracer
  readonly parent: Option.Option<Tracer.AnySpan>
  readonly links: ReadonlyArray<Tracer.SpanLink>
  readonly annotations: HashMap.HashMap<string, unknown>
  readonly now: () => bigint
  readonly conversation?: string | undefined
}

/** Effect's own tracer, whose spans nobody sees but who made them. */
const native = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** The nearest span above that is to be seen. */
const visible = (span: Tracer.AnySpan | undefined): Option.Option<Tracer.AnySpan> => {
  let at = span
  while (at !== undefined && at._tag === "Span" && Context.get(at.context, Tracer.DisablePropagation)) {
    at = Option.getOrUndefined(at.parent)
  }
  return Option.fromNullable(at)
}

/**
 * Where a fiber's spans go; `undefined` where no tracer is set, or tracing is turned off: then nothing need be made.
 *
 * @since 0.1.0
 * @category accessors
 */
export const traceOf = (fiber: Fiber.RuntimeFiber<unknown, unknown>): Trace | undefined => {
  const tracer = fiber.currentTracer
  if (tracer === native || !fiber.getFiberRef(FiberRef.currentTracerEnabled)) return undefined
  const clock = Context.get(fiber.currentDefaultServices, Clock.Clock)
  const timed = fiber.getFiberRef(FiberRef.currentTracerTimingEnabled)
  return {
    tracer,
    parent: visible(fiber.currentSpan),
    links: Chunk.toReadonlyArray(fiber.getFiberRef(FiberRef.currentTracerSpanLinks)),
    annotations: fiber.getFiberRef(FiberRef.currentTracerSpanAnnotations),
    now: () => (timed ? clock.unsafeCurrentTimeNanos() : 0n)
  }
}

/**
 * Begins a client's span.
 *
 * @since 0.1.0
 * @category constructors
 */
export const open = (
  { annotations, links, tracer }: Trace,
  name: string,
  parent: Option.Option<Tracer.AnySpan>,
  begins: bigint,
  attributes: Record<string, unknown>
): Tracer.Span => {
  const span = tracer.span(name, parent, Context.empty(), links, begins, "client", { attributes, kind: "client" })
  for (const [key, value] of HashMap.entries(annotations)) span.attribute(key, value)
  for (const [key, value] of Object.entries(attributes)) span.attribute(key, value)
  return span
}

/**
 * What a span says that failed. It names the kind of error and no more: the words of a server may quote the prompt.
 */
class Failure extends Data.TaggedError("Failure")<{ readonly message: string }> {
  constructor(type: string) {
    super({ message: type })
    this.name = type
  }
}

/**
 * Ends a span that failed. `type` is its `error.type`.
 *
 * @since 0.1.0
 * @category combinators
 */
export const fail = (span: Tracer.Span, ends: bigint, type: string): void => {
  span.attribute("error.type", type)
  span.end(ends, Exit.fail(new Failure(type)))
}

/**
 * @since 0.1.0
 * @category combinators
 */
export const succeed = (span: Tracer.Span, ends: bigint): void => span.end(ends, Exit.void)

/**
 * @since 0.1.0
 * @category combinators
 */
export const interrupt = (span: Tracer.Span, ends: bigint): void =>
  span.end(ends, Exit.failCause(Cause.interrupt(FiberId.none)))
