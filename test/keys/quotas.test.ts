/** Quotas of API keys, over gateways that share one store. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = { name: "root", key: "root-secret", admin: true } as const
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
const messages = [{ role: "user" as const, content: "Hi" }]

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

afterEach(() => {
  vi.useRealTimers()
})

for (const engine of engines) {
  describe(`quotas in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const two = async (firstToken = 0) => {
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "One two three.", firstToken }))
      const start = async () => keep(await startGateway([ollama.url], { keys: [root] }, { cortex: { store } }))
      return { ollama, gateways: [await start(), await start()] as const }
    }
    const create = async (gateway: TestGateway, body: object): Promise<string> => {
      const created = (await (await gateway.post("/keys", body, as(root.key))).json()) as Json
      expect(created.error).toBeUndefined()
      return created.key
    }
    const ask = async (gateway: TestGateway, key: string) => {
      const response = await gateway.post("/v1/chat/completions", { model: "a:1b", messages, max_tokens: 8 }, as(key))
      const { error, usage } = (await response.json()) as Json
      const retryAfter = Number(response.headers.get("retry-after"))
      return { status: response.status, tokens: usage?.total_tokens ?? 0, code: error?.code, retryAfter }
    }

    it.each(["day", "week", "month"])(
      "a quota per %s is enforced over gateways, until the next one",
      async (period) => {
        const { gateways } = await two()
        const [first, second] = gateways
        const each = (await ask(first, root.key)).tokens
        expect(each).toBeGreaterThan(0)
        const limit = each * 5
        const key = await create(first, { name: "some", [`tokens_per_${period}`]: limit })
        const other = await create(first, { name: "other", [`tokens_per_${period}`]: limit })
        let used = 0
        let denied: Awaited<ReturnType<typeof ask>> | undefined
        for (let i = 0; i < 400 && denied === undefined; i++) {
          const answer = await ask(i % 2 === 0 ? first : second, key)
          used += answer.tokens
          // What is left may be reserved at the other one, until its request is counted.
          if (answer.status !== 200 && answer.code !== "quota_reserved") denied = answer
        }
        expect(denied).toMatchObject({ status: 429, code: "quota_exceeded" })
        expect(used).toBeGreaterThanOrEqual(limit)
        expect(used).toBeLessThanOrEqual(limit + 2 * each)
        // Another gateway that starts afterwards knows it, and another key has its own.
        expect((await ask(first, other)).status).toBe(200)
        const wait = denied?.retryAfter ?? 0
        expect(wait).toBeGreaterThan(0)
        expect(wait).toBeLessThanOrEqual({ day: 1, week: 7, month: 31 }[period as "day"] * 86_400)
        vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + (wait + 1) * 1_000 })
        // What was used a moment ago counts until it is stored.
        await eventually(async () => (await ask(first, key)).status === 200, "the next one has begun")
      }
    )

    it("while the store is unavailable, only claimed tokens are used", async ({ skip }) => {
      if (database.outage === undefined) return skip()
      const { gateways } = await two()
      const [first, second] = gateways
      const each = (await ask(first, root.key)).tokens
      const key = await create(first, { name: "some", tokens_per_day: each * 60 })
      const one = await ask(first, key)
      const other = await ask(second, key)
      expect([one.status, other.status]).toEqual([200, 200])
      let used = one.tokens + other.tokens
      await database.outage.stop()
      try {
        for (const gateway of gateways) {
          let last = await ask(gateway, key)
          for (let i = 0; i < 70 && last.status === 200; i++) {
            used += last.tokens
            last = await ask(gateway, key)
          }
          expect(last).toMatchObject({ status: 503, code: "limits_unavailable" })
        }
        expect(used).toBeLessThanOrEqual(each * 60)
      } finally {
        await database.outage.start()
      }
      await eventually(async () => (await ask(first, key)).status === 200, "it is served again")
    })

    it("concurrent requests exceed it by one at most", async () => {
      const { gateways, ollama } = await two(50)
      const [first] = gateways
      const each = (await ask(first, root.key)).tokens
      const limit = each * 5
      const key = await create(first, { name: "some", tokens_per_day: limit })
      let used = 0
      for (let round = 0; round < 4; round++) {
        const answers = await Promise.all(Array.from({ length: 12 }, () => ask(first, key)))
        for (const { code, status, tokens } of answers) {
          used += tokens
          expect([200, 429]).toContain(status)
          if (status === 429) expect(code).toMatch(/^quota_(reserved|exceeded)$/)
        }
      }
      expect(used).toBeGreaterThanOrEqual(limit)
      expect(used).toBeLessThanOrEqual(limit + each)
      expect(ollama.chatRequests.length).toBeLessThanOrEqual(7)
    })
  })
}
