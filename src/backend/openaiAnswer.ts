/**
 * Decodes the answers of `/v1/chat/completions` and `/v1/completions`: server-sent events, and the single object of a
 * server without streams.
 */
import type { Finish, Sink } from "../Backend.js"
import type { FinishReason, Usage } from "../ChatEvent.js"
import * as Lines from "../internal/lines.js"
import * as Template from "../internal/lineTemplate.js"
import * as Sse from "../internal/sse.js"
import { finishReason, givenUp } from "./finishReason.js"
import * as Http from "./http.js"
import * as Text from "./openaiText.js"
import { ToolCalls } from "./openaiToolCalls.js"
import { usage } from "./openaiUsage.js"

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const utf8 = new TextDecoder("utf-8")

/** Some servers send content as parts: text parts are the answer, thinking parts the reasoning. */
const takeParts = (parts: ReadonlyArray<unknown>, sink: Sink): void => {
  for (const part of parts) {
    if (!isObject(part)) throw new Http.Malformed("a part of the content is not an object")
    const { text, thinking, type } = part
    if (type === "text" && typeof text === "string") sink.text(text)
    else if (type === "thinking" && typeof thinking === "string") sink.thinking(thinking)
    else if (type === "thinking" && Array.isArray(thinking)) {
      for (const one of thinking) if (isObject(one) && typeof one["text"] === "string") sink.thinking(one["text"])
    } else throw new Http.Malformed(`a part of the content that is no text: ${String(type).slice(0, 100)}`)
  }
}

const openingBrace = 0x7b
/** Whitespace, and the bytes of a byte order mark. */
const leading: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf])

/** One event, or a part of it. */
export type Chunk = { readonly [key: string]: unknown }

/** The endpoint of an answer; see `decoder`. */
export type Kind = "chat" | "raw" | "suffix"

/** Whether a complete answer has any content. */
const hasContent = ({ choices }: Chunk): boolean => {
  const choice: unknown = Array.isArray(choices) ? choices[0] : undefined
  if (!isObject(choice)) return false
  const message = isObject(choice["message"]) ? choice["message"] : choice
  return ["content", "text", "reasoning", "reasoning_content", "tool_calls"].some((name) => {
    const part = message[name]
    return (typeof part === "string" || Array.isArray(part)) && part.length > 0
  })
}

/** Reads one answer; see `decoder`. */
export class AnswerDecoder implements Http.Decoder {
  protected over = false
  protected broken = false
  /** The stream ended without an end marker: what follows the finish reason may be missing. */
  protected early = false
  /** The last chunk had usage only, after at least one choice. */
  protected chosen = false
  protected totalled = false
  /** The first chunk that is not part of an answer. */
  private strange: string | undefined
  protected reason: FinishReason | undefined
  private stopped: unknown
  protected counted: Usage = {}
  /** llama.cpp's own timings. */
  private timed: Pick<Finish, "promptEvaluated" | "promptTime" | "tokensPerSecond"> | undefined
  private calls: ToolCalls | undefined
  private bytes = 0
  private events = 0
  /** The chunks of an answer that is not a stream; `false` if it is one. */
  private body: Array<Uint8Array> | undefined | false
  private readonly template: Template.Template
  private readonly stream: Lines.Lines

  constructor(
    protected readonly sink: Sink,
    protected readonly kind: Kind
  ) {
    const template = Template.make(kind === "chat" ? "content" : "text")
    const say = (content: string): void => {
      this.totalled = false
      sink.text(content)
    }
    this.template = template
    this.stream = Sse.make(
      (data, before, event) => this.take(data, before, event),
      (text, from) => (this.over ? from : template.read(text, from, say))
    )
  }

  feed(read: Uint8Array): void {
    this.bytes += read.length
    let from = 0
    if (this.body === undefined) {
      from = read.findIndex((byte) => !leading.has(byte))
      if (from >= 0) this.body = read[from] === openingBrace ? [] : false
    }
    if (this.body === undefined || this.body === false) this.readEvents(read)
    else if (this.bytes > Lines.maxLineBytes) throw new Lines.LineTooLong()
    else this.body.push(new Uint8Array(read.subarray(from)))
  }

