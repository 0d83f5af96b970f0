import { createAnthropic } from "@ai-sdk/anthropic"
import { createOpenAICompatible } from "@ai-sdk/openai-compatible"
import { HumanMessage } from "@langchain/core/messages"
import { tool as langTool } from "@langchain/core/tools"
import { ChatOllama, Ollama as LangOllama } from "@langchain/ollama"
import { ChatOpenAI, OpenAI as LangOpenAI, OpenAIEmbeddings } from "@langchain/openai"
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai"
import { Ollama } from "ollama"
import OpenAI from "openai"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

const model = "llama3.2:3b"
const story = "Once upon a time there was a robot."
const weather = { name: "weather", arguments: { city: "Berlin" } }
const parameters = {
  type: "object" as const,
  properties: { city: { type: "string" as const } },
  required: ["city"],
  additionalProperties: false
}

let server: FakeServer
let gateway: TestGateway

beforeAll(async () => {
  server = await startFakeOllama({
    models: [model, { name: "embedder", capabilities: ["embedding"] }],
    reply: ({ format, messages = [], tools }) => {
      if (tools?.length > 0 && !messages.some((m: { role: string }) => m.role === "tool")) {
        return { tokens: [], toolCalls: [weather] }
      }
      if (messages.some((m: { role: string }) => m.role === "tool")) return "It is sunny in Berlin."
      return format === undefined ? story : `{"city":"Berlin"}`
    }
  })
  gateway = await startGateway([server.url])
})
afterAll(async () => {
  await gateway.close()
  await server.stop()
})

describe("ai with @ai-sdk/openai-compatible", () => {
  const provider = () =>
    createOpenAICompatible({ name: "fleet", baseURL: `${gateway.url}/v1`, supportsStructuredOutputs: true })(model)

  it("generateText", async () => {
    const { finishReason, text, usage } = await generateText({ model: provider(), prompt: "A story." })
    expect(text).toBe(story)
    expect(finishReason).toBe("stop")
    expect(usage.outputTokens).toBeGreaterThan(0)
  })

  it("streamText", async () => {
    const { textStream } = streamText({ model: provider(), prompt: "A story." })
    let text = ""
    for await (const piece of textStream) text += piece
    expect(text).toBe(story)
  })

  it("generateText and streamText of a completion model", async () => {
    const completes = createOpenAICompatible({ name: "fleet", baseURL: `${gateway.url}/v1` }).completionModel(model)
    const { text, usage } = await generateText({ model: completes, prompt: "A story." })
    expect(text).toBe(story)
    expect(usage.outputTokens).toBeGreaterThan(0)
    // It writes a prompt of its own out of the messages.
    expect(server.chatRequests.at(-1)?.body).toMatchObject({ raw: true, prompt: expect.stringContaining("A story.") })
    const stream = streamText({ model: completes, prompt: "A story." })
    expect(await stream.text).toBe(story)
  })

  it("generateObject", async () => {
    const { object } = await generateObject({
      model: provider(),
      schema: jsonSchema<{ city: string }>(parameters),
      prompt: "Where?"
    })
    expect(object).toEqual({ city: "Berlin" })
  })

  it("tools, in several steps", async () => {
    const { steps, text } = await generateText({
      model: provider(),
      prompt: "The weather?",
      stopWhen: stepCountIs(3),
      tools: {
        weather: tool({
          inputSchema: jsonSchema<{ city: string }>(parameters),
          execute: async ({ city }) => `sunny in ${city}`
        })
      }
    })
    expect(text).toBe("It is sunny in Berlin.")
    expect(steps).toHaveLength(2)
    const stream = streamText({
      model: provider(),
      prompt: "The weather?",
      stopWhen: stepCountIs(3),
      tools: {
        weather: tool({
          inputSchema: jsonSchema<{ city: string }>(parameters),
          execute: async ({ city }) => `sunny in ${city}`
        })
      }
    })
    expect(await stream.text).toBe("It is sunny in Berlin.")
  })
})

