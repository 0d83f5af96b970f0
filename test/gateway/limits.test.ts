import { writeFileSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Gateway } from "aicortex"
import { describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, rawRequest, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]
const keep = useKeep()
const ollama = async (options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(await startFakeOllama({ models: [model], reply: "Well.", ...options }))
const openai = async (options: Parameters<typeof startFakeOpenAI>[0] = {}) =>
  keep(await startFakeOpenAI({ models: [model], reply: "Well.", ...options }))
const serve = async (servers: ReadonlyArray<FakeServer>, options: Gateway.Options = {}) =>
  keep(
    await startGateway(
      servers.map(({ url }) => url),
      options
    )
  )
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response> | Response): Promise<any> => (await response).json()
const bearer = (key: string) => ({ authorization: `Bearer ${key}` })
const ask = (gateway: TestGateway, body: object = {}, headers: Record<string, string> = bearer("sk-a")) =>
  gateway.post("/v1/chat/completions", { model, messages, ...body }, { headers })
const status = async (response: Promise<Response>) => {
  const one = await response
  await one.text()
  return one.status
}
const key = (limits: Partial<Gateway.Key> = {}): Gateway.Key => ({ name: "a", key: "sk-a", ...limits })

describe("several answers to one request", () => {
  it("count as several concurrent requests", async () => {
    const server = await ollama({ perToken: "burst", faults: { kind: "hang" } })
    const gateway = await serve([server], { keys: [key({ concurrency: 4 })] })
    const leave = new AbortController()
    const three = gateway
      .post("/v1/chat/completions", { model, messages, n: 3 }, { headers: bearer("sk-a"), signal: leave.signal })
      .catch(() => undefined)
    await server.waitForChats(1)
    const refused = await ask(gateway, { n: 2 })
    expect([refused.status, (await json(refused)).error.code]).toEqual([429, "concurrency_limit_exceeded"])
    leave.abort()
    await three
    await server.setBehaviour({ faults: undefined })
    await eventually(async () => (await status(ask(gateway, { n: 4 }))) === 200, "all places are given back")
  })

  it("can never exceed the limit of a key", async () => {
    const server = await openai()
    const gateway = await serve([server], { keys: [key({ concurrency: 4 })] })
    for (const [path, body, param] of [
      ["/v1/chat/completions", { model, messages, n: 128 }, "n"],
      ["/v1/chat/completions", { model, messages, n: 5, stream: true }, "n"],
      ["/v1/completions", { model, prompt: ["a", "b", "c", "d", "e"] }, "prompt"],
      ["/v1/completions", { model, prompt: ["a", "b", "c"], n: 2 }, "n"]
    ] as const) {
      const refused = await gateway.post(path, body, { headers: bearer("sk-a") })
      expect([refused.status, (await json(refused)).error]).toMatchObject([400, { code: "limit_exceeded", param }])
    }
    expect(server.chatRequests).toEqual([])
  })

  it("count as several requests per minute", async () => {
    const gateway = await serve([await ollama()], { keys: [key({ requestsPerMinute: 10 })] })
    expect(await status(ask(gateway, { n: 6 }))).toBe(200)
    expect(await status(ask(gateway, { n: 6 }))).toBe(429)
    // The refused request counts for itself.
    expect(await status(ask(gateway, { n: 3 }))).toBe(200)
    expect(await status(ask(gateway))).toBe(429)
  })
})

describe("tokens", () => {
  it("are reserved during an answer: concurrent requests cannot all use what is left", async () => {
    const server = await ollama({ faults: { kind: "hang" } })
    const gateway = await serve([server], { keys: [key({ tokensPerMinute: 1_000 })] })
    const leave = new AbortController()
    const first = gateway
      .post(
        "/v1/chat/completions",
        { model, messages, max_tokens: 400, n: 2 },
        { headers: bearer("sk-a"), signal: leave.signal }
      )
      .catch(() => undefined)
    await server.waitForChats(1)
    const refused = await ask(gateway, { max_tokens: 400 })
    expect([refused.status, (await json(refused)).error.code]).toEqual([429, "rate_limit_exceeded"])
    leave.abort()
    await first
    // A client that left a server at work without an answer has used what was reserved for it.
    expect(await status(ask(gateway, { max_tokens: 400 }))).toBe(429)
  })

  it("that were reserved but not used are released", async () => {
    const gateway = await serve([await ollama({ reply: "a b c" })], { keys: [key({ tokensPerMinute: 1_000 })] })
    for (let i = 0; i < 5; i++) expect(await status(ask(gateway, { max_tokens: 900 }))).toBe(200)
  })

  it("are released if no server answered", async () => {
    const server = await ollama({ faults: { kind: "status", code: 500 } })
    const gateway = await serve([server], { keys: [key({ tokensPerMinute: 1_000 })] })
    expect(await status(ask(gateway, { max_tokens: 900 }))).toBeGreaterThanOrEqual(500)
    await server.setBehaviour({ faults: undefined })
    await eventually(async () => (await status(ask(gateway, { max_tokens: 900 }))) === 200, "it answers")
  })

  it("of an aborted stream count up to the abort", async () => {
    const server = await ollama({ reply: "word ".repeat(600), perToken: 20 })
    const gateway = await serve([server], { keys: [key({ tokensPerMinute: 700 })] })
    const response = await ask(gateway, { stream: true, max_tokens: 650 })
    const reader = response.body?.getReader()
    let text = ""
    while (!text.includes("word")) text += new TextDecoder().decode((await reader?.read())?.value)
    await server.setBehaviour({ reply: "Well.", perToken: "burst" })
    expect(await status(ask(gateway, { max_tokens: 300 }))).toBe(429)
    await reader?.cancel()
    await eventually(
      async () => (await status(ask(gateway, { max_tokens: 300 }))) === 200,
      "what was not written is given back"
    )
  })
})

