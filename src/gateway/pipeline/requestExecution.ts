/**
 * What was asked, on its way to the fleet: with which model, on whose behalf, and given up when the client leaves.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Chat from "../../Chat.js"
import type { Usage } from "../../ChatEvent.js"
import { type ChatRequest, Choice, type Routing } from "../../ChatRequest.js"
import type { OpenAnswer, Result } from "../../Failover.js"
import * as Direct from "../../internal/direct.js"
import * as Extra from "../../internal/extraParameters.js"
import { type Candidate, mayTryNext } from "../../ModelSelection.js"
import { needs } from "../../modelSelection/needs.js"
import * as ResponseCache from "../../ResponseCache.js"
import type { Traveller } from "../../Router.js"
import * as Conversation from "../../router/conversationKey.js"
import type * as StructuredOutput from "../../StructuredOutput.js"
import * as Telemetry from "../../Telemetry.js"
import type { House } from "../GatewayContext.js"
import * as Problem from "../http/errorResponse.js"
import type { Exchange } from "../http/RequestContext.js"
import * as Tracing from "../observability/tracing.js"
import type { Counted } from "./codec.js"
import { type Ask, onlyOllamas, promptOf, requestOf } from "./gatewayRequest.js"
import { limitsFor, maxRetries } from "./retries.js"

/** Whom the request belongs to is told by the client, or by what it says; one key's conversations are its own. */
const conversationOf = ({ caller = "", conversation }: Exchange, { messages }: ChatRequest) =>
  conversation === undefined ? Conversation.ofMessages(messages, caller) : Conversation.named(conversation, caller)

/**
 * One request of a client, for as long as it is answered.
 *
 * - `models`: which models may answer, in their order
 * - `decoder`: checks the JSON that was asked for
 * - `given`: the client has a piece of an answer, so that no other model may begin
 * - `opened`: when the last answer was begun, by the clock of `performance`
 * - `stopped`: nobody waits for an answer any more
 *
 * @since 0.1.0
 * @category models
 */
export class Errand {
  models: ReadonlyArray<Candidate> = []
  decoder: StructuredOutput.Decoder<unknown> | undefined
  given = false
  stopped = false
  opened: number | undefined
  private readonly stops: Array<() => void> = []
  /** The prompts that have been counted, with how many tokens they are. */
  private readonly prompts = new Map<number, Counted>()
  /** How many tokens a prompt has, as the server said with one of several answers to it. */
  private readonly told = new Map<number, number>()
  private readonly traveller: Traveller
  /** The answers to each prompt go to one server, where it can be asked for all of them at once. */
  private readonly companies = new Map<number, { server?: string }>()

  constructor(
    readonly house: House,
    readonly exchange: Exchange,
    readonly ask: Ask
  ) {
    const { owner, priority } = exchange
    this.traveller = {
      owner,
      priority,
      conversation: conversationOf(exchange, ask.request),
      tokens: () => needs(ask).prompt
    }
  }

  /** Gives up whatever is under way. */
  stop(): void {
    this.stopped = true
    // To stop what has ended does nothing.
    for (const stop of this.stops.splice(0)) stop()
  }

  private stoppable(stop: () => void): void {
    if (this.stopped || this.exchange.left) stop()
    else this.stops.push(stop)
  }

  /** Runs an Effect for as long as somebody waits. */
  run<A, E>(effect: Effect.Effect<A, E>): Promise<A> {
    const { result, stop } = this.house.library.run(Tracing.within(this.exchange, effect))
    this.stoppable(stop)
    return result
  }

  get routing(): Routing {
    return this.ask.routing ?? this.house.routing
  }

  // ---------------------------------------------------------------------------
  // models
  // ---------------------------------------------------------------------------

  /** Runs `use` with one model after the other, until one of them has answered or something else is wrong. */
  course<A>(choice: number, use: (candidate: Candidate, request: ChatRequest) => Promise<A>): Promise<A> {
    const { ask, models } = this
    const request = ask.n === 1 ? requestOf(ask, choice) : this.oneOf(choice)
    const from = (i: number): Promise<A> => {
      const candidate = models[i] as Candidate
      const { model } = candidate
      const plain = ask.unthinking?.has(model) === true ? { ...request, think: undefined } : request
      const used = use(candidate, plain.model === model ? plain : { ...plain, model })
      if (i + 1 === models.length) return used
      return used.catch((error: unknown) => {
        if (this.given || this.exchange.left || !mayTryNext(error)) throw error
        return from(i + 1)
      })
    }
    return from(0)
  }

  /** One of several answers to a prompt. */
  private oneOf(choice: number): ChatRequest {
    const { ask } = this
    const prompt = promptOf(ask, choice)
    const company = this.companies.get(prompt) ?? {}
    this.companies.set(prompt, company)
    return { ...requestOf(ask, choice), choice: new Choice(company, choice % ask.n) }
  }

  // ---------------------------------------------------------------------------
  // answers
  // ---------------------------------------------------------------------------

  /** Begins an answer: with events, or as a whole that `accepts` finds fit to be kept. */
  open(
    candidate: Candidate,
    request: ChatRequest,
    events: boolean,
    accepts: ((result: Result) => boolean) | undefined
  ): OpenAnswer | Promise<OpenAnswer> {
    const { exchange } = this
    const started = performance.now()
    const answer =
      this.ask.session === undefined
        ? this.begin(candidate, request, events, accepts)
        : this.run(this.house.library.chat.open({ messages: request.messages }, this.options(request)))
    // To wait for who has the model is not our own work.
    exchange.own += performance.now() - started
    return answer instanceof Promise ? answer.then((opened) => this.follow(opened)) : this.follow(answer)
  }

