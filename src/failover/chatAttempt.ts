/**
 * One attempt under way.
 *
 * @since 0.1.0
 */
import type { Ability, Broken, BrokenCall, Finish, Joint, ServerFailure } from "../Backend.js"
import { stops } from "../backend/resume.js"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { Phase } from "../Errors.js"
import type { Lease } from "../Fleet.js"
import * as AnswerSize from "../internal/answerSize.js"
import { Watch, type Watched } from "../internal/silenceTimer.js"
import { settle } from "../internal/speed.js"
import type { ToolCall } from "../Message.js"
import type { Host } from "../Server.js"
import type { AttemptObserver } from "../Telemetry.js"
import type { Exchange, TraceContext } from "../Transport.js"
import type { Call } from "./call.js"
import type { Patience } from "./firstTokenTimeout.js"
import { silence } from "./silenceFailure.js"
import { Seam } from "./splice.js"
import { CallSeam } from "./toolCallSplice.js"

/**
 * The answer that an attempt works for.
 *
 * - `request`: as the caller meant it
 * - `answering`: the first piece of this attempt is there
 * - `firstPiece`: when the answer's first piece came, in milliseconds since the epoch
 *
 * @since 0.1.0
 * @category models
 */
export interface Course {
  readonly call: Call
  readonly request: ChatRequest
  readonly maxAnswerBytes: number
  firstPiece: number | undefined
  now(): number
  token(content: string, timestamp: number): void
  push(event: ChatEvent): void
  wake(): void
  answering(attempt: LiveAttempt): void
  finished(attempt: LiveAttempt, finish: Finish): void
  failed(attempt: LiveAttempt, failure: ServerFailure): void
}

/** An answer that has grown by so much is looked at, in characters. */
const firstCheckpoint = 1024 * 1024

/** What a piece of a tool call takes besides its characters. */
const perPiece = 64

/**
 * One attempt under way on one server: what its backend tells goes on to the course of the answer, as long as it is
 * not over.
 *
 * @since 0.1.0
 * @category models
 */
export class LiveAttempt implements Joint, Watched {
  readonly watch = new Watch(this)
  readonly context: TraceContext | undefined
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
  private callSeam: CallSeam | undefined
  /** Something of the answer came with this read. */
  private alive = false
  /** How long the answer was before, and its tool calls are. */
  private held: number
  /** The next length at which it is looked at. */
  private checkpoint: number

  constructor(
    private readonly course: Course,
    readonly host: Host,
    readonly at: number,
    readonly lease: Lease,
    readonly began: number,
    /** What the caller already has of this answer. */
    private readonly given: Broken,
    readonly observer: AttemptObserver,
    private readonly patience: Patience
  ) {
    this.context = observer.context
    this.lastRead = began
    this.sent = began
    this.held = given.text.length + given.thinking.length
    for (const { text } of given.calls) this.held += text.length
    this.checkpoint = Math.min(course.maxAnswerBytes, this.held + firstCheckpoint)
    // Reasoning comes before the answer: where that has begun, it can only be repeated.
    this.hideThoughts = given.text !== "" || given.calls.length > 0
    if (given.calls.length > 0) this.callSeam = new CallSeam(given.calls)
    this.thoughtSeam = Seam.make(given.thinking, given.thinking, [])
  }

  /** Whatever still comes of it counts no more. */
  retire(): void {
    this.over = true
    this.watch.clear()
  }

  joins(expected: string, repeated: number, how: Ability): void {
    if (this.over) return
    this.observer.resumes(how)
    this.seam = Seam.make(this.given.text, expected, stops(this.course.request))
    this.repeated = repeated
    this.phase = "connect"
    this.sent = this.course.now()
    this.watch.expect(this.course.call.limits.connectTimeout)
  }

  connected(): void {
    if (this.over || this.phase !== "connect") return
    this.phase = "first-token"
    this.watch.expect(this.patience.silence, this.patience.total)
  }

  read(): void {
    if (this.over) return
    this.lastRead = this.course.now()
  }

  progress(): void {
    if (!this.over) this.piece()
  }

  text(content: string): void {
    if (this.over) return
    this.piece()
    if (this.seam === undefined) this.say(content)
    else this.join(this.seam, content)
  }

  /** Of an answer that is joined, they belong to other pieces than those that are given out. */
  logprobs(logprobs: ReadonlyArray<unknown>): void {
    if (this.over || this.seam !== undefined || !this.course.call.events) return
    this.course.push({ type: "logprobs", logprobs, timestamp: this.lastRead })
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
    if (this.course.call.events) this.course.push({ type: "thinking", content: fresh, timestamp: this.lastRead })
  }

  toolCallDelta(index: number, id: string, name: string, text: string): void {
    if (this.over || this.finished !== undefined) return
    this.piece()
    this.held += text.length + perPiece
    if (!this.course.call.events) return
    this.callSeam ??= new CallSeam([])
    this.tellCall(this.callSeam, index, name, this.callSeam.feed(index, id, name, text))
  }

