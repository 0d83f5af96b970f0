import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import OpenAI from "openai"
import { afterEach, describe, expect, it } from "vitest"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"

const messages = [{ role: "user" as const, content: "Tell me a story." }]

interface UpstreamCase {
  readonly status?: number
  readonly type?: string
  readonly headers?: { readonly [name: string]: string }
  readonly body: string
}

const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

/** A server that has one model, `m`, and gives this answer to every request. */
const upstream = async (
  given: UpstreamCase | ((path: string, body: string) => UpstreamCase | undefined)
): Promise<string> => {
  const server = createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (part: string) => {
      body += part
    })
    request.on("end", () => {
      const url = (request.url ?? "").replace(/^http:\/\/[^/]*/, "")
      if (url === "/v1/models") {
        response.setHeader("content-type", "application/json")
        response.end(`{"object":"list","data":[{"id":"m","object":"model"},{"id":"gpt-5","object":"model"}]}`)
        return
      }
      const answer =
        url === "/api/tags" ? { status: 404, body: "" } : typeof given === "function" ? given(url, body) : given
      // Without an answer it keeps who asks waiting.
      if (answer === undefined) return
      response.writeHead(answer.status ?? 200, {
        "content-type": answer.type ?? "text/event-stream",
        ...answer.headers
      })
      response.end(answer.body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  open.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
}

const serve = async (...args: Parameters<typeof startGateway>): Promise<TestGateway> => {
  const gateway = await startGateway(...args)
  open.push(gateway.close)
  return gateway
}
const clientOf = (gateway: TestGateway, apiKey = "none") =>
  new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey, maxRetries: 0 })

const chunk = (delta: object, finish_reason: string | null = null) => ({
  object: "chat.completion.chunk",
  choices: [{ index: 0, delta, finish_reason }]
})
const sse = (events: ReadonlyArray<object>) => events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("")

describe("a server that does not stream", () => {
  const call = { id: "c1", type: "function", function: { name: "weather", arguments: '{"city":"Berlin"}' } }
  const whole = (message: object, finish_reason: string | null) => ({
    type: "application/json",
    body: JSON.stringify({
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", ...message }, finish_reason }],
      usage: { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 }
    })
  })

  it("still works", async () => {
    const gateway = await serve([await upstream(whole({ content: "Once upon a time.", tool_calls: [call] }, "stop"))])
    const client = clientOf(gateway)
    const answer = await client.chat.completions.create({ model: "m", messages })
    expect(answer.choices[0]).toMatchObject({
      message: { content: "Once upon a time.", tool_calls: [call] },
      finish_reason: "tool_calls"
    })
    expect(answer.usage).toEqual({ prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 })
    const stream = client.chat.completions.stream({ model: "m", messages })
    const final = await stream.finalChatCompletion()
    expect(final.choices[0]?.message).toMatchObject({ content: "Once upon a time.", tool_calls: [call] })
  })

  it("fails if its answer is incomplete", async () => {
    const good = await upstream({ body: sse([chunk({ content: "Well." }), chunk({}, "stop")]) })
    const bad = await upstream(whole({ content: "" }, null))
    const gateway = await serve([
      { url: bad, priority: 0 } as { url: string },
      { url: good, priority: 1 } as { url: string }
    ])
    const { data, response } = await clientOf(gateway).chat.completions.create({ model: "m", messages }).withResponse()
    expect(data.choices[0]?.message.content).toBe("Well.")
    expect(response.headers.get("x-aicortex-reason")).toBe("failover after cut")
  })
})

describe("a server that aborts its answer", () => {
  it("is a failure, with any fields next to the error", async () => {
    const error = { ...chunk({ content: "" }, "error"), error: { code: 502, message: "The provider left." } }
    const gateway = await serve(
      [await upstream({ body: `${sse([chunk({ content: "Once " }), error])}data: [DONE]\n\n` })],
      { maxRetries: 2 }
    )
    const whole = await gateway.post("/v1/chat/completions", { model: "m", messages })
    expect([whole.status, await whole.json()]).toMatchObject([502, { error: { code: "all_servers_failed" } }])
    const text = await (await gateway.post("/v1/chat/completions", { model: "m", messages, stream: true })).text()
    expect(text).toContain('"code":"stream_interrupted"')
    expect(text).not.toContain("[DONE]")
    const empty = await serve(
      [await upstream({ body: sse([chunk({ content: "Once " }, ""), chunk({ content: "upon" }, "")]) })],
      { maxRetries: 2 }
    )
    expect((await empty.post("/v1/chat/completions", { model: "m", messages })).status).toBe(502)
    expect(
      await (await empty.post("/v1/chat/completions", { model: "m", messages, stream: true })).text()
    ).not.toContain("[DONE]")
  })
})

