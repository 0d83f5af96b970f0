import { once } from "node:events"
import { connect } from "node:net"
import * as fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama } from "../support/fakeServer.js"
import { eventually, rawPost, rawRequest, startGateway, type TestGateway } from "../support/gateway.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]

let server: FakeServer
let gateway: TestGateway

beforeAll(async () => {
  server = await startFakeOllama({ models: [model, { name: "embedder", capabilities: ["embedding"] }], reply: "Well." })
  gateway = await startGateway(
    [server.url],
    { maxBody: 1024 * 1024, strict: true },
    { timeouts: { headersTimeout: 500, requestTimeout: 1_000 } }
  )
})
afterAll(async () => {
  await gateway.close()
  await server.stop()
})

const works = async (): Promise<void> => {
  const response = await gateway.post("/v1/chat/completions", { model, messages })
  expect([response.status, ((await response.json()) as { choices: unknown }).choices]).toMatchObject([
    200,
    [{ message: { content: "Well." } }]
  ])
}

const endpoints: ReadonlyArray<readonly [path: string, good: { readonly [name: string]: unknown }]> = [
  ["/v1/chat/completions", { model, messages }],
  ["/v1/completions", { model, prompt: "Hi" }],
  ["/v1/completions", { model, prompt: ["Hi", "Ho"], raw: false, logprobs: 1 }],
  ["/v1/responses", { model, input: "Hi" }],
  ["/v1/embeddings", { model: "embedder", input: "Hi" }],
  ["/api/chat", { model, messages }],
  ["/api/generate", { model, prompt: "Hi" }],
  ["/api/generate", { model, prompt: "Hi", raw: true }],
  ["/api/embed", { model: "embedder", input: "Hi" }]
]

