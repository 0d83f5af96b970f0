import { it as effectIt } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import type { Attempt, FailureReason, Phase } from "../../src/Errors.js"
import { pauseBefore } from "../../src/failover/retryPolicy.js"
import { AllServersFailed, InvalidRequest, StreamInterrupted } from "../../src/promise.js"
import { type Fault, type Reply, startFakeOllama, tokenize } from "../support/fakeServer.js"
import { chats, eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const reply = "Recursion is when a function calls itself, 你好 😀, until it need not."
const question = "What is recursion?"

const protocols = ["ollama", "openai"] as const
type Protocol = (typeof protocols)[number]
const start = (protocol: Protocol, options: { readonly reply?: Reply; readonly faults?: Fault } = {}): Promise<Fake> =>
  fleet[protocol]({ reply, ...options })

/** A faulty server that is tried first, and a healthy one; both known, so that only chat requests follow. */
const pair = async (protocol: Protocol, fault: Fault) => {
  const [bad, good] = await Promise.all([start(protocol), start(protocol)])
  const cortex = fleet.cortex(inOrder(bad, good))
  await cortex.listServers()
  await bad.setBehaviour({ faults: fault })
  return { bad, good, cortex }
}

interface Row {
  readonly fault: Fault
  readonly reason: FailureReason | { readonly [P in Protocol]: FailureReason }
  readonly phase: Phase
  readonly status?: number
  /** Whether the next calls leave the server alone. */
  readonly rest?: number
  readonly rests: boolean
  /** Requests that the faulty server sees of the first call; 1 unless given. */
  readonly seen?: number
}

const failing: ReadonlyArray<readonly [string, Row]> = [
  ["refused", { fault: { kind: "refuse" }, reason: "refused", phase: "connect", rests: true, seen: 0 }],
  // Its list had come over the same connection: asked once more over a fresh one.
  ["reset", { fault: { kind: "reset" }, reason: "reset", phase: "first-token", rests: true, seen: 2 }],
  [
    "500",
    { fault: { kind: "status", code: 500 }, reason: "server-error", phase: "first-token", status: 500, rests: true }
  ],
  [
    "502",
    { fault: { kind: "status", code: 502 }, reason: "server-error", phase: "first-token", status: 502, rests: true }
  ],
  ["a page of a proxy", { fault: { kind: "garbage" }, reason: "malformed", phase: "first-token", rests: true }],
  ["a line that is no JSON", { fault: { kind: "malformed" }, reason: "malformed", phase: "first-token", rests: true }],
  [
    "a line that is no JSON, later",
    { fault: { kind: "malformed", after: 3 }, reason: "malformed", phase: "stream", rests: true }
  ],
  ["cut before the first token", { fault: { kind: "cut" }, reason: "cut", phase: "first-token", rests: true }],
  [
    "reset before the first token",
    { fault: { kind: "cut", how: "rst" }, reason: "cut", phase: "first-token", rests: true }
  ],
  ["cut in the first line", { fault: { kind: "cutLine" }, reason: "cut", phase: "first-token", rests: true }],
  ["cut later", { fault: { kind: "cut", after: 3 }, reason: "cut", phase: "stream", rests: true }],
  ["cut in a later line", { fault: { kind: "cutLine", after: 3 }, reason: "cut", phase: "stream", rests: true }],
  ["an empty body", { fault: { kind: "empty" }, reason: "cut", phase: "first-token", rests: true }],
  ["a silent end", { fault: { kind: "silentEnd", after: 3 }, reason: "cut", phase: "stream", rests: true }],
  [
    "an error inside the answer",
    {
      fault: { kind: "errorLine", message: "unexpected end of work" },
      reason: { ollama: "server-error", openai: "server-error" },
      phase: "first-token",
      rests: true
    }
  ],
  ["never answers", { fault: { kind: "hang" }, reason: "first-token-timeout", phase: "first-token", rests: true }],
  [
    "headers and then nothing",
    { fault: { kind: "stall" }, reason: "first-token-timeout", phase: "first-token", rests: true }
  ],
  ["stalls later", { fault: { kind: "stall", after: 3 }, reason: "idle-timeout", phase: "stream", rests: true }],
  [
    "is only kept open",
    { fault: { kind: "keepAlive" }, reason: "first-token-timeout", phase: "first-token", rests: true }
  ],
  [
    "is only kept open later",
    { fault: { kind: "keepAlive", after: 3 }, reason: "idle-timeout", phase: "stream", rests: true }
  ],
  [
    "429",
    { fault: { kind: "status", code: 429 }, reason: "rate-limited", phase: "first-token", status: 429, rests: true }
  ],
  [
    "503 with Retry-After",
    {
      fault: { kind: "status", code: 503, retryAfter: 60 },
      rest: 60_000,
      reason: "busy",
      phase: "first-token",
      status: 503,
      rests: true
    }
  ],
  [
    "503",
    {
      fault: { kind: "status", code: 503 },
      reason: { ollama: "busy", openai: "server-error" },
      phase: "first-token",
      status: 503,
      rests: true
    }
  ],
  [
    "404 of the model",
    { fault: { kind: "notFound" }, reason: "model-not-found", phase: "first-token", status: 404, rests: true }
  ],
  [
    "404 of the path",
    {
      fault: { kind: "status", code: 404, body: "404 page not found" },
      reason: "server-error",
      phase: "first-token",
      status: 404,
      rests: true
    }
  ],
  [
    "401",
    { fault: { kind: "status", code: 401 }, reason: "unauthorized", phase: "first-token", status: 401, rests: false }
  ],
  [
    "403",
    { fault: { kind: "status", code: 403 }, reason: "unauthorized", phase: "first-token", status: 403, rests: false }
  ]
]

describe.each(protocols)("the failure table (%s)", (protocol) => {
  it.each(failing)("%s: the next server answers, invisibly", async (_, row) => {
    const { bad, good, cortex } = await pair(protocol, row.fault)
    const options = { timeout: 300 }
    const first = await cortex.complete(question, options)
    const reason = typeof row.reason === "string" ? row.reason : row.reason[protocol]
    expect(first).toMatchObject({ text: reply, server: good.url, finishReason: "stop" })
    expect(first.attempts).toEqual([
      {
        server: bad.url,
        phase: row.phase,
        reason,
        message: expect.stringMatching(/./),
        elapsed: expect.any(Number),
        ...(row.status === undefined ? {} : { status: row.status }),
        // A server whose queue is full is left alone for as long as it asked, or for a second.
        ...(reason === "busy" ? { retryAfter: row.rest ?? 1_000 } : {})
      }
    ])
    expect(chats(bad, good)).toEqual([row.seen ?? 1, 1])
    // What the breaker has learned.
    const second = await cortex.complete(question, options)
    expect(second).toMatchObject({ text: reply, server: good.url })
    expect(second.attempts.map((attempt) => attempt.reason)).toEqual(row.rests ? [] : [reason])
    expect(chats(bad, good)).toEqual([(row.seen ?? 1) + (row.rests ? 0 : 1), 2])
  })

  it.each([400, 422])("%i: when a second server agrees its message is returned, and no server rests", async (code) => {
    const fault: Fault = {
      kind: "status",
      code,
      body: { error: protocol === "ollama" ? "the prompt is odd" : { message: "the prompt is odd", type: "x" } }
    }
    const { bad, good, cortex } = await pair(protocol, fault)
    await good.setBehaviour({ faults: fault })
    for (const options of [{}, { maxRetries: 5 }]) {
      const error = await failure(cortex.chat(question, options))
      expect(error).toBeInstanceOf(InvalidRequest)
      expect(error).toMatchObject({ _tag: "InvalidRequest", server: bad.url, reason: "the prompt is odd" })
      expect(error.message).toContain(`${bad.url} answered: the prompt is odd`)
    }
    // Who repeats it is believed at once.
    expect(chats(bad, good)).toEqual([2, 1])
    await bad.setBehaviour({ faults: undefined })
    expect((await cortex.complete(question)).server).toBe(bad.url)
  })

  it("a server that refuses the request up front is skipped, without an attempt", async () => {
    const [bad, good] = await Promise.all([start(protocol, { faults: { kind: "refuse" } }), start(protocol)])
    const answer = await fleet.cortex(inOrder(bad, good)).complete(question)
    expect(answer).toMatchObject({ text: reply, server: good.url, attempts: [] })
  })

  it("a model that disappeared from all servers is an error of its own", async () => {
    const { bad, cortex } = await pair(protocol, { kind: "notFound" })
    const alone = fleet.cortex([bad])
    expect(await failure(alone.chat(question))).toMatchObject({ _tag: "ModelNotFound", model })
    expect(await cortex.chat(question)).toBe(reply)
  })

  it("a 500 of Ollama for an invalid option is the caller's error", async () => {
    const fault: Fault = { kind: "status", code: 500, body: { error: 'option "num_ctx" must be of type integer' } }
    const { bad, good, cortex } = await pair(protocol, fault)
    await good.setBehaviour({ faults: fault })
    expect(await failure(cortex.chat(question))).toMatchObject({ _tag: "InvalidRequest" })
    expect(chats(bad, good)).toEqual([1, 1])
  })
})

// -----------------------------------------------------------------------------

const concurrently = async <A>(n: number, width: number, run: (i: number) => Promise<A>): Promise<ReadonlyArray<A>> => {
  const results: Array<A> = []
  let next = 0
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < n) {
        const i = next++
        results[i] = await run(i)
      }
    })
  )
  return results
}

