/** Streams with a schema: the value as it grows, checked at the end. */
import { type } from "arktype"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as v from "valibot"
import { describe, expect, expectTypeOf, it } from "vitest"
import { z } from "zod"
import * as Chat from "../../src/Chat.js"
import type { StructuredEvent } from "../../src/ChatEvent.js"
import * as Cortex from "../../src/Cortex.js"
import { chat, type StructuredStream } from "../../src/promise.js"
import { chats, failure, inOrder, model, useFleet } from "../support/fleet.js"
import type { Json, Reply } from "../support/script.js"

const fleet = useFleet()
const upstreams = [
  ["ollama", fleet.ollama],
  ["openai", fleet.openai]
] as const

const tokens = ['{"capital":', ' "Ber', 'lin", "popu', 'lation": 3', ', "rivers": ["Spree"', ', "Havel"', "]}"]
const value = { capital: "Berlin", population: 3, rivers: ["Spree", "Havel"] }
const bad = ['{"capital": 7', "}"]

const shape = {
  type: "object",
  properties: {
    capital: { type: "string" },
    population: { type: "integer" },
    rivers: { type: "array", items: { type: "string" } }
  },
  required: ["capital", "population", "rivers"]
}

const kinds: ReadonlyArray<readonly [string, object, object]> = [
  ["Zod", z.object({ capital: z.string(), population: z.int(), rivers: z.array(z.string()) }), value],
  [
    "Zod, transforming asynchronously",
    z.object({
      capital: z.string().transform(async (city) => city.length),
      population: z.int(),
      rivers: z.array(z.string())
    }),
    { ...value, capital: 6 }
  ],
  ["Valibot", v.object({ capital: v.string(), population: v.number(), rivers: v.array(v.string()) }), value],
  ["ArkType", type({ capital: "string", population: "number", rivers: "string[]" }), value],
  [
    "Effect",
    Schema.Struct({ capital: Schema.String, population: Schema.Int, rivers: Schema.Array(Schema.String) }),
    value
  ],
  ["JSON Schema", shape, value]
]

const collect = async <E extends StructuredEvent>(events: AsyncIterable<E>): Promise<ReadonlyArray<E>> => {
  const all: Array<E> = []
  for await (const event of events) all.push(event)
  return all
}

