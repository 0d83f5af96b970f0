/**
 * Sends the requests of one step. Plain code with one timer: what the generator itself takes must not show in what it
 * measures.
 */
import type { Backend } from "../../Backend.js"
import * as ChatRequest from "../../ChatRequest.js"
import { maxTimer } from "../../internal/silenceTimer.js"
import type { Server } from "../../Server.js"
import { arrivals } from "./arrivals.js"
import type { CheckedLoad } from "./options.js"
import type { LoadEnd, LoadStep } from "./report.js"
import { LoadRequest } from "./request.js"
import { type StepState, stepOf } from "./summary.js"
import { keepsAnswers, type Prompt } from "./trace.js"

/** How often requests are checked for their timeout, in milliseconds. */
const tick = 100

/** A closed loop of nothing but failures ends after so many: it would send as fast as they come. */
const maxFailures = 20

/** How a step sends its requests. */
export type Plan =
  | { readonly profile: "constant" | "poisson"; readonly rate: number }
  | { readonly profile: "synchronous" | "concurrent" | "throughput"; readonly concurrency: number }

/** What a step needs of the whole. */
export interface StepContext {
  readonly server: Server
  readonly backend: Backend
  readonly options: CheckedLoad
  readonly prompt: () => Prompt
  /** The time in milliseconds with their fractions. */
  readonly now: () => number
  /** Reserves a request of so many tokens: what takes it back, or what stands in the way. */
  readonly reserve: (tokens: number) => LoadEnd | ((used: number) => void)
}

const isOpen = (plan: Plan): plan is Extract<Plan, { readonly rate: number }> => "rate" in plan

export class Step {
  readonly requests: Array<LoadRequest> = []
  readonly inFlight = new Set<LoadRequest>()
  /** Why the whole ends, where it does. */
  end: LoadEnd = "complete"
  ended = 0
  failed = 0
  private succeeded = 0
  private maxInFlight = 0
  private limited = 0
  private readonly began: number
  /** When no more is sent, in milliseconds since the beginning; `undefined`: not yet. */
  private sendingEnded: number | undefined
  private took: number | undefined
  private readonly nextArrival: (() => number) | undefined
  private arrival = 0
  /** Planned arrivals that wait for one of `maxConcurrency`. */
  private waiting: Array<number> = []
  private planned = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private readonly most: number

  constructor(
    private readonly context: StepContext,
    readonly plan: Plan,
    private readonly done: () => void
  ) {
    this.began = context.now()
    const { maxConcurrency, seed } = context.options
    this.most = isOpen(plan) ? maxConcurrency : plan.concurrency
    if (isOpen(plan)) {
      this.nextArrival = arrivals(plan.profile, plan.rate, seed)
      this.arrival = this.nextArrival()
    }
  }

  /** Sends the first requests, and the others as time goes by. */
  start(): void {
    this.proceed()
  }

  /** No more is sent, and what is in flight is cancelled. */
  stop(): void {
    if (this.took !== undefined) return
    this.closeSending(this.time, "stopped")
    this.cancel("the load test was stopped")
    this.proceed()
  }

  get summary(): LoadStep {
    const { cooldown, maxConcurrency, slo, warmup } = this.context.options
    const { plan } = this
    const sendingEnded = this.sendingEnded ?? this.time
    const state: StepState = {
      profile: plan.profile,
      rate: isOpen(plan) ? plan.rate : undefined,
      concurrency: isOpen(plan) ? undefined : plan.concurrency,
      requests: this.requests,
      sendingEnded,
      took: this.took ?? this.time,
      maxInFlight: this.maxInFlight,
      limited: this.limited,
      maxConcurrency,
      warmup,
      cooldown,
      slo
    }
    return stepOf(state)
  }

  private get time(): number {
    return this.context.now() - this.began
  }

  private closeSending(at: number, end: LoadEnd = "complete"): void {
    if (this.sendingEnded !== undefined) return
    this.sendingEnded = at
    this.end = end
    this.waiting = []
  }

