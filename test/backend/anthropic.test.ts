/** Anthropic's Messages API as the protocol of a server. */
import Anthropic from "@anthropic-ai/sdk"
import { describe, expect, it } from "vitest"
import type { FakeAnthropicOptions, ScriptedReply } from "../support/fakeServer.js"
import { eventsOf, failure, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const claude = "claude-sonnet-4-5"
const words = ["Light", " scatters", ",", " 你好", " 😀", "\n\n", "so", ' "blue"', " wins", "."]
const whole = words.join("")

const started = async (options: FakeAnthropicOptions = {}) => {
  const server = await fleet.anthropic({ models: [claude], reply: words, ...options })
  return { server, cortex: fleet.cortex([server], { model: claude }) }
}
const bodyOf = ({ chatRequests }: Awaited<ReturnType<typeof fleet.anthropic>>, at = -1) => chatRequests.at(at)?.body

describe("an answer", () => {
  const ways: ReadonlyArray<readonly [string, FakeAnthropicOptions]> = [
    ["in events", {}],
    ["in one read", { perToken: "burst" }],
    ["with padded events", { padded: true }],
    ["among unknown events, blocks and deltas", { noisy: true }],
    ["byte for byte", { faults: { kind: "splitUtf8" } }],
    ["as a whole", { whole: true }]
  ]
  it.each(ways)("%s", async (_, options) => {
    const { cortex } = await started({ ...options, cached: { read: 2, written: 1 } })
    const events = await eventsOf(await cortex.chat("Why is the sky blue?", { stream: true }))
    expect(textOf(events)).toBe(whole)
    expect(events.at(-1)).toMatchObject({
      type: "end",
      model: claude,
      finishReason: "stop",
      usage: { completionTokens: words.length, cachedTokens: 2, cacheWriteTokens: 1, promptTokens: 8, totalTokens: 18 }
    })
    const complete = await cortex.complete("Why is the sky blue?")
    expect(complete).toMatchObject({ text: whole, finishReason: "stop" })
  })

  it("can be read by Anthropic's own client", async () => {
    const { cortex, server } = await started({ noisy: true, padded: true })
    const client = new Anthropic({
      baseURL: server.url,
      apiKey: "any",
      defaultHeaders: { "anthropic-version": "2023-06-01" }
    })
    const read = await client.messages
      .stream({ model: claude, max_tokens: 100, messages: [{ role: "user", content: "Why is the sky blue?" }] })
      .finalText()
    expect(read).toBe(whole)
    expect((await cortex.complete("Why is the sky blue?")).text).toBe(read)
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual([claude])
  })

  it("maps each stop reason", async () => {
    const reasons = [
      ["end_turn", "stop"],
      ["max_tokens", "length"],
      ["model_context_window_exceeded", "length"],
      ["pause_turn", "length"],
      ["refusal", "content_filter"],
      ["something_new", "stop"]
    ] as const
    for (const [stopReason, finishReason] of reasons) {
      const { cortex } = await started({ stopReason })
      expect((await cortex.complete("Why?")).finishReason).toBe(finishReason)
    }
  })

  it("ends at a stop sequence, which it names, and at the limit of tokens", async () => {
    const { cortex, server } = await started()
    expect(await cortex.complete("Why?", { stop: ["blue", "never"] })).toMatchObject({
      text: whole.slice(0, whole.indexOf("blue")),
      finishReason: "stop",
      stopSequence: "blue"
    })
    expect(bodyOf(server)).toMatchObject({ stop_sequences: ["blue", "never"] })
    expect(await cortex.complete("Why?", { maxTokens: 3 })).toMatchObject({
      text: words.slice(0, 3).join(""),
      finishReason: "length"
    })
  })
})

describe("a request", () => {
  it("sends the version, the key and the token limit that the API requires", async () => {
    const server = await fleet.anthropic({ models: [claude], apiKey: "sk-ant-secret" })
    const at = {
      url: server.url,
      protocol: "anthropic",
      apiKey: "sk-ant-secret",
      headers: { "X-Tenant": "blue" }
    } as const
    const cortex = fleet.cortex([at], { model: claude })
    await cortex.complete("Hi", { system: "Be brief." })
    const [{ headers }] = server.chatRequests as [(typeof server.chatRequests)[number]]
    expect(headers).toMatchObject({
      "x-api-key": "sk-ant-secret",
      "anthropic-version": "2023-06-01",
      "x-tenant": "blue"
    })
    expect(headers.authorization).toBeUndefined()
    expect(bodyOf(server)).toEqual({
      model: claude,
      max_tokens: 64_000,
      stream: true,
      system: "Be brief.",
      messages: [{ role: "user", content: [{ type: "text", text: "Hi" }] }],
      temperature: 0.7
    })
    // A token instead of a key stays where it is, and so does another version.
    const token = fleet.cortex(
      [
        { url: server.url, protocol: "anthropic", headers: { authorization: "Bearer t", "x-api-key": "sk-ant-secret" } }
      ],
      { model: claude }
    )
    await token.complete("Hi")
    expect(server.chatRequests.at(-1)?.headers).toMatchObject({
      authorization: "Bearer t",
      "x-api-key": "sk-ant-secret"
    })
  })

  it("limits max_tokens to what the model can write", async () => {
    const limits = [
      ["claude-3-haiku-20240307", 4_096],
      ["claude-3-5-sonnet-20241022", 8_192],
      ["claude-3-7-sonnet-latest", 64_000],
      ["claude-opus-4-1-20250805", 32_000],
      ["claude-sonnet-4-20250514", 64_000],
      ["anthropic/claude-opus-4.6", 128_000],
      ["claude-opus-5-5", 128_000],
      ["other", 8_192]
    ] as const
    const { cortex, server } = await started({ models: limits.map(([name]) => name) })
    for (const [model, limit] of limits) {
      await cortex.complete("Hi", { model })
      expect(bodyOf(server).max_tokens, model).toBe(limit)
    }
    // The prompt must have room beside it.
    await cortex.complete("x".repeat(450_000), { model: "claude-3-7-sonnet-latest" })
    expect(bodyOf(server).max_tokens).toBe(50_000)
  })

  it("sends samplers only to models that accept them", async () => {
    const { cortex, server } = await started({ models: [claude, "claude-opus-5"] })
    await cortex.complete("Hi", { temperature: 0.2, topK: 5 })
    expect(bodyOf(server)).toMatchObject({ temperature: 0.2, top_k: 5 })
    await cortex.complete("Hi", { topP: 0.5 })
    expect(bodyOf(server).top_p).toBe(0.5)
    expect(bodyOf(server).temperature).toBeUndefined()
    await cortex.complete("Hi", { model: "claude-opus-5" })
    expect(bodyOf(server).temperature).toBeUndefined()
    await cortex.complete("Hi", { model: "claude-opus-5", temperature: 1, topP: 1, topK: 0 })
    expect(bodyOf(server)).not.toMatchObject({ temperature: expect.anything() })
    // What the caller wrote is not a default, though it may be the same.
    expect(await failure(cortex.complete("Hi", { temperature: 0.7, topP: 0.5 }))).toMatchObject({
      message: expect.stringContaining("`temperature` and `top_p` cannot both be specified")
    })
    for (const temperature of [0.2, 0.7]) {
      const error = await failure(cortex.complete("Hi", { model: "claude-opus-5", temperature }))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field: "temperature" })
    }
  })

  it("sends the fields that only this API has", async () => {
    const { cortex, server } = await started()
    const extra = { metadata: { user_id: "u" }, cache_control: { type: "ephemeral" }, min_tokens: 3 }
    await cortex.complete("Hi", { extra })
    expect(bodyOf(server)).toMatchObject({ metadata: { user_id: "u" }, cache_control: { type: "ephemeral" } })
    expect(bodyOf(server).min_tokens).toBeUndefined()
  })

  const refused = [
    ["temperature", { temperature: 1.5 }],
    ["frequencyPenalty", { frequencyPenalty: 0.5 }],
    ["presencePenalty", { presencePenalty: 0.5 }],
    ["repeatPenalty", { repeatPenalty: 1.1 }],
    ["minP", { minP: 0.1 }],
    ["stop", { stop: "\n" }],
    ["keepAlive", { keepAlive: "5m" }],
    ["options", { options: { num_ctx: 1 } }],
    ["extra.grammar", { extra: { grammar: "root ::= x" } }],
    ["raw", { raw: true }],
    ["suffix", { suffix: "end" }],
    ["temperature", { think: true, temperature: 0.2 }],
    ["topK", { think: true, topK: 3 }],
    ["maxTokens", { think: true, maxTokens: 1_000 }]
  ] as const
  it.each(refused)("is not sent where %s cannot be expressed: %j", async (field, options) => {
    const { cortex, server } = await started()
    expect(await failure(cortex.complete("Hi", options))).toMatchObject({ _tag: "InvalidRequest", field })
    expect(server.chatRequests).toHaveLength(0)
    // Where another server can, it is asked.
    const other = /^(keepAlive|options|suffix)$/.test(field)
      ? await fleet.ollama({ models: [{ name: claude, capabilities: ["completion", "insert"] }] })
      : await fleet.openai({ models: [claude], flavour: "vllm" })
    const both = fleet.cortex([server, other], { model: claude })
    expect((await both.complete("Hi", options)).server).toBe(other.url)
  })

  it("sends images, as data and by URL", async () => {
    const { cortex, server } = await started()
    await cortex.complete([
      {
        role: "user",
        content: [
          { type: "image", data: "aGk=", mediaType: "image/png" },
          { type: "image", url: "https://example.com/a.png", detail: "low" },
          { type: "image", url: "data:image/webp;base64,aGk=" },
          { type: "text", text: "What is this?" }
        ]
      }
    ])
    expect(bodyOf(server).messages).toEqual([
      {
        role: "user",
        content: [
          { type: "image", source: { type: "base64", media_type: "image/png", data: "aGk=" } },
          { type: "image", source: { type: "url", url: "https://example.com/a.png" } },
          { type: "image", source: { type: "base64", media_type: "image/webp", data: "aGk=" } },
          { type: "text", text: "What is this?" }
        ]
      }
    ])
  })

  it("has one system prompt, alternating roles and no blank text, for any conversation", async () => {
    const { cortex, server } = await started()
    await cortex.complete([
      { role: "system", content: "One." },
      { role: "user", content: "A" },
      { role: "user", content: "B" },
      { role: "assistant", content: "  " },
      { role: "developer", content: "Two." },
      { role: "user", content: "C" },
      { role: "assistant", content: "", toolCalls: [{ id: "functions.f:0", name: "f", arguments: { a: 1 } }] },
      { role: "tool", content: "", toolCallId: "functions.f:0", toolName: "f" },
      { role: "user", content: "D" },
      { role: "assistant", content: "So: " }
    ])
    expect(bodyOf(server)).toMatchObject({
      system: "One.\n\nTwo.",
      messages: [
        { role: "user", content: [{ type: "text", text: "A\n\nB\n\nC" }] },
        { role: "assistant", content: [{ type: "tool_use", id: "functions_f_0", name: "f", input: { a: 1 } }] },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "functions_f_0" },
            { type: "text", text: "D" }
          ]
        },
        { role: "assistant", content: [{ type: "text", text: "So:" }] }
      ]
    })
  })
})

