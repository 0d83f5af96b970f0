import { Chat, Cortex } from "aicortex"
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type ChatEvent, type ChatOptions, InvalidRequest } from "../../src/promise.js"
import { type DemoServer, useDemoServers } from "../support/demoProcess.js"
import type { FakeOllamaOptions, FakeOpenAIOptions } from "../support/fakeServer.js"
import { chats, eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const prompt = "What is laughter? It is: "
const suffix = "\n}\n"
/** It repeats itself, its end is white space at three places, and has characters of one to four bytes. */
const words = ["ha", " ha", " ha", ":\n", "ha", " ha", " 你好", " 😀", "\n\n", "ha", " ", " ha", " ha", "!"]
const whole = words.join("")
const models = [{ name: model, capabilities: ["completion", "insert"] }]

interface Kind {
  readonly begin: (options?: FakeOllamaOptions & FakeOpenAIOptions) => Promise<Fake>
  readonly path: string
  /** Whether it fills in the middle. */
  readonly fills: boolean
}
const openai = (flavour: NonNullable<FakeOpenAIOptions["flavour"]>, fills: boolean): Kind => ({
  begin: (options) => fleet.openai({ reply: words, models, flavour, ...options }),
  path: "/v1/completions",
  fills
})
const ollama: Kind = {
  begin: (options) => fleet.ollama({ reply: words, models, ...options }),
  path: "/api/generate",
  fills: true
}
const kinds: ReadonlyArray<readonly [string, Kind]> = [
  ["Ollama", ollama],
  ["OpenAI", openai("openai", true)],
  ["llama.cpp", openai("llamacpp", false)],
  ["vLLM", openai("vllm", false)]
]

const ofType = <T extends ChatEvent["type"]>(events: ReadonlyArray<ChatEvent>, type: T) =>
  events.filter((event): event is Extract<ChatEvent, { type: T }> => event.type === type)

const expectUnbroken = (events: ReadonlyArray<ChatEvent>, text = whole) => {
  expect(textOf(events)).toBe(text)
  const indices = ofType(events, "token").map(({ index }) => index)
  expect(indices).toEqual(indices.map((_, i) => i))
  expect(ofType(events, "end")).toHaveLength(1)
}

// -----------------------------------------------------------------------------

describe.each(kinds)("%s completes a text", (_, { begin, fills, path }) => {
  it("without a chat template, with every option", async () => {
    const server = await begin()
    const cortex = fleet.cortex([server])
    const options: ChatOptions = {
      raw: true,
      temperature: 0.1,
      topP: 0.5,
      maxTokens: 30,
      stop: ["END"],
      seed: 4,
      frequencyPenalty: 0.5,
      presencePenalty: 0.25
    }
    const answer = await cortex.complete(prompt, options)
    expect(answer).toMatchObject({ text: whole, finishReason: "stop", server: server.url })
    expect(answer.usage.completionTokens).toBe(words.length)
    expect(answer.usage.promptTokens).toBeGreaterThan(0)
    const [sent] = server.chatRequests
    expect(sent?.path).toBe(path)
    const sampling = {
      temperature: 0.1,
      top_p: 0.5,
      stop: ["END"],
      seed: 4,
      frequency_penalty: 0.5,
      presence_penalty: 0.25
    }
    expect(sent?.body).toEqual(
      path === "/api/generate"
        ? { model, prompt, raw: true, stream: true, options: { ...sampling, num_predict: 30 } }
        : { model, prompt, stream: true, stream_options: { include_usage: true }, max_tokens: 30, ...sampling }
    )
  })

  it("streamed, with one event per token, and as text", async () => {
    const server = await begin()
    const cortex = fleet.cortex([server])
    const events = await eventsOf(await cortex.chat(prompt, { raw: true, stream: true }))
    expectUnbroken(events)
    expect(ofType(events, "token").map(({ content }) => content)).toEqual(words)
    expect(await cortex.chat([{ role: "user", content: prompt }], { raw: true })).toBe(whole)
    expect(
      await cortex.chat({ messages: [{ role: "user", content: [{ type: "text", text: prompt }] }] }, { raw: true })
    ).toBe(whole)
    await server.setBehaviour({ perToken: "burst" })
    expect(await cortex.chat(prompt, { raw: true })).toBe(whole)
    // Not even an odd text is changed on its way.
    const odd = ' \t<|im_start|>user\n"\\\u2028 😀\n\n'
    await cortex.chat(odd, { raw: true })
    expect(server.chatRequests.at(-1)?.body.prompt).toBe(odd)
  })

  it("up to maxTokens, and before a stop sequence", async () => {
    const cortex = fleet.cortex([await begin()])
    expect(await cortex.complete(prompt, { raw: true, maxTokens: 3 })).toMatchObject({
      text: "ha ha ha",
      finishReason: "length"
    })
    expect(await cortex.complete(prompt, { raw: true, stop: [":"] })).toMatchObject({
      text: "ha ha ha",
      finishReason: "stop"
    })
  })

  it("from every cut, for any failure and temperature, with the usage of the whole", async () => {
    for (const [, other] of kinds) {
      const [first, second] = await Promise.all([other.begin(), begin()])
      const cortex = fleet.cortex(inOrder(first, second), { serverCooldown: 1 })
      await cortex.listServers()
      for (let after = 1; after < words.length; after++) {
        await first.setBehaviour({ faults: { kind: "cut", after } })
        // A server that fails again and again rests up to ten times as long.
        await new Promise((resolve) => setTimeout(resolve, 12))
        const events = await eventsOf(await cortex.chat(prompt, { raw: true, stream: true, maxTokens: 20 }))
        expectUnbroken(events)
        expect(ofType(events, "error")).toMatchObject([{ attempt: { server: first.url }, next: second.url }])
        const [end] = ofType(events, "end")
        expect(end).toMatchObject({ server: second.url, finishReason: "stop" })
        expect(end?.usage.completionTokens).toBe(words.length)
        const { body } = second.chatRequests.at(-1) ?? {}
        expect(body.prompt).toBe(prompt + words.slice(0, after).join(""))
        expect(body.max_tokens ?? body.options.num_predict).toBe(20 - after)
      }
      // One request for each: nothing has to be tried first.
      expect(chats(second)).toEqual([words.length - 1])
    }
  })

  it("also if the next server would have written something else", async () => {
    const [first, second] = await Promise.all([begin(), begin({ reply: ["Well", ", laughter", " is loud."] })])
    const cortex = fleet.cortex(inOrder(first, second))
    await cortex.listServers()
    await first.setBehaviour({ faults: { kind: "cut", after: 3 } })
    const events = await eventsOf(await cortex.chat(prompt, { raw: true, stream: true }))
    expectUnbroken(events, "ha ha haWell, laughter is loud.")
  })

  it("after repeated failures of every kind", async () => {
    const servers = await Promise.all([begin(), begin(), begin(), begin()])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0].setBehaviour({ faults: { kind: "cut", after: 2 } })
    await servers[1].setBehaviour({ faults: { kind: "errorLine", after: 2 } })
    await servers[2].setBehaviour({ faults: { kind: "stall", after: 2 } })
    const events = await eventsOf(await cortex.chat(prompt, { raw: true, stream: true, idleTimeout: 300 }))
    expectUnbroken(events)
    expect(ofType(events, "end")[0]).toMatchObject({
      server: servers[3].url,
      usage: { completionTokens: words.length },
      attempts: [{ reason: "cut" }, { reason: "server-error" }, { reason: "idle-timeout" }]
    })
  })

  it("up to a stop sequence across the cut, within maxTokens, and after half a character", async () => {
    const cut = async (reply: ReadonlyArray<string>, next: ReadonlyArray<string>, after: number, more: ChatOptions) => {
      const [first, second] = await Promise.all([begin({ reply }), begin({ reply: next })])
      const cortex = fleet.cortex(inOrder(first, second))
      await cortex.listServers()
      await first.setBehaviour({ faults: { kind: "cut", after } })
      const events = await eventsOf(await cortex.chat(prompt, { ...more, raw: true, stream: true }))
      expect(ofType(events, "error")).toHaveLength(1)
      for (const { rawBody } of second.chatRequests) expect(rawBody).not.toMatch(/\\ud83d(?!\\ude00)/)
      return events
    }
    const stopped = await cut(["one", " ST", "RAY"], ["one", " ST", "OP", " two"], 2, { stop: ["STOP"] })
    expectUnbroken(stopped, "one ST")
    const limited = await cut(words, words, 4, { maxTokens: 8 })
    expectUnbroken(limited, words.slice(0, 8).join(""))
    expect(ofType(limited, "end")).toMatchObject([{ finishReason: "length", usage: { completionTokens: 8 } }])
    const smile = ["smile ", "\ud83d", "\ude00", " end"]
    expectUnbroken(await cut(smile, smile, 2, {}), "smile 😀 end")
  })

  if (fills) {
    it("and fills in the middle, also from every cut", async () => {
      const [first, second] = await Promise.all([begin(), begin()])
      const cortex = fleet.cortex(inOrder(first, second), { serverCooldown: 1 })
      await cortex.listServers()
      for (let after = 1; after < words.length; after += 3) {
        await first.setBehaviour({ faults: { kind: "cut", after } })
        await new Promise((resolve) => setTimeout(resolve, 12))
        expectUnbroken(await eventsOf(await cortex.chat(prompt, { suffix, stream: true })))
        const sent = second.chatRequests.at(-1)
        expect(sent?.path).toBe(path)
        expect(sent?.body).toMatchObject({ prompt: prompt + words.slice(0, after).join(""), suffix })
        // Ollama would drop the suffix.
        expect(sent?.body).not.toHaveProperty("raw")
      }
    })
  } else {
    it("but cannot fill in the middle: another server does, and it is not marked as failed", async () => {
      const [first, second] = await Promise.all([begin(), ollama.begin()])
      const cortex = fleet.cortex(inOrder(first, second))
      const answer = await cortex.complete(prompt, { suffix })
      expect(answer).toMatchObject({ text: whole, server: second.url, attempts: [{ reason: "unsupported" }] })
      expect((await cortex.complete(prompt)).server).toBe(first.url)
      const error = await failure(fleet.cortex([first]).complete(prompt, { suffix }))
      expect(error).toBeInstanceOf(InvalidRequest)
      expect(error).toMatchObject({ field: "suffix", reason: expect.stringContaining("suffix") })
    })
  }
})

