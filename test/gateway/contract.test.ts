import { once } from "node:events"
import { connect, type Socket } from "node:net"
import { describe, expect, it } from "vitest"
import { type FakeServer, type Fault, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, rawPost, rawRequest, startGateway, type TestGateway, unchunk } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const tokens = ["One", " two", " three", " four", " five", " six."]
const text = tokens.join("")
const n = tokens.length

const phases = ["before headers", "before the first token", "mid-stream", "in the last chunk"] as const
type Phase = (typeof phases)[number]
const point = (phase: Phase) => (phase === "mid-stream" ? 3 : phase === "in the last chunk" ? n : 0)

/** How a server fails, in each phase, and the status where nothing had been given out. */
const faults: {
  readonly [name: string]: {
    readonly make: (phase: Phase) => Fault
    readonly status: number
    readonly code: string
    readonly statusLater?: number
  }
} = {
  cut: {
    make: (phase) => (phase === "before headers" ? { kind: "reset" } : { kind: "cut", after: point(phase) }),
    status: 502,
    code: "all_servers_failed"
  },
  stall: {
    make: (phase) => (phase === "before headers" ? { kind: "hang" } : { kind: "stall", after: point(phase) }),
    status: 504,
    code: "servers_timed_out"
  },
  "500": {
    make: (phase) =>
      phase === "before headers" ? { kind: "status", code: 500 } : { kind: "errorLine", after: point(phase) },
    status: 502,
    code: "all_servers_failed"
  },
  "429": {
    make: (phase) =>
      phase === "before headers"
        ? { kind: "status", code: 429, retryAfter: 1 }
        : { kind: "errorLine", after: point(phase), message: "rate limit reached" },
    status: 429,
    code: "rate_limit_exceeded",
    statusLater: 502
  },
  "404-model": {
    make: (phase) =>
      phase === "before headers"
        ? { kind: "notFound" }
        : { kind: "errorLine", after: point(phase), message: "model not found" },
    status: 404,
    code: "model_not_found",
    statusLater: 502
  },
  malformed: {
    make: (phase) => (phase === "before headers" ? { kind: "garbage" } : { kind: "malformed", after: point(phase) }),
    status: 502,
    code: "all_servers_failed"
  }
}

const protocols = { ollama: startFakeOllama, openai: startFakeOpenAI } as const
type Protocol = keyof typeof protocols

const keep = useKeep()
const fake = async (protocol: Protocol, options: object = {}): Promise<FakeServer> =>
  keep(await protocols[protocol]({ models: [model], reply: tokens, ...options }))
const gatewayOver = async (servers: ReadonlyArray<FakeServer>, options: object = {}): Promise<TestGateway> =>
  keep(
    await startGateway(
      servers.map(({ url }, priority) => ({ url, priority })),
      { timeout: 700, loadTimeout: 700, ...options }
    )
  )

const ask = (stream: boolean) => JSON.stringify({ model, stream, messages: [{ role: "user", content: "Count." }] })

interface Said {
  readonly status: number
  readonly text: string
  readonly done: boolean
  readonly error: { readonly code?: string; readonly message?: string } | undefined
  readonly attempts: string | null
}

const said = async (gateway: TestGateway, stream: boolean): Promise<Said> => {
  const response = await gateway.post("/v1/chat/completions", ask(stream))
  const { status } = response
  const attempts = response.headers.get("x-aicortex-attempts")
  const body = await response.text()
  if (!stream || status !== 200) {
    const json = JSON.parse(body)
    return {
      status,
      text: json.choices?.[0]?.message.content ?? "",
      done: json.error === undefined,
      error: json.error,
      attempts
    }
  }
  const events = body
    .split("\n\n")
    .filter((event) => event.startsWith("data: "))
    .map((event) => event.slice(6))
  const parsed = events.filter((event) => event !== "[DONE]").map((event) => JSON.parse(event))
  return {
    status,
    text: parsed.map((chunk) => chunk.choices?.[0]?.delta.content ?? "").join(""),
    done: events.at(-1) === "[DONE]",
    error: parsed.find((chunk) => chunk.error !== undefined)?.error,
    attempts
  }
}

const cases = Object.keys(faults).flatMap((name) =>
  phases.flatMap((phase) =>
    [true, false].flatMap((stream) =>
      (["ollama", "openai"] as const).map((protocol) => [name, phase, stream ? "stream" : "whole", protocol] as const)
    )
  )
)

