import { Ollama } from "ollama"
import { afterEach, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"
import type { FakeModel } from "../support/models.js"

const open: Array<{ readonly close: () => Promise<unknown> }> = []
afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close()
})

const ollama = async (models: ReadonlyArray<string | FakeModel>) => {
  const server = await startFakeOllama({ models })
  open.push({ close: () => server.stop() })
  return server
}
const serve = async (servers: ReadonlyArray<{ readonly url: string }>): Promise<TestGateway> => {
  const gateway = await startGateway(servers.map(({ url }) => url))
  open.push(gateway)
  return gateway
}
/** Which of the servers were asked this. */
const requestsOf = (servers: ReadonlyArray<FakeServer>, path: string) =>
  servers.map(({ requests }) => requests.filter((one) => one.path === path).length)
const statusAndError = async (response: Response) => [
  response.status,
  ((await response.json()) as { error: string }).error
]

describe("changes of models", () => {
  it("copies and deletes on every server with the model, and no other", async () => {
    const servers = [await ollama(["a", "b"]), await ollama(["a"]), await ollama(["c"])]
    const gateway = await serve(servers)
    const client = new Ollama({ host: gateway.url })
    await client.copy({ source: "a", destination: "mine" })
    expect(requestsOf(servers, "/api/copy")).toEqual([1, 1, 0])
    const names = async () => (await client.list()).models.map(({ name }) => name).filter((name) => name !== "auto")
    expect((await names()).sort()).toEqual(["a:latest", "b:latest", "c:latest", "mine:latest"])
    await client.delete({ model: "a:latest" })
    expect(requestsOf(servers, "/api/delete")).toEqual([1, 1, 0])
    expect((await names()).sort()).toEqual(["b:latest", "c:latest", "mine:latest"])
  })

  it.each([
    ["in the body", "", { server: "server-2" }, {}],
    ["as a query", "?server=server-2", {}, {}],
    ["as a header", "", {}, { "x-aicortex-target": "server-2" }]
  ])("copies and deletes on the named server, %s", async (_, query, body, headers) => {
    const servers = [await ollama(["a"]), await ollama(["a"])]
    const gateway = await serve(servers)
    const copied = await gateway.post(`/api/copy${query}`, { source: "a", destination: "b", ...body }, { headers })
    expect([copied.status, await copied.text()]).toEqual([200, ""])
    const init = { method: "DELETE", headers, body: JSON.stringify({ name: "b", ...body }) }
    const deleted = await gateway.get(`/api/delete${query}`, init)
    expect([deleted.status, await deleted.text()]).toEqual([200, ""])
    expect([requestsOf(servers, "/api/copy"), requestsOf(servers, "/api/delete")]).toEqual([
      [0, 1],
      [0, 1]
    ])
  })

  it("lists which servers succeeded if others failed", async () => {
    const servers = [await ollama(["a"]), await ollama(["a"])] as const
    const gateway = await serve(servers)
    await gateway.get("/api/tags")
    await servers[0].setBehaviour({
      faultOn: "all",
      faults: (_, body) => (body?.source === undefined ? undefined : { kind: "status", code: 500 })
    })
    const response = await gateway.post("/api/copy", { source: "a", destination: "b" })
    expect(await statusAndError(response)).toEqual([502, expect.stringMatching(/^server-1: .*; done on server-2$/)])
    expect(response.headers.get("x-aicortex-server")).toBe("server-2")
  })

  it("pulls to the server with most space, and names it", async () => {
    const servers = [await ollama([{ name: "big", size: 9e9 }]), await ollama([{ name: "small", size: 1e9 }])]
    const gateway = await serve(servers)
    const lines = (await (await gateway.post("/api/pull", { model: "new" })).text()).trimEnd().split("\n")
    expect(requestsOf(servers, "/api/pull")).toEqual([0, 1])
    const items = lines.map((line) => JSON.parse(line))
    expect(items.at(-1)).toEqual({ status: "success" })
    expect(items.find(({ completed }) => completed > 0)).toMatchObject({ total: 1_185_760, server: "server-2" })
    // It is there from now on, and is brought up to date where it is.
    await (await gateway.post("/api/pull", { name: "new:latest", stream: false })).text()
    expect(requestsOf(servers, "/api/pull")).toEqual([0, 2])
  })

  it("a failed pull returns Ollama's error", async () => {
    const gateway = await serve([await ollama(["a"])])
    const error = "pull model manifest: file does not exist"
    expect(await statusAndError(await gateway.post("/api/pull", { model: "missing", stream: false }))).toEqual([
      500,
      error
    ])
    const lines = (await (await gateway.post("/api/pull", { model: "missing" })).text()).trimEnd().split("\n")
    expect(JSON.parse(lines.at(-1) ?? "")).toEqual({ error })
  })

  it("creates on the server of the base model or the named one, and pushes from there", async () => {
    const servers = [await ollama(["a"]), await ollama(["base"])]
    const gateway = await serve(servers)
    const client = new Ollama({ host: gateway.url })
    expect(await client.create({ model: "mine", from: "base", system: "Be brief." })).toEqual({ status: "success" })
    expect(requestsOf(servers, "/api/create")).toEqual([0, 1])
    expect((await client.list()).models.map(({ name }) => name)).toContain("mine:latest")
    const statuses: Array<string> = []
    for await (const { status } of await client.push({ model: "mine", stream: true })) statuses.push(status)
    expect(statuses).toEqual(["retrieving manifest", "pushing manifest", "success"])
    expect(requestsOf(servers, "/api/push")).toEqual([0, 1])
    await (await gateway.post("/api/create?server=server-1", { model: "other", from: "a" })).text()
    expect(requestsOf(servers, "/api/create")).toEqual([1, 1])
    const files = { model: "filed", files: { "a.gguf": "sha256:00" } }
    expect(await statusAndError(await gateway.post("/api/create", files))).toEqual([
      400,
      expect.stringContaining("server-1")
    ])
    expect(await statusAndError(await gateway.post("/api/push", { model: "nope" }))).toEqual([
      404,
      "model 'nope' not found"
    ])
  })

  it("needs a server that manages models", async () => {
    const other = await startFakeOpenAI({ models: ["gpt-x"] })
    open.push({ close: () => other.stop() })
    const gateway = await serve([other])
    expect(await statusAndError(await gateway.post("/api/pull", { model: "a" }))).toEqual([
      503,
      expect.stringMatching(/Ollama/)
    ])
  })
})

