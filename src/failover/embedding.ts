/**
 * An embedding request, across as many servers as it takes. There are no partial results: an attempt that breaks starts
 * over on the next server.
 */
import type { EmbedSink, ServerFailure } from "../Backend.js"
import type { Limits } from "../ChatRequest.js"
import type { Embedded, EmbedRequest } from "../EmbedRequest.js"
import { type Attempt, DeadlineExceeded, Overloaded, type Phase, type Unsupported } from "../Errors.js"
import type { Lease } from "../Fleet.js"
import { type SilenceListener, SilenceTimer } from "../internal/silenceTimer.js"
import type { Route } from "../Router.js"
import { type Host, isLocal, type Protocol } from "../Server.js"
import type { AttemptObserver, CallListener, CallObserver, Observed, Trace } from "../Telemetry.js"
import type { Exchange, TraceContext, Transfer } from "../Transport.js"
import type { Dependencies, Relocate } from "./call.js"
import { Lifetime } from "./callLifetime.js"
import { failedAttempt, remember } from "./failedAttempt.js"
import { FaultAttribution } from "./faultAttribution.js"
import { keepAliveOf } from "./keepAlive.js"
import { tokensOfTexts } from "./remoteUsage.js"
import { type SelectionClient, ServerSelection } from "./serverSelection.js"
import { silenceFailure } from "./silenceFailure.js"
import { terminalError } from "./terminalError.js"

/**
 * A call, as `Embeddings` starts it. Its deadline counts from its start, in milliseconds since the epoch; `trace` is
 * where its spans go, else `context` is passed on to servers.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmbedCall {
  /** What is asked. */
  readonly request: EmbedRequest
  /** Timeouts and attempts. */
  readonly limits: Limits
  /** When the call began, in milliseconds since the epoch: its deadline counts from here. */
  readonly began: number
  /** Where its spans go, if anywhere. */
  readonly trace?: Trace | undefined
  /** Without a tracer, the caller's trace context, which is passed on to servers. */
  readonly context?: TraceContext | undefined
  /** Told of the call's turning points. */
  readonly listener?: CallListener | undefined
}

/** The call as its observer sees it. */
export const observed = ({ began, context, listener, request, trace }: EmbedCall): Observed => ({
  request: { model: request.model },
  began,
  events: false,
  operation: "embeddings",
  trace,
  context,
  listener
})

/** One attempt on one server. */
class EmbedAttempt implements EmbedSink, SilenceListener {
  readonly watch = new SilenceTimer(this)
  readonly context: TraceContext | undefined
  phase: Phase = "connect"
  exchange: Exchange | undefined
  over = false

  constructor(
    private readonly owner: Embedding,
    readonly host: Host,
    readonly lease: Lease,
    readonly began: number,
    readonly observer: AttemptObserver
  ) {
    this.context = observer.context
  }

  private get timeout(): number {
    const { firstTokenTimeout, loadTimeout } = this.owner.call.limits
    return this.lease.cold ? loadTimeout : firstTokenTimeout
  }

  /** Ignores whatever still arrives. */
  retire(): void {
    this.over = true
    this.watch.clear()
  }

  get maxBytes(): number {
    return this.owner.maxBytes
  }

  connected(): void {
    if (this.over || this.phase !== "connect") return
    this.phase = "first-token"
    this.observer.phase?.("first-token")
    this.watch.expect(this.timeout)
  }

  read(): void {
    if (this.over) return
    this.phase = "stream"
    this.watch.expect(this.owner.call.limits.idleTimeout)
  }

  embedded(
    embeddings: ReadonlyArray<ReadonlyArray<number>>,
    promptTokens: number | undefined,
    transfer?: Transfer | undefined
  ): void {
    if (!this.over) this.owner.embedded(this, embeddings, promptTokens, transfer)
  }

  fail(failure: ServerFailure): void {
    if (!this.over) this.owner.failed(this, failure)
  }

  silent(): void {
    this.fail(silenceFailure(this.phase, this.owner.call.limits, () => `no answer within ${this.timeout} ms`))
  }
}

/**
 * A call in progress. It has started when it exists; `done` or `failed` is called once, unless it is cancelled before.
 */
export class Embedding extends Lifetime implements SelectionClient {
  readonly attempts: Array<Attempt> = []
  private readonly selection: ServerSelection
  private readonly attribution = new FaultAttribution(() => this.dependencies.agreements.has(this.call.request))
  private readonly observer: CallObserver
  private current: EmbedAttempt | undefined

  constructor(
    readonly call: EmbedCall,
    route: Route,
    private readonly dependencies: Dependencies,
    relocate: Relocate,
    private readonly settle: {
      readonly done: (embedded: Embedded) => void
      readonly failed: (error: unknown) => void
    }
  ) {
    super()
    const { model } = call.request
    this.observer = dependencies.observe(observed(call), route.columns.hosts[0]?.model ?? model)
    this.selection = new ServerSelection(this, route, dependencies, relocate)
    this.expireIn(call.limits, call.began, dependencies.now())
    this.selection.excludeUnable()
    this.selection.next()
  }

