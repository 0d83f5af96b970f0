/** Engines of this process, asked without a fleet; and variants of the built-in model. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Finish, ResumeSink, ServerFailure, Sink } from "../../src/Backend.js"
import * as Embedded from "../../src/backend/embedded.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import type * as Message from "../../src/Message.js"
import * as Server from "../../src/Server.js"
import type { Exchange } from "../../src/Transport.js"

export interface Outcome {
  readonly text: string
  readonly pieces: ReadonlyArray<string>
  readonly thinking: string
  readonly calls: ReadonlyArray<Message.ToolCall>
  readonly logprobs: ReadonlyArray<Logprob>
  readonly finish: Finish | undefined
  readonly failure: ServerFailure | undefined
}

export interface Logprob {
  readonly token: string
  readonly logprob: number
  readonly bytes: ReadonlyArray<number> | null
  readonly top_logprobs: ReadonlyArray<{ readonly token: string; readonly logprob: number }>
}

export type Ask = Partial<ChatRequest.ChatRequest> & { readonly messages: ReadonlyArray<Message.Message> }

export const requestOf = (ask: Ask): ChatRequest.ChatRequest => ({
  ...ChatRequest.make({ temperature: 0 }, "aicortex-demo", ask.messages, "text"),
  ...ask
})

export interface Run {
  readonly exchange: Exchange
  readonly outcome: Promise<Outcome>
  readonly pieces: ReadonlyArray<string>
}

/** Collects an answer. */
const collected = (begin: (sink: ResumeSink) => Exchange, onText: (text: string) => void): Run => {
  const pieces: Array<string> = []
  const logprobs: Array<Logprob> = []
  const calls: Array<Message.ToolCall> = []
  let thinking = ""
  let finish: Finish | undefined
  let settle: (outcome: Outcome) => void = () => {}
  const outcome = new Promise<Outcome>((resolve) => {
    settle = resolve
  })
  const done = (failure?: ServerFailure) =>
    settle({ text: pieces.join(""), pieces, thinking, calls, logprobs, finish, failure })
  const sink: Sink = {
    connected: () => {},
    read: () => {},
    text: (content) => {
      pieces.push(content)
      onText(content)
    },
    logprobs: (values) => void logprobs.push(...(values as ReadonlyArray<Logprob>)),
    thinking: (content) => {
      thinking += content
    },
    toolCall: (call) => void calls.push(call),
    finish: (value) => {
      finish = value
    },
    flush: () => {
      if (finish !== undefined) done()
    },
    fail: done
  }
  return { exchange: begin({ ...sink, joins: () => {} }), outcome, pieces }
}

export interface TestEngine extends AsyncDisposable {
  readonly backend: Embedded.EmbeddedBackend["backend"]
  readonly close: () => Promise<void>
  readonly start: (ask: Ask, onText?: (text: string) => void) => Run
  readonly ask: (ask: Ask) => Promise<Outcome>
  readonly resume: (ask: Ask, text: string, tokens: number) => Promise<Outcome>
}

export const openEngine = (options?: Embedded.EmbeddedOptions): TestEngine => {
  const { backend, close } = Embedded.make(options)
  const start: TestEngine["start"] = (ask, onText = () => {}) =>
    collected((sink) => backend.start(Server.embedded, requestOf(ask), sink), onText)
  return {
    backend,
    close,
    start,
    ask: (ask) => start(ask).outcome,
    resume: (ask, text, tokens) =>
      collected(
        (sink) =>
          backend.resume(
            Server.embedded,
            requestOf(ask),
            { text, thinking: "", tokens, calls: [] },
            sink,
            undefined as never
          ),
        () => {}
      ).outcome,
    [Symbol.asyncDispose]: close
  }
}

// =============================================================================
// Variants of the built-in model
// =============================================================================

/** Skips the value of a metadata entry. */
const skip = (file: Buffer, at: number, type: number): number => {
  const sizes: { readonly [type: number]: number } = {
    0: 1,
    1: 1,
    2: 2,
    3: 2,
    4: 4,
    5: 4,
    6: 4,
    7: 1,
    10: 8,
    11: 8,
    12: 8
  }
  if (type === 8) return at + 8 + Number(file.readBigUInt64LE(at))
  if (type !== 9) return at + (sizes[type] ?? 0)
  const of = file.readUInt32LE(at)
  const count = Number(file.readBigUInt64LE(at + 4))
  let end = at + 12
  for (let i = 0; i < count; i++) end = skip(file, end, of)
  return end
}

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes.length))
  return Buffer.concat([length, bytes])
}

const alignment = 32

/** The built-in model with another chat template, or without one. */
const withTemplate = (file: Buffer, template: string | undefined): Buffer => {
  const entries = Number(file.readBigUInt64LE(16))
  const tensors = Number(file.readBigUInt64LE(8))
  const kept: Array<Buffer> = []
  let at = 24
  for (let i = 0; i < entries; i++) {
    const length = Number(file.readBigUInt64LE(at))
    const key = file.toString("utf8", at + 8, at + 8 + length)
    const value = at + 8 + length + 4
    const end = skip(file, value, file.readUInt32LE(value - 4))
    if (key !== "tokenizer.chat_template") kept.push(file.subarray(at, end))
    at = end
  }
  const infos = at
  for (let i = 0; i < tensors; i++) {
    at += 8 + Number(file.readBigUInt64LE(at))
    at += 4 + 8 * file.readUInt32LE(at) + 4 + 8
  }
  if (template !== undefined) {
    kept.push(Buffer.concat([text("tokenizer.chat_template"), Buffer.from([8, 0, 0, 0]), text(template)]))
  }
  const head = Buffer.from(file.subarray(0, 24))
  head.writeBigUInt64LE(BigInt(kept.length), 16)
  const meta = Buffer.concat([head, ...kept, file.subarray(infos, at)])
  const data = Math.ceil(at / alignment) * alignment
  return Buffer.concat([meta, Buffer.alloc((alignment - (meta.length % alignment)) % alignment), file.subarray(data)])
}

/** Writes variants of the built-in model into a folder of its own. */
export const useVariants = () => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-variants-"))
  const file = readFileSync(Embedded.defaultModelPath())
  let n = 0
  return {
    write: (template: string | undefined): string => {
      const path = join(folder, `variant-${++n}.gguf`)
      writeFileSync(path, withTemplate(file, template))
      return path
    },
    remove: () => rmSync(folder, { recursive: true, force: true })
  }
}
