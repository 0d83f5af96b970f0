import * as fc from "fast-check"
import OpenAI, { BadRequestError, NotFoundError } from "openai"
import type { ResponseStreamEvent } from "openai/resources/responses/responses"
import { afterEach, describe, expect, it } from "vitest"
import { makeMemory, type ResponseStore } from "../../src/gateway/ResponseStore.js"
import type { Gateway } from "../../src/index.js"
import { type FakeServer, startFakeOllama } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { failureOf } from "../support/keep.js"

const model = "m:1b"
const weather = { type: "function" as const, name: "weather", parameters: { type: "object" }, strict: false }

const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

const clientOf = (gateway: TestGateway, apiKey = "none") =>
  new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey, maxRetries: 0 })

/** A server that tells what it was asked: the roles and texts of the conversation. */
const start = async (
  settings: Gateway.Options = {},
  options: Parameters<typeof startFakeOllama>[0] = {}
): Promise<{ server: FakeServer; gateway: TestGateway; client: OpenAI }> => {
  const server = await startFakeOllama({
    models: [model],
    reply: ({ messages, tools }) =>
      tools?.length > 0 && messages.at(-1)?.role === "user"
        ? { tokens: [], toolCalls: [{ name: "weather", arguments: { city: "Berlin" } }] }
        : `answer ${messages.filter((m: { role: string }) => m.role === "user").length}`,
    ...options
  })
  open.push(server.stop)
  const gateway = await startGateway([server.url], settings)
  open.push(gateway.close)
  return { server, gateway, client: clientOf(gateway) }
}
const requestsOf = (server: FakeServer): ReadonlyArray<unknown> =>
  server.chatRequests
    .at(-1)
    ?.body.messages.map(({ content, role }: { content: string; role: string }) => [role, content])

const collect = async <A>(stream: AsyncIterable<A>): Promise<Array<A>> => {
  const all: Array<A> = []
  for await (const one of stream) all.push(one)
  return all
}
const completed = (events: ReadonlyArray<ResponseStreamEvent>) => {
  const last = events.at(-1)
  if (last?.type !== "response.completed") throw new Error(`ended with ${last?.type}`)
  return last.response
}

