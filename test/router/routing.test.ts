import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as fc from "fast-check"
import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest"
import { Routing } from "../../src/ChatRequest.js"
import { maxPlausibleSpeed, type Snapshot } from "../../src/Fleet.js"
import * as Prng from "../../src/internal/prng.js"
import type { Cortex } from "../../src/promise.js"
import * as Router from "../../src/Router.js"
import * as Server from "../../src/Server.js"
import { unusedPort } from "../support/fakeServer.js"
import { chats, failure, inOrder, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const strategies = Routing.literals

const folders: Array<string> = []
afterEach(() => {
  vi.unstubAllEnvs()
  vi.restoreAllMocks()
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
})

/** A folder with one registry file of these records. */
const registryOf = (...records: ReadonlyArray<object>): string => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-routing-"))
  folders.push(folder)
  writeFileSync(join(folder, "mine.json"), JSON.stringify({ models: records }))
  return folder
}

const count = async (cortex: Cortex, calls: number, routing?: Routing): Promise<ReadonlyMap<string, number>> => {
  const counts = new Map<string, number>()
  for (let i = 0; i < calls; i++) {
    const { server } = await cortex.complete("Hi", { routing })
    counts.set(server, (counts.get(server) ?? 0) + 1)
  }
  return counts
}

/** Calls until each server has shown its speed. */
const prove = async (cortex: Cortex): Promise<void> => {
  const unproven = async () =>
    (await cortex.listModelServers(model)).some(
      (info) => info.performance.last_tested !== undefined || info.tokens_per_second === undefined
    )
  for (let i = 0; i < 200 && (await unproven()); i++) await cortex.chat("Hi", { routing: "random" })
  expect(await unproven()).toBe(false)
}

// -----------------------------------------------------------------------------

const places = {
  berlin: { latitude: 52.52, longitude: 13.4 },
  paris: { latitude: 48.86, longitude: 2.35 },
  newYork: { latitude: 40.71, longitude: -74.01 },
  tokyo: { latitude: 35.68, longitude: 139.69 },
  // Across the date line from each other, and so near.
  fiji: { latitude: -18.14, longitude: 178.44 },
  samoa: { latitude: -13.83, longitude: -171.76 }
}

