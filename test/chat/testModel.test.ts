import { it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { describe, expect, expectTypeOf } from "vitest"
import * as Chat from "../../src/Chat.js"
import { text as textOfEvents } from "../../src/ChatEvent.js"
import type { ChatRequest } from "../../src/ChatRequest.js"
import { ModelNotFound, Overloaded, StreamInterrupted } from "../../src/Errors.js"
import { user } from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"

const model = "llama3.2:3b"
const City = Schema.Struct({ capital: Schema.String })

/** The events of a stream, and what it failed with. */
const read = (script: Chat.Script, options: Chat.Options = {}) =>
  Effect.gen(function* () {
    const events: Array<{ readonly type: string }> = []
    const exit = yield* Chat.stream("Hi", { model, ...options }).pipe(
      Stream.runForEach((event) => Effect.sync(() => events.push(event))),
      Effect.either
    )
    return { events, exit }
  }).pipe(Effect.provide(Chat.layerTest(script)))

describe("Chat.layerTest", () => {
  it.effect("answers every call with a text, as a whole and as events", () =>
    Effect.gen(function* () {
      expect(yield* Chat.text("Hi", { model })).toBe("Paris.")
      expect(yield* Chat.complete("Hi", { model })).toMatchObject({
        text: "Paris.",
        model,
        server: "scripted:",
        finishReason: "stop",
        attempts: [],
        cached: false
      })
      const events = Chunk.toReadonlyArray(yield* Stream.runCollect(Chat.stream("Hi", { model })))
      expect(events.map(({ type }) => type)).toEqual(["start", "meta", "token", "end"])
      expect(textOfEvents(events)).toBe("Paris.")
    }).pipe(Effect.provide(Chat.layerTest("Paris.")))
  )

  it.effect("emits pieces, reasoning, usage and the answering server", () =>
    Effect.gen(function* () {
      const usage = { promptTokens: 3, completionTokens: 2 }
      const reply: Chat.Reply = {
        text: ["Par", "is."],
        thinking: "Hm.",
        usage,
        server: "http://gpu-1",
        finishReason: "length"
      }
      const { events } = yield* read(reply)
      expect(events).toMatchObject([
        { type: "start", model },
        { type: "meta", meta: { server: "http://gpu-1", attempt: 1 } },
        { type: "thinking", content: "Hm." },
        { type: "token", content: "Par", index: 0 },
        { type: "token", content: "is.", index: 1 },
        { type: "end", server: "http://gpu-1", usage, finishReason: "length", attempts: [] }
      ])
    })
  )

  it.effect("fails with any error, before or during the answer", () =>
    Effect.gen(function* () {
      const missing = new ModelNotFound({ model, suggestions: ["llama3.2:1b"] })
      const full = new Overloaded({ model, queued: 512, retryAfter: 5 })
      for (const script of [missing, () => missing, () => Effect.fail(missing), [missing]] as const) {
        const error = yield* Effect.flip(Effect.provide(Chat.text("Hi"), Chat.layerTest(script)))
        expect(error).toBe(missing)
      }
      expect((yield* read(full)).exit).toMatchObject({ left: full })
      const broken = new StreamInterrupted({ model, partial: "Par", attempts: [] })
      const { events, exit } = yield* read({ text: ["Par"], error: broken })
      expect(events.map(({ type }) => type)).toEqual(["start", "meta", "token"])
      expect(exit).toMatchObject({ left: broken })
    })
  )

  it.effect("answers requests in order; a request without a scripted reply is a defect", () =>
    Effect.gen(function* () {
      expect(yield* Chat.text("Hi")).toBe("one")
      expect(yield* Chat.text("Hi")).toBe("two")
      const exit = yield* Effect.exit(Chat.text("Hi"))
      expect(Exit.isFailure(exit) && String(exit.cause)).toContain("the script has 2 replies, and this is request 3")
    }).pipe(Effect.provide(Chat.layerTest(["one", "two"])))
  )

  it.effect("receives the request that a server would get", () => {
    const requests: Array<ChatRequest> = []
    const script = (request: ChatRequest, index: number) => {
      requests.push(request)
      return `${index}`
    }
    return Effect.gen(function* () {
      expect(yield* Chat.text("Hi", { persona: "pirate", temperature: 0.1 })).toBe("0")
      expect(requests).toMatchObject([
        {
          model: "small",
          temperature: 0.1,
          messages: [
            { role: "system", content: "Arr." },
            { role: "user", content: "Hi" }
          ]
        }
      ])
      // Invalid options are refused before any request, as without a test model.
      expect(yield* Effect.flip(Chat.text("Hi", { topP: 2 }))).toMatchObject({ _tag: "InvalidRequest", field: "topP" })
      expect(yield* Effect.flip(Chat.text("Hi", { persona: "poet" }))).toMatchObject({ _tag: "PersonaNotFound" })
      expect(requests).toHaveLength(1)
    }).pipe(Effect.provide(Chat.layerTest(script, { model: "small", personas: { pirate: "Arr." } })))
  })

  it.effect("decodes JSON, and repairs it once", () =>
    Effect.gen(function* () {
      const json = Chat.json("The capital of France?", City)
      const mended = yield* Effect.provide(json, Chat.layerTest(["Paris", '{"capital":"Paris"}']))
      expect(mended).toEqual({ capital: "Paris" })
      expect(yield* Effect.flip(Effect.provide(json, Chat.layerTest("Paris")))).toMatchObject({
        _tag: "SchemaMismatch"
      })
    })
  )

  it.effect("runs tools", () =>
    Effect.gen(function* () {
      const script: Chat.Script = [
        { toolCalls: [{ id: "1", name: "sky", arguments: { city: "Paris" } }] },
        "It is clear."
      ]
      const execute = ({ city }: { readonly [key: string]: unknown }) => Effect.succeed(`clear over ${city}`)
      const { events } = yield* read(script, { tools: [{ name: "sky", execute }] })
      expect(events).toMatchObject([
        { type: "start" },
        { type: "meta" },
        { type: "tool_call", name: "sky" },
        { type: "tool_result", result: "clear over Paris" },
        { type: "meta" },
        { type: "token", content: "It is clear." },
        { type: "end", finishReason: "stop" }
      ])
    })
  )

  it.effect("keeps sessions, without failed calls and with answers", () => {
    let requests = 0
    const script = ({ messages }: ChatRequest) => {
      requests++
      return messages.length === 3 ? new Overloaded({ model, queued: 1, retryAfter: 1 }) : `${messages.length}`
    }
    return Effect.gen(function* () {
      const session = yield* Sessions.create()
      expect(yield* Chat.text("one", { session })).toBe("1")
      expect(yield* Effect.flip(Chat.text("two", { session }))).toMatchObject({ _tag: "Overloaded" })
      expect(yield* Sessions.history(session.id)).toMatchObject([{ content: "one" }, { content: "1" }])
      expect(requests).toBe(2)
      for (const cached of [false, true]) {
        expect(yield* Chat.complete([user("kept")], { cache: true })).toMatchObject({ text: "1", cached })
      }
      expect(requests).toBe(3)
    }).pipe(Effect.provide(Chat.layerTest(script)))
  })

  it.effect("uses the Clock, and can be interrupted", () => {
    let left = false
    const script = () =>
      Effect.as(Effect.sleep("10 seconds"), "late").pipe(
        Effect.onInterrupt(() =>
          Effect.sync(() => {
            left = true
          })
        )
      )
    return Effect.gen(function* () {
      const fiber = yield* Effect.fork(Chat.text("Hi"))
      yield* TestClock.adjust("9 seconds")
      expect(Option.isNone(yield* Fiber.poll(fiber))).toBe(true)
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(fiber)).toBe("late")
      const other = yield* Effect.fork(Chat.text("Hi"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(other)
      yield* Effect.yieldNow()
      expect(left).toBe(true)
      expect(yield* Effect.flip(Chat.text("Hi", { deadline: 5 }))).toMatchObject({
        _tag: "DeadlineExceeded",
        deadline: 5
      })
    }).pipe(Effect.provide(Chat.layerTest(script)))
  })

  it("has no requirements, and provides the services that a program needs", () => {
    expectTypeOf(Effect.provide(Chat.text("Hi"), Chat.layerTest("x"))).toExtend<Effect.Effect<string, unknown>>()
  })
})
