import { request as httpRequest } from "node:http"
import { connect } from "node:net"
import { Ollama } from "ollama"
import OpenAI from "openai"
import { Agent, request } from "undici"
import { afterEach, describe, expect, it } from "vitest"
import {
  type FakeOllamaOptions,
  type FakeOpenAIOptions,
  type FakeServer,
  type Fault,
  type Json,
  startFakeOllama,
  startFakeOpenAI,
  tokenize,
  unusedPort
} from "./fakeServer.js"

const running: Array<FakeServer<never>> = []
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()))
})
const ollama = async (options: FakeOllamaOptions = {}) => {
  const server = await startFakeOllama({ models: ["m"], ...options })
  running.push(server)
  return server
}
const openai = async (options: FakeOpenAIOptions = {}) => {
  const server = await startFakeOpenAI({ models: ["m"], ...options })
  running.push(server)
  return server
}
const post = (url: string, body: unknown, init: RequestInit = {}) =>
  fetch(url, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), ...init })
const said = [{ role: "user", content: "hi" }]
const chat = (server: FakeServer<never>, more: Json = {}, init: RequestInit = {}) =>
  post(`${server.url}/api/chat`, { model: "m", messages: said, ...more }, init)
const complete = (server: FakeServer<never>, more: Json = {}, init: RequestInit = {}) =>
  post(`${server.url}/v1/chat/completions`, { model: "m", messages: said, ...more }, init)
const lines = (text: string): Array<Json> =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((l) => JSON.parse(l))
const events = (text: string): Array<Json> =>
  text
    .split("\n\n")
    .filter((e) => e !== "")
    .map((e) => (e === "data: [DONE]" ? "[DONE]" : JSON.parse(e.slice(6))))
const reads = async (response: Response) => {
  const parts: Array<string> = []
  let failure: unknown
  try {
    for await (const part of response.body ?? []) parts.push(Buffer.from(part).toString("latin1"))
  } catch (error) {
    failure = error
  }
  return { parts, text: Buffer.from(parts.join(""), "latin1").toString(), failure }
}

