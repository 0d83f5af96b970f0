/** Whose requests a key may see, in `/requests`, `/events` and `/config`. */
import { describe, expect, it } from "vitest"
import { EventsHub, type EventType } from "../../src/gateway/events/hub.js"
import { watchEvents } from "../support/eventStream.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "m:1b"
const keys = [
  { name: "root", key: "key-of-the-administrator", admin: true },
  { name: "ann", key: "key-of-ann" },
  { name: "bob", key: "key-of-bob" }
]
const headersOf = (name: string) => ({ authorization: `Bearer ${keys.find((one) => one.name === name)?.key}` })

interface Listed {
  readonly running: ReadonlyArray<{ readonly key: string | null }>
  readonly recent: ReadonlyArray<{ readonly key: string | null }>
}

describe("a key sees", () => {
  const starts = { ollama: startFakeOllama, openai: startFakeOpenAI }

  it.each([
    ["ollama", true],
    ["ollama", false],
    ["openai", true],
    ["openai", false]
  ] as const)("its own requests only, unless it may change models (%s, stream: %s)", async (kind, stream) => {
    const server = keep(await starts[kind]({ models: [model], reply: "word ".repeat(5), perToken: "burst" }))
    const gateway = keep(await startGateway([server.url], { keys }))
    const watched = {
      root: keep(await watchEvents(gateway.get, "?types=request", headersOf("root"))),
      ann: keep(await watchEvents(gateway.get, "?types=request", headersOf("ann"))),
      bob: keep(await watchEvents(gateway.get, "?types=request", headersOf("bob")))
    }
    const messages = [{ role: "user", content: "Hi" }]
    for (const name of ["ann", "bob", "root"]) {
      const response = await gateway.post(
        "/v1/chat/completions",
        { model, messages, stream },
        { headers: headersOf(name) }
      )
      expect((await response.text()).length).toBeGreaterThan(0)
    }
    // What comes last has come to everybody who may see it; of bob's, the other key has seen nothing before its own.
    for (const name of ["ann", "bob", "root"] as const) {
      await watched[name].next(({ data }) => data.kind === "end" && data.key === name, `${name}'s has ended`)
    }
    const namesIn = (text: string) => ["root", "ann", "bob"].filter((name) => text.includes(`"${name}"`))
    expect(namesIn(watched.ann.text())).toEqual(["ann"])
    expect(namesIn(watched.bob.text())).toEqual(["bob"])
    expect(namesIn(watched.root.text())).toEqual(["root", "ann", "bob"])
    // Of others' requests, not even an attempt.
    const ids = (text: string) => new Set([...text.matchAll(/"id":"([^"]+)"/g)].map(([, id]) => id))
    expect([ids(watched.ann.text()).size, ids(watched.root.text()).size]).toEqual([1, 3])

    const listed = async (name: string) =>
      (await (await gateway.get("/requests", { headers: headersOf(name) })).json()) as Listed
    expect((await listed("ann")).recent.map(({ key }) => key)).toEqual(["ann"])
    expect((await listed("bob")).recent.map(({ key }) => key)).toEqual(["bob"])
    expect((await listed("root")).recent.map(({ key }) => key)).toEqual(["root", "bob", "ann"])
    const named = async (name: string) =>
      ((await (await gateway.get("/config", { headers: headersOf(name) })).json()) as { readonly keys: unknown }).keys
    expect(await named("ann")).toEqual(["ann"])
    expect(await named("root")).toEqual(["root", "ann", "bob"])
  })

  it("only its own running requests", async () => {
    const server = keep(await startFakeOllama({ models: [model], reply: "word ".repeat(1_000), perToken: 50 }))
    const gateway = keep(await startGateway([server.url], { keys }))
    keep(await watchEvents(gateway.get, "?types=request", headersOf("root")))
    const stop = new AbortController()
    const messages = [{ role: "user", content: "Hi" }]
    const asked = ["ann", "bob"].map((name) =>
      gateway
        .post(
          "/v1/chat/completions",
          { model, messages, stream: true },
          { headers: headersOf(name), signal: stop.signal }
        )
        .then((response) => response.text())
        .catch(() => "")
    )
    await server.waitForChats(2)
    const running = async (name: string) =>
      ((await (await gateway.get("/requests", { headers: headersOf(name) })).json()) as Listed).running
        .map(({ key }) => key)
        .sort()
    expect([await running("ann"), await running("bob"), await running("root")]).toEqual([
      ["ann"],
      ["bob"],
      ["ann", "bob"]
    ])
    stop.abort()
    await Promise.all(asked)
  })

  it("every request if the gateway has no keys", async () => {
    const server = keep(await startFakeOllama({ models: [model], perToken: "burst" }))
    const gateway = keep(await startGateway([server.url]))
    const events = keep(await watchEvents(gateway.get, "?types=request"))
    await (await gateway.post("/v1/chat/completions", { model, messages: [{ role: "user", content: "Hi" }] })).text()
    await events.next(({ data }) => data.kind === "end", "it ends")
    expect(((await (await gateway.get("/requests")).json()) as Listed).recent).toHaveLength(1)
  })
})

describe("the events of an owner", () => {
  const all: ReadonlySet<EventType> = new Set(["fleet", "request", "download", "model"])

  it("do not count as a gap for another owner", () => {
    const hub = new EventsHub()
    const noted: Array<string> = []
    const sink = {
      write: (text: Buffer) => noted.push(String(text)) > 0,
      drained: () => Promise.resolve(),
      end: () => {}
    }
    hub.watch(all, undefined, { ...sink, write: () => true })
    hub.publish("request", { n: 1 }, "ann")
    hub.publish("request", { n: 2 }, "bob")
    hub.publish("request", { n: 3 }, null)
    hub.publish("model", { n: 4 })
    hub.watch(all, `${hub.sequence}-0`, sink, "bob")
    expect([...noted.join("").matchAll(/"n":(\d)/g)].map(([, n]) => n)).toEqual(["2", "4"])
    expect(noted.join("")).not.toContain("event: gap")
    noted.length = 0
    hub.watch(all, `${hub.sequence}-0`, sink)
    expect([...noted.join("").matchAll(/"n":(\d)/g)].map(([, n]) => n)).toEqual(["1", "2", "3", "4"])
    hub.close()
  })
})
