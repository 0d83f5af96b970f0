import { describe, expect, it } from "vitest"
import { Routing } from "../../src/ChatRequest.js"
import { Columns } from "../../src/fleet/columns.js"
import * as Prng from "../../src/internal/prng.js"
import * as Router from "../../src/Router.js"
import * as Server from "../../src/Server.js"
import { failure, inOrder, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

const pool = (size: number): Columns =>
  new Columns(
    Array.from({ length: size }, (_, i) => ({
      server: { ...Server.embedded, url: `http://${i}` },
      protocol: "ollama",
      model,
      certain: true,
      performance: undefined
    }))
  )
const pick = (strategy: Parameters<typeof Router.pick>[0], of: Columns, more: Partial<Router.PickInput> = {}) =>
  Router.pick(strategy, of, new Uint8Array(of.size), { now: 1_000, random: Prng.make(7), ...more })

describe("slots", () => {
  it("a server never exceeds its slots, and everyone is served in turn", async () => {
    const server = await fleet.ollama({ reply: "hi", perToken: 2 })
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 2 }])
    expect(await Promise.all(Array.from({ length: 20 }, () => cortex.chat("Hi")))).toEqual(Array(20).fill("hi"))
    expect(server.maxInFlight).toBe(2)
  })

  it("an Ollama server gets four concurrent requests for a model at first, unless configured", async () => {
    const server = await fleet.ollama({ faults: { kind: "hang" } })
    const cortex = fleet.cortex([server])
    const calls = Array.from({ length: 12 }, () => failure(cortex.chat("Hi")))
    await server.waitForChats(4)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(server.maxInFlight).toBe(4)
    await cortex.close()
    await Promise.all(calls)
  })

  it("a waiting call gets the first free slot of any server", async () => {
    const busy = await fleet.ollama({ reply: "busy", faults: { kind: "hang" } })
    const quick = await fleet.ollama({ reply: "quick" })
    const servers = inOrder(busy, quick).map((server) => ({ ...server, maxInFlight: 1 }))
    const cortex = fleet.cortex(servers)
    const hung = failure(cortex.chat("Hi", { firstTokenTimeout: 60_000 }))
    await busy.waitForChats(1)
    expect(await Promise.all(Array.from({ length: 5 }, () => cortex.chat("Hi")))).toEqual(Array(5).fill("quick"))
    expect(quick.maxInFlight).toBe(1)
    await cortex.close()
    await hung
  })

  it("a model whose servers are full does not block another", async () => {
    const slow = await fleet.ollama({ models: ["slow:1b"], faults: { kind: "hang" } })
    const quick = await fleet.ollama({ models: ["quick:1b"], reply: "quick" })
    const cortex = fleet.cortex([{ url: slow.url, maxInFlight: 1 }, quick])
    const waiting = Array.from({ length: 5 }, () => failure(cortex.chat("Hi", { model: "slow:1b" })))
    await slow.waitForChats(1)
    expect(await cortex.chat("Hi", { model: "quick:1b" })).toBe("quick")
    await cortex.close()
    await Promise.all(waiting)
  })

  it("the queue is bounded: a call beyond it fails with the time to retry", async () => {
    const server = await fleet.ollama({ faults: { kind: "hang" } })
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 1 }])
    const first = failure(cortex.chat("Hi"))
    await server.waitForChats(1)
    const calls = Array.from({ length: 513 }, () => failure(cortex.chat("Hi")))
    const error = await Promise.race(calls)
    expect(error).toMatchObject({ _tag: "Overloaded", model, queued: 512 })
    expect(error.retryAfter).toBeGreaterThan(0)
    await cortex.close()
    await Promise.all([first, ...calls])
  })

  it("the queue length is a setting: a thousand, or none", async () => {
    const server = await fleet.ollama({ reply: "Well." })
    const patient = fleet.cortex([{ url: server.url, maxInFlight: 8 }], { maxQueued: 1_000 })
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => patient.chat("Hi")))
    expect(new Set(answers)).toEqual(new Set(["Well."]))
    const hung = await fleet.ollama({ faults: { kind: "hang" } })
    const proud = fleet.cortex([{ url: hung.url, maxInFlight: 1 }], { maxQueued: 0 })
    const first = failure(proud.chat("Hi"))
    await hung.waitForChats(1)
    expect(await failure(proud.chat("Hi"))).toMatchObject({ _tag: "Overloaded", queued: 0 })
    await proud.close()
    await first
    const wrong = fleet.cortex([server.url], { maxQueued: -1 })
    expect(await failure(wrong.chat("Hi"))).toMatchObject({ _tag: "InvalidConfig", field: "maxQueued" })
  })

  it("a request that leaves the queue, or whose deadline passes there, is never sent", async () => {
    const server = await fleet.ollama({ faults: { kind: "hang" } })
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 1 }])
    const first = failure(cortex.chat("Hi"))
    await server.waitForChats(1)
    const left = new AbortController()
    const leaving = failure(cortex.chat("Hi", { signal: left.signal }))
    const late = failure(cortex.chat("Hi", { deadline: 50 }))
    expect((await late)._tag).toBe("DeadlineExceeded")
    left.abort(new Error("gone"))
    expect((await leaving).message).toBe("gone")
    expect(server.chatRequests).toHaveLength(1)
    await cortex.close()
    await first
  })
})

