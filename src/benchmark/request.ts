/** One request of a benchmark: what the server says of it, and what was measured here. */
import * as Effect from "effect/Effect"
import type { Backend, Finish, ServerFailure, Sink } from "../Backend.js"
import type { ChatRequest, Limits } from "../ChatRequest.js"
import type { Phase } from "../Errors.js"
import type { Lease } from "../Fleet.js"
import { keepAliveOf } from "../failover/keepAlive.js"
import { silenceFailure } from "../failover/silenceFailure.js"
import { type SilenceListener, SilenceTimer } from "../internal/silenceTimer.js"
import { positive } from "../internal/speed.js"
import type { Host } from "../Server.js"
import type { Exchange } from "../Transport.js"
import { charactersPerToken } from "./prompts.js"

/** What one request has shown. Times are in milliseconds. */
export interface Sample {
  /** From the request to the first piece of the answer, by our clock. */
  readonly firstTokenTime: number
  /** From the request to the end of the answer, by our clock. */
  readonly duration: number
  /** Tokens of the prompt that were evaluated, and not cached: as the server counts them, where that can be. */
  readonly promptTokens: number
  /** All tokens of the prompt. */
  readonly wholePrompt: number
  /** Tokens of the answer that came: as the server counts them, where that can be. */
  readonly outputTokens: number
  /** Output tokens per second, by our clock. */
  readonly measuredSpeed: number
  /** The server's own figure. */
  readonly claimedSpeed: number | undefined
  /** Prompt tokens per second, as the server says. */
  readonly claimedPromptSpeed: number | undefined
  /** How long loading the model took, as the server says. */
  readonly loadTime: number | undefined
}

/** Where a server writes a piece per token, a piece is at most so many characters long on average. */
const finePiece = 6

/** No tokenizer needs more tokens for English. */
const leastCharactersPerToken = 3

/** A shorter time between the first and the last piece, in milliseconds, says how the answer was delivered, not made. */
const minSpan = 20

/** A server that goes on for so many times what it was asked for is stopped. */
const maxExcess = 2
const maxCharacters = 32

/** How many tokens came: the server's count, as far as the text bears it out. */
const tokensCame = (claimed: number | undefined, pieces: number, characters: number): number => {
  if (characters <= finePiece * pieces) return pieces
  const most = Math.max(pieces, characters / leastCharactersPerToken)
  return Math.max(1, Math.min(positive(claimed) ?? characters / charactersPerToken, most))
}

class Attempt implements Sink, SilenceListener {
  readonly watch = new SilenceTimer(this)
  exchange: Exchange | undefined
  private phase: Phase = "connect"
  private readonly began: number
  private first: number | undefined
  private last = 0
  private pieces = 0
  private characters = 0
  private finished: Finish | undefined
  over = false

  constructor(
    private readonly request: ChatRequest,
    private readonly prompt: number,
    private readonly lease: Lease,
    private readonly limits: Limits,
    /** In milliseconds, with their fractions. */
    private readonly now: () => number,
    private readonly done: (outcome: Sample | ServerFailure) => void
  ) {
    this.began = now()
    this.watch.expect(limits.connectTimeout)
  }

  connected(): void {
    if (this.over || this.phase !== "connect") return
    this.phase = "first-token"
    this.watch.expect(this.firstTokenTimeout)
  }

  read(): void {
    if (!this.over) this.last = this.now()
  }

  text(content: string): void {
    this.piece(content.length)
  }

  thinking(content: string): void {
    this.piece(content.length)
  }

  toolCall(): void {}

  progress(): void {
    if (!this.over) this.watch.touch()
  }

  finish(finish: Finish): void {
    if (!this.over) this.finished = finish
  }

  flush(): void {
    if (this.over) return
    const limit = this.request.maxTokens ?? 1
    if (this.finished !== undefined) this.settle(this.finished)
    else if (this.pieces > maxExcess * limit || this.characters > maxCharacters * limit) {
      this.exchange?.abort()
      this.settle({ reason: "length", usage: {} })
    } else this.watch.touch()
  }

