/** `POST /v1/messages` below its clients: the bytes, what becomes of it when servers fail, and what is refused. */
import { once } from "node:events"
import { connect } from "node:net"
import * as fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { End } from "../../src/ChatEvent.js"
import { single } from "../../src/Decision.js"
import { RequestRejected } from "../../src/gateway/http/errorResponse.js"
import { IgnoredFields } from "../../src/gateway/http/fieldPolicy.js"
import * as AnthropicCodec from "../../src/gateway/protocols/anthropic/codec.js"
import * as Request from "../../src/gateway/protocols/anthropic/request.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, rawPost, rawRequest, startGateway, type TestGateway, unchunk } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Count." }]
const good = { model, max_tokens: 100, messages }
const tokens = ["One", " two", " three", " four", " five", " six."]
const text = tokens.join("")
const n = tokens.length

const keep = useKeep()
const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI } as const
type Protocol = keyof typeof fakes
const protocols = ["ollama", "openai"] as const
const fake = async (protocol: Protocol, options: object = {}): Promise<FakeServer> =>
  keep(await fakes[protocol]({ models: [model], reply: tokens, ...options }))
const gatewayOver = async (servers: ReadonlyArray<FakeServer>, options: object = {}): Promise<TestGateway> =>
  keep(
    await startGateway(
      servers.map(({ url }, priority) => ({ url, priority })),
      { timeout: 700, loadTimeout: 700, ...options }
    )
  )

interface Event {
  readonly event: string
  readonly data: ReturnType<typeof JSON.parse>
}

/** Every event has its name twice: in its own line, and in its data. */
const parse = (body: string): ReadonlyArray<Event> =>
  body
    .trimEnd()
    .split("\n\n")
    .map((one) => {
      const [, event = "", json = ""] = /^event: (\w+)\ndata: (.+)$/.exec(one) ?? []
      const data = JSON.parse(json)
      expect(data.type).toBe(event)
      return { event, data }
    })

const saidBy = (events: ReadonlyArray<Event>): string =>
  events.map(({ data }) => (data.delta?.type === "text_delta" ? data.delta.text : "")).join("")

/** What a client must be able to rely on: one beginning, blocks that do not overlap, one end. */
const wellFormed = (events: ReadonlyArray<Event>): void => {
  let block = -1
  let within = false
  for (const [i, { data, event }] of events.entries()) {
    switch (event) {
      case "message_start":
        expect(i).toBe(0)
        break
      case "content_block_start":
        expect([within, data.index]).toEqual([false, ++block])
        within = true
        break
      case "content_block_delta":
      case "content_block_stop":
        expect([within, data.index]).toEqual([true, block])
        if (event === "content_block_stop") within = false
        break
      case "message_delta":
        expect([within, i]).toEqual([false, events.length - 2])
        break
      case "message_stop":
        expect(i).toBe(events.length - 1)
        break
      default:
        throw new Error(`no such event: ${event}`)
    }
  }
  expect(events.at(-1)?.event).toBe("message_stop")
}

const stream = async (gateway: TestGateway, extra: object = {}) => {
  const response = await gateway.post("/v1/messages", { ...good, stream: true, ...extra })
  return { status: response.status, attempts: response.headers.get("x-aicortex-attempts"), body: await response.text() }
}

// =============================================================================
// bytes
// =============================================================================

