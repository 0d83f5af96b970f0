import { FetchHttpClient } from "@effect/platform"
import { Effect, Layer, Option, Stream, TestClock, TestContext } from "effect"
import { describe, expect, it } from "vitest"
import * as Conditions from "../../src/Conditions.js"
import { LineTracker } from "../../src/conditions/connectivity.js"
import { ResourceTracker } from "../../src/conditions/resources.js"
import { thresholdsOf } from "../../src/conditions/thresholds.js"
import * as Fleet from "../../src/Fleet.js"
import { fromOptions, isLocal, type ServerOptions } from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"
import { unusedPort } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
const idle: Conditions.Reading = { cpu: 5, memory: 40, load: 0.2, gpu: undefined }
const window = 30_000

describe("this machine", () => {
  it.each<[Partial<Conditions.Reading>, Conditions.ResourceState, string]>([
    [{}, "AVAILABLE", ""],
    [{ cpu: 79.9 }, "AVAILABLE", ""],
    [{ cpu: 80 }, "CONSTRAINED", "CPU 80 %"],
    [{ cpu: 95 }, "CRITICAL", "CPU 95 %"],
    [{ memory: 84.9 }, "AVAILABLE", ""],
    [{ memory: 85 }, "CONSTRAINED", "memory 85 %"],
    [{ memory: 97 }, "CRITICAL", "memory 97 %"],
    [{ load: 3.9 }, "AVAILABLE", ""],
    [{ load: 4 }, "CONSTRAINED", "load 4.0 per core"],
    [{ load: 8 }, "CRITICAL", "load 8.0 per core"],
    [{ gpu: 84 }, "AVAILABLE", ""],
    [{ gpu: 85 }, "CONSTRAINED", "GPU 85 %"],
    [{ gpu: 95 }, "CRITICAL", "GPU 95 %"],
    [{ cpu: 81, memory: 86 }, "CONSTRAINED", "CPU 81 %, memory 86 %"],
    [{ cpu: 81, gpu: 99 }, "CRITICAL", "GPU 99 %"],
    [{ cpu: undefined, memory: undefined, load: undefined }, "AVAILABLE", ""]
  ])("%j is %s", (reading, state, reason) => {
    const tracker = new ResourceTracker(thresholdsOf({}))
    expect(tracker.observe({ ...idle, ...reading }, 0)).toMatchObject({ state, reason })
  })

  it("uses configured thresholds", () => {
    const tracker = new ResourceTracker(thresholdsOf({ cpu: 10, cpuCritical: 20 }))
    expect(tracker.observe({ ...idle, cpu: 15 }, 0).state).toBe("CONSTRAINED")
    expect(tracker.observe({ ...idle, cpu: 25 }, window).state).toBe("CRITICAL")
  })

  it("recovers only with a margin", () => {
    const tracker = new ResourceTracker(thresholdsOf({}))
    const states = [85, 73, 79, 71.9].map((cpu, i) => tracker.observe({ ...idle, cpu }, i * window).state)
    expect(states).toEqual(["CONSTRAINED", "CONSTRAINED", "CONSTRAINED", "AVAILABLE"])
    const without = new ResourceTracker(thresholdsOf({ margin: 0 }))
    expect([85, 79].map((cpu, i) => without.observe({ ...idle, cpu }, i * window).state)[1]).toBe("AVAILABLE")
  })

  it("changes at most once per window, however much readings vary", () => {
    const tracker = new ResourceTracker(thresholdsOf({}))
    let before: Conditions.ResourceState | undefined
    const changes: Array<number> = []
    for (let at = 0; at < 20 * window; at += 5_000) {
      const { state } = tracker.observe({ ...idle, cpu: (at / 5_000) % 2 === 0 ? 99 : 1 }, at)
      if (before !== undefined && state !== before) changes.push(at)
      before = state
    }
    expect(changes.length).toBeGreaterThan(5)
    for (const [i, at] of changes.entries())
      if (i > 0) expect(at - (changes[i - 1] ?? 0)).toBeGreaterThanOrEqual(window)
  })

  it("keeps the reason of a state that is held", () => {
    const tracker = new ResourceTracker(thresholdsOf({}))
    tracker.observe(idle, 0)
    tracker.observe({ ...idle, cpu: 99 }, 1)
    expect(tracker.observe(idle, 5_000)).toMatchObject({ state: "CRITICAL", reason: "CPU 99 %", cpu: 5 })
    expect(tracker.observe(idle, 1 + window)).toMatchObject({ state: "AVAILABLE", reason: "" })
  })

  it("does not hold a state longer if the clock was set back", () => {
    const tracker = new ResourceTracker(thresholdsOf({}))
    tracker.observe(idle, 1_000_000)
    tracker.observe({ ...idle, cpu: 99 }, 1_000_001)
    expect(tracker.observe(idle, 500).state).toBe("CRITICAL")
    expect(tracker.observe(idle, 500 + window).state).toBe("AVAILABLE")
  })
})