// -----------------------------------------------------------------------------

describe("a server that cannot do it", () => {
  const cases: ReadonlyArray<readonly [string, () => Promise<Fake>, ChatOptions, RegExp]> = [
    ["has no such endpoint", () => fleet.openai({ models, completions: false }), { raw: true }, /no \/v1\/completions/],
    [
      "has no such endpoint, and is llama.cpp",
      () => fleet.openai({ models, completions: false, flavour: "llamacpp" }),
      { raw: true },
      /no \/v1\/completions/
    ],
    [
      "is Ollama by its /v1, which has a template",
      () => fleet.openai({ models, flavour: "ollama" }),
      { raw: true },
      /without \/v1/
    ],
    ["has a model that was not trained for it", () => fleet.ollama({ models: [model] }), { suffix }, /insert/]
  ]
  it.each(cases)(
    "%s: the next server completes it, and chats still use the first",
    async (_, begin, options, reason) => {
      const [first, second] = await Promise.all([begin(), ollama.begin()])
      const cortex = fleet.cortex(inOrder(first, second))
      const answer = await cortex.complete(prompt, options)
      expect(answer).toMatchObject({ text: whole, server: second.url })
      expect(answer.attempts).toMatchObject([
        { server: first.url, reason: "unsupported", message: expect.stringMatching(reason) }
      ])
      expect((await cortex.complete(prompt)).server).toBe(first.url)
      const error = await failure(fleet.cortex([first]).complete(prompt, options))
      expect(error).toBeInstanceOf(InvalidRequest)
      expect(error).toMatchObject({ field: Object.keys(options)[0], reason: expect.stringMatching(reason) })
    }
  )

  it("is used for chats only", async () => {
    const server = await fleet.openai({ models: ["gpt-4o-mini"] })
    const cortex = fleet.cortex([server], { model: "gpt-4o-mini" })
    const error = await failure(cortex.complete(prompt, { raw: true }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "raw", reason: expect.stringContaining("chat model") })
    expect((await cortex.complete(prompt)).text).not.toBe("")
  })

  it("is skipped when a broken answer is resumed", async () => {
    const [first, second, third] = await Promise.all([
      ollama.begin(),
      fleet.openai({ models, completions: false }),
      openai("vllm", false).begin()
    ])
    const cortex = fleet.cortex(inOrder(first, second, third))
    await cortex.listServers()
    await first.setBehaviour({ faults: { kind: "cut", after: 5 } })
    const events = await eventsOf(await cortex.chat(prompt, { raw: true, stream: true }))
    expectUnbroken(events)
    expect(ofType(events, "error").map(({ attempt }) => attempt.reason)).toEqual(["cut", "unsupported"])
  })

  it("is not assumed if the model, the request or the server's state is the cause", async () => {
    const [first, second] = await Promise.all([openai("openai", true).begin(), ollama.begin()])
    const cortex = fleet.cortex(inOrder(first, second))
    await cortex.listServers()
    for (const [code, reason] of [
      [401, "unauthorized"],
      [429, "rate-limited"],
      [503, "server-error"]
    ] as const) {
      await first.setBehaviour({ faults: [{ kind: "status", code }] })
      const { attempts } = await cortex.complete(prompt, { raw: true })
      expect(attempts).toMatchObject([{ server: first.url, reason }])
      await cortex.clearServerCache()
    }
    await first.setBehaviour({ models: ["other:1b"] })
    expect((await cortex.complete(prompt, { raw: true })).attempts).toMatchObject([{ reason: "model-not-found" }])
    const small = await fleet.openai({ models: [{ name: model, contextLength: 2 }] })
    expect(await failure(fleet.cortex([small]).complete(prompt, { raw: true }))).toMatchObject({
      _tag: "InvalidRequest",
      server: small.url,
      reason: expect.stringContaining("maximum context length")
    })
  })
})