describe("arguments with numbers that JavaScript does not hold", () => {
  const written = `{"id": 12345678901234567890, "other": 9007199254740993}`

  it("reach clients, and servers again, as the model has written them", async () => {
    const sent: Array<string> = []
    const gateway = await serve([
      await upstream((path, text) => {
        if (!path.endsWith("/chat/completions")) return { status: 404, body: "{}" }
        const asked = JSON.parse(text) as OpenAI.ChatCompletionCreateParams
        for (const message of asked.messages) {
          if (message.role !== "assistant") continue
          for (const call of message.tool_calls ?? []) if (call.type === "function") sent.push(call.function.arguments)
        }
        if (asked.messages.some(({ role }) => role === "tool")) {
          return { body: `${sse([chunk({ content: "Done." }), chunk({}, "stop")])}data: [DONE]\n\n` }
        }
        const call = { index: 0, id: "call_1", type: "function", function: { name: "look", arguments: written } }
        return { body: `${sse([chunk({ tool_calls: [call] }), chunk({}, "tool_calls")])}data: [DONE]\n\n` }
      })
    ])
    const client = clientOf(gateway)
    const parameters = { type: "object", properties: {} }
    const tools = [{ type: "function" as const, function: { name: "look", parameters } }]
    const { choices } = await client.chat.completions.create({ model: "m", messages, tools })
    const message = choices[0]?.message
    const [call] = message?.tool_calls ?? []
    expect(call).toMatchObject({ function: { arguments: written } })
    await client.chat.completions.create({
      model: "m",
      tools,
      messages: [
        ...messages,
        message as OpenAI.ChatCompletionMessage,
        { role: "tool", tool_call_id: call?.id ?? "", content: "nothing" }
      ]
    })
    const own = [{ type: "function" as const, name: "look", parameters, strict: false }]
    const first = await client.responses.create({ model: "m", input: "Look.", tools: own })
    const [item] = first.output
    expect(item).toMatchObject({ type: "function_call", arguments: written })
    await client.responses.create({
      model: "m",
      tools: own,
      input: [
        { role: "user", content: "Look." },
        item as OpenAI.Responses.ResponseFunctionToolCall,
        { type: "function_call_output", call_id: "call_1", output: "nothing" }
      ]
    })
    expect(sent).toEqual([written, written])
  })
})

describe("OpenAI's own servers", () => {
  it("get what they take; what they are not sent is named, and what a client wrote is sent", async () => {
    const sent: Array<object> = []
    // It stands for any host: a proxy is asked for whole addresses.
    const at = await upstream((_, text) => {
      sent.push(JSON.parse(text))
      return { body: `${sse([chunk({ content: "Hi." }), chunk({}, "stop")])}data: [DONE]\n\n` }
    })
    const proxy = new URL(at).origin
    const gateway = await serve([{ url: "http://api.openai.com/v1" }], {}, { cortex: { proxy } })
    const ask = async (more: object) => {
      const response = await gateway.post("/v1/chat/completions", { model: "gpt-5", messages, ...more })
      expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("Hi.")])
      return [response.headers.get("x-aicortex-ignored"), sent.at(-1)]
    }
    const [none, plain] = await ask({})
    expect(none).toBeNull()
    expect(plain).not.toMatchObject({ temperature: expect.anything() })
    expect(await ask({ temperature: 0.7, verbosity: "low" })).toEqual([
      null,
      expect.objectContaining({ temperature: 0.7, verbosity: "low" })
    ])
    const [ignored, body] = await ask({ typical_p: 0.5, min_tokens: 3 })
    expect(ignored).toBe("typical_p, min_tokens")
    expect(Object.keys(body as object)).not.toEqual(expect.arrayContaining(["typical_p"]))
  })
})

