/**
 * Takes what was asked to the fleet, and what it answers to the client, whole or as it comes.
 *
 * This is the token path: between two pieces of an answer there is one call of a `Writer` each, one write per pull, and
 * no pull before the last write has drained.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Chat from "../Chat.js"
import type { ChatRequest, Limits, Options, Routing } from "../ChatRequest.js"
import { SchemaMismatch } from "../Errors.js"
import type { OpenAnswer, Result } from "../Failover.js"
import * as Message from "../Message.js"
import * as ResponseCache from "../ResponseCache.js"
import type { Traveller } from "../Router.js"
import * as StructuredOutput from "../StructuredOutput.js"
import { type Ask, needs } from "./ask.js"
import type { Answered, Codec, Writer } from "./codec.js"
import type { Exchange } from "./exchange.js"
import { mustFit, only } from "./fitting.js"
import { gather } from "./gather.js"
import { callLimits, type House } from "./house.js"
import { Piece } from "./piece.js"
import * as Problem from "./problem.js"
import { type Candidate, candidates } from "./selection.js"

/** How a conversation begins: who goes on with it is best answered where its prompt is cached. */
const conversationOf = ({ messages }: Pick<ChatRequest, "messages">): string => {
  let key = ""
  for (let i = 0; i < messages.length && i < 3; i++) {
    const message = messages[i]
    if (message === undefined || message.role === "assistant") break
    key += Message.text(message).slice(0, 200)
  }
  return key
}

// =============================================================================
// one request
// =============================================================================

class Relay {
  private readonly stops = new Set<() => void>()
  private readonly traveller: Traveller
  private readonly limits: Limits
  private writer: Writer | undefined
  private heart: ReturnType<typeof setTimeout> | undefined
  private wrote = performance.now()
  private firstPiece = false
  private stopped = false
  private decoder: StructuredOutput.Decoder<unknown> | undefined
  private models: ReadonlyArray<Candidate> = []

  constructor(
    private readonly house: House,
    private readonly exchange: Exchange,
    private readonly ask: Ask,
    private readonly codec: Codec
  ) {
    this.limits = callLimits(house.settings)
    this.traveller = { conversation: conversationOf(ask.request), tokens: () => needs(ask).prompt }
    exchange.onLeave(() => this.stop())
  }

  private stop(): void {
    this.stopped = true
    for (const stop of this.stops) stop()
    this.stops.clear()
    clearTimeout(this.heart)
  }

  private async effect<A, E>(effect: Effect.Effect<A, E>): Promise<A> {
    const { result, stop } = this.house.library.run(effect)
    this.stops.add(stop)
    if (this.exchange.left) stop()
    try {
      return await result
    } finally {
      this.stops.delete(stop)
    }
  }

  async run(): Promise<void> {
    const { ask, exchange, house } = this
    const started = performance.now()
    try {
      if (ask.stream) this.beat()
      const found = candidates(house.library, house.settings, ask)
      this.models = Effect.isEffect(found) ? await this.effect(found) : found
      const { format } = ask.request
      if (format === "json") this.decoder = StructuredOutput.any
      else if (format !== "text") this.decoder = await this.effect(StructuredOutput.fromJsonSchema(format))
      exchange.own += performance.now() - started
      if (ask.stream) await this.streamAll()
      else await this.wholeAll()
    } catch (error) {
      // What runs on has nobody to run for.
      this.stop()
      if (!exchange.left) this.failed(error)
    } finally {
      clearTimeout(this.heart)
    }
  }

  private failed(error: unknown): void {
    const { codec, exchange, house } = this
    const problem = Problem.of(error, house.labels)
    if (problem.code === "internal_error")
      house.log(`${exchange.id}: ${error instanceof Error ? error.stack : String(error)}`)
    this.attempts(problem.attempts as ReadonlyArray<{ readonly server: string; readonly reason: string }> | undefined)
    if (!exchange.headSent) {
      exchange.problem(
        problem,
        problem.attempts === undefined ? {} : { "x-aicortex-attempts": problem.attempts.length }
      )
      return
    }
    house.metrics.streamBroke()
    exchange.end(codec.failure(problem))
  }

