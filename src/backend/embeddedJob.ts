/** One request of the engine: its events for the sink, also while its reader is paused. */
import type { Finish, ServerFailure, Sink } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { ToolCall } from "../Message.js"

/** What waits for a paused reader, in order: text and reasoning that follow each other are one piece. */
type PendingPiece =
  | { readonly type: "text"; text: string; logprobs: ReadonlyArray<unknown> | undefined }
  | { readonly type: "thinking"; text: string }
  | { readonly type: "call"; readonly call: ToolCall }

/**
 * Pieces that follow the last ones sooner than this, in milliseconds, are handed on together: waking a reader and
 * writing to a socket for each token would take a fast model more time than some tokens do.
 */
const gathering = 4

/** While a reader is paused the engine continues, so that one slow reader never holds a sequence. */
export class Job {
  private held: Array<PendingPiece> = []
  private end: { readonly finish?: Finish; readonly failure?: ServerFailure } | undefined
  private reported = false
  private paused = false
  private cancel: (() => void) | undefined
  private flushedAt = Number.NEGATIVE_INFINITY
  private gathered: ReturnType<typeof setTimeout> | undefined

  constructor(
    readonly request: ChatRequest,
    private readonly sink: Sink
  ) {}

  /** Nothing more may be emitted: it has ended, or was aborted. */
  get over(): boolean {
    return this.reported || this.end !== undefined
  }

  connected(): void {
    if (!this.reported) this.sink.connected()
  }

  /** A sign of life: a part of the prompt was evaluated, or a piece came that cannot be emitted yet. */
  progress(): void {
    if (this.over || this.paused) return
    this.sink.read()
    this.sink.progress?.()
    this.flush(performance.now())
  }

  text(text: string, logprobs?: ReadonlyArray<unknown>): void {
    if (text === "" || this.over) return
    const last = this.held.at(-1)
    if (last?.type === "text") {
      last.text += text
      if (logprobs !== undefined) last.logprobs = [...(last.logprobs ?? []), ...logprobs]
    } else this.held.push({ type: "text", text, logprobs })
    this.drain()
  }

  thinking(text: string): void {
    if (text === "" || this.over) return
    const last = this.held.at(-1)
    if (last?.type === "thinking") last.text += text
    else this.held.push({ type: "thinking", text })
    this.drain()
  }

  toolCall(call: ToolCall): void {
    if (this.over) return
    this.held.push({ type: "call", call })
    this.drain()
  }

  finish(finish: Finish): void {
    this.end ??= { finish }
    this.drain()
  }

  fail(failure: ServerFailure): void {
    this.end ??= { failure }
    this.drain()
    this.cancel?.()
  }

  abort(): void {
    this.reported = true
    this.held = []
    clearTimeout(this.gathered)
    this.cancel?.()
  }

  /** Called once when it is aborted or fails. */
  onCancel(cancel: (() => void) | undefined): void {
    this.cancel = cancel
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    this.drain()
  }

  private drain(): void {
    const { end, held, sink } = this
    if (this.reported || this.paused || (held.length === 0 && end === undefined)) return
    this.held = []
    this.reported = end !== undefined
    if (held.length > 0 || end?.finish !== undefined) {
      sink.read()
      for (const one of held) {
        if (one.type === "call") sink.toolCall(one.call)
        else if (one.type === "thinking") sink.thinking(one.text)
        else {
          if (one.logprobs !== undefined && one.logprobs.length > 0) sink.logprobs?.(one.logprobs)
          sink.text(one.text)
        }
      }
      if (end?.finish !== undefined) sink.finish(end.finish)
      this.flushSoon(end !== undefined)
    } else clearTimeout(this.gathered)
    if (end?.failure !== undefined) sink.fail(end.failure)
  }

  private flushSoon(now: boolean): void {
    // A piece can make its reader abort.
    if (this.reported && !now) return
    const time = performance.now()
    const waits = this.flushedAt + gathering - time
    if (now || waits <= 0) this.flush(time)
    else this.gathered ??= setTimeout(() => this.flush(performance.now()), Math.ceil(waits))
  }

  private flush(time: number): void {
    clearTimeout(this.gathered)
    this.gathered = undefined
    this.flushedAt = time
    this.sink.flush()
  }
}
