/** Browsers that sign in to the page with a key of the store, at gateways that share it. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = { name: "root", key: "root-secret", admin: true } as const
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response> | Response): Promise<any> => (await response).json()

/** What a page has after it signed in, and what it sends. */
const signIn = async (gateway: TestGateway, key: string) => {
  const response = await gateway.post("/login", { key })
  const cookie = response.headers.get("set-cookie") ?? ""
  const session = cookie.split(";")[0] ?? ""
  const body = await json(response)
  const headers: Record<string, string> = { cookie: session, "x-aicortex-csrf": String(body.csrf) }
  return { status: response.status, cookie, session, body, headers }
}
const create = (gateway: TestGateway, body: object) => json(gateway.post("/keys", body, as(root.key)))
const status = async (response: Promise<Response>): Promise<number> => {
  const answer = await response
  await answer.body?.cancel()
  return answer.status
}

for (const engine of engines) {
  describe(`a key of the store in ${engine.name}`, { timeout: 60_000 }, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    }, 60_000)
    afterAll(() => database.close())

    it("signs in to the page of every gateway, until the session or the key ends", async () => {
      const store = await database.address()
      const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well." }))
      const start = async () => keep(await startGateway([ollama.url], { keys: [root] }, { cortex: { store } }))
      const [first, second] = [await start(), await start()]
      const ann = await create(first, { name: "ann" })
      const page = await signIn(first, ann.key)
      expect(page.body).toMatchObject({ keys: true, signed_in: true, key: "ann", role: "use", admin: false })
      expect(page.cookie).toMatch(/; HttpOnly; SameSite=Strict; Max-Age=43200$/)
      expect(page.cookie).not.toContain(ann.key.slice(20))

      // At the other gateway too, which has not seen the session before.
      expect(await json(second.get("/session", { headers: page.headers }))).toMatchObject({
        signed_in: true,
        key: "ann",
        csrf: page.body.csrf
      })
      const chat = { model: "a:1b", messages: [{ role: "user", content: "Hi" }] }
      expect(await status(second.post("/v1/chat/completions", chat, { headers: page.headers }))).toBe(200)
      expect(
        (await json(second.post("/v1/chat/completions", chat, { headers: { cookie: page.session } }))).error.code
      ).toBe("missing_csrf_token")
      expect(await status(second.get("/keys", { headers: page.headers }))).toBe(403)

      // What the store has opens nothing.
      if (engine.kind === "sqlite") {
        const folder = dirname(store)
        const files = readdirSync(folder).map((file) => readFileSync(join(folder, file)).toString("latin1"))
        const secret = page.session.split("=")[1] ?? ""
        expect(secret).toMatch(/^store_[\w-]{43}$/)
        expect(files.filter((text) => text.includes(secret) || text.includes(secret.slice(6)))).toEqual([])
      }

      // Signed out, it is over at this gateway at once; another session of the key is not.
      const other = await signIn(second, ann.key)
      expect(await status(first.post("/logout", {}, { headers: page.headers }))).toBe(200)
      expect(await status(first.get("/fleet", { headers: page.headers }))).toBe(401)
      expect(await status(first.get("/fleet", { headers: other.headers }))).toBe(200)

      // It ends with the text of the key, wherever that was changed.
      await json(first.post("/keys/ann/rotate", {}, as(root.key)))
      const since = performance.now()
      await eventually(async () => (await status(second.get("/fleet", { headers: other.headers }))) === 401, "it ends")
      expect(performance.now() - since).toBeLessThan(1_500)
    })
  })
}