  private attempts(all: ReadonlyArray<{ readonly server: string; readonly reason: string }> | undefined): void {
    for (const { reason, server } of all ?? []) this.house.metrics.attemptFailed(server, reason)
  }

  // ---------------------------------------------------------------------------
  // opening
  // ---------------------------------------------------------------------------

  private async open(
    candidate: Candidate,
    request: ChatRequest,
    events: boolean,
    accepts: ((result: Result) => boolean) | undefined
  ): Promise<OpenAnswer> {
    const { ask, exchange, house } = this
    const { library, settings } = house
    const started = performance.now()
    const began = Date.now()
    const routing = ask.routing ?? settings.routing
    let answer: OpenAnswer
    if (ask.session !== undefined) {
      answer = await this.effect(library.chat.open({ messages: request.messages }, this.options(request, routing)))
    } else {
      const { only } = candidate
      const traveller = only === undefined ? this.traveller : { ...this.traveller, only }
      const ttl =
        only === undefined && request.logprobs === undefined
          ? ResponseCache.ttlOf(ask.cache, library.settings)
          : undefined
      // Where nobody has to be asked who has the model, nothing is waited for.
      const begin: ResponseCache.Begin =
        (ttl === undefined ? library.failover.prepared(candidate.model, routing, traveller) : undefined) ??
        (await this.effect(this.prepare(candidate, request, routing, traveller, ttl, accepts)))
      answer = begin({
        request,
        limits: this.limits,
        began,
        events,
        preface: [],
        complete: undefined,
        closed: undefined
      })
    }
    const stop = () => answer.cancel()
    if (exchange.left) stop()
    else this.stops.add(stop)
    answer.onClose(() => this.stops.delete(stop))
    exchange.own += performance.now() - started
    return answer
  }

  private prepare(
    { model }: Candidate,
    request: ChatRequest,
    routing: Routing,
    traveller: Traveller,
    ttl: number | undefined,
    accepts: ((result: Result) => boolean) | undefined
  ): Effect.Effect<ResponseCache.Begin, unknown> {
    const { cache, failover } = this.house.library
    const servers = failover.prepare(model, routing, traveller)
    return ttl === undefined ? servers : cache.prepare({ request, routing, ttl, accepts }, servers)
  }

  private options(request: ChatRequest, routing: Options["routing"]): Chat.Options {
    const { format: _, logitBias, logprobs, messages: __, ...rest } = request
    if (logprobs !== undefined) Problem.refuse("logprobs", "cannot be told in a session")
    if (logitBias !== undefined) Problem.refuse("logit_bias", "cannot be used in a session")
    const { deadline, firstTokenTimeout, loadTimeout, timeout } = this.house.settings
    return {
      ...rest,
      stop: request.stop.length === 0 ? undefined : request.stop,
      tools: request.tools.length === 0 ? undefined : request.tools,
      routing,
      session: this.ask.session,
      cache: this.ask.cache,
      timeout,
      firstTokenTimeout,
      loadTimeout,
      deadline
    }
  }

  /** Runs `use` with one model after the other, until one of them has answered or something else is wrong. */
  private async course<A>(use: (candidate: Candidate, request: ChatRequest) => Promise<A>): Promise<A> {
    const { models } = this
    const n = models.length
    for (let i = 0; ; i++) {
      const candidate = models[i] as Candidate
      try {
        return await use(candidate, { model: candidate.model, ...this.ask.request })
      } catch (error) {
        if (i + 1 >= n || this.firstPiece || this.exchange.left || !Problem.isServers(error)) throw error
        this.attempts(
          Problem.of(error, this.house.labels).attempts as
            | ReadonlyArray<{ readonly server: string; readonly reason: string }>
            | undefined
        )
      }
    }
  }

