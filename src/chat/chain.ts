/** One answer that several models may give: where one fails before the caller has a piece of it, the next is asked. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatError } from "../Errors.js"
import type { Batch, OpenAnswer, Result } from "../Failover.js"
import type { Message } from "../Message.js"
import { type ModelCandidate, mayTryNext } from "../ModelSelection.js"

/**
 * What begins the answer to a call: `start` is called once; `said` is what the call adds to the conversation, and
 * `candidate` the model that is asked.
 */
export interface Beginning {
  readonly start: () => OpenAnswer
  readonly said: () => ReadonlyArray<Message>
  readonly candidate: () => ModelCandidate
}

/** What begins the answer by the model number `at`. */
export interface Link {
  readonly at: number
  readonly beginning: Beginning
}

export interface Options {
  readonly count: number
  /** What begins the answer by the first model from that number on that can be asked. */
  readonly from: (at: number) => Effect.Effect<Link, ChatError>
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  /** Called once, when nothing more will happen. */
  readonly closed: (() => void) | undefined
  /** Whether no other model may begin, for reasons that lie elsewhere. */
  readonly committed: (() => boolean) | undefined
}

const isPiece = ({ type }: ChatEvent): boolean =>
  type === "token" ||
  type === "thinking" ||
  type === "tool_call" ||
  type === "tool_call_delta" ||
  type === "tool_result"

/** An answer under way. What the models before it told of their servers is given out, too, but only one `start`. */
export class Chain implements OpenAnswer {
  private answer: OpenAnswer
  /** How much was said when the first model was asked: once a tool has run, no other model may begin. */
  private readonly opening: number
  private begun = false
  private over = false
  private cancelled: { readonly reason: unknown } | undefined
  private search: Fiber.RuntimeFiber<Link, ChatError> | undefined
  private listeners: Array<() => void> = []

  private constructor(
    private link: Link,
    private readonly options: Options
  ) {
    this.answer = link.beginning.start()
    this.opening = link.beginning.said().length
  }

  /** What begins it, with the first model that can be asked. */
  static beginning(first: Link, options: Options): Beginning {
    let chain: Chain | undefined
    const { beginning } = first
    return {
      start: () => {
        chain = new Chain(first, options)
        return chain
      },
      said: () => (chain?.link.beginning ?? beginning).said(),
      candidate: () => (chain?.link.beginning ?? beginning).candidate()
    }
  }

  async pull(): Promise<Batch | undefined> {
    const batch = await this.follow((answer) => answer.pull())
    if (batch === undefined) {
      this.close()
      return undefined
    }
    this.begun ||= batch.some(isPiece)
    if (batch.some(({ type }) => type === "end")) this.close()
    const shown = this.restarted ? batch.filter(({ type }) => type !== "start") : batch
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

  /** Whether another model than the first is asked. */
  private restarted = false

  /** What the answer gives, of whichever model; `undefined` where it was cancelled without a reason. */
  private async follow<A>(use: (answer: OpenAnswer) => Promise<A>): Promise<A | undefined> {
    for (;;) {
      try {
        return await use(this.answer)
      } catch (error) {
        if (this.mayGoOn(error)) {
          const failure = await this.next()
          if (failure === undefined) continue
          if (this.cancelled === undefined) {
            this.close()
            throw failure.error
          }
        }
        this.close()
        if (this.cancelled === undefined) throw error
        if (this.cancelled.reason !== undefined) throw this.cancelled.reason
        return undefined
      }
    }
  }

  private mayGoOn(error: unknown): boolean {
    const { at, beginning } = this.link
    const ran = beginning.said().length > this.opening
    if (this.over || this.begun || ran || this.options.committed?.() === true) return false
    return at + 1 < this.options.count && mayTryNext(error)
  }

  /** Has the next model begin, or tells why none can. */
  private next(): Promise<{ readonly error: unknown } | undefined> {
    return new Promise((resolve) => {
      const search = this.options.fork(Effect.interruptible(this.options.from(this.link.at + 1)))
      this.search = search
      search.addObserver((exit) => {
        this.search = undefined
        if (Exit.isFailure(exit)) resolve({ error: Cause.squash(exit.cause) })
        else if (this.over) resolve({ error: undefined })
        else {
          this.link = exit.value
          this.restarted = true
          this.answer = exit.value.beginning.start()
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
