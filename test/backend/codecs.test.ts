import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { Finish, Sink } from "../../src/Backend.js"
import { type Decoder, Reported, retryAfter } from "../../src/backend/http.js"
import * as Ollama from "../../src/backend/ollama.js"
import * as OllamaRaw from "../../src/backend/ollamaRaw.js"
import * as OpenAI from "../../src/backend/openaiAnswer.js"
import * as Lines from "../../src/internal/lines.js"
import * as Template from "../../src/internal/lineTemplate.js"
import * as Sse from "../../src/internal/sse.js"
import type { ToolCall } from "../../src/Message.js"

type Event =
  | { readonly text: string }
  | { readonly thinking: string }
  | { readonly toolCall: ToolCall }
  | { readonly finish: Finish }
  | { readonly error: string }

type MakeDecoder = (sink: Sink) => Decoder

const utf8 = new TextEncoder()

/** What a decoder tells when it is fed these reads, and whether the answer was complete. */
const decode = (
  make: MakeDecoder,
  reads: Iterable<Uint8Array>
): ReadonlyArray<Event | { readonly finished: boolean }> => {
  const events: Array<Event | { readonly finished: boolean }> = []
  const decoder = make({
    connected: () => {},
    read: () => {},
    flush: () => {},
    text: (text) => events.push({ text }),
    thinking: (thinking) => events.push({ thinking }),
    toolCall: (toolCall) => events.push({ toolCall }),
    // Most transcripts stop short of the server's last word; what that means has tests of its own (tokenCounts).
    finish: ({ uncounted: _, ...finish }) => events.push({ finish }),
    fail: (failure) => events.push({ error: failure.message })
  })
  try {
    for (const read of reads) {
      // A transport may use its buffer again once `feed` has returned.
      const buffer = read.slice()
      decoder.feed(buffer)
      buffer.fill(0x0a)
    }
    decoder.end()
  } catch (error) {
    events.push({ error: error instanceof Error ? `${error.constructor.name}: ${error.message}` : String(error) })
  }
  events.push({ finished: decoder.finished() })
  return events
}

function* cut(bytes: Uint8Array, at: ReadonlyArray<number>): Generator<Uint8Array> {
  let from = 0
  for (const to of at) {
    yield bytes.subarray(from, to)
    from = to
  }
  yield bytes.subarray(from)
}

/** Cuts in two at every byte, into single bytes, and at random sets of positions: always the same events. */
const alwaysTheSame = (make: MakeDecoder, transcript: string) => {
  const bytes = utf8.encode(transcript)
  const whole = decode(make, [bytes])
  for (let at = 0; at <= bytes.length; at++) {
    const halves = decode(make, cut(bytes, [at]))
    if (JSON.stringify(halves) !== JSON.stringify(whole)) expect(halves, `cut at ${at}`).toEqual(whole)
  }
  const every = Array.from({ length: bytes.length }, (_, at) => at)
  expect(decode(make, cut(bytes, every))).toEqual(whole)
  fc.assert(
    fc.property(fc.array(fc.nat(bytes.length), { maxLength: 40 }), (positions) => {
      const at = positions.sort((a, b) => a - b)
      expect(decode(make, cut(bytes, at))).toEqual(whole)
    }),
    { numRuns: 100 }
  )
  return whole
}

const strange = [
  "你好",
  "👩‍👩‍👧 😀",
  "e\u0301 e\u0308\u0323",
  "\u2028\u2029\u0085",
  '"\\\n\r\t',
  "\u0000\ufeff",
  "नमस्ते",
  ""
]

const ndjson = (lines: ReadonlyArray<object>, newline = "\n") => lines.map((l) => JSON.stringify(l) + newline).join("")
const ollamaLine = (message: object) => ({ model: "m", created_at: "2026-01-01T00:00:00Z", message, done: false })
const ollamaDone = {
  model: "m",
  message: { role: "assistant", content: "" },
  done: true,
  done_reason: "stop",
  prompt_eval_count: 16,
  eval_count: 4,
  eval_duration: 2_000_000_000,
  prompt_eval_duration: 320_500_000,
  load_duration: 1_250_000
}
const ollamaAnswer = [
  ollamaLine({ role: "assistant", content: "", thinking: "想 hm" }),
  ollamaLine({ role: "assistant", content: "", thinking: "…" }),
  ...strange.map((content) => ollamaLine({ role: "assistant", content })),
  ollamaLine({
    role: "assistant",
    content: "",
    tool_calls: [{ id: "call_1", function: { index: 0, name: "weather", arguments: { city: "Zürich 你好" } } }]
  }),
  ollamaDone
]
const ollamaEvents = [
  { thinking: "想 hm" },
  { thinking: "…" },
  ...strange.filter((text) => text !== "").map((text) => ({ text })),
  { toolCall: { id: "call_1", name: "weather", arguments: { city: "Zürich 你好" } } },
  {
    finish: {
      reason: "tool_calls",
      usage: { promptTokens: 16, completionTokens: 4, totalTokens: 20 },
      tokensPerSecond: 2,
      promptTime: 320.5,
      loadTime: 1.25
    }
  },
  { finished: true }
]

