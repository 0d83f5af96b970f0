import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as MetricState from "effect/MetricState"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import type { FakeOllamaOptions } from "../support/fakeServer.js"
import { eventsOf, type Fake, failure, inOrder, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const question = "What did the top secret memo say?"
const words = ["one", " two", " three", " four"]
const whole = words.join("")

/** Metrics are the process's: each test has a model of its own. */
let models = 0
const newModel = (): string => `telemetry-${++models}:1b`

// =============================================================================
// spans
// =============================================================================

interface Made {
  readonly name: string
  readonly kind: string
  readonly id: string
  readonly parent: string | undefined
  readonly attributes: Record<string, unknown>
  readonly events: Array<string>
  exit: Exit.Exit<unknown, unknown> | undefined
  begins: bigint
  ends: bigint
}

/** A tracer that remembers what it was asked for. */
const remembering = () => {
  const spans: Array<Made> = []
  const tracer = Tracer.make({
    context: (f) => f(),
    span: (name, parent, context, links, startTime, kind) => {
      const id = `span-${spans.length}`
      const made: Made = {
        name,
        kind,
        id,
        parent: Option.getOrUndefined(Option.map(parent, ({ spanId }) => spanId)),
        attributes: {},
        events: [],
        exit: undefined,
        begins: startTime,
        ends: 0n
      }
      spans.push(made)
      let status: Tracer.SpanStatus = { _tag: "Started", startTime }
      return {
        _tag: "Span",
        name,
        spanId: id,
        traceId: "trace",
        parent,
        context,
        get status() {
          return status
        },
        attributes: new Map(),
        links,
        sampled: true,
        kind,
        attribute: (key, value) => {
          made.attributes[key] = value
        },
        event: (event) => {
          made.events.push(event)
        },
        addLinks: () => {},
        end: (endTime, exit) => {
          if (made.exit !== undefined) throw new Error(`'${name}' has ended twice`)
          made.exit = exit
          made.ends = endTime
          status = { _tag: "Ended", startTime, endTime, exit }
        }
      }
    }
  })
  const isOurs = ({ attributes }: Made) => attributes["gen_ai.operation.name"] === "chat"
  return {
    layer: Layer.setTracer(tracer),
    all: spans,
    calls: () => spans.filter((span) => isOurs(span) && !("aicortex.attempt" in span.attributes)),
    attempts: () => spans.filter((span) => isOurs(span) && "aicortex.attempt" in span.attributes)
  }
}

const isInterrupted = (span: Made | undefined): boolean =>
  span?.exit !== undefined && Exit.isFailure(span.exit) && Cause.isInterruptedOnly(span.exit.cause)
const isFailed = (span: Made | undefined): boolean =>
  span?.exit !== undefined && Exit.isFailure(span.exit) && !Cause.isInterruptedOnly(span.exit.cause)
const isOk = (span: Made | undefined): boolean => span?.exit !== undefined && Exit.isSuccess(span.exit)

// =============================================================================
// metrics
// =============================================================================

type Labels = Record<string, string>

/** The value of a metric for a model: of a histogram, how many were seen, and their sum. */
const read = (name: string, model: string, labels: Labels = {}) => {
  let count = 0
  let sum = 0
  for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
    if (metricKey.name !== name) continue
    const own: Labels = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
    if ((own["model"] ?? own["gen_ai.request.model"]) !== model) continue
    if (Object.entries(labels).some(([key, value]) => own[key] !== value)) continue
    if (MetricState.isHistogramState(metricState)) {
      count += metricState.count
      sum += metricState.sum
    } else if (MetricState.isCounterState(metricState)) count += Number(metricState.count)
    else if (MetricState.isGaugeState(metricState)) count += Number(metricState.value)
  }
  return { count, sum }
}

const withLabel = (name: string, label: string, value: string): number => {
  let count = 0
  for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
    if (metricKey.name !== name || !metricKey.tags.some((tag) => tag.key === label && tag.value === value)) continue
    if (MetricState.isCounterState(metricState)) count += Number(metricState.count)
    else if (MetricState.isHistogramState(metricState)) count += metricState.count
  }
  return count
}

