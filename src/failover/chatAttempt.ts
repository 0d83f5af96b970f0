/** One attempt on one server. */
import type { Finish, PartialAnswer, PartialToolCall, ResumeSink, ResumeSupport, ServerFailure } from "../Backend.js"
import { stops } from "../backend/resume.js"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { Phase } from "../Errors.js"
import type { Lease } from "../Fleet.js"
import * as AnswerSize from "../internal/answerSize.js"
import { type SilenceListener, SilenceTimer } from "../internal/silenceTimer.js"
import { reconcile } from "../internal/speed.js"
import type { ToolCall } from "../Message.js"
import type { Host } from "../Server.js"
import type { AttemptObserver } from "../Telemetry.js"
import type { Exchange, TraceContext } from "../Transport.js"
import type { Call } from "./call.js"
import type { FirstTokenTimeout } from "./firstTokenTimeout.js"
import { silenceFailure } from "./silenceFailure.js"
import { Splice } from "./splice.js"
import { ToolCallSplice } from "./toolCallSplice.js"

/** The answer that an attempt reports to. */
export interface AttemptListener {
  /** The call that the attempt is part of. */
  readonly call: Call
  /** As the caller made it. */
  readonly request: ChatRequest
  /** How long an answer may be, in bytes. */
  readonly maxAnswerBytes: number
  /** When the answer's first piece came, in milliseconds since the epoch. */
  firstPiece: number | undefined
  /** The time, in milliseconds since the epoch. */
  now(): number
  /** Emits a piece of the text. */
  token(content: string, timestamp: number): void
  /** Emits an event. */
  push(event: ChatEvent): void
  /** Delivers what was emitted, if a pull waits for it. */
  wake(): void
  /** The attempt has received its first piece. */
  firstPieceFrom(attempt: ChatAttempt): void
  /** The attempt has the whole answer. */
  finished(attempt: ChatAttempt, finish: Finish): void
  /** The attempt failed. */
  failed(attempt: ChatAttempt, failure: ServerFailure): void
}

/** An answer that has grown by so much is looked at, in characters. */
const firstCheckpoint = 1024 * 1024

/** The size of a piece of a tool call in addition to its characters. */
const perPiece = 64

/** One attempt on one server: what its backend decodes is passed on to the answer until the attempt is over. */
export class ChatAttempt implements ResumeSink, SilenceListener {
  readonly watch = new SilenceTimer(this)
  readonly context: TraceContext | undefined
  phase: Phase = "connect"
  exchange: Exchange | undefined
  finished: Finish | undefined
  sentText = ""
  sentThinking = ""
  pieces = 0
  thinkingPieces = 0
  /** Tokens that the caller already has but the server counts again. */
  repeated = 0
  /** When the request was sent. */
  sent: number
  toolCalls: Array<ToolCall> = []
  firstPiece: number | undefined
  lastRead: number
  over = false
  private textSplice: Splice | undefined
  private thinkingSplice: Splice | undefined
  private hideThinking: boolean
  private toolCallSplice: ToolCallSplice | undefined
  /** Whether this read contained a piece of the answer. */
  private signOfLife = false
  /** How long the answer was before, and its tool calls are. */
  private held: number
  /** The next length at which it is looked at. */
  private checkpoint: number

  constructor(
    private readonly listener: AttemptListener,
    readonly host: Host,
    readonly at: number,
    readonly lease: Lease,
    readonly began: number,
    /** The partial answer that the caller already has. */
    private readonly partial: PartialAnswer,
    readonly observer: AttemptObserver,
    private readonly timeout: FirstTokenTimeout
  ) {
    this.context = observer.context
    this.lastRead = began
    this.sent = began
    this.held = partial.text.length + partial.thinking.length
    for (const { text } of partial.calls) this.held += text.length
    this.checkpoint = Math.min(listener.maxAnswerBytes, this.held + firstCheckpoint)
    // Reasoning precedes the answer: once the answer has begun, reasoning can only be a repetition.
    this.hideThinking = partial.text !== "" || partial.calls.length > 0
    if (partial.calls.length > 0) this.toolCallSplice = new ToolCallSplice(partial.calls)
    this.thinkingSplice = Splice.make(partial.thinking, partial.thinking, [])
  }

  /** Ignores whatever still arrives. */
  stopTracking(): void {
    this.over = true
    this.watch.clear()
  }

