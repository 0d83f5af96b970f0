/**
 * Reads the answers of `/v1/chat/completions` and `/v1/completions`: server-sent events, and the one object of a server without streams.
 *
 * @since 0.1.0
 */
import type { Finish, Sink } from "../Backend.js"
import type { FinishReason, Usage } from "../ChatEvent.js"
import * as Lines from "../internal/lines.js"
import * as Sse from "../internal/sse.js"
import * as Template from "../internal/template.js"
import * as Http from "./http.js"
import * as Text from "./openaiText.js"

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const utf8 = new TextDecoder("utf-8")

const finishReason = (reason: string): FinishReason => {
  switch (reason) {
    case "length":
    case "content_filter":
    case "tool_calls":
      return reason
    case "function_call":
      return "tool_calls"
    default:
      return "stop"
  }
}

const usage = (value: unknown): Usage => {
  if (typeof value !== "object" || value === null) return {}
  const { completion_tokens, prompt_tokens, total_tokens } = value as { readonly [key: string]: unknown }
  if (typeof prompt_tokens === "number" && typeof completion_tokens === "number" && typeof total_tokens === "number") {
    return { promptTokens: prompt_tokens, completionTokens: completion_tokens, totalTokens: total_tokens }
  }
  return {
    ...(typeof prompt_tokens === "number" ? { promptTokens: prompt_tokens } : {}),
    ...(typeof completion_tokens === "number" ? { completionTokens: completion_tokens } : {}),
    ...(typeof total_tokens === "number" ? { totalTokens: total_tokens } : {})
  }
}

interface PartialCall {
  id: string
  name: string
  arguments: string
}

/**
 * Puts the pieces of tool calls together. Pieces belong together by `index`; a new `id` at the same index is a new
 * call all the same, because some servers give every call index 0.
 */
class ToolCalls {
  private readonly calls: Array<PartialCall> = []
  private readonly byIndex = new Map<number, PartialCall>()

  add(piece: unknown): void {
    const { function: called, id, index } = (piece ?? {}) as { readonly [key: string]: unknown }
    const { arguments: args, name } = (called ?? {}) as { readonly [key: string]: unknown }
    const at = typeof index === "number" ? index : this.calls.length
    let call = this.byIndex.get(at)
    const fresh = typeof id === "string" && id !== "" && call !== undefined && call.id !== "" && call.id !== id
    if (call === undefined || fresh) {
      call = { id: "", name: "", arguments: "" }
      this.calls.push(call)
      this.byIndex.set(at, call)
    }
    if (typeof id === "string" && id !== "") call.id = id
    if (typeof name === "string" && call.name === "") call.name = name
    if (typeof args === "string") call.arguments += args
    else if (typeof args === "object" && args !== null) call.arguments = JSON.stringify(args)
  }

  /** A call in the form that came before tools: there is one at most, and it has no id. */
  addOlder(called: object): void {
    this.add({ index: 0, function: called })
  }

  get empty(): boolean {
    return this.calls.length === 0
  }

  take(sink: Sink): void {
    for (const call of this.calls) {
      if (call.name === "") throw new Http.Malformed("a tool call without a name")
      sink.toolCall({
        id: call.id === "" ? Http.callId() : call.id,
        name: call.name,
        arguments: call.arguments.trim() === "" ? {} : Http.parseJson(call.arguments)
      })
    }
    this.calls.length = 0
  }
}

/** Some servers write a content as parts: what is text is said, what is thinking thought. */
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
/** Blanks, and the bytes of a byte order mark. */
const leading: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf])

type Chunk = { readonly [key: string]: unknown }

class AnswerDecoder implements Http.Decoder {
  private over = false
  private broken = false
  private reason: FinishReason | undefined
  private stopped: unknown
  private counted: Usage = {}
  /** llama.cpp's own figures. */
  private timed: Pick<Finish, "promptEvaluated" | "promptTime" | "tokensPerSecond"> | undefined
  private calls: ToolCalls | undefined
  private bytes = 0
  private events = 0
  /** The pieces of an answer that is no stream; `false` where it is one. */
  private body: Array<Uint8Array> | undefined | false
  private readonly template: Template.Template
  private readonly stream: Lines.Lines

