/**
 * Events on their way to whoever pulls them.
 *
 * @since 0.1.0
 */
import type { ChatEvent } from "../ChatEvent.js"
import type { Call, Result } from "./call.js"
import { Lifetime } from "./callLifetime.js"

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
 * - `cancel`: gives it up, and stops the server's work at once, in every phase; pulls end, or reject with `reason`
 *   where there is one
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

/**
 * What every `OpenAnswer` does: events are collected until somebody pulls, and an end or a failure comes after them. A
 * deadline counts from the call's beginning.
 *
 * @since 0.1.0
 * @category models
 */
export abstract class EventBuffer extends Lifetime implements OpenAnswer {
  protected batch: Array<ChatEvent> = []
  private answered: Result | undefined
  private error: { readonly cause: unknown } | undefined
  private resolve: ((batch: Batch | undefined) => void) | undefined
  private refuse: ((error: unknown) => void) | undefined
  private listeners: Array<() => void> | undefined

  constructor(readonly call: Call) {
    super()
  }

  /** Nothing more will happen; called once. */
  protected abstract closing(): void
  /** Somebody waits, and there is nothing yet. */
  protected isEmpty(): void {}
  /** Somebody wants all there is. */
  protected gather(): void {}

  /** The first events of every answer. */
  protected open(timestamp: number): void {
    const { call } = this
    if (!call.events) return
    this.batch.push({ type: "start", content: "", model: call.request.model, timestamp })
    for (const event of call.preface) this.batch.push({ ...event, timestamp })
  }

  protected expire(now: number): void {
    this.expireIn(this.call.limits, this.call.began, now)
  }

  get waits(): boolean {
    return this.resolve !== undefined
  }

  pull(): Promise<Batch | undefined> {
    this.gather()
    if (this.batch.length > 0) return Promise.resolve(this.take())
    if (this.error !== undefined) return Promise.reject(this.error.cause)
    if (this.over) return Promise.resolve(undefined)
    return new Promise((resolve, reject) => {
      this.resolve = resolve
      this.refuse = reject
      this.isEmpty()
    })
  }

  result(): Promise<Result> {
    return this.pull().then(() => {
      if (this.answered === undefined) throw new Error("the answer was cancelled")
      return this.answered
    })
  }

  cancel(reason?: unknown): void {
    if (this.over) return
    if (reason !== undefined) {
      this.drop()
      this.reject(reason)
      return
    }
    this.close()
    const { resolve } = this
    this.resolve = undefined
    resolve?.(undefined)
  }

  onClose(listener: () => void): void {
    if (this.over) listener()
    else if (this.listeners === undefined) this.listeners = [listener]
    else this.listeners.push(listener)
  }

  /** Gives whoever waits what there is, if there is anything. */
  protected deliver(): void {
    const { resolve } = this
    if (resolve === undefined) return
    this.gather()
    if (this.batch.length === 0) return
    this.resolve = undefined
    resolve(this.take())
  }

  protected take(): Batch {
    const { batch } = this
    this.batch = []
    return batch
  }

  /** What has not been taken is void. */
  protected drop(): void {
    this.batch = []
  }

  /** It is complete; `end` is the event that says so. */
  protected settle(result: Result, end: ChatEvent | undefined): void {
    this.answered = result
    this.close()
    if (end !== undefined) this.batch.push(end)
    const { resolve } = this
    if (resolve === undefined) return
    this.resolve = undefined
    resolve(this.batch.length > 0 ? this.take() : undefined)
  }

  /** It has failed: what was already there comes first, the failure with the next pull. */
  protected reject(error: unknown): void {
    if (this.over) return
    this.error = { cause: error }
    this.close()
    const { refuse, resolve } = this
    if (resolve === undefined) return
    this.resolve = undefined
    if (this.batch.length > 0) resolve(this.take())
    else refuse?.(error)
  }

  private close(): void {
    this.finish()
    this.closing()
    this.call.closed?.()
    const { listeners } = this
    this.listeners = undefined
    if (listeners !== undefined) for (const listener of listeners) listener()
  }
}
