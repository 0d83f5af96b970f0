import { EventEmitter } from "node:events"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import * as SharedState from "../../src/cli/serve/sharedState.js"
import * as WorkerRpc from "../../src/cli/serve/workerRpc.js"
import type * as GatewayContext from "../../src/gateway/GatewayContext.js"
import * as Message from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"
import * as Turns from "../../src/sessions/turnQueue.js"

/** Both ends of a channel, which copies what it carries. */
const channel = () => {
  const [first, worker] = [new EventEmitter(), new EventEmitter()]
  let open = true
  const carry = (to: EventEmitter) => (message: unknown, sent: (error: Error | null) => void) => {
    if (!open) {
      sent(new Error("the channel is closed"))
      return
    }
    const copy: unknown = structuredClone(message)
    queueMicrotask(() => to.emit("message", copy))
    sent(null)
  }
  return {
    first: Object.assign(first, { send: carry(worker), isConnected: () => open }) satisfies WorkerRpc.WorkerEnd,
    worker: Object.assign(worker, { send: carry(first) }) satisfies WorkerRpc.WorkerChannel,
    cut: () => {
      open = false
      first.emit("disconnect")
      first.emit("exit")
    }
  }
}

const never = new Promise<never>(() => {})
const answersWith = (released: Array<string> = []) => ({
  add: (_: WorkerRpc.HoldResource, a: number, b: number) => a + b,
  fail: (_: WorkerRpc.HoldResource): number => {
    throw new Error("cannot be done")
  },
  silent: (hold: WorkerRpc.HoldResource, name: string) => {
    hold(() => released.push(name))
    return never
  },
  lend: (hold: WorkerRpc.HoldResource, name: string) => {
    hold(() => released.push(name))
    return name
  }
})
const reason = (call: Promise<unknown>) =>
  call.then(
    () => "answered",
    (error: Error) => error.message
  )

describe("calls of a worker", () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const start = () => {
    const { cut, first, worker } = channel()
    const released: Array<string> = []
    WorkerRpc.serveCalls(first, answersWith(released))
    return { caller: new WorkerRpc.WorkerRpcClient<ReturnType<typeof answersWith>>(worker), released, cut }
  }

  it("each get their own answer", async () => {
    const { caller } = start()
    expect(await Promise.all([caller.call("add", 1, 2), caller.call("add", Number.POSITIVE_INFINITY, 1)])).toEqual([
      3,
      Number.POSITIVE_INFINITY
    ])
    expect(await reason(caller.call("fail"))).toBe("cannot be done")
  })

  it("fail at their timeout, and late results are returned", async () => {
    const { caller, released } = start()
    const late = reason(caller.call("silent", "late"))
    await vi.advanceTimersByTimeAsync(WorkerRpc.callTimeout - 1)
    expect(released).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(await late).toBe(`the first process gave no answer within ${WorkerRpc.callTimeout} ms`)
    expect(released).toEqual(["late"])
  })

  it("wait without a limit if configured, until they are cancelled", async () => {
    const { caller, released } = start()
    const { release, result } = caller.begin("silent", ["patient"])
    const given = reason(result)
    await vi.advanceTimersByTimeAsync(100 * WorkerRpc.callTimeout)
    expect(released).toEqual([])
    release()
    release()
    expect(await given).toBe("it is no longer waited for")
    await vi.advanceTimersByTimeAsync(0)
    expect(released).toEqual(["patient"])
  })

  it("are bounded, and waiting ones do not block others", async () => {
    const { caller } = start()
    const waiting = Array.from({ length: 1_024 }, () => caller.begin("silent", [""]))
    const given = Promise.all(waiting.map(({ result }) => reason(result)))
    const tooMany = "1024 calls to the first process are open already"
    expect(await reason(caller.begin("silent", [""]).result)).toBe(tooMany)
    const open = Array.from({ length: 1_024 }, () => caller.call("add", 1, 1))
    expect(await reason(caller.call("add", 1, 1))).toBe(tooMany)
    expect(new Set(await Promise.all(open))).toEqual(new Set([2]))
    expect(await caller.call("add", 1, 1)).toBe(2)
    for (const { release } of waiting) release()
    expect(new Set(await given)).toEqual(new Set(["it is no longer waited for"]))
    expect(await caller.begin("lend", ["again"]).result).toBe("again")
  })

  it("release what they hold when their worker ends, once", async () => {
    const { caller, cut, released } = start()
    const kept = caller.begin("lend", ["kept"])
    const returned = caller.begin("lend", ["returned"])
    expect(await Promise.all([kept.result, returned.result])).toEqual(["kept", "returned"])
    returned.release()
    await vi.advanceTimersByTimeAsync(0)
    expect(released).toEqual(["returned"])
    cut()
    expect(released).toEqual(["returned", "kept"])
    expect(await reason(caller.call("add", 1, 1))).toBe("the channel is closed")
  })
})

