import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { Agent, createServer, get } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Cortex, Gateway } from "aicortex"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { describe, expect, it } from "vitest"
import { routes } from "../../src/gateway/routes.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, rawRequest, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"
import { parse } from "../support/prometheus.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]
const keep = useKeep()
const ollama = async (options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(await startFakeOllama({ models: [model], reply: "Well.", ...options }))
const openai = async (options: Parameters<typeof startFakeOpenAI>[0] = {}) =>
  keep(await startFakeOpenAI({ models: [model], reply: "Well.", ...options }))
const serve = async (
  servers: ReadonlyArray<FakeServer>,
  options: Gateway.Options = {},
  more: Parameters<typeof startGateway>[2] = {}
) =>
  keep(
    await startGateway(
      servers.map(({ url }, priority) => ({ url, priority })),
      options,
      more
    )
  )
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response> | Response): Promise<any> => (await response).json()
const ask = (gateway: TestGateway, body: object = {}, headers: Record<string, string> = {}) =>
  gateway.post("/v1/chat/completions", { model, messages, ...body }, { headers })
const textOf = async (response: Promise<Response>) => (await json(response)).choices[0].message.content

describe("which model answers", () => {
  it("auto picks a suitable model, and names it", async () => {
    const one = await ollama({
      models: [
        { name: "plain:7b", capabilities: ["completion"] },
        { name: "tools:3b", capabilities: ["completion", "tools"] },
        { name: "eyes:4b", capabilities: ["completion", "vision"] },
        { name: "embedder", capabilities: ["embedding"] }
      ]
    })
    const gateway = await serve([one])
    const model = async (body: object) => (await json(ask(gateway, { model: "auto", ...body }))).model
    expect(await model({})).toBe("auto (selected: ollama:plain:7b)")
    const tools = [{ type: "function", function: { name: "f" } }]
    expect(await model({ tools })).toBe("auto (selected: ollama:tools:3b)")
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } }
    expect(await model({ messages: [{ role: "user", content: [image] }] })).toBe("auto (selected: ollama:eyes:4b)")
    // The catalogue says of this one only that it calls tools.
    const known = await serve([await ollama({ models: ["llama3.2:3b"], tellsCapabilities: false })])
    expect((await json(ask(known, { model: "auto" }))).model).toBe("auto (selected: ollama:llama3.2:3b)")
    const both = await ask(gateway, { model: "auto", tools, messages: [{ role: "user", content: [image] }] })
    expect([both.status, (await json(both)).error.code]).toEqual([404, "model_not_found"])
  })

  it("auto prefers loaded models, then the lowest failure rate", async () => {
    const models = ["big:70b", "small:1b"].map((name) => ({ name, capabilities: ["completion"] }))
    const one = await ollama({ models, loaded: ["small:1b"] })
    const gateway = await serve([one])
    expect((await json(ask(gateway, { model: "auto" }))).model).toBe("auto (selected: ollama:small:1b)")
    await one.setBehaviour({
      faults: (_, body) => (body.model === "small:1b" ? { kind: "status", code: 500 } : undefined)
    })
    expect((await json(ask(gateway, { model: "auto" }))).model).toBe("auto (selected: ollama:big:70b)")
  })

  it("a provider before the first colon selects the kind of server", async () => {
    const one = await ollama({ reply: "from ollama" })
    const two = await openai({ reply: "from openai" })
    const gateway = await serve([one, two])
    expect(await textOf(ask(gateway, { model: `openai:${model}` }))).toBe("from openai")
    expect(await textOf(ask(gateway, { model: `ollama:${model}` }))).toBe("from ollama")
    expect((await json(ask(gateway, { model: `openai:${model}` }))).model).toBe(`openai:${model}`)
    expect((await ask(gateway, { model: `embedded:${model}` })).status).toBe(404)
  })

  it("an alias is a chain, followed before the first token", async () => {
    const one = await ollama({
      models: ["a", "b"],
      faults: (_, body) => (String(body.model).startsWith("a") ? { kind: "status", code: 500 } : undefined)
    })
    const gateway = await serve([one], { aliases: { fast: ["missing", "a", "b"], plain: "b" } })
    const answer = await json(ask(gateway, { model: "fast" }))
    expect([answer.model, answer.choices[0].message.content]).toEqual(["b", "Well."])
    const stream = await (await ask(gateway, { model: "fast", stream: true })).text()
    expect(stream).toContain(`"model":"b"`)
    expect(stream).toMatch(/\[DONE\]\n\n$/)
    expect((await json(ask(gateway, { model: "plain" }))).model).toBe("b")
    const lines = await (await gateway.post("/api/chat", { model: "fast", messages })).text()
    expect(lines).toContain(`"model":"b"`)
  })

  it("an alias is in the lists of models, also in the form of Ollama's clients", async () => {
    const one = await ollama({ models: ["a", "b"] })
    const gateway = await serve([one], { aliases: { fast: ["missing", "ollama:b"], gone: "missing" } })
    const { models } = await json(gateway.get("/api/tags"))
    const names = models.map(({ name }: { name: string }) => name)
    expect(names).toEqual(["a:latest", "b:latest", "fast", "auto"])
    expect(models[2]).toEqual({ ...models[1], name: "fast", model: "fast" })
    expect(models[3]).toMatchObject({ model: "auto", servers: models[0].servers })
    const shown = async (name: string): Promise<string> => {
      expect((await gateway.post("/api/show", { model: name })).status).toBe(200)
      return one.requests.findLast(({ path }) => path === "/api/show")?.body.model
    }
    expect([await shown("fast"), await shown("ollama:b"), await shown("a")]).toEqual([
      "b:latest",
      "b:latest",
      "a:latest"
    ])
    expect(["a:latest", "b:latest"]).toContain(await shown("auto"))
    expect((await gateway.post("/api/show", { model: "gone" })).status).toBe(404)
    for (const name of ["fast", "fast:latest"]) {
      const lines = await (await gateway.post("/api/chat", { model: name, messages })).text()
      expect(lines).toContain(`"model":"b"`)
      expect((await gateway.get(`/v1/models/${name}`)).status).toBe(200)
    }
    expect((await json(ask(gateway, { model: "auto:latest" }))).model).toMatch(/^auto \(selected: ollama:/)
  })

  it("a chain may contain other chains, and auto", async () => {
    const one = await ollama({ models: ["a", "b"] })
    const aliases = { fast: ["missing", "b"], nested: ["gone", "fast"], any: ["missing", "auto"], a: ["a", "b"] }
    const gateway = await serve([one], { aliases, defaultModel: "a" })
    const answered = async (model: string) => (await json(ask(gateway, { model }))).model
    expect(await answered("nested")).toBe("b")
    expect(await answered("any")).toMatch(/^auto \(selected: ollama:[ab]/)
    expect(await answered("a")).toBe("a")
    for (const wrong of [{ a: "b", b: "a" }, { a: ["x", "b"], b: ["a"] }, { a: [] }, { auto: "a" }]) {
      await expect(startGateway([], { aliases: wrong })).rejects.toMatchObject({
        field: expect.stringMatching(/^aliases/)
      })
    }
    const nothing = await serve([await ollama({ models: [{ name: "e", capabilities: ["embedding"] }] })], {
      aliases: { any: ["auto", "missing"], only: "auto" }
    })
    for (const model of ["any", "only"]) expect((await ask(nothing, { model })).status).toBe(404)
  })

  it("the default model is used if none is named", async () => {
    const one = await ollama({ models: ["a", "b"] })
    const gateway = await serve([one], { defaultModel: "b" })
    expect((await json(gateway.post("/v1/chat/completions", { messages }))).model).toBe("b")
    const body = { headers: { accept: "application/json" } }
    expect((await json(gateway.get("/", body))).default_model).toBe("b")
    expect((await json(gateway.post("/api/chat", { messages, stream: false }))).model).toBe("b")
  })
})

