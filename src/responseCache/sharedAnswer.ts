/**
 * One answer shared by all concurrent identical requests.
 *
 * Like `failover/answer`, this is the token path: plain code, no Effect. A `SharedAnswer` is the answer, asked of a
 * server once or found in the cache; a `Reader` is one caller's view of it, with its own start, deadline and session.
 * The answer is pulled only when a reader wants more, so a slow reader applies back-pressure, and the fastest of
 * several sets the pace. Events of an answer too long to be cached are dropped once all readers have read them.
 */
import type { ChatEvent, End } from "../ChatEvent.js"
import {
  AllServersFailed,
  type Attempt,
  DeadlineExceeded,
  StreamInterrupted,
  TurnNotStored,
  type Unreachable
} from "../Errors.js"
import { type Batch, type Call, EventBuffer, type OpenAnswer, type Result } from "../Failover.js"
import { endOf, warned } from "../failover/answerEnd.js"
import * as Telemetry from "../Telemetry.js"
import * as Entry from "./entry.js"

/**
 * What a shared answer needs of its cache.
 *
 * - `hit`, `missed`, `shared`: called once per reader
 */
export interface SharedAnswerHost {
  readonly now: () => number
  /** The servers that could not be asked for their models. */
  readonly unreachable: () => ReadonlyArray<Unreachable>
  /** Approximate bytes of events held for later readers. */
  readonly limit: number
  readonly hit: () => void
  readonly missed: () => void
  readonly shared: () => void
  /** No reader can join any more. */
  readonly closed: (shared: SharedAnswer) => void
  /** The last reader has left before the end. */
  readonly abandoned: (shared: SharedAnswer) => void
  /** The answer is complete; `wanted` is whether any reader could use it. Returns the entry as stored. */
  readonly completed: (
    shared: SharedAnswer,
    result: Result,
    course: Entry.AnswerContent | undefined,
    wanted: boolean
  ) => void
}

/** Approximate overhead of an event in memory. */
const overhead = 100

// =============================================================================
// Shared answer
// =============================================================================

export class SharedAnswer {
  /** The cached entry, once known. */
  entry: Entry.Entry | undefined
  end: End | undefined
  text = ""
  readonly attempts: Array<Attempt> = []

  private readonly readers = new Set<Reader>()
  private answer: OpenAnswer | undefined
  private events: Array<ChatEvent> = []
  /** Number of dropped events. */
  private dropped = 0
  private held = 0
  private thinking = ""
  private pieces: Array<number> = []
  /** Whether all events are still there for a new reader. */
  private whole = true
  private pulling = false
  private over = false
  private error: { readonly cause: unknown } | undefined
  private counted = false

  constructor(
    private readonly host: SharedAnswerHost,
    /** The call as servers see it. */
    readonly call: Call
  ) {}

  get isOver(): boolean {
    return this.over
  }

  /** Number of events so far. */
  get count(): number {
    return this.dropped + this.events.length
  }

  /** The events from index `at` on. */
  since(at: number): ReadonlyArray<ChatEvent> {
    return this.events.slice(at - this.dropped)
  }

  // ---------------------------------------------------------------------------
  // Called by the cache
  // ---------------------------------------------------------------------------

  /** No server is needed: the answer was cached. */
  found(entry: Entry.Entry): void {
    this.entry = entry
    for (const reader of [...this.readers]) {
      this.host.hit()
      reader.found(entry)
    }
  }

  /** A server is asked. */
  begun(answer: OpenAnswer): void {
    this.answer = answer
    for (const reader of this.readers) this.countAsked(reader)
    this.pump()
  }

  fail(error: unknown): void {
    if (this.over) return
    this.over = true
    this.error = { cause: error }
    this.host.closed(this)
    for (const reader of [...this.readers]) reader.fail(error, this.answer !== undefined)
  }

  // ---------------------------------------------------------------------------
  // Called by readers
  // ---------------------------------------------------------------------------

  join(reader: Reader): void {
    this.readers.add(reader)
    if (this.entry !== undefined) {
      this.host.hit()
      reader.found(this.entry)
    } else if (this.error !== undefined) reader.fail(this.error.cause, this.answer !== undefined)
    else if (this.answer !== undefined) this.countAsked(reader)
  }

  /** The server is asked on behalf of the first reader. */
  private countAsked(reader: Reader): void {
    if (this.counted) this.host.shared()
    else this.host.missed()
    this.counted = true
    if (reader.call !== this.call) reader.shares()
  }

