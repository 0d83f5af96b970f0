/** The types of results: the compiler checks them, and this file is compiled with all others. */
import { type } from "arktype"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as v from "valibot"
import { describe, expectTypeOf, it } from "vitest"
import { z } from "zod"
import * as Chat from "../../src/Chat.js"
import type { ChatError, SchemaMismatch } from "../../src/Errors.js"
import { type ChatOptions, type ChatStream, chat } from "../../src/promise.js"

interface City {
  capital: string
  population: number
}

const zod = z.object({ capital: z.string(), population: z.number() })
const valibot = v.object({ capital: v.string(), population: v.number() })
const arktype = type({ capital: "string", population: "number" })
const effect = Schema.Struct({ capital: Schema.String, population: Schema.Number })
const constant = {
  type: "object",
  properties: { capital: { type: "string" }, population: { type: "number" } },
  required: ["capital", "population"],
  additionalProperties: false
} as const
const plain = {
  type: "object",
  properties: { capital: { type: "string" }, population: { type: "number" } },
  required: ["capital", "population"]
}
const recursive = { type: "object", properties: { next: { $ref: "#" } } } as const

class Clock extends Context.Tag("test/Clock")<Clock, { readonly now: number }>() {}
declare const needsClock: Schema.Schema<Date, string, Clock>

// Nothing is asked: only the types are looked at.
const promised = {
  zod: () => chat("Hi", { schema: zod }),
  valibot: () => chat("Hi", { schema: valibot }),
  arktype: () => chat("Hi", { schema: arktype }),
  effect: () => chat("Hi", { schema: effect }),
  constant: () => chat("Hi", { schema: constant }),
  plain: () => chat("Hi", { schema: plain }),
  inline: () => chat("Hi", { schema: { type: "object", properties: { n: { type: "integer" } } } }),
  recursive: () => chat("Hi", { schema: recursive }),
  asserted: () => chat<City>("Hi", { schema: plain }),
  json: () => chat("Hi", { responseFormat: "json" }),
  assertedJson: () => chat<City>("Hi", { responseFormat: "json" }),
  text: () => chat("Hi"),
  textWithOptions: () => chat("Hi", { temperature: 0 }),
  stream: () => chat("Hi", { stream: true }),
  unknown: (options: ChatOptions) => chat("Hi", options)
}

describe("the type of a result", () => {
  it("follows the schema of a promise", () => {
    expectTypeOf(promised.zod).returns.resolves.toEqualTypeOf<City>()
    expectTypeOf(promised.valibot).returns.resolves.toEqualTypeOf<City>()
    expectTypeOf(promised.arktype).returns.resolves.toEqualTypeOf<City>()
    expectTypeOf(promised.effect).returns.resolves.toEqualTypeOf<Readonly<City>>()
    expectTypeOf(promised.constant).returns.resolves.toEqualTypeOf<City>()
  })

  it("is unknown for a JSON Schema that is not a constant, or refers to itself", () => {
    expectTypeOf(promised.plain).returns.resolves.toBeUnknown()
    expectTypeOf(promised.inline).returns.resolves.toBeUnknown()
    expectTypeOf(promised.recursive).returns.resolves.toBeUnknown()
  })

  it("may be asserted", () => {
    expectTypeOf(promised.asserted).returns.resolves.toEqualTypeOf<City>()
    expectTypeOf(promised.assertedJson).returns.resolves.toEqualTypeOf<City>()
    expectTypeOf(promised.json).returns.resolves.toBeAny()
  })

  it("is that of the output, not of the input", () => {
    const zodLength = () => chat("Hi", { schema: z.object({ word: z.string().transform((word) => word.length) }) })
    const valibotLength = () =>
      chat("Hi", {
        schema: v.object({
          word: v.pipe(
            v.string(),
            v.transform((word) => word.length)
          )
        })
      })
    const arktypeLength = () => chat("Hi", { schema: type({ word: type("string").pipe((word) => word.length) }) })
    const effectDate = () => chat("Hi", { schema: Schema.Struct({ born: Schema.Date }) })
    const defaulted = () => chat("Hi", { schema: z.object({ n: z.number().default(1) }) })
    expectTypeOf(zodLength).returns.resolves.toEqualTypeOf<{ word: number }>()
    expectTypeOf(valibotLength).returns.resolves.toEqualTypeOf<{ word: number }>()
    expectTypeOf(arktypeLength).returns.resolves.toEqualTypeOf<{ word: number }>()
    expectTypeOf(effectDate).returns.resolves.toEqualTypeOf<{ readonly born: Date }>()
    expectTypeOf(defaulted).returns.resolves.toEqualTypeOf<{ n: number }>()
  })

  it("is text or a stream without a schema", () => {
    expectTypeOf(promised.text).returns.resolves.toBeString()
    expectTypeOf(promised.textWithOptions).returns.resolves.toBeString()
    expectTypeOf(promised.stream).returns.resolves.toEqualTypeOf<ChatStream>()
    expectTypeOf(promised.unknown).returns.resolves.toBeUnknown()
  })

  it("follows the schema of an Effect, with the services that the schema needs", () => {
    type Call<A, R = never> = Effect.Effect<A, ChatError | SchemaMismatch, Chat.Chat | R>
    const calls = {
      zod: () => Chat.json("Hi", zod),
      valibot: () => Chat.json("Hi", valibot),
      arktype: () => Chat.json("Hi", arktype),
      effect: () => Chat.json("Hi", effect),
      constant: () => Chat.json("Hi", constant),
      plain: () => Chat.json("Hi", plain),
      needsClock: () => Chat.json("Hi", needsClock)
    }
    expectTypeOf(calls.zod).returns.toEqualTypeOf<Call<City>>()
    expectTypeOf(calls.valibot).returns.toEqualTypeOf<Call<City>>()
    expectTypeOf(calls.arktype).returns.toEqualTypeOf<Call<City>>()
    expectTypeOf(calls.effect).returns.toEqualTypeOf<Call<Readonly<City>>>()
    expectTypeOf(calls.constant).returns.toEqualTypeOf<Call<City>>()
    expectTypeOf(calls.plain).returns.toEqualTypeOf<Call<unknown>>()
    expectTypeOf(calls.needsClock).returns.toEqualTypeOf<Call<Date, Clock>>()
  })
})
