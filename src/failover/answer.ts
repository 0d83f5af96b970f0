/**
 * One answer, from the first attempt to its end, over as many servers as it takes.
 *
 * This is the token path: plain code, one call per piece of text, one timer set per network read, no Effect. What
 * surrounds it (who the servers are, what is remembered) is in the `Plan`.
 *
 * @since 0.1.0
 */
import type { Service as Backends, Finish, ServerFailure, Sink } from "../Backend.js"
import type { ChatEvent, FinishReason, Usage } from "../ChatEvent.js"
import type { ChatRequest, Limits } from "../ChatRequest.js"
import {
  AllServersFailed,
  type Attempt,
  type ChatError,
  DeadlineExceeded,
  InvalidRequest,
  type Phase,
  StreamInterrupted
} from "../Errors.js"
import type { Service as Fleet, Lease } from "../Fleet.js"
import { engineUnavailable } from "../internal/engine.js"
import { maxTimer, Watch, type Watched } from "../internal/watch.js"
import type { ToolCall } from "../Message.js"
import { type Candidate, resting } from "../Router.js"
import type { Exchange } from "../Transport.js"
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
  readonly fleet: Fleet
  readonly now: () => number
  readonly random: () => number
  readonly failed: (candidate: Candidate, failure: ServerFailure) => void
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

/** A candidate's own name for the model goes on the wire. */
const requestFor = (request: ChatRequest, candidate: Candidate): ChatRequest =>
  request.model === candidate.host.model ? request : { ...request, model: candidate.host.model }

// =============================================================================
// attempt
// =============================================================================

/** One attempt on one server. */
class Try implements Sink {
  phase: Phase = "connect"
  exchange: Exchange | undefined
  finished: Finish | undefined
  said = ""
  thoughts = ""
  pieces = 0
  toolCalls: Array<ToolCall> = []
  firstPiece: number | undefined
  lastRead: number
  over = false
  private readonly seam: Seam | undefined

  constructor(
    private readonly answer: Answer,
    readonly candidate: Candidate,
    readonly lease: Lease,
    readonly began: number,
    /** What the caller already has of this answer. */
    given: string,
    private readonly hideThoughts: boolean
  ) {
    this.lastRead = began
    this.seam = given === "" ? undefined : new Seam(given)
  }

  connected(): void {
    if (this.over || this.phase !== "connect") return
    this.phase = "first-token"
    this.answer.watch.expect(this.answer.call.limits.firstTokenTimeout)
  }

  read(): void {
    if (this.over) return
    this.lastRead = this.answer.around.now()
    if (this.phase === "stream") this.answer.watch.heard()
  }

  text(content: string): void {
    if (this.over) return
    this.piece()
    if (this.seam === undefined || this.seam.closed) {
      this.say(content)
      return
    }
    const fresh = this.seam.feed(content)
    if (fresh === undefined) this.diverged()
    else if (fresh !== "") this.say(fresh)
  }

  thinking(content: string): void {
    if (this.over) return
    this.piece()
    this.thoughts += content
    if (this.answer.call.events && !this.hideThoughts) {
      this.answer.push({ type: "thinking", content, timestamp: this.lastRead })
    }
  }

  toolCall(call: ToolCall): void {
    if (this.over) return
    this.piece()
    this.toolCalls.push(call)
  }