  /** Another attempt sent the first piece before this one. */
  overtaken(): void {
    this.stopTracking()
    this.lease.overtaken()
    this.observer.overtaken(this.phase)
    this.exchange?.abort()
  }

  /** The answer is not wanted any more. */
  cancelled(): void {
    this.stopTracking()
    this.lease.cancel()
    this.observer.cancelled(this.phase)
    this.exchange?.abort()
  }

  joins(expected: string, repeated: number, how: ResumeSupport): void {
    if (this.over) return
    this.observer.resumes(how)
    this.textSplice = Splice.make(this.partial.text, expected, stops(this.listener.request))
    this.repeated = repeated
    this.phase = "connect"
    this.sent = this.listener.now()
    this.watch.expect(this.listener.call.limits.connectTimeout)
  }

  connected(): void {
    if (this.over || this.phase !== "connect") return
    this.phase = "first-token"
    this.observer.phase?.("first-token")
    this.watch.expect(this.timeout.silence, this.timeout.total)
  }

  read(): void {
    if (this.over) return
    this.lastRead = this.listener.now()
  }

  progress(): void {
    if (!this.over) this.piece()
  }

  text(content: string): void {
    if (this.over) return
    this.piece()
    if (this.textSplice === undefined) this.emitText(content)
    else this.join(this.textSplice, content)
  }

  /** Log probabilities of a resumed answer would not match the emitted pieces. */
  logprobs(logprobs: ReadonlyArray<unknown>): void {
    if (this.over || this.textSplice !== undefined || !this.listener.call.events) return
    this.listener.push({ type: "logprobs", logprobs, timestamp: this.lastRead })
  }

  thinking(content: string): void {
    if (this.over) return
    this.piece()
    this.thinkingPieces++
    if (this.hideThinking) return
    const splice = this.thinkingSplice
    const fresh = splice === undefined ? content : splice.feed(content)
    if (fresh === undefined) {
      // Different reasoning cannot be joined, and was not asked for.
      this.hideThinking = true
      return
    }
    if (splice?.closed === true) this.thinkingSplice = undefined
    if (fresh === "") return
    this.sentThinking += fresh
    if (this.listener.call.events) this.listener.push({ type: "thinking", content: fresh, timestamp: this.lastRead })
  }

  toolCallDelta(index: number, id: string, name: string, text: string): void {
    if (this.over || this.finished !== undefined) return
    this.piece()
    this.held += text.length + perPiece
    if (!this.listener.call.events) return
    this.toolCallSplice ??= new ToolCallSplice([])
    this.emitToolCall(this.toolCallSplice, index, name, this.toolCallSplice.feed(index, id, name, text))
  }

  toolCall(call: ToolCall): void {
    if (this.over || this.finished !== undefined) return
    this.piece()
    this.held += JSON.stringify(call.arguments).length + perPiece
    const index = this.toolCalls.length
    if (!this.listener.call.events) {
      this.toolCalls.push(call)
      return
    }
    this.toolCallSplice ??= new ToolCallSplice([])
    this.emitToolCall(this.toolCallSplice, index, call.name, this.toolCallSplice.complete(index, call))
    const id = this.toolCallSplice.id(index)
    this.toolCalls.push(id === undefined || id === call.id ? call : { ...call, id })
  }

  /** The tool calls that the caller has so far. */
  get calls(): ReadonlyArray<PartialToolCall> {
    return this.toolCallSplice?.soFar() ?? []
  }

  private emitToolCall(splice: ToolCallSplice, index: number, name: string, content: string | undefined): void {
    if (content === undefined) this.diverged()
    else if (content !== "") {
      const id = splice.id(index) ?? ""
      this.listener.push({ type: "tool_call_delta", index, id, name, content, timestamp: this.lastRead })
    }
  }

  finish(finish: Finish): void {
    if (this.over || this.finished !== undefined) return
    if (this.textSplice !== undefined) {
      const rest = this.textSplice.end()
      if (rest === undefined) {
        this.diverged()
        return
      }
      if (rest !== "") this.emitText(rest, this.textSplice.pieces)
    }
    if (this.toolCallSplice?.covers(this.toolCalls.length) === false) {
      this.diverged()
      return
    }
    // As for a broken attempt: one token per piece.
    const counted = this.repeated + this.pieces + (this.repeated > 0 ? 0 : this.thinkingPieces)
    this.finished =
      finish.uncounted === true
        ? { ...finish, usage: { ...finish.usage, completionTokens: counted, estimated: true } }
        : finish
  }

