/** What requests use, through gateways that count into one store. */
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import OpenAI from "openai"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { csv } from "../../src/gateway/usage/query.js"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = { name: "root", key: "root-secret", admin: true } as const
const app = { name: "app", key: "app-secret" } as const
const as = (key: string, more = {}) => ({ headers: { authorization: `Bearer ${key}`, ...more } })
const messages = [{ role: "user" as const, content: "Hi" }]

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

const usage = async (gateway: TestGateway, query: string, key: string = root.key): Promise<ReadonlyArray<Json>> => {
  const response = await gateway.get(`/usage?${query}`, as(key))
  const body = (await response.json()) as Json
  expect([response.status, body.error]).toEqual([200, undefined])
  return body.usage
}

for (const engine of engines) {
  describe(`usage in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const start = async (store: string, url: string) =>
      startGateway([url], { keys: [root, app], port: 0 }, { cortex: { store } })

    it("counts tokens, requests and errors of each API by key, user, model and hour, over gateways", async () => {
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: ["a:1b", "b:1b"], reply: "One two three." }))
      const first = keep(await start(store, ollama.url))
      const second = keep(await start(store, ollama.url))
      const used = { prompt: 0, completion: 0 }
      for (const gateway of [first, second]) {
        const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: app.key, maxRetries: 0 })
        const whole = await client.chat.completions.create({ model: "a:1b", messages, user: "alice" })
        const stream = await client.chat.completions.create({
          model: "a:1b",
          messages,
          user: "alice",
          stream: true,
          stream_options: { include_usage: true }
        })
        const counted = [whole.usage]
        for await (const chunk of stream) if (chunk.usage) counted.push(chunk.usage)
        expect(counted).toHaveLength(2)
        for (const one of counted) {
          used.prompt += one?.prompt_tokens ?? 0
          used.completion += one?.completion_tokens ?? 0
        }
      }
      expect(used.completion).toBeGreaterThan(0)
      const post = async (path: string, body: object, more = {}) =>
        (await first.post(path, body, as(app.key, more))).text()
      await post("/v1/messages", { model: "b:1b", max_tokens: 9, messages, metadata: { user_id: "bob_session_0a-1" } })
      await post("/api/chat", { model: "b:1b", messages, stream: false }, { "x-openwebui-user-email": "carol@b.c" })
      await post("/v1/chat/completions", { model: "nothing-here", messages, user: "alice" })
      await second.post("/v1/chat/completions", { model: "a:1b", messages }, as("wrong"))

      // Each answer has what its own gateway has counted; the second adds its counts within a second.
      await usage(second, "")
      expect(await usage(first, "by=key,user,model")).toEqual([
        expect.objectContaining({ key: "app", user: "alice", model: "", requests: 1, errors: 1, prompt_tokens: 0 }),
        expect.objectContaining({
          key: "app",
          user: "alice",
          model: "a:1b",
          requests: 4,
          errors: 0,
          prompt_tokens: used.prompt,
          completion_tokens: used.completion,
          first_token_ms: expect.any(Number)
        }),
        expect.objectContaining({ user: "bob", model: "b:1b", requests: 1, errors: 0 }),
        expect.objectContaining({ user: "carol@b.c", model: "b:1b", requests: 1, errors: 0 })
      ])
      const [all] = await usage(first, "by=")
      expect(all).toMatchObject({ requests: 7, errors: 1 })
      expect((await usage(first, "by=server,day")).map(({ server }) => server)).toEqual(["", "server-1"])
      for (const { hour } of await usage(first, "by=hour")) expect(hour).toMatch(/^\d{4}-\d\d-\d\dT\d\d:00:00Z$/)
      expect(await usage(first, "since=2999-01-01")).toEqual([])
      const text = await (await first.get("/usage?by=user", as(root.key, { accept: "text/csv" }))).text()
      expect(text).toMatch(/^user,requests,errors,prompt_tokens,.*\r\nalice,5,1,/)
      // A key sees its own usage.
      expect(await usage(first, "by=key", root.key)).toHaveLength(1)
      const { key } = (await (await first.post("/keys", { name: "dora" }, as(root.key))).json()) as Json
      expect(await usage(first, "by=key", key)).toEqual([])
      await (await first.post("/v1/chat/completions", { model: "a:1b", messages }, as(key))).text()
      expect(await usage(first, "by=key", key)).toEqual([expect.objectContaining({ key: "dora", requests: 1 })])
      for (const bad of ["by=size", "by=key,key", "since=soon", "format=xml", "untl=1"]) {
        expect([bad, (await first.get(`/usage?${bad}`, as(root.key))).status]).toEqual([bad, 400])
      }
    })

    it("a gateway that stops stores all counts", async () => {
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well.", firstToken: 300 }))
      const gateway = await start(store, ollama.url)
      const asked = Array.from({ length: 20 }, () =>
        gateway.post("/v1/chat/completions", { model: "a:1b", messages, user: "alice" }, as(app.key)).then(
          ({ status }) => status,
          // It came when the gateway no longer listened.
          () => 0
        )
      )
      await ollama.waitForChats(1)
      await gateway.close()
      const statuses = await Promise.all(asked)
      const answered = statuses.filter((status) => status === 200).length
      expect(answered).toBeGreaterThan(0)
      const next = keep(await start(store, ollama.url))
      const [row] = await usage(next, "by=user")
      expect(row.requests - row.errors).toBeGreaterThanOrEqual(answered)
      expect(row.completion_tokens).toBeGreaterThanOrEqual(answered)
    })

    it.runIf(engine.kind === "postgres")("counts requests during an outage of the store, once", async ({ skip }) => {
      const { outage } = database
      if (outage === undefined) return skip()
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well." }))
      const gateway = keep(await start(store, ollama.url))
      const ask = async () =>
        (await gateway.post("/v1/chat/completions", { model: "a:1b", messages }, as(app.key))).text()
      for (let i = 0; i < 3; i++) await ask()
      await outage.stop()
      try {
        for (let i = 0; i < 4; i++) await ask()
        await eventually(() => gateway.log.some((line) => line.startsWith("usage is kept in memory")), "it is reported")
        expect((await gateway.get("/usage", as(root.key))).status).toBe(503)
      } finally {
        await outage.start()
      }
      await eventually(() => gateway.log.includes("usage is stored again"), "it is stored")
      expect(await usage(gateway, "by=key")).toEqual([expect.objectContaining({ key: "app", requests: 7, errors: 0 })])
      const rows = await Effect.runPromise(
        Effect.scoped(
          Effect.flatMap(Store.make(store), ({ use }) => use((sql) => sql`SELECT batch FROM aicortex_usage_writers`))
        )
      )
      expect(rows.length).toBeGreaterThan(0)
    })
  })
}

it("CSV contains no formulas, and keeps the cells' values", () => {
  const rows = ["=1+1", "+1", "-1", "@a", "\tx", 'a "b", c', "two\nlines", "plain", ""].map((user) => ({
    user,
    requests: 1,
    errors: 0,
    prompt_tokens: -5,
    first_token_ms: null
  }))
  const lines = csv(["user"], rows)
  expect(lines).toContain(`"'=1+1",1,0,-5,`)
  expect(lines).toContain(`"'+1",`)
  expect(lines).toContain(`"'@a",`)
  expect(lines).toContain(`"a ""b"", c",`)
  expect(lines).toContain(`"two\nlines",`)
  expect(lines).toContain(`\r\nplain,1,`)
  expect(lines).not.toMatch(/(^|[,\n]"?)[=+@\t]/)
})