const hostOf = ({ url }: Fake): string => new URL(url).host
const begin = (model: string, options: FakeOllamaOptions = {}): Promise<Fake> =>
  fleet.ollama({ reply: words, models: [model], loaded: [model], ...options })

/** The services over these servers, with this tracer, for one program. */
const provide = (servers: ReadonlyArray<Fake>, model: string, tracing: Layer.Layer<never> = Layer.empty) => {
  const services = Cortex.layer({ servers: inOrder(...servers), configFile: false, model })
  return <A, E>(effect: Effect.Effect<A, E, Cortex.Services>) =>
    Effect.runPromise(Effect.provide(effect, Layer.provideMerge(services, tracing)))
}

describe("a call that succeeds", () => {
  it("is a span below the caller's, with one attempt below it, and counts once", async () => {
    const model = newModel()
    const server = await begin(model)
    const traced = remembering()
    const options = { temperature: 0.25, topP: 0.5, maxTokens: 9, seed: 7, stop: "halt", topK: 3 }
    const call = Effect.withSpan(Chat.text(question, options), "caller")
    expect(await provide([server], model, traced.layer)(call)).toBe(whole)

    const caller = traced.all.find(({ name }) => name === "caller")
    const [span] = traced.calls()
    expect(traced.calls()).toHaveLength(1)
    expect(span).toMatchObject({ name: `chat ${model}`, kind: "client", parent: caller?.id })
    expect(isOk(span)).toBe(true)
    expect(span?.attributes).toEqual({
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "ollama",
      "gen_ai.request.model": model,
      "gen_ai.request.temperature": 0.25,
      "gen_ai.request.top_p": 0.5,
      "gen_ai.request.top_k": 3,
      "gen_ai.request.max_tokens": 9,
      "gen_ai.request.seed": 7,
      "gen_ai.request.stop_sequences": ["halt"],
      "gen_ai.response.model": model,
      "gen_ai.response.finish_reasons": ["stop"],
      "gen_ai.usage.input_tokens": expect.any(Number),
      "gen_ai.usage.output_tokens": words.length,
      "server.address": "127.0.0.1",
      "server.port": server.port,
      "aicortex.attempts": 1,
      "aicortex.decision.asked": model,
      "aicortex.decision.reason": "the only server that may be asked",
      "aicortex.decision.candidates": [`${model} at 127.0.0.1:${server.port}`]
    })
    const [attempt] = traced.attempts()
    expect(traced.attempts()).toHaveLength(1)
    expect(attempt).toMatchObject({ name: `chat ${model}`, kind: "client", parent: span?.id })
    expect(isOk(attempt)).toBe(true)
    expect(attempt?.attributes).toEqual({
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "ollama",
      "gen_ai.request.model": model,
      "server.address": "127.0.0.1",
      "server.port": server.port,
      "aicortex.attempt": 1,
      "aicortex.outcome": "success"
    })

    const where = {
      "server.address": "127.0.0.1",
      "server.port": String(server.port),
      "gen_ai.provider.name": "ollama"
    }
    expect(read("gen_ai.client.operation.duration", model, { ...where, unit: "s" }).count).toBe(1)
    const input = span?.attributes["gen_ai.usage.input_tokens"]
    expect(read("gen_ai.client.token.usage", model, { ...where, "gen_ai.token.type": "input" }).sum).toBe(input)
    expect(read("gen_ai.client.token.usage", model, { ...where, "gen_ai.token.type": "output" }).sum).toBe(words.length)
    expect(read("gen_ai.server.time_to_first_token", model, where).count).toBe(1)
    expect(read("aicortex_attempts_total", model)).toEqual({ count: 1, sum: 0 })
    expect(read("aicortex_attempts_total", model, { outcome: "success", server: hostOf(server) }).count).toBe(1)
    expect(read("aicortex_attempts_in_flight", model).count).toBe(0)
    expect(read("aicortex_failovers_total", model).count).toBe(0)
  })

  it("has the time to first token if its events were read, and no text anywhere", async () => {
    const model = newModel()
    const server = await begin(model)
    const traced = remembering()
    const events = await provide([server], model, traced.layer)(Stream.runCollect(Chat.stream(question)))
    expect(textOf([...events])).toBe(whole)
    expect(traced.calls()[0]?.attributes["gen_ai.response.time_to_first_chunk"]).toBeGreaterThanOrEqual(0)
    const reported = JSON.stringify(
      [traced.all, Metric.unsafeSnapshot().map(({ metricKey }) => metricKey.tags)],
      (_, value) => (typeof value === "bigint" ? String(value) : value)
    )
    expect(reported).toContain(model)
    for (const text of ["secret", "three"]) expect(reported).not.toContain(text)
  })

  it("makes no span without a tracer, or with tracing off", async () => {
    const model = newModel()
    const server = await begin(model)
    const traced = remembering()
    const run = provide([server], model, traced.layer)
    expect(await run(Effect.withTracerEnabled(Chat.text(question), false))).toBe(whole)
    expect(traced.all).toHaveLength(0)
    expect(await provide([server], model)(Effect.withSpan(Chat.text(question), "caller"))).toBe(whole)
    expect(read("gen_ai.client.operation.duration", model).count).toBe(2)
  })

  it("in a session has the conversation's id, and measures the wait for its turn", async () => {
    const model = newModel()
    const server = await begin(model)
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    const session = await cortex.Session.create()
    await Promise.all([cortex.chat(question, { session }), cortex.chat(question, { session })])
    const calls = traced.calls()
    expect(calls.map(({ attributes }) => attributes["gen_ai.conversation.id"])).toEqual([session.id, session.id])
    expect((calls[1]?.begins ?? 0n) < (calls[0]?.ends ?? 0n)).toBe(true)
  })
})

