/**
 * Going on with an answer that broke, as both HTTP backends do it: one request after another until it is known how
 * this server can go on, and then the request that does.
 *
 * What the new text must first repeat is told to the sink before any of it comes (`joins`): nothing where the server
 * goes on from the exact place, the whole text so far where it begins anew.
 *
 * | server | request | repeats |
 * |---|---|---|
 * | goes on | the text so far as the last message, left open | nothing |
 * | goes on, but trims | the same | the white space at the end |
 * | echoes | the same | the text so far |
 * | begins anew, or refuses | as it was at first | the text so far |
 *
 * Where it is a text that is completed, and no conversation answered, nothing of this is needed: see `continuationRequest`.
 *
 * @since 0.1.0
 */
import type {
  Finish,
  PartialAnswer,
  ResumeSink,
  ResumeSupport,
  ResumeSupportCache,
  ServerFailure,
  Sink,
  TrialListener
} from "../Backend.js"
import { type ChatRequest, promptOf } from "../ChatRequest.js"
import * as Message from "../Message.js"
import type { Server } from "../Server.js"
import type { Exchange } from "../Transport.js"
import { isRejection, trialRequest } from "./resumeSupport.js"

// =============================================================================
// requests
// =============================================================================

/**
 * The limit of tokens that a server will hold to, wherever the caller has set it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const tokenLimit = (request: ChatRequest): number | undefined => {
  const own = request.options?.["num_predict"]
  return typeof own !== "number" ? request.maxTokens : own > 0 ? own : undefined
}

/**
 * The stop sequences that a server will hold to, wherever the caller has set them.
 *
 * @since 0.1.0
 * @category accessors
 */
export const stops = (request: ChatRequest): ReadonlyArray<string> => {
  const own = request.options?.["stop"]
  return Array.isArray(own) ? own.filter((stop): stop is string => typeof stop === "string") : request.stop
}

/**
 * The request for what remains after so many tokens.
 *
 * @since 0.1.0
 * @category combinators
 */
export const less = (request: ChatRequest, tokens: number): ChatRequest => {
  const limit = tokenLimit(request)
  if (limit === undefined || tokens === 0) return request
  const left = Math.max(1, limit - tokens)
  return typeof request.options?.["num_predict"] === "number"
    ? { ...request, options: { ...request.options, num_predict: left } }
    : { ...request, maxTokens: left }
}

/**
 * The request with the text so far as the beginning of its answer.
 *
 * @since 0.1.0
 * @category combinators
 */
export const openEnded = (request: ChatRequest, text: string, { thinking, tokens }: PartialAnswer): ChatRequest => ({
  ...less(request, tokens),
  messages: [
    ...request.messages,
    thinking === "" ? Message.assistant(text) : { role: "assistant", content: text, thinking }
  ]
})

/**
 * Text without the first half of a character whose second half has not come: JSON could not carry it.
 *
 * @since 0.1.0
 * @category combinators
 */
export const wellFormed = (text: string): string => {
  const last = text.charCodeAt(text.length - 1)
  return last >= 0xd800 && last <= 0xdbff ? text.slice(0, -1) : text
}

/**
 * How many tokens are counted once more where only a part of the text so far was sent: white space, or a character.
 *
 * @since 0.1.0
 * @category accessors
 */
export const repeats = (text: string, sent: string): number => (sent.length < text.length ? 1 : 0)

/**
 * Whether an answer to this request can be gone on with at all. A grammar would begin again in the middle of JSON;
 * and where the caller had begun the answer himself, what the server made of that is not known.
 *
 * @since 0.1.0
 * @category accessors
 */
export const continuable = (request: ChatRequest): boolean =>
  request.format === "text" && request.messages.at(-1)?.role !== "assistant"

/**
 * The request for the rest of a text that is completed: what has come of it is a part of the text now, which on every
 * server is the exact place.
 *
 * @since 0.1.0
 * @category combinators
 */
export const continuationRequest = (request: ChatRequest, partial: PartialAnswer, sink: ResumeSink): ChatRequest => {
  const sent = wellFormed(partial.text)
  const repeated = repeats(partial.text, sent)
  sink.joins(partial.text.slice(sent.length), repeated, "continues")
  return { ...less(request, partial.tokens - repeated), messages: [Message.user(promptOf(request) + sent)] }
}

// =============================================================================
// steps
// =============================================================================

/**
 * Several exchanges after one another that are one to whoever waits.
 *
 * @since 0.1.0
 * @category models
 */
