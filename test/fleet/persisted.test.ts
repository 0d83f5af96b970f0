import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { afterEach, describe, expect, it, vi } from "vitest"
import type { ServerFailure } from "../../src/Backend.js"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import * as Fleet from "../../src/Fleet.js"
import { createCortex } from "../../src/promise.js"
import { fromOptions, type Host } from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"
import { model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const folders: Array<string> = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
})
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), "aicortex-state-"))
  folders.push(made)
  return made
}

const url = "http://s0:11434"
const hosts = (protocol: "ollama" | "openai" = "ollama"): ReadonlyArray<Host> => [
  {
    server: Either.getOrThrow(fromOptions({ url, protocol }, "test")),
    protocol,
    model: "m",
    certain: true,
    performance: undefined
  }
]
const make = Effect.provideService(Fleet.make, Settings.CurrentSettings, Settings.empty)
const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> =>
  Effect.runPromise(Effect.provide(effect, TestContext.TestContext))
const observation: Fleet.Observation = {
  firstTokenTime: 300,
  tokensPerSecond: 50,
  keepAlive: 300_000,
  promptTokens: 500,
  promptTime: 250,
  loadTime: 0
}
const down: ServerFailure = { reason: "refused", message: "" }
const broken: ServerFailure = { reason: "server-error", message: "" }

const answer = (one: Fleet.Service, list = hosts()): void => {
  const pool = one.pool(list, () => Number.NaN)
  const lease = one.lease(pool, 0)
  lease.answered()
  lease.succeed(observation)
}
const fail = (one: Fleet.Service, failure: ServerFailure, list = hosts()): void =>
  one
    .lease(
      one.pool(list, () => Number.NaN),
      0
    )
    .fail(failure)

// -----------------------------------------------------------------------------

describe("changes", () => {
  it("notify each listener of a server's changes, from its subscription on", () =>
    run(
      Effect.gen(function* () {
        const one = yield* make
        answer(one)
        const listen = yield* one.changes.pipe(Stream.take(5), Stream.runCollect, Effect.fork)
        const other = yield* one.changes.pipe(Stream.take(1), Stream.runCollect, Effect.fork)
        yield* Effect.yieldNow({ priority: 1 })
        yield* TestClock.adjust(1_000)
        answer(one)
        fail(one, broken)
        const seen = [...(yield* Fiber.join(listen))]
        expect(seen.map(({ at, model, server }) => [at, server, model])).toEqual(Array(5).fill([1_000, url, "m"]))
        expect(seen.map(({ snapshot }) => [snapshot.inFlight, snapshot.breaker])).toEqual([
          [1, "closed"],
          [1, "closed"],
          [0, "closed"],
          [1, "closed"],
          [0, "open"]
        ])
        expect(Chunk.size(yield* Fiber.join(other))).toBe(1)
      })
    ))

  it("keep the newest for a slow listener, without waiting for it", () =>
    run(
      Effect.gen(function* () {
        const one = yield* make
        const seen: Array<number> = []
        const slow = yield* one.changes.pipe(
          Stream.runForEach(({ snapshot }) => Effect.sync(() => seen.push(snapshot.inFlight))),
          Effect.fork
        )
        yield* TestClock.adjust(1)
        const pool = one.pool(hosts("openai"), () => Number.NaN)
        for (let i = 0; i < 5_000; i++) one.lease(pool, 0)
        yield* Effect.promise(() => expect.poll(() => seen.at(-1)).toBe(5_000))
        expect(seen.length).toBeLessThan(2_000)
        one.lease(pool, 0)
        yield* Effect.promise(() => expect.poll(() => seen.at(-1)).toBe(5_001))
        yield* Fiber.interrupt(slow)
      })
    ))
})

// -----------------------------------------------------------------------------

