import { it as effectIt } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { describe, expect, it } from "vitest"
import { Chat, Cortex } from "../../src/index.js"
import type { AllServersFailed, Cortex as Fleet } from "../../src/promise.js"
import type { Fault } from "../support/fakeServer.js"
import { eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()

const named = (name: string, more: object = {}) => ({ name, size: 1_000, capabilities: ["completion"], ...more })
const modelsOf = (server: Fake): ReadonlyArray<unknown> => server.chatRequests.map(({ body }) => body.model)

const memoryWords = "model requires more system memory (38.9 GiB) than is available (11.2 GiB)"
const refusal = (protocol: "ollama" | "openai"): Fault => ({
  kind: "status",
  code: 500,
  body: protocol === "ollama" ? { error: memoryWords } : { error: { message: memoryWords, type: "server_error" } }
})

const ask = async (cortex: Fleet, stream: boolean, options: object = {}): Promise<string> =>
  stream
    ? textOf(await eventsOf(await cortex.chat("Hi", { ...options, model: "auto", stream })))
    : cortex.chat("Hi", { ...options, model: "auto" })

describe.each(["ollama", "openai"] as const)("auto tries every model on every server (%s)", (protocol) => {
  const sizes = ["70b", "32b", "14b", "7b", "3b", "1b"]
  const names = sizes.map((size) => `x:${size}`)

  it.each([false, true])("of six models only the last one can be loaded (stream: %s)", async (stream) => {
    const server = await fleet[protocol]({
      models: names.map((name) => named(name)),
      reply: "well said",
      faults: (_, body) => (body.model === "x:1b" ? undefined : refusal(protocol))
    })
    const cortex = fleet.cortex([server])
    expect(await ask(cortex, stream)).toBe("well said")
    expect(modelsOf(server)).toEqual(names)
    // What does not fit is remembered.
    expect(await ask(cortex, stream)).toBe("well said")
    expect(modelsOf(server).slice(6)).toEqual(["x:1b"])
    const { decision } = await cortex.complete("Hi", { model: "auto" })
    expect(decision.chosen).toEqual({ model: "x:1b", server: server.url })
    expect(decision.excluded.map(({ model }) => model)).toEqual(names.slice(0, 5))
  })

  it("lists each of them if all fail, also those that were not tried", async () => {
    const faults: Fault = { kind: "status", code: 500 }
    const one = await fleet[protocol]({ models: names.slice(0, 3).map((name) => named(name)), faults })
    const two = await fleet[protocol]({
      models: [named("x:3b"), named("embed:1b", { capabilities: ["embedding"] })],
      faults
    })
    const cortex = fleet.cortex([one, two], { defaults: { maxRetries: 1 } })
    await cortex.listServers()
    const error: AllServersFailed = await failure(cortex.chat("Hi", { model: "auto" }))
    expect(error).toMatchObject({ _tag: "AllServersFailed", model: "auto" })
    expect(error.attempts.map(({ model, reason, server }) => [model, server, reason])).toEqual([
      ["x:70b", one.url, "server-error"],
      ["x:32b", one.url, "server-error"],
      ["x:14b", one.url, "server-error"],
      ["x:3b", two.url, "server-error"]
    ])
    expect(error.excluded).toEqual([
      {
        model: "embed:1b",
        server: two.url,
        reason: protocol === "ollama" ? "makes embeddings only" : expect.any(String)
      }
    ])
    for (const words of ["x:70b at", "x:3b at", "not asked: embed:1b at"]) expect(error.message).toContain(words)
  })

  it("starts another round if failed ones may have recovered", async () => {
    const server = await fleet[protocol]({
      models: [named("x:7b"), named("x:3b")],
      reply: "well said",
      faults: (n) => (n < 2 ? { kind: "status", code: 503 } : undefined)
    })
    const cortex = fleet.cortex([server], { defaults: { retryBackoff: 1 } })
    expect(await ask(cortex, true)).toBe("well said")
    expect(modelsOf(server)).toEqual(["x:7b", "x:3b", "x:7b"])
  })

  it("stops at the deadline, and lists the failures so far", async () => {
    const server = await fleet[protocol]({
      models: [named("x:7b"), named("x:3b")],
      faults: (_, body) => (body.model === "x:7b" ? { kind: "status", code: 500 } : { kind: "hang" })
    })
    const cortex = fleet.cortex([server])
    await cortex.listServers()
    const error = await failure(cortex.chat("Hi", { model: "auto", deadline: 1_000 }))
    expect(error).toMatchObject({
      _tag: "DeadlineExceeded",
      attempts: [
        { model: "x:7b", reason: "server-error" },
        { model: "x:3b", reason: "deadline" }
      ]
    })
  })

  it("control: an invalid request is not tried on all of them", async () => {
    const body =
      protocol === "ollama"
        ? { error: "invalid format: x" }
        : { error: { message: "bad", type: "invalid_request_error" } }
    const server = await fleet[protocol]({
      models: names.map((name) => named(name)),
      faults: { kind: "status", code: 400, body }
    })
    expect(await failure(fleet.cortex([server]).chat("Hi", { model: "auto" }))).toMatchObject({
      _tag: "InvalidRequest"
    })
    expect(server.chatRequests).toHaveLength(1)
  })

  it("leaves out a server that rests, and says so", async () => {
    const bad = await fleet[protocol]({ models: [named("x:70b")], faults: { kind: "status", code: 500 } })
    const good = await fleet[protocol]({ models: [named("x:1b")], reply: "well said" })
    const cortex = fleet.cortex([bad, good])
    await cortex.listServers()
    const first = await cortex.complete("Hi", { model: "auto" })
    expect([first.model, first.decision.excluded]).toEqual(["x:1b", []])
    const { decision } = await cortex.complete("Hi", { model: "auto" })
    expect(decision.excluded).toEqual([
      { model: "x:70b", server: bad.url, reason: expect.stringMatching(/^rests for \d+ s after a failure$/) }
    ])
    expect(bad.chatRequests).toHaveLength(1)
    // Control: it is named, and there is no other.
    await bad.setBehaviour({ reply: "back again", faults: undefined })
    expect(await cortex.chat("Hi", { model: "x:70b" })).toBe("back again")
  })

  it("respects the context that each server allows", async () => {
    // What an Ollama allows is known of models in memory; vLLM says it in its list.
    const allowing = (contextLength: number) => ({
      models: [named("x:70b", { contextLength })],
      loaded: ["x:70b"],
      ...(protocol === "openai" ? { flavour: "vllm" as const } : {})
    })
    const short = await fleet[protocol](allowing(512))
    const long = await fleet[protocol](allowing(8192))
    const cortex = fleet.cortex(inOrder(short, long))
    await cortex.listServers()
    const prompt = "word ".repeat(800)
    const { decision, server } = await cortex.complete(prompt, { model: "auto", maxTokens: 100 })
    expect(server).toBe(long.url)
    expect(decision.excluded).toEqual([
      {
        model: "x:70b",
        server: short.url,
        reason: expect.stringMatching(/^has a context of 512 tokens, and about 1\d\d\d/)
      }
    ])
    // Control: what fits goes to the first one.
    expect((await cortex.complete("Hi", { model: "auto" })).server).toBe(short.url)
  })
})

describe("memory", () => {
  it("excludes a model that is far too large from auto, with the reason", async () => {
    const server = await fleet.ollama({
      models: [named("big:405b", { size: 240e9 }), named("small:3b")],
      reply: "well said"
    })
    const cortex = fleet.cortex([server])
    const { decision, model: chosen } = await cortex.complete("Hi", { model: "auto" })
    expect(chosen).toBe("small:3b")
    expect(decision).toMatchObject({
      reason: "the only one that can answer this",
      excluded: [
        {
          model: "big:405b",
          reason: expect.stringMatching(/^needs about 288 GB of memory, and [\d.]+ GB are available$/)
        }
      ]
    })
    // Control: it answers when named, and for `auto` once it is loaded.
    expect((await cortex.complete("Hi", { model: "big:405b" })).model).toBe("big:405b")
    expect((await cortex.complete("Hi", { model: "auto" })).model).toBe("big:405b")
  })

  it("does not exclude the last model", async () => {
    const server = await fleet.ollama({
      models: [named("big:405b", { size: 240e9 }), named("big:70b", { size: 140e9 })],
      reply: "well said"
    })
    const { decision, model: chosen } = await fleet.cortex([server]).complete("Hi", { model: "auto" })
    expect([chosen, decision.reason]).toEqual(["big:70b", "the smallest, though memory may not suffice"])
    expect(decision.candidates).toHaveLength(2)
  })

  const servers = async (protocol: "ollama" | "openai") => {
    const small = await fleet[protocol]({ reply: "from the small one", faults: [refusal(protocol)] })
    const large = await fleet[protocol]({ reply: "from the large one" })
    return { small, large }
  }

  describe.each(["ollama", "openai"] as const)("that a server lacks for a model (%s)", (protocol) => {
    effectIt.effect.each([model, "auto", `${protocol}:${model}`])("is remembered for ten minutes: %s", (name) =>
      Effect.gen(function* () {
        const { large, small } = yield* Effect.promise(() => servers(protocol))
        const asked = Effect.map(Chat.complete("Hi", { model: name }), ({ server }) => server)
        yield* Effect.gen(function* () {
          expect(yield* asked).toBe(large.url)
          // The breaker has closed long before.
          yield* TestClock.adjust("9 minutes")
          for (let n = 0; n < 3; n++) expect(yield* asked).toBe(large.url)
          expect(small.chatRequests).toHaveLength(1)
          yield* TestClock.adjust("61 seconds")
          expect(yield* asked).toBe(small.url)
        }).pipe(
          Effect.provide(
            Cortex.layer({
              servers: inOrder(small, large),
              configFile: false,
              model,
              discoveryTtl: 1e12
            })
          )
        )
      })
    )

    it("does not exclude the only server", async () => {
      const { small } = await servers(protocol)
      const cortex = fleet.cortex([small], { serverCooldown: 1 })
      await failure(cortex.chat("Hi", { maxRetries: 1 }))
      expect(await cortex.chat("Hi", { maxRetries: 1 })).toBe("from the small one")
    })

    it("control: another failure is not remembered for so long", async () => {
      const { large, small } = await servers(protocol)
      await small.setBehaviour({ faults: [{ kind: "status", code: 500 }] })
      const cortex = fleet.cortex(inOrder(small, large), { serverCooldown: 1 })
      expect(await cortex.chat("Hi")).toBe("from the large one")
      expect(await cortex.chat("Hi")).toBe("from the small one")
    })
  })
})

describe("options that only some servers support", () => {
  const biased = { logit_bias: { "42": -100 } }
  const mixed = async () => {
    const cannot = await fleet.ollama({ models: [named("big:70b")], loaded: ["big:70b"], reply: "from ollama" })
    const can = await fleet.openai({ models: [named("small:1b")], reply: "from openai" })
    const gateway = fleet.keep(
      await startGateway([cannot.url, can.url], { aliases: { chain: ["big:70b", "small:1b"] } })
    )
    await gateway.get("/v1/models")
    const say = async (body: object) => {
      const response = await gateway.post("/v1/chat/completions", {
        messages: [{ role: "user", content: "Hi" }],
        ...body
      })
      return { status: response.status, text: await response.text() }
    }
    return { cannot, can, say }
  }

  it.each(["auto", "chain"])("go to a server that supports them: %s", async (name) => {
    const { can, cannot, say } = await mixed()
    for (const stream of [false, true]) {
      const { status, text } = await say({ model: name, ...biased, stream })
      expect([status, text]).toEqual([200, expect.stringContaining("openai")])
    }
    expect([cannot.chatRequests.length, can.chatRequests.length]).toEqual([0, 2])
    // Control: without it the larger one answers.
    expect((await say({ model: name })).text).toContain("from ollama")
  })

  it("are refused by name if none does", async () => {
    const cannot = await fleet.ollama({ models: [named("big:70b"), named("small:1b")] })
    const gateway = fleet.keep(await startGateway([cannot.url]))
    const response = await gateway.post("/v1/chat/completions", {
      model: "auto",
      messages: [{ role: "user", content: "Hi" }],
      ...biased
    })
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param: "logit_bias" } }])
    expect(cannot.chatRequests).toHaveLength(0)
  })
})

