/** What is measured, by whose clock, what is left alone, and what routing learns of it. */
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import * as Benchmark from "../../src/Benchmark.js"
import * as Cortex from "../../src/Cortex.js"
import * as Errors from "../../src/Errors.js"
import * as Fleet from "../../src/Fleet.js"
import * as Registry from "../../src/Registry.js"
import * as Router from "../../src/Router.js"
import type { ServerOptions } from "../../src/Server.js"
import { type Fake, failure, model, useFleet } from "../support/fleet.js"
import { ManualClock, type Scripted, scripted } from "../support/scriptedBackend.js"

const fleet = useFleet()

/** Runs a program over servers whose answers are scripted, on a clock of its own. */
const over = <A, E>(
  servers: ReadonlyArray<readonly [Fake, Scripted, Partial<ServerOptions>?]>,
  program: Effect.Effect<A, E, Cortex.Services>,
  options: Cortex.Options = {},
  clock = new ManualClock()
): Promise<A> => {
  const backends = scripted(clock, ({ url }) => servers.find(([fake]) => fake.url === url)?.[1] ?? fast)
  const layer = Cortex.layer(
    {
      servers: servers.map(([{ url, protocol }, , more]) => ({ url, protocol, ...more })),
      configFile: false,
      stateFile: false,
      model,
      ...options
    },
    { backends }
  )
  return Effect.runPromise(
    Effect.clockWith((live) => Effect.withClock(Effect.provide(program, layer), clock.over(live)))
  )
}

const fast: Scripted = { output: 100, prompt: 2_000 }
const slow: Scripted = { output: 10, prompt: 200 }

const starts = [
  ["Ollama", () => fleet.ollama({ loaded: [model] })],
  ["OpenAI", () => fleet.openai()]
] as const

