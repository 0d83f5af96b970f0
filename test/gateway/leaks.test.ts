import type { Gateway } from "aicortex"
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import { SessionsUnavailable } from "../../src/Errors.js"
import * as Redaction from "../../src/gateway/http/redaction.js"
import { isPublic } from "../../src/gateway/pipeline/imageUrls.js"
import * as Sessions from "../../src/Sessions.js"
import { type FakeServer, type Fault, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]
const keep = useKeep()
const key = "sk-upstream-canary"
const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI }
const fake = async (protocol: keyof typeof fakes, options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(
    await fakes[protocol]({
      models: [model, { name: "embedder", capabilities: ["embedding"] }],
      reply: "a b c d",
      ...options
    })
  )

const words = [
  "dial tcp 10.11.12.13:11434: connect: connection refused",
  "unable to load model: /root/.ollama/models/blobs/sha256-canary",
  "Get http://ollama-canary.internal:11434/api/show failed",
  `the key ${key} is not valid`,
  "C:\\Users\\canary\\models\\x.gguf is missing",
  "listen [fd00:canary::1]:8080 and fe80::ca:1"
].join("; ")
const canaries = ["10.11.12.13", "/root/", "sha256-canary", "ollama-canary", key, "Users\\", "fe80::ca"]

const endpoints: ReadonlyArray<readonly [method: string, path: string, body?: object]> = [
  ...[false, true].flatMap((stream) => [
    ["POST", "/v1/chat/completions", { model, messages, stream }] as const,
    ["POST", "/v1/completions", { model, prompt: "Hi", stream }] as const,
    ["POST", "/v1/responses", { model, input: "Hi", stream }] as const,
    ["POST", "/v1/messages", { model, max_tokens: 10, messages, stream }] as const,
    ["POST", "/api/chat", { model, messages, stream }] as const,
    ["POST", "/api/generate", { model, prompt: "Hi", stream }] as const,
    ["POST", "/api/pull", { model: "new", stream, server: "all" }] as const
  ]),
  ["POST", "/v1/embeddings", { model: "embedder", input: "Hi" }],
  ["POST", "/api/embed", { model: "embedder", input: "Hi" }],
  ["POST", "/api/embeddings", { model: "embedder", prompt: "Hi" }],
  ["POST", "/api/show", { model }],
  ["POST", "/api/chat", { model, messages: [] }],
  ["POST", "/api/copy", { source: model, destination: "mine", server: "all" }],
  ["DELETE", "/api/delete", { model, server: "all" }],
  ["GET", "/api/tags"],
  ["GET", "/api/ps"],
  ["GET", "/v1/models"],
  ["GET", "/ready"],
  ["GET", "/config"],
  ["GET", "/metrics"]
]

const faults: ReadonlyArray<Fault> = [
  ...[400, 401, 404, 413, 429, 500, 503].map((code) => ({ kind: "status", code, body: { error: words } }) as const),
  { kind: "status", code: 302, headers: { location: "http://ollama-canary.internal:11434/x" }, body: "" },
  { kind: "errorLine", after: 0, message: words },
  { kind: "errorLine", after: 2, message: words },
  { kind: "refuse" },
  { kind: "reset" },
  { kind: "garbage" },
  { kind: "cut", after: 1 }
]

describe.each(["ollama", "openai"] as const)("what clients see of a failure of an %s server", (protocol) => {
  const start = async (server: FakeServer, options: Gateway.Options = {}) =>
    keep(
      await startGateway(
        [],
        { maxRetries: 1, ...options },
        {
          cortex: { servers: [{ url: server.url, apiKey: key }], location: { latitude: 0, longitude: 0 } }
        }
      )
    )

  it.each(faults.map((fault) => [JSON.stringify(fault).slice(0, 60), fault] as const))("%s", async (_, fault) => {
    for (const on of ["chat", "all"] as const) {
      const server = await fake(protocol)
      const gateway = await start(server)
      await (await gateway.post("/v1/chat/completions", { model, messages })).text()
      await server.setBehaviour({ faults: fault, faultOn: on })
      const address = server.url.replace("http://", "")
      for (const [method, path, body] of endpoints) {
        const response = await gateway.get(path, {
          method,
          headers: { "content-type": "application/json" },
          body: body === undefined ? null : JSON.stringify(body)
        })
        const seen = `${JSON.stringify([...response.headers])} ${await response.text()}`
        for (const canary of [...canaries, address])
          expect([method, path, on, seen.includes(canary) && seen]).toEqual([method, path, on, false])
      }
    }
  })

  it("are the server's message and address if the operator allows it, but never its key", async () => {
    const server = await fake(protocol, { faults: { kind: "status", code: 500, body: { error: words } } })
    const gateway = await start(server, { exposeServers: true })
    const text = await (await gateway.post("/v1/chat/completions", { model, messages })).text()
    expect(text).toContain("10.11.12.13")
    expect(text).not.toContain(key)
  })
})

it("an unusable store of sessions is not named", async () => {
  const failing = Effect.fail(new SessionsUnavailable({ reason: "the folder /home/aicortex-canary cannot be used" }))
  const memory = await Effect.runPromise(Sessions.makeStoreMemory())
  const sessions: Sessions.Store = { ...memory, create: () => failing }
  const server = await fake("ollama")
  const gateway = keep(await startGateway([server.url], {}, { shared: { sessions } as never }))
  const response = await gateway.post("/v1/sessions", {})
  const text = await response.text()
  expect(response.status).toBe(503)
  expect(text).not.toContain("aicortex-canary")
})

describe("redaction", () => {
  const { redactMessage: leaving, words } = Redaction.make({
    secrets: ["sk-1"],
    urls: ["http://gpu-1:11434", "https://llm.example.com/v1", "http://127.0.0.1:8080"],
    expose: false
  })

  it("hides hosts and files in messages of servers", () => {
    for (const [text, hidden] of [
      ["getaddrinfo ENOTFOUND gpu-1", "getaddrinfo ENOTFOUND …"],
      ["connect ECONNREFUSED ::1:11434", "connect ECONNREFUSED …"],
      ["at llm.example.com.", "at …."],
      ["open /var/lib/x.gguf: no such file", "open …: no such file"],
      ["key sk-1 at gpu-1:11434", "key … at …"]
    ] as const)
      expect(words(text)).toBe(hidden)
  })

  it("keeps everything else", () => {
    for (const text of [
      "GET /v1/models lists those that do.",
      "POST /api/pull first",
      "gpu-1b and my-gpu-1 are models",
      "12:30:45, 3/4 and and/or",
      "the model 'hf.co/owner/name:Q4_K_M' does not exist"
    ]) {
      expect(words(text)).toBe(text)
      expect(leaving(text)).toBe(text)
    }
  })
})

describe("image URLs", () => {
  const local = [
    "http://127.0.0.1/a.png",
    "http://localhost:8080/a.png",
    "http://LOCALHOST./a.png",
    "http://[::1]/a.png",
    "http://[::ffff:127.0.0.1]/a.png",
    "http://[::ffff:a9fe:a9fe]/latest",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://0/",
    "http://metadata.google.internal/computeMetadata",
    "http://printer.local/",
    "http://intranet/a.png",
    "file:///etc/passwd",
    "ftp://example.com/a.png",
    "gopher://example.com/"
  ]
  const bodies = (url: string) =>
    [
      ["/v1/chat/completions", { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }] }],
      ["/v1/responses", { input: [{ role: "user", content: [{ type: "input_image", image_url: url }] }] }],
      [
        "/v1/messages",
        {
          max_tokens: 9,
          messages: [{ role: "user", content: [{ type: "image", source: { type: "url", url } }] }]
        }
      ]
    ] as const

  it("into a private network are refused, without a request", async () => {
    const server = await fake("openai", { models: [{ name: model, capabilities: ["completion", "vision"] }] })
    const gateway = keep(await startGateway([server.url]))
    for (const url of local) {
      for (const [path, body] of bodies(url)) {
        const response = await gateway.post(path, { model, ...body })
        expect([url, path, response.status]).toEqual([url, path, 400])
        await response.text()
      }
    }
    expect(server.chatRequests).toEqual([])
    for (const [path, body] of bodies("https://images.example.com/a.png")) {
      expect((await gateway.post(path, { model, ...body })).status).toBe(200)
    }
    const data = "data:image/png;base64,iVBORw0KGgo="
    expect((await gateway.post("/v1/chat/completions", { model, ...bodies(data)[0][1] })).status).toBe(200)
  })

  it("may be allowed", async () => {
    const server = await fake("openai", { models: [{ name: model, capabilities: ["completion", "vision"] }] })
    const gateway = keep(await startGateway([server.url], { privateImages: true }))
    for (const [path, body] of bodies("http://192.168.1.1/a.png")) {
      expect((await gateway.post(path, { model, ...body })).status).toBe(200)
    }
  })

  it("of the internet are public", () => {
    for (const url of [
      "https://example.com/",
      "http://93.184.216.34/",
      "http://[2606:2800:220:1::1]/",
      "http://172.32.0.1/"
    ])
      expect([url, isPublic(new URL(url))]).toEqual([url, true])
  })
})