const stormy: ReadonlyArray<readonly [string, ReadonlyArray<readonly [Protocol, Fault]>]> = [
  [
    "refuses, stalls, cuts in a line, 500, 429",
    [
      ["ollama", { kind: "refuse" }],
      ["openai", { kind: "stall", after: 2 }],
      ["ollama", { kind: "cutLine", after: 3 }],
      ["openai", { kind: "status", code: 500 }],
      ["ollama", { kind: "status", code: 429 }]
    ]
  ],
  [
    "has lost the model, garbage, hangs, cuts, resets",
    [
      ["openai", { kind: "notFound" }],
      ["ollama", { kind: "garbage" }],
      ["ollama", { kind: "hang" }],
      ["openai", { kind: "cut", after: 4 }],
      ["openai", { kind: "reset" }]
    ]
  ],
  [
    "errors inside, a silent end, malformed, 503, 401",
    [
      ["ollama", { kind: "errorLine", after: 1 }],
      ["openai", { kind: "silentEnd", after: 2 }],
      ["ollama", { kind: "malformed", after: 1 }],
      ["openai", { kind: "status", code: 503, retryAfter: 0 }],
      ["ollama", { kind: "status", code: 401 }]
    ]
  ]
]

describe("200 of 200", () => {
  const answer = (body: { readonly messages: ReadonlyArray<{ readonly content: string }> }) =>
    `You asked: ${body.messages.at(-1)?.content} 你好, and here is the whole of the answer.`
  const expected = (i: number) => answer({ messages: [{ content: `number ${i}` }] })

  const storm = async (faults: ReadonlyArray<readonly [Protocol, Fault]>) => {
    const bad = await Promise.all(faults.map(([protocol]) => start(protocol, { reply: answer })))
    return { bad, rage: () => Promise.all(bad.map((server, i) => server.setBehaviour({ faults: faults[i]?.[1] }))) }
  }

  describe.each(stormy)("%s", (_, faults) => {
    // A short rest: the faulty servers are tried again and again.
    it.each([5, 60_000])("text, with a cooldown of %i ms", async (serverCooldown) => {
      const { bad, rage } = await storm(faults)
      const good = await start(serverCooldown === 5 ? "ollama" : "openai", { reply: answer })
      const cortex = fleet.cortex([...bad, good], { serverCooldown })
      await cortex.listServers()
      await rage()
      const texts = await concurrently(200, 16, (i) => cortex.chat(`number ${i}`, { timeout: 500 }))
      expect(texts).toEqual(Array.from({ length: 200 }, (_, i) => expected(i)))
    })

    it("streams", async () => {
      const { bad, rage } = await storm(faults)
      const good = await start("ollama", { reply: answer })
      const cortex = fleet.cortex([...bad, good], { serverCooldown: 5 })
      await cortex.listServers()
      await rage()
      const streams = await concurrently(60, 8, async (i) =>
        eventsOf(await cortex.chat(`number ${i}`, { stream: true, temperature: 0, timeout: 500 }))
      )
      for (const [i, events] of streams.entries()) {
        expect(textOf(events)).toBe(expected(i))
        expect(events.filter((event) => event.type === "start" || event.type === "end")).toHaveLength(2)
        const indices = events.flatMap((event) => (event.type === "token" ? [event.index] : []))
        expect(indices).toEqual(indices.map((_, n) => n))
      }
    })

    it("without healthy servers the error lists every attempt", async () => {
      const { bad, rage } = await storm(faults)
      const cortex = fleet.cortex(inOrder(...bad))
      await cortex.listServers()
      await rage()
      const error = await failure(cortex.chat(question, { timeout: 300, maxRetries: 5 }))
      expect(error).toBeInstanceOf(AllServersFailed)
      expect(error.model).toBe(model)
      expect(error.attempts.map((attempt: Attempt) => attempt.server)).toEqual(bad.map((server) => server.url))
      const known = new Map(failing.map(([, { fault, reason }]) => [kindOf(fault), reason]))
      for (const [i, attempt] of (error.attempts as ReadonlyArray<Attempt>).entries()) {
        const [protocol, fault] = faults[i] ?? (["ollama", { kind: "hang" }] as const)
        const reason = known.get(kindOf(fault))
        expect(attempt.reason).toBe(typeof reason === "object" ? reason[protocol] : reason)
        expect(error.message).toContain(`${attempt.server} (${attempt.reason}, ${attempt.phase}`)
      }
      expect(error.message).toContain(`All server attempts failed for model '${model}' (5 attempts)`)
    })
  })
})

