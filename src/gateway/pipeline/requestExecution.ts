/**
 * One request on its way through the fleet: model fallback, identity for routing, and cancellation when the client
 * disconnects.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as OpenAIModels from "../../backend/openaiModels.js"
import type { Usage } from "../../ChatEvent.js"
import { type ChatRequest, Choice, completes, type Routing } from "../../ChatRequest.js"
import type { Execution } from "../../chat/execution.js"
import type { OpenAnswer, Result } from "../../Failover.js"
import * as Direct from "../../internal/direct.js"
import * as ExtraParameters from "../../internal/extraParameters.js"
import type { ModelCandidate } from "../../ModelSelection.js"
import { requirementsOf } from "../../modelSelection/needs.js"
import * as ResponseCache from "../../ResponseCache.js"
import type { RouteHints } from "../../Router.js"
import * as ConversationKey from "../../router/conversationKey.js"
import type * as StructuredOutput from "../../StructuredOutput.js"
import type { CallListener } from "../../Telemetry.js"
import type { GatewayContext } from "../GatewayContext.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as Tracing from "../observability/tracing.js"
import type { Counted } from "./codec.js"
import { type GatewayRequest, ollamaOnly, promptOf, requestOf } from "./gatewayRequest.js"
import { mustMatchFormat } from "./jsonReply.js"
import { limitsFor } from "./retries.js"

/** The conversation for routing is named by the client or derived from the messages; it is scoped to the API key. */
const conversationOf = ({ conversation, identity = "" }: RequestContext, { messages }: ChatRequest) =>
  conversation === undefined
    ? ConversationKey.ofMessages(messages, identity)
    : ConversationKey.named(conversation, identity)

/** A header has printable ASCII only, and clients and proxies limit its length. */
const longestReason = 300

const headerSafe = (text: string): string => {
  const safe = text.replace(/[^\x20-\x7e]+/g, "?")
  return safe.length > longestReason ? `${safe.slice(0, longestReason - 3)}...` : safe
}

/** One client request while it is being answered. */
export class RequestExecution {
  /** The models that may answer, in order. */
  candidates: ReadonlyArray<ModelCandidate> = []
  /** Validates requested JSON. */
  decoder: StructuredOutput.Decoder<unknown> | undefined
  /** The client received a piece of an answer, so no other model may start. */
  answerStarted = false
  /** The client has disconnected. */
  stopped = false
  /** When the last answer began (`performance.now()`). */
  openedAt: number | undefined
  private readonly stops: Array<() => void> = []
  private readonly routeHints: RouteHints
  /** Told of what the request does, if anybody watches. */
  private readonly listener: CallListener | undefined
  /** Each prompt's usage as counted so far. */
  private readonly countedPrompts: Array<Counted | undefined> = []
  /** The prompt tokens of each prompt, as reported with one of several answers to it. */
  private readonly promptTokens: Array<number | undefined> = []
  /** The model last requested for each answer. */
  private readonly requestedModels: Array<ModelCandidate | undefined> = []
  /** The answers to one prompt go to one server if it can generate all of them in one request. */
  private readonly sharedServers: Array<{ server?: string } | undefined> = []