describe("cached answers", () => {
  const ask = async (gateway: Awaited<ReturnType<typeof startGateway>>, secret: string, stream: boolean) => {
    const response = await gateway.post(
      "/v1/chat/completions",
      { model, messages, cache: true, stream },
      { headers: { authorization: `Bearer ${secret}` } }
    )
    await response.text()
    return response.headers.get("x-aicortex-reason")
  }
  const keys = ["a", "b"].map((name) => ({ name, key: `sk-${name}` }))

  it.each([false, true])("are returned only to the key that they were cached for (stream: %s)", async (stream) => {
    const server = await fake("ollama")
    const gateway = keep(await startGateway([server.url], { keys }))
    expect(await ask(gateway, "sk-a", stream)).not.toBe("cache")
    expect(await ask(gateway, "sk-a", stream)).toBe("cache")
    expect(await ask(gateway, "sk-b", stream)).not.toBe("cache")
    expect(server.chatRequests).toHaveLength(2)
  })

  it("are returned to all keys if they are shared", async () => {
    const server = await fake("ollama")
    const gateway = keep(
      await startGateway([], { keys }, { cortex: { servers: [server.url], cache: { shared: true } } })
    )
    expect(await ask(gateway, "sk-a", false)).not.toBe("cache")
    expect(await ask(gateway, "sk-b", false)).toBe("cache")
  })
})
