import Anthropic, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError
} from "@anthropic-ai/sdk"
import { afterEach, describe, expect, it } from "vitest"
import type { Gateway } from "../../src/index.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { failureOf } from "../support/keep.js"

const model = "m:1b"
const hi = [{ role: "user" as const, content: "Hi" }]
const weather: Anthropic.Tool = {
  name: "weather",
  description: "The weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] }
}
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI } as const
type Protocol = keyof typeof fakes
const protocols = ["ollama", "openai"] as const

const fake = async (protocol: Protocol, options: object = {}): Promise<FakeServer> => {
  const server = await fakes[protocol]({
    models: [{ name: model, capabilities: ["completion", "tools", "vision", "thinking"] }],
    ...options
  })
  open.push(server.stop)
  return server
}
const gatewayOver = async (
  servers: ReadonlyArray<FakeServer>,
  settings: Gateway.Options = {}
): Promise<TestGateway> => {
  const gateway = await startGateway(
    servers.map(({ url }, priority) => ({ url, priority })),
    settings
  )
  open.push(gateway.close)
  return gateway
}
const clientOf = (gateway: TestGateway, apiKey = "none") =>
  new Anthropic({ baseURL: gateway.url, apiKey, authToken: null, maxRetries: 0 })

const start = async (
  protocol: Protocol,
  options: object = {},
  settings: Gateway.Options = {}
): Promise<{ server: FakeServer; gateway: TestGateway; client: Anthropic }> => {
  const server = await fake(protocol, options)
  const gateway = await gatewayOver([server], settings)
  return { server, gateway, client: clientOf(gateway) }
}

const textOf = ({ content }: Anthropic.Message): string =>
  content.map((block) => (block.type === "text" ? block.text : "")).join("")

