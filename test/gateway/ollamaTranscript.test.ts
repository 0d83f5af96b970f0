import { Ollama } from "ollama"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { rawRequest, startGateway, type TestGateway } from "../support/gateway.js"

const model = "llama3.2:3b"
const story = "Once upon a time there was a robot."
const messages = [{ role: "user", content: "A story." }]
const weather = { name: "weather", arguments: { city: "Berlin" } }
const tools = [{ type: "function", function: { name: "weather", description: "", parameters: { type: "object" } } }]

let ollama: FakeServer
let direct: FakeServer
let other: FakeServer
let gateway: TestGateway

beforeAll(async () => {
  const reply = (body: { messages?: ReadonlyArray<{ content?: unknown }>; tools?: unknown; think?: unknown }) => {
    if (body.tools !== undefined) return { tokens: [], toolCalls: [weather] }
    if (body.think === true) return { thinking: ["Hm."], tokens: "Done." }
    return JSON.stringify(body).includes("capital") ? `{"capital":"Paris"}` : story
  }
  const options = {
    models: [
      { name: model, capabilities: ["completion", "tools"] },
      { name: "mini", capabilities: ["completion", "tools", "thinking", "insert", "vision"] },
      { name: "embedder", capabilities: ["embedding"] }
    ],
    reply
  }
  ollama = await startFakeOllama(options)
  // What changes models is done to one server directly, and to its like through the gateway.
  direct = await startFakeOllama(options)
  other = await startFakeOpenAI({ models: ["gpt-x"], reply })
  gateway = await startGateway([ollama.url, other.url])
})
afterAll(async () => {
  await gateway.close()
  for (const server of [ollama, direct, other]) await server.stop()
})

/** Status, kind of body, and body, without what differs between any two answers. */
const transcript = async (url: string, method: string, path: string, body: string | undefined) => {
  const response = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { body, headers: { "content-type": "application/json" } })
  })
  const text = await response.text()
  const type = response.headers.get("content-type")?.replace(/\s*;.*/, "") ?? null
  const lines = text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      try {
        return plain(JSON.parse(line))
      } catch {
        return line
      }
    })
  return { status: response.status, type: text === "" ? null : type, lines }
}

const varies = new Set(["total_duration", "load_duration", "prompt_eval_duration", "eval_duration", "created_at", "id"])
/** How many tokens a prompt has depends on the path that it takes. */
const differs = new Set(["prompt_eval_count", "request_id"])

const plain = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !differs.has(name))
      .map(([name, one]) => {
        if (name === "context" && Array.isArray(one)) return [name, "numbers"]
        return [name, varies.has(name) ? typeof one : plain(one)]
      })
  )
}

type Row = readonly [what: string, method: string, path: string, body?: unknown]

const named = (rows: ReadonlyArray<Row>) => rows.map(([what, method, path, body]) => ({ what, method, path, body }))

const json = (body: unknown): string | undefined =>
  body === undefined || typeof body === "string" ? (body as string | undefined) : JSON.stringify(body)