describe("other request fields", () => {
  it("JSON that does not match is repaired once, and else refused", async () => {
    const response_format = {
      type: "json_schema",
      json_schema: { name: "a", schema: { type: "object", required: ["x"] } }
    }
    const one = await ollama({ reply: (_, n) => (n === 0 ? `{"y":1}` : '```json\n{"x":1}\n```') })
    const gateway = await serve([one])
    const mended = await json(ask(gateway, { response_format }))
    expect(mended.choices[0].message.content).toBe(`{"x":1}`)
    expect(one.chatRequests).toHaveLength(2)
    // Both answers were written for it.
    const once = (await json(ask(gateway))).usage
    expect(mended.usage.completion_tokens).toBeGreaterThan(once.completion_tokens)
    expect(mended.usage.prompt_tokens).toBeGreaterThanOrEqual(2 * once.prompt_tokens)
    expect(mended.usage.total_tokens).toBe(mended.usage.prompt_tokens + mended.usage.completion_tokens)
    expect(one.chatRequests[1]?.body.messages.at(-1).content).toContain("'x'")
    await one.setBehaviour({ reply: `{"y":1}` })
    const refused = await ask(gateway, { response_format })
    expect([refused.status, (await json(refused)).error.code]).toEqual([422, "schema_mismatch"])
    const stream = await (await ask(gateway, { response_format, stream: true })).text()
    expect(stream).toMatch(/"code":"schema_mismatch"/)
    expect(stream).not.toContain("[DONE]")
    await one.setBehaviour({ reply: `{"x":"aaaaaaaaaaaa`, models: [model] })
    const short = await ask(gateway, { response_format: { type: "json_object" } })
    expect(short.status).toBe(422)
  })

  it("one tool call if parallel calls are disabled", async () => {
    const calls = ["a", "b"].map((name) => ({ name, arguments: { n: 1 } }))
    const one = await openai({ reply: { tokens: [], toolCalls: calls } })
    const gateway = await serve([one])
    const tools = calls.map(({ name }) => ({ type: "function", function: { name } }))
    const many = await json(ask(gateway, { tools }))
    expect(many.choices[0].message.tool_calls).toHaveLength(2)
    const ids = many.choices[0].message.tool_calls.map((call: { id: string }) => call.id)
    expect(new Set(ids).size).toBe(2)
    expect(
      (await json(ask(gateway, { tools, parallel_tool_calls: false }))).choices[0].message.tool_calls
    ).toHaveLength(1)
    const stream = await (await ask(gateway, { tools, stream: true })).text()
    const indices = [...stream.matchAll(/"tool_calls":\[\{"index":(\d)/g)].map(([, i]) => i)
    expect([indices, new Set(indices).size]).toEqual([indices.toSorted(), 2])
  })

  it("a logit bias goes to servers that support it", async () => {
    const two = await openai()
    const gateway = await serve([await ollama(), two])
    expect((await ask(gateway, { logit_bias: { 5: -100 } })).status).toBe(200)
    expect(two.chatRequests[0]?.body.logit_bias).toEqual({ 5: -100 })
    const alone = await serve([await ollama()])
    const refused = await ask(alone, { logit_bias: { 5: -100 } })
    expect([refused.status, (await json(refused)).error.param]).toEqual([400, "logit_bias"])
  })

  it("Ollama's extras are honoured on /v1", async () => {
    const one = await ollama()
    const gateway = await serve([one])
    await ask(gateway, { keep_alive: "7m", num_ctx: 2048, options: { mirostat: 1 }, think: false })
    expect(one.chatRequests[0]?.body).toMatchObject({
      keep_alive: "7m",
      think: false,
      options: { num_ctx: 2048, mirostat: 1, temperature: 0.7, top_p: 1 }
    })
  })

  it.each([true, false])(
    "another server where the first is late and the fleet is hedged (stream: %s)",
    async (stream) => {
      const late = await openai()
      const other = await openai({ reply: "Sooner." })
      const gateway = await serve([late, other], {}, { cortex: { hedge: { after: 300 } } })
      // Both are known from now on, and so many calls allow a second request.
      expect((await gateway.get("/v1/models")).status).toBe(200)
      for (let i = 0; i < 25; i++) await textOf(ask(gateway))
      late.clear()
      await late.setBehaviour({ faults: { kind: "hang" } })
      const answer = await ask(gateway, { stream })
      expect([answer.status, answer.headers.get("x-aicortex-server")]).toEqual([200, "server-2"])
      expect(await answer.text()).toContain("Sooner.")
      expect(await late.chatRequests[0]?.closedByClient).toBeTypeOf("number")
    }
  )

  it("servers are probed in advance if the fleet is configured so", async () => {
    const one = await ollama()
    await serve([one], {}, { cortex: { probeInterval: 1_000 } })
    await eventually(() => one.requests.length > 0, "a probe")
  })

  it("cached answers, on request", async () => {
    const one = await ollama({ reply: (_, n) => `answer ${n}` })
    const gateway = await serve([one])
    expect(await textOf(ask(gateway, { cache: true }))).toBe("answer 0")
    const again = await ask(gateway, { cache: true })
    expect(again.headers.get("x-aicortex-reason")).toBe("cache")
    expect(await textOf(Promise.resolve(again))).toBe("answer 0")
    expect(await (await ask(gateway, { cache: true, stream: true })).text()).toContain("answer")
    expect(one.chatRequests).toHaveLength(1)
    expect(await textOf(ask(gateway))).toBe("answer 1")
  })

  it("sessions", async () => {
    const one = await ollama({ reply: ({ messages }) => `${messages.length}` })
    const gateway = await serve([one])
    const { id } = await json(gateway.post("/v1/sessions", {}))
    expect(await textOf(ask(gateway, { session: id }))).toBe("1")
    expect(await (await ask(gateway, { stream: true }, { "x-aicortex-session": id })).text()).toContain(`"content":"3"`)
    expect((await json(gateway.get(`/v1/sessions/${id}`))).messages).toHaveLength(4)
    expect((await json(gateway.get(`/v1/sessions/${id}`, { method: "DELETE" }))).deleted).toBe(true)
    const gone = await ask(gateway, { session: id })
    expect([gone.status, (await json(gone)).error]).toMatchObject([
      404,
      { code: "session_not_found", message: `There is no session '${id}'. POST /v1/sessions creates one.` }
    ])
  })

  it("sessions in a store survive the gateway, and each key lists its own", async () => {
    const one = await ollama({ reply: ({ messages }) => `${messages.length}` })
    const folder = await mkdtemp(join(tmpdir(), "aicortex-gateway-"))
    keep({ [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) })
    const keys = ["a", "b"].map((name) => ({ name, key: `sk-${name}` }))
    const as = (name: string, init: RequestInit = {}) => ({ ...init, headers: { authorization: `Bearer sk-${name}` } })
    const start = () => serve([one], { keys }, { cortex: { store: join(folder, "store.db") } })
    const first = await start()
    const { id } = await json(first.post("/v1/sessions", {}, as("a")))
    expect(await textOf(first.post("/v1/chat/completions", { model, messages, session: id }, as("a")))).toBe("1")
    await first.close()

    const second = await start()
    expect(await textOf(second.post("/v1/chat/completions", { model, messages, session: id }, as("a")))).toBe("3")
    const list = await json(second.get("/v1/sessions", as("a")))
    expect(list).toMatchObject({ object: "list", data: [{ id, object: "session", message_count: 4 }] })
    await second.post("/v1/sessions", {}, as("a"))
    expect((await json(second.get("/v1/sessions?limit=1", as("a")))).data).toHaveLength(1)
    for (const query of ["?limit=0", "?limit=many", "?most=1"])
      expect((await second.get(`/v1/sessions${query}`, as("a"))).status).toBe(400)
    expect(await json(second.get("/v1/sessions", as("b")))).toEqual({ object: "list", data: [] })
    expect((await second.get(`/v1/sessions/${id}`, as("b"))).status).toBe(404)
    expect((await second.get("/v1/sessions")).status).toBe(401)
  })

  it.each([false, true])(
    "a client that disconnects from a conversation stops the server's work, or its place in the queue (stream: %s)",
    async (stream) => {
      const one = await ollama({ reply: ({ messages }) => `${messages.length}` })
      const gateway = await serve([one])
      const { id } = await json(gateway.post("/v1/sessions", {}))
      expect(await textOf(ask(gateway, { session: id }))).toBe("1")
      await one.setBehaviour({ faults: { kind: "hang" } })
      const sendUntil = (leave: AbortController) =>
        gateway
          .post("/v1/chat/completions", { model, messages, session: id, stream }, { signal: leave.signal })
          .then((response) => response.text())
          .then(
            () => "answered",
            () => "left"
          )
      const [first, second] = [new AbortController(), new AbortController()]
      const speaks = sendUntil(first)
      await eventually(() => one.chatRequests.length === 2, "the first is asked")
      const waits = sendUntil(second)
      await eventually(
        async () => /requests_in_flight 3/.test(await (await gateway.get("/metrics")).text()),
        "both are in"
      )
      second.abort()
      first.abort()
      expect(await Promise.all([speaks, waits])).toEqual(["left", "left"])
      await eventually(() => one.chatRequests[1]?.aborted === true, "the server sees the abort")
      await one.setBehaviour({ faults: undefined })
      expect(await textOf(ask(gateway, { session: id }))).toBe("3")
      expect(one.chatRequests).toHaveLength(3)
    }
  )

  it("what a session cannot store is refused, and leaves no trace", async () => {
    const one = await ollama()
    const gateway = await serve([one])
    const { id } = await json(gateway.post("/v1/sessions", {}))
    for (const stream of [false, true]) {
      for (const [param, value] of [
        ["n", 2],
        ["response_format", { type: "json_object" }],
        ["logprobs", true],
        ["logit_bias", { 1: 1 }]
      ] as const) {
        const refused = await ask(gateway, { session: id, stream, [param]: value })
        expect([param, refused.status, (await json(refused)).error.param]).toEqual([param, 400, param])
      }
    }
    expect(one.chatRequests).toEqual([])
    expect((await json(gateway.get(`/v1/sessions/${id}`))).messages).toEqual([])
  })
})

describe("access", () => {
  const keys = [
    { name: "admin", key: "sk-admin", admin: true },
    { name: "guest", key: Redacted.make("sk-guest"), admin: false, requestsPerMinute: 2 }
  ]
  const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

  it("no request without a key", async () => {
    const gateway = await serve([await ollama()], { keys })
    const refused = await ask(gateway)
    expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([401, "Bearer"])
    expect((await json(refused)).error).toMatchObject({ type: "authentication_error", code: "missing_api_key" })
    expect((await json(ask(gateway, {}, bearer("sk-other")))).error.code).toBe("invalid_api_key")
    expect((await ask(gateway, {}, bearer("sk-admin"))).status).toBe(200)
    expect((await ask(gateway, {}, { "x-api-key": "sk-admin" })).status).toBe(200)
    for (const path of ["/v1/models", "/api/tags", "/metrics", "/config", "/models"]) {
      expect((await gateway.get(path)).status).toBe(401)
    }
    for (const path of ["/health", "/ready", "/", "/docs", "/openapi.json"])
      expect((await gateway.get(path)).status).toBe(200)
    expect(JSON.stringify(await json(gateway.get("/config", { headers: bearer("sk-admin") })))).not.toContain("sk-")
  })

  it("each key within its limits", async () => {
    const gateway = await serve([await ollama({ reply: "a b c d e f g h" })], {
      keys: [
        ...keys,
        { name: "few", key: "sk-few", tokensPerMinute: 10 },
        { name: "one", key: "sk-one", concurrency: 1 }
      ]
    })
    for (const status of [200, 200, 429]) {
      const response = await ask(gateway, {}, bearer("sk-guest"))
      expect(response.status).toBe(status)
      if (status === 429) {
        expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0)
        expect((await json(response)).error).toMatchObject({ type: "rate_limit_error", code: "rate_limit_exceeded" })
      }
    }
    expect((await ask(gateway, {}, bearer("sk-few"))).status).toBe(200)
    expect((await ask(gateway, {}, bearer("sk-few"))).status).toBe(429)
    const both = await Promise.all([ask(gateway, {}, bearer("sk-one")), ask(gateway, {}, bearer("sk-one"))])
    expect(both.map(({ status }) => status).sort()).toEqual([200, 429])
    expect((await ask(gateway, {}, bearer("sk-one"))).status).toBe(200)
    expect((await gateway.post("/api/pull", { model: "x" }, { headers: bearer("sk-guest") })).status).toBe(403)
    expect(
      (await gateway.post("/api/pull", { model: "x", stream: false }, { headers: bearer("sk-admin") })).status
    ).toBe(200)
  })

  it("only listed web origins, and only this machine's names", async () => {
    const gateway = await serve([await ollama()], { cors: ["https://good.example"] })
    const from = (origin: string) => ask(gateway, {}, { origin })
    expect((await from("https://bad.example")).status).toBe(403)
    const good = await from("https://good.example")
    expect([good.status, good.headers.get("access-control-allow-origin")]).toEqual([200, "https://good.example"])
    expect((await from("http://localhost:5173")).status).toBe(200)
    const preflight = await gateway.get("/v1/chat/completions", {
      method: "OPTIONS",
      headers: { origin: "https://good.example", "access-control-request-headers": "authorization, x-custom" }
    })
    expect([preflight.status, preflight.headers.get("access-control-allow-headers")]).toEqual([
      204,
      "authorization, x-custom"
    ])
    const rebound = await rawRequest(
      gateway.port,
      `GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n`
    )
    expect(rebound).toMatch(/^HTTP\/1\.1 403 /)
  })

  it("no other machine, unless there is a key or it is allowed", async () => {
    const start = (options: Gateway.Options) => startGateway([], { host: "0.0.0.0", ...options })
    await expect(start({})).rejects.toMatchObject({ _tag: "InvalidConfig", field: "host" })
    await (await start({ keys })).close()
    await (await start({ insecure: true })).close()
    await expect(start({ keys: [{ name: "a", key: "" }] })).rejects.toMatchObject({ field: "keys" })
    await expect(start({ keys: [...keys, { name: "twin", key: "sk-admin" }] })).rejects.toMatchObject({
      field: "keys",
      reason: expect.not.stringContaining("sk-")
    })
    await expect(startGateway([], { cors: ["example.com"] })).rejects.toMatchObject({ field: "cors" })
    await expect(startGateway([], { port: 70_000 })).rejects.toMatchObject({ field: "port" })
  })

  it("the error for a used port names the port", async () => {
    const gateway = await serve([])
    await expect(startGateway([], { port: gateway.port })).rejects.toMatchObject({ field: "port" })
  })
})

describe("reported data", () => {
  it("addresses only if they may be shown", async () => {
    const bad = await ollama({ faults: { kind: "status", code: 500, body: { error: "boom at http://10.1.2.3:99/x" } } })
    const wrong = await ollama({
      faults: { kind: "status", code: 400, body: { error: "bad thing at http://10.1.2.3:99/x" } }
    })
    const quiet = await ask(await serve([bad], { maxRetries: 1 }))
    expect(quiet.status).toBe(502)
    const { error } = await json(quiet)
    expect(error.attempts).toEqual([
      { server: "server-1", phase: "first-token", reason: "server-error", elapsed_ms: expect.any(Number), status: 500 }
    ])
    expect(JSON.stringify(error)).not.toMatch(/127\.0\.0\.1|10\.1\.2\.3/)
    const reported = await ask(await serve([bad], { exposeServers: true, maxRetries: 1 }))
    expect((await json(reported)).error.attempts[0]).toMatchObject({
      server: bad.url,
      message: "boom at http://10.1.2.3:99/x"
    })
    const open = await ask(await serve([await ollama()], { exposeServers: true }))
    expect(open.headers.get("x-aicortex-server")).toMatch(/^http:\/\/127\.0\.0\.1:/)
    const refused = await json(ask(await serve([wrong])))
    expect(refused.error.message).toBe("bad thing at …")
  })

  it("why a server was chosen", async () => {
    const gateway = await serve([await ollama({ faults: { kind: "status", code: 500 } }), await ollama()])
    const after = await ask(gateway)
    expect(after.headers.get("x-aicortex-reason")).toBe("failover after server-error")
    expect(after.headers.get("x-aicortex-server")).toBe("server-2")
    expect((await ask(gateway, { routing: "fastest" })).headers.get("x-aicortex-reason")).toBe("fastest")
    const mine = await ask(gateway, {}, { "x-request-id": "mine-1" })
    expect(mine.headers.get("x-request-id")).toBe("mine-1")
    expect((await ask(gateway, {}, { "x-request-id": "not fine" })).headers.get("x-request-id")).toMatch(/^req-/)
  })

  it("metrics for Prometheus, with its own overhead", async () => {
    const gateway = await serve([await ollama({ faults: { kind: "status", code: 500 } }), await ollama()])
    await ask(gateway)
    await (await ask(gateway, { stream: true })).text()
    await ask(gateway, { temperature: 9 })
    await eventually(() => true, "")
    const text = await (await gateway.get("/metrics")).text()
    expect(text).toContain(`aicortex_requests_total{route="/v1/chat/completions",status="200"} 2`)
    expect(text).toContain(`aicortex_requests_total{route="/v1/chat/completions",status="400"} 1`)
    expect(text).toMatch(/aicortex_overhead_seconds_bucket\{le="0\.001"\} \d/)
    expect(text).toMatch(/aicortex_overhead_seconds_count 3/)
    expect(text).toMatch(/aicortex_time_to_first_token_seconds_count 1/)
    expect(text).toContain(`aicortex_server_up{server="server-2"} 1`)
    expect(() => parse(text)).not.toThrow()
  })

  it("its own identity", async () => {
    const gateway = await serve([await ollama()])
    expect(await json(gateway.get("/health"))).toMatchObject({ status: "ok" })
    expect(await json(gateway.get("/models"))).toEqual({ models: [model], default_model: "auto", total_models: 1 })
    expect(await json(gateway.get("/config"))).toMatchObject({
      available_models: [model],
      model_count: 1,
      port: gateway.port
    })
    const { paths } = await json(gateway.get("/openapi.json"))
    for (const [path, methods] of Object.entries(paths)) {
      for (const method of Object.keys(methods as object)) {
        const response = await gateway.get(path.replace("{id}", "x"), { method: method.toUpperCase() })
        expect([path, response.status]).not.toEqual([path, 405])
        // This gateway manages no models of its machine.
        const managed = response.status === 404 && (await response.clone().text()).includes("no_local_models")
        if (!path.includes("{id}") && !managed) expect([path, response.status]).not.toEqual([path, 404])
      }
    }
    const page = await (await gateway.get("/docs")).text()
    for (const [path, methods] of routes) {
      const documented = path.endsWith("/") && path !== "/" ? `${path}{id}` : path
      expect([documented, Object.keys(paths[documented] ?? {}).sort()]).toEqual([
        documented,
        [...methods.keys()].map((method) => method.toLowerCase()).sort()
      ])
      expect(page).toContain(`<code>${documented}</code>`)
    }
    expect((await gateway.get("/v1/models", { method: "HEAD" })).status).toBe(200)
    const wrong = await gateway.get("/v1/chat/completions")
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST, OPTIONS"])
  })

  it("every accepted parameter, and no other", async () => {
    const gateway = await serve([await ollama()], { strict: true })
    const document = await json(gateway.get("/openapi.json"))
    const schemas = new Map<string, ReadonlyArray<string>>()
    const ids = new Set<string>()
    for (const [path, methods] of Object.entries(document.paths)) {
      // biome-ignore lint/suspicious/noExplicitAny: a document is read freely.
      for (const operation of Object.values(methods as Record<string, any>)) {
        ids.add(operation.operationId)
        const schema = operation.requestBody?.content["application/json"]?.schema
        if (schema?.additionalProperties === false && /^\/v1\/(?!(models|sessions)\/)/.test(path))
          schemas.set(path, Object.keys(schema.properties))
      }
    }
    expect(ids.size).toBe(Object.values(document.paths).flatMap((methods) => Object.keys(methods as object)).length)
    expect([...schemas.keys()]).toHaveLength(6)
    const others =
      "functions function_call audio web_search_options suffix best_of echo logprobs previous_response_id conversation " +
      "background prompt max_tool_calls top_logprobs raw template context images system encoding_format dimensions " +
      "truncate shift include truncation verbosity modalities n messages input model stream wat"
    const names = new Set([...others.split(" "), ...[...schemas.values()].flat()])
    for (const [path, taken] of schemas) {
      const refused: Array<string> = []
      for (const name of names) {
        // No parameter is a list of this, so that nothing is asked of a server.
        const response = await gateway.post(path, { model: {}, [name]: [[{}]] })
        const { error } = await json(response)
        const message: string = error?.message ?? error ?? ""
        if (response.status === 400 && /is not a parameter of this endpoint|is not supported:/.test(message))
          refused.push(name)
      }
      expect([path, [...names].filter((name) => !refused.includes(name)).sort()]).toEqual([path, [...taken].sort()])
    }
  })

  it("that no server answers", async () => {
    const one = await ollama()
    const gateway = await serve([one], {}, { cortex: { discoveryTtl: 1 } })
    expect((await gateway.get("/ready")).status).toBe(200)
    await one.stop()
    expect((await gateway.get("/ready")).status).toBe(503)
    // The built-in model does not stand in for it.
    const refused = await ask(gateway, { model: "auto" })
    expect([refused.status, (await json(refused)).error.code]).toEqual([503, "no_server_answers"])
    for (const path of ["/v1/models", "/api/tags"])
      expect([path, (await gateway.get(path)).status]).toEqual([path, 503])
    expect((await gateway.get("/health")).status).toBe(200)
  })
})

describe("reload and shutdown", () => {
  it("reloads its file without dropping a stream, and keeps sessions", async () => {
    const folder = await mkdtemp(join(tmpdir(), "gateway-"))
    const file = join(folder, "config.json")
    const old = await ollama({ reply: "old ".repeat(40), perToken: 20 })
    const fresh = await ollama({ reply: "new" })
    const write = (server: FakeServer | undefined) =>
      writeFileSync(
        file,
        server === undefined ? "{" : JSON.stringify({ servers: [server.url], gateway: { aliases: { a: model } } })
      )
    try {
      write(old)
      const gateway = keep(await startGateway([], {}, { cortex: { servers: undefined, configFile: file } }))
      const { id } = await json(gateway.post("/v1/sessions", {}))
      const stream = await ask(gateway, { stream: true })
      write(fresh)
      await eventually(() => gateway.log.some((line) => line.includes("read")), "the file is read again")
      expect(await textOf(ask(gateway, { model: "a" }))).toBe("new")
      const text = await stream.text()
      expect(text).toMatch(/\[DONE\]\n\n$/)
      expect(text.match(/old/g)).toHaveLength(40)
      expect((await gateway.get(`/v1/sessions/${id}`)).status).toBe(200)
      write(undefined)
      await eventually(
        () => gateway.log.some((line) => line.includes("stay as they were")),
        "an invalid file is logged"
      )
      expect(await textOf(ask(gateway))).toBe("new")
      await expect(gateway.reload()).rejects.toMatchObject({ _tag: "InvalidConfig" })
      await rm(file)
      await expect(gateway.reload()).rejects.toMatchObject({ field: "file", source: file })
      expect(await textOf(ask(gateway))).toBe("new")
      await expect(startGateway([], {}, { cortex: { configFile: file } })).rejects.toMatchObject({ field: "file" })
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it("sees its file change behind links, of Kubernetes and of its owner", async () => {
    const folder = await mkdtemp(join(tmpdir(), "gateway-"))
    const one = await ollama({ reply: "one" })
    const write = (at: string, alias: string) => {
      mkdirSync(join(folder, at), { recursive: true })
      const text = JSON.stringify({ servers: [one.url], gateway: { aliases: { [alias]: model } } })
      writeFileSync(join(folder, at, "config.json"), text)
    }
    const link = (to: string, at: string) => {
      symlinkSync(to, join(folder, `${at}.new`))
      renameSync(join(folder, `${at}.new`), join(folder, at))
    }
    try {
      write("..1", "first")
      link("..1", "..data")
      link(join("..data", "config.json"), "config.json")
      const configFile = join(folder, "config.json")
      const gateway = keep(await startGateway([], {}, { cortex: { servers: undefined, configFile } }))
      const knows = async (alias: string) => {
        await eventually(async () => (await ask(gateway, { model: alias })).status === 200, `it knows ${alias}`)
      }
      await knows("first")
      write("..2", "second")
      link("..2", "..data")
      await knows("second")
      write("..2", "third")
      await knows("third")
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it("waits at its end as long as the last settings say", async () => {
    const folder = await mkdtemp(join(tmpdir(), "gateway-"))
    const file = join(folder, "config.json")
    const one = await ollama({ faults: { kind: "stall", after: 1 } })
    const write = (drain: number) =>
      writeFileSync(file, JSON.stringify({ servers: [one.url], gateway: { drain, timeout: 600 } }))
    try {
      write(600)
      const gateway = await startGateway([], { drain: undefined }, { cortex: { servers: undefined, configFile: file } })
      write(0.05)
      await eventually(() => gateway.log.some((line) => line.includes("again")), "the file is read again")
      const stream = await ask(gateway, { stream: true })
      await gateway.close()
      expect(await stream.text()).toMatch(/"code":"shutting_down"/)
      expect(gateway.log.slice(-2)).toEqual([
        "stopping: 1 request is still being answered",
        "cut off 1 that had not ended after 0.05 s; --drain gives them longer"
      ])
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it("lets requests finish, and then accepts no more", async () => {
    const one = await ollama({ reply: "word ".repeat(30), perToken: 20 })
    const gateway = await startGateway([one.url], { drain: 60_000 })
    const stream = await ask(gateway, { stream: true })
    const closed = gateway.close()
    expect(await stream.text()).toMatch(/\[DONE\]\n\n$/)
    await closed
    await expect(gateway.get("/health")).rejects.toThrow()
  })

  it("answers requests that come meanwhile on open connections, and closes each of these with its answer", async () => {
    const one = await ollama({ reply: "word ".repeat(30), perToken: 20 })
    const gateway = await startGateway([one.url], { drain: 60_000 })
    const agents = [1, 2].map(() => new Agent({ keepAlive: true, maxSockets: 1 }))
    const request = (agent: Agent | undefined) =>
      new Promise<readonly [number | undefined, string | undefined]>((resolve, reject) => {
        get(`${gateway.url}/v1/models`, { agent }, (response) => {
          const { headers, statusCode } = response.resume()
          response.once("end", () => resolve([statusCode, headers.connection]))
        }).once("error", reject)
      })
    const [first, second] = agents
    expect(await Promise.all([request(first), request(second)])).toEqual([
      [200, "keep-alive"],
      [200, "keep-alive"]
    ])
    const stream = await ask(gateway, { stream: true })
    const closed = gateway.close()
    expect(await request(first)).toEqual([200, "close"])
    expect(await stream.text()).toMatch(/\[DONE\]\n\n$/)
    // Nothing is answered any more, but this connection is still open.
    expect(await request(second)).toEqual([200, "close"])
    await closed
  })

  it("does not wait forever, and the stream says so", async () => {
    const one = await ollama({ faults: { kind: "stall", after: 1 } })
    const gateway = await startGateway([one.url], { drain: 50 })
    const stream = await ask(gateway, { stream: true })
    await gateway.close()
    const text = await stream.text()
    expect(text).not.toContain("[DONE]")
    expect(text).toMatch(/"code":"shutting_down"/)
    expect(await one.chatRequests[0]?.closedByClient).toBeDefined()
  })
})

describe("in another HTTP server", () => {
  it("can be mounted at a path", async () => {
    const one = await ollama({ reply: "a b c" })
    const scope = await Effect.runPromise(Scope.make())
    const node = createServer()
    const application = HttpRouter.empty.pipe(
      HttpRouter.get("/own", HttpServerResponse.text("mine")),
      HttpRouter.mountApp("/llm", Gateway.app),
      HttpServer.serve(),
      Layer.provide(Gateway.layer({ aliases: { fast: model } })),
      Layer.provide(Cortex.layer({ servers: [one.url], configFile: false })),
      Layer.provide(NodeHttpServer.layer(() => node, { port: 0, host: "127.0.0.1" }))
    )
    await Effect.runPromise(Layer.buildWithScope(application, scope))
    try {
      const address = node.address()
      const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`
      expect(await (await fetch(`${url}/own`)).text()).toBe("mine")
      const post = (body: object) =>
        fetch(`${url}/llm/v1/chat/completions`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body)
        })
      expect(await textOf(post({ model: "fast", messages }))).toBe("a b c")
      expect(await (await post({ model, messages, stream: true })).text()).toMatch(/\[DONE\]\n\n$/)
      expect((await fetch(`${url}/llm/api/tags`)).status).toBe(200)
      expect((await post({ model: "nope", messages })).status).toBe(404)
      expect((await fetch(`${url}/llm/nope`)).status).toBe(404)
    } finally {
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  })
})