  private receipt(server: string, attempts: number, reason: string): void {
    const { exchange, house } = this
    exchange.headers["x-aicortex-server"] = house.labels.label(server)
    exchange.headers["x-aicortex-attempts"] = attempts
    exchange.headers["x-aicortex-reason"] = reason
  }

  private reason(failed: string | undefined): string {
    if (failed !== undefined) return `failover after ${failed}`
    return this.ask.routing ?? this.house.settings.routing
  }

  private counted(prompt: number | undefined, completion: number): void {
    const { exchange, house } = this
    house.metrics.used(prompt ?? 0, completion)
    if (exchange.access !== undefined) house.keyLimits.spend(exchange.access, (prompt ?? 0) + completion)
  }

  // ---------------------------------------------------------------------------
  // whole answers
  // ---------------------------------------------------------------------------

  private async wholeAll(): Promise<void> {
    const { ask, codec, exchange, house } = this
    const all =
      ask.n === 1
        ? [await this.course(this.whole)]
        : await Promise.all(Array.from({ length: ask.n }, () => this.course(this.whole)))
    if (exchange.left) return
    const [first] = all
    if (first === undefined) return
    const started = performance.now()
    const { candidate, result } = first
    const cached = result.cached ? "cache" : undefined
    this.receipt(result.server, result.attempts.length + 1, cached ?? this.reason(result.attempts.at(-1)?.reason))
    for (const { result } of all) {
      for (const { reason, server } of result.attempts) house.metrics.attemptFailed(house.labels.label(server), reason)
      this.counted(result.usage.promptTokens, result.usage.completionTokens ?? 0)
    }
    const body = codec.whole(
      candidate.shown(result.model, house.library.protocol(result.server)),
      all.map((one) => one.result)
    )
    exchange.json(body)
    exchange.own += performance.now() - started
  }

  private readonly whole = async (candidate: Candidate, request: ChatRequest) => {
    const { decoder } = this
    const accepts = decoder && ((result: Result) => Either.isRight(decoder.decode(result.text)))
    if (this.ask.session !== undefined) return this.wholeInSession(candidate, request)
    const likely = this.ask.request.logprobs !== undefined
    const once = async (request: ChatRequest): Promise<Answered> => {
      const answer = await this.open(candidate, request, likely, accepts)
      const result = likely ? await gather(answer) : await answer.result()
      return this.ask.oneTool && result.toolCalls.length > 1
        ? { ...result, toolCalls: result.toolCalls.slice(0, 1) }
        : result
    }
    const result = await once(request)
    if (decoder === undefined || !mustFit(result)) return { candidate, result }
    const decoded = decoder.decode(result.text)
    if (Either.isRight(decoded)) return { candidate, result: { ...result, text: only(result.text) } }
    const second = await once({
      ...request,
      messages: [
        ...request.messages,
        Message.assistant(result.text),
        Message.user(StructuredOutput.repairPrompt(decoded.left))
      ]
    })
    const again = decoder.decode(second.text)
    if (Either.isRight(again) || !mustFit(second)) return { candidate, result: { ...second, text: only(second.text) } }
    throw new SchemaMismatch({ model: candidate.model, issues: again.left, text: second.text })
  }

  private async wholeInSession(candidate: Candidate, request: ChatRequest) {
    if (this.decoder !== undefined) Problem.refuse("response_format", "cannot be JSON in a session")
    const options = this.options(request, this.ask.routing ?? this.house.settings.routing)
    const result = await this.effect(this.house.library.chat.complete({ messages: request.messages }, options))
    return { candidate, result }
  }

  // ---------------------------------------------------------------------------
  // streams
  // ---------------------------------------------------------------------------

