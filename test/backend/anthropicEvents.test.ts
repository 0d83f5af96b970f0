/** The events of Anthropic's API, read in pieces of any size. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { Finish, Sink } from "../../src/Backend.js"
import { decoder } from "../../src/backend/anthropicAnswer.js"
import type { ToolCall } from "../../src/Message.js"

type DecodedEvent =
  | { readonly text: string }
  | { readonly thinking: string }
  | { readonly call: ToolCall }
  | { readonly finish: Finish }

const utf8 = new TextEncoder()

/** The events decoded from these reads, and how the stream ended; and the blocks that are to be sent back. */
const decode = (reads: Iterable<Uint8Array>) => {
  const decodedEvents: Array<DecodedEvent> = []
  let signed: ReadonlyArray<object> = []
  const sink: Sink = {
    connected: () => {},
    read: () => {},
    flush: () => {},
    text: (text) => decodedEvents.push({ text }),
    thinking: (thinking) => decodedEvents.push({ thinking }),
    toolCall: (call) => decodedEvents.push({ call }),
    finish: (finish) => decodedEvents.push({ finish }),
    fail: () => {}
  }
  const made = decoder(sink, (blocks) => {
    signed = blocks
  })
  let error: string | undefined
  try {
    for (const read of reads) {
      const buffer = read.slice()
      made.feed(buffer)
      // A transport may use its buffer again.
      buffer.fill(0x0a)
    }
    made.end()
  } catch (cause) {
    error = cause instanceof Error ? `${cause.constructor.name}: ${cause.message}` : String(cause)
  }
  return { events: decodedEvents, error, finished: made.finished(), signed }
}

function* cut(bytes: Uint8Array, at: ReadonlyArray<number>): Generator<Uint8Array> {
  let from = 0
  for (const to of at) {
    yield bytes.subarray(from, to)
    from = to
  }
  yield bytes.subarray(from)
}

/** The same, wherever it is cut. */
const always = (transcript: string) => {
  const bytes = utf8.encode(transcript)
  const whole = decode([bytes])
  for (let at = 0; at <= bytes.length; at++) {
    const halves = decode(cut(bytes, [at]))
    if (JSON.stringify(halves) !== JSON.stringify(whole)) expect(halves, `cut at ${at}`).toEqual(whole)
  }
  expect(
    decode(
      cut(
        bytes,
        Array.from({ length: bytes.length }, (_, at) => at)
      )
    )
  ).toEqual(whole)
  fc.assert(
    fc.property(fc.array(fc.nat(bytes.length), { maxLength: 40 }), (positions) => {
      expect(
        decode(
          cut(
            bytes,
            positions.sort((a, b) => a - b)
          )
        )
      ).toEqual(whole)
    }),
    { numRuns: 50 }
  )
  return whole
}

interface Event {
  readonly type: string
  readonly [field: string]: unknown
}

const sse = (events: ReadonlyArray<Event>, newline = "\n") =>
  events.map((event) => `event: ${event.type}${newline}data: ${JSON.stringify(event)}${newline}${newline}`).join("")

const begin = (index: number, content_block: object): Event => ({ type: "content_block_start", index, content_block })
const delta = (index: number, delta: object): Event => ({ type: "content_block_delta", index, delta })
const stop = (index: number): Event => ({ type: "content_block_stop", index })
const text = (text: string, index = 0) => delta(index, { type: "text_delta", text })
const usage = { input_tokens: 9, cache_read_input_tokens: 4, cache_creation_input_tokens: 2 }
const start: Event = {
  type: "message_start",
  message: { id: "msg_1", type: "message", role: "assistant", content: [], usage: { ...usage, output_tokens: 1 } }
}
const end = (stop_reason: string, stop_sequence: string | null = null): ReadonlyArray<Event> => [
  { type: "message_delta", delta: { stop_reason, stop_sequence }, usage: { output_tokens: 3 } },
  { type: "message_stop" }
]
const counted = { promptTokens: 15, cachedTokens: 4, cacheWriteTokens: 2, completionTokens: 3, totalTokens: 18 }

const texts = ["你好", "👩‍👩‍👧 😀", "plain", " and plain", '"\\\n\r\t', '","text":"x', "\u2028", "}}\n\ndata: {", ""]
const plain = [start, begin(0, { type: "text", text: "" }), ...texts.map((piece) => text(piece)), stop(0)]
const reported = texts.filter((piece) => piece !== "").map((piece) => ({ text: piece }))