export class Steps implements Exchange {
  private current: Exchange | undefined
  private steps = 0
  private over = false
  private paused = false

  /** Begins the next one. The one before must have ended. */
  next(start: () => Exchange): void {
    if (this.over) return
    const step = ++this.steps
    const exchange = start()
    if (this.over) exchange.abort()
    else if (step === this.steps) {
      this.current = exchange
      if (this.paused) exchange.pause()
    }
  }

  abort(): void {
    this.over = true
    this.current?.abort()
  }
  pause(): void {
    this.paused = true
    this.current?.pause()
  }
  resume(): void {
    this.paused = false
    this.current?.resume()
  }
}

/**
 * Passes everything on, but a refusal: then `refused` is called instead.
 *
 * @since 0.1.0
 * @category models
 */
export class FallbackSink implements Sink {
  readonly context: Sink["context"]

  constructor(
    private readonly sink: Sink,
    private readonly refused: (failure: ServerFailure) => void
  ) {
    this.context = sink.context
  }

  connected(): void {
    this.sink.connected()
  }
  read(): void {
    this.sink.read()
  }
  text(content: string): void {
    this.sink.text(content)
  }
  thinking(content: string): void {
    this.sink.thinking(content)
  }
  toolCallDelta(index: number, id: string, name: string, text: string): void {
    this.sink.toolCallDelta?.(index, id, name, text)
  }
  toolCall(call: Message.ToolCall): void {
    this.sink.toolCall(call)
  }
  progress(): void {
    this.sink.progress?.()
  }
  finish(finish: Finish): void {
    this.sink.finish(finish)
  }
  flush(): void {
    this.sink.flush()
  }
  fail(failure: ServerFailure): void {
    // A status comes instead of an answer, never in the middle of it.
    if (isRejection(failure) && failure.status !== undefined) this.refused(failure)
    else this.sink.fail(failure)
  }
}

/**
 * How a protocol sends a request: as it is, or with its last message left open for the model to go on with.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResumeProtocol {
  readonly plain: (request: ChatRequest, sink: Sink) => Exchange
  readonly open: (request: ChatRequest, sink: Sink) => Exchange
}

/**
 * The whole answer once more: what is known of it must be repeated.
 *
 * @since 0.1.0
 * @category constructors
 */
export const startAgain = (
  steps: Steps,
  request: ChatRequest,
  partial: PartialAnswer,
  sink: ResumeSink,
  protocol: ResumeProtocol
): void => {
  sink.joins(partial.text, partial.tokens, "restarts")
  steps.next(() => protocol.plain(request, sink))
}

/**
 * Goes on in the way that this server is known to take, or else is found to take by a trial.
 *
 * @since 0.1.0
 * @category constructors
 */
export const resume = (
  steps: Steps,
  server: Server,
  request: ChatRequest,
  partial: PartialAnswer,
  sink: ResumeSink,
  protocol: ResumeProtocol,
  resumeSupport: ResumeSupportCache
): void => {
  const { calls, text } = partial
  const fromStart = () => startAgain(steps, request, partial, sink, protocol)
  const open = (support: ResumeSupport, sent: string, expected: string, repeated: number) => {
    // Blank messages are left out of histories, and a template trims them.
    if (sent.trim() === "") {
      fromStart()
      return
    }
    const asked = openEnded(request, sent, { ...partial, tokens: partial.tokens - repeated })
    sink.joins(expected, repeated, support)
    steps.next(() => protocol.open(asked, new FallbackSink(sink, fromStart)))
  }
  const shown = (support: ResumeSupport) => {
    const whole = wellFormed(text)
    switch (support) {
      case "continues":
        open(support, whole, text.slice(whole.length), repeats(text, whole))
        return
      case "trims": {
        const trimmed = whole.trimEnd()
        open(support, trimmed, text.slice(trimmed.length), repeats(text, trimmed))
        return
      }
      case "echoes":
        open(support, whole, text, repeats(text, whole))
        return
      case "restarts":
        fromStart()
    }
  }
  // What comes after a text that is gone on with would be a call of its own, and not the one that had begun.
  if (calls.length > 0) {
    fromStart()
    return
  }
  const asker: TrialListener = {
    connected: () => sink.connected(),
    read: () => sink.read(),
    shown,
    fail: (failure) => sink.fail(failure)
  }
  const trial = (trialSink: Sink) => protocol.open(trialRequest(request), trialSink)
  steps.next(() => resumeSupport.support(server.url, request.model, trial, asker))
}
