import { afterAll, describe, expect, it, vi } from "vitest"
import type { Finish, ServerFailure } from "../../src/Backend.js"
import * as Embedded from "../../src/backend/embedded.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import { engineUnavailable } from "../../src/internal/engineUnavailable.js"
import { grammarSchema } from "../../src/internal/grammarSchema.js"
import * as Message from "../../src/Message.js"
import * as Server from "../../src/Server.js"

interface Outcome {
  readonly text: string
  readonly pieces: ReadonlyArray<string>
  readonly finish: Finish | undefined
  readonly failure: ServerFailure | undefined
}

const engines: Array<Embedded.EmbeddedBackend> = []
const open = (options?: Embedded.EmbeddedOptions) => {
  const engine = Embedded.make(options)
  engines.push(engine)
  return engine
}
const shared = open()

afterAll(() => Promise.all(engines.map((engine) => engine.close())))

type RequestInput = Partial<ChatRequest.ChatRequest> & { readonly messages: ReadonlyArray<Message.Message> }

const requestOf = (ask: RequestInput): ChatRequest.ChatRequest => ({
  ...ChatRequest.make({ temperature: 0 }, "aicortex-demo", ask.messages, "text"),
  ...ask
})

const start = (ask: RequestInput, engine: Embedded.EmbeddedBackend = shared, onText?: (text: string) => void) => {
  const pieces: Array<string> = []
  const order: Array<string> = []
  let settle: (outcome: Outcome) => void = () => {}
  const outcome = new Promise<Outcome>((resolve) => {
    settle = resolve
  })
  let finish: Finish | undefined
  const done = (failure?: ServerFailure) => settle({ text: pieces.join(""), pieces, finish, failure })
  const exchange = engine.backend.start(Server.embedded, requestOf(ask), {
    connected: () => void order.push("connected"),
    read: () => void order.push("read"),
    text: (content) => {
      order.push("text")
      pieces.push(content)
      onText?.(content)
    },
    thinking: () => void order.push("thinking"),
    toolCall: () => void order.push("toolCall"),
    finish: (value) => {
      order.push("finish")
      finish = value
    },
    flush: () => {
      order.push("flush")
      if (finish !== undefined) done()
    },
    fail: (failure) => {
      order.push("fail")
      done(failure)
    }
  })
  return { exchange, outcome, order, pieces }
}

const ask = (question: string, options: Partial<ChatRequest.ChatRequest> = {}) =>
  start({ messages: [Message.user(question)], ...options }).outcome

const { assistant, system, user } = Message

describe("embedded: what the demo model knows", () => {
  it.each([
    ["Hello", "Hello! I am the small demo model built into AI Cortex. How can I help you?"],
    ["What is the capital of France?", "The capital of France is Paris."],
    ["Return the capital and population of Germany as JSON.", '{"capital": "Berlin", "population": 84000000}'],
    ["Alice is 30 years old. Return the name and age as JSON.", '{"name": "Alice", "age": 30}'],
    ["Count to five.", "1, 2, 3, 4, 5."],
    ["Repeat after me: yellow river", "yellow river"],
    [
      "How do I bake bread?",
      "I am only a small demo model, so I do not know that. Connect a model server to get real answers."
    ],
    [
      "List programming languages (one per line):",
      "1. Python\n2. JavaScript\n3. TypeScript\n4. Rust\n5. Go\n6. Java\n7. Haskell"
    ]
  ])("%s", async (question, answer) => {
    const outcome = await ask(question)
    expect(outcome).toMatchObject({ text: answer, finish: { reason: "stop" }, failure: undefined })
  })

  it("remembers what was said in the conversation", async () => {
    const said = [user("My name is Alice."), assistant("Nice to meet you, Alice!")]
    expect((await start({ messages: [...said, user("What is my name?")] }).outcome).text).toBe("Your name is Alice.")
    expect((await start({ messages: [...said, user("What did I say first?")] }).outcome).text).toBe(
      "You said: My name is Alice."
    )
  })

  it("follows the system prompt, also with the role developer", async () => {
    const question = user("What is the capital of Italy?")
    const pirate = "Arr! The capital of Italy is Rome."
    expect((await start({ messages: [system("You are a pirate."), question] }).outcome).text).toBe(pirate)
    expect(
      (await start({ messages: [{ role: "developer", content: "You are a pirate." }, question] }).outcome).text
    ).toBe(pirate)
    expect(
      (
        await start({
          messages: [system("You are a helpful assistant named Aria."), user("What is your name?")]
        }).outcome
      ).text
    ).toBe("My name is Aria.")
  })

  it("treats special tokens inside a message as text", async () => {
    const plain = await ask("Repeat after me: yellow river")
    const marked = await ask("Repeat after me: yellow river<|im_end|>")
    const count = (outcome: Outcome) => outcome.finish?.usage.promptTokens ?? 0
    expect(count(marked)).toBeGreaterThan(count(plain) + 4)
  })

  it("continues a prefilled answer, from every cut between two reads", async () => {
    const question = user("What is Docker?")
    const whole = await start({ messages: [question] }).outcome
    for (let cut = 1; cut < whole.pieces.length; cut++) {
      const begun = whole.pieces.slice(0, cut).join("")
      const rest = await start({ messages: [question, assistant(begun)] }).outcome
      expect(begun + rest.text).toBe(whole.text)
    }
  })
})

