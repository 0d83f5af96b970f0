import type { Worker } from "node:cluster"
import { EventEmitter } from "node:events"
import { describe, expect, it } from "vitest"
import { link, makeRelay } from "../../src/cli/serve/workerEvents.js"
import { EventsHub, type EventType } from "../../src/gateway/events/hub.js"
import { eventually } from "../support/gateway.js"

const all: ReadonlySet<EventType> = new Set(["fleet", "request", "download", "model"])

/** A worker and its process, connected as by IPC: what is sent is a copy, and comes later. */
const worker = (relay: (worker: Worker) => void) => {
  const [outer, inner] = [new EventEmitter(), new EventEmitter()]
  const later = (to: EventEmitter) => (message: unknown, sent: () => void) => {
    const copy = structuredClone(message)
    setImmediate(() => to.emit("message", copy))
    sent()
  }
  relay(Object.assign(outer, { isConnected: () => true, send: later(inner) }) as unknown as Worker)
  const hub = new EventsHub(link(Object.assign(inner, { send: later(outer) }) as never))
  return { hub, exit: () => outer.emit("exit") }
}

const note = () => {
  const texts: Array<string> = []
  return {
    write: (text: Buffer) => texts.push(String(text)) > 0,
    drained: () => Promise.resolve(),
    end: () => {},
    text: () => texts.join("")
  }
}

/** Two workers of one gateway, whose events are noted at the first. */
const twoWorkers = async () => {
  const relay = makeRelay()
  const [one, two] = [worker(relay), worker(relay)]
  const seen = note()
  await eventually(() => one.hub.sequence.length > 1 && two.hub.sequence === one.hub.sequence, "they agree")
  one.hub.watch(all, undefined, seen)
  await eventually(() => two.hub.active, "the other one publishes, too")
  return { one, two, seen }
}

describe("the events of several workers", () => {
  it("form one sequence, available at each worker", async () => {
    const { one, seen, two } = await twoWorkers()
    one.hub.publish("model", { from: "one" })
    two.hub.publish("model", { from: "two" })
    await eventually(() => seen.text().includes("one") && seen.text().includes("two"), "both are seen")
    const ids = [...seen.text().matchAll(/^id: (\S+)/gm)].map(([, id]) => id)
    expect(ids).toEqual([`${one.hub.sequence}-1`, `${one.hub.sequence}-2`])
    expect(seen.text()).not.toContain("event: gap")
    // A client that comes to another worker goes on where it was.
    const again = note()
    two.hub.watch(all, ids[0], again)
    expect(again.text()).toContain(`id: ${ids[1]}`)
    expect(again.text()).not.toContain("event: gap")
    one.hub.close()
    two.hub.close()
  })

  it("continue at a worker that is behind, without a gap or duplicates", async () => {
    const { one, two } = await twoWorkers()
    const { sequence } = one.hub
    const ahead = note()
    two.hub.watch(all, `${sequence}-2`, ahead)
    for (const from of ["first", "second", "third"]) one.hub.publish("model", { from })
    await eventually(() => ahead.text().includes("third"), "later events arrive")
    expect(ahead.text()).toBe(`id: ${sequence}-3\nevent: model\ndata: {"from":"third"}\n\n`)
    // Control: what no worker can have told is another sequence.
    const lost = note()
    two.hub.watch(all, `${sequence}-99999`, lost)
    expect(lost.text()).toContain("event: gap")
    one.hub.close()
    two.hub.close()
  })

  it("of a key's requests are visible at other workers only to authorized keys", async () => {
    const relay = makeRelay()
    const [one, two] = [worker(relay), worker(relay)]
    const [everything, ann] = [note(), note()]
    await eventually(() => one.hub.sequence.length > 1 && two.hub.sequence === one.hub.sequence, "they agree")
    one.hub.watch(all, undefined, everything)
    one.hub.watch(all, undefined, ann, "ann")
    await eventually(() => two.hub.active, "the other one publishes, too")
    two.hub.publish("request", { of: "bob" }, "bob")
    two.hub.publish("request", { of: "nobody" }, null)
    two.hub.publish("request", { of: "ann" }, "ann")
    two.hub.publish("model", { of: "all" })
    await eventually(() => everything.text().includes("all") && ann.text().includes("all"), "the last is seen")
    const told = (text: string) => [...text.matchAll(/"of":"(\w+)"/g)].map(([, of]) => of)
    expect(told(ann.text())).toEqual(["ann", "all"])
    expect(told(everything.text())).toEqual(["bob", "nobody", "ann", "all"])
    one.hub.close()
    two.hub.close()
  })

  it("are sent to a worker that starts later, and stop when the only watcher is gone", async () => {
    const relay = makeRelay()
    const [one, two] = [worker(relay), worker(relay)]
    await eventually(() => one.hub.sequence.length > 1, "it is known")
    one.hub.watch(all, undefined, note())
    await eventually(() => two.hub.active, "it publishes")
    two.hub.publish("model", { n: 1 })
    const late = worker(relay)
    await eventually(() => late.hub.active, "the late one publishes")
    const seen = note()
    late.hub.watch(all, undefined, seen)
    two.hub.publish("model", { n: 2 })
    await eventually(() => seen.text().includes('"n":2'), "the event arrives")
    expect(seen.text()).not.toContain("event: gap")
    late.exit()
    one.exit()
    await eventually(() => !two.hub.active, "no client watches any more")
  })
})