describe("models in memory", () => {
  it("least-busy and warm use the server that has the model loaded, as it reports", async () => {
    const cold = await fleet.ollama({ reply: "cold" })
    const holds = await fleet.ollama({ reply: "holds", loaded: [model] })
    for (const routing of ["least-busy", "warm"] as const) {
      const cortex = fleet.cortex([cold, holds])
      for (let i = 0; i < 5; i++) expect(await cortex.chat("Hi", { routing })).toBe("holds")
    }
    expect(cold.chatRequests).toHaveLength(0)
  })

  it("requests that come while a server loads the model wait for it: not every server loads it", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => fleet.ollama({ reply: "hi", loadDelay: 100 })))
    const cortex = fleet.cortex(servers)
    await Promise.all(Array.from({ length: 3 }, () => cortex.chat("Hi", { routing: "least-busy" })))
    expect(servers.filter((server) => server.chatRequests.length > 0)).toHaveLength(1)
  })

  it("a load is not a failure: it has a longer timeout", async () => {
    const server = await fleet.ollama({ reply: "hi", loadDelay: 300 })
    const cortex = fleet.cortex([server])
    expect(await cortex.chat("Hi", { firstTokenTimeout: 100, loadTimeout: 5_000 })).toBe("hi")
  })

  it("if all servers that have it loaded are full, a load elsewhere must be worth it", () => {
    const two = pool(2)
    two.residentUntil[0] = 2_000
    two.free[0] = 0
    two.ownInFlight[0] = 1
    two.inFlight[0] = 1
    two.queue.serviceTime = 1_000
    two.queue.loadTime = 10_000
    two.settle(0, 1_000)
    const waiting = (count: number) => {
      while (two.queued < count) two.queue.join({ look: () => false, narrow: () => false }, false)
    }
    expect(pick("least-busy", two)).toBe(Router.waitForSlot)
    waiting(4)
    // Four seconds of waiting are less than half a load.
    expect(pick("least-busy", two, { waited: true })).toBe(Router.waitForSlot)
    waiting(6)
    expect(pick("least-busy", two, { waited: true })).toBe(1)
    // A new call queues behind the waiting ones.
    expect(pick("least-busy", two)).toBe(Router.waitForSlot)
    // A server whose other models are in use loads it only where the wait is longer still; warm, longer than that.
    const other = { residentUntil: 2_000, inFlight: 0, usedAt: 999, queued: 0 }
    two.otherModels[1] = [other]
    expect(pick("least-busy", two, { waited: true })).toBe(Router.waitForSlot)
    waiting(20)
    expect(pick("least-busy", two, { waited: true })).toBe(1)
    expect(pick("warm", two, { waited: true })).toBe(Router.waitForSlot)
    waiting(40)
    expect(pick("warm", two, { waited: true })).toBe(1)
    // Not at all, as long as somebody waits for the model that it would push out.
    two.otherModels[1] = [{ ...other, queued: 1 }]
    expect(pick("least-busy", two, { waited: true })).toBe(Router.waitForSlot)
  })

  it("if no server has it loaded, one loads it, and others only if more requests wait than that load is for", () => {
    const three = pool(3)
    expect(pick("least-busy", three)).toBeGreaterThanOrEqual(0)
    three.ownInFlight[0] = 1
    three.inFlight[0] = 1
    three.loadSince[0] = 900
    three.settle(0, 1_000)
    expect(pick("least-busy", three)).toBe(Router.waitForSlot)
    for (let i = 0; i < 2; i++) three.queue.join({ look: () => false, narrow: () => false }, false)
    expect(pick("least-busy", three, { waited: true })).toBe(Router.waitForSlot)
    three.queue.join({ look: () => false, narrow: () => false }, false)
    expect([1, 2]).toContain(pick("least-busy", three, { waited: true }))
    // A load that takes more than twice as long as usual is not waited for.
    const late = pool(3)
    late.ownInFlight[0] = 1
    late.loadSince[0] = -2 * late.queue.loadTime
    late.settle(0, 1_000)
    expect([1, 2]).toContain(pick("least-busy", late))
  })
})

describe("a session's last server", () => {
  it("is used again, unless it is much busier than the others", async () => {
    const servers = await Promise.all(Array.from({ length: 4 }, (_, i) => fleet.ollama({ reply: `server ${i}` })))
    const cortex = fleet.cortex(servers)
    const session = await cortex.Session.create()
    const first = await cortex.chat("Hi", { session })
    for (let i = 0; i < 8; i++) expect(await cortex.chat("Hi", { session })).toBe(first)
  })

  it("is not used if it is busier than its equals", () => {
    const four = pool(4)
    expect(pick("random", four, { affinity: 2 })).toBe(2)
    four.inFlight[2] = 4
    four.settle(2, 1_000)
    const picks = Array.from({ length: 20 }, (_, i) => pick("least-busy", four, { affinity: 2, random: Prng.make(i) }))
    expect(picks).not.toContain(2)
  })
})

