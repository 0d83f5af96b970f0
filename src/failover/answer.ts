/**
 * One answer, from the first attempt to its end, over as many servers as it takes.
 *
 * This is the token path: plain code, one call per piece of text, one timer set per network read, no Effect. What
 * surrounds it (who the servers are, what is remembered) comes with the `Call` and its `Surroundings`.
 *
 * @since 0.1.0
 */
import type { Abilities, Service as Backends, Broken, Finish, Joint, ServerFailure } from "../Backend.js"
import { stops, tokenLimit } from "../backend/resume.js"
import type { ChatEvent, ErrorEvent, FinishReason, Usage } from "../ChatEvent.js"
import type { ChatRequest, Limits } from "../ChatRequest.js"
import {
  AllServersFailed,
  type Attempt,
  type ChatError,
  DeadlineExceeded,
  InvalidRequest,
  Overloaded,
  type Phase,
  StreamInterrupted
} from "../Errors.js"
import { defaultKeepAlive, type Lease } from "../Fleet.js"
import { engineUnavailable } from "../internal/engine.js"
import { maxTimer, Watch, type Watched } from "../internal/watch.js"
import type { ToolCall } from "../Message.js"
import { type Route, wait } from "../Router.js"
import type { Host } from "../Server.js"
import type { Exchange } from "../Transport.js"
import { Given } from "./given.js"
import { Seam } from "./seam.js"

// =============================================================================
// models
// =============================================================================

/**
 * A whole answer. `attempts` are those that failed before it; times are in milliseconds; `cached` is whether it is a
 * kept one, which no server was asked for.
 *
 * @since 0.1.0
 * @category models
 */
export interface Result {
  readonly text: string
  readonly thinking: string
  readonly toolCalls: ReadonlyArray<ToolCall>
  readonly model: string
  readonly server: string
  readonly finishReason: FinishReason
  readonly usage: Usage
  readonly firstTokenTime: number | undefined
  readonly tokensPerSecond: number | undefined
  readonly attempts: ReadonlyArray<Attempt>
  readonly cached: boolean
}

/**
 * What follows an answer that called tools: events to give out, and the request to go on with.
 *
 * @since 0.1.0
 * @category models
 */
export interface Continuation {
  readonly events: ReadonlyArray<ChatEvent>
  readonly request: ChatRequest
}

/**
 * A call, as `Chat` hands it over.
 *
 * - `events`: give out events; otherwise only the `Result` is kept, and an attempt that breaks is simply begun anew
 * - `preface`: events to give out after `start`
 * - `complete`: may hold the end back, fail, or go on with another request
 * - `closed`: called once, when nothing more will happen
 *
 * @since 0.1.0
 * @category models
 */
export interface Call {
  readonly request: ChatRequest
  readonly limits: Limits
  /** When the call began: its deadline counts from there. */
  readonly began: number
  readonly events: boolean
  readonly preface: ReadonlyArray<ChatEvent>
  readonly complete: ((result: Result) => Promise<Continuation | undefined>) | undefined
  readonly closed: (() => void) | undefined
}

/**
 * What every answer needs from its surroundings.
 *
 * - `failed`: told of every failure that says something about a server
 * - `missing`: the error for a model that every server turned out not to have
 *
 * @since 0.1.0
 * @category models
 */
export interface Surroundings {
  readonly backends: Backends
  readonly abilities: Abilities
  readonly now: () => number
  readonly random: () => number
  readonly failed: (host: Host, failure: ServerFailure) => void
  readonly missing: (model: string) => Promise<ChatError>
}

/**
 * The events of one network read, or of what came since the last pull.
 *
 * @since 0.1.0
 * @category models
 */
export type Batch = ReadonlyArray<ChatEvent>

/**
 * An answer that is being read, wherever it comes from. It must be pulled to its end or cancelled.
 *
 * - `pull`: what has happened since the last pull, at least one event; `undefined` at the end; rejects with a
 *   `ChatError`. One pull at a time
 * - `result`: the whole answer, where no events are given out
 * - `cancel`: gives it up; pulls end, or reject with `reason` where there is one
 * - `onClose`: has `listener` called once nothing more will happen
 *
 * @since 0.1.0
 * @category models
 */
export interface OpenAnswer {
  pull(): Promise<Batch | undefined>
  result(): Promise<Result>
  cancel(reason?: unknown): void
  onClose(listener: () => void): void
}

/** More events than this that nobody has taken hold the server back. */
const highWater = 1024

