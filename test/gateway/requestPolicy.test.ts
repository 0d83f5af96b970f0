import { afterEach, describe, expect, it } from "vitest"
import type { Gateway } from "../../src/index.js"
import { createCortex } from "../../src/promise.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]

const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

type Protocol = "ollama" | "openai"

const fake = async (protocol: Protocol): Promise<FakeServer> => {
  const models = [{ name: model, capabilities: ["completion", "tools", "embedding"] }]
  const options = { models, reply: "Well." }
  const server =
    protocol === "ollama" ? await startFakeOllama(options) : await startFakeOpenAI({ ...options, flavour: "llamacpp" })
  open.push(server.stop)
  return server
}
const start = async (
  protocol: Protocol = "ollama",
  settings: Gateway.Options = {}
): Promise<{ server: FakeServer; gateway: TestGateway }> => {
  const server = await fake(protocol)
  const gateway = await startGateway([protocol === "openai" ? `${server.url}/v1` : server.url], settings)
  open.push(gateway.close)
  return { server, gateway }
}

const tool = { type: "object", properties: {} }
/** A good request for each endpoint that answers. */
const faces: { readonly [path: string]: { readonly [name: string]: unknown } } = {
  "/v1/chat/completions": { model, messages },
  "/v1/completions": { model, prompt: "Hi" },
  "/v1/responses": { model, input: "Hi" },
  "/v1/messages": { model, messages, max_tokens: 100 },
  "/api/chat": { model, messages, stream: false },
  "/api/generate": { model, prompt: "Hi", stream: false }
}
const embedding: typeof faces = {
  "/v1/embeddings": { model, input: "Hi" },
  "/api/embed": { model, input: "Hi" },
  "/api/embeddings": { model, prompt: "Hi" }
}
const ignored = (response: Response): ReadonlyArray<string> => {
  const header = response.headers.get("x-aicortex-ignored")
  return header === null ? [] : header.split(", ").sort()
}

