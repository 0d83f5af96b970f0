/** Limits over several gateways in virtual time, while statements are slow, lost or done without an answer. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { describe, expect, it } from "vitest"
import { StoreUnavailable } from "../../src/Errors.js"
import type { Allowance } from "../../src/gateway/rateLimits.js"
import { isRejection } from "../../src/gateway/rateLimits.js"
import * as LeasedLimits from "../../src/gateway/replicas/LeasedLimits.js"
import { exchangeIn } from "../../src/gateway/replicas/limitTable.js"
import type { SharedLimits } from "../../src/gateway/replicas/sharedLimits.js"
import type * as Store from "../../src/Store.js"
import { randomOf, VirtualTime } from "../support/virtualTime.js"

const unlimited = Number.POSITIVE_INFINITY

interface Faults {
  /** How long a statement takes, in milliseconds. */
  readonly delay: () => number
  /** Whether the connection is lost before a statement, or after it was done. */
  readonly loses: () => "before" | "after" | undefined
}

const calm: Faults = { delay: () => 1, loses: () => undefined }

/** The row of one key, and statements on it that take their time. */
class FakeTable {
  row: { version: number; state: string } | undefined
  faults: Faults = calm

  constructor(private readonly time: VirtualTime) {}

  get state(): SharedLimits {
    return JSON.parse(this.row?.state ?? "{}") as SharedLimits
  }

  private readonly run = (words: string, args: ReadonlyArray<unknown>): ReadonlyArray<object> => {
    const { row } = this
    if (words.startsWith("SELECT")) return row === undefined ? [] : [{ ...row, now: this.time.now }]
    if (words.startsWith("INSERT")) {
      this.row ??= { version: 0, state: "{}" }
      return []
    }
    const [version, state, , before] = args as [number, string, string, number]
    if (row?.version !== before) return []
    this.row = { version, state }
    return [{ version }]
  }

  private readonly sql = (words: TemplateStringsArray, ...args: ReadonlyArray<unknown>) =>
    Effect.gen(this, function* () {
      const delay = this.faults.delay()
      const loss = this.faults.loses()
      yield* Effect.sleep(delay / 2)
      if (loss === "before") return yield* new StoreUnavailable({ reason: "lost before", uncertain: false })
      // What has reached the server is done, also where nobody waits any more.
      const rows = this.run(words[0] ?? "", args)
      yield* Effect.sleep(delay / 2)
      if (loss === "after") return yield* new StoreUnavailable({ reason: "lost after", uncertain: false })
      return rows
    })

  /** The store of one replica; once that is killed, nothing that it sends arrives. */
  storeOf(replica: { readonly alive: boolean }): Store.Service {
    const sql = (words: TemplateStringsArray, ...args: ReadonlyArray<unknown>) =>
      Effect.suspend(() => (replica.alive ? this.sql(words, ...args) : Effect.never))
    return {
      use: (run: (sql: unknown, dialect: unknown) => unknown) => run(sql, { now: () => "now" })
    } as unknown as Store.Service
  }
}

/** Several gateways over one table, with clients that ask as much as they can. */
class World {
  readonly time = new VirtualTime()
  readonly table = new FakeTable(this.time)
  readonly logs: Array<string> = []
  private readonly scopes: Array<Scope.CloseableScope> = []
  admitted = 0
  lastAdmittedAt = 0
  tokens = 0
  inFlight = 0
  mostInFlight = 0
  readonly refusals: Array<{ readonly at: number; readonly code: string; readonly admitted: number }> = []

  constructor(readonly random: () => number) {}

  run<A>(effect: Effect.Effect<A>): Promise<A> {
    return Effect.runPromise(Effect.withClock(effect, this.time.clock))
  }

  async gateway() {
    const scope = await Effect.runPromise(Scope.make())
    this.scopes.push(scope)
    const replica = { alive: true }
    const made = LeasedLimits.make(
      exchangeIn(this.table.storeOf(replica)),
      (line) => this.logs.push(line),
      () => this.time.now
    )
    return Object.assign(replica, { limits: await this.run(Scope.extend(made, scope)) })
  }

  /** One request after the other. */
  async client(
    gateway: Awaited<ReturnType<World["gateway"]>>,
    access: Allowance,
    options: { readonly until: number; readonly hold: number; readonly pause: number; readonly answer?: number }
  ): Promise<void> {
    const { answer = 0, hold, pause, until } = options
    while (gateway.alive && this.time.now < until) {
      const ticket = await gateway.limits.acquire(access)
      // Its process is gone.
      if (!gateway.alive) return
      if (ticket === undefined) throw new Error("the key has limits")
      const problem = isRejection(ticket)
        ? ticket
        : answer === 0
          ? undefined
          : await ticket.reserve({ answers: 1, param: "n", prompt: 10, maxTokens: answer })
      if (problem !== undefined) {
        if (!isRejection(ticket)) ticket.release({ prompt: 0, completion: 0 })
        this.refusals.push({ at: this.time.now, code: String(problem.code), admitted: this.admitted })
        await this.time.sleep(pause * (0.5 + this.random()))
        continue
      }
      this.admitted++
      this.lastAdmittedAt = this.time.now
      this.inFlight++
      this.mostInFlight = Math.max(this.mostInFlight, this.inFlight)
      await this.time.sleep(hold * (0.5 + this.random()))
      this.inFlight--
      const used = answer === 0 ? 0 : Math.ceil(this.random() * answer)
      this.tokens += answer === 0 ? 0 : 10 + used
      if (!isRejection(ticket)) ticket.release({ prompt: answer === 0 ? 0 : 10, completion: used })
    }
  }

