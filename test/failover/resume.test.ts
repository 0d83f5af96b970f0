import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { ResumeSink } from "../../src/Backend.js"
import * as Embedded from "../../src/backend/embedded.js"
import { prompt } from "../../src/backend/ollamaRaw.js"
import * as ResumeSupport from "../../src/backend/resumeSupport.js"
import { text as textOfEvents } from "../../src/ChatEvent.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import { type ChatEvent, type ChatOptions, createCortex, StreamInterrupted } from "../../src/promise.js"
import { embedded } from "../../src/Server.js"
import { type DemoServer, useDemoServers } from "../support/demoProcess.js"
import type { Continuation, FakeOllamaOptions, FakeOpenAIOptions, Fault, Reply } from "../support/fakeServer.js"
import { eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const question = "What is laughter?"
/** It repeats itself, its end is white space at three places, and has characters of one to four bytes. */
const words = ["ha", " ha", " ha", ":\n", "ha", " ha", " 你好", " 😀", "\n\n", "ha", " ", " ha", " ha", "!"]
const whole = words.join("")

const listQuestion = "List programming languages (one per line):"
const isTrial = ({ body }: Fake["requests"][number]) => body?.messages?.[0]?.content === listQuestion
const trials = (server: Fake) => server.chatRequests.filter(isTrial)
/** What was asked of a server, its trial left out. */
const requestsOf = (server: Fake) => server.chatRequests.filter((request) => !isTrial(request))

type Begin = (options?: FakeOllamaOptions & FakeOpenAIOptions) => Promise<Fake>
interface Kind {
  readonly begin: Begin
  /** Whether the exact place is known to it. */
  readonly exact: boolean
}

const ollama = (options: FakeOllamaOptions, exact: boolean): Kind => ({
  begin: (more) => fleet.ollama({ reply: words, ...more, ...options }),
  exact
})
const openai = (options: FakeOpenAIOptions, exact: boolean): Kind => ({
  begin: (more) => fleet.openai({ reply: words, ...more, ...options }),
  exact
})
const old = { debugRender: false } as const

const kinds: ReadonlyArray<readonly [string, Kind]> = [
  ["Ollama", ollama({}, true)],
  ["old Ollama whose template leaves the message open", ollama({ ...old, continuation: "continue" }, true)],
  ["old Ollama that trims", ollama({ ...old, continuation: "continue", trims: true }, true)],
  ["old Ollama that echoes", ollama({ ...old, continuation: "echo" }, true)],
  ["old Ollama that begins again", ollama({ ...old, continuation: "restart" }, false)],
  ["llama.cpp", openai({ flavour: "llamacpp" }, true)],
  ["llama.cpp that echoes all the same", openai({ flavour: "llamacpp", continuation: "echo" }, true)],
  ["vLLM", openai({ flavour: "vllm" }, true)],
  ["vLLM whose template trims", openai({ flavour: "vllm", trims: true }, true)],
  ["OpenAI, which refuses the fields", openai({ flavour: "openai" }, false)],
  ["Ollama's /v1, which begins again", openai({ flavour: "ollama" }, false)]
]

/** A first server that breaks, and others after it; the events of the stream, and its failure if it fails. */
const run = async (servers: ReadonlyArray<Fake>, fault: Fault | undefined, options: ChatOptions = {}) => {
  const cortex = fleet.cortex(inOrder(...servers))
  await cortex.listServers()
  if (fault !== undefined) await servers[0]?.setBehaviour({ faults: fault })
  const stream = await cortex.chat(question, { temperature: 0, timeout: 2_000, ...options, stream: true })
  const error = await eventsOf(stream).then(
    () => undefined,
    (error: unknown) => error
  )
  return { cortex, stream, error, events: stream.events }
}

const ofType = <T extends ChatEvent["type"]>(events: ReadonlyArray<ChatEvent>, type: T) =>
  events.filter((event): event is Extract<ChatEvent, { type: T }> => event.type === type)

const expectUnbroken = (events: ReadonlyArray<ChatEvent>, text = whole) => {
  expect(textOf(events)).toBe(text)
  const indices = ofType(events, "token").map(({ index }) => index)
  expect(indices).toEqual(indices.map((_, i) => i))
  expect(ofType(events, "start")).toHaveLength(1)
  expect(ofType(events, "end")).toHaveLength(1)
}

// -----------------------------------------------------------------------------

describe.each(kinds)("%s resumes", (_, { begin, exact }) => {
  it("from every cut, with the usage of the whole", async () => {
    const [first, second] = await Promise.all([fleet.ollama({ reply: words }), begin()])
    const cortex = fleet.cortex(inOrder(first, second), { serverCooldown: 1 })
    await cortex.listServers()
    for (let after = 1; after < words.length; after++) {
      await first.setBehaviour({ faults: { kind: "cut", after } })
      // A server that fails again and again rests up to ten times as long.
      await new Promise((resolve) => setTimeout(resolve, 12))
      const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
      expectUnbroken(events)
      expect(ofType(events, "token").map(({ content }) => content)).toEqual(words)
      expect(ofType(events, "error")).toMatchObject([{ attempt: { server: first.url }, next: second.url }])
      const [end] = ofType(events, "end")
      expect(end).toMatchObject({ server: second.url, finishReason: "stop" })
      expect(end?.usage.completionTokens).toBe(words.length)
      expect(end?.usage.totalTokens).toBe(words.length + (end?.usage.promptTokens ?? 0))
    }
    // It was tried once.
    expect(trials(second).length).toBeLessThanOrEqual(1)
  })

  it("at any temperature if it knows the exact position, else only with the same text", async () => {
    const other = ["Well", ", laughter", " is loud."]
    const [first, second] = await Promise.all([fleet.ollama({ reply: words }), begin({ reply: other })])
    const { error, events } = await run([first, second], { kind: "cut", after: 3 }, { maxRetries: 2 })
    if (exact) {
      expect(error).toBeUndefined()
      expect(textOf(events)).toBe("ha ha haWell, laughter is loud.")
    } else {
      expect(error).toBeInstanceOf(StreamInterrupted)
      expect(error).toMatchObject({ partial: "ha ha ha", attempts: [{ reason: "cut" }, { reason: "diverged" }] })
      expect(textOf(events)).toBe("ha ha ha")
      // The caller is not kept waiting for an answer that is of no use, and neither is the server.
      expect(ofType(events, "error").map(({ next }) => next)).toEqual([second.url, undefined])
    }
  })

  it("after repeated interruptions", async () => {
    const servers = await Promise.all([fleet.ollama({ reply: words }), begin(), begin(), begin()])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0].setBehaviour({ faults: { kind: "cut", after: 2 } })
    for (const server of servers.slice(1, 3)) {
      // Only the answer itself is cut, after at least one new piece of it.
      await server.setBehaviour({
        faults: (_, body) =>
          body?._debug_render_only === true || body?.messages?.[0]?.content === listQuestion
            ? undefined
            : { kind: "cut", after: exact ? 2 : server === servers[1] ? 4 : 6 }
      })
    }
    const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
    expectUnbroken(events)
    expect(ofType(events, "end")[0]).toMatchObject({
      server: servers[3].url,
      usage: { completionTokens: words.length },
      attempts: servers.slice(0, 3).map(({ url }) => ({ server: url, reason: "cut", phase: "stream" }))
    })
  })

  it("within maxTokens", async () => {
    const limit = 8
    for (const after of [1, 4, 7, 8]) {
      const [first, second] = await Promise.all([fleet.ollama({ reply: words }), begin()])
      const { events } = await run([first, second], { kind: "cut", after }, { maxTokens: limit })
      expectUnbroken(events, words.slice(0, limit).join(""))
      const [end] = ofType(events, "end")
      expect(end).toMatchObject({ finishReason: "length", usage: { completionTokens: limit } })
      // With no tokens left no server is asked.
      expect(end?.server).toBe(after === limit ? first.url : second.url)
      if (after === limit) expect(second.chatRequests).toEqual([])
    }
  })

  it("up to a stop sequence across the cut", async () => {
    const [first, second] = await Promise.all([
      fleet.ollama({ reply: ["one", " ST", "RAY", " word"] }),
      begin({ reply: ["one", " ST", "OP", " two"] })
    ])
    const { events } = await run([first, second], { kind: "cut", after: 2 }, { stop: ["STOP"] })
    expectUnbroken(events, "one ST")
    expect(ofType(events, "end")).toMatchObject([{ finishReason: "stop", server: second.url }])
  })

  it("past text that only resembles a stop sequence", async () => {
    const reply = ["one", " ST", "O", "R", "Y", " end"]
    const [first, second] = await Promise.all([fleet.ollama({ reply }), begin({ reply })])
    const { events } = await run([first, second], { kind: "cut", after: 2 }, { stop: ["STOP", "end"] })
    expectUnbroken(events, "one STORY ")
    expect(ofType(events, "end")).toMatchObject([{ finishReason: "stop", usage: { completionTokens: 6 } }])
  })

  it("after half a character", async () => {
    const reply = ["smile ", "\ud83d", "\ude00", " end"]
    const [first, second] = await Promise.all([fleet.ollama({ reply }), begin({ reply })])
    const { error, events } = await run([first, second], { kind: "cut", after: 2 })
    expect(error).toBeUndefined()
    expectUnbroken(events, "smile 😀 end")
    for (const { rawBody } of second.chatRequests) expect(rawBody).not.toMatch(/\\ud83d(?!\\ude00)/)
  })

  it("with the tool calls after the text, restarted after the cut", async () => {
    const models = [{ name: model, capabilities: ["completion", "tools"] }]
    const reply = {
      tokens: ["I", " look", " it", " up"],
      toolCalls: [{ name: "look", arguments: { word: "laughter" } }]
    }
    const tools = [{ name: "look", parameters: { type: "object", properties: { word: { type: "string" } } } }]
    for (const after of [2, 5]) {
      const [first, second] = await Promise.all([
        fleet.openai({ models, reply, flavour: "llamacpp" }),
        begin({ models, reply })
      ])
      const { events } = await run([first, second], { kind: "cut", after }, { tools })
      expectUnbroken(events, "I look it up")
      expect(ofType(events, "tool_call")).toMatchObject([{ name: "look", arguments: { word: "laughter" } }])
      expect(ofType(events, "end")).toMatchObject([{ finishReason: "tool_calls" }])
    }
  })

  it("without thinking again, at any cut", async () => {
    const models = [{ name: model, capabilities: ["completion", "thinking"] }]
    const reply = { tokens: words, thinking: ["Hm", " hm", " so"] }
    for (const after of [1, 2, 3, 4, 7]) {
      const [first, second] = await Promise.all([fleet.ollama({ models, reply }), begin({ models, reply })])
      const { events } = await run([first, second], { kind: "cut", after })
      expectUnbroken(events)
      expect(
        ofType(events, "thinking")
          .map(({ content }) => content)
          .join("")
      ).toBe("Hm hm so")
      const last = events.findLastIndex(({ type }) => type === "thinking")
      expect(last).toBeLessThan(events.findIndex(({ type }) => type === "token"))
      expect(ofType(events, "end")[0]?.usage.completionTokens).toBe(words.length + 3)
    }
  })
})

