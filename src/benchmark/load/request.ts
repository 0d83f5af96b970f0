/** One request of a load test: when its pieces came, by our clock. */
import type { Finish, ServerFailure, Sink } from "../../Backend.js"
import { positive } from "../../internal/speed.js"
import type { Exchange } from "../../Transport.js"
import { charactersPerToken } from "../prompts.js"

/** Where a server writes a piece per token, a piece is at most so many characters long on average. */
const finePiece = 6

/** What a request came to. */
export type Outcome = "succeeded" | "failed" | "cancelled"

export class LoadRequest implements Sink {
  exchange: Exchange | undefined
  outcome: Outcome | undefined
  /** Why it did not succeed. */
  message = ""
  firstAt: number | undefined
  endedAt: number | undefined
  /** When pieces came: each of them is later than the one before. */
  readonly pieceTimes: Array<number> = []
  /** Tokens by the server's count if `counted`, else by ours. */
  promptTokens: number
  outputTokens = 0
  counted = false
  private readAt: number
  private pieces = 0
  private characters = 0
  private answer: Array<string> | undefined
  private finished: Finish | undefined

  /** Times are in milliseconds since the beginning of the run. */
  constructor(
    readonly scheduledAt: number,
    readonly sentAt: number,
    promptTokens: number,
    keepsAnswer: boolean,
    private readonly now: () => number,
    private readonly ended: (request: LoadRequest) => void
  ) {
    this.promptTokens = promptTokens
    this.readAt = sentAt
    this.answer = keepsAnswer ? [] : undefined
  }

  /** The answer so far, if it is kept. */
  get answerText(): string | undefined {
    return this.answer?.join("")
  }

  connected(): void {}

  read(): void {
    this.readAt = this.now()
  }

  text(content: string): void {
    this.piece(content.length)
    this.answer?.push(content)
  }

  thinking(content: string): void {
    this.piece(content.length)
  }

  toolCall(): void {}

  finish(finish: Finish): void {
    this.finished = finish
  }

  flush(): void {
    const { finished } = this
    if (finished === undefined || this.outcome !== undefined) return
    if (this.firstAt === undefined) {
      this.end("failed", "it answered without a token")
      return
    }
    const { completionTokens, promptTokens } = finished.usage
    const completion = positive(completionTokens)
    this.promptTokens = positive(promptTokens) ?? this.promptTokens
    this.counted = completion !== undefined
    this.outputTokens = completion ?? this.estimate
    this.end("succeeded", "")
  }

  fail({ message }: ServerFailure): void {
    this.end("failed", message)
  }

  /** Stops the server's work. */
  stop(outcome: "failed" | "cancelled", message: string): void {
    if (this.outcome !== undefined) return
    this.exchange?.abort()
    this.outputTokens = this.estimate
    this.end(outcome, message)
  }

  private get estimate(): number {
    const { characters, pieces } = this
    return characters <= finePiece * pieces ? pieces : Math.max(pieces, Math.round(characters / charactersPerToken))
  }

  private end(outcome: Outcome, message: string): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.message = message
    this.endedAt = outcome === "succeeded" ? this.readAt : this.now()
    this.ended(this)
    this.answer = undefined
  }

  private piece(length: number): void {
    if (length === 0 || this.outcome !== undefined) return
    this.pieces++
    this.characters += length
    this.firstAt ??= this.readAt
    this.pieceTimes.push(this.readAt)
  }
}
