/** Decodes the answers of `POST /v1/messages`: server-sent events, and the single object of a server without streams. */
import type { Mutable } from "effect/Types"
import type { Finish, Sink } from "../Backend.js"
import type { FinishReason, Usage } from "../ChatEvent.js"
import { isObject } from "../internal/isObject.js"
import * as Lines from "../internal/lines.js"
import * as Template from "../internal/lineTemplate.js"
import * as Sse from "../internal/sse.js"
import type { Block } from "./anthropicThinking.js"
import { finishReason, givenUp } from "./finishReason.js"
import * as Http from "./http.js"
import { ToolCalls } from "./openaiToolCalls.js"

const stringOf = (value: unknown): string => (typeof value === "string" ? value : "")

const utf8 = new TextDecoder("utf-8")
const openingBrace = 0x7b
/** White space, and the bytes of a byte order mark. */
const leading: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d, 0xef, 0xbb, 0xbf])

/** Events that are part of an answer. */
const known: ReadonlySet<unknown> = new Set([
  "message_start",
  "content_block_start",
  "content_block_delta",
  "content_block_stop",
  "message_delta",
  "message_stop"
])

// =============================================================================
// Usage
// =============================================================================

const count = (value: unknown): number | undefined =>
  typeof value === "number" && value >= 0 && Number.isFinite(value) ? value : undefined

/** The counts of an answer: each is the total so far, and replaces the one before. */
class Counts {
  private input: number | undefined
  private read: number | undefined
  private written: number | undefined
  private output: number | undefined
  private thought: number | undefined

  /** `final`: includes the output tokens, whose count is meaningless at the start of the answer. */
  add(usage: unknown, final: boolean): void {
    if (!isObject(usage)) return
    this.input = count(usage["input_tokens"]) ?? this.input
    this.read = count(usage["cache_read_input_tokens"]) ?? this.read
    this.written = count(usage["cache_creation_input_tokens"]) ?? this.written
    if (!final) return
    this.output = count(usage["output_tokens"]) ?? this.output
    const details = usage["output_tokens_details"]
    if (isObject(details)) this.thought = count(details["thinking_tokens"]) ?? this.thought
  }

  /** In this API, tokens read from or written to the cache are not among the input tokens. */
  get usage(): Usage {
    const { input, output, read, thought, written } = this
    const usage: Mutable<Usage> = {}
    if (input !== undefined) usage.promptTokens = input + (read ?? 0) + (written ?? 0)
    if (output !== undefined) usage.completionTokens = output
    if (usage.promptTokens !== undefined && output !== undefined) usage.totalTokens = usage.promptTokens + output
    if (read !== undefined) usage.cachedTokens = read
    if (written !== undefined) usage.cacheWriteTokens = written
    if (thought !== undefined) usage.reasoningTokens = thought
    return usage
  }
}

// =============================================================================
// Blocks
// =============================================================================

/** The fields of a block that are sent back. */
interface OpenBlock {
  readonly type: string
  readonly id: string
  readonly name: string
  text: string
  signature: string
  /** Redacted thinking, which only the server can read. */
  readonly data: string
}

const maxKept = 1024 * 1024

const blockOf = ({ data, id, name, signature, text, type }: OpenBlock): ReadonlyArray<Block> => {
  switch (type) {
    case "text":
      return text.trim() === "" ? [] : [{ type, text }]
    case "thinking":
      return [{ type, thinking: text, signature }]
    case "redacted_thinking":
      return [{ type, data }]
    default:
      return [{ type, id, name, input: text.trim() === "" ? {} : Http.parseJson(text) }]
  }
}

/** Records the blocks of an answer that contains thinking. */
class Blocks {
  private readonly blocks: Array<OpenBlock> = []
  private kept: OpenBlock | undefined
  private size = 0
  private signed = false

  begin(block: Block): void {
    const { data, id, name, signature, type } = block
    if (type !== "text" && type !== "thinking" && type !== "redacted_thinking" && type !== "tool_use") {
      this.kept = undefined
      return
    }
    if (type === "thinking" || type === "redacted_thinking") this.signed = true
    // Thinking comes first.
    if (!this.signed) return
    this.kept = {
      type,
      id: stringOf(id),
      name: stringOf(name),
      text: "",
      signature: stringOf(signature),
      data: stringOf(data)
    }
    this.size += this.kept.data.length
    this.blocks.push(this.kept)
  }