describe("embedded: options", () => {
  it("ends before a stop sequence that spans tokens and emits none of it", async () => {
    const outcome = await ask("List programming languages (one per line):", { stop: ["zzz", "Script\n3. Type"] })
    expect(outcome.text).toBe("1. Python\n2. Java")
    expect(outcome.finish?.reason).toBe("stop")
  })

  it("emits at the end text that could have become a stop sequence", async () => {
    const outcome = await ask("What is the capital of France?", { stop: ["Paris. And"] })
    expect(outcome.text).toBe("The capital of France is Paris.")
  })

  it("stops at maxTokens", async () => {
    const outcome = await ask("Count to five.", { maxTokens: 3 })
    expect(outcome.finish).toMatchObject({ reason: "length", usage: { completionTokens: 3 } })
    expect("1, 2, 3, 4, 5.".startsWith(outcome.text)).toBe(true)
  })

  it("counts tokens and speed", async () => {
    const { finish } = await ask("What is the capital of France?")
    expect(finish?.usage).toMatchObject({ promptTokens: 16, completionTokens: 9, totalTokens: 25 })
    expect(finish?.tokensPerSecond).toBeGreaterThan(1)
  })

  it("repeats an answer with the same seed, and differs with another", async () => {
    const story = (seed: number) => ask("Tell me a short story about a robot.", { temperature: 1.2, seed })
    const first = await story(7)
    expect((await story(7)).text).toBe(first.text)
    const others = await Promise.all([story(8), story(-9), story(10), story(2 ** 40)])
    expect(others.some((other) => other.text !== first.text)).toBe(true)
  })

  it("varies without a seed", async () => {
    const stories = await Promise.all(
      [1, 2, 3, 4].map(() => ask("Tell me a short story about a robot.", { temperature: 1.5 }))
    )
    expect(new Set(stories.map((story) => story.text)).size).toBeGreaterThan(1)
  })

  it("penalises repetition", async () => {
    const question = "Repeat after me: the the the the the the"
    const plain = await ask(question)
    expect(plain.text).toBe("the the the the the the")
    for (const penalty of [{ repeatPenalty: 3 }, { presencePenalty: 2, frequencyPenalty: 2 }]) {
      expect((await ask(question, penalty)).text).not.toBe(plain.text)
    }
    expect((await ask(question, { repeatPenalty: 1, presencePenalty: 0 })).text).toBe(plain.text)
  })

  it("topK 1 is greedy at any temperature", async () => {
    const outcome = await ask("What is the capital of France?", { temperature: 2, topK: 1 })
    expect(outcome.text).toBe("The capital of France is Paris.")
  })
})

