import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import * as OpenAI from "../../src/backend/openai.js"
import * as Chat from "../../src/Chat.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import * as CortexLayer from "../../src/Cortex.js"
import {
  type ChatOptions,
  InvalidRequest,
  type Message,
  SchemaMismatch,
  SessionNotFound,
  type Tool,
  ToolFailed
} from "../../src/promise.js"
import * as Server from "../../src/Server.js"
import * as StructuredOutput from "../../src/StructuredOutput.js"
import type { Json, Reply, ScriptedReply } from "../support/fakeServer.js"
import { chats, eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const protocols = ["ollama", "openai"] as const
type Protocol = (typeof protocols)[number]

const capable = [{ name: model, capabilities: ["completion", "tools", "thinking", "vision"] }]
const start = (protocol: Protocol, reply: Reply = "well"): Promise<Fake> =>
  protocol === "ollama"
    ? fleet.ollama({ reply, models: capable })
    : fleet.openai({ reply, models: capable, flavour: "vllm" })

const alone = async (protocol: Protocol, reply?: Reply) => {
  const server = await start(protocol, reply)
  const body = (i = -1): Json => server.chatRequests.at(i)?.body
  return { server, body, cortex: fleet.cortex([server]) }
}

const hi = [{ role: "user", content: "Hi" }]

describe("requests to Ollama", () => {
  const sent = async (options: Omit<ChatOptions, "stream">, prompt: Chat.Prompt = "Hi") => {
    const { body, cortex } = await alone("ollama")
    await cortex.complete(prompt, options)
    return body()
  }
  const plain = { model, messages: hi, stream: true, options: { temperature: 0.7, top_p: 1 } }

  it("contain only what the caller set", async () => {
    expect(await sent({})).toEqual(plain)
  })

  it.each<[string, ChatOptions, Json]>([
    ["temperature", { temperature: 0 }, { options: { temperature: 0, top_p: 1 } }],
    ["topP", { topP: 0.25 }, { options: { temperature: 0.7, top_p: 0.25 } }],
    ["maxTokens", { maxTokens: 5 }, { options: { temperature: 0.7, top_p: 1, num_predict: 5 } }],
    ["stop", { stop: "x" }, { options: { temperature: 0.7, top_p: 1, stop: ["x"] } }],
    ["stops", { stop: ["4.", "\n\n"] }, { options: { temperature: 0.7, top_p: 1, stop: ["4.", "\n\n"] } }],
    ["seed", { seed: -3 }, { options: { temperature: 0.7, top_p: 1, seed: -3 } }],
    [
      "frequencyPenalty",
      { frequencyPenalty: 1.5 },
      { options: { temperature: 0.7, top_p: 1, frequency_penalty: 1.5 } }
    ],
    ["presencePenalty", { presencePenalty: -2 }, { options: { temperature: 0.7, top_p: 1, presence_penalty: -2 } }],
    ["topK", { topK: 0 }, { options: { temperature: 0.7, top_p: 1, top_k: 0 } }],
    ["minP", { minP: 0.05 }, { options: { temperature: 0.7, top_p: 1, min_p: 0.05 } }],
    ["repeatPenalty", { repeatPenalty: 1.1 }, { options: { temperature: 0.7, top_p: 1, repeat_penalty: 1.1 } }],
    ["keepAlive", { keepAlive: "5m" }, { keep_alive: "5m" }],
    ["keepAlive for ever", { keepAlive: -1 }, { keep_alive: -1 }],
    ["keepAlive in parts", { keepAlive: "1h2m0.5s" }, { keep_alive: "1h2m0.5s" }],
    ["think", { think: true }, { think: true }],
    ["do not think", { think: false }, { think: false }],
    ["think hard", { think: "high" }, { think: "high" }],
    [
      "raw options, which win",
      { temperature: 0.1, options: { num_ctx: 2048, mirostat: 2, temperature: 0.9 } },
      { options: { temperature: 0.9, top_p: 1, num_ctx: 2048, mirostat: 2 } }
    ],
    ["system", { system: "Be brief." }, { messages: [{ role: "system", content: "Be brief." }, ...hi] }],
    [
      "nothing of timeouts and routing",
      {
        timeout: 900,
        deadline: 9000,
        maxRetries: 2,
        retryBackoff: 1,
        routing: "nearest",
        connectTimeout: 500,
        firstTokenTimeout: 600,
        idleTimeout: 700
      },
      {}
    ],
    [
      "undefined is as if left out",
      { temperature: undefined, stop: undefined, system: undefined, tools: undefined },
      {}
    ]
  ])("%s", async (_, options, difference) => {
    expect(await sent(options)).toEqual({ ...plain, ...difference })
  })

  it("tools with and without parameters; the choice none sends none", async () => {
    const parameters = { type: "object", properties: { city: { type: "string" } } }
    const tools = [{ name: "weather", description: "Tells the weather.", parameters }, { name: "time" }]
    const expected = [
      { type: "function", function: { name: "weather", description: "Tells the weather.", parameters } },
      { type: "function", function: { name: "time", parameters: { type: "object", properties: {} } } }
    ]
    expect(await sent({ tools })).toEqual({ ...plain, tools: expected })
    expect(await sent({ tools, toolChoice: "auto" })).toEqual({ ...plain, tools: expected })
    expect(await sent({ tools, toolChoice: "none" })).toEqual(plain)
  })

  it("a whole conversation, with images and tool results", async () => {
    const messages: ReadonlyArray<Message> = [
      { role: "developer", content: "Be kind." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is " },
          { type: "image", data: "aGk=", mediaType: "image/png" },
          { type: "text", text: "this?" }
        ]
      },
      { role: "assistant", content: "", thinking: "hm", toolCalls: [{ id: "c1", name: "look", arguments: { x: 1 } }] },
      { role: "tool", content: "a cat", toolCallId: "c1", toolName: "look" }
    ]
    expect(await sent({}, messages)).toEqual({
      ...plain,
      messages: [
        { role: "system", content: "Be kind." },
        { role: "user", content: "What is this?", images: ["aGk="] },
        {
          role: "assistant",
          content: "",
          thinking: "hm",
          tool_calls: [{ id: "c1", function: { name: "look", arguments: { x: 1 } } }]
        },
        { role: "tool", content: "a cat", tool_name: "look", tool_call_id: "c1" }
      ]
    })
  })

  it("go to /api/chat as JSON, with the key that was given", async () => {
    const server = await fleet.ollama({ apiKey: "k-1" })
    await fleet.cortex([{ url: server.url, apiKey: "k-1" }]).chat("Hi")
    const [request] = server.chatRequests
    expect(request).toMatchObject({ method: "POST", path: "/api/chat", query: "" })
    expect(request?.headers).toMatchObject({ "content-type": "application/json", authorization: "Bearer k-1" })
    const error = await failure(fleet.cortex([{ url: server.url, apiKey: "wrong" }]).chat("Hi"))
    expect(error).toMatchObject({ _tag: "AllServersFailed", attempts: [{ reason: "unauthorized", status: 401 }] })
    expect(JSON.stringify(error) + error.message + String(error.stack)).not.toContain("wrong")
  })
})