describe("a connection", () => {
  const line = () => new LineTracker("http://far", thresholdsOf({}))
  const reached = (latency: number, more = 0) => ({ reached: 1 + more, lost: 0, latency, throughput: undefined })
  const lost = { reached: 0, lost: 1, latency: undefined, throughput: undefined }

  it.each([
    [199, "OPTIMAL", ""],
    [200, "DEGRADED", "round trip 200 ms"]
  ])("with a round trip of %d ms is %s", (latency, state, reason) => {
    expect(line().observe(reached(latency), 0)).toMatchObject({ state, reason, latency, loss: 0 })
  })

  it("is not degraded by one slow answer", () => {
    const one = line()
    for (let i = 0; i < 3; i++) one.observe(reached(20), i)
    expect(one.observe(reached(2_000), window)).toMatchObject({ state: "OPTIMAL", latency: 20 })
    expect(one.observe(reached(2_000), 2 * window)).toMatchObject({ state: "DEGRADED", latency: 2_000 })
  })

  it("is degraded with 10 % loss, and recovers later", () => {
    const one = line()
    one.observe(reached(20, 17), 0)
    expect(one.observe({ ...reached(20), lost: 1 }, window)).toMatchObject({ state: "OPTIMAL", loss: 5 })
    expect(one.observe({ ...reached(20), lost: 1 }, 2 * window)).toMatchObject({
      state: "DEGRADED",
      loss: 10,
      reason: "10 % of attempts lost"
    })
    expect(one.observe(reached(20), 2 * window + 300_000)).toMatchObject({ state: "OPTIMAL", loss: 0 })
  })

  it.each([
    [4.9, "DEGRADED"],
    [5.1, "OPTIMAL"],
    [undefined, "OPTIMAL"]
  ])("with %s Mbps is %s", (throughput, state) => {
    expect(line().observe({ ...reached(20), throughput }, 0)).toMatchObject({ state, throughput })
  })

  it("is disconnected at once if it never worked, else after two lost checks, and recovers", () => {
    expect(line().observe(lost, 0)).toMatchObject({ state: "DISCONNECTED", loss: 100, latency: undefined })
    const one = line()
    for (let i = 0; i < 20; i++) one.observe(reached(20), i)
    expect(one.observe(lost, window).state).toBe("OPTIMAL")
    expect(one.observe(lost, 2 * window)).toMatchObject({ state: "DISCONNECTED", reason: "it is not reached" })
    expect(one.observe(reached(20), 3 * window).state).toBe("DEGRADED")
    expect(one.observe(reached(20), 3 * window + 300_000).state).toBe("OPTIMAL")
  })
})

