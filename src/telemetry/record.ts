/** Records one call: always in metrics, in spans if a tracer is set. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Span, SpanKind } from "effect/Tracer"
import type { Usage } from "../ChatEvent.js"
import { completes } from "../ChatRequest.js"
import type { Decision } from "../Decision.js"
import { type FailureReason, isChatError, type Phase } from "../Errors.js"
import type { Host } from "../Server.js"
import type { TraceContext } from "../Transport.js"
import * as Instruments from "./instruments.js"
import type { AnswerEnd, AttemptObserver, CallObserver, Observed, Operation, Resumption } from "./observer.js"
import * as Trace from "./trace.js"

/** The `error.type` of an abandoned call. */
const cancelled = "cancelled"

/** The type of an error: one of the library's, or `_OTHER`. */
const typeOf = (error: unknown): string => (isChatError(error) ? error._tag : "_OTHER")

const given = (attributes: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined))

const operationOf = ({ operation, request }: Observed): Operation =>
  operation ?? (completes(request) ? "text_completion" : "chat")

/** The span of a call. It starts when the call began, which may have waited for its session since. */
const spanOf = (call: Observed, trace: Trace.Trace, now: number, kind: SpanKind = "client"): Span => {
  const { began, request } = call
  const operation = operationOf(call)
  const waited = BigInt(Math.max(0, Math.round(now - began))) * 1_000_000n
  const attributes = given({
    "gen_ai.operation.name": operation,
    "gen_ai.request.model": request.model,
    "gen_ai.request.temperature": request.temperature,
    "gen_ai.request.top_p": request.topP,
    "gen_ai.request.top_k": request.topK,
    "gen_ai.request.max_tokens": request.maxTokens,
    "gen_ai.request.seed": request.seed,
    "gen_ai.request.frequency_penalty": request.frequencyPenalty,
    "gen_ai.request.presence_penalty": request.presencePenalty,
    "gen_ai.request.stop_sequences": request.stop?.length === 0 ? undefined : request.stop,
    "gen_ai.output.type": request.format === undefined || request.format === "text" ? undefined : "json",
    "gen_ai.conversation.id": trace.conversation
  })
  return Trace.open(trace, `${operation} ${request.model}`, trace.parent, trace.now() - waited, attributes, kind)
}

export class CallRecord implements CallObserver {
  readonly span: Span | undefined
  private readonly operation: Operation
  /** The last server asked, or the one that has answered. */
  private last: Instruments.ServerInstruments | undefined
  /** Why the last attempt failed, until another one takes over. */
  private lastFailure: FailureReason | undefined
  private queuedAt: number | undefined
  private attempts = 0
  private over = false

  constructor(
    private readonly call: Observed,
    private readonly model: string | undefined,
    private readonly now: () => number
  ) {
    this.operation = operationOf(call)
    this.span = call.trace === undefined ? undefined : spanOf(call, call.trace, now())
  }

  attempt(host: Host, loads: boolean, hedge: boolean): AttemptObserver {
    const { lastFailure, span } = this
    const { context, trace } = this.call
    const at = Instruments.serverInstruments(host, this.operation)
    this.last = at
    this.attempts++
    if (lastFailure !== undefined) {
      this.lastFailure = undefined
      Instruments.modelInstruments(this.model).failedOver(lastFailure)
    }
    at.began()
    if (trace === undefined || span === undefined) {
      return new AttemptRecord(this, at, loads, hedge, undefined, undefined, context)
    }
    const own = attemptSpan(trace, span, at, this.operation, this.attempts)
    return new AttemptRecord(this, at, loads, hedge, trace, own, Trace.contextOf(own, trace.state))
  }

  /** An attempt has succeeded. */
  got(at: Instruments.ServerInstruments): void {
    this.last = at
    this.lastFailure = undefined
  }

  /** An attempt has failed. */
  lost(reason: FailureReason): void {
    this.lastFailure = reason
  }

  queued(): void {
    this.queuedAt = this.now()
    Instruments.modelInstruments(this.model).queued()
    const { trace } = this.call
    if (trace !== undefined) this.span?.event("aicortex.queued", trace.now())
  }

  dequeued(): void {
    const { queuedAt } = this
    if (queuedAt === undefined) return
    this.queuedAt = undefined
    Instruments.modelInstruments(this.model).dequeued(Math.max(0, this.now() - queuedAt) / 1_000)
    const { trace } = this.call
    if (trace !== undefined) this.span?.event("aicortex.dequeued", trace.now())
  }