describe("on the wire", () => {
  const plain = (body: string) =>
    body.replace(/"id":"msg_[^"]*"/g, `"id":"ID"`).replace(/"input_tokens":\d+/g, `"input_tokens":P`)
  const event = (type: string, rest = "") => `event: ${type}\ndata: {"type":"${type}"${rest}}\n\n`
  const block = (index: number, content: string) =>
    event("content_block_start", `,"index":${index},"content_block":${content}`)
  const delta = (index: number, content: string) => event("content_block_delta", `,"index":${index},"delta":${content}`)
  const stop = (index: number) => event("content_block_stop", `,"index":${index}`)

  it("a stream has Anthropic's events", async () => {
    const server = await fake("openai", {
      flavour: "vllm",
      reply: {
        thinking: ["Hm."],
        tokens: ["Hi", ' "you"\n'],
        toolCalls: [
          { name: "weather", arguments: { city: "Köln" } },
          { name: "now", arguments: {} }
        ]
      }
    })
    const gateway = await gatewayOver([server])
    const tools = ["weather", "now"].map((name) => ({ name, input_schema: { type: "object" } }))
    const response = await rawRequest(
      gateway.port,
      rawPost("/v1/messages?beta=true", JSON.stringify({ ...good, tools, stream: true }))
    )
    expect(response).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(response).toMatch(/\r\ncontent-type: text\/event-stream; charset=utf-8\r\n/i)
    expect(response).toMatch(/\r\nx-accel-buffering: no\r\n/i)
    const [, id] = /\r\nrequest-id: (req-\w+)\r\n/i.exec(response) ?? []
    expect(response).toMatch(new RegExp(`\r\nx-request-id: ${id}\r\n`, "i"))
    const ids = [...response.matchAll(/"tool_use","id":"([^"]+)"/g)].map(([, id]) => id)
    expect(ids).toHaveLength(2)
    const body = await (await gateway.post("/v1/messages", { ...good, tools, stream: true })).text()
    const input = `"input_tokens":P,"cache_creation_input_tokens":0,"cache_read_input_tokens":0`
    const use = (name: string) => `{"type":"tool_use","id":"ID","name":"${name}","input":{}}`
    const args = (json: string) => `{"type":"input_json_delta","partial_json":${JSON.stringify(json)}}`
    expect(plain(body).replace(/"tool_use","id":"[^"]*"/g, `"tool_use","id":"ID"`)).toBe(
      event(
        "message_start",
        `,"message":{"id":"ID","type":"message","role":"assistant","model":"m:1b","content":[],` +
          `"stop_reason":null,"stop_sequence":null,"usage":{${input},"output_tokens":0}}`
      ) +
        block(0, `{"type":"thinking","thinking":"","signature":""}`) +
        delta(0, `{"type":"thinking_delta","thinking":"Hm."}`) +
        delta(0, `{"type":"signature_delta","signature":"aicortex"}`) +
        stop(0) +
        block(1, `{"type":"text","text":""}`) +
        delta(1, `{"type":"text_delta","text":"Hi"}`) +
        delta(1, `{"type":"text_delta","text":" \\"you\\"\\n"}`) +
        stop(1) +
        block(2, use("weather")) +
        ['{"cit', 'y":"K', 'öln"}'].map((piece) => delta(2, args(piece))).join("") +
        stop(2) +
        block(3, use("now")) +
        delta(3, args("{}")) +
        stop(3) +
        event(
          "message_delta",
          `,"delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{${input},"output_tokens":5}`
        ) +
        event("message_stop")
    )
  })

  it("an empty answer", async () => {
    const gateway = await gatewayOver([await fake("openai", { reply: [] })])
    const { body } = await stream(gateway)
    const events = parse(body)
    wellFormed(events)
    expect(events.map(({ event }) => event)).toEqual(["message_start", "message_delta", "message_stop"])
    expect(await (await gateway.post("/v1/messages", good)).json()).toMatchObject({
      content: [],
      stop_reason: "end_turn"
    })
  })

  it("sends signs of life while a model loads", async () => {
    const slow = await fake("ollama", { firstToken: 400 })
    const gateway = await gatewayOver([slow], { heartbeat: 50, timeout: 60_000, loadTimeout: 60_000 })
    const body = unchunk(
      await rawRequest(gateway.port, rawPost("/v1/messages", JSON.stringify({ ...good, stream: true })))
    )
    const events = parse(body)
    const pings = events.filter(({ event }) => event === "ping")
    expect(pings.length).toBeGreaterThan(1)
    const others = events.filter(({ event }) => event !== "ping")
    wellFormed(others)
    expect(saidBy(others)).toBe(text)
  })

  it("after a sign of life a failure is an event in the stream", async () => {
    const gateway = await gatewayOver([await fake("ollama", { faults: { kind: "hang" } })], { heartbeat: 50 })
    const { body, status } = await stream(gateway)
    expect(status).toBe(200)
    expect(parse(body).at(-1)).toMatchObject({ event: "error", data: { error: { type: "timeout_error" } } })
  })
})

// =============================================================================
// failures of servers
// =============================================================================

