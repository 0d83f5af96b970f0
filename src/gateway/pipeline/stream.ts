/**
 * Streamed answers.
 *
 * This is the token path: for each piece one call of a `Writer`, one write per pull, and no pull before the last write
 * has drained.
 */
import * as Either from "effect/Either"
import type { Usage } from "../../ChatEvent.js"
import { SchemaMismatch } from "../../Errors.js"
import { ChoiceState } from "./choiceState.js"
import type { Codec, Writer } from "./codec.js"
import { choices } from "./gatewayRequest.js"
import { jsonOnly, mustMatchFormat } from "./jsonReply.js"
import { shown } from "./modelSelection.js"
import type { RequestExecution } from "./requestExecution.js"
import * as Warnings from "./warnings.js"

/** One stream, of one answer or several. */
export class Stream {
  private writer: Writer | undefined
  private heartbeat: ReturnType<typeof setTimeout> | undefined
  private lastWrite = performance.now()
  /** Choices that have not ended. */
  private readonly openChoices = new Map<number, ChoiceState>()

  constructor(
    private readonly execution: RequestExecution,
    private readonly codec: Codec
  ) {
    if (execution.gatewayRequest.session !== undefined) Warnings.announce(execution.context)
  }

  /** Sends a heartbeat whenever nothing was written for a while. */
  startHeartbeat(): void {
    const { context, gateway } = this.execution
    const every = gateway.settings.heartbeat
    if (every <= 0) return
    this.heartbeat = setTimeout(
      () => {
        if (context.disconnected || context.response.writableEnded) return
        if (performance.now() - this.lastWrite >= every - 1 && !context.response.writableNeedDrain) {
          if (!context.headersSent) context.stream(this.codec.contentType)
          this.lastWrite = performance.now()
          context.write(this.codec.heartbeat)
        }
        this.startHeartbeat()
      },
      Math.max(1, every - (performance.now() - this.lastWrite))
    )
  }

  /** Stops writing. Pieces already sent of unfinished answers count as usage. */
  stop(): void {
    clearTimeout(this.heartbeat)
    for (const [choice, state] of this.openChoices) if (state.started) this.count(choice, state)
  }

  private count(choice: number, state: ChoiceState): Usage {
    const { execution } = this
    const counted = execution.usage(choice, state.usage(), 0)
    if (this.openChoices.delete(choice)) execution.countUsage(choice, counted)
    return counted
  }

  /** Gets all answers, and sends them. */
  async send(): Promise<void> {
    const { execution } = this
    const { gatewayRequest, context } = execution
    const length = choices(gatewayRequest)
    const one = (choice: number) => this.sendChoice(choice)
    if (length === 1) await one(0)
    else await Promise.all(Array.from({ length }, (_, choice) => one(choice)))
    if (context.disconnected || this.writer === undefined) return
    if (this.codec.settle !== undefined) await this.codec.settle()
    context.end(this.writer.finish())
  }

  private async sendChoice(choice: number): Promise<void> {
    const { execution } = this
    const { gatewayRequest, context } = execution
    const answer = await execution.open(choice)
    const state = new ChoiceState(gatewayRequest.oneTool, execution.decoder !== undefined)
    this.openChoices.set(choice, state)
    for (;;) {
      const batch = await answer.pull()
      if (batch === undefined) break
      const started = performance.now()
      let out = ""
      for (const event of batch) {
        if (state.absorb(event)) continue
        const writer = this.writer ?? this.startWriter(choice, state)
        if (!execution.answerStarted) {
          execution.answerStarted = true
          out += writer.begin()
        }
        out += state.write(writer, choice, event)
      }
      const { end } = state
      if (end !== undefined) {
        this.checkJson(choice, state)
        const writer = this.writer ?? this.startWriter(choice, state)
        if (!execution.answerStarted) {
          execution.answerStarted = true
          out += writer.begin()
        }
        out += Warnings.end(context, end.warnings, this.codec.contentType)
        out += writer.end(choice, state.finishReason(), this.count(choice, state), end)
      }
      if (out !== "") {
        this.lastWrite = started
        const free = context.write(out)
        context.ownTime += performance.now() - started
        if (!free) await context.drained()
      }
      if (context.disconnected) break
    }
    if (execution.stopped || state.end !== undefined) return
    throw new Error("an answer ended without its end")
  }

  private startWriter(choice: number, state: ChoiceState): Writer {
    const candidate = this.execution.candidate(choice)
    const { context, gateway } = this.execution
    const { codec } = this
    const writer = codec.writer(shown(gateway, candidate, state.model ?? candidate.model, state.server))
    this.writer = writer
    const { record: account } = context
    account.firstToken = performance.now() - context.began
    account.model = state.model ?? candidate.model
    gateway.metrics.firstToken.observe("", account.firstToken / 1000)
    this.execution.reportServer(choice, state.server, state.attempts, state.cached, state.failed)
    if (!context.headersSent) context.stream(codec.contentType)
    return writer
  }

  /** JSON was requested: the stream must not end as if invalid JSON were complete. */
  private checkJson(choice: number, state: ChoiceState): void {
    const { decoder } = this.execution
    if (decoder === undefined || state.end === undefined || !mustMatchFormat({ ...state.end, toolCalls: state.calls }))
      return
    const decoded = decoder.decode(state.text)
    if (Either.isRight(decoded) && jsonOnly(state.text) === state.text) return
    const issues = Either.isLeft(decoded)
      ? decoded.left
      : [{ path: "", message: "the JSON is surrounded by other text" }]
    throw new SchemaMismatch({ model: this.execution.candidate(choice).model, issues, text: state.text })
  }
}