/** A fault without what its reason does not depend on. */
const kindOf = (fault: Fault): string =>
  fault.kind === "status"
    ? `status ${fault.code} ${fault.retryAfter !== undefined}`
    : `${fault.kind} ${fault.kind === "stall" ? (fault.after ?? 0) > 0 : ""}`

// -----------------------------------------------------------------------------

describe("attempts", () => {
  it("every server is tried, not just three", async () => {
    const servers = await Promise.all(Array.from({ length: 6 }, () => start("ollama")))
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await Promise.all(
      servers.slice(0, 5).map((server) => server.setBehaviour({ faults: { kind: "status", code: 500 } }))
    )
    expect(await cortex.chat(question)).toBe(reply)
    expect(chats(...servers)).toEqual([1, 1, 1, 1, 1, 1])
  })

  it("maxRetries is the total number of attempts", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => start("ollama")))
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    for (const server of servers.slice(0, 2)) await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    const one = await failure(cortex.chat(question, { maxRetries: 1 }))
    expect(one).toMatchObject({ _tag: "AllServersFailed", attempts: [{ reason: "server-error" }] })
    expect(one.message).toContain("(1 attempt)")
    await cortex.clearServerCache()
    const two = await failure(cortex.chat(question, { maxRetries: 2 }))
    expect(two.attempts).toHaveLength(2)
    expect(chats(...servers)).toEqual([2, 1, 0])
    await cortex.clearServerCache()
    expect(await cortex.chat(question, { maxRetries: 3 })).toBe(reply)
  })

  it("attempts beyond the number of servers start another round, in order, after a growing pause", async () => {
    const [a, b] = await Promise.all([start("ollama"), start("ollama")])
    const cortex = fleet.cortex(inOrder(a, b))
    await cortex.listServers()
    await a.setBehaviour({ faults: { kind: "status", code: 500 } })
    await b.setBehaviour({ faults: { kind: "status", code: 500 } })
    const began = performance.now()
    const error = await failure(cortex.chat(question, { maxRetries: 5, retryBackoff: 60 }))
    const elapsed = performance.now() - began
    expect(error.attempts.map((attempt: Attempt) => attempt.server)).toEqual([a.url, b.url, a.url, b.url, a.url])
    // At least half of 60 and half of 120.
    expect(elapsed).toBeGreaterThan(88)
    const at = [...a.chatRequests, ...b.chatRequests].map((request) => request.at).sort((x, y) => x - y)
    expect((at[2] ?? 0) - (at[1] ?? 0)).toBeGreaterThanOrEqual(28)
    expect((at[4] ?? 0) - (at[3] ?? 0)).toBeGreaterThanOrEqual(58)
  })

  it("a single server that recovers during the attempts answers", async () => {
    const only = await start("ollama")
    const cortex = fleet.cortex([only])
    await cortex.listServers()
    await only.setBehaviour({
      faults: [
        { kind: "status", code: 500 },
        { kind: "cut", after: 2 }
      ]
    })
    const answer = await cortex.complete(question, { maxRetries: 3, retryBackoff: 1 })
    expect(answer.text).toBe(reply)
    expect(answer.attempts.map((attempt) => attempt.reason)).toEqual(["server-error", "cut"])
    expect(chats(only)).toEqual([3])
  })

  it("there is no pause before another server", async () => {
    const servers = await Promise.all(Array.from({ length: 4 }, () => start("ollama")))
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    for (const server of servers.slice(0, 3)) await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    const began = performance.now()
    expect(await cortex.chat(question, { retryBackoff: 60_000, maxRetries: 10 })).toBe(reply)
    expect(performance.now() - began).toBeLessThan(5_000)
  })

  it("a server that is discovered during the call is tried before it fails", async () => {
    const [bad, late] = await Promise.all([start("ollama"), start("ollama")])
    await late.setBehaviour({ faultOn: "tags", faults: { kind: "slow", ms: 500 } })
    await bad.setBehaviour({ faults: { kind: "hang" } })
    const answer = await fleet.cortex([bad, late]).complete(question, { timeout: 1_500 })
    expect(answer).toMatchObject({ text: reply, server: late.url, attempts: [{ server: bad.url }] })
    expect(chats(bad, late)).toEqual([1, 1])
  })

  it("a server that has answered another call since it failed is tried before a stream fails", async () => {
    const [first, second] = await Promise.all([start("ollama"), start("ollama")])
    const cortex = fleet.cortex(inOrder(first, second), { serverCooldown: 1 })
    await cortex.listServers()
    await first.setBehaviour({ faults: [{ kind: "cut", after: 3 }] })
    await second.setBehaviour({ faults: { kind: "hang" } })
    const stream = eventsOf(await cortex.chat(question, { stream: true, timeout: 800 }))
    await second.waitForChats(1)
    // Until the first has rested: else this call would go to the second, too.
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect((await cortex.complete(question)).server).toBe(first.url)
    const events = await stream
    expect(textOf(events)).toBe(reply)
    expect(events.at(-1)).toMatchObject({
      type: "end",
      server: first.url,
      attempts: [{ server: first.url }, { server: second.url }]
    })
  })

  it("a failed server is retried for a while, and one that refuses the caller is not", async () => {
    const [dead, locked] = await Promise.all([start("ollama"), start("ollama")])
    const cortex = fleet.cortex(inOrder(dead, locked), { serverCooldown: 1 })
    await cortex.listServers()
    await dead.setBehaviour({ faults: { kind: "status", code: 500 } })
    await locked.setBehaviour({ faults: { kind: "status", code: 401 } })
    const error = await failure(cortex.chat(question, { retryBackoff: 1 }))
    expect(error.attempts.slice(0, 2).map(({ reason }: Attempt) => reason)).toEqual(["server-error", "unauthorized"])
    expect(chats(dead, locked)).toEqual([5, 1])
  })

  it("pauses between rounds double up to half a minute", () => {
    expect([1, 2, 3, 7, 40, 4000].map((round) => pauseBefore(round, 500, 1))).toEqual([
      500, 1000, 2000, 30_000, 30_000, 30_000
    ])
    expect(pauseBefore(1, 500, 0)).toBe(250)
    // Whoever asks for longer pauses gets them, but not longer ones still.
    expect(pauseBefore(9, 60_000, 1)).toBe(60_000)
  })

  it("a server that closed its idle connection gets a new one", async () => {
    const only = await start("ollama")
    const cortex = fleet.cortex([only])
    for (let i = 0; i < 3; i++) {
      expect(await cortex.complete(question)).toMatchObject({ text: reply, attempts: [] })
      await only.restart()
    }
    expect(await cortex.complete(question)).toMatchObject({ text: reply, attempts: [] })
  })

  it("a busy event loop is not a silent server", async () => {
    const { good: a, bad: b, cortex } = await pair("ollama", { kind: "status", code: 500 })
    await b.setBehaviour({ faults: undefined })
    const answer = cortex.complete(question, { timeout: 150 })
    await b.waitForChats(1)
    // The answer is on its way while this process computes.
    await new Promise((resolve) => setImmediate(resolve))
    const until = performance.now() + 400
    while (performance.now() < until) Math.sqrt(until)
    expect(await answer).toMatchObject({ text: reply, attempts: [] })
    expect(chats(a)).toEqual([0])
  })
})

