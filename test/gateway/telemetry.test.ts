import { createServer } from "node:http"
import { type AddressInfo, connect } from "node:net"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Chat, Cortex, Gateway } from "aicortex"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { afterEach, describe, expect, it } from "vitest"
import { merge } from "../../src/gateway/observability/prometheus.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { metrics, parse } from "../support/prometheus.js"

const messages = [{ role: "user", content: "What did the top secret memo say?" }]
const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

/** Figures are the process's: each test has a model of its own. */
let models = 0
const newModel = (): string => `seen-${++models}:1b`

const ollama = async (model: string, options: Parameters<typeof startFakeOllama>[0] = {}) => {
  const server = await startFakeOllama({ models: [model], loaded: [model], reply: ["Well", "."], ...options })
  open.push(server.stop)
  return server
}
const openai = async (model: string, options: Parameters<typeof startFakeOpenAI>[0] = {}) => {
  const server = await startFakeOpenAI({ models: [model], reply: ["Well", "."], ...options })
  open.push(server.stop)
  return server
}
const serve = async (
  servers: ReadonlyArray<FakeServer>,
  options: Gateway.Options = {},
  more: Parameters<typeof startGateway>[2] = {}
) => {
  const named = servers.map(({ url }, priority) => ({ url, priority }))
  const gateway = await startGateway(named, options, more)
  open.push(gateway.close)
  return gateway
}
const ask = async (gateway: TestGateway, model: string, body: object = {}, headers: Record<string, string> = {}) => {
  const response = await gateway.post("/v1/chat/completions", { model, messages, ...body }, { headers })
  return { response, text: await response.text() }
}
const figuresOf = async (gateway: TestGateway) => {
  const response = await gateway.get("/metrics")
  expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8")
  const text = await response.text()
  return { text, ...metrics(text) }
}

// =============================================================================
// figures
// =============================================================================

