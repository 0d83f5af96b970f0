import { getEventListeners } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as CortexLayer from "../../src/Cortex.js"
import type { ChatStream, Cortex } from "../../src/promise.js"
import * as Sessions from "../../src/Sessions.js"
import { startBlackHole } from "../support/blackHole.js"
import type { Fault, RecordedRequest } from "../support/fakeServer.js"
import { chats, eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const words = Array.from({ length: 400 }, (_, i) => ` word${i}`)
const question = "Tell me a long story."
const reason = new Error("the caller has gone")

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

/** Runs a measurement up to three times: one that is fast enough suffices on a machine that others use, too. */
const within100ms = async (measure: () => Promise<number>): Promise<void> => {
  const measured: Array<number> = []
  while (measured.length < 3) {
    measured.push(await measure())
    if ((measured.at(-1) ?? 0) < 100) return
  }
  expect(Math.min(...measured)).toBeLessThan(100)
}

/** The milliseconds from now until the server sees its client close the newest request. */
const closing = (server: Fake): (() => Promise<number>) => {
  const request = server.chatRequests.at(-1)
  const began = Date.now()
  return async () => {
    const at = await request?.closedByClient
    expect(request).toMatchObject({ aborted: true, finished: false })
    expect(at).toBeTypeOf("number")
    return (at ?? Number.POSITIVE_INFINITY) - began
  }
}

type Phase = "before the headers" | "before the first token" | "in the middle"

const phases: ReadonlyArray<readonly [Phase, Fault | undefined, (request: RecordedRequest) => boolean]> = [
  ["before the headers", { kind: "hang" }, () => true],
  ["before the first token", { kind: "stall" }, (request) => request.status === 200],
  ["in the middle", undefined, (request) => request.tokensSent >= 3]
]

const protocols = ["ollama", "openai"] as const

/** A slow server that is tried first and another one that must never be needed. */
const setUp = async (protocol: (typeof protocols)[number], fault: Fault | undefined) => {
  const [slow, other] = await Promise.all([
    fleet[protocol]({ reply: words, perToken: 10 }),
    fleet[protocol]({ reply: "other" })
  ])
  const cortex = fleet.cortex(inOrder(slow, other))
  await cortex.listServers()
  const begin = () => slow.setBehaviour({ reply: words, perToken: 10, faults: fault })
  /** Nothing counts as a failure: the next call goes to the same server. */
  const unharmed = async () => {
    await slow.setBehaviour({ reply: "well", faults: undefined })
    for (let i = 0; i < 3; i++) {
      expect(await cortex.complete(question)).toMatchObject({ text: "well", server: slow.url, attempts: [] })
    }
    expect(chats(other)).toEqual([0])
  }
  return { slow, cortex, begin, unharmed }
}

const arrived = async (server: Fake, count: number, ready: (request: RecordedRequest) => boolean) => {
  await until(() => server.chatRequests.length === count)
  await until(() => server.chatRequests.slice(-1).every(ready))
}

/** Takes events until the server has come as far as it should. */
const readUntil = async (stream: ChatStream, enough: () => boolean): Promise<void> => {
  const iterator = stream[Symbol.asyncIterator]()
  while (!enough()) {
    const next = iterator.next()
    if ((await Promise.race([next, until(enough)])) === undefined) return
  }
}

describe.each(protocols)("a caller that aborts (%s)", (protocol) => {
  describe.each(phases)("%s", (phase, fault, ready) => {
    const calls: ReadonlyArray<readonly [string, (cortex: Cortex, signal: AbortSignal) => Promise<unknown>]> = [
      ["chat", (cortex, signal) => cortex.chat(question, { signal })],
      ["complete", (cortex, signal) => cortex.complete(question, { signal })],
      ["JSON", (cortex, signal) => cortex.chat(question, { signal, responseFormat: "json" })],
      ["a stream", async (cortex, signal) => eventsOf(await cortex.chat(question, { signal, stream: true }))],
      ["a stream's text", async (cortex, signal) => (await cortex.chat(question, { signal, stream: true })).text()]
    ]
    it.each(calls)("with its signal: %s", async (_, call) => {
      const { slow, cortex, begin, unharmed } = await setUp(protocol, fault)
      let count = 0
      await within100ms(async () => {
        await begin()
        const controller = new AbortController()
        const rejected = failure(call(cortex, controller.signal))
        await arrived(slow, ++count, ready)
        const closed = closing(slow)
        controller.abort(reason)
        expect(await rejected).toBe(reason)
        return closed()
      })
      await unharmed()
    })

    it("by breaking out of its loop", async () => {
      const { slow, cortex, begin, unharmed } = await setUp(protocol, fault)
      let count = 0
      await within100ms(async () => {
        await begin()
        const stream = await cortex.chat(question, { stream: true })
        count++
        let closed: (() => Promise<number>) | undefined
        for await (const event of stream) {
          if (phase === "in the middle" ? event.type !== "token" : event.type !== "meta") continue
          await arrived(slow, count, ready)
          closed = closing(slow)
          break
        }
        return closed?.() ?? Number.POSITIVE_INFINITY
      })
      await unharmed()
    })

    it("by cancelling its stream, also while it waits for more", async () => {
      const { slow, cortex, begin, unharmed } = await setUp(protocol, fault)
      let count = 0
      await within100ms(async () => {
        await begin()
        const stream = await cortex.chat(question, { stream: true })
        const reading = eventsOf(stream)
        await arrived(slow, ++count, ready)
        const closed = closing(slow)
        await stream.cancel()
        const took = await closed()
        // Readers come to an end, without an error, with what there was.
        const events = await reading
        expect(events[0]?.type).toBe("start")
        expect(events.at(-1)?.type).not.toBe("end")
        expect(await stream.text()).toBe(textOf(events))
        expect(words.join("").startsWith(textOf(events))).toBe(true)
        return took
      })
      await unharmed()
    })

    it("by leaving the scope of its stream", async () => {
      const { slow, cortex, begin, unharmed } = await setUp(protocol, fault)
      let count = 0
      await within100ms(async () => {
        await begin()
        let closed: (() => Promise<number>) | undefined
        {
          await using stream = await cortex.chat(question, { stream: true })
          await arrived(slow, ++count, ready)
          expect(stream.events).toEqual([])
          closed = closing(slow)
        }
        return closed()
      })
      await unharmed()
    })

    it("by the last of its readers, and not before", async () => {
      const { slow, cortex, begin, unharmed } = await setUp(protocol, fault)
      let count = 0
      await within100ms(async () => {
        await begin()
        const stream = await cortex.chat(question, { stream: true })
        const first = stream[Symbol.asyncIterator]()
        const second = stream[Symbol.asyncIterator]()
        await first.next()
        await second.next()
        await arrived(slow, ++count, ready)
        await first.return?.()
        await new Promise((resolve) => setTimeout(resolve, 20))
        expect(slow.chatRequests.at(-1)?.aborted).toBe(false)
        const closed = closing(slow)
        await second.return?.()
        return closed()
      })
      await unharmed()
    })

    it("by closing the whole fleet", async () => {
      const { slow, cortex, begin } = await setUp(protocol, fault)
      await begin()
      const calls = [
        failure(cortex.chat(question)),
        failure(cortex.chat(question, { stream: true }).then((s) => s.text()))
      ]
      await arrived(slow, 2, ready)
      await until(() => slow.chatRequests.every(ready))
      await cortex.close()
      for (const request of slow.chatRequests) expect(await request.closedByClient).toBeTypeOf("number")
      for (const call of calls) expect(await call).toBeInstanceOf(Error)
    })

    describe("in Effect", () => {
      const runtimeFor = (slow: Fake, other: Fake) => {
        const layer = CortexLayer.layer({ servers: [...inOrder(slow, other)], model, configFile: false })
        const runtime = ManagedRuntime.make(layer)
        fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
        return runtime
      }
      const leaving: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown, Chat.Chat>]> = [
        ["text", Chat.text(question)],
        ["stream", Stream.runDrain(Chat.stream(question))]
      ]
      it.each(leaving)("by interruption: %s", async (_, effect) => {
        const [slow, other] = await Promise.all([
          fleet[protocol]({ reply: words, perToken: 10, faults: fault }),
          fleet[protocol]({ reply: "other" })
        ])
        const runtime = runtimeFor(slow, other)
        let count = 0
        await within100ms(async () => {
          const fiber = runtime.runFork(effect)
          await arrived(slow, ++count, ready)
          const closed = closing(slow)
          await Effect.runPromise(Fiber.interrupt(fiber))
          return closed()
        })
        await slow.setBehaviour({ reply: "well", faults: undefined })
        expect(await runtime.runPromise(Chat.complete(question))).toMatchObject({ server: slow.url, attempts: [] })
      })
    })
  })
})