const places: ScriptedReply = {
  tokens: ["Let", " me", " look."],
  thinking: ["Hm", ", two", " cities."],
  toolCalls: [
    { name: "weather", arguments: { city: "Zürich 你好" } },
    { name: "weather", arguments: { city: "Bern", days: 3 } },
    { name: "now", arguments: {} }
  ]
}

describe("tools", () => {
  const tools = [
    {
      name: "weather",
      description: "Says it.",
      parameters: { type: "object", properties: { city: { type: "string" } } }
    },
    { name: "now" }
  ]
  it.each([{}, { whole: true }, { noisy: true, padded: true }])(
    "are called in parallel, in pieces: %j",
    async (options) => {
      const { cortex, server } = await started({ reply: places, ...options })
      const events = await eventsOf(await cortex.chat("Weather?", { tools, stream: true }))
      expect(textOf(events)).toBe("Let me look.")
      const calls = events.filter(({ type }) => type === "tool_call")
      expect(calls).toMatchObject([
        { id: "toolu_0_0", name: "weather", arguments: { city: "Zürich 你好" } },
        { id: "toolu_0_1", name: "weather", arguments: { city: "Bern", days: 3 } },
        { id: "toolu_0_2", name: "now", arguments: {} }
      ])
      const pieces = ["", "", ""]
      for (const event of events) if (event.type === "tool_call_delta") pieces[event.index] += event.content
      expect(pieces).toEqual(['{"city":"Zürich 你好"}', '{"city":"Bern","days":3}', "{}"])
      expect(events.at(-1)).toMatchObject({ finishReason: "tool_calls" })
      expect(bodyOf(server).tools).toEqual([
        { name: "weather", description: "Says it.", input_schema: tools[0]?.parameters },
        { name: "now", input_schema: { type: "object", properties: {} } }
      ])
    }
  )

  it("map the tool choice", async () => {
    const { cortex, server } = await started({ models: [claude, "claude-opus-5-5"] })
    const choices = [
      ["auto", { type: "auto" }],
      ["none", { type: "none" }],
      ["required", { type: "any" }],
      [{ name: "now" }, { type: "tool", name: "now" }]
    ] as const
    for (const [toolChoice, sent] of choices) {
      await cortex.complete("Hi", { tools, toolChoice })
      expect(bodyOf(server).tool_choice).toEqual(sent)
    }
    const forced = { tools, toolChoice: "required", model: "claude-opus-5-5" } as const
    expect(await failure(cortex.complete("Hi", forced))).toMatchObject({ field: "toolChoice" })
    expect(await failure(cortex.complete("Hi", { tools, toolChoice: "required", think: true }))).toMatchObject({
      field: "toolChoice"
    })
  })

  const weather = {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
    execute: ({ city }: { readonly city?: unknown }) => `Sun in ${String(city)}.`
  }
  const now = { name: "now", execute: () => "Noon." }

  it("run, and the signed thinking before their calls is sent back", async () => {
    const reply = (body: { readonly messages: ReadonlyArray<unknown> }) =>
      body.messages.length === 1 ? places : { tokens: ["Sun", " everywhere."], thinking: ["Easy."] }
    const { cortex, server } = await started({ reply, redacted: "c2VjcmV0" })
    const answer = await cortex.complete("Weather?", { tools: [weather, now], think: true })
    expect(answer).toMatchObject({ text: "Sun everywhere." })
    expect(bodyOf(server).thinking).toEqual({ type: "enabled", budget_tokens: 8_192 })
    expect(bodyOf(server).messages[1].content).toMatchObject([
      { type: "redacted_thinking", data: "c2VjcmV0" },
      { type: "thinking", thinking: "Hm, two cities." },
      { type: "text", text: "Let me look." },
      { type: "tool_use", id: "toolu_0_0" },
      { type: "tool_use", id: "toolu_0_1" },
      { type: "tool_use", id: "toolu_0_2", input: {} }
    ])
    expect(bodyOf(server).messages[2].content).toHaveLength(3)
    // In another process the signature is not known.
    const history = [
      { role: "user", content: "Weather?" },
      { role: "assistant", content: "Let me look.", toolCalls: [{ id: "toolu_9_0", name: "now", arguments: {} }] },
      { role: "tool", content: "Noon.", toolCallId: "toolu_9_0", toolName: "now" }
    ] as const
    expect((await cortex.complete(history, { tools: [now], think: true })).text).toBe("Sun everywhere.")
    expect(bodyOf(server).thinking).toBeUndefined()
  })
})