// -----------------------------------------------------------------------------

describe("requests to a server that resumes", () => {
  const options = { temperature: 0, maxTokens: 10, seed: 3, stop: ["END"], keepAlive: "5m", options: { num_ctx: 64 } }

  it("Ollama renders its prompt, and gets it with the text so far", async () => {
    const [first, second] = await Promise.all([fleet.ollama({ reply: words }), fleet.ollama({ reply: words })])
    await run([first, second], { kind: "cut", after: 3 }, { ...options, system: "Be brief." })
    const [render, raw] = second.chatRequests
    expect(second.chatRequests).toHaveLength(2)
    expect(render).toMatchObject({
      path: "/api/chat",
      body: {
        _debug_render_only: true,
        stream: false,
        messages: [
          { role: "system", content: "Be brief." },
          { role: "user", content: question }
        ],
        keep_alive: "5m",
        options: { num_ctx: 64 }
      }
    })
    expect(raw).toMatchObject({ path: "/api/generate" })
    expect(raw?.body).toEqual({
      model,
      prompt: `<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n${question}<|im_end|>\n<|im_start|>assistant\nha ha ha`,
      raw: true,
      stream: true,
      options: { temperature: 0, top_p: 1, num_predict: 7, seed: 3, stop: ["END"], num_ctx: 64 },
      keep_alive: "5m"
    })
  })

  it("num_predict applies too", async () => {
    const [first, second] = await Promise.all([fleet.ollama({ reply: words }), fleet.ollama({ reply: words })])
    const { events } = await run([first, second], { kind: "cut", after: 3 }, { options: { num_predict: 5 } })
    expect(textOf(events)).toBe(words.slice(0, 5).join(""))
    expect(second.chatRequests.at(-1)?.body.options.num_predict).toBe(2)
  })

  it("an OpenAI server gets the text so far as the open last message", async () => {
    const [first, second] = await Promise.all([
      fleet.openai({ reply: words }),
      fleet.openai({ reply: words, flavour: "vllm" })
    ])
    await run([first, second], { kind: "cut", after: 3 }, { maxTokens: 10 })
    expect(requestsOf(second)).toHaveLength(1)
    expect(requestsOf(second)[0]?.body).toMatchObject({
      messages: [
        { role: "user", content: question },
        { role: "assistant", content: "ha ha ha" }
      ],
      continue_final_message: true,
      add_generation_prompt: false,
      max_tokens: 7
    })
    expect(trials(second)).toHaveLength(1)
    expect(trials(second)[0]?.body).toMatchObject({ max_tokens: 4, temperature: 0 })
  })

  it("after a prefill of the caller the next server gets the same messages, and repeated text is removed", async () => {
    const messages = [
      { role: "user", content: question },
      { role: "assistant", content: "Oh, " }
    ] as const
    for (const kind of ["ollama", "openai"] as const) {
      const servers = await Promise.all([fleet[kind]({ reply: words }), fleet[kind]({ reply: words })])
      const cortex = fleet.cortex(inOrder(...servers))
      await cortex.listServers()
      await servers[0].setBehaviour({ faults: { kind: "cut", after: 3 } })
      expect(textOf(await eventsOf(await cortex.chat(messages, { stream: true, temperature: 0 })))).toBe(whole)
      expect(servers[1].chatRequests.map(({ body }) => body.messages)).toEqual([messages])
    }
  })

  it("reasoning that the prompt opens is closed again", () => {
    expect(prompt("<|user|>x<|assistant|>", "ha", "Hm")).toBe("<|user|>x<|assistant|>ha")
    expect(prompt("…assistant\n<think>\n", "ha", "Hm so")).toBe("…assistant\n<think>\nHm so\n</think>\n\nha")
    expect(prompt("…<|start|>assistant", "ha", "Hm")).toBe(
      "…<|start|>assistant<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>ha"
    )
    expect(prompt("…<|start|>assistant", "ha", "")).toBe("…<|start|>assistant<|channel|>final<|message|>ha")
  })

  it("JSON starts over, and is never resumed", async () => {
    const reply = ['{"a"', ": ", "[1", ", 2]", "}"]
    for (const kind of ["ollama", "openai"] as const) {
      const servers = await Promise.all([fleet[kind]({ reply }), fleet[kind]({ reply: ['{"a"', ": [3]}"] })])
      const cortex = fleet.cortex(inOrder(...servers))
      await cortex.listServers()
      await servers[0].setBehaviour({ faults: { kind: "cut", after: 3 } })
      expect(await cortex.chat(question, { responseFormat: "json" })).toEqual({ a: [3] })
      const [only] = servers[1].chatRequests
      expect(servers[1].chatRequests).toHaveLength(1)
      expect(only?.body.messages.at(-1).role).toBe("user")
      expect(only?.body).toHaveProperty(kind === "ollama" ? "format" : "response_format")
    }
  })
})