describe("a failing server", () => {
  it.each(protocols.flatMap((first) => protocols.map((second) => [first, second] as const)))(
    "%s, at every token: %s goes on, and nothing is noticed",
    async (first, second) => {
      for (let after = 0; after <= n; after++) {
        const bad = await fake(first, { faults: { kind: "cut", after } })
        const gateway = await gatewayOver([bad, await fake(second)])
        const { body, status } = await stream(gateway)
        const events = parse(body)
        wellFormed(events)
        expect([after, status, saidBy(events)]).toEqual([after, 200, text])
        expect(events.filter(({ event }) => event === "content_block_start")).toHaveLength(1)
      }
    }
  )

  it.each(protocols)("500 before headers, %s: the next one answers", async (protocol) => {
    for (const streams of [true, false]) {
      const bad = await fake(protocol, { faults: { kind: "status", code: 500 } })
      const gateway = await gatewayOver([bad, await fake(protocol)])
      const response = await gateway.post("/v1/messages", { ...good, stream: streams })
      expect([response.status, response.headers.get("x-aicortex-attempts")]).toEqual([200, "2"])
      const body = await response.text()
      if (streams) expect(saidBy(parse(body))).toBe(text)
      else expect(JSON.parse(body).content).toEqual([{ type: "text", text }])
    }
  })

  it.each(protocols)("during the answer, the only one, %s: an error is the last event", async (protocol) => {
    const bad = await fake(protocol, { faults: { kind: "cut", after: 3 } })
    const gateway = await gatewayOver([bad])
    const { body, status } = await stream(gateway)
    const events = parse(body)
    expect([status, saidBy(events)]).toEqual([200, tokens.slice(0, 3).join("")])
    expect(events.at(-1)).toEqual({
      event: "error",
      data: {
        type: "error",
        error: {
          type: "api_error",
          message: expect.stringMatching(/^The answer of 'm:1b' broke/),
          details: { error_code: "stream_interrupted" },
          attempts: expect.any(Array)
        },
        request_id: expect.stringMatching(/^req-/)
      }
    })
    expect(events.some(({ event }) => event === "message_delta" || event === "message_stop")).toBe(false)
    expect(body).not.toContain("127.0.0.1")
  })

  it("before its first token, the only one: a status, and no stream", async () => {
    const gateway = await gatewayOver([await fake("ollama", { faults: { kind: "cut", after: 0 } })])
    const { body, status } = await stream(gateway)
    expect([status, JSON.parse(body)]).toMatchObject([502, { type: "error", error: { type: "api_error" } }])
  })
})

describe("the client disconnects", () => {
  it.each(protocols.flatMap((protocol) => [true, false].map((streams) => [protocol, streams] as const)))(
    "%s, a stream: %s: the server sees the abort at once",
    async (protocol, streams) => {
      const server = await fake(protocol, { faults: { kind: "stall", after: 3 } })
      const gateway = await gatewayOver([server], { timeout: 60_000, loadTimeout: 60_000 })
      const socket = connect(gateway.port, "127.0.0.1")
      await once(socket, "connect")
      let got = ""
      socket.on("data", (part) => {
        got += part
      })
      socket.write(rawPost("/v1/messages", JSON.stringify({ ...good, stream: streams })))
      await server.waitForChats(1)
      const [request] = server.chatRequests
      if (streams) await eventually(() => got.includes("three"), "the pieces before it")
      else await eventually(() => (request?.tokensSent ?? 0) >= 3, "the server has sent its part")
      socket.destroy()
      expect(await request?.closedByClient).toBeDefined()
      // Nobody is to blame.
      await server.setBehaviour({ faults: undefined })
      expect(saidBy(parse((await stream(gateway)).body))).toBe(text)
    }
  )
})

// =============================================================================
// what is refused
// =============================================================================