describe("persisted state", () => {
  it("is the same after saving and restoring", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_000)
        const one = yield* make
        answer(one)
        one.roundTrip(url, 12)
        const text = Fleet.encodeSaved(yield* one.saved)
        const two = yield* make
        yield* two.restore(Either.getOrThrow(Fleet.decodeSaved(text, "test")))
        two.pool(hosts(), () => Number.NaN)
        expect(two.snapshot(url, "m")).toEqual(one.snapshot(url, "m"))
        expect(two.snapshot(url, "m")).toMatchObject({ tokensPerSecond: 50, promptTokensPerSecond: 2_000, places: 4 })
      })
    ))

  it("contains no impossible values, for any reports and clocks", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_000)
        const one = yield* make
        answer(one)
        const before = one.snapshot(url, "m")
        const nonsense = { firstTokenTime: -5, tokensPerSecond: -3, promptTokens: -1, promptTime: -1, loadTime: -1 }
        const pool = one.pool(hosts(), () => Number.NaN)
        one.lease(pool, 0).succeed({ keepAlive: 300_000, completionTokens: -1, ...nonsense })
        one.roundTrip(url, -3)
        expect(one.snapshot(url, "m")).toEqual(before)
        const text = Fleet.encodeSaved(yield* one.saved)
        expect(Either.isRight(Fleet.decodeSaved(text, "test"))).toBe(true)
      })
    ))

  it("restores the end of rests, and the number of failed probes", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_000)
        const one = yield* make
        fail(one, broken)
        const saved = yield* one.saved
        yield* TestClock.adjust("40 seconds")
        const two = yield* make
        yield* two.restore(saved)
        expect(two.snapshot(url, "m").breaker).toBe("open")
        yield* TestClock.adjust("20 seconds")
        expect(two.snapshot(url, "m").breaker).toBe("half-open")
        fail(two, broken)
        yield* TestClock.adjust("119 seconds")
        expect(two.snapshot(url, "m").breaker).toBe("open")
        yield* TestClock.adjust("1 second")
        expect(two.snapshot(url, "m").breaker).toBe("half-open")
      })
    ))

  it("does not extend a rest if the clock was set back meanwhile", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_000)
        const one = yield* make
        fail(one, broken)
        const saved = yield* one.saved
        yield* TestClock.setTime(1_000_000_000_000)
        const two = yield* make
        yield* two.restore(saved)
        yield* TestClock.adjust("10 minutes")
        expect(two.snapshot(url, "m").breaker).toBe("half-open")
      })
    ))

  it("does not replace newer state, in memory or saved by another process", () =>
    run(
      Effect.gen(function* () {
        yield* TestClock.setTime(1_700_000_000_000)
        const one = yield* make
        answer(one)
        const old = yield* one.saved
        yield* TestClock.adjust("1 minute")
        const two = yield* make
        const pool = two.pool(hosts(), () => Number.NaN)
        two.lease(pool, 0).succeed({ ...observation, tokensPerSecond: 7 })
        yield* two.restore(old)
        expect(two.snapshot(url, "m").tokensPerSecond).toBe(7)
        const newer = yield* two.saved
        expect(Fleet.mergeSaved(old, newer).servers[0]?.models[0]?.tokensPerSecond).toBe(7)
        expect(Fleet.mergeSaved(newer, old).servers[0]?.models[0]?.tokensPerSecond).toBe(7)
        const elsewhere = { ...old, servers: old.servers.map((server) => ({ ...server, url: "http://other" })) }
        expect(Fleet.mergeSaved(newer, elsewhere).servers.map((server) => server.url)).toEqual([url, "http://other"])
      })
    ))

  it("of another version, or corrupted, is a typed warning", () => {
    for (const text of ["", "{", "[]", "null", '{"version":0}', '{"version":1,"savedAt":1,"servers":[{"url":5}]}']) {
      const decoded = Fleet.decodeSaved(text, "/a/file")
      expect(Either.isLeft(decoded) ? decoded.left : decoded).toMatchObject({
        _tag: "SavedStateWarning",
        source: "/a/file"
      })
    }
    const impossible = { url, usedAt: 1, models: [{ model: "m", usedAt: 1, proven: true, tokensPerSecond: 1e9 }] }
    expect(
      Either.isLeft(Fleet.decodeSaved(JSON.stringify({ version: 1, savedAt: 1, servers: [impossible] }), "x"))
    ).toBe(true)
  })
})

// -----------------------------------------------------------------------------