// -----------------------------------------------------------------------------

describe("the trial", () => {
  const flavours = { flavour: "llamacpp", reply: words } as const
  const broken = async (first: Fake, second: Fake, serverCooldown = 1) => {
    const cortex = fleet.cortex(inOrder(first, second), { serverCooldown })
    await cortex.listServers()
    await first.setBehaviour({ faults: { kind: "cut", after: 3 } })
    const ask = async () => {
      await new Promise((resolve) => setTimeout(resolve, 3))
      return textOf(await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 })))
    }
    return { cortex, ask }
  }

  it("runs once for any number of interrupted calls, and again when the caches are cleared", async () => {
    const [first, second] = await Promise.all([fleet.openai(flavours), fleet.openai({ ...flavours, firstToken: 20 })])
    const { ask, cortex } = await broken(first, second)
    expect(await Promise.all(Array.from({ length: 12 }, ask))).toEqual(Array.from({ length: 12 }, () => whole))
    expect(await ask()).toBe(whole)
    expect(trials(second)).toHaveLength(1)
    await cortex.clearServerCache()
    expect(await ask()).toBe(whole)
    expect(trials(second)).toHaveLength(2)
  })

  it("runs per model", async () => {
    const models = [model, "other:1b"]
    const [first, second] = await Promise.all([
      fleet.openai({ ...flavours, models }),
      fleet.openai({ ...flavours, models })
    ])
    const { ask, cortex } = await broken(first, second)
    await ask()
    const stream = await cortex.chat(question, { stream: true, model: "other:1b" })
    expect(await stream.text()).toBe(whole)
    expect(trials(second).map(({ body }) => body.model)).toEqual([model, "other:1b"])
  })

  it("is cancelled when no call waits for it", async () => {
    const [first, second] = await Promise.all([fleet.openai(flavours), fleet.openai(flavours)])
    const { cortex } = await broken(first, second)
    await second.setBehaviour({ faults: { kind: "hang" } })
    const streams = await Promise.all([1, 2].map(() => cortex.chat(question, { stream: true })))
    const readers = streams.map((stream) => eventsOf(stream))
    await second.waitForChats(1)
    await streams[0]?.cancel()
    expect(second.inFlight()).toBe(1)
    await streams[1]?.cancel()
    await expect.poll(() => second.inFlight()).toBe(0)
    expect(second.chatRequests).toMatchObject([{ aborted: true }])
    await Promise.all(readers)
  })

  it.each<[string, Fault, number]>([
    // Its list had come over the same connection: it is asked once more over a fresh one.
    ["a reset", { kind: "reset" }, 2],
    ["silence", { kind: "hang" }, 1],
    ["503", { kind: "status", code: 503 }, 1],
    ["404 of the model", { kind: "notFound" }, 1]
  ])("that fails by %s is an attempt that failed", async (_, fault, requests) => {
    const servers = await Promise.all([fleet.openai(flavours), fleet.openai(flavours), fleet.openai(flavours)])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0].setBehaviour({ faults: { kind: "cut", after: 3 } })
    await servers[1].setBehaviour({ faults: fault })
    const events = await eventsOf(await cortex.chat(question, { stream: true, timeout: 200 }))
    expectUnbroken(events)
    expect(ofType(events, "error").map(({ attempt }) => attempt.server)).toEqual([servers[0].url, servers[1].url])
    expect(servers[1].chatRequests).toHaveLength(requests)
  })

  it("that ends in 500 is not remembered: the answer starts over this time", async () => {
    const [first, second] = await Promise.all([fleet.openai(flavours), fleet.openai(flavours)])
    const { ask } = await broken(first, second)
    await second.setBehaviour({ faults: [{ kind: "status", code: 500 }] })
    expect(await ask()).toBe(whole)
    expect(requestsOf(second)[0]?.body).not.toHaveProperty("continue_final_message")
    expect(await ask()).toBe(whole)
    expect(trials(second)).toHaveLength(2)
    expect(requestsOf(second)[1]?.body).toHaveProperty("continue_final_message")
  })

  it("a server that then refuses the partial message starts over", async () => {
    const [first, second] = await Promise.all([fleet.openai(flavours), fleet.openai(flavours)])
    const { ask } = await broken(first, second)
    await second.setBehaviour({ faults: [undefined, { kind: "status", code: 400 }] })
    expect(await ask()).toBe(whole)
    expect(second.chatRequests.map(({ status }) => status)).toEqual([200, 400, 200])
  })

  it("a prompt that Ollama cannot render is not requested again", async () => {
    const [first, second] = await Promise.all([
      fleet.ollama({ reply: words }),
      fleet.ollama({ reply: words, debugRender: false })
    ])
    const { ask } = await broken(first, second)
    expect(await ask()).toBe(whole)
    expect(await ask()).toBe(whole)
    const renders = second.chatRequests.filter(({ body }) => body._debug_render_only)
    // It answers instead: then no more than a token.
    expect(renders.map(({ tokensSent }) => tokensSent)).toEqual([1])
    expect(trials(second)).toHaveLength(1)
  })
})