  private follow(answer: OpenAnswer): OpenAnswer {
    this.opened = performance.now()
    this.exchange.asked = true
    this.stoppable(() => answer.cancel())
    return answer
  }

  /** Where nobody has to be asked who has the model, nothing is waited for. */
  private begin(
    { model, only }: Candidate,
    request: ChatRequest,
    events: boolean,
    accepts: ((result: Result) => boolean) | undefined
  ): OpenAnswer | Promise<OpenAnswer> {
    const { ask, exchange, house, routing } = this
    const { cache, failover, settings } = house.library
    const began = Date.now()
    const company = request.choice?.of
    const traveller =
      only === undefined && company === undefined ? this.traveller : { ...this.traveller, only, company }
    const call = {
      request,
      limits: limitsFor(exchange, house.limits),
      began,
      events,
      preface: [],
      timed: true,
      complete: undefined,
      closed: undefined,
      trace: exchange.trace,
      context: exchange.context
    }
    // Several answers to one prompt are to differ.
    const keeps = only === undefined && request.logprobs === undefined && ask.n === 1
    const ttl = keeps ? ResponseCache.ttlOf(ask.cache, settings) : undefined
    const servers = failover.prepare(model, routing, traveller)
    const begin = ttl === undefined ? Direct.valueOf(servers) : undefined
    if (begin !== undefined) return begin(call)
    const prepared: Effect.Effect<ResponseCache.Begin, unknown> =
      ttl === undefined ? servers : cache.prepare({ owner: exchange.caller, request, routing, ttl, accepts }, servers)
    return this.run(prepared).then(
      (begin) => begin(call),
      (error: unknown) => {
        const observer = Telemetry.observe(call, undefined, Date.now)
        if (exchange.left) observer.closed()
        else observer.failed(error)
        throw error
      }
    )
  }

  /** What a session is asked with. */
  options(request: ChatRequest): Chat.Options {
    const { format: _, logitBias, logprobs, messages: __, template, ...rest } = request
    if (template !== undefined) Problem.refuse("template", "cannot be used in a session")
    if (logprobs !== undefined) Problem.refuse("logprobs", "cannot be told in a session")
    if (logitBias !== undefined) Problem.refuse("logit_bias", "cannot be used in a session")
    const { deadline, firstTokenTimeout, loadTimeout, timeout } = this.house.settings
    return {
      ...rest,
      stop: request.stop.length === 0 ? undefined : request.stop,
      tools: request.tools.length === 0 ? undefined : request.tools,
      routing: this.routing,
      owner: this.exchange.owner || undefined,
      priority: this.exchange.priority,
      session: this.ask.session,
      cache: this.ask.cache,
      timeout,
      firstTokenTimeout,
      loadTimeout,
      deadline,
      maxRetries: maxRetries(this.exchange, this.house.settings.maxRetries)
    }
  }

  // ---------------------------------------------------------------------------
  // what is told of it
  // ---------------------------------------------------------------------------

  /** `failure` is why the last server but this one failed, if one did. */
  receipt(server: string, attempts: number, cached: boolean, failure: string | undefined): void {
    const { account, headers } = this.exchange
    const label = this.house.labels.label(server)
    account.server = label
    account.attempts = attempts
    account.cached = cached
    this.tellMissing(server)
    headers["x-aicortex-server"] = label
    headers["x-aicortex-attempts"] = attempts
    headers["x-aicortex-reason"] = cached ? "cache" : failure === undefined ? this.routing : `failover after ${failure}`
  }

  /** What the server that answers does not have is left out there. */
  private tellMissing(server: string): void {
    const { exchange, house } = this
    const own = this.ask.asked ?? this.ask.request
    const { extra, lenient } = own
    if (extra === undefined && lenient === undefined) return
    const { library } = house
    const has = ({ model }: Candidate) =>
      Direct.valueOf(library.registry.locate(model))?.some((host) => host.server.url === server)
    const protocol = library.protocol(server, (this.models.find(has) ?? this.models[0])?.model ?? "")
    if (lenient === true && protocol !== "ollama") exchange.ignore(onlyOllamas(own))
    if (protocol === "openai") return
    for (const name of Extra.missing(extra, protocol === "ollama")) exchange.ignored.add(name)
    exchange.tellIgnored()
  }

  /**
   * What an answer cost. Where the server does not say, its prompt is as much as another answer to it says, or about as
   * much as it is long, and `written` tokens came.
   */
  usage(choice: number, told: Usage, written: number): Counted {
    const which = promptOf(this.ask, choice)
    if (told.promptTokens !== undefined) {
      if (this.ask.n > 1 && !this.told.has(which)) this.told.set(which, told.promptTokens)
      if (told.completionTokens !== undefined) return told
    }
    const known = told.promptTokens ?? this.told.get(which)
    const promptTokens = known ?? needs({ prompts: undefined, request: requestOf(this.ask, choice) }).prompt
    const completionTokens = told.completionTokens ?? written
    const totalTokens = promptTokens + completionTokens
    return { promptTokens, completionTokens, totalTokens, promptEstimated: known === undefined }
  }

  /** As the answer says it: a prompt counts once, however many answers it has, and an estimate until it is counted. */
  counted(choice: number, usage: Counted): void {
    const { account } = this.exchange
    const which = promptOf(this.ask, choice)
    const before = this.prompts.get(which)
    if (before === undefined || (before.promptEstimated === true && usage.promptEstimated !== true)) {
      this.prompts.set(which, usage)
      account.promptTokens += (usage.promptTokens ?? 0) - (before?.promptTokens ?? 0)
    }
    account.completionTokens += usage.completionTokens ?? 0
  }
}