describe("models of servers that speak the OpenAI API", () => {
  const names = ["Qwen/Qwen3-8B-Instruct", "nomic-embed-text-v1.5", "phi-4-Q4_K_M.gguf", "gpt-x"]
  const start = async (flavour: "openai" | "llamacpp" | "vllm") => {
    const server = await startFakeOpenAI({
      flavour,
      models: names.map((name) => ({ name, contextLength: 32_768 }))
    })
    open.push({ close: () => server.stop() })
    return { server, gateway: await serve([server]) }
  }

  it.each(["openai", "llamacpp", "vllm"] as const)("are listed and shown (%s)", async (flavour) => {
    const { gateway } = await start(flavour)
    const client = new Ollama({ host: gateway.url })
    const { models } = await client.list()
    const listed = new Map(models.map((model) => [model.name, model]))
    for (const name of names) {
      expect(listed.get(name)).toMatchObject({ model: name, modified_at: expect.stringMatching(/^\d{4}-.*Z$/) })
      const shown = await client.show({ model: name })
      const architecture = (shown.model_info as unknown as Record<string, unknown>)["general.architecture"]
      expect(architecture).toEqual(expect.any(String))
      expect(shown.details).toEqual(listed.get(name)?.details)
      expect(shown.capabilities.length).toBeGreaterThan(0)
      const length = (shown.model_info as unknown as Record<string, unknown>)[`${architecture}.context_length`]
      expect(length).toBe(flavour === "openai" ? undefined : 32_768)
    }
    expect(listed.get("Qwen/Qwen3-8B-Instruct")).toMatchObject({
      // llama.cpp's server tells what it serves.
      details: { family: "qwen", parameter_size: flavour === "llamacpp" ? "3.2B" : "8B" },
      size: flavour === "llamacpp" ? 2_019_393_189 : 16_000_000_000
    })
    expect(listed.get("phi-4-Q4_K_M.gguf")?.details).toMatchObject({ format: "gguf", quantization_level: "Q4_K_M" })
    if (flavour !== "llamacpp") {
      expect((await client.show({ model: "nomic-embed-text-v1.5" })).capabilities).toEqual(["embedding"])
      // What is not known is not made up.
      expect(listed.get("gpt-x")).toMatchObject({ size: 0, digest: "", details: { family: "", parameter_size: "" } })
    }
  })

  it("are loaded and unloaded without an error or a request", async () => {
    const { gateway, server } = await start("openai")
    server.clear()
    for (const [path, nothing] of [
      ["/api/generate", { response: "" }],
      ["/api/chat", { message: { role: "assistant", content: "" } }]
    ] as const) {
      for (const [extra, reason] of [
        [{}, "load"],
        [{ keep_alive: "10m", messages: [] }, "load"],
        [{ keep_alive: 0 }, "unload"],
        [{ keep_alive: "0" }, "unload"]
      ] as const) {
        const response = await gateway.post(path, { model: "gpt-x", ...extra })
        expect([response.status, await response.json()]).toEqual([
          200,
          { model: "gpt-x", created_at: expect.any(String), ...nothing, done: true, done_reason: reason }
        ])
      }
    }
    expect(server.chatRequests).toEqual([])
    expect(await statusAndError(await gateway.post("/api/generate", { model: "nope" }))).toEqual([
      404,
      "model 'nope' not found"
    ])
  })
})
