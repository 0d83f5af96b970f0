import { describe, expect, it } from "vitest"
import { EventsHub, type EventType, maxWatchers } from "../../src/gateway/events/hub.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually, startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()

/** A watcher that notes what it is sent. */
const note = () => {
  const texts: Array<string> = []
  let free = true
  let drained: (() => void) | undefined
  return {
    texts,
    text: () => texts.join(""),
    numbers: () => [...texts.join("").matchAll(/^id: \w+-(\d+)\nevent: (?!gap)/gm)].map(([, number]) => Number(number)),
    block: () => {
      free = false
    },
    unblock: () => {
      free = true
      drained?.()
    },
    write: (text: Buffer) => {
      texts.push(String(text))
      return free
    },
    drained: () =>
      new Promise<void>((resolve) => {
        drained = resolve
      }),
    end: () => texts.push("END")
  }
}
const all: ReadonlySet<EventType> = new Set(["fleet", "request", "download", "model"])

describe("the events hub", () => {
  it("does nothing without watchers", () => {
    const hub = new EventsHub()
    const data = {
      toJSON: () => {
        throw new Error("it was written")
      }
    }
    hub.publish("model", data)
    expect(hub.active).toBe(false)
    hub.watch(all, undefined, note())
    expect(hub.active).toBe(true)
    expect(() => hub.publish("model", data)).toThrow("it was written")
    hub.close()
    expect(hub.active).toBe(false)
  })

  it("runs its source while there are watchers, and accepts another", () => {
    const hub = new EventsHub()
    const log: Array<string> = []
    const source = (name: string) => () => {
      log.push(`${name} starts`)
      return () => log.push(`${name} stops`)
    }
    hub.source(source("a"))
    expect(log).toEqual([])
    hub.watch(all, undefined, note())
    expect(log).toEqual(["a starts"])
    hub.source(source("b"))
    expect(log).toEqual(["a starts", "a stops", "b starts"])
    hub.close()
    expect(log.at(-1)).toBe("b stops")
    hub.source(source("c"))
    expect(log.at(-1)).toBe("b stops")
  })

  it("sends each watcher its types, in order, and what it missed", async () => {
    const hub = new EventsHub()
    const [everything, models] = [note(), note()]
    hub.watch(all, undefined, everything)
    hub.watch(new Set(["model"]), undefined, models)
    hub.publish("model", { n: 1 })
    hub.publish("download", { n: 2 })
    hub.publish("model", { n: 3 })
    await eventually(() => everything.numbers().length === 3, "all came")
    expect(models.numbers()).toEqual([1, 3])
    const again = note()
    hub.watch(all, `${hub.sequence}-1`, again)
    expect(again.numbers()).toEqual([2, 3])
    expect(again.text()).not.toContain("event: gap")
    hub.close()
    expect(again.texts.at(-1)).toBe("END")
  })

  it.each([
    ["of another run", () => "older-7"],
    ["that is no position", () => "\u0000<script>"],
    ["of the future", (hub: EventsHub) => `${hub.sequence}-99`]
  ])("a position %s is a gap", (_, seen) => {
    const hub = new EventsHub()
    hub.watch(all, undefined, note())
    hub.publish("model", { n: 1 })
    const late = note()
    hub.watch(all, seen(hub), late)
    expect(late.text()).toBe(`id: ${hub.sequence}-1\nevent: gap\ndata: {"missed":null}\n\n`)
    hub.close()
  })

  it("keeps a bounded number, and sends a slow watcher a gap notice", async () => {
    const hub = new EventsHub()
    const [slow, quick] = [note(), note()]
    slow.block()
    hub.watch(all, undefined, slow)
    hub.watch(all, undefined, quick)
    hub.publish("model", { n: 0 })
    await eventually(() => slow.numbers().length === 1 && quick.numbers().length === 1, "both have the first")
    for (let n = 1; n <= 10_000; n++) hub.publish("model", { n })
    await eventually(() => quick.numbers().length > 1, "the fast client has the event")
    expect(slow.numbers()).toEqual([1])
    slow.unblock()
    await eventually(() => slow.numbers().at(-1) === 10_001, "the slow one has the latest")
    expect(slow.numbers().length).toBeLessThan(4_200)
    const [, missed] = /event: gap\ndata: \{"missed":(\d+)\}/.exec(slow.text()) ?? []
    expect(Number(missed) + slow.numbers().length).toBe(10_001)
    hub.close()
  })

  it("bounds the size of what it keeps, too, and leaves out what is too large", async () => {
    const hub = new EventsHub()
    hub.watch(all, undefined, note())
    const long = "x".repeat(60_000)
    for (let n = 0; n < 500; n++) hub.publish("model", { long })
    hub.publish("model", { long: "x".repeat(70_000) })
    const late = note()
    hub.watch(all, `${hub.sequence}-0`, late)
    expect(late.text().length).toBeLessThan(4.3 * 1024 * 1024)
    expect(late.numbers().at(-1)).toBe(500)
    hub.close()
  })
})