  flush(): void {
    if (this.over) return
    if (this.held + this.sentText.length + this.sentThinking.length > this.checkpoint && this.grown()) return
    // Before the first piece, any read shows that the server is working.
    if (this.signOfLife || this.phase === "first-token") {
      this.signOfLife = false
      this.watch.touch()
    }
    if (this.finished === undefined) this.listener.wake()
    else this.listener.finished(this, this.finished)
  }

  /** Whether it has become too long. */
  private grown(): boolean {
    const { maxAnswerBytes } = this.listener
    const length = this.held + this.sentText.length + this.sentThinking.length
    if (length > maxAnswerBytes) {
      this.finished = undefined
      this.fail({ reason: "malformed", message: AnswerSize.tooLong(maxAnswerBytes) })
      return true
    }
    AnswerSize.settle(this.sentText)
    AnswerSize.settle(this.sentThinking)
    this.checkpoint = Math.min(maxAnswerBytes, length + Math.max(firstCheckpoint, length / 4))
    return false
  }

  fail(failure: ServerFailure): void {
    if (this.over) return
    if (this.finished === undefined) this.listener.failed(this, failure)
    else this.listener.finished(this, this.finished)
  }

  /** Nothing arrived for as long as the phase allows. */
  silent(): void {
    this.exchange?.abort()
    this.fail(silenceFailure(this.phase, this.listener.call.limits, () => this.unanswered()))
  }

  /** Releases the lease with what was observed; returns tokens per second, if known. */
  succeed(finish: Finish, keepAlive: number): number | undefined {
    const duration = this.firstPiece === undefined ? 0 : this.lastRead - this.firstPiece
    const tokensPerSecond = reconcile(finish.tokensPerSecond, this.arrived(finish), duration)
    const firstTokenTime = this.firstPiece === undefined ? undefined : this.firstPiece - this.sent
    const { loadTime, promptEvaluated, promptTime, usage } = finish
    const { completionTokens, promptTokens } = usage
    const counted = { promptTokens, completionTokens, promptEvaluated, promptTime, loadTime }
    this.lease.succeed({ keepAlive, firstTokenTime, tokensPerSecond, ...counted })
    this.observer.succeeded(firstTokenTime, tokensPerSecond)
    return tokensPerSecond
  }

  /** The number of tokens as the server reports it, but at most one per two characters: tokens are seldom shorter. */
  private arrived({ usage }: Finish): number {
    const pieces = this.pieces + this.thinkingPieces
    if (usage.completionTokens === undefined) return pieces
    let length = this.sentText.length + this.sentThinking.length
    for (const call of this.toolCalls) length += JSON.stringify(call.arguments).length
    return Math.min(usage.completionTokens, Math.max(pieces, length / 2) + this.repeated)
  }

  private unanswered(): string {
    const { silence, total } = this.timeout
    return total > silence && this.watch.onTouch
      ? `no answer within ${Math.round(total)} ms, in which it only kept the connection open`
      : `no answer within ${Math.round(silence)} ms`
  }

  private emitText(content: string, pieces = 1): void {
    this.sentText += content
    this.pieces += pieces
    if (this.listener.call.events) this.listener.token(content, this.lastRead)
  }

  private join(splice: Splice, content: string): void {
    if (this.finished !== undefined) return
    const fresh = splice.feed(content)
    if (fresh === undefined) this.diverged()
    else if (splice.stopped) {
      // The server does not know about the stop; what it wrote beyond the end does not count.
      this.finished = { reason: "stop", usage: { completionTokens: 0 } }
      this.repeated = 0
      this.exchange?.abort()
      this.flush()
    } else {
      if (splice.closed) this.textSplice = undefined
      if (fresh !== "") this.emitText(fresh, splice.pieces)
    }
  }

  private diverged(): void {
    this.fail({ reason: "diverged", message: "its answer differs from what was already sent" })
  }

  private piece(): void {
    this.signOfLife = true
    if (this.phase === "stream") return
    this.phase = "stream"
    this.observer.phase?.("stream")
    this.lease.answered()
    this.listener.firstPieceFrom(this)
    this.firstPiece = this.lastRead
    this.listener.firstPiece ??= this.lastRead
    this.watch.expect(this.listener.call.limits.idleTimeout)
  }
}