describe("deadline", () => {
  it("covers all attempts", async () => {
    const servers = await Promise.all(Array.from({ length: 4 }, () => start("ollama")))
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    for (const server of servers) await server.setBehaviour({ faults: { kind: "hang" } })
    const began = performance.now()
    const error = await failure(cortex.chat(question, { timeout: 200, deadline: 300 }))
    expect(performance.now() - began).toBeLessThan(2_000)
    expect(error).toMatchObject({ _tag: "DeadlineExceeded", model, deadline: 300, partial: "" })
    expect(error.attempts.map((attempt: Attempt) => [attempt.server, attempt.reason])).toEqual([
      [servers[0]?.url, "first-token-timeout"],
      [servers[1]?.url, "deadline"]
    ])
    expect(error.message).toContain(`${servers[1]?.url} (deadline, first-token`)
    expect(await servers[1]?.chatRequests[0]?.closedByClient).toBeTypeOf("number")
    expect(chats(...servers)).toEqual([1, 1, 0, 0])
  })

  it("the error has the text so far", async () => {
    const only = await start("ollama", { reply: ["one", " two", " three"], faults: { kind: "stall", after: 2 } })
    const error = await failure(eventsOf(await fleet.cortex([only]).chat(question, { stream: true, deadline: 300 })))
    expect(error).toMatchObject({
      _tag: "DeadlineExceeded",
      partial: "one two",
      attempts: [{ server: only.url, reason: "deadline", phase: "stream" }]
    })
    expect(error.message).toContain("300 ms")
  })

  it("covers model discovery, too", async () => {
    const only = await fleet.ollama({ faults: { kind: "hang" }, faultOn: "all" })
    const began = performance.now()
    const error = await failure(fleet.cortex([only]).chat(question, { deadline: 300 }))
    expect(error).toMatchObject({ _tag: "DeadlineExceeded", deadline: 300 })
    expect(performance.now() - began).toBeLessThan(2_500)
  })

  it("covers the wait for a session, and does not restart after it", async () => {
    const only = await start("ollama")
    await only.setBehaviour({ firstToken: 1_000 })
    const cortex = fleet.cortex([only])
    const session = await cortex.Session.create()
    const first = cortex.chat(question, { session })
    await only.waitForChats(1)
    // Half of the time is gone when its turn comes.
    const began = performance.now()
    const second = failure(cortex.chat(question, { session, deadline: 1_700 }))
    const third = failure(cortex.chat(question, { session, deadline: 100 }))
    expect(await third).toMatchObject({ _tag: "DeadlineExceeded", deadline: 100, attempts: [] })
    expect(await second).toMatchObject({
      _tag: "DeadlineExceeded",
      deadline: 1_700,
      attempts: [{ reason: "deadline" }]
    })
    expect(performance.now() - began).toBeLessThan(4_000)
    expect(await first).toBe(reply)
    expect(await session.history()).toHaveLength(2)
  })

  it("also ends the pause between rounds", async () => {
    const only = await start("ollama", { faults: { kind: "status", code: 500 } })
    const error = await failure(
      fleet.cortex([only]).chat(question, { maxRetries: 3, retryBackoff: 60_000, deadline: 200 })
    )
    expect(error).toMatchObject({ _tag: "DeadlineExceeded", attempts: [{ reason: "server-error" }] })
  })
})