describe("with API keys", () => {
  const calls: ReadonlyArray<readonly [method: string, path: string, body?: object]> = [
    ["GET", "/v1/models"],
    ["GET", `/v1/models/${model}`],
    ["GET", "/api/tags"],
    ["GET", "/api/ps"],
    ["GET", "/api/version"],
    ["POST", "/api/show", { model }],
    ["POST", "/v1/messages/count_tokens", { model, max_tokens: 1, messages }],
    ["GET", "/metrics"],
    ["GET", "/config"],
    ["GET", "/models"],
    ["POST", "/v1/sessions"],
    ["GET", "/v1/sessions"],
    ["GET", "/v1/responses/resp_1"],
    ["POST", "/v1/embeddings", { model, input: "a" }]
  ]
  it.each(calls.map(([method, path, body]) => [method, path, body] as const))(
    "counts as a request: %s %s",
    async (method, path, body) => {
      const gateway = await serve([await ollama()], { keys: [key({ requestsPerMinute: 1 })] })
      const call = () =>
        gateway.get(path, {
          method,
          headers: { ...bearer("sk-a"), "content-type": "application/json" },
          body: body === undefined ? null : JSON.stringify(body)
        })
      expect(await status(call())).not.toBe(429)
      expect(await status(call())).toBe(429)
    }
  )

  it("health and documents need no key, and do not count", async () => {
    const gateway = await serve([await ollama()], { keys: [key({ requestsPerMinute: 1 })] })
    for (const path of ["/health", "/ready", "/openapi.json"]) {
      for (let i = 0; i < 3; i++) expect(await status(gateway.get(path, { headers: bearer("sk-a") }))).toBe(200)
    }
    expect(await status(ask(gateway))).toBe(200)
  })

  it("one key's storm of sessions deletes no conversation of another", async () => {
    const gateway = await serve([await ollama()], {
      keys: [key({ requestsPerMinute: 1 }), { name: "b", key: "sk-b" }]
    })
    const { id } = await json(gateway.post("/v1/sessions", {}, { headers: bearer("sk-b") }))
    expect(await status(ask(gateway, { session: id }, bearer("sk-b")))).toBe(200)
    const made = await Promise.all(
      Array.from({ length: 50 }, () => status(gateway.post("/v1/sessions", {}, { headers: bearer("sk-a") })))
    )
    expect(made.filter((one) => one === 201)).toHaveLength(1)
    expect(made.filter((one) => one === 429)).toHaveLength(49)
    const history = await json(gateway.get(`/v1/sessions/${id}`, { headers: bearer("sk-b") }))
    expect(history.messages).toHaveLength(2)
  })
})

