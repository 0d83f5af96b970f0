import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { ServerFailure } from "../../src/Backend.js"
import { Routing } from "../../src/ChatRequest.js"
import * as Fleet from "../../src/Fleet.js"
import * as Prng from "../../src/internal/prng.js"
import * as Router from "../../src/Router.js"
import { fromOptions, type Host } from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"

const strategies = Routing.literals
const models = ["a", "b"]
const capacity = 512

// -----------------------------------------------------------------------------
// a world of callers
// -----------------------------------------------------------------------------

interface ServerSpec {
  readonly protocol: "ollama" | "openai"
  readonly maxInFlight: number | undefined
  readonly priority: number
  readonly models: ReadonlyArray<string>
}

interface Caller {
  readonly id: number
  readonly model: string
  readonly route: Router.Route
  state: "waiting" | "served" | "over"
  at: number
  lease: Fleet.Lease | undefined
  leave: (() => void) | undefined
  answered: boolean
  fresh: boolean
}

const makeWorld = (specs: ReadonlyArray<ServerSpec>, strategy: Routing) =>
  Effect.gen(function* () {
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const fleet = yield* Effect.provideService(Fleet.make, Settings.CurrentSettings, Settings.empty)
    const random = Prng.make(5)
    const url = (i: number) => `http://s${i}:1`
    const pools = new Map(
      models.map((model) => {
        const hosts = specs.flatMap((spec, i): ReadonlyArray<Host> => {
          if (!spec.models.includes(model)) return []
          const { maxInFlight, priority, protocol } = spec
          const server = Either.getOrThrow(fromOptions({ url: url(i), protocol, maxInFlight, priority }, "test"))
          return [{ server, protocol, model, certain: true, performance: undefined }]
        })
        return [model, fleet.pool(hosts, () => Number.NaN)] as const
      })
    )
    let callers: Array<Caller> = []
    let ids = 0
    /** Of each model, the callers in the order in which they got their first place. */
    const granted = new Map<string, Array<Caller>>(models.map((model) => [model, []]))
    const problems: Array<string> = []
    const urlOf = (caller: Caller) => caller.route.columns.hosts[caller.at]?.server.url ?? ""
    const openOn = (address: string, model?: string) =>
      callers.filter(
        (caller) =>
          caller.state === "served" && urlOf(caller) === address && (model === undefined || caller.model === model)
      ).length

    const go = (caller: Caller, at: number): void => {
      if (at === Router.none) {
        if (caller.route.tried.includes(0)) problems.push(`${caller.id} gave up before it had tried everybody`)
        caller.state = "over"
        return
      }
      const { columns: pool, tried } = caller.route
      const snapshot = fleet.snapshot(pool.hosts[at]?.server.url ?? "", caller.model)
      if ((pool.free[at] ?? 0) <= 0) problems.push(`${caller.id} was given a place that is taken`)
      // A server that rests or is being probed is only tried where no other is left.
      if (snapshot.breaker === "open" || (snapshot.breaker === "half-open" && snapshot.probing)) {
        const better = pool.hosts.some(({ server }, i) => {
          const other = fleet.snapshot(server.url, caller.model)
          return (
            i !== at &&
            tried[i] === 0 &&
            (other.breaker === "closed" || (other.breaker === "half-open" && !other.probing))
          )
        })
        if (better) problems.push(`${caller.id} was sent to a server that rests, although another does not`)
      }
      caller.at = at
      caller.state = "served"
      caller.answered = false
      caller.lease = caller.route.lease(at)
      if (caller.fresh) granted.get(caller.model)?.push(caller)
      caller.fresh = false
    }
    const proceed = (caller: Caller): void => {
      const at = caller.route.next()
      if (at !== Router.waitForSlot) {
        go(caller, at)
        return
      }
      caller.state = "waiting"
      const ticket = caller.route.queue(
        (at) => {
          caller.leave = undefined
          go(caller, at)
        },
        () => {}
      )
      if ("leave" in ticket) {
        if (caller.state === "waiting") caller.leave = ticket.leave
      } else caller.state = "over"
    }
    const served = () => callers.filter(({ state }) => state === "served")
    const waiting = () => callers.filter(({ state }) => state === "waiting")
    const take = (list: ReadonlyArray<Caller>, n: number): Caller | undefined => list[n % Math.max(1, list.length)]

    return {
      fleet,
      granted,
      pools,
      problems,
      served,
      waiting,
      arrive(model: string) {
        const pool = pools.get(model)
        if (pool === undefined || pool.size === 0) return
        const route = new Router.RoutePlan(pool, strategy, fleet, random, now, {})
        const caller: Caller = {
          id: ids++,
          model,
          route,
          state: "waiting",
          at: -1,
          lease: undefined,
          leave: undefined,
          answered: false,
          fresh: true
        }
        if (callers.length > 100) callers = callers.filter(({ state }) => state !== "over")
        callers.push(caller)
        proceed(caller)
      },
      answer(n: number) {
        const caller = take(served(), n)
        if (caller === undefined || caller.answered) return
        caller.answered = true
        caller.lease?.answered()
      },
      succeed(n: number, waited = 0) {
        const caller = take(served(), n)
        if (caller === undefined) return
        caller.state = "over"
        caller.lease?.answered()
        caller.lease?.succeed({
          firstTokenTime: 100 + waited,
          tokensPerSecond: 50,
          keepAlive: 60_000,
          promptTokens: 100,
          promptTime: 100,
          loadTime: 0
        })
      },
      fail(n: number, failure: ServerFailure) {
        const caller = take(served(), n)
        if (caller === undefined) return
        caller.lease?.fail(failure)
        proceed(caller)
      },
      cancel(n: number) {
        const caller = take(served(), n)
        if (caller === undefined) return
        caller.state = "over"
        caller.lease?.cancel()
        // Only the first end counts.
        caller.lease?.fail({ reason: "cut", message: "" })
      },
      leave(n: number) {
        const caller = take(waiting(), n)
        if (caller === undefined) return
        caller.state = "over"
        caller.leave?.()
      },
      resident: (server: number, held: ReadonlyArray<string>) => {
        if (specs[server % specs.length]?.protocol !== "ollama") return
        fleet.resident(url(server % specs.length), new Map(held.map((model) => [model, now() + 60_000])))
      },
      check() {
        for (const [i, spec] of specs.entries()) {
          for (const model of spec.models) {
            const { inFlight } = fleet.snapshot(url(i), model)
            if (inFlight !== openOn(url(i))) problems.push(`server ${i} counts ${inFlight}, not ${openOn(url(i))}`)
            if (inFlight < 0 || inFlight > (spec.maxInFlight ?? Number.POSITIVE_INFINITY)) {
              problems.push(`server ${i} has ${inFlight} in flight`)
            }
            const places = spec.protocol === "ollama" && spec.maxInFlight === undefined ? 16 : Number.POSITIVE_INFINITY
            if (openOn(url(i), model) > places) problems.push(`server ${i} has too many for ${model}`)
          }
        }
        for (const model of models) {
          const queued = pools.get(model)?.queued ?? 0
          const counted = waiting().filter((caller) => caller.model === model).length
          if (queued !== counted || queued > capacity) problems.push(`${queued} wait for ${model}, not ${counted}`)
        }
      }
    }
  })

