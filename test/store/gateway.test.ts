/** Gateways that share a store: what one has stored, the others go on with. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, afterEach, assert, beforeAll, describe, it } from "vitest"
import * as StoredResponses from "../../src/gateway/storedResponses.js"
import * as Store from "../../src/Store.js"
import { type Database, engines, secretOfTests } from "../support/databases.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway } from "../support/gateway.js"

const model = "m:1b"
const stops: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response>): Promise<any> => (await response).json()

const upstreams = [
  ["ollama", startFakeOllama],
  ["openai", startFakeOpenAI]
] as const

for (const engine of engines) {
  describe(`gateways that share a store in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const upstream = async (start: (typeof upstreams)[number][1]) => {
      // It answers with how many messages it was sent.
      const server = await start({
        models: [model],
        loaded: [model],
        reply: ({ messages }: { readonly messages: ReadonlyArray<unknown> }) => `${messages.length}`
      })
      stops.push(server.stop)
      return server.url
    }
    const gateway = async (server: string, store: string, sessions = {}) => {
      const one = await startGateway(
        [server],
        {},
        { cortex: { store, configFile: false, servers: [server], sessions } }
      )
      stops.push(one.close)
      return one
    }

    it.each(upstreams)("a response is continued, read and deleted at any of them (%s)", async (_, start) => {
      const server = await upstream(start)
      const address = await database.address()
      const [one, two] = [await gateway(server, address), await gateway(server, address)]
      const first = await json(one.post("/v1/responses", { model, input: "a" }))
      const stream = await two.post("/v1/responses", {
        model,
        input: "b",
        previous_response_id: first.id,
        stream: true
      })
      const id = /"id":"(resp_[^"]+)"/.exec(await stream.text())?.[1]
      await one.close()
      const three = await gateway(server, address)
      const third = await json(three.post("/v1/responses", { model, input: "c", previous_response_id: id }))
      assert.strictEqual(third.output.at(-1).content[0].text, "5")
      assert.strictEqual((await json(two.get(`/v1/responses/${third.id}`))).id, third.id)
      // What is removed is gone everywhere, and those that continue it are not affected.
      assert.strictEqual((await two.get(`/v1/responses/${first.id}`, { method: "DELETE" })).status, 200)
      assert.strictEqual((await three.get(`/v1/responses/${first.id}`)).status, 404)
      const fourth = await json(two.post("/v1/responses", { model, input: "d", previous_response_id: third.id }))
      assert.strictEqual(fourth.output.at(-1).content[0].text, "7")
    })

    it.each(upstreams)(
      "a conversation continues at any of them, and after all have restarted (%s)",
      async (_, start) => {
        const server = await upstream(start)
        const address = await database.address()
        const one = await gateway(server, address)
        const { id } = await json(one.post("/v1/sessions", {}))
        const two = await gateway(server, address)
        const ask = (at: typeof one, stream: boolean) =>
          at
            .post("/v1/chat/completions", {
              model,
              stream,
              session: id,
              messages: [{ role: "user", content: "next" }]
            })
            .then((response) => response.text())
        for (const [i, at] of [one, two, one, two].entries()) await ask(at, i % 2 === 0)
        await one.close()
        await two.close()
        const three = await gateway(server, address)
        assert.include(await ask(three, false), '"content":"9"')
        // Many at once: none is lost, and each answer stands behind its question.
        const four = await gateway(server, address)
        await Promise.all(Array.from({ length: 12 }, (_, i) => ask(i % 2 === 0 ? three : four, i % 3 === 0)))
        const { messages } = await json(four.get(`/v1/sessions/${id}`))
        const roles = (messages as ReadonlyArray<{ readonly role: string }>).map(({ role }) => role)
        assert.deepEqual(roles, Array.from({ length: 17 }, () => ["user", "assistant"]).flat())
      }
    )

    it.each(upstreams)("a conversation that is answered at one is kept by the others (%s)", async (_, start) => {
      const server = await start({ models: [model], loaded: [model], reply: "word ".repeat(100), perToken: 20 })
      stops.push(server.stop)
      const address = await database.address()
      const bounds = { ttl: 2_000, maxSessions: 3 }
      const [one, two] = [await gateway(server.url, address, bounds), await gateway(server.url, address, bounds)]
      const create = async (): Promise<string> => (await json(two.post("/v1/sessions", {}))).id
      const [used, idle] = [await create(), await create()]
      const stream = await one.post("/v1/chat/completions", {
        model,
        stream: true,
        session: used,
        messages: [{ role: "user", content: "long" }]
      })
      await server.strike({ kind: "stall" })
      await eventually(async () => (await two.get(`/v1/sessions/${idle}`)).status === 404, "what is idle has expired")
      assert.deepEqual((await json(two.get(`/v1/sessions/${used}`))).messages, [])
      for (let i = 0; i < 5; i++) await create()
      await server.strike(undefined)
      assert.notInclude(await stream.text(), "error")
      assert.lengthOf((await json(two.get(`/v1/sessions/${used}`))).messages, 2)
    })

    const withResponses = async (use: (open: () => ReturnType<typeof StoredResponses.make>) => Promise<void>) => {
      const scope = Effect.runSync(Scope.make())
      try {
        const store = await Effect.runPromise(Scope.extend(Store.make(await database.address()), scope))
        await use(() => StoredResponses.make(store))
      } finally {
        await Effect.runPromise(Scope.close(scope, Exit.void))
      }
    }
    const response = (owner: string, id: string, size = 10, previous?: string) => ({
      owner,
      id,
      previous,
      input: JSON.stringify([{ id: `in_${id}`, text: "x".repeat(size) }]),
      response: JSON.stringify({ id, output: [{ id: `out_${id}`, text: "y" }] })
    })
    const bounds = { maxEntries: 1_000, maxBytes: 1_000_000, ttl: 3_600_000 }

    it("a gateway that stores no responses keeps those of the others", () =>
      withResponses(async (open) => {
        const [one, off] = [open(), open()]
        one.bound(bounds)
        off.bound({ maxEntries: 0, maxBytes: 0, ttl: 0 })
        assert.strictEqual(await one.put(response("o", "a")), "kept")
        assert.isUndefined(await off.get("o", "a"))
        assert.isFalse(await off.remove("o", "a"))
        assert.include(await one.get("o", "a"), '"id":"a"')
      }))

    it("no owner can read another's responses, and items are found by id", () =>
      withResponses(async (open) => {
        const one = open()
        one.bound(bounds)
        await one.put(response("o", "a"))
        await one.put(response("o", "b_1", 10, "a"))
        assert.isUndefined(await one.get("p", "a"))
        assert.isUndefined(await one.chain("p", "a"))
        assert.strictEqual(await one.put(response("p", "c", 10, "a")), "forgotten")
        assert.deepEqual(await one.items("p", ["out_a"]), [undefined])
        const found = await one.items("o", ["out_b_1", "no", "in_a", "outXb_1"])
        assert.deepEqual(
          found.map((item) => (item === undefined ? undefined : JSON.parse(item).id)),
          ["out_b_1", undefined, "in_a", undefined]
        )
        assert.lengthOf((await one.chain("o", "b_1")) ?? [], 2)
      }))

    it("number and size are limited; the owner with the most loses its oldest, and one that is too long is refused", () =>
      withResponses(async (open) => {
        const one = open()
        one.bound({ ...bounds, maxEntries: 20, maxBytes: 100_000 })
        for (let i = 0; i < 5; i++) await one.put(response("good", `g${i}`))
        for (let i = 0; i < 40; i++)
          assert.strictEqual(await one.put(response("flood", `f${String(i).padStart(2, "0")}`)), "kept")
        for (let i = 0; i < 5; i++) assert.isDefined(await one.get("good", `g${i}`), `g${i}`)
        assert.isUndefined(await one.get("flood", "f00"))
        assert.isDefined(await one.get("flood", "f39"))
        assert.strictEqual(await one.put(response("flood", "long", 200_000)), "too-long")
        assert.isDefined(await one.get("flood", "f39"))
      }))
  })
}

describe("a gateway with an unusable store", () => {
  it("does not start, and the error has no password", async () => {
    const store = `postgres://u:${secretOfTests}@127.0.0.1:1/x`
    const error = await startGateway([], {}, { cortex: { store, configFile: false, servers: [] } }).then(
      () => undefined,
      (failure: unknown) => failure as Error
    )
    assert.match(String(error), /StoreUnavailable.*PostgreSQL does not serve/)
    assert.notInclude(String(error?.stack), secretOfTests)
  })
})