const chunk = (delta: object, finish_reason: string | null = null) => ({
  id: "chatcmpl-1",
  object: "chat.completion.chunk",
  choices: [{ index: 0, delta, finish_reason }]
})
const usageChunk = { choices: [], usage: { prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 } }
const openAIAnswer = [
  chunk({ role: "assistant", content: null }),
  chunk({ reasoning_content: "想" }),
  chunk({ reasoning: "hm" }),
  ...strange.map((content) => chunk({ content })),
  chunk({ tool_calls: [{ index: 0, id: "a", type: "function", function: { name: "weather", arguments: "" } }] }),
  chunk({ tool_calls: [{ index: 0, function: { arguments: '{"city":"Zür' } }] }),
  chunk({ tool_calls: [{ index: 1, id: "b", type: "function", function: { name: "time", arguments: "" } }] }),
  chunk({ tool_calls: [{ index: 0, function: { arguments: 'ich 你好"}' } }] }),
  chunk({}, "tool_calls"),
  usageChunk
]
const openAIEvents = [
  { thinking: "想" },
  { thinking: "hm" },
  ...strange.filter((text) => text !== "").map((text) => ({ text })),
  { toolCall: { id: "a", name: "weather", arguments: { city: "Zürich 你好" } } },
  { toolCall: { id: "b", name: "time", arguments: {} } },
  { finish: { reason: "tool_calls", usage: { promptTokens: 9, completionTokens: 3, totalTokens: 12 } } },
  { finished: true }
]

const textChunk = (text: string, finish_reason: string | null = null, rest: object = {}) => ({
  id: "cmpl-1",
  object: "text_completion",
  choices: [{ index: 0, text, logprobs: null, finish_reason, ...rest }]
})
const textEvents = [
  ...strange.filter((text) => text !== "").map((text) => ({ text })),
  { text: "last" },
  { finish: { reason: "length", usage: { promptTokens: 9, completionTokens: 3, totalTokens: 12 } } },
  { finished: true }
]

const sse = (chunks: ReadonlyArray<object>, newline = "\n", prefix = "data: ") =>
  chunks.map((c) => `${prefix}${JSON.stringify(c)}${newline}${newline}`).join("")

describe("a continued text, split at any byte", () => {
  const decoders: ReadonlyArray<readonly ["raw" | "suffix", MakeDecoder]> = [
    ["raw", (sink) => OpenAI.decoder(sink, "raw")],
    ["suffix", (sink) => OpenAI.decoder(sink, "suffix")]
  ]
  const finish: Finish = { reason: "stop", usage: { completionTokens: 2 } }
  const templates = Template.memory()
  const generated: ReadonlyArray<readonly [string, MakeDecoder]> = [
    ["the model's first answer", (sink) => OllamaRaw.decoder(sink, () => finish)],
    ["after other answers of the model", (sink) => OllamaRaw.decoder(sink, () => finish, templates, "m")]
  ]
  const line = (response: string, rest: object = {}) => ({
    model: "m",
    created_at: "2026-01-01T00:00:00Z",
    response,
    done: false,
    ...rest
  })

  it.each(decoders)(
    "OpenAI's events (%s): text of every script, a last piece with its reason, and usage",
    (_, make) => {
      const chunks = [...strange.map((text) => textChunk(text)), textChunk("last", "length"), usageChunk]
      expect(alwaysTheSame(make, `${sse(chunks)}data: [DONE]\n\n`)).toEqual(textEvents)
      expect(alwaysTheSame(make, sse(chunks, "\r\n", "data:"))).toEqual(textEvents)
    }
  )

  it("OpenAI's events: a missing end, an error, and unrelated events", () => {
    const [[, make]] = decoders as [(typeof decoders)[number]]
    expect(alwaysTheSame(make, sse([textChunk("a"), textChunk("b")])).at(-1)).toEqual({ finished: false })
    expect(alwaysTheSame(make, sse([textChunk("a"), { error: { message: "died" } }]))).toEqual([
      { text: "a" },
      { error: `${Reported.name}: died` },
      { finished: false }
    ])
    expect(alwaysTheSame(make, sse([{ status: "success" }]))).toMatchObject([
      { error: expect.stringContaining("Malformed") },
      { finished: false }
    ])
  })

  it.each(generated)("Ollama's lines, %s, also lines that look like another line's text", (_, generated) => {
    const texts = [...strange, 'a","response":"b', "response", '"done":true', "plain", "and plain"]
    const answer = [...texts.map((text) => line(text)), line("", { done: true, done_reason: "stop" })]
    const events = [...texts.filter((text) => text !== "").map((text) => ({ text })), { finish }, { finished: true }]
    expect(alwaysTheSame(generated, ndjson(answer))).toEqual(events)
    expect(alwaysTheSame(generated, ndjson([line("a"), { error: "died" }]))).toEqual([
      { text: "a" },
      { error: `${Reported.name}: died` },
      { finished: false }
    ])
    expect(alwaysTheSame(generated, ndjson([line("a"), line("b"), line("c")])).at(-1)).toEqual({ finished: false })
  })
})

