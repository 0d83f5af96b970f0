import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { EventsHub, type EventType } from "../../src/gateway/events/hub.js"
import { RequestLog } from "../../src/gateway/events/requestLog.js"

const all: ReadonlySet<EventType> = new Set(["fleet", "request", "download", "model"])

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** So many watchers of one hub, and what each of them was sent. */
const watched = (count: number) => {
  const hub = new EventsHub()
  const texts = Array.from({ length: count }, () => {
    const sent: Array<string> = []
    const sink = {
      write: (text: Buffer) => sent.push(String(text)) > 0,
      drained: () => Promise.resolve(),
      end: () => {}
    }
    hub.watch(all, undefined, sink)
    return sent
  })
  return { hub, texts }
}

describe("events that come close together", () => {
  it.each([
    [1, 250],
    [10, 250],
    [40, 400],
    [200, 500]
  ])("are one write for each of %i watchers within %i ms", (count, time) => {
    const { hub, texts } = watched(count)
    hub.publish("model", { n: 1 })
    vi.advanceTimersByTime(time - 1)
    hub.publish("model", { n: 2 })
    expect(texts.flat()).toEqual([])
    vi.advanceTimersByTime(1)
    // Made once, and the same for all.
    expect(new Set(texts.map((sent) => sent.length))).toEqual(new Set([1]))
    expect(new Set(texts.flat()).size).toBe(1)
    expect(texts[0]?.[0]).toContain('"n":2')
    hub.publish("model", { n: 3 })
    vi.advanceTimersByTime(time)
    expect(texts.every((sent) => sent.length === 2)).toBe(true)
    hub.close()
  })

  it("the changes of an attempt within a batch are one event, and none if its request has ended meanwhile", () => {
    const { hub, texts } = watched(1)
    const log = new RequestLog(hub)
    const attempt = (server: string) => ({ attempt: 1, server, model: "m", began_ms: 0, loads: false, hedge: false })
    const [one, two]: ReadonlyArray<Parameters<RequestLog["tellSoon"]>[0]> = [attempt("one"), attempt("two")]
    if (one === undefined || two === undefined) throw new Error("there are two")
    log.tellSoon(one, "x-1", "ann")
    log.tellSoon(two, "x-2", "ann")
    one.connected_ms = 1
    log.tellSoon(one, "x-1", "ann")
    log.forget(two)
    vi.advanceTimersByTime(350)
    const told = [...(texts[0]?.join("") ?? "").matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data ?? ""))
    expect(told).toEqual([{ kind: "attempt", id: "x-1", attempt: { ...attempt("one"), connected_ms: 1 } }])
    // Later it is another one.
    one.first_token_ms = 2
    log.tellSoon(one, "x-1", "ann")
    vi.advanceTimersByTime(350)
    expect(texts[0]?.at(-1)).toContain('"first_token_ms":2')
    hub.close()
  })
})