describe("strategies on the wire", () => {
  it("fastest is the server measured as fastest here, whatever a file says", async () => {
    // These tell no speed of their own: our clock counts.
    const reply = "one two three four"
    const slow = await fleet.openai({ flavour: "vllm", reply, perToken: 70 })
    const fast = await fleet.openai({ flavour: "vllm", reply, perToken: 22 })
    const figure = { model_name: model, perf_last_tested: "2026-05-05T00:00:00Z" }
    const registry = registryOf(
      { ...figure, ip_port: slow.url, perf_tokens_per_second: "1900" },
      { ...figure, ip_port: fast.url, perf_tokens_per_second: "5" }
    )
    const cortex = fleet.cortex([slow, fast], { registry })
    await cortex.listServers()
    // Nothing is measured yet: the figures of the file hold.
    expect((await cortex.bestServer(model)).url).toBe(slow.url)
    expect((await cortex.complete("Hi", { routing: "fastest" })).server).toBe(slow.url)
    await prove(cortex)
    slow.clear()
    fast.clear()
    for (let i = 0; i < 5; i++) await cortex.chat("Hi", { routing: "fastest" })
    expect(chats(slow, fast)).toEqual([0, 5])
    const [a = 0, b = 0] = (await cortex.listModelServers(model)).map((info) => info.tokens_per_second)
    expect(a).toBeGreaterThan(1)
    expect(b).toBeGreaterThan(a)
    expect(b).toBeLessThan(50)
  })

  it("nearest goes by distance from the user", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => fleet.ollama()))
    const located = [places.tokyo, places.newYork, places.paris].map((location, i) => ({
      url: servers[i]?.url ?? "",
      location
    }))
    const from = (location: Server.Location) => fleet.cortex(located, { location })
    for (const [location, expected] of [
      [places.berlin, 2],
      [places.newYork, 1],
      [places.fiji, 0]
    ] as const) {
      const cortex = from(location)
      // The servers whose lists come late would not be considered.
      await cortex.listServers()
      for (let i = 0; i < 3; i++) {
        expect((await cortex.complete("Hi", { routing: "nearest" })).server).toBe(servers[expected]?.url)
      }
      expect((await cortex.bestServer(model, { strategy: "nearest" })).url).toBe(servers[expected]?.url)
    }
  })

  it("without locations nearest goes by the measured round trip", async () => {
    const far = await fleet.ollama({ faults: { kind: "slow", ms: 150 }, faultOn: "tags" })
    const near = await fleet.ollama()
    const cortex = fleet.cortex([far, near])
    expect((await cortex.listServers()).map(({ reachable }) => reachable)).toEqual([true, true])
    expect(await count(cortex, 6, "nearest")).toEqual(new Map([[near.url, 6]]))
  })

  it("balanced weighs speed and proximity", async () => {
    const [far, near] = await Promise.all([fleet.ollama(), fleet.ollama()])
    const choose = async (farSpeed: number, nearSpeed: number) => {
      const registry = registryOf(
        { model_name: model, ip_port: far.url, perf_tokens_per_second: String(farSpeed) },
        { model_name: model, ip_port: near.url, perf_tokens_per_second: String(nearSpeed) }
      )
      const servers = [
        { url: far.url, location: places.tokyo },
        { url: near.url, location: places.paris }
      ]
      const cortex = fleet.cortex(servers, { registry, location: places.berlin })
      return (await cortex.bestServer(model, { strategy: "balanced" })).url
    }
    // Of much the same speed the near one; of a far better speed the far one.
    expect(await choose(100, 80)).toBe(near.url)
    expect(await choose(100, 10)).toBe(far.url)
  })

  it("random shuffles", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => fleet.ollama({ perToken: "burst" })))
    const cortex = fleet.cortex(servers)
    const counts = await count(cortex, 120)
    expect(counts.size).toBe(3)
    // With a third each, fewer than 8 would happen once in more than 10^9 times; speeds may shift the shares.
    for (const { url } of servers) expect(counts.get(url)).toBeGreaterThanOrEqual(8)
  })

  it("the weight of a server is its share, its priority precedes any strategy", async () => {
    const [heavy, light, spare] = await Promise.all(Array.from({ length: 3 }, () => fleet.openai()))
    if (heavy === undefined || light === undefined || spare === undefined) return
    const cortex = fleet.cortex([
      { url: heavy.url, weight: 100 },
      { url: light.url, weight: 1 },
      { url: spare.url, weight: 1000, priority: 1 }
    ])
    const counts = await count(cortex, 60)
    expect(counts.get(heavy.url)).toBeGreaterThan(45)
    expect(counts.get(spare.url)).toBeUndefined()
    for (const routing of strategies) expect((await count(cortex, 3, routing)).get(spare.url)).toBeUndefined()
  })

  it("maxInFlight sends excess requests to another server", async () => {
    const [small, large] = await Promise.all([fleet.ollama({ firstToken: 100 }), fleet.ollama()])
    const cortex = fleet.cortex([
      { url: small.url, maxInFlight: 2 },
      { url: large.url, priority: 1 }
    ])
    await cortex.listServers()
    const answers = await Promise.all(Array.from({ length: 10 }, () => cortex.complete("Hi")))
    expect(small.maxInFlight).toBe(2)
    expect(answers.filter(({ server }) => server === small.url)).toHaveLength(2)
  })
})

// -----------------------------------------------------------------------------

