import { Effect } from "effect"
import { describe, expect, it } from "vitest"
import { throughputOf } from "../../src/fleet/throughput.js"
import { Chat, Conditions, Cortex, Embeddings, Registry } from "../../src/index.js"
import { type Fake, useFleet } from "../support/fleet.js"
import { startLineProxy } from "../support/lineProxy.js"

const fleet = useFleet()
const megabyte = 1_000_000

describe("throughput from the arrival of a body", () => {
  it.each<[string, number, number, number | undefined, number | undefined]>([
    // Mbps of a body of so many bytes, in so many milliseconds, over a line with that round trip.
    ["a slow line", megabyte, 8_000, 1, 1],
    ["a fast one", megabyte, 80, 1, 107],
    ["one that is faster than can be told", megabyte, 0, 1, 1_600],
    ["a connection that had to get going", 256 * 1024, 1_000, 20, 2.25],
    ["a far server, which shows no limit, but enough", megabyte, 800, 100, 10],
    ["a far server, which shows no limit, and less than enough", 256 * 1024, 500, 100, undefined],
    ["an unknown round trip, and enough", megabyte, 800, undefined, 10],
    ["an unknown round trip, and less", megabyte, 8_000, undefined, undefined]
  ])("of %s", (_, bytes, milliseconds, roundTrip, expected) => {
    const found = throughputOf({ bytes, milliseconds }, roundTrip, 5)
    if (expected === undefined) expect(found).toBeUndefined()
    else expect((found ?? 0) / expected).toBeCloseTo(1, 1)
  })
})

describe.each(["ollama", "openai"] as const)("the throughput of a connection (%s)", (protocol) => {
  /** 0.8 Mbps: slow enough that a busy machine, whose round trips are long, is not taken for the limit. */
  const slow = { bytesPerSecond: 100_000 }
  const vector = "embed:1b"
  const made = async (models: ReadonlyArray<string>, line: object) => {
    const far: Fake = await fleet[protocol]({
      models: [...models, { name: vector, capabilities: ["embedding"] }],
      reply: "word ".repeat(20_000),
      perToken: "burst"
    })
    const proxy = fleet.keep(await startLineProxy(far.url, line))
    const layer = Cortex.layer({
      configFile: false,
      servers: [{ url: proxy.url, protocol, local: false }],
      conditions: { latency: 30_000, throughput: 3.5 }
    })
    const lineAfter = (use: Effect.Effect<unknown, unknown, Cortex.Services>) =>
      Effect.runPromise(
        Effect.zipRight(use, Conditions.snapshot).pipe(
          Effect.map(({ lines }) => lines[0]),
          Effect.provide(layer)
        )
      )
    return { proxy, lineAfter }
  }
  /** About 350 kB. */
  const vectors = Embeddings.embed(
    Array.from({ length: 20 }, (_, i) => `text ${i}`),
    { model: vector, dimensions: 900 }
  )

  it("is measured from vectors, and degrades a slow connection", async () => {
    const { lineAfter } = await made([], slow)
    const line = await lineAfter(vectors)
    expect(line?.throughput).toBeGreaterThan(0.1)
    expect(line?.throughput).toBeLessThan(2)
    expect(line).toMatchObject({ state: "DEGRADED", reason: expect.stringMatching(/^\d\.\d Mbps$/) })
  })

  it("control: is higher on a fast connection", async () => {
    const { lineAfter } = await made([], {})
    const line = await lineAfter(vectors)
    expect(line?.throughput).toBeGreaterThan(3.5)
    expect(line).toMatchObject({ state: "OPTIMAL", reason: "" })
  })

  it("is measured from a long list of models, which is not a long round trip", async () => {
    const names = Array.from({ length: protocol === "openai" ? 1_900 : 700 }, (_, i) => `${"long".repeat(16)}-${i}:1b`)
    const { lineAfter } = await made(names, slow)
    // A check asks Ollama only for what it has loaded: its list is read when a call needs it.
    const listed =
      protocol === "openai"
        ? Effect.void
        : Effect.flatMap(Registry.Registry, ({ refresh, servers }) => Effect.zipRight(refresh, servers))
    const line = await lineAfter(listed)
    expect(line?.throughput).toBeGreaterThan(0.1)
    expect(line?.throughput).toBeLessThan(2)
    expect(line).toMatchObject({ state: "DEGRADED", reason: expect.stringMatching(/^\d\.\d Mbps$/) })
    expect(line?.latency).toBeLessThan(2_000)
  })

  it("stays unknown if answers are streamed, however long they are", async () => {
    const { lineAfter, proxy } = await made(["m:1b"], { bytesPerSecond: 4_000_000 })
    const line = await lineAfter(Chat.text("Hi", { model: "m:1b" }))
    expect(proxy.seen().bytes).toBeGreaterThan(megabyte)
    expect(line).toMatchObject({ state: "OPTIMAL", throughput: undefined })
  })
})
