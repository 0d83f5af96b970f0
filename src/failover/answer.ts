/**
 * One answer, from the first attempt to its end, over as many servers as it takes.
 *
 * This is the token path: plain code, one call per piece of text, one timer set per network read, no Effect. What
 * surrounds it (who the servers are, what is remembered) comes with the `Call` and its `Surroundings`.
 *
 * @since 0.1.0
 */
import type { Finish, ServerFailure } from "../Backend.js"
import { tokenLimit } from "../backend/resume.js"
import type { ChatEvent, ErrorEvent, Usage } from "../ChatEvent.js"
import type { ChatRequest, Limits } from "../ChatRequest.js"
import { type Attempt, DeadlineExceeded, Overloaded, type Phase, StreamInterrupted, TurnNotStored } from "../Errors.js"
import { verdict } from "../fleet/failureClass.js"
import * as AnswerSize from "../internal/answerSize.js"
import { engineUnavailable } from "../internal/engineFailure.js"
import { maxTimer } from "../internal/silenceTimer.js"
import type { Route } from "../Router.js"
import type { Host, Protocol } from "../Server.js"
import type { CallObserver } from "../Telemetry.js"
import { endOf, warned } from "./answerEnd.js"
import type { Call, Continuation, Relocate, Result, Surroundings } from "./call.js"
import { type Course, LiveAttempt } from "./chatAttempt.js"
import { type Batch, Outbox } from "./eventBuffer.js"
import { failedAttempt, remember } from "./failedAttempt.js"
import { Judgement } from "./faultAttribution.js"
import * as Patience from "./firstTokenTimeout.js"
import { keepAliveOf } from "./keepAlive.js"
import { Given } from "./partialAnswer.js"
import { Search, type Seeker } from "./serverSelection.js"
import { exhausted } from "./terminalError.js"
import { timingsOf } from "./timings.js"
import { addUsage, noUsage, withGiven, withoutPrompt } from "./usage.js"

/** More events than this that nobody has taken hold the server back. */
const highWater = 1024

/** A server, and where it stands in the pool. */
interface Place {
  readonly host: Host
  readonly at: number
}

/** What a server has said. */
type Said = Pick<
  Result,
  "text" | "thinking" | "toolCalls" | "finishReason" | "stopSequence" | "usage" | "tokensPerSecond" | "timings"
> & { readonly sharedPrompt?: boolean | undefined }

/** A server's own name for the model goes on the wire. */
const requestFor = (request: ChatRequest, host: Host): ChatRequest =>
  request.model === host.model ? request : { ...request, model: host.model }

/**
 * An answer under way. It has begun when it exists; `pull` gives its events in order, `result` waits for the whole.
 *
 * @since 0.1.0
 * @category models
 */
export class Answer extends Outbox implements Course, Seeker {
  firstPiece: number | undefined
  request: ChatRequest

  private readonly began: number
  private readonly observer: CallObserver
  private readonly given = new Given()
  private readonly search: Search
  private readonly judgement = new Judgement(() => this.around.agreements.has(this.request))
  readonly attempts: Array<Attempt> = []
  private usage: Usage = noUsage
  private index = 0
  /** How many characters of the answer the caller has had at most; of a whole answer, how many any attempt has had. */
  private longest = 0
  private current: LiveAttempt | undefined
  /** Another server that was asked because the current one is late. */
  private rival: LiveAttempt | undefined
  private hedging: ReturnType<typeof setTimeout> | undefined
  /** What happened to the last attempt, until it is known who goes on. */
  private mishap: ErrorEvent | undefined
  private paused = false

  constructor(
    call: Call,
    route: Route,
    private readonly around: Surroundings,
    relocate: Relocate
  ) {
    super(call)
    this.began = around.now()
    this.request = call.request
    this.observer = around.observe(call, route.pool.hosts[0]?.model ?? call.request.model)
    this.search = new Search(this, route, around, relocate)
    this.search.excludeUnable()
    this.open(this.began)
    this.expire(this.began)
    this.search.next()
  }

  /** Whether it waits for a place on a server. */
  get queued(): boolean {
    return this.search.queued
  }

  // ---------------------------------------------------------------------------
  // for the attempt
  // ---------------------------------------------------------------------------

  now(): number {
    return this.around.now()
  }

  get maxAnswerBytes(): number {
    return this.around.maxAnswerBytes
  }

