import type { Gateway } from "aicortex"
import { createCortex } from "aicortex/promise"
import * as fc from "fast-check"
import { assert, describe, expect, it } from "vitest"
import { FairQueue, type Priority, type Waiter } from "../../src/fleet/fairQueue.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const keep = useKeep()

interface Named extends Waiter {
  readonly name: string
}
const waiter = (name: string, owner?: string, priority?: Priority): Named => ({
  name,
  owner,
  priority,
  look: () => true,
  narrow: () => false
})
/** Serves all who wait, one after the other. */
const drain = (queue: FairQueue): ReadonlyArray<string> => {
  const names: Array<string> = []
  while (queue.size > 0) {
    const [first] = queue.order()
    assert(first !== undefined)
    names.push((first as Named).name)
    queue.served(first)
  }
  return names
}

describe("the queue of a model", () => {
  it("serves one owner in the order in which its requests came", () => {
    const queue = new FairQueue(() => 0)
    for (const name of ["a", "b", "c"]) queue.join(waiter(name), false)
    queue.join(waiter("again"), true)
    expect(drain(queue)).toEqual(["again", "a", "b", "c"])
  })

  it("alternates between owners with any number of waiting requests, and a late one does not catch up", () => {
    const queue = new FairQueue(() => 0)
    for (let i = 0; i < 6; i++) queue.join(waiter(`a${i}`, "a"), false)
    const [first] = queue.order()
    assert(first !== undefined)
    queue.served(first)
    for (let i = 0; i < 3; i++) queue.join(waiter(`b${i}`, "b"), false)
    expect(drain(queue)).toEqual(["b0", "a1", "b1", "a2", "b2", "a3", "a4", "a5"])
  })

  it("serves batch requests last, until they have waited long enough", () => {
    let now = 0
    const queue = new FairQueue(() => now)
    queue.join(waiter("batch1", "a", "batch"), false)
    queue.join(waiter("batch2", "b", "batch"), false)
    now = 10_000
    queue.join(waiter("one", "a"), false)
    expect([...queue.order()].map((one) => (one as Named).name)).toEqual(["one", "batch2", "batch1"])
    now = 30_000
    queue.join(waiter("two", "a"), false)
    queue.join(waiter("three", "c"), false)
    expect(drain(queue)).toEqual(["batch1", "batch2", "three", "one", "two"])
  })

  it("displaces the owner with the most waiting for one with fewer, and batch for interactive requests", () => {
    const queue = new FairQueue(() => 0)
    for (let i = 0; i < 3; i++) queue.join(waiter(`a${i}`, "a"), false)
    queue.join(waiter("b0", "b"), false)
    const of = (owner: string, priority?: Priority) =>
      (queue.displaceable({ owner, priority }) as Named | undefined)?.name
    expect([of("a"), of("b"), of("c")]).toEqual([undefined, "a2", "a2"])
    queue.join(waiter("a-batch", "a", "batch"), false)
    expect([of("a"), of("a", "batch"), of("b"), of("b", "batch")]).toEqual(["a-batch", undefined, "a-batch", "a-batch"])
  })

  it("starves no owner, and gives each its share while it waits", () => {
    const requests = fc.array(
      fc.record({ owner: fc.constantFrom("a", "b", "c"), batch: fc.boolean(), first: fc.boolean() }),
      { maxLength: 60 }
    )
    fc.assert(
      fc.property(requests, (all) => {
        const queue = new FairQueue(() => 0)
        all.forEach(({ batch, first, owner }, i) =>
          queue.join(waiter(`${owner}${i}`, owner, batch ? "batch" : "interactive"), first)
        )
        const order = [...queue.order()].map((one) => (one as Named).name)
        const served = drain(queue)
        assert.deepEqual(served, order)
        assert.sameMembers(
          [...served],
          all.map(({ owner }, i) => `${owner}${i}`)
        )
        // Of interactive requests, none has two turns while another owner waits for one.
        const turns = served.filter((name) => {
          const one = all[Number(name.slice(1))]
          return one !== undefined && !one.batch && !one.first
        })
        turns.forEach((name, i) => {
          const left = new Set(turns.slice(i).map((one) => one[0]))
          const next = turns.slice(i, i + left.size).map((one) => one[0])
          assert.strictEqual(new Set(next).size, left.size, `${name} in ${turns}`)
        })
      })
    )
  })
})

