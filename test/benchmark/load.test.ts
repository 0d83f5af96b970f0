/** A server under load: when requests are sent, what they ask, and what is reported of their answers. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { afterEach, describe, expect, it } from "vitest"
import * as Benchmark from "../../src/Benchmark.js"
import { arrivals } from "../../src/benchmark/load/arrivals.js"
import * as Cortex from "../../src/Cortex.js"
import type * as Errors from "../../src/Errors.js"
import { type LoadedServer, type Service, startLoadedServer } from "../support/loadedServer.js"
import { unusedPort } from "../support/ports.js"

const open = new Set<LoadedServer>()
afterEach(async () => {
  for (const server of open) await server[Symbol.asyncDispose]()
  open.clear()
})
const start = async (service: (number: number) => Service): Promise<LoadedServer> => {
  const server = await startLoadedServer(service)
  open.add(server)
  return server
}

type Given = Partial<Benchmark.LoadOptions>

const layer = (settings: Cortex.Options = {}) =>
  Cortex.layer({ servers: [], configFile: false, stateFile: false, ...settings })

const all: Given = { model: "m", warmup: 0, cooldown: 0, promptTokens: 20, outputTokens: 8 }

const load = (
  server: LoadedServer | string,
  options: Given,
  settings?: Cortex.Options
): Promise<Benchmark.LoadReport> =>
  Effect.runPromise(
    Effect.provide(
      Benchmark.load({
        ...all,
        server: typeof server === "string" ? server : server.url,
        ...options
      } as Benchmark.LoadOptions),
      layer(settings)
    )
  )

const only = ({ steps }: Benchmark.LoadReport): Benchmark.LoadStep => {
  expect(steps).toHaveLength(1)
  return steps[0] as Benchmark.LoadStep
}

describe("arrivals", () => {
  const times = (kind: "constant" | "poisson", rate: number, seed: number, count: number) => {
    const next = arrivals(kind, rate, seed)
    return Array.from({ length: count }, next)
  }
  const gapsOf = (at: ReadonlyArray<number>) => at.slice(1).map((time, i) => time - (at[i] ?? 0))
  const meanOf = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0) / values.length

  /** Kolmogorov-Smirnov: the greatest distance to the exponential distribution of this mean, times the root of the count. */
  const distance = (gaps: ReadonlyArray<number>, mean: number): number => {
    const sorted = [...gaps].sort((a, b) => a - b)
    const n = sorted.length
    let most = 0
    sorted.forEach((gap, i) => {
      const expected = 1 - Math.exp(-gap / mean)
      most = Math.max(most, Math.abs((i + 1) / n - expected), Math.abs(i / n - expected))
    })
    return most * Math.sqrt(n)
  }

  it.each([1, 7, 42, 1_234_567, -3])("of Poisson's process are independent and exponential (seed %i)", (seed) => {
    for (const rate of [0.5, 5, 250]) {
      const gaps = gapsOf(times("poisson", rate, seed, 20_001))
      const mean = 1_000 / rate
      // Four standard errors of the mean.
      expect(Math.abs(meanOf(gaps) / mean - 1)).toBeLessThan(4 / Math.sqrt(20_000))
      // Exceeded by one in a thousand.
      expect(distance(gaps, mean)).toBeLessThan(1.95)
      const pairs = gaps.slice(1).map((gap, i) => (gap / mean - 1) * ((gaps[i] ?? 0) / mean - 1))
      expect(Math.abs(meanOf(pairs))).toBeLessThan(4 / Math.sqrt(20_000))
    }
  })

  it("at a constant rate are not: they are at equal distances", () => {
    const gaps = gapsOf(times("constant", 50, 42, 1_000))
    for (const gap of gaps) expect(gap).toBeCloseTo(20, 6)
    expect(distance(gaps, 20)).toBeGreaterThan(10)
  })

  it("are the same for the same seed, and others for another one", () => {
    expect(times("poisson", 5, 1, 100)).toEqual(times("poisson", 5, 1, 100))
    expect(times("poisson", 5, 1, 100)).not.toEqual(times("poisson", 5, 2, 100))
  })
})

