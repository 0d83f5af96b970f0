/** API keys that are made at run time, through gateways that share one store. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import OpenAI, { AuthenticationError, PermissionDeniedError, RateLimitError } from "openai"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = { name: "root", key: "root-secret", admin: true } as const
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
const messages = [{ role: "user" as const, content: "Hi" }]

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

const create = async (gateway: TestGateway, body: object, key: string = root.key): Promise<Json> => {
  const response = await gateway.post("/keys", body, as(key))
  const created = (await response.json()) as Json
  expect([response.status, created.error]).toEqual([201, undefined])
  return created
}
const client = ({ url }: TestGateway, apiKey: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })
const chat = (gateway: TestGateway, apiKey: string, model: string) =>
  client(gateway, apiKey).chat.completions.create({ model, messages })
const chatStatus = async (gateway: TestGateway, key: string, model = "a:1b"): Promise<number> => {
  const response = await gateway.post("/v1/chat/completions", { model, messages }, as(key))
  await response.text()
  return response.status
}

afterEach(() => {
  vi.useRealTimers()
})

for (const engine of engines) {
  describe(`API keys in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const two = async (options: Parameters<typeof startGateway>[1] = {}) => {
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: ["a:1b", "b:1b"], reply: "Well." }))
      const openai = keep(await startFakeOpenAI({ models: ["c"], reply: "Well." }))
      const start = async () =>
        keep(await startGateway([ollama.url, openai.url], { keys: [root], ...options }, { cortex: { store } }))
      return { store, first: await start(), second: await start() }
    }

    it("a key created at one gateway works at another at once, and only its hash is stored", async () => {
      const { first, second, store } = await two()
      const { id, key, name } = await create(first, { name: "alice" })
      expect(key).toMatch(/^sk-aic-[0-9A-Za-z]{12}-[0-9A-Za-z]{49}$/)
      expect(key).toContain(id)
      for (const gateway of [second, first]) {
        const answer = await chat(gateway, key, "a:1b")
        expect(answer.choices[0]?.message.content).toBe("Well.")
      }
      // A key with one other character is not valid, and neither is an invented one.
      const last = key.at(-1) === "0" ? "1" : "0"
      for (const wrong of [`${key.slice(0, -1)}${last}`, key.slice(0, -1), `sk-aic-${id}`, "sk-aic-", id, name]) {
        await expect(chat(second, wrong, "a:1b")).rejects.toBeInstanceOf(AuthenticationError)
      }
      const listed = await (await second.get("/keys", as(root.key))).text()
      expect(listed).toContain(id)
      expect(listed).not.toContain(key)
      if (engine.kind === "sqlite") {
        const folder = dirname(store)
        const files = readdirSync(folder).map((file) => readFileSync(join(folder, file)).toString("latin1"))
        expect(files.some((text) => text.includes(id))).toBe(true)
        expect(files.filter((text) => text.includes(key) || text.includes(key.slice(20)))).toEqual([])
      }
    })

    it("a revoked key is rejected by every gateway within a second, and its name is free again", async () => {
      const { first, second } = await two()
      const { key } = await create(first, { name: "alice" })
      const other = await create(first, { name: "bob" })
      expect([await chatStatus(second, key), await chatStatus(second, other.key)]).toEqual([200, 200])
      const response = await first.get("/keys/alice", { method: "DELETE", ...as(root.key) })
      expect(await response.json()).toMatchObject({ name: "alice", state: "revoked" })
      const revoked = performance.now()
      expect(await chatStatus(first, key)).toBe(401)
      await eventually(async () => (await chatStatus(second, key)) === 401, "the second gateway denies it")
      expect(performance.now() - revoked).toBeLessThan(3_000)
      await expect(chat(second, key, "a:1b")).rejects.toMatchObject({ status: 401, code: "revoked_api_key" })
      expect(await chatStatus(second, other.key)).toBe(200)
      const again = await create(second, { name: "alice" })
      expect(again.key).not.toBe(key)
      expect([await chatStatus(first, again.key), await chatStatus(first, key)]).toEqual([200, 401])
    })

    it("a rotated key is a new secret; the old one stays valid for its grace period", async () => {
      const { first, second } = await two()
      const { key, id } = await create(first, { name: "alice", requests_per_minute: 100 })
      const rotate = async (body: object): Promise<Json> =>
        (await first.post("/keys/alice/rotate", body, as(root.key))).json()
      const next = await rotate({ grace: 3_600 })
      expect(next).toMatchObject({ id, name: "alice", requests_per_minute: 100 })
      expect(next.key).not.toBe(key)
      expect([await chatStatus(second, next.key), await chatStatus(second, key)]).toEqual([200, 200])
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3_601_000 })
      expect([await chatStatus(second, next.key), await chatStatus(second, key)]).toEqual([200, 401])
      const last = await rotate({})
      expect([await chatStatus(second, last.key), await chatStatus(first, next.key)]).toEqual([200, 401])
    })

    it("a key expires", async () => {
      const { first } = await two()
      const { key, expires_at } = await create(first, { name: "alice", expires_in: 60 })
      expect(Date.parse(expires_at) - Date.now()).toBeGreaterThan(50_000)
      expect(await chatStatus(first, key)).toBe(200)
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 61_000 })
      await expect(chat(first, key, "a:1b")).rejects.toMatchObject({ status: 401, code: "expired_api_key" })
      const [shown] = ((await (await first.get("/keys", as(root.key))).json()) as Json).keys
      expect(shown).toMatchObject({ name: "alice", state: "expired" })
    })

    it("a key is limited to its models, and the error has each API's format", async () => {
      const aliases = { fast: "a:1b", both: ["b:1b", "c"], another: "b:1b" }
      const { first } = await two({ aliases })
      const key: string = (await create(first, { name: "some", models: ["a*", "c"] })).key
      const alias: string = (await create(first, { name: "alias", models: ["both"] })).key
      const all: string = (await create(first, { name: "all", models: ["*"] })).key
      const auto: string = (await create(first, { name: "auto", models: ["auto"] })).key
      const table: ReadonlyArray<readonly [key: string, model: string, status: number]> = [
        [key, "a:1b", 200],
        [key, "A:1B", 200],
        [key, "ollama:a:1b", 200],
        [key, "c", 200],
        [key, "fast", 200],
        [key, "both", 200],
        [key, "auto", 200],
        [key, "another", 403],
        [key, "b:1b", 403],
        [key, "ollama:b:1b", 403],
        [alias, "both", 200],
        [alias, "b:1b", 403],
        [alias, "auto", 403],
        [auto, "auto", 200],
        [all, "auto", 200],
        [all, "both", 200],
        [all, "b:1b", 200],
        [auto, "a:1b", 403],
        [root.key, "b:1b", 200]
      ]
      const found = []
      for (const [one, model] of table) found.push([one, model, await chatStatus(first, one, model)])
      expect(found).toEqual(table)
      // Of an alias, and of all models, those that the key names answer.
      expect((await chat(first, key, "auto")).model).toMatch(/:(a:1b|c)\)$/)
      expect((await chat(first, key, "both")).model).toBe("c")
      await expect(chat(first, key, "b:1b")).rejects.toBeInstanceOf(PermissionDeniedError)
      await expect(chat(first, key, "b:1b")).rejects.toMatchObject({ code: "model_not_allowed" })
      const anthropic = await first.post("/v1/messages", { model: "b:1b", max_tokens: 9, messages }, as(key))
      expect(await anthropic.json()).toMatchObject({ type: "error", error: { type: "permission_error" } })
      for (const [path, body] of [
        ["/api/chat", { model: "b:1b", messages, stream: true }],
        ["/api/generate", { model: "b:1b", prompt: "Hi" }],
        ["/api/generate", { model: "b:1b" }],
        ["/api/show", { model: "b:1b" }],
        ["/api/embed", { model: "b:1b", input: "Hi" }],
        ["/v1/embeddings", { model: "b:1b", input: "Hi" }],
        ["/v1/responses", { model: "b:1b", input: "Hi" }],
        ["/v1/completions", { model: "b:1b", prompt: "Hi" }]
      ] as const) {
        const response = await first.post(path, body, as(key))
        const { error } = (await response.json()) as Json
        const text = path.startsWith("/api") ? error : error.message
        expect([path, response.status, text]).toEqual([
          path,
          403,
          expect.stringContaining("may not use the model 'b:1b'")
        ])
      }
      const names = async (path: string, of: string): Promise<ReadonlyArray<string>> => {
        const { data, models } = (await (await first.get(path, as(of))).json()) as Json
        return (data ?? models).map((one: Json) => one.id ?? one.name ?? one).sort()
      }
      expect(await names("/v1/models", key)).toEqual(["a:1b", "both", "c", "fast"])
      expect(await names("/api/tags", key)).toEqual(["a:1b", "both", "c", "fast"])
      expect(await names("/models", key)).toEqual(["a:1b", "c"])
      expect(await names("/models", root.key)).toEqual(["a:1b", "b:1b", "c"])
    })

    it("limits, roles and private are enforced", async () => {
      const { first } = await two()
      const limited: string = (await create(first, { name: "two", requests_per_minute: 2 })).key
      expect([await chatStatus(first, limited), await chatStatus(first, limited)]).toEqual([200, 200])
      await expect(chat(first, limited, "a:1b")).rejects.toBeInstanceOf(RateLimitError)
      const use: string = (await create(first, { name: "use" })).key
      const manage: string = (await create(first, { name: "manage", role: "manage" })).key
      const admin: string = (await create(first, { name: "admin", role: "admin" })).key
      const tries = async (key: string) => [
        (await first.get("/keys", as(key))).status,
        (await first.post("/servers/server-1", { action: "wake" }, as(key))).status,
        (await first.post("/api/copy", { source: "a:1b", destination: "d" }, as(key))).status
      ]
      expect(await tries(use)).toEqual([403, 403, 403])
      expect(await tries(manage)).toEqual([403, 403, 200])
      expect(await tries(admin)).toEqual([200, 200, 200])
      // An administrator's key that was made at run time makes others.
      await create(first, { name: "another" }, admin)
    })

    it("invalid input is refused by name, and changes nothing", async () => {
      const { first } = await two()
      await create(first, { name: "alice" })
      const post = async (path: string, body: object) => {
        const response = await first.post(path, body, as(root.key))
        return [response.status, ((await response.json()) as Json).error?.param]
      }
      const bad: ReadonlyArray<readonly [object, number, string]> = [
        [{}, 400, "name"],
        [{ name: "" }, 400, "name"],
        [{ name: "sk-aic-x" }, 400, "name"],
        [{ name: "a\nb" }, 400, "name"],
        [{ name: "x".repeat(65) }, 400, "name"],
        [{ name: "alice" }, 409, "name"],
        [{ name: "root" }, 400, "name"],
        [{ name: "b", role: "owner" }, 400, "role"],
        [{ name: "b", requests_per_minute: 0 }, 400, "requests_per_minute"],
        [{ name: "b", tokens_per_minute: 1.5 }, 400, "tokens_per_minute"],
        [{ name: "b", concurrency: -1 }, 400, "concurrency"],
        [{ name: "b", expires_in: 0 }, 400, "expires_in"],
        [{ name: "b", models: [" "] }, 400, "models"],
        [{ name: "b", note: "a\u001b[31m" }, 400, "note"],
        [{ name: "b", request_per_minute: 5 }, 400, "request_per_minute"]
      ]
      const found = []
      for (const [body] of bad) found.push([body, ...(await post("/keys", body))])
      expect(found).toEqual(bad)
      expect(await post("/keys/nobody/rotate", {})).toEqual([404, "id"])
      expect((await first.get("/keys/nobody", { method: "DELETE", ...as(root.key) })).status).toBe(404)
      const { keys } = (await (await first.get("/keys?all=true", as(root.key))).json()) as Json
      expect(keys.map(({ name }: Json) => name)).toEqual(["alice"])
    })

    it("a gateway without keys requires one as soon as the store has one, also after the last is revoked", async () => {
      const store = await database.address()
      const server = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well." }))
      const start = async (gateway = {}) => keep(await startGateway([server.url], gateway, { cortex: { store } }))
      const first = await start()
      const second = await start()
      expect((await second.get("/models")).status).toBe(200)
      const response = await first.post("/keys", { name: "ops", role: "admin" })
      const { key } = (await response.json()) as Json
      expect((await first.get("/models")).status).toBe(401)
      await eventually(async () => (await second.get("/models")).status === 401, "the second gateway needs a key")
      expect((await second.get("/models", as(key))).status).toBe(200)
      expect((await second.get("/keys/ops", { method: "DELETE", ...as(key) })).status).toBe(200)
      expect((await second.get("/models")).status).toBe(401)
      // It may then be reached from other machines, too.
      const open = await start({ host: "0.0.0.0" })
      expect((await open.get("/models")).status).toBe(401)
    })

    it.runIf(engine.kind === "postgres")("while the store is unavailable, known keys still work", async ({ skip }) => {
      const { outage } = database
      if (outage === undefined) return skip()
      const { first } = await two()
      const { key } = await create(first, { name: "alice" })
      const ready = async () => ((await (await first.get("/ready")).json()) as Json).store
      const up = async () =>
        /^aicortex_store_up (\d)$/m.exec(await (await first.get("/metrics", as(root.key))).text())?.[1]
      expect([await ready(), await up()]).toEqual(["ok", "1"])
      await outage.stop()
      try {
        await eventually(async () => (await ready()) === "unavailable", "it says that the store is away")
        expect([await up(), (await first.get("/ready")).status]).toEqual(["0", 200])
        expect(first.log.filter((line) => line.includes("the store is away"))).toHaveLength(1)
        expect(await chatStatus(first, key)).toBe(200)
        expect(await chatStatus(first, `${key}x`)).toBe(401)
        expect((await first.post("/keys", { name: "bob" }, as(root.key))).status).toBe(503)
      } finally {
        await outage.start()
      }
      await eventually(async () => (await ready()) === "ok", "it says that the store is back")
      await create(first, { name: "bob" })
    })
  })
}

it("a gateway without a store has no keys of its own", async () => {
  const gateway = keep(await startGateway([], { keys: [root] }))
  const response = await gateway.post("/keys", { name: "alice" }, as(root.key))
  expect([response.status, ((await response.json()) as Json).error.code]).toEqual([501, "no_store"])
})
