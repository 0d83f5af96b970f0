import { describe, expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const serve = async (cors: ReadonlyArray<string>) => {
  const one = keep(await startFakeOllama({ models: ["m:1b"], reply: "Well." }))
  return keep(await startGateway([{ url: one.url }], { cors }))
}
const paths = ["/v1/models", "/api/tags"]
const preflight = (gateway: TestGateway, origin: string, headers: Record<string, string> = {}) =>
  gateway.get("/v1/chat/completions", {
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST", ...headers }
  })

const verdict = async (gateway: TestGateway, origin: string) => {
  const answers = await Promise.all([
    ...paths.map((path) => gateway.get(path, { headers: { origin } })),
    preflight(gateway, origin)
  ])
  const allowed = answers.map(({ headers }) => headers.get("access-control-allow-origin"))
  const statuses = answers.map(({ status }) => status)
  if (allowed.every((one) => one === origin) && statuses.join() === "200,200,204") return "allowed"
  if (allowed.every((one) => one === null) && statuses.join() === "403,403,403") return "refused"
  return { allowed, statuses }
}

describe("origins of web pages", () => {
  it.each([
    "app://obsidian.md",
    "vscode-webview://1k0l2m3n",
    "chrome-extension://abcdefghijklmnop",
    "moz-extension://0a1b2c3d-0000-4000-8000-000000000000",
    "tauri://app.example",
    "capacitor://app.example:8080",
    "http://[2001:db8::1]:3000",
    "null"
  ])("%s may be configured, and is then the only one", async (origin) => {
    const gateway = await serve([origin])
    expect(await verdict(gateway, origin)).toBe("allowed")
    expect(await verdict(gateway, "https://evil.example")).toBe("refused")
    for (const other of ["null", "app://other.example", "chrome-extension://other"]) {
      if (other !== origin) expect(await verdict(gateway, other)).toBe("refused")
    }
  })

  it.each([
    {
      pattern: "chrome-extension://*",
      allowed: ["chrome-extension://a", "chrome-extension://bcd"],
      refused: ["moz-extension://a", "https://a", "chrome-extension://a/b", "chrome-extension://"]
    },
    {
      pattern: "http://gpu.example:*",
      allowed: ["http://gpu.example", "http://gpu.example:1", "http://gpu.example:65535", "http://GPU.example:1"],
      refused: [
        "http://gpu.example:1@evil.example",
        "http://gpu.example.evil.example",
        "http://gpu.example.evil.example:1",
        "http://evil.example/gpu.example:1",
        "https://gpu.example:1",
        "http://evilgpu.example:1",
        "http://gpu.example:1:2"
      ]
    },
    {
      pattern: "https://*.example.com",
      allowed: ["https://a.example.com", "https://a.b.example.com"],
      refused: [
        "https://example.com",
        "https://evilexample.com",
        "https://a.example.com.evil.example",
        "https://evil.example#.example.com",
        "https://evil.example?.example.com",
        "https://evil.example/.example.com",
        "https://evil.example@a.example.com",
        "https://a.example.com:8443",
        "http://a.example.com"
      ]
    }
  ])("$pattern matches its origins only", async ({ allowed, pattern, refused }) => {
    const gateway = await serve([pattern])
    for (const origin of allowed) expect([origin, await verdict(gateway, origin)]).toEqual([origin, "allowed"])
    for (const origin of [...refused, "null", "https://evil.example"]) {
      expect([origin, await verdict(gateway, origin)]).toEqual([origin, "refused"])
    }
  })

  it("of this machine are allowed by default, and similar ones are not", async () => {
    const gateway = await serve([])
    for (const origin of ["http://localhost:5173", "https://127.0.0.1", "tauri://localhost", "http://[::1]:80"]) {
      expect([origin, await verdict(gateway, origin)]).toEqual([origin, "allowed"])
    }
    for (const origin of [
      "https://evil.example",
      "https://localhost.evil.example",
      "http://localhost:1@evil.example",
      "http://evil.example@localhost",
      "http://evil.example#localhost",
      "http://127.0.0.1.evil.example",
      "app://obsidian.md",
      "null",
      "localhost"
    ]) {
      expect([origin, await verdict(gateway, origin)]).toEqual([origin, "refused"])
    }
  })

  it("* allows all of them", async () => {
    const gateway = await serve(["*"])
    for (const origin of ["https://any.example", "app://obsidian.md", "null"]) {
      const answer = await gateway.get("/v1/models", { headers: { origin } })
      expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([200, "*"])
    }
  })

  it.each([
    "example.com",
    "https://example.com/",
    "https://example.com/path",
    "https://user@example.com",
    "https://example.com:443",
    "https://*example.com",
    "https://a.*.com",
    "https://*.",
    "http://localhost:99999",
    "http://localhost:1@*",
    "chrome-extension://*/x",
    "*://example.com",
    "**",
    ""
  ])("'%s' is refused when the gateway starts", async (origin) => {
    await expect(startGateway([], { cors: [origin] })).rejects.toMatchObject({ _tag: "InvalidConfig", field: "cors" })
  })
})

describe("preflights for private networks", () => {
  const names = ["private-network", "local-network", "local-network-access"]

  it.each(names)("%s: pages that are allowed may reach this machine", async (name) => {
    const gateway = await serve(["https://good.example", "chrome-extension://*"])
    for (const origin of ["https://good.example", "chrome-extension://abc"]) {
      const response = await preflight(gateway, origin, { [`access-control-request-${name}`]: "true" })
      expect([response.status, response.headers.get(`access-control-allow-${name}`)]).toEqual([204, "true"])
      for (const other of names.filter((one) => one !== name)) {
        expect(response.headers.get(`access-control-allow-${other}`)).toBeNull()
      }
    }
  })

  it.each(names)("%s: no other page may, and requests without the header get no answer to it", async (name) => {
    const gateway = await serve(["https://good.example"])
    for (const origin of ["https://evil.example", "null", "https://good.example.evil.example"]) {
      const response = await preflight(gateway, origin, { [`access-control-request-${name}`]: "true" })
      expect([response.status, response.headers.get(`access-control-allow-${name}`)]).toEqual([403, null])
    }
    const plain = await preflight(gateway, "https://good.example")
    expect([plain.status, plain.headers.get(`access-control-allow-${name}`)]).toEqual([204, null])
  })
})