describe("a failing server, with a healthy one", () => {
  it.each(cases)("%s, %s, %s, %s: the client does not notice", async (name, phase, form, protocol) => {
    const bad = await fake(protocol, { faults: faults[name]?.make(phase) })
    const good = await fake(protocol)
    const gateway = await gatewayOver([bad, good])
    const answer = await said(gateway, form === "stream")
    expect(answer).toMatchObject({ status: 200, text, done: true, error: undefined })
    if (form === "whole" || point(phase) === 0) expect(answer.attempts).toBe("2")
  })
})

describe("the only server fails", () => {
  it.each(cases)("%s, %s, %s, %s: the client gets a clear error", async (name, phase, form, protocol) => {
    const { code, make, status, statusLater } = faults[name] ?? faults["cut"]!
    const bad = await fake(protocol, { faults: make(phase) })
    // It is asked once: what clients see is the same however often it is.
    const gateway = await gatewayOver([bad], { maxRetries: 1 })
    const answer = await said(gateway, form === "stream")
    const given = form === "stream" ? tokens.slice(0, point(phase)).join("") : ""
    expect(answer.text).toBe(given)
    expect(answer.done).toBe(false)
    if (given === "") {
      expect(answer.status).toBe(phase === "before headers" ? status : (statusLater ?? status))
      if (phase === "before headers") expect(answer.error?.code).toBe(code)
    } else {
      expect(answer.status).toBe(200)
      expect(answer.error?.code).toBe("stream_interrupted")
    }
    const words = JSON.stringify(answer)
    expect(words).not.toContain("127.0.0.1")
    expect(words).not.toContain(String(bad.port))
  })
})

describe("a continued text, with servers of two kinds", () => {
  const prompt = "Count: "
  /** The text of an answer, and the last event or line of it. */
  const completed = async (gateway: TestGateway, path: string): Promise<readonly [text: string, last: string]> => {
    const fields = path === "/v1/completions" ? {} : { raw: true }
    const body = await (
      await gateway.post(path, { model, prompt, stream: true, max_tokens: undefined, ...fields })
    ).text()
    const parts = body.split("\n").filter((line) => line !== "")
    const events = parts.map((line) => line.replace(/^data: /, ""))
    const pieces = events.filter((event) => event.startsWith("{")).map((event) => JSON.parse(event))
    return [pieces.map((piece) => piece.response ?? piece.choices?.[0]?.text ?? "").join(""), events.at(-1) ?? ""]
  }

  it.each(
    (["/v1/completions", "/api/generate"] as const).flatMap((path) =>
      (["ollama", "openai"] as const).flatMap((first) =>
        (["ollama", "openai"] as const).map((second) => [path, first, second] as const)
      )
    )
  )("%s: %s breaks, %s goes on from the exact place, at every cut", async (path, first, second) => {
    for (let after = 1; after <= n; after++) {
      const bad = await fake(first, { faults: { kind: "cut", after } })
      // What it would say by itself is something else.
      const good = await fake(second, { reply: [...tokens.slice(0, after), "…"] })
      const [said, last] = await completed(await gatewayOver([bad, good]), path)
      expect(said).toBe(`${tokens.slice(0, after).join("")}…`)
      if (path === "/v1/completions") expect(last).toBe("[DONE]")
      else expect(JSON.parse(last)).toMatchObject({ done: true, done_reason: "stop" })
      expect(good.chatRequests.map(({ body }) => body.prompt)).toEqual([prompt + tokens.slice(0, after).join("")])
    }
  })

  it("a server without such an endpoint is skipped; if it is the only one, that is the error", async () => {
    const [bad, good] = [await fake("openai", { completions: false }), await fake("ollama")]
    expect((await completed(await gatewayOver([bad, good]), "/v1/completions"))[0]).toBe(text)
    const alone = await gatewayOver([bad])
    const response = await alone.post("/v1/completions", { model, prompt })
    expect(response.status).toBe(400)
    const words = await response.text()
    expect(JSON.parse(words).error).toMatchObject({ param: "raw", message: expect.stringContaining("/v1/completions") })
    expect(words).not.toContain("127.0.0.1")
    // It is as good as any for a chat.
    expect(await said(alone, true)).toMatchObject({ status: 200, text })
  })
})

describe("a chain of models", () => {
  it("continues to a model that fills in the middle", async () => {
    const models = [model, { name: "coder:1b", capabilities: ["completion", "insert"] }]
    const server = await fake("ollama", { models })
    const gateway = await gatewayOver([server], { aliases: { code: [model, "coder:1b"], chat: [model] } })
    const ask = (model: string) => gateway.post("/v1/completions", { model, prompt: "a = ", suffix: "b" })
    const answer = (await (await ask("code")).json()) as { choices: Array<{ text: string }>; model: string }
    expect(answer).toMatchObject({ model: "coder:1b", choices: [{ text }] })
    const refused = await ask("chat")
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: { param: "suffix" } })
  })
})