describe("order", () => {
  const optional = <A>(arb: fc.Arbitrary<A>) => fc.option(arb, { nil: undefined })
  const location = optional(
    fc.record({
      latitude: optional(fc.double({ min: -90, max: 90, noNaN: true })),
      longitude: optional(fc.double({ min: -180, max: 180, noNaN: true }))
    })
  ).map((place) => {
    if (place === undefined) return undefined
    return Object.fromEntries(Object.entries(place).filter(([, value]) => value !== undefined)) as Server.Location
  })
  const speed = optional(
    fc.oneof(fc.double({ min: 0, max: 1e4, noNaN: true }), fc.constantFrom(0, 1e-300, 1e300, 2_000))
  )
  const breaker = fc.oneof(
    fc.constantFrom({ breaker: "closed" as const, restsUntil: 0 }, { breaker: "half-open" as const, restsUntil: -1 }),
    fc.record({ breaker: fc.constant("open" as const), restsUntil: fc.integer({ min: 1, max: 3 }) })
  )
  const learned = fc.record({
    inFlight: fc.nat(5),
    probing: fc.boolean(),
    proven: fc.boolean(),
    tokensPerSecond: speed,
    firstTokenTime: optional(fc.nat(1000)),
    roundTrip: optional(fc.double({ min: 0, max: 1e4, noNaN: true })),
    residentUntil: optional(fc.integer({ min: 0, max: 2 }))
  })
  const snapshot: fc.Arbitrary<Snapshot> = fc.tuple(learned, breaker).map(([a, b]) => ({ ...a, ...b }))
  const candidate = fc
    .record({
      snapshot,
      location,
      weight: fc.double({ min: 0.01, max: 100, noNaN: true }),
      priority: fc.integer({ min: -1, max: 1 }),
      maxInFlight: optional(fc.integer({ min: 1, max: 4 })),
      certain: fc.boolean(),
      figure: speed
    })
    .map(
      ({ certain, figure, location, maxInFlight, priority, snapshot, weight }): Router.ServerCandidate => ({
        snapshot,
        host: {
          server: { ...Server.embedded, url: "http://s", location, maxInFlight, priority, weight },
          protocol: "ollama",
          model,
          certain,
          performance: figure === undefined ? undefined : { tokens_per_second: figure }
        }
      })
    )
  const candidates = fc.array(candidate, { maxLength: 12 })
  const seed = fc.integer()
  const strategy = fc.constantFrom(...strategies)

  it("is a permutation of the candidates, for any state", () => {
    fc.assert(
      fc.property(strategy, candidates, location, seed, (routing, found, location, seed) => {
        const before = [...found]
        const ordered = Router.order(routing, found, { location, random: Prng.make(seed) })
        expect(found).toEqual(before)
        expect(ordered).toHaveLength(found.length)
        expect(new Set(ordered)).toEqual(new Set(found))
      }),
      { numRuns: 500 }
    )
  })

  it("puts resting servers last, the longest resting first, then tiers of priority, then certain servers", () => {
    fc.assert(
      fc.property(strategy, candidates, location, seed, (routing, found, location, seed) => {
        const ordered = Router.order(routing, found, { location, random: Prng.make(seed) })
        for (const [i, b] of ordered.entries()) {
          const a = ordered[i - 1]
          if (a === undefined) continue
          const rank = (c: Router.ServerCandidate) => [
            Router.resting(c) ? 1 : 0,
            Router.resting(c) ? c.snapshot.restsUntil : 0,
            c.host.server.priority,
            c.host.certain ? 0 : 1
          ]
          const [x, y] = [rank(a), rank(b)]
          const differ = x.findIndex((value, at) => value !== y[at])
          if (differ >= 0) expect(x[differ]).toBeLessThan(y[differ] ?? 0)
        }
      }),
      { numRuns: 500 }
    )
  })

  it("within a tier, fastest and nearest are sorted, an unknown speed counts as the best; nothing is ever NaN", () => {
    const equal = candidates.map((found) =>
      found.map(
        (c): Router.ServerCandidate => ({
          snapshot: { ...c.snapshot, breaker: "closed" },
          host: { ...c.host, certain: true, server: { ...c.host.server, priority: 0, maxInFlight: undefined } }
        })
      )
    )
    fc.assert(
      fc.property(equal, location, seed, (found, location, seed) => {
        const by = (routing: Routing, measure: (c: Router.ServerCandidate) => number) => {
          const values = Router.order(routing, found, { location, random: Prng.make(seed) }).map(measure)
          for (const value of values) expect(value).not.toBeNaN()
          expect(values).toEqual([...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)))
        }
        const fastest = Math.max(0, ...found.map((c) => Router.speed(c) ?? 0))
        by("fastest", (c) => -(Router.speed(c) ?? fastest))
        by("nearest", (c) => Router.remoteness(c, location) ?? Number.POSITIVE_INFINITY)
      }),
      { numRuns: 300 }
    )
  })

  it("is the same for the same random numbers, and independent of the order of servers", () => {
    fc.assert(
      fc.property(strategy, candidates, location, seed, (routing, found, location, seed) => {
        const once = Router.order(routing, found, { location, random: Prng.make(seed) })
        expect(Router.order(routing, found, { location, random: Prng.make(seed) })).toEqual(once)
      })
    )
    const same = Array.from({ length: 4 }, (_, i) => plain({ url: `http://${i}` }))
    for (const routing of strategies) {
      const firsts = new Set<string | undefined>()
      for (let i = 0; i < 200; i++) {
        firsts.add(Router.order(routing, same, { location: undefined, random: Prng.make(i) })[0]?.host.server.url)
      }
      expect(firsts.size).toBe(4)
    }
  })

  const plain = (
    given: Partial<Server.Server> & { readonly tps?: number; readonly figure?: number; readonly roundTrip?: number }
  ): Router.ServerCandidate => {
    const { figure, roundTrip, tps, ...server } = given
    return {
      host: {
        server: { ...Server.embedded, ...server },
        protocol: "ollama",
        model,
        certain: true,
        performance: figure === undefined ? undefined : { tokens_per_second: figure }
      },
      snapshot: {
        inFlight: 0,
        breaker: "closed",
        restsUntil: 0,
        probing: false,
        proven: tps !== undefined,
        tokensPerSecond: tps,
        firstTokenTime: undefined,
        roundTrip
      }
    }
  }
  const shares = (found: ReadonlyArray<Router.ServerCandidate>, rounds = 20_000): ReadonlyArray<number> => {
    const random = Prng.make(42)
    const counts = found.map(() => 0)
    for (let i = 0; i < rounds; i++) {
      const at = found.indexOf(
        Router.order("random", found, { location: undefined, random })[0] as Router.ServerCandidate
      )
      counts[at] = (counts[at] ?? 0) + 1
    }
    return counts.map((n) => n / rounds)
  }

  it("random gives each server its share by weight, in every place of the order", () => {
    const close = (actual: ReadonlyArray<number>, expected: ReadonlyArray<number>) =>
      actual.forEach((share, i) => expect(Math.abs(share - (expected[i] ?? 0))).toBeLessThan(0.02))
    close(shares([plain({}), plain({}), plain({})]), [1 / 3, 1 / 3, 1 / 3])
    close(shares([plain({ weight: 2 }), plain({ weight: 1 })]), [2 / 3, 1 / 3])
    // Proven speeds shift the shares, up to four times more or less.
    close(shares([plain({ tps: 60 }), plain({ tps: 20 })]), [0.75, 0.25])
    const [fastest = 0, ...others] = shares([plain({ tps: 1e6 }), plain({ tps: 1 }), plain({})])
    expect(fastest).toBeLessThan(0.75)
    for (const share of others) expect(share).toBeGreaterThan(0.04)
  })

  it("also among hundreds, with any weights and measurements", () => {
    const many = (...others: ReadonlyArray<Router.ServerCandidate>) => {
      const found = [...others, ...Array.from({ length: 300 }, () => plain({}))]
      const pool = Router.columnsOf(found, undefined, 0)
      const random = Prng.make(42)
      const tried = new Uint8Array(pool.size)
      const counts = found.map(() => 0)
      for (let i = 0; i < 20_000; i++) {
        const at = Router.pick("random", pool, tried, { now: 0, random })
        counts[at] = (counts[at] ?? 0) + 1
      }
      return counts.map((n) => n / 20_000)
    }
    const close = (actual: number | undefined, expected: number) =>
      expect(Math.abs((actual ?? 0) - expected)).toBeLessThan(0.02)
    const [heavy, light] = many(plain({ weight: 100 }), plain({ weight: 50 }))
    close(heavy, 100 / 450)
    close(light, 50 / 450)
    // One so heavy that a draw of another is nearly never taken.
    close(many(plain({ weight: 1e6 }))[0], 1)
    const [quick, slow] = many(plain({ weight: 60, tps: 60 }), plain({ weight: 60, tps: 20 }))
    close(quick, 90 / 420)
    close(slow, 30 / 420)
  })

  it("an impossible value is ignored", () => {
    for (const figure of [16_483.52, 1e9, Number.POSITIVE_INFINITY, 0]) {
      expect(Router.speed(plain({ figure }))).toBeUndefined()
    }
    expect(Router.speed(plain({ figure: 325, tps: 1e9 }))).toBe(325)
    expect(Router.speed(plain({ figure: 325, tps: 20 }))).toBe(20)
    expect(Router.speed(plain({ figure: -1 }))).toBeUndefined()
    expect(Router.speed(plain({ figure: Number.NaN }))).toBeUndefined()
  })

  it("balanced weighs 0.6 to 0.4, both as shares", () => {
    const first = (...found: ReadonlyArray<Router.ServerCandidate>) =>
      Router.order("balanced", found, { location: undefined, random: Prng.make(1) })[0]
    const far = plain({ tps: 100, roundTrip: 100 })
    const near = plain({ tps: 50, roundTrip: 10 })
    // 0.6 + 0 against 0.3 + 0.36, and against 0.12 + 0.36.
    expect(first(far, near)).toBe(near)
    const slow = plain({ tps: 20, roundTrip: 10 })
    expect(first(slow, far)).toBe(far)
  })

  it("distance is along the great circle, also over the date line", () => {
    expect(Router.distance(places.berlin, places.paris)).toBeCloseTo(878, -1)
    expect(Router.distance(places.fiji, places.samoa)).toBeLessThan(1_300)
    expect(Router.distance(places.berlin, places.berlin)).toBe(0)
    expect(Router.distance({ latitude: 0, longitude: 0 }, { latitude: 0, longitude: 180 })).toBeCloseTo(
      Math.PI * 6371,
      3
    )
    expect(Router.distance(undefined, places.berlin)).toBeUndefined()
    expect(Router.distance({ city: "Bonn" }, places.berlin)).toBeUndefined()
  })
})