describe("the Promise face", () => {
  it("makes spans with the given tracer, and still counts without one", async () => {
    const model = newModel()
    const server = await begin(model)
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    expect(await cortex.chat(question)).toBe(whole)
    // The servers are known by now: this one needs no fiber.
    expect(textOf(await eventsOf(await cortex.chat(question, { stream: true })))).toBe(whole)
    expect(traced.calls()).toHaveLength(2)
    expect(traced.calls().every((span) => isOk(span) && span.parent === undefined)).toBe(true)
    const parents = traced.attempts().map(({ parent }) => parent)
    expect(parents).toEqual(traced.calls().map(({ id }) => id))

    expect(await fleet.cortex([server], { model }).chat(question)).toBe(whole)
    expect(traced.calls()).toHaveLength(2)
    expect(read("gen_ai.client.operation.duration", model).count).toBe(3)
  })

  it("counts one call for all rounds with tools", async () => {
    const model = newModel()
    const calls = { tokens: [], toolCalls: [{ name: "add", arguments: { a: 1 } }] }
    const server = await begin(model, {
      models: [{ name: model, capabilities: ["completion", "tools"] }],
      reply: (_, n) => (n === 0 ? calls : "done")
    })
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    const tool = { name: "add", parameters: { type: "object" }, execute: () => 2 }
    const result = await cortex.complete(question, { tools: [tool] })
    expect(traced.calls()).toHaveLength(1)
    expect(traced.attempts().map(({ attributes }) => attributes["aicortex.attempt"])).toEqual([1, 2])
    const [span] = traced.calls()
    expect(span?.attributes["gen_ai.usage.input_tokens"]).toBe(result.usage.promptTokens)
    expect(read("gen_ai.client.operation.duration", model).count).toBe(1)
    expect(read("gen_ai.client.token.usage", model, { "gen_ai.token.type": "input" })).toEqual({
      count: 2,
      sum: result.usage.promptTokens
    })
  })
})