describe("least-busy", () => {
  it("prefers the shorter wait: the prompt at the server's speed, shared with what is in flight", () => {
    const two = pool(2)
    two.residentUntil.fill(2_000)
    two.promptSpeed.set([4_000, 1_000])
    const set = (busy: number) => {
      two.inFlight[0] = busy
      for (const i of [0, 1]) two.settle(i, 1_000)
    }
    set(0)
    expect(pick("least-busy", two)).toBe(0)
    set(2)
    expect(pick("least-busy", two)).toBe(0)
    set(5)
    expect(pick("least-busy", two)).toBe(1)
  })

  it("a conversation returns to its cached prompt as long as that is faster", () => {
    const two = pool(2)
    two.residentUntil.fill(2_000)
    two.promptSpeed.set([4_000, 1_000])
    for (const i of [0, 1]) two.settle(i, 1_000)
    const back = (cached: number) => pick("least-busy", two, { affinity: 1, tokens: 1_000, cached })
    expect(back(0)).toBe(0)
    expect(back(700)).toBe(0)
    expect(back(800)).toBe(1)
  })

  it("starves no server that is as good as the others", () => {
    const ten = pool(10)
    const random = Prng.make(1)
    const seen = new Set<number>()
    for (let i = 0; i < 500; i++) seen.add(pick("least-busy", ten, { random }))
    expect(seen.size).toBe(10)
  })
})

describe("failing servers under load", () => {
  const strategies = Routing.literals

  it("a hung server costs one timeout once: the next hundred requests do not touch it", async () => {
    for (const routing of strategies) {
      const [hung, ...good] = await Promise.all([
        fleet.ollama({ loaded: [model] }),
        fleet.ollama({ reply: "good", loaded: [model] }),
        fleet.ollama({ reply: "good", loaded: [model] })
      ])
      if (hung === undefined) return
      // The first request surely meets it.
      const servers = [{ url: hung.url, priority: 0 }, ...good.map(({ url }) => ({ url, priority: 1 }))]
      const cortex = fleet.cortex(servers, { serverCooldown: 600_000 })
      await cortex.listServers()
      await hung.setBehaviour({ faults: { kind: "hang" } })
      const first = await cortex.complete("Hi", { routing, firstTokenTimeout: 50, loadTimeout: 50 })
      expect(first.attempts, routing).toMatchObject([{ server: hung.url, reason: "first-token-timeout" }])
      for (let round = 0; round < 10; round++) {
        const calls = Array.from({ length: 10 }, () => cortex.complete("Hi", { routing }))
        for (const { attempts } of await Promise.all(calls)) expect(attempts, routing).toEqual([])
      }
      expect(hung.chatRequests, routing).toHaveLength(1)
    }
  })

  it("a server that answers 500 at once gets at most one probe per rest", async () => {
    const rest = 100
    for (const routing of ["random", "fastest", "least-busy"] as const) {
      const [broken, ...good] = await Promise.all([
        fleet.openai({ faults: { kind: "status", code: 500 } }),
        fleet.openai({ reply: "good" }),
        fleet.openai({ reply: "good" })
      ])
      if (broken === undefined) return
      const cortex = fleet.cortex([broken, ...good], { serverCooldown: rest })
      await cortex.listServers()
      // Until it has failed once.
      while (broken.chatRequests.length === 0) await cortex.chat("Hi", { routing })
      const began = performance.now()
      for (let round = 0; round < 40; round++) {
        const answers = await Promise.all(Array.from({ length: 8 }, () => cortex.chat("Hi", { routing })))
        expect(new Set(answers)).toEqual(new Set(["good"]))
      }
      const rests = Math.ceil((performance.now() - began) / rest)
      expect(broken.chatRequests.length - 1, routing).toBeLessThanOrEqual(rests)
      // That bound means something: it was asked far less often than the others.
      expect(good.reduce((sum, { chatRequests }) => sum + chatRequests.length, 0)).toBeGreaterThan(320)
    }
  })

  it("two models share a user-defined slot limit of a server, and both are served", async () => {
    const server = await fleet.ollama({ models: ["a:1b", "b:1b"], reply: "hi", loaded: ["a:1b", "b:1b"] })
    const cortex = fleet.cortex([{ url: server.url, maxInFlight: 1 }])
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, i) => cortex.chat("Hi", { model: i % 2 === 0 ? "a:1b" : "b:1b" }))
    )
    expect(answers).toEqual(Array(12).fill("hi"))
    expect(server.maxInFlight).toBe(1)
  })
})
