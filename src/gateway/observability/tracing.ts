/** Places a request in a trace: below the caller's span, with the spans of its answers below it. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as Telemetry from "../../Telemetry.js"
import type { GatewayContext } from "../GatewayContext.js"
import type { RequestContext } from "../http/RequestContext.js"

/** The trace of an application that mounts the gateway: it has already made the request's own span. */
export interface IncomingTrace {
  readonly trace: Telemetry.Trace | undefined
}

/**
 * Begins the request span below the caller's, or uses the application's. Without a tracer the caller's trace context is
 * passed on unchanged. An invalid `traceparent` is ignored.
 */
export const begin = (
  gateway: GatewayContext,
  context: RequestContext,
  given: IncomingTrace | undefined
): Tracer.Span | undefined => {
  const { headers, method = "GET" } = context.request
  const trace = given === undefined ? gateway.trace : given.trace
  const parent = headers["traceparent"]
  if (trace === undefined && parent === undefined) return undefined
  const caller = parent === undefined ? undefined : Telemetry.fromHeaders(parent, headers["tracestate"])
  const incoming = caller === undefined ? undefined : Telemetry.contextOf(caller, undefined)
  if (trace === undefined) {
    context.traceContext = incoming
    return undefined
  }
  const state = incoming?.tracestate
  if (Option.isSome(trace.parent)) {
    context.trace = { ...trace, state: trace.parent.value.traceId === caller?.traceId ? state : trace.state }
    return undefined
  }
  const span = Telemetry.open(
    trace,
    `http.server ${method}`,
    Option.fromNullable(caller),
    trace.now(),
    { "http.request.method": method, "aicortex.request.id": context.id },
    "server"
  )
  context.trace = { ...trace, parent: Option.some(span), state }
  return span
}

/** Runs an Effect within the request's trace. */
export const within = <A, E>(
  { traceContext: context, trace }: RequestContext,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E> => {
  if (trace !== undefined) {
    const traced = Effect.withTracer(effect, trace.tracer)
    return Option.isSome(trace.parent) ? Effect.withParentSpan(traced, trace.parent.value) : traced
  }
  const caller = context === undefined ? undefined : Telemetry.fromHeaders(context.traceparent, context.tracestate)
  return caller === undefined ? effect : Effect.withParentSpan(effect, caller)
}

/** Ends the request span: a failure of the gateway is an error, a client error is not. */
export const end = (
  { record: account, disconnected: left, route, trace }: RequestContext,
  span: Tracer.Span,
  status: number
): void => {
  if (trace === undefined) return
  span.attribute("http.route", route)
  span.attribute("http.response.status_code", status)
  if (status >= 500 || account.error === "stream_interrupted") {
    Telemetry.fail(span, trace.now(), account.error ?? String(status))
  } else if (left) Telemetry.interrupt(span, trace.now())
  else Telemetry.succeed(span, trace.now())
}