/** A speed taken by our own clock over less than this, in milliseconds, says nothing. */
const minMeasured = 50

const add = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : a + b

const addUsage = (a: Usage, b: Usage): Usage => {
  const promptTokens = add(a.promptTokens, b.promptTokens)
  const completionTokens = add(a.completionTokens, b.completionTokens)
  const totalTokens = add(a.totalTokens, b.totalTokens)
  return {
    ...(promptTokens === undefined ? {} : { promptTokens }),
    ...(completionTokens === undefined ? {} : { completionTokens }),
    ...(totalTokens === undefined ? {} : { totalTokens })
  }
}

const units: { readonly [unit: string]: number } = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

/** How long the server will hold the model after this request, in milliseconds. */
const keepAlive = ({ keepAlive: given }: ChatRequest): number => {
  if (given === undefined) return defaultKeepAlive
  if (typeof given === "number") return given < 0 ? Number.POSITIVE_INFINITY : given * 1_000
  if (given.trim().startsWith("-")) return Number.POSITIVE_INFINITY
  let total = 0
  for (const [, amount, unit = "s"] of given.matchAll(/([\d.]+)(ms|s|m|h)?/g))
    total += Number(amount) * (units[unit] ?? 0)
  return total
}

/** What the server counted, with what was given out before it went on. Ollama leaves out a count of none. */
const withGiven = (usage: Usage, given: number, silent: boolean): Usage => {
  if (given === 0) return usage
  const { completionTokens, totalTokens, ...rest } = usage
  return completionTokens === undefined && !silent
    ? rest
    : {
        ...rest,
        completionTokens: given + (completionTokens ?? 0),
        ...(totalTokens === undefined ? {} : { totalTokens: given + totalTokens })
      }
}

/** A server, and where it stands in the pool. */
interface Place {
  readonly host: Host
  readonly at: number
}

/** What a server has said. */
type Said = Pick<Result, "text" | "thinking" | "toolCalls" | "finishReason" | "usage" | "tokensPerSecond">

/** A server's own name for the model goes on the wire. */
const requestFor = (request: ChatRequest, host: Host): ChatRequest =>
  request.model === host.model ? request : { ...request, model: host.model }

// =============================================================================
// attempt
// =============================================================================

/** One attempt on one server. */
class Try implements Joint {
  phase: Phase = "connect"
  exchange: Exchange | undefined
  finished: Finish | undefined
  said = ""
  thoughts = ""
  pieces = 0
  thoughtPieces = 0
  /** How many of the tokens that the caller already has the server counts too. */
  repeated = 0
  /** When the request that is answered was sent. */
  sent: number
  toolCalls: Array<ToolCall> = []
  firstPiece: number | undefined
  lastRead: number
  over = false
  private seam: Seam | undefined
  private thoughtSeam: Seam | undefined
  private hideThoughts: boolean

  constructor(
    private readonly answer: Answer,
    readonly host: Host,
    readonly at: number,
    readonly lease: Lease,
    readonly began: number,
    /** What the caller already has of this answer. */
    private readonly given: Broken
  ) {
    this.lastRead = began
    this.sent = began
    // Reasoning comes before the answer: where that has begun, it can only be repeated.
    this.hideThoughts = given.text !== ""
    this.thoughtSeam = Seam.make(given.thinking, given.thinking, [])
  }

  joins(expected: string, repeated: number): void {
    if (this.over) return
    this.seam = Seam.make(this.given.text, expected, stops(this.answer.asked))
    this.repeated = repeated
    this.phase = "connect"
    this.sent = this.answer.around.now()
    this.answer.watch.expect(this.answer.call.limits.connectTimeout)
  }

  connected(): void {
    if (this.over || this.phase !== "connect") return
    this.phase = "first-token"
    const { firstTokenTimeout, loadTimeout } = this.answer.call.limits
    this.answer.watch.expect(this.lease.cold ? loadTimeout : firstTokenTimeout)
  }

  read(): void {
    if (this.over) return
    this.lastRead = this.answer.around.now()
    if (this.phase === "stream") this.answer.watch.heard()
  }

  text(content: string): void {
    if (this.over) return
    this.piece()
    if (this.seam === undefined) this.say(content)
    else this.join(this.seam, content)
  }