describe("requests to OpenAI's API", () => {
  const sent = async (options: Omit<ChatOptions, "stream">, prompt: Chat.Prompt = "Hi") => {
    const { body, cortex } = await alone("openai")
    await cortex.complete(prompt, options)
    return body()
  }
  const plain = {
    model,
    messages: hi,
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0.7,
    top_p: 1
  }

  it("contain only what the caller set, so that OpenAI itself accepts them", async () => {
    expect(await sent({})).toEqual(plain)
    const strict = await fleet.openai({ flavour: "openai" })
    const options = { maxTokens: 5, stop: "x", seed: 1, frequencyPenalty: 1, presencePenalty: 1, think: "low" } as const
    expect(await fleet.cortex([strict]).complete("Hi", { ...options, tools: [{ name: "f" }] })).toMatchObject({
      attempts: []
    })
  })

  it.each<[string, ChatOptions, Json]>([
    ["temperature", { temperature: 2 }, { temperature: 2 }],
    ["topP", { topP: 0 }, { top_p: 0 }],
    ["maxTokens", { maxTokens: 5 }, { max_tokens: 5 }],
    ["stop", { stop: "x" }, { stop: ["x"] }],
    ["seed", { seed: 7 }, { seed: 7 }],
    ["frequencyPenalty", { frequencyPenalty: 1.5 }, { frequency_penalty: 1.5 }],
    ["presencePenalty", { presencePenalty: -2 }, { presence_penalty: -2 }],
    ["topK", { topK: 40 }, { top_k: 40 }],
    ["minP", { minP: 0.05 }, { min_p: 0.05 }],
    ["repeatPenalty", { repeatPenalty: 1.1 }, { repeat_penalty: 1.1, repetition_penalty: 1.1 }],
    ["think", { think: true }, { chat_template_kwargs: { enable_thinking: true } }],
    ["do not think", { think: false }, { chat_template_kwargs: { enable_thinking: false } }],
    ["think hard", { think: "high" }, { reasoning_effort: "high" }],
    ["system", { system: "Be brief." }, { messages: [{ role: "system", content: "Be brief." }, ...hi] }],
    ["no options of Ollama's, where there are none", { options: {} }, {}],
    [
      "nothing of timeouts and routing",
      { timeout: 900, deadline: 9000, maxRetries: 2, retryBackoff: 1, routing: "balanced" },
      {}
    ]
  ])("%s", async (_, options, difference) => {
    expect(await sent(options)).toEqual({ ...plain, ...difference })
  })

  it("tools and the choice between them", async () => {
    const parameters = { type: "object", properties: { city: { type: "string" } } }
    const tools = [{ name: "weather", description: "Tells the weather.", parameters, strict: true }, { name: "time" }]
    const expected = [
      { type: "function", function: { name: "weather", description: "Tells the weather.", parameters, strict: true } },
      { type: "function", function: { name: "time", parameters: { type: "object", properties: {} } } }
    ]
    expect(await sent({ tools })).toEqual({ ...plain, tools: expected })
    for (const toolChoice of ["auto", "none"] as const) expect(await sent({ toolChoice })).toEqual(plain)
    for (const toolChoice of ["auto", "none", "required"] as const) {
      expect(await sent({ tools, toolChoice })).toEqual({ ...plain, tools: expected, tool_choice: toolChoice })
    }
    const tool_choice = { type: "function", function: { name: "time" } }
    expect(await sent({ tools, toolChoice: { name: "time" } })).toEqual({ ...plain, tools: expected, tool_choice })
  })

  it("refuses a tool that must be called and is not there", async () => {
    const server = await fleet.openai()
    const cortex = fleet.cortex([server])
    for (const options of [
      { toolChoice: "required" },
      { toolChoice: "required", tools: [] },
      { toolChoice: { name: "time" } },
      { toolChoice: { name: "time" }, tools: [{ name: "weather" }] }
    ] as const) {
      const error = await failure(cortex.complete("Hi", options))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field: "toolChoice" })
    }
    expect(server.chatRequests).toEqual([])
  })

  it("names of speakers, and the detail of images", async () => {
    const image = { type: "image", data: "aGk=", mediaType: "image/png", detail: "low" } as const
    const messages: ReadonlyArray<Message> = [
      { role: "system", content: "Be kind.", name: "house" },
      { role: "user", content: [image], name: "alice" },
      { role: "assistant", content: "A cat.", name: "eve" },
      { role: "user", content: "Sure?", name: "bob" }
    ]
    const image_url = { url: "data:image/png;base64,aGk=", detail: "low" }
    expect((await sent({}, messages)).messages).toEqual([
      messages[0],
      { role: "user", content: [{ type: "image_url", image_url }], name: "alice" },
      ...messages.slice(2)
    ])
    for (const [field, wrong] of [
      ["messages.0.name", { role: "user", content: "Hi", name: 1 }],
      ["messages", { role: "user", content: [{ ...image, detail: "sharp" }] }]
    ] as const) {
      const error = await failure((await alone("openai")).cortex.chat([wrong as never]))
      expect(error).toMatchObject({ _tag: "InvalidRequest" })
      expect((error as { field: string }).field).toContain(field.slice(0, 8))
    }
  })

  it("a whole conversation, with images and tool results", async () => {
    const messages: ReadonlyArray<Message> = [
      { role: "developer", content: "Be kind." },
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?" },
          { type: "image", data: "aGk=", mediaType: "image/png" },
          { type: "image", url: "https://example.invalid/cat.png" }
        ]
      },
      { role: "assistant", content: "", toolCalls: [{ id: "c1", name: "look", arguments: { x: "你" } }] },
      { role: "tool", content: "a cat", toolCallId: "c1", toolName: "look" },
      { role: "assistant", content: "A cat." },
      { role: "user", content: "Sure?" }
    ]
    expect(await sent({}, { messages })).toEqual({
      ...plain,
      messages: [
        { role: "system", content: "Be kind." },
        {
          role: "user",
          content: [
            { type: "text", text: "What is this?" },
            { type: "image_url", image_url: { url: "data:image/png;base64,aGk=" } },
            { type: "image_url", image_url: { url: "https://example.invalid/cat.png" } }
          ]
        },
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "c1", type: "function", function: { name: "look", arguments: '{"x":"你"}' } }]
        },
        { role: "tool", content: "a cat", tool_call_id: "c1" },
        { role: "assistant", content: "A cat." },
        { role: "user", content: "Sure?" }
      ]
    })
  })

  it("go to /v1/chat/completions, whether the address says /v1 or not", async () => {
    const server = await fleet.openai({ apiKey: "k-1" })
    for (const url of [server.url, `${server.url}/v1`, `${server.url}/v1/`]) {
      await fleet.cortex([{ url, apiKey: "k-1", protocol: "openai" }]).chat("Hi")
    }
    expect(server.chatRequests.map(({ path }) => path)).toEqual(Array(3).fill("/v1/chat/completions"))
    expect(server.chatRequests[0]?.headers["authorization"]).toBe("Bearer k-1")
  })

  it("OpenAI itself gets max_completion_tokens", () => {
    const request = ChatRequest.make({ maxTokens: 5 }, "m", [{ role: "user", content: "Hi" }], "text")
    const body = (url: string) => OpenAI.body({ ...Server.embedded, url }, request)
    for (const url of ["https://api.openai.com", "https://x.openai.azure.com/openai/v1"]) {
      expect(body(url)).toMatchObject({ max_completion_tokens: 5 })
      expect(body(url)).not.toHaveProperty("max_tokens")
    }
    for (const url of ["http://127.0.0.1:8000", "https://openai.com.example.org/v1"]) {
      expect(body(url)).toMatchObject({ max_tokens: 5 })
    }
  })

  it("OpenAI itself gets what its models take: those that reason have a temperature of their own", () => {
    const sent = (model: string, options: ChatRequest.CheckedOptions, url = "https://api.openai.com") => {
      const request = ChatRequest.make(options, model, [{ role: "user", content: "Hi" }], "text")
      const { model: _, messages, stream, stream_options, ...rest } = OpenAI.body({ ...Server.embedded, url }, request)
      return JSON.parse(JSON.stringify(rest))
    }
    const samplers = { temperature: 0.7, top_p: 1 }
    for (const model of ["o1", "o4-mini-2025-04-16", "ft:o3-mini:me", "gpt-5", "gpt-5-nano", "team-gpt-5.2", "GPT-6"]) {
      expect(sent(model, {}), model).toEqual({})
      expect(sent(model, { temperature: 1, think: true }), model).toEqual({ reasoning_effort: "medium" })
      expect(sent(model, { think: "low" }), model).toEqual({ reasoning_effort: "low" })
      // What the caller wrote is not a default, though it is the same.
      expect(sent(model, { temperature: 0.7 }), model).toEqual({ temperature: 0.7 })
      expect(sent(model, { temperature: 0.2, topP: 0.5 }), model).toEqual({ temperature: 0.2, top_p: 0.5 })
    }
    for (const model of ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "gpt-oss:20b", "my-model", "foo1"]) {
      expect(sent(model, {}), model).toEqual(samplers)
      expect(sent(model, { think: false }), model).toEqual(samplers)
      expect(sent(model, { think: "high" }), model).toEqual({ ...samplers, reasoning_effort: "high" })
    }
    expect(sent("gpt-5", { think: false })).toEqual({ reasoning_effort: "minimal" })
    expect(sent("gpt-5.1", { think: false })).toEqual({ reasoning_effort: "none" })
    for (const [model, effort] of [
      ["o3", "high"],
      ["gpt-5", "high"],
      ["gpt-5.1-codex-max", "xhigh"],
      ["gpt-5.2", "xhigh"]
    ] as const) {
      expect(sent(model, { think: "max" })).toEqual({ reasoning_effort: effort })
    }
    // Others have no such rules, and their own switch.
    const vllm = "http://127.0.0.1:8000"
    expect(sent("gpt-5", { think: true }, vllm)).toEqual({
      ...samplers,
      chat_template_kwargs: { enable_thinking: true }
    })
    expect(sent("gpt-5", { think: "max" }, vllm)).toEqual({ ...samplers, reasoning_effort: "max" })
  })
})

// -----------------------------------------------------------------------------

