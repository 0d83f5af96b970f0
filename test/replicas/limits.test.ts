/** Limits per minute and of requests at once, over gateways that share one store. */
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { exchange, type SharedLimits, type SliceExchange } from "../../src/gateway/replicas/sharedLimits.js"
import * as Store from "../../src/Store.js"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "a:1b"
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
const messages = [{ role: "user" as const, content: "Hi" }]
const freeKey = { name: "free", key: "free-secret" } as const

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

const ask = async (gateway: TestGateway, key: string, more: object = {}) => {
  const response = await gateway.post("/v1/chat/completions", { model, messages, max_tokens: 8, ...more }, as(key))
  const { error, usage } = (await response.json()) as Json
  return { status: response.status, tokens: (usage?.total_tokens ?? 0) as number, code: error?.code as string }
}

/** So many at a time, spread over the gateways. */
const spread = async (gateways: ReadonlyArray<TestGateway>, count: number, key: string, atOnce = 24) => {
  const answers: Array<Awaited<ReturnType<typeof ask>>> = []
  let begun = 0
  const worker = async () => {
    for (let i = begun++; i < count; i = begun++) {
      const gateway = gateways[i % gateways.length] as TestGateway
      answers.push(await ask(gateway, key))
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return answers
}
const admitted = (answers: ReadonlyArray<{ readonly status: number }>) =>
  answers.filter(({ status }) => status === 200).length

for (const engine of engines) {
  describe(`limits over gateways in ${engine.name}`, { timeout: 60_000 }, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    }, 60_000)
    afterAll(() => database.close())

    const start = async (count: number, limits: object, firstToken = 0) => {
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: [model], reply: "One two three.", firstToken }))
      const keys = [{ name: "limited", key: "limited-secret", ...limits }, freeKey]
      const another = async () => keep(await startGateway([ollama.url], { keys }, { cortex: { store } }))
      const gateways: Array<TestGateway> = []
      for (let i = 0; i < count; i++) gateways.push(await another())
      return { store, ollama, gateways, another }
    }
    /** The row of the key. */
    const rowOf = (store: string) =>
      Effect.runPromise(
        Effect.scoped(
          Effect.flatMap(Store.make(store), ({ use }) =>
            use((sql) => sql<{ version: number; state: string }>`SELECT version, state FROM aicortex_limits`)
          )
        )
      ).then(([row]) => ({ version: row?.version ?? 0, state: JSON.parse(row?.state ?? "{}") as SharedLimits }))

    it.each([30, 120])("%d requests per minute are enforced over three gateways", async (limit) => {
      const { gateways } = await start(3, { requestsPerMinute: limit })
      const began = performance.now()
      const answers = await spread(gateways, limit + 40, "limited-secret")
      const refilled = ((performance.now() - began) / 60_000) * limit
      const count = admitted(answers)
      // Within one percent and a request of each replica, besides what was refilled meanwhile.
      expect(count).toBeGreaterThanOrEqual(Math.floor(limit * 0.99) - 3)
      expect(count).toBeLessThanOrEqual(limit + refilled + 1)
      expect(answers.filter(({ status }) => status !== 200).every(({ code }) => code === "rate_limit_exceeded")).toBe(
        true
      )
    })

    it("few requests access the store, and unused slices are returned when a gateway stops", async () => {
      const limit = 60_000
      const { gateways, store } = await start(2, { requestsPerMinute: limit })
      expect(admitted(await spread(gateways, 150, "limited-secret"))).toBe(150)
      const { version } = await rowOf(store)
      expect(version).toBeLessThanOrEqual(30)
      await Promise.all(gateways.map(({ close }) => close()))
      const { state } = await rowOf(store)
      expect(state.replicas).toEqual({})
      expect(state.requests?.left).toBeGreaterThanOrEqual(limit - 151)
    })

    it("an idle gateway returns its slice", async () => {
      const { gateways, store } = await start(2, {
        requestsPerMinute: 6_000,
        tokensPerMinute: 60_000,
        concurrency: 200
      })
      expect(admitted(await spread(gateways, 6, "limited-secret"))).toBe(6)
      await eventually(
        async () => Object.keys((await rowOf(store)).state.replicas ?? {}).length === 0,
        "both give back"
      )
      expect((await rowOf(store)).state.requests?.left).toBeGreaterThan(5_993)
    })

    it("tokens per minute are enforced over gateways", async () => {
      const each = (await ask((await start(1, {})).gateways[0] as TestGateway, freeKey.key)).tokens
      const limit = each * 40
      const { gateways } = await start(2, { tokensPerMinute: limit })
      const began = performance.now()
      let used = 0
      for (let i = 0; i < 120; i++) used += (await ask(gateways[i % 2] as TestGateway, "limited-secret")).tokens
      const refilled = ((performance.now() - began) / 60_000) * limit
      // A request is refused where it might need more than is left: what it needs at most is known.
      expect(used).toBeGreaterThanOrEqual(limit * 0.99 - 2 * each)
      expect(used).toBeLessThanOrEqual(limit + refilled + 2 * each)
    })

    it("concurrent requests are limited over gateways, and their slots are free again", async () => {
      const { gateways, ollama } = await start(3, { concurrency: 4 }, 300)
      const round = () =>
        Promise.all(Array.from({ length: 12 }, (_, i) => ask(gateways[i % 3] as TestGateway, "limited-secret")))
      const first = await round()
      expect(admitted(first)).toBeGreaterThanOrEqual(4)
      expect(ollama.maxInFlight).toBeLessThanOrEqual(4)
      for (const { code, status } of first) if (status !== 200) expect(code).toBe("concurrency_limit_exceeded")
      // One after the other, at any gateway: none finds the place of the one before still taken.
      for (let i = 0; i < 6; i++) expect((await ask(gateways[i % 3] as TestGateway, "limited-secret")).status).toBe(200)
    })

    it("during a store outage slices still work, which is logged once", async ({ skip }) => {
      if (database.outage === undefined) return skip()
      const { gateways } = await start(1, { requestsPerMinute: 6_000 })
      const [gateway] = gateways as [TestGateway]
      expect((await ask(gateway, "limited-secret")).status).toBe(200)
      await database.outage.stop()
      try {
        const answers: Array<Awaited<ReturnType<typeof ask>>> = []
        for (let i = 0; i < 90; i++) answers.push(await ask(gateway, "limited-secret"))
        // The slice that was held, and no more.
        expect(admitted(answers)).toBeGreaterThanOrEqual(20)
        expect(admitted(answers)).toBeLessThanOrEqual(61)
        expect(answers.at(-1)).toMatchObject({ status: 503, code: "limits_unavailable" })
        expect((await ask(gateway, freeKey.key)).status).toBe(200)
        await eventually(async () => {
          const ready = (await (await gateway.get("/ready")).json()) as Json
          return ready.store === "unavailable" && ready.status === "ready"
        }, "it says that the store is away")
        expect(
          gateway.log.filter((line) => line.includes("limits are served from what this gateway holds"))
        ).toHaveLength(1)
        const metrics = await (await gateway.get("/metrics", as(freeKey.key))).text()
        expect(metrics).toContain("aicortex_store_up 0")
      } finally {
        await database.outage.start()
      }
      await eventually(async () => (await ask(gateway, "limited-secret")).status === 200, "it is served again")
      expect(gateway.log.filter((line) => line.includes("limits are shared with the other gateways"))).toHaveLength(1)
      await eventually(async () => {
        const ready = (await (await gateway.get("/ready")).json()) as Json
        return ready.store === "ok"
      }, "it says that the store is back")
    })
  })
}

