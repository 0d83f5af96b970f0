import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai"
import { createOllama } from "ollama-ai-provider-v2"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

const story = "Once upon a time there was a robot."
const weather = { name: "weather", arguments: { city: "Berlin" } }
const parameters = {
  type: "object" as const,
  properties: { city: { type: "string" as const } },
  required: ["city"],
  additionalProperties: false
}

let ollama: FakeServer
let openai: FakeServer
let vllm: FakeServer
let gateway: TestGateway

beforeAll(async () => {
  const reply = ({
    format,
    messages = [],
    response_format,
    tools
  }: {
    format?: unknown
    messages?: ReadonlyArray<{ role: string; content: unknown }>
    response_format?: unknown
    tools?: ReadonlyArray<unknown>
  }) => {
    if (messages.some(({ role }) => role === "tool")) return "It is sunny in Berlin."
    if ((tools ?? []).length > 0) return { tokens: [], toolCalls: [weather] }
    if (JSON.stringify(messages).includes("think")) return { thinking: ["Hm, ", "well."], tokens: "Done." }
    return format === undefined && response_format === undefined ? story : `{"city":"Berlin"}`
  }
  const capabilities = ["completion", "tools", "thinking"]
  ollama = await startFakeOllama({ models: [{ name: "m:1b", capabilities }], reply })
  openai = await startFakeOpenAI({ models: ["gpt-x"], reply })
  vllm = await startFakeOpenAI({ models: ["Qwen/Qwen3-8B"], flavour: "vllm", reply })
  gateway = await startGateway([ollama.url, openai.url, vllm.url])
})
afterAll(async () => {
  await gateway.close()
  for (const server of [ollama, openai, vllm]) await server.stop()
})

describe.each(["m:1b", "gpt-x", "Qwen/Qwen3-8B"])("ai with ollama-ai-provider-v2 and %s", (model) => {
  const provider = () => createOllama({ baseURL: `${gateway.url}/api` })(model)
  const sent = () => [ollama, openai, vllm].flatMap(({ chatRequests }) => chatRequests).at(-1)?.body

  it("generateText, and its settings reach the server", async () => {
    for (const server of [ollama, openai, vllm]) server.clear()
    const { finishReason, response, text, usage } = await generateText({
      model: provider(),
      prompt: "A story.",
      temperature: 0.3,
      topP: 0.9,
      maxOutputTokens: 100
    })
    expect([text, finishReason]).toEqual([story, "stop"])
    expect(usage.outputTokens).toBeGreaterThan(0)
    expect(response.headers?.["x-aicortex-ignored"]).toBeUndefined()
    const body = sent()
    expect(body.options ?? body).toMatchObject({ temperature: 0.3, top_p: 0.9 })
    expect(body.options?.num_predict ?? body.max_tokens).toBe(100)
    // The client always sends `think`; it is passed on to models that can think only.
    expect(body.think ?? body.chat_template_kwargs?.enable_thinking).toBe(model === "gpt-x" ? undefined : false)
  })

  it("the token limit truncates", async () => {
    const { finishReason, text } = await generateText({ model: provider(), prompt: "A story.", maxOutputTokens: 2 })
    expect([text, finishReason]).toEqual(["Once upon", "length"])
  })

  it("streamText", async () => {
    const result = streamText({ model: provider(), prompt: "A story.", temperature: 0, maxOutputTokens: 100 })
    let text = ""
    for await (const piece of result.textStream) text += piece
    expect([text, await result.finishReason]).toEqual([story, "stop"])
    expect((await result.usage).outputTokens).toBeGreaterThan(0)
  })

  // The strict server has no such switch.
  it.skipIf(model === "gpt-x")("thinking", async () => {
    const options = { ollama: { think: true } }
    const whole = await generateText({ model: provider(), prompt: "think", providerOptions: options })
    expect([whole.reasoningText, whole.text]).toEqual(["Hm, well.", "Done."])
    const stream = streamText({ model: provider(), prompt: "think", providerOptions: options })
    let thoughts = ""
    for await (const part of stream.fullStream) if (part.type === "reasoning-delta") thoughts += part.text
    expect([thoughts, await stream.text]).toEqual(["Hm, well.", "Done."])
  })

  it("structured output", async () => {
    const { object } = await generateObject({ model: provider(), prompt: "Where?", schema: jsonSchema(parameters) })
    expect(object).toEqual({ city: "Berlin" })
  })

  it.each(["auto", "required"] as const)("tools, with the choice %s, complete and streamed", async (toolChoice) => {
    const ask = {
      model: provider(),
      prompt: "The weather?",
      toolChoice,
      stopWhen: stepCountIs(toolChoice === "auto" ? 3 : 1),
      tools: { weather: tool({ inputSchema: jsonSchema(parameters), execute: async () => "sunny" }) }
    }
    const { steps, text } = await generateText(ask)
    expect(steps[0]?.toolCalls).toMatchObject([{ toolName: "weather", input: weather.arguments }])
    expect(steps[0]?.response.headers?.["x-aicortex-ignored"]).toBe(toolChoice === "auto" ? undefined : "tool_choice")
    const said = toolChoice === "auto" ? "It is sunny in Berlin." : ""
    expect(text).toBe(said)
    expect(await streamText(ask).text).toBe(said)
  })
})

describe("unknown fields", () => {
  const model = "m:1b"
  const messages = [{ role: "user", content: "A story." }]
  const paths: ReadonlyArray<readonly [path: string, good: object]> = [
    ["/api/chat", { model, messages, stream: false }],
    ["/api/chat", { model, messages }],
    ["/api/generate", { model, prompt: "A story.", stream: false }],
    ["/api/generate", { model, prompt: "A story.", raw: true }]
  ]

  it.each(paths)("are omitted from %s %j, and reported", async (path, good) => {
    ollama.clear()
    const response = await gateway.post(path, { ...good, user: "me", metadata: { a: 1 }, "x\r\ny: 1": true, n: null })
    expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, "user, metadata, x__y__1"])
    expect(await response.text()).toContain('"done":true')
    for (const name of ["user", "metadata"]) expect(ollama.chatRequests[0]?.body).not.toHaveProperty(name)
  })

  it.each(paths)("change an answer of %s %j as options do, which win", async (path, good) => {
    ollama.clear()
    const top = { temperature: 0.1, top_k: 7, seed: 3, max_tokens: 9, stop: ["x"], repeat_penalty: "much" }
    const response = await gateway.post(path, { ...good, ...top, options: { temperature: 0.9 } })
    expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, "temperature, repeat_penalty"])
    await response.text()
    const options = { temperature: 0.9, top_k: 7, seed: 3, num_predict: 9, stop: ["x"] }
    expect(ollama.chatRequests[0]?.body.options).toEqual(options)
  })

  it("are omitted from embeddings, too", async () => {
    const server = await startFakeOllama({ models: [{ name: "e", capabilities: ["embedding"] }] })
    const gateway = await startGateway([server.url])
    for (const [path, text] of [
      ["/api/embed", { input: "a" }],
      ["/api/embeddings", { prompt: "a" }]
    ] as const) {
      const response = await gateway.post(path, { model: "e", ...text, user: "me" })
      expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, "user"])
    }
    await gateway.close()
    await server.stop()
  })

  it("that change the answer and are unsupported are still refused", async () => {
    const refused = async (field: object) => {
      const response = await gateway.post("/api/generate", { model, prompt: "Hi", ...field })
      return [response.status, ((await response.json()) as { error: string }).error]
    }
    expect(await refused({ context: [1, 2, 3] })).toEqual([400, expect.stringContaining("'context'")])
  })
})