  add(text: string): void {
    if (this.kept === undefined) return
    this.size += text.length
    if (this.size > maxKept) this.forget()
    else this.kept.text += text
  }

  sign(signature: string): void {
    if (this.kept !== undefined) this.kept.signature += signature
  }

  /** Whether the text must be recorded. */
  get keeps(): boolean {
    return this.kept !== undefined
  }

  private forget(): void {
    this.blocks.length = 0
    this.kept = undefined
    this.signed = false
  }

  /** The blocks to send back; none if the arguments of a call are not JSON. */
  get all(): ReadonlyArray<Block> {
    try {
      return this.blocks.flatMap(blockOf)
    } catch {
      return []
    }
  }
}

// =============================================================================
// Decoder
// =============================================================================

/** The errors of a stream have the same form as those of a response. */
const reported = (event: Block): Http.Reported => Http.reported(event)

class AnswerDecoder implements Http.Decoder {
  private over = false
  private broken = false
  private begun = false
  private reason: FinishReason | undefined
  private stopSequence: string | undefined
  private strange: string | undefined
  private bytes = 0
  private calls: ToolCalls | undefined
  private readonly counts = new Counts()
  private readonly blocks = new Blocks()
  /** The chunks of an answer that is not a stream; `false` if it is one. */
  private whole: Array<Uint8Array> | undefined | false
  private readonly template = Template.make("text")
  private readonly say: (content: string) => void
  private readonly stream: Lines.Lines

  constructor(
    private readonly sink: Sink,
    private readonly signed: (blocks: ReadonlyArray<Block>) => void
  ) {
    this.say = (content) => sink.text(content)
    this.stream = Sse.make(
      (data, before, event) => this.take(data, before, event),
      (text, from) => (this.over ? from : this.template.read(text, from, this.say))
    )
  }

  feed(read: Uint8Array): void {
    this.bytes += read.length
    let from = 0
    if (this.whole === undefined) {
      from = read.findIndex((byte) => !leading.has(byte))
      if (from >= 0) this.whole = read[from] === openingBrace ? [] : false
    }
    if (this.whole === undefined || this.whole === false) this.stream.feed(read)
    else if (this.bytes > Lines.maxLineBytes) throw new Lines.LineTooLong()
    else this.whole.push(new Uint8Array(read.subarray(from)))
  }

  end(): void {
    if (this.whole !== undefined && this.whole !== false) this.takeWhole(this.whole)
    else {
      try {
        this.stream.end()
      } catch (error) {
        // The answer was complete when the connection broke.
        if (this.reason === undefined) throw error
        this.broken = true
      }
    }
    this.complete()
    if (this.over || this.begun || this.bytes === 0) return
    throw new Http.Malformed(
      this.strange === undefined ? "what came back is not an event stream" : `no message in ${this.strange}`
    )
  }

  broke(): void {
    this.broken = true
    this.complete()
  }

  finished(): boolean {
    return this.over
  }

  private complete(): void {
    const { blocks, broken, calls, counts, reason, sink, stopSequence } = this
    if (this.over || reason === undefined) return
    const calledTools = calls !== undefined && !calls.empty
    calls?.take(reason === "length")
    this.over = true
    if (calledTools) this.signed(blocks.all)
    const { usage } = counts
    const finish: Mutable<Finish> = { reason: calledTools && reason === "stop" ? "tool_calls" : reason, usage }
    if (finish.reason === "stop" && stopSequence !== undefined) finish.stopSequence = stopSequence
    if (broken && usage.completionTokens === undefined) finish.uncounted = true
    sink.finish(finish)
  }