// -----------------------------------------------------------------------------

describe("options that exclude each other", () => {
  const image = { type: "image" as const, data: "aGk=", mediaType: "image/png" }
  const cases: ReadonlyArray<readonly [string, unknown, ChatOptions, string, RegExp]> = [
    ["both", prompt, { raw: true, suffix }, "suffix", /together with raw/],
    ["a suffix without text", prompt, { suffix: "" }, "suffix", /is empty.*raw: true/],
    ["a raw that is no flag", prompt, { raw: "yes" } as never, "raw", /boolean/],
    ["no text", "", { raw: true }, "prompt", /empty/],
    ["a system prompt", prompt, { raw: true, system: "Be brief." }, "system", /together with raw/],
    ["a persona", prompt, { suffix, persona: "pirate" }, "persona", /together with suffix/],
    ["a session", prompt, { raw: true, session: "none" }, "session", /together with raw/],
    ["tools", prompt, { raw: true, tools: [{ name: "look", execute: () => 1 }] }, "tools", /together with raw/],
    ["a tool choice", prompt, { raw: true, toolChoice: "auto" }, "toolChoice", /together with raw/],
    ["thinking", prompt, { suffix, think: true }, "think", /together with suffix/],
    ["JSON", prompt, { raw: true, responseFormat: "json" }, "raw", /JSON/],
    ["a schema", prompt, { suffix, schema: { type: "object" } }, "suffix", /JSON/],
    ["a system message", [{ role: "system", content: prompt }], { raw: true }, "messages", /one text of the user/],
    ["a speaker", [{ role: "user", name: "Ann", content: prompt }], { raw: true }, "messages", /one text of the user/],
    [
      "a conversation",
      [
        { role: "user", content: prompt },
        { role: "assistant", content: "ha" }
      ],
      { raw: true },
      "messages",
      /one text of the user/
    ],
    [
      "an image",
      [{ role: "user", content: [{ type: "text", text: prompt }, image] }],
      { suffix },
      "messages",
      /one text/
    ]
  ]
  it.each(cases)("%s", async (_, task, options, field, reason) => {
    const server = await ollama.begin()
    const cortex = fleet.cortex([server])
    for (const stream of [true, undefined]) {
      if (stream === true && ("responseFormat" in options || "schema" in options)) continue
      const error = await failure(
        cortex.chat(task as string, { ...options, ...(stream ? { stream } : {}) } as ChatOptions)
      )
      expect(error).toBeInstanceOf(InvalidRequest)
      expect(error).toMatchObject({ field, reason: expect.stringMatching(reason) })
    }
    expect(server.requests).toEqual([])
  })

  it("raw: false is a chat like any other", async () => {
    const server = await ollama.begin()
    await fleet.cortex([server]).chat(prompt, { raw: false, system: "Be brief.", think: false })
    expect(server.chatRequests[0]).toMatchObject({ path: "/api/chat" })
    expect(server.chatRequests[0]?.body).not.toHaveProperty("raw")
  })
})