describe("failover", () => {
  it("has two attempts: the first with the kind of its error, without the server's message", async () => {
    const model = newModel()
    const message = `cannot read '${question}'`
    const bad = await begin(model)
    const good = await begin(model)
    const traced = remembering()
    const call = Effect.zipRight(
      Effect.promise(() => bad.setBehaviour({ faults: { kind: "status", code: 500, body: { error: message } } })),
      Chat.complete(question)
    )
    const result = await provide([bad, good], model, traced.layer)(call)
    expect(result.server).toBe(good.url)

    const [span] = traced.calls()
    expect(isOk(span)).toBe(true)
    expect(span?.attributes).toMatchObject({ "aicortex.attempts": 2, "server.port": good.port })
    const [first, second] = traced.attempts()
    expect(isFailed(first)).toBe(true)
    expect(first?.attributes).toMatchObject({
      "error.type": "server-error",
      "http.response.status_code": 500,
      "server.port": bad.port,
      "aicortex.attempt": 1
    })
    expect(isOk(second)).toBe(true)
    expect(second?.attributes).toMatchObject({ "server.port": good.port, "aicortex.attempt": 2 })
    expect(JSON.stringify(traced.all.map(({ attributes, exit }) => [attributes, exit]))).not.toContain("memo")

    expect(read("aicortex_attempts_total", model, { outcome: "failure", reason: "server-error" }).count).toBe(1)
    expect(read("aicortex_attempts_total", model, { outcome: "success" }).count).toBe(1)
    expect(read("aicortex_failovers_total", model, { reason: "server-error" }).count).toBe(1)
    expect(read("aicortex_attempts_in_flight", model).count).toBe(0)
    expect(withLabel("aicortex_breaker_transitions_total", "server", hostOf(bad))).toBe(1)
    expect(withLabel("aicortex_breaker_transitions_total", "server", hostOf(good))).toBe(0)
  })

  it("a call that every server fails ends with the kind of its error, in its span and in its duration", async () => {
    const model = newModel()
    const bad = await begin(model)
    const traced = remembering()
    const cortex = fleet.cortex([bad], { model, tracing: traced.layer })
    await cortex.listServers()
    await bad.setBehaviour({ faults: { kind: "status", code: 500 } })
    expect((await failure(cortex.chat(question)))._tag).toBe("AllServersFailed")
    expect(isFailed(traced.calls()[0])).toBe(true)
    expect(traced.calls()[0]?.attributes["error.type"]).toBe("AllServersFailed")
    expect(read("gen_ai.client.operation.duration", model, { "error.type": "AllServersFailed" }).count).toBe(1)
    expect(read("gen_ai.client.operation.duration", model).count).toBe(1)
  })

  it("a call for an unknown model is a span with its error, and its name is in no metric", async () => {
    const model = newModel()
    const unknown = newModel()
    const server = await begin(model)
    const traced = remembering()
    const before = withLabel("gen_ai.client.operation.duration", "error.type", "ModelNotFound")
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    expect((await failure(cortex.chat(question, { model: unknown })))._tag).toBe("ModelNotFound")
    expect(traced.calls().map(({ attributes }) => attributes["error.type"])).toEqual(["ModelNotFound"])
    expect(traced.attempts()).toHaveLength(0)
    expect(withLabel("gen_ai.client.operation.duration", "error.type", "ModelNotFound")).toBe(before + 1)
    expect(read("gen_ai.client.operation.duration", unknown).count).toBe(0)
  })

  it("a breaker that opens, is tried and closes is counted at each step", async () => {
    const model = newModel()
    const server = await begin(model)
    const cortex = fleet.cortex([server], { model, serverCooldown: 1 })
    await cortex.listServers()
    await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    await failure(cortex.chat(question, { maxRetries: 1 }))
    await server.setBehaviour({ faults: undefined })
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await cortex.chat(question)).toBe(whole)
    const steps: Record<string, number> = {}
    for (const { metricKey, metricState } of Metric.unsafeSnapshot()) {
      if (metricKey.name !== "aicortex_breaker_transitions_total") continue
      const tags = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
      if (tags["server"] !== hostOf(server) || !MetricState.isCounterState(metricState)) continue
      steps[String(tags["to"])] = Number(metricState.count)
    }
    expect(steps).toEqual({ open: 1, "half-open": 1, closed: 1 })
  })
})