  fail(failure: ServerFailure): void {
    if (this.over) return
    this.close()
    this.done(failure)
  }

  silent(): void {
    this.exchange?.abort()
    this.fail(silenceFailure(this.phase, this.limits, () => `no answer within ${this.firstTokenTimeout} ms`))
  }

  close(): void {
    this.over = true
    this.watch.clear()
  }

  /** What came of an answer that was not waited for. */
  get spent(): number {
    return this.first === undefined ? 0 : this.prompt + this.pieces
  }

  private get firstTokenTimeout(): number {
    return this.lease.cold ? this.limits.loadTimeout : this.limits.firstTokenTimeout
  }

  private piece(length: number): void {
    if (this.over || length === 0) return
    this.pieces++
    this.characters += length
    if (this.phase === "stream") return
    this.phase = "stream"
    this.first = this.last
    this.lease.answered()
    this.watch.expect(this.limits.idleTimeout)
  }

  private settle({ loadTime, promptEvaluated, promptTime, tokensPerSecond, usage }: Finish): void {
    const { began, characters, first, last, pieces } = this
    if (first === undefined) {
      this.fail({ reason: "malformed", message: "it answered without a token" })
      return
    }
    this.close()
    const outputTokens = tokensCame(usage.completionTokens, pieces, characters)
    const duration = Math.max(last - began, 0.001)
    const span = last - first
    const counted = positive(usage.promptTokens)
    const wholePrompt = counted === undefined || counted > 2 * this.prompt ? this.prompt : counted
    const evaluated = positive(promptEvaluated) ?? wholePrompt - (positive(usage.cachedTokens) ?? 0)
    const promptTokens = Math.max(0, Math.min(evaluated, wholePrompt))
    const time = positive(promptTime)
    this.done({
      firstTokenTime: first - began,
      duration,
      promptTokens,
      wholePrompt,
      outputTokens,
      measuredSpeed:
        span >= minSpan && outputTokens > 1 ? ((outputTokens - 1) * 1_000) / span : (outputTokens * 1_000) / duration,
      claimedSpeed: positive(tokensPerSecond),
      claimedPromptSpeed: time === undefined ? undefined : positive((promptTokens * 1_000) / time),
      loadTime: positive(loadTime)
    })
  }
}

/** A request, and where it goes. */
export interface Sent {
  readonly backend: Backend
  readonly host: Host
  /** Takes the slot, when the request is sent. */
  readonly take: () => Lease
  readonly request: ChatRequest
  /** About how many tokens the prompt has. */
  readonly promptTokens: number
  readonly limits: Limits
  /** In milliseconds, with their fractions. */
  readonly now: () => number
  /** Told once how many tokens it had. */
  readonly spend: (tokens: number) => void
  /** Whether a failure counts for the server's circuit breaker. */
  readonly counts: boolean
}

/** Sends it. An interruption stops the server's work. */
export const send = ({
  backend,
  counts,
  host,
  limits,
  now,
  promptTokens,
  request,
  spend,
  take
}: Sent): Effect.Effect<Sample, ServerFailure> =>
  Effect.async((resume) => {
    const lease = take()
    const attempt = new Attempt(request, promptTokens, lease, limits, now, (outcome) => {
      if ("reason" in outcome) {
        if (counts) lease.fail(outcome)
        else lease.cancel()
        spend(attempt.spent)
        return resume(Effect.fail(outcome))
      }
      // The figures are learned all at once, at the end of the benchmark.
      lease.succeed({ firstTokenTime: undefined, tokensPerSecond: undefined, keepAlive: keepAliveOf(request) })
      spend(outcome.wholePrompt + outcome.outputTokens)
      resume(Effect.succeed(outcome))
    })
    const exchange = backend.start(host.server, request, attempt)
    if (attempt.over) exchange.abort()
    else attempt.exchange = exchange
    return Effect.sync(() => {
      if (attempt.over) return
      attempt.close()
      exchange.abort()
      lease.cancel()
      spend(attempt.spent)
    })
  })