describe("errors match Ollama's", () => {
  const rows: ReadonlyArray<Row> = [
    ["unknown model, chat", "POST", "/api/chat", { model: "nope", messages }],
    ["unknown model, chat, whole", "POST", "/api/chat", { model: "nope", messages, stream: false }],
    ["unknown model, generate", "POST", "/api/generate", { model: "nope", prompt: "a" }],
    ["unknown model, load", "POST", "/api/generate", { model: "nope" }],
    ["unknown model with a tag", "POST", "/api/generate", { model: "Nope:7b", prompt: "a", stream: false }],
    ["show, unknown", "POST", "/api/show", { model: "nope" }],
    ["show, unknown, by its older name", "POST", "/api/show", { name: "nope:1b" }],
    ["show, none", "POST", "/api/show", {}],
    ["show, no name", "POST", "/api/show", { model: "a b:c d" }],
    ["embed, unknown", "POST", "/api/embed", { model: "nope", input: "a" }],
    ["embed, no text", "POST", "/api/embed", { model: "embedder", input: [7] }],
    ["embed, nothing", "POST", "/api/embed", ""],
    ["embeddings, unknown", "POST", "/api/embeddings", { model: "nope", prompt: "a" }],
    ["pull, none", "POST", "/api/pull", {}],
    ["pull, no name", "POST", "/api/pull", { model: "a b" }],
    ["delete, unknown", "DELETE", "/api/delete", { model: "copy1" }],
    ["delete, none", "DELETE", "/api/delete", {}],
    ["copy, unknown", "POST", "/api/copy", { source: "nope", destination: "a" }],
    ["copy, no destination", "POST", "/api/copy", { source: model }],
    ["create of nothing", "POST", "/api/create", { model: "a" }],
    ["think of a model that cannot", "POST", "/api/chat", { model, messages, think: true }],
    ["think, extreme", "POST", "/api/chat", { model, messages, think: "extreme" }],
    ["think, extreme, generate", "POST", "/api/generate", { model, prompt: "a", think: 7 }],
    ["chat with an embedder", "POST", "/api/chat", { model: "embedder", messages }],
    ["suffix", "POST", "/api/generate", { model, prompt: "a", suffix: "b" }],
    ["keep_alive", "POST", "/api/chat", { model, messages, keep_alive: "soon" }],
    ["content in parts", "POST", "/api/chat", { model, messages: [{ role: "user", content: [{ type: "text" }] }] }],
    ["messages", "POST", "/api/chat", { model, messages: "hi" }],
    [
      "arguments as text",
      "POST",
      "/api/chat",
      {
        model,
        messages: [{ role: "assistant", tool_calls: [{ function: { name: "f", arguments: "{}" } }] }]
      }
    ],
    ["prompt", "POST", "/api/generate", { model, prompt: 7 }],
    ["system", "POST", "/api/generate", { model, prompt: "a", system: ["a"] }],
    ["model", "POST", "/api/generate", { model: {}, prompt: "a" }],
    ["stream", "POST", "/api/chat", { model, messages, stream: "yes" }],
    ["raw", "POST", "/api/generate", { model, prompt: "a", raw: 1 }],
    ["raw with a system prompt", "POST", "/api/generate", { model, prompt: "a", raw: true, system: "b" }],
    ["options", "POST", "/api/chat", { model, messages, options: [] }],
    ["images", "POST", "/api/chat", { model: "mini", messages: [{ role: "user", content: "a", images: ["a*b"] }] }],
    ["no body", "POST", "/api/chat", ""],
    ["no body, generate", "POST", "/api/generate", ""],
    ["half a body", "POST", "/api/chat", `{"model":"${model}","mess`],
    ["half a body, generate", "POST", "/api/generate", "{"],
    ["half a body, show", "POST", "/api/show", `{"model":`],
    ["no JSON", "POST", "/api/chat", "hello"],
    ["an endpoint that is not", "GET", "/api/nope"],
    ["an endpoint that is not, POST", "POST", "/api/nope/more", {}],
    ["another method", "GET", "/api/chat"],
    ["another method, tags", "POST", "/api/tags", {}],
    ["another method, delete", "POST", "/api/delete", { model }]
  ]
  it.each(named(rows))("$what: $method $path", async ({ method, path, body }) => {
    const real = await transcript(ollama.url, method, path, json(body))
    expect(real.status).toBeGreaterThanOrEqual(400)
    expect(await transcript(gateway.url, method, path, json(body))).toEqual(real)
  })

  // A request that is wrong is not the gateway's failure, so that its status says so.
  const softer: ReadonlyArray<readonly [body: object, error: string]> = [
    [{ options: { num_predict: "many" } }, `option "num_predict" must be of type integer`],
    [{ options: { temperature: "hot" } }, `option "temperature" must be of type float32`],
    [{ options: { num_ctx: true } }, `option "num_ctx" must be of type integer`],
    [{ options: { stop: 7 } }, `option "stop" must be of type array`],
    [{ options: { stop: [7] } }, `option "stop" must be of an array of strings`],
    [{ format: "xml" }, `invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object`]
  ]
  it.each(softer)("%j: in Ollama's words, with status 400", async (wrong, error) => {
    const body = JSON.stringify({ model, messages, ...wrong })
    expect(await transcript(ollama.url, "POST", "/api/chat", body)).toMatchObject({ status: 500, lines: [{ error }] })
    expect(await transcript(gateway.url, "POST", "/api/chat", body)).toMatchObject({ status: 400, lines: [{ error }] })
  })
})

