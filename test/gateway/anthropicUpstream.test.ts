/** The gateway's APIs in front of a server that speaks Anthropic's. */
import Anthropic from "@anthropic-ai/sdk"
import OpenAI from "openai"
import { expect, it } from "vitest"
import type { FakeAnthropicOptions, ScriptedReply } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const claude = "claude-sonnet-4-5"

const started = async (options: FakeAnthropicOptions = {}) => {
  const server = await fleet.anthropic({ models: [claude], reply: "The sky is blue.", ...options })
  const gateway = fleet.keep(await startGateway([server.url]))
  const openai = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "any", maxRetries: 0 })
  return { server, gateway, openai, body: () => server.chatRequests.at(-1)?.body }
}
const messages = [{ role: "user" as const, content: "Why is the sky blue?" }]

it("OpenAI's client gets text, complete and streamed, and usage", async () => {
  const { body, openai } = await started({ cached: { read: 3, written: 2 } })
  const params = { model: claude, messages, temperature: 0.5, seed: 7, stop: ["END"], max_tokens: 50 }
  const { data, response } = await openai.chat.completions.create(params).withResponse()
  expect(data.choices[0]).toMatchObject({ message: { content: "The sky is blue." }, finish_reason: "stop" })
  expect(data.usage).toMatchObject({
    prompt_tokens: 8,
    completion_tokens: 4,
    prompt_tokens_details: { cached_tokens: 3 }
  })
  expect(response.headers.get("x-aicortex-ignored")).toBe("seed")
  expect(body()).toMatchObject({ temperature: 0.5, stop_sequences: ["END"], max_tokens: 50 })
  let text = ""
  for await (const chunk of await openai.chat.completions.create({ ...params, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? ""
  }
  expect(text).toBe("The sky is blue.")
  const auto = await openai.chat.completions.create({ model: "auto", messages })
  expect(auto.model).toBe(`auto (selected: anthropic:${claude})`)
})

it("a temperature that a client writes is sent or refused, the default is left out where none is taken", async () => {
  const strict = "claude-opus-5"
  const { body, gateway, openai, server } = await started({ models: [claude, strict] })
  const bodies = [
    ["/v1/chat/completions", { messages }],
    ["/v1/responses", { input: "Why is the sky blue?" }],
    ["/v1/messages", { messages, max_tokens: 50 }]
  ] as const
  for (const [path, fields] of bodies) {
    const ask = (more: object) => gateway.post(path, { ...fields, ...more })
    expect((await ask({ model: strict })).status, path).toBe(200)
    expect(body()?.temperature, path).toBeUndefined()
    const asked = server.chatRequests.length
    const refused = await ask({ model: strict, temperature: 0.7 })
    expect([refused.status, await refused.text()], path).toEqual([400, expect.stringContaining("'temperature'")])
    expect(server.chatRequests, path).toHaveLength(asked)
    await ask({ model: claude, top_p: 0.5 })
    expect(body()?.temperature, path).toBeUndefined()
    const both = await ask({ model: claude, top_p: 0.5, temperature: 0.7 })
    expect([both.status, await both.text()], path).toEqual([400, expect.stringContaining("cannot both be specified")])
  }
  const error = await openai.chat.completions.create({ model: strict, messages, temperature: 0.7 }).catch((e) => e)
  expect(error).toMatchObject({ status: 400, param: "temperature" })
})

it("what the server cannot take is refused under the client's name for it", async () => {
  const { gateway, server } = await started()
  const chat = { model: claude, messages, reasoning_effort: "high" }
  const cases = [
    ["/v1/chat/completions", { ...chat, max_tokens: 1000 }, "max_tokens"],
    ["/v1/chat/completions", { ...chat, max_completion_tokens: 1000 }, "max_completion_tokens"],
    [
      "/v1/responses",
      { model: claude, input: "Hi", reasoning: { effort: "high" }, max_output_tokens: 1000 },
      "max_output_tokens"
    ],
    ["/v1/chat/completions", { model: claude, messages, frequency_penalty: 0.5 }, "frequency_penalty"],
    ["/v1/chat/completions", { ...chat, top_k: 3 }, "top_k"],
    ["/v1/chat/completions", { model: claude, messages, grammar: "root ::= x" }, "grammar"]
  ] as const
  for (const [path, body, param] of cases) {
    const refused = await gateway.post(path, body)
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      { error: { param, message: expect.stringContaining(`'${param}': `) } }
    ])
  }
  const stop = await gateway.post("/v1/messages", { model: claude, messages, max_tokens: 5, stop_sequences: ["\n"] })
  expect(await stop.text()).toContain("'stop_sequences': ")
  const limit = await gateway.post("/api/chat", { model: claude, messages, think: true, options: { num_predict: 9 } })
  expect(await limit.text()).toContain("'num_predict': ")
  expect(server.chatRequests).toHaveLength(0)
})