// -----------------------------------------------------------------------------

describe("real inference", () => {
  const question = "Explain recursion."
  const typed = `<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\n`

  it("completes a text, and uses the special tokens in it", async () => {
    const cortex = fleet.cortex([], { model: "aicortex-demo" })
    const chat = await cortex.complete(question, { temperature: 0 })
    const raw = await cortex.complete(typed, { raw: true, temperature: 0 })
    expect(raw).toMatchObject({ text: chat.text, finishReason: "stop" })
    expect(raw.usage.promptTokens).toBe(chat.usage.promptTokens)
    // Without the marks it is no question.
    const plain = await cortex.complete(question, { raw: true, temperature: 0, maxTokens: 12 })
    expect(plain.text).not.toBe(chat.text)
    const begun = chat.text.slice(0, "Recursion is when a".length)
    expect(begun + (await cortex.chat(typed + begun, { raw: true, temperature: 0 }))).toBe(chat.text)
    expect(await failure(cortex.chat(typed, { suffix }))).toMatchObject({ _tag: "InvalidRequest", field: "suffix" })
    expect(await failure(cortex.chat("long ".repeat(600), { raw: true }))).toMatchObject({
      reason: expect.stringMatching(/^the text is \d+ tokens long/)
    })
  })

  it("in Effect", async () => {
    const layer = Cortex.layer({ servers: [], model: "aicortex-demo", configFile: false })
    const text = Chat.text(typed, { raw: true, temperature: 0, maxTokens: 4 })
    const wrong = Effect.flip(Chat.text(typed, { raw: true, system: "Be brief." }))
    const [said, error] = await Effect.runPromise(Effect.provide(Effect.zip(text, wrong), layer))
    expect(said).not.toBe("")
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "system" })
  })

  describe("killed during the answer", () => {
    let servers: Awaited<ReturnType<typeof useDemoServers>>
    beforeAll(async () => {
      servers = await useDemoServers()
    })
    afterAll(() => servers.close())

    it("is byte-equal to the uninterrupted text", { timeout: 300_000 }, async () => {
      const named = ({ url }: DemoServer, priority: number) => ({ url, protocol: "openai", priority }) as const
      const survivor = await servers.start()
      const options = { raw: true, temperature: 0, stream: true, timeout: 60_000 } as const
      const unbroken = await eventsOf(
        await fleet.cortex([named(survivor, 0)], { model: "tiny:2m" }).chat(typed, options)
      )
      const pieces = ofType(unbroken, "token").length
      expect(pieces).toBeGreaterThan(10)
      for (let after = 1; after < pieces; after += Math.ceil(pieces / 8)) {
        const victim = await servers.start()
        const cortex = fleet.cortex([named(victim, 0), named(survivor, 1)], { model: "tiny:2m" })
        await cortex.listServers()
        await victim.hold(after)
        const events: Array<ChatEvent> = []
        let tokens = 0
        for await (const event of await cortex.chat(typed, options)) {
          events.push(event)
          if (event.type === "token" && ++tokens === after) await victim.kill()
        }
        expectUnbroken(events, textOf(unbroken))
        expect(ofType(events, "error")).toMatchObject([{ attempt: { server: victim.url }, next: survivor.url }])
        expect(ofType(events, "end")[0]?.usage.completionTokens).toBe(
          ofType(unbroken, "end")[0]?.usage.completionTokens
        )
      }
    })
  })
})
