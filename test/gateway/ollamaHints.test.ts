import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

const messages = [{ role: "user", content: "A story." }]

let ollama: FakeServer
let openai: FakeServer
let llamacpp: FakeServer
let gateway: TestGateway

beforeAll(async () => {
  ollama = await startFakeOllama({ models: ["m", { name: "e", capabilities: ["embedding"] }] })
  openai = await startFakeOpenAI({ models: ["gpt-x", { name: "embed-x", capabilities: ["embedding"] }] })
  llamacpp = await startFakeOpenAI({ models: ["file.gguf"], flavour: "llamacpp" })
  gateway = await startGateway([ollama.url, openai.url, llamacpp.url])
})
afterAll(async () => {
  await gateway.close()
  for (const server of [ollama, openai, llamacpp]) await server.stop()
})

const hints = { keep_alive: "10m", options: { num_ctx: 4096, num_gpu: 1, wat: 1 } }
const named = "keep_alive, options.num_ctx, options.num_gpu, options.wat"

describe("memory options of Ollama's clients", () => {
  const rows = [true, false].flatMap((stream) => [
    ["/api/chat", { messages, stream }] as const,
    ["/api/generate", { prompt: "A story.", stream }] as const,
    ["/api/generate", { prompt: "A story.", raw: true, stream }] as const
  ])

  it.each(rows)("reach Ollama with %s %j", async (path, body) => {
    ollama.clear()
    const response = await gateway.post(path, { model: "m", ...body, ...hints })
    expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, null])
    await response.text()
    expect(ollama.chatRequests[0]?.body).toMatchObject(hints)
  })

  it.each(rows)("are omitted for other servers, and reported, with %s %j", async (path, body) => {
    openai.clear()
    const response = await gateway.post(path, { model: "gpt-x", ...body, ...hints })
    expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, named])
    expect(await response.text()).toContain(`"done":true`)
    for (const name of ["keep_alive", "options", "num_ctx", "wat"]) {
      expect(openai.chatRequests[0]?.body).not.toHaveProperty(name)
    }
  })

  it("are omitted for embeddings there, too", async () => {
    for (const [path, text] of [
      ["/api/embed", { input: ["a"], truncate: true }],
      ["/api/embeddings", { prompt: "a" }]
    ] as const) {
      const response = await gateway.post(path, { model: "embed-x", ...text, ...hints })
      const expected = "truncate" in text ? named.replace("alive,", "alive, truncate,") : named
      expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, expected])
      const same = await gateway.post(path, { model: "e", ...text, ...hints })
      expect([same.status, same.headers.get("x-aicortex-ignored")]).toEqual([200, null])
    }
  })

  it("samplers reach the servers that have them", async () => {
    const options = { mirostat: 1, typical_p: 0.5, temperature: 0.1 }
    for (const [model, server] of [
      ["m", ollama],
      ["file.gguf", llamacpp]
    ] as const) {
      server.clear()
      const response = await gateway.post("/api/chat", { model, messages, options })
      expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, null])
      await response.text()
      const body = server.chatRequests[0]?.body
      expect(body.options ?? body).toMatchObject(options)
    }
  })

  it("an invalid option is still refused", async () => {
    for (const model of ["m", "gpt-x"]) {
      const response = await gateway.post("/api/chat", { model, messages, options: { num_ctx: "many" } })
      expect([response.status, await response.json()]).toMatchObject([
        400,
        { error: `option "num_ctx" must be of type integer` }
      ])
    }
  })

  it("truncate and shift reach Ollama", async () => {
    ollama.clear()
    const body = { model: "m", messages, truncate: false, shift: false, stream: false }
    expect((await gateway.post("/api/chat", body)).status).toBe(200)
    expect(ollama.chatRequests[0]?.body).toMatchObject({ truncate: false, shift: false })
    const long = { ...body, messages: [{ role: "user", content: "word ".repeat(5_000) }] }
    const response = await gateway.post("/api/chat", long)
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringContaining("the request exceeds the available context size")
    ])
  })
})