describe("parallel tool calls in a stream of /v1/responses", () => {
  const piece = (index: number, text: string, id?: string) => {
    const head = id === undefined ? {} : { id, type: "function" }
    const name = id === undefined ? {} : { name: "look" }
    return chunk({ tool_calls: [{ index, ...head, function: { ...name, arguments: text } }] })
  }
  const asked = [
    { type: "function" as const, name: "look", parameters: { type: "object" }, strict: false },
    { type: "custom" as const, name: "write" }
  ]
  /** What begins and ends, and all arguments as they came; checked against the response at the end. */
  const events = async (pieces: ReadonlyArray<object>) => {
    const gateway = await serve([
      await upstream({ body: `${sse([...pieces, chunk({}, "tool_calls")])}data: [DONE]\n\n` })
    ])
    const found: Array<string> = []
    const written: Array<string> = []
    const done: Array<object> = []
    const stream = await clientOf(gateway).responses.create({ model: "m", input: "Look.", tools: asked, stream: true })
    for await (const event of stream) {
      if (event.type === "response.output_item.added") found.push(`+${event.output_index}`)
      else if (event.type === "response.output_item.done") {
        found.push(`-${event.output_index}`)
        done[event.output_index] = event.item
      } else if (event.type === "response.function_call_arguments.delta") {
        written[event.output_index] = (written[event.output_index] ?? "") + event.delta
      } else if (event.type === "response.function_call_arguments.done") {
        expect(event.arguments).toBe(written[event.output_index])
      } else if (event.type === "response.completed") {
        expect(event.response.output).toEqual(done)
        expect(done.every((item) => "status" in item && item.status === "completed")).toBe(true)
      }
    }
    return [found.join(" "), ...written]
  }
  const [a, b] = [`{"at": {"x": 1}}`, `{"at": "}"}`]

  it("a call ends when the next item begins", async () => {
    const calls = [piece(0, `{"at": {"x"`, "a"), piece(0, ": 1}}"), piece(1, `{"at": "}`, "b"), piece(1, `"}`)]
    expect(await events(calls)).toEqual(["+0 -0 +1 -1", a, b])
    expect(await events([...calls, chunk({ content: "There." })])).toEqual(["+0 -0 +1 -1 +2 -2", a, b])
    // White space may still follow.
    expect(await events([...calls, piece(0, "\n")])).toEqual(["+0 -0 +1 -1", a, b])
    const custom = chunk({
      tool_calls: [{ index: 0, id: "a", function: { name: "write", arguments: `{"input": "Hi"}` } }]
    })
    expect(await events([custom, piece(1, b, "b")])).toEqual(["+0 -0 +1 -1", undefined, b])
  })

  it("stays open while its pieces come between those of others", async () => {
    const turns = [piece(0, `{"at": {"x": 1}`, "a"), piece(1, `{"at": "}`, "b"), piece(0, "}"), piece(1, `"}`)]
    expect(await events(turns)).toEqual(["+0 +1 -0 -1", a, b])
  })
})

describe("a server without token counts", () => {
  const text = "Once upon a time there was a robot."
  const body = sse([...text.split(/(?= )/).map((content) => chunk({ content })), chunk({}, "stop")])

  it("does not let a key exceed its limits", async () => {
    const keys = [{ name: "few", key: "sk-few", tokensPerMinute: 10 }]
    const gateway = await serve([await upstream({ body })], { keys })
    const client = clientOf(gateway, "sk-few")
    const { usage } = await client.chat.completions.create({ model: "m", messages })
    expect(usage?.prompt_tokens).toBeGreaterThan(2)
    expect(usage?.completion_tokens).toBeGreaterThan(5)
    expect(usage?.total_tokens).toBe((usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0))
    await expect(client.chat.completions.create({ model: "m", messages })).rejects.toMatchObject({ status: 429 })
  })

  it("is counted by the gateway in streams and for embeddings, too", async () => {
    const vectors = { data: [{ index: 0, embedding: [1, 2] }] }
    const gateway = await serve([
      await upstream((path) =>
        path === "/v1/embeddings" ? { type: "application/json", body: JSON.stringify(vectors) } : { body }
      )
    ])
    const client = clientOf(gateway)
    const stream = await client.chat.completions.create({
      model: "m",
      messages,
      stream: true,
      stream_options: { include_usage: true }
    })
    let counted: OpenAI.CompletionUsage | null | undefined
    for await (const { usage } of stream) counted = usage ?? counted
    expect(counted).toMatchObject({ completion_tokens: 8 })
    expect(counted?.prompt_tokens).toBeGreaterThan(2)
    const { usage } = await client.embeddings.create({ model: "m", input: "x".repeat(40), encoding_format: "float" })
    expect(usage).toEqual({ prompt_tokens: 10, total_tokens: 10 })
  })
})