describe.each(starts)("speeds over %s", (_, start) => {
  it("are those of the server, alone and with several requests at once", async () => {
    const server = await start()
    const { requests, results, skipped, tokens } = await over([[server, fast]], Benchmark.run())
    expect(skipped).toEqual([])
    const [result] = results
    expect(result).toMatchObject({ server: server.url, disagrees: false, complete: true, notes: [] })
    expect(result?.tokensPerSecond).toBeCloseTo(100, 0)
    expect(result?.promptTokensPerSecond).toBeGreaterThan(1_900)
    expect(result?.promptTokensPerSecond).toBeLessThan(2_100)
    expect(result?.phases.map(({ concurrency, prompt, requests }) => [prompt, concurrency, requests])).toEqual([
      ["short", 1, 3],
      ["long", 1, 3],
      ["short", 4, 12]
    ])
    expect(requests).toBe(19)
    expect(tokens).toBeGreaterThan(3 * 1_000)
  })

  it("route to the fastest server from then on, even if another one was remembered", async () => {
    const [one, two] = [await start(), await start()]
    const best = Effect.map(Router.best(model, "fastest"), ({ url }) => url)
    const choices = await over(
      [
        [one, slow],
        [two, fast]
      ],
      Effect.gen(function* () {
        const before = yield* best
        yield* Benchmark.run({ model })
        const fastest = yield* best
        const balanced = yield* Effect.map(Router.best(model, "balanced"), ({ url }) => url)
        return {
          before,
          fastest,
          balanced,
          all: yield* Effect.flatMap(Registry.Registry, (registry) => registry.listModelServers(model))
        }
      })
    )
    expect(choices.fastest).toBe(two.url)
    expect(choices.balanced).toBe(two.url)
    expect(choices.all.map(({ performance }) => Number.isNaN(Date.parse(performance.last_tested ?? "")))).toEqual([
      false,
      false
    ])
  })

  it("do not trust false counters", async () => {
    const [honest, liar] = [await start(), await start()]
    const claims = { tokensPerSecond: 1_900, promptTime: 0.01, usage: { promptTokens: 1e9, completionTokens: 1e9 } }
    const [{ results }, best] = await over(
      [
        [honest, fast],
        [liar, { ...slow, claims }]
      ],
      Effect.all([
        Benchmark.run({ model, concurrency: 1 }),
        Effect.map(Router.best(model, "fastest"), ({ url }) => url)
      ])
    )
    const found = results.find(({ server }) => server === liar.url)
    expect(found?.disagrees).toBe(true)
    expect(found?.notes.join("\n")).toMatch(/output: the server says 1900 tokens\/s, our clock says 10/)
    expect(found?.notes.join("\n")).toMatch(/prompt: the server says \d+ tokens\/s, our clock says 2\d\d\b/)
    expect(found?.tokensPerSecond).toBeLessThan(12)
    expect(found?.promptTokensPerSecond).toBeLessThan(250)
    expect(best).toBe(honest.url)
  })

  it("are not inflated by answers that arrive at once, or by counters that are too low", async () => {
    const [burst, modest] = [await start(), await start()]
    const { results } = await over(
      [
        [burst, { ...slow, burst: true, claims: { tokensPerSecond: 1_500 } }],
        [modest, { ...fast, claims: { tokensPerSecond: 50 } }]
      ],
      Benchmark.run({ model, concurrency: 1 })
    )
    expect(results.find(({ server }) => server === burst.url)?.tokensPerSecond).toBeLessThan(12)
    expect(results.find(({ server }) => server === modest.url)).toMatchObject({ tokensPerSecond: 50, disagrees: true })
  })

  it("are measured without counters, and differences within the tolerance are not reported", async () => {
    const [silent, near] = [await start(), await start()]
    const none = { tokensPerSecond: Number.NaN, promptTime: Number.NaN, usage: {} }
    const { results } = await over(
      [
        [silent, { ...fast, claims: none }],
        [near, { ...fast, claims: { tokensPerSecond: 120 } }]
      ],
      Benchmark.run({ model })
    )
    expect(results.find(({ server }) => server === silent.url)).toMatchObject({ claimed: {}, disagrees: false })
    expect(results.find(({ server }) => server === silent.url)?.tokensPerSecond).toBeCloseTo(100, 0)
    expect(results.find(({ server }) => server === near.url)).toMatchObject({ tokensPerSecond: 120, disagrees: false })
  })
})

describe("hostile answers", () => {
  it.each([
    ["no token", { ...fast, text: "none" }, /without a token/],
    ["an error", { ...fast, fails: { reason: "server-error", message: "HTTP 500" } }, /HTTP 500/]
  ] as const)("%s: skipped with the reason, and the next server is measured", async (_, script, message) => {
    const [bad, good] = [await fleet.ollama({ loaded: [model] }), await fleet.openai()]
    const { results, skipped } = await over(
      [
        [bad, script],
        [good, fast]
      ],
      Benchmark.run({ model })
    )
    expect(results.map(({ server }) => server)).toEqual([good.url])
    expect(skipped).toEqual([{ server: bad.url, model, reason: "failed", message: expect.stringMatching(message) }])
  })

  it("an answer without end is stopped, and measured by what came", async () => {
    const server = await fleet.openai()
    const { results, tokens } = await over(
      [[server, { ...fast, text: "endless", claims: { usage: { completionTokens: 1e15 } } }]],
      Benchmark.run({ model, runs: 1, concurrency: 1 })
    )
    expect(results[0]?.tokensPerSecond).toBeCloseTo(100, 0)
    expect(tokens).toBeLessThan(2_000)
  })

  it.each([
    { promptTokens: Number.NaN, completionTokens: -5 },
    { promptTokens: -1, completionTokens: Number.POSITIVE_INFINITY },
    { promptTokens: 0, completionTokens: 0, cachedTokens: 1e9 }
  ])("counts that cannot be: %j", async (usage) => {
    const server = await fleet.openai()
    const claims = { usage, tokensPerSecond: -3, promptTime: -1, loadTime: Number.NaN, promptEvaluated: Number.NaN }
    const { results, tokens } = await over([[server, { ...fast, claims }]], Benchmark.run({ model }))
    expect(results[0]?.tokensPerSecond).toBeCloseTo(100, 0)
    expect(Number.isFinite(tokens) && tokens > 0).toBe(true)
    expect(Benchmark.decodeResults(Benchmark.encodeResults(results))).toMatchObject({ _tag: "Right", right: results })
  })
})