describe("metrics", () => {
  it("contain the library's measurements of every server and model, and no address", async () => {
    const model = newModel()
    const bad = await ollama(model, { faults: { kind: "status", code: 500 } })
    const good = await openai(model)
    const gateway = await serve([bad, good])
    await ask(gateway, model)
    await ask(gateway, model, { stream: true })
    await ask(gateway, model, { temperature: 9 })
    const { families, series, text, value } = await figuresOf(gateway)

    expect(value("aicortex_requests_total", { route: "/v1/chat/completions", status: "200" })).toBe(2)
    expect(value("aicortex_requests_total", { route: "/v1/chat/completions", status: "400" })).toBe(1)
    expect(value("aicortex_request_duration_seconds_count", { route: "/v1/chat/completions" })).toBe(3)
    expect(value("aicortex_time_to_first_token_seconds_count")).toBe(1)
    expect(value("aicortex_build_info")).toBe(1)

    // The first failure opens the breaker: the second request does not try that server.
    expect(value("aicortex_attempts_total", { server: "server-1", model, outcome: "failure" })).toBe(1)
    expect(series("aicortex_attempts_total", { server: "server-1", model })[0]?.labels["reason"]).toBe("server-error")
    expect(value("aicortex_attempts_total", { server: "server-2", model, outcome: "success" })).toBe(2)
    expect(value("aicortex_attempts_in_flight", { server: "server-2", model })).toBe(0)
    expect(value("aicortex_failovers_total", { model, reason: "server-error" })).toBe(1)
    expect(value("aicortex_breaker_state", { server: "server-1", model })).toBe(2)
    expect(value("aicortex_breaker_state", { server: "server-2", model })).toBe(0)
    expect(value("aicortex_breaker_transitions_total", { server: "server-1", to: "open" })).toBeGreaterThan(0)
    expect(value("aicortex_server_up", { server: "server-1" })).toBe(1)
    expect(value("aicortex_server_models", { server: "server-2" })).toBe(1)

    const shared = { server: "server-2", gen_ai_request_model: model, gen_ai_provider_name: "openai" }
    expect(value("gen_ai_client_operation_duration_seconds_count", shared)).toBe(2)
    expect(value("gen_ai_server_time_to_first_token_seconds_count", shared)).toBe(2)
    expect(value("gen_ai_client_token_usage_sum", { ...shared, gen_ai_token_type: "output" })).toBe(4)

    expect(text).not.toMatch(/127\.0\.0\.1|top secret|unit=/)
    for (const { port } of [bad, good]) expect(text).not.toContain(String(port))
    for (const { name, type } of families.values()) {
      if (type === "histogram") expect(name).toMatch(/_seconds$|^gen_ai_client_token_usage$/)
    }
  })

  it("contain addresses if allowed, with the same label everywhere", async () => {
    const model = newModel()
    const one = await ollama(model)
    const gateway = await serve([one], { exposeServers: true })
    await ask(gateway, model)
    const { series } = await figuresOf(gateway)
    const { port } = new URL(one.url)
    const [first] = series("gen_ai_server_time_to_first_token_seconds_count", { gen_ai_request_model: model })
    expect(first?.labels).toMatchObject({ server: one.url, server_address: "127.0.0.1", server_port: port })
    for (const name of ["aicortex_server_up", "aicortex_attempts_total", "aicortex_breaker_state"]) {
      expect(series(name, { server: one.url })).not.toEqual([])
    }
  })

  it("have no labels for unknown servers and models", async () => {
    const [mine, other] = [newModel(), newModel()]
    const elsewhere = await serve([await ollama(other)])
    await ask(elsewhere, other)
    const gateway = await serve([await ollama(mine)])
    await ask(gateway, mine)
    for (let i = 0; i < 5; i++) expect((await ask(gateway, `nobody-has-${i}`)).response.status).toBe(404)
    const { families, text, value } = await figuresOf(gateway)
    expect(value("aicortex_attempts_total", { model: mine })).toBe(1)
    expect(value("aicortex_attempts_total", { model: other })).toBeUndefined()
    expect(text).not.toContain("nobody-has")
    expect(families.get("aicortex_attempts_total")?.type).toBe("counter")
    expect(
      value("gen_ai_client_operation_duration_seconds_count", { error_type: "ModelNotFound" })
    ).toBeGreaterThanOrEqual(5)
  })

  it("cover queues, cached answers and embeddings", async () => {
    const model = newModel()
    const embedder = newModel()
    const one = await ollama(model, {
      perToken: 20,
      models: [model, { name: embedder, capabilities: ["embedding"] }]
    })
    const cortex = { servers: [{ url: one.url, maxInFlight: 1 }] }
    const gateway = await serve([one], {}, { cortex })
    const before = await figuresOf(gateway)
    await Promise.all([ask(gateway, model), ask(gateway, model), ask(gateway, model)])
    await ask(gateway, model, { cache: true })
    await ask(gateway, model, { cache: true })
    const embedded = await gateway.post("/v1/embeddings", { model: embedder, input: ["a", "b"] })
    expect(embedded.status, await embedded.text()).toBe(200)
    const { value } = await figuresOf(gateway)
    expect(value("aicortex_queue_wait_seconds_count", { model })).toBe(2)
    expect(value("aicortex_queue_length", { model })).toBe(0)
    const more = (name: string) => (value(name) ?? 0) - (before.value(name) ?? 0)
    expect([more("aicortex_cache_hits_total"), more("aicortex_cache_misses_total")]).toEqual([1, 1])
    const embeddings = { gen_ai_operation_name: "embeddings", gen_ai_request_model: embedder }
    expect(value("gen_ai_client_operation_duration_seconds_count", embeddings)).toBe(1)
    expect(value("gen_ai_client_token_usage_sum", { ...embeddings, gen_ai_token_type: "input" })).toBeGreaterThan(0)
    expect(value("aicortex_attempts_total", { model, outcome: "success" })).toBe(4)
    expect(value("aicortex_attempts_total", { model: embedder, outcome: "success" })).toBe(1)
  })

  it("distinguish texts and chats", async () => {
    const model = newModel()
    const gateway = await serve([await ollama(model)])
    await ask(gateway, model)
    await (await gateway.post("/v1/completions", { model, prompt: ["a", "b"] })).text()
    await (await gateway.post("/v1/completions", { model, prompt: "c", raw: false })).text()
    const { value } = await figuresOf(gateway)
    const count = (operation: string) =>
      value("gen_ai_client_operation_duration_seconds_count", {
        gen_ai_operation_name: operation,
        gen_ai_request_model: model
      })
    expect([count("text_completion"), count("chat")]).toEqual([2, 2])
  })

  it("of several processes are merged", async () => {
    const histogram = (n: number, labels = "") =>
      `# HELP h_seconds Time.\n# TYPE h_seconds histogram\n` +
      `h_seconds_bucket{${labels}le="0.5"} ${n}\nh_seconds_bucket{${labels}le="+Inf"} ${n + 1}\n` +
      `h_seconds_sum${labels === "" ? "" : `{${labels.slice(0, -1)}}`} 1.5\n` +
      `h_seconds_count${labels === "" ? "" : `{${labels.slice(0, -1)}}`} ${n + 1}\n`
    const head = (name: string, type: string) => `# HELP ${name} Words.\n# TYPE ${name} ${type}\n`
    const one =
      `${head("a_total", "counter")}a_total{x="\\"1 2\\""} 1\n${histogram(1)}` +
      `${head("aicortex_server_up", "gauge")}aicortex_server_up{server="s"} 0\n`
    const two =
      `${head("aicortex_breaker_state", "gauge")}aicortex_breaker_state{server="s"} 2\n` +
      `${head("a_total", "counter")}a_total{x="3"} 5\na_total{x="\\"1 2\\""} 2\n${histogram(2)}${histogram(4, 'm="x",').replace(/#.*\n/g, "")}` +
      `${head("aicortex_server_up", "gauge")}aicortex_server_up{server="s"} 1\n` +
      `${head("aicortex_queue_length", "gauge")}aicortex_queue_length 2\n`
    const three = `${head("aicortex_queue_length", "gauge")}aicortex_queue_length 1\n${head("aicortex_breaker_state", "gauge")}aicortex_breaker_state{server="s"} 1\n`
    const { value } = metrics(merge([one, two, three]))
    expect(value("a_total", { x: '"1 2"' })).toBe(3)
    expect(value("a_total", { x: "3" })).toBe(5)
    expect(value("h_seconds_bucket", { le: "0.5" })).toBe(1 + 2 + 4)
    expect(value("h_seconds_bucket", { le: "0.5", m: "x" })).toBe(4)
    expect(value("h_seconds_sum", { m: "x" })).toBe(1.5)
    expect(value("h_seconds_count")).toBe(2 + 3 + 5)
    // What all of them see is no sum; what each of them has is.
    expect(value("aicortex_server_up")).toBe(1)
    expect(value("aicortex_breaker_state")).toBe(2)
    expect(value("aicortex_queue_length")).toBe(3)
  })

  it("are parsed strictly by this test", () => {
    for (const bad of [
      "a_total 1\n",
      "# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total 2\n",
      "# HELP a_total A.\n# TYPE a_total counter\nb_total 2\n",
      "# HELP a A.\n# TYPE a counter\na 2\n",
      '# HELP a A.\n# TYPE a gauge\na{b="c} 2\n',
      "# HELP a A.\n# TYPE a gauge\na 2",
      '# HELP h H.\n# TYPE h histogram\nh_bucket{le="+Inf"} 2\nh_sum 1\nh_count 3\n'
    ]) {
      expect(() => parse(bad)).toThrow()
    }
  })
})