describe("fake Ollama", () => {
  it("answers the discovery endpoints", async () => {
    const server = await ollama({ models: ["m", { name: "big:70b", contextLength: 8192 }], loaded: ["m"] })
    const get = (path: string, init = {}) => fetch(server.url + path, init)
    const root = await get("/")
    expect(root.headers.get("content-type")).toContain("text/plain")
    expect(await root.text()).toBe("Ollama is running")
    expect((await get("/api/tags", { method: "HEAD" })).status).toBe(200)
    expect(await (await get("/api/version")).json()).toEqual({ version: "0.33.0" })
    const tags = await get("/api/tags")
    expect(tags.headers.get("content-type")).toBe("application/json; charset=utf-8")
    const models: Json = ((await tags.json()) as Json).models
    expect(models.map((m: Json) => m.name)).toEqual(["m:latest", "big:70b"])
    expect(models[1].details.parameter_size).toBe("70B")
    expect(models[0].digest).toMatch(/^[0-9a-f]{64}$/)
    expect(((await (await get("/api/ps")).json()) as Json).models.map((m: Json) => m.name)).toEqual(["m:latest"])
    const show: Json = await (await post(`${server.url}/api/show`, { model: "BIG:70b" })).json()
    expect(show.model_info["big.context_length"]).toBe(8192)
    expect(show.capabilities).toEqual(["completion", "tools"])
    const missing = await get("/api/nope")
    expect([missing.status, await missing.text()]).toEqual([404, "404 page not found"])
    expect((await get("/api/chat")).status).toBe(405)
    expect((await get("/api/tags/", { redirect: "manual" })).status).toBe(301)
    expect((await get("/api/tags", { headers: { origin: "https://evil.example" } })).status).toBe(403)
  })

  it("streams NDJSON, one read per token, and joins to the reply", async () => {
    const server = await ollama({ reply: "One <two> three.\nFour" })
    const response = await chat(server)
    expect(response.headers.get("content-type")).toBe("application/x-ndjson")
    const { parts, text } = await reads(response)
    expect(parts.length).toBeGreaterThanOrEqual(4)
    expect(text).toContain("\\u003ctwo\\u003e")
    const all = lines(text)
    expect(all.map((l) => l.message.content)).toEqual(["One", " <two>", " three.", "\nFour", ""])
    expect(all[0]).toMatchObject({ model: "m", done: false, message: { role: "assistant" } })
    expect(all[0].created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/)
    expect(all[4]).toMatchObject({ done: true, done_reason: "stop", eval_count: 4 })
    expect(Number.isInteger(all[4].total_duration)).toBe(true)
    expect(all[4]).not.toHaveProperty("context")
    await server.setBehaviour({ perToken: "burst" })
    expect((await reads(await chat(server))).parts.length).toBe(1)
    expect(server.chatRequests[0]).toMatchObject({ method: "POST", path: "/api/chat", tokensSent: 4, finished: true })
    expect(server.chatRequests[0]?.body.messages).toEqual(said)
  })

  it("serves the ollama client: chat, generate, tools, thinking, embed", async () => {
    const server = await ollama({
      models: [{ name: "m", capabilities: ["completion", "tools", "thinking", "embedding"] }],
      reply: (body) =>
        body.tools === undefined
          ? { tokens: ["A", " b"], thinking: ["O", "k"] }
          : { tokens: [], toolCalls: [{ name: "get_weather", arguments: { unit: "f" } }] }
    })
    const client = new Ollama({ host: server.url })
    const whole = await client.chat({ model: "m", messages: said, think: true })
    expect(whole.message).toEqual({ role: "assistant", content: "A b", thinking: "Ok" })
    const thoughts: Array<string> = []
    for await (const part of await client.generate({ model: "m", prompt: "x", stream: true, think: true })) {
      if (part.thinking) thoughts.push(part.thinking)
      if (part.done) expect(part.context).toBeInstanceOf(Array)
    }
    expect(thoughts).toEqual(["O", "k"])
    const tools: Json = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }]
    const parts: Array<Json> = []
    for await (const part of await client.chat({ model: "m", messages: said, tools, stream: true })) parts.push(part)
    expect(parts[0].message.tool_calls[0].function).toEqual({ index: 0, name: "get_weather", arguments: { unit: "f" } })
    expect(parts[1].done_reason).toBe("stop")
    const { embeddings } = await client.embed({ model: "m", input: ["a", "b"] })
    expect(embeddings.length).toBe(2)
    expect(Math.hypot(...(embeddings[0] ?? []))).toBeCloseTo(1)
    await expect(client.chat({ model: "nope", messages: said })).rejects.toMatchObject({
      status_code: 404,
      message: "model 'nope' not found"
    })
  })

  it("returns the statuses and texts of the real one", async () => {
    const server = await ollama({ models: ["m", { name: "e", capabilities: ["embedding"] }] })
    const cases: Array<[string, Json, number, string]> = [
      ["chat", { model: "nope" }, 404, "model 'nope' not found"],
      ["generate", {}, 404, "model '' not found"],
      ["show", { model: "nope" }, 404, "model 'nope:latest' not found"],
      ["show", {}, 400, "model is required"],
      ["embed", { model: "nope" }, 404, 'model "nope" not found, try pulling it first'],
      ["embed", { model: "m", input: 1 }, 400, "invalid input type"],
      [
        "embed",
        { model: "m", input: "x" },
        501,
        "This server does not support embeddings. Start it with `--embeddings`"
      ],
      ["chat", { model: "m", think: true }, 400, '"m" does not support thinking'],
      ["chat", { model: "e" }, 400, '"e" does not support chat'],
      [
        "chat",
        { model: "m", think: "extreme" },
        400,
        'invalid think value: "extreme" (must be "high", "medium", "low", "max", true, or false)'
      ],
      [
        "chat",
        { model: "m", messages: [{ role: "user", content: [{ type: "text", text: "x" }] }] },
        400,
        "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
      ],
      [
        "generate",
        { model: "m", prompt: 3 },
        400,
        "json: cannot unmarshal number into Go struct field GenerateRequest.prompt of type string"
      ],
      [
        "chat",
        { model: "m", messages: said, options: { num_predict: "x" } },
        500,
        'option "num_predict" must be of type integer'
      ],
      [
        "chat",
        { model: "m", messages: said, format: "xml" },
        500,
        'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object'
      ],
      ["chat", { model: "m", keep_alive: "soon" }, 400, 'time: invalid duration "soon"'],
      [
        "generate",
        { model: "m", prompt: "x", suffix: "y" },
        400,
        "registry.ollama.ai/library/m:latest does not support insert"
      ]
    ]
    for (const [path, body, status, error] of cases) {
      const response = await post(`${server.url}/api/${path}`, body)
      expect([response.status, await response.json()]).toEqual([status, { error }])
    }
    const image = await chat(server, { messages: [{ role: "user", content: "x", images: ["aGk="] }] })
    expect(image.status).toBe(400)
    expect(JSON.parse(((await image.json()) as Json).error).error.message).toContain("Multimodal data provided")
    expect(await (await post(`${server.url}/api/chat`, '{"model":')).json()).toEqual({ error: "unexpected EOF" })
    expect(await (await post(`${server.url}/api/chat`, "")).json()).toEqual({ error: "missing request body" })
    expect((await chat(server, { model: "M:LATEST", options: { unheard_of: 1 } })).status).toBe(200)
  })

  it("honours num_predict, stop, load, unload and continuation", async () => {
    const server = await ollama({ reply: "one two three four" })
    const whole = async (more: Json): Promise<Json> => (await chat(server, { stream: false, ...more })).json()
    expect(await whole({ options: { num_predict: 2 } })).toMatchObject({
      message: { content: "one two" },
      done_reason: "length",
      eval_count: 2
    })
    expect(await whole({ options: { stop: ["o thr"] } })).toMatchObject({
      message: { content: "one tw" },
      done_reason: "stop"
    })
    const load = await chat(server, { messages: [] })
    expect(load.headers.get("content-type")).toBe("application/json; charset=utf-8")
    expect(await load.json()).toMatchObject({ done: true, done_reason: "load", message: { content: "" } })
    expect(await whole({ messages: [], keep_alive: 0 })).toMatchObject({ done_reason: "unload" })
    const partial = [...said, { role: "assistant", content: "one two" }]
    expect((await whole({ messages: partial })).message.content).toBe("one two three four")
    const rendered: string = (await whole({ _debug_render_only: true }))._debug_info.rendered_template
    const raw = { model: "m", raw: true, stream: false, prompt: `${rendered}one two` }
    expect(await (await post(`${server.url}/api/generate`, raw)).json()).toMatchObject({ response: " three four" })
    await server.setBehaviour({ continuation: "continue" })
    expect((await whole({ messages: partial })).message.content).toBe(" three four")
  })

  it("requires the key and also serves /v1", async () => {
    const server = await ollama({ apiKey: "k", reply: "a b" })
    expect((await chat(server)).status).toBe(401)
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "k", maxRetries: 0 })
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(["m:latest"])
    const answer = await client.chat.completions.create({ model: "m", messages: [{ role: "user", content: "x" }] })
    expect(answer).toMatchObject({ system_fingerprint: "fp_ollama", choices: [{ message: { content: "a b" } }] })
    const missing = client.chat.completions.create({ model: "nope", messages: [{ role: "user", content: "x" }] })
    await expect(missing).rejects.toMatchObject({ status: 404, type: "not_found_error" })
    const ignored: Json = await (
      await complete(
        server,
        { max_completion_tokens: 1 },
        {
          headers: { authorization: "Bearer k" }
        }
      )
    ).json()
    expect(ignored.choices[0].message.content).toBe("a b")
  })
})

