/** A streamed reply that must be JSON: its events, the value as it grows, and at the end the value that was checked. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { ChatEvent, End, StructuredEvent, Usage } from "../ChatEvent.js"
import type { Decision } from "../Decision.js"
import { type Attempt, type ChatError, type SchemaIssue, SchemaMismatch } from "../Errors.js"
import type { OpenAnswer, Result } from "../Failover.js"
import { callOf, decisionOf, resultOf } from "../failover/answerEnd.js"
import { addUsage } from "../failover/usage.js"
import type { ToolCall } from "../Message.js"
import * as StructuredOutput from "../StructuredOutput.js"
import { usageOf } from "../sessions/record.js"
import { PartialJson } from "../structuredOutput/partialJson.js"
import type { OpenEvents } from "./openEvents.js"
import type { PendingAnswer } from "./pendingAnswer.js"
import { answeredBy, type Prepared, repairing } from "./prepared.js"
import * as ToolLoop from "./toolLoop.js"

export interface StructuredCall<A> {
  readonly prepared: Prepared
  readonly pending: PendingAnswer
  readonly decoder: StructuredOutput.AsyncDecoder<A>
  readonly mustFit: (result: Result) => boolean | ChatError
  readonly begin: (prepared: Prepared) => Effect.Effect<PendingAnswer, ChatError>
  readonly fork: <B, E>(effect: Effect.Effect<B, E>) => Fiber.RuntimeFiber<B, E>
  readonly now: () => number
}

/** Asked again with the issues of the reply, if need be, as a whole answer is; what was given out is then void. */
export class StructuredAnswer<A> implements OpenEvents<StructuredEvent<A>> {
  private answer: OpenAnswer
  private pending: PendingAnswer
  private readonly firstPending: PendingAnswer
  private parser = new PartialJson()
  private pieces: Array<string> = []
  private toolCalls: Array<ToolCall> = []
  private cached = false
  private readonly decisions: Array<Decision> = []
  /** Of the replies before. */
  private attempts: ReadonlyArray<Attempt> = []
  private usage: Usage | undefined
  private firstIndex = 0
  private nextIndex = 0
  private renewed = false
  private repaired = false
  private end: End | undefined
  private work: Fiber.RuntimeFiber<unknown, unknown> | undefined
  private over = false
  private cancelled: { readonly reason: unknown } | undefined
  private readonly listeners: Array<() => void> = []

  constructor(private readonly call: StructuredCall<A>) {
    this.pending = call.pending
    this.firstPending = call.pending
    this.answer = call.pending.start()
  }

  async pull(): Promise<ReadonlyArray<StructuredEvent<A>> | undefined> {
    try {
      for (;;) {
        if (this.end !== undefined) return await this.finish(this.end)
        if (this.over) return undefined
        const batch = await this.answer.pull()
        if (batch === undefined) {
          this.close()
          return undefined
        }
        const events: Array<StructuredEvent<A>> = []
        for (const event of batch) this.see(event, events)
        if (events.length > 0) return events
      }
    } catch (error) {
      this.close()
      if (this.cancelled === undefined) throw error
      if (this.cancelled.reason !== undefined) throw this.cancelled.reason
      return undefined
    }
  }

  cancel(reason?: unknown): void {
    if (this.over) return
    this.cancelled = { reason }
    this.work?.unsafeInterruptAsFork(this.work.id())
    this.answer.cancel(reason)
    this.close()
  }

  onClose(listener: () => void): void {
    if (this.over) listener()
    else this.listeners.push(listener)
  }