  leave(reader: Reader): void {
    if (!this.readers.delete(reader) || this.over) return
    if (this.readers.size > 0 || this.entry !== undefined) {
      this.taken()
      this.pump()
      return
    }
    this.over = true
    this.answer?.cancel()
    this.host.abandoned(this)
  }

  /** A reader has read: events that no reader needs any more are dropped. */
  taken(): void {
    if (this.whole) return
    let first = this.count
    for (const reader of this.readers) first = Math.min(first, reader.position)
    this.events.splice(0, first - this.dropped)
    this.dropped = first
  }

  /** Pulls more, if a reader waits for it. */
  pump(): void {
    const { answer } = this
    if (answer === undefined || this.pulling || this.over) return
    let wanted = false
    for (const reader of this.readers) wanted ||= reader.waits
    if (!wanted) return
    this.pulling = true
    answer.pull().then(
      (batch) => {
        this.pulling = false
        if (this.over) return
        if (batch !== undefined) this.read(batch)
        if (batch === undefined || this.end !== undefined) this.complete(answer)
        else this.pump()
      },
      (error: unknown) => this.fail(error)
    )
  }

  private read(batch: Batch): void {
    for (const event of batch) {
      if (event.type === "start") continue
      if (event.type === "end") {
        this.end = event
        continue
      }
      this.events.push(event)
      this.held += sizeOf(event)
      if (event.type === "restart") {
        // Discards everything before a restart.
        this.text = ""
        this.thinking = ""
        this.pieces = []
      }
      if (event.type === "token") this.text += event.content
      if (event.type === "thinking") this.thinking += event.content
      if (event.type === "error") this.attempts.push(event.attempt)
      if (this.whole && (event.type === "token" || event.type === "thinking") && event.content !== "") {
        this.pieces.push(event.type === "token" ? event.content.length : -event.content.length)
      }
    }
    if (this.whole && this.held > this.host.limit) {
      this.whole = false
      this.pieces = []
      this.host.closed(this)
    }
    // The complete answer is known at the end: readers learn of both.
    if (this.end !== undefined) return
    for (const reader of [...this.readers]) reader.advance()
    this.taken()
  }

  private complete(answer: OpenAnswer): void {
    answer.result().then(
      (result) => {
        if (this.over) return
        this.over = true
        let wanted = false
        for (const reader of this.readers) wanted ||= reader.accepts(result)
        const { pieces, text, thinking, whole } = this
        this.host.completed(this, result, whole ? { text, thinking, pieces } : undefined, wanted)
        for (const reader of [...this.readers]) reader.completed(result)
      },
      (error: unknown) => this.fail(error)
    )
  }
}

const sizeOf = (event: ChatEvent): number =>
  overhead + ("content" in event && event.content !== "" ? 2 * event.content.length : 0)

// =============================================================================
// Reader
// =============================================================================

/** One caller's view of a shared answer. */
export class Reader extends EventBuffer {
  /** Number of events taken; a reader that takes none holds none back. */
  position: number

  private settled: Result | undefined
  /** The observer of its end, if no server is asked for this caller. */
  private observer: Pick<Telemetry.CallObserver, "answered" | "failed" | "closed"> | undefined
  private committing = false
  private again = false

  constructor(
    call: Call,
    private shared: SharedAnswer,
    private readonly host: Pick<SharedAnswerHost, "now" | "unreachable">,
    readonly accepts: (result: Result) => boolean,
    /** The answer to use instead if this one breaks, for a caller that has received nothing of it yet. */
    private readonly anew: (broken: StreamInterrupted) => SharedAnswer
  ) {
    super(call)
    this.position = call.events ? 0 : Number.POSITIVE_INFINITY
    this.open(call.began)
    shared.join(this)
    if (this.settled === undefined) this.expire(host.now())
  }

  // ---------------------------------------------------------------------------
  // Called by the shared answer
  // ---------------------------------------------------------------------------

  /** There are more events. */
  advance(): void {
    this.deliver()
  }

  /** It gets another caller's answer. */
  shares(): void {
    this.observer ??= Telemetry.observeCached(this.call, "shared", this.host.now())
  }