describe.each(protocols)("the official client, over an %s server", (protocol) => {
  it("create", async () => {
    const { client, server } = await start(protocol, { reply: "Well met." })
    const message = await client.messages.create({
      model,
      max_tokens: 50,
      system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
      messages: hi,
      stop_sequences: ["END"],
      metadata: { user_id: "u1" },
      service_tier: "auto"
    })
    expect(message).toEqual({
      id: expect.stringMatching(/^msg_\w+$/),
      type: "message",
      role: "assistant",
      model,
      content: [{ type: "text", text: "Well met." }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: {
        input_tokens: expect.any(Number),
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 0,
        output_tokens: 2
      }
    })
    expect(message._request_id).toMatch(/^req-/)
    const [sent] = server.chatRequests
    expect(sent?.body.messages).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "Hi" }
    ])
    const options = protocol === "ollama" ? sent?.body.options : sent?.body
    expect(options).toMatchObject({ stop: ["END"], [protocol === "ollama" ? "num_predict" : "max_tokens"]: 50 })
  })

  it("reports max_tokens as the stop reason", async () => {
    const { client } = await start(protocol, { reply: "One two three four" })
    const body = { model, max_tokens: 2, messages: hi }
    expect(await client.messages.create(body)).toMatchObject({
      stop_reason: "max_tokens",
      usage: { output_tokens: 2 }
    })
    expect(await client.messages.stream(body).finalMessage()).toMatchObject({
      stop_reason: "max_tokens",
      content: [{ type: "text", text: "One two" }]
    })
  })

  it("names the stop sequence, if the server does", async () => {
    const { client, gateway, server } = await start(protocol, {
      reply: "One two END three",
      ...(protocol === "openai" ? { flavour: "vllm" } : {})
    })
    const body = { model, max_tokens: 50, messages: hi, stop_sequences: ["STOP", " END"] }
    // Ollama does not.
    const stop =
      protocol === "openai"
        ? { stop_reason: "stop_sequence", stop_sequence: " END" }
        : { stop_reason: "end_turn", stop_sequence: null }
    for (const message of [await client.messages.create(body), await client.messages.stream(body).finalMessage()]) {
      expect(message).toMatchObject({ ...stop, content: [{ type: "text", text: "One two" }] })
    }
    // A kept answer says so too.
    const before = server.chatRequests.length
    for (const stream of [false, false, true]) {
      const response = await gateway.post("/v1/messages", { ...body, stream, cache: true })
      expect(await response.text()).toContain(JSON.stringify(stop).slice(1, -1))
    }
    expect(server.chatRequests.length).toBe(before + 1)
    const other = await client.messages.create({ ...body, stop_sequences: ["STOP"] })
    expect(other).toMatchObject({ stop_reason: "end_turn", stop_sequence: null })
  })

  it("stream: the helper builds the same message as create", async () => {
    const { client } = await start(protocol, { reply: { tokens: "Well met.", thinking: ["Hm", "m."] } })
    const body = { model, max_tokens: 50, messages: hi, thinking: { type: "adaptive" as const } }
    const stream = client.messages.stream(body)
    const texts: Array<string> = []
    const thoughts: Array<string> = []
    stream.on("text", (text) => texts.push(text))
    stream.on("thinking", (thought) => thoughts.push(thought))
    const final = await stream.finalMessage()
    expect(texts.join("")).toBe("Well met.")
    expect(thoughts.join("")).toBe("Hmm.")
    expect(texts.length).toBeGreaterThan(1)
    const whole = await client.messages.create(body)
    expect(final).toMatchObject({ ...whole, id: expect.stringMatching(/^msg_/) })
    expect(final.content.map(({ type }) => type)).toEqual(["thinking", "text"])
  })

  it("thinking: on or off, its effort, and whether it is returned", async () => {
    const { client, server } = await start(protocol, {
      reply: { tokens: "Done.", thinking: ["Hm."] },
      ...(protocol === "openai" ? { flavour: "vllm" } : {})
    })
    const params = { model, max_tokens: 2_000, messages: hi }
    const sent = () => {
      const { body } = server.chatRequests.at(-1) ?? {}
      return protocol === "ollama" ? body.think : (body.chat_template_kwargs?.enable_thinking ?? body.reasoning_effort)
    }
    await client.messages.create(params)
    expect(sent()).toBeUndefined()
    await client.messages.create({ ...params, thinking: { type: "enabled", budget_tokens: 1024 } })
    expect(sent()).toBe(true)
    await client.messages.create({ ...params, thinking: { type: "disabled" } })
    expect(sent()).toBe(false)
    const omitted = { ...params, thinking: { type: "adaptive" as const, display: "omitted" as const } }
    const silent = { type: "thinking", thinking: "", signature: expect.stringMatching(/./) }
    for (const message of [
      await client.messages.create({ ...omitted, output_config: { effort: "low" } }),
      await client.messages.stream({ ...omitted, output_config: { effort: "low" } }).finalMessage()
    ]) {
      expect(sent()).toBe("low")
      expect(message.content).toEqual([silent, { type: "text", text: "Done." }])
    }
  })

  it("thinking in a chain: only models that can are asked to", async () => {
    const models = [
      { name: "deep:1b", capabilities: ["completion", "thinking"] },
      { name: "plain:1b", capabilities: ["completion"] }
    ]
    const { client, server } = await start(
      protocol,
      { models, reply: "Well." },
      { aliases: { smart: ["deep:1b", "plain:1b"], quick: ["plain:1b", "deep:1b"] } }
    )
    const params = { max_tokens: 50, messages: hi, output_config: { effort: "high" as const } }
    const sent = async (name: string) => {
      await client.messages.create({ ...params, model: name })
      const { body } = server.chatRequests.at(-1) ?? {}
      return body.think ?? body.reasoning_effort
    }
    expect([await sent("smart"), await sent("quick")]).toEqual(["high", protocol === "ollama" ? undefined : "high"])
  })

  it("tools, calls and results, complete and streamed", async () => {
    const { client, server } = await start(protocol, {
      reply: ({ messages, tools }: { messages: Array<{ role: string; content: string }>; tools?: Array<unknown> }) => {
        const last = messages.at(-1)
        if (last?.role === "tool") return `It is ${last.content}.`
        return (tools?.length ?? 0) > 0
          ? { tokens: "Let me see.", toolCalls: [{ name: "weather", arguments: { city: "Berlin" } }] }
          : "No tools."
      }
    })
    const params = { model, max_tokens: 100, messages: hi, tools: [weather], tool_choice: { type: "auto" as const } }
    const whole = await client.messages.create(params)
    expect(whole).toMatchObject({ stop_reason: "tool_use" })
    expect(whole.content).toEqual([
      { type: "text", text: "Let me see." },
      { type: "tool_use", id: expect.stringMatching(/^[a-zA-Z0-9_-]+$/), name: "weather", input: { city: "Berlin" } }
    ])
    const streamed = await client.messages.stream(params).finalMessage()
    expect(streamed).toMatchObject({ stop_reason: "tool_use", content: [{}, { input: { city: "Berlin" } }] })
    const use = streamed.content.find((block) => block.type === "tool_use")
    const answer = await client.messages.create({
      ...params,
      messages: [
        ...hi,
        { role: "assistant", content: streamed.content },
        { role: "user", content: [{ type: "tool_result", tool_use_id: use?.id ?? "", content: "sunny" }] }
      ]
    })
    expect(textOf(answer)).toBe("It is sunny.")
    const { body } = server.chatRequests.at(-1) ?? {}
    expect(body.tools).toEqual([
      {
        type: "function",
        function: { name: "weather", description: weather.description, parameters: weather.input_schema }
      }
    ])
    expect(body.messages.at(-1)).toMatchObject({ role: "tool", content: "sunny", tool_call_id: use?.id })
    if (protocol === "ollama") expect(body.messages.at(-1).tool_name).toBe("weather")
    expect(body.messages.at(-2)).toMatchObject({ role: "assistant", tool_calls: [{ id: use?.id }] })
    const none = await client.messages.create({ ...params, tool_choice: { type: "none" } })
    const choice = server.chatRequests.at(-1)?.body
    expect(protocol === "ollama" ? choice.tools : choice.tool_choice).toBe(protocol === "ollama" ? undefined : "none")
    expect(none.content[0]).toMatchObject({ type: "text" })
  })

  it("one tool call where only one is wanted", async () => {
    const { client } = await start(protocol, {
      reply: {
        tokens: [],
        toolCalls: [
          { name: "weather", arguments: { city: "Berlin" } },
          { name: "weather", arguments: { city: "Rome" } }
        ]
      }
    })
    const body = { model, max_tokens: 100, messages: hi, tools: [weather] }
    const cities = ({ content }: Anthropic.Message) =>
      content.map((block) => (block.type === "tool_use" ? (block.input as { city: string }).city : block.type))
    const one = { type: "auto" as const, disable_parallel_tool_use: true }
    expect(cities(await client.messages.create(body))).toEqual(["Berlin", "Rome"])
    expect(cities(await client.messages.stream(body).finalMessage())).toEqual(["Berlin", "Rome"])
    expect(cities(await client.messages.create({ ...body, tool_choice: one }))).toEqual(["Berlin"])
    expect(cities(await client.messages.stream({ ...body, tool_choice: one }).finalMessage())).toEqual(["Berlin"])
  })

  it("a full conversation, in order", async () => {
    const { client, server } = await start(protocol)
    await client.messages.create({
      model,
      max_tokens: 100,
      system: "Be kind.",
      tools: [weather],
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "What is this?" },
            { type: "image", source: { type: "base64", media_type: "image/png", data: pixel } }
          ]
        },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "A dot.", signature: "s" },
            { type: "redacted_thinking", data: "x" },
            { type: "text", text: "I look." },
            { type: "tool_use", id: "a", name: "weather", input: { city: "Rome" } },
            { type: "tool_use", id: "b", name: "weather", input: {} }
          ]
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "a", is_error: true, content: "no such city" },
            {
              type: "tool_result",
              tool_use_id: "b",
              content: [
                { type: "text", text: "a map" },
                { type: "image", source: { type: "base64", media_type: "image/png", data: pixel } }
              ]
            },
            { type: "text", text: "Well?", cache_control: { type: "ephemeral" } }
          ]
        }
      ]
    })
    const { messages } = server.chatRequests.at(-1)?.body ?? {}
    const call = (id: string, args: object) =>
      protocol === "ollama"
        ? { id, function: { name: "weather", arguments: args } }
        : { id, type: "function", function: { name: "weather", arguments: JSON.stringify(args) } }
    const result = (id: string, content: string) => ({
      role: "tool",
      content,
      tool_call_id: id,
      ...(protocol === "ollama" ? { tool_name: "weather" } : {})
    })
    const image = { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}` } }
    const user = (text: string, first: boolean) =>
      protocol === "ollama"
        ? { role: "user", content: text, images: [pixel] }
        : { role: "user", content: first ? [{ type: "text", text }, image] : [image, { type: "text", text }] }
    expect(messages).toEqual([
      { role: "system", content: "Be kind." },
      user("What is this?", true),
      {
        role: "assistant",
        content: "I look.",
        ...(protocol === "ollama" ? { thinking: "A dot." } : {}),
        tool_calls: [call("a", { city: "Rome" }), call("b", {})]
      },
      result("a", "Error: no such city"),
      result("b", "a map"),
      user("Well?", false)
    ])
  })

  it("JSON that fits a schema", async () => {
    const { client, server } = await start(protocol, { reply: [`{"capital"`, `:"Paris"}`] })
    const schema = {
      type: "object",
      properties: { capital: { type: "string" } },
      required: ["capital"],
      additionalProperties: false
    } as const
    const format = { type: "json_schema" as const, schema }
    const message = await client.messages.create({ model, max_tokens: 50, messages: hi, output_config: { format } })
    expect(textOf(message)).toBe(`{"capital":"Paris"}`)
    const { body } = server.chatRequests.at(-1) ?? {}
    expect(protocol === "ollama" ? body.format : body.response_format.json_schema.schema).toEqual(schema)
    await server.setBehaviour({ reply: "Paris" })
    const refused = await failureOf(
      client.messages.create({ model, max_tokens: 50, messages: hi, output_config: { format } }),
      APIError
    )
    expect([refused.status, refused.type]).toEqual([422, "invalid_request_error"])
  })

  it("an abort cancels the upstream request", async () => {
    const { client, server } = await start(protocol, { reply: "word ".repeat(200), perToken: 20 })
    const stream = client.messages.stream({ model, max_tokens: 500, messages: hi })
    await new Promise<void>((resolve) => stream.once("text", () => resolve()))
    const ended = failureOf(stream.finalMessage(), Anthropic.APIUserAbortError)
    stream.abort()
    await ended
    const [request] = server.chatRequests
    expect(await request?.closedByClient).toBeDefined()
    expect(request?.finished).toBe(false)
  })
})

describe("errors, as types of the official client", () => {
  it("a model that no server has", async () => {
    const { client } = await start("ollama")
    const error = await failureOf(client.messages.create({ model: "m:2b", max_tokens: 5, messages: hi }), NotFoundError)
    expect(error.type).toBe("not_found_error")
    expect(error.error).toEqual({
      type: "error",
      error: {
        type: "not_found_error",
        message: expect.stringContaining("m:2b"),
        details: { error_code: "model_not_found" }
      },
      request_id: error.requestID
    })
    expect(error.requestID).toMatch(/^req-/)
    await failureOf(
      client.messages.stream({ model: "m:2b", max_tokens: 5, messages: hi }).finalMessage(),
      NotFoundError
    )
  })

  it("an invalid request, before any server is asked", async () => {
    const { client, server } = await start("ollama")
    const bad = client.messages.create({ model, max_tokens: 0, messages: hi })
    const error = await failureOf(bad, BadRequestError)
    expect([error.type, error.message]).toEqual(["invalid_request_error", expect.stringContaining("'max_tokens'")])
    const search = client.messages.create({
      model,
      max_tokens: 5,
      messages: hi,
      tools: [{ type: "web_search_20250305", name: "web_search" }]
    })
    const { response } = await search.withResponse()
    expect(response.headers.get("x-aicortex-ignored")).toBe("tools[].web_search_20250305")
    expect(server.chatRequests).toHaveLength(1)
  })

  it("an option that the only server does not support", async () => {
    const { client } = await start("ollama")
    const any = { model, max_tokens: 5, messages: hi, tools: [weather], tool_choice: { type: "any" as const } }
    expect((await failureOf(client.messages.create(any), BadRequestError)).message).toContain("tool_choice")
  })

  it("no key, a wrong one, and one that has reached its limit", async () => {
    const server = await fake("ollama", { reply: "Well." })
    const keys = [
      { name: "app", key: "sk-right", requestsPerMinute: 3 },
      { name: "small", key: "sk-small", tokensPerMinute: 1 }
    ]
    const gateway = await gatewayOver([server], { keys } as Gateway.Options)
    const body = { model, max_tokens: 5, messages: hi }
    for (const error of [
      await failureOf(clientOf(gateway, "sk-wrong").messages.create(body), AuthenticationError),
      await failureOf(clientOf(gateway, "sk-wrong").messages.countTokens({ model, messages: hi }), AuthenticationError),
      await failureOf(clientOf(gateway, "sk-wrong").models.list(), AuthenticationError)
    ]) {
      expect([error.status, error.type]).toEqual([401, "authentication_error"])
      expect(JSON.stringify(error.error)).not.toContain("sk-")
    }
    const nobody = await gateway.post("/v1/messages", body)
    expect([nobody.status, await nobody.json()]).toMatchObject([401, { type: "error" }])
    const headers = (name: string, value: string) => ({ headers: { [name]: value } })
    expect((await gateway.post("/v1/messages", body, headers("x-api-key", "sk-right"))).status).toBe(200)
    expect((await gateway.post("/v1/messages", body, headers("authorization", "Bearer sk-right"))).status).toBe(200)
    const token = new Anthropic({ baseURL: gateway.url, apiKey: null, authToken: "sk-right", maxRetries: 0 })
    expect(textOf(await token.messages.create(body))).toBe("Well.")
    const full = await failureOf(clientOf(gateway, "sk-right").messages.create(body), RateLimitError)
    expect([full.type, Number(full.headers?.get("retry-after"))]).toEqual(["rate_limit_error", expect.any(Number)])
    // A count of tokens is a request, too.
    await failureOf(clientOf(gateway, "sk-right").messages.countTokens({ model, messages: hi }), RateLimitError)
    await clientOf(gateway, "sk-small").messages.create(body)
    await failureOf(clientOf(gateway, "sk-small").messages.create(body), RateLimitError)
  })

  it("overloaded, slow and failing servers", async () => {
    const body = { model, max_tokens: 5, messages: hi }
    const server = await fake("ollama", { faults: { kind: "status", code: 503 } })
    const gateway = await gatewayOver([server], { timeout: 300, loadTimeout: 300, maxRetries: 1 })
    const busy = await failureOf(clientOf(gateway).messages.create(body), InternalServerError)
    expect([busy.status, busy.type]).toEqual([529, "overloaded_error"])
    expect(Number(busy.headers?.get("retry-after"))).toBeGreaterThan(0)
    expect(busy.error).toMatchObject({ error: { attempts: [{ server: "server-1", reason: "busy" }] } })

    const silent = await gatewayOver([await fake("ollama", { faults: { kind: "hang" } })], {
      timeout: 300,
      loadTimeout: 300,
      maxRetries: 1
    })
    const late = await failureOf(clientOf(silent).messages.create(body), InternalServerError)
    expect([late.status, late.type]).toEqual([504, "timeout_error"])

    const broken = await gatewayOver([await fake("ollama", { faults: { kind: "reset" } })], { maxRetries: 1 })
    const failed = await failureOf(clientOf(broken).messages.create(body), InternalServerError)
    expect([failed.status, failed.type]).toEqual([502, "api_error"])
  })

  it("a forbidden web page, in this API's format", async () => {
    const { gateway } = await start("ollama")
    const response = await gateway.post(
      "/v1/messages",
      { model, max_tokens: 5, messages: hi },
      { headers: { origin: "https://evil.example" } }
    )
    expect([response.status, await response.json()]).toMatchObject([
      403,
      { type: "error", error: { type: "permission_error" } }
    ])
  })
})

describe("with the gateway's own features", () => {
  const params = { max_tokens: 50, messages: hi }

  it("aliases, chains and auto, each by its name", async () => {
    const { client, gateway } = await start(
      "ollama",
      { reply: "Well." },
      { aliases: { "claude-sonnet-4-5": ["m:9b", model] } }
    )
    expect((await client.messages.create({ ...params, model: "claude-sonnet-4-5" })).model).toBe(model)
    expect((await client.messages.stream({ ...params, model: "auto" }).finalMessage()).model).toBe(
      `auto (selected: ollama:${model})`
    )
    const unnamed = await gateway.post("/v1/messages", params)
    expect([unnamed.status, unnamed.headers.get("x-aicortex-server")]).toEqual([200, "server-1"])
  })

  it("thinking is not requested from models that cannot", async () => {
    const models = [
      { name: model, capabilities: ["completion", "tools"] },
      { name: "thinker:1b", capabilities: ["completion", "thinking"] }
    ]
    const { client, server } = await start(
      "ollama",
      { models, reply: { tokens: "Done.", thinking: ["Hm."] } },
      { aliases: { any: [model, "thinker:1b"] } }
    )
    const wanted = { max_tokens: 2_000, messages: hi, output_config: { effort: "high" as const } }
    const enabled = { type: "enabled" as const, budget_tokens: 1024 }
    for (const thinking of [enabled, { type: "adaptive" as const }]) {
      for (const name of [model, "any"]) {
        expect(textOf(await client.messages.create({ ...wanted, thinking, model: name }))).toBe("Done.")
        expect(server.chatRequests.at(-1)?.body.think).toBeUndefined()
      }
    }
    await client.messages.create({ ...wanted, thinking: { type: "adaptive" }, model: "thinker:1b" })
    expect(server.chatRequests.at(-1)?.body).toMatchObject({ model: "thinker:1b", think: "high" })
    await failureOf(client.messages.create({ ...wanted, thinking: enabled, model: "nope" }), NotFoundError)
  })

  it("a budget that Anthropic's API refuses is refused, whether the model thinks or not", async () => {
    const models = [
      { name: model, capabilities: ["completion", "tools"] },
      { name: "thinker:1b", capabilities: ["completion", "thinking"] }
    ]
    const { client, server } = await start("ollama", { models, reply: "Done." })
    for (const name of [model, "thinker:1b"]) {
      const ask = (budget: number, betas: Array<string> = []) =>
        client.beta.messages.create({
          model: name,
          max_tokens: 2_000,
          messages: hi,
          thinking: { type: "enabled", budget_tokens: budget },
          betas
        })
      const before = server.chatRequests.length
      for (const budget of [1_023, 2_000, 2_001]) {
        const error = await failureOf(ask(budget, ["context-management-2025-06-27"]), BadRequestError)
        expect([error.type, error.message]).toEqual([
          "invalid_request_error",
          expect.stringContaining("'thinking.budget_tokens'")
        ])
      }
      const interleaved = ["context-management-2025-06-27", "interleaved-thinking-2025-05-14"]
      await failureOf(ask(1_023, interleaved), BadRequestError)
      expect(server.chatRequests).toHaveLength(before)
      await ask(1_999)
      // With thinking between tool calls the budget is that of a whole turn.
      await ask(16_000, interleaved)
      expect(server.chatRequests).toHaveLength(before + 2)
    }
  })

  it("requests of terminal agents, through the client's own tool loop", async () => {
    const { client, server } = await start("ollama", {
      models: [{ name: model, capabilities: ["completion", "tools"] }],
      reply: ({ messages }: { messages: Array<{ role: string; content: string }> }) => {
        const last = messages.at(-1)
        return last?.role === "tool"
          ? `It is ${last.content}.`
          : { tokens: "Let me see.", toolCalls: [{ name: "weather", arguments: { city: "Berlin" } }] }
      }
    })
    const cities: Array<string> = []
    const cached = { cache_control: { type: "ephemeral" as const } }
    const runner = client.beta.messages.toolRunner({
      model,
      max_tokens: 32_000,
      stream: true,
      betas: ["interleaved-thinking-2025-05-14", "context-management-2025-06-27"],
      system: [
        { type: "text", text: "You are an agent." },
        { type: "text", text: "Be brief.", ...cached }
      ],
      messages: [{ role: "user", content: [{ type: "text", text: "The weather?", ...cached }] }],
      thinking: { type: "adaptive" },
      output_config: { effort: "high" },
      context_management: { edits: [{ type: "clear_thinking_20251015", keep: "all" }] },
      metadata: { user_id: "user_1_session_2" },
      tools: [
        {
          ...weather,
          ...cached,
          eager_input_streaming: true,
          parse: (input: unknown) => input as { city: string },
          run: ({ city }: { city: string }) => {
            cities.push(city)
            return "sunny"
          }
        }
      ]
    })
    const final = await runner.runUntilDone()
    expect(cities).toEqual(["Berlin"])
    expect(final).toMatchObject({ stop_reason: "end_turn", content: [{ type: "text", text: "It is sunny." }] })
    expect(server.chatRequests.map(({ body }) => body.messages.map(({ role }: { role: string }) => role))).toEqual([
      ["system", "user"],
      ["system", "user", "assistant", "tool"]
    ])
  })

  it("Ollama's extras, routing, cached answers", async () => {
    const { gateway, server } = await start("ollama", { reply: "Well." })
    const extras = { keep_alive: "5m", options: { mirostat: 1 }, num_ctx: 4096, seed: 7, top_k: 9, min_p: 0.1 }
    const body = { ...params, model, ...extras, temperature: 0.5, top_p: 0.9, routing: "fastest", cache: true }
    const first = await gateway.post("/v1/messages", body)
    expect([first.status, first.headers.get("x-aicortex-reason")]).toEqual([200, "fastest"])
    expect(server.chatRequests[0]?.body).toMatchObject({
      keep_alive: "5m",
      options: { mirostat: 1, num_ctx: 4096, seed: 7, top_k: 9, min_p: 0.1, temperature: 0.5, top_p: 0.9 }
    })
    const second = await gateway.post("/v1/messages", { ...body, stream: true })
    expect(second.headers.get("x-aicortex-reason")).toBe("cache")
    expect(await second.text()).toContain(`"text":"Well."`)
    expect(server.chatRequests).toHaveLength(1)
  })

  it("conversations that the gateway remembers", async () => {
    const { gateway, server } = await start("ollama", { reply: "Well." })
    const { id } = (await (await gateway.post("/v1/sessions", {})).json()) as { id: string }
    const say = (content: string, extra: object, init?: RequestInit) =>
      gateway.post("/v1/messages", { model, max_tokens: 50, messages: [{ role: "user", content }], ...extra }, init)
    expect((await say("One", { session: id })).status).toBe(200)
    expect((await say("Two", { stream: true }, { headers: { "x-aicortex-session": id } })).status).toBe(200)
    await eventually(() => server.chatRequests.length === 2, "two requests")
    expect(server.chatRequests[1]?.body.messages.map(({ content }: { content: string }) => content)).toEqual([
      "One",
      "Well.",
      "Two"
    ])
    const gone = await say("Three", { session: "nope" })
    expect([gone.status, await gone.json()]).toMatchObject([404, { error: { type: "not_found_error" } }])
  })

  it("the endpoint's name in metrics and in the log", async () => {
    const lines: Array<string> = []
    const server = await fake("ollama", { reply: "Well." })
    const gateway = await startGateway([server.url], { log: "json" }, { accessLog: (text) => lines.push(text) })
    open.push(gateway.close)
    await clientOf(gateway).messages.create({ ...params, model })
    await clientOf(gateway).messages.countTokens({ model, messages: hi })
    const metrics = await (await gateway.get("/metrics")).text()
    const counted = metrics.split("\n").filter((line) => line.startsWith("aicortex_requests_total{"))
    expect(counted.join("\n")).toMatch(/"\/v1\/messages"[^\n]* 1\n.*"\/v1\/messages\/count_tokens".* 1$/m)
    await eventually(() => lines.join("").split("\n").length > 2, "lines of the log")
    const reported = lines
      .join("")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line))
    expect(reported[0]).toMatchObject({
      route: "/v1/messages",
      status: 200,
      model,
      server: "server-1",
      completion_tokens: 1
    })
    expect(reported[1]).toMatchObject({ route: "/v1/messages/count_tokens", status: 200 })
  })

  it("the built-in model, without servers", async () => {
    const gateway = await gatewayOver([])
    const client = clientOf(gateway)
    const question = {
      model: "auto",
      max_tokens: 20,
      messages: [{ role: "user" as const, content: "What is 2 + 2?" }],
      // It cannot think, and answers all the same.
      thinking: { type: "adaptive" as const },
      output_config: { effort: "high" as const }
    }
    const whole = await client.messages.create(question)
    expect(textOf(whole)).toMatch(/\w/)
    expect(whole.usage.output_tokens).toBeGreaterThan(0)
    const stream = client.messages.stream(question)
    let text = ""
    stream.on("text", (piece) => {
      text += piece
    })
    const final = await stream.finalMessage()
    expect(text).toBe(textOf(final))
    expect(final.model).toMatch(/^auto \(selected: embedded:/)
    // It knows what it has stopped at.
    const sure = async (extra: object): Promise<Anthropic.Message> =>
      (
        await gateway.post("/v1/messages", { ...question, temperature: 0, ...extra })
      ).json() as Promise<Anthropic.Message>
    const all = textOf(await sure({}))
    const stop = all.slice(1, 4)
    const stopped = await sure({ stop_sequences: ["\u0000", stop] })
    expect(stopped).toMatchObject({ stop_reason: "stop_sequence", stop_sequence: stop })
    expect(textOf(stopped)).toBe(all.slice(0, all.indexOf(stop)))
  })
})

describe("lists of models", () => {
  it("are in Anthropic's format for its clients, and in OpenAI's for others", async () => {
    const { client, gateway } = await start("ollama", {}, { aliases: { fast: model } })
    const all = await client.models.list()
    const item = (id: string) => ({ type: "model", id, display_name: id, created_at: expect.stringMatching(/^20.*Z$/) })
    expect(all.data).toEqual([item(model), item("auto"), item("fast")])
    expect([all.has_more, all.first_id, all.last_id]).toEqual([false, model, "fast"])
    const ids: Array<string> = []
    for await (const { id } of client.models.list({ limit: 1 })) ids.push(id)
    expect(ids).toEqual([model, "auto", "fast"])
    const page = await client.models.list({ limit: 1, before_id: "fast" })
    expect([page.data.map(({ id }) => id), page.has_more]).toEqual([["auto"], true])
    expect(await client.models.retrieve(model)).toMatchObject(item(model))
    await failureOf(client.models.retrieve("m:7b"), NotFoundError)
    await failureOf(client.models.list({ limit: 0 }), BadRequestError)
    await failureOf(client.models.list({ after_id: "m:7b" }), BadRequestError)
    const plain = (await (await gateway.get("/v1/models")).json()) as { object: string }
    expect(plain.object).toBe("list")
    expect(await (await gateway.get(`/v1/models/${model}`)).json()).toMatchObject({ object: "model" })
    expect(await (await gateway.get("/v1/models/m:7b")).json()).toMatchObject({ error: { code: "model_not_found" } })
  })
})

describe("counts of tokens", () => {
  it("are estimated from the text, the tools and their calls", async () => {
    const { client, server } = await start("ollama")
    const count = async (extra: Partial<Anthropic.MessageCountTokensParams>) =>
      (await client.messages.countTokens({ model, messages: hi, ...extra })).input_tokens
    const few = await count({})
    expect(few).toBe(1)
    expect(await count({ messages: [{ role: "user", content: "x".repeat(400) }] })).toBe(100)
    expect(await count({ system: "x".repeat(400) })).toBeGreaterThanOrEqual(100)
    expect(await count({ tools: [weather] })).toBeGreaterThan(20)
    const called = await count({
      messages: [
        ...hi,
        { role: "assistant", content: [{ type: "tool_use", id: "a", name: "f", input: { text: "x".repeat(400) } }] },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "a" }] }
      ]
    })
    expect(called).toBeGreaterThan(100)
    expect(server.chatRequests).toEqual([])
    const wrong = client.messages.countTokens({ model, messages: [] })
    await failureOf(wrong, BadRequestError)
  })
})