  token(content: string, timestamp: number): void {
    this.batch.push({ type: "token", content, index: this.index++, timestamp })
  }

  push(event: ChatEvent): void {
    this.batch.push(event)
  }

  wake(): void {
    if (this.waits) this.deliver()
    else if (this.batch.length > highWater && !this.paused && this.current !== undefined) {
      this.paused = true
      this.current.exchange?.pause()
      this.current.watch.clear()
    }
  }

  /** Whoever has the first piece answers. */
  answering(attempt: LiveAttempt): void {
    if (this.hedging !== undefined) clearTimeout(this.hedging)
    const { current, rival } = this
    if (rival === undefined) return
    const late = attempt === rival ? current : rival
    this.rival = undefined
    this.current = attempt
    if (late === undefined) return
    late.retire()
    late.lease.overtaken()
    late.observer.overtaken(late.phase)
    late.exchange?.abort()
  }

  finished(attempt: LiveAttempt, finish: Finish): void {
    this.answering(attempt)
    this.retire(attempt)
    this.judgement.answered()
    const { given } = this
    this.conclude(attempt, {
      text: given.text + attempt.said,
      thinking: given.thinking + attempt.thoughts,
      toolCalls: attempt.toolCalls,
      finishReason: finish.reason,
      stopSequence: finish.stopSequence,
      usage: withGiven(finish.usage, given.tokens - attempt.repeated, attempt.pieces === 0),
      tokensPerSecond: attempt.succeed(finish, keepAliveOf(this.request)),
      timings: this.call.timed === true ? timingsOf(finish) : undefined,
      sharedPrompt: finish.sharedPrompt
    })
  }

  failed(attempt: LiveAttempt, failure: ServerFailure): void {
    const other = attempt === this.rival ? this.current : this.rival
    this.rival = undefined
    this.retire(attempt)
    // It may be this side that gave up on an answer which still comes.
    attempt.exchange?.abort()
    attempt.lease.fail(failure)
    if (this.call.events && (this.given.begun || attempt.said !== "")) {
      // Somebody was answering it: it is not the request. What is asked of who goes on is another one.
      this.judgement.answered()
      if (verdict(failure).culprit !== "request") attempt.lease.contradicted()
    } else this.judgement.failed(attempt.host.server.url, attempt.lease, failure)
    attempt.observer.failed(failure.reason, attempt.phase, failure.status)
    this.record(attempt.host, attempt.phase, failure, attempt.began)
    if (other !== undefined) {
      // The other one is at work already.
      this.current = other
      this.around.failed(attempt.host, failure)
      this.lament(attempt.host.server.url, failure)
      this.tellMishap(other.host.server.url)
      this.wake()
      return
    }
    if (this.call.events) this.given.add(attempt)
    else this.firstPiece = undefined
    const { length } = this.call.events ? this.given.text : attempt.said
    if (length > this.longest) {
      if (this.call.events || this.longest > 0) this.search.progressed()
      this.longest = length
    }
    this.afterFailure(attempt, failure)
  }

  // ---------------------------------------------------------------------------
  // for the search
  // ---------------------------------------------------------------------------

  get claimed(): boolean {
    return this.judgement.claimed
  }

  unsupported(protocol: Protocol): ReadonlyArray<string> {
    return this.around.backends.get(protocol).unsupported(this.request)
  }

  found(at: number): void {
    this.attempt(at)
  }

  unable(host: Host, message: string): void {
    this.record(host, "connect", { reason: "unsupported", message }, this.began)
  }

  delayed(queued: boolean): void {
    if (queued) this.observer.queued()
    this.tellMishap(undefined)
    this.wake()
  }

  dequeued(): void {
    this.observer.dequeued()
  }

  overloaded(ticket: { readonly retryAfter: number; readonly queued: number }): void {
    if (this.given.begun) this.exhausted()
    else this.reject(new Overloaded({ model: this.request.model, ...ticket }))
  }

  crashed(error: unknown): void {
    this.reject(error)
  }

  // ---------------------------------------------------------------------------
  // attempts
  // ---------------------------------------------------------------------------