// =============================================================================
// Traces
// =============================================================================

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`
const tracestate = "vendor=abc,other=1"

/** A tracer that remembers its spans, with the ids that Effect makes. */
const remembering = () => {
  const spans: Array<Tracer.Span> = []
  let ids = 0
  const tracer = Tracer.make({
    context: (f) => f(),
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      let status: Tracer.SpanStatus = { _tag: "Started", startTime }
      const span: Tracer.Span = {
        _tag: "Span",
        name,
        spanId: (++ids).toString(16).padStart(16, "0"),
        traceId: Option.match(parent, { onNone: () => "f".repeat(32), onSome: (above) => above.traceId }),
        parent,
        context,
        get status() {
          return status
        },
        attributes,
        links,
        sampled: true,
        kind,
        attribute: (key, value) => {
          attributes.set(key, value)
        },
        event: () => {},
        addLinks: () => {},
        end: (endTime, exit) => {
          status = { _tag: "Ended", startTime, endTime, exit }
        }
      }
      spans.push(span)
      return span
    }
  })
  const parentOf = (span: Tracer.Span | undefined) =>
    span === undefined ? undefined : Option.getOrUndefined(Option.map(span.parent, ({ spanId }) => spanId))
  return {
    layer: Layer.setTracer(tracer),
    spans,
    named: (name: string) => spans.filter((s) => s.name === name),
    parentOf
  }
}

/** The gateway in an application's own server, with this tracer. */
const mounted = async (servers: ReadonlyArray<FakeServer>, tracing: Layer.Layer<never>) => {
  const scope = await Effect.runPromise(Scope.make())
  const node = createServer()
  const application = HttpRouter.empty.pipe(
    HttpRouter.mountApp("/llm", Gateway.app),
    HttpServer.serve(),
    Layer.provide(Gateway.layer()),
    Layer.provide(Cortex.layer({ servers: servers.map(({ url }) => url), configFile: false })),
    Layer.provide(NodeHttpServer.layer(() => node, { port: 0, host: "127.0.0.1" })),
    Layer.provide(tracing)
  )
  await Effect.runPromise(Layer.buildWithScope(application, scope))
  open.push(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const { port } = node.address() as AddressInfo
  return async (path: string, body: object, headers: Record<string, string> = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}/llm${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body)
    })
    return { response, text: await response.text() }
  }
}

const reportsOf = (server: FakeServer) =>
  server.requests
    .filter(({ method, path }) => method === "POST" && /chat|embed/.test(path))
    .map(({ headers }) => [headers["traceparent"], headers["tracestate"]])

describe("traces", () => {
  it.each(["openai", "ollama"] as const)("are forwarded unchanged without a tracer (%s)", async (protocol) => {
    const model = newModel()
    const one = await (protocol === "openai" ? openai(model) : ollama(model))
    const gateway = await serve([one])
    await ask(gateway, model, {}, { traceparent, tracestate })
    await ask(gateway, model, { stream: true }, { traceparent })
    await gateway.post("/v1/embeddings", { model, input: "a" }, { headers: { traceparent, tracestate } })
    const { id } = (await (await gateway.post("/v1/sessions", {})).json()) as { id: string }
    await ask(gateway, model, { session: id }, { traceparent, tracestate })
    await ask(gateway, model, { cache: true }, { traceparent, tracestate })
    expect(reportsOf(one)).toEqual([
      [traceparent, tracestate],
      [traceparent, undefined],
      [traceparent, tracestate],
      [traceparent, tracestate],
      [traceparent, tracestate]
    ])
  })

  it("that are malformed are ignored", async () => {
    const model = newModel()
    const one = await ollama(model)
    const gateway = await serve([one])
    for (const bad of [
      "nonsense",
      traceparent.toUpperCase(),
      `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
      `00-${traceId}-${"0".repeat(16)}-01`,
      `ff-${traceId}-00f067aa0ba902b7-01`,
      `${traceparent}-more`,
      `${traceparent}, ${traceparent}`
    ]) {
      expect((await ask(gateway, model, {}, { traceparent: bad, tracestate })).response.status).toBe(200)
    }
    await ask(gateway, model, {}, { tracestate })
    await ask(gateway, model, {}, { traceparent, tracestate: "x".repeat(600) })
    // Later versions are passed on whole.
    await ask(gateway, model, {}, { traceparent: traceparent.replace("00-", "01-").concat("-more") })
    expect(reportsOf(one)).toEqual([
      ...Array.from({ length: 8 }, () => [undefined, undefined]),
      [traceparent, undefined],
      [`01-${traceId}-00f067aa0ba902b7-01-more`, undefined]
    ])
  })

  it("of the caller contain the application's span, the call's and each attempt's, which servers get", async () => {
    const model = newModel()
    const bad = await ollama(model, { faults: { kind: "status", code: 500 } })
    const good = await openai(model)
    const { layer, named, parentOf, spans } = remembering()
    const post = await mounted([bad, good], layer)
    for (let i = 0; i < 6; i++) {
      expect(
        (await post("/v1/chat/completions", { model, messages }, { traceparent, tracestate })).response.status
      ).toBe(200)
    }
    const requests = named("http.server POST")
    expect(requests).toHaveLength(6)
    for (const request of requests) expect([request.traceId, parentOf(request)]).toEqual([traceId, "00f067aa0ba902b7"])
    await eventually(() => requests.every(({ status }) => status._tag === "Ended"), "the requests are over")
    expect(requests.map(({ attributes }) => attributes.get("http.response.status_code"))).toEqual(Array(6).fill(200))
    const calls = named(`chat ${model}`).filter(({ attributes }) => !attributes.has("aicortex.attempt"))
    expect(calls.map(parentOf)).toEqual(requests.map(({ spanId }) => spanId))
    const attempts = spans.filter(({ attributes }) => attributes.has("aicortex.attempt"))
    const reported = [...reportsOf(bad), ...reportsOf(good)]
    expect(attempts.length).toBe(reported.length)
    expect(new Set(reported.map(([parent]) => parent))).toEqual(
      new Set(attempts.map(({ spanId }) => `00-${traceId}-${spanId}-01`))
    )
    expect(reported.every(([, state]) => state === tracestate)).toBe(true)
    expect(attempts.every((attempt) => calls.some(({ spanId }) => parentOf(attempt) === spanId))).toBe(true)
  })

  it("contain calls in a session and embeddings, too", async () => {
    const model = newModel()
    const { layer, named, parentOf } = remembering()
    const post = await mounted([await ollama(model)], layer)
    const { id } = JSON.parse((await post("/v1/sessions", {})).text) as { id: string }
    await post("/v1/chat/completions", { model, messages, session: id, stream: true }, { traceparent })
    await post("/v1/embeddings", { model, input: "a" }, { traceparent })
    const [, request, embedding] = named("http.server POST")
    const [call, attempt] = named(`chat ${model}`)
    expect([call?.traceId, parentOf(call), parentOf(attempt)]).toEqual([traceId, request?.spanId, call?.spanId])
    expect(call?.attributes.get("gen_ai.conversation.id")).toBe(id)
    const [embed, asked] = named(`embeddings ${model}`)
    expect([parentOf(embed), parentOf(asked)]).toEqual([embedding?.spanId, embed?.spanId])
    expect(embed?.attributes.get("gen_ai.operation.name")).toBe("embeddings")
  })

  it("name text completions, also cached ones", async () => {
    const model = newModel()
    const { layer, named, parentOf } = remembering()
    const post = await mounted([await ollama(model)], layer)
    await post("/api/generate", { model, prompt: "a", raw: true, stream: false }, { traceparent })
    for (const _ of "ab") await post("/v1/completions", { model, prompt: "b", cache: true }, { traceparent })
    const [first, attempt, second, other, kept] = named(`text_completion ${model}`)
    expect([parentOf(attempt), parentOf(other)]).toEqual([first?.spanId, second?.spanId])
    expect(kept?.attributes.get("aicortex.cache")).toBe("hit")
    for (const span of [first, attempt, second, other, kept]) {
      expect(span?.attributes.get("gen_ai.operation.name")).toBe("text_completion")
    }
    expect(named(`chat ${model}`)).toEqual([])
  })

  it("of `aicortex serve` have a span for each request", async () => {
    const model = newModel()
    const { layer, named, parentOf } = remembering()
    const one = await ollama(model)
    const scope = await Effect.runPromise(Scope.make())
    open.push(() => Effect.runPromise(Scope.close(scope, Exit.void)))
    const context = await Effect.runPromise(
      Layer.buildWithScope(
        Layer.provide(
          Gateway.layer(),
          Layer.provideMerge(Cortex.layer({ servers: [one.url], configFile: false }), layer)
        ),
        scope
      )
    )
    const { handle } = Effect.runSync(Effect.provide(Gateway.Gateway, context))
    const node = createServer((request, response) => handle(request, response))
    await new Promise<void>((resolve) => node.listen(0, "127.0.0.1", resolve))
    open.push(() => new Promise((resolve) => node.close(resolve)))
    const url = `http://127.0.0.1:${(node.address() as AddressInfo).port}`
    const post = (body: object, headers: Record<string, string> = {}) =>
      fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", connection: "close", ...headers },
        body: JSON.stringify(body)
      }).then((response) => response.text())
    await post({ model, messages }, { traceparent, "x-request-id": "mine-7" })
    await post({ model, messages, temperature: 9 })
    await one.setBehaviour({ faults: { kind: "status", code: 500 } })
    await post({ model, messages })
    const [first, refused, broken] = named("http.server POST")
    expect([first?.kind, first?.traceId, parentOf(first)]).toEqual(["server", traceId, "00f067aa0ba902b7"])
    expect(Object.fromEntries(first?.attributes ?? [])).toMatchObject({
      "http.request.method": "POST",
      "http.route": "/v1/chat/completions",
      "http.response.status_code": 200,
      "aicortex.request.id": "mine-7"
    })
    expect(parentOf(named(`chat ${model}`)[0])).toBe(first?.spanId)
    expect(parentOf(refused)).toBeUndefined()
    await eventually(() => broken?.status._tag === "Ended", "the last request is over")
    const exits = [first, refused, broken].map(
      (span) => span?.status._tag === "Ended" && Exit.isSuccess(span.status.exit)
    )
    expect(exits).toEqual([true, true, false])
    expect(broken?.attributes.get("error.type")).toBe("all_servers_failed")
  })
})