describe("the breaker", () => {
  it("a resting server is still tried if there is no other, and recovers at once", async () => {
    const only = await start("ollama")
    const cortex = fleet.cortex([only])
    await cortex.listServers()
    await only.setBehaviour({ faults: { kind: "status", code: 500 } })
    for (let i = 1; i <= 3; i++) {
      const error = await failure(cortex.chat(question, { maxRetries: 1 }))
      expect(error).toMatchObject({
        _tag: "AllServersFailed",
        attempts: [{ server: only.url, reason: "server-error" }]
      })
      expect(chats(only)).toEqual([i])
    }
    await only.setBehaviour({ faults: undefined })
    expect(await cortex.chat(question)).toBe(reply)
  })

  it("also with several, the longest resting first", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => start("ollama")))
    const cortex = fleet.cortex(servers)
    await cortex.listServers()
    for (const server of servers) await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    const first = await failure(cortex.chat(question, { maxRetries: 3 }))
    const order = first.attempts.map((attempt: Attempt) => attempt.server)
    expect([...order].sort()).toEqual(servers.map(({ url }) => url).sort())
    await Promise.all(servers.map((server) => server.setBehaviour({ faults: undefined })))
    expect(await cortex.complete(question)).toMatchObject({ text: reply, attempts: [] })
  })

  it("a hung server costs one timeout once, and then nothing", async () => {
    const { bad, good, cortex } = await pair("ollama", { kind: "hang" })
    const first = await cortex.complete(question, { timeout: 300 })
    expect(first.attempts).toMatchObject([{ reason: "first-token-timeout" }])
    expect(first.attempts[0]?.elapsed).toBeGreaterThan(280)
    for (let i = 0; i < 10; i++) {
      expect(await cortex.complete(question, { timeout: 300 })).toMatchObject({ text: reply, attempts: [] })
    }
    expect(chats(bad, good)).toEqual([1, 11])
  })

  it("a server that hangs on every request does not block calls that another can serve", async () => {
    const [hung, good] = await Promise.all([
      fleet.ollama({ faults: { kind: "hang" }, faultOn: "all" }),
      start("ollama")
    ])
    const cortex = fleet.cortex(inOrder(hung, good))
    const began = performance.now()
    expect(await cortex.chat(question)).toBe(reply)
    for (let i = 0; i < 5; i++) expect(await cortex.chat(question)).toBe(reply)
    expect(performance.now() - began).toBeLessThan(4_000)
    expect(chats(hung, good)).toEqual([0, 6])
  })

  it("a rested server gets one request at a time until it answers", async () => {
    const { bad, good } = await pair("ollama", { kind: "status", code: 500 })
    const fast = fleet.cortex(inOrder(bad, good), { serverCooldown: 50 })
    await fast.listServers()
    expect(await fast.complete(question)).toMatchObject({ server: good.url, attempts: [{ server: bad.url }] })
    await bad.setBehaviour({ faults: undefined, firstToken: 300 })
    bad.clear()
    await new Promise((resolve) => setTimeout(resolve, 80))
    const probes = await Promise.all(Array.from({ length: 8 }, () => fast.complete(question)))
    expect(probes.filter(({ server }) => server === bad.url)).toHaveLength(1)
    expect(bad.maxInFlight).toBe(1)
    // It has answered: it is the first choice again, for all at once.
    const all = await Promise.all(Array.from({ length: 4 }, () => fast.complete(question)))
    expect(all.map(({ server }) => server)).toEqual(Array(4).fill(bad.url))
  })

  it("Retry-After is respected, and not longer", async () => {
    const { bad, good, cortex } = await pair("ollama", { kind: "status", code: 503, retryAfter: 1 })
    expect((await cortex.complete(question)).attempts).toMatchObject([{ reason: "busy", status: 503 }])
    await bad.setBehaviour({ faults: undefined })
    expect((await cortex.complete(question)).server).toBe(good.url)
    await expect
      .poll(() => cortex.complete(question).then(({ server }) => server), { timeout: 10_000, interval: 50 })
      .toBe(bad.url)
    const [first, , back] = [bad.chatRequests[0]?.at ?? 0, 0, bad.chatRequests[1]?.at ?? 0]
    expect(back - first).toBeGreaterThan(950)
  })

  it("Retry-After is respected if its response body never ends, or breaks", async () => {
    for (const [protocol, then] of [
      ["ollama", "hang"],
      ["openai", "reset"]
    ] as const) {
      const { bad, good, cortex } = await pair(protocol, { kind: "status", code: 429, retryAfter: 1, then })
      const answer = await cortex.complete(question, { timeout: 20_000 })
      expect(answer.server).toBe(good.url)
      expect(answer.attempts).toMatchObject([{ reason: "rate-limited", status: 429 }])
      await bad.setBehaviour({ faults: undefined })
      // A failure of any other kind would rest the server for a minute.
      await expect
        .poll(() => cortex.complete(question).then(({ server }) => server), { timeout: 10_000, interval: 50 })
        .toBe(bad.url)
    }
  })

  effectIt.effect("a Retry-After that is a date counts from the clock of the program", () =>
    Effect.gen(function* () {
      const bad = yield* Effect.promise(() => fleet.ollama({ reply }))
      const good = yield* Effect.promise(() => fleet.ollama({ reply }))
      const servers = inOrder(bad, good)
      yield* TestClock.setTime(Date.UTC(2030, 0, 1))
      const retryAfter = new Date(Date.UTC(2030, 0, 1, 1)).toUTCString()
      yield* Effect.gen(function* () {
        const ask = () => Effect.map(Chat.complete(question), ({ server }) => server)
        // Known, so that no time passes in the search.
        expect(yield* ask()).toBe(bad.url)
        yield* Effect.promise(() => bad.setBehaviour({ faults: [{ kind: "status", code: 429, retryAfter }] }))
        expect(yield* ask()).toBe(good.url)
        yield* TestClock.adjust("59 minutes")
        expect(yield* ask()).toBe(good.url)
        yield* TestClock.adjust("2 minutes")
        expect(yield* ask()).toBe(bad.url)
      }).pipe(Effect.provide(Cortex.layer({ servers, configFile: false, model, discoveryTtl: 1e12 })))
    })
  )

  it("429 rests the server for that model only", async () => {
    const [bad, good] = await Promise.all([
      fleet.ollama({ models: [model, "other:1b"], reply }),
      fleet.ollama({ models: [model, "other:1b"], reply })
    ])
    const cortex = fleet.cortex(inOrder(bad, good))
    await cortex.listServers()
    await bad.setBehaviour({ faults: [{ kind: "status", code: 429 }] })
    expect((await cortex.complete(question)).server).toBe(good.url)
    expect((await cortex.complete(question)).server).toBe(good.url)
    expect((await cortex.complete(question, { model: "other:1b" })).server).toBe(bad.url)
  })

  it("a server with instant 5xx attracts no traffic, with any strategy", async () => {
    for (const routing of ["random", "fastest", "nearest", "balanced"] as const) {
      const [bad, good] = await Promise.all([start("ollama"), start("ollama", {})])
      await good.setBehaviour({ firstToken: 20 })
      const cortex = fleet.cortex([bad, good])
      await cortex.listServers()
      await bad.setBehaviour({ faults: { kind: "status", code: 500 } })
      for (let i = 0; i < 10; i++) expect(await cortex.chat(question, { routing })).toBe(reply)
      expect(bad.chatRequests.length).toBeLessThanOrEqual(1)
    }
  })

  effectIt.scoped("rests for 60 s by default, and is then tried again", () =>
    Effect.gen(function* () {
      const fake = (options = {}) =>
        Effect.acquireRelease(
          Effect.promise(() => startFakeOllama({ models: [model], reply, ...options })),
          (server) => Effect.promise(() => server.stop())
        )
      const bad = yield* fake({ faults: [{ kind: "status", code: 500 }] })
      const good = yield* fake()
      const ask = Effect.map(Chat.complete(question), ({ server }) => server)
      yield* Effect.gen(function* () {
        expect(yield* ask).toBe(good.url)
        yield* TestClock.adjust("59 seconds")
        expect(yield* ask).toBe(good.url)
        expect(bad.chatRequests).toHaveLength(1)
        yield* TestClock.adjust("1 seconds")
        expect(yield* ask).toBe(bad.url)
        expect(yield* ask).toBe(bad.url)
      }).pipe(Effect.provide(Cortex.layer({ servers: [...inOrder(bad, good)], model, configFile: false })))
    })
  )
})