const templates = Template.memory()
const ollamaDecoders: ReadonlyArray<readonly [string, MakeDecoder]> = [
  ["the model's first answer", (sink) => Ollama.decoder(sink)],
  ["after other answers of the model", (sink) => Ollama.decoder(sink, templates, "m")]
]
describe.each(ollamaDecoders)("Ollama's NDJSON, split at any byte, %s", (_, decoder) => {
  it("thinking, text of every script, tool calls and usage", () => {
    expect(alwaysTheSame(decoder, ndjson(ollamaAnswer))).toEqual(ollamaEvents)
  })

  it("with CRLF, and with empty lines between", () => {
    expect(alwaysTheSame(decoder, ndjson(ollamaAnswer, "\r\n"))).toEqual(ollamaEvents)
    expect(alwaysTheSame(decoder, ndjson(ollamaAnswer, "\n\n"))).toEqual(ollamaEvents)
  })

  it("without the last newline", () => {
    expect(alwaysTheSame(decoder, ndjson(ollamaAnswer).slice(0, -1))).toEqual(ollamaEvents)
  })

  it("ignores everything after the line with done: true", () => {
    const more = `${ndjson(ollamaAnswer)}${ndjson([ollamaLine({ role: "assistant", content: "more" })])}garbage\n`
    expect(alwaysTheSame(decoder, more)).toEqual(ollamaEvents)
  })

  it("several tool calls in one line keep their order", () => {
    const calls = ["a", "b", "c"].map((id, index) => ({ id, function: { index, name: `t${id}`, arguments: { id } } }))
    const events = alwaysTheSame(
      decoder,
      ndjson([ollamaLine({ role: "assistant", content: "", tool_calls: calls }), ollamaDone])
    )
    expect(events.slice(0, 3)).toEqual(
      ["a", "b", "c"].map((id) => ({ toolCall: { id, name: `t${id}`, arguments: { id } } }))
    )
  })

  it("an answer without done: true is incomplete", () => {
    const events = alwaysTheSame(decoder, ndjson(ollamaAnswer.slice(0, 4)))
    expect(events.at(-1)).toEqual({ finished: false })
  })

  it("an error inside the answer is reported after the content before it", () => {
    const died = "an error was encountered while running the model: unexpected EOF"
    const transcript = ndjson([ollamaLine({ role: "assistant", content: "你" }), { error: died }])
    expect(alwaysTheSame(decoder, transcript)).toEqual([
      { text: "你" },
      { error: `${Reported.name}: ${died}` },
      { finished: false }
    ])
  })

  it.each([
    ["a page of a proxy", "<html>\r\n<body>It works 你好.</body>\r\n</html>\r\n"],
    ["a line that breaks off", '{"model":"m","message":{"role":"assistant","content":"oo\n{}\n'],
    ["JSON that is no object", "[1,2]\n"],
    ["an object that says nothing", '{"status":"success"}\n'],
    ["content that is not text", ndjson([ollamaLine({ role: "assistant", content: [{ type: "text" }] })])],
    ["a tool call without a name", ndjson([ollamaLine({ content: "", tool_calls: [{ function: { arguments: {} } }] })])]
  ])("malformed: %s", (_, transcript) => {
    const events = alwaysTheSame(decoder, transcript)
    expect(events.at(-2)).toMatchObject({ error: expect.stringMatching(/^Malformed: /) })
    expect(events.at(-1)).toEqual({ finished: false })
  })

  it("arguments of a tool call may be a string, or missing", () => {
    const calls = ['{"a":1}', "", undefined, null].map((args) => ({
      id: "x",
      function: { name: "f", arguments: args }
    }))
    const transcript = ndjson([ollamaLine({ content: "", tool_calls: calls }), ollamaDone])
    expect(alwaysTheSame(decoder, transcript).slice(0, 4)).toEqual(
      [{ a: 1 }, {}, {}, {}].map((args) => ({ toolCall: { id: "x", name: "f", arguments: args } }))
    )
    for (const args of [7, [], "{", "[]"]) {
      const call = { id: "x", function: { name: "f", arguments: args } }
      const odd = ndjson([ollamaLine({ content: "", tool_calls: [call] })])
      const rawArguments = typeof args === "string" ? args : JSON.stringify(args)
      expect(alwaysTheSame(decoder, odd)[0]).toEqual({
        toolCall: { id: "x", name: "f", arguments: {}, rawArguments }
      })
    }
  })

  it("only the length reason is distinguished; a missing count is absent, not zero", () => {
    const last = { model: "m", message: { content: "" }, done: true, done_reason: "length", eval_count: 2 }
    expect(alwaysTheSame(decoder, ndjson([last]))).toEqual([
      { finish: { reason: "length", usage: { completionTokens: 2, totalTokens: 2 } } },
      { finished: true }
    ])
  })
})