describe("goodput", () => {
  const limits = [
    ["ttft", { first: 2_000 }],
    ["latency", { gap: 900 }],
    ["itl", { gap: 900 }],
    ["tpot", { gap: 900 }]
  ] as const

  it.each(limits)("counts the requests that keep the limit of %s: every third one does not", async (limit, slow) => {
    const server = await start((number) => (number % 3 === 0 ? slow : {}))
    const found = only(
      await load(server, { profile: "concurrent", concurrency: 10, requests: 30, slo: { [limit]: 800 } })
    )
    expect(found.requests).toEqual({ sent: 30, excluded: 0, succeeded: 30, failed: 0, cancelled: 0 })
    expect(found.goodput?.requests).toBe(20)
    expect(found.goodput?.attainment).toBeCloseTo(2 / 3, 6)
    expect(found.goodput?.requestsPerSecond).toBeCloseTo((20 * 1_000) / found.window, 6)
    expect(found.goodput?.outputTokensPerSecond).toBeCloseTo((20 * 4 * 1_000) / found.window, 6)
  })

  it("counts failed and cancelled requests as not good, and leaves them out of the latencies", async () => {
    const server = await start((number) =>
      number % 3 === 0 ? { status: 500 } : number % 3 === 1 ? { first: Number.POSITIVE_INFINITY } : {}
    )
    const found = only(
      await load(server, {
        profile: "concurrent",
        concurrency: 30,
        requests: 30,
        drainTime: 3_000,
        slo: { ttft: 30_000 }
      })
    )
    expect(found.requests).toEqual({ sent: 30, excluded: 0, succeeded: 10, failed: 10, cancelled: 10 })
    expect(found.goodput?.attainment).toBeCloseTo(1 / 3, 6)
    expect(found.latency.count).toBe(10)
    expect(found.ttft.count).toBe(10)
    expect(found.failures).toEqual([{ message: expect.stringContaining("status 500 as planned"), count: 10 }])
    expect(found.notes.join()).toMatch(/10 requests had no complete answer/)
    await expect.poll(server.left).toBe(10)
  })

  it("is absent without limits", async () => {
    const found = only(await load(await start(() => ({})), { profile: "synchronous", requests: 3 }))
    expect(found.goodput).toBeUndefined()
  })
})

describe("latencies", () => {
  it("match the server's", async () => {
    const server = await start(() => ({ first: 150, gap: 100, tokens: 5 }))
    const found = only(await load(server, { profile: "synchronous", requests: 4 }))
    // Timers of a busy machine are late, never early (by more than their resolution).
    for (const [value, least] of [
      [found.ttft.p50, 150],
      [found.itl.p50, 100],
      [found.tpot.p50, 100],
      [found.latency.p50, 550]
    ] as const) {
      expect(value).toBeGreaterThan(least - 10)
      expect(value).toBeLessThan(least * 2 + 100)
    }
    expect(found.itl.count).toBe(16)
    expect(found.outputTokens).toMatchObject({ min: 5, max: 5, p99: 5 })
    expect(found.promptTokens).toMatchObject({ min: 300, max: 300 })
    expect(found.counts).toEqual({ server: 4, estimated: 0 })
  })

  it("exclude warm-up and cool-down", async () => {
    // The first ones load something.
    const server = await start((number) => (number < 5 ? { first: 1_000 } : {}))
    const options = { profile: "constant", rate: 50, duration: 2_000 } as const
    const [whole, trimmed] = [
      await load(server, options),
      await load(server, { ...options, warmup: 0.2, cooldown: 0.1 })
    ]
    expect(only(whole).requests).toMatchObject({ sent: 100, excluded: 0 })
    expect(only(whole).ttft.max).toBeGreaterThan(900)
    expect(only(trimmed).requests).toMatchObject({ sent: 100, excluded: 30, succeeded: 70 })
    expect(only(trimmed).window).toBeCloseTo(1_400, 6)
    expect(only(trimmed).sentPerSecond).toBeCloseTo(50, 6)
  })

  it("use our own token count if the server reports none, and say so", async () => {
    const server = await start((number) => ({ tokens: 6, usage: number % 2 === 0 }))
    const found = only(await load(server, { profile: "synchronous", requests: 6 }))
    expect(found.counts).toEqual({ server: 3, estimated: 3 })
    expect(found.outputTokens).toMatchObject({ min: 6, max: 6 })
    expect(found.notes.join()).toMatch(/did not count the tokens of 3 answers/)
  })
})

