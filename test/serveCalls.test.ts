import { EventEmitter } from "node:events"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import * as Calls from "../src/cli/serve/calls.js"

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

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
    first: Object.assign(first, { send: carry(worker), isConnected: () => open }) satisfies Calls.WorkerEnd,
    worker: Object.assign(worker, { send: carry(first) }) satisfies Calls.End,
    cut: () => {
      open = false
      first.emit("disconnect")
      first.emit("exit")
    }
  }
}

const never = new Promise<never>(() => {})
const answersWith = (released: Array<string> = []) => ({
  add: (_: Calls.Hold, a: number, b: number) => a + b,
  fail: (_: Calls.Hold): number => {
    throw new Error("cannot be done")
  },
  silent: (hold: Calls.Hold, name: string) => {
    hold(() => released.push(name))
    return never
  },
  lend: (hold: Calls.Hold, name: string) => {
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
  const start = () => {
    const { cut, first, worker } = channel()
    const released: Array<string> = []
    Calls.answer(first, answersWith(released))
    return { caller: new Calls.Caller<ReturnType<typeof answersWith>>(worker), released, cut }
  }

  it("are answered, each with its own answer", async () => {
    const { caller } = start()
    expect(await Promise.all([caller.call("add", 1, 2), caller.call("add", Number.POSITIVE_INFINITY, 1)])).toEqual([
      3,
      Number.POSITIVE_INFINITY
    ])
    expect(await reason(caller.call("fail"))).toBe("cannot be done")
  })

  it("fail where no answer comes in time, and what was asked for is given back", async () => {
    const { caller, released } = start()
    const late = reason(caller.call("silent", "late"))
    await vi.advanceTimersByTimeAsync(Calls.patience - 1)
    expect(released).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(await late).toBe(`the first process gave no answer within ${Calls.patience} ms`)
    expect(released).toEqual(["late"])
  })

  it("wait as long as it takes where they are to, until they are given up", async () => {
    const { caller, released } = start()
    const { release, result } = caller.begin("silent", ["patient"])
    const given = reason(result)
    await vi.advanceTimersByTimeAsync(100 * Calls.patience)
    expect(released).toEqual([])
    release()
    release()
    expect(await given).toBe("it is no longer waited for")
    await vi.advanceTimersByTimeAsync(0)
    expect(released).toEqual(["patient"])
  })

  it("are bounded, and those that wait do not keep others from being answered", async () => {
    const { caller } = start()
    const waiting = Array.from({ length: 1_024 }, () => caller.begin("silent", [""]))
    const given = Promise.all(waiting.map(({ result }) => reason(result)))
    const tooMany = "1024 questions to the first process are open already"
    expect(await reason(caller.begin("silent", [""]).result)).toBe(tooMany)
    const open = Array.from({ length: 1_024 }, () => caller.call("add", 1, 1))
    expect(await reason(caller.call("add", 1, 1))).toBe(tooMany)
    expect(new Set(await Promise.all(open))).toEqual(new Set([2]))
    expect(await caller.call("add", 1, 1)).toBe(2)
    for (const { release } of waiting) release()
    expect(new Set(await given)).toEqual(new Set(["it is no longer waited for"]))
    expect(await caller.begin("lend", ["again"]).result).toBe("again")
  })

  it("give back what they hold when their worker ends, once", async () => {
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