  async end(): Promise<void> {
    const closing = Promise.all(this.scopes.map((scope) => this.run(Scope.close(scope, Exit.void))))
    await this.time.runUntil(this.time.now + 60_000)
    await closing
  }
}

const perMinute = (requestsPerMinute: number): Allowance => ({
  name: "key",
  requestsPerMinute,
  tokensPerMinute: unlimited,
  concurrency: unlimited
})

const runs = Number(process.env["AICORTEX_TEST_INTERLEAVINGS"] ?? 4)

/** Statements that are slow, now and then so slow that they are given up, and connections that break. */
const trouble = (random: () => number, slow: number, lost: number): Faults => ({
  delay: () => (random() < slow ? 500 + random() * 4_500 : random() * 6),
  loses: () => (random() < lost ? (random() < 0.5 ? "before" : "after") : undefined)
})

describe("limits over gateways in virtual time", { timeout: 60_000 }, () => {
  const kinds = [
    ["all is well", 0, 0],
    ["the store is slow", 0.01, 0],
    ["connections break", 0, 0.05],
    ["both", 0.01, 0.02]
  ] as const
  it.each(kinds)("are used up to 1 %%, and not exceeded by more, with %s", async (_, slow, lost) => {
    for (let seed = 1; seed <= runs; seed++) {
      const world = new World(randomOf(seed))
      const { random, table, time } = world
      table.faults = trouble(random, slow, lost)
      const limit = [60, 150, 300, 1_200, 3_000][seed % 5] ?? 300
      const access = perMinute(limit)
      // Longer than it takes to use all up, and until slow statements have ended.
      const end = slow === 0 ? 4_000 : 20_000
      const gateways = [await world.gateway(), await world.gateway(), await world.gateway()]
      const hold = 60_000 / limit / 4
      const clients = gateways.flatMap((gateway, i) =>
        Array.from({ length: 4 - i }, () => world.client(gateway, access, { until: end, hold, pause: 40 }))
      )
      // A statement that takes long near the end would leave no time to use what it brings.
      await time.runUntil(slow === 0 ? end : end / 2)
      table.faults = calm
      await time.runUntil(end + 20_000)
      await Promise.all(clients)
      const allowedAt = (at: number) => limit + (at / 60_000) * limit
      const allowed = allowedAt(world.lastAdmittedAt)
      const words = `seed ${seed}: ${world.admitted} of ${allowed}, refusals: ${JSON.stringify(world.refusals.slice(-3))}`
      expect(world.admitted, words).toBeLessThanOrEqual(allowed * 1.01 + 1)
      expect(world.admitted, words).toBeGreaterThanOrEqual(allowedAt(end) * 0.99 - 1)
      if (lost === 0) expect(world.refusals.filter(({ code }) => code === "limits_unavailable")).toEqual([])
      // Nobody is refused while more than what the slices hold is left, besides what comes in a moment.
      if (slow + lost === 0) {
        for (const { admitted, at } of world.refusals)
          expect(allowedAt(at) - admitted, words).toBeLessThanOrEqual(limit * 0.01 + clients.length)
      }
      await world.end()
      // What was not used is back: nothing was lost on the way, and nothing appeared twice.
      if (lost === 0) {
        const { replicas, requests } = table.state
        expect(replicas, words).toEqual({})
        const since = ((time.now - 60_000) / 60_000) * limit
        expect(requests?.left ?? 0, words).toBeLessThanOrEqual(limit + since)
      }
    }
  })

  it("lose one percent at most if a gateway is killed", async () => {
    for (let seed = 1; seed <= runs; seed++) {
      const world = new World(randomOf(seed))
      const { random, table, time } = world
      table.faults = trouble(random, 0, 0)
      const limit = [60, 300, 1_200, 3_000][seed % 4] ?? 300
      const end = 5_000
      const gateways = [await world.gateway(), await world.gateway(), await world.gateway()]
      const ask = (gateway: (typeof gateways)[number]) =>
        Array.from({ length: 3 }, () =>
          world.client(gateway, perMinute(limit), { until: end, hold: 60_000 / limit / 4, pause: 40 })
        )
      const clients = gateways.flatMap(ask)
      await time.runUntil(500 + random() * 2_000)
      for (const gateway of gateways.slice(0, 1)) gateway.alive = false
      clients.push(...ask(await world.gateway()))
      await time.runUntil(end + 20_000)
      const allowed = limit + (end / 60_000) * limit
      const words = `seed ${seed}: ${world.admitted} of ${allowed}`
      expect(world.admitted, words).toBeLessThanOrEqual(allowed * 1.01 + 1)
      // Its slice, the requests that it was about to admit, and what the others hold.
      expect(world.admitted, words).toBeGreaterThanOrEqual(allowed * 0.98 - 4)
      await world.end()
    }
  })

  it("are enforced for tokens, whose number is known at the end", async () => {
    for (let seed = 1; seed <= runs; seed++) {
      const world = new World(randomOf(seed))
      const { random, table, time } = world
      table.faults = trouble(random, 0, seed % 2 === 0 ? 0 : 0.03)
      const limit = [2_000, 20_000, 60_000][seed % 3] ?? 2_000
      const answer = 40
      const access = { ...perMinute(unlimited), tokensPerMinute: limit }
      const end = 6_000
      const gateways = [await world.gateway(), await world.gateway(), await world.gateway()]
      const clients = gateways.flatMap((gateway) =>
        Array.from({ length: 3 }, () =>
          world.client(gateway, access, { until: end, hold: Math.min(100, 400_000 / limit), pause: 40, answer })
        )
      )
      await time.runUntil(end + 20_000)
      await Promise.all(clients)
      const allowed = limit + (end / 60_000) * limit
      const words = `seed ${seed}: ${world.tokens} of ${allowed}`
      expect(world.tokens, words).toBeLessThanOrEqual(limit * 1.01 + (world.lastAdmittedAt / 60_000) * limit + 1)
      // A request is refused where it might need more than is left.
      expect(world.tokens, words).toBeGreaterThanOrEqual(allowed * 0.99 - (10 + answer) * 2)
      await world.end()
    }
  })

  it("are enforced for concurrent requests, and all slots are free again at the end", async () => {
    for (let seed = 1; seed <= runs; seed++) {
      const world = new World(randomOf(seed))
      const { random, table, time } = world
      table.faults = trouble(random, seed % 3 === 0 ? 0.01 : 0, seed % 2 === 0 ? 0.03 : 0)
      const limit = [1, 4, 30][seed % 3] ?? 4
      const access = { ...perMinute(unlimited), concurrency: limit }
      const gateways = [await world.gateway(), await world.gateway(), await world.gateway()]
      const ask = (until: number, count: number) =>
        gateways.flatMap((gateway) =>
          Array.from({ length: count }, () => world.client(gateway, access, { until, hold: 60, pause: 50 }))
        )
      const clients = ask(6_000, Math.ceil(limit / 2))
      await time.runUntil(6_000)
      table.faults = calm
      await time.runUntil(20_000)
      await Promise.all(clients)
      const words = `seed ${seed}: ${world.mostInFlight} of ${limit}`
      expect(world.mostInFlight, words).toBe(limit)
      expect(world.inFlight).toBe(0)
      // One gateway alone has all of them now.
      world.mostInFlight = 0
      const last = gateways
        .slice(0, 1)
        .flatMap((gateway) =>
          Array.from({ length: limit }, () => world.client(gateway, access, { until: 21_500, hold: 60, pause: 50 }))
        )
      await time.runUntil(23_000)
      await Promise.all(last)
      expect(world.mostInFlight, words).toBe(limit)
      await world.end()
    }
  })

  it("are served from slices during a store outage, which is logged once, and so is its end", async () => {
    const world = new World(randomOf(7))
    const { table, time } = world
    const limit = 6_000
    const gateway = await world.gateway()
    const options = { hold: 5, pause: 50 }
    const before = world.client(gateway, perMinute(limit), { ...options, until: 300 })
    await time.runUntil(400)
    await before
    table.faults = { delay: () => 1, loses: () => "before" }
    const admitted = world.admitted
    const during = world.client(gateway, perMinute(limit), { ...options, until: 10_000 })
    await time.runUntil(10_500)
    await during
    // It held a slice of one percent, at least half of it.
    expect(world.admitted - admitted).toBeGreaterThanOrEqual(limit * 0.005 - 1)
    expect(world.admitted - admitted).toBeLessThanOrEqual(limit * 0.01 + 1)
    expect(gateway.limits.available).toBe(false)
    expect(new Set(world.refusals.map(({ code }) => code))).toEqual(new Set(["limits_unavailable"]))
    table.faults = calm
    await time.runUntil(12_000)
    expect(gateway.limits.available).toBe(true)
    expect(world.logs).toEqual([
      "limits are served from what this gateway holds: lost before",
      "limits are shared with the other gateways again"
    ])
    await world.end()
  })
})