describe("fake OpenAI", () => {
  it("serves the openai client: stream, usage, tool calls", async () => {
    const server = await openai({
      reply: (body) =>
        body.tools === undefined
          ? "one two three"
          : { tokens: [], toolCalls: [{ name: "f", arguments: { city: "Paris", unit: "c" } }] }
    })
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "k", maxRetries: 0 })
    const messages = [{ role: "user", content: "x" }] as const
    const chunks: Array<Json> = []
    const stream = await client.chat.completions.create({
      model: "m",
      messages: [...messages],
      stream: true,
      stream_options: { include_usage: true }
    })
    for await (const chunk of stream) chunks.push(chunk)
    expect(chunks[0].choices[0].delta).toEqual({ role: "assistant", content: "", refusal: null })
    expect(chunks.map((c) => c.choices[0]?.delta.content ?? "").join("")).toBe("one two three")
    expect(chunks.at(-2).choices[0].finish_reason).toBe("stop")
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 3 } })
    const tools: Json = [{ type: "function", function: { name: "f", parameters: {} } }]
    const text = await (await complete(server, { stream: true, tools })).text()
    const calls = events(text).flatMap((e) => e.choices?.[0]?.delta.tool_calls ?? [])
    expect(calls.length).toBeGreaterThan(3)
    expect(calls.filter((c) => c.id !== undefined).length).toBe(1)
    expect(JSON.parse(calls.map((c) => c.function.arguments).join(""))).toEqual({ city: "Paris", unit: "c" })
    expect(events(text).at(-2).choices[0].finish_reason).toBe("tool_calls")
    expect(events(text).some((e) => e.usage)).toBe(false)
    expect(events(text).at(-1)).toBe("[DONE]")
    const whole: Json = await client.chat.completions.create({ model: "m", messages: [...messages], tools })
    expect(whole.choices[0].message.tool_calls[0].function.name).toBe("f")
  })

  it("refuses the same requests as OpenAI", async () => {
    const server = await openai({ apiKey: "k" })
    const headers = { authorization: "Bearer k" }
    const error = async (more: Json, init: RequestInit = { headers }) => {
      const response = await complete(server, more, init)
      return [response.status, ((await response.json()) as Json).error]
    }
    expect(await error({}, {})).toMatchObject([401, { type: "invalid_request_error" }])
    const wrong = { headers: { authorization: "Bearer x" } }
    expect(await error({}, wrong)).toMatchObject([401, { code: "invalid_api_key" }])
    expect(await error({ top_k: 3 })).toMatchObject([400, { message: "Unrecognized request argument supplied: top_k" }])
    expect(await error({ model: "nope" })).toMatchObject([404, { code: "model_not_found" }])
    expect(await error({ stream_options: { include_usage: true } })).toMatchObject([400, { param: "stream_options" }])
    const models: Json = await (await fetch(`${server.url}/v1/models`, { headers })).json()
    expect(models).toMatchObject({ object: "list", data: [{ id: "m", object: "model" }] })
    const limited: Json = await (await complete(server, { max_completion_tokens: 2 }, { headers })).json()
    expect(limited.choices[0]).toMatchObject({ finish_reason: "length", message: { content: "The sky" } })
    const stopped: Json = await (await complete(server, { stop: "y looks" }, { headers })).json()
    expect(stopped.choices[0]).toMatchObject({ finish_reason: "stop", message: { content: "The sk" } })
  })

  it("imitates llama.cpp, vLLM and Ollama", async () => {
    const reply = { tokens: ["ab", " cd"], thinking: ["mm"] }
    const llama = await openai({ flavour: "llamacpp", reply, apiKey: "k" })
    const headers = { authorization: "Bearer k" }
    const own = events(await (await complete(llama, { model: "any", stream: true, top_k: 1 }, { headers })).text())
    expect(own[0].choices[0].delta).toEqual({ role: "assistant", content: null })
    expect(own[1].choices[0].delta).toEqual({ reasoning_content: "mm" })
    expect(own.at(-2).timings.predicted_n).toBe(3)
    expect((await fetch(`${llama.url}/v1/models`)).status).toBe(200)
    expect(await (await complete(llama)).json()).toEqual({
      error: { code: 401, message: "Invalid API Key", type: "authentication_error" }
    })
    const broken = await post(`${llama.url}/v1/chat/completions`, "{", { headers })
    expect([broken.status, await broken.json()]).toMatchObject([500, { error: { code: 500, type: "server_error" } }])
    const partial = { messages: [...said, { role: "assistant", content: "ab" }] }
    const first = async (more: Json) => {
      const all = events(await (await complete(llama, { ...partial, stream: true, ...more }, { headers })).text())
      return all[1].choices[0].delta.content
    }
    expect(await first({})).toBe("ab cd")
    expect(await first({ continue_final_message: true, add_generation_prompt: false })).toBe(" cd")
    await llama.setBehaviour({ models: [{ name: "m", contextLength: 3 }] })
    const over: Json = await (await complete(llama, {}, { headers })).json()
    expect(over.error.type).toBe("exceed_context_size_error")

    const vllm = await openai({ flavour: "vllm", reply, reasoningField: "reasoning" })
    const theirs = events(await (await complete(vllm, { stream: true })).text())
    expect(theirs[1].choices[0].delta).toEqual({ reasoning: "mm" })
    expect(theirs.at(-2).choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: null })
    const gone: Json = await (await complete(vllm, { model: "nope" })).json()
    expect(gone.error).toMatchObject({ type: "NotFoundError", code: 404 })

    const like = await openai({ flavour: "ollama", reply })
    const some = events(await (await complete(like, { stream: true })).text())
    expect(some[0].choices[0].delta).toEqual({ role: "assistant", content: "", reasoning: "mm" })
    expect(some.at(-2).choices[0]).toEqual({ index: 0, delta: {}, finish_reason: "stop" })
  })
})