describe("the file", () => {
  const using = async (file: string, servers: ReadonlyArray<string | object>, questions: number) => {
    const logged: Array<string> = []
    const logger = Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ message }) => void logged.push(String(message)))
    )
    const layer = Cortex.layer({ servers: servers as ReadonlyArray<string>, configFile: false, model, stateFile: file })
    const program = Effect.gen(function* () {
      const live = yield* Fleet.Fleet
      const before = yield* live.saved
      for (let i = 0; i < questions; i++) yield* Chat.text("Hi")
      return before
    })
    const before = await Effect.runPromise(Effect.provide(program, Layer.provideMerge(layer, logger)))
    return { before, logged }
  }

  it("is read at the start and written at the end, atomically, for its owner only, and without keys", async () => {
    const file = join(folder(), "deep", "fleet.json")
    const { port } = new URL((await fleet.ollama()).url)
    const server = { url: `http://me:s3cret@127.0.0.1:${port}` }
    expect((await using(file, [server], 2)).before.servers).toEqual([])
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(file, ".."))).toEqual(["fleet.json"])
    expect(readFileSync(file, "utf8")).not.toContain("s3cret")
    const { before, logged } = await using(file, [server], 0)
    expect(before.servers).toMatchObject([{ url: `http://127.0.0.1:${port}`, models: [{ model, proven: true }] }])
    expect(logged).toEqual([])
  })

  it("that is invalid is a warning, and replaced", async () => {
    const file = join(folder(), "fleet.json")
    writeFileSync(file, '{"version": 9}')
    const server = await fleet.ollama()
    const { logged } = await using(file, [server.url], 1)
    expect(logged).toHaveLength(1)
    expect(logged[0]).toContain(file)
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ version: 1, servers: [{ url: server.url }] })
  })

  it("that is not writable is a warning", async () => {
    const path = folder()
    writeFileSync(join(path, "no"), "")
    const { logged } = await using(join(path, "no", "fleet.json"), [(await fleet.ollama()).url], 1)
    expect(logged.length).toBeGreaterThan(0)
    for (const message of logged)
      expect(message).toContain("fleet.json, which holds what was learned of the servers, cannot be used")
  })

  it("warnings of a Promise program go to standard error, not to standard output", async () => {
    const file = join(folder(), "fleet.json")
    writeFileSync(file, '{"version": 9}')
    const out = vi.spyOn(console, "log").mockImplementation(() => {})
    const err = vi.spyOn(console, "error").mockImplementation(() => {})
    try {
      await using cortex = createCortex({
        servers: [(await fleet.ollama()).url],
        configFile: false,
        model,
        stateFile: file
      })
      await cortex.chat("Hi")
      expect(out.mock.calls).toEqual([])
      expect(err.mock.calls.flat().join("\n")).toContain(file)
    } finally {
      out.mockRestore()
      err.mockRestore()
    }
  })

  it("is not written if nothing was learned", async () => {
    const file = join(folder(), "fleet.json")
    await using(file, [(await fleet.ollama()).url], 0)
    expect(readdirSync(join(file, ".."))).toEqual([])
  })
})

// -----------------------------------------------------------------------------

describe("probes", () => {
  it("close a breaker that opened because the server was unreachable, and no other", () =>
    run(
      Effect.gen(function* () {
        const one = yield* make
        fail(one, down)
        one.probed(url, true)
        expect(one.snapshot(url, "m").breaker).toBe("closed")
        fail(one, { reason: "first-token-timeout", message: "" })
        one.probed(url, true)
        expect(one.snapshot(url, "m").breaker).toBe("open")
        const two = yield* make
        two.pool(hosts(), () => Number.NaN)
        two.probed(url, false)
        expect(two.snapshot(url, "m").breaker).toBe("open")
        two.probed(url, true)
        expect(two.snapshot(url, "m").breaker).toBe("closed")
      })
    ))

  it("detect that a server is down, that it is back, and what it has loaded, without a request", async () => {
    const server = await fleet.ollama({ loaded: [model] })
    const unasked = await fleet.ollama()
    const layer = Cortex.layer({
      servers: [{ url: server.url, protocol: "ollama" }],
      configFile: false,
      model,
      probeInterval: 1_000
    })
    const until = (live: Fleet.Service, holds: (snapshot: Fleet.Snapshot) => boolean) =>
      Effect.promise(() =>
        expect.poll(() => holds(live.snapshot(server.url, model)), { timeout: 20_000, interval: 20 }).toBe(true)
      )
    await Effect.runPromise(
      Effect.gen(function* () {
        const live = yield* Fleet.Fleet
        yield* until(live, ({ residentUntil = 0 }) => residentUntil > Date.now())
        yield* Effect.promise(() => server.stop())
        yield* until(live, ({ breaker }) => breaker === "open")
        yield* Effect.promise(() => server.restart())
        yield* until(live, ({ breaker }) => breaker === "closed")
      }).pipe(Effect.provide(layer))
    )
    expect(server.chatRequests).toEqual([])
    const paths = new Set(server.requests.map(({ path }) => path))
    expect(paths).toContain("/api/ps")
    expect([...paths].every((path) => path === "/api/ps" || path === "/api/tags")).toBe(true)
    expect(unasked.requests).toEqual([])
  })

  it("are off by default", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    await cortex.chat("Hi")
    server.clear()
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    expect(server.requests).toEqual([])
  })
})
