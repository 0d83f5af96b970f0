/** Schemas of every kind, over both protocols and both faces. */
import { type } from "arktype"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as v from "valibot"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import * as zm from "zod/mini"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import type { AnySchema } from "../../src/StructuredOutput.js"
import { chats, failure, model, useFleet } from "../support/fleet.js"
import type { Reply } from "../support/script.js"

const fleet = useFleet()
const upstreams = [
  ["ollama", fleet.ollama],
  ["openai", fleet.openai]
] as const

const shape = {
  type: "object",
  properties: { capital: { type: "string", minLength: 2 }, population: { type: "integer" } },
  required: ["capital", "population"]
} as const

class Offline extends Context.Tag("test/Offline")<Offline, { readonly factor: number }>() {}

/** The same shape in each kind, with what it makes of `{ capital: "Berlin", population: 3 }`. */
const fitting: ReadonlyArray<readonly [name: string, schema: AnySchema, value: unknown]> = [
  ["Zod", z.object({ capital: z.string().min(2), population: z.int() }), { capital: "Berlin", population: 3 }],
  [
    "Zod, transforming",
    z.object({ capital: z.string().min(2), population: z.int().transform((n) => n * 1000) }),
    { capital: "Berlin", population: 3000 }
  ],
  [
    "Zod, with a default",
    z.object({ capital: z.string().min(2), population: z.int(), river: z.string().default("Spree") }),
    { capital: "Berlin", population: 3, river: "Spree" }
  ],
  [
    "Zod, refined asynchronously",
    z.object({ capital: z.string().min(2), population: z.int().refine(async (n) => n > 0) }),
    { capital: "Berlin", population: 3 }
  ],
  ["Zod mini", zm.object({ capital: zm.string().check(zm.minLength(2)), population: zm.int() }), expect.anything()],
  [
    "Valibot",
    v.object({ capital: v.pipe(v.string(), v.minLength(2)), population: v.pipe(v.number(), v.integer()) }),
    { capital: "Berlin", population: 3 }
  ],
  [
    "Valibot, transforming asynchronously",
    v.objectAsync({
      capital: v.pipe(v.string(), v.minLength(2)),
      population: v.pipeAsync(
        v.number(),
        v.integer(),
        v.transformAsync(async (n) => n * 1000)
      )
    }),
    { capital: "Berlin", population: 3000 }
  ],
  ["ArkType", type({ capital: "string >= 2", population: "number.integer" }), { capital: "Berlin", population: 3 }],
  [
    "ArkType, with a morph",
    type({ capital: "string >= 2", population: type("number.integer").pipe((n) => n * 1000) }),
    { capital: "Berlin", population: 3000 }
  ],
  [
    "Effect",
    Schema.Struct({ capital: Schema.String.pipe(Schema.minLength(2)), population: Schema.Int }),
    { capital: "Berlin", population: 3 }
  ],
  [
    "Effect, as a Standard Schema",
    Schema.standardSchemaV1(
      Schema.Struct({ capital: Schema.String.pipe(Schema.minLength(2)), population: Schema.Int })
    ),
    { capital: "Berlin", population: 3 }
  ],
  [
    "Effect, transforming asynchronously",
    Schema.Struct({
      capital: Schema.String.pipe(Schema.minLength(2)),
      population: Schema.transformOrFail(Schema.Int, Schema.Int, {
        decode: (n) => Effect.delay(Effect.succeed(n * 1000), 1),
        encode: (n) => ParseResult.succeed(n)
      })
    }),
    { capital: "Berlin", population: 3000 }
  ],
  ["JSON Schema", shape, { capital: "Berlin", population: 3 }],
  [
    "Standard Schema of another library",
    {
      "~standard": {
        version: 1,
        vendor: "mine",
        validate: (value: { readonly capital: string; readonly population: number }) =>
          value.capital.length < 2
            ? { issues: [{ message: "too short", path: [{ key: "capital" }] }] }
            : Number.isInteger(value.population)
              ? { value }
              : { issues: [{ message: "no integer", path: ["population"] }] },
        jsonSchema: { input: () => shape, output: () => shape }
      }
    },
    { capital: "Berlin", population: 3 }
  ]
]

const good = '{"capital":"Berlin","population":3}'
const bad = '{"capital":"B","population":3.5}'

const effects = (url: string) => {
  const runtime = ManagedRuntime.make(Cortex.layer({ servers: [url], model, configFile: false }))
  fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
  return runtime
}