describe("fakes continue texts", () => {
  const reply = ["a", " b", " c", " d"]
  const models = [{ name: "m", capabilities: ["completion", "insert"] }]
  const text = (server: FakeServer<never>, more: Json = {}) =>
    post(`${server.url}/v1/completions`, { model: "m", prompt: "x", ...more })
  const wordsOf = (chunks: ReadonlyArray<Json>) => chunks.map((chunk) => chunk.choices?.[0]?.text ?? "").join("")

  it("Ollama without a template, or around a gap, each from the end of the text", async () => {
    const server = await ollama({ models, reply })
    const generate = (more: Json) => post(`${server.url}/api/generate`, { model: "m", stream: false, ...more })
    const raw = (await (await generate({ prompt: "x a b", raw: true })).json()) as Json
    expect(raw).toMatchObject({ response: " c d", done_reason: "stop" })
    expect(raw.context).toBeUndefined()
    expect(await (await generate({ prompt: "x a", suffix: "y" })).json()).toMatchObject({ response: " b c d" })
    // A prompt that goes through the template is no text that is gone on with.
    expect(await (await generate({ prompt: "x a b" })).json()).toMatchObject({ response: "a b c d" })
    expect(await (await generate({ prompt: "x", raw: true, system: "s" })).json()).toEqual({
      error: "raw mode does not support template, system, or context"
    })
    const plain = await ollama({ models: ["m"] })
    const refused = await post(`${plain.url}/api/generate`, { model: "m", prompt: "x", suffix: "y" })
    expect([refused.status, await refused.json()]).toEqual([
      400,
      { error: "registry.ollama.ai/library/m:latest does not support insert" }
    ])
  })

  it("each flavour in its own format", async () => {
    for (const flavour of ["openai", "llamacpp", "vllm"] as const) {
      const server = await openai({ models, reply, flavour })
      const whole = (await (await text(server, { prompt: "x a b" })).json()) as Json
      expect(whole).toMatchObject({ object: "text_completion", choices: [{ text: " c d", finish_reason: "stop" }] })
      const body = { stream: true, stream_options: { include_usage: true } }
      const chunks = events(await (await text(server, body)).text())
      expect(chunks.at(-1)).toBe("[DONE]")
      expect(wordsOf(chunks)).toBe("a b c d")
      expect(chunks.find((chunk) => chunk.usage?.completion_tokens === 4)).toBeDefined()
      // vLLM says with the last token that it is the last.
      const last = chunks.find((chunk) => typeof chunk.choices?.[0]?.finish_reason === "string")
      expect(last.choices[0].text).toBe(flavour === "vllm" ? " d" : "")
    }
    const many = await openai({ models, reply: Array.from({ length: 20 }, () => "a ") })
    expect(await (await text(many)).json()).toMatchObject({
      choices: [{ finish_reason: "length" }],
      usage: { completion_tokens: 16 }
    })
  })

  it("and refuse the same requests as the real ones", async () => {
    const errorOf = async (options: FakeOpenAIOptions, more: Json): Promise<[number, string]> => {
      const response = await text(await openai({ models, ...options }), more)
      const body = (await response.json()) as Json
      return [response.status, body.error?.message ?? body.detail]
    }
    expect(await errorOf({ flavour: "vllm" }, { suffix: "y" })).toEqual([400, "suffix is not currently supported"])
    expect(await errorOf({ flavour: "llamacpp" }, { suffix: "y" })).toEqual([500, "Unsupported param: suffix"])
    expect(await errorOf({}, { top_k: 3 })).toEqual([400, "Unrecognized request argument supplied: top_k"])
    expect(await errorOf({ completions: false }, {})).toEqual([404, "Invalid URL (POST /v1/completions)"])
    expect(await errorOf({ completions: false, flavour: "vllm" }, {})).toEqual([404, "Not Found"])
    const [status, words] = await errorOf({ models: ["gpt-4o-mini"] }, { model: "gpt-4o-mini" })
    expect([status, words]).toEqual([404, expect.stringContaining("This is a chat model")])
  })

  it("Ollama's /v1 applies its template to a text, and identifies itself", async () => {
    const server = await ollama({ models, reply })
    const body = (await (await text(server, { prompt: "x a b" })).json()) as Json
    expect(body).toMatchObject({ choices: [{ text: "a b c d" }], system_fingerprint: "fp_ollama" })
    expect(await (await text(server, { prompt: "x a b", suffix: "y" })).json()).toMatchObject({
      choices: [{ text: " c d" }]
    })
  })
})

