import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { describe, expect, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import * as Embeddings from "../../src/Embeddings.js"
import type { EmbedOptions } from "../../src/promise.js"
import type { Fault } from "../support/fakeServer.js"
import { type Fake, failure, inOrder, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const model = "embedder:1b"
const protocols = ["ollama", "openai"] as const
type Protocol = (typeof protocols)[number]

const start = (protocol: Protocol): Promise<Fake> =>
  fleet[protocol]({ models: [{ name: model, capabilities: ["embedding"] }] })

const requestsOf = (server: Fake) => server.requests.filter(({ path }) => /embed/.test(path))

/** What befalls requests for vectors, and nothing else. */
const breaks = (server: Fake, fault: Fault) =>
  server.setBehaviour({
    faultOn: "all",
    faults: fault.kind === "refuse" ? fault : (_, body) => (body?.input === undefined ? undefined : fault)
  })

describe.each(protocols)("embeds texts on %s", (protocol) => {
  it("one vector per text, in order, with the server's token count", async () => {
    const server = await start(protocol)
    const cortex = fleet.cortex([server])
    const both = await cortex.embed(["one", "two"], { model })
    expect(both).toMatchObject({ model, server: server.url, attempts: [] })
    expect(both.promptTokens).toBeGreaterThan(0)
    expect(both.embeddings.map((vector) => vector.length)).toEqual([8, 8])
    expect(both.embeddings[0]).not.toEqual(both.embeddings[1])
    const swapped = await cortex.embed(["two", "one"], { model })
    expect(swapped.embeddings).toEqual([...both.embeddings].reverse())
    expect((await cortex.embed("two", { model })).embeddings).toEqual([both.embeddings[1]])
  })

  it("with the requested dimensions", async () => {
    const server = await start(protocol)
    const { embeddings } = await fleet.cortex([server]).embed("one", { model, dimensions: 4 })
    expect(embeddings[0]).toHaveLength(4)
    expect(requestsOf(server)[0]?.body).toMatchObject({ model, input: ["one"], dimensions: 4 })
  })

  it.each<[string, Fault, object]>([
    ["refuses", { kind: "refuse" }, { reason: "refused", phase: "connect" }],
    ["resets", { kind: "reset" }, { reason: "reset" }],
    ["is silent", { kind: "hang" }, { reason: "first-token-timeout" }],
    ["answers 500", { kind: "status", code: 500 }, { reason: "server-error", status: 500 }],
    ["answers 401", { kind: "status", code: 401 }, { reason: "unauthorized", status: 401 }],
    ["answers 429", { kind: "status", code: 429, retryAfter: 1 }, { reason: "rate-limited", status: 429 }],
    ["answers with a page", { kind: "garbage" }, { reason: "malformed" }],
    ["answers with nothing", { kind: "empty" }, { reason: "malformed" }],
    ["breaks off", { kind: "cutByte", at: 40 }, { reason: "cut" }],
    ["no longer has the model", { kind: "notFound" }, { status: 404 }]
  ])("another server takes over if one %s", async (_, fault, expected) => {
    const bad = await start(protocol)
    const good = await start(protocol)
    const cortex = fleet.cortex(inOrder(bad, good))
    const before = await cortex.embed("one", { model })
    expect(before.server).toBe(bad.url)
    await breaks(bad, fault)
    const after = await cortex.embed("one", { model, timeout: 400 })
    expect(after).toMatchObject({ server: good.url, embeddings: before.embeddings })
    expect(after.attempts).toEqual([expect.objectContaining({ server: bad.url, ...expected })])
  })

  it("an invalid request is tried on one other server, which agrees", async () => {
    const bad = await start(protocol)
    const good = await start(protocol)
    const cortex = fleet.cortex(inOrder(bad, good))
    await cortex.embed("one", { model })
    const fault = { kind: "status", code: 400, body: { error: "input length exceeds the context length" } } as const
    await breaks(bad, fault)
    await breaks(good, fault)
    const error = await failure(cortex.embed("one", { model }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", server: bad.url, code: "context_length_exceeded" })
    expect(error.message).toContain("exceeds the context length")
    expect(requestsOf(good)).toHaveLength(1)
  })

  it("fails with all attempts if every server fails, after the allowed rounds", async () => {
    const server = await start(protocol)
    const cortex = fleet.cortex([server])
    await cortex.embed("one", { model })
    await breaks(server, { kind: "status", code: 500 })
    const error = await failure(cortex.embed("one", { model, maxRetries: 3, retryBackoff: 1 }))
    expect(error).toMatchObject({ _tag: "AllServersFailed", model })
    expect(error.attempts).toHaveLength(3)
  })

  it("an aborted call is cancelled on the server, and is not a failure of it", async () => {
    const server = await start(protocol)
    const cortex = fleet.cortex([server])
    await cortex.embed("one", { model })
    await breaks(server, { kind: "hang" })
    const leave = new AbortController()
    const leaving = failure(cortex.embed("one", { model, signal: leave.signal }))
    await expect.poll(() => server.inFlight()).toBe(1)
    leave.abort(new Error("enough"))
    expect((await leaving).message).toBe("enough")
    await expect.poll(() => requestsOf(server).at(-1)?.aborted).toBe(true)
    await server.setBehaviour({ faults: undefined })
    expect(await cortex.embed("one", { model })).toMatchObject({ server: server.url, attempts: [] })
  })

  it("keeps its deadline over all attempts", async () => {
    const server = await start(protocol)
    const cortex = fleet.cortex([server])
    await cortex.embed("one", { model })
    await breaks(server, { kind: "hang" })
    const error = await failure(cortex.embed("one", { model, deadline: 200 }))
    expect(error).toMatchObject({
      _tag: "DeadlineExceeded",
      deadline: 200,
      attempts: [{ server: server.url, reason: "deadline" }]
    })
    await expect.poll(() => requestsOf(server).at(-1)?.aborted).toBe(true)
  })
})

describe("a mixed fleet", () => {
  it("skips servers that do not support an option", async () => {
    const servers = [await start("openai"), await start("ollama")] as const
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.embed("one", { model })
    for (const options of [{ keepAlive: "5m" }, { options: { num_ctx: 512 } }, { truncate: true }]) {
      const { attempts, server } = await cortex.embed("one", { model, ...options })
      expect(server).toBe(servers[1].url)
      expect(attempts).toMatchObject([{ server: servers[0].url, reason: "unsupported" }])
      const [name, value] = Object.entries(options)[0] as [string, unknown]
      expect(requestsOf(servers[1]).at(-1)?.body[name === "keepAlive" ? "keep_alive" : name]).toEqual(value)
    }
    expect(requestsOf(servers[0])).toHaveLength(1)
    expect(await failure(cortex.embed("one", { model, keepAlive: "soon" }))).toMatchObject({ field: "keepAlive" })
    const alone = fleet.cortex([servers[0]])
    expect(await failure(alone.embed("one", { model, keepAlive: 5 }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "keepAlive"
    })
  })

  it("shares its servers' slots with chats", async () => {
    const server = await start("ollama")
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 2 }])
    await cortex.embed("one", { model })
    await server.setBehaviour({ faultOn: "all", faults: { kind: "slow", ms: 30 } })
    await Promise.all(Array.from({ length: 8 }, () => cortex.embed("one", { model })))
    expect(server.maxInFlight).toBe(2)
  })

  it("fails with ModelNotFound, which says that the built-in model makes no vectors", async () => {
    const cortex = fleet.cortex([await start("ollama")])
    expect(await failure(cortex.embed("one", { model: "embeder:1b" }))).toMatchObject({ _tag: "ModelNotFound" })
    expect(await failure(cortex.embed("one", { model: "aicortex-demo" }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "model"
    })
  })
})

describe("what is refused before anything is sent", () => {
  it.each<[string, unknown, unknown, string]>([
    ["no model", "one", {}, "model"],
    ["no options", "one", undefined, "model"],
    ["an empty text", "", { model }, "input"],
    ["no text", [], { model }, "input"],
    ["an empty text among others", ["one", ""], { model }, "input.1"],
    ["a number", [1], { model }, "input.0"],
    ["half a dimension", "one", { model, dimensions: 0.5 }, "dimensions"],
    ["an option of chats", "one", { model, temperature: 1 }, "temperature"],
    ["a time of nothing", "one", { model, timeout: 0 }, "timeout"],
    ["a signal that is none", "one", { model, signal: {} }, "signal"]
  ])("%s", async (_, input, options, field) => {
    const server = await start("ollama")
    const error = await failure(fleet.cortex([server]).embed(input as string, options as EmbedOptions))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field })
    expect(server.requests).toEqual([])
  })
})

describe("Embeddings", () => {
  it("is a service of the layer, and an interruption cancels the request", async () => {
    const server = await start("ollama")
    const program = Effect.gen(function* () {
      const { embeddings } = yield* Embeddings.embed(["one", "two"], { model })
      expect(embeddings).toHaveLength(2)
      yield* Effect.promise(async () => breaks(server, { kind: "hang" }))
      const fiber = yield* Effect.fork(Embeddings.embed("one", { model }))
      yield* Effect.promise(() => expect.poll(() => server.inFlight()).toBe(1))
      return yield* Fiber.interrupt(fiber)
    })
    const exit = await Effect.runPromise(
      Effect.provide(program, Layer.fresh(Cortex.layer({ servers: [server.url], configFile: false })))
    )
    expect(Exit.isInterrupted(exit)).toBe(true)
    await expect.poll(() => requestsOf(server).at(-1)?.aborted).toBe(true)
  })

  it("fails running calls when its scope closes", async () => {
    const server = await start("ollama")
    const cortex = fleet.cortex([server])
    await cortex.embed("one", { model })
    await breaks(server, { kind: "hang" })
    const leaving = failure(cortex.embed("one", { model }))
    await expect.poll(() => server.inFlight()).toBe(1)
    await cortex.close()
    expect(await leaving).toMatchObject({ _tag: "Closed" })
  })
})