describe("which servers are local", () => {
  it.each<[ServerOptions, boolean]>([
    [{ url: "http://localhost:11434" }, true],
    [{ url: "http://127.0.0.9:1" }, true],
    [{ url: "http://[::1]:11434/v1" }, true],
    [{ url: "LOCALHOST:11434" }, true],
    [{ url: "http://0.0.0.0:11434" }, true],
    [{ url: "http://localhost:11434", local: false }, false],
    [{ url: "http://gpu-1:11434" }, false],
    [{ url: "http://gpu-1:11434", local: true }, true],
    [{ url: "https://localhost.example.com/v1" }, false],
    [{ url: "https://127.0.0.1.example.com/v1" }, false],
    [{ url: "https://example.com/127.0.0.1" }, false],
    [{ url: "https://user:127.0.0.1@example.com" }, false]
  ])("%j: %s", (options, expected) => {
    const server = fromOptions(options, "test")
    expect(server._tag === "Right" && isLocal(server.right)).toBe(expected)
  })

  it("refuses values other than true and false", () => {
    expect(fromOptions({ url: "http://a", local: "yes" as never }, "test")).toMatchObject({
      left: { _tag: "InvalidConfig", field: "servers.local" }
    })
  })
})

/** A machine that runs tests is slow at times. */
const patient = { conditions: { latency: 5_000 } }

const serversOf = (...given: ReadonlyArray<ServerOptions>) =>
  given.flatMap((one) => {
    const made = fromOptions(one, "test")
    return made._tag === "Right" ? [made.right] : []
  })

/** The service over these servers and readings. */
const layerOf = (
  servers: ReadonlyArray<ServerOptions>,
  source: Effect.Effect<Conditions.Reading> | undefined,
  settings: Partial<Settings.Settings> = {}
) =>
  Conditions.layer.pipe(
    Layer.provideMerge(Fleet.layer),
    Layer.provide(Settings.layer({ servers: serversOf(...servers), ...settings })),
    Layer.provide(FetchHttpClient.layer),
    Layer.provide(Layer.succeed(Conditions.ResourceSource, source))
  )

