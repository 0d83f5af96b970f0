import Anthropic, {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError
} from "@anthropic-ai/sdk"
import { afterEach, describe, expect, it } from "vitest"
import type { Gateway } from "../src/index.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "./support/fakeServer.js"
import { startGateway, type TestGateway } from "./support/gateway.js"

const model = "m:1b"
const hi = [{ role: "user" as const, content: "Hi" }]
const weather: Anthropic.Tool = {
  name: "weather",
  description: "The weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] }
}

const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI } as const
type Protocol = keyof typeof fakes
const protocols = ["ollama", "openai"] as const

const fake = async (protocol: Protocol, options: object = {}): Promise<FakeServer> => {
  const server = await fakes[protocol]({ models: [model], ...options })
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

const failure = <E extends Error>(
  promise: PromiseLike<unknown>,
  kind: abstract new (...args: never) => E
): Promise<E> =>
  Promise.resolve(promise).then(
    () => {
      throw new Error("it did not fail")
    },
    (error: unknown) => {
      expect(error).toBeInstanceOf(kind)
      return error as E
    }
  )

describe.each(protocols)("the official client, over an %s server", (protocol) => {
  it("create", async () => {
    const { client, server } = await start(protocol, { reply: "Well met." })
    const message = await client.messages.create({
      model,
      max_tokens: 50,
      system: [{ type: "text", text: "Be brief.", cache_control: { type: "ephemeral" } }],
      messages: hi,
      stop_sequences: ["END"],
      metadata: { user_id: "u1" }
    })
    expect(message).toEqual({
      id: expect.stringMatching(/^msg_\w+$/),
      type: "message",
      role: "assistant",
      model,
      content: [{ type: "text", text: "Well met." }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: { input_tokens: expect.any(Number), output_tokens: 2 }
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

  it("stream: the helper puts together what create gives", async () => {
    const { client } = await start(protocol, { reply: { tokens: "Well met.", thinking: ["Hm", "m."] } })
    const stream = client.messages.stream({ model, max_tokens: 50, messages: hi, thinking: { type: "adaptive" } })
    const texts: Array<string> = []
    const thoughts: Array<string> = []
    stream.on("text", (text) => texts.push(text))
    stream.on("thinking", (thought) => thoughts.push(thought))
    const final = await stream.finalMessage()
    expect(texts.join("")).toBe("Well met.")
    expect(thoughts.join("")).toBe("Hmm.")
    expect(texts.length).toBeGreaterThan(1)
    const whole = await client.messages.create({
      model,
      max_tokens: 50,
      messages: hi,
      thinking: { type: "adaptive" }
    })
    expect(final).toMatchObject({ ...whole, id: expect.stringMatching(/^msg_/) })
    expect(final.content.map(({ type }) => type)).toEqual(["thinking", "text"])
  })
})

export {
  APIError,
  AuthenticationError,
  BadRequestError,
  failure,
  InternalServerError,
  NotFoundError,
  RateLimitError,
  weather
}