describe("OpenAI's server-sent events, split at any byte", () => {
  it("reasoning, text of every script, tool calls in pieces, usage", () => {
    expect(alwaysTheSame(OpenAI.decoder, `${sse(openAIAnswer)}data: [DONE]\n\n`)).toEqual(openAIEvents)
  })

  it("with CRLF, and without the blank after the colon", () => {
    expect(alwaysTheSame(OpenAI.decoder, `${sse(openAIAnswer, "\r\n")}data: [DONE]\r\n\r\n`)).toEqual(openAIEvents)
    expect(alwaysTheSame(OpenAI.decoder, `${sse(openAIAnswer, "\n", "data:")}data:[DONE]\n\n`)).toEqual(openAIEvents)
  })

  it("with comments, other fields and empty events between", () => {
    const noise = ": OPENROUTER PROCESSING 你好\n\nevent: message\nid: 7\nretry: 1000\n\n\ndatabase: x\n\n"
    const transcript = openAIAnswer.map((c) => `${noise}: ping\nevent: chunk\ndata: ${JSON.stringify(c)}\n\n`).join("")
    expect(alwaysTheSame(OpenAI.decoder, `${transcript}data: [DONE]\n\n`)).toEqual(openAIEvents)
  })

  it("data over several lines is joined with newlines", () => {
    const transcript = openAIAnswer
      .map(
        (c) =>
          `${JSON.stringify(c, null, 1)
            .split("\n")
            .map((line) => `data: ${line}\n`)
            .join("")}\n`
      )
      .join("")
    expect(alwaysTheSame(OpenAI.decoder, `${transcript}data: [DONE]\n\n`)).toEqual(openAIEvents)
  })

  it.each([
    ["without [DONE]", sse(openAIAnswer)],
    ["without [DONE] and the last empty line", sse(openAIAnswer).slice(0, -1)],
    ["without [DONE] and the last newlines", sse(openAIAnswer).slice(0, -2)],
    ["with [DONE] and no newline", `${sse(openAIAnswer)}data: [DONE]`]
  ])("complete %s", (_, transcript) => {
    expect(alwaysTheSame(OpenAI.decoder, transcript)).toEqual(openAIEvents)
  })

  it("ignores everything after [DONE]", () => {
    const transcript = `${sse(openAIAnswer)}data: [DONE]\n\n${sse([chunk({ content: "more" })])}data: garbage\n\n`
    expect(alwaysTheSame(OpenAI.decoder, transcript)).toEqual(openAIEvents)
  })

  it("an answer without a finish reason ends at [DONE], not at the end of the stream", () => {
    const said = sse([chunk({ content: "你" })])
    expect(alwaysTheSame(OpenAI.decoder, said)).toEqual([{ text: "你" }, { finished: false }])
    for (const done of ["data: [DONE]\n\n", "data:[DONE]\n\n", "data: [DONE] \r\n\r\n", "data: [DONE]"]) {
      expect(alwaysTheSame(OpenAI.decoder, said + done)).toEqual([
        { text: "你" },
        { finish: { reason: "stop", usage: {} } },
        { finished: true }
      ])
    }
    // Nothing was said: that is no answer.
    expect(alwaysTheSame(OpenAI.decoder, "data: [DONE]\n\n")).toEqual([{ finished: false }])
  })

  it("a chunk with only usage ends an answer without a finish reason, unless more content follows", () => {
    const usage = { promptTokens: 9, completionTokens: 3, totalTokens: 12 }
    const said = chunk({ content: "a" })
    const ended = sse([said, usageChunk])
    expect(alwaysTheSame(OpenAI.decoder, ended)).toEqual([
      { text: "a" },
      { finish: { reason: "stop", usage } },
      { finished: true }
    ])
    for (const cut of [sse([usageChunk, said]), sse([said, usageChunk, said]), sse([usageChunk])]) {
      expect(alwaysTheSame(OpenAI.decoder, cut).at(-1)).toEqual({ finished: false })
    }
    const whole = { choices: [{ message: { content: "a" }, finish_reason: null }] }
    const counted = JSON.stringify({ ...whole, usage: usageChunk.usage })
    expect(alwaysTheSame(OpenAI.decoder, counted)).toEqual([
      { text: "a" },
      { finish: { reason: "stop", usage } },
      { finished: true }
    ])
    const nothing = JSON.stringify({ ...whole, usage: { prompt_tokens: 0, completion_tokens: 0 } })
    expect(alwaysTheSame(OpenAI.decoder, nothing).at(-1)).toEqual({ finished: false })
  })

  it("calls that all have index 0 are distinguished by their ids; complete arguments may come at once", () => {
    const call = (id: string, name: string, args: unknown) =>
      chunk({ tool_calls: [{ index: 0, id, function: { name, arguments: args } }] })
    const transcript = sse([call("x", "f", '{"a":1}'), call("y", "g", { b: 2 }), chunk({}, "stop")])
    expect(alwaysTheSame(OpenAI.decoder, transcript)).toEqual([
      { toolCall: { id: "x", name: "f", arguments: { a: 1 } } },
      { toolCall: { id: "y", name: "g", arguments: { b: 2 } } },
      { finish: { reason: "tool_calls", usage: {} } },
      { finished: true }
    ])
  })

  it("llama.cpp's own timings are used", () => {
    const timings = { predicted_per_second: 42, prompt_n: 7, prompt_ms: 12.5, cache_n: 100 }
    const transcript = sse([chunk({ content: "a" }), { ...chunk({}, "length"), timings }])
    expect(alwaysTheSame(OpenAI.decoder, transcript).slice(1)).toEqual([
      {
        finish: {
          reason: "length",
          usage: { cachedTokens: 100 },
          tokensPerSecond: 42,
          promptTime: 12.5,
          promptEvaluated: 7
        }
      },
      { finished: true }
    ])
  })

  it("an error inside the answer is reported as the server's", () => {
    const transcript = sse([chunk({ content: "你" }), { error: { code: 500, message: "out of memory", type: "x" } }])
    expect(alwaysTheSame(OpenAI.decoder, transcript)).toEqual([
      { text: "你" },
      { error: `${Reported.name}: out of memory` },
      { finished: false }
    ])
  })

  it("an error beside choices is still an error", () => {
    const broken = { ...chunk({ content: "" }, "error"), error: { code: 502, message: "the provider left" } }
    for (const end of ["", "data: [DONE]\n\n"]) {
      expect(alwaysTheSame(OpenAI.decoder, `${sse([chunk({ content: "你" }), broken])}${end}`)).toEqual([
        { text: "你" },
        { error: `${Reported.name}: the provider left` },
        { finished: false }
      ])
    }
    expect(alwaysTheSame(OpenAI.decoder, sse([chunk({ content: "你" }), chunk({}, "error")])).at(-2)).toEqual({
      error: expect.stringMatching(/^Reported: /)
    })
    const vllm = { object: "error", message: "boom", type: "InternalServerError", param: null, code: 500 }
    expect(alwaysTheSame(OpenAI.decoder, sse([vllm]))[0]).toEqual({ error: `${Reported.name}: boom` })
  })

  it.each([
    ["vLLM's text", "stop", { stop_reason: "END" }, { stopSequence: "END" }],
    ["vLLM's number of a token", "stop", { stop_reason: 128009 }, {}],
    ["none", "stop", { stop_reason: null }, {}],
    ["SGLang's text", "stop", { matched_stop: "END" }, { stopSequence: "END" }],
    ["SGLang's number of a token", "stop", { matched_stop: 2 }, {}],
    ["a text beside another reason", "length", { stop_reason: "END" }, {}]
  ])("finish reason: %s", (_, reason, reported, expected) => {
    const [choice] = chunk({}, reason).choices
    const last = { ...chunk({}), choices: [{ ...choice, ...reported }] }
    expect(alwaysTheSame(OpenAI.decoder, sse([chunk({ content: "a" }), last]))).toEqual([
      { text: "a" },
      { finish: { reason, usage: {}, ...expected } },
      { finished: true }
    ])
  })

  it("an empty finish reason counts as missing", () => {
    const cut = sse([chunk({ content: "a" }, ""), chunk({ content: "b" }, ""), chunk({ content: "c" }, "")])
    const text = [{ text: "a" }, { text: "b" }, { text: "c" }]
    expect(alwaysTheSame(OpenAI.decoder, cut)).toEqual([...text, { finished: false }])
    expect(alwaysTheSame(OpenAI.decoder, `${cut}${sse([chunk({}, "stop")])}`)).toEqual([
      ...text,
      { finish: { reason: "stop", usage: {} } },
      { finished: true }
    ])
  })

  it("text in alternative fields is not lost", () => {
    const thought = { type: "thinking", thinking: [{ type: "text", text: "Hm." }] }
    const transcript = sse([
      { choices: null },
      chunk({ content: [thought, { type: "text", text: "你" }] }),
      chunk({ content: null, refusal: "I cannot." }),
      { choices: [{ index: 0, message: { content: "好" }, finish_reason: "stop" }] }
    ])
    expect(alwaysTheSame(OpenAI.decoder, transcript)).toEqual([
      { thinking: "Hm." },
      { text: "你" },
      { text: "I cannot." },
      { text: "好" },
      { finish: { reason: "stop", usage: {} } },
      { finished: true }
    ])
    const parts = sse([chunk({ content: [{ type: "image_url", image_url: { url: "x" } }] })])
    expect(alwaysTheSame(OpenAI.decoder, parts)[0]).toEqual({ error: expect.stringMatching(/^Malformed: /) })
  })

  it("the old function_call form is decoded; calls without an id get a unique one", () => {
    const older = [
      chunk({ function_call: { name: "f", arguments: '{"a"' } }),
      chunk({ function_call: { arguments: ":1}" } }),
      chunk({}, "function_call")
    ]
    const ids = new Set<string>()
    for (let i = 0; i < 3; i++) {
      const [first, ...rest] = decode(OpenAI.decoder, [utf8.encode(sse(older))])
      expect(first).toEqual({ toolCall: { id: expect.stringMatching(/^call_/), name: "f", arguments: { a: 1 } } })
      expect(rest).toEqual([{ finish: { reason: "tool_calls", usage: {} } }, { finished: true }])
      if (first !== undefined && "toolCall" in first) ids.add(first.toolCall.id)
    }
    expect(ids.size).toBe(3)
  })

  it.each([
    ["in one line", JSON.stringify],
    ["over several lines", (value: unknown) => `\uFEFF\n ${JSON.stringify(value, null, 2)}\r\n`]
  ])("a non-streamed answer, %s", (_, write) => {
    const tokens = [{ token: "你", logprob: -0.1, bytes: null, top_logprobs: [] }]
    const answer = {
      object: "chat.completion",
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: "你好\ndata: x",
            reasoning_content: "Hm.",
            refusal: null,
            tool_calls: null
          },
          logprobs: { content: tokens },
          finish_reason: "length"
        }
      ],
      usage: { prompt_tokens: 7, completion_tokens: 2, total_tokens: 9 }
    }
    expect(alwaysTheSame(OpenAI.decoder, write(answer))).toEqual([
      { thinking: "Hm." },
      { text: "你好\ndata: x" },
      { finish: { reason: "length", usage: { promptTokens: 7, completionTokens: 2, totalTokens: 9 } } },
      { finished: true }
    ])
    const call = { id: "a", type: "function", function: { name: "f", arguments: '{"a":1}' } }
    const calls = { choices: [{ message: { content: null, tool_calls: [call] }, finish_reason: "tool_calls" }] }
    expect(alwaysTheSame(OpenAI.decoder, write(calls))).toEqual([
      { toolCall: { id: "a", name: "f", arguments: { a: 1 } } },
      { finish: { reason: "tool_calls", usage: {} } },
      { finished: true }
    ])
  })

  it("an incomplete non-streamed answer is a failure", () => {
    const half = JSON.stringify({ choices: [{ message: { content: "He" }, finish_reason: null }] })
    expect(alwaysTheSame(OpenAI.decoder, half)).toEqual([{ text: "He" }, { finished: false }])
    expect(alwaysTheSame(OpenAI.decoder, half.slice(0, -5))).toEqual([
      { error: expect.stringMatching(/^Malformed: /) },
      { finished: false }
    ])
    expect(alwaysTheSame(OpenAI.decoder, '{"error":{"message":"no memory"}}')).toEqual([
      { error: `${Reported.name}: no memory` },
      { finished: false }
    ])
  })

  it.each([
    ["data that is not JSON", "data: {oops 你好\n\n"],
    ["an object that says nothing", 'data: {"hello":"world"}\n\n'],
    ["a tool call without a name", sse([chunk({ tool_calls: [{ id: "a", function: {} }] }), chunk({}, "stop")])]
  ])("malformed: %s", (_, transcript) => {
    const events = alwaysTheSame(OpenAI.decoder, transcript)
    expect(events.at(-2)).toMatchObject({ error: expect.stringMatching(/^Malformed: /) })
    expect(events.at(-1)).toEqual({ finished: false })
  })
})