describe("responses have Ollama's fields and format", () => {
  const ask = { model, messages }
  const rows: ReadonlyArray<Row> = [
    ["chat, whole", "POST", "/api/chat", { ...ask, stream: false }],
    ["chat, stream", "POST", "/api/chat", ask],
    ["chat, a limit", "POST", "/api/chat", { ...ask, options: { num_predict: 2 } }],
    ["chat, a stop", "POST", "/api/chat", { ...ask, options: { stop: [" time"] }, stream: false }],
    ["chat, tools", "POST", "/api/chat", { ...ask, tools, stream: false }],
    ["chat, tools, stream", "POST", "/api/chat", { ...ask, tools }],
    ["chat, thinking", "POST", "/api/chat", { ...ask, model: "mini", think: true, stream: false }],
    ["chat, thinking, stream", "POST", "/api/chat", { ...ask, model: "mini", think: true }],
    ["chat, likelihoods", "POST", "/api/chat", { ...ask, logprobs: true, top_logprobs: 2 }],
    ["chat, an unknown field", "POST", "/api/chat", { ...ask, stream: false, user: "me" }],
    ["chat, unknown options", "POST", "/api/chat", { ...ask, stream: false, options: { wat: 1 } }],
    [
      "chat, an unknown role",
      "POST",
      "/api/chat",
      { model, messages: [{ role: "wizard", content: "a" }], stream: false }
    ],
    [
      "chat, JSON",
      "POST",
      "/api/chat",
      { model, messages: [{ role: "user", content: "capital" }], format: "json", stream: false }
    ],
    ["chat, what it would read", "POST", "/api/chat", { ...ask, _debug_render_only: true }],
    ["chat, no truncation", "POST", "/api/chat", { ...ask, truncate: false, shift: false, stream: false }],
    ["load", "POST", "/api/chat", { model, messages: [] }],
    ["load, generate", "POST", "/api/generate", { model }],
    ["load, an empty prompt", "POST", "/api/generate", { model, prompt: "", keep_alive: "5m" }],
    ["unload", "POST", "/api/generate", { model, keep_alive: 0 }],
    ["another case, and the implied tag", "POST", "/api/chat", { model: "MINI:latest", messages, stream: false }],
    ["generate, whole", "POST", "/api/generate", { model, prompt: "a", stream: false }],
    ["generate, stream", "POST", "/api/generate", { model, prompt: "a", system: "Be brief." }],
    ["generate, raw", "POST", "/api/generate", { model, prompt: "a", raw: true }],
    ["generate, a gap", "POST", "/api/generate", { model: "mini", prompt: "a", suffix: "b", stream: false }],
    ["generate, thinking", "POST", "/api/generate", { model: "mini", prompt: "a", think: true }],
    [
      "generate, a picture",
      "POST",
      "/api/generate",
      { model: "mini", prompt: "a", images: ["iVBORw0K"], stream: false }
    ],
    ["generate, what it would read", "POST", "/api/generate", { model, prompt: "a", _debug_render_only: true }],
    ["embed", "POST", "/api/embed", { model: "embedder", input: ["a", "b"] }],
    ["embed, nothing", "POST", "/api/embed", { model: "embedder", input: [] }],
    ["embeddings", "POST", "/api/embeddings", { model: "embedder", prompt: "a" }],
    ["show", "POST", "/api/show", { model }],
    ["show, by its older name, in another case, verbose", "POST", "/api/show", { name: "LLAMA3.2:3B", verbose: true }],
    ["is it there", "GET", "/"],
    ["a slash at its end", "GET", "/api/version/"]
  ]
  it.each(named(rows))("$what: $method $path", async ({ what, method, path, body }) => {
    const real = await transcript(ollama.url, method, path, json(body))
    expect(real.status).toBe(200)
    const ours = await transcript(gateway.url, method, path, json(body))
    // Ours tells its own version besides.
    if (path.startsWith("/api/version")) expect(ours.lines).toMatchObject(real.lines)
    else expect(ours, what).toEqual(real)
  })

  it("times have Go's format", async () => {
    for (const path of ["/api/chat", "/api/generate"]) {
      const response = await gateway.post(path, { ...ask, prompt: "a" })
      for (const line of (await response.text()).trimEnd().split("\n")) {
        expect(JSON.parse(line).created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z$/)
      }
    }
  })
})