  private see(event: ChatEvent, events: Array<StructuredEvent<A>>): void {
    switch (event.type) {
      case "end":
        this.end = event
        return
      case "start":
        if (!this.repaired && !this.renewed) events.push(event)
        return
      case "token": {
        this.nextIndex = this.firstIndex + event.index + 1
        events.push(this.firstIndex === 0 ? event : { ...event, index: this.firstIndex + event.index })
        this.pieces.push(event.content)
        this.parser.push(event.content)
        const partial = this.parser.take()
        if (partial !== undefined) events.push({ type: "partial", value: partial.value, timestamp: event.timestamp })
        return
      }
      case "restart":
      case "tool_result":
        this.reset()
        break
      case "tool_call":
        this.toolCalls.push(callOf(event))
        break
      case "meta":
        if (event.meta.type === "cached") this.cached = true
        else if (event.meta.type === "attempt" && event.meta.decision) this.decisions.push(event.meta.decision)
        break
      default:
    }
    events.push(event)
  }

  private reset(): void {
    this.parser = new PartialJson()
    this.pieces = []
    this.toolCalls = []
  }

  /** Checks the reply, and gives the last events, or has it asked for again. */
  private async finish(end: End): Promise<ReadonlyArray<StructuredEvent<A>>> {
    const { decoder, mustFit, now, prepared } = this.call
    const { cached, toolCalls } = this
    const text = this.pieces.join("")
    const decision = decisionOf(end, this.decisions, cached)
    const result = resultOf(end, { text, thinking: "", toolCalls, logprobs: undefined, cached, decision })
    const must = mustFit(result)
    if (typeof must !== "boolean") throw must
    const decoded = await this.run(Effect.either(decoder.decode(text)))
    this.usage = this.usage === undefined ? end.usage : addUsage(this.usage, end.usage)
    this.attempts = [...this.attempts, ...end.attempts]
    if (Either.isLeft(decoded)) return this.askAgain(result, decoded.left)
    const { turn } = prepared
    const newMessages = this.firstPending.newMessages()
    const warning =
      turn === undefined
        ? undefined
        : await this.run(
            ToolLoop.store(
              turn,
              [...newMessages.slice(0, -1), ToolLoop.assistantMessage(result)],
              usageOf({ ...result, usage: this.usage })
            )
          )
    this.end = undefined
    this.close()
    const warnings = warning === undefined ? end.warnings : [...(end.warnings ?? []), warning]
    return [
      { type: "value", value: decoded.right, timestamp: now() },
      { ...end, usage: this.usage, attempts: this.attempts, ...(warnings === undefined ? {} : { warnings }) }
    ]
  }

  /** Asks again: without the cache if the invalid reply came from it, else with the issues of the reply. */
  private async askAgain(
    result: Result,
    issues: ReadonlyArray<SchemaIssue>
  ): Promise<ReadonlyArray<StructuredEvent<A>>> {
    const { begin, now, prepared } = this.call
    const renews = this.cached && !this.renewed
    if (!renews && (this.repaired || !StructuredOutput.canRepair(issues))) {
      throw new SchemaMismatch({ model: this.pending.candidate().model, issues, text: result.text })
    }
    const next = renews
      ? { ...prepared, cacheOptions: { ...prepared.cacheOptions, renew: true } }
      : repairing(answeredBy(prepared, this.pending.candidate()), result.text, issues)
    this.pending = await this.run(begin(next))
    const discard = this.pieces.length
    this.end = undefined
    if (renews) this.renewed = true
    else this.repaired = true
    this.cached = false
    this.firstIndex = this.nextIndex
    this.reset()
    this.answer = this.pending.start()
    return [{ type: "repair", issues, discard, timestamp: now() }]
  }

  private run<B, E>(effect: Effect.Effect<B, E>): Promise<B> {
    return new Promise((resolve, reject) => {
      const fiber = this.call.fork(effect)
      this.work = fiber
      fiber.addObserver((exit) => {
        this.work = undefined
        if (Exit.isSuccess(exit)) resolve(exit.value)
        else reject(Cause.squash(exit.cause))
      })
    })
  }

  private close(): void {
    if (this.over) return
    this.over = true
    this.call.prepared.turn?.release()
    for (const listener of this.listeners.splice(0)) listener()
  }
}