describe("skipped targets", () => {
  it("a model that is not loaded, unless cold models are requested", async () => {
    const server = await fleet.ollama()
    const [left, loaded] = await over(
      [[server, fast]],
      Effect.all([Benchmark.run({ model }), Benchmark.run({ model, cold: true })])
    )
    expect([left.requests, left.results]).toEqual([0, []])
    expect(left.skipped).toMatchObject([{ server: server.url, model, reason: "cold" }])
    expect(loaded.results).toMatchObject([{ server: server.url, model, loadTime: expect.any(Number) }])
  })

  it("one model per server: the configured one, else a loaded one; all of them if requested", async () => {
    const server = await fleet.ollama({ models: ["a:1b", "b:1b", "nomic-embed-text"], loaded: ["b:1b"] })
    const measured = (options?: Benchmark.Options, settings?: Cortex.Options) =>
      over([[server, fast]], Benchmark.run(options), settings)
    const names = ({ results }: Benchmark.Report) => results.map(({ model }) => model)
    expect(names(await measured())).toEqual(["b:1b"])
    expect(names(await measured({ cold: true }, { model: "a:1b" }))).toEqual(["a:1b"])
    const all = await measured({ all: true })
    expect(names(all)).toEqual(["b:1b"])
    expect(all.skipped).toMatchObject([{ model: "a:1b", reason: "cold" }])
    expect(names(await measured({ all: true, cold: true }))).toEqual(["a:1b", "b:1b"])
  })

  it("a server with other requests in flight, also if only the server reports them", async () => {
    const [used, free] = [await fleet.ollama({ loaded: [model] }), await fleet.ollama({ loaded: [model] })]
    const { results, skipped } = await over(
      [
        [used, fast],
        [free, fast]
      ],
      Effect.gen(function* () {
        const live = yield* Fleet.Fleet
        const hosts = yield* Effect.flatMap(Registry.Registry, ({ locate }) => locate(model))
        const { columns } = (yield* Router.Router).plan(hosts, "random")
        const lease = live.lease(
          columns,
          hosts.findIndex(({ server }) => server.url === used.url)
        )
        const report = yield* Benchmark.run({ model })
        lease.cancel()
        return report
      })
    )
    expect(results.map(({ server }) => server)).toEqual([free.url])
    expect(skipped).toMatchObject([{ server: used.url, reason: "busy", message: expect.stringContaining("1 other") }])
  })

  it("a server that gets other requests during the measurement", async () => {
    const server = await fleet.ollama({ loaded: [model] })
    let come: (n: number) => void = () => {}
    const script: Scripted = { ...fast, asked: (_, n) => come(n) }
    const report = await over(
      [[server, script]],
      Effect.gen(function* () {
        const live = yield* Fleet.Fleet
        const hosts = yield* Effect.flatMap(Registry.Registry, ({ locate }) => locate(model))
        const { columns } = (yield* Router.Router).plan(hosts, "random")
        come = (n) => {
          if (n === 3) live.lease(columns, 0)
        }
        return yield* Benchmark.run({ model })
      })
    )
    expect(report.results).toEqual([])
    expect(report.skipped).toMatchObject([{ server: server.url, reason: "busy" }])
    expect(report.requests).toBeLessThan(6)
  })

  it.each([
    ["requests", { maxRequests: 8 }],
    ["tokens", { maxTokens: 3_525 }]
  ] as const)("requests beyond the budget of %s are not sent, and reported", async (what, options) => {
    const [one, two] = [await fleet.ollama({ loaded: [model] }), await fleet.openai()]
    const report = await over(
      [
        [one, fast],
        [two, fast]
      ],
      Benchmark.run({ model, ...options })
    )
    expect(report.requests).toBeLessThanOrEqual(what === "requests" ? 8 : 100)
    expect(report.tokens).toBeLessThanOrEqual(what === "tokens" ? 3_525 : 100_000)
    expect(report.results).toMatchObject([
      { complete: false, notes: [expect.stringContaining(`no more ${what}`)], phases: [{}, {}] }
    ])
    expect(report.skipped).toMatchObject([{ reason: "budget", message: expect.stringContaining(`no more ${what}`) }])
  })

  it("targets beyond the time budget, of which each has a share", async () => {
    const [one, two] = [await fleet.ollama({ loaded: [model] }), await fleet.openai()]
    const both = [
      [one, slow],
      [two, fast]
    ] as const
    const { results, skipped } = await over(both, Benchmark.run({ model, concurrency: 1, maxTime: 20_000 }))
    expect(results).toMatchObject([{ server: two.url, complete: true }])
    expect(skipped).toMatchObject([{ server: one.url, reason: "budget", message: expect.stringContaining("time") }])
    const part = await over([[two, fast]], Benchmark.run({ model, maxTime: 3_000 }))
    expect(part.results).toMatchObject([{ complete: false, phases: [{ prompt: "short" }] }])
    expect((await over(both, Benchmark.run({ model, maxTime: 1_000 }))).results).toEqual([])
  })

  it("remote servers beyond the daily token limit; used tokens are counted", async () => {
    const server = await fleet.openai()
    const remote = { local: false }
    const [counted, used] = await over(
      [[server, fast, remote]],
      Effect.zip(
        Benchmark.run({ model }),
        Effect.map(Fleet.Fleet, (live) => live.remoteTokens().used)
      )
    )
    expect(used).toBeGreaterThanOrEqual(counted.tokens)
    const { requests, skipped } = await over([[server, fast, remote]], Benchmark.run({ model }), {
      remoteTokensPerDay: 20
    })
    expect(requests).toBe(0)
    expect(skipped).toMatchObject([{ reason: "remote-tokens" }])
  })

  it("a server that does not answer", async () => {
    const [gone, there] = [await fleet.ollama(), await fleet.openai()]
    await gone.stop()
    const { results, skipped } = await over(
      [
        [gone, fast],
        [there, fast]
      ],
      Benchmark.run()
    )
    expect(results.map(({ server }) => server)).toEqual([there.url])
    expect(skipped).toMatchObject([{ server: gone.url, reason: "unreachable" }])
  })
})