describe("a slice exchange", () => {
  const wanted = (replica: string, more: Partial<SliceExchange> = {}): SliceExchange => ({
    replica,
    limits: { requests: 600, tokens: Number.POSITIVE_INFINITY, slots: 5 },
    give: { requests: 0, tokens: 0 },
    keep: 0,
    need: { requests: 1, tokens: 0, slots: 1 },
    least: { requests: 1, tokens: 0, slots: 0 },
    leaves: false,
    number: 1,
    repeats: false,
    ...more
  })

  it("grants a slice of one percent at most, for all that use the key", () => {
    const [one, first] = exchange({}, wanted("a"), 0)
    expect(first).toMatchObject({ requests: 7, held: 1, replicas: 1 })
    const [, second] = exchange(one, wanted("b"), 0)
    expect(second).toMatchObject({ requests: 4, held: 1, replicas: 2 })
  })

  it("the slots of a killed replica are free after a minute, and not before", () => {
    const [held] = exchange({}, wanted("a", { need: { requests: 1, tokens: 0, slots: 5 } }), 0)
    expect(exchange(held, wanted("b"), 59_000)[1].held).toBe(0)
    expect(exchange(held, wanted("b"), 60_000)[1].held).toBe(1)
  })

  it("returns the time until the limit allows more, and refills with time", () => {
    const [empty, all] = exchange({}, wanted("a", { need: { requests: 600, tokens: 0, slots: 0 } }), 0)
    expect(all.requests).toBe(600)
    expect(exchange(empty, wanted("b"), 0)[1]).toMatchObject({ requests: 0, wait: { requests: 100 } })
    expect(exchange(empty, wanted("b"), 100)[1]).toMatchObject({ requests: 1, wait: { requests: 0 } })
    // A clock that is behind takes nothing away.
    expect(exchange(empty, wanted("b"), -60_000)[1].requests).toBe(0)
  })

  it("subtracts overuse from the rest", () => {
    const [owed] = exchange(
      {},
      wanted("a", { give: { requests: -700, tokens: 0 }, need: { requests: 0, tokens: 0, slots: 0 } }),
      0
    )
    expect(owed.requests?.left).toBe(-100)
  })
})