describe("durations", () => {
  const last = async (model: string, stream: boolean) => {
    const text = await (await gateway.post("/api/chat", { model, messages, stream })).text()
    return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "") as { readonly [name: string]: number }
  }

  it.each([true, false])("are Ollama's (stream: %s)", async (stream) => {
    const end = await last(model, stream)
    expect(end["prompt_eval_duration"]).toBe(38_312_000)
    expect(end["load_duration"]).toBeGreaterThanOrEqual(851_970)
    expect(end["eval_duration"]).toBeGreaterThanOrEqual(8 * 289_000 - 8)
  })

  it.each([true, false])("are measured by the gateway if the server reports none (stream: %s)", async (stream) => {
    const end = await last("gpt-x", stream)
    expect(end["load_duration"]).toBe(1)
    expect(end["prompt_eval_duration"]).toBeGreaterThan(0)
    expect(end["prompt_eval_duration"]).toBeLessThanOrEqual(end["total_duration"] ?? 0)
  })
})

describe("the root", () => {
  it.each([undefined, "*/*", "text/plain"])("returns Ollama is running (accept: %s)", async (accept) => {
    const header = accept === undefined ? "" : `accept: ${accept}\r\n`
    const get = `GET / HTTP/1.1\r\nhost: localhost\r\n${header}connection: close\r\n\r\n`
    const response = await rawRequest(gateway.port, get)
    expect(response).toMatch(/^HTTP\/1\.1 200 [\s\S]*content-type: text\/plain[\s\S]*\r\n\r\nOllama is running$/i)
    const head = await rawRequest(gateway.port, get.replace("GET", "HEAD"))
    expect(head).toMatch(/^HTTP\/1\.1 200 [\s\S]*content-length: 17\r\n[\s\S]*\r\n\r\n$/i)
  })

  it("returns details for application/json", async () => {
    const response = await gateway.get("/", { headers: { accept: "application/json" } })
    expect([response.status, await response.json()]).toMatchObject([200, { service: "aicortex" }])
  })

  it("returns the page to a browser", async () => {
    const response = await gateway.get("/", { headers: { accept: "text/html,application/xhtml+xml,*/*;q=0.8" } })
    expect([response.status, response.headers.get("content-type")]).toEqual([200, expect.stringContaining("text/html")])
  })

  it.each(["/", "/api/tags", "/api/version"])("responds to HEAD %s without a body", async (path) => {
    for (const url of [ollama.url, gateway.url]) {
      const response = await fetch(url + path, { method: "HEAD" })
      expect([response.status, await response.text()]).toEqual([200, ""])
    }
  })
})

