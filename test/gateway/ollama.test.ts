import { Ollama } from "ollama"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"

const model = "llama3.2:3b"
const story = "Once upon a time there was a robot."
const messages = [{ role: "user", content: "Tell me a story." }]
const weather = { name: "weather", arguments: { city: "Berlin" } }

describe("the ollama client", () => {
  let one: FakeServer
  let two: FakeServer
  let other: FakeServer
  let gateway: TestGateway
  let client: Ollama

  const capabilities = ["completion", "tools", "thinking", "vision", "insert"]
  const behaviour = {
    reply: ({
      messages = [],
      tools
    }: {
      messages?: Array<{ role: string; content: string }>
      tools?: Array<unknown>
    }) => {
      const question = messages.at(-1)?.content ?? ""
      if ((tools ?? []).length > 0 && !messages.some(({ role }) => role === "tool"))
        return { tokens: [], toolCalls: [weather] }
      if (question.includes("capital")) return `{"capital":"Paris"}`
      if (question.includes("think")) return { thinking: ["Hm, ", "well."], tokens: "Done." }
      return story
    }
  }

  beforeAll(async () => {
    one = await startFakeOllama({ models: [{ name: model, capabilities }], loaded: [model], ...behaviour })
    two = await startFakeOllama({
      models: [
        { name: model, capabilities },
        { name: "embedder", capabilities: ["embedding"] }
      ],
      ...behaviour
    })
    other = await startFakeOpenAI({ models: ["gpt-x"], ...behaviour })
    gateway = await startGateway([one.url, two.url, other.url])
    client = new Ollama({ host: gateway.url })
  })
  afterAll(async () => {
    await gateway.close()
    for (const server of [one, two, other]) await server.stop()
  })

  it("lists the models of all servers, once each", async () => {
    const { models } = await client.list()
    expect(models.map(({ name }) => name).sort()).toEqual(["auto", "embedder:latest", "gpt-x", model])
    expect(models.find(({ name }) => name === model)).toMatchObject({
      servers: ["server-1", "server-2"],
      details: { quantization_level: "Q4_K_M" }
    })
  })

  it("lists loaded models, and their servers", async () => {
    const { models } = await client.ps()
    expect(models).toMatchObject([{ name: model, server: "server-1" }])
  })

  it("shows a model, also of another kind of server", async () => {
    expect(await client.show({ model })).toMatchObject({ details: { format: "gguf" }, capabilities })
    expect(await client.show({ model: "gpt-x" })).toMatchObject({ model: "gpt-x" })
    await expect(client.show({ model: "nope" })).rejects.toMatchObject({ status_code: 404 })
  })

  it("returns the version of the servers", async () => {
    const { version } = (await (await gateway.get("/api/version")).json()) as { version: string }
    expect(version).toMatch(/^\d+\.\d+\.\d+/)
  })

  it.each([model, "gpt-x"])("chats with %s, complete and streamed", async (model) => {
    const whole = await client.chat({ model, messages })
    expect(whole).toMatchObject({
      model,
      message: { role: "assistant", content: story },
      done: true,
      done_reason: "stop"
    })
    expect(whole.eval_count).toBeGreaterThan(0)
    let text = ""
    let last: { done: boolean; eval_count?: number } | undefined
    for await (const part of await client.chat({ model, messages, stream: true })) {
      text += part.message.content
      last = part
    }
    expect(text).toBe(story)
    expect(last?.done).toBe(true)
    expect(last?.eval_count).toBeGreaterThan(0)
  })

  it("calls tools", async () => {
    const tools = [{ type: "function", function: { name: "weather", description: "", parameters: { type: "object" } } }]
    const whole = await client.chat({ model, messages, tools })
    expect(whole.message.tool_calls).toMatchObject([{ function: weather }])
    const calls: Array<unknown> = []
    for await (const part of await client.chat({ model, messages, tools, stream: true })) {
      calls.push(...(part.message.tool_calls ?? []))
    }
    expect(calls).toMatchObject([{ function: weather }])
    const answered = await client.chat({
      model,
      tools,
      messages: [...messages, whole.message, { role: "tool", tool_name: "weather", content: "sunny" }]
    })
    expect(answered.message.content).toBe(story)
  })

  it("returns log probabilities", async () => {
    const ask = { model, messages, logprobs: true, top_logprobs: 1 }
    const whole = (await (await gateway.post("/api/chat", { ...ask, stream: false })).json()) as {
      logprobs: Array<{ token: string }>
    }
    expect(whole.logprobs.map(({ token }) => token).join("")).toBe(story)
    const lines = (await (await gateway.post("/api/chat", ask)).text()).trimEnd().split("\n")
    expect(
      lines
        .flatMap((line) => JSON.parse(line).logprobs ?? [])
        .map(({ token }) => token)
        .join("")
    ).toBe(story)
  })

  it("returns thinking", async () => {
    const whole = await client.chat({ model, messages: [{ role: "user", content: "think" }], think: true })
    expect(whole.message).toMatchObject({ thinking: "Hm, well.", content: "Done." })
  })

  it("generates, with JSON that matches the schema", async () => {
    const whole = await client.generate({ model, prompt: "Tell me a story.", system: "Be brief." })
    expect(whole).toMatchObject({ response: story, done: true })
    let text = ""
    for await (const part of await client.generate({ model, prompt: "Tell me a story.", stream: true }))
      text += part.response
    expect(text).toBe(story)
    const format = { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] }
    const json = await client.chat({ model, messages: [{ role: "user", content: "The capital?" }], format })
    expect(JSON.parse(json.message.content)).toEqual({ capital: "Paris" })
  })

  it.each([model, "gpt-x"])("completes a text of %s without a template, complete and streamed", async (model) => {
    for (const server of [one, two, other]) server.clear()
    const prompt = "<PRE> Once"
    const rest = story.slice("Once".length)
    const options = { num_predict: 50, temperature: 0.1, stop: ["<EOT>"] }
    const whole = await client.generate({ model, prompt, raw: true, options })
    expect(whole).toMatchObject({ model, response: rest, done: true, done_reason: "stop" })
    expect(whole.eval_count).toBeGreaterThan(0)
    expect(whole).not.toHaveProperty("context")
    const [sent] = [one, two, other].flatMap(({ chatRequests }) => chatRequests)
    if (model === "gpt-x") {
      expect(sent).toMatchObject({ path: "/v1/completions", body: { prompt, max_tokens: 50, stop: ["<EOT>"] } })
    } else expect(sent).toMatchObject({ path: "/api/generate", body: { prompt, raw: true, options } })
    let text = ""
    for await (const part of await client.generate({ model, prompt, raw: true, stream: true })) text += part.response
    expect(text).toBe(rest)
  })

  it.each([model, "gpt-x"])("fills in the middle with %s, complete and streamed", async (model) => {
    for (const server of [one, two, other]) server.clear()
    const ask = { model, prompt: "def story():", suffix: "    return it\n", options: { num_predict: 50 } }
    expect(await client.generate(ask)).toMatchObject({ response: story, done: true })
    const [sent] = [one, two, other].flatMap(({ chatRequests }) => chatRequests)
    expect(sent?.body).toMatchObject({ prompt: ask.prompt, suffix: ask.suffix })
    expect(sent?.body).not.toHaveProperty("raw")
    let text = ""
    for await (const part of await client.generate({ ...ask, stream: true })) text += part.response
    expect(text).toBe(story)
    // At the end of a file nothing follows; then it is a prompt like any other, as Ollama has it.
    expect((await client.generate({ ...ask, suffix: "", raw: false })).response).toBe(story)
  })

  it("returns log probabilities of a text", async () => {
    const ask = { model, prompt: "Once", raw: true, logprobs: true, top_logprobs: 1, stream: false }
    const whole = (await (await gateway.post("/api/generate", ask)).json()) as { logprobs: Array<{ token: string }> }
    expect(whole.logprobs.map(({ token }) => token).join("")).toBe(story.slice("Once".length))
  })

  it.each<[object, string]>([
    [{ raw: true, suffix: "b" }, "suffix"],
    [{ raw: true, system: "Be brief." }, "raw mode does not support template, system, or context"],
    [{ raw: true, images: ["aGk="] }, "images"],
    [{ raw: true, format: "json" }, "format"],
    [{ raw: true, think: true }, "think"],
    [{ raw: true, template: "{{ .Prompt }}" }, "raw mode does not support template, system, or context"],
    [{ raw: true, context: [1, 2] }, "raw mode does not support template, system, or context"],
    [{ raw: "yes" }, "json: cannot unmarshal string into Go struct field GenerateRequest.raw of type bool"],
    [{ raw: true, session: "none" }, "session"],
    [{ suffix: ["b"] }, "json: cannot unmarshal array into Go struct field GenerateRequest.suffix of type string"],
    [{ suffix: "b", system: "Be brief." }, "system"],
    [{ suffix: "b", format: { type: "object" } }, "format"],
    [{ template: "{{ .Prompt }}", context: [1, 2] }, "context"],
    [{ context: [1, 2] }, "context"]
  ])("refuses raw text together with %j", async (wrong, name) => {
    for (const server of [one, two, other]) server.clear()
    for (const stream of [true, false]) {
      const response = await gateway.post("/api/generate", { model, prompt: "Once", stream, ...wrong })
      expect(response.status).toBe(400)
      expect(await response.json()).toMatchObject({
        error: expect.stringContaining(name.includes(" ") ? name : `'${name}'`)
      })
    }
    for (const server of [one, two, other]) expect(server.chatRequests).toEqual([])
  })

  it("sets no options that the client did not set", async () => {
    one.clear()
    two.clear()
    await client.chat({ model, messages, keep_alive: "7m", options: { num_ctx: 8192, mirostat: 1 } })
    const [sent] = [...one.chatRequests, ...two.chatRequests]
    expect(sent?.body).toMatchObject({ keep_alive: "7m", options: { num_ctx: 8192, mirostat: 1 } })
    expect(Object.keys(sent?.body.options).sort()).toEqual(["mirostat", "num_ctx"])
  })

  it("embeds", async () => {
    const { embeddings } = await client.embed({ model: "embedder", input: ["one", "two"] })
    expect(embeddings.map((vector) => vector.length)).toEqual([8, 8])
    const { embedding } = await client.embeddings({ model: "embedder", prompt: "one" })
    expect(embedding).toEqual(embeddings[0])
    expect((await client.embed({ model: "embedder", input: [] })).embeddings).toEqual([])
  })

  it("an abort cancels the upstream request", async () => {
    for (const server of [one, two]) {
      server.clear()
      await server.setBehaviour({ perToken: 50 })
    }
    const stream = await client.chat({ model, messages, stream: true })
    await expect(async () => {
      for await (const part of stream) if (part.message.content !== "") client.abort()
    }).rejects.toThrow()
    const [request] = [...one.chatRequests, ...two.chatRequests]
    expect(await request?.closedByClient).toBeDefined()
    for (const server of [one, two]) await server.setBehaviour({ perToken: "each" })
  })

  it("returns errors in Ollama's format", async () => {
    await expect(client.chat({ model: "nope", messages })).rejects.toMatchObject({ status_code: 404 })
    const raw = await gateway.post("/api/generate", { model, prompt: "Hi", raw: 7 })
    expect(raw.status).toBe(400)
    expect(await raw.json()).toEqual({
      error: expect.stringContaining("raw"),
      request_id: raw.headers.get("x-request-id")
    })
    expect((await gateway.post("/api/chat", { model, messages, stream: "yes" })).status).toBe(400)
    expect((await gateway.post("/api/nope", {})).status).toBe(404)
    expect((await gateway.get("/api/chat")).status).toBe(405)
  })

  it("loads a model on the server that would answer, and unloads it everywhere", async () => {
    const loaded = await gateway.post("/api/generate", { model })
    expect(await loaded.json()).toMatchObject({ model, done: true, done_reason: "load" })
    for (const server of [one, two]) server.clear()
    const unloaded = await gateway.post("/api/chat", { model, messages: [], keep_alive: 0 })
    expect(await unloaded.json()).toMatchObject({ done_reason: "unload" })
    for (const server of [one, two]) expect(server.requests.at(-1)?.body).toMatchObject({ keep_alive: 0 })
  })

  it("pulls, copies and deletes on the named server, or on all", async () => {
    for (const server of [one, two]) server.clear()
    const text = await (await gateway.post("/api/pull", { model: "new", server: "all" })).text()
    const lines = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line))
    expect(lines.at(-1)).toEqual({ status: "success" })
    expect(new Set(lines.slice(0, -1).map((line) => line.server))).toEqual(new Set(["server-1", "server-2"]))
    for (const server of [one, two]) expect(server.requests.some(({ path }) => path === "/api/pull")).toBe(true)
    expect((await client.chat({ model: "new", messages })).message.content).toBe(story)
    const missing = await (await gateway.post("/api/pull", { model: "missing", server: "server-1" })).text()
    expect(JSON.parse(missing.trimEnd().split("\n").at(-1) ?? "")).toEqual({
      error: expect.stringContaining("pull model manifest: file does not exist")
    })
    const quiet = await gateway.post("/api/pull?server=server-2", { model: "new", stream: false })
    expect(await quiet.json()).toEqual({ status: "success" })

    const copied = await gateway.post("/api/copy", { source: model, destination: "mine", server: "server-1" })
    expect([copied.status, await copied.text()]).toEqual([200, ""])
    expect(one.requests.find(({ path }) => path === "/api/copy")?.body).toEqual({ source: model, destination: "mine" })
    expect(two.requests.some(({ path }) => path === "/api/copy")).toBe(false)
    expect((await client.list()).models.map(({ name }) => name)).toContain("mine:latest")
    const deleted = await gateway.get("/api/delete", {
      method: "DELETE",
      body: JSON.stringify({ model: "mine", server: "server-1" })
    })
    expect(deleted.status).toBe(200)
    await eventually(
      () => one.requests.some(({ method, path }) => method === "DELETE" && path === "/api/delete"),
      "delete"
    )
    expect((await client.list()).models.map(({ name }) => name)).not.toContain("mine:latest")
    expect((await gateway.post("/api/copy", { source: "a", destination: "b", server: "nowhere" })).status).toBe(404)
  })
})