describe("events, split at any byte", () => {
  it("text of every script, and usage", () => {
    const finish = { reason: "stop", usage: counted }
    for (const newline of ["\n", "\r\n"]) {
      expect(always(sse([...plain, ...end("end_turn")], newline))).toMatchObject({
        events: [...reported, { finish }],
        error: undefined,
        finished: true
      })
    }
  })

  it("thinking, text and tool calls, with the blocks to send back", () => {
    const events = [
      start,
      begin(0, { type: "redacted_thinking", data: "c2VjcmV0" }),
      stop(0),
      begin(1, { type: "thinking", thinking: "", signature: "" }),
      delta(1, { type: "thinking_delta", thinking: "想" }),
      delta(1, { type: "thinking_delta", thinking: " hm" }),
      delta(1, { type: "signature_delta", signature: "Eq" }),
      delta(1, { type: "signature_delta", signature: "==" }),
      stop(1),
      begin(2, { type: "text", text: "So" }),
      text(": ", 2),
      text("look.", 2),
      stop(2),
      begin(3, { type: "tool_use", id: "toolu_1", name: "weather", input: {} }),
      delta(3, { type: "input_json_delta", partial_json: "" }),
      delta(3, { type: "input_json_delta", partial_json: '{"city":"Zür' }),
      delta(3, { type: "input_json_delta", partial_json: 'ich"}' }),
      stop(3),
      begin(4, { type: "tool_use", id: "toolu_2", name: "now", input: {} }),
      stop(4),
      ...end("tool_use")
    ]
    const { events: decodedEvents, finished, signed } = always(sse(events))
    expect(decodedEvents).toEqual([
      { thinking: "想" },
      { thinking: " hm" },
      { text: "So" },
      { text: ": " },
      { text: "look." },
      { call: { id: "toolu_1", name: "weather", arguments: { city: "Zürich" } } },
      { call: { id: "toolu_2", name: "now", arguments: {} } },
      { finish: { reason: "tool_calls", usage: counted } }
    ])
    expect(finished).toBe(true)
    expect(signed).toEqual([
      { type: "redacted_thinking", data: "c2VjcmV0" },
      { type: "thinking", thinking: "想 hm", signature: "Eq==" },
      { type: "text", text: "So: look." },
      { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Zürich" } },
      { type: "tool_use", id: "toolu_2", name: "now", input: {} }
    ])
  })

  it("unknown events, blocks, deltas, pings and comments are ignored", () => {
    const noise: ReadonlyArray<Event> = [
      { type: "ping" },
      { type: "weather", text: "x", delta: { type: "text_delta", text: "x" } },
      delta(0, { type: "citations_delta", citation: { cited_text: "x" } }),
      begin(7, { type: "server_tool_use", id: "srvtoolu_1", name: "web_search", input: {} }),
      delta(7, { type: "input_json_delta", partial_json: '{"query":"x"}' }),
      stop(7),
      begin(8, { type: "web_search_tool_result", tool_use_id: "srvtoolu_1", content: [{ text: "x" }] }),
      stop(8)
    ]
    const [first, second] = ["One", " two"]
    const events = `: hello\n\n${sse([start, begin(0, { type: "text", text: "" }), text(first as string), ...noise, text(second as string), ...noise, ...end("end_turn")])}`
    expect(always(events).events).toEqual([
      { text: first },
      { text: second },
      { finish: { reason: "stop", usage: counted } }
    ])
  })

  it("a stream without its last event, or without any end", () => {
    const [delta] = end("stop_sequence", "END") as [Event]
    const finish = { reason: "stop", usage: counted, stopSequence: "END" }
    expect(always(sse([...plain, delta]))).toMatchObject({ events: [...reported, { finish }], finished: true })
    expect(always(sse(plain))).toMatchObject({ events: reported, error: undefined, finished: false })
    expect(always(sse([...plain, { type: "message_stop" }]))).toMatchObject({ finished: true })
  })

  it("a tool call cut off by the token limit keeps its partial arguments", () => {
    const events = [
      start,
      begin(0, { type: "tool_use", id: "toolu_1", name: "weather", input: {} }),
      delta(0, { type: "input_json_delta", partial_json: '{"city":"Zü' }),
      ...end("max_tokens")
    ]
    expect(always(sse(events)).events).toEqual([
      { call: { id: "toolu_1", name: "weather", arguments: {}, rawArguments: '{"city":"Zü' } },
      { finish: { reason: "length", usage: counted } }
    ])
  })

  it("an error event is reported after the content before it", () => {
    const failed = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } }
    expect(always(sse([start, begin(0, { type: "text", text: "" }), text("你"), failed]))).toMatchObject({
      events: [{ text: "你" }],
      error: "Reported: Overloaded",
      finished: false
    })
    expect(always(sse([start, text("a"), ...end("error")]))).toMatchObject({ finished: false })
  })

  it("ignores everything after the end", () => {
    const more = sse([text("more"), { type: "error", error: { message: "late" } }])
    expect(always(`${sse([...plain, ...end("end_turn")])}${more}`)).toMatchObject({ error: undefined, finished: true })
  })

  it.each([
    ["a page of a proxy", "<html>\r\n<body>It works 你好.</body>\r\n</html>\r\n"],
    ["an event that breaks off", `${sse([start])}event: content_block_delta\ndata: {"type":"content_bl\n\n`],
    ["an event that is no object", "event: message_start\ndata: [1]\n\n"],
    ["events of another kind", 'data: {"id":"chatcmpl-1","choices":[]}\n\n'],
    ["an object that is no message", '{"status":"success"}']
  ])("malformed: %s", (_, transcript) => {
    expect(always(transcript)).toMatchObject({ error: expect.stringMatching(/^Malformed: /), finished: false })
  })
})

describe("a non-streamed answer, split at any byte", () => {
  const message = {
    id: "msg_1",
    type: "message",
    role: "assistant",
    content: [
      { type: "thinking", thinking: "想", signature: "Eq==" },
      { type: "text", text: "So: 😀" },
      { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Zürich" } }
    ],
    stop_reason: "tool_use",
    stop_sequence: null,
    usage: { ...usage, output_tokens: 3 }
  }
  it("is decoded block by block", () => {
    expect(always(`\n ${JSON.stringify(message)}\n`)).toEqual({
      events: [
        { thinking: "想" },
        { text: "So: 😀" },
        { call: { id: "toolu_1", name: "weather", arguments: { city: "Zürich" } } },
        { finish: { reason: "tool_calls", usage: counted } }
      ],
      error: undefined,
      finished: true,
      signed: message.content
    })
  })

  it("may be an error", () => {
    const error = { type: "error", error: { type: "api_error", message: "Internal server error" }, request_id: "req_1" }
    expect(always(JSON.stringify(error))).toMatchObject({ error: "Reported: Internal server error", finished: false })
  })
})