describe.each(upstreams)("over %s", (protocol, start) => {
  const one = async (reply: Reply, options: object = {}) => {
    const server = await start({ reply, ...options })
    const cortex = fleet.cortex([server.url], { model })
    const runtime = ManagedRuntime.make(Cortex.layer({ servers: [server.url], model, configFile: false }))
    fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
    const faces: ReadonlyArray<(schema: object, options?: Json) => Promise<ReadonlyArray<StructuredEvent>>> = [
      async (schema, options) => collect(await cortex.chat("Hi", { ...options, schema, stream: true })),
      async (schema, options) =>
        Chunk.toReadonlyArray(await runtime.runPromise(Stream.runCollect(Chat.streamJson("Hi", schema, options))))
    ]
    return { server, cortex, runtime, faces }
  }

  it.each(kinds)("%s: partial values grow, and the value is validated", async (_, schema, result) => {
    const { faces, server } = await one(tokens)
    for (const ask of faces) {
      const events = await ask(schema)
      const partials = events.flatMap((event) => (event.type === "partial" ? [event.value] : []))
      expect(partials).toEqual([
        {},
        { capital: "Ber" },
        { capital: "Berlin" },
        { capital: "Berlin", population: 3, rivers: ["Spree"] },
        { capital: "Berlin", population: 3, rivers: ["Spree", "Havel"] }
      ])
      expect(events.slice(-2)).toMatchObject([
        { type: "value", value: result },
        { type: "end", model }
      ])
      expect(events.filter(({ type }) => type === "value" || type === "end" || type === "start")).toHaveLength(3)
      const sent = server.chatRequests.at(-1)?.body
      expect(sent.format ?? sent.response_format.json_schema.schema).toMatchObject({ type: "object" })
      expect(sent.stream).toBe(true)
    }
    expect(chats(server)).toEqual([2])
  })

  it.each(kinds)("%s: a reply that does not match is repaired, and its events are void", async (_, schema, result) => {
    const { faces } = await one((_, n) => (n % 2 === 0 ? bad : tokens))
    for (const ask of faces) {
      const events = await ask(schema)
      const at = events.findIndex(({ type }) => type === "repair")
      expect(events[at]).toMatchObject({ discard: bad.length, issues: expect.arrayContaining([expect.anything()]) })
      expect(events.slice(0, at).filter(({ type }) => type === "value" || type === "end")).toEqual([])
      const indices = events.flatMap((event) => (event.type === "token" ? [event.index] : []))
      expect(indices).toEqual(indices.map((_, i) => i))
      expect(events.filter(({ type }) => type === "start")).toHaveLength(1)
      expect(events.at(-2)).toMatchObject({ type: "value", value: result })
      // The usage is that of both replies.
      expect(events.at(-1)).toMatchObject({ type: "end", usage: { completionTokens: bad.length + tokens.length } })
    }
  })

  it("ends in SchemaMismatch after its events", async () => {
    const { cortex, runtime, server } = await one(bad)
    const schema = z.object({ capital: z.string() })
    const stream = await cortex.chat("Hi", { schema, stream: true })
    const seen: Array<string> = []
    const reading = (async () => {
      for await (const event of stream) seen.push(event.type)
    })()
    expect(await failure(reading)).toMatchObject({ _tag: "SchemaMismatch", issues: [{ path: "capital" }] })
    expect(seen).toContain("partial")
    expect(seen).toContain("repair")
    expect(await failure(stream.value())).toMatchObject({ _tag: "SchemaMismatch" })
    const caught = Chat.streamJson("Hi", schema).pipe(
      Stream.runDrain,
      Effect.catchTag("SchemaMismatch", ({ issues }) => Effect.succeed(issues[0]?.path))
    )
    expect(await runtime.runPromise(caught)).toBe("capital")
    expect(chats(server)).toEqual([4])
  })

  it("value() is the value, text() the text without void parts", async () => {
    const { cortex } = await one((_, n) => (n === 0 ? bad : tokens))
    const stream = await cortex.chat("Hi", { schema: shape, stream: true })
    const [first, text] = await Promise.all([stream.value(), stream.text()])
    expect(first).toEqual(value)
    expect(text).toBe(tokens.join(""))
    expect(await stream.value()).toEqual(value)
  })

  it("continues after a server failure", async () => {
    const broken = await start({ reply: tokens, faults: [{ kind: "cut", after: 3 }] })
    const whole = await start({ reply: tokens })
    const cortex = fleet.cortex(inOrder(broken, whole), { model })
    const stream = await cortex.chat("Hi", { schema: shape, stream: true })
    const events = await collect(stream)
    expect(events.some(({ type }) => type === "error")).toBe(true)
    expect(await stream.value()).toEqual(value)
    expect(events.at(-1)).toMatchObject({ type: "end", server: whole.url })
  })

  it("stores only the matching reply in a session", async () => {
    const { cortex } = await one((_, n) => (n === 0 ? bad : tokens))
    const session = await cortex.Session.create()
    const stream = await cortex.chat("Hi", { schema: shape, stream: true, session })
    expect(await stream.value()).toEqual(value)
    const history = await session.history()
    expect(history).toMatchObject([
      { role: "user", content: "Hi" },
      { role: "assistant", content: tokens.join("") }
    ])
    // The place in the session is free again, also after a failure, and a cancellation.
    const strict = z.object({ none: z.string() })
    expect(await failure((await cortex.chat("Hi", { schema: strict, stream: true, session })).value())).toMatchObject({
      _tag: "SchemaMismatch"
    })
    await (await cortex.chat("Hi", { schema: shape, stream: true, session })).cancel()
    expect(await cortex.chat("Hi", { schema: shape, session })).toEqual(value)
    expect(await session.history()).toHaveLength(4)
  })

  it("runs tools on the way", async () => {
    const { cortex, faces } = await one((_: Json, n: number) =>
      n % 2 === 0 ? { tokens: "[1, 2", toolCalls: [{ name: "f", arguments: {} }] } : { tokens }
    )
    const events = await collect(
      await cortex.chat("Hi", { schema: shape, stream: true, tools: [{ name: "f", execute: () => "seen" }] })
    )
    expect(events.some(({ type }) => type === "tool_result")).toBe(true)
    expect(events.at(-2)).toMatchObject({ type: "value", value })
    const tools = [Chat.tool({ name: "f", execute: () => Effect.succeed("seen") })]
    expect((await faces[1]?.(shape, { tools }))?.at(-2)).toMatchObject({ type: "value", value })
  })

  it("a cached reply streams, too, and one that does not match the schema is requested again", async () => {
    const { cortex, server } = await one((_, n) => (n === 0 ? ['{"n":', "1}"] : ['{"n":', "2}"]))
    const ask = async (schema: object) =>
      ((await cortex.chat("Hi", { schema, stream: true, cache: true })) as StructuredStream).value()
    const any = z.object({ n: z.number() })
    expect([await ask(any), await ask(any)]).toEqual([{ n: 1 }, { n: 1 }])
    expect(chats(server)).toEqual([1])
    expect(await ask(z.object({ n: z.number().refine(async (n) => n > 1) }))).toEqual({ n: 2 })
  })

  it("is cancelled by its signal, its reader and cancel()", async () => {
    const { cortex, server } = await one(tokens, {
      faults: Array.from({ length: 3 }, () => ({ kind: "stall", after: 2 }))
    })
    const reason = new Error("enough")
    const controller = new AbortController()
    const stream = await cortex.chat("Hi", { schema: shape, stream: true, signal: controller.signal })
    const reading = failure(stream.value())
    for await (const event of stream) if (event.type === "partial") break
    controller.abort(reason)
    expect(await reading).toBe(reason)
    const other = await cortex.chat("Hi", { schema: shape, stream: true })
    for await (const event of other) if (event.type === "partial") break
    expect(await failure(other.value())).toMatchObject({ name: "AbortError" })
    const third = await cortex.chat("Hi", { schema: shape, stream: true })
    await third.cancel()
    expect(await failure(third.value())).toMatchObject({ name: "AbortError" })
    expect(chats(server)[0]).toBeLessThanOrEqual(3)
  })

  it("JSON without a schema, and an invalid schema, are still errors; nothing is sent", async () => {
    const { cortex, server } = await one(tokens)
    const without = await failure(cortex.chat("Hi", { responseFormat: "json", stream: true }))
    expect(without).toMatchObject({ _tag: "InvalidRequest", field: "stream" })
    const odd = await failure(cortex.chat("Hi", { schema: { capital: z.string() }, stream: true }))
    expect(odd).toMatchObject({ _tag: "InvalidRequest", field: "schema" })
    const idle = await failure(cortex.chat("Hi", { schema: shape, stream: true, tools: [{ name: "f" }] }))
    expect(idle).toMatchObject({ _tag: "InvalidRequest", field: "tools" })
    expect(server.requests.length, protocol).toBe(0)
  })
})