describe.each(protocols)("answers (%s)", (protocol) => {
  it("a prompt, a list of messages, or an object of messages", async () => {
    const { body, cortex } = await alone(protocol)
    const messages: ReadonlyArray<Message> = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" }
    ]
    for (const prompt of ["Hi", messages, { messages }]) {
      expect(await cortex.chat(prompt)).toBe("well")
      expect(body().messages).toEqual(typeof prompt === "string" ? hi : messages)
    }
    // A system prompt of the call comes before those of the conversation.
    await cortex.chat(messages, { system: "First." })
    const all = body().messages.map(({ content }: Json) => content)
    expect(all).toEqual(protocol === "ollama" ? ["First.", "Be brief.", "Hi"] : ["First.\n\nBe brief.", "Hi"])
  })

  it("complete returns all of it", async () => {
    const { cortex, server } = await alone(protocol, {
      tokens: ["The", " sky", " is", " blue."],
      thinking: ["Hm", ", why"],
      usage: { promptTokens: 11, completionTokens: 6 }
    })
    const began = Date.now()
    const answer = await cortex.complete("Why?", { think: "low" })
    const elapsed = Date.now() - began
    expect(answer).toEqual({
      text: "The sky is blue.",
      thinking: "Hm, why",
      toolCalls: [],
      model,
      server: server.url,
      finishReason: "stop",
      usage: { promptTokens: 11, completionTokens: 6, totalTokens: 17 },
      firstTokenTime: expect.any(Number),
      // By our clock only where it came slowly enough to be measured.
      tokensPerSecond: protocol === "ollama" ? expect.any(Number) : answer.tokensPerSecond,
      attempts: [],
      cached: false,
      decision: expect.anything()
    })
    expect(answer.firstTokenTime).toBeGreaterThanOrEqual(0)
    expect(answer.firstTokenTime).toBeLessThanOrEqual(elapsed)
    if (answer.tokensPerSecond !== undefined) expect(answer.tokensPerSecond).toBeGreaterThan(0)
  })

  it("finish reasons: natural end, stop sequence, token limit", async () => {
    const { cortex } = await alone(protocol, ["one", " two", " three"])
    expect(await cortex.complete("Count.")).toMatchObject({ text: "one two three", finishReason: "stop" })
    expect(await cortex.complete("Count.", { stop: " th" })).toMatchObject({ text: "one two", finishReason: "stop" })
    expect(await cortex.complete("Count.", { maxTokens: 1 })).toMatchObject({ text: "one", finishReason: "length" })
  })

  it("an empty answer is an answer", async () => {
    const { cortex } = await alone(protocol, "")
    expect(await cortex.chat("Hi")).toBe("")
    expect((await eventsOf(await cortex.chat("Hi", { stream: true }))).map(({ type }) => type)).toEqual([
      "start",
      "meta",
      "end"
    ])
  })

  it("text of every script, one read per byte", async () => {
    const text = "你好, 👩‍👩‍👧 नमस्ते e\u0301 😀 \u2028 end."
    const { cortex, server } = await alone(protocol, text)
    await server.setBehaviour({ faults: { kind: "splitUtf8" } })
    expect(await cortex.chat("Hi")).toBe(text)
    const events = await eventsOf(await cortex.chat("Hi", { stream: true }))
    expect(textOf(events)).toBe(text)
    expect(JSON.stringify(events)).not.toContain("\ufffd")
  })

  it("events: one start, thinking, tokens counted from 0, an end with the totals", async () => {
    const { cortex, server } = await alone(protocol, {
      tokens: ["The", " sky"],
      thinking: ["Hm"],
      usage: { promptTokens: 11, completionTokens: 3 }
    })
    const began = Date.now()
    const events = await eventsOf(await cortex.chat("Why?", { stream: true }))
    const over = Date.now()
    const timestamp = expect.any(Number)
    expect(events).toEqual([
      { type: "start", content: "", model, timestamp },
      { type: "meta", meta: expect.objectContaining({ type: "attempt", server: server.url, attempt: 1 }), timestamp },
      { type: "thinking", content: "Hm", timestamp },
      { type: "token", content: "The", index: 0, timestamp },
      { type: "token", content: " sky", index: 1, timestamp },
      {
        type: "end",
        content: "",
        model,
        server: server.url,
        usage: { promptTokens: 11, completionTokens: 3, totalTokens: 14 },
        finishReason: "stop",
        firstTokenTime: expect.any(Number),
        ...(protocol === "ollama" ? { tokensPerSecond: expect.any(Number) } : {}),
        attempts: [],
        timestamp
      }
    ])
    const times = events.map((event) => event.timestamp)
    expect(times).toEqual([...times].sort((a, b) => a - b))
    expect(times[0]).toBeGreaterThanOrEqual(began - 1)
    expect(times.at(-1)).toBeLessThanOrEqual(over + 1)
  })

  it("each token is emitted as it arrives, long before the last one is written", async () => {
    const { cortex, server } = await alone(protocol, ["one", " two", " three", " four", " five"])
    await server.setBehaviour({ perToken: 40 })
    const written: Array<number> = []
    const at: Array<number> = []
    for await (const event of await cortex.chat("Count.", { stream: true })) {
      if (event.type !== "token") continue
      written.push(server.chatRequests[0]?.tokensSent ?? 0)
      at.push(event.timestamp)
    }
    expect(written[0]).toBeLessThan(5)
    expect(written.at(-1)).toBe(5)
    expect(written).toEqual([...written].sort((a, b) => a - b))
    expect((at.at(-1) ?? 0) - (at[0] ?? 0)).toBeGreaterThan(100)
  })

  it("in Effect: text, stream and complete", async () => {
    const { cortex: _, server } = await alone(protocol, ["one", " two"])
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    expect(await runtime.runPromise(Chat.text("Hi"))).toBe("one two")
    expect(await runtime.runPromise(Chat.complete("Hi"))).toMatchObject({ text: "one two", server: server.url })
    const events = await runtime.runPromise(Stream.runCollect(Chat.stream("Hi")))
    expect([...events].map(({ type }) => type)).toEqual(["start", "meta", "token", "token", "end"])
    const tag = Chat.text("").pipe(Effect.catchTag("InvalidRequest", (error) => Effect.succeed(error.field)))
    expect(await runtime.runPromise(tag)).toBe("prompt")
  })
})

describe("a stream", () => {
  it("can be iterated again, by several readers, and read as text before and after", async () => {
    const { cortex, server } = await alone("ollama", ["one", " two", " three"])
    await server.setBehaviour({ perToken: 10 })
    const stream = await cortex.chat("Count.", { stream: true })
    expect(stream.events).toEqual([])
    const [first, second, text] = await Promise.all([eventsOf(stream), eventsOf(stream), stream.text()])
    expect(textOf(first)).toBe("one two three")
    expect(second).toEqual(first)
    expect(text).toBe("one two three")
    expect(await eventsOf(stream)).toEqual(first)
    expect(await stream.text()).toBe("one two three")
    expect(stream.events).toEqual(first)
    expect(chats(server)).toEqual([1])
  })

  it("a later reader gets all events; one that stops does not affect the others", async () => {
    const { cortex, server } = await alone(
      "ollama",
      Array.from({ length: 20 }, (_, i) => ` ${i}`)
    )
    await server.setBehaviour({ perToken: 5 })
    const stream = await cortex.chat("Count.", { stream: true })
    const all = eventsOf(stream)
    for await (const event of stream) if (event.type === "token" && event.index === 3) break
    const late = await eventsOf(stream)
    expect(late).toEqual(await all)
    expect(late.at(-1)?.type).toBe("end")
  })

  it("text() after an abandoned loop returns the text so far", async () => {
    const { cortex } = await alone(
      "ollama",
      Array.from({ length: 200 }, (_, i) => ` ${i}`)
    )
    const stream = await cortex.chat("Count.", { stream: true })
    for await (const event of stream) if (event.type === "token" && event.index === 3) break
    const text = await stream.text()
    expect(text.startsWith(" 0 1 2 3")).toBe(true)
    expect(textOf(await eventsOf(stream))).toBe(text)
  })

  it("every reader meets the same failure", async () => {
    const { cortex, server } = await alone("ollama")
    await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    const stream = await cortex.chat("Hi", { stream: true, maxRetries: 1 })
    const errors = await Promise.all([failure(eventsOf(stream)), failure(stream.text()), failure(eventsOf(stream))])
    errors.push(await failure(stream.text()), await failure(eventsOf(stream)))
    for (const error of errors) expect(error).toBe(errors[0])
    expect(errors[0]).toMatchObject({ _tag: "AllServersFailed" })
    expect(stream.events.map(({ type }) => type)).toEqual(["start", "meta", "error"])
  })

  it("a slow reader applies backpressure, and misses nothing", async () => {
    const tokens = Array.from({ length: 60_000 }, (_, i) => ` word${i}`)
    const { cortex, server } = await alone("ollama", tokens)
    await server.setBehaviour({ perToken: "each" })
    const stream = await cortex.chat("Count.", { stream: true, firstTokenTimeout: 60_000, idleTimeout: 250 })
    // The stream is not read for longer than the idle timeout.
    let before = -1
    await expect
      .poll(
        () => {
          const sent = server.chatRequests[0]?.tokensSent ?? 0
          const same = sent > 0 && sent === before
          before = sent
          return same
        },
        { interval: 400 }
      )
      .toBe(true)
    expect(before).toBeLessThan(tokens.length)
    const events = await eventsOf(stream)
    expect(textOf(events)).toBe(tokens.join(""))
    expect(events.at(-1)).toMatchObject({ type: "end", attempts: [] })
  })
})