  private readEvents(read: Uint8Array): void {
    try {
      this.stream.feed(read)
    } catch (error) {
      const unreadable = error instanceof Http.Malformed || error instanceof Lines.LineTooLong
      if (this.reason === undefined || !unreadable) throw error
      // The answer is complete: only its usage is unknown.
      this.broke()
    }
  }

  end(): void {
    if (this.body !== undefined && this.body !== false) this.takeBody(this.body)
    else {
      try {
        this.stream.end()
      } catch (error) {
        // The answer was already complete.
        if (this.reason === undefined && !this.totalled) throw error
        this.broken = true
      }
      this.early = true
    }
    this.close()
    if (this.over || this.bytes === 0 || this.body) return
    if (this.events === 0) throw new Http.Malformed("what came back is not an event stream")
    if (!this.chosen && this.strange !== undefined) throw new Http.Malformed(`no choices in ${this.strange}`)
  }

  broke(): void {
    this.broken = true
    this.close()
  }

  finished(): boolean {
    return this.over
  }

  /** Ends the answer. The last usage is the total. */
  private close(): void {
    if (this.totalled) this.reason ??= "stop"
    this.complete()
  }

  protected complete(): void {
    const { broken, calls, counted, early, reason, stopped, timed } = this
    if (this.over || reason === undefined) return
    const calledTools = calls !== undefined && !calls.empty
    calls?.take(reason === "length")
    this.over = true
    const reported = calledTools && reason === "stop" ? "tool_calls" : reason
    const uncounted = (broken || early) && counted.completionTokens === undefined
    const finish: Finish =
      reported === "stop" && typeof stopped === "string"
        ? { reason: reported, usage: counted, stopSequence: stopped }
        : { reason: reported, usage: counted }
    this.tell(uncounted || timed !== undefined ? { ...finish, ...(uncounted ? { uncounted } : {}), ...timed } : finish)
  }

  protected tell(finish: Finish): void {
    this.sink.finish(finish)
  }

  private take(data: string, before: string, event: string): void {
    this.events++
    if (this.over || data === "") return
    if (data.startsWith("[DONE]") && data.trim() === "[DONE]") {
      // The server's end marker.
      if (this.chosen) this.reason ??= "stop"
      this.complete()
    } else if (event === "error") throw new Http.Reported(Http.errorText(data) ?? "an error without a message")
    else if (event === "" || event === "message" || data.startsWith("{")) {
      this.takeChunk(Http.parseJson(data), `${before}${data}\n\n`)
    }
  }

  private takeBody(parts: ReadonlyArray<Uint8Array>): void {
    const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
    let at = 0
    for (const part of parts) {
      whole.set(part, at)
      at += part.length
    }
    const text = utf8.decode(whole)
    const chunk = Http.parseJson(text)
    this.takeChunk(chunk, text)
    // Usage without any content: the server has aborted the answer.
    if (this.chosen) this.totalled = (this.counted.completionTokens ?? 0) > 0 && hasContent(chunk)
    else if (this.strange !== undefined) throw new Http.Malformed(`no choices in ${this.strange}`)
  }

  /** `lines` is the raw event. */
  private takeChunk(chunk: Chunk, lines: string): void {
    const { choices, error, timings, usage: reported } = chunk
    if (error !== undefined && error !== null) {
      throw Http.reported(chunk)
    }
    if (Array.isArray(choices)) this.takeChoices(chunk, choices, lines)
    else if (chunk["object"] === "error") {
      throw Http.reported(chunk)
    } else if (choices !== null && reported === undefined && timings === undefined) {
      // A ping, prompt progress or an unknown event.
      this.strange ??= lines.slice(0, 200)
    }
    if (reported !== undefined && reported !== null) {
      this.counted = usage(reported)
      const alone = !Array.isArray(choices) || choices.length === 0
      if (alone && this.chosen && this.counted.completionTokens !== undefined) this.totalled = true
    }
    if (isObject(timings)) {
      const { cache_n, predicted_per_second, prompt_ms, prompt_n } = timings
      if (typeof cache_n === "number" && this.counted.cachedTokens === undefined) {
        this.counted = { ...this.counted, cachedTokens: cache_n }
      }
      this.timed = {
        ...(typeof predicted_per_second === "number" ? { tokensPerSecond: predicted_per_second } : {}),
        ...(typeof prompt_ms === "number" ? { promptTime: prompt_ms } : {}),
        ...(typeof prompt_n === "number" ? { promptEvaluated: prompt_n } : {})
      }
    }
  }