// -----------------------------------------------------------------------------

describe.each(protocols)("a stream that breaks (%s)", (protocol) => {
  const words = ["Recursion", " is", " when", " a", " function", " calls", " 你好", " itself."]
  const whole = words.join("")
  const broken = async (fault: Fault, second: Reply = words, more: Fault | undefined = undefined) => {
    // Servers that can only begin again: test/failover/resume.test.ts has those that can go on.
    const begin = (reply: Reply) =>
      protocol === "ollama" ? fleet.ollama({ reply, debugRender: false }) : fleet.openai({ reply })
    const servers = await Promise.all([begin(words), begin(second), begin(second)])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0].setBehaviour({ faults: fault })
    await servers[1].setBehaviour({ faults: more })
    return { servers, cortex, stream: await cortex.chat(question, { stream: true, temperature: 0, timeout: 2_000 }) }
  }

  it.each<[string, Fault]>([
    ["a cut", { kind: "cut", after: 3 }],
    ["a reset", { kind: "cut", after: 3, how: "rst" }],
    ["half a line", { kind: "cutLine", after: 3 }],
    ["a stall", { kind: "stall", after: 3 }],
    ["garbage", { kind: "malformed", after: 3 }],
    ["a silent end", { kind: "silentEnd", after: 3 }],
    ["a reported error", { kind: "errorLine", after: 3 }]
  ])("%s: another server continues at the cut, without duplicate text", async (_, fault) => {
    const { servers, stream } = await broken(fault)
    const events = await eventsOf(stream)
    expect(textOf(events)).toBe(whole)
    const tokens = events.filter((event) => event.type === "token")
    expect(tokens.map((token) => token.index)).toEqual(words.map((_, i) => i))
    expect(tokens.map((token) => token.content)).toEqual(words)
    expect(events.filter((event) => event.type === "start")).toHaveLength(1)
    expect(events[0]?.type).toBe("start")
    const types = events.map((event) => event.type).filter((type) => type !== "meta")
    expect(types).toEqual(["start", "token", "token", "token", "error", ...words.slice(3).map(() => "token"), "end"])
    const attempt = { server: servers[0].url, phase: "stream", elapsed: expect.any(Number) }
    expect(events.find((event) => event.type === "error")).toMatchObject({
      content: expect.stringContaining(`${servers[0].url} failed: `),
      attempt
    })
    expect(events.at(-1)).toMatchObject({ type: "end", server: servers[1].url, attempts: [attempt] })
    expect(events.flatMap((event) => (event.type === "meta" ? [event.meta] : []))).toMatchObject([
      { type: "attempt", server: servers[0].url, attempt: 1 },
      { type: "attempt", server: servers[1].url, attempt: 2 }
    ])
    // Whether the second can go on is asked first: an Ollama server also for its prompt.
    expect(chats(...servers)).toEqual([1, protocol === "ollama" ? 3 : 2, 0])
  })

  it("the new answer may have other pieces", async () => {
    const { stream } = await broken({ kind: "cut", after: 4 }, [...whole])
    const events = await eventsOf(stream)
    expect(textOf(events)).toBe(whole)
    const indices = events.flatMap((event) => (event.type === "token" ? [event.index] : []))
    expect(indices).toEqual(indices.map((_, i) => i))
    const { stream: atOnce } = await broken({ kind: "cut", after: 4 }, [whole])
    expect(await atOnce.text()).toBe(whole)
  })

  it("two interruptions", async () => {
    const { servers, cortex } = await broken({ kind: "cut", after: 4 }, words, { kind: "cut", after: 2 })
    await servers[2].setBehaviour({ reply: words })
    cortex.clearServerCache()
    const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
    expect(textOf(events)).toBe(whole)
    expect(events.at(-1)).toMatchObject({ server: servers[2].url, attempts: [{ reason: "cut" }, { reason: "cut" }] })
  })

  it("before the first token only an attempt's error is emitted", async () => {
    const { stream } = await broken({ kind: "status", code: 500 })
    const types = (await eventsOf(stream)).map((event) => event.type)
    expect(types).toEqual(["start", "meta", "error", "meta", ...words.map(() => "token"), "end"])
  })

  it.each<[string, Reply]>([
    ["another text", "Well, recursion is a loop."],
    ["a text that differs later", ["Recursion", " is", " while"]],
    ["a shorter text", ["Recursion", " is"]],
    ["no text", ""]
  ])("a different answer ends in StreamInterrupted: %s", async (_, second) => {
    const { servers, stream } = await broken({ kind: "cut", after: 3 }, second)
    const error = await failure(eventsOf(stream))
    expect(error).toBeInstanceOf(StreamInterrupted)
    expect(error).toMatchObject({ model, partial: "Recursion is when" })
    expect(error.attempts.slice(0, 3).map((attempt: Attempt) => [attempt.server, attempt.reason])).toEqual([
      [servers[0].url, "cut"],
      [servers[1].url, "diverged"],
      [servers[2].url, "diverged"]
    ])
    // What was given out is exactly what the error says.
    expect(textOf(stream.events)).toBe("Recursion is when")
    expect(stream.events.map((event) => event.type)).not.toContain("end")
  })

  it("a server with a different answer is not at fault", async () => {
    const { servers, cortex, stream } = await broken({ kind: "cut", after: 3 }, "Another answer.")
    await failure(stream.text())
    expect((await cortex.complete(question)).server).toBe(servers[1].url)
  })

  it("if no server can continue, the error has the text so far", async () => {
    const { servers, cortex } = await broken({ kind: "cut", after: 3 })
    await servers[1].setBehaviour({ faults: { kind: "status", code: 500 } })
    await servers[2].setBehaviour({ faults: { kind: "refuse" } })
    await cortex.clearServerCache()
    const options = { stream: true, temperature: 0, maxRetries: 3 } as const
    const error = await failure(eventsOf(await cortex.chat(question, options)))
    expect(error).toMatchObject({ _tag: "StreamInterrupted", partial: "Recursion is when" })
    expect(error.attempts.map((attempt: Attempt) => attempt.reason)).toEqual(["cut", "server-error", "refused"])
  })

  it("thinking is not duplicated either", async () => {
    const second = { tokens: words, thinking: ["Hm", " so"] }
    const servers = await Promise.all([
      fleet[protocol]({ models: [{ name: model, capabilities: ["completion", "thinking"] }], reply: second }),
      fleet[protocol]({ models: [{ name: model, capabilities: ["completion", "thinking"] }], reply: second })
    ])
    const cortex = fleet.cortex(inOrder(...servers))
    await cortex.listServers()
    await servers[0].setBehaviour({ faults: { kind: "cut", after: 4 } })
    const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
    expect(textOf(events)).toBe(whole)
    expect(events.flatMap((event) => (event.type === "thinking" ? [event.content] : [])).join("")).toBe("Hm so")
  })

  it("a call for text starts over instead, with any second answer", async () => {
    const { cortex } = await broken({ kind: "cut", after: 3 }, "Another answer.")
    await cortex.clearServerCache()
    expect(await cortex.chat(question)).toBe("Another answer.")
  })
})