// -----------------------------------------------------------------------------

describe("what is refused before any I/O", () => {
  const tool = { name: "f", execute: () => 1 }
  const cases: ReadonlyArray<readonly [string, unknown, unknown, object]> = [
    ["JSON with stream", "Hi", { responseFormat: "json", stream: true }, { field: "stream" }],
    [
      "a stream of JSON without a schema",
      "Hi",
      { responseFormat: "json", stream: true, schema: undefined },
      { field: "stream" }
    ],
    ["a schema with text", "Hi", { schema: { type: "object" }, responseFormat: "text" }, { field: "schema" }],
    ["an unknown format", "Hi", { responseFormat: "xml" }, { field: "responseFormat" }],
    ["a schema that is none", "Hi", { schema: { type: "nonsense" } }, { field: "schema" }],
    ["system with persona", "Hi", { system: "a", persona: "pirate" }, { field: "persona" }],
    ["an unknown persona", "Hi", { persona: "nobody" }, { _tag: "PersonaNotFound", known: ["pirate", "poet"] }],
    ["a persona of the prototype", "Hi", { persona: "toString" }, { _tag: "PersonaNotFound" }],
    ["an empty prompt", "", {}, { field: "prompt" }],
    ["no messages", [], {}, { field: expect.stringMatching(/^messages/) }],
    ["no prompt", undefined, {}, { field: "prompt" }],
    [
      "a message of an unknown role",
      [{ role: "robot", content: "x" }],
      {},
      { field: expect.stringMatching(/^messages/) }
    ],
    ["a message without content", { messages: [{ role: "user" }] }, {}, { field: expect.stringMatching(/^messages/) }],
    ["stream that is no boolean", "Hi", { stream: "yes" }, { field: "stream" }],
    ["temperature", "Hi", { temperature: 2.1 }, { field: "temperature" }],
    ["temperature that is no number", "Hi", { temperature: "hot" }, { field: "temperature" }],
    ["NaN", "Hi", { temperature: Number.NaN }, { field: "temperature" }],
    ["topP", "Hi", { topP: -0.1 }, { field: "topP" }],
    ["maxTokens 0", "Hi", { maxTokens: 0 }, { field: "maxTokens" }],
    ["maxTokens 1.5", "Hi", { maxTokens: 1.5 }, { field: "maxTokens" }],
    ["an empty stop", "Hi", { stop: [""] }, { field: expect.stringMatching(/^stop/) }],
    ["seed", "Hi", { seed: 0.5 }, { field: "seed" }],
    ["frequencyPenalty", "Hi", { frequencyPenalty: 3 }, { field: "frequencyPenalty" }],
    ["presencePenalty", "Hi", { presencePenalty: -3 }, { field: "presencePenalty" }],
    ["topK", "Hi", { topK: -1 }, { field: "topK" }],
    ["minP", "Hi", { minP: 2 }, { field: "minP" }],
    ["repeatPenalty", "Hi", { repeatPenalty: 0 }, { field: "repeatPenalty" }],
    ["think", "Hi", { think: "extreme" }, { field: "think" }],
    ["routing", "Hi", { routing: "cheapest" }, { field: "routing" }],
    ["timeout", "Hi", { timeout: 0 }, { field: "timeout" }],
    ["an endless deadline", "Hi", { deadline: Number.POSITIVE_INFINITY }, { field: "deadline" }],
    ["maxRetries", "Hi", { maxRetries: 0 }, { field: "maxRetries" }],
    ["retryBackoff", "Hi", { retryBackoff: -1 }, { field: "retryBackoff" }],
    ["maxToolRounds", "Hi", { tools: [tool], maxToolRounds: 0 }, { field: "maxToolRounds" }],
    [
      "a tool without a name",
      "Hi",
      { tools: [{ name: "", execute: () => 1 }] },
      { field: expect.stringMatching(/^tools/) }
    ],
    ["a tool without an implementation", "Hi", { tools: [{ name: "f" }] }, { field: "tools" }],
    ["toolChoice", "Hi", { tools: [tool], toolChoice: "any" }, { field: expect.stringMatching(/^toolChoice/) }],
    ["an empty model", "Hi", { model: "" }, { field: "model" }],
    ["session_id", "Hi", { session_id: "x" }, { field: "session_id" }],
    ["memory", "Hi", { memory: true }, { field: "memory" }],
    ["metadata", "Hi", { metadata: {} }, { field: "metadata" }],
    ["tool_choice", "Hi", { tool_choice: "auto" }, { field: "tool_choice" }],
    ["snake case", "Hi", { max_tokens: 5 }, { field: "max_tokens" }],
    ["an unknown session", "Hi", { session: "nobody" }, { _tag: "SessionNotFound", id: "nobody" }],
    ["a session that is none", "Hi", { session: 7 }, { field: "session" }],
    ["a session without an id", "Hi", { session: {} }, { field: "session" }],
    ["an endless repeatPenalty", "Hi", { repeatPenalty: Number.POSITIVE_INFINITY }, { field: "repeatPenalty" }],
    ["an endless retryBackoff", "Hi", { retryBackoff: Number.POSITIVE_INFINITY }, { field: "retryBackoff" }],
    ["keepAlive that is no number", "Hi", { keepAlive: Number.NaN }, { field: "keepAlive" }],
    [
      "keepAlive in words",
      "Hi",
      { keepAlive: "soon" },
      { field: "keepAlive", reason: expect.stringMatching(/^must be a number of seconds, or/) }
    ],
    ["keepAlive without a unit", "Hi", { keepAlive: "300" }, { field: "keepAlive" }],
    ["keepAlive in days", "Hi", { keepAlive: "1d" }, { field: "keepAlive" }],
    ["keepAlive with a blank", "Hi", { keepAlive: "1h 5m" }, { field: "keepAlive" }],
    ["keepAlive beyond what Go can hold", "Hi", { keepAlive: "9999999h" }, { field: "keepAlive" }],
    ["a tool that is none", "Hi", { tools: [undefined] }, { field: expect.stringMatching(/^tools/) }],
    ["a tool that cannot be run", "Hi", { tools: [{ name: "f", execute: "f" }] }, { field: "tools.0.execute" }],
    ["a signal that is none", "Hi", { signal: {} }, { field: "signal" }],
    ["options that are none", "Hi", 5, { field: "options" }]
  ]
  it.each(["abc", 5, true])("in Effect: %j for options", async (options) => {
    const program = Effect.provide(Chat.text("Hi", options as never), CortexLayer.layer({ configFile: false }))
    expect(await Effect.runPromise(Effect.flip(program))).toMatchObject({ _tag: "InvalidRequest", field: "options" })
  })

  it("the quick check of options accepts exactly what the schema accepts", () => {
    const slow = Schema.decodeUnknownEither(ChatRequest.Options, { onExcessProperty: "error" })
    const odd = [
      undefined,
      null,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      "",
      " a",
      "auto",
      "low",
      "resume",
      "random",
      true,
      []
    ]
    const objects = [
      {},
      { ttl: 1 },
      { ttl: undefined },
      { ttl: 1, x: 1 },
      { after: 1 },
      { after: undefined },
      [{ name: "a" }]
    ]
    const more = [[{ name: "a", x: 1 }], { name: "x" }, { [Symbol("ttl")]: 1 }, Object.create({ after: 1 }), [[]]]
    const value = fc.oneof(fc.constantFrom(...odd, ...objects, ...more), fc.double(), fc.nat(5), fc.string())
    const name = fc.oneof(fc.constantFrom(...Object.keys(ChatRequest.Options.fields)), fc.constantFrom("toString", "x"))
    fc.assert(
      fc.property(fc.dictionary(name, value, { maxKeys: 4 }), (options) => {
        const quick = ChatRequest.decodeOptions(options)
        // An option that is null is one that is not given.
        const known = slow(
          Object.fromEntries(
            Object.entries(options).filter(
              ([name, one]) => one !== null || !Object.hasOwn(ChatRequest.Options.fields, name)
            )
          )
        )
        expect(quick._tag).toBe(known._tag)
        if (Either.isRight(quick) && Either.isRight(known)) expect(quick.right).toEqual(known.right)
      }),
      {
        numRuns: 2_000,
        examples: [[{ hedge: Object.create({ after: 1 }) as object }], [{ hedge: { [Symbol("ttl")]: 1 } }]]
      }
    )
  })

  it("options of other functions are not called unknown", async () => {
    const error = await failure(fleet.cortex([]).complete("Hi", { stream: true } as object))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "stream", reason: "cannot be given to this function" })
  })

  it("an invalid name", async () => {
    // biome-ignore lint/suspicious/noExplicitAny: what no compiler would let through.
    const cortex: any = fleet.cortex([])
    for (const name of ["getModelInfo", "searchModels", "listModelServers", "getServerInfo", "bestServer"]) {
      expect(await failure(cortex[name]()), name).toMatchObject({ _tag: "InvalidRequest", reason: "must be a text" })
    }
    expect(await failure(cortex.buildApiRequest("llama3.2:3b"))).toMatchObject({ field: "prompt" })
    expect(await failure(cortex.Session.resume())).toMatchObject({ field: "session" })
  })

  it.each(cases)("%s", async (_, prompt, options, expected) => {
    const server = await start("ollama")
    const cortex = fleet.cortex([server], { personas: { poet: "Rhyme.", pirate: "Arr." } })
    const error = await failure(cortex.chat(prompt as string, options as object))
    expect(error).toMatchObject({ _tag: "InvalidRequest", ...expected })
    expect(error.message).toMatch(/\w/)
    expect(server.requests).toEqual([])
    expect(server.connections).toBe(0)
  })

  it("the error of an unknown option lists the valid ones", async () => {
    const error = await failure(fleet.cortex([]).chat("Hi", { temprature: 1 } as object))
    expect(error).toBeInstanceOf(InvalidRequest)
    expect(error.message).toContain("temprature")
    expect(error.message).toContain("temperature")
  })

  it("the caller's options are not changed", async () => {
    const { cortex } = await alone("ollama")
    const options = Object.freeze({ stop: Object.freeze(["x"]), tools: Object.freeze([Object.freeze(tool)]) })
    expect(await cortex.chat("Hi", options)).toBe("well")
  })
})

