/** Who is to blame for a failure: the request, the model on one server, what the model wrote, or the server. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { describe, expect, it } from "vitest"
import type { ServerFailure } from "../../src/Backend.js"
import { statusFailure } from "../../src/backend/http.js"
import * as Fleet from "../../src/Fleet.js"
import { fromOptions, type Host } from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"
import type { Fault } from "../support/faults.js"
import { chats, eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const protocols = ["ollama", "openai"] as const
type Protocol = (typeof protocols)[number]

/** As the servers of each kind say it. */
const contextLength: ReadonlyArray<readonly [string, number, unknown]> = [
  ["Ollama", 400, { error: "input length exceeds the context length" }],
  [
    "llama.cpp",
    400,
    {
      error: {
        code: 400,
        message: "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        type: "exceed_context_size_error",
        n_prompt_tokens: 9000,
        n_ctx: 4096
      }
    }
  ],
  [
    "llama.cpp, before",
    500,
    { error: { code: 500, message: "the request exceeds the available context size. try increasing the context size" } }
  ],
  [
    "vLLM",
    400,
    {
      object: "error",
      message:
        "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens in the messages.",
      type: "BadRequestError",
      code: 400
    }
  ],
  [
    "LM Studio",
    400,
    {
      error:
        "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough. Try to load the model with a larger context length, or provide a shorter input"
    }
  ],
  [
    "OpenAI",
    400,
    {
      error: { message: "Too long.", type: "invalid_request_error", param: "messages", code: "context_length_exceeded" }
    }
  ],
  [
    "SGLang",
    400,
    { object: "error", message: "The input (9000 tokens) is longer than the model's context length (4096 tokens)." }
  ],
  [
    "TGI",
    422,
    {
      error: "Input validation error: `inputs` must have less than 4095 `input_tokens`. Given: 9000",
      error_type: "validation"
    }
  ]
]

describe("error messages", () => {
  it.each(contextLength)("%s: a prompt that is too long", (_, status, body) => {
    expect(statusFailure(status, JSON.stringify(body), undefined, 0).reason).toBe("context-length")
  })

  it.each([
    [500, "model requires more system memory (22.1 GiB) than is available (7.4 GiB)", "model-failed"],
    [500, "llama runner process has terminated: cudaMalloc failed: out of memory", "model-failed"],
    [500, "unable to load model: /models/x: unknown model architecture: 'foo'", "model-failed"],
    [400, 'Failed to load model "x". Error: insufficient system resources.', "model-failed"],
    [503, "Loading model", "loading"],
    [500, "error parsing tool call: raw='{', err=unexpected end of JSON input", "bad-output"],
    [500, "Conversation roles must alternate user/assistant/user/assistant/...", "invalid-request"],
    [500, 'template: :3:12: executing "" at <index>: error calling index', "invalid-request"],
    [500, "Value looks like object, but can't find closing '}' symbol", "invalid-request"],
    [500, "Failed to parse tools: [json.exception.out_of_range.403] key 'function' not found", "invalid-request"],
    // Nothing is read into words that say nothing.
    [500, "Internal Server Error", "server-error"],
    [500, "boom", "server-error"],
    [502, "Bad Gateway", "server-error"],
    [503, "Service Unavailable", "server-error"],
    [400, "odd", "invalid-request"],
    [429, "maximum context length", "rate-limited"],
    [401, "out of memory", "unauthorized"]
  ] as const)("HTTP %i, %s", (status, message, reason) => {
    expect(statusFailure(status, JSON.stringify({ error: { message } }), undefined, 0).reason).toBe(reason)
  })
})

const status = (code: number, message: string): Fault => ({ kind: "status", code, body: { error: message } })
const tooLong = "the prompt exceeds the context size of the model"
const question = "Why?"

/** Fakes that were found; then each has this fault, if any. */
const started = async (protocol: Protocol, ...faults: ReadonlyArray<Fault | undefined>) => {
  const servers = await Promise.all(faults.map(() => fleet[protocol]({ reply: "Because." })))
  const found = async (...args: Parameters<typeof fleet.cortex>) => {
    const cortex = fleet.cortex(...args)
    await cortex.listServers()
    await Promise.all(servers.map((server, i) => server.setBehaviour({ faults: faults[i] })))
    return cortex
  }
  return { servers, found }
}