describe("the client disconnects", () => {
  const leaving = phases.flatMap((phase) =>
    [true, false].flatMap((stream) =>
      (["ollama", "openai"] as const).map((protocol) => [phase, stream ? "stream" : "whole", protocol] as const)
    )
  )

  it.each(leaving)("%s, %s, %s: the upstream request is cancelled at once", async (phase, form, protocol) => {
    const server = await fake(protocol, {
      faults: phase === "before headers" ? { kind: "hang" } : { kind: "stall", after: point(phase) }
    })
    const gateway = await gatewayOver([server], { timeout: 60_000, loadTimeout: 60_000 })
    const socket: Socket = connect(gateway.port, "127.0.0.1")
    await once(socket, "connect")
    let got = ""
    socket.on("data", (part) => {
      got += part
    })
    socket.write(rawPost("/v1/chat/completions", ask(form === "stream")))
    await server.waitForChats(1)
    const [request] = server.chatRequests
    if (form === "stream" && point(phase) > 0) {
      await eventually(() => got.includes(tokens[point(phase) - 1]!.trim()), "the pieces before it")
    } else await eventually(() => (request?.tokensSent ?? 0) >= point(phase), "the server has sent its part")
    let turns = 0
    let waits = true
    const turn = () => {
      turns++
      if (waits) setImmediate(turn)
    }
    const left = Date.now()
    socket.destroy()
    turn()
    const closed = await request?.closedByClient
    waits = false
    expect(closed).toBeDefined()
    const delay = (closed ?? 0) - left
    // On a busy machine 100 ms may pass in which this process hardly runs.
    expect(delay < 100 || turns < 50, `${delay} ms and ${turns} turns of the event loop`).toBe(true)
    // Nobody is to blame.
    await server.setBehaviour({ faults: undefined })
    expect((await said(gateway, true)).text).toBe(text)
  })
})

describe("a slow reader", () => {
  // More than the buffers of all the sockets on the way can take.
  const piece = "x".repeat(10_000)
  const many = 5_000

  it.each(["ollama", "openai"] as const)(
    "of a stream applies backpressure to an %s server, and loses nothing",
    async (protocol) => {
      const server = await fake(protocol, { reply: Array.from({ length: many }, () => piece) })
      const gateway = await gatewayOver([server], { timeout: 60_000, loadTimeout: 60_000 })
      const socket = connect(gateway.port, "127.0.0.1")
      await once(socket, "connect")
      socket.pause()
      socket.write(rawPost("/v1/chat/completions", ask(true)))
      await server.waitForChats(1)
      const [request] = server.chatRequests
      let before = -1
      await eventually(() => {
        const now = request?.tokensSent ?? 0
        const still = now > 0 && now === before
        before = now
        return still
      }, "the server is held back")
      expect(request?.finished).toBe(false)
      let length = 0
      let tail = ""
      socket.on("data", (part) => {
        length += part.toString().match(/x/g)?.length ?? 0
        tail = (tail + part).slice(-200)
      })
      socket.resume()
      await once(socket, "close")
      expect(tail).toContain("data: [DONE]")
      expect(length).toBeGreaterThanOrEqual(many * piece.length)
    }
  )

  it("of a non-streamed answer gets all of it", async () => {
    const server = await fake("ollama", { reply: Array.from({ length: many }, () => piece), perToken: "burst" })
    const gateway = await gatewayOver([server], { timeout: 60_000, loadTimeout: 60_000 })
    const socket = connect(gateway.port, "127.0.0.1")
    await once(socket, "connect")
    socket.pause()
    socket.write(rawPost("/v1/chat/completions", ask(false)))
    await eventually(() => server.chatRequests[0]?.finished === true, "the server has answered")
    let body = ""
    socket.on("data", (part) => {
      body += part
    })
    socket.resume()
    await once(socket, "close")
    expect(JSON.parse(body.slice(body.indexOf("\r\n\r\n") + 4)).choices[0].message.content.length).toBe(
      many * piece.length
    )
  })
})