describe("unknown fields", () => {
  it.each(Object.keys({ ...faces, ...embedding }))(
    "%s: are left out and named; refused where it is strict",
    async (path) => {
      const body = { ...faces, ...embedding }[path]
      const { gateway, server } = await start()
      const response = await gateway.post(path, { ...body, mood: "good", service_tier: "flex", nothing: null })
      expect([response.status, ignored(response)]).toEqual([200, ["mood", "service_tier"]])
      expect(JSON.stringify(server.requests.at(-1)?.body)).not.toMatch(/mood|service_tier/)
      const plain = await gateway.post(path, body)
      expect([plain.status, plain.headers.has("x-aicortex-ignored")]).toEqual([200, false])
      const { gateway: strict } = await start("ollama", { strict: true })
      const refused = await strict.post(path, { ...body, mood: "good" })
      expect([refused.status, await refused.text()]).toEqual([
        400,
        expect.stringContaining("'mood' is not a parameter")
      ])
      expect((await strict.post(path, { ...body, service_tier: "flex" })).status).toBe(200)
    }
  )

  it.each([
    ["/v1/chat/completions", { stream: true }],
    ["/v1/completions", { stream: true }],
    ["/v1/responses", { stream: true }],
    ["/v1/messages", { stream: true }],
    ["/api/chat", { stream: true }],
    ["/api/generate", { stream: true }]
  ])("%s: a stream reports them in its headers", async (path, rest) => {
    const { gateway } = await start()
    const response = await gateway.post(path, { ...faces[path], ...rest, mood: "good" })
    expect([response.status, ignored(response)]).toEqual([200, ["mood"]])
    expect(await response.text()).toContain("Well.")
  })

  const nested: ReadonlyArray<readonly [path: string, extra: object, names: ReadonlyArray<string>]> = [
    ["/v1/chat/completions", { messages: [{ role: "user", content: "Hi", mood: 1 }] }, ["messages[].mood"]],
    [
      "/v1/chat/completions",
      { messages: [{ role: "user", content: [{ type: "text", text: "Hi", cache_control: { type: "ephemeral" } }] }] },
      ["messages[].content[].cache_control"]
    ],
    [
      "/v1/chat/completions",
      {
        messages: [
          ...messages,
          { role: "assistant", content: "Yes", thought_signature: "x" },
          { role: "user", content: "More", thought_signature: "y" }
        ]
      },
      ["messages[].thought_signature"]
    ],
    [
      "/v1/chat/completions",
      { tools: [{ type: "function", mood: 1, function: { name: "f", parameters: tool, returns: {} } }] },
      ["tools[].function.returns", "tools[].mood"]
    ],
    ["/v1/chat/completions", { tools: [{ type: "web_search" }] }, ["tools[].web_search"]],
    ["/v1/chat/completions", { stream: true, stream_options: { mood: 1 } }, ["stream_options.mood"]],
    ["/v1/chat/completions", { response_format: { type: "text", mood: 1 } }, ["response_format.mood"]],
    ["/v1/chat/completions", { reasoning: { effort: "none", max_tokens: 3 } }, ["reasoning.max_tokens"]],
    ["/v1/responses", { text: { mood: 1 } }, ["text.mood"]],
    ["/v1/responses", { tools: [{ type: "function", name: "f", parameters: tool, mood: 1 }] }, ["tools[].mood"]],
    ["/v1/messages", { tools: [{ name: "f", input_schema: tool, mood: 1 }] }, ["tools[].mood"]],
    ["/v1/messages", { messages: [{ role: "user", content: "Hi", mood: 1 }] }, ["messages[].mood"]],
    [
      "/v1/messages",
      { messages: [{ role: "user", content: [{ type: "text", text: "Hi", mood: 1 }] }] },
      ["messages[].content[].mood"]
    ],
    ["/v1/messages", { thinking: { type: "disabled", mood: 1 } }, ["thinking.mood"]],
    ["/v1/messages", { output_config: { mood: 1 } }, ["output_config.mood"]]
  ]
  it.each(nested)("%s: within %j", async (path, extra, names) => {
    const { gateway } = await start()
    const response = await gateway.post(path, { ...faces[path], ...extra })
    expect([response.status, ignored(response)]).toEqual([200, names])
    if (names.some((name) => name === "tools[].web_search")) return
    const { gateway: strict } = await start("ollama", { strict: true })
    expect((await strict.post(path, { ...faces[path], ...extra })).status).toBe(400)
  })

  it("names cannot break the header, or make it long", async () => {
    const { gateway } = await start()
    const names = [
      "a\r\nset-cookie: x=1",
      "ключ",
      "x".repeat(5_000),
      ...Array.from({ length: 500 }, (_, i) => `field${i}`)
    ]
    const response = await gateway.post("/v1/chat/completions", {
      ...faces["/v1/chat/completions"],
      ...Object.fromEntries(names.map((name) => [name, 1]))
    })
    const header = response.headers.get("x-aicortex-ignored") ?? ""
    expect([response.status, response.headers.has("set-cookie"), header.length < 3_000]).toEqual([200, false, true])
    expect(header).toMatch(/^a__set-cookie__x_1, ____, x{60}, field0, .*, \.\.\.$/)
  })
})

describe("unsupported fields that change the answer", () => {
  it.each<[path: string, extra: object, param: string]>([
    ["/v1/chat/completions", { functions: [{ name: "f" }] }, "functions"],
    ["/v1/chat/completions", { web_search_options: {} }, "web_search_options"],
    ["/v1/chat/completions", { modalities: ["audio"] }, "modalities"],
    ["/v1/chat/completions", { max_output_tokens: 3 }, "max_output_tokens"],
    ["/v1/completions", { messages }, "messages"],
    ["/v1/responses", { background: true }, "background"],
    ["/v1/responses", { conversation: "c" }, "conversation"],
    ["/v1/responses", { max_tokens: 3 }, "max_tokens"],
    ["/v1/messages", { n: 2 }, "n"],
    ["/v1/messages", { stop: ["x"] }, "stop"],
    ["/v1/messages", { inference_geo: "eu" }, "inference_geo"]
  ])("%s: %j is refused by name, before any server is asked", async (path, extra, param) => {
    const { gateway, server } = await start()
    const response = await gateway.post(path, { ...faces[path], ...extra })
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining(`'${param}'`)])
    expect(server.chatRequests).toEqual([])
  })

  it("a disabled option is accepted", async () => {
    const { gateway } = await start()
    const response = await gateway.post("/v1/responses", { model, input: "Hi", background: false, prompt: null })
    expect(response.status).toBe(200)
  })
})