  private take(data: string, before: string, name: string): void {
    if (this.over || data === "") return
    if (name === "error") throw reported(Http.parseJson(data))
    const event = Http.parseJson(data)
    const { type } = event
    if (type === "error") throw reported(event)
    // A ping or an unknown event.
    if (!known.has(type)) {
      this.strange ??= data.slice(0, 200)
      return
    }
    this.begun = true
    switch (type) {
      case "content_block_delta":
        this.takeDelta(event["index"], event["delta"], `event: ${name}\n${before}${data}\n\n`)
        return
      case "message_start":
        if (isObject(event["message"])) this.counts.add(event["message"]["usage"], false)
        return
      case "content_block_start":
        if (isObject(event["content_block"])) this.takeStart(event["index"], event["content_block"])
        return
      case "message_delta":
        this.counts.add(event["usage"], true)
        if (isObject(event["delta"])) this.takeStop(event["delta"])
        return
      case "message_stop":
        this.reason ??= "stop"
        this.complete()
    }
  }

  private takeStop({ stop_reason: word, stop_sequence }: Block): void {
    if (typeof word !== "string" || word === "") return
    const reason = finishReason(word)
    if (reason === undefined) throw new Http.Reported(givenUp(word))
    this.reason = reason
    if (typeof stop_sequence === "string") this.stopSequence = stop_sequence
  }

  private takeStart(index: unknown, block: Block): void {
    const { blocks, sink } = this
    blocks.begin(block)
    const { id, input, name, text, thinking, type } = block
    if (type === "text") this.takeText(stringOf(text))
    else if (type === "thinking") this.takeThought(stringOf(thinking))
    else if (type === "tool_use") {
      this.calls ??= new ToolCalls(sink)
      // Its deltas follow, unless the answer is not a stream.
      const args = isObject(input) && Object.keys(input).length > 0 ? JSON.stringify(input) : ""
      blocks.add(args)
      this.calls.add([{ index, id, function: { name, arguments: args } }], false)
    } else sink.progress?.()
  }

  private takeDelta(index: unknown, delta: unknown, lines: string): void {
    if (!isObject(delta)) return
    const { blocks, sink } = this
    switch (delta["type"]) {
      case "text_delta": {
        const text = stringOf(delta["text"])
        this.takeText(text)
        if (text !== "" && !blocks.keeps) this.template.learn(lines, text)
        return
      }
      case "thinking_delta":
        this.takeThought(stringOf(delta["thinking"]))
        return
      case "signature_delta":
        blocks.sign(stringOf(delta["signature"]))
        sink.progress?.()
        return
      case "input_json_delta": {
        const piece = stringOf(delta["partial_json"])
        // The input of a server-side tool.
        if (this.calls === undefined || piece === "") sink.progress?.()
        else {
          blocks.add(piece)
          this.calls.add([{ index, function: { arguments: piece } }], false)
        }
        return
      }
      default:
        // Citations or an unknown delta.
        sink.progress?.()
    }
  }

  private takeText(text: string): void {
    if (text === "") return
    this.blocks.add(text)
    this.sink.text(text)
  }

  private takeThought(text: string): void {
    if (text === "") return
    this.blocks.add(text)
    this.sink.thinking(text)
  }

  private takeWhole(parts: ReadonlyArray<Uint8Array>): void {
    const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
    let at = 0
    for (const part of parts) {
      bytes.set(part, at)
      at += part.length
    }
    const text = utf8.decode(bytes)
    const message = Http.parseJson(text)
    const { content, error, type, usage } = message
    if (type === "error" || (error !== undefined && error !== null)) throw reported(message)
    if (!Array.isArray(content)) {
      this.strange = text.slice(0, 200)
      return
    }
    this.begun = true
    for (const [index, block] of content.entries()) {
      if (!isObject(block)) throw new Http.Malformed("a block of the content is not an object")
      this.takeStart(index, block)
    }
    this.counts.add(usage, true)
    this.takeStop(message)
  }
}

/**
 * Decodes the events of `/v1/messages`. The answer is complete with `message_stop`, or once a stop reason came and the
 * stream ended or broke. Unknown events, blocks and deltas are ignored. `signed` is called with the blocks of an answer
 * that called tools after thinking.
 *
 * A server without streams answers with one object: it is decoded as its blocks.
 */
export const decoder = (sink: Sink, signed: (blocks: ReadonlyArray<Block>) => void = () => {}): Http.Decoder =>
  new AnswerDecoder(sink, signed)