it("Anthropic's client gets what the server counted, the cache included", async () => {
  const { gateway, server } = await started({ cached: { read: 3, written: 2 } })
  const through = new Anthropic({ baseURL: gateway.url, apiKey: "any", maxRetries: 0 })
  const direct = new Anthropic({
    baseURL: server.url,
    apiKey: "any",
    defaultHeaders: { "anthropic-version": "2023-06-01" }
  })
  const body = { model: claude, messages, max_tokens: 50 }
  const [a, b] = [await through.messages.create(body), await direct.messages.create(body)]
  expect(a.content).toMatchObject([{ type: "text", text: "The sky is blue." }])
  expect(a.content).toMatchObject(b.content)
  expect(a.stop_reason).toBe(b.stop_reason)
  for (const name of [
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens"
  ] as const) {
    expect(a.usage[name], name).toBe(b.usage[name])
  }
})

it("a client without signatures keeps the thinking of a turn with tools", async () => {
  const first: ScriptedReply = {
    tokens: ["Let", " me", " look."],
    thinking: ["A", " city."],
    toolCalls: [{ name: "weather", arguments: { city: "Bern" } }]
  }
  const reply = (request: { readonly messages: ReadonlyArray<unknown> }) =>
    request.messages.length === 1 ? first : { tokens: ["Sun."], thinking: ["Easy."] }
  const { body, openai } = await started({ reply })
  const tools = [{ type: "function" as const, function: { name: "weather", parameters: { type: "object" } } }]
  const params = { model: claude, tools, reasoning_effort: "low" as const }
  const called = await openai.chat.completions.create({ ...params, messages })
  const message = called.choices[0]?.message
  const id = message?.tool_calls?.[0]?.id ?? ""
  expect(called.choices[0]?.finish_reason).toBe("tool_calls")
  const answered = await openai.chat.completions.create({
    ...params,
    messages: [
      ...messages,
      { role: "assistant", content: message?.content ?? "", tool_calls: message?.tool_calls ?? [] },
      { role: "tool", tool_call_id: id, content: "Sunny." }
    ]
  })
  expect(answered.choices[0]?.message.content).toBe("Sun.")
  expect(body()).toMatchObject({
    thinking: { type: "enabled", budget_tokens: 2_048 },
    messages: [
      { role: "user" },
      {
        role: "assistant",
        content: [{ type: "thinking", thinking: "A city." }, { type: "text" }, { type: "tool_use", id }]
      },
      { role: "user", content: [{ type: "tool_result", tool_use_id: id, content: "Sunny." }] }
    ]
  })
  // Where the client has changed the turn, its signature is none of it.
  await openai.chat.completions.create({
    ...params,
    messages: [
      ...messages,
      { role: "assistant", content: "Changed.", tool_calls: message?.tool_calls ?? [] },
      { role: "tool", tool_call_id: id, content: "Sunny." }
    ]
  })
  expect(body()?.thinking).toBeUndefined()
  expect(JSON.stringify(body())).not.toContain("A city.")
})

it("an option that no server supports is the client's error, a failure is the server's", async () => {
  const { gateway, server } = await started()
  const post = (fields: object) => gateway.post("/v1/chat/completions", { model: claude, messages, ...fields })
  const refused = await post({ logit_bias: { "1": 5 } })
  expect(refused.status).toBe(400)
  expect(JSON.stringify(await refused.json())).toContain("Anthropic's API has no such option")
  expect(server.chatRequests).toHaveLength(0)
  const [image, schema] = [
    { type: "image_url", image_url: { url: "data:image/png;base64,aGk=" } },
    { type: "json_schema", json_schema: { name: "a", schema: { type: "object", properties: {} } } }
  ]
  await server.setBehaviour({ reply: "{}" })
  const response = await post({ messages: [{ role: "user", content: [image] }], response_format: schema })
  expect(response.status).toBe(200)
  expect(server.chatRequests.at(-1)?.body).toMatchObject({
    messages: [{ content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "aGk=" } }] }],
    output_config: { format: { type: "json_schema", schema: { type: "object", additionalProperties: false } } }
  })
  await server.setBehaviour({ faults: { kind: "status", code: 401 } })
  expect((await post({})).status).toBeGreaterThanOrEqual(500)
})
