/**
 * One request on its way through the fleet: model fallback, identity for routing, and cancellation when the client
 * disconnects.
 */
import type * as Effect from "effect/Effect"
import type * as Chat from "../../Chat.js"
import type { Usage } from "../../ChatEvent.js"
import { type ChatRequest, Choice, type Routing } from "../../ChatRequest.js"
import type { OpenAnswer, Result } from "../../Failover.js"
import * as Direct from "../../internal/direct.js"
import * as ExtraParameters from "../../internal/extraParameters.js"
import { type ModelCandidate, mayTryNext } from "../../ModelSelection.js"
import { requirementsOf } from "../../modelSelection/needs.js"
import * as ResponseCache from "../../ResponseCache.js"
import type { RouteHints } from "../../Router.js"
import * as ConversationKey from "../../router/conversationKey.js"
import type * as StructuredOutput from "../../StructuredOutput.js"
import * as Telemetry from "../../Telemetry.js"
import type { GatewayContext } from "../GatewayContext.js"
import * as ErrorResponse from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as Tracing from "../observability/tracing.js"
import type { Counted } from "./codec.js"
import { type GatewayRequest, ollamaOnly, promptOf, requestOf } from "./gatewayRequest.js"
import { limitsFor, maxRetries } from "./retries.js"

/** The conversation for routing is named by the client or derived from the messages; it is scoped to the API key. */
const conversationOf = ({ caller = "", conversation }: RequestContext, { messages }: ChatRequest) =>
  conversation === undefined
    ? ConversationKey.ofMessages(messages, caller)
    : ConversationKey.named(conversation, caller)

/** One client request while it is being answered. */
export class RequestExecution {
  /** The models that may answer, in order. */
  candidates: ReadonlyArray<ModelCandidate> = []
  /** Validates requested JSON. */
  decoder: StructuredOutput.Decoder<unknown> | undefined
  /** The client received a piece of an answer, so no other model may start. */
  answerStarted = false
  /** Nobody waits for an answer any more. */
  stopped = false
  /** When the last answer began (`performance.now()`). */
  openedAt: number | undefined
  private readonly stops: Array<() => void> = []
  /** The prompts that have been counted, with how many tokens they are. */
  private readonly countedPrompts = new Map<number, Counted>()
  /** How many tokens a prompt has, as the server said with one of several answers to it. */
  private readonly told = new Map<number, number>()
  private readonly routeHints: RouteHints
  /** The answers to each prompt go to one server, where it can be asked for all of them at once. */
  private readonly companies = new Map<number, { server?: string }>()

  constructor(
    readonly gateway: GatewayContext,
    readonly context: RequestContext,
    readonly gatewayRequest: GatewayRequest
  ) {
    const { owner, priority } = context
    this.routeHints = {
      owner,
      priority,
      conversation: conversationOf(context, gatewayRequest.request),
      tokens: () => requirementsOf(gatewayRequest).prompt
    }
  }

  /** Cancels whatever is running. */
  stop(): void {
    this.stopped = true
    // Stopping something that has ended is a no-op.
    for (const stop of this.stops.splice(0)) stop()
  }

  private onStop(stop: () => void): void {
    if (this.stopped || this.context.disconnected) stop()
    else this.stops.push(stop)
  }

  /** Runs an Effect until the client disconnects. */
  run<A, E>(effect: Effect.Effect<A, E>): Promise<A> {
    const { result, stop } = this.gateway.library.run(Tracing.within(this.context, effect))
    this.onStop(stop)
    return result
  }

  get routing(): Routing {
    return this.gatewayRequest.routing ?? this.gateway.routing
  }

  // ---------------------------------------------------------------------------
  // Models
  // ---------------------------------------------------------------------------