describe("on the wire", () => {
  const plain = (body: string) =>
    body
      .replace(/"id":"[^"]*"/g, `"id":"ID"`)
      .replace(/"created":\d+/g, `"created":0`)
      .replace(/"created_at":"[^"]*"/g, `"created_at":"NOW"`)
      .replace(/_duration":\d+/g, `_duration":0`)

  it("a stream has OpenAI's chunks", async () => {
    const gateway = await gatewayOver([await fake("ollama", { reply: ["Hi", " you"] })])
    const body = JSON.stringify({ ...JSON.parse(ask(true)), stream_options: { include_usage: true } })
    const response = await rawRequest(gateway.port, rawPost("/v1/chat/completions", body))
    expect(response).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(response).toMatch(/\r\ncontent-type: text\/event-stream; charset=utf-8\r\n/i)
    expect(response).toMatch(/\r\nx-accel-buffering: no\r\n/i)
    const head = `data: {"id":"ID","object":"chat.completion.chunk","created":0,"model":"m:1b","system_fingerprint":"aicortex-0.1.0","choices":`
    const chunk = (delta: string, end = "null") =>
      `${head}[{"index":0,"delta":{${delta}},"logprobs":null,"finish_reason":${end}}],"usage":null}\n\n`
    expect(
      plain(unchunk(response))
        .replace(/"prompt_tokens":\d+/, `"prompt_tokens":P`)
        .replace(/"total_tokens":\d+/, `"total_tokens":T`)
    ).toBe(
      chunk(`"role":"assistant","content":""`) +
        chunk(`"content":"Hi"`) +
        chunk(`"content":" you"`) +
        chunk("", `"stop"`) +
        `${head}[],"usage":{"prompt_tokens":P,"completion_tokens":2,"total_tokens":T}}\n\n` +
        "data: [DONE]\n\n"
    )
  })

  it("a stream has Ollama's lines", async () => {
    const gateway = await gatewayOver([await fake("openai", { reply: ["Hi", " you"] })])
    const response = await rawRequest(gateway.port, rawPost("/api/chat", ask(true)))
    expect(response).toMatch(/\r\ncontent-type: application\/x-ndjson\r\n/i)
    const line = (content: string) =>
      `{"model":"m:1b","created_at":"NOW","message":{"role":"assistant","content":"${content}"},"done":false}\n`
    const [first, second, last] = plain(unchunk(response)).split(/(?<=\n)/)
    expect([first, second]).toEqual([line("Hi"), line(" you")])
    expect(JSON.parse(last ?? "")).toMatchObject({
      message: { role: "assistant", content: "" },
      done: true,
      done_reason: "stop",
      eval_count: 2
    })
  })

  it("a failure in mid-stream is the last event, without an end marker", async () => {
    const bad = { faults: { kind: "cut", after: 3 } }
    const gateway = await gatewayOver([await fake("openai", bad)], { maxRetries: 1 })
    const chunks = unchunk(await rawRequest(gateway.port, rawPost("/v1/chat/completions", ask(true))))
    expect(chunks.trimEnd().split("\n\n").at(-1)).toMatch(/^data: \{"error":\{"message":"The answer of 'm:1b' broke/)
    expect(chunks).not.toContain("[DONE]")
    const lines = unchunk(await rawRequest(gateway.port, rawPost("/api/chat", ask(true))))
    expect(JSON.parse(lines.trimEnd().split("\n").at(-1) ?? "")).toEqual({
      error: expect.stringMatching(/^The answer of 'm:1b' broke/),
      request_id: expect.stringMatching(/^req-/)
    })
  })

  it("sends signs of life while a model loads", async () => {
    const slow = await fake("ollama", { firstToken: 400 })
    const gateway = await gatewayOver([slow], { heartbeat: 50, timeout: 60_000, loadTimeout: 60_000 })
    const events = unchunk(await rawRequest(gateway.port, rawPost("/v1/chat/completions", ask(true))))
    expect(events.match(/^: waiting for the model$/gm)?.length).toBeGreaterThan(1)
    expect(events).toMatch(/data: \[DONE\]\n\n$/)
    const lines = unchunk(await rawRequest(gateway.port, rawPost("/api/chat", ask(true))))
      .trimEnd()
      .split("\n")
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ message: { content: "" }, done: false })
    expect(lines.map((line) => JSON.parse(line).message.content).join("")).toBe(text)
  })

  it("after a sign of life a failure is an event in the stream", async () => {
    const gateway = await gatewayOver([await fake("ollama", { faults: { kind: "hang" } })], { heartbeat: 50 })
    const response = await rawRequest(gateway.port, rawPost("/v1/chat/completions", ask(true)))
    expect(response).toMatch(/^HTTP\/1\.1 200 OK/)
    expect(unchunk(response)).toMatch(/data: \{"error":\{.*"code":"servers_timed_out"/)
  })
})
