/**
 * A streamed answer for `for await`.
 *
 * @since 0.1.0
 */
import { type ChatEvent, text } from "../ChatEvent.js"
import type { OpenAnswer } from "../Failover.js"

/** A stream that was garbage-collected cancels its server's work. */
const forgotten = new FinalizationRegistry<OpenAnswer>((answer) => answer.cancel())

class Events implements AsyncIterator<ChatEvent, undefined> {
  private at = 0
  private left = false

  constructor(private readonly stream: ChatStream) {}

  next(): Promise<IteratorResult<ChatEvent, undefined>> {
    const { events } = this.stream
    const event = events[this.at]
    if (event !== undefined && !this.left) {
      this.at++
      return Promise.resolve({ value: event, done: false })
    }
    if (this.left) return Promise.resolve({ value: undefined, done: true })
    return this.stream.more().then((more) => {
      if (more) return this.next()
      this.leave()
      return { value: undefined, done: true }
    })
  }

  return(): Promise<IteratorResult<ChatEvent, undefined>> {
    this.leave()
    return Promise.resolve({ value: undefined, done: true })
  }

  private leave(): void {
    if (this.left) return
    this.left = true
    this.stream.leave()
  }
}

/**
 * The events of an answer as they come. It can be iterated again, and by several readers at once: each sees every
 * event. When the last reader leaves before the end, the server's work is stopped.
 *
 * @since 0.1.0
 * @category models
 */
export class ChatStream implements AsyncIterable<ChatEvent> {
  private readonly seen: Array<ChatEvent> = []
  private pulling: Promise<boolean> | undefined
  private readers = 0
  private ended = false

  /** What its readers are told of a failure. @internal */
  failed: (error: unknown) => unknown = (error) => error

  /** @internal */
  constructor(private readonly answer: OpenAnswer) {
    forgotten.register(this, answer, this)
  }

  /** The events so far. */
  get events(): ReadonlyArray<ChatEvent> {
    return this.seen
  }

  [Symbol.asyncIterator](): AsyncIterator<ChatEvent, undefined> {
    this.readers++
    return new Events(this)
  }

  /** The complete text once the answer is complete; the partial one if it was cancelled. */
  async text(): Promise<string> {
    this.readers++
    try {
      while (await this.more()) {
        // Everything is in `seen`.
      }
    } finally {
      this.leave()
    }
    return text(this.seen)
  }

  /** Cancels the server's work. Readers end after the events already read. */
  async cancel(): Promise<void> {
    this.answer.cancel()
    try {
      while (await this.more()) {
        // Events read before the cancellation still count.
      }
    } catch {
      // The earlier failure belongs to its readers.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel()
  }

  /** @internal */
  more(): Promise<boolean> {
    if (this.ended && this.pulling === undefined) return Promise.resolve(false)
    this.pulling ??= this.answer.pull().then(
      (batch) => {
        this.pulling = undefined
        if (batch === undefined) {
          this.finish()
          return false
        }
        for (const event of batch) this.seen.push(event)
        return true
      },
      (error: unknown) => {
        // Kept: every reader, also a later one, gets the same failure.
        this.finish()
        throw this.failed(error)
      }
    )
    return this.pulling
  }

  /** @internal */
  leave(): void {
    this.readers--
    if (this.readers === 0 && !this.ended) this.answer.cancel()
  }

  private finish(): void {
    this.ended = true
    forgotten.unregister(this)
  }
}