describe("any answer, split at any byte", () => {
  const pieces = fc.array(fc.oneof(fc.fullUnicodeString(), fc.string16bits(), fc.constantFrom(...strange)), {
    maxLength: 12
  })
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 30 })
  const positions = (bytes: Uint8Array, at: ReadonlyArray<number>) =>
    at.map((share) => Math.floor(share * bytes.length)).sort((a, b) => a - b)

  it("Ollama yields the pieces as the server wrote them", () => {
    fc.assert(
      fc.property(pieces, cuts, fc.constantFrom("\n", "\r\n"), fc.boolean(), (texts, at, newline, lastNewline) => {
        const lines = [...texts.map((content) => ollamaLine({ role: "assistant", content })), ollamaDone]
        const all = ndjson(lines, newline)
        const bytes = utf8.encode(lastNewline ? all : all.slice(0, -newline.length))
        const events = decode(Ollama.decoder, cut(bytes, positions(bytes, at)))
        expect(events.slice(0, -2)).toEqual(texts.filter((text) => text !== "").map((text) => ({ text })))
        expect(events.at(-1)).toEqual({ finished: true })
      }),
      { numRuns: 200 }
    )
  })

  it("OpenAI yields the pieces as the server wrote them", () => {
    fc.assert(
      fc.property(pieces, cuts, fc.constantFrom("\n", "\r\n"), fc.boolean(), (texts, at, newline, done) => {
        const all = sse([...texts.map((content) => chunk({ content })), chunk({}, "stop")], newline)
        const bytes = utf8.encode(done ? `${all}data: [DONE]${newline}${newline}` : all)
        const events = decode(OpenAI.decoder, cut(bytes, positions(bytes, at)))
        expect(events.slice(0, -2)).toEqual(texts.filter((text) => text !== "").map((text) => ({ text })))
        expect(events.at(-1)).toEqual({ finished: true })
      }),
      { numRuns: 200 }
    )
  })
})