describe("personas", () => {
  it("are system prompts by name, for this call only", async () => {
    const server = await start("ollama", '{"a":1}')
    const cortex = fleet.cortex([server], { personas: { pirate: "Arr." } })
    const session = await cortex.Session.create()
    await cortex.chat("Hi", { persona: "pirate", session })
    expect(server.chatRequests[0]?.body.messages).toEqual([{ role: "system", content: "Arr." }, ...hi])
    expect(await session.history()).toEqual([...hi, { role: "assistant", content: '{"a":1}' }])
    await cortex.chat("Hi", { persona: "pirate", responseFormat: "json" })
    expect(server.chatRequests[1]?.body.messages[0].content).toBe(`Arr.\n${StructuredOutput.instruction}`)
  })
})

// -----------------------------------------------------------------------------

describe.each(protocols)("tools (%s)", (protocol) => {
  const call = (name: string, args: Json = {}): ScriptedReply => ({
    tokens: [],
    toolCalls: [{ name, arguments: args }]
  })
  const weather: ScriptedReply = {
    tokens: ["Let me", " see."],
    toolCalls: [
      { name: "weather", arguments: { city: "Zürich" } },
      { name: "time", arguments: {} }
    ],
    usage: { promptTokens: 10, completionTokens: 5 }
  }
  const rounds =
    (...replies: ReadonlyArray<ScriptedReply>): Reply =>
    (_, n) =>
      replies[Math.min(n, replies.length - 1)] ?? ""
  const final: ScriptedReply = { tokens: ["It", " rains."], usage: { promptTokens: 30, completionTokens: 2 } }

  const withTools = () => {
    const seen: Array<Json> = []
    const tools: ReadonlyArray<Tool> = [
      {
        name: "weather",
        execute: (args) => {
          seen.push(args)
          return { rain: true }
        }
      },
      { name: "time", execute: async () => "12:00" }
    ]
    return { seen, tools }
  }

  it("with execute: the tools run, their results are sent back, and the answer continues", async () => {
    const { body, cortex, server } = await alone(protocol, rounds(weather, final))
    const { seen, tools } = withTools()
    expect(await cortex.chat("The weather?", { tools })).toBe("It rains.")
    expect(seen).toEqual([{ city: "Zürich" }])
    expect(chats(server)).toEqual([2])
    const [user, assistant, ...results] = body().messages
    expect(user).toEqual({ role: "user", content: "The weather?" })
    const ids: ReadonlyArray<string> = assistant.tool_calls.map(({ id }: Json) => id)
    expect(new Set(ids).size).toBe(2)
    if (protocol === "ollama") {
      expect(assistant).toEqual({
        role: "assistant",
        content: "Let me see.",
        tool_calls: [
          { id: ids[0], function: { name: "weather", arguments: { city: "Zürich" } } },
          { id: ids[1], function: { name: "time", arguments: {} } }
        ]
      })
      expect(results).toEqual([
        { role: "tool", content: '{"rain":true}', tool_name: "weather", tool_call_id: ids[0] },
        { role: "tool", content: "12:00", tool_name: "time", tool_call_id: ids[1] }
      ])
    } else {
      expect(assistant).toEqual({
        role: "assistant",
        content: "Let me see.",
        tool_calls: [
          { id: ids[0], type: "function", function: { name: "weather", arguments: '{"city":"Zürich"}' } },
          { id: ids[1], type: "function", function: { name: "time", arguments: "{}" } }
        ]
      })
      expect(results).toEqual([
        { role: "tool", content: '{"rain":true}', tool_call_id: ids[0] },
        { role: "tool", content: "12:00", tool_call_id: ids[1] }
      ])
    }
    // Everything else of the request stays as it was, the tools included.
    const [first, second] = server.chatRequests.map((request) => ({ ...request.body, messages: undefined }))
    expect(second).toEqual(first)
    expect(second?.tools).toHaveLength(2)
  })

  it("complete counts the usage of all rounds", async () => {
    const { cortex } = await alone(protocol, rounds(weather, final))
    const answer = await cortex.complete("The weather?", { tools: withTools().tools })
    expect(answer).toMatchObject({ text: "It rains.", toolCalls: [], finishReason: "stop", attempts: [] })
    expect(answer.usage).toEqual({ promptTokens: 40, completionTokens: 7, totalTokens: 47 })
  })

  it("a stream emits calls and results, and continues with consecutive indices", async () => {
    const { cortex, server } = await alone(protocol, rounds(weather, final))
    const events = await eventsOf(await cortex.chat("The weather?", { stream: true, tools: withTools().tools }))
    const timestamp = expect.any(Number)
    const id = expect.any(String)
    const meta = {
      type: "meta",
      meta: expect.objectContaining({ type: "attempt", server: server.url, attempt: 1 }),
      timestamp
    }
    const deltas = events.flatMap((event) => (event.type === "tool_call_delta" ? [event] : []))
    const written = (index: number) => deltas.flatMap((one) => (one.index === index ? one.content : [])).join("")
    expect([written(0), written(1)].map((text) => JSON.parse(text))).toEqual([{ city: "Zürich" }, {}])
    expect(events.filter((event) => event.type !== "tool_call_delta")).toEqual([
      { type: "start", content: "", model, timestamp },
      meta,
      { type: "token", content: "Let me", index: 0, timestamp },
      { type: "token", content: " see.", index: 1, timestamp },
      { type: "tool_call", id, name: "weather", arguments: { city: "Zürich" }, timestamp },
      { type: "tool_call", id, name: "time", arguments: {}, timestamp },
      { type: "tool_result", id, name: "weather", result: { rain: true }, timestamp },
      { type: "tool_result", id, name: "time", result: "12:00", timestamp },
      meta,
      { type: "token", content: "It", index: 2, timestamp },
      { type: "token", content: " rains.", index: 3, timestamp },
      expect.objectContaining({
        type: "end",
        finishReason: "stop",
        usage: { promptTokens: 40, completionTokens: 7, totalTokens: 47 }
      })
    ])
    const ids = events.flatMap((event) =>
      event.type === "tool_call" || event.type === "tool_result" ? [event.id] : []
    )
    expect(ids.slice(0, 2)).toEqual(ids.slice(2))
  })

  it("without execute: complete returns the calls, a stream emits them", async () => {
    const { cortex, server } = await alone(protocol, weather)
    const tools = [{ name: "weather" }, { name: "time" }]
    const answer = await cortex.complete("The weather?", { tools })
    const calls = [
      { id: expect.any(String), name: "weather", arguments: { city: "Zürich" } },
      { id: expect.any(String), name: "time", arguments: {} }
    ]
    expect(answer).toMatchObject({ text: "Let me see.", finishReason: "tool_calls", toolCalls: calls })
    const events = await eventsOf(await cortex.chat("The weather?", { stream: true, tools }))
    expect(events.slice(-3)).toMatchObject([
      { type: "tool_call", ...calls[0] },
      { type: "tool_call", ...calls[1] },
      { type: "end", finishReason: "tool_calls" }
    ])
    expect(chats(server)).toEqual([2])
  })

  it("if one of the called tools has no execute, the caller gets all calls", async () => {
    const { cortex, server } = await alone(protocol, weather)
    const { seen, tools } = withTools()
    const answer = await cortex.complete("The weather?", { tools: [...tools.slice(0, 1), { name: "time" }] })
    expect(answer.toolCalls.map(({ name }) => name)).toEqual(["weather", "time"])
    expect(seen).toEqual([])
    expect(chats(server)).toEqual([1])
  })

  it("a call of a tool that was not offered goes to the caller", async () => {
    const { cortex } = await alone(protocol, call("surprise", { a: 1 }))
    const answer = await cortex.complete("Hi", { tools: withTools().tools })
    expect(answer.toolCalls).toMatchObject([{ name: "surprise", arguments: { a: 1 } }])
  })

  it("what a tool returns goes to the model as text, or as JSON", async () => {
    for (const [value, expected] of [
      ["as it is", "as it is"],
      [undefined, "null"],
      [null, "null"],
      [[1, "你"], '[1,"你"]'],
      [0, "0"]
    ] as const) {
      const { body, cortex } = await alone(protocol, rounds(call("f"), final))
      await cortex.chat("Hi", { tools: [{ name: "f", execute: () => value }] })
      expect(body().messages.at(-1).content).toBe(expected)
    }
  })

  it("maxToolRounds ends a model that never stops calling; 8 unless given", async () => {
    const { cortex, server } = await alone(protocol, call("f"))
    let ran = 0
    const tools = [{ name: "f", execute: () => ++ran }]
    const answer = await cortex.complete("Hi", { tools, maxToolRounds: 2 })
    expect(answer).toMatchObject({ finishReason: "tool_calls", toolCalls: [{ name: "f" }] })
    expect([ran, server.chatRequests.length]).toEqual([2, 3])
    await cortex.complete("Hi", { tools })
    expect([ran, server.chatRequests.length]).toEqual([10, 12])
  })

  it.each<[string, () => unknown]>([
    [
      "throws",
      () => {
        throw new Error("no network")
      }
    ],
    ["rejects", () => Promise.reject(new Error("no network"))]
  ])("a tool that %s is ToolFailed with its cause, and nothing more is sent or stored", async (_, execute) => {
    const { cortex, server } = await alone(protocol, call("f"))
    const session = await cortex.Session.create()
    const tools = [{ name: "f", execute }]
    for (const ask of [
      () => cortex.chat("Hi", { tools, session }),
      () => cortex.complete("Hi", { tools, session }),
      async () => eventsOf(await cortex.chat("Hi", { tools, session, stream: true }))
    ]) {
      const error = await failure(ask())
      expect(error).toBeInstanceOf(ToolFailed)
      expect(error).toMatchObject({ tool: "f", reason: "no network", cause: new Error("no network") })
    }
    expect(chats(server)).toEqual([3])
    expect(await session.history()).toEqual([])
    // The server is not at fault.
    await server.setBehaviour({ reply: "well" })
    expect(await cortex.complete("Hi", { session })).toMatchObject({ text: "well", attempts: [] })
  })

  it("a result that is not JSON is ToolFailed, too", async () => {
    const { cortex } = await alone(protocol, call("f"))
    const circle: { self?: unknown } = {}
    circle.self = circle
    for (const result of [5n, circle]) {
      const error = await failure(cortex.chat("Hi", { tools: [{ name: "f", execute: () => result }] }))
      expect(error).toBeInstanceOf(ToolFailed)
      expect(error).toMatchObject({ tool: "f", cause: expect.any(TypeError) })
      expect(error.reason).toContain("its result cannot be written as JSON: ")
    }
  })

  it("a tool may fail with any value: the message shows it", async () => {
    const { cortex } = await alone(protocol, call("f"))
    for (const [thrown, reason] of [
      [{ code: 7, detail: "no network" }, '{"code":7,"detail":"no network"}'],
      [{ message: "no network" }, "no network"],
      [{ _tag: "NoNetwork" }, "NoNetwork"],
      [new TypeError(), "TypeError"],
      ["no network", "no network"],
      [undefined, "undefined"]
    ]) {
      const execute = () => Promise.reject(thrown)
      const error = await failure(cortex.chat("Hi", { tools: [{ name: "f", execute }] }))
      expect(error).toBeInstanceOf(ToolFailed)
      expect(error.reason).toBe(reason)
      expect(error.message).not.toContain("[object")
    }
  })

  it("when a server fails between rounds, another continues with the results", async () => {
    const [a, b] = await Promise.all([start(protocol, rounds(call("f"), final)), start(protocol, final)])
    const cortex = fleet.cortex(inOrder(a, b))
    await cortex.listServers()
    await a.setBehaviour({ faults: [undefined, { kind: "status", code: 500 }] })
    let ran = 0
    const answer = await cortex.complete("Hi", { tools: [{ name: "f", execute: () => ++ran }] })
    expect(answer).toMatchObject({ text: "It rains.", server: b.url, attempts: [{ server: a.url, status: 500 }] })
    expect(ran).toBe(1)
    expect(b.chatRequests[0]?.body.messages.map(({ role }: Json) => role)).toEqual(["user", "assistant", "tool"])
  })

  it("a session remembers the calls and their results", async () => {
    const { body, cortex } = await alone(protocol, rounds(weather, final))
    const session = await cortex.Session.create()
    await cortex.chat("The weather?", { tools: withTools().tools, session })
    const history = await session.history()
    expect(history.map(({ role }) => role)).toEqual(["user", "assistant", "tool", "tool", "assistant"])
    expect(history[1]).toMatchObject({ content: "Let me see.", toolCalls: [{ name: "weather" }, { name: "time" }] })
    expect(history[4]).toEqual({ role: "assistant", content: "It rains." })
    await cortex.chat("Thanks.", { session })
    expect(body().messages).toHaveLength(6)
  })

  it("tools in Effect fail and succeed as effects", async () => {
    const { server } = await alone(protocol, rounds(call("f"), final))
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    expect(
      await runtime.runPromise(Chat.text("Hi", { tools: [{ name: "f", execute: () => Effect.succeed(1) }] }))
    ).toBe("It rains.")
    await server.setBehaviour({ reply: call("f") })
    const failing = Chat.text("Hi", { tools: [{ name: "f", execute: () => Effect.fail("odd") }] })
    expect(await runtime.runPromise(Effect.flip(failing))).toMatchObject({
      _tag: "ToolFailed",
      tool: "f",
      reason: "odd",
      cause: "odd"
    })
  })
})