it("works with the test model", async () => {
  const events = Chat.streamJson("Hi", Schema.Struct({ n: Schema.Number })).pipe(
    Stream.runCollect,
    Effect.provide(Layer.fresh(Chat.layerTest({ text: ['{"n"', ": 1", "}"] })))
  )
  const seen = Chunk.toReadonlyArray(await Effect.runPromise(events))
  expect(seen.map(({ type }) => type)).toEqual([
    "start",
    "meta",
    "token",
    "partial",
    "token",
    "token",
    "partial",
    "value",
    "end"
  ])
})

it("is typed", () => {
  const zod = z.object({ word: z.string().transform((word) => word.length), list: z.array(z.number()) })
  const ask = () => chat("Hi", { schema: zod, stream: true })
  type Partial = { readonly word?: string; readonly list?: ReadonlyArray<number> }
  expectTypeOf(ask).returns.resolves.toEqualTypeOf<StructuredStream<{ word: number; list: Array<number> }, Partial>>()
  const effect = () => Chat.streamJson("Hi", Schema.Struct({ on: Schema.Date }))
  expectTypeOf<Stream.Stream.Success<ReturnType<typeof effect>>>().toEqualTypeOf<
    StructuredEvent<{ readonly on: Date }, { readonly on?: string }>
  >()
  const narrow = (event: StructuredEvent<{ a: number }, { a?: number }>) => {
    if (event.type === "value") expectTypeOf(event.value).toEqualTypeOf<{ a: number }>()
    if (event.type === "partial") expectTypeOf(event.value).toEqualTypeOf<{ a?: number }>()
  }
  expect(narrow).toBeTypeOf("function")
})