describe("bad input", () => {
  it.each([
    [{ runs: 0 }, "runs"],
    [{ concurrency: 65 }, "concurrency"],
    [{ outputTokens: 1.5 }, "outputTokens"],
    [{ maxTime: 0 }, "maxTime"],
    [{ tolerance: -1 }, "tolerance"],
    [{ servers: [] }, "servers"],
    [{ servers: ["http://127.0.0.1:1"] }, "servers"],
    [{ all: true, model }, "all"],
    [{ modle: model }, "modle"]
  ])("%j is refused before anything is sent", async (options, field) => {
    const server = await fleet.openai()
    const error = await failure(
      over([[server, fast]], Effect.flip(Benchmark.run(options as Benchmark.Options))).then((error) => {
        throw error
      })
    )
    expect(error).toBeInstanceOf(Errors.InvalidRequest)
    expect(error.field).toBe(field)
    expect(server.chatRequests).toHaveLength(0)
  })

  it("an unknown model is ModelNotFound", async () => {
    const server = await fleet.openai()
    const error = await over([[server, fast]], Effect.flip(Benchmark.run({ model: "nobody:1b" })))
    expect(error._tag).toBe("ModelNotFound")
  })
})

describe("own traffic and benchmarks", () => {
  const observed = (tokensPerSecond: number): Fleet.Observation => ({
    firstTokenTime: 100,
    tokensPerSecond,
    keepAlive: 300_000
  })
  const speedAfter = (wait: number) => {
    const clock = new ManualClock()
    const servers = Effect.gen(function* () {
      const live = yield* Fleet.Fleet
      const hosts = yield* Effect.flatMap(Registry.Registry, ({ locate }) => locate(model))
      const { columns } = (yield* Router.Router).plan(hosts, "random")
      const url = hosts[0]?.server.url ?? ""
      live.lease(columns, 0).succeed(observed(500))
      live.benchmarked(url, model, { tokensPerSecond: 100 })
      const before = live.snapshot(url, model).tokensPerSecond
      clock.add(wait)
      live.lease(columns, 0).succeed(observed(20))
      return [before, live.snapshot(url, model).tokensPerSecond, live.snapshot(url, model).benchmarkedAt]
    })
    return Effect.runPromise(Effect.void).then(async () => over([[await fleet.openai(), fast]], servers, {}, clock))
  }

  it("a new benchmark replaces what was known, and own traffic is averaged with it", async () => {
    expect(await speedAfter(1_000)).toEqual([100, 76, undefined])
  })

  it("own traffic replaces an old benchmark", async () => {
    expect(await speedAfter(2 * 3_600_000)).toEqual([100, 20, undefined])
  })
})