  private cancel(why: string): void {
    for (const request of [...this.inFlight]) request.stop("cancelled", why)
  }

  private readonly proceed = (): void => {
    if (this.took !== undefined) return
    clearTimeout(this.timer)
    const { drainTime, duration, requestTimeout } = this.context.options
    if (this.sendingEnded === undefined) {
      if (this.nextArrival === undefined) this.refill()
      else this.sendDue(this.nextArrival)
    }
    const now = this.time
    if (this.sendingEnded !== undefined && now >= this.sendingEnded + drainTime) this.cancel("it was not waited for")
    for (const request of this.inFlight) {
      // They began one after the other.
      if (now - request.sentAt < requestTimeout) break
      request.stop("failed", `it took longer than ${requestTimeout / 1_000} s`)
    }
    if (this.sendingEnded !== undefined && this.inFlight.size === 0) {
      this.took = this.time
      this.done()
      return
    }
    let pause = tick
    if (this.sendingEnded === undefined) {
      pause = Math.min(pause, duration - now)
      if (this.nextArrival !== undefined && this.waiting.length === 0) pause = Math.min(pause, this.arrival - now)
    }
    this.timer = setTimeout(this.proceed, Math.min(maxTimer, Math.max(0, pause)))
  }

  /** A closed loop: as many at once as there may be. */
  private refill(): void {
    const { duration, requests = Number.POSITIVE_INFINITY } = this.context.options
    while (this.sendingEnded === undefined && this.inFlight.size < this.most) {
      const now = this.time
      if (now >= duration) this.closeSending(duration)
      else if (this.planned >= requests) this.closeSending(now)
      else if (this.succeeded === 0 && this.failed >= maxFailures) this.closeSending(now, "failing")
      else {
        this.planned++
        this.send(now)
      }
    }
  }

  /** An open loop: all whose time has come. */
  private sendDue(next: () => number): void {
    const { duration, requests = Number.POSITIVE_INFINITY } = this.context.options
    const now = this.time
    while (this.arrival <= now && this.arrival < duration && this.planned < requests) {
      this.planned++
      if (this.inFlight.size + this.waiting.length >= this.most) this.limited++
      this.waiting.push(this.arrival)
      this.arrival = next()
    }
    this.sendWaiting()
    const last = Math.min(duration, this.arrival)
    const isOver = this.arrival >= duration || this.planned >= requests
    if (!isOver || now < last || (this.waiting.length > 0 && now < duration)) return
    this.closeSending(last)
  }

  private sendWaiting(): void {
    while (this.inFlight.size < this.most && this.sendingEnded === undefined) {
      const planned = this.waiting.shift()
      if (planned === undefined) return
      this.send(planned)
    }
  }

  private send(scheduledAt: number): void {
    const { backend, now, options, prompt, reserve, server } = this.context
    const asked = prompt()
    const settle = reserve(asked.tokens + options.outputTokens)
    if (typeof settle === "string") {
      this.closeSending(this.time, settle)
      return
    }
    const request: ChatRequest.ChatRequest = {
      ...ChatRequest.make({ maxTokens: options.outputTokens, lenient: true }, options.model, asked.messages, "text"),
      // Not every model takes other values than its own.
      temperature: undefined,
      topP: undefined
    }
    const { began } = this
    const sent = new LoadRequest(
      scheduledAt,
      this.time,
      asked.tokens,
      keepsAnswers(options),
      () => now() - began,
      (ended) => {
        this.inFlight.delete(ended)
        this.ended++
        if (ended.outcome === "succeeded") this.succeeded++
        if (ended.outcome === "failed") this.failed++
        settle(ended.firstAt === undefined ? 0 : ended.promptTokens + ended.outputTokens)
        asked.ended(ended.outcome === "succeeded" ? ended.answerText : undefined)
        if (this.took === undefined) queueMicrotask(this.proceed)
      }
    )
    this.requests.push(sent)
    this.inFlight.add(sent)
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight.size)
    const exchange = backend.start(server, request, sent)
    if (sent.outcome === undefined) sent.exchange = exchange
    else exchange.abort()
  }
}
