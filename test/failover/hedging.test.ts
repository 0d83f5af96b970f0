import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as CortexLayer from "../../src/Cortex.js"
import * as Fleet from "../../src/Fleet.js"
import { SlidingWindow } from "../../src/fleet/slidingWindow.js"
import * as Prng from "../../src/internal/prng.js"
import type { Cortex } from "../../src/promise.js"
import type { FaultPlan } from "../support/faults.js"
import { chats, eventsOf, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()

const reply = "one two three four five"
const soon = { hedge: { after: 30 } } as const

/** Nobody can be asked before it is known. */
const known = async (cortex: Cortex) => {
  while ((await cortex.listModelServers(model)).length < 2) await new Promise((resolve) => setTimeout(resolve, 5))
  return cortex
}

/** Two servers, the first always asked first, after so many calls that allow a second request. */
const pair = async (calls = 20) => {
  const first = await fleet.openai({ reply: "first" })
  const second = await fleet.openai({ reply: "second" })
  const cortex = await known(fleet.cortex(inOrder(first, second)))
  for (let i = 0; i < calls; i++) await cortex.chat("Hi", { hedge: { after: 60_000 } })
  expect(chats(first, second)).toEqual([calls, 0])
  first.clear()
  return { first, second, cortex }
}

describe("hedging", () => {
  it("is off by default", async () => {
    const { cortex, first, second } = await pair()
    await first.setBehaviour({ firstToken: 200 })
    expect(await cortex.chat("Hi")).toBe("first")
    expect(chats(first, second)).toEqual([1, 0])
  })

  it("asks a second server if the first is late, and cancels the late one", async () => {
    const { cortex, first, second } = await pair()
    await first.setBehaviour({ faults: { kind: "hang" } })
    const stream = await cortex.chat("Hi", { ...soon, stream: true })
    const events = await eventsOf(stream)
    expect(textOf(events)).toBe("second")
    expect(events.filter(({ type }) => type === "meta")).toMatchObject([
      { meta: { server: first.url, attempt: 1 } },
      { meta: { server: second.url, attempt: 2, hedge: true } }
    ])
    expect(events.find(({ type }) => type === "error")).toBeUndefined()
    expect(events.at(-1)).toMatchObject({ type: "end", server: second.url, attempts: [] })
    expect(await first.chatRequests[0]?.closedByClient).toBeDefined()
  })

  it("the first one still wins if it is faster after all, and the second is cancelled", async () => {
    const { cortex, first, second } = await pair()
    await first.setBehaviour({ firstToken: 120 })
    await second.setBehaviour({ faults: { kind: "hang" } })
    expect(await cortex.complete("Hi", soon)).toMatchObject({ text: "first", server: first.url, attempts: [] })
    expect(chats(first, second)).toEqual([1, 1])
    expect(await second.chatRequests[0]?.closedByClient).toBeDefined()
  })

  it("sends a second request for at most one of twenty calls that allow it", async () => {
    const { cortex, first, second } = await pair(0)
    await first.setBehaviour({ firstToken: 60 })
    await Promise.all(Array.from({ length: 45 }, () => cortex.chat("Hi", { hedge: { after: 5 } })))
    expect(chats(first, second)).toEqual([45, 2])
  })

  it("learns the delay from the server's own latencies", async () => {
    const { cortex, first } = await pair()
    await first.setBehaviour({ faults: { kind: "hang" } })
    expect(await cortex.chat("Hi", { hedge: true, timeout: 60_000 })).toBe("second")
  })

  it("never asks a server that must load the model first", async () => {
    const first = await fleet.ollama({ reply: "first", loaded: [model] })
    const second = await fleet.ollama({ reply: "second", loadDelay: 10 })
    const cortex = await known(fleet.cortex(inOrder(first, second)))
    for (let i = 0; i < 20; i++) await cortex.chat("Hi", { hedge: { after: 60_000 } })
    await first.setBehaviour({ firstToken: 200 })
    expect(await cortex.chat("Hi", soon)).toBe("first")
    expect(chats(second)).toEqual([0])
  })

  it("never asks a full server, or one with a queue", async () => {
    const first = await fleet.openai({ reply: "first" })
    const second = await fleet.openai({ reply: "second" })
    const servers = inOrder(first, second).map((server) => ({ ...server, maxInFlight: 1 }))
    const cortex = await known(fleet.cortex(servers))
    for (let i = 0; i < 20; i++) await cortex.chat("Hi", { hedge: { after: 60_000 } })
    await Promise.all([first, second].map((server) => server.setBehaviour({ firstToken: 150 })))
    const texts = await Promise.all([cortex.chat("Hi", soon), cortex.chat("Hi", soon)])
    expect(texts).toEqual(["first", "second"])
    expect(chats(second)).toEqual([1])
  })

  it("the hedge replaces the first attempt if that fails, and the failure is reported", async () => {
    const { cortex, first, second } = await pair()
    await first.setBehaviour({ faults: { kind: "hang" } })
    await second.setBehaviour({ firstToken: 150 })
    const events = cortex.chat("Hi", { ...soon, stream: true }).then(eventsOf)
    await second.waitForChats(1)
    await first.stop()
    expect(textOf(await events)).toBe("second")
    expect((await events).find(({ type }) => type === "error")).toMatchObject({
      next: second.url,
      attempt: { server: first.url, phase: "first-token" }
    })
    expect((await events).at(-1)).toMatchObject({ type: "end", attempts: [{ server: first.url }] })
    expect(chats(second)).toEqual([1])
  })

  it("a failed hedge does not affect the first attempt", async () => {
    const { cortex, first, second } = await pair()
    await first.setBehaviour({ firstToken: 200 })
    await second.setBehaviour({ faults: { kind: "status", code: 500 } })
    expect(await cortex.complete("Hi", soon)).toMatchObject({
      text: "first",
      server: first.url,
      attempts: [{ server: second.url, reason: "server-error" }]
    })
  })

  it("an abort cancels both", async () => {
    const { cortex, first, second } = await pair()
    await Promise.all([first, second].map((server) => server.setBehaviour({ faults: { kind: "hang" } })))
    const leave = new AbortController()
    const call = failure(cortex.chat("Hi", { ...soon, signal: leave.signal }))
    await second.waitForChats(1)
    leave.abort(new Error("left"))
    expect(await call).toMatchObject({ message: "left" })
    for (const server of [first, second]) expect(await server.chatRequests[0]?.closedByClient).toBeDefined()
  })

  it("a deadline cancels both, and the error lists both", async () => {
    const { cortex, first, second } = await pair()
    await Promise.all([first, second].map((server) => server.setBehaviour({ faults: { kind: "hang" } })))
    const error = await failure(cortex.chat("Hi", { ...soon, deadline: 500 }))
    expect(error).toMatchObject({
      _tag: "DeadlineExceeded",
      attempts: [
        { server: first.url, reason: "deadline" },
        { server: second.url, reason: "deadline" }
      ]
    })
    for (const server of [first, second]) expect(await server.chatRequests[0]?.closedByClient).toBeDefined()
  })

  it("counts as an attempt: maxRetries of 1 allows none", async () => {
    const { cortex, first, second } = await pair()
    await first.setBehaviour({ firstToken: 150 })
    expect(await cortex.chat("Hi", { ...soon, maxRetries: 1 })).toBe("first")
    expect(chats(second)).toEqual([0])
  })

  it("releases every slot, with any outcome of the attempts and the call", async () => {
    const servers = await Promise.all(
      [0, 1, 2].map((i) => (i === 1 ? fleet.ollama({ reply, loaded: [model] }) : fleet.openai({ reply })))
    )
    const random = Prng.make(7)
    const trouble: ReadonlyArray<FaultPlan | undefined> = [
      { kind: "status", code: 500 },
      { kind: "hang" },
      { kind: "cut", after: 3 },
      { kind: "stall", after: 2 },
      undefined
    ]
    const layer = CortexLayer.layer({
      servers: servers.map(({ protocol, url }) => ({ url, protocol, maxInFlight: 8 })),
      configFile: false,
      model,
      serverCooldown: 50
    })
    const call = (i: number) =>
      Effect.gen(function* () {
        const options: Chat.Options = {
          hedge: { after: 3 },
          timeout: 200,
          maxRetries: 100,
          retryBackoff: 5,
          routing: i % 3 === 0 ? "least-busy" : "random",
          deadline: i % 5 === 0 ? 60 : undefined
        }
        const events = Stream.runCollect(
          Stream.takeWhile(Chat.stream("Hi", options), ({ type }) => i % 7 !== 0 || type !== "token")
        )
        const ended = yield* Effect.either(Effect.map(events, (chunk) => textOf([...chunk])))
        return Either.isRight(ended) ? ended.right : ended.left._tag
      })
    const program = Effect.gen(function* () {
      const live = yield* Fleet.Fleet
      let over = false
      const upset = async () => {
        for (let k = 0; !over; k++) {
          const faults = servers.map((_, i) =>
            k % 3 === i ? undefined : trouble[Math.floor(random() * trouble.length)]
          )
          await Promise.all(
            servers.map((server, i) => server.setBehaviour({ firstToken: 25 * random(), faults: faults[i] }))
          )
          await new Promise((resolve) => setTimeout(resolve, 30))
        }
      }
      const upsetting = yield* Effect.fork(Effect.promise(upset))
      const calls = Array.from({ length: 240 }, (_, i) => i)
      const ends = yield* Effect.forEach(calls, call, { concurrency: 24 })
      over = true
      yield* Fiber.join(upsetting)
      for (const [i, end] of ends.entries()) {
        expect([reply, ...(i % 5 === 0 ? ["DeadlineExceeded"] : []), ...(i % 7 === 0 ? [""] : [])]).toContain(end)
      }
      for (const { url } of servers)
        expect(live.snapshot(url, model)).toMatchObject({ inFlight: 0, probing: false, queued: 0 })
    })
    await Effect.runPromise(Effect.provide(program, layer))
    for (const server of servers) await expect.poll(() => server.inFlight(), { timeout: 10_000 }).toBe(0)
  })

  it("a server that is not allowed yet is still the next one if the first fails, without a pause", async () => {
    const { cortex, first, second } = await pair(0)
    await first.setBehaviour({ faults: { kind: "hang" } })
    const limits = { timeout: 300, maxRetries: 2, retryBackoff: 3_600_000 }
    expect(await cortex.complete("Hi", { ...soon, ...limits })).toMatchObject({ text: "second", server: second.url })
    expect(chats(first, second)).toEqual([1, 1])
  })

  it("can be configured for every call", async () => {
    const first = await fleet.openai({ reply: "first" })
    const second = await fleet.openai({ reply: "second" })
    const cortex = await known(fleet.cortex(inOrder(first, second), { hedge: { after: 100 } }))
    for (let i = 0; i < 20; i++) await cortex.chat("Hi")
    await first.setBehaviour({ faults: { kind: "hang" } })
    expect(await cortex.chat("Hi")).toBe("second")
    const wrong = fleet.cortex(inOrder(first), { hedge: { after: 0 } })
    expect(await failure(wrong.chat("Hi"))).toMatchObject({ _tag: "InvalidConfig", field: "hedge.after" })
  })
})

describe("Recent", () => {
  it("has no value without enough samples, and forgets old ones", () => {
    const recent = new SlidingWindow()
    for (let i = 0; i < 19; i++) recent.add(1_000)
    expect(recent.percentile(0.95)).toBeUndefined()
    recent.add(1_000)
    expect(recent.percentile(0.95)).toBe(1_000)
    for (let i = 1; i <= 32; i++) recent.add(i)
    expect(recent.percentile(0.95)).toBe(31)
    expect(recent.percentile(0.5)).toBe(16)
    recent.clear()
    expect(recent.percentile(0.5)).toBeUndefined()
  })
})