  protected takeChoices(chunk: Chunk, choices: ReadonlyArray<unknown>, lines: string): void {
    const choice: unknown = choices[0]
    if (!isObject(choice)) return
    this.chosen = true
    this.totalled = false
    this.takeChoice(chunk, choice, lines)
  }

  protected takeChoice(chunk: Chunk, choice: Chunk, lines: string): void {
    const { delta = choice["message"], finish_reason, logprobs } = choice
    // Some servers send an empty one in every chunk.
    const word = typeof finish_reason === "string" ? finish_reason : ""
    const reason = word === "" ? undefined : finishReason(word)
    if (word !== "" && reason === undefined) throw new Http.Reported(givenUp(word))
    const text =
      this.kind !== "chat"
        ? this.takeText(chunk, choice["text"], logprobs)
        : isObject(delta)
          ? this.takeDelta(delta, logprobs, choice["delta"] === undefined)
          : undefined
    if (reason !== undefined) {
      this.reason = reason
      // vLLM and SGLang report the stop string or a token id.
      this.stopped = choice["stop_reason"] ?? choice["matched_stop"]
    }
    // A line with a finish reason or usage must be parsed, so it cannot become a template.
    else if (text !== undefined && (logprobs ?? chunk["usage"]) == null) {
      this.template.learn(lines, text)
    }
  }

  /** The text, if the chunk held nothing else. */
  private takeText(chunk: Chunk, text: unknown, logprobs: unknown): string | undefined {
    if (this.kind === "raw" && Text.isTemplated(chunk)) throw new Http.Unable(Text.templated)
    if (typeof text !== "string" || text === "") return undefined
    const likely = Text.likelihoods(logprobs)
    if (likely !== undefined) this.sink.logprobs?.(likely)
    this.sink.text(text)
    return text
  }

  /** The text, if the chunk held nothing else. */
  private takeDelta(delta: Chunk, logprobs: unknown, whole: boolean): string | undefined {
    const { sink } = this
    const { content, function_call, reasoning, reasoning_content, refusal, tool_calls } = delta
    // Servers with both names send the same in both, or leave one empty.
    const thought =
      typeof reasoning_content === "string" && reasoning_content !== "" ? reasoning_content : (reasoning ?? "")
    let alone = thought === ""
    if (typeof thought === "string" && thought !== "") sink.thinking(thought)
    if (typeof content === "string" && content !== "") {
      const tokens = isObject(logprobs) ? logprobs["content"] : undefined
      if (Array.isArray(tokens)) sink.logprobs?.(tokens)
      sink.text(content)
    } else if (Array.isArray(content)) takeParts(content, sink)
    // A refusal is the answer's text.
    if (typeof refusal === "string" && refusal !== "") {
      sink.text(refusal)
      alone = false
    }
    if (Array.isArray(tool_calls) && tool_calls.length > 0) {
      this.calls ??= new ToolCalls(sink)
      this.calls.add(tool_calls, whole)
      alone = false
    } else if (isObject(function_call)) {
      this.calls ??= new ToolCalls(sink)
      this.calls.addOlder(function_call)
      alone = false
    }
    return alone && typeof content === "string" && content !== "" ? content : undefined
  }
}

/**
 * Decodes the events of `/v1/chat/completions`, or of `/v1/completions` for raw prompts (`raw`) and fill-in-the-middle
 * (`suffix`). The answer is complete once a finish reason came and the stream ended, with or without `[DONE]`, or
 * broke: at most the usage is missing then. Without a finish reason, it is complete with `[DONE]`, or if the stream
 * ends after a chunk with nothing but usage.
 *
 * A server without streams answers with one object: it is decoded as a single chunk.
 */
export const decoder = (sink: Sink, kind: Kind = "chat"): Http.Decoder => new AnswerDecoder(sink, kind)
