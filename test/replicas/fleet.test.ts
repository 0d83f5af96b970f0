/** What gateways with one store tell each other of servers. */
import * as Duration from "effect/Duration"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { type Database, engines } from "../support/databases.js"
import { watchEvents } from "../support/eventStream.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "a:1b"
const messages = [{ role: "user" as const, content: "Hi" }]

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

const ask = (gateway: TestGateway) => gateway.post("/v1/chat/completions", { model, messages, max_tokens: 8 })
const json = async (response: Promise<Response>): Promise<Json> => (await response).json()
const serverOf = async (gateway: TestGateway, at = 0): Promise<Json> =>
  (await json(gateway.get("/servers"))).servers[at]
const replicas = async (gateway: TestGateway): Promise<number> => (await json(gateway.get("/ready"))).replicas
const togetherOf = (gateways: ReadonlyArray<TestGateway>) =>
  eventually(async () => {
    for (const one of gateways) if ((await replicas(one)) !== gateways.length) return false
    return true
  }, "all know each other")

const upstreams = [
  ["ollama", startFakeOllama],
  ["openai", startFakeOpenAI]
] as const

for (const engine of engines) {
  describe(`servers over gateways in ${engine.name}`, { timeout: 60_000 }, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    }, 60_000)
    afterAll(() => database.close())

    const start = async (
      servers: ReadonlyArray<{ readonly url: string; readonly maxInFlight?: number }>,
      count: number
    ) => {
      const store = await database.address()
      const another = async () =>
        keep(await startGateway(servers, {}, { cortex: { store, servers, serverCooldown: Duration.seconds(60) } }))
      const gateways: Array<TestGateway> = []
      for (let i = 0; i < count; i++) gateways.push(await another())
      await togetherOf(gateways)
      return { gateways: gateways as [TestGateway, TestGateway], another, store }
    }

    it.each(upstreams)("a slot taken by one gateway is not free for the others (%s)", async (_, startServer) => {
      const server = keep(await startServer({ models: [model], loaded: [model], reply: "One.", firstToken: 600 }))
      const { gateways } = await start([{ url: server.url, maxInFlight: 1 }], 2)
      const [one, two] = gateways
      const first = ask(one)
      await eventually(() => server.inFlight() === 1, "the first is under way")
      await eventually(async () => (await serverOf(two)).in_flight_elsewhere === 1, "the other knows")
      const second = await ask(two)
      expect(second.status).toBe(200)
      expect((await first).status).toBe(200)
      // The second waited at its gateway.
      expect(server.maxInFlight).toBe(1)
      await eventually(async () => (await serverOf(two)).in_flight_elsewhere === 0, "it is free again")
    })

    it("a rest, and its end, is known everywhere within 300 ms, also at a gateway that starts later", async () => {
      const bad = keep(await startFakeOllama({ models: [model], loaded: [model], reply: "Good." }))
      const { another, gateways } = await start([{ url: bad.url }], 2)
      const [one, two] = gateways
      const breakerOf = async (gateway: TestGateway) => (await serverOf(gateway)).state as string
      await bad.setBehaviour({ faults: { kind: "reset" }, faultOn: "chat" })
      const knows = async (gateway: TestGateway, state: string) => {
        const began = performance.now()
        await eventually(async () => (await breakerOf(gateway)) === state, `it knows that it is ${state}`)
        return performance.now() - began
      }
      const failed = one.post("/v1/chat/completions", { model, messages, max_tokens: 8, max_retries: 0 })
      await knows(one, "open")
      // The machine that runs the tests may be three times slower.
      expect(await knows(two, "open")).toBeLessThan(900)
      expect((await failed).status).toBeGreaterThanOrEqual(500)
      const three = await another()
      await knows(three, "open")
      await bad.setBehaviour({ faults: undefined })
      await one.post("/servers/server-1", { action: "wake" })
      expect(await knows(two, "closed")).toBeLessThan(900)
      await knows(three, "closed")
    })

    it("speeds and loaded models of one are known to the others", async () => {
      const server = keep(
        await startFakeOllama({ models: [model], reply: "One two three four five six.", perToken: 5 })
      )
      const { gateways } = await start([{ url: server.url }], 2)
      const [one, two] = gateways
      expect((await ask(one)).status).toBe(200)
      await eventually(async () => {
        const [known] = (await serverOf(two)).models
        return known?.model === model && known.tokens_per_second > 0
      }, "the speed is known")
    })

    it("in-flight requests of a dead gateway no longer count", async () => {
      const server = keep(
        await startFakeOllama({ models: [model], loaded: [model], faults: { kind: "hang" }, faultOn: "chat" })
      )
      const { gateways } = await start([{ url: server.url }], 2)
      const [one, two] = gateways
      const left = new AbortController()
      const lost = one.post("/v1/chat/completions", { model, messages }, { signal: left.signal }).catch(() => undefined)
      await eventually(async () => (await serverOf(two)).in_flight_elsewhere === 1, "it is known")
      left.abort()
      await lost
      await one.close()
      await eventually(async () => (await replicas(two)) === 1, "it is known to be gone")
      expect((await serverOf(two)).in_flight_elsewhere).toBe(0)
    })

    it.each(upstreams)(
      "a server that one drains is drained everywhere, until any wakes it (%s)",
      async (_, startServer) => {
        const servers = [
          keep(await startServer({ models: [model], loaded: [model], reply: "One." })),
          keep(await startServer({ models: [model], loaded: [model], reply: "Two." }))
        ]
        const { another, gateways } = await start(
          servers.map(({ url }) => ({ url })),
          2
        )
        const [one, two] = gateways
        const [drained, other] = servers as [(typeof servers)[0], (typeof servers)[0]]
        const isDraining = (gateway: TestGateway, at: boolean) =>
          eventually(async () => (await serverOf(gateway)).draining === at, `it knows: ${at}`)
        const seen = keep(await watchEvents((path, init) => two.get(path, init), "?types=fleet"))
        await one.post("/servers/server-1", { action: "drain" })
        await isDraining(two, true)
        expect((await json(two.get("/fleet"))).servers[0]).toMatchObject({ server: "server-1", draining: true })
        await seen.next(({ data }) => data.server === "server-1" && data.draining === true, "it is told")
        // One that starts later knows it, and so does one after a reload.
        const three = await another()
        await isDraining(three, true)
        await two.reload()
        await isDraining(two, true)
        const before = drained.requests.filter(({ path }) => path.includes("chat")).length
        for (const gateway of [one, two, three]) expect((await ask(gateway)).status).toBe(200)
        expect(drained.requests.filter(({ path }) => path.includes("chat"))).toHaveLength(before)
        expect(other.requests.filter(({ path }) => path.includes("chat")).length).toBeGreaterThanOrEqual(3)
        // The one that drained it is gone, and the others still know.
        await one.close()
        await eventually(async () => (await replicas(two)) === 2, "it is known to be gone")
        await isDraining(three, true)
        await two.post("/servers/server-1", { action: "wake" })
        await isDraining(three, false)
        expect((await json(three.get("/fleet"))).servers[0].draining).toBe(false)
        const four = await another()
        await togetherOf([two, three, four])
        expect((await serverOf(four)).draining).toBe(false)
      }
    )

    it.each([
      ["drain", { action: "drain" }],
      ["rest", { action: "rest", seconds: 3_600 }]
    ])("a server woken at a gateway that has not heard of its %s is woken everywhere", async (_, stop) => {
      const server = keep(await startFakeOllama({ models: [model], loaded: [model], reply: "One." }))
      const { gateways } = await start([{ url: server.url }], 2)
      const [one, two] = gateways
      const act = async (gateway: TestGateway, action: object) => {
        await gateway.post("/servers/server-1", action)
        // Which of two is the last is known by the millisecond.
        const at = Date.now()
        while (Date.now() === at) await new Promise((resolve) => setImmediate(resolve))
      }
      const isStopped = async (gateway: TestGateway) => {
        const { draining, state } = await serverOf(gateway)
        return draining || state === "open"
      }
      for (let i = 0; i < 5; i++) {
        await act(one, stop)
        await act(two, { action: "wake" })
        await act(one, stop)
        for (const gateway of gateways) await eventually(() => isStopped(gateway), "the last one stops it")
        await act(one, stop)
        await act(two, { action: "wake" })
        for (const gateway of gateways) {
          await eventually(async () => !(await isStopped(gateway)), "it is woken everywhere")
        }
      }
    })

    const rest = (seconds: number) => ({ action: "rest", seconds })
    it.each([
      ["drain and wake", { action: "drain" }, { action: "wake" }],
      ["rest and wake", rest(3_600), { action: "wake" }],
      ["two rests", rest(3_600), rest(1_800)]
    ])("two actions in the same millisecond have the same outcome everywhere: %s", async (_, first, second) => {
      const newServer = () => startFakeOllama({ models: [model], loaded: [model], reply: "One." })
      const servers = await Promise.all([newServer(), newServer(), newServer()])
      for (const server of servers) keep(server)
      const { gateways } = await start(
        servers.map(({ url }) => ({ url })),
        2
      )
      const [one, two] = gateways
      const act = (gateway: TestGateway, server: number, action: object) =>
        gateway.post(`/servers/server-${server}`, action)
      const stateOf = async (gateway: TestGateway) => {
        const { draining, rests_until = 0, state } = (await json(gateway.get("/fleet"))).servers[0]
        return { draining, state, minutes: Math.round((rests_until - Date.now()) / 60_000) }
      }
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() })
      try {
        for (let i = 0; i < 6; i++) {
          const actions = i % 2 === 0 ? [first, second] : [second, first]
          await Promise.all(gateways.map((gateway, at) => act(gateway, 1, actions[at] ?? first)))
          // Messages of a gateway arrive in order: once these are known, so are those before.
          await Promise.all([act(one, 2, { action: "drain" }), act(two, 3, { action: "drain" })])
          await eventually(async () => (await serverOf(two, 1)).draining, "the second knows all of the first")
          await eventually(async () => (await serverOf(one, 2)).draining, "the first knows all of the second")
          expect(await stateOf(two)).toEqual(await stateOf(one))
          vi.setSystemTime(Date.now() + 1_000)
          for (const server of [1, 2, 3]) await act(one, server, { action: "wake" })
          for (const gateway of gateways) {
            await eventually(async () => {
              const { servers } = await json(gateway.get("/servers"))
              return servers.every(({ draining, state }: Json) => !draining && state === "closed")
            }, "all are woken")
          }
          vi.setSystemTime(Date.now() + 1_000)
        }
      } finally {
        vi.useRealTimers()
      }
    })

    it("a server that an operator rests is resting everywhere", async () => {
      const server = keep(await startFakeOllama({ models: [model], loaded: [model], reply: "One." }))
      const { gateways } = await start([{ url: server.url }], 2)
      const [one, two] = gateways
      await one.post("/servers/server-1", { action: "rest", seconds: 3_600 })
      await eventually(async () => (await serverOf(two)).state === "open", "the other knows")
      const { reason, rests_until } = (await json(two.get("/fleet"))).servers[0]
      expect(reason).toBe("rest")
      expect(rests_until).toBeGreaterThan(Date.now() + 3_500_000)
      await two.post("/servers/server-1", { action: "wake" })
      await eventually(async () => (await serverOf(one)).state === "closed", "it is woken everywhere")
    })

    it("operator actions during a store outage are known everywhere afterwards, the last one wins", async ({
      skip
    }) => {
      if (database.outage === undefined) return skip()
      const ollama = keep(await startFakeOllama({ models: [model], loaded: [model], reply: "One." }))
      const openai = keep(await startFakeOpenAI({ models: [model], reply: "One." }))
      const { gateways } = await start([{ url: ollama.url }, { url: openai.url }], 2)
      const [one, two] = gateways
      await one.post("/servers/server-1", { action: "drain" })
      await eventually(async () => (await serverOf(two)).draining, "the other knows")
      await database.outage.stop()
      try {
        await eventually(async () => (await replicas(one)) === 1 && (await replicas(two)) === 1, "they are alone")
        await two.post("/servers/server-1", { action: "wake" })
        await one.post("/servers/server-2", { action: "drain" })
      } finally {
        await database.outage.start()
      }
      await togetherOf(gateways)
      for (const gateway of gateways) {
        await eventually(async () => !(await serverOf(gateway, 0)).draining, "the first is woken")
        await eventually(async () => (await serverOf(gateway, 1)).draining, "the second is drained")
      }
    })

    it("works alone during a store outage, and together afterwards", async ({ skip }) => {
      if (database.outage === undefined) return skip()
      const server = keep(await startFakeOllama({ models: [model], loaded: [model], reply: "One." }))
      const { gateways } = await start([{ url: server.url }], 2)
      const [one, two] = gateways
      await database.outage.stop()
      try {
        await eventually(async () => (await replicas(one)) === 1, "it is alone")
        expect((await ask(one)).status).toBe(200)
        expect((await json(one.get("/ready"))).store).toBe("unavailable")
      } finally {
        await database.outage.start()
      }
      await togetherOf(gateways)
      const said = (gateway: TestGateway, words: string) => gateway.log.filter((line) => line.includes(words))
      expect(said(one, "what other gateways do is not known")).toHaveLength(1)
      // It knows the others before it has heard itself.
      await eventually(() => said(two, "other gateways are heard again").length === 1, "it says that they are back")
    })
  })
}