describe("a caller that aborts", () => {
  it("by taking only the first tokens of a Stream", async () => {
    const slow = await fleet.ollama({ reply: words, perToken: 10 })
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [slow.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    await within100ms(async () => {
      let closed: (() => Promise<number>) | undefined
      const tokens = Chat.stream(question).pipe(
        Stream.filter((event) => event.type === "token"),
        Stream.take(3),
        Stream.tap(() => Effect.sync(() => (closed = closing(slow)))),
        Stream.runCollect
      )
      expect([...(await runtime.runPromise(tokens))].map((event) => event.content)).toEqual(words.slice(0, 3))
      return closed?.() ?? Number.POSITIVE_INFINITY
    })
  })

  it("before the call: with an aborted signal nothing is sent", async () => {
    const slow = await fleet.ollama()
    const cortex = fleet.cortex([slow])
    const signal = AbortSignal.abort(reason)
    expect(await failure(cortex.chat(question, { signal }))).toBe(reason)
    expect(await failure(cortex.complete(question, { signal }))).toBe(reason)
    expect(await failure(cortex.chat(question, { signal, stream: true }))).toBe(reason)
    expect(await failure(cortex.chat(question, { signal, responseFormat: "json" }))).toBe(reason)
    expect(slow.requests).toEqual([])
  })

  it("any abort reason is the rejection", async () => {
    const slow = await fleet.ollama({ faults: { kind: "hang" } })
    const cortex = fleet.cortex([slow])
    for (const why of ["a word", 7, null, undefined]) {
      const controller = new AbortController()
      const calls = [
        failure(cortex.chat(question, { signal: controller.signal })),
        failure(cortex.chat(question, { signal: controller.signal, stream: true }).then((stream) => stream.text()))
      ]
      await until(() => slow.inFlight() === 2)
      controller.abort(why)
      for (const call of calls) expect(await call).toBe(controller.signal.reason)
      await until(() => slow.inFlight() === 0)
    }
  })

  it("with AbortSignal.timeout", async () => {
    const slow = await fleet.ollama({ faults: { kind: "hang" } })
    const cortex = fleet.cortex([slow])
    await cortex.listServers()
    const error = await failure(cortex.chat(question, { signal: AbortSignal.timeout(400) }))
    expect(error.name).toBe("TimeoutError")
    expect(await slow.chatRequests[0]?.closedByClient).toBeTypeOf("number")
  })

  /** A server that was there when it was asked what it has, and now neither accepts nor refuses a connection. */
  const blackHole = async () => {
    const gone = await fleet.ollama()
    const cortex = fleet.cortex([gone])
    await cortex.listServers()
    await gone.stop()
    const hole = fleet.keep(await startBlackHole(gone.port))
    return { gone, cortex, hole }
  }

  it("while connecting", async () => {
    const { cortex, gone, hole } = await blackHole()
    const calls = [
      (signal: AbortSignal) => cortex.chat(question, { signal }),
      async (signal: AbortSignal) => (await cortex.chat(question, { signal, stream: true })).text()
    ]
    for (const call of calls) {
      const controller = new AbortController()
      const rejected = failure(call(controller.signal))
      await new Promise((resolve) => setTimeout(resolve, 50))
      const began = Date.now()
      controller.abort(reason)
      expect(await rejected).toBe(reason)
      expect(Date.now() - began).toBeLessThan(1_000)
    }
    // Nothing of it is sent once the server is back.
    await hole[Symbol.asyncDispose]()
    await gone.restart()
    await gone.setBehaviour({ reply: "well" })
    expect(await cortex.complete(question)).toMatchObject({ text: "well", attempts: [] })
    expect(chats(gone)).toEqual([1])
  })

  it("a connection timeout is a failure of its own", async () => {
    const { cortex, hole } = await blackHole()
    const error = await failure(cortex.chat(question, { connectTimeout: 150, maxRetries: 1 }))
    expect(error).toMatchObject({
      _tag: "AllServersFailed",
      attempts: [
        { server: hole.url, phase: "connect", reason: "connect-timeout", message: expect.stringContaining("150 ms") }
      ]
    })
    expect(error.attempts[0].elapsed).toBeLessThan(2_000)
  })

  it("while its servers are asked for their models", async () => {
    const silent = await fleet.ollama({ faults: { kind: "hang" }, faultOn: "all" })
    const cortex = fleet.cortex([silent])
    for (const stream of [true, false]) {
      const controller = new AbortController()
      const rejected = failure(cortex.chat(question, { signal: controller.signal, stream } as { stream: true }))
      await until(() => silent.requests.length > 0)
      const began = Date.now()
      controller.abort(reason)
      expect(await rejected).toBe(reason)
      expect(Date.now() - began).toBeLessThan(1_000)
    }
    expect(chats(silent)).toEqual([0])
  })

  it("in the pause before the same server is tried again", async () => {
    const bad = await fleet.ollama({ faults: { kind: "status", code: 500 } })
    const cortex = fleet.cortex([bad])
    for (const retryBackoff of [60_000, 100]) {
      bad.clear()
      const controller = new AbortController()
      const call = failure(cortex.chat(question, { maxRetries: 5, retryBackoff, signal: controller.signal }))
      await until(() => bad.chatRequests[0]?.finished === true)
      controller.abort(reason)
      expect(await call).toBe(reason)
    }
    // Nothing comes after the pause either.
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(chats(bad)).toEqual([1])
  })

  it("while its tool runs", async () => {
    const calls = { tokens: [], toolCalls: [{ name: "wait", arguments: {} }] }
    const server = await fleet.ollama({ reply: calls })
    const cortex = fleet.cortex([server])
    const controller = new AbortController()
    const tool = { name: "wait", execute: () => new Promise(() => controller.abort(reason)) }
    expect(await failure(cortex.chat(question, { tools: [tool], signal: controller.signal }))).toBe(reason)
    expect(chats(server)).toEqual([1])
  })

  it("while its tool runs, also if the fleet was made in an uninterruptible region", async () => {
    const server = await fleet.ollama({ reply: { tokens: [], toolCalls: [{ name: "wait", arguments: {} }] } })
    const scope = await Effect.runPromise(Scope.make())
    fleet.keep({ [Symbol.asyncDispose]: () => Effect.runPromise(Scope.close(scope, Exit.void)) })
    const layer = CortexLayer.layer({ servers: [server.url], model, configFile: false })
    const context = await Effect.runPromise(Effect.uninterruptible(Layer.buildWithScope(layer, scope)))
    let state = "waiting"
    const execute = () =>
      Effect.onInterrupt(
        Effect.suspend(() => {
          state = "at work"
          return Effect.never
        }),
        () => Effect.sync(() => (state = "interrupted"))
      )
    const call = Chat.text(question, { tools: [{ name: "wait", execute }] })
    const fiber = Effect.runFork(Effect.provide(call, context))
    await until(() => state === "at work")
    await Effect.runPromise(Fiber.interrupt(fiber))
    await until(() => state === "interrupted")
  })

  it("ends a fleet with its background work, also if it was made in an uninterruptible region", async () => {
    const server = await fleet.ollama({ faults: { kind: "hang" }, faultOn: "all" })
    const folder = await mkdtemp(join(tmpdir(), "aicortex-abort-"))
    fleet.keep({ [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) })
    const layer = CortexLayer.layer({
      servers: [server.url],
      model,
      configFile: false,
      probeInterval: 1_000,
      stateFile: join(folder, "fleet.json")
    })
    const scope = await Effect.runPromise(Scope.make())
    const context = await Effect.runPromise(Effect.uninterruptible(Layer.buildWithScope(layer, scope)))
    const call = Effect.runFork(Effect.provide(Chat.text(question), context))
    await until(() => server.requests.length > 0)
    await Effect.runPromise(Fiber.interrupt(call))
    await Effect.runPromise(Scope.close(scope, Exit.void))
    await until(() => server.inFlight() === 0)
  })

  it("in the second round of a tool call, or during the repair of JSON", async () => {
    const second = new AbortController()
    const server = await fleet.ollama({
      reply: (_, n) => (n === 0 ? { tokens: [], toolCalls: [{ name: "f", arguments: {} }] } : words),
      perToken: 10
    })
    const cortex = fleet.cortex([server])
    const tools = [{ name: "f", execute: () => 1 }]
    const call = failure(cortex.chat(question, { tools, signal: second.signal }))
    await arrived(server, 2, (request) => request.tokensSent > 2)
    second.abort(reason)
    expect(await call).toBe(reason)
    expect(await server.chatRequests[1]?.closedByClient).toBeTypeOf("number")

    await server.setBehaviour({ reply: (_, n) => (n === 0 ? "no JSON" : words) })
    const third = new AbortController()
    const json = failure(cortex.chat(question, { responseFormat: "json", signal: third.signal }))
    await arrived(server, 4, (request) => request.tokensSent > 2)
    third.abort(reason)
    expect(await json).toBe(reason)
    expect(await server.chatRequests[3]?.closedByClient).toBeTypeOf("number")
  })

  it("leaves no listener on its signal", async () => {
    const server = await fleet.ollama({ reply: "well" })
    const cortex = fleet.cortex([server])
    const { signal } = new AbortController()
    for (let i = 0; i < 5; i++) {
      await cortex.chat(question, { signal })
      await cortex.complete(question, { signal })
      await eventsOf(await cortex.chat(question, { signal, stream: true }))
      const stream = await cortex.chat(question, { signal, stream: true })
      await stream.cancel()
    }
    await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    await failure(cortex.chat(question, { signal }))
    await failure((await cortex.chat(question, { signal, stream: true })).text())
    expect(getEventListeners(signal, "abort")).toHaveLength(0)
  })

  it("after the end has no effect", async () => {
    const server = await fleet.ollama({ reply: "well" })
    const cortex = fleet.cortex([server])
    const controller = new AbortController()
    const stream = await cortex.chat(question, { stream: true, signal: controller.signal })
    expect(await stream.text()).toBe("well")
    controller.abort(reason)
    await stream.cancel()
    expect(await stream.text()).toBe("well")
    expect((await eventsOf(stream)).at(-1)?.type).toBe("end")
    expect(await server.chatRequests[0]?.closedByClient).toBeUndefined()
    expect(server.chatRequests[0]).toMatchObject({ finished: true, aborted: false })
  })
})

describe("a caller that aborts in a session", () => {
  const ways: ReadonlyArray<readonly [string, (cortex: Cortex, id: string, server: Fake) => Promise<unknown>]> = [
    [
      "by its signal",
      async (cortex, session, server) => {
        const controller = new AbortController()
        const call = failure(cortex.chat(question, { session, signal: controller.signal }))
        await arrived(server, 1, (request) => request.tokensSent > 2)
        controller.abort(reason)
        expect(await call).toBe(reason)
      }
    ],
    [
      "by the signal of a stream",
      async (cortex, session, server) => {
        const controller = new AbortController()
        const stream = await cortex.chat(question, { session, signal: controller.signal, stream: true })
        await readUntil(stream, () => (server.chatRequests[0]?.tokensSent ?? 0) > 2)
        controller.abort(reason)
        expect(await failure(stream.text())).toBe(reason)
      }
    ],
    [
      "by breaking out",
      async (cortex, session) => {
        for await (const event of await cortex.chat(question, { session, stream: true })) {
          if (event.type === "token" && event.index > 2) break
        }
      }
    ],
    [
      "by cancelling",
      async (cortex, session, server) => {
        const stream = await cortex.chat(question, { session, stream: true })
        await arrived(server, 1, (request) => request.tokensSent > 2)
        await stream.cancel()
      }
    ]
  ]
  it.each(ways)("%s: nothing is stored, and the session is free", async (_, leave) => {
    const server = await fleet.ollama({ reply: words, perToken: 10 })
    const cortex = fleet.cortex([server])
    const session = await cortex.Session.create()
    await leave(cortex, session.id, server)
    expect(await session.history()).toEqual([])
    await server.setBehaviour({ reply: "well" })
    expect(await cortex.chat("And now?", { session })).toBe("well")
    expect(server.chatRequests.at(-1)?.body.messages).toEqual([{ role: "user", content: "And now?" }])
    expect(await session.history()).toHaveLength(2)
  })

  it("while it waits for its turn: the others continue", async () => {
    const server = await fleet.ollama({ reply: (body) => `re: ${body.messages.at(-1).content}`, firstToken: 100 })
    const cortex = fleet.cortex([server])
    const session = await cortex.Session.create()
    const controller = new AbortController()
    const first = cortex.chat("one", { session })
    const second = failure(cortex.chat("two", { session, signal: controller.signal }))
    const stream = failure(cortex.chat("three", { session, signal: controller.signal, stream: true }))
    const last = cortex.chat("four", { session })
    await server.waitForChats(1)
    controller.abort(reason)
    expect(await second).toBe(reason)
    expect(await stream).toBe(reason)
    expect([await first, await last]).toEqual(["re: one", "re: four"])
    expect((await session.history()).map(({ content }) => content)).toEqual(["one", "re: one", "four", "re: four"])
    expect(chats(server)).toEqual([2])
  })

  it("in Effect, by interruption", async () => {
    const server = await fleet.ollama({ reply: words, perToken: 10 })
    const runtime = ManagedRuntime.make(CortexLayer.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    const session = await runtime.runPromise(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.create()))
    for (const [i, effect] of [
      Chat.text(question, { session }),
      Stream.runDrain(Chat.stream(question, { session }))
    ].entries()) {
      const fiber = runtime.runFork(effect)
      await arrived(server, i + 1, (request) => request.tokensSent > 2)
      await Effect.runPromise(Fiber.interrupt(fiber))
    }
    const history = Effect.flatMap(Sessions.Sessions, (sessions) => sessions.history(session.id))
    expect(await runtime.runPromise(history)).toEqual([])
    await server.setBehaviour({ reply: "well" })
    expect(await runtime.runPromise(Chat.text(question, { session }))).toBe("well")
  })
})

describe("one signal for many calls", () => {
  it("leaks nothing, and keeps no call after its end", async () => {
    const server = await fleet.ollama({ reply: "well" })
    const cortex = fleet.cortex([server])
    const { signal } = new AbortController()
    const warnings: Array<string> = []
    const warned = ({ name }: Error) => warnings.push(name)
    process.on("warning", warned)
    const call = (_: unknown, i: number) =>
      i % 2 === 0
        ? cortex.chat("Hi", { signal })
        : cortex.chat("Hi", { signal, responseFormat: "json" }).catch(() => {})
    await Promise.all(Array.from({ length: 30 }, call))
    await new Promise((resolve) => setImmediate(resolve))
    process.off("warning", warned)
    expect(warnings).toEqual([])
    expect(getEventListeners(signal, "abort")).toEqual([])
  })
})