type World = Effect.Effect.Success<ReturnType<typeof makeWorld>>

// -----------------------------------------------------------------------------
// what may happen
// -----------------------------------------------------------------------------

const reasons = [
  "server-error",
  "refused",
  "cut",
  "first-token-timeout",
  "idle-timeout",
  "busy",
  "unauthorized"
] as const

const failure = fc.record({
  reason: fc.constantFrom(...reasons),
  message: fc.constant(""),
  retryAfter: fc.option(fc.integer({ min: 1, max: 5_000 }), { nil: undefined })
})

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("arrive" as const), model: fc.constantFrom(...models) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("answer" as const), n: fc.nat(50) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("succeed" as const), n: fc.nat(50), waited: fc.constantFrom(0, 10, 500) })
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("fail" as const), n: fc.nat(50), failure }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), n: fc.nat(50) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("leave" as const), n: fc.nat(50) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant("resident" as const), n: fc.nat(9), held: fc.subarray(models) })
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(1, 300, 2_000, 40_000, 70_000) })
  }
)
type Step = typeof step extends fc.Arbitrary<infer A> ? A : never

const perform = (world: World, step: Step): Effect.Effect<void> => {
  switch (step.do) {
    case "arrive":
      return Effect.sync(() => world.arrive(step.model))
    case "answer":
      return Effect.sync(() => world.answer(step.n))
    case "succeed":
      return Effect.sync(() => world.succeed(step.n, step.waited))
    case "fail":
      return Effect.sync(() => {
        const { message, reason, retryAfter } = step.failure
        world.fail(step.n, { message, reason, ...(retryAfter === undefined ? {} : { retryAfter }) })
      })
    case "cancel":
      return Effect.sync(() => world.cancel(step.n))
    case "leave":
      return Effect.sync(() => world.leave(step.n))
    case "resident":
      return Effect.sync(() => world.resident(step.n, step.held))
    case "pass":
      return TestClock.adjust(step.ms)
  }
}

