import { createHash } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import * as fc from "fast-check"
import { afterAll, describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import * as CortexLayer from "../../src/Cortex.js"
import { single } from "../../src/Decision.js"
import type { Call, OpenAnswer } from "../../src/Failover.js"
import type { ChatEvent, ChatStream } from "../../src/promise.js"
import * as Registry from "../../src/Registry.js"
import * as ResponseCache from "../../src/ResponseCache.js"
import { serialize } from "../../src/responseCache/key.js"
import { makeStoreKeyValue } from "../../src/responseCache/keyValue.js"
import { Reader, SharedAnswer, type SharedAnswerHost } from "../../src/responseCache/sharedAnswer.js"
import type { Json } from "../support/fakeServer.js"
import { chats, eventsOf, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const folders: Array<string> = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})
const folder = () => {
  const path = mkdtempSync(join(tmpdir(), "aicortex-cache-"))
  folders.push(path)
  return path
}

const capable = ["completion", "tools", "thinking", "vision"]
const models = [model, "n:1b"].map((name) => ({ name, capabilities: capable }))
/** Says something else each time, so that an answer shows whose it is. */
const counting = (_: Json, n: number) => [`answer`, ` ${n}`]
const cached = { cache: true } as const

const alone = async (options: Parameters<typeof fleet.ollama>[0] = {}, cortex: CortexLayer.Options = {}) => {
  const server = await fleet.ollama({ reply: counting, models, ...options })
  return { server, cortex: fleet.cortex([server], cortex) }
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

const count = () =>
  Effect.runSync(
    Effect.all({
      hits: Metric.value(ResponseCache.metrics.hits),
      misses: Metric.value(ResponseCache.metrics.misses),
      shared: Metric.value(ResponseCache.metrics.shared)
    })
  )
/** Waits until so many more calls share an answer. */
const sharing = () => {
  const before = count().shared.count
  return (calls: number) => until(() => count().shared.count === before + calls)
}

const untimed = (events: ReadonlyArray<ChatEvent>) => events.map(({ timestamp: _, ...event }) => event)

// -----------------------------------------------------------------------------
// hits
// -----------------------------------------------------------------------------

describe("a cached answer", () => {
  it("caching is off by default", async () => {
    const { cortex, server } = await alone()
    expect([await cortex.chat("Hi"), await cortex.chat("Hi")]).toEqual(["answer 0", "answer 1"])
    await cortex.chat("Hi", { cache: false })
    expect(chats(server)).toEqual([3])
    // Who does not ask for it neither reads nor writes.
    expect(await cortex.chat("Hi", cached)).toBe("answer 3")
    expect(await cortex.chat("Hi")).toBe("answer 4")
    expect(await cortex.chat("Hi", cached)).toBe("answer 3")
  })

  it.each(["ollama", "openai"] as const)("is returned without a request, in every form (%s)", async (protocol) => {
    const reply = {
      tokens: ['{"a"', ":", "1}"],
      thinking: ["Hm", ", well"],
      usage: { promptTokens: 7, completionTokens: 5 }
    }
    const server =
      protocol === "ollama"
        ? await fleet.ollama({ reply, models })
        : await fleet.openai({ reply, models, flavour: "vllm" })
    const cortex = fleet.cortex([server])
    const first = await cortex.complete("Hi", cached)
    expect(first).toMatchObject({ text: '{"a":1}', thinking: "Hm, well", cached: false })
    server.clear()

    const began = Date.now()
    const again = await cortex.complete("Hi", cached)
    expect(again).toEqual({
      ...first,
      cached: true,
      decision: expect.objectContaining({ chosen: { model, server: server.url }, reason: "a kept answer" }),
      firstTokenTime: expect.any(Number),
      tokensPerSecond: undefined
    })
    expect(await cortex.chat("Hi", cached)).toBe('{"a":1}')

    const events = await eventsOf(await cortex.chat("Hi", { ...cached, stream: true }))
    expect(untimed(events)).toEqual([
      { type: "start", content: "", model },
      { type: "meta", meta: { type: "cached", cached: true, age: expect.any(Number) } },
      { type: "thinking", content: "Hm" },
      { type: "thinking", content: ", well" },
      { type: "token", content: '{"a"', index: 0 },
      { type: "token", content: ":", index: 1 },
      { type: "token", content: "1}", index: 2 },
      {
        type: "end",
        content: "",
        model,
        server: server.url,
        usage: first.usage,
        finishReason: "stop",
        firstTokenTime: expect.any(Number),
        attempts: []
      }
    ])
    for (const { timestamp } of events) expect(timestamp).toBeGreaterThanOrEqual(began)
    expect(server.requests.filter(({ kind }) => kind === "chat")).toEqual([])
  })

  it("of a stream is cached, too, and returned as text", async () => {
    const { cortex, server } = await alone()
    expect(textOf(await eventsOf(await cortex.chat("Hi", { ...cached, stream: true })))).toBe("answer 0")
    expect(await cortex.complete("Hi", cached)).toMatchObject({ text: "answer 0", cached: true, server: server.url })
  })

  it("with tool calls is returned with copies of them", async () => {
    const tools = [{ name: "weather" }]
    const reply = { tokens: ["Let me see."], toolCalls: [{ name: "weather", arguments: { city: "Zürich" } }] }
    const { cortex, server } = await alone({ reply })
    const ask = async (): Promise<Json> => cortex.complete("Weather?", { ...cached, tools })
    const [first, second] = [await ask(), await ask()]
    expect(second).toMatchObject({ cached: true, finishReason: "tool_calls", toolCalls: first.toolCalls })
    first.toolCalls[0].arguments.city = "changed"
    second.toolCalls[0].arguments.city = "changed"
    expect((await ask()).toolCalls[0].arguments).toEqual({ city: "Zürich" })
    const events = await eventsOf(await cortex.chat("Weather?", { ...cached, tools, stream: true }))
    expect(events.find(({ type }) => type === "tool_call")).toMatchObject({ arguments: { city: "Zürich" } })
    expect(chats(server)).toEqual([1])
  })

  it("follows the fleet's policy: on by default, off if a call says so", async () => {
    const { cortex, server } = await alone({}, { cache: { ttl: 60_000 } })
    expect([await cortex.chat("Hi"), await cortex.chat("Hi")]).toEqual(["answer 0", "answer 0"])
    expect(await cortex.chat("Hi", { cache: false })).toBe("answer 1")
    expect(chats(server)).toEqual([2])
  })

  it.each(["yes", 1, { ttl: 0 }, { ttl: -1 }, { ttl: Number.NaN }, { time: 1 }])("refuses cache: %j", async (cache) => {
    const { cortex } = await alone()
    const error = await failure(cortex.chat("Hi", { cache: cache as unknown as boolean }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: expect.stringMatching(/^cache/) })
  })

  it.each([{ ttl: 0 }, { maxEntries: 1.5 }, { maxBytes: -1 }, "on"])("refuses a policy of %j", async (cache) => {
    const { cortex } = await alone({}, { cache } as CortexLayer.Options)
    expect(await failure(cortex.chat("Hi"))).toMatchObject({
      _tag: "InvalidConfig",
      field: expect.stringMatching(/^cache/)
    })
  })

  it("is removed by clearResponseCache, also one in progress", async () => {
    const { cortex, server } = await alone({ perToken: 20 })
    await cortex.chat("Hi", cached)
    await cortex.clearResponseCache()
    const running = cortex.chat("Hi", cached)
    await server.waitForChats(2)
    await cortex.clearResponseCache()
    expect(await running).toBe("answer 1")
    expect(await cortex.chat("Hi", cached)).toBe("answer 2")
  })

  it("counts: every call is a hit, a miss or shared", async () => {
    const { cortex } = await alone({ perToken: 5 })
    const before = count()
    await Promise.all(Array.from({ length: 5 }, () => cortex.chat("Hi", cached)))
    await cortex.chat("Hi", cached)
    await cortex.chat("Hi", { ...cached, stream: true }).then((stream) => stream.text())
    await cortex.chat("Hi")
    const after = count()
    const grown = (key: keyof typeof before) => after[key].count - before[key].count
    expect([grown("hits"), grown("misses"), grown("shared")]).toEqual([2, 1, 4])
  })
})

// -----------------------------------------------------------------------------
// the key
// -----------------------------------------------------------------------------

describe("the cache key", () => {
  type Variation = readonly [counts: boolean, one: unknown, other: unknown]
  /** Whether an option is part of the question, and two values of it. A new option must be entered here. */
  const options: { readonly [K in keyof Required<ChatRequest.Options>]: Variation } = {
    model: [true, model, "n:1b"],
    system: [true, undefined, "Be brief."],
    persona: [true, "pirate", "poet"],
    temperature: [true, undefined, 0.1],
    topP: [true, undefined, 0.5],
    maxTokens: [true, 100, 101],
    stop: [true, undefined, ["x"]],
    seed: [true, 1, 2],
    frequencyPenalty: [true, undefined, 1],
    presencePenalty: [true, undefined, 1],
    topK: [true, 10, 11],
    minP: [true, undefined, 0.1],
    repeatPenalty: [true, 1, 1.1],
    tools: [true, [{ name: "a" }], [{ name: "a", description: "b" }]],
    toolChoice: [true, undefined, "none"],
    think: [true, undefined, true],
    options: [true, { num_ctx: 2048 }, { num_ctx: 4096 }],
    extra: [true, { typical_p: 0.5 }, { typical_p: 0.6 }],
    raw: [true, undefined, true],
    suffix: [true, "a", "b"],
    keepAlive: [false, undefined, "5m"],
    routing: [false, "random", "nearest"],
    priority: [false, undefined, "batch"],
    owner: [true, "a", "b"],
    private: [false, undefined, true],
    timeout: [false, undefined, 20_000],
    connectTimeout: [false, undefined, 4_000],
    firstTokenTimeout: [false, undefined, 20_000],
    idleTimeout: [false, undefined, 20_000],
    loadTimeout: [false, undefined, 20_000],
    onInterrupt: [false, "resume", "restart"],
    hedge: [false, undefined, true],
    deadline: [false, undefined, 20_000],
    maxRetries: [false, undefined, 3],
    retryBackoff: [false, undefined, 1],
    cache: [false, true, { ttl: 30_000 }]
  }
  const personas = { pirate: "Talk like a pirate.", poet: "Talk like a poet." }

  it("every option is either part of it or excluded", () => {
    expect(Object.keys(options).sort()).toEqual(Object.keys(ChatRequest.Options.fields).sort())
  })

  it.each(Object.entries(options))("%s", async (name, [counts, one, other]) => {
    const models = [model, "n:1b"].map((name) => ({
      name,
      capabilities: ["completion", "tools", "thinking", "insert"]
    }))
    const { cortex, server } = await alone({ models }, { personas })
    const ask = (value: unknown) => cortex.complete("Hi", { ...cached, [name]: value })
    expect(await ask(one)).toMatchObject({ cached: false })
    expect(await ask(other)).toMatchObject({ cached: !counts })
    expect(await ask(one)).toMatchObject({ cached: true })
    expect(chats(server)).toEqual([counts ? 2 : 1])
  })

  const image = (data: string) => ({ type: "image", data, mediaType: "image/png" }) as const
  it.each<[string, Chat.Prompt, Chat.Prompt]>([
    ["the text", "Hi", "Hi!"],
    ["a role", [{ role: "user", content: "Hi" }], [{ role: "assistant", content: "Hi" }]],
    [
      "an image",
      [{ role: "user", content: [{ type: "text", text: "?" }, image("aGk=")] }],
      [{ role: "user", content: [{ type: "text", text: "?" }, image("aGo=")] }]
    ],
    [
      "the arguments of a tool call",
      [{ role: "assistant", content: "", toolCalls: [{ id: "1", name: "f", arguments: { a: 1 } }] }],
      [{ role: "assistant", content: "", toolCalls: [{ id: "1", name: "f", arguments: { a: 2 } }] }]
    ],
    [
      "one message or two",
      [{ role: "user", content: "ab" }],
      [
        { role: "user", content: "a" },
        { role: "user", content: "b" }
      ]
    ]
  ])("%s of the conversation is part of it", async (_, one, other) => {
    const { cortex } = await alone()
    expect(await cortex.complete(one, cached)).toMatchObject({ cached: false })
    expect(await cortex.complete(other, cached)).toMatchObject({ cached: false })
    expect(await cortex.complete(one, cached)).toMatchObject({ cached: true })
  })

  it("the answer's format is part of it, including the order of a schema", async () => {
    const { cortex, server } = await alone({ reply: '{"a":1,"b":2}' })
    const schema = (...names: ReadonlyArray<string>) => ({
      type: "object",
      properties: Object.fromEntries(names.map((name) => [name, { type: "number" }]))
    })
    for (const ask of [
      () => cortex.chat("Hi", cached),
      () => cortex.chat("Hi", { ...cached, responseFormat: "json" as const }),
      () => cortex.chat("Hi", { ...cached, schema: schema("a", "b") }),
      () => cortex.chat("Hi", { ...cached, schema: schema("b", "a") })
    ]) {
      const before = chats(server)[0] ?? 0
      await ask()
      await ask()
      expect(chats(server)).toEqual([before + 1])
    }
  })

  it("is the same for equivalent models, options and personas", async () => {
    const { cortex, server } = await alone({}, { personas })
    await cortex.chat("Hi", { ...cached, model: "M:1B", stop: "x", options: { a: 1, b: 2 }, system: personas.poet })
    await cortex.chat([{ role: "user", content: "Hi" }], {
      options: { b: 2, a: 1 },
      stop: ["x"],
      topP: 1,
      persona: "poet",
      ...cached
    })
    expect(chats(server)).toEqual([1])
    // A temperature that is written reaches models that are asked without the default one.
    await cortex.chat("Hi", { options: { a: 1, b: 2 }, stop: "x", temperature: 0.7, persona: "poet", ...cached })
    expect(chats(server)).toEqual([2])
  })

  it("another version of the model has another key", async () => {
    const version = (digest: string) => [{ name: model, digest }]
    const { server } = await alone({ models: version("sha256:1") })
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    const ask = () => runtime.runPromise(Effect.map(Chat.complete("Hi", cached), ({ text }) => text))
    const pull = async (digest: string) => {
      await server.setBehaviour({ models: version(digest) })
      await runtime.runPromise(Effect.flatMap(Registry.Registry, (registry) => registry.refresh))
    }
    expect([await ask(), await ask()]).toEqual(["answer 0", "answer 0"])
    await pull("sha256:2")
    expect([await ask(), await ask()]).toEqual(["answer 1", "answer 1"])
    await pull("sha256:1")
    expect(await ask()).toBe("answer 0")
  })

  it("while one server has another version, both are cached", async () => {
    const [a, b] = await Promise.all(
      ["sha256:1", "sha256:2"].map((digest) => fleet.ollama({ reply: "Hi", models: [{ name: model, digest }] }))
    )
    if (a === undefined || b === undefined) throw new Error("two servers")
    const cacheFolder = folder()
    const ask = async (...servers: ReadonlyArray<typeof a>) => {
      const cortex = fleet.cortex(servers, { cacheFolder })
      const answer = await cortex.complete("Hi", cached)
      // An answer is being written until then.
      await cortex.close()
      return answer
    }
    expect(await ask(a, b)).toMatchObject({ cached: false })
    expect(await ask(b, a)).toMatchObject({ cached: true })
    expect(await ask(a)).toMatchObject({ cached: false })
    expect(await ask(b)).toMatchObject({ cached: false })
  })

  it("the digest is not exposed", async () => {
    const { cortex } = await alone({ models: [{ name: model, digest: "sha256:secret" }] })
    await cortex.chat("Hi", cached)
    const shown = [await cortex.getModelInfo(model), await cortex.listServers(), await cortex.bestServer(model)]
    expect(JSON.stringify(shown)).not.toContain("secret")
  })

  it("keys are equal for equal requests, in any order, and for no others", () => {
    const text = fc.constantFrom("", "a", "b", '"', "],[")
    const part = fc.dictionary(
      fc.constantFrom("a", "b", "1", "__proto__"),
      fc.oneof(text, fc.integer({ max: 1, min: 0 }))
    )
    const request = fc.record({
      model: fc.constantFrom("m", "n"),
      messages: fc.array(
        fc.record({
          role: fc.constant("user" as const),
          content: fc.oneof(text, fc.constant([{ type: "text" as const, text: "a" }]))
        }),
        { maxLength: 2 }
      ),
      temperature: fc.constantFrom(0, 1),
      stop: fc.array(text, { maxLength: 2 }),
      options: fc.option(part, { nil: undefined }),
      format: fc.oneof(fc.constantFrom("text" as const, "json" as const), part)
    })
    const full = (r: Json): ChatRequest.ChatRequest => ({
      ...ChatRequest.make({}, r.model, r.messages, r.format),
      ...r
    })
    const reversed = (r: Json) => Object.fromEntries(Object.entries(r).reverse())
    const plain = (value: unknown) =>
      JSON.stringify(value, (key, v) =>
        key !== "format" && typeof v === "object" && v !== null && !Array.isArray(v) ? Object.entries(v).sort() : v
      )
    fc.assert(
      fc.property(request, request, (a, b) => {
        expect(serialize(full(reversed(a)), ["x"])).toBe(serialize(full(a), ["x"]))
        expect(serialize(full(a), ["x"]) === serialize(full(b), ["x"])).toBe(
          plain(Object.entries(full(a))) === plain(Object.entries(full(b)))
        )
        expect(serialize(full(a), ["x"])).not.toBe(serialize(full(a), ["y"]))
        expect(serialize(full(a), ["x", "y"])).toBe(serialize(full(a), ["y", "x", "y"]))
      }),
      { numRuns: 300 }
    )
  })
})

// -----------------------------------------------------------------------------
// sharing
// -----------------------------------------------------------------------------

describe("concurrent equal calls", () => {
  const words = Array.from({ length: 40 }, (_, i) => ` word${i}`)
  const story = words.join("")

  it("50 of them are one request: text, results, streams and values", async () => {
    const { cortex, server } = await alone({ reply: words, perToken: 2 })
    const calls = Array.from({ length: 50 }, (_, i) =>
      i % 2 === 0
        ? cortex.complete("Hi", cached).then(({ text }) => text)
        : cortex.chat("Hi", { ...cached, stream: true }).then((stream) => stream.text())
    )
    expect(new Set(await Promise.all(calls))).toEqual(new Set([story]))
    expect(chats(server)).toEqual([1])
  })

  it("a call with different limits gets its own request", async () => {
    const { cortex, server } = await alone({ reply: words, perToken: 2 })
    await Promise.all([
      cortex.chat("Hi", cached),
      cortex.chat("Hi", { ...cached, idleTimeout: 10_000 }),
      cortex.chat("Hi", { cache: { ttl: 10_000 } }),
      cortex.chat("Hi", { ...cached, deadline: 10_000 }),
      cortex.chat("Hi", { ...cached, routing: "nearest" }),
      cortex.chat("Hi")
    ])
    expect(chats(server)).toEqual([5])
  })

  it("a later caller gets the text so far, and the rest as it arrives", async () => {
    const { cortex, server } = await alone({ reply: words, perToken: 5 })
    const first = await cortex.chat("Hi", { ...cached, stream: true })
    const reading = first.text()
    await until(() => first.events.length > 10)
    const began = Date.now()
    const events = await eventsOf(await cortex.chat("Hi", { ...cached, stream: true }))
    expect(await reading).toBe(story)
    const meta = { type: "meta", meta: { server: server.url, attempt: 1 } }
    expect(untimed(events)).toMatchObject([
      { type: "start" },
      meta,
      ...words.map((content, index) => ({ type: "token", content, index })),
      { type: "end", server: server.url, usage: { completionTokens: 40 } }
    ])
    for (const [i, { timestamp }] of events.entries()) {
      expect(timestamp).toBeGreaterThanOrEqual(i === 0 ? began : (events[i - 1]?.timestamp ?? 0))
    }
    // It came live, not at the end.
    expect(new Set(events.map(({ timestamp }) => timestamp)).size).toBeGreaterThan(5)
    expect(chats(server)).toEqual([1])
  })

  const leaders: ReadonlyArray<readonly [string, (stream: ChatStream) => Promise<unknown>]> = [
    ["cancels", (stream) => stream.cancel()],
    [
      "breaks off",
      async (stream) => {
        for await (const event of stream) if (event.type === "token") break
      }
    ]
  ]
  it.each(leaders)("the first one %s: the others continue", async (_, leave) => {
    const { cortex, server } = await alone({ reply: words, perToken: 4 })
    const shared = sharing()
    const first = await cortex.chat("Hi", { ...cached, stream: true })
    await server.waitForChats(1)
    const others = [
      cortex.chat("Hi", { ...cached, stream: true }).then((stream) => stream.text()),
      cortex.complete("Hi", cached).then(({ text }) => text)
    ]
    await shared(2)
    await leave(first)
    expect(await Promise.all(others)).toEqual([story, story])
    expect(chats(server)).toEqual([1])
    expect(server.chatRequests[0]).toMatchObject({ aborted: false })
    expect(await cortex.complete("Hi", cached)).toMatchObject({ cached: true })
  })

  it("the first one aborts before any output: the others continue", async () => {
    const { cortex, server } = await alone({ reply: words, firstToken: 100 })
    const leaving = new AbortController()
    const shared = sharing()
    const first = failure(cortex.chat("Hi", { ...cached, signal: leaving.signal }))
    const other = cortex.chat("Hi", cached)
    await server.waitForChats(1)
    await shared(1)
    leaving.abort()
    expect((await first).name).toBe("AbortError")
    expect(await other).toBe(story)
    expect(chats(server)).toEqual([1])
  })

  it("when the last one aborts, the request is cancelled, and nothing is cached", async () => {
    const { cortex, server } = await alone({ reply: words, perToken: 10 })
    const leaving = new AbortController()
    const shared = sharing()
    const whole = failure(cortex.chat("Hi", { ...cached, signal: leaving.signal }))
    const stream = await cortex.chat("Hi", { ...cached, stream: true })
    const read = stream.text()
    await shared(1)
    await until(() => (server.chatRequests[0]?.tokensSent ?? 0) > 3)
    leaving.abort()
    await whole
    expect(server.inFlight()).toBe(1)
    await stream.cancel()
    expect(story.startsWith(await read)).toBe(true)
    expect(await server.chatRequests[0]?.closedByClient).toBeTypeOf("number")
    expect(await cortex.complete("Hi", cached)).toMatchObject({ cached: false, text: story })
    expect(chats(server)).toEqual([2])
  })

  it("each caller has its own deadline", async () => {
    const { cortex, server } = await alone({ reply: words, perToken: 10 })
    const other = cortex.chat("Hi", cached)
    await server.waitForChats(1)
    const error = await failure(cortex.chat("Hi", { ...cached, deadline: 150 }))
    expect(error).toMatchObject({ _tag: "DeadlineExceeded", deadline: 150 })
    expect(story.startsWith(error.partial)).toBe(true)
    expect(await other).toBe(story)
    expect(chats(server)).toEqual([1])
  })

  it("fail together, and nothing is cached", async () => {
    const { cortex, server } = await alone({ reply: words, faults: { kind: "hang" } })
    const patient = { ...cached, firstTokenTimeout: 500, maxRetries: 1 }
    const errors = await Promise.all(Array.from({ length: 10 }, () => failure(cortex.chat("Hi", patient))))
    const attempts = [{ reason: "first-token-timeout" }]
    for (const error of errors) expect(error).toMatchObject({ _tag: "AllServersFailed", attempts })
    expect(chats(server)).toEqual([1])
    await server.setBehaviour({ faults: undefined })
    expect(await cortex.complete("Hi", cached)).toMatchObject({ text: story, cached: false })
  })

  it("an interrupted stream fails its readers after what they read; complete answers are requested again", async () => {
    const [broken, other] = await Promise.all([
      fleet.ollama({ reply: words, perToken: 2, faults: { kind: "cut", after: 10 } }),
      fleet.ollama({ reply: ["something", " else"], firstToken: 30 })
    ])
    const cortex = fleet.cortex(inOrder(broken, other))
    await cortex.listServers()
    const failing = { ...cached, onInterrupt: "fail" } as const
    const stream = await cortex.chat("Hi", { ...failing, stream: true })
    const read = failure(stream.text())
    const wholes = Array.from({ length: 5 }, () => cortex.chat("Hi", failing))
    expect(await read).toMatchObject({ _tag: "StreamInterrupted", partial: words.slice(0, 10).join("") })
    expect(textOf(stream.events)).toBe(words.slice(0, 10).join(""))
    expect(new Set(await Promise.all(wholes))).toEqual(new Set(["something else"]))
    // Once for all who had been given nothing.
    expect(chats(broken, other)).toEqual([1, 1])
    expect(await cortex.complete("Hi", cached)).toMatchObject({ text: "something else", cached: true })
  })

  it("a late caller of an answer too long to buffer gets its own request; a slow reader loses nothing", async () => {
    const long = Array.from({ length: 400 }, (_, i) => ` ${"word".repeat(5)}${i}`)
    const { cortex, server } = await alone({ reply: long }, { cache: { maxBytes: 4_000 } })
    const ask = () => cortex.chat("Hi", { stream: true })
    const [slow, fast] = await Promise.all([ask(), ask()])
    expect(await fast.text()).toBe(long.join(""))
    expect(chats(server)).toEqual([1])
    expect(await (await ask()).text()).toBe(long.join(""))
    expect(chats(server)).toEqual([2])
    const text: Array<string> = []
    for await (const event of slow) if (event.type === "token") text.push(event.content)
    expect(text).toEqual(long)
  })
})

describe("a shared answer", () => {
  const pause = (turns: number) =>
    Array.from({ length: turns }).reduce<Promise<unknown>>((done) => done.then(() => {}), Promise.resolve())

  /** An answer that gives its tokens in batches, each after so many turns of the event loop. */
  const upstream = (batches: ReadonlyArray<readonly [tokens: number, turns: number]>, breaks: boolean) => {
    const end = { type: "end", content: "", model, server: "a", usage: {}, finishReason: "stop", attempts: [] } as const
    let index = 0
    let at = 0
    let text = ""
    const state = { cancelled: false, over: false, text: "" }
    const answer: OpenAnswer = {
      pull: async () => {
        const [tokens, turns] = batches[at++] ?? [0, 0]
        await pause(turns)
        if (state.cancelled) return undefined
        const events: Array<ChatEvent> = []
        for (let i = 0; i < tokens; i++) {
          text += `<${index}>`
          events.push({ type: "token", content: `<${index}>`, index: index++, timestamp: 1 })
        }
        if (at < batches.length) return events
        if (breaks && events.length === 0) throw new Error("broken")
        if (breaks) return events
        state.over = true
        return at === batches.length ? [...events, { ...end, timestamp: 1 }] : undefined
      },
      result: async () => ({
        ...end,
        text,
        thinking: "",
        toolCalls: [],
        firstTokenTime: 0,
        tokensPerSecond: 1,
        cached: false,
        decision: single(model, { model, server: "a" }, "")
      }),
      cancel: () => {
        state.cancelled = true
      },
      onClose: () => {}
    }
    return { answer, state }
  }

  it("clients that join and leave get all of it in order, and it is cancelled when the last one has left", async () => {
    const reader = fc.record({
      comes: fc.nat(60),
      /** After so many events; who reads it whole only comes to the end. */
      leaves: fc.option(fc.nat(20), { nil: undefined }),
      events: fc.boolean(),
      slow: fc.nat(5),
      commits: fc.boolean()
    })
    const batches = fc.array(fc.tuple(fc.nat(4), fc.nat(8)), { minLength: 1, maxLength: 10 })
    await fc.assert(
      fc.asyncProperty(
        fc.array(reader, { minLength: 1, maxLength: 6 }),
        batches,
        fc.boolean(),
        fc.boolean(),
        async (readers, batches, breaks, small) => {
          const { answer, state } = upstream(batches, breaks)
          let closed = false
          let completions = 0
          let abandoned = 0
          const host: SharedAnswerHost = {
            now: () => 2,
            unreachable: () => [],
            limit: small ? 300 : Number.POSITIVE_INFINITY,
            hit: () => {},
            missed: () => {},
            shared: () => {},
            closed: () => {
              closed = true
            },
            abandoned: () => {
              abandoned++
              closed = true
            },
            completed: () => {
              completions++
              closed = true
            }
          }
          const request = ChatRequest.make({}, model, [], "text")
          const call: Call = {
            request,
            limits: ChatRequest.limits({}),
            began: 0,
            events: true,
            preface: [],
            complete: undefined,
            closed: undefined
          }
          const sharedAnswer = new SharedAnswer(host, call)
          const total = batches.reduce((sum, [tokens]) => sum + tokens, 0)
          let committed = 0
          let stayed = 0
          const first = new Reader(
            call,
            sharedAnswer,
            host,
            () => true,
            () => sharedAnswer
          )
          sharedAnswer.begun(answer)
          const read = async (one: OpenAnswer, { events, leaves, slow }: Omit<(typeof readers)[number], "comes">) => {
            if (!events) {
              const result = await one.result().catch((error: Error) => error.message)
              expect(typeof result === "string" ? result : result.text).toBe(
                breaks ? "broken" : Array.from({ length: total }, (_, i) => `<${i}>`).join("")
              )
              stayed++
              return
            }
            const seen: Array<ChatEvent> = []
            try {
              for (let batch = await one.pull(); batch !== undefined; batch = await one.pull()) {
                expect(batch.length).toBeGreaterThan(0)
                seen.push(...batch)
                if (leaves !== undefined && seen.length > leaves && seen.at(-1)?.type !== "end") {
                  one.cancel()
                  return
                }
                await pause(slow)
              }
              expect(seen.at(-1)?.type).toBe("end")
            } catch (error) {
              if (!breaks) throw error
              expect(error).toMatchObject({ message: "broken" })
            }
            stayed++
            expect(seen[0]?.type).toBe("start")
            const indices = seen.flatMap((event) => (event.type === "token" ? [event.index] : []))
            expect(indices).toEqual(Array.from({ length: total }, (_, i) => i))
          }
          const others = readers.map(async ({ comes, ...how }) => {
            await pause(comes)
            if (closed) return
            const complete = how.commits
              ? async () => {
                  await pause(3)
                  committed++
                  return undefined
                }
              : undefined
            const one = new Reader(
              {
                request,
                limits: ChatRequest.limits({}),
                began: 1,
                events: how.events,
                preface: [],
                complete,
                closed: undefined
              },
              sharedAnswer,
              host,
              () => true,
              () => sharedAnswer
            )
            await read(one, how)
          })
          await Promise.all([
            read(first, { events: true, leaves: readers[0]?.leaves, slow: 0, commits: false }),
            ...others
          ])
          expect(completions + abandoned).toBeLessThanOrEqual(1)
          if (stayed > 0) expect(state.cancelled).toBe(false)
          else expect(state.cancelled || state.over || breaks).toBe(true)
          if (abandoned > 0) expect([stayed, committed, state.cancelled]).toEqual([0, 0, true])
        }
      ),
      { numRuns: 300 }
    )
  })
})

// -----------------------------------------------------------------------------
// what is not kept
// -----------------------------------------------------------------------------

describe("not cached are", () => {
  it("interrupted answers", async () => {
    const { cortex, server } = await alone({ perToken: 10, reply: ["one", " two", " three", " four"] })
    for await (const event of await cortex.chat("Hi", { ...cached, stream: true })) if (event.type === "token") break
    expect(await cortex.chat("Hi", cached)).toBe("one two three four")
    expect(chats(server)).toEqual([2])
  })

  it("empty answers", async () => {
    const { cortex, server } = await alone({ reply: "" })
    expect([await cortex.chat("Hi", cached), await cortex.chat("Hi", cached)]).toEqual(["", ""])
    expect(chats(server)).toEqual([2])
  })

  it("answers of calls whose tools are executed here", async () => {
    const reply = (_: Json, n: number) =>
      n % 2 === 0 ? { tokens: ["Let me see."], toolCalls: [{ name: "f", arguments: {} }] } : "It rains."
    const { cortex, server } = await alone({ reply })
    let executed = 0
    const tools = [{ name: "f", execute: () => ++executed }]
    for (let i = 0; i < 2; i++) expect(await cortex.chat("Weather?", { ...cached, tools })).toBe("It rains.")
    expect(executed).toBe(2)
    expect(chats(server)).toEqual([4])
  })
})

// -----------------------------------------------------------------------------
// sessions and values
// -----------------------------------------------------------------------------

describe("sessions", () => {
  it("use cached answers, and their history is part of the key", async () => {
    const { cortex, server } = await alone()
    const [a, b] = [await cortex.Session.create(), await cortex.Session.create()]
    for (const session of [a, b]) {
      expect(await cortex.chat("One?", { ...cached, session })).toBe("answer 0")
      const stream = await cortex.chat("Two?", { ...cached, session, stream: true })
      expect(await stream.text()).toBe("answer 1")
    }
    expect(chats(server)).toEqual([2])
    expect(await b.history()).toEqual([
      { role: "user", content: "One?" },
      { role: "assistant", content: "answer 0" },
      { role: "user", content: "Two?" },
      { role: "assistant", content: "answer 1" }
    ])
    expect(await a.history()).toEqual(await b.history())
    expect(await cortex.chat("Two?", { ...cached, session: a })).toBe("answer 2")
  })

  it("share an answer, and each stores it", async () => {
    const { cortex, server } = await alone({ perToken: 5 })
    const sessions = await Promise.all(Array.from({ length: 5 }, () => cortex.Session.create()))
    await Promise.all(
      sessions.map((session, i) =>
        i % 2 === 0
          ? cortex.chat("Hi", { ...cached, session })
          : cortex.chat("Hi", { ...cached, session, stream: true }).then((stream) => stream.text())
      )
    )
    expect(chats(server)).toEqual([1])
    for (const session of sessions) {
      expect(await session.history()).toMatchObject([{ content: "Hi" }, { content: "answer 0" }])
    }
  })

  it("a client that disconnects before the end leaves no turn in the session", async () => {
    const { cortex } = await alone({ reply: ["one", " two"] })
    await cortex.chat("Hi", cached)
    const session = await cortex.Session.create()
    for await (const event of await cortex.chat("Hi", { ...cached, session, stream: true })) {
      if (event.type === "token") break
    }
    expect(await session.history()).toEqual([])
    expect(await cortex.chat("Hi", { ...cached, session })).toBe("one two")
  })
})

describe("values", () => {
  const schema = { type: "object", properties: { n: { type: "number" } }, required: ["n"] }

  it("a reply that does not match is not cached; the repaired one is, for the original request", async () => {
    const { cortex, server } = await alone({ reply: (_, n) => ['{"n":"no"}', '{"n":1}', '{"n":2}'][n] ?? "" })
    const ask = () => cortex.chat("A number?", { ...cached, schema })
    expect([await ask(), await ask()]).toEqual([{ n: 1 }, { n: 1 }])
    expect(chats(server)).toEqual([2])
  })

  it("are repaired once for concurrent callers", async () => {
    const { cortex, server } = await alone({ firstToken: 20, reply: (_, n) => ['{"n":"no"}', '{"n":1}'][n] ?? "" })
    const calls = Array.from({ length: 10 }, () => cortex.chat<{ n: number }>("A number?", { ...cached, schema }))
    expect(new Set((await Promise.all(calls)).map(({ n }) => n))).toEqual(new Set([1]))
    expect(chats(server)).toEqual([2])
  })

  it("nothing is cached if the repair fails", async () => {
    const { cortex, server } = await alone({ reply: '{"n":"no"}' })
    for (let i = 1; i <= 2; i++) {
      expect(await failure(cortex.chat("A number?", { ...cached, schema }))).toMatchObject({ _tag: "SchemaMismatch" })
      expect(chats(server)).toEqual([2 * i])
    }
  })

  it("a cached text is decoded again: if it does not match another decoder, the request is sent again", async () => {
    const { server } = await alone({ reply: (_, n) => `{"n":${n + 1}}` })
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    const Any = Schema.Struct({ n: Schema.Number })
    const Even = Schema.Struct({ n: Schema.Number.pipe(Schema.filter((n) => n % 2 === 0)) })
    const ask = (fits: typeof Any) => runtime.runPromise(Chat.json("A number?", fits, cached))
    expect([await ask(Any), await ask(Even), await ask(Even), await ask(Any)].map(({ n }) => n)).toEqual([1, 2, 2, 2])
    expect(chats(server)).toEqual([2])
  })
})

// -----------------------------------------------------------------------------
// bounds
// -----------------------------------------------------------------------------

const entry = (text: string, storedAt = 0, ttl = 1_000): ResponseCache.Entry => ({
  storedAt,
  expiresAt: storedAt + ttl,
  text,
  thinking: "",
  pieces: [text.length],
  toolCalls: [],
  model,
  server: "http://a",
  finishReason: "stop",
  usage: {}
})

describe("time", () => {
  const timed = <A, E>(effect: Effect.Effect<A, E, CortexLayer.Services>, options: CortexLayer.Options) =>
    Effect.runPromise(
      Effect.provide(effect, CortexLayer.layer({ model, configFile: false, ...options })).pipe(
        Effect.provide(TestContext.TestContext)
      )
    )

  it("an answer is returned until it expires, after an hour by default", async () => {
    const { server } = await alone()
    const ask = (ttl?: number) =>
      Effect.map(Chat.complete("Hi", { cache: ttl === undefined ? true : { ttl } }), ({ text }) => text)
    await timed(
      Effect.gen(function* () {
        expect(yield* ask()).toBe("answer 0")
        yield* TestClock.adjust("59 minutes")
        expect(yield* ask()).toBe("answer 0")
        // No older than that will do, and it is kept for that long.
        expect(yield* ask(60_000)).toBe("answer 1")
        yield* TestClock.adjust("59 seconds")
        expect(yield* ask()).toBe("answer 1")
        const [, meta] = [...(yield* Stream.runCollect(Chat.stream("Hi", cached)))]
        expect(meta).toMatchObject({ meta: { cached: true, age: 59_000 } })
        yield* TestClock.adjust("1 second")
        expect(yield* ask()).toBe("answer 2")
        yield* TestClock.adjust("1 hour")
        expect(yield* ask()).toBe("answer 3")
      }),
      { servers: [server.url] }
    )
  })

  it("the policy sets the lifetime, and a call overrides it", async () => {
    const { server } = await alone()
    const ask = (cache?: ChatRequest.Options["cache"]) => Effect.map(Chat.complete("Hi", { cache }), ({ text }) => text)
    await timed(
      Effect.gen(function* () {
        expect(yield* ask()).toBe("answer 0")
        yield* TestClock.adjust("9 seconds")
        expect(yield* ask(true)).toBe("answer 0")
        yield* TestClock.adjust("1 second")
        expect(yield* ask()).toBe("answer 1")
        expect(yield* ask(false)).toBe("answer 2")
        expect(yield* ask()).toBe("answer 1")
      }),
      { servers: [server.url], cache: { ttl: 10_000 } }
    )
  })
})

describe("cache entries written by another program", () => {
  it.each([
    ["nested too deeply", `${"[".repeat(200_000)}${"]".repeat(200_000)}`],
    [
      "with an answer nested too deeply",
      `[{"key":"k","entry":{"text":"x","toolCalls":[{"id":"1","name":"f","arguments":${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}}]}}]`
    ],
    ["half written", '[{"key":"00'],
    ["of something else", '{"a":1}'],
    ["empty", ""]
  ])("count as missing if they are %s, and are replaced", async (_, text) => {
    const folder = mkdtempSync(join(tmpdir(), "aicortex-shelf-"))
    const { cortex, server } = await alone({}, { cacheFolder: folder })
    expect(await cortex.complete("Hi", cached)).toMatchObject({ cached: false })
    const written = () => readdirSync(folder).map((file) => join(folder, file))
    // Under its last name: before, it is a temporary file that is about to be renamed.
    await expect.poll(() => readdirSync(folder)).toEqual([expect.stringMatching(/^responses-\d+$/)])
    const [file = ""] = written()
    writeFileSync(file, text)
    expect(await cortex.complete("Hi", cached)).toMatchObject({ cached: false })
    await expect.poll(() => readFileSync(file, "utf8")).not.toBe(text)
    expect(await cortex.complete("Hi", cached)).toMatchObject({ cached: true })
    expect(server.chatRequests).toHaveLength(2)
    // No temporary file is left.
    expect(written()).toEqual([file])
    rmSync(folder, { recursive: true, force: true })
  })
})

const stores: ReadonlyArray<readonly [string, (bounds?: ResponseCache.Bounds) => Effect.Effect<ResponseCache.Store>]> =
  [
    ["in memory", ResponseCache.makeStoreMemory],
    ["in a key-value store", (bounds) => Effect.provide(makeStoreKeyValue(bounds), KeyValueStore.layerMemory)]
  ]

describe.each(stores)("a store %s", (name, make) => {
  const test = (use: (store: ResponseCache.Store) => Effect.Effect<void>, bounds?: ResponseCache.Bounds) =>
    Effect.runPromise(Effect.provide(Effect.flatMap(make(bounds), use), TestContext.TestContext))
  const key = (n: number) => createHash("sha256").update(String(n)).digest("hex")
  const texts = (store: ResponseCache.Store, ...keys: ReadonlyArray<number>) =>
    Effect.forEach(keys, (n) => Effect.map(store.get(key(n)), (found) => Option.getOrUndefined(found)?.text))

  it("returns what was stored, the newest, until it expires or all is cleared", () =>
    test((store) =>
      Effect.gen(function* () {
        expect(yield* texts(store, 1)).toEqual([undefined])
        const whole = { ...entry("a b"), pieces: [1, 2], toolCalls: [{ id: "1", name: "f", arguments: { x: [null] } }] }
        yield* store.put(key(1), whole)
        expect(yield* store.get(key(1))).toEqual(Option.some(whole))
        yield* store.put(key(1), entry("b"))
        yield* store.put(key(2), entry("c", 0, 5_000))
        expect(yield* texts(store, 1, 2, 3)).toEqual(["b", "c", undefined])
        yield* TestClock.adjust(1_000)
        expect(yield* texts(store, 1, 2)).toEqual([undefined, "c"])
        yield* store.clear
        expect(yield* texts(store, 1, 2)).toEqual([undefined, undefined])
        yield* store.clear
      })
    ))

  it("evicts the least recently used", () =>
    test(
      (store) =>
        Effect.gen(function* () {
          for (const n of [1, 2, 3]) yield* store.put(key(n), entry(`${n}`))
          yield* store.get(key(1))
          yield* store.put(key(4), entry("4"))
          expect(yield* texts(store, 1, 2, 3, 4)).toEqual(["1", undefined, "3", "4"])
        }),
      { maxEntries: 3 }
    ))

  it("of several owners, the one with the most loses its own entries", () =>
    test(
      (store) =>
        Effect.gen(function* () {
          yield* store.put(key(1), entry("good"), "good")
          for (let n = 10; n < 30; n++) yield* store.put(key(n), entry(`${n}`), "flood")
          expect(yield* texts(store, 1, 29, 28, 10)).toEqual(["good", "29", "28", undefined])
        }),
      { maxEntries: 3 }
    ))

  it("never exceeds its limits of entries and bytes", () =>
    test(
      (store) =>
        Effect.gen(function* () {
          for (let n = 0; n < 300; n++) yield* store.put(key(n), entry("x".repeat(n)))
          const found = (yield* texts(store, ...Array.from({ length: 300 }, (_, n) => n))).filter(
            (text) => text !== undefined
          )
          expect(found.length).toBeGreaterThan(name === "in memory" ? 39 : 20)
          expect(found.length).toBeLessThanOrEqual(40)
        }),
      { maxEntries: 40 }
    ))

  it("limits bytes, and evicts nothing for an entry that can never fit", () =>
    test(
      (store) =>
        Effect.gen(function* () {
          for (const n of [1, 2, 3]) yield* store.put(key(n), entry(`${n}`.repeat(2_000)))
          yield* store.put(key(4), entry("4".repeat(20_000)))
          expect((yield* texts(store, 1, 2, 3, 4)).map((text) => text?.[0])).toEqual([undefined, "2", "3", undefined])
          yield* store.put(key(5), entry("5"))
          expect((yield* texts(store, 3, 5)).map((text) => text?.[0])).toEqual(["3", "5"])
        }),
      { maxEntries: 7, maxBytes: name === "in memory" ? 9_700 : 5_000 }
    ))
})

it("a fleet caches as many as its policy allows", async () => {
  const { cortex, server } = await alone({}, { cache: { maxEntries: 2 } })
  for (const prompt of ["1", "2", "1", "3", "1", "2"]) await cortex.chat(prompt)
  expect(server.chatRequests.map(({ body }) => body.messages[0].content)).toEqual(["1", "2", "3", "2"])
})

// -----------------------------------------------------------------------------
// Files
// -----------------------------------------------------------------------------

describe("in files", () => {
  it("answers are available to the next program, and cleared for all", async () => {
    const cacheFolder = join(folder(), "deep", "down")
    const { cortex, server } = await alone({}, { cacheFolder })
    await cortex.chat("Off", { cache: false })
    expect(() => readdirSync(cacheFolder)).toThrow("ENOENT")
    expect(await cortex.chat("Hi", cached)).toBe("answer 1")
    await cortex.close()
    expect(statSync(cacheFolder).mode & 0o777).toBe(0o700)

    const next = fleet.cortex([server], { cacheFolder })
    expect(await next.complete("Hi", cached)).toMatchObject({ text: "answer 1", cached: true })
    expect(textOf(await eventsOf(await next.chat("Hi", { ...cached, stream: true })))).toBe("answer 1")
    const kept = readdirSync(cacheFolder).map((name) => readFileSync(join(cacheFolder, name), "utf8"))
    expect(kept.join()).toContain("answer")
    await next.clearResponseCache()
    expect(readdirSync(cacheFolder)).toEqual([])
    expect(await next.chat("Hi", cached)).toBe("answer 2")
  })

  const logged = (messages: Array<string>) =>
    Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ message }) => {
        messages.push(String(message))
      })
    )

  it.each([
    ["garbage", () => "{nonsense"],
    ["nothing", () => ""],
    ["half of it", (text: string) => text.slice(0, text.length / 2)],
    ["a wrong type", (text: string) => text.replace('"pieces":[', '"pieces":["x",')],
    ["pieces that do not fit", (text: string) => text.replace('"pieces":[', '"pieces":[7,')]
  ])("one that contains %s counts as missing, with a warning", async (_, spoil) => {
    const cacheFolder = folder()
    const { server } = await alone()
    const messages: Array<string> = []
    const layer = CortexLayer.layer({ servers: [server.url], model, configFile: false, cacheFolder })
    const ask = () =>
      Effect.runPromise(Chat.complete("Hi", cached).pipe(Effect.provide(Layer.provide(layer, logged(messages)))))
    expect(await ask()).toMatchObject({ text: "answer 0" })
    for (const name of readdirSync(cacheFolder)) {
      const file = join(cacheFolder, name)
      writeFileSync(file, spoil(readFileSync(file, "utf8")))
    }
    expect(messages).toEqual([])
    expect(await ask()).toMatchObject({ text: "answer 1", cached: false })
    expect(messages).toEqual(expect.arrayContaining([expect.stringContaining("could not read 'responses-")]))
    expect(await ask()).toMatchObject({ text: "answer 1", cached: true })
  })

  it("an unusable folder disables the cache, not the answer", async () => {
    const file = join(folder(), "file")
    writeFileSync(file, "")
    const { server } = await alone()
    const messages: Array<string> = []
    const layer = CortexLayer.layer({ servers: [server.url], model, configFile: false, cacheFolder: join(file, "x") })
    const both = Effect.all([Chat.text("Hi", cached), Chat.text("Hi", cached)])
    const answers = await Effect.runPromise(Effect.provide(both, Layer.provide(layer, logged(messages))))
    expect(answers).toEqual(["answer 0", "answer 1"])
    expect(messages.length).toBeGreaterThan(0)
  })
})

