/** What belongs to an API key belongs to its id: a new key with the name of a revoked one begins with nothing. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = { name: "root", key: "root-secret", admin: true } as const
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
const messages = [{ role: "user" as const, content: "Hi" }]

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

for (const engine of engines) {
  describe(`keys of one name in ${engine.name}`, { timeout: 180_000 }, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    }, 60_000)
    afterAll(() => database.close())

    it("share no usage, cost, quota, limit, response or conversation", async () => {
      const ollama = keep(await startFakeOllama({ models: ["a:1b", "b:1b"], reply: "One two three." }))
      const cortex = {
        store: await database.address(),
        prices: { currency: "EUR", models: { "a:*": { prompt: 1000, completion: 2000 } } }
      }
      const gateway = keep(await startGateway([ollama.url], { keys: [root] }, { cortex }))
      const json = async (path: string, key: string, body?: object): Promise<Json> => {
        const response = await (body === undefined ? gateway.get(path, as(key)) : gateway.post(path, body, as(key)))
        return { ...((await response.json()) as object), status: response.status }
      }
      const create = (): Promise<Json> =>
        json("/keys", root.key, { name: "alice", tokens_per_day: 1_000, requests_per_minute: 8 })
      const ask = (key: string, model = "a:1b") => json("/v1/chat/completions", key, { model, messages })

      const first = await create()
      const response = await json("/v1/responses", first.key, { model: "a:1b", input: "Hi" })
      expect(response.status).toBe(200)
      const session = await json("/v1/sessions", first.key, {})
      for (let i = 0; i < 6; i++) expect((await ask(first.key)).status).toBe(200)
      // Its requests of this minute are used up.
      expect((await ask(first.key)).status).toBe(429)
      const before = await json("/usage?by=key", root.key)
      expect(before.usage).toEqual([expect.objectContaining({ key: "alice", key_id: first.id, requests: 8 })])
      await fetch(`${gateway.url}/keys/${first.id}`, { method: "DELETE", ...as(root.key) })

      const second = await create()
      expect(second.id).not.toBe(first.id)
      expect((await json("/usage?by=key", second.key)).usage).toEqual([])
      expect((await json(`/v1/responses/${response.id}`, second.key)).status).toBe(404)
      expect((await json(`/v1/sessions/${session.id}`, second.key)).status).toBe(404)
      const [one, two] = [await ask(second.key), await ask(second.key, "b:1b")]
      expect([one.status, two.status]).toEqual([200, 200])
      const all = await json("/usage?by=key", root.key)
      expect(all.currency).toBe("EUR")
      const rows = new Map(all.usage.map((row: Json) => [row.key_id, row]))
      expect(rows.get(first.id)).toMatchObject({ key: "alice", requests: 8, errors: 1, currency: "EUR" })
      // One of its models has no price.
      expect(rows.get(second.id)).toMatchObject({ key: "alice", requests: 2, cost: null, currency: null })
      const models = await json("/usage?by=key,model", second.key)
      const { completion_tokens: completion, prompt_tokens: prompt } = one.usage
      expect(models.usage).toEqual([
        expect.objectContaining({ model: "a:1b", cost: expect.closeTo((prompt + 2 * completion) / 1000, 9) }),
        expect.objectContaining({ model: "b:1b", cost: null })
      ])
      const csv = await (await gateway.get("/usage?by=key,model&format=csv", as(second.key))).text()
      expect(csv).toMatch(/^key,key_id,model,requests,.*,cost,currency\r\n/)
      expect(csv).toMatch(/,a:1b,1,.*,0\.\d+,EUR\r\n/)
      expect(csv).toMatch(/,b:1b,1,.*,,\r\n$/)
    })
  })
}