describe("an open loop", () => {
  it.each(["poisson", "constant"] as const)("keeps sending while the server is stalled (%s)", async (profile) => {
    const server = await start(() => ({ first: Number.POSITIVE_INFINITY }))
    const next = arrivals(profile, 40, 7)
    let planned = 0
    while (next() < 1_500) planned++
    const found = only(await load(server, { profile, rate: 40, duration: 1_500, seed: 7, drainTime: 1 }))
    expect(found.requests).toMatchObject({ sent: planned, succeeded: 0, cancelled: planned })
    expect(found.maxInFlight).toBe(planned)
    expect(found.latency.count).toBe(0)
    expect(found.lateness?.count).toBe(planned)
    expect(found.limited).toBe(0)
  })

  it("limits requests in flight, and reports that others waited", async () => {
    const server = await start(() => ({ first: 150 }))
    const found = only(await load(server, { rate: 100, duration: 2_000, maxConcurrency: 5 }))
    expect(found.profile).toBe("poisson")
    expect(server.mostInFlight()).toBe(5)
    expect(found.maxInFlight).toBe(5)
    expect(found.limited).toBeGreaterThan(20)
    expect(found.lateness?.p99).toBeGreaterThan(300)
    expect(found.notes.join()).toMatch(/requests waited because 5 were in flight/)
  })

  it("control: a closed loop waits", async () => {
    const server = await start(() => ({ first: 300 }))
    const found = only(await load(server, { profile: "concurrent", concurrency: 2, duration: 1_000 }))
    expect(found.requests.sent).toBeLessThanOrEqual(8)
    expect(found.lateness).toBeUndefined()
  })
})

describe("prompts", () => {
  const texts = ({ bodies }: LoadedServer) => bodies.map(({ messages }) => messages.map(({ content }) => content))

  it("are new each time by default, and the same for the same seed", async () => {
    const ask = async (seed: number) => {
      const server = await start(() => ({}))
      await load(server, { profile: "synchronous", requests: 10, seed })
      return texts(server)
    }
    const [one, same, other] = [await ask(1), await ask(1), await ask(2)]
    expect(new Set(one.map(([text]) => text?.split(" ")[0])).size).toBe(10)
    expect(one.every(([text]) => text?.split(" ").length === 20)).toBe(true)
    expect(same).toEqual(one)
    for (const [text] of other) expect(one.flat()).not.toContain(text)
  })

  it("share a prefix", async () => {
    const server = await start(() => ({}))
    await load(server, { profile: "concurrent", requests: 10, trace: "shared-prefix", prefixTokens: 500 })
    const systems = server.bodies.map(({ messages }) => messages[0])
    expect(new Set(systems.map((message) => `${message?.role} ${message?.content}`)).size).toBe(1)
    expect(systems[0]?.role).toBe("system")
    expect(systems[0]?.content.split(" ")).toHaveLength(500)
    expect(new Set(texts(server).map(([, question]) => question?.split(" ")[0])).size).toBe(10)
  })

  it("form a conversation that carries its history", async () => {
    const server = await start((number) => ({ tokens: 2 + number }))
    await load(server, { profile: "synchronous", requests: 7, trace: "chat", turns: 3 })
    const lengths = server.bodies.map(({ messages }) => messages.length)
    // Two conversations of three questions each, and a third one that begins.
    expect(lengths).toEqual([1, 3, 5, 1, 3, 5, 1])
    const [first, second, third] = server.bodies
    expect(second?.messages.slice(0, 1)).toEqual(first?.messages)
    expect(second?.messages[1]).toMatchObject({ role: "assistant", content: "t0 t1 " })
    expect(third?.messages.slice(0, 3)).toEqual(second?.messages)
    expect(third?.messages[3]?.content).toBe("t0 t1 t2 ")
  })

  it("never wait for a conversation in an open loop: another one begins", async () => {
    const server = await start(() => ({ first: Number.POSITIVE_INFINITY }))
    const { steps } = await load(server, { rate: 50, duration: 500, trace: "chat", drainTime: 1 })
    expect(steps[0]?.requests.sent).toBeGreaterThan(5)
    expect(server.bodies.every(({ messages }) => messages.length === 1)).toBe(true)
  })

  it("do not continue from a failed request", async () => {
    const server = await start((number) => (number % 2 === 1 ? { status: 500 } : {}))
    await load(server, { profile: "synchronous", requests: 4, trace: "chat", turns: 4 })
    expect(server.bodies.map(({ messages }) => messages.length)).toEqual([1, 3, 1, 3])
  })
})

describe("a sweep", () => {
  it("goes from one request at a time over maximum throughput to rates in between", async () => {
    const server = await start(() => ({ first: 50 }))
    const { steps } = await load(server, { profile: "sweep", steps: 4, duration: 700, maxConcurrency: 4 })
    expect(steps.map(({ profile }) => profile)).toEqual(["synchronous", "throughput", "constant", "constant"])
    const [slow, fast, third, fourth] = steps
    expect(fast?.requestsPerSecond).toBeGreaterThan(slow?.requestsPerSecond ?? 0)
    expect(fourth?.rate).toBeCloseTo(fast?.requestsPerSecond ?? 0, 6)
    expect(third?.rate).toBeCloseTo(((slow?.requestsPerSecond ?? 0) + (fast?.requestsPerSecond ?? 0)) / 2, 6)
  })
})

