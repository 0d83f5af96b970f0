/** Buffers events until they are pulled. */
import type { ChatEvent } from "../ChatEvent.js"
import type { Call, Result } from "./call.js"
import { Lifetime } from "./callLifetime.js"

/**
 * The events of one network read, or all since the last pull.
 *
 * @since 0.1.0
 * @category models
 */
export type Batch = ReadonlyArray<ChatEvent>

/**
 * An answer being read, wherever it comes from. It must be pulled to its end or cancelled.
 *
 * @since 0.1.0
 * @category models
 */
export interface OpenAnswer {
  /**
   * The events since the last pull, at least one; `undefined` at the end; rejects with a `ChatError`. One pull at a
   * time.
   */
  pull(): Promise<Batch | undefined>
  /** The complete answer, if no events are emitted. */
  result(): Promise<Result>
  /** Cancels the server's work at once, in every phase; pulls end, or reject with `reason` if there is one. */
  cancel(reason?: unknown): void
  /** Calls `listener` once nothing more will happen. */
  onClose(listener: () => void): void
}

/**
 * The base of every `OpenAnswer`: collects events until they are pulled, then the end or a failure. A deadline counts
 * from the call's start.
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

  constructor(
    /** What is asked for. */
    readonly call: Call
  ) {
    super()
  }

  /** Called once, when nothing more will happen. */
  protected abstract closing(): void
  /** A pull is waiting for events. */
  protected isEmpty(): void {}
  /** Called before a pull takes the events. */
  protected collectEvents(): void {}

  /** Emits the first events of every answer. */
  protected open(timestamp: number): void {
    const { call } = this
    if (!call.events) return
    this.batch.push({ type: "start", content: "", model: call.request.model, timestamp })
    for (const event of call.preface) this.batch.push({ ...event, timestamp })
  }

  protected expire(now: number): void {
    this.expireIn(this.call.limits, this.call.began, now)
  }

  /** Whether a pull waits for events. */
  get waits(): boolean {
    return this.resolve !== undefined
  }

  pull(): Promise<Batch | undefined> {
    this.collectEvents()
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

  /** Resolves a waiting pull with the buffered events, if there are any. */
  protected deliver(): void {
    const { resolve } = this
    if (resolve === undefined) return
    this.collectEvents()
    if (this.batch.length === 0) return
    this.resolve = undefined
    resolve(this.take())
  }

  protected take(): Batch {
    const { batch } = this
    this.batch = []
    return batch
  }

  /** Discards events that were not pulled. */
  protected drop(): void {
    this.batch = []
  }

  /** Completes the answer; `end` is its end event. */
  protected settle(result: Result, end: ChatEvent | undefined): void {
    this.answered = result
    this.close()
    if (end !== undefined) this.batch.push(end)
    const { resolve } = this
    if (resolve === undefined) return
    this.resolve = undefined
    resolve(this.batch.length > 0 ? this.take() : undefined)
  }

  /** Fails the answer: buffered events are delivered first, the failure with the next pull. */
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