describe("an interrupted stream", () => {
  const cut = { kind: "cut", after: 2 } as const

  const resumed = async (options: FakeOllamaOptions, onInterrupt: "resume" | "restart") => {
    const model = newModel()
    const broken = await begin(model, options)
    const next = await begin(model, options)
    const traced = remembering()
    const cortex = fleet.cortex(inOrder(broken, next), { model, tracing: traced.layer })
    await cortex.listServers()
    await broken.setBehaviour({ faults: cut })
    const stream = await cortex.chat(question, { stream: true, onInterrupt })
    await eventsOf(stream)
    return { model, next, traced }
  }

  it.each([
    ["continued", {}, "resume"],
    ["echoed", { debugRender: false, continuation: "echo" }, "resume"],
    ["restarted", { debugRender: false, continuation: "restart" }, "resume"],
    ["discarded", {}, "restart"]
  ] as const)("and was %s says so", async (how, options, onInterrupt) => {
    const { model, next, traced } = await resumed(options, onInterrupt)
    const [first, second] = traced.attempts()
    expect(traced.calls()).toHaveLength(1)
    expect(isOk(traced.calls()[0])).toBe(true)
    expect(first?.attributes["error.type"]).toBe("cut")
    expect(second?.attributes["aicortex.resumed"]).toBe(how)
    expect(read("aicortex_resumes_total", model, { how, server: hostOf(next) }).count).toBe(1)
    expect(read("aicortex_resumes_total", model).count).toBe(1)
  })
})

describe("slots", () => {
  it("waiting, refused and aborted calls are counted", async () => {
    const model = newModel()
    const server = await begin(model, { faults: { kind: "hang" } })
    const traced = remembering()
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 1 }], { model, tracing: traced.layer })
    const first = failure(cortex.chat(question))
    await server.waitForChats(1)
    expect(read("aicortex_attempts_in_flight", model, { server: hostOf(server) }).count).toBe(1)
    const calls = Array.from({ length: 513 }, () => failure(cortex.chat(question)))
    expect((await Promise.race(calls))._tag).toBe("Overloaded")
    expect(read("aicortex_queue_length", model).count).toBe(512)
    expect(read("aicortex_overloaded_total", model).count).toBe(1)
    const refused = traced.calls().filter(({ attributes }) => attributes["error.type"] === "Overloaded")
    expect(refused).toHaveLength(1)
    expect(refused[0]?.attributes["aicortex.attempts"]).toBe(0)

    await cortex.close()
    await Promise.all([first, ...calls])
    expect(read("aicortex_queue_length", model).count).toBe(0)
    expect(read("aicortex_queue_wait_seconds", model).count).toBe(512)
    expect(read("aicortex_attempts_in_flight", model).count).toBe(0)
    expect(traced.all.every(({ exit }) => exit !== undefined)).toBe(true)
  })

  it("a call that waited has a span that says so", async () => {
    const model = newModel()
    const server = await begin(model, { firstToken: 20 })
    const traced = remembering()
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 1 }], { model, tracing: traced.layer })
    await cortex.listServers()
    await Promise.all([cortex.chat(question), cortex.chat(question)])
    const waited = traced.calls().map(({ events }) => events)
    expect(waited).toEqual([[], ["aicortex.queued", "aicortex.dequeued"]])
    expect(read("aicortex_queue_wait_seconds", model).count).toBe(1)
  })

  it("a load counts once for all waiting calls", async () => {
    const model = newModel()
    const server = await begin(model, { loaded: [], loadDelay: 50 })
    const cortex = fleet.cortex([server], { model })
    await cortex.listServers()
    await Promise.all(Array.from({ length: 3 }, () => cortex.chat(question)))
    expect(await cortex.chat(question)).toBe(whole)
    expect(read("aicortex_model_loads_total", model, { server: hostOf(server) }).count).toBe(1)
  })
})

