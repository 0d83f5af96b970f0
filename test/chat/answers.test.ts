import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import type { Sink } from "../../src/Backend.js"
import { finishReason } from "../../src/backend/finishReason.js"
import * as Ollama from "../../src/backend/ollama.js"
import * as OpenAI from "../../src/backend/openaiAnswer.js"
import { filtered } from "../../src/backend/thinkingFilter.js"
import * as ToolArguments from "../../src/internal/toolArguments.js"
import { eventsOf, failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const { cortex, keep } = useFleet()

/** A server of either protocol that answers every chat with these bytes, and then ends or resets the connection. */
const answering = async (protocol: "openai" | "ollama", answer: string, reset = false) => {
  const bodies: Array<string> = []
  const server = createServer((request, response) => {
    const list = protocol === "openai" ? "/v1/models" : "/api/tags"
    let body = ""
    request.on("data", (data) => {
      body += data
    })
    request.on("end", () => {
      if (request.method === "POST" && /chat/.test(request.url ?? "")) {
        bodies.push(body)
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.write(answer, () => (reset ? response.destroy() : response.end()))
      } else if (request.url === list) {
        const models = [{ id: model, name: model, model }]
        response.end(JSON.stringify(protocol === "openai" ? { object: "list", data: models } : { models }))
      } else response.writeHead(404).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const close = async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  keep({ [Symbol.asyncDispose]: close })
  return { url, bodies }
}

const chunk = (delta: object, finish_reason: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`
const done = "data: [DONE]\n\n"
const line = (message: object, rest: object = { done: false }) =>
  `${JSON.stringify({ model, message: { role: "assistant", content: "", ...message }, ...rest })}\n`

const callOf = (args: unknown) => ({ id: "c1", function: { name: "f", arguments: args } })
const openAICall = (args: unknown, reason = "tool_calls") =>
  chunk({ tool_calls: [{ index: 0, ...callOf(args) }] }) + chunk({}, reason) + done
const ollamaCall = (args: unknown, reason = "stop") =>
  line({ tool_calls: [callOf(args)] }) + line({}, { done: true, done_reason: reason })

const tools = [{ name: "f" }]

const odd: ReadonlyArray<readonly [unknown, object]> = [
  ['{"a":1}', { arguments: { a: 1 } }],
  [{ a: 1 }, { arguments: { a: 1 } }],
  ["", { arguments: {} }],
  [null, { arguments: {} }],
  [undefined, { arguments: {} }],
  ["null", { arguments: {} }],
  ['"{\\"a\\":1}"', { arguments: { a: 1 } }],
  ['{"a":', { arguments: {}, rawArguments: '{"a":' }],
  ["[]", { arguments: {}, rawArguments: "[]" }],
  [[], { arguments: {}, rawArguments: "[]" }],
  ["Berlin", { arguments: {}, rawArguments: "Berlin" }],
  ["7", { arguments: {}, rawArguments: "7" }],
  [7, { arguments: {}, rawArguments: "7" }]
]

describe.each(["openai", "ollama"] as const)("tool arguments from a model (%s)", (protocol) => {
  const answer = protocol === "openai" ? openAICall : ollamaCall

  it.each(odd)("%j reach the caller, complete and streamed", async (args, expected) => {
    const { url } = await answering(protocol, answer(args))
    const fleet = cortex([{ url, protocol }])
    const whole = await fleet.complete("?", { tools })
    expect(whole).toMatchObject({ finishReason: "tool_calls", attempts: [] })
    expect(whole.toolCalls).toEqual([{ id: "c1", name: "f", ...expected }])
    const events = await eventsOf(await fleet.chat("?", { tools, stream: true }))
    const call = events.find((event) => event.type === "tool_call")
    expect(call).toEqual({ type: "tool_call", id: "c1", name: "f", ...expected, timestamp: expect.any(Number) })
    const text = events.map((event) => (event.type === "tool_call_delta" ? event.content : "")).join("")
    expect(text === "" ? {} : ToolArguments.read(text)).toEqual(expected)
  })

  it("a truncated call keeps its finish reason", async () => {
    const { url } = await answering(protocol, answer('{"a":', "length"))
    const whole = await cortex([{ url, protocol }]).complete("?", { tools })
    expect(whole).toMatchObject({ finishReason: "length", toolCalls: [{ rawArguments: '{"a":' }] })
  })

  it("an invalid envelope is still a failure of the server", async () => {
    const { url } = await answering(protocol, protocol === "openai" ? "data: {oops\n\n" : "{oops\n")
    const error = await failure(cortex([{ url, protocol }]).complete("?", { tools, maxRetries: 1 }))
    expect(error.attempts[0]).toMatchObject({ reason: "malformed" })
  })
})

describe("finish reasons", () => {
  it.each([
    [
      undefined,
      ["abort", "aborted", "cancelled", "canceled", "error", "insufficient_system_resource", "network_error"]
    ],
    [undefined, ["ERROR", "USER_CANCEL", "modelUnloaded", "engine_failure", "timeout", "not_finished"]],
    [
      "length",
      ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length", "maxPredictedTokensReached"]
    ],
    ["stop", ["stop", "STOP", "eos", "eos_token", "eosFound", "end_turn", "stop_sequence", "something"]],
    ["content_filter", ["content_filter", "SAFETY", "refusal", "guardrail_intervened"]],
    ["tool_calls", ["tool_calls", "function_call", "tool_use", "toolCalls"]]
  ] as const)("%s: %j", (expected, words) => {
    for (const word of words) expect([word, finishReason(word)]).toEqual([word, expected])
  })

  it.each(["abort", "insufficient_system_resource", "network_error"])(
    "an answer that ended with %s goes on elsewhere",
    async (reason) => {
      const bad = await answering("openai", chunk({ content: "Hel" }) + chunk({}, reason) + done)
      const good = await answering("openai", chunk({ content: "Hello" }) + chunk({}, "stop") + done)
      const order = [bad, good].map(({ url }, priority) => ({ url, priority, protocol: "openai" as const }))
      const answer = await cortex(order).complete("?")
      expect(answer).toMatchObject({ text: "Hello", server: good.url, attempts: [{ server: bad.url }] })
    }
  )
})

describe("usage", () => {
  it("cached and reasoning tokens are reported on every API", async () => {
    const usage = {
      prompt_tokens: 20,
      completion_tokens: 5,
      total_tokens: 25,
      prompt_tokens_details: { cached_tokens: 12 },
      completion_tokens_details: { reasoning_tokens: 3 }
    }
    const counted = `data: ${JSON.stringify({ choices: [], usage })}\n\n`
    const { url } = await answering("openai", chunk({ content: "a" }, "stop") + counted + done)
    const { usage: reported } = await cortex([{ url, protocol: "openai" }]).complete("?")
    expect(reported).toMatchObject({ promptTokens: 20, cachedTokens: 12, reasoningTokens: 3 })
    const gateway = keep(await startGateway([url]))
    // biome-ignore lint/suspicious/noExplicitAny: the bodies of four protocols.
    const ask = async (path: string, body: object): Promise<any> =>
      (await gateway.post(path, { model, ...body })).json()
    const messages = [{ role: "user", content: "?" }]
    expect((await ask("/v1/chat/completions", { messages })).usage).toMatchObject({
      prompt_tokens_details: { cached_tokens: 12 },
      completion_tokens_details: { reasoning_tokens: 3 }
    })
    expect((await ask("/v1/responses", { input: "?" })).usage).toMatchObject({
      input_tokens_details: { cached_tokens: 12 },
      output_tokens_details: { reasoning_tokens: 3 }
    })
    expect((await ask("/v1/messages", { messages, max_tokens: 9 })).usage).toMatchObject({
      input_tokens: 8,
      cache_read_input_tokens: 12
    })
    expect(await ask("/api/chat", { messages, stream: false })).toMatchObject({ prompt_eval_cached_count: 12 })
  })

  it("Ollama's cached tokens are not part of the evaluated ones", () => {
    const last = { done: true, done_reason: "stop", prompt_eval_count: 11, prompt_eval_cached_count: 8, eval_count: 1 }
    expect(decoded("ollama", line({}, last)).finish).toMatchObject({
      usage: { promptTokens: 11, cachedTokens: 8 },
      promptEvaluated: 3
    })
  })
})

/** What a decoder tells of a transcript. */
const decoded = (protocol: "openai" | "ollama", transcript: string, format: unknown = "text") => {
  const collected = {
    text: "",
    thinking: "",
    deltas: [] as Array<string>,
    calls: [] as Array<unknown>,
    finish: undefined
  }
  const sink = {
    connected() {},
    read() {},
    flush() {},
    fail() {},
    text: (text: string) => {
      collected.text += text
    },
    thinking: (text: string) => {
      collected.thinking += text
    },
    toolCallDelta: (index: number, _: string, __: string, text: string) => {
      collected.deltas[index] = (collected.deltas[index] ?? "") + text
    },
    toolCall: ({ arguments: args, name }: { arguments: object; name: string }) => collected.calls.push([name, args]),
    finish: (finish: undefined) => {
      collected.finish = finish
    }
  } as unknown as Sink
  const decoder =
    protocol === "openai" ? OpenAI.decoder(filtered(format, sink)) : Ollama.decoder(filtered(format, sink))
  const bytes = new TextEncoder().encode(transcript)
  for (const byte of bytes) decoder.feed(new Uint8Array([byte]))
  decoder.end()
  return collected
}

describe("pieces of tool calls are joined", () => {
  const piece = (fields: object, args?: string, name?: string) => ({
    ...fields,
    function: { ...(name === undefined ? {} : { name }), ...(args === undefined ? {} : { arguments: args }) }
  })
  const one = ["f", { a: 1, b: 2 }]
  it.each<[string, ReadonlyArray<ReadonlyArray<object>>, ReadonlyArray<unknown>]>([
    ["without an index", [[piece({ id: "x" }, "", "f")], [piece({}, '{"a":1,')], [piece({}, '"b":2}')]], [one]],
    ["index null", [[piece({ index: null, id: "x" }, '{"a":1,', "f")], [piece({ index: null }, '"b":2}')]], [one]],
    ["other ids", [[piece({ index: 0, id: "x" }, '{"a":1,', "f")], [piece({ index: 0, id: "y" }, '"b":2}')]], [one]],
    ["other ids, no index", [[piece({ id: "x" }, '{"a":1,', "f")], [piece({ id: "y" }, '"b":2}')]], [one]],
    [
      "the name again",
      [[piece({ index: 0, id: "x" }, '{"a":1,', "f")], [piece({ index: 0, id: "x" }, '"b":2}', "f")]],
      [one]
    ],
    [
      "the name again, other ids",
      [[piece({ index: 0, id: "x" }, '{"a":1,', "f")], [piece({ index: 0, id: "y" }, '"b":2}', "f")]],
      [one]
    ],
    [
      "an empty id",
      [[piece({ index: 0, id: "x" }, '{"a":1,', "f")], [piece({ index: 0, id: "" }, '"b":2}', "")]],
      [one]
    ],
    [
      "all index 0",
      [[piece({ index: 0, id: "x" }, '{"a":1}', "f")], [piece({ index: 0, id: "y" }, "{}", "f")]],
      [
        ["f", { a: 1 }],
        ["f", {}]
      ]
    ],
    [
      "no index, by name",
      [[piece({}, '{"a":1}', "f")], [piece({}, '{"b"', "g")], [piece({}, ":2}")]],
      [
        ["f", { a: 1 }],
        ["g", { b: 2 }]
      ]
    ],
    [
      "no index, in one delta",
      [[piece({ id: "x" }, "{}", "f"), piece({ id: "y" }, "{}", "f")]],
      [
        ["f", {}],
        ["f", {}]
      ]
    ],
    [
      "mixed",
      [
        [piece({ index: 0, id: "x" }, '{"a"', "f"), piece({ index: 1, id: "y" }, '{"b"', "g")],
        [piece({ index: 1 }, ":2}"), piece({ index: 0 }, ":1}")]
      ],
      [
        ["f", { a: 1 }],
        ["g", { b: 2 }]
      ]
    ]
  ])("%s", (_, deltas, expected) => {
    const transcript = deltas.map((calls) => chunk({ tool_calls: calls })).join("") + chunk({}, "stop") + done
    const { calls, deltas: received } = decoded("openai", transcript)
    expect(calls).toEqual(expected)
    expect(received.map((text) => JSON.parse(text))).toEqual(
      (expected as Array<[string, object]>).map(([, args]) => args)
    )
  })
})

describe("arguments are streamed as they arrive", () => {
  const pieces = ['{"city"', ': "Ber', 'lin"}']
  const stream =
    chunk({ tool_calls: [{ index: 0, id: "c1", function: { name: "f", arguments: "" } }] }) +
    pieces.map((text) => chunk({ tool_calls: [{ index: 0, function: { arguments: text } }] })).join("")
  const end = chunk({}, "tool_calls") + done

  it.each([
    [
      "/v1/chat/completions",
      { messages: [{ role: "user", content: "?" }], tools: [{ type: "function", function: { name: "f" } }] },
      /"arguments":("(?:[^"\\]|\\.)+")/g
    ],
    ["/v1/responses", { input: "?", tools: [{ type: "function", name: "f" }] }, /"delta":("(?:[^"\\]|\\.)*")/g],
    [
      "/v1/messages",
      {
        max_tokens: 9,
        messages: [{ role: "user", content: "?" }],
        tools: [{ name: "f", input_schema: { type: "object" } }]
      },
      /"partial_json":("(?:[^"\\]|\\.)*")/g
    ]
  ] as const)("%s", async (path, body, pattern) => {
    const { url } = await answering("openai", stream + end)
    const gateway = keep(await startGateway([url]))
    const text = await (await gateway.post(path, { model, stream: true, ...body })).text()
    expect([...text.matchAll(pattern)].map(([, one]) => JSON.parse(one ?? ""))).toEqual(pieces)
  })

  it("after a failure, another server must repeat them; whitespace does not count", async () => {
    const broken = await answering("openai", stream.slice(0, stream.lastIndexOf("data:")), true)
    const good = await answering("openai", openAICall('{"city":"Berlin","n":1}'))
    const order = [broken, good].map(({ url }, priority) => ({ url, priority, protocol: "openai" as const }))
    const events = await eventsOf(await cortex(order).chat("?", { tools, stream: true }))
    const text = events.map((event) => (event.type === "tool_call_delta" ? event.content : "")).join("")
    expect(JSON.parse(text)).toEqual({ city: "Berlin", n: 1 })
    expect(events.filter((event) => event.type === "tool_call")).toMatchObject([
      { id: "c1", arguments: { city: "Berlin", n: 1 } }
    ])
  })

  it("if no server repeats them, the answer fails and nothing is mixed", async () => {
    const broken = await answering("openai", stream.slice(0, stream.lastIndexOf("data:")), true)
    const other = await answering("openai", openAICall('{"city":"Paris"}'))
    const order = [broken, other].map(({ url }, priority) => ({ url, priority, protocol: "openai" as const }))
    const answer = await cortex(order).chat("?", { tools, stream: true, maxRetries: 1 })
    const error = await failure(eventsOf(answer))
    expect(error._tag).toBe("StreamInterrupted")
    const text = answer.events.map((event) => (event.type === "tool_call_delta" ? event.content : "")).join("")
    expect(text).toBe('{"city": "Ber')
    expect(answer.events.some((event) => event.type === "tool_call")).toBe(false)
  })

  it("the library's own tools: invalid arguments go back to the model", async () => {
    const { bodies, url } = await answering("openai", openAICall('{"a":'))
    let ran = 0
    const own = [{ name: "f", execute: () => ++ran }]
    const answer = await cortex([{ url, protocol: "openai" }]).complete("?", { tools: own, maxToolRounds: 2 })
    expect(answer.toolCalls).toMatchObject([{ rawArguments: '{"a":' }])
    expect([ran, bodies.length]).toEqual([0, 3])
    const sent = JSON.parse(bodies[1] ?? "").messages
    expect(JSON.parse(sent.at(-2).tool_calls[0].function.arguments)).toEqual({ INVALID_JSON: '{"a":' })
    expect(sent.at(-1)).toMatchObject({ role: "tool", content: expect.stringContaining("not a JSON object") })
  })
})

describe("events in other forms", () => {
  const said = chunk({ content: "a" }) + chunk({ content: "b" }, "stop")
  it.each([
    ["CR alone", (said + done).replaceAll("\n", "\r")],
    ["CRLF and a byte order mark", `\uFEFF${(said + done).replaceAll("\n", "\r\n")}`],
    ["named", (said + done).replaceAll("data:", "event: message\ndata:")],
    [
      "pings",
      `event: ping\ndata: 1\n\ndata: {"type":"ping"}\n\n${said}data: {"prompt_progress":{"total":3}}\n\n${done}`
    ],
    ["both names of the reasoning", chunk({ content: "", reasoning: "t", reasoning_content: "t" }) + said + done],
    ["reasoning beside an empty one", chunk({ reasoning: "t", reasoning_content: "" }) + said + done],
    ["an empty one beside it", chunk({ reasoning: "", reasoning_content: "t" }) + said + done]
  ])("%s", (name, transcript) => {
    const { finish, text, thinking } = decoded("openai", transcript)
    expect({ finish, text, thinking }).toEqual({
      finish: { reason: "stop", usage: {} },
      text: "ab",
      thinking: /reasoning|empty/.test(name) ? "t" : ""
    })
  })

  it("an event named error is an error", () => {
    expect(() => decoded("openai", `event: error\ndata: {"message":"no memory"}\n\n`)).toThrow("no memory")
    expect(() => decoded("openai", "event: error\ndata: no memory\n\n")).toThrow("no memory")
  })
})

describe.each(["openai", "ollama"] as const)("reasoning before JSON (%s)", (protocol) => {
  const answer = (text: string) => {
    const pieces = text.match(/.{1,3}/gs) ?? []
    return protocol === "openai"
      ? pieces.map((content) => chunk({ content })).join("") + chunk({}, "stop") + done
      : pieces.map((content) => line({ content })).join("") + line({}, { done: true, done_reason: "stop" })
  }
  it.each([
    ['<think>Hm {"b":2}.</think>\n\n{"a":1}', 'Hm {"b":2}.'],
    ['\n<thinking>Hm.</thinking>{"a":1}', "Hm."],
    ['Hm.\n</think>\n{"a":1}', "Hm."],
    ['<think>Hm. {"a":1}', "Hm."],
    ['{"a":1}', ""]
  ])("%s", (text, thought) => {
    const reported = decoded(protocol, answer(text), "json")
    expect([reported.text, reported.thinking]).toEqual(['{"a":1}', thought])
    // Text that was not asked for as JSON is left as it is.
    expect(decoded(protocol, answer(text)).text).toBe(text)
  })
  it("through the gateway, complete and streamed", async () => {
    const { url } = await answering(protocol, answer('<think>Hm.</think>{"a":1}'))
    const gateway = keep(await startGateway([url]))
    const body = { model, messages: [{ role: "user", content: "?" }], response_format: { type: "json_object" } }
    // biome-ignore lint/suspicious/noExplicitAny: a body.
    const whole: any = await (await gateway.post("/v1/chat/completions", body)).json()
    expect(whole.choices[0].message).toMatchObject({ content: '{"a":1}', reasoning: "Hm." })
    const written = await (await gateway.post("/v1/chat/completions", { ...body, stream: true })).text()
    const parts = [...written.matchAll(/"content":("(?:[^"\\]|\\.)*")/g)].map(([, one]) => JSON.parse(one ?? ""))
    const text = parts.join("")
    expect(text).toBe('{"a":1}')
  })
})