// -----------------------------------------------------------------------------

describe.each(protocols)("JSON (%s)", (protocol) => {
  const schema = {
    type: "object",
    properties: { capital: { type: "string" }, population: { type: "integer" } },
    required: ["capital", "population"]
  }
  const good = '{"capital": "Berlin", "population": 84000000}'
  const value = { capital: "Berlin", population: 84_000_000 }
  const instruction = "Respond only with valid JSON. No prose, no markdown."

  it("asks for JSON in the system prompt and in the protocol's own way", async () => {
    const { body, cortex } = await alone(protocol, good)
    expect(await cortex.chat("Germany?", { responseFormat: "json" })).toEqual(value)
    expect(body().messages).toEqual([
      { role: "system", content: instruction },
      { role: "user", content: "Germany?" }
    ])
    const format = (b: Json) => (protocol === "ollama" ? b.format : b.response_format)
    expect(format(body())).toEqual(protocol === "ollama" ? "json" : { type: "json_object" })
    expect(await cortex.chat("Germany?", { schema, system: "Be exact." })).toEqual(value)
    expect(body().messages[0].content).toBe(`Be exact.\n${instruction}`)
    // OpenAI refuses a strict schema that leaves room for other properties.
    const answer = (schema: object, strict: object) => ({
      type: "json_schema",
      json_schema: { name: "answer", schema, ...strict }
    })
    expect(format(body())).toEqual(protocol === "ollama" ? schema : answer(schema, {}))
    const closed = { ...schema, additionalProperties: false }
    expect(await cortex.chat("Germany?", { schema: closed })).toEqual(value)
    expect(format(body())).toEqual(protocol === "ollama" ? closed : answer(closed, { strict: true }))
    expect(await cortex.chat("Germany?", { schema, responseFormat: "json" })).toEqual(value)
  })

  it.each<[string, string, unknown]>([
    ["fenced", `Here:\n\`\`\`json\n${good}\n\`\`\`\nWell?`, value],
    ["an array", "[1, 2]", [1, 2]],
    ["a number", " 7 ", 7],
    ["a string with a fence inside", '{"a": "```x```"}', { a: "```x```" }]
  ])("takes %s", async (_, reply, expected) => {
    const { cortex, server } = await alone(protocol, reply)
    expect(await cortex.chat("Hi", { responseFormat: "json" })).toEqual(expected)
    expect(chats(server)).toEqual([1])
  })

  it("repairs a reply that does not match, once", async () => {
    const bad = '{"capital": 7}'
    const { body, cortex, server } = await alone(protocol, (_, n) => (n === 0 ? bad : good))
    expect(await cortex.chat("Germany?", { schema, temperature: 0.1 })).toEqual(value)
    expect(chats(server)).toEqual([2])
    const [first, second] = [body(0), body(1)]
    expect(second.messages.slice(0, 2)).toEqual(first.messages)
    expect(second.messages.slice(2).map(({ role }: Json) => role)).toEqual(["assistant", "user"])
    expect(second.messages[2].content).toBe(bad)
    expect(second.messages[3].content).toContain("capital: must be string")
    expect(second.messages[3].content).toContain("'population'")
    expect({ ...second, messages: [] }).toEqual({ ...first, messages: [] })
  })

  it("fails with SchemaMismatch, issues and text when the second reply does not match either", async () => {
    const { cortex, server } = await alone(protocol, (_, n) => (n % 2 === 0 ? "no JSON" : '{"capital": "Berlin"}'))
    const error = await failure(cortex.chat("Germany?", { schema }))
    expect(error).toBeInstanceOf(SchemaMismatch)
    expect(error).toMatchObject({
      model,
      text: '{"capital": "Berlin"}',
      issues: [{ path: "", message: expect.stringContaining("population") }]
    })
    expect(chats(server)).toEqual([2])
    await server.setBehaviour({ reply: "no JSON" })
    const plain = await failure(cortex.chat("Germany?", { responseFormat: "json" }))
    expect(plain).toMatchObject({ _tag: "SchemaMismatch", text: "no JSON" })
    expect(chats(server)).toEqual([4])
  })

  it("a top-level array is validated", async () => {
    const { cortex } = await alone(protocol, '["a", 7]')
    const error = await failure(cortex.chat("Hi", { schema: { type: "array", items: { type: "string" } } }))
    expect(error).toMatchObject({ _tag: "SchemaMismatch", issues: [{ path: "1", message: "must be string" }] })
  })

  it("a session keeps the question and the matching reply, not the one that does not match", async () => {
    const { cortex, server } = await alone(protocol, (_, n) => (n === 0 ? "no JSON" : good))
    const session = await cortex.Session.create()
    await cortex.chat("Germany?", { schema, session, system: "Be exact." })
    const turn = [
      { role: "user", content: "Germany?" },
      { role: "assistant", content: good }
    ]
    expect(await session.history()).toEqual(turn)
    await server.setBehaviour({ reply: "no JSON" })
    await failure(cortex.chat("France?", { schema, session }))
    expect(await session.history()).toEqual(turn)
  })

  it("tools may be used before the reply", async () => {
    const { cortex, server } = await alone(protocol, (_, n) =>
      n === 0 ? { tokens: [], toolCalls: [{ name: "look", arguments: {} }] } : good
    )
    const tools = [{ name: "look", execute: () => "Berlin" }]
    expect(await cortex.chat("Germany?", { schema, tools })).toEqual(value)
    expect(chats(server)).toEqual([2])
  })

  it("in Effect: Chat.json decodes with a schema", async () => {
    const { body, server } = await alone(protocol, '{"capital": "Berlin", "founded": "1237-10-28T00:00:00.000Z"}')
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    const City = Schema.Struct({ capital: Schema.String, founded: Schema.Date })
    const city = await runtime.runPromise(Chat.json("Germany?", City))
    expect(city).toEqual({ capital: "Berlin", founded: new Date("1237-10-28") })
    expect(JSON.stringify(body())).toContain('"capital":{"type":"string"}')
    const Other = Schema.Struct({ capital: Schema.Number })
    const error = await runtime.runPromise(Effect.flip(Chat.json("Germany?", Other)))
    expect(error).toMatchObject({ _tag: "SchemaMismatch", issues: [{ path: "capital" }] })
  })
})