const poisons: ReadonlyArray<readonly [string, Fault, object]> = [
  ["too long, as 400", status(400, tooLong), { code: "context_length_exceeded" }],
  ["too long, as 500", status(500, tooLong), { code: "context_length_exceeded" }],
  ["too long, inside a 200", { kind: "errorLine", message: tooLong }, { code: "context_length_exceeded" }],
  ["roles, as 500", status(500, "Conversation roles must alternate user/assistant"), {}],
  ["roles, inside a 200", { kind: "errorLine", message: "Conversation roles must alternate user/assistant" }, {}],
  ["bad tools, as 500", status(500, "Failed to parse tools: key 'function' not found"), {}],
  ["too large, as 413", status(413, "Payload Too Large"), {}],
  ["crashes every runner", status(500, "model runner has unexpectedly stopped"), {}]
]

describe.each(protocols)("a request that fails on every server (%s)", (protocol) => {
  describe.each([true, false])("stream: %s", (stream) => {
    it.each(poisons)("%s: is the request's fault, and no server rests", async (_, fault, expected) => {
      const { servers, found } = await started(protocol, fault, fault, fault)
      const cortex = await found(inOrder(...servers))
      const ask = async () => (stream ? eventsOf(await cortex.chat(question, { stream })) : cortex.complete(question))
      const error = await failure(ask())
      expect(error).toMatchObject({ _tag: "InvalidRequest", ...expected })
      await Promise.all(servers.map((server) => server.setBehaviour({ faults: undefined })))
      // The first in the order is in use, at once.
      const answer = await cortex.complete("Another question?")
      expect(answer).toMatchObject({ server: servers[0]?.url, text: "Because.", attempts: [] })
    })
  })

  it.each(poisons.slice(0, 6))("%s: with a single server too, at once", async (_, fault, expected) => {
    const { servers, found } = await started(protocol, fault)
    const cortex = await found(servers)
    expect(await failure(cortex.chat(question))).toMatchObject({ _tag: "InvalidRequest", ...expected })
    expect(await failure(cortex.chat(question, { maxRetries: 5 }))).toMatchObject({ _tag: "InvalidRequest" })
    expect(chats(...servers)).toEqual([2])
  })

  it("repeating it does not affect others: their requests stay spread evenly", async () => {
    const reply = "Because."
    const poisonous: Fault = status(500, "an unknown error text")
    const servers = await Promise.all(
      Array.from({ length: 3 }, () =>
        fleet[protocol]({
          reply,
          faults: (_, body) => (JSON.stringify(body).includes("poison") ? poisonous : undefined)
        })
      )
    )
    const cortex = fleet.cortex(servers)
    await cortex.listServers()
    const good = new Map<string, number>()
    for (let i = 0; i < 90; i++) {
      if (i % 3 === 0) {
        const error = await failure(cortex.chat("poison", { maxRetries: 3 }))
        expect(error).toMatchObject({ _tag: "AllServersFailed" })
      }
      const { server } = await cortex.complete(`question ${i}`)
      good.set(server, (good.get(server) ?? 0) + 1)
    }
    // 30 each, by chance; if servers rested, those asked first would get next to nothing.
    for (const server of servers) expect(good.get(server.url) ?? 0).toBeGreaterThan(12)
  })

  it("control: a server that fails among others opens its breaker", async () => {
    const { servers, found } = await started(protocol, status(500, "boom"), undefined, undefined)
    const cortex = await found(inOrder(...servers))
    expect(await cortex.complete(question)).toMatchObject({ attempts: [{ reason: "server-error" }] })
    expect(await cortex.complete(question)).toMatchObject({ attempts: [] })
    expect(chats(...servers)).toEqual([1, 2, 0])
  })

  it("control: if all servers are down it is their failure, within seconds", async () => {
    const { servers, found } = await started(protocol, { kind: "refuse" }, { kind: "refuse" }, { kind: "refuse" })
    const cortex = await found(servers)
    const began = performance.now()
    const error = await failure(cortex.chat(question))
    expect(error).toMatchObject({ _tag: "AllServersFailed" })
    expect(error.attempts.length).toBeGreaterThanOrEqual(6)
    expect(performance.now() - began).toBeLessThan(10_000)
  })
})

const proxies: ReadonlyArray<readonly [string, Fault]> = [
  ["400", status(400, "Bad Request")],
  ["413", { kind: "status", code: 413, body: "<html><body>413 Request Entity Too Large</body></html>" }],
  ["414", { kind: "status", code: 414, body: "<html><body>414</body></html>" }],
  ["a page as 400", { kind: "status", code: 400, body: "<!doctype html><title>Oops</title>" }],
  ["a prompt that is too long", status(400, tooLong)]
]

