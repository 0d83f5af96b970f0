/**
 * Answers that are sent as they come.
 *
 * This is the token path: between two pieces of an answer there is one call of a `Writer` each, one write per pull, and
 * no pull before the last write has drained.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import type { Usage } from "../../ChatEvent.js"
import type { ChatRequest } from "../../ChatRequest.js"
import { SchemaMismatch } from "../../Errors.js"
import type { Candidate } from "../../ModelSelection.js"
import { Piece } from "./choiceState.js"
import type { Codec, Writer } from "./codec.js"
import { choices } from "./gatewayRequest.js"
import { mustFit, only } from "./jsonReply.js"
import { shown } from "./modelSelection.js"
import type { Errand } from "./requestExecution.js"
import * as Warnings from "./warnings.js"

/**
 * One stream, of one answer or several.
 *
 * @since 0.1.0
 * @category models
 */
export class Stream {
  private writer: Writer | undefined
  private heart: ReturnType<typeof setTimeout> | undefined
  private wrote = performance.now()
  /** Answers that have not ended. */
  private readonly open = new Map<number, Piece>()

  constructor(
    private readonly errand: Errand,
    private readonly codec: Codec
  ) {
    if (errand.ask.session !== undefined) Warnings.announce(errand.exchange)
  }

  /** Shows that the stream lives whenever nothing was written for a while. */
  beat(): void {
    const { exchange, house } = this.errand
    const every = house.settings.heartbeat
    if (every <= 0) return
    this.heart = setTimeout(
      () => {
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

  /** Nothing more is written. What was given of answers that have no end has been used, too. */
  stop(): void {
    clearTimeout(this.heart)
    for (const [choice, piece] of this.open) if (piece.begun) this.count(choice, piece)
  }

  private count(choice: number, piece: Piece): Usage {
    const { errand } = this
    const counted = errand.usage(choice, piece.usage(), 0)
    if (this.open.delete(choice)) errand.counted(choice, counted)
    return counted
  }

  /** Asks for all the answers, and sends them. */
  async answer(): Promise<void> {
    const { errand } = this
    const { ask, exchange } = errand
    const length = choices(ask)
    const one = (choice: number) =>
      errand.course(choice, (candidate, request) => this.stream(choice, candidate, request))
    if (length === 1) await one(0)
    else await Promise.all(Array.from({ length }, (_, choice) => one(choice)))
    if (exchange.left || this.writer === undefined) return
    if (this.codec.settle !== undefined) await this.codec.settle()
    exchange.end(this.writer.finish())
  }

  private async stream(choice: number, candidate: Candidate, request: ChatRequest): Promise<void> {
    const { errand } = this
    const { ask, exchange } = errand
    const answer = await errand.open(candidate, request, true, undefined)
    const piece = new Piece(ask.oneTool, errand.decoder !== undefined)
    this.open.set(choice, piece)
    for (;;) {
      const batch = await answer.pull()
      if (batch === undefined) break
      const started = performance.now()
      let out = ""
      for (const event of batch) {
        if (piece.note(event)) continue
        const writer = this.writer ?? this.begin(candidate, piece)
        if (!errand.given) {
          errand.given = true
          out += writer.begin()
        }
        out += piece.write(writer, choice, event)
      }
      const { end } = piece
      if (end !== undefined) {
        this.checkEnd(candidate, piece)
        const writer = this.writer ?? this.begin(candidate, piece)
        if (!errand.given) {
          errand.given = true
          out += writer.begin()
        }
        out += Warnings.end(exchange, end.warnings, this.codec.contentType)
        out += writer.end(choice, piece.finishReason(), this.count(choice, piece), end)
      }
      if (out !== "") {
        this.wrote = started
        const free = exchange.write(out)
        exchange.own += performance.now() - started
        if (!free) await exchange.drained()
      }
      if (exchange.left) break
    }
    if (errand.stopped || piece.end !== undefined) return
    throw new Error("an answer ended without its end")
  }

  private begin(candidate: Candidate, piece: Piece): Writer {
    const { exchange, house } = this.errand
    const { codec } = this
    const writer = codec.writer(shown(house, candidate, piece.model ?? candidate.model, piece.server))
    this.writer = writer
    const { account } = exchange
    account.firstToken = performance.now() - exchange.began
    account.model = piece.model ?? candidate.model
    house.metrics.firstToken.observe("", account.firstToken / 1000)
    this.errand.receipt(piece.server, piece.attempts, piece.cached, piece.failed)
    if (!exchange.headSent) exchange.stream(codec.contentType)
    return writer
  }

  /** JSON was promised: what does not fit must not look as if it did. */
  private checkEnd(candidate: Candidate, piece: Piece): void {
    const { decoder } = this.errand
    if (decoder === undefined || piece.end === undefined || !mustFit({ ...piece.end, toolCalls: piece.calls })) return
    const decoded = decoder.decode(piece.said)
    if (Either.isRight(decoded) && only(piece.said) === piece.said) return
    const issues = Either.isLeft(decoded) ? decoded.left : [{ path: "", message: "the JSON stands in other text" }]
    throw new SchemaMismatch({ model: candidate.model, issues, text: piece.said })
  }
}