describe("hedging", () => {
  it("has two concurrent attempts: one that wins, and one that is overtaken", async () => {
    const model = newModel()
    const late = await begin(model)
    const quick = await begin(model)
    const traced = remembering()
    const cortex = fleet.cortex(inOrder(late, quick), { model, tracing: traced.layer })
    await expect.poll(async () => (await cortex.listModelServers(model)).length).toBe(2)
    // One call of twenty may have a second request.
    for (let i = 0; i < 20; i++) await cortex.chat(question, { hedge: { after: 60_000 } })
    await late.setBehaviour({ faults: { kind: "hang" } })
    const { server } = await cortex.complete(question, { hedge: { after: 10 } })
    expect(server).toBe(quick.url)

    expect(traced.calls()).toHaveLength(21)
    expect(isOk(traced.calls()[20])).toBe(true)
    expect(traced.calls()[20]?.attributes).toMatchObject({ "server.port": quick.port, "aicortex.attempts": 2 })
    const [first, second] = traced.attempts().slice(20)
    expect(isInterrupted(first)).toBe(true)
    expect(first?.attributes["aicortex.outcome"]).toBe("overtaken")
    expect(isOk(second)).toBe(true)
    expect(second?.attributes["aicortex.hedge"]).toBe(true)
    expect(read("aicortex_hedges_total", model)).toEqual({ count: 1, sum: 0 })
    expect(read("aicortex_hedges_total", model, { server: hostOf(quick), outcome: "success" }).count).toBe(1)
    expect(read("aicortex_attempts_total", model, { server: hostOf(late), outcome: "overtaken" }).count).toBe(1)
    expect(read("aicortex_attempts_in_flight", model).count).toBe(0)
    expect(read("aicortex_failovers_total", model).count).toBe(0)
  })
})

describe("active probes", () => {
  it("are counted by whether the server was reached", async () => {
    const model = newModel()
    const server = await begin(model)
    const layer = Cortex.layer({ servers: [server.url], configFile: false, model, probeInterval: 1_000 })
    const probes = () => withLabel("aicortex_probes_total", "server", hostOf(server))
    const program = Effect.promise(() => expect.poll(probes, { timeout: 20_000, interval: 20 }).toBeGreaterThan(0))
    await Effect.runPromise(Effect.provide(program, layer))
    expect(withLabel("aicortex_probes_total", "outcome", "reached")).toBe(probes())
    expect(read("aicortex_attempts_total", model).count).toBe(0)
  })
})

describe("an aborted call", () => {
  it("ends as interrupted, with its attempt, when its fiber is", async () => {
    const model = newModel()
    const server = await begin(model, { faults: { kind: "hang" } })
    const traced = remembering()
    const program = Effect.gen(function* () {
      const fiber = yield* Effect.fork(Chat.text(question))
      yield* Effect.promise(() => server.waitForChats(1))
      yield* Fiber.interrupt(fiber)
    })
    await provide([server], model, traced.layer)(program)
    expect(isInterrupted(traced.calls()[0])).toBe(true)
    expect(isInterrupted(traced.attempts()[0])).toBe(true)
    expect(read("gen_ai.client.operation.duration", model, { "error.type": "cancelled" }).count).toBe(1)
    expect(read("aicortex_attempts_total", model, { outcome: "cancelled" }).count).toBe(1)
  })

  it("also when its signal aborts, or its reader stops", async () => {
    const model = newModel()
    const server = await begin(model, { faults: { kind: "hang" } })
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    const left = new AbortController()
    const leaving = failure(cortex.chat(question, { signal: left.signal }))
    await server.waitForChats(1)
    left.abort(new Error("gone"))
    expect((await leaving).message).toBe("gone")
    await server.setBehaviour({ faults: undefined })
    for await (const event of await cortex.chat(question, { stream: true })) if (event.type === "token") break
    expect(traced.calls()).toHaveLength(2)
    expect(traced.all.every(isInterrupted)).toBe(true)
    expect(read("aicortex_attempts_total", model, { outcome: "cancelled" }).count).toBe(2)
  })

  it("past its deadline ends with DeadlineExceeded", async () => {
    const model = newModel()
    const server = await begin(model, { faults: { kind: "hang" } })
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    expect((await failure(cortex.chat(question, { deadline: 100 })))._tag).toBe("DeadlineExceeded")
    expect(traced.calls()[0]?.attributes["error.type"]).toBe("DeadlineExceeded")
    expect(traced.attempts()[0]?.attributes["error.type"]).toBe("deadline")
    expect(read("aicortex_attempts_total", model, { outcome: "failure", reason: "deadline" }).count).toBe(1)
  })
})