  /** Runs `use` with one model after another, until one has answered or the request itself is at fault. */
  withFallback<A>(choice: number, use: (candidate: ModelCandidate, request: ChatRequest) => Promise<A>): Promise<A> {
    const { gatewayRequest, candidates: models } = this
    const request = gatewayRequest.n === 1 ? requestOf(gatewayRequest, choice) : this.oneOf(choice)
    const from = (i: number): Promise<A> => {
      const candidate = models[i] as ModelCandidate
      const { model } = candidate
      const plain = gatewayRequest.withoutThinking?.has(model) === true ? { ...request, think: undefined } : request
      const used = use(candidate, plain.model === model ? plain : { ...plain, model })
      if (i + 1 === models.length) return used
      return used.catch((error: unknown) => {
        if (this.answerStarted || this.context.disconnected || !mayTryNext(error)) throw error
        return from(i + 1)
      })
    }
    return from(0)
  }

  /** One of several answers to a prompt. */
  private oneOf(choice: number): ChatRequest {
    const { gatewayRequest } = this
    const prompt = promptOf(gatewayRequest, choice)
    const company = this.companies.get(prompt) ?? {}
    this.companies.set(prompt, company)
    return { ...requestOf(gatewayRequest, choice), choice: new Choice(company, choice % gatewayRequest.n) }
  }

  // ---------------------------------------------------------------------------
  // Answers
  // ---------------------------------------------------------------------------

  /** Opens an answer: with events, or as a complete one that is cached if `accepts` agrees. */
  open(
    candidate: ModelCandidate,
    request: ChatRequest,
    events: boolean,
    accepts: ((result: Result) => boolean) | undefined
  ): OpenAnswer | Promise<OpenAnswer> {
    const { context } = this
    const started = performance.now()
    const answer =
      this.gatewayRequest.session === undefined
        ? this.begin(candidate, request, events, accepts)
        : this.run(this.gateway.library.chat.open({ messages: request.messages }, this.options(request)))
    // Waiting for model discovery does not count as the gateway's own time.
    context.ownTime += performance.now() - started
    return answer instanceof Promise ? answer.then((opened) => this.track(opened)) : this.track(answer)
  }

  private track(answer: OpenAnswer): OpenAnswer {
    this.openedAt = performance.now()
    this.context.dispatched = true
    this.onStop(() => answer.cancel())
    return answer
  }

  /** Synchronous when the servers of the model are known. */
  private begin(
    { model, accepts: only }: ModelCandidate,
    request: ChatRequest,
    events: boolean,
    accepts: ((result: Result) => boolean) | undefined
  ): OpenAnswer | Promise<OpenAnswer> {
    const { gatewayRequest, context, gateway, routing } = this
    const { cache, failover, settings } = gateway.library
    const began = Date.now()
    const company = request.choice?.of
    const routeHints =
      only === undefined && company === undefined ? this.routeHints : { ...this.routeHints, only, company }
    const call = {
      request,
      limits: limitsFor(context, gateway.limits),
      began,
      events,
      preface: [],
      timed: true,
      complete: undefined,
      closed: undefined,
      trace: context.trace,
      context: context.traceContext
    }
    // Several answers to one prompt should differ, so they are not cached.
    const keeps = only === undefined && request.logprobs === undefined && gatewayRequest.n === 1
    const ttl = keeps ? ResponseCache.ttlOf(gatewayRequest.cache, settings) : undefined
    const servers = failover.prepare(model, routing, routeHints)
    const begin = ttl === undefined ? Direct.valueOf(servers) : undefined
    if (begin !== undefined) return begin(call)
    const prepared: Effect.Effect<ResponseCache.StartCall, unknown> =
      ttl === undefined ? servers : cache.prepare({ owner: context.caller, request, routing, ttl, accepts }, servers)
    return this.run(prepared).then(
      (begin) => begin(call),
      (error: unknown) => {
        const observer = Telemetry.observe(call, undefined, Date.now)
        if (context.disconnected) observer.closed()
        else observer.failed(error)
        throw error
      }
    )
  }