// -----------------------------------------------------------------------------
// in Effect
// -----------------------------------------------------------------------------

describe("in Effect", () => {
  it("an interrupted first caller leaves the answer to the others; the last interruption cancels it", async () => {
    const words = Array.from({ length: 40 }, (_, i) => ` word${i}`)
    const { server } = await alone({ reply: words, perToken: 5 })
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    const ask = Chat.text("Hi", cached)
    const shared = sharing()
    await runtime.runPromise(
      Effect.gen(function* () {
        const leader = yield* Effect.fork(ask)
        yield* Effect.promise(() => server.waitForChats(1))
        const follower = yield* Effect.fork(ask)
        const reader = yield* Effect.fork(Stream.runCollect(Stream.take(Chat.stream("Hi", cached), 5)))
        yield* Effect.promise(() => shared(2))
        yield* Fiber.interrupt(leader)
        expect([...(yield* Fiber.join(reader))]).toHaveLength(5)
        expect(yield* Fiber.join(follower)).toBe(words.join(""))
        expect(chats(server)).toEqual([1])

        yield* ResponseCache.clear
        const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.fork(ask))
        yield* Effect.promise(() => Promise.all([shared(4), server.waitForChats(2)]))
        yield* Fiber.interruptAll(fibers)
      })
    )
    expect(await server.chatRequests[1]?.closedByClient).toBeTypeOf("number")
    expect(chats(server)).toEqual([2])
  })
})