describe("real servers", () => {
  it.each([
    ["Ollama", (perToken: number) => fleet.ollama({ loaded: [model], perToken, reply: "word ".repeat(60) })],
    ["OpenAI", (perToken: number) => fleet.openai({ perToken, reply: "word ".repeat(60) })]
  ] as const)("over %s with the Promise function", async (_, start) => {
    const [one, two] = [await start(100), await start(1)]
    const cortex = fleet.cortex([one, two])
    const { results } = await cortex.benchmark({ model, runs: 2, concurrency: 2, outputTokens: 8, promptTokens: 100 })
    expect(results).toHaveLength(2)
    expect((await cortex.bestServer(model)).url).toBe(two.url)
    expect(new Set(two.chatRequests.map(({ rawBody }) => rawBody)).size).toBe(two.chatRequests.length)
  })

  it("an abort stops it", async () => {
    const server = await fleet.openai({ perToken: 50, reply: "word ".repeat(200) })
    const controller = new AbortController()
    const running = fleet.cortex([server]).benchmark({ model, signal: controller.signal })
    await server.waitForChats(1)
    controller.abort(new Error("enough"))
    expect((await failure(running)).message).toBe("enough")
    await server.chatRequests[0]?.closedByClient
  })

  it.each([
    ['vllm:num_requests_running{engine="0"} 2.0\n', 2],
    ["llamacpp:requests_processing 1\n", 1]
  ])("an OpenAI-compatible server that reports requests in flight: %j", async (metrics, count) => {
    const server = await fleet.openai()
    const { createServer } = await import("node:http")
    const proxy = createServer((request, response) => {
      if (request.url === "/metrics") return void response.end(metrics)
      void fetch(`${server.url}${request.url}`).then(async (got) => response.end(await got.text()))
    })
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))
    fleet.keep({ [Symbol.asyncDispose]: () => new Promise<void>((resolve) => proxy.close(() => resolve())) })
    const address = proxy.address()
    const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`
    const cortex = fleet.cortex([{ url, protocol: "openai" }])
    const { requests, skipped } = await cortex.benchmark({ model })
    await cortex.close()
    expect(requests).toBe(0)
    expect(skipped).toMatchObject([{ reason: "busy", message: expect.stringContaining(`${count} requests`) }])
  })
})