describe("what workers share", () => {
  let scope = Effect.runSync(Scope.make())
  afterEach(async () => {
    await run(Scope.close(scope, Exit.void))
    scope = Effect.runSync(Scope.make())
  })
  const start = () => {
    const answers = SharedState.makeHandlers(Effect.runSync(Sessions.makeStoreMemory()), Turns.orderOf(Turns.make()))
    const said: Array<string> = []
    const worker = () => {
      const { cut, first, worker } = channel()
      WorkerRpc.serveCalls(first, answers)
      const made = SharedState.forWorker((text) => said.push(text), undefined, worker)
      const common = Effect.runSync(Scope.extend(made, scope)) as GatewayContext.SharedState
      const layer = Layer.provide(Sessions.layer, Layer.succeed(Sessions.SessionStore, common.sessions))
      return { common, cut, sessions: Effect.runSync(Effect.provide(Sessions.Sessions, layer)) }
    }
    return { one: worker(), two: worker(), said }
  }
  const run = Effect.runPromise
  const settled = () => new Promise((resolve) => setTimeout(resolve, 5))

  it("conversations, and their turns", async () => {
    const { one, two } = start()
    const { id } = await run(one.sessions.create({ prefix: "a-" }))
    const first = await run(one.sessions.begin(id))
    let second: Sessions.Turn | undefined
    const waiting = run(two.sessions.begin(id)).then((turn) => {
      second = turn
    })
    await settled()
    expect(second).toBeUndefined()
    await run(first.commit([Message.user("Hi"), Message.assistant("Hello")]))
    first.release()
    await waiting
    expect(second?.history).toEqual([Message.user("Hi"), Message.assistant("Hello")])
    expect(Object.isFrozen(second?.history[0])).toBe(true)
    await run(two.sessions.reset(id))
    expect(await run(one.sessions.history(id))).toEqual([])
    await run(one.sessions.remove(id))
    expect(await run(Effect.flip(two.sessions.resume(id)))).toMatchObject({ _tag: "SessionNotFound", id })
  })

  it("a worker that ends releases its turn, and the one that it waits for", async () => {
    const { one, two } = start()
    const { id } = await run(one.sessions.create())
    await run(one.sessions.begin(id))
    const waits = run(Effect.either(one.sessions.begin(id)))
    const next = run(two.sessions.begin(id))
    await settled()
    one.cut()
    const turn = await next
    await run(turn.commit([Message.user("Still here")]))
    turn.release()
    void waits
    const last = await run(two.sessions.begin(id))
    expect(last.history).toHaveLength(1)
    expect(await run(Effect.flip(one.sessions.history(id)))).toMatchObject({
      _tag: "SessionsUnavailable",
      reason: "the channel is closed"
    })
  })

  it("a refused turn has the same error as without workers", async () => {
    const { one, two } = start()
    const { id } = await run(one.sessions.create())
    const turns = Array.from({ length: 513 }, () => one.common.sessions.turn?.(id))
    await settled()
    const refused = await run(Effect.flip(two.sessions.begin(id)))
    expect(refused.message).toBe(
      "The session cannot be used now: 512 calls wait for their turn in it already. Try again in a moment."
    )
    for (const turn of turns) turn?.release()
    await settled()
    const turn = await run(two.sessions.begin(id))
    turn.release()
  })

  it("stored responses", async () => {
    const { one, said, two } = start()
    one.common.responses.bound({ maxEntries: 2, maxBytes: 10_000, ttl: 60_000 })
    const draft = (id: string, previous?: string) => ({ owner: "app", id, previous, input: "[]", response: `"${id}"` })
    expect(await one.common.responses.put(draft("r1"))).toBe("kept")
    expect(await two.common.responses.put(draft("r2", "r1"))).toBe("kept")
    expect(await one.common.responses.chain("app", "r2")).toEqual([
      { input: "[]", response: `"r1"` },
      { input: "[]", response: `"r2"` }
    ])
    expect(await two.common.responses.put(draft("r3"))).toBe("kept")
    expect(await one.common.responses.get("app", "r1")).toBeUndefined()
    expect(await two.common.responses.remove("app", "r2")).toBe(true)
    expect(await one.common.responses.remove("app", "r2")).toBe(false)
    one.cut()
    await expect(one.common.responses.get("app", "r3")).rejects.toMatchObject({
      response: { status: 503, code: "responses_unavailable" }
    })
    expect(said).toEqual([])
  })

  it("usage of key limits, without calls for keys that have none", async () => {
    const { one, said, two } = start()
    const none = Number.POSITIVE_INFINITY
    const key = {
      name: "app",
      secret: Redacted.make("sk-app"),
      requestsPerMinute: none,
      tokensPerMinute: 100,
      concurrency: 2,
      admin: true,
      priority: "interactive" as const
    }
    const unlimited = { ...key, tokensPerMinute: none, concurrency: none }
    expect(one.common.keyLimits.acquire(unlimited)).toBeUndefined()
    const enter = async ({ common }: typeof one) => {
      const entered = await common.keyLimits.acquire(key)
      if (entered === undefined || "status" in entered) throw new Error("it was not let in")
      return entered
    }
    const nothing = { prompt: 0, completion: 0 }
    await enter(one)
    const second = await enter(two)
    expect(await two.common.keyLimits.acquire(key)).toMatchObject({ status: 429, code: "concurrency_limit_exceeded" })
    second.release(nothing)
    await enter(one)
    // Two of the first worker are under way, and end with it.
    one.cut()
    const third = await enter(two)
    expect(await third.reserve({ answers: 3, param: "n", prompt: 1, maxTokens: 1 })).toMatchObject({
      status: 400,
      code: "limit_exceeded",
      param: "n"
    })
    expect(await third.reserve({ answers: 2, param: "n", prompt: 10, maxTokens: 5 })).toBeUndefined()
    expect(await two.common.keyLimits.acquire(key)).toMatchObject({ status: 429, code: "concurrency_limit_exceeded" })
    // Both answers end with their request, and what was reserved but not used is given back.
    third.release({ prompt: 10, completion: 2 })
    const fourth = await enter(two)
    expect(await fourth.reserve({ answers: 1, param: "n", prompt: 80, maxTokens: 1 })).toBeUndefined()
    fourth.release({ prompt: 1_000, completion: 0 })
    expect(await two.common.keyLimits.acquire(key)).toMatchObject({ status: 429, code: "rate_limit_exceeded" })
    expect(await one.common.keyLimits.acquire(key)).toMatchObject({ status: 503, code: "limits_unavailable" })
    expect(said).toEqual(["limits are served from what this gateway holds: the channel is closed"])
  })
})