describe("stored responses", () => {
  it("continue one another, complete and streamed, without the previous instructions", async () => {
    const { client, server } = await start()
    const first = await client.responses.create({ model, input: "One", instructions: "Be brief." })
    expect(first).toMatchObject({ store: true, previous_response_id: null, instructions: "Be brief." })
    const events = await collect(
      await client.responses.create({ model, input: "Two", previous_response_id: first.id, stream: true })
    )
    expect(events[0]).toMatchObject({ type: "response.created", response: { status: "in_progress", store: true } })
    const second = completed(events)
    expect(second).toMatchObject({ store: true, previous_response_id: first.id, status: "completed" })
    expect(requestsOf(server)).toEqual([
      ["user", "One"],
      ["assistant", "answer 1"],
      ["user", "Two"]
    ])
    const third = await client.responses.create({
      model,
      input: [{ role: "user", content: "Three" }],
      previous_response_id: second.id,
      instructions: "Be loud."
    })
    expect(third.output_text).toBe("answer 3")
    expect(requestsOf(server)).toEqual([
      ["system", "Be loud."],
      ["user", "One"],
      ["assistant", "answer 1"],
      ["user", "Two"],
      ["assistant", "answer 2"],
      ["user", "Three"]
    ])
  })

  it("are returned, listed and deleted", async () => {
    const { client } = await start()
    const first = await client.responses.create({ model, input: "One", metadata: { topic: "numbers" } })
    const second = completed(
      await collect(
        await client.responses.create({ model, input: "Two", previous_response_id: first.id, stream: true })
      )
    )
    expect(await client.responses.retrieve(first.id)).toEqual(first)
    expect(await client.responses.retrieve(second.id)).toMatchObject(second)

    const items = await collect(client.responses.inputItems.list(second.id, { order: "asc", limit: 2 }))
    expect(items).toMatchObject([
      { type: "message", role: "user", content: [{ type: "input_text", text: "One" }] },
      { type: "message", role: "assistant", content: [{ type: "output_text", text: "answer 1" }] },
      { type: "message", role: "user", content: [{ type: "input_text", text: "Two" }] }
    ])
    const ids = items.map(({ id }) => id)
    expect(new Set(ids).size).toBe(3)
    expect(ids[1]).toBe(first.output[0]?.id)
    const page = await client.responses.inputItems.list(second.id)
    expect(page.data.map(({ id }) => id)).toEqual([...ids].reverse())
    expect(page.has_more).toBe(false)
    const rest = await client.responses.inputItems.list(second.id, { order: "asc", after: String(ids[0]), limit: 1 })
    expect([rest.data.map(({ id }) => id), rest.has_more]).toEqual([[ids[1]], true])

    await client.responses.delete(first.id)
    const gone = await failureOf(client.responses.retrieve(first.id), NotFoundError)
    expect(gone.error).toMatchObject({
      message: `Response with id '${first.id}' not found.`,
      type: "invalid_request_error",
      param: null,
      code: null
    })
    await failureOf(client.responses.delete(first.id), NotFoundError)
    await failureOf(client.responses.inputItems.list(first.id), NotFoundError)
    // What went on from it is a response of its own.
    const third = await client.responses.create({ model, input: "Three", previous_response_id: second.id })
    expect(third.output_text).toBe("answer 3")
  })

  it("branch: two continuations of the same one are independent", async () => {
    const { client, server } = await start()
    const root = await client.responses.create({ model, input: "Root" })
    const [left, right] = await Promise.all([
      client.responses.create({ model, input: "Left", previous_response_id: root.id }),
      client.responses.create({ model, input: "Right", previous_response_id: root.id })
    ])
    for (const [branch, word, other] of [
      [left, "Left", "Right"],
      [right, "Right", "Left"]
    ] as const) {
      await client.responses.create({ model, input: "And?", previous_response_id: branch.id })
      const said = JSON.stringify(requestsOf(server))
      expect(said).toContain(word)
      expect(said).not.toContain(other)
      expect(said).toContain("Root")
    }
  })

  it("contain tool calls and their results", async () => {
    const { client, server } = await start()
    const ask = { model, tools: [weather] }
    const first = await client.responses.create({ ...ask, input: "Weather?" })
    const [call] = first.output
    if (call?.type !== "function_call") throw new Error("no call")
    const second = await client.responses.create({
      ...ask,
      previous_response_id: first.id,
      input: [{ type: "function_call_output", call_id: call.call_id, output: "rain" }]
    })
    expect(second.output_text).toBe("answer 1")
    expect(server.chatRequests.at(-1)?.body.messages).toMatchObject([
      { role: "user", content: "Weather?" },
      { role: "assistant", tool_calls: [{ function: { name: "weather", arguments: { city: "Berlin" } } }] },
      { role: "tool", content: "rain", tool_name: "weather" }
    ])
    // What is there already must not come twice.
    const twice = { ...ask, previous_response_id: first.id, input: [{ ...call, id: String(call.id) }] }
    const refused = await failureOf(client.responses.create(twice), BadRequestError)
    expect([refused.param, refused.message]).toEqual(["input", expect.stringContaining("Duplicate item found with id")])
    const third = await client.responses.create({ model, previous_response_id: second.id, input: "Sure?" })
    expect(third.output_text).toBe("answer 2")
    expect(requestsOf(server)).toHaveLength(5)
    const items = await collect(client.responses.inputItems.list(third.id, { order: "asc" }))
    expect(items.map(({ type }) => type)).toEqual([
      "message",
      "function_call",
      "function_call_output",
      "message",
      "message"
    ])
  })

  it("are not stored if disabled, interrupted, or aborted by the client", async () => {
    const { client, server } = await start({}, { reply: "word ".repeat(50), perToken: 20 })
    const created = async (events: AsyncIterable<ResponseStreamEvent>, until?: string): Promise<string> => {
      let id = ""
      for await (const event of events) {
        if (event.type === "response.created") id = event.response.id
        if (event.type === until) break
      }
      return id
    }
    const ask = { model, input: "Hi", stream: true } as const
    const unwanted = await created(await client.responses.create({ ...ask, store: false }))
    const left = await created(await client.responses.create(ask), "response.output_text.delta")
    await eventually(() => server.inFlight() === 0, "the server is left alone")
    await server.setBehaviour({ faults: { kind: "cut", after: 3 } })
    const events = await collect(await client.responses.create(ask))
    expect(events.at(-1)?.type).toBe("error")
    expect(events.map((e) => e.sequence_number)).toEqual(events.map((_, i) => i))
    const broken = events[0]?.type === "response.created" ? events[0].response.id : ""
    for (const id of [unwanted, left, broken]) {
      expect(id).toMatch(/^resp_/)
      await failureOf(client.responses.retrieve(id), NotFoundError)
    }
    await server.setBehaviour({ faults: undefined, reply: "Well." })
    const whole = await client.responses.create({ model, input: "Hi", store: false })
    expect(whole).toMatchObject({ store: false })
    const unknown = await failureOf(
      client.responses.create({ model, input: "More", previous_response_id: whole.id }),
      BadRequestError
    )
    expect(unknown).toMatchObject({ code: "previous_response_not_found", param: "previous_response_id" })
    expect(unknown.message).toContain(`Previous response with id '${whole.id}' not found.`)
  })

  it("one that reached its token limit is stored as incomplete", async () => {
    const { client } = await start({}, { reply: "word ".repeat(50) })
    const short = await client.responses.create({ model, input: "Hi", max_output_tokens: 3 })
    expect(short).toMatchObject({ status: "incomplete", incomplete_details: { reason: "max_output_tokens" } })
    expect(await client.responses.retrieve(short.id)).toEqual(short)
  })

  it("are evicted by number, size and age", async () => {
    const { client, gateway } = await start({ responses: { maxEntries: 2, maxBytes: 20_000 } })
    const one = await client.responses.create({ model, input: "One" })
    const two = await client.responses.create({ model, input: "Two" })
    await client.responses.retrieve(one.id)
    const three = await client.responses.create({ model, input: "Three" })
    await failureOf(client.responses.retrieve(two.id), NotFoundError)
    expect((await client.responses.retrieve(one.id)).id).toBe(one.id)
    const long = await client.responses.create({ model, input: "x".repeat(20_000) })
    expect(long).toMatchObject({ store: false, status: "completed" })
    expect(gateway.log).toEqual([expect.stringContaining("too long")])
    await failureOf(client.responses.retrieve(long.id), NotFoundError)
    // What did not fit has pushed nothing out; what does fit pushes out what was not used for longest.
    expect((await client.responses.retrieve(three.id)).id).toBe(three.id)
    await client.responses.create({ model, input: "x".repeat(17_000) })
    await failureOf(client.responses.retrieve(one.id), NotFoundError)
  })

  it("survive a reload, and are removed if it turns storing off", async () => {
    const off = await start({ responses: false })
    const plain = await off.client.responses.create({ model, input: "Hi" })
    expect(plain).toMatchObject({ store: false })
    for (const more of [{ store: true }, { previous_response_id: plain.id }]) {
      const refused = await failureOf(off.client.responses.create({ model, input: "Hi", ...more }), BadRequestError)
      expect([refused.param, refused.code]).toEqual([Object.keys(more)[0], "unsupported_parameter"])
    }
    const on = await start()
    const kept = await on.client.responses.create({ model, input: "Hi" })
    await on.gateway.reload()
    expect((await on.client.responses.retrieve(kept.id)).id).toBe(kept.id)
  })

  it("refuse unsupported fields by name", async () => {
    const { client, gateway } = await start()
    const { id } = await client.responses.create({ model, input: "Hi" })
    const session = ((await (await gateway.post("/v1/sessions", {})).json()) as { id: string }).id
    const refusals: ReadonlyArray<readonly [object, string]> = [
      [{ conversation: "conv_1" }, "conversation"],
      [{ background: true }, "background"],
      [{ prompt: { id: "pmpt_1" } }, "prompt"],
      [{ session, previous_response_id: id }, "previous_response_id"],
      [{ session, store: true }, "store"],
      [{ previous_response_id: 7 }, "previous_response_id"]
    ]
    for (const [more, param] of refusals) {
      const refused = await gateway.post("/v1/responses", { model, input: "Hi", ...more })
      expect([refused.status, ((await refused.json()) as { error: { param: string } }).error.param]).toEqual([
        400,
        param
      ])
    }
    const inSession = await gateway.post("/v1/responses", { model, input: "Hi", session, background: false })
    expect(await inSession.json()).toMatchObject({ store: false, status: "completed" })
    for (const [path, param] of [
      [`/v1/responses/${id}?stream=true`, "stream"],
      [`/v1/responses/${id}?colour=red`, "colour"],
      [`/v1/responses/${id}/input_items?limit=0`, "limit"],
      [`/v1/responses/${id}/input_items?order=up`, "order"],
      [`/v1/responses/${id}/input_items?after=nobody`, "after"]
    ]) {
      const refused = await gateway.get(String(path))
      expect([refused.status, ((await refused.json()) as { error: { param: string } }).error.param]).toEqual([
        400,
        param
      ])
    }
    expect((await gateway.get(`/v1/responses/${id}/else`)).status).toBe(404)
    expect((await gateway.get("/v1/responses/")).status).toBe(405)
    expect((await gateway.post(`/v1/responses/${id}`, {})).status).toBe(405)
  })

  it("and sessions belong to the key that created them", async () => {
    const { gateway } = await start({
      keys: [
        { name: "alice", key: "sk-alice" },
        { name: "bob", key: "sk-bob" }
      ]
    })
    const [alice, bob] = [clientOf(gateway, "sk-alice"), clientOf(gateway, "sk-bob")]
    const { id } = await alice.responses.create({ model, input: "My secret." })
    expect((await alice.responses.retrieve(id)).id).toBe(id)
    await failureOf(bob.responses.retrieve(id), NotFoundError)
    await failureOf(bob.responses.inputItems.list(id), NotFoundError)
    await failureOf(bob.responses.delete(id), NotFoundError)
    await failureOf(bob.responses.create({ model, input: "And?", previous_response_id: id }), BadRequestError)
    expect((await alice.responses.retrieve(id)).id).toBe(id)

    const as = (key: string, init: RequestInit = {}) => ({ ...init, headers: { authorization: `Bearer ${key}` } })
    const made = await gateway.post("/v1/sessions", {}, as("sk-alice"))
    const session = ((await made.json()) as { id: string }).id
    const path = `/v1/sessions/${session}`
    const say = (key: string, how: object, headers = {}) =>
      gateway.post(
        "/v1/chat/completions",
        { model, messages: [{ role: "user", content: "Hi" }], ...how },
        { headers: { authorization: `Bearer ${key}`, ...headers } }
      )
    expect((await say("sk-alice", { session })).status).toBe(200)
    expect((await say("sk-bob", { session })).status).toBe(404)
    expect((await say("sk-bob", {}, { "x-aicortex-session": session })).status).toBe(404)
    const ollama = { model, messages: [{ role: "user", content: "Hi" }], session, stream: false }
    expect((await gateway.post("/api/chat", ollama, as("sk-bob"))).status).toBe(404)
    expect((await gateway.post("/api/chat", ollama, as("sk-alice"))).status).toBe(200)
    expect((await gateway.get(path, as("sk-bob"))).status).toBe(404)
    expect((await gateway.get(path, as("sk-bob", { method: "DELETE" }))).status).toBe(404)
    const read = await gateway.get(path, as("sk-alice"))
    expect(((await read.json()) as { messages: Array<unknown> }).messages).toHaveLength(4)
  })
})