// -----------------------------------------------------------------------------

describe("onInterrupt", () => {
  const pair = (second: Reply = words) => Promise.all([fleet.ollama({ reply: words }), fleet.ollama({ reply: second })])

  it("fail: the call fails at once, with the text so far", async () => {
    const servers = await pair()
    const { error, events } = await run(servers, { kind: "cut", after: 3 }, { onInterrupt: "fail" })
    expect(error).toMatchObject({ _tag: "StreamInterrupted", partial: "ha ha ha", attempts: [{ reason: "cut" }] })
    expect(textOf(events)).toBe("ha ha ha")
    expect(ofType(events, "error").map(({ next }) => next)).toEqual([undefined])
    expect(servers[1].chatRequests).toEqual([])
    // Before the first piece the next server is tried, as usual.
    await servers[0].setBehaviour({ faults: { kind: "status", code: 500 } })
    const cortex = fleet.cortex(inOrder(...servers))
    expect(await (await cortex.chat(question, { stream: true, onInterrupt: "fail" })).text()).toBe(whole)
  })

  it("restart: an event discards all text before it, and the answer starts over", async () => {
    const other = ["Something", " else."]
    const servers = await pair(other)
    const { cortex, events, stream } = await run(servers, { kind: "cut", after: 3 }, { onInterrupt: "restart" })
    expect(events.map(({ type }) => type)).toEqual([
      "start",
      "meta",
      "token",
      "token",
      "token",
      "error",
      "restart",
      "meta",
      "token",
      "token",
      "end"
    ])
    expect(ofType(events, "restart")).toMatchObject([{ discard: 3, server: servers[1].url }])
    expect(ofType(events, "token").map(({ index }) => index)).toEqual([0, 1, 2, 3, 4])
    expect(await stream.text()).toBe("Something else.")
    expect(textOfEvents(events)).toBe("Something else.")
    expect(ofType(events, "end")).toMatchObject([{ usage: { completionTokens: 2 } }])
    // A session remembers only what counts.
    const session = await cortex.Session.create()
    await cortex.clearServerCache()
    await (await cortex.chat(question, { stream: true, session, onInterrupt: "restart" })).text()
    expect((await session.history()).at(-1)).toMatchObject({ role: "assistant", content: "Something else." })
  })

  it("restart, twice, with reasoning", async () => {
    const models = [{ name: model, capabilities: ["completion", "thinking"] }]
    const reply = { tokens: ["a", " b", " c", " d"], thinking: ["Hm"] }
    const servers = await Promise.all([1, 2, 3].map(() => fleet.ollama({ models, reply })))
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0]?.setBehaviour({ faults: { kind: "cut", after: 3 } })
    await servers[1]?.setBehaviour({ faults: { kind: "cut", after: 4 } })
    const stream = await cortex.chat(question, { stream: true, onInterrupt: "restart" })
    expect(await stream.text()).toBe("a b c d")
    expect(ofType(stream.events, "restart").map(({ discard }) => discard)).toEqual([2, 3])
    expect(ofType(stream.events, "thinking")).toHaveLength(3)
  })

  it("restart, without another server: the text so far remains", async () => {
    const servers = await pair()
    await servers[1].setBehaviour({ faults: { kind: "refuse" } })
    const { error, events } = await run(servers, { kind: "cut", after: 3 }, { onInterrupt: "restart", maxRetries: 1 })
    expect(error).toMatchObject({ _tag: "StreamInterrupted", partial: "ha ha ha" })
    expect(ofType(events, "restart")).toEqual([])
  })

  it("after a tool call only what followed it is discarded", async () => {
    const models = [{ name: model, capabilities: ["completion", "tools"] }]
    const reply = (body: { readonly messages: ReadonlyArray<{ readonly role: string }> }) =>
      body.messages.at(-1)?.role === "tool"
        ? { tokens: ["It", " is", " 7", "."] }
        : { tokens: ["I", " see", ":"], toolCalls: [{ name: "f", arguments: {} }] }
    const servers = await Promise.all([fleet.ollama({ models, reply }), fleet.ollama({ models, reply })])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0].setBehaviour({ faults: [undefined, { kind: "cut", after: 2 }] })
    const tools = [{ name: "f", execute: () => 7 }]
    const stream = await cortex.chat(question, { stream: true, tools, onInterrupt: "restart" })
    expect(await stream.text()).toBe("I see:It is 7.")
    expect(ofType(stream.events, "restart")).toMatchObject([{ discard: 2 }])
  })

  it("a call for text starts over with any setting", async () => {
    for (const onInterrupt of ["resume", "restart", "fail"] as const) {
      const servers = await pair(["Something", " else."])
      const cortex = fleet.cortex(inOrder(...servers))
      await cortex.listServers()
      await servers[0].setBehaviour({ faults: { kind: "cut", after: 3 } })
      expect(await cortex.chat(question, { onInterrupt })).toBe("Something else.")
    }
  })

  it("is validated", async () => {
    const cortex = createCortex({ servers: [], configFile: false })
    const error = await failure(cortex.chat(question, { onInterrupt: "retry" as "fail" }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "onInterrupt" })
    await cortex.close()
  })
})