  thinking(content: string): void {
    if (this.over) return
    this.piece()
    this.thoughtPieces++
    if (this.hideThoughts) return
    const seam = this.thoughtSeam
    const fresh = seam === undefined ? content : seam.feed(content)
    if (fresh === undefined) {
      // Reasoning that takes another course cannot be joined, and is not what was asked for.
      this.hideThoughts = true
      return
    }
    if (seam?.closed === true) this.thoughtSeam = undefined
    if (fresh === "") return
    this.thoughts += fresh
    if (this.answer.call.events) this.answer.push({ type: "thinking", content: fresh, timestamp: this.lastRead })
  }

  toolCall(call: ToolCall): void {
    if (this.over || this.finished !== undefined) return
    this.piece()
    this.toolCalls.push(call)
  }

  finish(finish: Finish): void {
    if (this.over || this.finished !== undefined) return
    if (this.seam !== undefined) {
      const rest = this.seam.end()
      if (rest === undefined) {
        this.diverged()
        return
      }
      if (rest !== "") this.say(rest, this.seam.pieces)
    }
    this.finished = finish
  }

  flush(): void {
    if (this.over) return
    if (this.finished === undefined) this.answer.wake()
    else this.answer.finished(this, this.finished)
  }

  fail(failure: ServerFailure): void {
    if (this.over) return
    if (this.finished === undefined) this.answer.failed(this, failure)
    else this.answer.finished(this, this.finished)
  }

  private say(content: string, pieces = 1): void {
    this.said += content
    this.pieces += pieces
    if (this.answer.call.events) this.answer.token(content, this.lastRead)
  }

  private join(seam: Seam, content: string): void {
    if (this.finished !== undefined) return
    const fresh = seam.feed(content)
    if (fresh === undefined) this.diverged()
    else if (seam.stopped) {
      // The server does not know that it is to stop; how much it has written beyond the end does not count.
      this.finished = { reason: "stop", usage: { completionTokens: 0 } }
      this.repeated = 0
      this.exchange?.abort()
      this.flush()
    } else {
      if (seam.closed) this.seam = undefined
      if (fresh !== "") this.say(fresh, seam.pieces)
    }
  }

  private diverged(): void {
    this.fail({ reason: "diverged", message: "its answer differs from what had been given out before" })
  }

  private piece(): void {
    if (this.phase === "stream") return
    this.phase = "stream"
    this.lease.answered()
    this.firstPiece = this.lastRead
    this.answer.firstPiece ??= this.lastRead
    this.answer.watch.expect(this.answer.call.limits.idleTimeout)
  }
}

// =============================================================================
// answer
// =============================================================================

/**
 * An answer under way. It has begun when it exists; `pull` gives its events in order, `result` waits for the whole.
 *
 * @since 0.1.0
 * @category models
 */
export class Answer implements OpenAnswer, Watched {
  /** When the first piece came, in milliseconds since the epoch. */
  firstPiece: number | undefined
  readonly watch = new Watch(this)

  private readonly began: number
  private request: ChatRequest
  private tries = 0
  private current: Try | undefined
  private index = 0
  private batch: Array<ChatEvent> = []
  private paused = false
  private waiting:
    | { readonly resolve: (batch: Batch | undefined) => void; readonly reject: (error: unknown) => void }
    | undefined
  private over = false
  private error: { readonly cause: unknown } | undefined
  private answered: Result | undefined
  private readonly given = new Given()
  /** What happened to the last attempt, until it is known who goes on. */
  private mishap: ErrorEvent | undefined
  private usage: Usage = {}
  private readonly attempts: Array<Attempt> = []
  private listeners: Array<() => void> = []
  private deadline: ReturnType<typeof setTimeout> | undefined
  private backoff: ReturnType<typeof setTimeout> | undefined
  private leaveQueue: (() => void) | undefined

  constructor(
    readonly call: Call,
    private readonly route: Route,
    readonly around: Surroundings
  ) {
    this.began = around.now()
    this.request = call.request
    this.excludeUnable()
    if (call.events) {
      this.batch.push({ type: "start", content: "", model: call.request.model, timestamp: this.began })
      for (const event of call.preface) this.batch.push({ ...event, timestamp: this.began })
    }
    if (call.limits.deadline !== undefined) {
      const left = Math.max(1, call.limits.deadline - (this.began - call.began))
      this.deadline = setTimeout(() => this.deadlinePassed(), Math.min(left, maxTimer))
    }
    this.next()
  }