const spec: fc.Arbitrary<ServerSpec> = fc.record({
  protocol: fc.constantFrom("ollama" as const, "openai" as const),
  maxInFlight: fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
  priority: fc.integer({ min: 0, max: 1 }),
  models: fc.subarray(models, { minLength: 1 })
})

const run = <A>(effect: Effect.Effect<A>): Promise<A> =>
  Effect.runPromise(Effect.provide(effect, TestContext.TestContext))

describe("under any interleaving", () => {
  it("slots are never exceeded, no waiting call is forgotten, and resting servers get no requests", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(spec, { minLength: 1, maxLength: 4 }),
        fc.constantFrom(...strategies),
        fc.array(step, { maxLength: 80 }),
        (specs, strategy, steps) =>
          run(
            Effect.gen(function* () {
              const world = yield* makeWorld(specs, strategy)
              for (const step of steps) {
                yield* perform(world, step)
                world.check()
                expect(world.problems).toEqual([])
              }
              // Once every request ends well everybody has had a turn: loads end, rests end, and places come free.
              for (let round = 0; round < 2_000 && world.served().length + world.waiting().length > 0; round++) {
                if (world.served().length === 0) yield* TestClock.adjust("1 second")
                world.succeed(0)
              }
              world.check()
              expect(world.problems).toEqual([])
              expect(world.waiting()).toEqual([])
              for (const { inFlight } of specs.flatMap((spec, i) =>
                spec.models.map((model) => world.fleet.snapshot(`http://s${i}:1`, model))
              )) {
                expect(inFlight).toBe(0)
              }
            })
          )
      ),
      { numRuns: 150 }
    )
  })

  it("calls that wait for a model are served in the order in which they came", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(spec, { minLength: 1, maxLength: 3 }),
        fc.constantFrom(...strategies),
        fc.array(step, { minLength: 20, maxLength: 60 }),
        (specs, strategy, steps) =>
          run(
            Effect.gen(function* () {
              const world = yield* makeWorld(
                specs.map((spec) => ({ ...spec, maxInFlight: spec.maxInFlight ?? 2 })),
                strategy
              )
              for (const model of models) for (let i = 0; i < 10; i++) world.arrive(model)
              for (const step of steps) if (step.do !== "fail" && step.do !== "pass") yield* perform(world, step)
              for (let round = 0; round < 500 && world.waiting().length > 0; round++) {
                if (world.served().length === 0) yield* TestClock.adjust("1 second")
                world.succeed(0)
              }
              for (const order of world.granted.values()) {
                const ids = order.map(({ id }) => id)
                expect(ids).toEqual([...ids].sort((a, b) => a - b))
              }
            })
          )
      ),
      { numRuns: 100 }
    )
  })

  it("a call that had a slot and failed goes before those that had none", () =>
    run(
      Effect.gen(function* () {
        const limited = { protocol: "openai", maxInFlight: 1, priority: 0, models: ["a"] } as const
        const world = yield* makeWorld([limited, limited], "random")
        for (let i = 0; i < 4; i++) world.arrive("a")
        expect(world.served().map(({ id }) => id)).toEqual([0, 1])
        world.fail(0, { reason: "busy", message: "", retryAfter: 1_000_000 })
        world.succeed(0)
        expect(world.served().map(({ id }) => id)).toEqual([0])
      })
    ))

  it("a call that waits for a load that does not end makes another server load the model", () =>
    run(
      Effect.gen(function* () {
        const cold = { protocol: "ollama", maxInFlight: undefined, priority: 0, models: ["a"] } as const
        const world = yield* makeWorld([cold, cold], "least-busy")
        world.arrive("a")
        world.arrive("a")
        expect(world.waiting()).toHaveLength(1)
        yield* TestClock.adjust("20 seconds")
        expect(world.waiting()).toHaveLength(1)
        yield* TestClock.adjust("12 seconds")
        expect(
          world
            .served()
            .map(({ at }) => at)
            .sort()
        ).toEqual([0, 1])
      })
    ))

  it("the queue is bounded", () =>
    run(
      Effect.gen(function* () {
        const world = yield* makeWorld([{ protocol: "openai", maxInFlight: 1, priority: 0, models: ["a"] }], "random")
        for (let i = 0; i < 600; i++) world.arrive("a")
        expect(world.served()).toHaveLength(1)
        expect(world.waiting()).toHaveLength(capacity)
        world.check()
        expect(world.problems).toEqual([])
      })
    ))
})