// -----------------------------------------------------------------------------

it("many kinds of servers in turn, each dying, give one answer", async () => {
  const chain = kinds.map(([, kind]) => kind).filter(({ exact }) => exact)
  const servers = await Promise.all([fleet.ollama({ reply: words }), ...chain.map(({ begin }) => begin())])
  const cortex = fleet.cortex(inOrder(...servers))
  await cortex.listServers()
  for (const server of servers.slice(0, -1)) {
    await server.setBehaviour({
      faults: (_, body) =>
        body?._debug_render_only === true || body?.messages?.[0]?.content === listQuestion
          ? undefined
          : { kind: "cut", after: 1 }
    })
  }
  const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
  expectUnbroken(events)
  expect(ofType(events, "end")).toMatchObject([{ usage: { completionTokens: words.length } }])
})

it("the same server may continue when it is back", async () => {
  for (const kind of ["ollama", "openai"] as const) {
    const only = await fleet[kind]({ reply: words })
    const cortex = fleet.cortex([only])
    await cortex.listServers()
    await only.setBehaviour({ faults: [{ kind: "cut", after: 3 }] })
    const options = { stream: true, temperature: 0, maxRetries: 2, retryBackoff: 1 } as const
    expectUnbroken(await eventsOf(await cortex.chat(question, options)))
  }
})