  /** Cancels the server's work. Nothing counts as a failure; with a `reason` the call fails with it. */
  cancel(reason?: unknown): void {
    if (this.over) return
    const { current, observer } = this
    this.close()
    current?.lease.cancel()
    current?.observer.cancelled(current.phase)
    current?.exchange?.abort()
    if (reason === undefined) observer.closed()
    else {
      observer.failed(reason)
      this.settle.failed(reason)
    }
  }

  // ---------------------------------------------------------------------------
  // Called by the server selection
  // ---------------------------------------------------------------------------

  get maxBytes(): number {
    return this.dependencies.maxAnswerBytes
  }

  get queued(): boolean {
    return this.selection.queued
  }

  get once(): boolean {
    return false
  }

  get claimed(): boolean {
    return this.attribution.claimed
  }

  unsupported(protocol: Protocol): ReadonlyArray<Unsupported> {
    return this.dependencies.backends.get(protocol).cannotEmbed(this.call.request)
  }

  found(at: number): void {
    const { call, selection: search } = this
    const { route } = search
    const host = route.columns.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at}`)
    const idle = route.columns.ownInFlight[at] === 0
    const lease = route.lease(at)
    const observer = this.observer.attempt(host, idle && lease.cold, false)
    const attempt = new EmbedAttempt(this, host, lease, this.dependencies.now(), observer)
    this.current = attempt
    attempt.watch.expect(call.limits.connectTimeout)
    const exchange = this.dependencies.backends
      .get(host.protocol)
      .embed(host.server, { ...call.request, model: host.model }, attempt)
    if (attempt.over) exchange.abort()
    else attempt.exchange = exchange
  }

  unable(host: Host, failure: ServerFailure): void {
    this.record(host, "connect", failure, this.call.began)
  }

  delayed(queued: boolean): void {
    if (queued) this.observer.queued()
  }

  dequeued(): void {
    this.observer.dequeued()
  }

  exhausted(): void {
    const invalid = this.attribution.ended()
    if (invalid !== undefined) this.reject(invalid)
    else {
      const { hosts } = this.selection
      terminalError(this.call.request.model, this.attempts, hosts, this.dependencies, (error) => this.reject(error))
    }
  }

  overloaded(ticket: { readonly retryAfter: number; readonly queued: number }): void {
    this.reject(new Overloaded({ model: this.call.request.model, ...ticket }))
  }

  defect(error: unknown): void {
    this.reject(error)
  }

  // ---------------------------------------------------------------------------
  // Called by the attempt
  // ---------------------------------------------------------------------------

  embedded(
    attempt: EmbedAttempt,
    embeddings: ReadonlyArray<ReadonlyArray<number>>,
    promptTokens: number | undefined,
    transfer: Transfer | undefined
  ): void {
    const { host, lease } = attempt
    const { attempts, observer } = this
    this.attribution.answered()
    this.close()
    lease.answered()
    lease.succeed({
      keepAlive: keepAliveOf(this.call.request),
      firstTokenTime: undefined,
      tokensPerSecond: undefined,
      transfer
    })
    attempt.observer.succeeded(undefined, undefined)
    if (!isLocal(host.server)) {
      const tokens = tokensOfTexts(this.call.request, promptTokens)
      this.dependencies.spend(tokens, { model: host.model, prompt: tokens, cached: 0, completion: 0 })
    }
    const usage = promptTokens === undefined ? {} : { promptTokens }
    observer.used(usage)
    observer.answered({ model: host.model, finishReason: undefined, usage, firstTokenTime: undefined })
    this.settle.done({ embeddings, model: host.model, server: host.server.url, promptTokens, attempts })
  }

  failed(attempt: EmbedAttempt, failure: ServerFailure): void {
    const { host, lease } = attempt
    attempt.retire()
    this.current = undefined
    attempt.exchange?.abort()
    lease.fail(failure)
    attempt.observer.failed(failure.reason, attempt.phase, failure.status)
    this.record(host, attempt.phase, failure, attempt.began)
    this.attribution.failed(host.server.url, lease, failure)
    const invalid = this.attribution.agreed
    if (invalid !== undefined) {
      this.dependencies.agreements.add(this.call.request)
      this.attribution.ended()
      this.reject(invalid)
      return
    }
    this.dependencies.failed(host, failure)
    this.selection.next()
  }

  // ---------------------------------------------------------------------------
  // The end
  // ---------------------------------------------------------------------------

  private record(host: Host, phase: Phase, failure: ServerFailure, began: number): void {
    remember(this.attempts, failedAttempt(host, phase, failure, this.dependencies.now() - began))
    if (failure.reason === "loading") this.selection.loading(host.server.url)
  }

  protected expired(deadline: number): void {
    const { attempts, current } = this
    const message = `was at work when the deadline of ${deadline} ms passed`
    if (current !== undefined) {
      this.record(current.host, current.phase, { reason: "deadline", message }, current.began)
      current.observer.failed("deadline", current.phase, undefined)
    }
    this.cancel(new DeadlineExceeded({ model: this.call.request.model, deadline, partial: "", attempts }))
  }

  private reject(error: unknown): void {
    if (this.over) return
    this.close()
    this.observer.failed(error)
    this.settle.failed(error)
  }

  private close(): void {
    this.finish()
    this.current?.retire()
    this.current = undefined
    this.selection.stop()
    this.attribution.abandoned()
  }
}