describe("every method of the ollama client", () => {
  const calls: ReadonlyArray<readonly [name: string, call: (client: Ollama) => Promise<unknown>]> = [
    ["chat", (client) => client.chat({ model, messages, keep_alive: "5m", options: { num_ctx: 2048 } })],
    ["chat, stream", async (client) => all(await client.chat({ model, messages, stream: true }))],
    ["chat, tools", (client) => client.chat({ model, messages, tools })],
    ["generate", (client) => client.generate({ model, prompt: "a", system: "b" })],
    ["generate, stream", async (client) => all(await client.generate({ model, prompt: "a", stream: true }))],
    ["show", (client) => client.show({ model })],
    ["embed", (client) => client.embed({ model: "embedder", input: "a" })],
    ["embeddings", (client) => client.embeddings({ model: "embedder", prompt: "a" })],
    ["pull", (client) => client.pull({ model: "pulled" })],
    ["pull, stream", async (client) => all(await client.pull({ model: "pulled", stream: true }))],
    ["copy", (client) => client.copy({ source: model, destination: "copied" })],
    ["delete", (client) => client.delete({ model: "copied" })],
    ["create", (client) => client.create({ model: "made", from: model })],
    ["push", (client) => client.push({ model: "made" })],
    ["delete what was made", (client) => client.delete({ model: "made" })],
    ["load", (client) => client.generate({ model, prompt: "" })],
    ["ps", async (client) => (await client.ps()).models.map(({ name }) => name).filter((name) => name === model)],
    ["version", async (client) => (await client.version()).version],
    ["an unknown model", (client) => client.chat({ model: "nope", messages }).catch((error: Error) => error.message)],
    ["show of one", (client) => client.show({ model: "nope" }).catch((error: Error) => error.message)],
    ["delete of one", (client) => client.delete({ model: "nope" }).catch((error: Error) => error.message)],
    ["pull of one", (client) => client.pull({ model: "missing" }).catch((error: Error) => error.message)]
  ]
  const all = async (stream: AsyncIterable<object>) => {
    const items: Array<unknown> = []
    // Which server says so, only the gateway tells.
    for await (const item of stream) items.push({ ...item, server: undefined })
    return items
  }

  it.each(calls)("%s", async (_, call) => {
    const real = plain(await call(new Ollama({ host: direct.url })))
    expect(plain(await call(new Ollama({ host: gateway.url })))).toEqual(real)
  })
})

describe("the context of /api/generate", () => {
  const ask = async (body: object) => {
    const response = await gateway.post("/api/generate", { stream: false, ...body })
    return (await response.json()) as { context: ReadonlyArray<number>; response: string; error?: string }
  }

  it.each([model, "gpt-x"])("continues a conversation of %s, complete and streamed", async (model) => {
    for (const server of [ollama, other]) server.clear()
    const first = await ask({ model, prompt: "Größe 🦙?", system: "Be brief." })
    expect(first.context.every((one) => Number.isSafeInteger(one) && one >= 0 && one < 2 ** 31)).toBe(true)
    const text = await (
      await gateway.post("/api/generate", { model, prompt: "And then?", system: "Be brief.", context: first.context })
    ).text()
    const last = JSON.parse(text.trimEnd().split("\n").at(-1) ?? "")
    await ask({ model, prompt: "The end?", context: last.context })
    const [, second, third] = [ollama, other].flatMap(({ chatRequests }) =>
      chatRequests.map(({ body }) => body.messages)
    )
    const begun = [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Größe 🦙?" },
      { role: "assistant", content: story },
      { role: "user", content: "And then?" }
    ]
    expect(second).toEqual(begun)
    const end = [
      { role: "assistant", content: story },
      { role: "user", content: "The end?" }
    ]
    expect(third).toEqual([...begun, ...end])
  })

  it("continues with another model, and at another gateway", async () => {
    const { context } = await ask({ model, prompt: "One?" })
    const second = await startGateway([other.url])
    other.clear()
    await (await second.post("/api/generate", { model: "gpt-x", prompt: "Two?", context })).text()
    await second.close()
    expect(other.chatRequests[0]?.body.messages).toHaveLength(3)
  })

  it("is not a session: an empty one starts a conversation, and a load ignores it", async () => {
    ollama.clear()
    const { context, response } = await ask({ model, prompt: "One?", context: [] })
    expect(response).toBe(story)
    expect(ollama.chatRequests[0]?.body.messages).toHaveLength(1)
    expect(await ask({ model, context })).toMatchObject({ done: true, done_reason: "load" })
  })

  it.each([[[1, 2, 3]], [[0xacc0de]], [[0xacc0de, 3, 7]], [[0xacc0de, -1]], [[0xacc0de, 4, 1, 2]], [[1e15, 1]]])(
    "is refused where no gateway gave it out: %j",
    async (context) => {
      expect((await ask({ model, prompt: "a", context })).error).toMatch(/'context' is not of this gateway/)
    }
  )

  it("is refused if it contains no numbers, and with raw", async () => {
    expect((await ask({ model, prompt: "a", context: ["a"] })).error).toMatch(/^json: cannot unmarshal string/)
    const { context } = await ask({ model, prompt: "a" })
    expect((await ask({ model, prompt: "a", raw: true, context })).error).toMatch(/^raw mode does not support/)
  })
})