describe("cached answers", () => {
  it("have a span of their own kind, without attempts and duration", async () => {
    const model = newModel()
    const server = await begin(model)
    const traced = remembering()
    const cache = true
    const call = Effect.withSpan(Chat.text(question, { cache }), "caller")
    const program = Effect.zip(call, Effect.withSpan(Chat.text(question, { cache }), "again"))
    expect(await provide([server], model, traced.layer)(program)).toEqual([whole, whole])
    expect(server.chatRequests).toHaveLength(1)
    const [sent, cached] = traced.calls()
    expect(traced.calls()).toHaveLength(2)
    expect(traced.attempts().map(({ parent }) => parent)).toEqual([sent?.id])
    expect(cached).toMatchObject({
      name: `chat ${model}`,
      kind: "internal",
      parent: traced.all.find(({ name }) => name === "again")?.id,
      attributes: { "aicortex.cache": "hit", "gen_ai.response.model": model }
    })
    expect(isOk(cached)).toBe(true)
    expect(cached?.attributes).not.toHaveProperty("gen_ai.usage.output_tokens")
    expect(read("gen_ai.client.operation.duration", model).count).toBe(1)
  })

  it("that are shared appear in the trace of each caller, also of one that aborts", async () => {
    const model = newModel()
    const server = await begin(model, { perToken: 50 })
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    const leaving = new AbortController()
    const options = { cache: true } as const
    const first = cortex.chat(question, options)
    const second = cortex.chat(question, options)
    const third = cortex.chat(question, { ...options, signal: leaving.signal }).catch(() => "left")
    while (traced.calls().length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
    leaving.abort()
    expect(await Promise.all([first, second, third])).toEqual([whole, whole, "left"])
    expect(server.chatRequests).toHaveLength(1)
    expect(traced.calls().map(({ attributes }) => attributes["aicortex.cache"])).toEqual([
      undefined,
      "shared",
      "shared"
    ])
    expect(traced.calls().map((span) => [isOk(span), isInterrupted(span)])).toEqual([
      [true, false],
      [true, false],
      [false, true]
    ])
  })

  it("a cached call without servers is a span with its error", async () => {
    const server = await begin(newModel())
    const model = newModel()
    const traced = remembering()
    const cortex = fleet.cortex([server], { model, tracing: traced.layer })
    expect((await failure(cortex.chat(question, { cache: true })))._tag).toBe("ModelNotFound")
    expect(traced.calls().map(({ attributes }) => attributes["error.type"])).toEqual(["ModelNotFound"])
  })
})

it("a server's password is in no label and no attribute", async () => {
  const model = newModel()
  const server = await begin(model)
  const traced = remembering()
  const url = server.url.replace("http://", "http://somebody:hunter2@")
  const cortex = fleet.cortex([{ url }], { model, tracing: traced.layer })
  expect(await cortex.chat(question)).toBe(whole)
  const tags = Metric.unsafeSnapshot().map(({ metricKey }) => metricKey.tags)
  const reported = JSON.stringify([tags, traced.all.map(({ attributes, name }) => [name, attributes])])
  expect(reported).toContain(String(server.port))
  for (const secret of ["hunter2", "somebody"]) expect(reported).not.toContain(secret)
})
