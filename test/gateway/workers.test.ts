import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import type { Gateway } from "aicortex"
import { afterEach, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway } from "../support/gateway.js"

const model = "m:1b"
const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})
const ollama = async (options: Parameters<typeof startFakeOllama>[0] = {}) => {
  const server = await startFakeOllama({ models: [model], loaded: [model], reply: "Well.", ...options })
  open.push(server.stop)
  return server
}
const openai = async (options: Parameters<typeof startFakeOpenAI>[0] = {}) => {
  const server = await startFakeOpenAI({ models: [model], reply: "Well.", ...options })
  open.push(server.stop)
  return server
}
const serve = async (
  servers: ReadonlyArray<string | { readonly url: string }>,
  options: Gateway.Options = {},
  more: Parameters<typeof startGateway>[2] = {}
) => {
  const gateway = await startGateway(
    servers.map((server) => (typeof server === "string" ? server : server.url)),
    options,
    more
  )
  open.push(gateway.close)
  return gateway
}
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response> | Response): Promise<any> => (await response).json()

/** A server of one model that says nothing of tokens. */
const uncounted = async (): Promise<string> => {
  const server = createServer((request, response) => {
    request.resume()
    response.setHeader("content-type", "application/json")
    if (request.url === "/v1/models") {
      response.end(JSON.stringify({ object: "list", data: [{ id: model, object: "model" }] }))
    } else if (request.url === "/v1/completions") {
      response.setHeader("content-type", "text/event-stream")
      response.end(
        `data: ${JSON.stringify({ choices: [{ index: 0, text: "Well.", finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`
      )
    } else {
      response.statusCode = 404
      response.end("{}")
    }
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  open.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
}

describe("several texts at once", () => {
  const prompt = ["a", "b", "c"]

  const phases: ReadonlyArray<
    readonly [name: string, options: Parameters<typeof startFakeOllama>[0], cortex: object, seen: number]
  > = [
    ["while no server has said a word", { faults: { kind: "hang" } }, {}, 3],
    ["while they are written", { perToken: 20, reply: "word ".repeat(500) }, {}, 3],
    ["while two of them wait for a place", { perToken: 20, reply: "word ".repeat(500) }, { maxInFlight: 1 }, 1]
  ]
  const kinds = [
    ["ollama", false],
    ["ollama", true],
    ["openai", false],
    ["openai", true]
  ] as const
  it.each(phases.flatMap((phase) => kinds.map((kind) => [...phase, ...kind] as const)))(
    "a client that disconnects from %s stops all of them (%#)",
    async (_, options, limits, seen, kind, stream) => {
      const one = await (kind === "ollama" ? ollama(options) : openai(options as object))
      const gateway = await serve([one], { heartbeat: 20 }, { cortex: { servers: [{ url: one.url, ...limits }] } })
      const leaving = new AbortController()
      const pending = gateway
        .post("/v1/completions", { model, prompt, stream, max_tokens: 1000 }, { signal: leaving.signal })
        .then((response) => response.text())
        .catch(() => "left")
      await eventually(() => one.chatRequests.length === seen, "the server is asked")
      if (options?.faults === undefined)
        await eventually(() => one.chatRequests.every((r) => r.tokensSent > 1), "written")
      leaving.abort()
      expect(await pending).toBe("left")
      await eventually(() => one.chatRequests.every(({ aborted }) => aborted), "all are stopped")
      await eventually(
        async () => /aicortex_requests_in_flight 1\n/.test(await (await gateway.get("/metrics")).text()),
        "it is over"
      )
      expect([one.chatRequests.length, one.inFlight()]).toEqual([seen, 0])
    }
  )

  it.each([false, true])("one that fails stops the others (stream: %s)", async (stream) => {
    const one = await ollama({
      perToken: 20,
      reply: "word ".repeat(500),
      faults: (_, body) => (body.prompt === "b" ? { kind: "status", code: 500 } : undefined)
    })
    const gateway = await serve([one])
    const response = await gateway.post("/v1/completions", { model, prompt, stream, max_tokens: 1000 })
    const text = await response.text()
    expect(text).toContain("error")
    expect(text).not.toContain("[DONE]")
    await eventually(() => one.inFlight() === 0, "the others are stopped")
    expect(one.chatRequests.filter(({ aborted }) => aborted)).toHaveLength(2)
  })

  it("are not a conversation", async () => {
    const one = await ollama()
    const gateway = await serve([one])
    const { id } = await json(gateway.post("/v1/sessions", {}))
    for (const stream of [false, true]) {
      const refused = await gateway.post("/v1/completions", { model, prompt, raw: false, session: id, stream })
      expect([refused.status, (await json(refused)).error.param]).toEqual([400, "prompt"])
    }
    expect(one.chatRequests).toEqual([])
    expect((await json(gateway.get(`/v1/sessions/${id}`))).messages).toEqual([])
    const taken = await gateway.post("/v1/completions", { model, prompt: ["a"], raw: false, session: id })
    expect([taken.status, (await json(taken)).choices[0].text]).toEqual([200, "Well."])
  })
})

describe("cached answers", () => {
  it("of texts, infills and chats are kept apart", async () => {
    const one = await ollama({
      models: [{ name: model, capabilities: ["completion", "insert"] }],
      reply: ({ messages, prompt, raw, suffix }) =>
        messages !== undefined ? "chat" : suffix ? `insert ${suffix}` : raw ? `raw ${prompt}` : `generate ${prompt}`
    })
    const gateway = await serve([one])
    const said = async (path: string, body: object) => {
      const { choices, response } = await json(gateway.post(path, { model, cache: true, ...body }))
      return (
        response ??
        choices.map((one: { text?: string; message?: { content: string } }) => one.text ?? one.message?.content)
      )
    }
    const all = async () => [
      await said("/v1/completions", { prompt: "a", max_tokens: 9 }),
      await said("/v1/completions", { prompt: "a", max_tokens: 9, raw: false }),
      await said("/v1/completions", { prompt: "a", max_tokens: 9, suffix: "z" }),
      await said("/v1/completions", { prompt: "a", max_tokens: 9, suffix: "y" }),
      await said("/v1/completions", { prompt: ["b", "a"], max_tokens: 9 }),
      await said("/v1/chat/completions", { messages: [{ role: "user", content: "a" }], max_tokens: 9 }),
      await said("/api/generate", { prompt: "a", raw: true, stream: false, options: { num_predict: 9 } })
    ]
    const first = await all()
    expect(first).toEqual([["raw a"], ["chat"], ["insert z"], ["insert y"], ["raw b", "raw a"], ["chat"], "raw a"])
    const requestCount = one.chatRequests.length
    expect(await all()).toEqual(first)
    expect(one.chatRequests).toHaveLength(requestCount)
  })
})

describe("several answers to one prompt", () => {
  it.each([false, true])("are generated again even if answers are cached (stream: %s)", async (stream) => {
    const one = await ollama({ reply: (_, n) => `answer ${n}` })
    const gateway = await serve([one], {}, { cortex: { cache: true } })
    const said = async (body: object) => {
      const text = await (await gateway.post("/v1/completions", { model, prompt: "a", stream, ...body })).text()
      return new Set(text.match(/answer \d/g) ?? text.match(/ \d/g))
    }
    expect((await said({ n: 3 })).size).toBe(3)
    expect((await said({ n: 3, cache: true })).size).toBe(3)
    expect(one.chatRequests).toHaveLength(6)
    expect(await said({})).toEqual(await said({}))
    expect(one.chatRequests).toHaveLength(7)
  })
})

describe("what a key has used", () => {
  const headers = { authorization: "Bearer sk-app" }
  const keys = [{ name: "app", key: "sk-app", tokensPerMinute: 1_000_000 }]
  const logged = async (servers: ReadonlyArray<string | FakeServer>) => {
    let text = ""
    const gateway = await serve(servers, { keys, log: "json" }, { accessLog: (part) => (text += part) })
    const lines = async (n: number) => {
      await eventually(() => text.split("\n").length > n, `${n} lines`)
      return text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as { [name: string]: unknown })
    }
    const post = (path: string, body: object, init: RequestInit = {}) => gateway.post(path, body, { headers, ...init })
    return { post, lines }
  }

  it.each([false, true])(
    "is what its answers say: a prompt counts once, however many answers it has (stream: %s)",
    async (stream) => {
      const one = await ollama()
      const { lines, post } = await logged([one])
      const more = stream ? { stream, stream_options: { include_usage: true } } : {}
      const usageOf = async (path: string, body: object) => {
        const text = await (await post(path, { model, ...body, ...more })).text()
        const last = stream ? (text.split("data: ").at(-2) ?? "") : text
        return (JSON.parse(last) as { usage: { prompt_tokens: number; completion_tokens: number } }).usage
      }
      const reported = [
        await usageOf("/v1/completions", { prompt: ["One two three", "a"], n: 3 }),
        await usageOf("/v1/chat/completions", { messages: [{ role: "user", content: "One two three" }], n: 3 })
      ]
      const counted = (await lines(2)).map(({ completion_tokens, prompt_tokens }) => ({
        prompt_tokens,
        completion_tokens
      }))
      expect(counted).toMatchObject(
        reported.map(({ completion_tokens, prompt_tokens }) => ({ prompt_tokens, completion_tokens }))
      )
    }
  )

  it.each([false, true])("is estimated per prompt from its length (stream: %s)", async (stream) => {
    const { lines, post } = await logged([await uncounted()])
    await (await post("/v1/completions", { model, prompt: ["a".repeat(4000), "b"], stream })).text()
    expect((await lines(1))[0]).toMatchObject({ status: 200, prompt_tokens: 1001 })
  })

  it("includes aborted and interrupted streams", async () => {
    const one = await ollama({ perToken: 10, reply: "word ".repeat(500) })
    const { lines, post } = await logged([one])
    const leaving = new AbortController()
    const body = { model, prompt: ["One two three", "a"], stream: true, max_tokens: 400 }
    const response = await post("/v1/completions", body, { signal: leaving.signal })
    const reader = response.body?.getReader()
    await reader?.read()
    await eventually(() => one.chatRequests.every(({ tokensSent }) => tokensSent > 5), "it is under way")
    await reader?.read()
    leaving.abort()
    const [left] = await lines(1)
    expect(left).toMatchObject({ client_left: true, prompt_tokens: 5 })
    expect(left?.["completion_tokens"]).toBeGreaterThan(1)
    expect(left?.["completion_tokens"]).toBeLessThan(400)

    await one.setBehaviour({ perToken: "each", reply: "word ".repeat(500), faults: { kind: "cut", after: 3 } })
    const once = { headers: { ...headers, "x-aicortex-max-retries": "1" } }
    const text = await (await post("/v1/completions", { model, prompt: "One two three", stream: true }, once)).text()
    expect(text).toContain("stream_interrupted")
    expect((await lines(2))[1]).toMatchObject({ error: "stream_interrupted", prompt_tokens: 4, completion_tokens: 3 })
  })
})

describe("embeddings", () => {
  it("that fail report the number of attempts, as chats do", async () => {
    const embedder = { models: [{ name: model, capabilities: ["embedding"] }] }
    const both = [await ollama(embedder), await ollama(embedder)]
    let text = ""
    const gateway = await serve(both, { log: "json", maxRetries: 2 }, { accessLog: (part) => (text += part) })
    await (await gateway.get("/v1/models")).text()
    for (const one of both) await one.setBehaviour({ faults: { kind: "status", code: 500 }, faultOn: "all" })
    const response = await gateway.post("/v1/embeddings", { model, input: "a" })
    await response.text()
    expect([response.status, response.headers.get("x-aicortex-attempts")]).toEqual([502, "2"])
    await eventually(() => text.split("\n").length > 2, "it is logged")
    expect(JSON.parse(text.trimEnd().split("\n")[1] ?? "")).toMatchObject({ error: "all_servers_failed", attempts: 2 })
  })

  it("a disconnected client cancels the upstream request, or gives up its place in the queue", async () => {
    const one = await ollama({ models: [{ name: model, capabilities: ["embedding"] }] })
    const gateway = await serve([one], {}, { cortex: { servers: [{ url: one.url, maxInFlight: 1 }] } })
    expect((await gateway.post("/v1/embeddings", { model, input: "a" })).status).toBe(200)
    await one.setBehaviour({ faults: { kind: "hang" }, faultOn: "all" })
    const leaving = new AbortController()
    const pending = ["/v1/embeddings", "/api/embed"].map((path) =>
      gateway.post(path, { model, input: ["a", "b"] }, { signal: leaving.signal }).then(
        () => "answered",
        () => "left"
      )
    )
    await eventually(
      async () => /aicortex_requests_in_flight 3\n/.test(await (await gateway.get("/metrics")).text()),
      "both are in"
    )
    await eventually(() => one.inFlight() === 1, "one is asked")
    leaving.abort()
    expect(await Promise.all(pending)).toEqual(["left", "left"])
    await eventually(() => one.inFlight() === 0, "the server sees the abort")
    const text = await (await gateway.get("/metrics")).text()
    expect(text).toMatch(new RegExp(`aicortex_queue_length\\{model="${model}"\\} 0`))
  })
})
