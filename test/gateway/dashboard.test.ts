import { spawnSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Gateway } from "aicortex"
import { beforeAll, describe, expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const keep = useKeep()
const serve = async (options: Gateway.Options = {}) => {
  const server = keep(await startFakeOllama({ models: ["m:1b"], reply: "Well." }))
  return keep(await startGateway([server.url], options))
}
const keys = [
  { name: "root", key: "key-of-the-administrator", admin: true },
  { name: "ann", key: "key-of-ann" }
]
const browser = { accept: "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" }
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response> | Response): Promise<any> => (await response).json()

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  expect(built.status, built.stderr).toBe(0)
}, 120_000)

describe("the page's files", () => {
  it("are sent to browsers, and JSON to programs", async () => {
    const gateway = await serve()
    const page = await gateway.get("/", { headers: browser })
    expect(page.headers.get("content-type")).toBe("text/html; charset=utf-8")
    expect(page.headers.get("vary")).toMatch(/accept\b/)
    const text = await page.text()
    expect(text).toContain("<!doctype html>")
    expect((await json(gateway.get("/", { headers: { accept: "application/json" } }))).service).toBe("aicortex")
    expect(await (await gateway.get("/")).text()).toBe("Ollama is running")
    const paths = [...text.matchAll(/(?:src|href)="\.(\/dashboard\/[^"]+)"/g)].map(([, path]) => path ?? "")
    expect(paths.length).toBeGreaterThanOrEqual(3)
    for (const path of paths) {
      const file = await gateway.get(path)
      expect([path, file.status]).toEqual([path, 200])
      expect(file.headers.get("cache-control")).toContain("immutable")
      expect(file.headers.get("x-content-type-options")).toBe("nosniff")
    }
  })

  it("have a CSP that allows only themselves", async () => {
    const gateway = await serve()
    const { headers } = await gateway.get("/", { headers: browser })
    const policy = headers.get("content-security-policy") ?? ""
    expect(policy).toContain("default-src 'none'")
    expect(policy).toContain("frame-ancestors 'none'")
    expect(policy).not.toMatch(/unsafe|\*|https?:/)
    expect(headers.get("cache-control")).toBe("no-cache")
    expect(headers.get("referrer-policy")).toBe("no-referrer")
  })

  it.each(["index.html", "nope.js", "..%2Fpackage.json", "..%2f..%2fpackage.json", "a%00b"])(
    "are no way to other files (%s)",
    async (name) => {
      const gateway = await serve()
      const { status } = await gateway.get(`/dashboard/${name}`)
      expect([400, 404]).toContain(status)
    }
  )

  it("are compressed if the client accepts it", async () => {
    const gateway = await serve()
    const [script = ""] = readdirSync(join(root, "dist/dashboard")).filter((name) => name.endsWith(".js"))
    const zipped = await gateway.get(`/dashboard/${script}`, { headers: { "accept-encoding": "gzip" } })
    const plain = await gateway.get(`/dashboard/${script}`, { headers: { "accept-encoding": "identity" } })
    expect([zipped.headers.get("content-encoding"), plain.headers.get("content-encoding")]).toEqual(["gzip", null])
    expect(await zipped.text()).toBe(await plain.text())
  })
})