// -----------------------------------------------------------------------------

describe("the caches", () => {
  const urls = async (cortex: Cortex, times: number) => {
    const found = new Set<string>()
    for (let i = 0; i < times; i++) found.add((await cortex.bestServer(model, { strategy: "random" })).url)
    return found
  }

  it("bestServer is cached per model and strategy, until it expires", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => fleet.ollama()))
    expect((await urls(fleet.cortex(servers), 40)).size).toBe(1)
    const short = fleet.cortex(servers, { bestServerTtl: 1 })
    const found = new Set<string>()
    await expect
      .poll(async () => found.add((await short.bestServer(model, { strategy: "random" })).url).size, {
        interval: 3,
        timeout: 10_000
      })
      .toBe(3)
  })

  it("bestServer is forgotten after a failure of that server", async () => {
    const [a, b] = await Promise.all([fleet.ollama(), fleet.ollama()])
    const cortex = fleet.cortex(inOrder(a, b))
    expect((await cortex.bestServer(model)).url).toBe(a.url)
    await a.setBehaviour({ faults: { kind: "status", code: 500 } })
    await cortex.chat("Hi")
    expect((await cortex.bestServer(model)).url).toBe(b.url)
  })

  it("clearServerCache forgets failures, lists and the best server", async () => {
    const [a, b] = await Promise.all([fleet.ollama(), fleet.ollama()])
    const cortex = fleet.cortex(inOrder(a, b))
    await cortex.listServers()
    await a.setBehaviour({ faults: [{ kind: "status", code: 500 }] })
    // Bad.
    expect((await cortex.complete("Hi")).server).toBe(b.url)
    expect((await cortex.complete("Hi")).server).toBe(b.url)
    await cortex.clearServerCache()
    expect((await cortex.complete("Hi")).server).toBe(a.url)
    // Good.
    const speeds = async () => (await cortex.listModelServers(model)).map((info) => info.tokens_per_second)
    expect(await speeds()).toEqual([expect.any(Number), undefined])
    await cortex.clearServerCache()
    expect(await speeds()).toEqual([undefined, undefined])
    // Best.
    const several = fleet.cortex(await Promise.all(Array.from({ length: 3 }, () => fleet.ollama())))
    const found = new Set<string>()
    for (let i = 0; i < 60; i++) {
      found.add((await several.bestServer(model, { strategy: "random" })).url)
      await several.clearServerCache()
    }
    expect(found.size).toBe(3)
  })

  it("clearing does not affect running calls", async () => {
    const only = await fleet.ollama({ firstToken: 50 })
    const cortex = fleet.cortex([{ url: only.url, maxInFlight: 1 }])
    const call = cortex.chat("Hi")
    await only.waitForChats(1)
    await cortex.clearServerCache()
    await call
    expect(await cortex.complete("Hi")).toMatchObject({ attempts: [] })
  })

  it("a named configuration file must exist", async () => {
    const file = join(tmpdir(), "aicortex-there-is-no-such-file.json")
    const error = await failure(fleet.cortex([], { configFile: file }).families())
    expect(error).toMatchObject({ _tag: "InvalidConfig", source: file, field: "file" })
  })

  it("AICORTEX_SERVER_COOLDOWN, in seconds, is how long a server rests", async () => {
    const folder = mkdtempSync(join(tmpdir(), "aicortex-ttl-"))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "config.json")
    writeFileSync(file, "{}")
    const rests = async (seconds: string) => {
      vi.stubEnv("AICORTEX_SERVER_COOLDOWN", seconds)
      const [a, b] = await Promise.all([fleet.ollama(), fleet.ollama()])
      const cortex = fleet.cortex(inOrder(a, b), { configFile: file })
      await cortex.listServers()
      await a.setBehaviour({ faults: [{ kind: "status", code: 500 }] })
      expect((await cortex.complete("Hi")).server).toBe(b.url)
      return { a, b, cortex }
    }
    const short = await rests("0.1")
    await expect
      .poll(() => short.cortex.complete("Hi").then(({ server }) => server), { interval: 20, timeout: 10_000 })
      .toBe(short.a.url)
    const long = await rests("600")
    await new Promise((resolve) => setTimeout(resolve, 150))
    expect((await long.cortex.complete("Hi")).server).toBe(long.b.url)
    for (const wrong of ["0", "-1", "soon"]) {
      vi.stubEnv("AICORTEX_SERVER_COOLDOWN", wrong)
      const cortex = fleet.cortex([], { configFile: file })
      const error = await failure(cortex.families())
      expect(error).toMatchObject({ _tag: "InvalidConfig", field: "AICORTEX_SERVER_COOLDOWN" })
      // In the user's own words.
      expect(error.message).toContain(wrong)
      expect(error.message).not.toContain("NaN")
    }
  })

  it("serverCooldown of the options comes before the environment, and configFile: false reads neither", async () => {
    vi.stubEnv("AICORTEX_SERVER_COOLDOWN", "nonsense")
    vi.stubEnv("AICORTEX_SERVERS", "http://192.0.2.1:1")
    vi.stubEnv("AICORTEX_MODEL", "nonsense")
    const only = await fleet.ollama()
    expect((await fleet.cortex([only], { serverCooldown: 5 }).complete("Hi")).model).toBe(model)
  })
})