/** Reads a stream of events until `enough`. */
const read = async (response: Response, enough: (text: string) => boolean): Promise<string> => {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  while (reader !== undefined && !enough(text)) {
    const { done, value } = await reader.read()
    if (done) break
    text += value
  }
  await reader?.cancel()
  return text
}

describe("GET /events", () => {
  const serve = async (options = {}, more = {}) => {
    const server = keep(await startFakeOllama({ models: ["m:1b"], reply: "Well." }))
    return keep(await startGateway([server.url], options, more))
  }

  it("is a stream of events that ends when the gateway stops", async () => {
    const gateway = await serve({ drain: 20_000 })
    const response = await gateway.get("/events?types=model,download")
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream"])
    const text = read(response, () => false)
    const began = performance.now()
    await gateway.close()
    expect(await text).toMatch(/^retry: \d+\n\n/)
    expect(performance.now() - began).toBeLessThan(15_000)
  })

  it("ends at a reload, so that its client sees the new settings", async () => {
    const gateway = await serve()
    const text = read(await gateway.get("/events"), () => false)
    await gateway.reload()
    expect(await text).toContain("retry:")
  })

  it.each(["nope", "fleet,nope", "FLEET"])("rejects the types %s", async (types) => {
    const gateway = await serve()
    const response = await gateway.get(`/events?types=${types}`)
    expect(response.status).toBe(400)
    expect(((await response.json()) as { error: object }).error).toMatchObject({
      param: "types",
      code: "invalid_types"
    })
  })

  it("needs a key if the gateway has keys, and uses no slot of it", async () => {
    const key = "secret-key-of-somebody"
    const gateway = await serve({ keys: [{ name: "one", key, concurrency: 1, requestsPerMinute: 2 }] })
    expect((await gateway.get("/events")).status).toBe(401)
    const headers = { authorization: `Bearer ${key}` }
    const streams = await Promise.all([1, 2, 3].map(() => gateway.get("/events", { headers })))
    expect(streams.map(({ status }) => status)).toEqual([200, 200, 200])
    expect((await gateway.get("/v1/models", { headers })).status).toBe(200)
    await Promise.all(streams.map(({ body }) => body?.cancel()))
  })

  it("has a bounded number of watchers", async () => {
    const gateway = await serve({ maxConnections: 1_000 })
    const streams = await Promise.all(Array.from({ length: maxWatchers }, () => gateway.get("/events")))
    expect(streams.every(({ status }) => status === 200)).toBe(true)
    expect((await gateway.get("/events")).status).toBe(503)
    await Promise.all(streams.map(({ body }) => body?.cancel()))
    await eventually(async () => {
      const response = await gateway.get("/events")
      await response.body?.cancel()
      return response.status === 200
    }, "there is room again")
  })
})
