import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as CortexLayer from "../../src/Cortex.js"
import { eventsOf, failure, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const demo = () => fleet.cortex([], { model: "aicortex-demo" })

describe("the built-in model, with no server at all", () => {
  it("answers, and streams the same", async () => {
    const cortex = demo()
    const question = "What is the capital of France?"
    const answer = await cortex.complete(question, { temperature: 0 })
    expect(answer).toMatchObject({
      text: "The capital of France is Paris.",
      model: "aicortex-demo",
      server: "embedded:",
      finishReason: "stop",
      attempts: []
    })
    expect(answer.usage.totalTokens).toBe((answer.usage.promptTokens ?? 0) + (answer.usage.completionTokens ?? 0))
    expect(answer.tokensPerSecond).toBeGreaterThan(0)
    const events = await eventsOf(await cortex.chat(question, { temperature: 0, stream: true }))
    expect(textOf(events)).toBe(answer.text)
    expect(events.filter(({ type }) => type === "token").length).toBeGreaterThan(1)
    expect([events[0]?.type, events.at(-1)?.type]).toEqual(["start", "end"])
  })

  it("remembers Alice in her session, and nowhere else", async () => {
    const cortex = demo()
    const session = await cortex.Session.create()
    await cortex.chat("My name is Alice.", { session, temperature: 0 })
    expect(await cortex.chat("What is my name?", { session, temperature: 0 })).toBe("Your name is Alice.")
    expect(await cortex.chat("What is my name?", { temperature: 0 })).not.toContain("Alice")
    expect((await session.history()).map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant"])
    await session.reset()
    expect(await cortex.chat("What is my name?", { session, temperature: 0 })).not.toContain("Alice")
  })

  it("returns JSON that matches a schema, typed", async () => {
    const question = "Return the capital and population of Germany as JSON."
    const schema = {
      type: "object",
      properties: { capital: { type: "string" }, population: { type: "integer" } },
      required: ["capital", "population"]
    }
    const expected = { capital: "Berlin", population: 84_000_000 }
    expect(await demo().chat(question, { schema, temperature: 0 })).toEqual(expected)
    expect(await demo().chat(question, { responseFormat: "json", temperature: 0 })).toEqual(expected)
    const City = Schema.Struct({ capital: Schema.String, population: Schema.Int })
    const city = Chat.json(question, City, { model: "aicortex-demo", temperature: 0 })
    const layer = CortexLayer.layer({ servers: [], configFile: false })
    expect(await Effect.runPromise(Effect.provide(city, layer))).toEqual(expected)
  })

  it("ends before a stop sequence, and at its limit", async () => {
    const cortex = demo()
    const question = "List programming languages (one per line):"
    const stopped = await cortex.complete(question, { temperature: 0, stop: ["4.", "\n\n"] })
    expect(stopped).toMatchObject({ text: "1. Python\n2. JavaScript\n3. TypeScript\n", finishReason: "stop" })
    const limited = await cortex.complete(question, { temperature: 0, maxTokens: 3 })
    expect(limited).toMatchObject({ finishReason: "length", usage: { completionTokens: 3 } })
  })

  it("reports unsupported options before anything else", async () => {
    const cortex = demo()
    const error = await failure(cortex.complete("Hi", { tools: [{ name: "f" }] }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "tools" })
    expect(await failure(cortex.chat("Hi", { keepAlive: 1 }))).toMatchObject({ field: "keepAlive" })
  })

  it("an aborted call frees it for the next one", async () => {
    const cortex = demo()
    for await (const event of await cortex.chat("Tell me a short story about a robot.", { stream: true })) {
      if (event.type === "token") break
    }
    const reason = new Error("gone")
    const controller = new AbortController()
    const left = failure(cortex.chat("Tell me a short story about a robot.", { signal: controller.signal }))
    controller.abort(reason)
    expect(await left).toBe(reason)
    expect(await cortex.chat("What is the capital of France?", { temperature: 0 })).toBe(
      "The capital of France is Paris."
    )
  })

  it("is used only when it is named, and then no server is", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    await cortex.chat("Hello", { model: "aicortex-demo" })
    expect(server.requests).toEqual([])
    expect(await failure(fleet.cortex([]).chat("Hello"))).toMatchObject({ _tag: "ModelNotFound" })
  })

  it("a missing model file is EngineUnavailable", async () => {
    const cortex = fleet.cortex([], { model: "aicortex-demo", demoModel: "/nowhere/model.gguf" })
    expect(await failure(cortex.chat("Hello"))).toMatchObject({
      _tag: "EngineUnavailable",
      reason: expect.stringContaining("/nowhere/model.gguf")
    })
  })
})