/** Fails with the error itself. */
const promised = async <A, E>(exit: Promise<Exit.Exit<A, E>>): Promise<A> =>
  Exit.getOrElse(await exit, (cause) => {
    throw Cause.squash(cause)
  })

describe.each(upstreams)("over %s", (_, start) => {
  /** Both faces of one server. */
  const faces = async (reply: Reply) => {
    const server = await start({ reply })
    const cortex = fleet.cortex([server.url], { model })
    const runtime = effects(server.url)
    return {
      server,
      asks: [
        (schema: AnySchema) => cortex.chat("Hi", { schema }),
        (schema: AnySchema) => promised(runtime.runPromiseExit(Chat.json("Hi", schema as object)))
      ]
    }
  }

  it.each(fitting)("%s returns its output, and the server gets its JSON Schema", async (_, schema, value) => {
    const { asks, server } = await faces(good)
    for (const ask of asks) {
      expect(await ask(schema)).toEqual(value)
      const sent = server.chatRequests.at(-1)?.body
      const format = sent.format ?? sent.response_format.json_schema.schema
      expect(format).toMatchObject({ type: "object", required: expect.arrayContaining(["capital", "population"]) })
      expect(Object.keys(format.properties)).toEqual(expect.arrayContaining(["capital", "population"]))
      expect(format.properties.capital).toMatchObject({ type: "string", minLength: 2 })
    }
    expect(chats(server)).toEqual([asks.length])
  })

  it.each(fitting)("%s has a reply that does not match repaired, with the issues", async (_, schema, value) => {
    const { asks, server } = await faces((_, n) => (n % 2 === 0 ? bad : good))
    for (const ask of asks) {
      expect(await ask(schema)).toEqual(value)
      const { messages } = server.chatRequests.at(-1)?.body ?? {}
      expect(messages.at(-2)).toMatchObject({ role: "assistant", content: bad })
      expect(messages.at(-1).content).toMatch(/does not fit.*- (capital|population): /s)
    }
    expect(chats(server)).toEqual([asks.length * 2])
  })

  it.each(fitting)("%s ends in SchemaMismatch with its issues", async (_, schema) => {
    const { asks, server } = await faces(bad)
    for (const ask of asks) {
      const error = await failure(ask(schema))
      expect(error).toMatchObject({ _tag: "SchemaMismatch", model, text: bad })
      expect(error.issues.length).toBeGreaterThan(0)
      expect(error.issues[0]).toMatchObject({ path: expect.stringMatching(/^(capital|population)$/) })
      expect(error.issues[0].message).toEqual(expect.any(String))
    }
    expect(chats(server)).toEqual([asks.length * 2])
  })

  it("a refinement that JSON Schema cannot express is still validated", async () => {
    const { asks, server } = await faces((_, n) => (n % 2 === 0 ? '{"a":1,"b":2}' : '{"a":2,"b":2}'))
    const same = z.object({ a: z.number(), b: z.number() }).refine(({ a, b }) => a === b, { error: "a is not b" })
    const when = z.object({ at: z.coerce.date() })
    for (const ask of asks) {
      expect(await ask(same)).toEqual({ a: 2, b: 2 })
      expect(server.chatRequests.at(-1)?.body.messages.at(-1).content).toContain("- a is not b")
    }
    await server.setBehaviour({ reply: '{"at":"2020-01-02T00:00:00Z"}' })
    for (const ask of asks) expect(await ask(when)).toEqual({ at: new Date("2020-01-02T00:00:00Z") })
  })

  it("the path of an issue includes list indices", async () => {
    const { asks } = await faces('{"list":[{"n":1},{"n":"two"}]}')
    const schemas = [
      z.object({ list: z.array(z.object({ n: z.number() })) }),
      v.object({ list: v.array(v.object({ n: v.number() })) }),
      type({ list: type({ n: "number" }).array() }),
      Schema.Struct({ list: Schema.Array(Schema.Struct({ n: Schema.Number })) })
    ]
    for (const ask of asks) {
      for (const schema of schemas) {
        expect((await failure(ask(schema as AnySchema))).issues).toMatchObject([{ path: "list.1.n" }])
      }
    }
  })

  it("an exception in validation is the caller's bug, and rejects the call", async () => {
    const { asks } = await faces(good)
    const bug = new RangeError("a bug in a transformation")
    const throwing = () => {
      throw bug
    }
    const schemas = [
      z.object({ capital: z.string().transform(throwing) }),
      Schema.transform(Schema.Struct({ capital: Schema.String }), Schema.Any, { decode: throwing, encode: throwing }),
      v.objectAsync({
        capital: v.pipeAsync(
          v.string(),
          v.transformAsync(async () => throwing())
        )
      })
    ]
    for (const ask of asks) {
      for (const schema of schemas) expect(String(await failure(ask(schema)))).toContain("a bug in a transformation")
    }
  })

  it.each<[string, unknown, RegExp]>([
    ["a text", "object", /not a string/],
    ["a list", [{ type: "object" }], /not a list/],
    ["a function", () => true, /not a function/],
    ["a date", new Date(), /not an instance of Date/],
    ["a map", new Map([["type", "object"]]), /not an instance of Map/],
    [
      "a schema of an old library",
      new (class ZodObject {
        readonly type = "object"
      })(),
      /not an instance of ZodObject/
    ],
    ["a shape of schemas", { capital: z.string() }, /'capital' is an instance of ZodString/],
    [
      "schemas within a JSON Schema",
      { type: "object", properties: { a: v.string() } },
      /'properties\.a\.\w+' is a function/
    ],
    ["an example", { capital: "Berlin", population: 3 }, /capital, population is no keyword/],
    [
      "what OpenAI wraps a schema in",
      { name: "city", strict: true, schema: shape },
      /name, strict, schema is no keyword/
    ],
    ["a Standard Schema of no known form", standard({ vendor: "mine" }), /schema of mine that does not say/],
    ["a Standard Schema of another version", standard({ version: 2 }), /'~standard.validate' is a function/],
    [
      "a Standard Schema whose converter fails",
      standard({
        jsonSchema: {
          input: () => {
            throw new Error("a date has no JSON Schema")
          }
        }
      }),
      /cannot be written as JSON Schema: a date has no JSON Schema/
    ],
    ["a JSON Schema that is invalid", { type: "objct" }, /type/]
  ])("%s is refused, and nothing is sent", async (_, schema, reason) => {
    const { asks, server } = await faces(good)
    for (const ask of asks) {
      const error = await failure(ask(schema as AnySchema))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field: "schema" })
      expect(error.reason).toMatch(reason)
    }
    expect(server.requests).toEqual([])
  })

  it.each<[string, object]>([
    ["anything", {}],
    ["annotations", { title: "City" }],
    ["a reference", { $ref: "#/$defs/a", $defs: { a: shape } }],
    ["without a prototype", Object.assign(Object.create(null), shape)]
  ])("a JSON Schema may be %s", async (_, schema) => {
    const { asks } = await faces(good)
    for (const ask of asks) expect(await ask(schema)).toEqual({ capital: "Berlin", population: 3 })
  })

  it("a cached answer is validated with the current schema", async () => {
    const server = await start({ reply: (_, n) => (n === 0 ? good : '{"capital":"Bonn","population":4}') })
    const cortex = fleet.cortex([server.url], { model })
    const schema = z.object({ capital: z.string(), population: z.int().refine(async (n) => n !== 3) })
    const anything = { capital: z.string(), population: z.int() }
    expect(await cortex.chat("Hi", { schema: z.object(anything), cache: true })).toMatchObject({ capital: "Berlin" })
    expect(await cortex.chat("Hi", { schema, cache: true })).toMatchObject({ capital: "Bonn" })
    expect(await cortex.chat("Hi", { schema, cache: true })).toMatchObject({ capital: "Bonn" })
    expect(chats(server)).toEqual([2])
  })
})

function standard(own: object): object {
  return { "~standard": { version: 1, vendor: "mine", validate: (value: unknown) => ({ value }), ...own } }
}

it("an Effect schema may need services, which come from the call", async () => {
  const server = await fleet.openai({ reply: good })
  const scaled = Schema.Struct({
    population: Schema.transformOrFail(Schema.Int, Schema.Int, {
      decode: (n) => Effect.map(Offline, ({ factor }) => n * factor),
      encode: (n) => ParseResult.succeed(n)
    })
  })
  const call = Effect.provideService(Chat.json("Hi", scaled), Offline, { factor: 7 })
  expect(await effects(server.url).runPromise(call)).toEqual({ population: 21 })
})