it("a turn of several rounds continues thinking although only its beginning is signed", async () => {
  const rounds: ReadonlyArray<ScriptedReply> = [
    { tokens: [], thinking: ["Two", " cities."], toolCalls: [{ name: "weather", arguments: { city: "Bern" } }] },
    { tokens: ["Next", ":"], toolCalls: [{ name: "weather", arguments: { city: "Basel" } }] },
    { tokens: ["Sun", " everywhere."] }
  ]
  const { cortex, server } = await started({ reply: (_, n) => rounds[n] ?? "" })
  const weather = { name: "weather", execute: () => "Sun." }
  expect((await cortex.complete("Weather?", { tools: [weather], think: true })).text).toBe("Sun everywhere.")
  expect(bodyOf(server)).toMatchObject({
    thinking: { type: "enabled" },
    messages: [
      { role: "user" },
      { role: "assistant", content: [{ type: "thinking", thinking: "Two cities." }, { type: "tool_use" }] },
      { role: "user" },
      { role: "assistant", content: [{ type: "text", text: "Next:" }, { type: "tool_use" }] },
      { role: "user" }
    ]
  })
})

describe("thinking", () => {
  const reply: ScriptedReply = { tokens: words, thinking: ["Rayleigh", ", of", " course."] }
  it("has a budget that depends on the effort", async () => {
    const { cortex, server } = await started({ reply })
    const answer = await cortex.complete("Why?", { think: true })
    expect(answer).toMatchObject({ text: whole, thinking: "Rayleigh, of course.", usage: { reasoningTokens: 3 } })
    for (const [think, budget] of [
      ["low", 2_048],
      ["high", 16_384],
      ["max", 32_768]
    ] as const) {
      await cortex.complete("Why?", { think })
      expect(bodyOf(server).thinking).toEqual({ type: "enabled", budget_tokens: budget })
    }
    await cortex.complete("Why?", { think: "max", maxTokens: 5_000 })
    expect(bodyOf(server).thinking.budget_tokens).toBe(4_999)
    await cortex.complete("Why?", { think: true, extra: { thinking_budget: 3_000 } })
    expect(bodyOf(server).thinking.budget_tokens).toBe(3_000)
    const silent = await cortex.complete("Why?", { think: false })
    expect(silent.thinking ?? "").toBe("")
    expect(bodyOf(server).thinking).toBeUndefined()
  })

  it("is adaptive on newer models", async () => {
    const models = ["claude-opus-4-6", "claude-opus-4-8", "claude-opus-5", "claude-opus-5-5"]
    const { cortex, server } = await started({ models, reply })
    expect((await cortex.complete("Why?", { think: "high", model: "claude-opus-4-6" })).thinking).toBe(
      "Rayleigh, of course."
    )
    expect(bodyOf(server)).toMatchObject({ thinking: { type: "adaptive" }, output_config: { effort: "high" } })
    await cortex.complete("Why?", { think: true, model: "claude-opus-4-8" })
    expect(bodyOf(server).thinking).toEqual({ type: "adaptive", display: "summarized" })
    expect(bodyOf(server).output_config).toBeUndefined()
    await cortex.complete("Why?", { think: false, model: "claude-opus-5" })
    expect(bodyOf(server).thinking).toEqual({ type: "disabled" })
    expect(await failure(cortex.complete("Why?", { think: false, model: "claude-opus-5-5" }))).toMatchObject({
      field: "think"
    })
  })
})