  /** Shows that the stream lives whenever nothing was written for a while. */
  private beat(): void {
    const every = this.house.settings.heartbeat
    if (every <= 0) return
    this.heart = setTimeout(
      () => {
        const { exchange } = this
        if (exchange.left || exchange.response.writableEnded) return
        if (performance.now() - this.wrote >= every - 1 && !exchange.response.writableNeedDrain) {
          if (!exchange.headSent) exchange.stream(this.codec.contentType)
          this.wrote = performance.now()
          exchange.write(this.codec.heartbeat)
        }
        this.beat()
      },
      Math.max(1, every - (performance.now() - this.wrote))
    )
  }

  private async streamAll(): Promise<void> {
    const { ask, exchange } = this
    if (ask.n === 1) await this.course((candidate, request) => this.stream(0, candidate, request))
    else {
      const all = Array.from({ length: ask.n }, (_, choice) =>
        this.course((candidate, request) => this.stream(choice, candidate, request))
      )
      await Promise.all(all)
    }
    if (exchange.left || this.writer === undefined) return
    exchange.end(this.writer.finish())
  }

  private async stream(choice: number, candidate: Candidate, request: ChatRequest): Promise<void> {
    const { exchange } = this
    const answer = await this.open(candidate, request, true, undefined)
    const piece = new Piece(this.ask.oneTool, this.decoder !== undefined)
    for (;;) {
      const batch = await answer.pull()
      if (batch === undefined) break
      const started = performance.now()
      let out = ""
      for (const event of batch) {
        if (piece.note(event)) continue
        const writer = this.writer ?? this.begin(candidate, piece)
        if (!this.firstPiece) {
          this.firstPiece = true
          out += writer.begin()
        }
        out += piece.write(writer, choice, event)
      }
      if (piece.end !== undefined) {
        this.checkEnd(candidate, piece)
        const writer = this.writer ?? this.begin(candidate, piece)
        if (!this.firstPiece) {
          this.firstPiece = true
          out += writer.begin()
        }
        const counted = piece.usage()
        out += writer.end(choice, piece.finishReason(), counted)
        this.ended(piece)
        this.counted(counted.promptTokens, counted.completionTokens ?? 0)
      }
      if (out !== "") {
        this.wrote = started
        const free = exchange.write(out)
        exchange.own += performance.now() - started
        if (!free) await exchange.drained()
      }
      if (exchange.left) break
    }
    if (this.stopped || piece.end !== undefined) return
    throw new Error("an answer ended without its end")
  }

  private begin(candidate: Candidate, piece: Piece): Writer {
    const { codec, exchange, house } = this
    const writer = codec.writer(candidate.shown(piece.model ?? candidate.model, house.library.protocol(piece.server)))
    this.writer = writer
    house.metrics.firstToken.observe((performance.now() - exchange.began) / 1000)
    if (!exchange.headSent) {
      this.receipt(piece.server, piece.attempts, piece.cached ? "cache" : this.reason(piece.failed))
      exchange.stream(codec.contentType)
    }
    return writer
  }

  private ended(piece: Piece): void {
    const { house } = this
    for (const { reason, server } of piece.end?.attempts ?? []) {
      house.metrics.attemptFailed(house.labels.label(server), reason)
    }
  }

  /** JSON was promised: what does not fit must not look as if it did. */
  private checkEnd(candidate: Candidate, piece: Piece): void {
    if (this.decoder === undefined || piece.end === undefined || !mustFit({ ...piece.end, toolCalls: piece.calls }))
      return
    const decoded = this.decoder.decode(piece.said)
    if (Either.isRight(decoded) && only(piece.said) === piece.said) return
    const issues = Either.isLeft(decoded) ? decoded.left : [{ path: "", message: "the JSON stands in other text" }]
    throw new SchemaMismatch({ model: candidate.model, issues, text: piece.said })
  }
}

/**
 * Answers a request.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relay = (house: House, exchange: Exchange, ask: Ask, codec: Codec): Promise<void> =>
  new Relay(house, exchange, ask, codec).run()
