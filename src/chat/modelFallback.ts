/** Fallback to the next model where one fails before the caller has received a piece of its answer. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatError } from "../Errors.js"
import type { Batch, OpenAnswer, Result } from "../Failover.js"
import type { ModelRounds } from "./modelRounds.js"
import type { ModelAttempt, PendingAnswer } from "./pendingAnswer.js"

export interface FallbackOptions {
  /** The models, and which of them follows. */
  readonly rounds: Pick<ModelRounds, "after" | "whole">
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  /** Called once, when nothing more will happen. */
  readonly closed: (() => void) | undefined
  /** Whether the caller rules out another model by now. */
  readonly committed: (() => boolean) | undefined
}

const isPiece = ({ type }: ChatEvent): boolean =>
  type === "token" ||
  type === "thinking" ||
  type === "tool_call" ||
  type === "tool_call_delta" ||
  type === "tool_result"

/** An answer in progress. The events about the servers of earlier models are part of it, but only one `start`. */
export class ModelFallback implements OpenAnswer {
  private answer: OpenAnswer
  /** The number of new messages at the start: once a tool has run, no other model is asked. */
  private readonly initialCount: number
  private emitted = false
  private over = false
  private cancelled: { readonly reason: unknown } | undefined
  private search: Fiber.RuntimeFiber<ModelAttempt, ChatError> | undefined
  private listeners: Array<() => void> = []

  private constructor(
    private attempt: ModelAttempt,
    private readonly options: FallbackOptions
  ) {
    this.answer = attempt.pending.start()
    this.initialCount = attempt.pending.newMessages().length
  }

  /** The answer that begins with this candidate. */
  static pending(first: ModelAttempt, options: FallbackOptions): PendingAnswer {
    let fallback: ModelFallback | undefined
    const { pending } = first
    return {
      start: () => {
        fallback = new ModelFallback(first, options)
        return fallback
      },
      newMessages: () => (fallback?.attempt.pending ?? pending).newMessages(),
      candidate: () => (fallback?.attempt.pending ?? pending).candidate()
    }
  }

  async pull(): Promise<Batch | undefined> {
    const batch = await this.follow((answer) => answer.pull())
    if (batch === undefined) {
      this.close()
      return undefined
    }
    this.emitted ||= batch.some(isPiece)
    if (batch.some(({ type }) => type === "end")) this.close()
    const shown = this.switched ? batch.filter(({ type }) => type !== "start") : batch
    return shown.length === 0 ? this.pull() : shown
  }

  async result(): Promise<Result> {
    const result = await this.follow((answer) => answer.result())
    if (result === undefined) throw new Error("the answer was cancelled")
    this.close()
    return result
  }

  cancel(reason?: unknown): void {
    if (this.over) return
    this.cancelled = { reason }
    this.close()
    this.search?.unsafeInterruptAsFork(FiberId.none)
    this.answer.cancel(reason)
  }

  onClose(listener: () => void): void {
    if (this.over) listener()
    else this.listeners.push(listener)
  }

  /** Whether another model than the first was asked. */
  private switched = false

  /** Reads from the current answer, or from that of the next model; `undefined` if it was cancelled without a reason. */
  private async follow<A>(use: (answer: OpenAnswer) => Promise<A>): Promise<A | undefined> {
    for (;;) {
      try {
        return await use(this.answer)
      } catch (error) {
        const following = this.mayFallBack ? this.options.rounds.after(this.attempt.at, error) : undefined
        if (following !== undefined) {
          const failure = await this.next(following)
          if (failure === undefined) continue
          if (this.cancelled === undefined) {
            this.close()
            throw failure.error
          }
        }
        this.close()
        if (this.cancelled === undefined) throw this.emitted ? error : this.options.rounds.whole(error)
        if (this.cancelled.reason !== undefined) throw this.cancelled.reason
        return undefined
      }
    }
  }

  private get mayFallBack(): boolean {
    const ran = this.attempt.pending.newMessages().length > this.initialCount
    return !(this.over || this.emitted || ran || this.options.committed?.() === true)
  }

  /** Starts the next model; resolves with the error if none can be asked. */
  private next(following: Effect.Effect<ModelAttempt, ChatError>): Promise<{ readonly error: unknown } | undefined> {
    return new Promise((resolve) => {
      const search = this.options.fork(Effect.interruptible(following))
      this.search = search
      search.addObserver((exit) => {
        this.search = undefined
        if (Exit.isFailure(exit)) resolve({ error: Cause.squash(exit.cause) })
        else if (this.over) resolve({ error: undefined })
        else {
          this.attempt = exit.value
          this.switched = true
          this.answer = exit.value.pending.start()
          resolve(undefined)
        }
      })
    })
  }

  private close(): void {
    if (this.over) return
    this.over = true
    this.options.closed?.()
    for (const listener of this.listeners.splice(0)) listener()
  }
}