describe("messages of a server", () => {
  it("its Retry-After is forwarded", async () => {
    const busy = (status: number, seconds: string) =>
      upstream({ status, type: "application/json", headers: { "retry-after": seconds }, body: '{"error":"slow down"}' })
    const gateway = await serve([await busy(429, "17"), await busy(429, "7")], { maxRetries: 2 })
    const limited = await gateway.post("/v1/chat/completions", { model: "m", messages })
    expect([limited.status, limited.headers.get("retry-after")]).toEqual([429, "7"])
    const full = await serve([await busy(503, "9")], { maxRetries: 1 })
    const refused = await full.post("/v1/chat/completions", { model: "m", messages })
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "9"])
    const embedding = await full.post("/v1/embeddings", { model: "m", input: "Hi" })
    expect([embedding.status, embedding.headers.get("retry-after")]).toEqual([503, "9"])
  })

  it("name the client's own parameter, if it is one of those that the client wrote", async () => {
    const refusal = (param: unknown) => ({ error: { message: "Not so.", type: "invalid_request_error", param } })
    const chat = (more: object) => ["/v1/chat/completions", { model: "m", messages, ...more }] as const
    const response = (more: object) => ["/v1/responses", { model: "m", input: "Hi", ...more }] as const
    const completion = (more: object) => ["/v1/completions", { model: "m", prompt: "Hi", ...more }] as const
    const format = { type: "json_object" }
    const cases = [
      [refusal("max_tokens"), chat({ max_tokens: 9 }), "max_tokens"],
      [refusal("max_tokens"), chat({ max_completion_tokens: 9 }), "max_completion_tokens"],
      [refusal("max_completion_tokens"), chat({ max_tokens: 9 }), "max_tokens"],
      [refusal("max_tokens"), response({ max_output_tokens: 9 }), "max_output_tokens"],
      [refusal("max_tokens"), completion({ max_tokens: 9 }), "max_tokens"],
      [refusal("messages[0].content"), chat({}), "messages"],
      [refusal("messages[0].content"), response({}), "input"],
      [refusal("prompt"), completion({}), "prompt"],
      [refusal("response_format.type"), chat({ response_format: format }), "response_format"],
      [refusal("response_format.type"), response({ text: { format } }), "text.format"],
      [refusal("top_k"), response({ top_k: 3 }), "top_k"],
      [refusal("temperature"), chat({ temperature: 0.7 }), "temperature"],
      // What the gateway added is none of the client's.
      [refusal("temperature"), chat({}), null],
      [refusal("top_p"), response({}), null],
      [refusal("max_tokens"), chat({}), null],
      [refusal("stream_options"), chat({}), null],
      [refusal("max_tokens_to_sample"), chat({ max_tokens: 9 }), null],
      [refusal({ max_tokens: 9 }), chat({ max_tokens: 9 }), null],
      [{ error: { message: "max_tokens: Not so." } }, chat({ max_tokens: 9 }), null],
      // Anthropic's form, which has no field for it.
      [
        { type: "error", error: { type: "invalid_request_error", message: "max_tokens: Not so." } },
        response({ max_output_tokens: 9 }),
        "max_output_tokens"
      ]
    ] as const
    let error: object = {}
    const url = await upstream(() => ({ status: 400, type: "application/json", body: JSON.stringify(error) }))
    const streamed = await upstream(() => ({ body: `data: ${JSON.stringify(error)}\n\n` }))
    const gateways = [await serve([{ url }]), await serve([{ url: streamed }])]
    for (const [reported, [path, body], param] of cases) {
      error = reported
      for (const gateway of gateways) {
        // In a stream, only its type says whose fault it is.
        if (gateway !== gateways[0] && !("type" in reported.error)) continue
        const refused = await gateway.post(path, body)
        expect(
          [refused.status, await refused.json()],
          `${JSON.stringify(reported)} to ${JSON.stringify(body)}`
        ).toMatchObject([400, { error: { message: expect.stringContaining("Not so."), param } }])
      }
    }
  })

  it("never contain its own key", async () => {
    const message = { error: { message: "The key sk-upstream-1 may not do that." } }
    for (const status of [400, 401]) {
      const url = await upstream({ status, type: "application/json", body: JSON.stringify(message) })
      for (const exposeServers of [false, true]) {
        const gateway = await serve([{ url, apiKey: "sk-upstream-1" } as { url: string }], { exposeServers })
        const response = await gateway.post("/v1/chat/completions", { model: "m", messages })
        expect([response.status, await response.text()]).toEqual([
          status === 400 ? 400 : 502,
          expect.not.stringContaining("sk-upstream")
        ])
      }
    }
  })
})

describe("a client that disconnects while embeddings wait for a slot", () => {
  it("are no longer requested", async () => {
    const requests: Array<string> = []
    const url = await upstream((_, body) => {
      requests.push(JSON.parse(body).input[0])
      return undefined
    })
    const gateway = await serve([{ url, maxInFlight: 1 } as { url: string }])
    const leave = new AbortController()
    const post = (input: string, signal: AbortSignal) =>
      gateway.post("/v1/embeddings", { model: "m", input }, { signal }).then(
        () => "answered",
        () => "left"
      )
    const first = new AbortController()
    const holds = post("first", first.signal)
    await eventually(() => requests.length === 1, "the first is asked")
    const waits = post("second", leave.signal)
    // With the one who asks for the figures.
    const inFlight = async (n: number) => {
      const is = new RegExp(`^aicortex_requests_in_flight ${n}$`, "m")
      while (!is.test(await (await gateway.get("/metrics")).text()))
        await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await inFlight(3)
    leave.abort()
    expect(await waits).toBe("left")
    await inFlight(2)
    first.abort()
    expect(await holds).toBe("left")
    const third = new AbortController()
    const last = post("third", third.signal)
    await eventually(() => requests.includes("third"), "the third is asked")
    third.abort()
    await last
    expect(requests).toEqual(["first", "third"])
  })
})