describe("the rights of an administrator", () => {
  const keys: ReadonlyArray<Gateway.Key> = [key(), { name: "boss", key: "sk-boss", admin: true }]
  const requests: ReadonlyArray<readonly [what: string, path: string, body: object]> = [
    ["pull", "/api/pull", { model, stream: false, server: "all" }],
    ["copy", "/api/copy", { source: model, destination: "mine", server: "all" }],
    ["unload by chat", "/api/chat", { model, messages: [], keep_alive: 0 }],
    ["unload by generate", "/api/generate", { model, prompt: "", keep_alive: "0s" }],
    ["unload after an answer", "/api/chat", { model, messages, stream: false, keep_alive: 0 }],
    ["keep for ever", "/api/chat", { model, messages, stream: false, keep_alive: -1 }],
    ["keep for a day", "/v1/chat/completions", { model, messages, keep_alive: "24h" }],
    ["keep for a day, by embedding", "/api/embed", { model: "embedder", input: "a", keep_alive: 86_400 }],
    ["a long context", "/v1/chat/completions", { model, messages, num_ctx: 1_000_000 }],
    ["a long context, in options", "/api/chat", { model, messages, stream: false, options: { num_ctx: 40_000 } }],
    ["another way of loading", "/api/generate", { model, prompt: "a", stream: false, options: { num_gpu: 0 } }]
  ]
  it.each(requests)("are needed to %s", async (_, path, body) => {
    const server = await ollama({ models: [model, { name: "embedder", capabilities: ["embedding"] }] })
    const gateway = await serve([server], { keys })
    const refused = await gateway.post(path, body, { headers: bearer("sk-a") })
    const reported = await json(refused)
    expect([refused.status, JSON.stringify(reported)]).toMatchObject([403, expect.stringContaining("admin")])
    const requestsOf = () => server.requests.filter(({ method }) => method !== "GET").map(({ path }) => path)
    expect(requestsOf().filter((one) => one !== "/api/show")).toEqual([])
    expect(await status(gateway.post(path, body, { headers: bearer("sk-boss") }))).toBe(200)
  })

  it("are not needed for harmless operations", async () => {
    const gateway = await serve([await ollama()], { keys })
    for (const body of [{ keep_alive: "5m" }, { keep_alive: 3_600 }, { num_ctx: 32_768 }, { options: { mirostat: 1 } }])
      expect(await status(ask(gateway, body))).toBe(200)
    const wide = await serve([await ollama()], { keys, maxContext: 100, maxKeepAlive: 1_000 })
    expect(await status(ask(wide, { num_ctx: 101 }))).toBe(403)
    expect(await status(ask(wide, { keep_alive: 2 }))).toBe(403)
    expect(await status(ask(wide, { num_ctx: 100, keep_alive: 1 }))).toBe(200)
  })

  it("without keys belong to this machine only, not to clients behind a proxy", async () => {
    const gateway = await serve([await ollama()])
    const pull = (headers: Record<string, string>) =>
      status(gateway.post("/api/pull", { model, stream: false }, { headers }))
    expect(await pull({})).toBe(200)
    for (const name of ["x-forwarded-for", "x-real-ip", "forwarded"]) {
      expect(await pull({ [name]: name === "forwarded" ? "for=192.0.2.1" : "192.0.2.1" })).toBe(403)
    }
  })
})

describe("the Host header of a gateway without keys", () => {
  const called = async (gateway: TestGateway, host: string) => {
    const answer = await rawRequest(
      gateway.port,
      `GET /v1/models HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`
    )
    return Number(/^HTTP\/1\.1 (\d+) /.exec(answer)?.[1])
  }

  it("is checked off loopback, too: an address, a name without a dot, or an allowed one", async () => {
    const gateway = await serve([await ollama()], { host: "0.0.0.0", insecure: true, hosts: ["llm.example"] })
    for (const host of [
      "192.0.2.7:8000",
      "[2001:db8::1]:8000",
      "localhost",
      "aicortex:8000",
      "llm.example",
      "LLM.example.:80"
    ])
      expect([host, await called(gateway, host)]).toEqual([host, 200])
    for (const host of ["evil.example", "evil.example:8000", "llm.example.evil.example", "127.0.0.1.evil.example"])
      expect([host, await called(gateway, host)]).toEqual([host, 403])
  })

  it("is not checked with keys, and must be a valid name", async () => {
    const gateway = await serve([await ollama()], { host: "0.0.0.0", keys: [key()] })
    expect(await called(gateway, "any.example")).toBe(401)
    await expect(startGateway([], { hosts: ["http://llm.example"] })).rejects.toMatchObject({ field: "hosts" })
  })
})

describe("a change of the settings", () => {
  const started = async (options: Gateway.Options = {}) => {
    const folder = await mkdtemp(join(tmpdir(), "aicortex-limits-"))
    keep({ [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) })
    const file = join(folder, "config.json")
    const server = await ollama()
    const write = (gateway: object) => writeFileSync(file, JSON.stringify({ servers: [server.url], gateway }))
    write({ keys: [{ name: "a", key: "sk-a" }] })
    const gateway = keep(await startGateway([], options, { cortex: { servers: undefined, configFile: file } }))
    return { gateway, write }
  }

  it.each([
    ["no keys", {}],
    ["an empty list", { keys: [] }]
  ])("never opens a closed gateway: %s", async (_, section) => {
    const { gateway, write } = await started()
    expect(await status(ask(gateway, {}, {}))).toBe(401)
    write(section)
    await gateway.reload()
    expect(await status(ask(gateway, {}, {}))).toBe(401)
    expect(await status(ask(gateway))).toBe(200)
    expect(gateway.log.join("\n")).toMatch(/WARNING.*no API key.*old keys stay in force: a/)
    // Another key is a change like any other.
    write({ keys: [{ name: "b", key: "sk-b" }] })
    await gateway.reload()
    expect(await status(ask(gateway))).toBe(401)
    expect(await status(ask(gateway, {}, bearer("sk-b")))).toBe(200)
  })

  it("opens it if access without a key is allowed", async () => {
    const { gateway, write } = await started({ insecure: true })
    write({})
    await gateway.reload()
    expect(await status(ask(gateway, {}, {}))).toBe(200)
  })
})