describe("invalid requests", () => {
  let server: FakeServer
  let gateway: TestGateway
  beforeAll(async () => {
    server = await startFakeOllama({ models: [model], reply: "Well." })
    gateway = await startGateway([server.url], { maxBody: 1024 * 1024, strict: true })
  })
  afterAll(async () => {
    await gateway.close()
    await server.stop()
  })

  const user = (...content: ReadonlyArray<unknown>) => [{ role: "user", content }]
  const assistant = (...content: ReadonlyArray<unknown>) => [...messages, { role: "assistant", content }]
  const tool = (extra: object) => [{ name: "f", input_schema: { type: "object" }, ...extra }]
  const source = (given: object) => user({ type: "image", source: given })

  const wrong: ReadonlyArray<readonly [param: string, value: unknown]> = [
    ["model", 7],
    ["max_tokens", undefined],
    ["max_tokens", 0],
    ["max_tokens", 1.5],
    ["max_tokens", "many"],
    ["messages", undefined],
    ["messages", "Hi"],
    ["messages", []],
    ["messages[0]", [1]],
    ["messages[0].role", [{ role: "tool", content: "Hi" }]],
    ["messages[0].role", [{ content: "Hi" }]],
    ["messages[0].content", [{ role: "user", content: 7 }]],
    ["messages[0].content[0]", user(7)],
    ["messages[0].content[0].source", user({ type: "document" })],
    ["messages[0].content[0].source.type", user({ type: "document", source: {} })],
    ["messages[0].content[0].source.type", user({ type: "document", source: { type: "base64", data: "JVBERi0=" } })],
    ["messages[0].content[0].source.data", user({ type: "document", source: { type: "text" } })],
    [
      "messages[0].content[0].source.media_type",
      user({ type: "document", source: { type: "text", media_type: "text/html", data: "x" } })
    ],
    [
      "messages[0].content[0].source.content[0].type",
      user({ type: "document", source: { type: "content", content: [{ type: "tool_use" }] } })
    ],
    ["messages[0].content[0].title", user({ type: "document", title: 7, source: { type: "text", data: "x" } })],
    [
      "messages[0].content[0].citations.enabled",
      user({ type: "document", citations: { enabled: true }, source: { type: "text", data: "x" } })
    ],
    ["messages[0].content[0].type", user({})],
    ["messages[0].content[0].type", user({ type: "tool_use", id: "a", name: "f", input: {} })],
    ["messages[0].content[0].text", user({ type: "text" })],
    ["messages[0].content[0].source", user({ type: "image" })],
    ["messages[0].content[0].source.type", source({ type: "file", file_id: "a" })],
    ["messages[0].content[0].source.url", source({ type: "url", url: "file:///etc/passwd" })],
    ["messages[0].content[0].source.data", source({ type: "base64", media_type: "image/png", data: "<svg>" })],
    ["messages[0].content[0].source.media_type", source({ type: "base64", media_type: "image/bmp", data: "aaaa" })],
    ["messages[0].content[0].source.media_type", source({ type: "base64", data: "aaaa" })],
    ["messages[0].content[0].tool_use_id", user({ type: "tool_result", content: "x" })],
    ["messages[0].content[0].is_error", user({ type: "tool_result", tool_use_id: "a", is_error: "yes" })],
    ["messages[1].content[0].type", assistant({ type: "image", source: {} })],
    ["messages[1].content[0].id", assistant({ type: "tool_use", name: "f", input: {} })],
    ["messages[1].content[0].name", assistant({ type: "tool_use", id: "a", input: {} })],
    ["system", 7],
    ["system[0].type", [{ type: "image" }]],
    ["stream", "yes"],
    ["temperature", 1.1],
    ["temperature", -0.1],
    ["temperature", "hot"],
    ["top_p", 1.5],
    ["top_k", -1],
    ["top_k", 1.5],
    ["stop_sequences", "END"],
    ["stop_sequences", [""]],
    ["stop_sequences", [7]],
    ["stop_sequences", Array.from({ length: 17 }, (_, i) => `stop${i}`)],
    ["tools", {}],
    ["tools[0]", [7]],
    ["tools[0].name", [{ input_schema: {} }]],
    ["tools[0].name", tool({ name: "a b" })],
    ["tools[1].name", [...tool({}), ...tool({})]],
    ["tools[0].input_schema", [{ name: "f" }]],
    ["tools[0].input_schema", tool({ input_schema: "object" })],
    ["tools[0].wat", tool({ wat: 1 })],
    ["tool_choice", "auto"],
    ["tool_choice.type", {}],
    ["tool_choice.type", { type: "required" }],
    ["tool_choice", { type: "any" }],
    ["tool_choice.wat", { type: "auto", wat: 1 }],
    ["tool_choice.disable_parallel_tool_use", { type: "auto", disable_parallel_tool_use: 1 }],
    ["thinking", true],
    ["thinking.type", { type: "between_tools" }],
    ["thinking.budget_tokens", { type: "enabled" }],
    ["thinking.budget_tokens", { type: "enabled", budget_tokens: 1023 }],
    ["thinking.display", { type: "adaptive", display: "all" }],
    ["output_config.effort", { effort: "extreme" }],
    ["output_config.wat", { wat: 1 }],
    ["output_config.format.type", { format: { type: "xml" } }],
    ["output_config.format.schema", { format: { type: "json_schema" } }],
    ["output_format.schema", { type: "json_schema" }],
    ["metadata.user_id", { user_id: 7 }],
    ["keep_alive", "soon"],
    ["num_ctx", 0],
    ["routing", "magic"],
    ["inference_geo", "eu"],
    ["think", true],
    ["thread", { type: "create" }],
    ["stop", "END"],
    ["n", 2],
    ["wat", 1]
  ]

  it.each(wrong)("%s: %j", async (param, value) => {
    const name = /^\w+/.exec(param)?.[0] ?? ""
    const response = await gateway.post("/v1/messages", { ...good, [name]: value })
    expect([response.status, await response.json()]).toMatchObject([
      400,
      {
        type: "error",
        error: { type: "invalid_request_error", message: expect.stringContaining(`'${param}'`) },
        request_id: response.headers.get("request-id")
      }
    ])
  })

  it("an unknown tool", async () => {
    const body = { ...good, tools: tool({}), tool_choice: { type: "tool", name: "g" } }
    const response = await gateway.post("/v1/messages", body)
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining("'tool_choice.name'")])
  })

  it("null counts as omitted, and fields without effect are accepted", async () => {
    const nothing = Object.fromEntries(
      ["system", "temperature", "top_p", "tools", "tool_choice", "thinking", "metadata", "speed", "wat"].map((name) => [
        name,
        null
      ])
    )
    const harmless = {
      cache_control: { type: "ephemeral" },
      diagnostics: { previous_message_id: null },
      context_management: { edits: [{ type: "clear_thinking_20251015", keep: "all" }] },
      tools: tool({
        type: "custom",
        cache_control: { type: "ephemeral" },
        eager_input_streaming: true,
        defer_loading: false,
        allowed_callers: ["direct"]
      })
    }
    for (const extra of [nothing, harmless]) {
      const response = await gateway.post("/v1/messages", { ...good, ...extra })
      expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("Well.")])
    }
  })

  it("bodies, media types, methods and paths: errors in this API's format", async () => {
    const json = JSON.stringify(good)
    const long = JSON.stringify({ ...good, system: "x".repeat(1024 * 1024) })
    const cases: ReadonlyArray<readonly [status: number, type: string, response: Promise<Response>]> = [
      [400, "invalid_request_error", gateway.post("/v1/messages", "")],
      [400, "invalid_request_error", gateway.post("/v1/messages", "{")],
      [400, "invalid_request_error", gateway.post("/v1/messages", "[1]")],
      [400, "invalid_request_error", gateway.post("/v1/messages/count_tokens", "{}")],
      [400, "invalid_request_error", gateway.post("/v1/messages/count_tokens", good)],
      [413, "request_too_large", gateway.post("/v1/messages", long)],
      [415, "invalid_request_error", gateway.post("/v1/messages", json, { headers: { "content-type": "text/plain" } })],
      [415, "invalid_request_error", gateway.post("/v1/messages", json, { headers: { "content-encoding": "gzip" } })],
      [405, "invalid_request_error", gateway.get("/v1/messages")],
      [404, "not_found_error", gateway.post("/v1/messages/batches", json)],
      [404, "not_found_error", gateway.get("/v1/files", { headers: { "anthropic-version": "2023-06-01" } })]
    ]
    for (const [status, type, pending] of cases) {
      const response = await pending
      expect([response.status, await response.json()]).toMatchObject([
        status,
        {
          type: "error",
          error: { type, message: expect.stringMatching(/\w/) },
          request_id: expect.stringMatching(/^req-/)
        }
      ])
    }
    // Other clients get the form that they expect.
    expect(await (await gateway.get("/v1/files")).json()).toMatchObject({ error: { code: "unknown_url" } })
    expect(await (await gateway.get("/api/nope")).text()).toBe("404 page not found")
  })

  it("nested without end", async () => {
    // As what it is, or before it is parsed as too much.
    const refused = [400, 413]
    const deep = `${`{"a":`.repeat(50_000)}1${"}".repeat(50_000)}`
    for (const field of [`"messages":${deep}`, `"options":${deep}`, `"system":${deep}`, `"tool_choice":${deep}`])
      expect(refused).toContain((await gateway.post("/v1/messages", `{"max_tokens":1,${field}}`)).status)
    const call = `{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":${deep}}]}`
    expect(refused).toContain((await gateway.post("/v1/messages", `{"max_tokens":1,"messages":[${call}]}`)).status)
    const tools = `[{"name":"f","input_schema":${deep}}]`
    const body = `{"max_tokens":1,"messages":${JSON.stringify(messages)},"tools":${tools}}`
    expect(refused).toContain((await gateway.post("/v1/messages", body)).status)
  })

  it("long texts are read in one go", async () => {
    const digits = { ...good, keep_alive: "1".repeat(500_000) }
    expect((await gateway.post("/v1/messages", digits)).status).toBe(400)
    const result = { type: "tool_result", tool_use_id: "t", is_error: true, content: " ".repeat(500_000) }
    const counted = await gateway.post("/v1/messages/count_tokens", { model, messages: user(result) })
    expect(counted.status).toBe(200)
  })

  it("600 bodies at random: each gets a response of 2xx or 4xx, with a reason", async () => {
    const blocks = ["text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking", "document"]
    const value: fc.Arbitrary<unknown> = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom<unknown>(null, -1, 0, 1.5, 1e308, "", "auto", [], {}, [{}], [[]], true, "\u0000", messages),
      fc.record({ type: fc.constantFrom("enabled", "disabled", "auto", "any", "tool", "json_schema", "ephemeral") }),
      fc
        .array(
          fc.record({
            role: fc.constantFrom("user", "assistant", "system"),
            content: fc.array(
              fc.record(
                {
                  type: fc.constantFrom(...blocks),
                  text: fc.string(),
                  id: fc.string(),
                  name: fc.string(),
                  input: fc.jsonValue({ maxDepth: 2 }),
                  tool_use_id: fc.string(),
                  content: fc.jsonValue({ maxDepth: 2 }),
                  source: fc.jsonValue({ maxDepth: 2 }),
                  thinking: fc.string()
                },
                { requiredKeys: ["type"] }
              ),
              { maxLength: 3 }
            )
          }),
          { maxLength: 3 }
        )
        .map((all): unknown => all)
    )
    const names = [
      "model",
      "messages",
      "system",
      "max_tokens",
      "stream",
      "temperature",
      "top_p",
      "top_k",
      "stop_sequences",
      "tools",
      "tool_choice",
      "thinking",
      "output_config",
      "output_format",
      "context_management",
      "metadata",
      "cache_control",
      "options",
      "keep_alive",
      "num_ctx",
      "__proto__",
      "constructor"
    ]
    const fields = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 5 })
    const paths = fc.constantFrom("/v1/messages", "/v1/messages/count_tokens")
    await fc.assert(
      fc.asyncProperty(paths, fields, fc.boolean(), async (path, given, onTop) => {
        const base = path === "/v1/messages" ? good : { model, messages }
        const response = await gateway.post(path, JSON.stringify(onTop ? { ...base, ...given } : given))
        const body = await response.text()
        expect([response.status, body.slice(0, 300)], JSON.stringify(given)).toSatisfy(
          ([status]: [number, string]) => status === 200 || (status >= 400 && status < 500)
        )
        if (response.status !== 200) {
          const { error, request_id, type } = JSON.parse(body)
          expect([type, typeof error.type, error.message, request_id]).toEqual([
            "error",
            "string",
            expect.stringMatching(/\w/),
            expect.stringMatching(/^req-/)
          ])
          expect(body).not.toMatch(/at .*\.(ts|js):\d+|127\.0\.0\.1/)
        }
      }),
      { numRuns: 600 }
    )
    const response = await gateway.post("/v1/messages", good)
    expect([response.status, gateway.log]).toEqual([200, []])
  }, 120_000)
})