// -----------------------------------------------------------------------------

describe("what goes over the network", () => {
  /** Every address to which this process connects. */
  const watch = () => {
    const addresses: Array<string> = []
    const connect = Socket.prototype.connect
    vi.spyOn(Socket.prototype, "connect").mockImplementation(function (this: Socket, ...args: Array<unknown>) {
      const first = Array.isArray(args[0]) ? args[0][0] : args[0]
      addresses.push(`${first?.host ?? first?.path}:${first?.port}`)
      return Reflect.apply(connect, this, args) as Socket
    })
    return addresses
  }

  it("the servers that were given, and nothing else: no preflight, no name lookup", async () => {
    const addresses = watch()
    const [a, b] = await Promise.all([fleet.ollama(), fleet.openai()])
    const cortex = fleet.cortex([a, b])
    for (const routing of strategies) await cortex.chat("Hi", { routing })
    await cortex.bestServer(model)
    await cortex.models()
    await cortex.searchModels("llama")
    await cortex.getLlmParams()
    expect(addresses.length).toBeGreaterThan(0)
    expect(new Set(addresses)).toEqual(new Set([a, b].map(({ port }) => `127.0.0.1:${port}`)))
    expect(a.requests.map(({ path }) => path).filter((path) => path !== "/api/chat")).toEqual(["/api/tags", "/api/ps"])
    expect(b.requests.map(({ path }) => path).filter((path) => path !== "/v1/chat/completions")).toEqual([
      "/api/tags",
      "/v1/models"
    ])
  })

  it("without servers there is no I/O at all, and the error says what to do", async () => {
    const addresses = watch()
    const error = await failure(fleet.cortex([], { model: "llama3.2:3b" }).chat("Hi"))
    expect(error).toMatchObject({ _tag: "NoServers", servers: [] })
    expect(error.message).toContain("AICORTEX_SERVERS")
    expect(addresses).toEqual([])
  })

  it("connections are used again", async () => {
    const only = await fleet.ollama()
    const cortex = fleet.cortex([only])
    for (let i = 0; i < 10; i++) await cortex.chat("Hi")
    // One for the lists; two for the chats, because an answer is given before its connection is free.
    expect(only.connections).toBeLessThanOrEqual(4)
    expect(only.requests).toHaveLength(12)
  })

  it("nothing is sent before the first call", async () => {
    const only = await fleet.ollama()
    fleet.cortex([only])
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(only.connections).toBe(0)
  })
})

