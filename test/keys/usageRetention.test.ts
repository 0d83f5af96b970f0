/** Old usage is removed, in the background and by `aicortex usage prune`; what is counted as usage. */
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as Retention from "../../src/gateway/usage/retention.js"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const hour = 3_600_000
const day = 24 * hour

/** Usage of one request in each of these hours, and its tokens in the days of quotas. */
const fill = (store: Store.Service, hours: ReadonlyArray<number>) =>
  Effect.forEach(hours, (at) =>
    store.use((sql) =>
      Effect.zipRight(
        sql`INSERT INTO aicortex_usage ${sql.insert({
          hour: at,
          key_name: "k",
          end_user: "",
          model: "m",
          server: "s",
          requests: 1,
          errors: 0,
          prompt_tokens: 1,
          cached_tokens: 0,
          completion_tokens: 1,
          reasoning_tokens: 0,
          first_tokens: 0,
          first_token_ms: 0
        })}`,
        sql`INSERT INTO aicortex_key_tokens (key_name, day, tokens) VALUES ('k', ${Math.floor(at / day)}, 2)
          ON CONFLICT (key_name, day) DO NOTHING`
      )
    )
  )

const hoursIn = (store: Store.Service) =>
  Effect.map(
    store.use((sql) => sql<{ hour: number }>`SELECT hour FROM aicortex_usage ORDER BY hour`),
    (rows) => rows.map((row) => row.hour)
  )
const daysIn = (store: Store.Service) =>
  store.use((sql) => sql<{ day: number }>`SELECT day FROM aicortex_key_tokens ORDER BY day`)

for (const engine of engines) {
  describe(`old usage in ${engine.name}`, { timeout: 180_000 }, () => {
    let database: Database
    let address: string
    beforeAll(async () => {
      database = await engine.start()
      address = await database.address()
    }, 180_000)
    afterAll(() => database.close())
    const using = <A, E>(use: (store: Store.Service) => Effect.Effect<A, E>): Promise<A> =>
      Effect.runPromise(Effect.scoped(Effect.flatMap(Store.make(address), use)))

    it("is removed in whole hours, except for what quotas need", async () => {
      const now = Math.floor(Date.now() / hour) * hour
      const [old, edge, young] = [now - 40 * day, now - 10 * day, now - hour] as const
      await using((store) =>
        Effect.gen(function* () {
          yield* fill(store, [old, edge - hour, edge, young])
          // In the middle of an hour: that hour stays.
          const time = edge + hour / 2
          expect(yield* Retention.olderThan(store, time)).toEqual({ rows: 2, requests: 2 })
          expect(yield* hoursIn(store)).toHaveLength(4)
          expect(yield* Retention.prune(store, time, now)).toEqual({ rows: 2, requests: 2 })
          expect(yield* hoursIn(store)).toEqual([edge, young])
          // Tokens of a month stay, whatever is pruned.
          expect((yield* daysIn(store)).map((row) => row.day)).toEqual([
            ...new Set([edge - hour, edge, young].map((at) => Math.floor(at / day)))
          ])
          expect(yield* Retention.prune(store, time, now)).toEqual({ rows: 0, requests: 0 })
        })
      )
    })

    it("is removed in the background if retention is limited", async () => {
      const told: Array<string> = []
      let kept: number | undefined
      await using((store) =>
        Effect.gen(function* () {
          const before = (yield* hoursIn(store)).length
          yield* Retention.run(
            store,
            () => kept,
            (text) => told.push(text)
          )
          yield* TestClock.adjust("1 minute")
          expect((yield* hoursIn(store)).length).toBe(before)
          kept = 5 * day
          yield* TestClock.adjust("1 hour")
          yield* Effect.repeat(
            Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10))),
            { until: () => told.length > 0 }
          )
          expect((yield* hoursIn(store)).length).toBe(before - 1)
          expect(told).toEqual(["usage of 1 requests was older than it is kept for, and is removed"])
        }).pipe(Effect.scoped, Effect.provide(TestContext.TestContext))
      )
    })
  })
}

it("compacting a conversation counts as usage", { timeout: 180_000 }, async () => {
  const [sqlite] = engines
  const database = await sqlite?.start()
  try {
    const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "One two three." }))
    const gateway = await startGateway([ollama.url], {}, { cortex: { store: (await database?.address()) ?? "" } })
    const answer = await gateway.post("/v1/responses/compact", { model: "a:1b", input: "Hi" })
    expect(answer.status).toBe(200)
    const { usage } = (await (await gateway.get("/usage?by=model")).json()) as {
      usage: ReadonlyArray<{ completion_tokens: number }>
    }
    await gateway.close()
    expect(usage).toEqual([expect.objectContaining({ model: "a:1b", requests: 1, errors: 0 })])
    expect(usage[0]?.completion_tokens).toBeGreaterThan(0)
  } finally {
    await database?.close()
  }
})
