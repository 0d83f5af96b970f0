/**
 * One answer, from its first attempt to its end, across as many servers as it takes.
 *
 * This is the token path: plain code, one call per piece of text, one timer set per network read, no Effect. Its
 * servers and shared state come with the `Call` and its `Dependencies`.
 */
import type { Finish, ServerFailure } from "../Backend.js"
import type { ChatEvent, Usage } from "../ChatEvent.js"
import type { ChatRequest, Limits } from "../ChatRequest.js"
import { DeadlineExceeded, Overloaded, StreamInterrupted, TurnNotStored, type Unsupported } from "../Errors.js"
import * as AnswerSize from "../internal/answerSize.js"
import { engineUnavailable } from "../internal/engineUnavailable.js"
import type { Route } from "../Router.js"
import type { Host, Protocol } from "../Server.js"
import type { CallObserver } from "../Telemetry.js"
import { endedByLimit, endOf, reachesLimit, type ServerAnswer, totalOf, warned, wholeAnswer } from "./answerEnd.js"
import { type Call, type Continuation, type Dependencies, type Relocate, type Result, requestFor } from "./call.js"
import { type AttemptListener, ChatAttempt } from "./chatAttempt.js"
import type { Batch } from "./eventBuffer.js"
import { FailureEvents, metaEvent } from "./failureEvents.js"
import { FaultAttribution } from "./faultAttribution.js"
import * as FirstTokenTimeouts from "./firstTokenTimeout.js"
import { keepAliveOf } from "./keepAlive.js"
import { PartialAnswerBuilder } from "./partialAnswer.js"
import { countRemote } from "./remoteUsage.js"
import { type SelectionClient, ServerSelection } from "./serverSelection.js"
import { terminalError } from "./terminalError.js"
import { addUsage, noUsage, withoutPrompt } from "./usage.js"

/** When more events than this are pending, the server is paused. */
const highWater = 1024

/**
 * An answer in progress. It has started when it exists; `pull` gives its events in order, `result` waits for the
 * complete answer.
 *
 * @since 0.1.0
 * @category models
 */
export class Answer extends FailureEvents implements AttemptListener, SelectionClient {
  firstPiece: number | undefined
  request: ChatRequest

  private readonly startedAt: number
  private readonly observer: CallObserver
  private readonly partial = new PartialAnswerBuilder()
  private readonly selection: ServerSelection
  private readonly attribution = new FaultAttribution(() => this.dependencies.agreements.has(this.request))
  private usage: Usage = noUsage
  private index = 0
  /** How many characters of the answer the caller has had at most; of a whole answer, how many any attempt has had. */
  private longestText = 0
  private current: ChatAttempt | undefined
  /** The hedged attempt on another server, because the current one is late. */
  private hedgeAttempt: ChatAttempt | undefined
  private hedgeTimer: ReturnType<typeof setTimeout> | undefined
  private paused = false

  constructor(
    call: Call,
    route: Route,
    private readonly dependencies: Dependencies,
    relocate: Relocate
  ) {
    super(call)
    this.startedAt = dependencies.now()
    this.request = call.request
    this.observer = dependencies.observe(call, route.columns.hosts[0]?.model ?? call.request.model)
    this.selection = new ServerSelection(this, route, dependencies, relocate)
    this.selection.excludeUnable()
    this.open(this.startedAt)
    this.expire(this.startedAt)
    this.selection.next()
  }

  /** Whether it waits for a slot on a server. */
  get queued(): boolean {
    return this.selection.queued
  }

  // ---------------------------------------------------------------------------
  // Called by the attempt
  // ---------------------------------------------------------------------------

  now(): number {
    return this.dependencies.now()
  }