// -----------------------------------------------------------------------------

describe("real inference, killed in the middle", () => {
  const demo = "tiny:2m"
  let servers: Awaited<ReturnType<typeof useDemoServers>>
  beforeAll(async () => {
    servers = await useDemoServers()
  })
  afterAll(() => servers.close())

  const prompts = [
    "Tell me a short story about a robot.",
    "Explain recursion.",
    "Write a haiku about the sea.",
    "What is Docker?",
    listQuestion,
    "Tell me a poem."
  ]
  const named = ({ url }: DemoServer, priority: number) => ({ url, protocol: "openai", priority }) as const

  const broken = async (victim: DemoServer, survivor: DemoServer, prompt: string, after: number) => {
    const cortex = fleet.cortex([named(victim, 0), named(survivor, 1)], { model: demo })
    await cortex.listServers()
    await victim.hold(after)
    const stream = await cortex.chat(prompt, { stream: true, temperature: 0, timeout: 20_000 })
    let tokens = 0
    const events: Array<ChatEvent> = []
    for await (const event of stream) {
      events.push(event)
      if (event.type === "token" && ++tokens === after) await victim.kill()
    }
    return events
  }

  const unbroken = async (survivor: DemoServer, prompt: string) => {
    const cortex = fleet.cortex([named(survivor, 0)], { model: demo })
    const events = await eventsOf(await cortex.chat(prompt, { stream: true, temperature: 0 }))
    return { text: textOf(events), pieces: ofType(events, "token").length, usage: ofType(events, "end")[0]?.usage }
  }

  // Each kills a process: AICORTEX_TEST_CUTS=50 is the long run.
  const cuts = Number(process.env["AICORTEX_TEST_CUTS"] ?? 20)
  it(`is byte-equal to the uninterrupted answer at ${cuts} cut points`, { timeout: 600_000 }, async () => {
    const survivor = await servers.start()
    const answers = await Promise.all(prompts.map((prompt) => unbroken(survivor, prompt)))
    const points = answers.flatMap(({ pieces }, i) => Array.from({ length: pieces - 1 }, (_, n) => [i, n + 1] as const))
    // Spread over all that there are.
    const chosen = Array.from({ length: cuts }, (_, n) => points[Math.floor((n * points.length) / cuts)] ?? [0, 1])
    // The next processes start while this one is made use of.
    const waiting = [servers.start(), servers.start()]
    for (const [i, after] of chosen) {
      const victim = await waiting.shift()
      if (victim === undefined) throw new Error("there is always one waiting")
      waiting.push(servers.start())
      const { pieces, text, usage } = answers[i] ?? { pieces: 0, text: "", usage: {} }
      const events = await broken(victim, survivor, prompts[i] ?? "", after)
      expectUnbroken(events, text)
      expect(ofType(events, "error")).toMatchObject([{ attempt: { server: victim.url }, next: survivor.url }])
      expect(ofType(events, "token")).toHaveLength(pieces)
      expect(ofType(events, "end")[0]).toMatchObject({
        server: survivor.url,
        usage: { completionTokens: usage?.completionTokens }
      })
    }
    for (const server of await Promise.all(waiting)) await server.kill()
  })

  it.each<Continuation>(["echo", "restart"])("a server that would %s", async (habit) => {
    const survivor = await servers.start(habit)
    for (const [prompt, after] of [
      [prompts[0] ?? "", 9],
      [listQuestion, 7]
    ] as const) {
      const { text } = await unbroken(survivor, prompt)
      const events = await broken(await servers.start(), survivor, prompt, after)
      expectUnbroken(events, text)
      expect(ofType(events, "error")).toHaveLength(1)
    }
  })

  it("with the engine in this process, at every cut", async () => {
    const engine = Embedded.make()
    const messages = [{ role: "user", content: prompts[1] ?? "" }] as const
    const request = ChatRequest.make({ temperature: 0 }, demo, messages, "text")
    const say = (begin: (sink: ResumeSink) => unknown) =>
      new Promise<ReadonlyArray<string>>((resolve, reject) => {
        const pieces: Array<string> = []
        let done = false
        begin({
          joins: (expected, repeated) => {
            if (expected !== "" || repeated !== 0) reject(new Error("it goes on from the exact place"))
          },
          connected: () => {},
          read: () => {},
          text: (content) => void pieces.push(content),
          thinking: () => {},
          toolCall: () => {},
          finish: () => {
            done = true
          },
          flush: () => {
            if (done) resolve(pieces)
          },
          fail: ({ message }) => reject(new Error(message))
        })
      })
    const { backend } = engine
    const pieces = await say((sink) => backend.start(embedded, request, sink))
    expect(pieces.length).toBeGreaterThan(10)
    for (let cut = 1; cut < pieces.length; cut++) {
      const broken = { text: pieces.slice(0, cut).join(""), thinking: "", tokens: cut, calls: [] }
      const rest = await say((sink) => backend.resume(embedded, request, broken, sink, ResumeSupport.make()))
      expect(broken.text + rest.join("")).toBe(pieces.join(""))
    }
    await engine.close()
  })
})