// -----------------------------------------------------------------------------

describe("sessions", () => {
  const echo: Reply = (body) => `re: ${body.messages.at(-1).content}`
  const said = (history: ReadonlyArray<Message>) => history.map(({ content }) => content)

  it("send their history, and store each turn", async () => {
    const { body, cortex } = await alone("ollama", echo)
    const session = await cortex.Session.create()
    expect(session.id).toMatch(/^[0-9a-f]{16}$/)
    expect(await session.history()).toEqual([])
    await cortex.chat("one", { session })
    expect(body().messages).toEqual([{ role: "user", content: "one" }])
    const stream = await cortex.chat("two", { session, stream: true })
    await stream.text()
    await cortex.complete("three", { session: session.id })
    expect(said(body().messages)).toEqual(["one", "re: one", "two", "re: two", "three"])
    expect(await session.history()).toEqual([
      { role: "user", content: "one" },
      { role: "assistant", content: "re: one" },
      { role: "user", content: "two" },
      { role: "assistant", content: "re: two" },
      { role: "user", content: "three" },
      { role: "assistant", content: "re: three" }
    ])
  })

  it("the system prompt of a call is sent first and never stored", async () => {
    const { body, cortex } = await alone("ollama", echo)
    const session = await cortex.Session.create()
    await cortex.chat("one", { session })
    await cortex.chat("two", { session, system: "Be brief." })
    expect(body().messages.map(({ role }: Json) => role)).toEqual(["system", "user", "assistant", "user"])
    await cortex.chat(
      [
        { role: "system", content: "Be long." },
        { role: "user", content: "three" }
      ],
      { session }
    )
    expect(body().messages[0]).toEqual({ role: "system", content: "Be long." })
    expect((await session.history()).map(({ role }) => role)).not.toContain("system")
    await cortex.chat("four", { session })
    expect(body().messages.map(({ role }: Json) => role)).not.toContain("system")
  })

  it("failover within a session sends the question once, and stores one turn", async () => {
    const [a, b] = await Promise.all([start("ollama", echo), start("openai", echo)])
    const cortex = fleet.cortex(inOrder(a, b))
    const session = await cortex.Session.create()
    await cortex.chat("one", { session })
    await a.setBehaviour({ faults: { kind: "cut", after: 1 } })
    await cortex.chat("two", { session })
    expect(said(b.chatRequests[0]?.body.messages)).toEqual(["one", "re: one", "two"])
    expect(said(await session.history())).toEqual(["one", "re: one", "two", "re: two"])
  })

  it("a stream that is resumed on another server is stored once, complete", async () => {
    const words = ["one", " two", " three", " four"]
    const [a, b] = await Promise.all([start("ollama", words), start("ollama", words)])
    const cortex = fleet.cortex(inOrder(a, b))
    await cortex.listServers()
    await a.setBehaviour({ faults: { kind: "cut", after: 2 } })
    const session = await cortex.Session.create()
    const stream = await cortex.chat("Count.", { session, stream: true, temperature: 0 })
    await stream.text()
    expect(said(await session.history())).toEqual(["Count.", "one two three four"])
  })

  it("a failed or aborted call stores nothing", async () => {
    const { cortex, server } = await alone("ollama", echo)
    const session = await cortex.Session.create()
    await cortex.chat("one", { session })
    for (const faults of [
      { kind: "status", code: 500 },
      { kind: "silentEnd", after: 1 },
      { kind: "status", code: 400 }
    ] as const) {
      await server.setBehaviour({ faults })
      await failure(cortex.chat("two", { session }))
      await failure((await cortex.chat("two", { session, stream: true })).text())
    }
    expect(said(await session.history())).toEqual(["one", "re: one"])
    await server.setBehaviour({ faults: undefined })
    await cortex.chat("three", { session })
    expect(said(server.chatRequests.at(-1)?.body.messages)).toEqual(["one", "re: one", "three"])
  })

  it("an answer that reaches its token limit is stored", async () => {
    const { cortex } = await alone("ollama", ["one", " two"])
    const session = await cortex.Session.create()
    await cortex.chat("Count.", { session, maxTokens: 1 })
    expect(said(await session.history())).toEqual(["Count.", "one"])
  })

  it("concurrent calls run one after another and see each other", async () => {
    const { cortex, server } = await alone("ollama", echo)
    await server.setBehaviour({ firstToken: 20 })
    const session = await cortex.Session.create()
    await Promise.all([
      cortex.chat("one", { session }),
      cortex.chat("two", { session, stream: true }).then((stream) => stream.text()),
      cortex.complete("three", { session: session.id }),
      cortex.chat("four", { session })
    ])
    expect(server.maxInFlight).toBe(1)
    expect(server.chatRequests.map((request) => request.body.messages.length)).toEqual([1, 3, 5, 7])
    const history = said(await session.history())
    expect(history).toEqual(["one", "re: one", "two", "re: two", "three", "re: three", "four", "re: four"])
    // Other sessions do not wait.
    server.clear()
    const others = await Promise.all(Array.from({ length: 4 }, () => cortex.Session.create()))
    await Promise.all(others.map((other) => cortex.chat("hi", { session: other })))
    expect(server.maxInFlight).toBe(4)
  })

  it("changes to the returned history do not affect the store", async () => {
    const { cortex } = await alone("ollama", echo)
    const session = await cortex.Session.create()
    const mine = [{ role: "user" as const, content: "one" }]
    await cortex.chat(mine, { session })
    const [first] = mine
    if (first !== undefined) first.content = "changed"
    const history = (await session.history()) as Array<{ role: string; content: string }>
    expect(() => history.push({ role: "user", content: "x" })).toThrow(TypeError)
    expect(() => Object.assign(history[0] ?? {}, { content: "x" })).toThrow(TypeError)
    expect(said(await session.history())).toEqual(["one", "re: one"])
  })

  it("an unknown id fails at once, and the message does not advise the failed call", async () => {
    const { cortex } = await alone("ollama")
    const error = await failure(cortex.Session.resume("nobody"))
    expect(error).toBeInstanceOf(SessionNotFound)
    expect(error.message).toContain("No session with id 'nobody' found")
    expect(error.message).toContain("Session.create()")
    expect(error.message).not.toMatch(/resume/)
  })

  it("resume, reset and delete", async () => {
    const { body, cortex } = await alone("ollama", echo)
    const session = await cortex.Session.create()
    await cortex.chat("one", { session })
    const same = await cortex.Session.resume(session.id)
    expect(await same.history()).toEqual(await session.history())
    expect(JSON.parse(JSON.stringify(same))).toEqual({ id: session.id })
    await same.reset()
    expect(await session.history()).toEqual([])
    await cortex.chat("two", { session })
    expect(body().messages).toEqual([{ role: "user", content: "two" }])
    await session.delete()
    for (const use of [
      () => session.history(),
      () => same.reset(),
      () => same.delete(),
      () => cortex.chat("three", { session }),
      () => cortex.chat("three", { session: same.id, stream: true }),
      () => cortex.Session.resume(session.id)
    ]) {
      expect(await failure(use())).toMatchObject({ _tag: "SessionNotFound", id: session.id })
    }
  })

  it("an old conversation is trimmed to the context in whole turns, and the stream reports it", async () => {
    const { body, cortex } = await alone("ollama", echo)
    const session = await cortex.Session.create()
    const long = "word ".repeat(60)
    for (let i = 0; i < 5; i++) await cortex.chat(`${i} ${long}`, { session })
    const options = { num_ctx: 700 }
    const events = await eventsOf(
      await cortex.chat("last", { session, options, maxTokens: 100, system: "Be brief.", stream: true })
    )
    const sent: ReadonlyArray<Json> = body().messages
    expect(sent.length).toBeLessThan(12)
    expect(sent.length).toBeGreaterThan(2)
    expect(sent[0]).toEqual({ role: "system", content: "Be brief." })
    expect(sent[1]?.role).toBe("user")
    expect(sent.at(-1)).toEqual({ role: "user", content: "last" })
    expect(events.slice(0, 2)).toMatchObject([{ type: "start" }, { type: "meta", meta: { trimmed: 12 - sent.length } }])
    // Nothing of it is lost.
    expect(await session.history()).toHaveLength(12)
  })

  it("times are monotonic, also if a call waited for its session", async () => {
    const { cortex, server } = await alone("ollama", echo)
    await server.setBehaviour({ firstToken: 40 })
    const session = await cortex.Session.create()
    const long = "word ".repeat(200)
    await cortex.chat(long, { session })
    const first = cortex.chat(long, { session })
    const stream = cortex.chat("last", { session, options: { num_ctx: 600 }, stream: true })
    await first
    const events = await eventsOf(await stream)
    expect(events[1]).toMatchObject({ type: "meta", meta: { trimmed: expect.any(Number) } })
    const times = events.map(({ timestamp }) => timestamp)
    expect(times).toEqual([...times].sort((a, b) => a - b))
  })

  it("the model's context applies if the call sets none", async () => {
    const server = await fleet.ollama({ models: ["llama3.2:3b"], reply: echo })
    const cortex = fleet.cortex([server], { model: "llama3.2:3b" })
    const session = await cortex.Session.create()
    for (let i = 0; i < 3; i++) await cortex.chat(`${i} ${"word ".repeat(100)}`, { session })
    expect(server.chatRequests.at(-1)?.body.messages).toHaveLength(5)
  })

  it("belong to their own fleet", async () => {
    const { cortex } = await alone("ollama")
    const other = await alone("ollama")
    const session = await other.cortex.Session.create()
    expect(await failure(cortex.chat("Hi", { session }))).toBeInstanceOf(SessionNotFound)
  })
})