describe("the library's own calls", () => {
  it("send servers the span of each attempt; without a tracer, the incoming span", async () => {
    const model = newModel()
    const one = await ollama(model)
    const { layer, spans } = remembering()
    const services = Cortex.layer({ servers: [one.url], configFile: false, model })
    const outside = Tracer.externalSpan({ traceId, spanId: "00f067aa0ba902b7", sampled: false })
    const call = Chat.text("Hi").pipe(Effect.withSpan("mine"), Effect.withParentSpan(outside))
    await Effect.runPromise(Effect.provide(call, Layer.provideMerge(services, layer)))
    await Effect.runPromise(Effect.provide(call, services))
    await Effect.runPromise(Effect.provide(Chat.text("Hi"), services))
    const attempt = spans.find(({ attributes }) => attributes.has("aicortex.attempt"))
    expect(reportsOf(one)).toEqual([
      [`00-${traceId}-${attempt?.spanId}-01`, undefined],
      [`00-${traceId}-00f067aa0ba902b7-00`, undefined],
      [undefined, undefined]
    ])
  })

  it("have tool spans below the call's, and spans made by tools below them", async () => {
    const model = newModel()
    const calls = { tokens: [], toolCalls: [{ name: "add", arguments: { a: 1 } }] }
    const one = await ollama(model, {
      models: [{ name: model, capabilities: ["completion", "tools"] }],
      reply: (_, n) => (n % 2 === 0 ? calls : "done")
    })
    const { layer, named, parentOf } = remembering()
    const services = Cortex.layer({ servers: [one.url], configFile: false, model })
    const tool = (execute: () => Effect.Effect<unknown, unknown>) => ({ name: "add", execute })
    const program = Effect.zip(
      Chat.text("Hi", { tools: [tool(() => Effect.withSpan(Effect.succeed(2), "inside"))] }),
      Effect.either(Chat.text("Hi", { tools: [tool(() => Effect.fail({ message: "secret words" }))] }))
    )
    await Effect.runPromise(Effect.provide(program, Layer.provideMerge(services, layer)))
    const roots = named(`chat ${model}`).filter(({ attributes }) => !attributes.has("aicortex.attempt"))
    const [good, bad] = named("execute_tool add")
    expect([good, bad].map(parentOf)).toEqual(roots.map(({ spanId }) => spanId))
    expect(parentOf(named("inside")[0])).toBe(good?.spanId)
    expect(good?.kind).toBe("internal")
    expect(Object.fromEntries(good?.attributes ?? [])).toMatchObject({
      "gen_ai.operation.name": "execute_tool",
      "gen_ai.tool.name": "add",
      "gen_ai.tool.call.id": expect.any(String)
    })
    expect(good?.status._tag === "Ended" && Exit.isSuccess(good.status.exit)).toBe(true)
    expect(bad?.status._tag === "Ended" && Exit.isFailure(bad.status.exit)).toBe(true)
    expect(bad?.status._tag === "Ended" && String(JSON.stringify(bad.status.exit))).not.toContain("secret words")
  })
})