describe("signing in", () => {
  const signIn = async (gateway: Awaited<ReturnType<typeof serve>>, key: string, headers = {}) => {
    const response = await gateway.post("/login", { key }, { headers })
    const cookie = response.headers.get("set-cookie") ?? ""
    return { response, cookie, session: cookie.split(";")[0] ?? "", body: await json(response) }
  }

  it("sets a cookie that contains no key, and authenticates as it", async () => {
    const gateway = await serve({ keys })
    expect(await json(gateway.get("/session"))).toMatchObject({ keys: true, signed_in: false, csrf: null })
    const { body, cookie, session } = await signIn(gateway, "key-of-ann")
    expect(body).toMatchObject({ keys: true, signed_in: true, key: "ann", admin: false })
    expect(cookie).toMatch(/; HttpOnly; SameSite=Strict; Max-Age=43200$/)
    expect(cookie).not.toContain("key-of-ann")
    const headers = { cookie: `other=1; ${session}` }
    expect(await json(gateway.get("/session", { headers }))).toMatchObject({
      signed_in: true,
      key: "ann",
      csrf: body.csrf
    })
    for (const path of ["/fleet", "/config", "/v1/models"]) {
      expect([path, (await gateway.get(path, { headers })).status]).toEqual([path, 200])
    }
    const secure = await signIn(gateway, "key-of-ann", { "x-forwarded-proto": "https" })
    expect(secure.cookie).toMatch(/; Secure$/)
    const out = await gateway.get("/logout", { method: "POST", headers })
    expect(out.headers.get("set-cookie")).toMatch(/^aicortex_session=;.*Max-Age=0/)
  })

  it("rejects changes without the CSRF token", async () => {
    const gateway = await serve({ keys })
    const { body, session } = await signIn(gateway, "key-of-the-administrator")
    const act = (headers: Record<string, string>) =>
      gateway.post("/servers/server-1", { action: "wake" }, { headers: { cookie: session, ...headers } })
    expect((await json(act({}))).error.code).toBe("missing_csrf_token")
    expect((await act({ "x-aicortex-csrf": "wrong" })).status).toBe(403)
    expect((await act({ "x-aicortex-csrf": body.csrf })).status).toBe(200)
    const ann = await signIn(gateway, "key-of-ann")
    expect((await act({ "x-aicortex-csrf": ann.body.csrf })).status).toBe(403)
    const chat = { model: "m:1b", messages: [{ role: "user", content: "Hi" }] }
    const asked = { headers: { cookie: ann.session, "x-aicortex-csrf": ann.body.csrf } }
    expect((await gateway.post("/v1/chat/completions", chat, asked)).status).toBe(200)
    const lower = { cookie: ann.session, "x-aicortex-csrf": ann.body.csrf }
    expect((await json(act(lower))).error.code).toBe("not_admin")
  })

  it("cannot be forged, and ends with its key", async () => {
    const gateway = await serve({ keys })
    const { session } = await signIn(gateway, "key-of-ann")
    const [name, value = ""] = session.split("=")
    const [who = "", until = "", nonce = "", signature = ""] = value.split(".")
    const root = Buffer.from("root").toString("base64url")
    const forged = [
      "",
      "x",
      [root, until, nonce, signature].join("."),
      [who, String(Number(until) + 1), nonce, signature].join("."),
      [who, until, nonce, ""].join("."),
      [who, "1", nonce, signature].join("."),
      [who, "NaN", nonce, signature].join(".")
    ]
    for (const cookie of forged) {
      expect((await gateway.get("/fleet", { headers: { cookie: `${name}=${cookie}` } })).status).toBe(401)
    }
    const other = await serve({ keys: [{ name: "ann", key: "another-key-of-ann" }] })
    expect((await other.get("/fleet", { headers: { cookie: session } })).status).toBe(401)
    const same = await serve({ keys })
    expect((await same.get("/fleet", { headers: { cookie: session } })).status).toBe(200)
  })

  it("limits guesses", async () => {
    const gateway = await serve({ keys })
    const tries: Array<number> = []
    for (let i = 0; i < 12; i++) tries.push((await gateway.post("/login", { key: `guess-${i}` })).status)
    expect(tries.slice(0, 10).every((status) => status === 401)).toBe(true)
    expect(tries.slice(-2)).toEqual([429, 429])
    expect((await gateway.post("/login", { key: "key-of-ann" })).status).toBe(429)
  })

  it("is not needed without keys", async () => {
    const gateway = await serve()
    expect(await json(gateway.get("/session"))).toEqual({
      keys: false,
      signed_in: false,
      key: null,
      role: "admin",
      admin: true,
      csrf: null
    })
  })
})

describe("web pages of others", () => {
  it.each([
    ["another site", { origin: "https://evil.example" }],
    ["a site that calls itself by this address", { origin: "http://evil.example", host: "evil.example" }]
  ])("may do nothing (%s)", async (_, headers) => {
    const gateway = await serve()
    const { request } = await import("node:http")
    const status = await new Promise<number>((resolve, reject) => {
      const sent = request(`${gateway.url}/fleet`, { headers: headers as Record<string, string> }, (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      })
      sent.on("error", reject)
      sent.end()
    })
    expect(status).toBe(403)
  })
})