  found(entry: Entry.Entry): void {
    const now = this.host.now()
    this.observer ??= Telemetry.observeCached(this.call, "hit", now)
    if (this.call.events) this.batch.push(...Entry.toEvents(entry, now))
    this.known(Entry.toResult(entry, this.call.began, now))
  }

  completed(result: Result): void {
    const { firstTokenTime } = result
    this.known({
      ...result,
      toolCalls: structuredClone(result.toolCalls),
      firstTokenTime:
        firstTokenTime === undefined
          ? undefined
          : Math.max(0, this.shared.call.began + firstTokenTime - this.call.began)
    })
  }

  /** `asked`: a server was asked, and its caller has reported it. */
  fail(error: unknown, requested: boolean): void {
    if (this.over) return
    if (!requested) this.observer ??= Telemetry.observe(this.call, undefined, this.host.now)
    if (!(error instanceof StreamInterrupted) || this.call.events || this.again) {
      this.reject(error)
      return
    }
    this.again = true
    // As without a cache: a caller that has received nothing starts again, within its attempts.
    const { maxAttempts } = this.call.limits
    if (maxAttempts !== undefined && error.attempts.length >= maxAttempts) {
      const unasked = this.host.unreachable().filter(({ url }) => !error.attempts.some(({ server }) => server === url))
      const unreachable = unasked.length === 0 ? {} : { unreachable: unasked }
      this.reject(new AllServersFailed({ model: error.model, attempts: error.attempts, ...unreachable }))
      return
    }
    this.shared = this.anew(error)
    this.shared.join(this)
    this.shared.pump()
  }

  // ---------------------------------------------------------------------------
  // Lifecycle
  // ---------------------------------------------------------------------------

  /** Copies the available events into the batch, as this caller sees them. */
  private copy(): void {
    const { call, shared } = this
    if (!call.events || this.position >= shared.count) return
    for (const event of shared.since(this.position)) {
      const timestamp = Math.max(event.timestamp, call.began)
      if (event.type === "tool_call") {
        this.batch.push({ ...event, arguments: structuredClone(event.arguments), timestamp })
      } else this.batch.push(timestamp === event.timestamp ? event : { ...event, timestamp })
    }
    this.position = shared.count
    shared.taken()
  }

  protected override collectEvents(): void {
    if (this.over) return
    this.copy()
    if (this.settled !== undefined && this.call.events && this.call.complete === undefined) this.end(this.settled)
  }

  protected override isEmpty(): void {
    this.conclude()
    this.shared.pump()
  }

  private known(result: Result): void {
    this.settled = result
    this.deliver()
    this.conclude()
  }

  /** Once everything was delivered, the session stores the answer, and then the caller gets its end. */
  private conclude(): void {
    const { call, settled } = this
    if (settled === undefined || this.over || this.committing) return
    if (call.events && (!this.waits || this.batch.length > 0)) return
    if (call.complete === undefined) {
      this.end(settled)
      return
    }
    this.committing = true
    call.complete(settled, undefined).then(
      (completion) => {
        if (!this.over) this.end(completion instanceof TurnNotStored ? warned(settled, completion) : settled)
      },
      (error: unknown) => this.reject(error)
    )
  }

  private end(result: Result): void {
    const { call, shared, host } = this
    this.observer?.answered(result)
    if (!call.events) {
      this.settle(result, undefined)
      return
    }
    const { firstTokenTime, warnings } = result
    const timestamp = host.now()
    this.settle(
      result,
      shared.end === undefined || result.cached
        ? endOf(result, timestamp)
        : {
            ...shared.end,
            ...(firstTokenTime === undefined ? {} : { firstTokenTime }),
            ...(warnings === undefined ? {} : { warnings }),
            timestamp
          }
    )
  }

  protected override reject(error: unknown): void {
    if (!this.over) this.observer?.failed(error)
    super.reject(error)
  }

  override cancel(reason?: unknown): void {
    if (!this.over && reason === undefined) this.observer?.closed()
    super.cancel(reason)
  }

  protected override drop(): void {
    super.drop()
    this.position = Math.max(this.position, this.shared.count)
  }

  protected closing(): void {
    // Events that have arrived can still be read.
    this.copy()
    this.shared.leave(this)
  }

  protected expired(deadline: number): void {
    const { call, shared } = this
    this.reject(
      new DeadlineExceeded({
        model: call.request.model,
        deadline,
        partial: shared.text,
        attempts: [...shared.attempts]
      })
    )
  }
}