const samplers = {
  typical_p: 0.9,
  repeat_last_n: 32,
  mirostat: 2,
  mirostat_tau: 4,
  tfs_z: 0.95,
  n_keep: 5,
  top_n_sigma: 1,
  dry_multiplier: 0.8,
  xtc_probability: 0.5,
  samplers: ["top_k", "min_p"],
  cache_prompt: true,
  min_tokens: 2,
  ignore_eos: false,
  stop_token_ids: [2],
  skip_special_tokens: true,
  priority: 1,
  thinking_budget: 100
}
const kwargs = { chat_template_kwargs: { reasoning_budget: 3, enable_thinking: true } }

describe("parameters that only some servers have", () => {
  it.each([
    ["/v1/chat/completions", false],
    ["/v1/chat/completions", true],
    ["/v1/completions", false],
    ["/v1/responses", true],
    ["/v1/messages", false]
  ])("%s (stream: %s): reach a server of the OpenAI API unchanged", async (path, stream) => {
    const { gateway, server } = await start("openai")
    const response = await gateway.post(path, { ...faces[path], ...samplers, stream })
    expect([response.status, ignored(response)]).toEqual([200, []])
    await response.text()
    expect(server.chatRequests.at(-1)?.body).toMatchObject(samplers)
  })

  it("Ollama gets the ones that it supports as options, and the others are reported", async () => {
    const { gateway, server } = await start("ollama")
    for (const stream of [false, true]) {
      const response = await gateway.post("/v1/chat/completions", { model, messages, ...samplers, stream })
      await response.text()
      expect([response.status, ignored(response)]).toEqual([
        200,
        Object.keys(samplers)
          .filter((name) => !/^(typical_p|repeat_last_n|mirostat.*|tfs_z|n_keep)$/.test(name))
          .sort()
      ])
      const { typical_p, repeat_last_n, mirostat, mirostat_tau, tfs_z } = samplers
      expect(server.chatRequests.at(-1)?.body.options).toMatchObject({
        typical_p,
        repeat_last_n,
        mirostat,
        mirostat_tau,
        tfs_z,
        num_keep: 5
      })
    }
  })

  it.each([
    ["grammar", 'root ::= "a"'],
    ["guided_regex", "a+"],
    ["guided_choice", ["a", "b"]],
    ["structured_outputs", { regex: "a" }]
  ])("%s: refused by name with only Ollama servers, and sent to another server otherwise", async (name, value) => {
    const [ollama, openai] = [await fake("ollama"), await fake("openai")]
    const alone = await startGateway([ollama.url])
    const both = await startGateway([ollama.url, `${openai.url}/v1`])
    open.push(alone.close, both.close)
    const body = { model, messages, [name]: value }
    const refused = await alone.post("/v1/chat/completions", body)
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining(name)])
    for (let i = 0; i < 4; i++) expect((await both.post("/v1/chat/completions", body)).status).toBe(200)
    expect([ollama.chatRequests.length, openai.chatRequests.length]).toEqual([0, 4])
    expect(openai.chatRequests.at(-1)?.body[name]).toEqual(value)
  })

  it("a schema in an alternative field is used on every server", async () => {
    const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] }
    for (const protocol of ["ollama", "openai"] as const) {
      const { gateway, server } = await start(protocol)
      await server.setBehaviour({ reply: '{"a":1}' })
      for (const extra of [{ guided_json: schema }, { guided_json: JSON.stringify(schema) }, { json_schema: schema }]) {
        const response = await gateway.post("/v1/chat/completions", { model, messages, ...extra })
        expect(response.status).toBe(200)
        const { body } = server.chatRequests.at(-1) ?? {}
        expect(protocol === "ollama" ? body.format : body.response_format.json_schema.schema).toMatchObject(schema)
      }
    }
  })

  it.each<[body: object, think: unknown]>([
    [{ enable_thinking: false }, false],
    [{ enable_thinking: true }, true],
    [{ thinking: { type: "enabled" } }, true],
    [{ thinking: { type: "disabled" } }, false],
    [{ thinking: { type: "adaptive" } }, undefined],
    [{ thinking: true }, true],
    [{ reasoning: { enabled: false } }, false],
    [kwargs, true],
    [{ chat_template_kwargs: { thinking: false } }, false],
    [{ reasoning_effort: "low", enable_thinking: true }, "low"]
  ])("%j is %s, in each server's format", async (body, think) => {
    const { gateway, server } = await start("ollama")
    await server.setBehaviour({ models: [{ name: model, capabilities: ["completion", "thinking"] }] })
    expect((await gateway.post("/v1/chat/completions", { model, messages, ...body })).status).toBe(200)
    expect(server.chatRequests.at(-1)?.body.think).toEqual(think)
    const other = await start("openai")
    expect((await other.gateway.post("/v1/chat/completions", { model, messages, ...body })).status).toBe(200)
    const sent = other.server.chatRequests.at(-1)?.body
    if (typeof think === "boolean") expect(sent.chat_template_kwargs.enable_thinking).toBe(think)
    else expect(sent.reasoning_effort).toEqual(think)
  })

  it("all keys of chat_template_kwargs are forwarded, and reported for servers without such a template", async () => {
    const one = await start("openai")
    await one.gateway.post("/v1/chat/completions", { model, messages, ...kwargs })
    expect(one.server.chatRequests.at(-1)?.body).toMatchObject(kwargs)
    const other = await start("ollama")
    const response = await other.gateway.post("/v1/chat/completions", {
      model,
      messages,
      chat_template_kwargs: { reasoning_budget: 3 }
    })
    expect([response.status, ignored(response)]).toEqual([200, ["chat_template_kwargs"]])
  })

  it("verbosity is forwarded, also of text", async () => {
    const { gateway, server } = await start("openai")
    await gateway.post("/v1/chat/completions", { model, messages, verbosity: "low" })
    expect(server.chatRequests.at(-1)?.body.verbosity).toBe("low")
    await gateway.post("/v1/responses", { model, input: "Hi", text: { verbosity: "high" } })
    expect(server.chatRequests.at(-1)?.body.verbosity).toBe("high")
  })

  it.each([
    { typical_p: "much" },
    { samplers: 7 },
    { stop_token_ids: ["a"] },
    { grammar: {} },
    { chat_template_kwargs: 1 }
  ])("%j is of the wrong type", async (extra) => {
    const { gateway, server } = await start("openai")
    const response = await gateway.post("/v1/chat/completions", { model, messages, ...extra })
    expect([response.status, await response.text()]).toEqual([
      400,
      expect.stringContaining(Object.keys(extra)[0] ?? "")
    ])
    expect(server.chatRequests).toEqual([])
  })
})