  constructor(
    readonly gateway: GatewayContext,
    readonly context: RequestContext,
    readonly gatewayRequest: GatewayRequest
  ) {
    const { owner, priority } = context
    this.listener = gateway.requests.begin(context)
    this.routeHints = {
      owner,
      priority,
      private: context.private || gateway.library.settings.defaults.private,
      conversation: () => conversationOf(context, gatewayRequest.request),
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

  /** One of several answers to a prompt. */
  private oneOf(choice: number): ChatRequest {
    const { gatewayRequest } = this
    const prompt = promptOf(gatewayRequest, choice)
    const sharedServer = this.sharedServers[prompt] ?? {}
    this.sharedServers[prompt] = sharedServer
    return { ...requestOf(gatewayRequest, choice), choice: new Choice(sharedServer, choice % gatewayRequest.n) }
  }

  // ---------------------------------------------------------------------------
  // Answers
  // ---------------------------------------------------------------------------

  /** The execution of one of the answers. `replied` is called with each reply that had to be JSON. */
  private execution(choice: number, replied?: (result: Result) => void): Execution {
    const { gatewayRequest, context, gateway, candidates: models, routing } = this
    const { withoutThinking: unthinking } = gatewayRequest
    const request = gatewayRequest.n === 1 ? requestOf(gatewayRequest, choice) : this.oneOf(choice)
    const sharedServer = request.choice?.of
    // Several answers to one prompt should differ, so they are not cached.
    const keeps = request.logprobs === undefined && gatewayRequest.n === 1
    return {
      request,
      models: Effect.succeed(models),
      limits: limitsFor(context, gateway.limits),
      routing,
      routeHints: sharedServer === undefined ? this.routeHints : { ...this.routeHints, sharedServer },
      cacheTtl: keeps ? ResponseCache.ttlOf(gatewayRequest.cache, gateway.library.settings) : undefined,
      cacheOwner: context.identity,
      session: gatewayRequest.session,
      executors: undefined,
      maxToolRounds: 1,
      timed: true,
      origin: { trace: context.trace, context: context.traceContext },
      adapted:
        unthinking === undefined
          ? undefined
          : (request, { model }) => (unthinking.has(model) ? { ...request, think: undefined } : request),
      committed: () => this.answerStarted,
      onModel: (candidate) => {
        this.requestedModels[choice] = candidate
        this.openedAt = performance.now()
        context.dispatched = true
      },
      replied,
      listener: this.listener
    }
  }

  /** The model that one of the answers comes from. */
  candidate(choice: number): ModelCandidate {
    return this.requestedModels[choice] ?? (this.candidates[0] as ModelCandidate)
  }

  /** Runs without a fiber if nothing is asynchronous. */
  private begin<A, E>(effect: () => Effect.Effect<A, E>): A | Promise<A> {
    const { context } = this
    const started = performance.now()
    const result = effect()
    const outcome = Direct.attempt(result)
    // Waiting for model discovery does not count as the gateway's own time.
    context.ownTime += performance.now() - started
    if (outcome === undefined) return this.run(result)
    if (Direct.isRunning(outcome)) {
      this.onStop(() => outcome.work.cancel())
      return outcome.result
    }
    if (Exit.isSuccess(outcome)) return outcome.value
    throw Cause.squash(outcome.cause)
  }

  /** An answer whose events are pulled. */
  async open(choice: number): Promise<OpenAnswer> {
    const { engine } = this.gateway.library
    const answer = await this.begin(() => engine.open(this.execution(choice)))
    this.onStop(() => answer.cancel())
    return answer
  }

  /** A whole answer. */
  complete(choice: number): Result | Promise<Result> {
    const { engine } = this.gateway.library
    return this.begin(() => engine.complete(this.execution(choice), identity<Result>))
  }

  /** A complete answer with the requested JSON, unless its finish reason says that it is none. */
  async structured(
    choice: number,
    decoder: StructuredOutput.Decoder<unknown>,
    replied: (result: Result) => void
  ): Promise<Result> {
    const { engine } = this.gateway.library
    const { result } = await this.run(engine.structured(this.execution(choice, replied), decoder, mustMatchFormat))
    return result
  }

  // ---------------------------------------------------------------------------
  // Reporting
  // ---------------------------------------------------------------------------

  /** `failure` is the reason why the last server before this one failed, if any did. */
  reportServer(choice: number, server: string, attempts: number, cached: boolean, failure: string | undefined): void {
    const { record: account, headers } = this.context
    const label = this.gateway.labels.label(server)
    account.server = label
    account.url = server
    account.attempts = attempts
    account.cached = cached
    this.reportUnsupported(choice, server)
    headers["x-aicortex-server"] = label
    headers["x-aicortex-attempts"] = attempts
    headers["x-aicortex-reason"] = cached ? "cache" : this.reasonFor(choice, failure)
  }

  /** Why the model and the server were chosen, as a header may have it. */
  private reasonFor(choice: number, failure: string | undefined): string {
    const { auto, reason } = this.candidate(choice)
    const server = failure === undefined ? this.routing : `failover after ${failure}`
    if (reason === undefined) return server
    const earlier = this.candidates.indexOf(this.candidate(choice))
    const failed = earlier > 0 ? `; ${earlier} ${earlier === 1 ? "model" : "models"} before it could not answer` : ""
    const words =
      auto && failure === undefined
        ? `auto: ${reason}${failed}`
        : `${auto ? "auto: " : ""}${reason}${failed}; ${server}`
    return headerSafe(this.gateway.labels.redact(words))
  }

  /** Reports parameters that the answering server does not support. */
  private reportUnsupported(choice: number, server: string): void {
    const { context, gateway } = this
    const own = this.gatewayRequest.original ?? this.gatewayRequest.request
    const { extra, lenient, seed } = own
    if (extra === undefined && lenient === undefined && seed === undefined) return
    const protocol = gateway.library.protocol(server, this.candidate(choice).model)
    if (lenient === true && protocol !== "ollama") context.ignore(ollamaOnly(own))
    if (protocol === "anthropic" && seed !== undefined) context.ignored.add("seed")
    // Its endpoint for texts is sent all of them.
    if (protocol === "openai" && (completes(own) || !OpenAIModels.isOpenAI(server))) return
    const dialect = protocol === "openai" ? "openai.com" : protocol === "embedded" ? "other" : protocol
    for (const name of ExtraParameters.missing(extra, dialect)) context.ignored.add(name)
    context.reportIgnored()
  }

  /**
   * The usage of an answer. Without a report, the prompt tokens are those of another answer to the same prompt, or an
   * estimate from its length, and the output tokens are `written`.
   */
  usage(choice: number, reported: Usage, written: number): Counted {
    const which = promptOf(this.gatewayRequest, choice)
    if (reported.promptTokens !== undefined) {
      if (this.gatewayRequest.n > 1) this.promptTokens[which] ??= reported.promptTokens
      if (reported.completionTokens !== undefined) return reported
    }
    const known = reported.promptTokens ?? this.promptTokens[which]
    const promptTokens =
      known ?? requirementsOf({ prompts: undefined, request: requestOf(this.gatewayRequest, choice) }).prompt
    const completionTokens = reported.completionTokens ?? written
    const totalTokens = promptTokens + completionTokens
    return { promptTokens, completionTokens, totalTokens, promptEstimated: known === undefined }
  }

  /** The reported usage: a prompt counts once for all its answers, estimated until a server has counted it. */
  countUsage(choice: number, usage: Counted): void {
    const { record: account } = this.context
    const which = promptOf(this.gatewayRequest, choice)
    const before = this.countedPrompts[which]
    if (before === undefined || (before.promptEstimated === true && usage.promptEstimated !== true)) {
      this.countedPrompts[which] = usage
      account.promptTokens += (usage.promptTokens ?? 0) - (before?.promptTokens ?? 0)
      account.cachedTokens += (usage.cachedTokens ?? 0) - (before?.cachedTokens ?? 0)
    }
    account.completionTokens += usage.completionTokens ?? 0
    account.reasoningTokens += usage.reasoningTokens ?? 0
  }
}
