import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Layer, Stream, TestClock, TestContext } from "effect"
import { describe, expect, it } from "vitest"
import { RemoteTokenCounter } from "../../src/Fleet.js"
import { mergeRemoteTokens } from "../../src/fleet/remoteTokens.js"
import { Chat, Conditions, Cortex, Embeddings, Fleet } from "../../src/index.js"
import { createCortex } from "../../src/promise.js"
import { type Fake, failure, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const day = 86_400_000
/** Noon of a day, UTC. */
const noon = 20_000 * day + day / 2
const midnight = 20_001 * day

describe("the counter", () => {
  it("resets at midnight UTC", () => {
    const counter = new RemoteTokenCounter()
    counter.add(10, noon)
    counter.add(5, midnight - 1)
    expect([counter.used(midnight - 1), counter.resetsAt(noon)]).toEqual([15, midnight])
    expect([counter.used(midnight), counter.saved(midnight)]).toEqual([0, undefined])
  })

  it.each([Number.NaN, -5, Number.POSITIVE_INFINITY, 1e300])("does not count %s", (tokens) => {
    const counter = new RemoteTokenCounter()
    counter.add(7, noon)
    counter.add(tokens, noon)
    expect(counter.used(noon)).toBe(7)
  })

  it("is merged with those of other processes in any order, and more than once", () => {
    const counters = Array.from({ length: 3 }, () => new RemoteTokenCounter())
    let shared: ReturnType<RemoteTokenCounter["saved"]>
    for (let round = 0; round < 4; round++) {
      for (const [i, counter] of counters.entries()) {
        counter.add(i + 1, noon)
        shared = mergeRemoteTokens(shared, counter.saved(noon))
        counter.merge(shared, noon)
        counter.merge(shared, noon)
      }
    }
    for (const counter of counters) counter.merge(shared, noon)
    expect(counters.map((counter) => counter.used(noon))).toEqual([24, 24, 24])
    // Reports of another day do not count.
    expect(mergeRemoteTokens(shared, { day: 20_001, tokens: { other: 5 } })).toEqual({
      day: 20_001,
      tokens: { other: 5 }
    })
    counters[0]?.merge({ day: 19_999, tokens: { other: 1_000 } }, noon)
    expect(counters[0]?.used(noon)).toBe(24)
  })
})

describe.each(["ollama", "openai"] as const)("the token limit of remote servers (%s)", (protocol) => {
  const reply = (text: string) => ({ tokens: text, usage: { promptTokens: 20, completionTokens: 10 } })
  const models = ["a:1b", { name: "embed:1b", capabilities: ["embedding"] }]
  const server = (name: string, has: ReadonlyArray<string | object> = models): Promise<Fake> =>
    fleet[protocol]({ models: has as never, reply: reply(name) })
  const limits = { retryBackoff: 1 }
  const both = async (remoteTokensPerDay: number | undefined, nearModels: ReadonlyArray<string | object> = models) => {
    const [near, far] = [await server("near", nearModels), await server("far")]
    const servers = [{ url: near.url }, { url: far.url, local: false, priority: -1 }]
    const options = { configFile: false, servers, remoteTokensPerDay, defaults: limits } as const
    const run = <A, E>(effect: Effect.Effect<A, E, Cortex.Services>): Promise<A> =>
      Effect.runPromise(
        Effect.zipRight(TestClock.setTime(noon), Effect.provide(effect, Cortex.layer(options))).pipe(
          Effect.provide(TestContext.TestContext)
        )
      )
    return { near, far, run, options }
  }
  const ask = (model: string) => Chat.text("Hi", { model })
  const times = (count: number, model: string) => Effect.all(Array.from({ length: count }, () => ask(model)))
  const used = Effect.map(Fleet.Fleet, (self) => self.remoteTokens())

  it("excludes remote servers once it is reached, until midnight UTC", async () => {
    const { far, run } = await both(60)
    const seen = await run(
      Effect.gen(function* () {
        const first = yield* times(4, "a:1b")
        const reached = yield* used
        yield* TestClock.setTime(midnight - 1)
        const before = yield* ask("a:1b")
        yield* TestClock.setTime(midnight)
        return { first, reached, before, after: yield* ask("a:1b"), now: yield* used }
      })
    )
    expect(seen).toEqual({
      first: ["far", "far", "near", "near"],
      reached: { used: 60, limit: 60, resetsAt: midnight },
      before: "near",
      after: "far",
      now: { used: 30, limit: 60, resetsAt: midnight + day }
    })
    expect(far.chatRequests).toHaveLength(3)
  })

  it("control: counts without a limit, too, and excludes nothing", async () => {
    const { run } = await both(undefined)
    const [texts, tokens] = await run(Effect.zip(times(4, "a:1b"), used))
    expect([texts, tokens]).toEqual([Array(4).fill("far"), { used: 120, limit: undefined, resetsAt: midnight }])
  })

  it.each(["a:1b", "auto", `${protocol}:a:1b`])(
    "fails where only remote servers have %s, and says when it ends",
    async (model) => {
      const { far, run } = await both(30, [])
      const errors = await run(
        Effect.gen(function* () {
          yield* ask(model)
          const whole = yield* Effect.flip(ask(model))
          const stream = yield* Effect.flip(Stream.runDrain(Chat.stream("Hi", { model })))
          return [whole, stream]
        })
      )
      for (const error of errors) {
        expect(error).toMatchObject({ _tag: "RemoteTokensExhausted", limit: 30, used: 30, resetsAt: midnight })
        expect((error as Error).message).toContain(new Date(midnight).toISOString())
      }
      expect(far.chatRequests).toHaveLength(1)
    }
  )

  it("makes auto choose a local server's model, with the reason", async () => {
    const { run } = await both(30, ["small:1b"])
    const [first, second] = await run(
      Effect.flatMap(Chat.Chat, (chat) =>
        Effect.zip(chat.complete("Hi", { model: "auto" }), chat.complete("Hi", { model: "auto" }))
      )
    )
    expect([first.model, second.model]).toEqual(["a:1b", "small:1b"])
    expect(second.decision.reason).toContain("the ceiling of 30 tokens per day on remote servers is reached")
  })

  it("makes a chain continue with its next model", async () => {
    const { options } = await both(30, ["small:1b"])
    const cortex = fleet.keep(createCortex({ ...options, aliases: { chain: ["a:1b", "small:1b"] } }))
    expect([await cortex.chat("Hi", { model: "chain" }), await cortex.chat("Hi", { model: "chain" })]).toEqual([
      "far",
      "near"
    ])
  })

  it("lists the excluded servers if the others failed", async () => {
    const { near, options } = await both(30)
    const cortex = fleet.keep(createCortex(options))
    await cortex.chat("Hi", { model: "a:1b" })
    await near.setBehaviour({ faults: { kind: "status", code: 500 } })
    const error = await failure(cortex.chat("Hi", { model: "a:1b" }))
    expect(error).toMatchObject({ _tag: "AllServersFailed" })
    expect(error.attempts.map(({ reason }: { reason: string }) => reason)).toEqual(
      expect.arrayContaining(["remote-limit", "server-error"])
    )
  })

  it("applies to a call that waited for its slot when it was reached", async () => {
    const far = await server("far")
    await far.setBehaviour({ firstToken: 50 })
    const cortex = fleet.cortex([{ url: far.url, local: false, maxInFlight: 1 }], {
      model: "a:1b",
      remoteTokensPerDay: 30,
      defaults: limits
    })
    const [first, ...others] = await Promise.allSettled(["one", "two", "three"].map((text) => cortex.chat(text)))
    expect(first).toMatchObject({ status: "fulfilled" })
    for (const other of others)
      expect(other).toMatchObject({ status: "rejected", reason: { _tag: "RemoteTokensExhausted" } })
    expect(far.chatRequests).toHaveLength(1)
  })

  it("counts the known part of an interrupted or aborted answer, and none that had not begun", async () => {
    const { far, near, run } = await both(undefined)
    await near.setBehaviour({ reply: "one two three four five" })
    await far.setBehaviour({
      reply: "one two three four five",
      faults: [
        { kind: "status", code: 500 },
        { kind: "cut", after: 3 }
      ]
    })
    const counts = await run(
      Effect.gen(function* () {
        const counts: Array<number> = []
        for (let i = 0; i < 2; i++) {
          yield* ask("a:1b")
          counts.push((yield* used).used)
          yield* Effect.flatMap(Fleet.Fleet, (self) => self.clear)
        }
        return counts
      })
    )
    // "Hi" is one token, by estimate.
    expect(counts).toEqual([0, 4])
  })

  it("counts embeddings, and leaves them to local servers once it is reached", async () => {
    const { far, run } = await both(1)
    const [first, second, tokens] = await run(
      Effect.all([
        Embeddings.embed("a text", { model: "embed:1b" }),
        Embeddings.embed("a text", { model: "embed:1b" }),
        used
      ])
    )
    expect([first.server, second.server === far.url, tokens.used > 0]).toEqual([far.url, false, true])
  })

  it("does not affect private calls", async () => {
    const { options } = await both(30)
    const cortex = fleet.keep(createCortex(options))
    await cortex.chat("Hi", { model: "a:1b" })
    expect(await cortex.chat("Hi", { model: "a:1b", private: true })).toBe("near")
  })

  it("is stored for the next run", async () => {
    const folder = mkdtempSync(join(tmpdir(), "aicortex-remote-"))
    try {
      const { options } = await both(60)
      const stateFile = join(folder, "fleet.json")
      const texts: Array<string> = []
      for (let i = 0; i < 4; i++) {
        const cortex = createCortex({ ...options, stateFile })
        texts.push(await cortex.chat("Hi", { model: "a:1b" }))
        await cortex.close()
      }
      expect(texts).toEqual(["far", "far", "near", "near"])
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

  it("is shown by the conditions", async () => {
    const { options } = await both(60)
    const layer = Cortex.layer({ ...options, conditions: { latency: 10_000 } })
    const snapshot = await Effect.runPromise(Effect.provide(Effect.zipRight(ask("a:1b"), Conditions.snapshot), layer))
    expect(snapshot.remoteTokens).toMatchObject({ used: 30, limit: 60 })
  })

  it("is status 429 in the gateway, with the reset time, appears in its metrics, and survives a reload", async () => {
    const far = await server("far")
    const gateway = await startGateway(
      [{ url: far.url, local: false } as never],
      {},
      { cortex: { remoteTokensPerDay: 30, defaults: limits } }
    )
    try {
      const chat = (stream: boolean) =>
        gateway.post("/v1/chat/completions", { model: "a:1b", stream, messages: [{ role: "user", content: "Hi" }] })
      expect((await chat(false)).status).toBe(200)
      await gateway.reload()
      for (const stream of [false, true]) {
        const refused = await chat(stream)
        expect(refused.status).toBe(429)
        expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0)
        expect(await refused.json()).toMatchObject({
          error: {
            code: "remote_tokens_exhausted",
            message: expect.stringMatching(/begins again at \d{4}-\d\d-\d\dT00:00:00/)
          }
        })
      }
      const figures = await (await gateway.get("/metrics")).text()
      expect(figures).toMatch(/^aicortex_remote_tokens_today 30$/m)
      expect(figures).toMatch(/^aicortex_remote_tokens_limit 30$/m)
      expect(figures).toMatch(/^aicortex_remote_tokens_total \d+$/m)
    } finally {
      await gateway.close()
    }
  })
})

describe("the setting", () => {
  it.each([0, -1, 1.5, "many"])("refuses %s", async (remoteTokensPerDay) => {
    const made = Layer.build(
      Cortex.layer({ configFile: false, servers: [], remoteTokensPerDay: remoteTokensPerDay as never })
    )
    const error = await Effect.runPromise(Effect.flip(Effect.scoped(made)))
    expect(error).toMatchObject({ _tag: "InvalidConfig", field: "remoteTokensPerDay" })
  })
})