  constructor(
    private readonly sink: Sink,
    private readonly kind: "chat" | "raw" | "suffix"
  ) {
    const template = Template.make(kind === "chat" ? "content" : "text")
    const say = (content: string): void => sink.text(content)
    this.template = template
    this.stream = Sse.make(
      (data, before) => this.take(data, before),
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
    if (this.body === undefined || this.body === false) this.stream.feed(read)
    else if (this.bytes > Lines.maxLineBytes) throw new Lines.LineTooLong()
    else this.body.push(new Uint8Array(read.subarray(from)))
  }

  end(): void {
    if (this.body !== undefined && this.body !== false) this.takeBody(this.body)
    else {
      try {
        this.stream.end()
      } catch (error) {
        // Only the end of a complete answer was torn off.
        if (this.reason === undefined) throw error
        this.broken = true
      }
    }
    this.complete()
    if (!this.over && this.events === 0 && this.bytes > 0 && !this.body) {
      throw new Http.Malformed("what came back is not an event stream")
    }
  }

  broke(): void {
    this.broken = true
    this.complete()
  }

  finished(): boolean {
    return this.over
  }

  private complete(): void {
    const { broken, calls, counted, reason, stopped, timed } = this
    if (this.over || reason === undefined) return
    const calledTools = calls !== undefined && !calls.empty
    calls?.take(this.sink)
    this.over = true
    const told = calledTools && reason === "stop" ? "tool_calls" : reason
    const uncounted = broken && counted.completionTokens === undefined
    const finish: Finish =
      told === "stop" && typeof stopped === "string"
        ? { reason: told, usage: counted, stopSequence: stopped }
        : { reason: told, usage: counted }
    this.sink.finish(
      uncounted || timed !== undefined ? { ...finish, ...(uncounted ? { uncounted } : {}), ...timed } : finish
    )
  }

  private take(data: string, before: string): void {
    this.events++
    if (this.over || data === "") return
    if (data === "[DONE]") this.complete()
    else this.takeChunk(Http.parseJson(data), `${before}${data}\n\n`)
  }

  private takeBody(parts: ReadonlyArray<Uint8Array>): void {
    const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
    let at = 0
    for (const part of parts) {
      whole.set(part, at)
      at += part.length
    }
    const text = utf8.decode(whole)
    this.takeChunk(Http.parseJson(text), text)
  }

  /** `lines` is the event as it came. */
  private takeChunk(chunk: Chunk, lines: string): void {
    const { choices, error, timings, usage: told } = chunk
    if (error !== undefined && error !== null) {
      throw new Http.Reported(Http.errorText(chunk) ?? "an error without a message")
    }
    if (Array.isArray(choices)) {
      const choice: unknown = choices[0]
      if (isObject(choice)) this.takeChoice(chunk, choice, lines)
    } else if (chunk["object"] === "error") {
      throw new Http.Reported(Http.errorText(chunk) ?? "an error without a message")
    } else if (choices !== null && told === undefined && timings === undefined) {
      throw new Http.Malformed(`no choices in ${lines.slice(0, 200)}`)
    }
    if (told !== undefined && told !== null) this.counted = usage(told)
    if (isObject(timings)) {
      const { predicted_per_second, prompt_ms, prompt_n } = timings
      this.timed = {
        ...(typeof predicted_per_second === "number" ? { tokensPerSecond: predicted_per_second } : {}),
        ...(typeof prompt_ms === "number" ? { promptTime: prompt_ms } : {}),
        ...(typeof prompt_n === "number" ? { promptEvaluated: prompt_n } : {})
      }
    }
  }

  private takeChoice(chunk: Chunk, choice: Chunk, lines: string): void {
    const { delta = choice["message"], finish_reason, logprobs } = choice
    if (finish_reason === "error") throw new Http.Reported("the server gave the answer up without saying why")
    const said =
      this.kind !== "chat"
        ? this.takeText(chunk, choice["text"], logprobs)
        : isObject(delta)
          ? this.takeDelta(delta, logprobs)
          : undefined
    // Some servers have an empty one in every chunk.
    if (typeof finish_reason === "string" && finish_reason !== "") {
      this.reason = finishReason(finish_reason)
      // In vLLM's words, or SGLang's: a text, or the number of a token.
      this.stopped = choice["stop_reason"] ?? choice["matched_stop"]
    }
    // A template may hold nothing else that counts: a finish reason or usage must be read.
    else if (said !== undefined && (logprobs ?? chunk["usage"]) == null) {
      this.template.learn(lines, said)
    }
  }

  /** What was said, if there was nothing besides. */
  private takeText(chunk: Chunk, text: unknown, logprobs: unknown): string | undefined {
    if (this.kind === "raw" && Text.isTemplated(chunk)) throw new Http.Unable(Text.templated)
    if (typeof text !== "string" || text === "") return undefined
    const likely = Text.likelihoods(logprobs)
    if (likely !== undefined) this.sink.logprobs?.(likely)
    this.sink.text(text)
    return text
  }

  /** What was said, if there was nothing besides. */
  private takeDelta(delta: Chunk, logprobs: unknown): string | undefined {
    const { sink } = this
    const { content, function_call, reasoning, reasoning_content, refusal, tool_calls } = delta
    const thought = reasoning_content ?? reasoning
    if (typeof thought === "string" && thought !== "") sink.thinking(thought)
    if (typeof content === "string" && content !== "") {
      const tokens = isObject(logprobs) ? logprobs["content"] : undefined
      if (Array.isArray(tokens)) sink.logprobs?.(tokens)
      sink.text(content)
    } else if (Array.isArray(content)) takeParts(content, sink)
    // Why a model will not answer is its answer.
    if (typeof refusal === "string" && refusal !== "") sink.text(refusal)
    if (Array.isArray(tool_calls) && tool_calls.length > 0) {
      this.calls ??= new ToolCalls()
      for (const piece of tool_calls) this.calls.add(piece)
      sink.progress?.()
    } else if (isObject(function_call)) {
      this.calls ??= new ToolCalls()
      this.calls.addOlder(function_call)
      sink.progress?.()
    }
    const alone = (thought ?? refusal ?? function_call ?? tool_calls) == null
    return alone && typeof content === "string" && content !== "" ? content : undefined
  }
}

/**
 * Reads the events of `/v1/chat/completions`, or of `/v1/completions` where a text is gone on with (`raw`) or filled in
 * (`suffix`). The answer is complete once a finish reason came and the stream ended,
 * with `[DONE]` or without, or broke off: all that can be missing then is how many tokens it was.
 *
 * A server that knows no streams answers with one object instead: that is read as a single chunk.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decoder = (sink: Sink, kind: "chat" | "raw" | "suffix" = "chat"): Http.Decoder =>
  new AnswerDecoder(sink, kind)