describe("lines similar to the previous one", () => {
  it("fields next to the content are not lost when they repeat", () => {
    const call = { id: "1", function: { name: "f", arguments: {} } }
    const both = ollamaLine({ role: "assistant", content: "a", thinking: "t", tool_calls: [call] })
    const events = [{ thinking: "t" }, { text: "a" }, { toolCall: { id: "1", name: "f", arguments: {} } }]
    expect(alwaysTheSame(Ollama.decoder, ndjson([both, both, both])).slice(0, -1)).toEqual([
      ...events,
      ...events,
      ...events
    ])
    const delta = chunk({ content: "a", reasoning: "t" })
    expect(alwaysTheSame(OpenAI.decoder, sse([delta, delta, delta])).slice(0, -1)).toEqual(
      [1, 2, 3].flatMap(() => [{ thinking: "t" }, { text: "a" }])
    )
    // A finish reason, too, must be seen in a chunk that is otherwise like the others.
    const last = sse([chunk({ content: "a" }), chunk({ content: "a" }), chunk({ content: "a" }, "stop")])
    expect(alwaysTheSame(OpenAI.decoder, last).at(-2)).toEqual({ finish: { reason: "stop", usage: {} } })
  })

  // Few values, so that they often come again: nothing may be taken for known that is not.
  const contents = fc.constantFrom(
    "a",
    "b",
    "",
    "m",
    "T1",
    '"',
    "\\",
    '\\"',
    "你",
    "\n",
    '"content":"x"',
    '","done":false}',
    "{",
    "}"
  )
  const thoughts = fc.constantFrom(undefined, undefined, "", "t", "content")
  const calls = fc.constantFrom(undefined, undefined, undefined, [], [{ id: "1", name: "f" }], [{ id: "2", name: "f" }])
  const python = (value: unknown): string => JSON.stringify(value, null, 1).replace(/\n\s*/g, " ").replace(/^\{ /, "{")
  const ascii = (value: unknown): string =>
    JSON.stringify(value).replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)
  const writer = fc.constantFrom(JSON.stringify, python, ascii)
  /** The same object with its keys in another order. */
  const turned = (value: object, turn: boolean) => (turn ? Object.fromEntries(Object.entries(value).reverse()) : value)

  it("Ollama", () => {
    const line = fc.record({
      content: contents,
      thinking: thoughts,
      calls,
      at: fc.constantFrom("T1", "T2", "a", "m", 'x"y', undefined),
      turn: fc.boolean(),
      write: writer
    })
    const one = ({ at, calls, content, thinking, turn }: typeof line extends fc.Arbitrary<infer A> ? A : never) => {
      const tool_calls = calls?.map(({ id, name }) => ({ id, function: { name, arguments: { a: "a" } } }))
      const message = { role: "assistant", content, thinking, tool_calls }
      return turned({ model: "m", created_at: at, message: turned(message, turn), done: false }, turn)
    }
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        const transcript = lines.map((l) => `${l.write(one(l))}\n`).join("")
        const expected = lines.flatMap(({ calls, content, thinking }) => [
          ...(thinking ? [{ thinking }] : []),
          ...(content === "" ? [] : [{ text: content }]),
          ...(calls ?? []).map((call) => ({ toolCall: { ...call, arguments: { a: "a" } } }))
        ])
        expect(decode(Ollama.decoder, [utf8.encode(transcript)]).slice(0, -1)).toEqual(expected)
      }),
      { numRuns: 2_000 }
    )
  })

  it("OpenAI", () => {
    const line = fc.record({
      content: contents,
      reasoning: thoughts,
      finish: fc.constantFrom(null, null, undefined, "length"),
      usage: fc.constantFrom(undefined, null, { completion_tokens: 1 }, { completion_tokens: 2 }),
      call: fc.constantFrom(undefined, undefined, [{ index: 0, id: "1", function: { name: "f", arguments: "" } }]),
      turn: fc.boolean(),
      write: writer
    })
    const one = ({
      call,
      content,
      finish,
      reasoning,
      turn,
      usage
    }: typeof line extends fc.Arbitrary<infer A> ? A : never) => {
      const delta = turned({ role: "assistant", content, reasoning, tool_calls: call }, turn)
      const choice = turned({ index: 0, delta, finish_reason: finish }, turn)
      return turned({ id: "1", model: "m", choices: [choice], usage }, turn)
    }
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) => {
        const transcript = lines.map((l) => `data: ${l.write(one(l))}\n\n`).join("")
        const finished = lines.some(({ finish }) => finish === "length")
        const completionTokens = lines.findLast(({ usage }) => usage != null)?.usage?.completion_tokens
        const expected = [
          ...lines.flatMap(({ content, reasoning }) => [
            ...(reasoning ? [{ thinking: reasoning }] : []),
            ...(content === "" ? [] : [{ text: content }])
          ]),
          ...(finished && lines.some(({ call }) => call !== undefined)
            ? [{ toolCall: { id: "1", name: "f", arguments: {}, rawArguments: "" } }]
            : []),
          ...(finished
            ? [{ finish: { reason: "length", usage: completionTokens === undefined ? {} : { completionTokens } } }]
            : []),
          { finished }
        ]
        expect(decode(OpenAI.decoder, [utf8.encode(transcript)])).toEqual(expected)
      }),
      { numRuns: 2_000 }
    )
  })
})