  toolCall(call: ToolCall): void {
    if (this.over || this.finished !== undefined) return
    this.piece()
    this.held += JSON.stringify(call.arguments).length + perPiece
    const index = this.toolCalls.length
    if (!this.course.call.events) {
      this.toolCalls.push(call)
      return
    }
    this.callSeam ??= new CallSeam([])
    this.tellCall(this.callSeam, index, call.name, this.callSeam.complete(index, call))
    const id = this.callSeam.id(index)
    this.toolCalls.push(id === undefined || id === call.id ? call : { ...call, id })
  }

  /** What the caller has of the tool calls. */
  get calls(): ReadonlyArray<BrokenCall> {
    return this.callSeam?.soFar() ?? []
  }

  private tellCall(seam: CallSeam, index: number, name: string, content: string | undefined): void {
    if (content === undefined) this.diverged()
    else if (content !== "") {
      const id = seam.id(index) ?? ""
      this.course.push({ type: "tool_call_delta", index, id, name, content, timestamp: this.lastRead })
    }
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
    if (this.callSeam?.covers(this.toolCalls.length) === false) {
      this.diverged()
      return
    }
    // As with a server that broke off: a piece is a token.
    const counted = this.repeated + this.pieces + (this.repeated > 0 ? 0 : this.thoughtPieces)
    this.finished =
      finish.uncounted === true
        ? { ...finish, usage: { ...finish.usage, completionTokens: counted, estimated: true } }
        : finish
  }

  flush(): void {
    if (this.over) return
    if (this.held + this.said.length + this.thoughts.length > this.checkpoint && this.grown()) return
    // Before the answer begins whatever is read shows that the server is at work.
    if (this.alive || this.phase === "first-token") {
      this.alive = false
      this.watch.heard()
    }
    if (this.finished === undefined) this.course.wake()
    else this.course.finished(this, this.finished)
  }

  /** Whether it has become too long. */
  private grown(): boolean {
    const { maxAnswerBytes } = this.course
    const length = this.held + this.said.length + this.thoughts.length
    if (length > maxAnswerBytes) {
      this.finished = undefined
      this.fail({ reason: "malformed", message: AnswerSize.tooLong(maxAnswerBytes) })
      return true
    }
    AnswerSize.settle(this.said)
    AnswerSize.settle(this.thoughts)
    this.checkpoint = Math.min(maxAnswerBytes, length + Math.max(firstCheckpoint, length / 4))
    return false
  }

  fail(failure: ServerFailure): void {
    if (this.over) return
    if (this.finished === undefined) this.course.failed(this, failure)
    else this.course.finished(this, this.finished)
  }

  /** Nothing came for as long as the current phase allows. */
  silent(): void {
    this.exchange?.abort()
    this.fail(silence(this.phase, this.course.call.limits, () => this.unanswered()))
  }

  /** The lease is given back, with what the attempt has shown; how many tokens a second it was, if that is known. */
  succeed(finish: Finish, keepAlive: number): number | undefined {
    const duration = this.firstPiece === undefined ? 0 : this.lastRead - this.firstPiece
    const tokensPerSecond = settle(finish.tokensPerSecond, this.arrived(finish), duration)
    const firstTokenTime = this.firstPiece === undefined ? undefined : this.firstPiece - this.sent
    const { loadTime, promptEvaluated, promptTime, usage } = finish
    const { completionTokens, promptTokens } = usage
    const counted = { promptTokens, completionTokens, promptEvaluated, promptTime, loadTime }
    this.lease.succeed({ keepAlive, firstTokenTime, tokensPerSecond, ...counted })
    this.observer.succeeded(firstTokenTime, tokensPerSecond)
    return tokensPerSecond
  }

  /** How many tokens came, as the server says, but no more than there was text for: a token is seldom below two letters. */
  private arrived({ usage }: Finish): number {
    const pieces = this.pieces + this.thoughtPieces
    if (usage.completionTokens === undefined) return pieces
    let length = this.said.length + this.thoughts.length
    for (const call of this.toolCalls) length += JSON.stringify(call.arguments).length
    return Math.min(usage.completionTokens, Math.max(pieces, length / 2) + this.repeated)
  }

  private unanswered(): string {
    const { silence, total } = this.patience
    return total > silence && this.watch.lively
      ? `no answer within ${Math.round(total)} ms, in which it only kept the connection open`
      : `no answer within ${Math.round(silence)} ms`
  }

  private say(content: string, pieces = 1): void {
    this.said += content
    this.pieces += pieces
    if (this.course.call.events) this.course.token(content, this.lastRead)
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
    this.alive = true
    if (this.phase === "stream") return
    this.phase = "stream"
    this.lease.answered()
    this.course.answering(this)
    this.firstPiece = this.lastRead
    this.course.firstPiece ??= this.lastRead
    this.watch.expect(this.course.call.limits.idleTimeout)
  }
}