  used({ completionTokens, promptTokens }: Usage): void {
    this.last?.used(promptTokens, completionTokens)
  }

  answered(ending: AnswerEnd): void {
    if (!this.end(undefined)) return
    const { span } = this
    const { events, trace } = this.call
    if (span === undefined || trace === undefined) return
    const { decision, finishReason, firstTokenTime, model, usage } = ending
    if (decision !== undefined) decide(span, decision)
    span.attribute("gen_ai.response.model", model)
    if (finishReason !== undefined) span.attribute("gen_ai.response.finish_reasons", [finishReason])
    if (usage.promptTokens !== undefined) span.attribute("gen_ai.usage.input_tokens", usage.promptTokens)
    if (usage.completionTokens !== undefined) span.attribute("gen_ai.usage.output_tokens", usage.completionTokens)
    if (events && firstTokenTime !== undefined) {
      span.attribute("gen_ai.response.time_to_first_chunk", firstTokenTime / 1_000)
    }
    Trace.succeed(span, trace.now())
  }

  failed(error: unknown): void {
    const type = typeOf(error)
    if (!this.end(type)) return
    if (type === "Overloaded") Instruments.modelInstruments(this.model).overloaded()
    const { trace } = this.call
    if (this.span !== undefined && trace !== undefined) Trace.fail(this.span, trace.now(), type)
  }

  closed(): void {
    if (!this.end(cancelled)) return
    const { trace } = this.call
    if (this.span !== undefined && trace !== undefined) Trace.interrupt(this.span, trace.now())
  }

  /** The common part of every outcome; false if it had ended before. */
  private end(error: string | undefined): boolean {
    if (this.over) return false
    this.over = true
    this.dequeued()
    const { last, span } = this
    const seconds = Math.max(0, this.now() - this.call.began) / 1_000
    if (last !== undefined) last.ended(seconds, error)
    else if (error !== undefined) Instruments.modelInstruments(this.model).ended(this.operation, seconds, error)
    if (span !== undefined) {
      span.attribute("aicortex.attempts", this.attempts)
      if (last !== undefined) locate(span, last)
    }
    return true
  }
}

/** How many pairs a span lists of a decision, at most. */
const maxListed = 20

/** Why the call was answered where it was; servers are named as everywhere in spans. */
const decide = (span: Span, { asked, candidates, excluded, reason }: Decision): void => {
  const named = ({ model, server }: { readonly model: string; readonly server: string }): string =>
    `${model} at ${Instruments.addressOf(server).both}`
  span.attribute("aicortex.decision.asked", asked)
  span.attribute("aicortex.decision.reason", reason)
  span.attribute("aicortex.decision.candidates", candidates.slice(0, maxListed).map(named))
  if (excluded.length === 0) return
  const listed = excluded.slice(0, maxListed).map((one) => `${named(one)}: ${one.reason}`)
  span.attribute("aicortex.decision.excluded", listed)
}

const locate = (span: Span, { address, provider }: Instruments.ServerInstruments): void => {
  span.attribute("gen_ai.provider.name", provider)
  span.attribute("server.address", address.name)
  if (address.port !== undefined) span.attribute("server.port", address.port)
}

/** The attempt's span has no tokens: they are the call's, and must not be counted twice. */
const attemptSpan = (
  trace: Trace.Trace,
  call: Span,
  at: Instruments.ServerInstruments,
  operation: Operation,
  count: number
): Span => {
  const { address, model, provider } = at
  const attributes = given({
    "gen_ai.operation.name": operation,
    "gen_ai.provider.name": provider,
    "gen_ai.request.model": model,
    "server.address": address.name,
    "server.port": address.port,
    "aicortex.attempt": count
  })
  return Trace.open(trace, `${operation} ${model}`, Option.some(call), trace.now(), attributes)
}

class AttemptRecord implements AttemptObserver {
  private resumption: Resumption | undefined
  private over = false

  constructor(
    private readonly call: CallRecord,
    private readonly at: Instruments.ServerInstruments,
    private readonly loads: boolean,
    private readonly hedge: boolean,
    private readonly trace: Trace.Trace | undefined,
    private readonly span: Span | undefined,
    readonly context: TraceContext | undefined
  ) {}

  resumes(how: Resumption): void {
    this.resumption = how
  }