// =============================================================================
// Tables
// =============================================================================

describe("the translated request", () => {
  const decoded = (extra: object) => Request.decode({ ...good, ...extra }, new IgnoredFields(true))

  it.each<[name: string, extra: object, expected: object]>([
    [
      "the defaults",
      {},
      { temperature: undefined, topP: undefined, maxTokens: 100, stop: [], toolChoice: undefined, think: undefined }
    ],
    ["sampling", { temperature: 0, top_p: 0.5, top_k: 3 }, { temperature: 0, topP: 0.5, topK: 3 }],
    ["stop_sequences", { stop_sequences: ["a", "b"] }, { stop: ["a", "b"] }],
    ["thinking enabled", { max_tokens: 1025, thinking: { type: "enabled", budget_tokens: 1024 } }, { think: true }],
    ["thinking disabled", { thinking: { type: "disabled" }, output_config: { effort: "high" } }, { think: false }],
    ["thinking adaptive", { thinking: { type: "adaptive" } }, { think: undefined }],
    ["adaptive, with effort", { thinking: { type: "adaptive" }, output_config: { effort: "low" } }, { think: "low" }],
    ["effort", { output_config: { effort: "xhigh" } }, { think: "max" }],
    ["a format", { output_config: { format: { type: "json_schema", schema: { a: 1 } } } }, { format: { a: 1 } }],
    ["a format, older", { output_format: { type: "json_schema", schema: { a: 1 } } }, { format: { a: 1 } }],
    ["num_ctx", { num_ctx: 5, options: { a: 1 } }, { options: { a: 1, num_ctx: 5 } }],
    [
      "system, as blocks",
      {
        system: [
          { type: "text", text: "a" },
          { type: "text", text: "b" }
        ]
      },
      { messages: [{ role: "system", content: "ab" }, ...messages] }
    ],
    ["no system", { system: "" }, { messages }],
    [
      "a system message among others",
      { messages: [...messages, { role: "system", content: [{ type: "text", text: "Now." }] }] },
      { messages: [...messages, { role: "system", content: "Now." }] }
    ],
    [
      "one block of text",
      { messages: [{ role: "user", content: [{ type: "text", text: "a" }] }] },
      { messages: [{ role: "user", content: "a" }] }
    ],
    [
      "an image by its address",
      {
        messages: [
          { role: "user", content: [{ type: "image", source: { type: "url", url: "https://example.com/a.png" } }] }
        ]
      },
      { messages: [{ role: "user", content: [{ type: "image", url: "https://example.com/a.png" }] }] }
    ],
    [
      "the beginning of an answer",
      { messages: [...messages, { role: "assistant", content: "One" }] },
      { messages: [...messages, { role: "assistant", content: "One" }] }
    ],
    [
      "results before what else is said",
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "a" },
              { type: "tool_result", tool_use_id: "t", content: [{ type: "text", text: "b" }] }
            ]
          }
        ]
      },
      {
        messages: [
          { role: "tool", content: "b", toolCallId: "t", toolName: "" },
          { role: "user", content: "a" }
        ]
      }
    ],
    [
      "a document before the question",
      {
        messages: [
          {
            role: "user",
            content: [
              {
                type: "document",
                title: "Stars",
                context: null,
                citations: { enabled: false },
                source: { type: "text", media_type: "text/plain", data: "They shine." }
              },
              { type: "text", text: "Why?" }
            ]
          }
        ]
      },
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "<document>\n<title>Stars</title>\nThey shine.\n</document>\n" },
              { type: "text", text: "Why?" }
            ]
          }
        ]
      }
    ],
    [
      "a document with an image, which a tool gave",
      {
        messages: [
          {
            role: "user",
            content: [
              {
                type: "tool_result",
                tool_use_id: "t",
                content: [
                  { type: "text", text: "Read." },
                  {
                    type: "document",
                    source: {
                      type: "content",
                      content: [
                        { type: "text", text: "One." },
                        { type: "image", source: { type: "url", url: "https://example.com/a.png" } }
                      ]
                    }
                  }
                ]
              }
            ]
          }
        ]
      },
      {
        messages: [
          { role: "tool", content: "Read.", toolCallId: "t", toolName: "" },
          {
            role: "user",
            content: [
              { type: "text", text: "<document>\n" },
              { type: "text", text: "One." },
              { type: "image", url: "https://example.com/a.png" },
              { type: "text", text: "\n</document>\n" }
            ]
          }
        ]
      }
    ],
    [
      "an error that says so itself",
      {
        messages: [
          {
            role: "user",
            content: [{ type: "tool_result", tool_use_id: "t", is_error: true, content: "<error>no</error>" }]
          }
        ]
      },
      { messages: [{ role: "tool", content: "<error>no</error>", toolCallId: "t", toolName: "" }] }
    ]
  ])("%s", (_, extra, expected) => {
    expect(decoded(extra).request).toMatchObject(expected)
  })

  it.each([
    [{ type: "auto" }, "auto"],
    [{ type: "any" }, "required"],
    [{ type: "none" }, "none"],
    [{ type: "tool", name: "f" }, { name: "f" }]
  ])("tool_choice %j", (tool_choice, expected) => {
    const tools = [{ name: "f", input_schema: {}, strict: true }]
    const { oneTool, request } = decoded({ tools, tool_choice: { ...tool_choice, disable_parallel_tool_use: true } })
    expect([request.toolChoice, oneTool, request.tools]).toEqual([
      expected,
      true,
      [{ name: "f", parameters: {}, strict: true }]
    ])
  })

  it("refused fields are refused by name", () => {
    expect(() => decoded({ wat: 1 })).toThrow(RequestRejected)
  })
})

