import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { afterEach, assert, describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import { createCortex } from "../../src/promise.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"

const model = "m:1b"
const stops: Array<() => unknown> = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

interface Endless {
  readonly url: string
  /** How many bytes of answers were written, and how many connections of those were closed by the client. */
  bytes: number
  closed: number
  requestCount: number
}

/** A server whose answers never end: `piece` is written again and again, as fast as it is read. */
const endless = async (first: string, piece: string, head: object = {}): Promise<Endless> => {
  const write = (response: ServerResponse) => {
    response.writeHead(200, head as Record<string, string>)
    response.write(first)
    const more = () => {
      if (response.destroyed) return
      while (response.write(piece)) endless.bytes += piece.length
      endless.bytes += piece.length
      response.once("drain", () => setImmediate(more))
    }
    response.on("close", () => endless.closed++)
    more()
  }
  const server = createServer((request, response) => {
    request.resume()
    request.on("end", () => {
      const json = (body: object) => response.end(JSON.stringify(body))
      if (request.url === "/api/tags") json({ models: [{ name: model, model }] })
      else if (request.url === "/api/version") json({ version: "0.12.0" })
      else if (request.url === "/api/ps") json({ models: [] })
      else if (request.url === "/v1/models") json({ object: "list", data: [{ id: model, object: "model" }] })
      else if (request.method !== "POST") response.writeHead(404).end("{}")
      else {
        endless.requestCount++
        write(response)
      }
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  stops.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const endless: Endless = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytes: 0,
    closed: 0,
    requestCount: 0
  }
  return endless
}

const sse = { "content-type": "text/event-stream" }
const chunk = (delta: object) => `data: ${JSON.stringify({ id: "1", choices: [{ index: 0, delta }] })}\n\n`
const line = (message: object) =>
  `${JSON.stringify({ model, message: { role: "assistant", ...message }, done: false })}\n`
const word = "word ".repeat(200)
const mega = 1024 * 1024
const tool = { name: "look", description: "looks", parameters: { type: "object" } }

const text = `longer than ${2 * mega} bytes, the limit of an answer (maxAnswerBytes)`
const lineBound = `a line is longer than ${16 * mega} bytes`
const cases = {
  "text over OpenAI": ["openai", "", chunk({ content: word }), text],
  "text over Ollama": ["ollama", "", line({ content: word }), text],
  "reasoning over OpenAI": ["openai", "", chunk({ reasoning_content: word }), text],
  "reasoning over Ollama": ["ollama", "", line({ content: "", thinking: word }), text],
  "arguments of a tool over OpenAI": [
    "openai",
    chunk({ tool_calls: [{ index: 0, id: "a", function: { name: "look", arguments: '{"a":"' } }] }),
    chunk({ tool_calls: [{ index: 0, function: { arguments: word } }] }),
    text
  ],
  "calls of tools over Ollama": [
    "ollama",
    "",
    line({ content: "", tool_calls: [{ function: { name: "look", arguments: { a: word } } }] }),
    text
  ],
  "a line of Ollama": ["ollama", '{"message":{"content":"', word, lineBound],
  "a line of OpenAI": ["openai", 'data: {"choices":[{"delta":{"content":"', word, lineBound],
  "one event in many lines": ["openai", "", `data: ${word}\n`, lineBound],
  "a whole body in the place of a stream": ["openai", '{"choices":[{"message":{"content":"', word, lineBound]
} as const

describe("an endless answer", () => {
  it.each(Object.entries(cases))(
    "%s is cut off at its bound, whole and as a stream",
    async (_, [protocol, first, piece, bound]) => {
      const server = await endless(first, piece, protocol === "openai" ? sse : {})
      const cortex = createCortex({
        servers: [{ url: server.url, protocol }],
        model,
        configFile: false,
        maxAnswerBytes: 2 * mega
      })
      stops.push(() => cortex.close())
      const options = { tools: [tool], maxRetries: 1 }
      const error = await cortex.complete("Hi", options).then(
        () => undefined,
        (error: unknown) => error as { _tag: string; attempts: ReadonlyArray<{ reason: string; message: string }> }
      )
      assert.strictEqual(error?._tag, "AllServersFailed")
      assert.strictEqual(error?.attempts[0]?.reason, "malformed")
      assert.include(error?.attempts[0]?.message, bound)
      await expect.poll(() => server.closed).toBe(1)

      const requestsBefore = server.requestCount
      const events = await cortex.chat("Hi", { ...options, stream: true })
      const broken = (await events.text().then(
        () => undefined,
        (error: unknown) => error
      )) as typeof error
      assert.match(broken?._tag ?? "", /^(AllServersFailed|StreamInterrupted)$/)
      assert.include(broken?.attempts.at(-1)?.message, bound)
      // Nobody goes on with what is too long already.
      assert.strictEqual(server.requestCount, requestsBefore + 1)
      await expect.poll(() => server.closed).toBe(2)
      // What the connection holds may have been written besides.
      assert.isBelow(server.bytes, 64 * mega)
    },
    60_000
  )

  it("endless headers are cut off, too", async () => {
    const server = createServer((request, response) => {
      if (request.url === "/api/tags") response.end(JSON.stringify({ models: [{ name: model, model }] }))
      else if (request.method !== "POST") response.end("{}")
      else {
        request.resume()
        const { socket } = response
        socket?.write("HTTP/1.1 200 OK\r\n")
        const more = () => {
          if (socket?.destroyed !== false) return
          socket.write(`x-more: ${word}\r\n`.repeat(16), () => setImmediate(more))
        }
        more()
      }
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    stops.push(() => {
      server.closeAllConnections()
      server.close()
    })
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const cortex = createCortex({ servers: [{ url, protocol: "ollama" }], model, configFile: false })
    stops.push(() => cortex.close())
    await expect(cortex.complete("Hi", { maxRetries: 1 })).rejects.toMatchObject({
      _tag: "AllServersFailed",
      attempts: [
        { reason: "malformed", message: expect.stringMatching(/headers of the answer are longer than \d+ bytes/) }
      ]
    })
  })

  it.each(["ollama", "openai"] as const)("vectors over %s are cut off", async (protocol) => {
    const first = protocol === "ollama" ? '{"embeddings":[[' : '{"data":[{"index":0,"embedding":['
    const server = await endless(first, "0.123456,".repeat(100))
    const cortex = createCortex({ servers: [{ url: server.url, protocol }], configFile: false, maxAnswerBytes: mega })
    stops.push(() => cortex.close())
    await expect(cortex.embed("Hi", { model, maxRetries: 1 })).rejects.toMatchObject({
      _tag: "AllServersFailed",
      attempts: [{ reason: "malformed", message: expect.stringContaining(`longer than ${mega} bytes`) }]
    })
    await expect.poll(() => server.closed).toBe(1)
    assert.isBelow(server.bytes, 32 * mega)
  })

  it("at the default limit, one call holds at most a few times its size", async () => {
    const server = await endless("", line({ content: "x".repeat(16 * 1024) }))
    const cortex = createCortex({ servers: [{ url: server.url, protocol: "ollama" }], model, configFile: false })
    stops.push(() => cortex.close())
    const before = process.memoryUsage()
    let most = 0
    const timer = setInterval(() => {
      const now = process.memoryUsage()
      most = Math.max(most, now.heapUsed + now.external - before.heapUsed - before.external)
    }, 20)
    try {
      await expect(cortex.complete("Hi", { maxRetries: 1 })).rejects.toMatchObject({
        attempts: [{ message: expect.stringContaining(`longer than ${64 * mega} bytes`) }]
      })
    } finally {
      clearInterval(timer)
    }
    assert.isBelow(most, 500 * mega)
  })

  it("a long answer of many small pieces needs little more than its length", async () => {
    const server = await endless("", line({ content: "abcd" }).repeat(500))
    setFlagsFromString("--expose-gc")
    const collect = runInNewContext("gc") as () => void
    const held = () => {
      collect()
      return process.memoryUsage().heapUsed
    }
    const layer = Cortex.layer({
      servers: [{ url: server.url, protocol: "ollama" }],
      model,
      configFile: false,
      maxAnswerBytes: 6 * mega
    })
    const program = Effect.gen(function* () {
      const before = held()
      const error = yield* Effect.flip(Stream.runDrain(Chat.stream("Hi", { maxRetries: 1 })))
      // What was put together of so many pieces would take some 15 times as much.
      assert.isBelow(held() - before, 45 * mega)
      return error
    })
    const error = await Effect.runPromise(Effect.provide(program, layer))
    assert.strictEqual(error._tag, "StreamInterrupted")
    assert.isAbove(error._tag === "StreamInterrupted" ? error.partial.length : 0, 5 * mega)
  })

  it("the gateway: a typed error, complete and streamed, with the setting of the file", async () => {
    const server = await endless("", line({ content: word }))
    await using gateway = await startGateway(
      [{ url: server.url }],
      { maxRetries: 1 },
      { cortex: { maxAnswerBytes: mega } }
    )
    const messages = [{ role: "user", content: "Hi" }]
    const whole = await gateway.post("/v1/chat/completions", { model, messages })
    assert.strictEqual(whole.status, 502)
    const { error } = (await whole.json()) as { error: { code: string; attempts: ReadonlyArray<{ reason: string }> } }
    assert.strictEqual(error.code, "all_servers_failed")
    assert.strictEqual(error.attempts[0]?.reason, "malformed")
    const stream = await gateway.post("/v1/chat/completions", { model, messages, stream: true })
    const reported = await stream.text()
    assert.include(reported, "stream_interrupted")
    assert.isBelow(reported.length, 64 * mega)
    await expect.poll(() => server.closed).toBe(2)
  })

  it("an answer below the limit is complete, and the limit is validated", async () => {
    const reply = "word ".repeat(100_000)
    const server = await startFakeOllama({ models: [model], reply, perToken: "burst" })
    stops.push(server.stop)
    const cortex = createCortex({ servers: [server.url], model, configFile: false, maxAnswerBytes: reply.length })
    stops.push(() => cortex.close())
    assert.strictEqual(await cortex.chat("Hi"), reply)
    const wrong = createCortex({ servers: [server.url], configFile: false, maxAnswerBytes: 0 })
    await expect(wrong.models()).rejects.toMatchObject({ _tag: "InvalidConfig", field: "maxAnswerBytes" })
  })
})