// -----------------------------------------------------------------------------

it("the timeouts for the first token and for silence do not limit the whole: a tool call in many pieces", async () => {
  const words = "one two three four five six seven eight nine ten eleven twelve"
  const server = await fleet.openai({
    reply: { tokens: [], toolCalls: [{ name: "f", arguments: { words } }] },
    perToken: 30
  })
  const cortex = fleet.cortex([server])
  await cortex.listServers()
  // All of it takes longer than either limit.
  const limits = { firstTokenTimeout: 250, idleTimeout: 250 }
  const answer = await cortex.complete(question, { ...limits, tools: [{ name: "f" }] })
  expect(answer).toMatchObject({ attempts: [], toolCalls: [{ arguments: { words } }] })
})

it("an OpenAI stream that is cut off after its finish reason is complete: no other server is asked", async () => {
  const whole = tokenize(reply).length
  for (const how of ["fin", "rst"] as const) {
    for (const torn of [false, true]) {
      // Without [DONE], and without the usage before it.
      for (const frames of [1, 2]) {
        const { bad, good, cortex } = await pair("openai", { kind: "cutLast", frames, how, torn })
        const events = await eventsOf(await cortex.chat(question, { stream: true }))
        expect(textOf(events)).toBe(reply)
        expect(events.at(-1)).toMatchObject({
          type: "end",
          server: bad.url,
          finishReason: "stop",
          usage: { completionTokens: whole },
          attempts: []
        })
        expect(chats(bad, good)).toEqual([1, 0])
      }
    }
  }
})