// -----------------------------------------------------------------------------

describe("breakers", () => {
  const two: ReadonlyArray<ServerSpec> = [0, 1].map(() => ({
    protocol: "openai",
    maxInFlight: undefined,
    priority: 0,
    models: ["a"]
  }))
  const broken: ServerFailure = { reason: "server-error", message: "" }
  const first = "http://s0:1"

  /** The times, in seconds, at which the first server is tried, under steady traffic, if it always fails. */
  const probes = (seconds: number, pause: number, strategy: Routing, retryAfter?: number) =>
    run(
      Effect.gen(function* () {
        const world = yield* makeWorld(two, strategy)
        const times: Array<number> = []
        for (let second = 0; second < seconds; second += pause) {
          for (let i = 0; i < 4; i++) world.arrive("a")
          for (;;) {
            const at = world.served().findIndex(({ at }) => at === 0)
            if (at === -1) break
            times.push(second)
            world.fail(at, retryAfter === undefined ? broken : { ...broken, retryAfter })
          }
          while (world.served().length > 0) world.succeed(0)
          yield* TestClock.adjust(pause * 1_000)
        }
        return times
      })
    )

  it("rest for a minute, then twice as long after each failed probe, up to ten minutes", async () => {
    for (const strategy of ["random", "least-busy"] as const) {
      const times = [...new Set(await probes(3_000, 10, strategy))]
      const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0))
      expect(gaps.length).toBeGreaterThan(4)
      for (const [i, gap] of gaps.entries()) expect(gap).toBeGreaterThanOrEqual(Math.min(600, 60 * 2 ** i))
    }
  })

  it("rest as long as the server asked", async () => {
    const times = [...new Set(await probes(30, 1, "random", 7_000))]
    const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0))
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(7)
    expect(Math.min(...gaps)).toBeLessThan(60)
  })

  it("in half-open state let one request through at a time", () =>
    run(
      Effect.gen(function* () {
        for (const strategy of strategies) {
          const world = yield* makeWorld(two, strategy)
          while (!world.served().some(({ at }) => at === 0)) world.arrive("a")
          world.fail(
            world.served().findIndex(({ at }) => at === 0),
            broken
          )
          while (world.served().length > 0) world.succeed(0)
          yield* TestClock.adjust("61 seconds")
          expect(world.fleet.snapshot(first, "a").breaker).toBe("half-open")
          for (let i = 0; i < 40; i++) world.arrive("a")
          const there = world.served().filter(({ at }) => at === 0)
          // `balanced` prefers a server whose speed is known to one that has yet to show it.
          expect(there.length, strategy).toBe(strategy === "balanced" ? 0 : 1)
          if (strategy === "balanced") continue
          // It answers: the breaker is closed before the answer is complete.
          world.answer(world.served().findIndex(({ at }) => at === 0))
          expect(world.fleet.snapshot(first, "a").breaker).toBe("closed")
        }
      })
    ))

  it("are not opened by a first token that is late because the server is busy with other requests", () =>
    run(
      Effect.gen(function* () {
        const world = yield* makeWorld(two.slice(0, 1), "random")
        const late: ServerFailure = { reason: "first-token-timeout", message: "" }
        for (let i = 0; i < 2; i++) world.arrive("a")
        yield* TestClock.adjust("10 seconds")
        world.answer(1)
        yield* TestClock.adjust("20 seconds")
        world.fail(0, late)
        expect(world.fleet.snapshot(first, "a").breaker).toBe("closed")
        // A request that began since then and gets nothing either is at a hung server.
        world.arrive("a")
        yield* TestClock.adjust("30 seconds")
        world.fail(1, late)
        expect(world.fleet.snapshot(first, "a").breaker).toBe("open")
      })
    ))
})