  finish(finish: Finish): void {
    if (this.over) return
    if (this.seam !== undefined && !this.seam.closed) {
      this.diverged()
      return
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
    this.answer.failed(this, failure)
  }

  private say(content: string): void {
    this.said += content
    this.pieces++
    if (this.answer.call.events) this.answer.token(content, this.lastRead)
  }

  private diverged(): void {
    this.fail({ reason: "diverged", message: "its answer differs from what had been given out before" })
  }

  private piece(): void {
    if (this.phase === "stream") return
    this.phase = "stream"
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
  private readonly order: ReadonlyArray<Candidate>
  private request: ChatRequest
  private remaining: Array<Candidate>
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
  private given = ""
  private givenThoughts = false
  private usage: Usage = {}
  private readonly attempts: Array<Attempt> = []
  private listeners: Array<() => void> = []
  private deadline: ReturnType<typeof setTimeout> | undefined
  private backoff: ReturnType<typeof setTimeout> | undefined

  constructor(
    readonly call: Call,
    order: ReadonlyArray<Candidate>,
    readonly around: Surroundings
  ) {
    this.began = around.now()
    this.request = call.request
    this.order = this.able(order)
    this.remaining = [...this.order]
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
    const now = this.around.now()
    const duration = attempt.firstPiece === undefined ? 0 : attempt.lastRead - attempt.firstPiece
    const tokens = finish.usage.completionTokens ?? attempt.pieces
    const tokensPerSecond =
      finish.tokensPerSecond ?? (duration >= minMeasured && tokens > 1 ? (tokens - 1) / (duration / 1000) : undefined)
    attempt.lease.succeed({
      firstTokenTime: attempt.firstPiece === undefined ? undefined : attempt.firstPiece - attempt.began,
      tokensPerSecond
    })
    this.usage = addUsage(this.usage, finish.usage)
    const result: Result = {
      text: this.given + attempt.said,
      thinking: attempt.thoughts,
      toolCalls: attempt.toolCalls,
      model: attempt.candidate.host.model,
      server: attempt.candidate.host.server.url,
      finishReason: finish.reason,
      usage: this.usage,
      firstTokenTime: this.firstPiece === undefined ? undefined : this.firstPiece - this.began,
      tokensPerSecond,
      attempts: this.attempts,
      cached: false
    }
    if (this.call.events) {
      for (const call of attempt.toolCalls) this.push({ type: "tool_call", ...call, timestamp: now })
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
        else this.goOn(attempt.candidate, continuation)
      },
      (error: unknown) => this.reject(error)
    )
  }

  failed(attempt: Try, failure: ServerFailure): void {
    this.retire(attempt)
    attempt.lease.fail(failure)
    this.record(attempt.candidate, attempt.phase, failure, attempt.began)
    if (this.call.events) {
      this.given += attempt.said
      if (attempt.thoughts !== "") this.givenThoughts = true
    } else this.firstPiece = undefined
    if (this.given !== "" && failure.reason === "diverged") {
      this.reject(new StreamInterrupted({ model: this.request.model, partial: this.given, attempts: this.attempts }))
    } else this.afterFailure(attempt.candidate, failure)
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
    const candidate = this.choose()
    if (candidate !== undefined) {
      this.tries++
      this.attempt(candidate)
      return
    }
    if (max === undefined || this.order.length === 0) {
      this.exhausted()
      return
    }
    // Every server has had its turn: only now is the same one tried again, and only now is there a pause.
    const round = Math.floor(this.tries / this.order.length)
    const pause = this.call.limits.retryBackoff * 2 ** (round - 1) * (0.5 + this.around.random() / 2)
    this.remaining = [...this.order]
    this.backoff = setTimeout(() => this.next(), pause)
  }

  /** The next server in order that is not resting by now; one that rests, when there is no other. */
  private choose(): Candidate | undefined {
    let at = this.remaining.findIndex(
      ({ host }) => !resting({ host, snapshot: this.around.fleet.snapshot(host.server.url, host.model) })
    )
    if (at === -1) at = 0
    return this.remaining.splice(at, 1)[0]
  }

  /** Those whose protocol can express the request; nothing is sent to the others. */
  private able(order: ReadonlyArray<Candidate>): ReadonlyArray<Candidate> {
    return order.filter((candidate) => {
      const unsupported = this.around.backends.get(candidate.host.protocol).unsupported(this.request)
      if (unsupported.length === 0) return true
      this.record(candidate, "connect", { reason: "unsupported", message: unsupported.join("; ") }, this.began)
      return false
    })
  }

  private attempt(candidate: Candidate): void {
    const { backends, fleet, now } = this.around
    const { model, protocol, server } = candidate.host
    const backend = backends.get(protocol)
    const request = requestFor(this.request, candidate)
    const attempt = new Try(this, candidate, fleet.lease(server.url, model), now(), this.given, this.givenThoughts)
    this.current = attempt
    if (this.call.events) {
      this.push({ type: "meta", meta: { server: server.url, attempt: this.tries }, timestamp: attempt.began })
    }
    this.watch.expect(this.call.limits.connectTimeout)
    const exchange = backend.start(server, request, attempt)
    if (attempt.over) exchange.abort()
    else attempt.exchange = exchange
  }

  private record(candidate: Candidate, phase: Phase, failure: ServerFailure, began: number): void {
    this.attempts.push({
      server: candidate.host.server.url,
      phase,
      reason: failure.reason,
      message: failure.message,
      elapsed: this.around.now() - began,
      ...(failure.status === undefined ? {} : { status: failure.status })
    })
  }

  private afterFailure(candidate: Candidate, failure: ServerFailure): void {
    const server = candidate.host.server.url
    if (failure.reason === "invalid-request") {
      this.reject(new InvalidRequest({ field: "request", reason: failure.message, server }))
      return
    }
    if (failure.reason === "engine") {
      this.reject(engineUnavailable(failure))
      return
    }
    this.around.failed(candidate, failure)
    const attempt = this.attempts[this.attempts.length - 1]
    if (this.call.events && attempt !== undefined) {
      this.push({
        type: "error",
        content: `${server} failed: ${failure.message}`,
        attempt,
        timestamp: this.around.now()
      })
      this.wake()
    }
    this.next()
  }

  private exhausted(): void {
    const { model } = this.request
    const attempts = this.attempts
    const [first] = attempts
    if (first !== undefined && attempts.every((a) => a.reason === "unsupported" && a.status === undefined)) {
      const [field = "request"] = first.message.split(":", 1)
      this.reject(new InvalidRequest({ field, reason: first.message.slice(field.length + 1).trim() || first.message }))
    } else if (this.given !== "") {
      this.reject(new StreamInterrupted({ model, partial: this.given, attempts }))
    } else if (attempts.length > 0 && attempts.every((a) => a.reason === "model-not-found")) {
      this.around.missing(model).then(
        (error) => this.reject(error),
        (error: unknown) => this.reject(error)
      )
    } else this.reject(new AllServersFailed({ model, attempts }))
  }

  private goOn(candidate: Candidate, continuation: Continuation): void {
    if (this.call.events) for (const event of continuation.events) this.push(event)
    this.request = continuation.request
    this.given = ""
    this.givenThoughts = false
    this.tries = 0
    // The server that answered has the conversation in its cache.
    this.remaining = [candidate, ...this.order.filter((other) => other !== candidate)]
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
    const { connectTimeout, firstTokenTimeout, idleTimeout } = this.call.limits
    attempt.exchange?.abort()
    switch (attempt.phase) {
      case "connect":
        attempt.fail({ reason: "connect-timeout", message: `no connection within ${connectTimeout} ms` })
        return
      case "first-token":
        attempt.fail({ reason: "first-token-timeout", message: `no answer within ${firstTokenTimeout} ms` })
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
        partial: this.given + (this.current?.said ?? ""),
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