describe("invalid values", () => {
  const wrong: Array<[param: string, value: unknown]> = [
    ["model", 7],
    ["messages", "Hi"],
    ["messages", []],
    ["messages[0]", [1]],
    ["messages[0].role", [{ role: "wizard", content: "Hi" }]],
    ["messages[0].content", [{ role: "user", content: 7 }]],
    ["messages[0].content[0].type", [{ role: "user", content: [{ type: "input_audio" }] }]],
    [
      "messages[0].content[0].image_url.url",
      [{ role: "user", content: [{ type: "image_url", image_url: { url: "ftp://x" } }] }]
    ],
    ["temperature", -0.1],
    ["temperature", 2.1],
    ["temperature", "hot"],
    ["top_p", 1.5],
    ["n", 0],
    ["n", 129],
    ["n", 1.5],
    ["stream", "yes"],
    ["stream_options", { include_usage: true }],
    ["max_tokens", 0],
    ["max_completion_tokens", -1],
    ["presence_penalty", 2.5],
    ["frequency_penalty", -2.5],
    ["stop", [""]],
    ["stop", [7]],
    ["seed", 1.5],
    ["logit_bias", { hello: 1 }],
    ["logit_bias.1", { 1: 101 }],
    ["logprobs", "yes"],
    ["top_logprobs", 21],
    ["top_logprobs", 2],
    ["user", 7],
    ["tools", {}],
    ["tools[0].type", [{ type: "custom" }]],
    ["tools[0].function.name", [{ type: "function", function: { name: "a b" } }]],
    ["tool_choice", "required"],
    ["response_format.type", { type: "xml" }],
    ["response_format.json_schema", { type: "json_schema" }],
    ["response_format.json_schema.schema", { type: "json_schema", json_schema: { name: "a" } }],
    ["reasoning_effort", "extreme"],
    ["keep_alive", "soon"],
    ["keep_alive", "300"],
    ["think", "extreme"],
    ["routing", "magic"],
    ["model", "x".repeat(1_001)],
    ["metadata", 7],
    ["functions", []],
    ["audio", {}],
    ["modalities", ["audio"]],
    ["wat", 1]
  ]

  it.each(wrong)("%s: %j", async (param, value) => {
    const name = /^\w+/.exec(param)?.[0] ?? ""
    const response = await gateway.post("/v1/chat/completions", { model, messages, [name]: value })
    const { error } = (await response.json()) as { error: { type: string; param: string; message: string } }
    expect(response.status).toBe(400)
    expect(error.type).toBe("invalid_request_error")
    expect(error.param).toBe(param)
    expect(error.message).toContain(name)
  })

  it("null counts as omitted", async () => {
    const nothing = Object.fromEntries(
      ["temperature", "n", "stop", "max_tokens", "logit_bias", "user", "tools", "response_format", "stream"].map(
        (name) => [name, null]
      )
    )
    const refused = { functions: null, audio: null, previous_response_id: null, wat: null }
    for (const [path, good] of endpoints.slice(0, 3)) {
      const all =
        path === "/v1/responses" ? { ...good, previous_response_id: null } : { ...good, ...nothing, ...refused }
      expect([path, (await gateway.post(path, all)).status]).toEqual([path, 200])
    }
  })

  it("a schema that cannot be compiled, or is nested without end", async () => {
    const format = (schema: unknown) => ({ type: "json_schema", json_schema: { name: "a", schema } })
    const bad = await gateway.post("/v1/chat/completions", {
      model,
      messages,
      response_format: format({ type: "nope" })
    })
    expect(bad.status).toBe(400)
    const deep = `${`{"a":`.repeat(50_000)}1${"}".repeat(50_000)}`
    for (const body of [
      `{"model":"m:1b","messages":[{"role":"user","content":"Hi"}],"options":${deep}}`,
      `{"model":"m:1b","messages":${deep}}`,
      JSON.stringify({
        model,
        messages: [{ role: "assistant", tool_calls: [{ id: "a", function: { name: "f", arguments: deep } }] }]
      }),
      deep
    ] as ReadonlyArray<string>) {
      // Refused as what it is, or before it is parsed as too much.
      expect([400, 413]).toContain((await gateway.post("/v1/chat/completions", body)).status)
    }
    for (const field of [
      `"metadata":${deep}`,
      `"text":${deep}`,
      `"input":[{"type":"function_call_output","call_id":"a","output":${deep}}]`
    ]) {
      expect([400, 413]).toContain(
        (await gateway.post("/v1/responses", `{"model":"m:1b","input":"Hi",${field}}`)).status
      )
    }
    // An ignored field is not in the answer either.
    for (const field of [`"reasoning":${deep}`, `"tools":[{"type":"function","name":"f","x":${deep}}]`]) {
      const response = await gateway.post("/v1/responses", `{"model":"m:1b","input":"Hi",${field}}`)
      expect([400, 413]).toContain(response.status)
      expect((await response.text()).length).toBeLessThan(2_000)
    }
    await works()
  })

  it("very long names are not echoed, and no server is asked for them", async () => {
    const long = "x".repeat(500_000)
    const tools = [{ type: "function", function: { name: "f" } }]
    const bodies: ReadonlyArray<readonly [path: string, body: object, status: number]> = [
      ["/v1/chat/completions", { model: long, messages }, 400],
      ["/v1/chat/completions", { model, messages, [long]: 1 }, 400],
      [
        "/v1/chat/completions",
        { model, messages, tools, tool_choice: { type: "function", function: { name: long } } },
        400
      ],
      ["/v1/chat/completions", { model, messages, session: long }, 404],
      ["/v1/embeddings", { model: long, input: "Hi" }, 400],
      ["/api/show", { name: long }, 400],
      ["/api/pull", { model, server: long }, 404]
    ]
    for (const [path, body, status] of bodies) {
      const response = await gateway.post(path, body)
      expect([path, response.status, (await response.text()).length < 10_000]).toEqual([path, status, true])
    }
  })

  it("options of a stream, and of a response's text", async () => {
    const stream = { model, messages, stream: true }
    const refused = async (path: string, body: object) => {
      const response = await gateway.post(path, body)
      return [response.status, ((await response.json()) as { error: { param: string } }).error.param]
    }
    expect(await refused("/v1/chat/completions", { ...stream, stream_options: { include_all: true } })).toEqual([
      400,
      "stream_options.include_all"
    ])
    const obfuscated = { ...stream, stream_options: { include_obfuscation: false } }
    expect((await gateway.post("/v1/chat/completions", obfuscated)).status).toBe(200)
    const input = { model, input: "Hi" }
    expect(await refused("/v1/responses", { ...input, text: { verbosity: "loud" } })).toEqual([400, "text.verbosity"])
    expect(await refused("/v1/responses", { ...input, text: { color: "red" } })).toEqual([400, "text.color"])
    expect((await gateway.post("/v1/responses", { ...input, text: { verbosity: "medium" } })).status).toBe(200)
  })
})

describe("invalid bodies", () => {
  it.each<[string, string]>([
    ["nothing", ""],
    ["no JSON", "{"],
    ["no object", "[1]"],
    ["null", "null"],
    ["a number", "7"]
  ])("%s", async (_, body) => {
    for (const [path] of endpoints) {
      const response = await gateway.post(path, body)
      expect(response.status).toBe(400)
      const { error } = (await response.json()) as { error: unknown }
      expect(typeof error).toBe(path.startsWith("/api") ? "string" : "object")
    }
  })

  it("another media type", async () => {
    const post = (path: string) =>
      gateway.post(path, JSON.stringify({ model, messages }), { headers: { "content-type": "text/plain" } })
    expect((await post("/v1/chat/completions")).status).toBe(415)
    expect((await post("/api/chat")).status).toBe(200)
  })

  it("a compressed body", async () => {
    for (const [path, code] of [
      ["/v1/chat/completions", "unsupported_content_encoding"],
      ["/api/chat", "must not be compressed"]
    ] as const) {
      const gzip = { headers: { "content-encoding": "gzip" } }
      const response = await gateway.post(path, JSON.stringify({ model, messages }), gzip)
      expect([response.status, await response.text()]).toEqual([415, expect.stringContaining(code)])
    }
    const plain = { headers: { "content-encoding": "identity" } }
    expect((await gateway.post("/v1/chat/completions", { model, messages }, plain)).status).toBe(200)
  })

  it("text that is not UTF-8", async () => {
    const body = Buffer.from(`{"model":"m:1b","messages":[{"role":"user","content":"\xff\xfe"}]}`, "latin1")
    const response = await gateway.get("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body
    })
    expect(response.status).toBe(400)
    expect(await response.text()).toContain("UTF-8")
  })

  it("100 MB, announced or not", async () => {
    const before = process.memoryUsage().rss
    const socket = connect(gateway.port, "127.0.0.1")
    await once(socket, "connect")
    let text = ""
    socket.on("data", (part) => {
      text += part
    })
    socket.on("error", () => {})
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 104857600\r\n\r\n`
    )
    const part = Buffer.alloc(1024 * 1024, "a")
    for (let i = 0; i < 100 && !socket.destroyed; i++) {
      if (!socket.write(part)) await Promise.race([once(socket, "drain"), once(socket, "close")]).catch(() => {})
    }
    await eventually(() => text.includes("\r\n\r\n"), "an answer")
    expect(text).toMatch(/^HTTP\/1\.1 413 /)
    expect(text).toContain("body_too_large")
    socket.destroy()

    const chunk = `100000\r\n${"a".repeat(0x100000)}\r\n`
    const chunked = await rawRequest(
      gateway.port,
      [
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        chunk,
        chunk,
        chunk
      ],
      /\}\}$/
    )
    expect(chunked).toMatch(/^HTTP\/1\.1 413 /)
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024)
    await works()
  })

  it("is refused before it is sent with Expect: 100-continue", async () => {
    const head =
      "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n"
    expect(await rawRequest(gateway.port, `${head}content-length: 104857600\r\n\r\n`, /\}\}$/)).toMatch(
      /^HTTP\/1\.1 413 /
    )
    expect(await rawRequest(gateway.port, `${head}content-length: 10\r\n\r\n`, /\r\n\r\n/)).toMatch(/^HTTP\/1\.1 100 /)
  })
})

describe("a client that reads the response only after it has sent everything", () => {
  const head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
  const part = Buffer.alloc(256 * 1024, "a")
  const sizes = [5, 16, 64]
  const ways: ReadonlyArray<readonly [string, number]> = sizes.flatMap((parts) => [
    ["announced", parts] as const,
    ["in chunks", parts] as const
  ])

  it.each(ways)("%s, %i parts of 256 KiB: the connection is not reset while it sends", async (way, parts) => {
    const patient = await startGateway([server.url], { maxBody: 1024 * 1024 })
    try {
      const socket = connect(patient.port, "127.0.0.1")
      await once(socket, "connect")
      const errors: Array<Error> = []
      let text = ""
      socket.on("error", (error) => errors.push(error))
      const send = (data: string | Buffer) =>
        new Promise<void>((resolve, reject) => socket.write(data, (error) => (error ? reject(error) : resolve())))
      socket.on("data", (data) => {
        text += data
      })
      const chunked = way === "in chunks"
      await send(`${head}${chunked ? "transfer-encoding: chunked" : `content-length: ${parts * part.length}`}\r\n\r\n`)
      for (let i = 0; i < parts; i++) {
        // Once it has been refused, all the rest is still to be sent.
        if (i === 1 && !chunked) await eventually(() => text.includes("413"), "the refusal")
        if (chunked) await send(`${part.length.toString(16)}\r\n`)
        await send(part)
        if (chunked) await send("\r\n")
      }
      if (chunked) await send("0\r\n\r\n")
      await eventually(() => socket.readableEnded || socket.destroyed, "the end of the connection")
      expect(errors).toEqual([])
      expect(text).toMatch(/^HTTP\/1\.1 413 /)
      expect(text).toContain("body_too_large")
      expect(text).toMatch(/connection: close/i)
    } finally {
      await patient.close()
    }
  })
})

describe("malformed requests", () => {
  const head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"

  it("10,000 headers", async () => {
    const headers = Array.from({ length: 10_000 }, (_, i) => `x-${i}: y\r\n`).join("")
    expect(await rawRequest(gateway.port, `GET /health HTTP/1.1\r\nhost: localhost\r\n${headers}\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /
    )
    await works()
  })

  it("endless headers, or an endless body", async () => {
    expect(await rawRequest(gateway.port, "GET /health HTTP/1.1\r\nhost: loc")).toMatch(/^(HTTP\/1\.1 408 .*)?/)
    const late = await rawRequest(gateway.port, `${head}content-length: 100\r\n\r\n{"model":`)
    expect(late).toMatch(/^HTTP\/1\.1 (408|400) /)
    await works()
  })

  it("a body that is cut off", async () => {
    const socket = connect(gateway.port, "127.0.0.1")
    await once(socket, "connect")
    socket.write(`${head}content-length: 100\r\n\r\n{"model":`)
    socket.end()
    const closed = once(socket, "close")
    socket.resume()
    await closed
    await works()
  })

  it("garbage after a valid request", async () => {
    const good = `GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n`
    const answer = await rawRequest(gateway.port, `${good}\x00\x01garbage\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 (200|400) /)
    expect(await rawRequest(gateway.port, "\x16\x03\x01\x02hello\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /)
    const two = await rawRequest(
      gateway.port,
      rawPost("/v1/chat/completions", "{").replace("connection: close\r\n", "") +
        good.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")
    )
    expect(two.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 400", "HTTP/1.1 200"])
    await works()
  })

  it("two Content-Length headers, or one with chunks", async () => {
    expect(await rawRequest(gateway.port, `${head}content-length: 5\r\ncontent-length: 6\r\n\r\n{}`)).toMatch(
      /^HTTP\/1\.1 400 /
    )
    const both = await rawRequest(
      gateway.port,
      `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`
    )
    expect(both).toMatch(/^HTTP\/1\.1 400 /)
  })

  it("paths that lead elsewhere", async () => {
    for (const path of ["/../etc/passwd", "/v1/models/%E0%A4%A", "/v1/models/..%2f..%2fetc", "/v1//chat/completions"]) {
      const answer = await rawRequest(
        gateway.port,
        `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`
      )
      expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /)
    }
  })
})

describe("equivalent requests", () => {
  const host = "host: localhost\r\n"
  const close = `${host}connection: close\r\n\r\n`

  it.each([
    "/v1/models/",
    "//v1/models",
    "/v1//models?limit=2",
    "http://localhost:1/v1/models",
    "HTTP://localhost/v1/models/?x"
  ])("GET %s is the list of models", async (target) => {
    const answer = await rawRequest(gateway.port, `GET ${target} HTTP/1.1\r\n${close}`)
    expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    expect(answer).toContain(`"object":"list"`)
  })

  it.each([
    "/",
    "/health",
    "/ready",
    "/config",
    "/models",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/v1/models",
    `/v1/models/${model}`,
    "/api/tags",
    "/api/ps",
    "/api/version"
  ])("HEAD %s is GET without the body", async (path) => {
    const [head, get] = await Promise.all([gateway.get(path, { method: "HEAD" }), gateway.get(path)])
    expect([head.status, head.headers.get("content-type")]).toEqual([200, get.headers.get("content-type")])
    expect(Number(head.headers.get("content-length"))).toBeGreaterThan(0)
    expect(await head.text()).toBe("")
    const wrong = await gateway.get(path, { method: "PUT" })
    const allowed = path.startsWith("/v1/models/") ? "GET, HEAD, PATCH, DELETE, OPTIONS" : "GET, HEAD, OPTIONS"
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, allowed])
  })

  it.each(["LOCALHOST:8000", "localhost.", "127.0.0.1", "[::1]:8000", "app.localhost"])(
    "the host %s is this machine",
    async (name) => {
      const answer = await rawRequest(
        gateway.port,
        `GET /health HTTP/1.1\r\nhost: ${name}\r\nconnection: close\r\n\r\n`
      )
      expect(answer).toMatch(/^HTTP\/1\.1 200 /)
    }
  )

  it("a URL without a path is the gateway itself", async () => {
    for (const target of ["http://localhost", "http://localhost?x", "/"]) {
      const head = `GET ${target} HTTP/1.1\r\naccept: application/json\r\n${close}`
      expect(await rawRequest(gateway.port, head)).toContain(`"service":"aicortex"`)
    }
  })

  it.each([
    ["GET /nope", "", 404],
    ["DELETE /health", "", 405],
    ["POST /nope", "hello", 404],
    ["POST /v1/chat/completions", "{}", 400],
    ["POST /v1/chat/completions", "{", 400]
  ])("after an error the connection can be reused: %s %s", async (line, body, status) => {
    const refused = `${line} HTTP/1.1\r\n${host}content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`
    const answers = await rawRequest(gateway.port, [refused, body, `GET /health HTTP/1.1\r\n${close}`])
    expect(answers.match(/HTTP\/1\.1 \d\d\d/g)).toEqual([`HTTP/1.1 ${status}`, "HTTP/1.1 200"])
  })

  it("a chunked body, and one with Expect: 100-continue", async () => {
    const body = JSON.stringify({ model, messages })
    const head = `POST /v1/chat/completions HTTP/1.1\r\n${host}content-type: application/json\r\nconnection: close\r\n`
    const half = body.length >> 1
    const chunks = [body.slice(0, half), body.slice(half)].map((part) => `${part.length.toString(16)}\r\n${part}\r\n`)
    const chunked = [`${head}transfer-encoding: chunked\r\n\r\n`, ...chunks, "0\r\n\r\n"]
    expect(await rawRequest(gateway.port, chunked)).toContain(`"content":"Well."`)
    const expectation = `${head}expect: 100-continue\r\ncontent-length: ${body.length}\r\n\r\n${body}`
    expect(await rawRequest(gateway.port, expectation)).toMatch(/^HTTP\/1\.1 100 [\s\S]*HTTP\/1\.1 200 [\s\S]*"Well\."/)
  })
})

describe("fuzz", () => {
  it("1,000 bodies: each gets a response of 2xx or 4xx, with a reason", async () => {
    const value = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.constantFrom<unknown>(
        null,
        -1,
        0,
        1.5,
        1e308,
        "",
        "auto",
        [],
        {},
        [{}],
        [[]],
        true,
        "\u0000",
        "__proto__",
        messages
      )
    )
    const names = [
      "model",
      "messages",
      "prompt",
      "input",
      "stream",
      "temperature",
      "top_p",
      "n",
      "stop",
      "tools",
      "tool_choice",
      "response_format",
      "options",
      "keep_alive",
      "think",
      "format",
      "system",
      "images",
      "logit_bias",
      "max_tokens",
      "stream_options",
      "seed",
      "instructions",
      "text",
      "dimensions",
      "encoding_format",
      "__proto__",
      "constructor"
    ]
    const fields = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 5 })
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...endpoints), fields, fc.boolean(), async ([path, good], given, onTop) => {
        const n = given["n"]
        if (typeof n === "number" && n > 4) given["n"] = 2
        const response = await gateway.post(path, JSON.stringify(onTop ? { ...good, ...given } : given))
        const body = await response.text()
        expect([response.status, body.slice(0, 300)], JSON.stringify(given)).toSatisfy(
          ([status]: [number, string]) => status === 200 || (status >= 400 && status < 500) || status === 422
        )
        if (response.status !== 200) {
          const { error } = JSON.parse(body)
          expect(path.startsWith("/api") ? error : error.message).toMatch(/\w/)
          expect(body).not.toMatch(/at .*\.(ts|js):\d+|127\.0\.0\.1/)
        }
      }),
      { numRuns: 1_000 }
    )
    await works()
    expect(gateway.log).toEqual([])
  }, 120_000)
})