// -----------------------------------------------------------------------------

describe("no healthy server starves", () => {
  it("with as many requests as slots each server gets some, for all strategies and speeds", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...strategies),
        fc.array(fc.record({ speed: fc.integer({ min: 1, max: 1_000 }), places: fc.integer({ min: 1, max: 4 }) }), {
          minLength: 1,
          maxLength: 8
        }),
        (strategy, servers) =>
          run(
            Effect.gen(function* () {
              const world = yield* makeWorld(
                servers.map(({ places }) => ({
                  protocol: "openai",
                  maxInFlight: places,
                  priority: 0,
                  models: ["a"]
                })),
                strategy
              )
              const total = servers.reduce((sum, { places }) => sum + places, 0)
              for (let i = 0; i < total; i++) world.arrive("a")
              expect(world.waiting()).toEqual([])
              for (const [i, { places }] of servers.entries()) {
                expect(world.served().filter(({ at }) => at === i)).toHaveLength(places)
              }
            })
          )
      ),
      { numRuns: 100 }
    )
  })

  it("random and least-busy use all equally good servers, also sequentially", () =>
    run(
      Effect.gen(function* () {
        for (const strategy of ["random", "least-busy", "warm"] as const) {
          const world = yield* makeWorld(
            Array.from({ length: 10 }, () => ({
              protocol: "openai",
              maxInFlight: undefined,
              priority: 0,
              models: ["a"]
            })),
            strategy
          )
          const seen = new Set<number>()
          for (let i = 0; i < 500; i++) {
            world.arrive("a")
            seen.add(world.served()[0]?.at ?? -1)
            world.succeed(0)
          }
          expect(seen.size, strategy).toBe(10)
        }
      })
    ))
})

// -----------------------------------------------------------------------------

describe("slots on an Ollama server", () => {
  const one: ReadonlyArray<ServerSpec> = [
    { protocol: "ollama", maxInFlight: undefined, priority: 0, models: ["a", "b"] }
  ]
  const warmWorld = Effect.gen(function* () {
    const world = yield* makeWorld(one, "least-busy")
    world.resident(0, ["a", "b"])
    world.arrive("a")
    world.succeed(0)
    return world
  })
  const places = (world: World) => world.fleet.snapshot("http://s0:1", "a").places

  it("decrease when requests wait at the server, and increase when none did although others wait here", () =>
    run(
      Effect.gen(function* () {
        const world = yield* warmWorld
        expect(places(world)).toBe(4)
        for (let i = 0; i < 8; i++) world.arrive("a")
        expect(world.served()).toHaveLength(4)
        // The fourth had to wait for a slot: there are three.
        world.succeed(3, 400)
        expect(places(world)).toBe(3)
        expect(world.served()).toHaveLength(3)
        // The third did not, and others wait here: perhaps there are four.
        world.succeed(2)
        expect(places(world)).toBe(4)
        while (world.served().length > 0) world.succeed(0, 400)
        expect(places(world)).toBe(1)
      })
    ))

  it("a model whose slots are taken does not block another", () =>
    run(
      Effect.gen(function* () {
        const world = yield* warmWorld
        for (let i = 0; i < 6; i++) world.arrive("a")
        expect(world.waiting()).toHaveLength(2)
        world.arrive("b")
        expect(world.served().map(({ model }) => model)).toContain("b")
      })
    ))
})