describe("the budget", () => {
  const constant = { profile: "constant", rate: 200, duration: 1_000 } as const

  it.each([
    ["requests", { maxRequests: 7 }, 7],
    ["tokens", { maxTokens: 10 * 28 + 1 }, 10],
    ["time", { maxTime: 200 }, undefined]
  ] as const)("ends the run when its %s are used up", async (end, budget, sent) => {
    // It costs what was reserved: 20 of the prompt and 8 of the answer.
    const server = await start(() => ({ first: Number.POSITIVE_INFINITY }))
    const report = await load(server, { ...constant, ...budget, drainTime: 1 })
    expect(report.ended).toBe(end)
    if (sent === undefined) expect(only(report).requests.sent).toBeLessThan(150)
    else expect(only(report).requests.sent).toBe(sent)
    expect(server.bodies.length).toBeLessThanOrEqual(report.requests)
  })

  it("control: a sufficient budget does not end the run", async () => {
    const report = await load(await start(() => ({})), { ...constant, duration: 100 })
    expect([report.ended, report.requests]).toEqual(["complete", 20])
    expect(report.tokens).toBe(20 * 304)
  })

  it("is barely used by requests that all fail at once in a closed loop", async () => {
    const report = await load(`http://127.0.0.1:${await unusedPort()}`, { profile: "concurrent", concurrency: 4 })
    expect(report.ended).toBe("failing")
    expect(report.requests).toBeLessThan(30)
    expect(only(report).failures[0]?.message).toMatch(/refused|ECONNREFUSED/)
  })
})

describe("an interruption", () => {
  it("cancels the requests, and keeps the measurements", async () => {
    const server = await start((number) => (number < 5 ? {} : { first: Number.POSITIVE_INFINITY }))
    let last: Benchmark.LoadProgress | undefined
    const fiber = Effect.runFork(
      Effect.provide(
        Stream.runForEach(
          Benchmark.loadProgress({ ...all, server: server.url, model: "m", profile: "synchronous" }),
          (progress) =>
            Effect.sync(() => {
              last = progress
            })
        ),
        layer()
      )
    )
    await expect.poll(() => server.bodies.length).toBe(6)
    await expect.poll(() => last?.sent).toBe(6)
    await Effect.runPromise(Fiber.interrupt(fiber))
    const report = last?.report()
    expect(report?.ended).toBe("stopped")
    expect(report?.steps[0]?.requests).toMatchObject({ sent: 6, succeeded: 5, cancelled: 1 })
    await expect.poll(server.left).toBe(1)
  })
})

describe("the server", () => {
  it("from the settings uses its key; any other has none unless one is given", async () => {
    const server = await start(() => ({}))
    const options = { profile: "synchronous", requests: 1 } as const
    await load(server, options, { servers: [{ url: server.url, apiKey: "secret-1" }] })
    await load(server, options, { servers: [{ url: "http://127.0.0.1:9", apiKey: "secret-1" }] })
    await load(server, { ...options, server: { url: `${server.url}/v1`, apiKey: "secret-2" } })
    expect(server.authorizations).toEqual(["Bearer secret-1", undefined, "Bearer secret-2"])
  })
})

describe("options", () => {
  const wrong: ReadonlyArray<readonly [Given, field: string, RegExp]> = [
    [{}, "profile", /give a rate, or a profile/],
    [{ profile: "poisson" }, "rate", /is needed/],
    [{ profile: "synchronous", rate: 5 }, "rate", /has no effect with the profile synchronous/],
    [{ rate: 5, concurrency: 3 }, "concurrency", /has no effect with the profile poisson/],
    [{ rate: 5, steps: 5 }, "steps", /has no effect/],
    [{ rate: 5, turns: 5 }, "turns", /has no effect with the trace random/],
    [{ rate: 5, prefixTokens: 5 }, "prefixTokens", /has no effect/],
    [{ rate: 5, slo: {} }, "slo", /names no limit/],
    [{ rate: 0 }, "rate", /above 0/],
    [{ rate: 5, warmup: 0.9 }, "warmup", /0 to 0.5/],
    [{ rate: 5, server: "ftp://x" }, "server", /./]
  ]

  it.each(wrong)("%j is refused before anything is sent", async (options, field, reason) => {
    const server = await start(() => ({}))
    const error = await load(server, options).then(
      () => undefined,
      (error: Error) => error
    )
    expect(String(error)).toMatch(reason)
    const { cause = error } = error as Error
    expect((cause as Errors.InvalidRequest | undefined)?.field ?? String(error)).toContain(field)
    expect(server.bodies).toEqual([])
  })
})