// -----------------------------------------------------------------------------
// through the public faces
// -----------------------------------------------------------------------------

const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI }
const contents = (server: FakeServer) =>
  server.chatRequests.map(({ body }) => (body as { messages: ReadonlyArray<{ content: string }> }).messages[0]?.content)

describe.each(["ollama", "openai"] as const)("calls that wait for a slot on an %s server", (protocol) => {
  const start = async () => keep(await fakes[protocol]({ models: [model], reply: "Well.", firstToken: 20 }))

  it("are served alternating between owners, with batch calls last", async () => {
    const server = await start()
    const cortex = keep(createCortex({ servers: [{ url: server.url, maxInFlight: 1 }], configFile: false, model }))
    await cortex.chat("warm up")
    const calls: Array<Promise<string>> = [cortex.chat("first", { owner: "flood" })]
    for (let i = 0; i < 5; i++) calls.push(cortex.chat(`flood ${i}`, { owner: "flood" }))
    calls.push(cortex.chat("batch", { owner: "good", priority: "batch" }))
    for (let i = 0; i < 2; i++) calls.push(cortex.chat(`good ${i}`, { owner: "good" }))
    await Promise.all(calls)
    const order = contents(server)
    expect(order).toHaveLength(10)
    expect(order.slice(0, 2)).toEqual(["warm up", "first"])
    expect(order.at(-1)).toBe("batch")
    expect(Math.max(order.indexOf("good 0"), order.indexOf("good 1"))).toBeLessThan(7)
  })

  it("of another key do not wait behind a thousand of one, and are admitted although the queue is full", async () => {
    const server = await start()
    const gateway = keep(
      await startGateway(
        [],
        {
          keys: [
            { name: "flood", key: "sk-flood" },
            { name: "good", key: "sk-good" },
            { name: "late", key: "sk-late", priority: "batch" }
          ]
        },
        { cortex: { servers: [{ url: server.url, maxInFlight: 1 }], maxQueued: 8 } }
      )
    )
    const ask = async (key: string, text: string, headers: Record<string, string> = {}) => {
      const response = await gateway.post(
        "/v1/chat/completions",
        { model, messages: [{ role: "user", content: text }] },
        { headers: { authorization: `Bearer sk-${key}`, ...headers } }
      )
      await response.text()
      return response.status
    }
    await ask("good", "warm up")
    const flood = Array.from({ length: 40 }, (_, i) => ask("flood", `flood ${i}`))
    await server.waitForChats(2)
    const late = ask("late", "late")
    const good = await Promise.all([
      ask("good", "good 0"),
      ask("good", "good 1"),
      ask("good", "good 2", { "x-aicortex-priority": "batch" })
    ])
    expect(good).toEqual([200, 200, 200])
    expect(await late).toBe(200)
    const statuses = await Promise.all(flood)
    expect(statuses.filter((status) => status === 503).length).toBeGreaterThan(20)
    expect(statuses.every((status) => status === 200 || status === 503)).toBe(true)
    expect(await ask("good", "x", { "x-aicortex-priority": "urgent" })).toBe(400)
  })
})

it("an invalid priority is refused", async () => {
  const keys = [{ name: "a", key: "sk-a", priority: "urgent" as never }] satisfies ReadonlyArray<Gateway.Key>
  await expect(startGateway([], { keys })).rejects.toMatchObject({ _tag: "InvalidConfig", field: "keys" })
})