describe("an answer with a prefill from the caller", () => {
  const begun = [
    { role: "user", content: "Why is the sky blue?" },
    { role: "assistant", content: "Light scatters" }
  ] as const
  it("is continued by models that support it", async () => {
    const { cortex, server } = await started({ models: [claude, "claude-opus-4-6"] })
    expect((await cortex.complete(begun)).text).toBe(whole.slice("Light scatters".length))
    expect(await failure(cortex.complete(begun, { model: "claude-opus-4-6" }))).toMatchObject({ field: "messages" })
    expect(await failure(cortex.complete(begun, { think: true }))).toMatchObject({ field: "think" })
    expect(server.chatRequests).toHaveLength(1)
  })
})

describe("JSON", () => {
  const schema = {
    type: "object",
    properties: {
      name: { type: "string", minLength: 2 },
      age: { type: "integer", minimum: 0, description: "In years." }
    },
    required: ["name"]
  } as const
  it("with a schema uses the API's own format, without keywords that it rejects", async () => {
    const { cortex, server } = await started({ reply: ['{"name"', ':"Ada","age":36}'] })
    const answer = await cortex.chat("Who?", { schema, think: true })
    expect(answer).toEqual({ name: "Ada", age: 36 })
    expect(bodyOf(server).output_config).toEqual({
      format: {
        type: "json_schema",
        schema: {
          type: "object",
          properties: {
            name: { type: "string", description: '{"minLength":2}' },
            age: { type: "integer", description: 'In years.\n\n{"minimum":0}' }
          },
          required: ["name"],
          additionalProperties: false
        }
      }
    })
  })

  it("without a schema is requested in the prompt", async () => {
    const { cortex, server } = await started({ reply: "[1, 2]" })
    await cortex.chat("Which?", { responseFormat: "json", system: "Be brief." })
    expect(bodyOf(server).output_config).toBeUndefined()
    expect(bodyOf(server).system).toBe("Be brief.\nRespond only with valid JSON. No prose, no markdown.")
  })

  it("with a schema is not sent to a model without structured output", async () => {
    const { cortex } = await started({ models: ["claude-3-haiku-20240307"] })
    expect(await failure(cortex.chat("Who?", { schema, model: "claude-3-haiku-20240307" }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "schema"
    })
  })
})