describe("faults", () => {
  const outcome = async (fault: Fault, kind: "ollama" | "openai" = "ollama", options: Json = {}) => {
    const server =
      kind === "ollama"
        ? await ollama({ reply: "a b c d", faults: fault, ...options })
        : await openai({ reply: "a b c d", faults: fault, ...options })
    const response = kind === "ollama" ? await chat(server) : await complete(server, { stream: true })
    return { server, response, ...(await reads(response)) }
  }

  it.each(["each", "burst", 1] as const)("cuts after k tokens, paced %s", async (perToken) => {
    const { failure, text, server } = await outcome({ kind: "cut", after: 2 }, "ollama", { perToken })
    expect(failure).toBeInstanceOf(TypeError)
    expect(lines(text).map((l) => l.message.content)).toEqual(["a", " b"])
    expect(await server.requests[0]?.closedByClient).toBeUndefined()
    expect(server.requests[0]).toMatchObject({ aborted: false, finished: false, tokensSent: 2 })
  })

  it("cuts before the first token, in a line, at a byte, and with a reset", async () => {
    const none = await outcome({ kind: "cut" })
    expect([none.response.status, none.text, none.failure]).toEqual([200, "", expect.any(TypeError)])
    const line = await outcome({ kind: "cutLine", after: 1 })
    expect(line.failure).toBeDefined()
    expect(line.text.split("\n").length).toBe(2)
    expect(() => lines(line.text)).toThrow()
    for (const perToken of ["each", "burst"]) {
      const byte = await outcome({ kind: "cutByte", at: 150 }, "openai", { perToken })
      expect([Buffer.byteLength(byte.text), byte.failure]).toEqual([150, expect.any(TypeError)])
    }
    const reset = await outcome({ kind: "cut", after: 1, how: "rst" })
    expect(reset.failure).toBeDefined()
    const server = await ollama({ faults: { kind: "cutByte", at: 20 }, faultOn: "tags" })
    await expect((await fetch(`${server.url}/api/tags`)).text()).rejects.toThrow()
    expect((await chat(server)).status).toBe(200)
  })

  it("stalls, and records when the client gives up", async () => {
    for (const perToken of ["each", "burst", 1] as const) {
      const server = await ollama({ reply: "a b c", perToken, faults: { kind: "stall", after: 1 } })
      const abort = new AbortController()
      const response = await chat(server, {}, { signal: abort.signal })
      const reader = response.body?.getReader()
      expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toContain('"a"')
      expect(server.inFlight()).toBe(1)
      await new Promise((resolve) => setTimeout(resolve, 30))
      expect(server.requests[0]?.aborted).toBe(false)
      const now = Date.now()
      abort.abort()
      const at = await server.requests[0]?.closedByClient
      expect(at).toBeGreaterThanOrEqual(now)
      expect((at ?? 0) - now).toBeLessThan(100)
      expect(server.requests[0]).toMatchObject({ aborted: true, finished: false })
      expect(server.inFlight()).toBe(0)
    }
  })

  it("records an abort while it hangs, loads or waits between tokens", async () => {
    const slow = { kind: "slow", ms: 5000 } as const
    const cases: Array<FakeOllamaOptions> = [{ faults: { kind: "hang" } }, { loadDelay: 5000 }, { faults: slow }]
    for (const options of cases) {
      const server = await ollama({ reply: "a b", ...options })
      const abort = new AbortController()
      const pending = chat(server, {}, { signal: abort.signal }).then((response) => response.text())
      await server.waitForChats(1)
      setTimeout(() => abort.abort(), 20)
      await expect(pending).rejects.toThrow()
      expect(await server.requests[0]?.closedByClient).toBeTypeOf("number")
    }
  })

  it("ends silently, empty, malformed or with an error line", async () => {
    const silent = await outcome({ kind: "silentEnd", after: 2 })
    expect(silent.failure).toBeUndefined()
    expect(lines(silent.text).map((l) => l.done)).toEqual([false, false])
    expect((await outcome({ kind: "silentEnd", after: 1 }, "openai")).text).not.toContain("[DONE]")
    const empty = await outcome({ kind: "empty" })
    expect([empty.response.status, empty.text, empty.failure]).toEqual([200, "", undefined])
    const malformed = await outcome({ kind: "malformed", after: 1 })
    expect(() => lines(malformed.text)).toThrow()
    const error = await outcome({ kind: "errorLine", after: 1 })
    expect(lines(error.text).at(-1)).toEqual({
      error: "an error was encountered while running the model: unexpected EOF"
    })
    const sse = events((await outcome({ kind: "errorLine", after: 1 }, "openai")).text)
    expect(sse.at(-1).error.type).toBe("server_error")
    const bogus = events((await outcome({ kind: "errorLine", after: 1 }, "openai", { flavour: "ollama" })).text)
    expect(bogus.at(-1).model).toBe("")
    const server = await ollama({ faults: { kind: "silentEnd", after: 1 } })
    expect(await (await chat(server, { stream: false })).json()).toMatchObject({ done: false })
    await server.setBehaviour({ faults: { kind: "errorLine" } })
    expect((await chat(server, { stream: false })).status).toBe(500)
  })

  it("splits UTF-8 into single bytes", async () => {
    const reply = "né 😀 日本"
    for (const kind of ["ollama", "openai"] as const) {
      const { text, parts } = await outcome({ kind: "splitUtf8" }, kind, { reply })
      expect(parts.filter((part) => part.length === 1).length).toBeGreaterThan(text.length / 2)
      const tokens =
        kind === "ollama"
          ? lines(text).map((l) => l.message.content)
          : events(text).map((e) => e.choices?.[0].delta.content ?? "")
      expect(tokens.join("")).toBe(reply)
    }
  })

  it("answers with statuses, per request number", async () => {
    const server = await openai({
      faults: [{ kind: "status", code: 429, retryAfter: 7 }, undefined, { kind: "notFound" }, { kind: "garbage" }]
    })
    const limited = await complete(server)
    expect([limited.status, limited.headers.get("retry-after")]).toEqual([429, "7"])
    expect(((await limited.json()) as Json).error.code).toBe("rate_limit_exceeded")
    expect((await complete(server)).status).toBe(200)
    expect((await complete(server)).status).toBe(404)
    const garbage = await complete(server)
    expect([garbage.status, (await garbage.text()).startsWith("<html>")]).toEqual([200, true])
    expect((await complete(server)).status).toBe(200)
    const busy = await ollama({ faults: (n) => (n === 0 ? { kind: "status", code: 503 } : undefined) })
    expect(await (await chat(busy)).json()).toEqual({
      error: "server busy, please try again.  maximum pending requests exceeded"
    })
    expect((await chat(busy)).status).toBe(200)
  })

  it("refuses, resets, stops and restarts on the same port", async () => {
    const code = async (server: FakeServer<never>) =>
      chat(server).then(
        async (r) => {
          await r.text()
          return r.status
        },
        (error) => error.cause.code as string
      )
    const server = await ollama()
    expect(await code(server)).toBe(200)
    await server.setBehaviour({ faults: { kind: "refuse" } })
    expect(await code(server)).toBe("ECONNREFUSED")
    await server.setBehaviour({ faults: { kind: "reset" } })
    expect(await code(server)).toBe("ECONNRESET")
    expect(server.requests.at(-1)).toMatchObject({ aborted: false, finished: false })
    await server.setBehaviour({ faults: [{ kind: "refuse" }] })
    expect(await code(server)).toBe("ECONNRESET")
    expect(await code(server)).toBe("ECONNREFUSED")
    await server.restart()
    expect(await code(server)).toBe(200)
    await server.stop()
    expect(await code(server)).toBe("ECONNREFUSED")
    await server.restart()
    expect(await code(server)).toBe(200)
  })

  it("drops open streams when it stops, and does not blame the client", async () => {
    const server = await ollama({ faults: { kind: "stall", after: 1 } })
    const response = await chat(server)
    const body = reads(response)
    await server.stop()
    expect((await body).failure).toBeDefined()
    expect(server.requests[0]).toMatchObject({ aborted: false, finished: false })
  })

  it("counts requests in flight, keeps connections alive, and limits capacity", async () => {
    const server = await ollama({ perToken: 10, reply: "a b c", capacity: 3 })
    const agent = new Agent({ connections: 3 })
    const one = async () => {
      const { body, statusCode } = await request(`${server.url}/api/chat`, {
        method: "POST",
        body: JSON.stringify({ model: "m", messages: said }),
        dispatcher: agent
      })
      await body.dump()
      return statusCode
    }
    expect(await Promise.all([one(), one(), one(), one()])).toEqual([200, 200, 200, 200])
    expect([server.maxInFlight, server.connections, server.inFlight()]).toEqual([3, 3, 0])
    await agent.close()
    const statuses = await Promise.all(
      [1, 2, 3, 4].map(async () => {
        const response = await chat(server)
        await response.text()
        return response.status
      })
    )
    expect(statuses.filter((status) => status === 503).length).toBe(1)
  })

  it("fails as a whole: running and new requests, until it is restored", async () => {
    const hits: Array<readonly [string, string]> = []
    const server = await ollama({
      reply: ["a", "b", "c", "d"],
      perToken: 150,
      port: await unusedPort(),
      onStruck: ({ kind }, phase) => hits.push([kind, phase])
    })
    const underWay = async () => {
      const response = await chat(server)
      const reader = (response.body as ReadableStream<Uint8Array>).getReader()
      await reader.read()
      return { rest: () => reader.read().then(({ value }) => Buffer.from(value ?? []).toString()), reader }
    }
    const cut = await underWay()
    await server.strike({ kind: "cut", at: 0.6, how: "fin" })
    await expect(cut.rest()).resolves.not.toMatch(/\n$/)
    await expect(cut.rest()).rejects.toThrow()
    expect((await reads(await chat(server))).parts.join("").split("\n")).toHaveLength(4)
    const stalled = await underWay()
    await server.strike({ kind: "stall" })
    const late = chat(server)
    await expect.poll(() => hits.length, { timeout: 10_000 }).toBe(4)
    await server.strike(undefined)
    expect(await stalled.rest()).toContain('"b"')
    expect(lines(await (await late).text())).toHaveLength(5)
    await stalled.reader.cancel()
    await server.strike({ kind: "status", code: 429, retryAfter: 3 })
    const refused = await chat(server)
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "3"])
    const killed = await server.strike(undefined).then(underWay)
    await server.strike({ kind: "kill", how: "rst" })
    await expect(killed.rest()).rejects.toThrow()
    await expect(chat(server)).rejects.toThrow()
    await server.strike(undefined)
    expect(lines(await (await chat(server)).text())).toHaveLength(5)
    expect(hits.map((hit) => hit.join(": ")).sort()).toEqual([
      "cut: mid-stream",
      "cut: mid-stream",
      "kill: mid-stream",
      "stall: connect",
      "stall: mid-stream",
      "status: connect"
    ])
  })

  it("loads a model once", async () => {
    const server = await ollama({ loadDelay: 60, perToken: "burst" })
    const timed = async () => {
      const start = performance.now()
      await (await chat(server)).text()
      return performance.now() - start
    }
    expect(await timed()).toBeGreaterThan(55)
    expect(await timed()).toBeLessThan(50)
  })

  it("paces tokens and waits for a client that reads slowly", async () => {
    const server = await ollama({ reply: "a b c d", perToken: 15 })
    // The first piece may be read late, the last one never early.
    const start = performance.now()
    await (await chat(server)).text()
    expect(performance.now() - start).toBeGreaterThan(40)
    const long = await ollama({ reply: () => Array.from({ length: 300 }, () => "x".repeat(100_000)) })
    const request = httpRequest(`${long.url}/api/chat`, { method: "POST" })
    request.on("error", () => {})
    request.on("response", (response) => response.pause())
    request.end(JSON.stringify({ model: "m", messages: said }))
    await long.waitForChats(1)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(long.requests[0]?.tokensSent).toBeLessThan(200)
    request.destroy()
    expect(await long.requests[0]?.closedByClient).toBeTypeOf("number")
  })

  it("sends the first token's line together with its headers", async () => {
    const server = await ollama({ reply: "a", perToken: "burst" })
    const body = JSON.stringify({ model: "m", messages: said })
    const socket = connect(server.port, "127.0.0.1")
    socket.write(`POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
    const first = await new Promise<Buffer>((resolve) => socket.once("data", resolve))
    socket.destroy()
    expect(first.toString()).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*transfer-encoding: chunked[\s\S]*"done":true/i)
  })
})

describe("support", () => {
  it("splits texts into tokens that join again", () => {
    for (const text of ["", " ", "a b\n\nc ", "  lead", "日本 語"]) expect(tokenize(text).join("")).toBe(text)
  })

  it("finds a port where nothing listens", async () => {
    const port = await unusedPort()
    await expect(fetch(`http://127.0.0.1:${port}`)).rejects.toMatchObject({ cause: { code: "ECONNREFUSED" } })
  })
})
