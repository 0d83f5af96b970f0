/** What remote servers cost, and what they may cost in a day and a month. */
import { Effect, Stream, TestClock, TestContext } from "effect"
import { describe, expect, it } from "vitest"
import { RemoteTokenCounter } from "../../src/Fleet.js"
import { Prices } from "../../src/fleet/prices.js"
import { mergeRemoteTokens } from "../../src/fleet/remoteTokens.js"
import { Chat, Cortex, Embeddings, Fleet } from "../../src/index.js"
import { type Fake, failure, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const noon = Date.UTC(2026, 0, 30, 12)
const midnight = Date.UTC(2026, 0, 31)
const nextMonth = Date.UTC(2026, 1, 1)

describe("prices", () => {
  const prices = new Prices({
    models: {
      "gpt-4o*": { prompt: 2, cached: 1, completion: 10 },
      "gpt-4o-mini": { prompt: 1, completion: 4 },
      "gpt-4o-mini*": { prompt: 100, completion: 100 },
      "free:*": { prompt: 0, completion: 0 }
    }
  })
  const million = { prompt: 1e6, cached: 0, completion: 0 }

  it.each([
    ["gpt-4o", million, 2],
    ["GPT-4o:latest", { prompt: 2e6, cached: 1e6, completion: 1e5 }, 4],
    ["gpt-4o-mini", { prompt: 1e6, cached: 5e5, completion: 1e6 }, 5],
    ["gpt-4o-mini-2024", million, 100],
    ["free:1b", million, 0],
    ["other", million, undefined],
    ["", million, undefined]
  ] as const)("%s has the price of its own name, else of the longest match", (model, tokens, cost) => {
    expect([prices.currency, prices.cost(model, tokens), prices.has(model)]).toEqual(["USD", cost, cost !== undefined])
  })
})

describe("the counter", () => {
  it("counts by day and month (UTC), and resets with each", () => {
    const counter = new RemoteTokenCounter()
    counter.addCost(2, noon)
    counter.addCost(1, midnight)
    for (const no of [Number.NaN, -1, Number.POSITIVE_INFINITY]) counter.addCost(no, midnight)
    expect(counter.spent(midnight)).toEqual({
      day: { spent: 1, resetsAt: nextMonth },
      month: { spent: 3, resetsAt: nextMonth }
    })
    expect(counter.spent(nextMonth)).toMatchObject({ day: { spent: 0 }, month: { spent: 0 } })
  })

  it("is merged with those of other processes in any order, more than once, and on another day of the month", () => {
    const [a, b] = [new RemoteTokenCounter(), new RemoteTokenCounter()]
    a.addCost(2, noon)
    a.add(5, noon)
    b.addCost(1, noon)
    for (let i = 0; i < 3; i++) {
      const all = mergeRemoteTokens(a.saved(noon), b.saved(noon))
      for (const one of [a, b]) one.merge(all, noon)
    }
    for (const one of [a, b]) expect(one.spent(noon)).toMatchObject({ day: { spent: 3 }, month: { spent: 3 } })
    const later = new RemoteTokenCounter()
    later.add(7, midnight)
    const kept = mergeRemoteTokens(a.saved(noon), later.saved(midnight))
    later.merge(kept, midnight)
    expect(later.spent(midnight)).toMatchObject({ day: { spent: 0 }, month: { spent: 3 } })
    expect(later.used(midnight)).toBe(7)
  })
})

describe.each(["ollama", "openai"] as const)("the budget of remote servers (%s)", (protocol) => {
  // 20 tokens of a prompt and 10 of an answer: 0.0001 each.
  const prices = {
    currency: "EUR",
    models: { "a:*": { prompt: 2, completion: 6 }, "embed:1b": { prompt: 5, completion: 0 } }
  }
  const models = ["a:1b", "b:1b", { name: "embed:1b", capabilities: ["embedding"] }]
  const server = (text: string, has: ReadonlyArray<string | object>): Promise<Fake> =>
    fleet[protocol]({
      models: has as never,
      reply: { tokens: text, usage: { promptTokens: 20, completionTokens: 10 } }
    })
  const start = async (budget: object, nearModels: ReadonlyArray<string | object> = models) => {
    const [near, far] = [await server("near", nearModels), await server("far", models)]
    const servers = [{ url: near.url }, { url: far.url, local: false, priority: -1 }]
    const options = { configFile: false, servers, prices, defaults: { retryBackoff: 1 }, ...budget } as const
    const run = <A, E>(effect: Effect.Effect<A, E, Cortex.Services>): Promise<A> =>
      Effect.runPromise(
        Effect.zipRight(TestClock.setTime(noon), Effect.provide(effect, Cortex.layer(options))).pipe(
          Effect.provide(TestContext.TestContext)
        )
      )
    return { far, options, run }
  }
  const ask = (model: string) => Chat.text("Hi", { model })
  const costs = Effect.map(Fleet.Fleet, (self) => self.remoteCosts())

  it("per day applies until midnight UTC, per month until its end", async () => {
    const { run } = await start({ remoteCostPerDay: 0.00015, remoteCostPerMonth: 0.00035 })
    const seen = await run(
      Effect.gen(function* () {
        const texts = [yield* ask("a:1b"), yield* ask("a:1b"), yield* ask("a:1b")]
        const first = yield* costs
        yield* TestClock.setTime(midnight)
        texts.push(yield* ask("a:1b"), yield* ask("a:1b"), yield* ask("a:1b"))
        const second = yield* costs
        yield* TestClock.setTime(nextMonth)
        return { texts: [...texts, yield* ask("a:1b")], first, second }
      })
    )
    expect(seen.texts).toEqual(["far", "far", "near", "far", "far", "near", "far"])
    expect(seen.first?.day.spent).toBeCloseTo(0.0002, 9)
    expect(seen.second?.month.spent).toBeCloseTo(0.0004, 9)
    expect(seen.second).toMatchObject({ currency: "EUR", month: { limit: 0.00035, resetsAt: nextMonth } })
  })

  it.each(["a:1b", "auto", `${protocol}:a:1b`])(
    "fails where only remote servers have %s, and says when it ends",
    async (model) => {
      const { far, run } = await start({ remoteCostPerMonth: 0.0001 }, [])
      const errors = await run(
        Effect.gen(function* () {
          yield* ask("a:1b")
          return [yield* Effect.flip(ask(model)), yield* Effect.flip(Stream.runDrain(Chat.stream("Hi", { model })))]
        })
      )
      for (const error of errors) {
        expect(error).toMatchObject({ _tag: "RemoteBudgetExhausted", period: "month", limit: 0.0001, currency: "EUR" })
        expect((error as Error).message).toContain(new Date(nextMonth).toISOString())
      }
      expect(far.chatRequests).toHaveLength(1)
    }
  )

  it("excludes remote servers for a model without a price, for embeddings too", async () => {
    const { far, run } = await start({ remoteCostPerDay: 1 }, ["a:1b"])
    const error = await run(Effect.flip(ask("b:1b")))
    expect(error).toMatchObject({ _tag: "ModelPriceUnknown", model: "b:1b" })
    expect(far.chatRequests).toHaveLength(0)
    // A local server has no price and needs none; the other model has one.
    const local = await start({ remoteCostPerDay: 1 })
    expect(await local.run(Effect.all([ask("b:1b"), ask("a:1b")]))).toEqual(["near", "far"])
    const vectors = await start({ remoteCostPerDay: 1 }, [])
    const spent = await vectors.run(Effect.zipRight(Embeddings.embed(["one two"], { model: "embed:1b" }), costs))
    expect(spent?.day.spent).toBeGreaterThan(0)
  })

  it("control: counts without a budget, too, and uses any model", async () => {
    const { run } = await start({})
    const [texts, spent] = await run(Effect.zip(Effect.all([ask("a:1b"), ask("b:1b")]), costs))
    expect(texts).toEqual(["far", "far"])
    expect(spent?.day).toMatchObject({ limit: undefined })
    expect(spent?.day.spent).toBeCloseTo(0.0001, 9)
  })

  it("is reported by the gateway in its APIs' errors, its metrics and on the page", async () => {
    const { far, options } = await start({ remoteCostPerDay: 0.0001 }, [])
    const { configFile: _, servers: __, ...rest } = options
    const gateway = await startGateway([{ url: far.url, local: false } as never], {}, { cortex: rest })
    try {
      const body = { model: "a:1b", messages: [{ role: "user", content: "Hi" }] }
      const unknown = await gateway.post("/v1/chat/completions", { ...body, model: "b:1b" })
      expect([unknown.status, ((await unknown.json()) as { error: object }).error]).toEqual([
        403,
        expect.objectContaining({ code: "model_price_unknown" })
      ])
      expect((await gateway.post("/v1/chat/completions", body)).status).toBe(200)
      const denied = await gateway.post("/v1/chat/completions", body)
      expect([denied.status, ((await denied.json()) as { error: object }).error]).toEqual([
        429,
        expect.objectContaining({ code: "remote_budget_exhausted" })
      ])
      expect(Number(denied.headers.get("retry-after"))).toBeGreaterThan(0)
      expect(await (await gateway.get("/metrics")).text()).toMatch(
        /aicortex_remote_cost\{period="day",currency="EUR"\} 0\.000\d+\n/
      )
      const { remote_costs } = (await (await gateway.get("/fleet")).json()) as { remote_costs: object }
      expect(remote_costs).toMatchObject({ currency: "EUR", day: { limit: 0.0001 }, month: { limit: null } })
    } finally {
      await gateway.close()
    }
  })
})

describe("settings of costs", () => {
  it.each([
    [{ remoteCostPerDay: 1 }, "remoteCostPerDay", "prices"],
    [{ remoteCostPerMonth: 0, prices: { models: {} } }, "remoteCostPerMonth", "above 0"],
    [{ prices: { models: { a: { prompt: -1, completion: 1 } } } }, "prices.models.a.prompt", "from 0"],
    [{ prices: { models: { a: { prompt: 1 } } } }, "prices.models.a.completion", "missing"],
    [{ prices: { currency: "two words", models: {} } }, "prices.currency", "one word"],
    [{ prices: { modells: {} } }, "prices.", ""]
  ])("%j is refused", async (options, field, reason) => {
    const error = await failure(fleet.cortex([], options as never).chat("Hi"))
    expect(error).toMatchObject({ _tag: "InvalidConfig" })
    expect((error as Error).message).toContain(field)
    expect((error as Error).message).toContain(reason)
  })
})