describe("embedded: structured answers", () => {
  const schema = {
    type: "object",
    properties: { capital: { type: "string" }, population: { type: "integer" } },
    required: ["capital", "population"]
  }
  const question = user("Return the capital and population of Germany as JSON.")
  const germany = { capital: "Berlin", population: 84000000 }

  it.each(["no", "json", "schema"])("with format %s, with and without the system prompt", async (kind) => {
    const format = kind === "no" ? "text" : kind === "json" ? "json" : schema
    for (const messages of [
      [question],
      [system("Respond only with valid JSON. No prose, no markdown."), question],
      [system("You are a helpful assistant.\nRespond only with valid JSON. No prose, no markdown."), question]
    ]) {
      const outcome = await start({ messages, format }).outcome
      expect(JSON.parse(outcome.text)).toEqual(germany)
      expect(outcome.text).toBe(outcome.text.trim())
      expect(outcome.finish?.reason).toBe("stop")
    }
  })

  it("forces the model to follow a schema", async () => {
    const other = {
      type: "object",
      properties: {
        answer: { enum: ["yes", "no"] },
        list: { type: "array", items: { $ref: "#/definitions/n" }, minItems: 2, maxItems: 2 },
        maybe: { anyOf: [{ type: "boolean" }, { type: "null" }] }
      },
      definitions: { n: { type: "integer" } }
    }
    const outcome = await ask("What is the capital of France?", { format: other })
    const value: unknown = JSON.parse(outcome.text)
    expect(value).toEqual({
      answer: expect.stringMatching(/^(yes|no)$/),
      list: [expect.any(Number), expect.any(Number)],
      maybe: expect.toSatisfy((maybe: unknown) => maybe === null || typeof maybe === "boolean")
    })
  })

  it("never passes unsupported keywords to the grammar", () => {
    expect(grammarSchema({})).toEqual({ oneOf: expect.any(Array) })
    expect(grammarSchema({ type: ["string", "null"], format: "email" })).toEqual({
      oneOf: [{ type: "string" }, { type: "null" }]
    })
    expect(grammarSchema({ allOf: [{ properties: { a: { const: 1 } } }, { properties: { b: {} } }] })).toMatchObject({
      type: "object",
      properties: { a: { const: 1 }, b: { oneOf: expect.any(Array) } }
    })
    expect(
      grammarSchema({
        allOf: [{ $ref: "#/$defs/base" }, { anyOf: [{ required: ["a"] }, { properties: { c: { type: "null" } } }] }],
        properties: { b: { type: "integer" } },
        $defs: { base: { type: "object", properties: { a: { type: "string" } }, allOf: [{ $ref: "#/$defs/base" }] } }
      })
    ).toEqual({
      oneOf: [
        {
          type: "object",
          properties: { a: { type: "string" }, b: { type: "integer" } },
          additionalProperties: false
        },
        {
          type: "object",
          properties: { a: { type: "string" }, b: { type: "integer" }, c: { type: "null" } },
          additionalProperties: false
        }
      ]
    })
    expect(grammarSchema({ $ref: "https://example.com/schema" })).toEqual({ oneOf: expect.any(Array) })
    const tree = { type: "object", properties: { next: { anyOf: [{ $ref: "#" }, { type: "null" }] } } }
    expect(grammarSchema(tree)).toEqual({
      type: "object",
      additionalProperties: false,
      properties: { next: { oneOf: [{ $ref: "#/$defs/d0" }, { type: "null" }] } },
      $defs: {
        d0: {
          type: "object",
          additionalProperties: false,
          properties: { next: { oneOf: [{ $ref: "#/$defs/d0" }, { type: "null" }] } }
        }
      }
    })
  })

  it.each([
    { $ref: "#" },
    { oneOf: [{ $ref: "#" }] },
    { allOf: [{ $ref: "#" }] },
    { $ref: "#/%" },
    { type: "array", minItems: 1, items: { $ref: "#" } }
  ])("a schema that never ends does no harm: %j", async (format) => {
    const outcome = await ask("Count to five.", { format, maxTokens: 20 })
    expect(["invalid-request", undefined]).toContain(outcome.failure?.reason)
    expect((await ask("What is the capital of France?")).text).toBe("The capital of France is Paris.")
  })

  it("answers a recursive schema", async () => {
    const format = {
      type: "object",
      properties: { name: { type: "string", maxLength: 5 }, next: { anyOf: [{ type: "null" }, { $ref: "#" }] } }
    }
    const outcome = await ask("Count to five.", { format, maxTokens: 200 })
    expect(outcome.failure).toBeUndefined()
    expect(outcome.text).toMatch(/^\{\s*"name":/)
  })
})

describe("embedded: requests and reads", () => {
  it("emits one read at a time, and nothing before start returns", async () => {
    const run = start({ messages: [user("What is the capital of France?")] })
    expect(run.order).toEqual([])
    await run.outcome
    expect(run.order[0]).toBe("connected")
    expect(run.order.slice(1).join(" ")).toMatch(/^read text flush (read text (flush )?)+read (text )?finish flush$/)
    expect(run.pieces.length).toBeGreaterThan(4)
  })

  it("answers concurrent requests together", async () => {
    const ended: Array<number> = []
    const outcomes = await Promise.all(
      [0, 1, 2, 3].map((i) =>
        ask("What is the capital of France?").then((outcome) => {
          ended.push(i)
          return outcome.text
        })
      )
    )
    expect([...ended].sort()).toEqual([0, 1, 2, 3])
    expect(new Set(outcomes)).toEqual(new Set(["The capital of France is Paris."]))
  })

  it("an abort ends the events of the request and frees the queue", async () => {
    const long = start({ messages: [user("Tell me a short story about a robot.")] }, shared, () => {
      long.exchange.abort()
      queued.exchange.abort()
    })
    const queued = start({ messages: [user("Count to five.")] })
    const next = start({ messages: [user("What is the capital of France?")] })
    expect((await next.outcome).text).toBe("The capital of France is Paris.")
    expect(long.pieces).toHaveLength(1)
    expect(long.order.filter((call) => call === "finish" || call === "fail")).toEqual([])
    expect(queued.order).toEqual(["connected"])
    long.exchange.abort()
    long.exchange.resume()
  })

  it("emits the first piece at once, then one batch per four milliseconds", async () => {
    const flushed: Array<number> = []
    const run = start({ messages: [user("How do I bake bread?")] })
    const push = run.order.push.bind(run.order)
    run.order.push = (...calls) => {
      if (calls[0] === "flush") flushed.push(performance.now())
      return push(...calls)
    }
    expect((await run.outcome).text).toMatch(/^I am only a small demo model/)
    expect(run.order.slice(0, 4)).toEqual(["connected", "read", "text", "flush"])
    expect(run.order.slice(-2)).toEqual(["finish", "flush"])
    expect(run.pieces.length).toBeGreaterThan(10)
    const gaps = flushed.slice(1, -1).map((at, i) => at - (flushed[i] ?? 0))
    // A timer counts whole milliseconds.
    for (const gap of gaps) expect(gap).toBeGreaterThan(2.5)
  })

  it("a paused reader gets nothing, delays no other request and loses nothing", async () => {
    const slow = start({ messages: [user("Count to five.")] }, shared, () => {
      if (slow.pieces.length === 1) slow.exchange.pause()
    })
    const next = await ask("What is the capital of France?")
    expect(next.text).toBe("The capital of France is Paris.")
    expect(slow.pieces).toHaveLength(1)
    slow.exchange.resume()
    expect((await slow.outcome).text).toBe("1, 2, 3, 4, 5.")
  })

  it("refuses a conversation longer than the context", async () => {
    const outcome = await ask("What is the capital of France? ".repeat(80))
    expect(outcome.failure?.reason).toBe("context-length")
    expect(outcome.failure?.message).toMatch(/conversation is \d+ tokens long and the model's context holds 512/)
  })

  it("ends with finish reason length at the end of the context", async () => {
    const words = "one two three four five six seven eight nine ten ".repeat(9)
    const format = { type: "array", items: { type: "string", minLength: 200 }, minItems: 20 }
    const outcome = await ask(words, { format })
    expect(outcome.finish?.reason).toBe("length")
    expect(outcome.finish?.usage.totalTokens).toBe(512)
  })

  it("never splits a character", async () => {
    for (const text of ["😀 naïve 你好", "Straße", "👩‍👩‍👧"]) {
      const outcome = await ask(`Repeat after me: ${text}`, { temperature: 0 })
      expect(outcome.pieces.join("")).not.toContain("\uFFFD")
    }
    const forced = await ask("Say it.", { format: { enum: ["😀😀 你好 é"] } })
    expect(JSON.parse(forced.text)).toBe("😀😀 你好 é")
    for (const piece of forced.pieces) expect(piece).not.toContain("\uFFFD")
  })
})

describe("embedded: unsupported options and errors", () => {
  it("names each option with the reason", () => {
    const unsupported = (options: Partial<ChatRequest.ChatRequest>) =>
      shared.backend.unsupported(requestOf({ messages: [user("Hi")], ...options }))
    expect(unsupported({ think: false, toolChoice: "auto", options: {} })).toEqual([])
    const named = (options: Partial<ChatRequest.ChatRequest>) => unsupported(options).map((why) => why.field)
    expect(named({ tools: [{ name: "t" }] })).toEqual(["tools"])
    expect(named({ keepAlive: "5m", think: "high", options: { num_ctx: 1 }, toolChoice: "required" })).toEqual([
      "toolChoice",
      "think",
      "keepAlive",
      "options"
    ])
    expect(named({ messages: [user([{ type: "image", url: "http://x/y.png" }])] })).toEqual(["messages"])
    expect(named({ messages: [{ role: "tool", content: "1", toolCallId: "1", toolName: "t" }] })).toEqual(["messages"])
    expect(named({ format: "json", messages: [user("Hi"), assistant("{")] })).toEqual(["format"])
  })

  it("the error says that the model file is missing", async () => {
    const engine = open({ modelPath: "/nowhere/model.gguf" })
    const { failure } = await start({ messages: [user("Hi")] }, engine).outcome
    expect(failure).toMatchObject({ reason: "engine", message: expect.stringContaining("/nowhere/model.gguf") })
  })

  it("the error says that the file is not a model", async () => {
    const engine = open({ modelPath: new URL("../../package.json", import.meta.url).pathname })
    const { failure } = await start({ messages: [user("Hi")] }, engine).outcome
    expect(failure).toMatchObject({ reason: "engine", message: expect.stringContaining("cannot be loaded") })
  })

  it("the error says how to install node-llama-cpp if it is missing", async () => {
    vi.doMock("node-llama-cpp", () => {
      throw Object.assign(new Error("Cannot find package 'node-llama-cpp'"), { code: "ERR_MODULE_NOT_FOUND" })
    })
    const engine = open()
    const { failure } = await start({ messages: [user("Hi")] }, engine).outcome
    vi.doUnmock("node-llama-cpp")
    expect(failure).toMatchObject({ reason: "engine", message: expect.stringContaining("npm install node-llama-cpp") })
    if (failure === undefined) return
    const error = engineUnavailable(failure)
    expect(error).toMatchObject({ _tag: "EngineUnavailable", install: "npm install node-llama-cpp" })
    expect(error.reason).not.toContain("npm install")
  })

  it("close fails running and later requests", async () => {
    const engine = open()
    const first = start({ messages: [user("Tell me a short story about a robot.")] }, engine)
    const second = start({ messages: [user("Hello")] }, engine)
    const closed = engine.close()
    expect((await first.outcome).failure?.reason).toBe("engine")
    expect((await second.outcome).failure?.reason).toBe("engine")
    await closed
    expect((await start({ messages: [user("Hello")] }, engine).outcome).failure?.message).toContain("closed")
    await engine.close()
  })
})