describe("the service", () => {
  const counting = () => {
    let reads = 0
    const source = Effect.sync((): Conditions.Reading => {
      reads++
      return { ...idle, cpu: reads }
    })
    return { source, reads: () => reads }
  }

  it("reads nothing before the first use, then every five seconds, and stops after ten minutes", () => {
    const { reads, source } = counting()
    return Effect.gen(function* () {
      const conditions = yield* Conditions.Conditions
      yield* TestClock.adjust("1 hour")
      expect(reads()).toBe(0)
      // It does not wait for the reading that it starts.
      expect(conditions.current().resources).toBeUndefined()
      expect((yield* conditions.snapshot).resources?.cpu).toBe(1)
      yield* TestClock.adjust("60 seconds")
      expect(reads()).toBe(13)
      yield* TestClock.adjust("1 hour")
      const stopped = reads()
      expect(stopped).toBe(120)
      yield* TestClock.adjust("1 hour")
      expect(reads()).toBe(stopped)
      conditions.current()
      yield* TestClock.adjust("5 seconds")
      expect(reads()).toBeGreaterThan(stopped)
    }).pipe(Effect.provide(Layer.provideMerge(layerOf([], source), TestContext.TestContext)), Effect.runPromise)
  })

  it("emits changes while there are subscribers", () => {
    const { reads, source } = counting()
    return Effect.gen(function* () {
      const { changes } = yield* Conditions.Conditions
      const listening = yield* Effect.fork(Stream.runCollect(Stream.take(changes, 200)))
      yield* TestClock.adjust("30 minutes")
      const seen = [...(yield* listening)].map(({ resources }) => resources?.cpu)
      expect(seen.length).toBe(200)
      expect(seen.slice(-2)).toEqual([198, 199])
      yield* TestClock.adjust("1 hour")
      const stopped = reads()
      yield* TestClock.adjust("1 hour")
      expect(reads()).toBe(stopped)
    }).pipe(Effect.provide(Layer.provideMerge(layerOf([], source), TestContext.TestContext)), Effect.runPromise)
  })

  it("continues if a reading fails", () => {
    let reads = 0
    const source = Effect.suspend(() => (reads++ === 0 ? Effect.die(new Error("no")) : Effect.succeed(idle)))
    return Effect.gen(function* () {
      const conditions = yield* Conditions.Conditions
      expect((yield* conditions.snapshot).resources).toBeUndefined()
      yield* TestClock.adjust("5 seconds")
      expect(conditions.current().resources).toMatchObject({ state: "AVAILABLE", cpu: 5 })
    }).pipe(Effect.provide(Layer.provideMerge(layerOf([], source), TestContext.TestContext)), Effect.runPromise)
  })

  it("has no monitors if nothing can be read", () =>
    Effect.gen(function* () {
      const conditions = yield* Conditions.Conditions
      expect(yield* conditions.snapshot).toEqual({ resources: undefined, lines: [] })
      expect(Option.getOrUndefined(yield* Stream.runHead(conditions.changes))).toEqual({
        resources: undefined,
        lines: []
      })
    }).pipe(Effect.provide(layerOf([], undefined)), Effect.runPromise))

  it.each(["ollama", "openai"] as const)("checks the remote servers only (%s)", async (protocol) => {
    const near = await fleet[protocol]()
    const far = await fleet[protocol]()
    const gone = await unusedPort()
    const options = { protocol, local: false }
    const servers = [
      { url: near.url, protocol },
      { url: far.url, ...options },
      { url: `http://127.0.0.1:${gone}`, ...options }
    ]
    const { lines } = await Effect.runPromise(Effect.provide(Conditions.snapshot, layerOf(servers, undefined, patient)))
    expect(lines.map(({ server, state }) => [server, state])).toEqual([
      [far.url, "OPTIMAL"],
      [`http://127.0.0.1:${gone}`, "DISCONNECTED"]
    ])
    expect(lines[0]?.latency).toBeGreaterThanOrEqual(0)
    expect(far.requests.length).toBeGreaterThan(0)
    expect(near.requests).toHaveLength(0)
  })

  it("checks again if the first answer was slow, which may have been the connection setup", async () => {
    const far = await fleet.openai()
    const servers = [{ url: far.url, protocol: "openai", local: false }] as const
    const count = async (latency: number) => {
      const before = far.requests.length
      await Effect.runPromise(
        Effect.provide(Conditions.snapshot, layerOf(servers, undefined, { conditions: { latency } }))
      )
      return far.requests.length - before
    }
    const once = await count(5_000)
    expect(await count(Number.MIN_VALUE)).toBe(2 * once)
  })

  it("uses what calls observe of a connection", async () => {
    const far = await fleet.ollama()
    const servers = [{ url: far.url, protocol: "ollama", local: false }] as const
    await Effect.gen(function* () {
      const conditions = yield* Conditions.Conditions
      const live = yield* Fleet.Fleet
      yield* conditions.snapshot
      const [server] = serversOf(...servers)
      if (server === undefined) throw new Error("no server")
      const host = { server, protocol: "ollama", model: "m:1b", certain: true, performance: undefined } as const
      const pool = live.pool([host], () => 0)
      for (let i = 0; i < 3; i++) live.lease(pool, 0).fail({ reason: "reset", message: "connection reset" } as never)
      live.lease(pool, 0).fail({ reason: "server-error", message: "HTTP 500" } as never)
      live.lease(pool, 0).fail({ reason: "deadline", message: "late" } as never)
      expect(live.contacts(far.url)).toEqual({ reached: 1, lost: 3 })
      const next = yield* Effect.fork(Stream.runHead(Stream.drop(conditions.changes, 1)))
      const line = Option.getOrThrow(yield* next).lines[0]
      expect(line?.loss).toBe(50)
    }).pipe(Effect.provide(layerOf(servers, undefined, { conditions: { interval: 1_000 } })), Effect.runPromise)
  })
})