describe("the written answer", () => {
  const codec = AnthropicCodec.codec(Request.decode(good, new IgnoredFields(true)))
  const result = {
    text: "Hi",
    thinking: "",
    toolCalls: [],
    model,
    server: "s",
    usage: { promptTokens: 3, completionTokens: 4 },
    firstTokenTime: undefined,
    tokensPerSecond: undefined,
    attempts: [],
    cached: false,
    decision: single(model, { model, server: "s" }, "")
  }
  const end = (finishReason: End["finishReason"], rest: Partial<End> = {}): End => ({
    type: "end",
    content: "",
    model,
    server: "s",
    usage: {},
    finishReason,
    attempts: [],
    timestamp: 0,
    ...rest
  })
  const reasons = [
    ["stop", "end_turn"],
    ["length", "max_tokens"],
    ["tool_calls", "tool_use"],
    ["content_filter", "refusal"]
  ] as const

  it.each(reasons)("%s is %s", async (finishReason, stop_reason) => {
    const complete = JSON.parse(await codec.complete(model, [{ ...result, finishReason }]))
    expect(complete).toMatchObject({ stop_reason, usage: { input_tokens: 3, output_tokens: 4 } })
    const writer = codec.writer(model)
    const body =
      writer.begin() +
      writer.text(0, "Hi") +
      writer.end(0, finishReason, result.usage, end(finishReason)) +
      writer.finish()
    const events = parse(body)
    wellFormed(events)
    expect(events.at(-2)?.data).toMatchObject({
      delta: { stop_reason, stop_sequence: null },
      usage: { input_tokens: 3, output_tokens: 4 }
    })
  })

  it.each([
    [["END"], "END", "stop", "stop_sequence", "END"],
    [["a", "END"], "END", "length", "max_tokens", null],
    // A model has marks of its own, too.
    [["END"], "<|im_end|>", "stop", "end_turn", null],
    [[], "END", "stop", "end_turn", null]
  ] as const)(
    "asked to stop at %j, ended by %s (%s): %s",
    async (stop_sequences, sequence, reason, stop_reason, reported) => {
      const codec = AnthropicCodec.codec(Request.decode({ ...good, stop_sequences }, new IgnoredFields(true)))
      const stop = { stop_reason, stop_sequence: reported }
      expect(
        JSON.parse(await codec.complete(model, [{ ...result, finishReason: reason, stopSequence: sequence }]))
      ).toMatchObject(stop)
      const writer = codec.writer(model)
      const written =
        writer.begin() + writer.end(0, reason, {}, end(reason, { stopSequence: sequence })) + writer.finish()
      expect(parse(written).at(-2)?.data.delta).toEqual(stop)
    }
  )

  it("alternating text and thinking are separate blocks", () => {
    const writer = codec.writer(model)
    const pieces = [
      writer.begin(),
      writer.thinking(0, "a"),
      writer.text(0, "b"),
      writer.text(0, "c"),
      writer.thinking(0, "d"),
      writer.toolCall(0, 0, { id: "t", name: "f", arguments: { x: [1] } }, false),
      writer.text(0, "e"),
      writer.end(0, "tool_calls", {}, end("tool_calls")),
      writer.finish()
    ]
    const events = parse(pieces.join(""))
    wellFormed(events)
    const started = events.filter(({ event }) => event === "content_block_start")
    expect(started.map(({ data }) => data.content_block.type)).toEqual([
      "thinking",
      "text",
      "thinking",
      "tool_use",
      "text"
    ])
  })
})