  succeeded(firstTokenTime: number | undefined, tokensPerSecond: number | undefined): void {
    if (this.over) return
    this.end("success", "stream")
    const { at, resumption, span, trace } = this
    this.call.got(at)
    at.succeeded(
      firstTokenTime === undefined ? undefined : Math.max(0, firstTokenTime) / 1_000,
      tokensPerSecond === undefined || !(tokensPerSecond > 0) ? undefined : 1 / tokensPerSecond
    )
    if (resumption !== undefined) at.resumed(resumption)
    if (span !== undefined && trace !== undefined) Trace.succeed(span, trace.now())
  }

  failed(reason: FailureReason, phase: Phase, status: number | undefined): void {
    if (this.over) return
    this.end("failure", phase)
    const { span, trace } = this
    this.call.lost(reason)
    this.at.failed(reason)
    if (span === undefined || trace === undefined) return
    if (status !== undefined) span.attribute("http.response.status_code", status)
    Trace.fail(span, trace.now(), reason)
  }

  cancelled(phase: Phase): void {
    this.stopped("cancelled", phase)
  }

  overtaken(phase: Phase): void {
    this.stopped("overtaken", phase)
  }

  private stopped(outcome: "cancelled" | "overtaken", phase: Phase): void {
    if (this.over) return
    this.end(outcome, phase)
    const { span, trace } = this
    this.at.stopped(outcome)
    if (span !== undefined && trace !== undefined) Trace.interrupt(span, trace.now())
  }

  /** The common part of every outcome. */
  private end(outcome: Instruments.Outcome, phase: Phase): void {
    this.over = true
    const { at, hedge, loads, resumption, span } = this
    // An unreachable server has loaded nothing.
    if (loads && phase !== "connect") at.loaded()
    if (hedge) at.hedged(outcome)
    if (span === undefined) return
    span.attribute("aicortex.outcome", outcome)
    if (hedge) span.attribute("aicortex.hedge", true)
    if (loads) span.attribute("aicortex.loads", true)
    if (resumption !== undefined) span.attribute("aicortex.resumed", Instruments.wordFor(resumption))
  }
}

// =============================================================================
// Without a server
// =============================================================================

/**
 * How a call was answered without asking a server: from the cache (`hit`), or by another call (`shared`).
 *
 * @since 0.1.0
 * @category models
 */
export type CacheSource = "hit" | "shared"

/** The span of a call without a server. Its tokens are reported by the call that used them. */
export class CachedCallRecord implements Pick<CallObserver, "answered" | "failed" | "closed"> {
  private readonly span: Span
  private over = false

  constructor(
    call: Observed,
    private readonly trace: Trace.Trace,
    how: CacheSource,
    now: number
  ) {
    this.span = spanOf(call, trace, now, "internal")
    this.span.attribute("aicortex.cache", how)
  }

  answered({ finishReason, model }: AnswerEnd): void {
    if (this.over) return
    this.over = true
    const { span, trace } = this
    span.attribute("gen_ai.response.model", model)
    if (finishReason !== undefined) span.attribute("gen_ai.response.finish_reasons", [finishReason])
    Trace.succeed(span, trace.now())
  }
  failed(error: unknown): void {
    if (this.over) return
    this.over = true
    Trace.fail(this.span, this.trace.now(), typeOf(error))
  }
  closed(): void {
    if (this.over) return
    this.over = true
    Trace.interrupt(this.span, this.trace.now())
  }
}

/**
 * A tool run, as a span below the call's; spans of the tool itself are below that.
 *
 * @since 0.1.0
 * @category combinators
 */
export const tool = <A, E>(
  execute: Effect.Effect<A, E>,
  { id, name }: { readonly id: string; readonly name: string },
  trace: Trace.Trace | undefined,
  call: Span | undefined
): Effect.Effect<A, E> => {
  if (trace === undefined || call === undefined) return execute
  return Effect.suspend(() => {
    const attributes = {
      "gen_ai.operation.name": "execute_tool",
      "gen_ai.tool.name": name,
      "gen_ai.tool.call.id": id,
      "gen_ai.tool.type": "function"
    }
    const span = Trace.open(trace, `execute_tool ${name}`, Option.some(call), trace.now(), attributes, "internal")
    return execute.pipe(
      Effect.withParentSpan(span),
      Effect.withTracer(trace.tracer),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (Exit.isSuccess(exit)) Trace.succeed(span, trace.now())
          else if (Cause.isInterruptedOnly(exit.cause)) Trace.interrupt(span, trace.now())
          else Trace.fail(span, trace.now(), typeOf(Cause.squash(exit.cause)))
        })
      )
    )
  })
}