describe("extra, in the library", () => {
  const cortexOver = async (...urls: ReadonlyArray<string>) => {
    const cortex = createCortex({ servers: urls, configFile: false })
    open.push(() => cortex.close())
    return cortex
  }

  it("reaches a server of the OpenAI API, also unlisted fields; Ollama gets its options", async () => {
    const openai = await fake("openai")
    const one = await cortexOver(`${openai.url}/v1`)
    await one.complete("Hi", { model, extra: { xtc_probability: 0.5, my_own: { a: 1 } } })
    expect(openai.chatRequests.at(-1)?.body).toMatchObject({ xtc_probability: 0.5, my_own: { a: 1 } })
    const ollama = await fake("ollama")
    const other = await cortexOver(ollama.url)
    await other.complete("Hi", { model, extra: { typical_p: 0.5, xtc_probability: 0.5 } })
    expect(ollama.chatRequests.at(-1)?.body.options).toMatchObject({ typical_p: 0.5 })
    await expect(other.complete("Hi", { model, extra: { my_own: 1 } })).rejects.toMatchObject({
      _tag: "InvalidRequest",
      message: expect.stringContaining("my_own")
    })
  })

  it("is validated before anything is sent", async () => {
    const server = await fake("openai")
    const cortex = await cortexOver(`${server.url}/v1`)
    for (const extra of [{ typical_p: "x" }, { stream: false }, { messages: [] }]) {
      await expect(cortex.complete("Hi", { model, extra: extra as never })).rejects.toMatchObject({
        _tag: "InvalidRequest"
      })
    }
    expect(server.chatRequests).toEqual([])
  })
})