// =============================================================================
// the log
// =============================================================================

describe("the log", () => {
  const logged = async (model: string, servers: ReadonlyArray<FakeServer>, options: Gateway.Options) => {
    let text = ""
    const gateway = await serve(servers, options, { accessLog: (part) => (text += part) })
    const lines = async (n: number) => {
      await eventually(() => text.split("\n").length > n, `${n} lines`)
      return text.trimEnd().split("\n")
    }
    return { gateway, lines, model, text: () => text }
  }

  it("has one JSON object per request, with all its data", async () => {
    const model = newModel()
    const key = { name: "app", key: "sk-very-secret" }
    const { gateway, lines, text } = await logged(model, [await ollama(model)], { log: "json", keys: [key] })
    const headers = { authorization: "Bearer sk-very-secret", "x-request-id": "mine-1", traceparent }
    await ask(gateway, model, { stream: true, stream_options: { include_usage: true } }, headers)
    await ask(gateway, model, { temperature: 9 }, { authorization: "Bearer sk-very-secret" })
    await ask(gateway, model, {}, { authorization: "Bearer wrong-key" })
    const [first, second, third] = (await lines(3)).map((line) => JSON.parse(line))
    expect(first).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      request_id: "mine-1",
      method: "POST",
      route: "/v1/chat/completions",
      status: 200,
      duration_ms: expect.any(Number),
      ttft_ms: expect.any(Number),
      model,
      server: "server-1",
      attempts: 1,
      stream: true,
      prompt_tokens: expect.any(Number),
      completion_tokens: 2,
      key: "app",
      trace_id: traceId
    })
    expect(second).toMatchObject({ status: 400, request_id: expect.stringMatching(/^req-/), key: "app" })
    expect(third).toMatchObject({ status: 401, error: expect.any(String) })
    expect(text()).not.toMatch(/secret|127\.0\.0\.1|wrong-key|Well/)
  })

  it("has no first token after the end of its request", async () => {
    const model = newModel()
    const { gateway, lines } = await logged(model, [await ollama(model)], { log: "json" })
    for (let i = 0; i < 60; i++) await ask(gateway, model)
    for (const line of await lines(60)) {
      const { duration_ms, ttft_ms } = JSON.parse(line)
      expect(ttft_ms).toBeLessThanOrEqual(duration_ms)
    }
  })

  it("has text without control characters, and addresses if allowed", async () => {
    const model = newModel()
    const one = await ollama(model)
    const { gateway, lines } = await logged(model, [one], { log: "text", exposeServers: true })
    await ask(gateway, model)
    await ask(gateway, "no\n\u001b[31msuch \u009b model")
    const [first, second] = await lines(2)
    expect(first).toMatch(
      /^time=\S+ request_id=req-\w+ method=POST route=\/v1\/chat\/completions status=200 duration_ms=[\d.]+ ttft_ms=[\d.]+ /
    )
    expect(first).toContain(`model=${model} server=${one.url} attempts=1 prompt_tokens=`)
    expect(second).toContain(String.raw`model="no\n\u001b[31msuch \u009b model"`)
    expect(second).toContain("error=model_not_found")
  })

  it("contains failures, disconnected clients and cached answers; off by default", async () => {
    const model = newModel()
    const one = await ollama(model, { perToken: 30, reply: "word ".repeat(50) })
    const { gateway, lines } = await logged(model, [one], { log: "json", maxRetries: 1 })
    const leaving = new AbortController()
    const response = await gateway.post(
      "/v1/chat/completions",
      { model, messages, stream: true },
      { signal: leaving.signal }
    )
    await response.body?.getReader().read()
    leaving.abort()
    expect(JSON.parse((await lines(1))[0] ?? "")).toMatchObject({ client_left: true, status: 200 })
    await one.setBehaviour({ models: [model], faults: { kind: "status", code: 500 } })
    await ask(gateway, model)
    expect(JSON.parse((await lines(2))[1] ?? "")).toMatchObject({
      status: 502,
      error: "all_servers_failed",
      attempts: 1
    })

    const cached = newModel()
    const kept = await logged(cached, [await ollama(cached)], { log: "json" })
    await ask(kept.gateway, cached, { cache: true })
    await ask(kept.gateway, cached, { cache: true })
    expect((await kept.lines(2)).map((line) => JSON.parse(line).cached)).toEqual([undefined, true])

    const silent = await logged(cached, [await ollama(cached)], {})
    await ask(silent.gateway, cached)
    await silent.gateway.close()
    expect(silent.text()).toBe("")
  })

  it("has a line also for requests that were running when the gateway ended", async () => {
    const model = newModel()
    const one = await ollama(model, { perToken: 30, reply: "word ".repeat(500) })
    const { gateway, text } = await logged(model, [one], { log: "json", drain: 0 })
    const stream = await gateway.post("/v1/completions", { model, prompt: "a", stream: true, max_tokens: 500 })
    const reader = stream.body?.getReader()
    await reader?.read()
    const whole = gateway.post("/v1/completions", { model, prompt: "b", max_tokens: 500 }).catch(() => undefined)
    const { id } = (await (await gateway.post("/v1/sessions", {})).json()) as { id: string }
    const [turn, waits] = ["one", "two"].map(() => ask(gateway, model, { session: id }).catch(() => undefined))
    // A client that does not read, and one that does not send.
    const socket = connect(gateway.port, "127.0.0.1")
    socket.on("error", () => {})
    socket.write("POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
    await eventually(() => one.chatRequests.length === 3, "all are asked")
    await eventually(
      async () => /requests_in_flight 6\n/.test(await (await gateway.get("/metrics")).text()),
      "all are in"
    )
    await gateway.close()
    const lines = text()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line || "{}").route)
      .filter((route) => route !== "/metrics" && route !== "/v1/sessions")
    const chats = "/v1/chat/completions"
    expect(lines.sort()).toEqual(["/api/chat", chats, chats, "/v1/completions", "/v1/completions"])
    await Promise.all([whole, turn, waits])
    socket.destroy()
    await reader?.cancel().catch(() => {})
  })

  it("names the key that has reached its limit, or is not allowed", async () => {
    const model = newModel()
    const keys = [{ name: "app", key: "sk-1", requestsPerMinute: 2 }]
    const { gateway, lines } = await logged(model, [await ollama(model)], { log: "json", keys })
    const headers = { authorization: "Bearer sk-1" }
    await ask(gateway, model, {}, headers)
    await (await gateway.get("/v1/models", { headers })).text()
    await ask(gateway, model, {}, headers)
    await (await gateway.post("/api/pull", { model }, { headers })).text()
    expect((await lines(4)).map((line) => JSON.parse(line)).map(({ key, status }) => [key, status])).toEqual([
      ["app", 200],
      ["app", 200],
      ["app", 429],
      ["app", 403]
    ])
  })

  it("names the answering server of a stream that first got signs of life", async () => {
    const model = newModel()
    const slow = await ollama(model, { firstToken: 150 })
    const { gateway, lines } = await logged(model, [slow], { log: "json", heartbeat: 20 })
    const { text } = await ask(gateway, model, { stream: true })
    expect(text).toMatch(/^:/)
    expect(JSON.parse((await lines(1))[0] ?? "")).toMatchObject({ server: "server-1", attempts: 1, stream: true })
  })

  it("counts an incomplete body as a client that disconnected", async () => {
    const model = newModel()
    const { gateway, lines } = await logged(model, [await ollama(model)], { log: "json" })
    const socket = connect(gateway.port, "127.0.0.1")
    socket.write("POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
    await eventually(
      async () => /requests_in_flight 2/.test(await (await gateway.get("/metrics")).text()),
      "it is being read"
    )
    socket.destroy()
    await eventually(
      async () => /requests_in_flight 1/.test(await (await gateway.get("/metrics")).text()),
      "it is over"
    )
    const line = (await lines(2)).map((line) => JSON.parse(line)).find(({ route }) => route === "/v1/completions")
    expect(line).toMatchObject({ client_left: true, status: 499 })
    expect(line).not.toHaveProperty("error")
  })

  it("has one line per request, with any content", async () => {
    const model = newModel()
    const { gateway, lines } = await logged(model, [await ollama(model)], { log: "text" })
    const evil = "a%0ab%0d%1b%5b31m%e2%80%a8"
    for (const path of [
      `/v1/${evil}`,
      `/v1/models/${evil}`,
      `/v1/sessions/${evil}`,
      `/v1/responses/${evil}`,
      `/${evil}`
    ]) {
      await (await gateway.get(path)).text()
    }
    await ask(gateway, "x\u2028y\u202e\u0085\r\nstatus=200")
    await (await gateway.post("/v1/completions", "{", {})).text()
    const all = await lines(7)
    expect(all).toHaveLength(7)
    for (const line of all) {
      expect(line).toMatch(/^time=\S+ request_id=req-\w+ method=(GET|POST) route=\S+ status=4\d\d duration_ms=/)
      expect(line).toMatch(/^[\x20-\x7e]+$/)
    }
  })
})