describe.each(protocols)("one server that refuses a request that another answers (%s)", (protocol) => {
  it.each(proxies)("%s: no call fails, and it attracts no further ones", async (_, fault) => {
    const { servers, found } = await started(protocol, fault, undefined)
    const [bad, good] = servers as [Fake, Fake]
    const cortex = await found(inOrder(bad, good))
    for (let i = 0; i < 20; i++) expect((await cortex.complete(`question ${i}`)).server).toBe(good.url)
    expect(chats(bad)[0]).toBeLessThanOrEqual(2)
    const events = await eventsOf(await cortex.chat(question, { stream: true }))
    expect(textOf(events)).toBe("Because.")
  })

  it("a transient failure of the other server does not confirm the refusal", async () => {
    const { servers, found } = await started(protocol, status(400, "Bad Request"), undefined)
    const cortex = await found(inOrder(...servers))
    await servers[1]?.setBehaviour({ faults: (n) => (n % 2 === 0 ? { kind: "cut" } : undefined) })
    expect(await cortex.complete(question, { retryBackoff: 1 })).toMatchObject({ server: servers[1]?.url })
  })
})

describe("the model on one server", () => {
  it.each(protocols)("does not exclude the server's other models (%s)", async (protocol) => {
    const models = [model, "other:1b"]
    const servers = await Promise.all([
      fleet[protocol]({ models, reply: "A" }),
      fleet[protocol]({ models, reply: "B" })
    ])
    const [first, second] = servers as [Fake, Fake]
    const cortex = fleet.cortex(inOrder(first, second))
    await cortex.listServers()
    await first.setBehaviour({
      faults: (_, body) =>
        body?.model === model ? status(500, "model requires more system memory (22 GiB) than is available") : undefined
    })
    expect((await cortex.complete(question)).attempts).toMatchObject([{ reason: "model-failed" }])
    expect((await cortex.complete(question)).attempts).toEqual([])
    expect((await cortex.complete(question, { model: "other:1b" })).server).toBe(first.url)
  })

  it.each([undefined, 2])(
    "that is loaded is waited for, within loadTimeout (maxRetries: %s)",
    async (maxRetries) => {
      const loading: Fault = {
        kind: "status",
        code: 503,
        body: { error: { code: 503, message: "Loading model", type: "unavailable_error" } }
      }
      const server = await fleet.openai({ reply: "Because." })
      const cortex = fleet.cortex([server])
      await cortex.listServers()
      await server.setBehaviour({ faults: [loading, loading, loading] })
      const options = maxRetries === undefined ? {} : { maxRetries }
      const answer = await cortex.complete(question, options)
      expect(answer).toMatchObject({ text: "Because.", attempts: [{ reason: "loading", status: 503 }] })
      await server.setBehaviour({ faults: loading })
      expect(await failure(cortex.complete(question, { ...options, loadTimeout: 500, retryBackoff: 1 }))).toMatchObject(
        {
          _tag: "AllServersFailed"
        }
      )
    },
    30_000
  )

  it("another server answers while one loads the model", async () => {
    const servers = await Promise.all([fleet.openai({ reply: "A" }), fleet.openai({ reply: "B" })])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0]?.setBehaviour({ faults: status(503, "Loading model") })
    expect(await cortex.complete(question)).toMatchObject({ text: "B", attempts: [{ reason: "loading" }] })
  })

  it("invalid model output is no server's fault: the next one is asked, and the server stays in use", async () => {
    const servers = await Promise.all([fleet.ollama({ reply: "A" }), fleet.ollama({ reply: "B" })])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0]?.setBehaviour({ faults: [status(500, "error parsing tool call: raw='{'")] })
    expect(await cortex.complete(question)).toMatchObject({ text: "B", attempts: [{ reason: "bad-output" }] })
    expect(await cortex.complete(question)).toMatchObject({ text: "A", attempts: [] })
  })
})