describe("lines", () => {
  const split = (reads: ReadonlyArray<Uint8Array>) => {
    const lines: Array<string> = []
    const decoder = Lines.make((line) => lines.push(line))
    for (const read of reads) decoder.feed(read)
    decoder.end()
    return lines
  }

  it("are split at line ends, not at reads", () => {
    const text = fc.array(fc.oneof(fc.constantFrom("\n", "\r\n", "\r", "你", "😀", "é", " "), fc.string()), {
      maxLength: 30
    })
    fc.assert(
      fc.property(text, fc.array(fc.nat(200), { maxLength: 20 }), (parts, at) => {
        const whole = parts.join("").replaceAll("\ufeff", "")
        const bytes = utf8.encode(whole)
        const expected = whole.split(/\r\n?|\n/)
        if (expected.at(-1) === "") expected.pop()
        expect(
          split([
            ...cut(
              bytes,
              at.map((p) => Math.min(p, bytes.length)).sort((a, b) => a - b)
            )
          ])
        ).toEqual(expected)
      }),
      { numRuns: 300 }
    )
  })

  it("an empty read between CR and LF changes nothing", () => {
    expect(split([utf8.encode("a\r"), new Uint8Array(0), utf8.encode("\nb")])).toEqual(["a", "b"])
  })

  it("invalid UTF-8 affects only its own line", () => {
    const bytes = Uint8Array.from([0x61, 0xe4, 0xbd, 0x0a, 0x62, 0x0a])
    for (let at = 0; at <= bytes.length; at++) expect(split([...cut(bytes, [at])])).toEqual(["a\ufffd", "b"])
  })

  it("a line over the maximum is refused before it fills the memory", () => {
    const read = new Uint8Array(1024 * 1024).fill(0x61)
    let fed = 0
    const decoder = Lines.make(() => {})
    expect(() => {
      for (; fed < 64; fed++) decoder.feed(read)
    }).toThrow(Lines.LineTooLong)
    expect(fed).toBe(16)
  })

  it("a line at the maximum is taken", () => {
    const lines: Array<number> = []
    const decoder = Lines.make((line) => lines.push(line.length))
    const read = new Uint8Array(Lines.maxLineBytes / 4).fill(0x61)
    for (let i = 0; i < 4; i++) decoder.feed(read)
    decoder.feed(Uint8Array.of(0x0a))
    expect(lines).toEqual([Lines.maxLineBytes])
  })

  it("an event over the maximum is refused also if it spans many lines", () => {
    const read = utf8.encode(`data: ${"a".repeat(1024 * 1024)}\n`)
    const decoder = Sse.make(() => {})
    expect(() => {
      for (let fed = 0; fed < 64; fed++) decoder.feed(read)
    }).toThrow(Lines.LineTooLong)
  })
})

describe("Retry-After", () => {
  const now = Date.UTC(2026, 0, 1)
  it.each([
    [undefined, undefined],
    ["3", 3_000],
    ["0.5", 500],
    ["-1", 0],
    [new Date(now + 5_000).toUTCString(), 5_000],
    [new Date(now - 5_000).toUTCString(), 0],
    ["soon", undefined],
    ["1e300", 86_400_000],
    ["Infinity", 86_400_000]
  ])("%s", (header, rest) => {
    expect(retryAfter(header, now)).toBe(rest)
  })
})