describe("a request's id", () => {
  it("is the client's if valid, and is returned with errors", async () => {
    const model = newModel()
    const gateway = await serve([await ollama(model, { faults: { kind: "cut", after: 1 } })])
    const idOf = async (given: string) => {
      const { response, text } = await ask(gateway, model, { temperature: 9 }, { "x-request-id": given })
      const named = response.headers.get("x-request-id")
      expect(JSON.parse(text).error.request_id).toBe(named)
      return named
    }
    const longest = "a".repeat(128)
    expect(await idOf(longest)).toBe(longest)
    expect(await idOf("01J:x_y.z-1")).toBe("01J:x_y.z-1")
    for (const bad of [`${longest}a`, "two words", 'quo"te', "a,b", "<a>"]) expect(await idOf(bad)).toMatch(/^req-\w+$/)
    const ollama404 = await gateway.post(
      "/api/chat",
      { model: "nope", messages },
      { headers: { "x-request-id": "o-1" } }
    )
    expect(await ollama404.json()).toEqual({ error: expect.any(String), request_id: "o-1" })
    const broken = await ask(gateway, model, { stream: true }, { "x-request-id": "s-1" })
    expect(JSON.parse(broken.text.trimEnd().split("data: ").at(-1) ?? "").error).toMatchObject({
      code: "stream_interrupted",
      request_id: "s-1"
    })
  })
})