describe("ai with @ai-sdk/anthropic", () => {
  const provider = () => createAnthropic({ baseURL: `${gateway.url}/v1`, apiKey: "none" })(model)

  it("generateText and streamText", async () => {
    const body = { model: provider(), prompt: "A story.", maxOutputTokens: 100 }
    const { finishReason, text, usage, warnings } = await generateText(body)
    expect([text, finishReason]).toEqual([story, "stop"])
    expect(usage.outputTokens).toBeGreaterThan(0)
    expect(usage.inputTokens).toBeGreaterThan(0)
    expect(warnings ?? []).toEqual([])
    const stream = streamText(body)
    let streamed = ""
    for await (const piece of stream.textStream) streamed += piece
    expect([streamed, await stream.finishReason]).toEqual([story, "stop"])
    expect((await stream.usage).outputTokens).toBe(usage.outputTokens)
  })

  it("generateObject", async () => {
    const { object } = await generateObject({
      model: provider(),
      schema: jsonSchema<{ city: string }>(parameters),
      prompt: "Where?",
      maxOutputTokens: 100,
      // Without it, it has the object as the input of a tool that must be called, which Ollama does not know.
      providerOptions: { anthropic: { structuredOutputMode: "outputFormat" } }
    })
    expect(object).toEqual({ city: "Berlin" })
  })

  it("tools, in several steps", async () => {
    const tools = {
      weather: tool({
        inputSchema: jsonSchema<{ city: string }>(parameters),
        execute: async ({ city }) => `sunny in ${city}`
      })
    }
    const body = { model: provider(), prompt: "The weather?", maxOutputTokens: 100, stopWhen: stepCountIs(3), tools }
    const { steps, text } = await generateText(body)
    expect([text, steps.length]).toEqual(["It is sunny in Berlin.", 2])
    expect(await streamText(body).text).toBe("It is sunny in Berlin.")
    expect(server.chatRequests.at(-1)?.body.messages.at(-1)).toMatchObject({ role: "tool", content: "sunny in Berlin" })
  })
})

describe("LangChain", () => {
  const city = langTool(async () => "sunny", { name: "weather", description: "The weather.", schema: parameters })

  it("@langchain/openai", async () => {
    const chat = new ChatOpenAI({ model, apiKey: "none", configuration: { baseURL: `${gateway.url}/v1` } })
    expect((await chat.invoke([new HumanMessage("A story.")])).content).toBe(story)
    let text = ""
    for await (const piece of await chat.stream("A story.")) text += String(piece.content)
    expect(text).toBe(story)
    const { tool_calls } = await chat.bindTools([city]).invoke("The weather?")
    expect(tool_calls).toMatchObject([{ name: "weather", args: { city: "Berlin" } }])
    const structured = chat.withStructuredOutput(parameters, { name: "place", method: "jsonSchema" })
    expect(await structured.invoke("Where?")).toEqual({ city: "Berlin" })
    const embeddings = new OpenAIEmbeddings({
      model: "embedder",
      apiKey: "none",
      configuration: { baseURL: `${gateway.url}/v1` }
    })
    expect(await embeddings.embedQuery("one")).toHaveLength(8)
  })

  it("@langchain/openai and @langchain/ollama for texts", async () => {
    const configuration = { baseURL: `${gateway.url}/v1` }
    const openai = new LangOpenAI({ model, apiKey: "none", maxTokens: 50, configuration })
    expect(await openai.invoke("Once")).toBe(story.slice("Once".length))
    const several = await openai.generate(["Once", "A story."])
    expect(several.generations.map(([one]) => one?.text)).toEqual([story.slice("Once".length), story])
    let text = ""
    for await (const piece of await openai.stream("Once")) text += piece
    expect(text).toBe(story.slice("Once".length))
    expect(await new LangOllama({ model, baseUrl: gateway.url }).invoke("A story.")).toBe(story)
  })

  it("@langchain/ollama", async () => {
    const chat = new ChatOllama({ model, baseUrl: gateway.url })
    expect((await chat.invoke([new HumanMessage("A story.")])).content).toBe(story)
    let text = ""
    for await (const piece of await chat.stream("A story.")) text += String(piece.content)
    expect(text).toBe(story)
    const { tool_calls } = await chat.bindTools([city]).invoke("The weather?")
    expect(tool_calls).toMatchObject([{ name: "weather", args: { city: "Berlin" } }])
  })
})

describe("the demo model", () => {
  it("answers without any server", async () => {
    await using alone = await startGateway([])
    const client = new OpenAI({ baseURL: `${alone.url}/v1`, apiKey: "none", maxRetries: 0 })
    expect((await client.models.list()).data.map(({ id }) => id)).toContain("aicortex-demo")
    const ask = { model: "auto", messages: [{ role: "user" as const, content: "Hello" }], seed: 1, temperature: 0 }
    const whole = await client.chat.completions.create(ask)
    expect(whole.model).toBe("auto (selected: embedded:aicortex-demo)")
    expect(whole.choices[0]?.message.content).not.toBe("")
    let text = ""
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? ""
    }
    expect(text).toBe(whole.choices[0]?.message.content)

    const prompt = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    const raw = { model: "auto", prompt, temperature: 0, max_tokens: 100 }
    const completed = await client.completions.create(raw)
    expect(completed.model).toBe("auto (selected: embedded:aicortex-demo)")
    expect(completed.choices[0]).toMatchObject({ text, finish_reason: "stop" })
    let piecewise = ""
    for await (const chunk of await client.completions.create({ ...raw, stream: true })) {
      piecewise += chunk.choices[0]?.text ?? ""
    }
    expect(piecewise).toBe(text)
    const ollama = new Ollama({ host: alone.url })
    const generated = await ollama.generate({ model: "auto", prompt, raw: true, options: { temperature: 0 } })
    expect(generated.response).toBe(text)
  })
})