describe("the order of auto", () => {
  it("is: priority, loaded, the preferred one, size, generation", async () => {
    const first = await fleet.ollama({ models: [named("llama3:7b"), named("llama4:7b"), named("other:3b")] })
    const second = await fleet.ollama({ models: [named("big:70b")] })
    const order = async (options: object = {}) => {
      const cortex = fleet.cortex(inOrder(first, second), options)
      await cortex.listServers()
      const { decision } = await cortex.complete("Hi", { model: "auto" })
      return [decision.candidates.map(({ model }) => model), decision.reason]
    }
    const usual = ["llama4:7b", "llama3:7b", "other:3b", "big:70b"]
    expect(await order()).toEqual([usual, "the most capable of 4; servers of a better priority go first"])
    await first.restart()
    expect(await order({ model: "llama3:7b" })).toEqual([
      ["llama3:7b", "llama4:7b", "other:3b", "big:70b"],
      "the preferred one; servers of a better priority go first"
    ])
    // It is loaded now.
    expect((await order())[0]?.[0]).toBe("llama3:7b")
    await second.setBehaviour({ loaded: ["big:70b"] })
    const cortex = fleet.cortex([first, second])
    await cortex.listServers()
    expect((await cortex.complete("Hi", { model: "auto" })).model).toBe("big:70b")
  })

  it("asks the server that has the model loaded, whatever the strategy", async () => {
    const cold = await fleet.ollama({ models: [named("x:1b")] })
    const warm = await fleet.ollama({ models: [named("x:1b")], loaded: ["x:1b"], reply: "well said" })
    for (const routing of ["random", "nearest"] as const) {
      const cortex = fleet.cortex([cold, warm])
      await cortex.listServers()
      for (let n = 0; n < 5; n++) {
        const { decision, server } = await cortex.complete("Hi", { model: "auto", routing })
        expect([server, decision.candidates.map(({ server }) => server)]).toEqual([warm.url, [warm.url, cold.url]])
      }
    }
    expect(cold.chatRequests).toHaveLength(0)
  })
})