  /**
   * What has happened since the last pull, at least one event; `undefined` at the end; rejects with a `ChatError`.
   * One pull at a time.
   */
  pull(): Promise<Batch | undefined> {
    if (this.batch.length > 0) return Promise.resolve(this.take())
    if (this.error !== undefined) return Promise.reject(this.error.cause)
    if (this.over) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
    })
  }

  /** The request as the caller meant it. */
  get asked(): ChatRequest {
    return this.request
  }

  /** The whole answer, where no events are given out. Rejects with a `ChatError`. */
  result(): Promise<Result> {
    const settled = (): Result => {
      if (this.answered === undefined) throw new Error("the answer was cancelled")
      return this.answered
    }
    return this.pull().then(settled)
  }

  /**
   * Stops the server's work at once, in every phase. Nothing counts as a failure. Pulls end, or reject with `reason`
   * where there is one.
   */
  cancel(reason?: unknown): void {
    if (this.over) return
    if (reason !== undefined) {
      this.batch = []
      this.mishap = undefined
      this.reject(reason)
      return
    }
    this.close()
    const waiting = this.waiting
    this.waiting = undefined
    waiting?.resolve(undefined)
  }

  /** Has `listener` called once nothing more will happen. */
  onClose(listener: () => void): void {
    if (this.over) listener()
    else this.listeners.push(listener)
  }

  // ---------------------------------------------------------------------------
  // for the attempt
  // ---------------------------------------------------------------------------

  token(content: string, timestamp: number): void {
    this.batch.push({ type: "token", content, index: this.index++, timestamp })
  }

  push(event: ChatEvent): void {
    this.batch.push(event)
  }

  wake(): void {
    const waiting = this.waiting
    if (waiting === undefined) {
      if (this.batch.length > highWater && !this.paused && this.current !== undefined) {
        this.paused = true
        this.current.exchange?.pause()
        this.watch.clear()
      }
      return
    }
    if (this.batch.length === 0) return
    this.waiting = undefined
    waiting.resolve(this.take())
  }

  finished(attempt: Try, finish: Finish): void {
    this.retire(attempt)
    const duration = attempt.firstPiece === undefined ? 0 : attempt.lastRead - attempt.firstPiece
    const tokens = finish.usage.completionTokens ?? attempt.pieces
    const tokensPerSecond =
      finish.tokensPerSecond ?? (duration >= minMeasured && tokens > 1 ? (tokens - 1) / (duration / 1000) : undefined)
    attempt.lease.succeed({
      keepAlive: keepAlive(this.request),
      firstTokenTime: attempt.firstPiece === undefined ? undefined : attempt.firstPiece - attempt.sent,
      tokensPerSecond,
      promptTokens: finish.usage.promptTokens,
      completionTokens: finish.usage.completionTokens,
      promptEvaluated: finish.promptEvaluated,
      promptTime: finish.promptTime,
      loadTime: finish.loadTime
    })
    this.conclude(attempt, {
      text: this.given.text + attempt.said,
      thinking: this.given.thinking + attempt.thoughts,
      toolCalls: attempt.toolCalls,
      finishReason: finish.reason,
      usage: withGiven(finish.usage, this.given.tokens - attempt.repeated, attempt.pieces === 0),
      tokensPerSecond
    })
  }

  private conclude(place: Place, said: Said): void {
    const timestamp = this.around.now()
    this.usage = addUsage(this.usage, said.usage)
    const result: Result = {
      ...said,
      model: place.host.model,
      server: place.host.server.url,
      usage: this.usage,
      firstTokenTime: this.firstPiece === undefined ? undefined : this.firstPiece - this.began,
      attempts: this.attempts,
      cached: false
    }
    if (this.call.events) {
      for (const call of said.toolCalls) this.push({ type: "tool_call", ...call, timestamp })
    }
    if (this.call.complete === undefined) {
      this.end(result)
      return
    }
    this.wake()
    this.call.complete(result).then(
      (continuation) => {
        if (this.over) return
        if (continuation === undefined) this.end(result)
        else this.goOn(continuation)
      },
      (error: unknown) => this.reject(error)
    )
  }

  failed(attempt: Try, failure: ServerFailure): void {
    this.retire(attempt)
    // It may be this side that gave up on an answer which still comes.
    attempt.exchange?.abort()
    attempt.lease.fail(failure)
    this.record(attempt.host, attempt.phase, failure, attempt.began)
    if (this.call.events) this.given.add(attempt)
    else this.firstPiece = undefined
    this.afterFailure(attempt, failure)
  }

  // ---------------------------------------------------------------------------
  // the course of things
  // ---------------------------------------------------------------------------

  private next(): void {
    const max = this.call.limits.maxAttempts
    if (max !== undefined && this.tries >= max) {
      this.exhausted()
      return
    }
    this.go(this.route.next())
  }

  private go(at: number): void {
    const max = this.call.limits.maxAttempts
    if (at >= 0) {
      this.tries++
      this.attempt(at)
    } else if (at === wait) this.queue()
    else if (max === undefined || this.route.able() === 0) this.exhausted()
    else {
      // Every server has had its turn: only now is the same one tried again, and only now is there a pause.
      const round = Math.floor(this.tries / this.route.able())
      const pause = this.call.limits.retryBackoff * 2 ** (round - 1) * (0.5 + this.around.random() / 2)
      this.route.restart()
      this.backoff = setTimeout(() => this.next(), pause)
    }
  }

  /** Waits for a place on any server that was not tried yet. */
  private queue(): void {
    const ticket = this.route.queue((at) => {
      this.leaveQueue = undefined
      this.go(at)
    })
    if ("leave" in ticket) this.leaveQueue = ticket.leave
    else this.reject(new Overloaded({ model: this.request.model, ...ticket }))
  }

  /** Leaves out the servers whose protocol cannot express the request; nothing is sent to them. */
  private excludeUnable(): void {
    const known = new Map<string, string>()
    this.route.pool.hosts.forEach((host, at) => {
      let message = known.get(host.protocol)
      if (message === undefined) {
        message = this.around.backends.get(host.protocol).unsupported(this.request).join("; ")
        known.set(host.protocol, message)
      }
      if (message === "") return
      this.route.exclude(at)
      this.record(host, "connect", { reason: "unsupported", message }, this.began)
    })
  }

  private attempt(at: number): void {
    const { backends, now } = this.around
    const host = this.route.pool.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at}`)
    const { protocol, server } = host
    const backend = backends.get(protocol)
    const request = requestFor(this.request, host)
    this.tellMishap(server.url)
    const given = this.given.soFar()
    const attempt = new Try(this, host, at, this.route.lease(at), now(), given)
    if (this.call.events) {
      this.push({ type: "meta", meta: { server: server.url, attempt: this.tries }, timestamp: attempt.began })
      if (this.tries > 1) this.wake()
    }
    this.current = attempt
    this.watch.expect(this.call.limits.connectTimeout)
    const exchange =
      given.text === ""
        ? backend.start(server, request, attempt)
        : backend.resume(server, request, given, attempt, this.around.abilities)
    if (attempt.over) exchange.abort()
    else attempt.exchange = exchange
  }

  private record(host: Host, phase: Phase, failure: ServerFailure, began: number): void {
    this.attempts.push({
      server: host.server.url,
      phase,
      reason: failure.reason,
      message: failure.message,
      elapsed: this.around.now() - began,
      ...(failure.status === undefined ? {} : { status: failure.status })
    })
  }

  private afterFailure(place: Place, failure: ServerFailure): void {
    const server = place.host.server.url
    const interrupted = this.given.text !== ""
    // A request that was being answered is not at fault.
    if (failure.reason === "invalid-request" && !interrupted) {
      this.reject(new InvalidRequest({ field: "request", reason: failure.message, server }))
      return
    }
    if (failure.reason === "engine" && !interrupted) {
      this.reject(engineUnavailable(failure))
      return
    }
    this.around.failed(place.host, failure)
    const attempt = this.attempts[this.attempts.length - 1]
    if (this.call.events && attempt !== undefined) {
      const content = `${server} failed: ${failure.message}`
      this.mishap = { type: "error", content, attempt, timestamp: this.around.now() }
    }
    if (!interrupted) this.next()
    else this.interrupted(place)
  }

  /** The answer broke after a part of it was given out. */
  private interrupted(place: Place): void {
    const limit = tokenLimit(this.request)
    if (this.call.limits.onInterrupt === "fail") this.exhausted()
    else if (limit !== undefined && this.given.tokens >= limit && this.call.limits.onInterrupt === "resume") {
      // Nothing was missing but the server's word that it is the end.
      this.tellMishap(undefined)
      this.conclude(place, {
        text: this.given.text,
        thinking: this.given.thinking,
        toolCalls: [],
        finishReason: "length",
        usage: { completionTokens: this.given.tokens },
        tokensPerSecond: undefined
      })
    } else this.next()
  }

  /** Tells of the failure before, and who goes on; where the answer is begun anew, also that. */
  private tellMishap(next: string | undefined): void {
    const event = this.mishap
    if (event === undefined) return
    this.mishap = undefined
    this.push(next === undefined ? event : { ...event, next })
    if (next === undefined || this.given.text === "" || this.call.limits.onInterrupt !== "restart") return
    const discard = this.index - this.given.first
    this.push({ type: "restart", discard, server: next, timestamp: this.around.now() })
    this.given.clear(this.index)
  }

  private exhausted(): void {
    const { model } = this.request
    const attempts = this.attempts
    const [first] = attempts
    if (first !== undefined && attempts.every((a) => a.reason === "unsupported" && a.status === undefined)) {
      const [field = "request"] = first.message.split(":", 1)
      this.reject(new InvalidRequest({ field, reason: first.message.slice(field.length + 1).trim() || first.message }))
    } else if (this.given.text !== "") {
      this.reject(new StreamInterrupted({ model, partial: this.given.text, attempts }))
    } else if (attempts.length > 0 && attempts.every((a) => a.reason === "model-not-found")) {
      this.around.missing(model).then(
        (error) => this.reject(error),
        (error: unknown) => this.reject(error)
      )
    } else this.reject(new AllServersFailed({ model, attempts }))
  }

  private goOn(continuation: Continuation): void {
    if (this.call.events) for (const event of continuation.events) this.push(event)
    this.request = continuation.request
    this.given.clear(this.index)
    this.tries = 0
    this.route.restart()
    this.wake()
    this.next()
  }

  private end(result: Result): void {
    this.answered = result
    if (this.call.events) {
      this.push({
        type: "end",
        content: "",
        model: result.model,
        server: result.server,
        usage: result.usage,
        finishReason: result.finishReason,
        ...(result.firstTokenTime === undefined ? {} : { firstTokenTime: result.firstTokenTime }),
        ...(result.tokensPerSecond === undefined ? {} : { tokensPerSecond: result.tokensPerSecond }),
        attempts: result.attempts,
        timestamp: this.around.now()
      })
    }
    this.close()
    const waiting = this.waiting
    this.waiting = undefined
    waiting?.resolve(this.batch.length > 0 ? this.take() : undefined)
  }

  private reject(error: unknown): void {
    if (this.over) return
    this.tellMishap(undefined)
    this.error = { cause: error }
    this.close()
    const waiting = this.waiting
    if (waiting === undefined) return
    this.waiting = undefined
    // What was already read comes first; the failure comes with the next pull.
    if (this.batch.length > 0) waiting.resolve(this.take())
    else waiting.reject(error)
  }

  private close(): void {
    this.over = true
    const attempt = this.current
    if (attempt !== undefined) {
      this.retire(attempt)
      attempt.lease.cancel()
      attempt.exchange?.abort()
    }
    this.watch.clear()
    if (this.deadline !== undefined) clearTimeout(this.deadline)
    if (this.backoff !== undefined) clearTimeout(this.backoff)
    this.leaveQueue?.()
    this.call.closed?.()
    for (const listener of this.listeners) listener()
    this.listeners = []
  }

  private retire(attempt: Try): void {
    attempt.over = true
    this.watch.clear()
    this.paused = false
    if (this.current === attempt) this.current = undefined
  }

  /** Nothing came for as long as the current phase allows. */
  silent(): void {
    const attempt = this.current
    if (attempt === undefined) return
    const { connectTimeout, firstTokenTimeout, idleTimeout, loadTimeout } = this.call.limits
    attempt.exchange?.abort()
    switch (attempt.phase) {
      case "connect":
        attempt.fail({ reason: "connect-timeout", message: `no connection within ${connectTimeout} ms` })
        return
      case "first-token":
        attempt.fail({
          reason: "first-token-timeout",
          message: `no answer within ${attempt.lease.cold ? loadTimeout : firstTokenTimeout} ms`
        })
        return
      case "stream":
        attempt.fail({ reason: "idle-timeout", message: `silent for ${idleTimeout} ms in the middle of the answer` })
    }
  }

  private deadlinePassed(): void {
    this.reject(
      new DeadlineExceeded({
        model: this.request.model,
        deadline: this.call.limits.deadline ?? 0,
        partial: this.given.text + (this.current?.said ?? ""),
        attempts: this.attempts
      })
    )
  }

  private take(): Batch {
    const batch = this.batch
    this.batch = []
    if (this.paused) {
      this.paused = false
      this.watch.expect(this.call.limits.idleTimeout)
      this.current?.exchange?.resume()
    }
    return batch
  }
}