  get maxAnswerBytes(): number {
    return this.dependencies.maxAnswerBytes
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

  /** The attempt with the first piece wins. */
  firstPieceFrom(attempt: ChatAttempt): void {
    if (this.hedgeTimer !== undefined) clearTimeout(this.hedgeTimer)
    const { current, hedgeAttempt } = this
    if (hedgeAttempt === undefined) return
    const late = attempt === hedgeAttempt ? current : hedgeAttempt
    this.hedgeAttempt = undefined
    this.current = attempt
    if (late === undefined) return
    late.overtaken()
  }

  finished(attempt: ChatAttempt, finish: Finish): void {
    this.firstPieceFrom(attempt)
    this.stopTracking(attempt)
    this.attribution.answered()
    countRemote(this.dependencies, this.request, attempt, finish)
    const tokensPerSecond = attempt.succeed(finish, keepAliveOf(this.request))
    this.conclude(attempt.host, wholeAnswer(this.partial, attempt, finish, tokensPerSecond, this.call.timed === true))
  }

  failed(attempt: ChatAttempt, failure: ServerFailure): void {
    const other = attempt === this.hedgeAttempt ? this.current : this.hedgeAttempt
    this.hedgeAttempt = undefined
    this.stopTracking(attempt)
    // The failure may be a timeout here while the server is still sending.
    attempt.exchange?.abort()
    attempt.lease.fail(failure)
    countRemote(this.dependencies, this.request, attempt)
    if (this.call.events && (this.partial.started || attempt.sentText !== "")) {
      this.attribution.interrupted(attempt.lease, failure)
    } else this.attribution.failed(attempt.host.server.url, attempt.lease, failure)
    attempt.observer.failed(failure.reason, attempt.phase, failure.status)
    this.recordAttempt(attempt.host, attempt.phase, failure, attempt.began)
    if (failure.reason === "loading") this.selection.loading(attempt.host.server.url)
    if (other !== undefined) {
      // The hedged attempt is already running.
      this.current = other
      this.dependencies.failed(attempt.host, failure)
      this.recordFailure(attempt.host.server.url, failure)
      this.flushError(other.host.server.url)
      this.wake()
      return
    }
    if (this.call.events) this.partial.add(attempt)
    else this.firstPiece = undefined
    const { length } = this.call.events ? this.partial.text : attempt.sentText
    if (length > this.longestText) {
      if (this.call.events || this.longestText > 0) this.selection.progressed()
      this.longestText = length
    }
    this.afterFailure(attempt.host, failure)
  }

  // ---------------------------------------------------------------------------
  // Called by the server selection
  // ---------------------------------------------------------------------------

  get claimed(): boolean {
    return this.attribution.claimed
  }

  get once(): boolean {
    return this.call.once === true && !this.partial.started
  }

  unsupported(protocol: Protocol): ReadonlyArray<Unsupported> {
    return this.dependencies.backends.get(protocol).unsupported(this.request)
  }

  found(at: number): void {
    this.attempt(at)
  }

  unable(host: Host, failure: ServerFailure): void {
    this.recordAttempt(host, "connect", failure, this.startedAt)
  }

  delayed(queued: boolean): void {
    if (queued) this.observer.queued()
    this.flushError(undefined)
    this.wake()
  }

  dequeued(): void {
    this.observer.dequeued()
  }

  overloaded(ticket: { readonly retryAfter: number; readonly queued: number }): void {
    if (this.partial.started) this.exhausted()
    else this.reject(new Overloaded({ model: this.request.model, ...ticket }))
  }

  defect(error: unknown): void {
    this.reject(error)
  }

  // ---------------------------------------------------------------------------
  // Attempts
  // ---------------------------------------------------------------------------

  private attempt(at: number, hedge = false): void {
    const { resumeSupport, backends } = this.dependencies
    const { route, tries } = this.selection
    const host = route.columns.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at}`)
    const { server } = host
    const restarts = !hedge && this.partial.started && this.call.limits.onInterrupt === "restart"
    if (!hedge) this.flushError(server.url)
    if (restarts) this.restart(server.url)
    const partial = this.partial.snapshot()
    const began = this.now()
    const idle = route.columns.ownInFlight[at] === 0
    const lease = route.lease(at)
    const observer = this.observer.attempt(host, idle && lease.cold, hedge)
    if (restarts) observer.resumes("discards")
    const speed = route.columns.promptSpeed[at] ?? Number.NaN
    const timeout = FirstTokenTimeouts.firstTokenTimeoutOf(this.call.limits, this.request, lease.cold, speed)
    const attempt = new ChatAttempt(this, host, at, lease, began, partial, observer, timeout)
    if (this.call.events) {
      this.push(metaEvent(server.url, tries, hedge, lease.cold, began, this.decide(route.columns.hosts, host)))
      if (tries > 1) this.wake()
    }
    if (hedge) this.hedgeAttempt = attempt
    else {
      this.current = attempt
      if (this.call.limits.hedge !== undefined) this.scheduleHedge(this.call.limits.hedge, at)
    }
    attempt.watch.expect(this.call.limits.connectTimeout)
    const backend = backends.get(host.protocol)
    const request = requestFor(this.request, host)
    const exchange =
      partial.text === ""
        ? backend.start(server, request, attempt, resumeSupport)
        : backend.resume(server, request, partial, attempt, resumeSupport)
    if (attempt.over) exchange.abort()
    else attempt.exchange = exchange
  }

  /** Hedges the first attempt if it is late: only once per call, and not for a resumed answer. */
  private scheduleHedge(allowed: NonNullable<Limits["hedge"]>, at: number): void {
    const { route, tries } = this.selection
    if (tries > 1 || this.partial.started) return
    const delay = this.dependencies.hedges.lateAfter(allowed, route, at)
    if (delay !== undefined) this.hedgeTimer = setTimeout(() => this.hedge(), delay)
  }

  private hedge(): void {
    if (this.over || this.current?.phase === "stream") return
    const at = this.selection.hedgeTarget()
    if (at >= 0) this.attempt(at, true)
  }

  private stopTracking(attempt: ChatAttempt): void {
    attempt.stopTracking()
    this.paused = false
    if (this.hedgeTimer !== undefined) clearTimeout(this.hedgeTimer)
    if (this.current === attempt) this.current = undefined
  }

  // ---------------------------------------------------------------------------
  // Failures
  // ---------------------------------------------------------------------------

  private afterFailure(host: Host, failure: ServerFailure): void {
    const server = host.server.url
    const interrupted = this.partial.started
    const invalid = interrupted ? undefined : this.attribution.agreed
    if (invalid !== undefined) {
      this.dependencies.agreements.add(this.request)
      this.attribution.ended()
      this.reject(invalid)
      return
    }
    if (failure.reason === "engine" && !interrupted) {
      this.reject(engineUnavailable(failure))
      return
    }
    this.dependencies.failed(host, failure)
    this.recordFailure(server, failure)
    if (!interrupted) this.selection.next()
    else this.interrupted(host, failure)
  }

  /** The answer broke after a part of it was emitted. */
  private interrupted(host: Host, failure: ServerFailure): void {
    // Another server would only make an answer longer that is too long already.
    if (this.call.limits.onInterrupt === "fail" || failure.message === AnswerSize.tooLong(this.maxAnswerBytes)) {
      this.exhausted()
    } else if (this.call.limits.onInterrupt === "resume" && reachesLimit(this.partial, this.request)) {
      // The token limit is reached: only the server's end of the answer is missing.
      this.flushError(undefined)
      this.conclude(host, endedByLimit(this.partial))
    } else this.selection.next()
  }

  /** Discards what the caller has: the answer restarts. */
  private restart(server: string): void {
    const discard = this.index - this.partial.first
    this.push({ type: "restart", discard, server, timestamp: this.now() })
    this.partial.clear(this.index)
  }

  exhausted(): void {
    const { model } = this.request
    const { attempts } = this
    const invalid = this.partial.started ? undefined : this.attribution.ended()
    if (this.partial.started) this.reject(new StreamInterrupted({ model, partial: this.partial.text, attempts }))
    else if (invalid !== undefined) this.reject(invalid)
    else terminalError(model, attempts, this.selection.hosts, this.dependencies, (error) => this.reject(error))
  }

  protected expired(deadline: number): void {
    const { attempts, current } = this
    const { model } = this.request
    const message = `was at work when the deadline of ${deadline} ms passed`
    for (const attempt of [current, this.hedgeAttempt]) {
      if (attempt === undefined) continue
      this.recordAttempt(attempt.host, attempt.phase, { reason: "deadline", message }, attempt.began)
      attempt.observer.failed("deadline", attempt.phase, undefined)
    }
    const partial = this.partial.text + (current?.sentText ?? "")
    this.reject(new DeadlineExceeded({ model, deadline, partial, attempts }))
  }

  // ---------------------------------------------------------------------------
  // The end
  // ---------------------------------------------------------------------------

  private conclude(host: Host, answer: ServerAnswer): void {
    this.usage = addUsage(this.usage, answer.usage)
    this.observer.used(answer.sharedPrompt === true ? withoutPrompt(answer.usage) : answer.usage)
    const firstTokenTime = this.firstPiece === undefined ? undefined : this.firstPiece - this.startedAt
    const decision = this.decide(this.selection.route.columns.hosts, host)
    const result = totalOf(answer, host, this.usage, firstTokenTime, this.attempts, decision)
    if (this.call.events && answer.toolCalls.length > 0) {
      const timestamp = this.now()
      for (const call of answer.toolCalls) this.push({ type: "tool_call", ...call, timestamp })
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
        else this.continueWith(completion)
      },
      (error: unknown) => this.reject(error)
    )
  }

  private continueWith(continuation: Continuation): void {
    if (this.call.events) for (const event of continuation.events) this.push(event)
    this.request = continuation.request
    this.partial.clear(this.index)
    this.longestText = 0
    this.selection.restart()
    this.wake()
    this.selection.next()
  }

  private end(result: Result): void {
    this.observer.answered(result)
    this.settle(result, this.call.events ? endOf(result, this.now()) : undefined)
  }

  protected override reject(error: unknown): void {
    if (!this.over) {
      this.flushError(undefined)
      this.observer.failed(error)
    }
    super.reject(error)
  }

  override cancel(reason?: unknown): void {
    if (!this.over) {
      for (const attempt of [this.current, this.hedgeAttempt]) attempt?.observer.cancelled(attempt.phase)
      this.observer.closed()
    }
    super.cancel(reason)
  }

  protected closing(): void {
    for (const attempt of [this.current, this.hedgeAttempt]) {
      if (attempt === undefined) continue
      this.stopTracking(attempt)
      countRemote(this.dependencies, this.request, attempt)
      attempt.cancelled()
    }
    this.hedgeAttempt = undefined
    this.selection.stop()
    this.attribution.abandoned()
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