  private attempt(at: number, hedge = false): void {
    const { abilities, backends } = this.around
    const { route, tries } = this.search
    const host = route.pool.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at}`)
    const { server } = host
    const anew = !hedge && this.given.begun && this.call.limits.onInterrupt === "restart"
    if (!hedge) this.tellMishap(server.url)
    if (anew) this.beginAnew(server.url)
    const given = this.given.soFar()
    const began = this.now()
    const idle = route.pool.own[at] === 0
    const lease = route.lease(at)
    const observer = this.observer.attempt(host, idle && lease.cold, hedge)
    if (anew) observer.resumes("discards")
    const speed = route.pool.promptSpeed[at] ?? Number.NaN
    const patience = Patience.of(this.call.limits, this.request, lease.cold, speed)
    const attempt = new LiveAttempt(this, host, at, lease, began, given, observer, patience)
    if (this.call.events) {
      const meta = hedge
        ? ({ server: server.url, attempt: tries, hedge } as const)
        : { server: server.url, attempt: tries }
      this.push({ type: "meta", meta, timestamp: began })
      if (tries > 1) this.wake()
    }
    if (hedge) this.rival = attempt
    else {
      this.current = attempt
      if (this.call.limits.hedge !== undefined) this.expectHedge(this.call.limits.hedge, at)
    }
    attempt.watch.expect(this.call.limits.connectTimeout)
    const backend = backends.get(host.protocol)
    const request = requestFor(this.request, host)
    const exchange =
      given.text === ""
        ? backend.start(server, request, attempt, abilities)
        : backend.resume(server, request, given, attempt, abilities)
    if (attempt.over) exchange.abort()
    else attempt.exchange = exchange
  }

  /** Whoever is asked first gets a rival if it is late: only once in a call, and not where an answer is gone on with. */
  private expectHedge({ after }: NonNullable<Limits["hedge"]>, at: number): void {
    const { route, tries } = this.search
    if (tries > 1 || this.given.begun) return
    this.around.hedges.begun()
    const patience = after ?? route.patience(at)
    if (patience !== undefined) this.hedging = setTimeout(() => this.hedge(), Math.min(patience, maxTimer))
  }

  private hedge(): void {
    if (this.over || this.current?.phase === "stream") return
    const at = this.search.rival()
    if (at >= 0) this.attempt(at, true)
  }

  private retire(attempt: LiveAttempt): void {
    attempt.retire()
    this.paused = false
    if (this.hedging !== undefined) clearTimeout(this.hedging)
    if (this.current === attempt) this.current = undefined
  }

  // ---------------------------------------------------------------------------
  // failures
  // ---------------------------------------------------------------------------

  private record(host: Host, phase: Phase, failure: ServerFailure, began: number): void {
    remember(this.attempts, failedAttempt(host, phase, failure, this.now() - began))
    if (failure.reason === "loading") this.search.loading(host.server.url)
  }

  private afterFailure({ at, host }: Place, failure: ServerFailure): void {
    const server = host.server.url
    const interrupted = this.given.begun
    const invalid = interrupted ? undefined : this.judgement.agreed
    if (invalid !== undefined) {
      this.around.agreements.add(this.request)
      this.judgement.ended()
      this.reject(invalid)
      return
    }
    if (failure.reason === "engine" && !interrupted) {
      this.reject(engineUnavailable(failure))
      return
    }
    this.around.failed(host, failure)
    this.lament(server, failure)
    if (!interrupted) this.search.next()
    else this.interrupted({ at, host }, failure)
  }

  private lament(server: string, failure: ServerFailure): void {
    const attempt = this.attempts[this.attempts.length - 1]
    if (!this.call.events || attempt === undefined) return
    const content = `${server} failed: ${failure.message}`
    this.mishap = { type: "error", content, attempt, timestamp: this.now() }
  }

  /** The answer broke after a part of it was given out. */
  private interrupted(place: Place, failure: ServerFailure): void {
    const limit = tokenLimit(this.request)
    // Whoever went on with it would only make it longer.
    if (this.call.limits.onInterrupt === "fail" || failure.message === AnswerSize.tooLong(this.maxAnswerBytes)) {
      this.exhausted()
    } else if (
      this.given.calls.length === 0 &&
      limit !== undefined &&
      this.given.tokens >= limit &&
      this.call.limits.onInterrupt === "resume"
    ) {
      // Nothing was missing but the server's word that it is the end.
      this.tellMishap(undefined)
      this.conclude(place, {
        text: this.given.text,
        thinking: this.given.thinking,
        toolCalls: [],
        finishReason: "length",
        stopSequence: undefined,
        usage: { completionTokens: this.given.tokens, estimated: true },
        tokensPerSecond: undefined
      })
    } else this.search.next()
  }

  /** Tells of the failure before, and, where it is known by now, who goes on. */
  private tellMishap(next: string | undefined): void {
    const event = this.mishap
    if (event === undefined) return
    this.mishap = undefined
    this.push(next === undefined ? event : { ...event, next })
  }

  /** What the caller has is void: the answer begins anew. */
  private beginAnew(server: string): void {
    const discard = this.index - this.given.first
    this.push({ type: "restart", discard, server, timestamp: this.now() })
    this.given.clear(this.index)
  }

  exhausted(): void {
    const { model } = this.request
    const { attempts } = this
    const invalid = this.given.begun ? undefined : this.judgement.ended()
    if (this.given.begun) this.reject(new StreamInterrupted({ model, partial: this.given.text, attempts }))
    else if (invalid !== undefined) this.reject(invalid)
    else exhausted(model, attempts, this.around, (error) => this.reject(error))
  }

  protected expired(deadline: number): void {
    const { attempts, current } = this
    const { model } = this.request
    const message = `was at work when the deadline of ${deadline} ms passed`
    for (const attempt of [current, this.rival]) {
      if (attempt === undefined) continue
      this.record(attempt.host, attempt.phase, { reason: "deadline", message }, attempt.began)
      attempt.observer.failed("deadline", attempt.phase, undefined)
    }
    const partial = this.given.text + (current?.said ?? "")
    this.reject(new DeadlineExceeded({ model, deadline, partial, attempts }))
  }

  // ---------------------------------------------------------------------------
  // the end
  // ---------------------------------------------------------------------------

  private conclude({ host }: Place, said: Said): void {
    this.usage = addUsage(this.usage, said.usage)
    this.observer.used(said.sharedPrompt === true ? withoutPrompt(said.usage) : said.usage)
    const result: Result = {
      text: said.text,
      thinking: said.thinking,
      toolCalls: said.toolCalls,
      model: host.model,
      server: host.server.url,
      finishReason: said.finishReason,
      stopSequence: said.stopSequence,
      usage: this.usage,
      firstTokenTime: this.firstPiece === undefined ? undefined : this.firstPiece - this.began,
      tokensPerSecond: said.tokensPerSecond,
      timings: said.timings,
      attempts: this.attempts,
      cached: false
    }
    if (this.call.events && said.toolCalls.length > 0) {
      const timestamp = this.now()
      for (const call of said.toolCalls) this.push({ type: "tool_call", ...call, timestamp })
    }
    const { complete } = this.call
    if (complete === undefined) {
      this.end(result)
      return
    }
    this.wake()
    complete(result, this.observer.span).then(
      (completion) => {
        if (this.over) return
        if (completion === undefined) this.end(result)
        else if (completion instanceof TurnNotStored) this.end(warned(result, completion))
        else this.goOn(completion)
      },
      (error: unknown) => this.reject(error)
    )
  }

  private goOn(continuation: Continuation): void {
    if (this.call.events) for (const event of continuation.events) this.push(event)
    this.request = continuation.request
    this.given.clear(this.index)
    this.longest = 0
    this.search.restart()
    this.wake()
    this.search.next()
  }

  private end(result: Result): void {
    this.observer.answered(result)
    this.settle(result, this.call.events ? endOf(result, this.now()) : undefined)
  }

  protected override drop(): void {
    super.drop()
    this.mishap = undefined
  }

  protected override reject(error: unknown): void {
    if (!this.over) {
      this.tellMishap(undefined)
      this.observer.failed(error)
    }
    super.reject(error)
  }

  override cancel(reason?: unknown): void {
    if (!this.over) {
      for (const attempt of [this.current, this.rival]) attempt?.observer.cancelled(attempt.phase)
      this.observer.closed()
    }
    super.cancel(reason)
  }

  protected closing(): void {
    for (const attempt of [this.current, this.rival]) {
      if (attempt === undefined) continue
      this.retire(attempt)
      attempt.lease.cancel()
      attempt.observer.cancelled(attempt.phase)
      attempt.exchange?.abort()
    }
    this.rival = undefined
    this.search.stop()
    this.judgement.left()
    this.observer.closed()
  }

  protected override take(): Batch {
    const batch = super.take()
    if (this.paused) {
      this.paused = false
      this.current?.watch.expect(this.call.limits.idleTimeout)
      this.current?.exchange?.resume()
    }
    return batch
  }
}