it("in Effect, a tool runs as its caller does: with its loggers and annotations", async () => {
  const server = await fleet.ollama({
    models: [{ name: model, capabilities: ["completion", "tools"] }],
    reply: (body) =>
      body.messages.at(-1).role === "tool" ? "done" : { tokens: [], toolCalls: [{ name: "f", arguments: {} }] }
  })
  const seen: Array<unknown> = []
  const logger = Logger.make(({ annotations, message }) => {
    seen.push([message, Object.fromEntries(annotations)])
  })
  const tools = [{ name: "f", execute: () => Effect.as(Effect.log("at work"), "noon") }]
  const program = Chat.text("Hi", { tools }).pipe(
    Effect.zip(Stream.runDrain(Chat.stream("Hi", { tools }))),
    Effect.annotateLogs("request", "r-1"),
    Effect.provide(
      Layer.merge(
        CortexLayer.layer({ servers: [server.url], configFile: false, model }),
        Logger.replace(Logger.defaultLogger, logger)
      )
    )
  )
  expect((await Effect.runPromise(program))[0]).toBe("done")
  expect(seen).toEqual(Array(2).fill([["at work"], { request: "r-1" }]))
})

describe("conflicting options", () => {
  it("two tools of one name are refused: one of them would never run", async () => {
    const server = await fleet.ollama()
    const tools = [{ name: "f", execute: () => 1 }, { name: "g" }, { name: "f", execute: () => 2 }]
    const error = await failure(fleet.cortex([server]).complete("Hi", { tools }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "tools.2.name" })
    expect(error.message).toContain("'f'")
    expect(chats(server)).toEqual([0])
  })

  it("an option next to the messages is refused with its correct place", async () => {
    const prompt = { messages: [{ role: "user" as const, content: "Hi" }], temperature: 0 }
    const error = await failure(fleet.cortex([await fleet.ollama()]).chat(prompt))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "temperature" })
    expect(error.message).toContain("second argument")
  })

  it.each(["ollama", "openai"] as const)("undefined counts as omitted, with %s", async (protocol) => {
    const server = await fleet[protocol]({ models: [{ name: model, capabilities: ["completion", "tools"] }] })
    const location = { city: undefined, latitude: 48, longitude: 11 }
    const cortex = fleet.cortex([{ url: server.url, location }])
    const name = undefined
    await cortex.chat(
      [
        { role: "system", content: "Be kind.", name },
        { role: "user", content: "Hi", name },
        { role: "assistant", content: "Hello", name, thinking: undefined, toolCalls: undefined },
        { role: "user", content: "And now?" }
      ],
      { tools: [{ name: "f", description: undefined, parameters: undefined, strict: undefined, execute: () => 1 }] }
    )
    const sent = server.chatRequests[0]?.body.messages
    expect(sent.map(Object.keys)).toEqual(Array(4).fill(["role", "content"]))
    expect((await cortex.listModelServers(model))[0]?.location).toEqual({ latitude: 48, longitude: 11 })
  })
})