describe("a session of a key of the store", { timeout: 60_000 }, () => {
  const [sqlite] = engines
  let database: Database
  let gateway: TestGateway
  let other: TestGateway
  beforeAll(async () => {
    database = await (sqlite as (typeof engines)[number]).start()
    const store = await database.address()
    const ollama = await startFakeOllama({ models: ["a:1b"], reply: "Well." })
    gateway = await startGateway([ollama.url], { keys: [root] }, { cortex: { store } })
    other = await startGateway([ollama.url], { keys: [root] }, { cortex: { store } })
  }, 60_000)
  afterAll(async () => {
    await gateway.close()
    await other.close()
    await database.close()
  })

  it("ends within a second if the key is revoked at another gateway", async () => {
    const { id, key } = await create(gateway, { name: "bob" })
    const page = await signIn(gateway, key)
    expect(await status(gateway.get("/fleet", { headers: page.headers }))).toBe(200)
    expect(await status(other.get(`/keys/${id}`, { method: "DELETE", ...as(root.key) }))).toBe(200)
    const since = performance.now()
    await eventually(async () => (await status(gateway.get("/fleet", { headers: page.headers }))) === 401, "it ends")
    // A machine that is busy gets half a second more.
    expect(performance.now() - since).toBeLessThan(1_500)
    expect((await json(gateway.get("/fleet", { headers: page.headers }))).error.code).toBe("revoked_api_key")
    expect(await json(gateway.get("/session", { headers: page.headers }))).toMatchObject({
      signed_in: false,
      role: null
    })
    expect((await signIn(gateway, key)).status).toBe(401)
  })

  it("survives a key rotation during the old key's grace period", async () => {
    const { key } = await create(gateway, { name: "carl" })
    const page = await signIn(gateway, key)
    const rotated = await json(gateway.post("/keys/carl/rotate", { grace: 3_600 }, as(root.key)))
    expect(await status(gateway.get("/fleet", { headers: page.headers }))).toBe(200)
    await json(gateway.post("/keys/carl/rotate", {}, as(root.key)))
    expect(await status(gateway.get("/fleet", { headers: page.headers }))).toBe(401)
    expect((await signIn(gateway, rotated.key)).status).toBe(401)
  })

  it.each([
    ["use", { manages: 403, keys: 403 }],
    ["manage", { manages: 200, keys: 403 }],
    ["admin", { manages: 200, keys: 200 }]
  ] as const)("may do what its role may (%s)", async (role, expected) => {
    const { key } = await create(gateway, { name: `role-${role}`, role })
    const { body, headers } = await signIn(gateway, key)
    expect(body).toMatchObject({ role, admin: role === "admin" })
    const fleet = await json(gateway.get("/fleet", { headers }))
    expect([fleet.admin, fleet.manages]).toEqual([role === "admin", role !== "use"])
    expect(await status(gateway.post("/api/pull", { model: "b:1b", stream: false }, { headers }))).toBe(
      expected.manages
    )
    expect(await status(gateway.get("/keys", { headers }))).toBe(expected.keys)
    expect(await status(gateway.post("/servers/server-1", { action: "wake" }, { headers }))).toBe(expected.keys)
    // This gateway manages no models of its machine: only clients with the permission get that error.
    const local = { use: 403, manage: 404, admin: 404 }[role]
    expect(await status(gateway.post("/v1/models/pull", { model: "c" }, { headers }))).toBe(local)
    const file = { model: "c", modelPath: "/etc/passwd" }
    const imported = { use: 403, manage: 403, admin: 404 }[role]
    expect(await status(gateway.post("/v1/models/import", file, { headers }))).toBe(imported)
  })

  it("cannot be forged or guessed, and expires", async () => {
    const { key } = await create(gateway, { name: "dora" })
    const page = await signIn(gateway, key)
    const [name, value = ""] = page.session.split("=")
    const last = value.at(-1) === "A" ? "B" : "A"
    for (const forged of [`${value.slice(0, -1)}${last}`, value.slice(0, -1), `${value}A`, "store_", "store_'; --"]) {
      const headers = { cookie: `${name}=${forged}` }
      expect([forged, await status(gateway.get("/fleet", { headers }))]).toEqual([forged, 401])
    }
    const csrf = { cookie: page.session, "x-aicortex-csrf": "wrong" }
    expect(await status(gateway.post("/servers/server-1", { action: "wake" }, { headers: csrf }))).toBe(403)
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 12 * 3_600_000 + 1_000 })
    try {
      expect(await status(gateway.get("/fleet", { headers: page.headers }))).toBe(401)
    } finally {
      vi.useRealTimers()
    }
  })

  it("does not affect sessions of keys from the settings", async () => {
    const page = await signIn(gateway, root.key)
    expect(page.body).toMatchObject({ key: "root", role: "admin", admin: true })
    expect(await status(other.get("/keys", { headers: page.headers }))).toBe(200)
    expect((await signIn(gateway, "guess")).status).toBe(401)
  })
})
