/** The types of calls with tools: the compiler checks them. */
import { type } from "arktype"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import * as v from "valibot"
import { describe, expectTypeOf, it } from "vitest"
import { z } from "zod"
import * as Chat from "../../src/Chat.js"
import type { ChatEvent } from "../../src/ChatEvent.js"
import type { ChatError, SchemaMismatch } from "../../src/Errors.js"
import { chat, tool } from "../../src/promise.js"

class Clock extends Context.Tag("test/Clock")<Clock, { readonly now: Effect.Effect<number, "late"> }>() {}
class Log extends Context.Tag("test/Log")<Log, { readonly write: Effect.Effect<void> }>() {}

const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] } as const

const clock = Chat.tool({
  name: "clock",
  parameters: Schema.Struct({ zone: Schema.String }),
  execute: ({ zone }) => {
    expectTypeOf(zone).toBeString()
    return Effect.flatMap(Clock, ({ now }) => now)
  },
  onError: "fail"
})
const log = Chat.tool({
  name: "log",
  execute: () =>
    Effect.zipRight(
      Effect.flatMap(Log, ({ write }) => write),
      Effect.fail(7)
    )
})

describe("the arguments of a tool", () => {
  it("are inferred from its parameters, with promises and Effects", () => {
    tool({
      name: "f",
      parameters: z.object({ city: z.string(), n: z.number().default(1) }),
      execute: (args) => expectTypeOf(args).toEqualTypeOf<{ city: string; n: number }>()
    })
    tool({
      name: "f",
      parameters: v.object({ city: v.string() }),
      execute: (args) => expectTypeOf(args).toEqualTypeOf<{ city: string }>()
    })
    tool({
      name: "f",
      parameters: type({ city: "string" }),
      execute: (args) => expectTypeOf(args).toEqualTypeOf<{ city: string }>()
    })
    tool({
      name: "f",
      parameters: Schema.Struct({ on: Schema.Date }),
      execute: (args) => expectTypeOf(args).toEqualTypeOf<{ readonly on: Date }>()
    })
    tool({ name: "f", parameters: city, execute: (args) => expectTypeOf(args.city).toBeString() })
    tool({ name: "f", parameters: { type: "object" }, execute: (args) => expectTypeOf(args).toBeAny() })
    tool({ name: "f", execute: (args) => expectTypeOf(args).toBeAny() })
    // @ts-expect-error: the arguments have no such field.
    tool({ name: "f", parameters: z.object({ city: z.string() }), execute: ({ town }) => town })
    Chat.tool({
      name: "f",
      parameters: z.object({ city: z.string() }),
      execute: (args) => Effect.sync(() => expectTypeOf(args).toEqualTypeOf<{ city: string }>())
    })
  })
})

describe("the type of a call with tools", () => {
  it("has the services of its tools, and the errors of those with onError fail", () => {
    const calls = {
      text: () => Chat.text("Hi", { tools: [clock, log] }),
      complete: () => Chat.complete("Hi", { tools: [clock] }),
      stream: () => Chat.stream("Hi", { tools: [clock] }),
      json: () => Chat.json("Hi", Schema.Number, { tools: [clock, log] }),
      wrapped: () => Chat.text("Hi", { tools: [log] }),
      none: () => Chat.text("Hi", { tools: [{ name: "f" }] }),
      inline: () =>
        Chat.text("Hi", { tools: [{ name: "f", execute: () => Effect.fail(1 as const), onError: "fail" }] }),
      plain: (options: Chat.Options) => Chat.text("Hi", options)
    }
    expectTypeOf(calls.text).returns.toEqualTypeOf<Effect.Effect<string, ChatError | "late", Chat.Chat | Clock | Log>>()
    expectTypeOf(calls.complete).returns.toExtend<Effect.Effect<unknown, ChatError | "late", Chat.Chat | Clock>>()
    expectTypeOf(calls.stream).returns.toEqualTypeOf<Stream.Stream<ChatEvent, ChatError | "late", Chat.Chat | Clock>>()
    expectTypeOf(calls.json).returns.toEqualTypeOf<
      Effect.Effect<number, ChatError | SchemaMismatch | "late", Chat.Chat | Clock | Log>
    >()
    expectTypeOf(calls.wrapped).returns.toEqualTypeOf<Effect.Effect<string, ChatError, Chat.Chat | Log>>()
    expectTypeOf(calls.none).returns.toEqualTypeOf<Effect.Effect<string, ChatError, Chat.Chat>>()
    expectTypeOf(calls.inline).returns.toEqualTypeOf<Effect.Effect<string, ChatError | 1, Chat.Chat>>()
    expectTypeOf(calls.plain).returns.toEqualTypeOf<Effect.Effect<string, ChatError, Chat.Chat>>()
  })

  it("is text for the Promise functions", () => {
    const call = () => chat("Hi", { tools: [tool({ name: "f", parameters: city, execute: () => 1 }), { name: "g" }] })
    expectTypeOf(call).returns.resolves.toBeString()
  })
})
