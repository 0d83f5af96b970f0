/** A streamed answer for `for await`. */
import { type ChatEvent, type StructuredEvent, text } from "../ChatEvent.js"
import type { OpenEvents } from "../chat/openEvents.js"

/** A stream that was garbage-collected cancels its server's work. */
const forgotten = new FinalizationRegistry<OpenEvents<unknown>>((answer) => answer.cancel())

class Events<Event extends StructuredEvent> implements AsyncIterator<Event, undefined> {
  private at = 0
  private left = false

  constructor(private readonly stream: ChatStream<Event>) {}

  next(): Promise<IteratorResult<Event, undefined>> {
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

  return(): Promise<IteratorResult<Event, undefined>> {
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
export class ChatStream<out Event extends StructuredEvent = ChatEvent> implements AsyncIterable<Event> {
  private readonly seen: Array<Event> = []
  private pulling: Promise<boolean> | undefined
  private readers = 0
  private ended = false

  /** The error that its readers get. @internal */
  failed: (error: unknown) => unknown = (error) => error

  /** @internal */
  constructor(private readonly answer: OpenEvents<Event>) {
    forgotten.register(this, answer, this)
  }

  /** The events so far. */
  get events(): ReadonlyArray<Event> {
    return this.seen
  }

  [Symbol.asyncIterator](): AsyncIterator<Event, undefined> {
    this.readers++
    return new Events(this)
  }

  /** The complete text once the answer is complete; the partial one if it was cancelled. */
  async text(): Promise<string> {
    await this.toEnd()
    return text(this.seen)
  }

  /** Reads all events. */
  protected async toEnd(): Promise<void> {
    this.readers++
    try {
      while (await this.more()) {
        // Everything is in `seen`.
      }
    } finally {
      this.leave()
    }
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

/**
 * The events of an answer that must be JSON, with the value as it grows (`partial`), which is not checked, and at the
 * end the value (`value`). A reply that does not fit is sent back to the model once (`repair`): what was given out
 * before is then void.
 *
 * @since 0.2.0
 * @category models
 */
export class StructuredStream<out A = unknown, out P = unknown> extends ChatStream<StructuredEvent<A, P>> {
  /**
   * The value, checked, once the answer is complete. Rejects with `SchemaMismatch` if it does not fit, and with an
   * `AbortError` if the stream was cancelled.
   */
  async value(): Promise<A> {
    await this.toEnd()
    for (const event of this.events) if (event.type === "value") return event.value
    throw new DOMException("The stream was cancelled before its value was complete.", "AbortError")
  }
}