describe("a gateway returns the request's own error", () => {
  const faces = [
    ["/v1/chat/completions", { messages: [{ role: "user", content: "x" }] }, "error.code"],
    ["/v1/completions", { prompt: "x" }, "error.code"],
    ["/v1/responses", { input: "x" }, "error.code"],
    ["/v1/messages", { max_tokens: 9, messages: [{ role: "user", content: "x" }] }, "message"],
    ["/api/chat", { messages: [{ role: "user", content: "x" }] }, "message"],
    ["/api/generate", { prompt: "x" }, "message"]
  ] as const

  it.each(protocols)("as 400 with its code, on every API, complete and streamed (%s)", async (protocol) => {
    const { servers, found } = await started(protocol, status(500, tooLong), status(500, tooLong))
    await found(servers)
    await Promise.all(servers.map((server) => server.setBehaviour({ faults: undefined })))
    await using gateway = await startGateway(servers.map(({ url }) => ({ url })))
    await gateway.get("/v1/models")
    await Promise.all(servers.map((server) => server.setBehaviour({ faults: status(500, tooLong) })))
    for (const [path, body, where] of faces) {
      for (const stream of [false, true]) {
        const response = await gateway.post(path, { model, stream, ...body })
        const text = await response.text()
        expect([path, stream, response.status]).toEqual([path, stream, 400])
        expect(text).toContain("prompt is too long")
        if (where === "error.code") expect(JSON.parse(text).error.code).toBe("context_length_exceeded")
      }
    }
  })
})

describe("a clock that jumps", () => {
  const url = "http://s0:11434"
  const hosts: ReadonlyArray<Host> = [
    {
      server: Either.getOrThrow(fromOptions({ url, protocol: "ollama" }, "test")),
      protocol: "ollama",
      model: "m",
      certain: true,
      performance: undefined
    }
  ]
  const make = Effect.provideService(Fleet.make, Settings.CurrentSettings, Settings.empty)
  const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> =>
    Effect.runPromise(Effect.provide(effect, TestContext.TestContext))
  const start = 1_800_000_000_000
  const fail = (one: Fleet.Service, failed: ServerFailure) =>
    one
      .lease(
        one.pool(hosts, () => Number.NaN),
        0
      )
      .fail(failed)
  const breaker = (one: Fleet.Service) => {
    one.pool(hosts, () => Number.NaN)
    return one.snapshot(url, "m").breaker
  }

  it.each([
    ["server-error", undefined],
    ["rate-limited", 60_000],
    ["model-failed", undefined]
  ] as const)("backward does not extend rests (%s)", (reason, retryAfter) =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const one = yield* make
        fail(one, { reason, message: "", ...(retryAfter === undefined ? {} : { retryAfter }) })
        expect(breaker(one)).toBe("open")
        yield* TestClock.setTime(start - 3_600_000)
        expect(breaker(one)).toBe("half-open")
        // Times after it are measured as usual.
        fail(one, { reason: "server-error", message: "" })
        expect(breaker(one)).toBe("open")
        yield* TestClock.adjust("1 hour")
        expect(breaker(one)).toBe("half-open")
      })
    )
  )

  it("forward, as after sleep, ends rests; a correction by milliseconds does not", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const one = yield* make
        fail(one, { reason: "server-error", message: "" })
        yield* TestClock.setTime(start - 200)
        expect(breaker(one)).toBe("open")
        yield* TestClock.setTime(start + 3_600_000)
        expect(breaker(one)).toBe("half-open")
      })
    ))

  it("between two runs does not extend rests", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(start)
        const one = yield* make
        const lease = one.lease(
          one.pool(hosts, () => Number.NaN),
          0
        )
        lease.succeed({ firstTokenTime: 1, tokensPerSecond: 1, keepAlive: 1_000 })
        fail(one, { reason: "server-error", message: "" })
        const saved = yield* one.saved
        yield* TestClock.setTime(start - 3_600_000)
        const other = yield* make
        yield* other.restore(saved)
        expect(breaker(other)).toBe("half-open")
        yield* TestClock.setTime(start)
        const same = yield* make
        yield* same.restore(saved)
        expect(breaker(same)).toBe("open")
      })
    ))
})

describe("an error that is nested in a text, as Ollama passes on those of its runner", () => {
  it("is reported with its own message", async () => {
    const server = await fleet.ollama()
    const content = [{ type: "image", data: "aGk=", mediaType: "image/png" }] as const
    const error = await failure(fleet.cortex([server]).chat([{ role: "user", content }]))
    expect(error).toMatchObject({
      _tag: "InvalidRequest",
      reason: "Multimodal data provided, but model does not support multimodal requests."
    })
  })
})