describe("the response store", () => {
  const bounds = { maxEntries: 100, maxBytes: 10_000, ttl: 1_000 }
  const draft = (id: string, previous?: string, response = "{}") => ({ owner: "", id, previous, input: "[]", response })

  it("keeps earlier turns as long as a response continues them, and no longer", async () => {
    const store = makeMemory(() => 0)
    store.bound(bounds)
    const text = "x".repeat(1_000)
    for (let i = 0; i < 6; i++) {
      expect(await store.put(draft(`${i}`, i === 0 ? undefined : `${i - 1}`, text))).toBe("kept")
    }
    // Six turns: a chain shares them, or the last would have pushed out the first.
    expect(await store.chain("", "0")).toHaveLength(1)
    expect(await store.chain("", "5")).toHaveLength(6)
    for (let i = 0; i < 5; i++) expect(await store.remove("", `${i}`)).toBe(true)
    expect(await store.chain("", "5")).toHaveLength(6)
    expect(await store.put(draft("6", "4"))).toBe("forgotten")
    expect(await store.put(draft("alone", undefined, "y".repeat(8_500)))).toBe("kept")
    // It did not fit beside the chain, whose last response went, and with it all of its turns.
    expect(await store.chain("", "5")).toBeUndefined()
    expect(await store.put(draft("small"))).toBe("kept")
    expect(await store.get("", "alone")).toHaveLength(8_500)
  })

  const of = (owner: string, id: string, size: number) => ({ ...draft(id, undefined, "x".repeat(size)), owner })
  const kept = async (store: ResponseStore, owner: string, ids: ReadonlyArray<string>) => {
    const all: Array<string> = []
    for (const id of ids) if ((await store.get(owner, id)) !== undefined) all.push(id)
    return all
  }

  it("an owner over its share loses its own responses only", async () => {
    const store = makeMemory(() => 0)
    store.bound(bounds)
    // About 1,500 bytes each: two of each of the quiet ones are less than a third of all.
    for (const owner of ["a", "b"]) for (const id of ["1", "2"]) await store.put(of(owner, id, 1_000))
    const ids = Array.from({ length: 20 }, (_, i) => `${i}`)
    for (const id of ids) expect(await store.put(of("loud", id, 1_000))).toBe("kept")
    expect(await kept(store, "a", ["1", "2"])).toEqual(["1", "2"])
    expect(await kept(store, "b", ["1", "2"])).toEqual(["1", "2"])
    expect(await kept(store, "loud", ids)).toEqual(["18", "19"])
    // A key that comes later has its share at once, taken from the key that has the most.
    expect(await store.put(of("late", "1", 1_000))).toBe("kept")
    expect(await kept(store, "late", ["1"])).toEqual(["1"])
    // A response beyond its key's share is not stored, and displaces no other.
    expect(await store.put(of("loud", "huge", 6_000))).toBe("too-long")
    expect((await kept(store, "a", ["1", "2"])).length + (await kept(store, "b", ["1", "2"])).length).toBe(3)
    // Where no other key needs the room, it is stored.
    for (const owner of ["a", "b"]) for (const id of ["1", "2"]) await store.remove(owner, id)
    expect(await store.put(of("loud", "huge", 6_000))).toBe("kept")
  })

  it("limits the number, too", async () => {
    const store = makeMemory(() => 0)
    store.bound({ ...bounds, maxBytes: 1_000_000, maxEntries: 6 })
    for (const id of ["1", "2"]) await store.put(of("a", id, 10))
    const ids = Array.from({ length: 20 }, (_, i) => `${i}`)
    for (const id of ids) await store.put(of("loud", id, 10))
    expect(await kept(store, "a", ["1", "2"])).toEqual(["1", "2"])
    expect(await kept(store, "loud", ids)).toEqual(["16", "17", "18", "19"])
  })

  it("any traffic stays within the limits, loses no reported response, and no owner within its share loses any", async () => {
    const step = fc.record({
      owner: fc.constantFrom("a", "b", "c"),
      size: fc.integer({ min: 0, max: 3_000 }),
      goesOn: fc.boolean()
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const store = makeMemory(() => 0)
        store.bound({ ...bounds, maxEntries: 12 })
        const all: Array<{ readonly owner: string; readonly id: string; readonly size: number }> = []
        /** What each owner has put on its own: those that go on from another are all "d"'s, so as not to be counted here. */
        for (const [i, { goesOn, owner: given, size }] of steps.entries()) {
          const owner = goesOn ? "d" : given
          const previous = goesOn ? all.findLast((one) => one.owner === "d")?.id : undefined
          const id = `${i}`
          const outcome = await store.put({ ...of(owner, id, size), previous })
          if (outcome === "kept") {
            expect(await store.get(owner, id)).toHaveLength(size)
            all.push({ owner, id, size })
          }
          let total = 0
          for (const name of ["a", "b", "c"]) {
            const mine = all.filter((one) => one.owner === name)
            const left = await kept(
              store,
              name,
              mine.map((one) => one.id)
            )
            const bytes = (some: ReadonlyArray<{ readonly size: number }>) =>
              some.reduce((sum, one) => sum + 512 + 2 + one.size, 0)
            total += bytes(mine.filter((one) => left.includes(one.id)))
            // Four owners: below a quarter, none of one's own is ever lost.
            if (bytes(mine) <= 10_000 / 4 && mine.length <= 12 / 4) expect(left).toHaveLength(mine.length)
          }
          expect(total).toBeLessThanOrEqual(10_000)
        }
      }),
      { numRuns: 100 }
    )
  })

  it("evicts unused responses after their lifetime, and all if storing is off", async () => {
    let now = 0
    const store = makeMemory(() => now)
    store.bound(bounds)
    await store.put(draft("a"))
    await store.put(draft("b"))
    now = 900
    expect(await store.get("", "a")).toBe("{}")
    now = 1_100
    expect(await store.get("", "b")).toBeUndefined()
    expect(await store.get("", "a")).toBe("{}")
    expect(await store.get("else", "a")).toBeUndefined()
    store.bound({ maxEntries: 0, maxBytes: 0, ttl: 0 })
    expect(await store.get("", "a")).toBeUndefined()
    expect(await store.put(draft("c"))).toBe("too-long")
  })
})