describe("options that a protocol does not support", () => {
  it("on a fleet of OpenAI servers keepAlive is refused by name, and nothing is sent", async () => {
    const servers = await Promise.all([start("openai"), start("openai")])
    const cortex = fleet.cortex(servers)
    // There is nothing to wait for, because another attempt would be no better: after such a pause the test is over.
    for (const options of [{ keepAlive: "5m" }, { keepAlive: "5m", maxRetries: 4, retryBackoff: 600_000 }]) {
      const error = await failure(cortex.chat(question, options))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field: "keepAlive" })
      expect(error.reason).toContain("OpenAI")
    }
    expect(await failure(cortex.chat(question, { options: { num_ctx: 10 } }))).toMatchObject({ field: "options" })
    expect(chats(...servers)).toEqual([0, 0])
  })

  it("on a fleet of Ollama servers a forced tool and an image by URL are refused", async () => {
    const only = await start("ollama")
    const cortex = fleet.cortex([only])
    const tools = [{ name: "f" }]
    for (const toolChoice of ["required", { name: "f" }] as const) {
      const error = await failure(cortex.complete(question, { tools, toolChoice }))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field: "toolChoice" })
    }
    const image = { type: "image", url: "http://127.0.0.1/x.png" } as const
    const error = await failure(cortex.chat([{ role: "user", content: [image] }]))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "messages" })
    expect(chats(only)).toEqual([0])
  })

  it("a server that supports them is used, without a failure of the others", async () => {
    const [a, b, c] = await Promise.all([start("openai"), start("openai"), start("ollama")])
    const cortex = fleet.cortex(inOrder(a, b, c))
    for (const options of [{}, { maxRetries: 1 }]) {
      const answer = await cortex.complete(question, { keepAlive: "5m", ...options })
      expect(answer).toMatchObject({ text: reply, server: c.url })
    }
    expect(chats(a, b, c)).toEqual([0, 0, 2])
    expect((await cortex.complete(question)).server).toBe(a.url)
  })

  it("if that server fails, the error has both reasons", async () => {
    const [a, b] = await Promise.all([start("openai"), start("ollama")])
    const cortex = fleet.cortex(inOrder(a, b))
    await cortex.listServers()
    await b.setBehaviour({ faults: { kind: "status", code: 500 } })
    const error = await failure(cortex.chat(question, { keepAlive: 10, maxRetries: 1 }))
    expect(error).toMatchObject({ _tag: "AllServersFailed" })
    expect(error.attempts.map((attempt: Attempt) => attempt.reason)).toContain("server-error")
    expect(chats(a, b)).toEqual([0, 1])
  })
})