describe("the other functions of the facade", () => {
  const world = async () => {
    const a = await fleet.ollama({ models: ["llama3.2:3b", "qwen2.5:0.5b", "private:7b"] })
    const b = await fleet.openai({ models: ["llama3.2:3b", "gpt-4o-mini"] })
    const gone = await unusedPort()
    return { a, b, cortex: fleet.cortex([a, b, `http://127.0.0.1:${gone}`], { model: "llama3.2:3b" }), gone }
  }

  it("families and models are available at once, without a network", async () => {
    const cortex = fleet.cortex([])
    expect(await cortex.families()).toEqual(["deepseek", "gemma", "llama", "mistral", "others", "qwen"])
    expect((await cortex.models()).length).toBeGreaterThan(50)
    expect(await cortex.models("LLAMA")).toContain("llama3.2:3b")
    expect(await cortex.models("nonsense")).toEqual([])
    expect(await cortex.registryWarnings()).toEqual([])
  })

  it("a model of several servers is listed once", async () => {
    const { cortex } = await world()
    for (const names of [await cortex.models(), await cortex.searchModels("")]) {
      expect(names).toContain("private:7b")
      expect(new Set(names).size).toBe(names.length)
    }
    expect(await cortex.models({ available: true })).toEqual([
      "gpt-4o-mini",
      "llama3.2:3b",
      "private:7b",
      "qwen2.5:0.5b"
    ])
  })

  it("a search by size excludes smaller, larger and unknown sizes", async () => {
    const { cortex } = await world()
    const names = await cortex.searchModels("", { available: true, minParams: "1b", maxParams: "10b" })
    expect([...names].sort()).toEqual(["llama3.2:3b", "private:7b"])
    expect(await failure(cortex.searchModels("", { minParams: "large" }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "minParams"
    })
  })

  it("getModelInfo: model info, or ModelNotFound with suggestions", async () => {
    const { cortex } = await world()
    const info = await cortex.getModelInfo("llama3.2:3b")
    expect(info).toMatchObject({ model_name: "llama3.2:3b", family: "llama" })
    expect(JSON.stringify(info)).not.toContain("127.0.0.1")
    const error = await failure(cortex.getModelInfo("lama3.2:3b"))
    expect(error).toMatchObject({ _tag: "ModelNotFound", suggestions: expect.arrayContaining(["llama3.2:3b"]) })
  })

  it("listServers and listModelServers", async () => {
    const { a, b, cortex, gone } = await world()
    expect(await cortex.listServers()).toMatchObject([
      { url: a.url, protocol: "ollama", reachable: true, models: ["llama3.2:3b", "private:7b", "qwen2.5:0.5b"] },
      { url: b.url, protocol: "openai", reachable: true, models: ["gpt-4o-mini", "llama3.2:3b"] },
      { url: `http://127.0.0.1:${gone}`, reachable: false, problem: expect.stringContaining("refused") }
    ])
    expect((await cortex.listModelServers("llama3.2:3b")).map(({ url }) => url)).toEqual([a.url, b.url])
    expect(await cortex.listModelServers("nonsense")).toEqual([])
  })

  it("records that lack a name or an address are skipped", async () => {
    const a = await fleet.ollama()
    const registry = registryOf(
      { ip_port: a.url },
      { model_name: model },
      { model_name: model, ip_port: a.url, ip_city_name_en: "Bonn" }
    )
    const cortex = fleet.cortex([a], { registry })
    expect(await cortex.listModelServers(model)).toMatchObject([
      { url: a.url, location: { city: "Bonn" }, performance: {} }
    ])
    expect((await cortex.bestServer(model)).url).toBe(a.url)
    expect((await cortex.registryWarnings()).length).toBeGreaterThan(0)
  })

  it("getServerInfo: the first, or the named one", async () => {
    const { a, b, cortex } = await world()
    expect((await cortex.getServerInfo("llama3.2:3b")).url).toBe(a.url)
    expect((await cortex.getServerInfo("llama3.2:3b", { serverUrl: `${b.url}/` })).url).toBe(b.url)
    expect(await failure(cortex.getServerInfo("private:7b", { serverUrl: b.url }))).toMatchObject({ _tag: "NoServers" })
    expect(await failure(cortex.getServerInfo("nonsense"))).toMatchObject({ _tag: "ModelNotFound" })
  })

  it("bestServer has the speed at the top level and under performance, and the country's code", async () => {
    const only = await fleet.ollama({ reply: "one two three", perToken: 5 })
    const cortex = fleet.cortex([{ url: only.url, location: { city: "Bonn", country: "DE", countryName: "Germany" } }])
    await cortex.chat("Hi")
    const best = await cortex.bestServer(model)
    expect(best).toMatchObject({ url: only.url, location: { country: "DE" } })
    expect(best.tokens_per_second).toBeGreaterThan(0)
    expect(best.performance.tokens_per_second).toBe(best.tokens_per_second)
    expect(await failure(cortex.bestServer("nonsense"))).toMatchObject({ _tag: "ModelNotFound" })
    expect(best.tokens_per_second).toBeLessThanOrEqual(maxPlausibleSpeed)
  })

  it("bestServer refuses an unknown strategy", async () => {
    for (const n of [1, 2]) {
      const servers = await Promise.all(Array.from({ length: n }, () => fleet.ollama()))
      const wrong = fleet.cortex(servers).bestServer(model, { strategy: "cheapest" as Routing })
      expect(await failure(wrong)).toMatchObject({ _tag: "InvalidRequest", field: "strategy" })
    }
  })

  it("getLlmParams and getRandomLlmParams", async () => {
    const { a, b, cortex } = await world()
    expect(await cortex.getLlmParams("private:7b")).toEqual({ model: "private:7b", base_url: a.url, baseUrl: a.url })
    expect(await cortex.getLlmParams("gpt-4o-mini")).toMatchObject({ base_url: `${b.url}/v1` })
    expect(await cortex.getLlmParams()).toMatchObject({ model: "llama3.2:3b" })
    expect(await failure(fleet.cortex([a, b]).getLlmParams("nonsense"))).toMatchObject({ _tag: "ModelNotFound" })
    const seen = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const { base_url, model } = await cortex.getRandomLlmParams()
      seen.add(`${model} ${base_url}`)
    }
    // Those of the server that speaks Ollama's protocol.
    expect(seen.size).toBe(3)
    expect(await failure(fleet.cortex([]).getRandomLlmParams())).toMatchObject({ _tag: "NoServers" })
  })

  it("buildApiRequest: the exact payload, and nothing is sent", async () => {
    const { a, cortex } = await world()
    await cortex.listServers()
    const before = a.requests.length
    expect(
      await cortex.buildApiRequest("llama3.2:3b", "Hello, world!", { temperature: 0.5, numPredict: 100, seed: 42 })
    ).toEqual({
      model: "llama3.2:3b",
      prompt: "Hello, world!",
      options: { temperature: 0.5, top_p: 0.9, stop: [], num_predict: 100, seed: 42 }
    })
    const all = {
      topP: 1,
      stop: ["x"],
      repeatPenalty: 1.1,
      tfsZ: 1,
      mirostat: 2,
      system: "Be brief.",
      stream: false
    } as const
    expect(await cortex.buildApiRequest("llama3.2:3b", "Hi", all)).toEqual({
      model: "llama3.2:3b",
      prompt: "Hi",
      system: "Be brief.",
      stream: false,
      options: { temperature: 0.7, top_p: 1, stop: ["x"], repeat_penalty: 1.1, tfs_z: 1, mirostat: 2 }
    })
    const tools = [{ type: "function", function: { name: "f" } }]
    const messages = [{ role: "user", content: "one" }]
    expect(await cortex.buildApiRequest("llama3.2:3b", "two", { messages, tools, system: "Be brief." })).toEqual({
      model: "llama3.2:3b",
      messages: [{ role: "system", content: "Be brief." }, ...messages, { role: "user", content: "two" }],
      tools,
      options: { temperature: 0.7, top_p: 0.9, stop: [] }
    })
    expect(a.requests.length).toBe(before)
  })

  it("buildApiRequest refuses options that Ollama's API lacks, and an unknown model", async () => {
    const { cortex } = await world()
    for (const field of ["tool_choice", "session_id", "memory", "metadata", "temprature"]) {
      const error = await failure(cortex.buildApiRequest("llama3.2:3b", "Hi", { [field]: "x" }))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field })
    }
    expect(await failure(cortex.buildApiRequest("nonsense", "Hi"))).toMatchObject({ _tag: "ModelNotFound" })
  })

  it("an invalid setting makes every call fail with it", async () => {
    const only = await fleet.ollama()
    for (const [servers, field] of [
      [["ftp://x"], "servers.url"],
      [[only.url, only.url], "servers"],
      [[{ url: only.url, weight: 0 }], "servers.weight"],
      [[{ url: only.url, apikey: "x" }], "servers.apikey"]
    ] as const) {
      const cortex = fleet.cortex(servers as ReadonlyArray<string>)
      expect(await failure(cortex.chat("Hi"))).toMatchObject({ _tag: "InvalidConfig", field })
      expect(await failure(cortex.models())).toMatchObject({ _tag: "InvalidConfig", field })
    }
    for (const [sessions, field] of [
      [{ maxSessions: 0 }, "sessions.maxSessions"],
      [{ maxBytes: 1.5 }, "sessions.maxBytes"],
      [{ ttl: Number.NaN }, "sessions.ttl"]
    ] as const) {
      const cortex = fleet.cortex([only.url], { sessions })
      expect(await failure(cortex.chat("Hi"))).toMatchObject({ _tag: "InvalidConfig", field })
    }
    expect(only.requests).toEqual([])
  })
})
