/**
 * Resumes a broken answer, for both HTTP backends: requests follow one another until it is known how this server can
 * continue, then the one that does.
 *
 * What the new text must first repeat is passed to the sink before any of it comes (`joins`): nothing if the server
 * continues from the exact place, the whole partial answer if it restarts.
 *
 * | server | request | repeats |
 * |---|---|---|
 * | continues | the text so far as the last message, left open | nothing |
 * | continues, but trims | the same | the white space at the end |
 * | echoes | the same | the text so far |
 * | restarts, or refuses | as it was at first | the text so far |
 *
 * Text completion needs none of this: see `continuationRequest`.
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
// Requests
// =============================================================================

/** The token limit that applies on the server, wherever the caller has set it. */
export const tokenLimit = (request: ChatRequest): number | undefined => {
  const own = request.options?.["num_predict"]
  return typeof own !== "number" ? request.maxTokens : own > 0 ? own : undefined
}

/** The stop sequences that apply on the server, wherever the caller has set them. */
export const stops = (request: ChatRequest): ReadonlyArray<string> => {
  const own = request.options?.["stop"]
  return Array.isArray(own) ? own.filter((stop): stop is string => typeof stop === "string") : request.stop
}

/** The request for the rest after this many tokens. */
export const less = (request: ChatRequest, tokens: number): ChatRequest => {
  const limit = tokenLimit(request)
  if (limit === undefined || tokens === 0) return request
  const left = Math.max(1, limit - tokens)
  return typeof request.options?.["num_predict"] === "number"
    ? { ...request, options: { ...request.options, num_predict: left } }
    : { ...request, maxTokens: left }
}

/** The request with the partial answer as the beginning of its answer. */
export const openEnded = (request: ChatRequest, text: string, { thinking, tokens }: PartialAnswer): ChatRequest => ({
  ...less(request, tokens),
  messages: [
    ...request.messages,
    thinking === "" ? Message.assistant(text) : { role: "assistant", content: text, thinking }
  ]
})

/** Removes a trailing unpaired surrogate: JSON could not carry it. */
export const wellFormed = (text: string): string => {
  const last = text.charCodeAt(text.length - 1)
  return last >= 0xd800 && last <= 0xdbff ? text.slice(0, -1) : text
}

/**
 * Tokens counted twice when only a part of the partial answer was sent (without trailing white space or half a
 * character).
 */
export const repeats = (text: string, sent: string): number => (sent.length < text.length ? 1 : 0)

/**
 * Whether an answer to this request can be continued at all. A grammar would restart in the middle of JSON; and if the
 * caller prefilled the answer, how the server treated that is unknown.
 */
export const continuable = (request: ChatRequest): boolean =>
  request.format === "text" && request.messages.at(-1)?.role !== "assistant"

/**
 * The request for the rest of a text completion: the partial output is appended to the prompt, which is the exact place
 * on every server.
 */
export const continuationRequest = (request: ChatRequest, partial: PartialAnswer, sink: ResumeSink): ChatRequest => {
  const sent = wellFormed(partial.text)
  const repeated = repeats(partial.text, sent)
  sink.joins(partial.text.slice(sent.length), repeated, "continues")
  return { ...less(request, partial.tokens - repeated), messages: [Message.user(promptOf(request) + sent)] }
}

// =============================================================================
// Steps
// =============================================================================

/** Several consecutive exchanges that look like one to the caller. */
export class Steps implements Exchange {
  private current: Exchange | undefined
  private steps = 0
  private over = false
  private paused = false

  /** Starts the next exchange. The previous one must have ended. */
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

/** Passes everything on except a rejection: then `refused` is called instead. */
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
    // A status replaces an answer; it never comes in the middle of one.
    if (isRejection(failure) && failure.status !== undefined) this.refused(failure)
    else this.sink.fail(failure)
  }
}

/** How a protocol sends a request: as it is, or with its last message left open for the model to continue. */
export interface ResumeProtocol {
  readonly plain: (request: ChatRequest, sink: Sink) => Exchange
  readonly open: (request: ChatRequest, sink: Sink) => Exchange
}

/** The whole answer once more: the known part must be repeated. */
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

/** Continues in the way that this server is known to support, or is found to support by a trial. */
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
    const continuation = openEnded(request, sent, { ...partial, tokens: partial.tokens - repeated })
    sink.joins(expected, repeated, support)
    steps.next(() => protocol.open(continuation, new FallbackSink(sink, fromStart)))
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
  // A new tool call would not be the one that had begun.
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