  /** Options of a call in a session. */
  options(request: ChatRequest): Chat.Options {
    const { format: _, logitBias, logprobs, messages: __, template, ...rest } = request
    if (template !== undefined) ErrorResponse.reject("template", "cannot be used in a session")
    if (logprobs !== undefined) ErrorResponse.reject("logprobs", "cannot be told in a session")
    if (logitBias !== undefined) ErrorResponse.reject("logit_bias", "cannot be used in a session")
    const { deadline, firstTokenTimeout, loadTimeout, timeout } = this.gateway.settings
    return {
      ...rest,
      stop: request.stop.length === 0 ? undefined : request.stop,
      tools: request.tools.length === 0 ? undefined : request.tools,
      routing: this.routing,
      owner: this.context.owner || undefined,
      priority: this.context.priority,
      session: this.gatewayRequest.session,
      cache: this.gatewayRequest.cache,
      timeout,
      firstTokenTimeout,
      loadTimeout,
      deadline,
      maxRetries: maxRetries(this.context, this.gateway.settings.maxRetries)
    }
  }

  // ---------------------------------------------------------------------------
  // Reporting
  // ---------------------------------------------------------------------------

  /** `failure` is the reason why the last server before this one failed, if any did. */
  reportServer(server: string, attempts: number, cached: boolean, failure: string | undefined): void {
    const { record: account, headers } = this.context
    const label = this.gateway.labels.label(server)
    account.server = label
    account.attempts = attempts
    account.cached = cached
    this.reportUnsupported(server)
    headers["x-aicortex-server"] = label
    headers["x-aicortex-attempts"] = attempts
    headers["x-aicortex-reason"] = cached ? "cache" : failure === undefined ? this.routing : `failover after ${failure}`
  }

  /** Reports parameters that the answering server does not support. */
  private reportUnsupported(server: string): void {
    const { context, gateway } = this
    const own = this.gatewayRequest.original ?? this.gatewayRequest.request
    const { extra, lenient } = own
    if (extra === undefined && lenient === undefined) return
    const { library } = gateway
    const has = ({ model }: ModelCandidate) =>
      Direct.valueOf(library.registry.locate(model))?.some((host) => host.server.url === server)
    const protocol = library.protocol(server, (this.candidates.find(has) ?? this.candidates[0])?.model ?? "")
    if (lenient === true && protocol !== "ollama") context.ignore(ollamaOnly(own))
    if (protocol === "openai") return
    for (const name of ExtraParameters.missing(extra, protocol === "ollama")) context.ignored.add(name)
    context.reportIgnored()
  }

  /**
   * What an answer cost. Where the server does not say, its prompt is as much as another answer to it says, or about as
   * much as it is long, and `written` tokens came.
   */
  usage(choice: number, reported: Usage, written: number): Counted {
    const which = promptOf(this.gatewayRequest, choice)
    if (reported.promptTokens !== undefined) {
      if (this.gatewayRequest.n > 1 && !this.told.has(which)) this.told.set(which, reported.promptTokens)
      if (reported.completionTokens !== undefined) return reported
    }
    const known = reported.promptTokens ?? this.told.get(which)
    const promptTokens =
      known ?? requirementsOf({ prompts: undefined, request: requestOf(this.gatewayRequest, choice) }).prompt
    const completionTokens = reported.completionTokens ?? written
    const totalTokens = promptTokens + completionTokens
    return { promptTokens, completionTokens, totalTokens, promptEstimated: known === undefined }
  }

  /** As the answer says it: a prompt counts once, however many answers it has, and an estimate until it is counted. */
  countUsage(choice: number, usage: Counted): void {
    const { record: account } = this.context
    const which = promptOf(this.gatewayRequest, choice)
    const before = this.countedPrompts.get(which)
    if (before === undefined || (before.promptEstimated === true && usage.promptEstimated !== true)) {
      this.countedPrompts.set(which, usage)
      account.promptTokens += (usage.promptTokens ?? 0) - (before?.promptTokens ?? 0)
    }
    account.completionTokens += usage.completionTokens ?? 0
  }
}
