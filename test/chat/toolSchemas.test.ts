/** Tools whose parameters are schemas of any kind: arguments are checked before a tool runs. */
import { type } from "arktype"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as v from "valibot"
import { describe, expect, it } from "vitest"
import { z } from "zod"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import { type ChatEvent, type Cortex as Promised, tool } from "../../src/promise.js"
import type { AnySchema } from "../../src/StructuredOutput.js"
import { chats, eventsOf, failure, model, useFleet } from "../support/fleet.js"
import type { Json, ScriptedReply } from "../support/script.js"

const fleet = useFleet()
const upstreams = [
  ["ollama", fleet.ollama],
  ["openai", fleet.openai]
] as const

const call = (args: Json, name = "f"): ScriptedReply => ({ tokens: "", toolCalls: [{ name, arguments: args }] })
const final: ScriptedReply = { tokens: "It rains." }

/** One reply after the other; the last one repeats. */
const rounds =
  (...replies: ReadonlyArray<ScriptedReply>) =>
  (_: Json, n: number) =>
    replies[Math.min(n, replies.length - 1)] ?? final

const shape = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city", "days"]
}

/** The same parameters in each kind, and what `{ city: "Paris", days: 2 }` is for the tool. */
const kinds: ReadonlyArray<readonly [name: string, parameters: AnySchema, args: unknown]> = [
  ["Zod", z.object({ city: z.string(), days: z.int() }), { city: "Paris", days: 2 }],
  [
    "Zod, transforming",
    z.object({
      city: z.string().transform((city) => city.toUpperCase()),
      days: z.int(),
      unit: z.string().default("C")
    }),
    { city: "PARIS", days: 2, unit: "C" }
  ],
  ["Valibot", v.object({ city: v.string(), days: v.pipe(v.number(), v.integer()) }), { city: "Paris", days: 2 }],
  [
    "Valibot, asynchronous",
    v.objectAsync({
      city: v.pipeAsync(
        v.string(),
        v.checkAsync(async (city) => city !== "")
      ),
      days: v.number()
    }),
    { city: "Paris", days: 2 }
  ],
  ["ArkType", type({ city: "string", days: "number.integer" }), { city: "Paris", days: 2 }],
  ["Effect", Schema.Struct({ city: Schema.String, days: Schema.Int }), { city: "Paris", days: 2 }],
  ["JSON Schema", shape, { city: "Paris", days: 2 }]
]

/** How the Promise face is asked: whole, and as a stream. */
const asks: ReadonlyArray<
  readonly [string, (cortex: Promised, tools: ReadonlyArray<Json>, options?: object) => Promise<string>]
> = [
  ["whole", (cortex, tools, options) => cortex.chat("The weather?", { ...options, tools })],
  [
    "streamed",
    async (cortex, tools, options) => (await cortex.chat("The weather?", { ...options, tools, stream: true })).text()
  ]
]

const good = { city: "Paris", days: 2 }

describe.each(upstreams)("over %s", (_, start) => {
  const one = async (reply: (body: Json, n: number) => ScriptedReply) => {
    const server = await start({ reply })
    return { server, cortex: fleet.cortex([server.url], { model }) }
  }

  describe.each(asks)("%s", (_, ask) => {
    it.each(kinds)("%s: the tool gets the output of its parameters", async (_, parameters, args) => {
      const { cortex, server } = await one(rounds(call(good), final))
      const seen: Array<unknown> = []
      const tools = [{ name: "f", parameters, execute: (given: unknown) => void seen.push(given) }]
      expect(await ask(cortex, tools)).toBe("It rains.")
      expect(seen).toEqual([args])
      const sent = server.chatRequests[0]?.body.tools[0].function
      expect(sent.parameters).toMatchObject({ type: "object", properties: { city: { type: "string" } } })
    })

    it.each(kinds)("%s: arguments that do not fit go back to the model", async (_, parameters, args) => {
      const { cortex, server } = await one(rounds(call({ city: 7, days: 2 }), call({ days: 2 }), call(good), final))
      const seen: Array<unknown> = []
      const tools = [{ name: "f", parameters, execute: (given: unknown) => void seen.push(given) }]
      expect(await ask(cortex, tools)).toBe("It rains.")
      expect(seen).toEqual([args])
      expect(chats(server)).toEqual([4])
      for (const n of [1, 2]) {
        const { content, role } = server.chatRequests[n]?.body.messages.at(-1) ?? {}
        expect(role).toBe("tool")
        expect(content).toMatch(
          /^Error: the tool was not run, because its arguments do not fit its parameters:\n- .*city/
        )
        expect(content).toMatch(/Call it again/)
      }
    })

    it("a model that never sends valid arguments ends after its rounds", async () => {
      const { cortex, server } = await one(rounds(call({ city: 7 })))
      let ran = 0
      const tools = [{ name: "f", parameters: z.object({ city: z.string() }), execute: () => ++ran }]
      if (ask === asks[0]?.[1]) {
        const error = await failure(ask(cortex, tools, { maxToolRounds: 2 }))
        expect(error).toMatchObject({ _tag: "ToolFailed", tool: "f" })
      } else expect(await ask(cortex, tools, { maxToolRounds: 2 })).toBe("")
      expect([ran, ...chats(server)]).toEqual([0, 3])
    })

    it("of several calls only the valid ones run", async () => {
      const both = {
        tokens: "",
        toolCalls: [
          { name: "f", arguments: { n: "x" } },
          { name: "f", arguments: { n: 2 } }
        ]
      }
      const { cortex, server } = await one(rounds(both, final))
      const seen: Array<number> = []
      const tools = [
        tool({
          name: "f",
          parameters: v.object({ n: v.number() }),
          execute: ({ n }) => {
            seen.push(n)
            return n * 2
          }
        })
      ]
      expect(await ask(cortex, tools)).toBe("It rains.")
      expect(seen).toEqual([2])
      const [first, second] = server.chatRequests[1]?.body.messages.slice(-2) ?? []
      expect(first.content).toContain("do not fit")
      expect(second.content).toBe("4")
    })

    it.each([
      ["throws", () => Promise.reject(new Error("no network"))],
      [
        "throws at once",
        () => {
          throw new TypeError("no network")
        }
      ]
    ])('a tool with onError: "return" that %s tells the model', async (_, execute) => {
      const { cortex, server } = await one(rounds(call({}), final))
      expect(await ask(cortex, [{ name: "f", execute, onError: "return" }])).toBe("It rains.")
      expect(server.chatRequests[1]?.body.messages.at(-1)).toMatchObject({ role: "tool", content: "Error: no network" })
    })

    it('onError: "fail" rejects with what was thrown, the default with ToolFailed', async () => {
      const { cortex } = await one(rounds(call({})))
      const thrown = new RangeError("too far")
      const execute = () => {
        throw thrown
      }
      expect(await failure(ask(cortex, [{ name: "f", execute, onError: "fail" }]))).toBe(thrown)
      for (const onError of [undefined, "wrap"]) {
        const error = await failure(ask(cortex, [{ name: "f", execute, onError }]))
        expect(error).toMatchObject({ _tag: "ToolFailed", tool: "f", reason: "too far" })
        expect(error.cause).toBe(thrown)
      }
    })

    it.each<[string, object, string, RegExp]>([
      ["parameters of no kind", { parameters: new Date() }, "tools.0.parameters", /not an instance of Date/],
      ["a shape of schemas", { parameters: { city: z.string() } }, "tools.0.parameters", /'city' is an instance of/],
      ["an invalid JSON Schema", { parameters: { type: "objct" } }, "tools.0.parameters", /type/],
      ["an onError of no kind", { onError: "ignore" }, "tools.0.onError", /must be "wrap", "fail" or "return"/],
      ["an execute of no kind", { execute: "f" }, "tools.0.execute", /must be a function/]
    ])("%s is refused, and nothing is sent", async (_, odd, field, reason) => {
      const { cortex, server } = await one(rounds(final))
      const error = await failure(ask(cortex, [{ name: "f", execute: () => 1, ...odd }]))
      expect(error).toMatchObject({ _tag: "InvalidRequest", field })
      expect(error.reason).toMatch(reason)
      expect(server.requests).toEqual([])
    })
  })

  it("a stream emits the error", async () => {
    const { cortex } = await one(rounds(call({ city: 7 }), call({ city: "Paris" }), final))
    let ran = 0
    const execute = () => {
      if (ran++ === 0) throw new Error("try again")
      return "sunny"
    }
    const tools = [{ name: "f", parameters: z.object({ city: z.string() }), execute, onError: "return" as const }]
    const events = await eventsOf(await cortex.chat("Hi", { tools, stream: true }))
    const results = events.filter((event) => event.type === "tool_result")
    expect(results).toMatchObject([
      { failed: true, result: expect.stringContaining("do not fit") },
      { failed: true, result: "Error: try again" }
    ])
  })

  it("a tool without execute may have any kind of parameters, too: the caller runs it", async () => {
    const { cortex, server } = await one(rounds(call({ city: 7 })))
    for (const [, parameters] of kinds) {
      const answer = await cortex.complete("Hi", { tools: [{ name: "f", parameters }] })
      expect(answer.toolCalls).toMatchObject([{ name: "f", arguments: { city: 7 } }])
      const sent = server.chatRequests.at(-1)?.body.tools[0].function.parameters
      expect(sent).toMatchObject({ type: "object", properties: { city: { type: "string" } } })
    }
  })

  describe("in Effect", () => {
    class Weather extends Context.Tag("test/Weather")<
      Weather,
      { readonly at: (city: string) => Effect.Effect<string, NoWeather> }
    >() {}
    class NoWeather extends Data.TaggedError("NoWeather")<{ readonly city: string }> {}

    const weather = <M extends Chat.OnToolError>(onError: M) =>
      Chat.tool({
        name: "f",
        parameters: Schema.Struct({ city: Schema.String, on: Schema.Date }),
        execute: ({ city, on }) =>
          Effect.flatMap(Weather, ({ at }) => Effect.map(at(city), (sky) => ({ sky, year: on.getUTCFullYear() }))),
        onError
      })

    const args = { city: "Paris", on: "2020-01-02T00:00:00Z" }
    const sunny = Weather.of({ at: (city) => (city === "Paris" ? Effect.succeed("sunny") : new NoWeather({ city })) })
    const cloudy = Weather.of({ at: (city) => new NoWeather({ city }) })

    const effects = async (...replies: ReadonlyArray<ScriptedReply>) => {
      const server = await start({ reply: rounds(...replies) })
      const runtime = ManagedRuntime.make(Cortex.layer({ servers: [server.url], model, configFile: false }))
      fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
      return { server, runtime }
    }

    it("a tool takes an Effect schema, and the services come from the call", async () => {
      const { runtime, server } = await effects(call(args), final)
      const tools = [weather("wrap")]
      const answer = Chat.text("Hi", { tools })
      expect(await runtime.runPromise(Effect.provideService(answer, Weather, sunny))).toBe("It rains.")
      expect(JSON.parse(server.chatRequests[1]?.body.messages.at(-1).content)).toEqual({ sky: "sunny", year: 2020 })
    })

    it.each([
      ["text", (tools: readonly [ReturnType<typeof weather<"fail">>]) => Chat.text("Hi", { tools })],
      [
        "complete",
        (tools: readonly [ReturnType<typeof weather<"fail">>]) =>
          Effect.map(Chat.complete("Hi", { tools }), ({ text }) => text)
      ],
      [
        "stream",
        (tools: readonly [ReturnType<typeof weather<"fail">>]) =>
          Effect.as(Stream.runDrain(Chat.stream("Hi", { tools })), "")
      ],
      ["json", (tools: readonly [ReturnType<typeof weather<"fail">>]) => Chat.json("Hi", Schema.String, { tools })]
    ])('onError: "fail" is the failure of Chat.%s', async (_, ask) => {
      const { runtime } = await effects(call(args))
      const caught = Effect.catchTag(ask([weather("fail")]), "NoWeather", ({ city }) =>
        Effect.succeed(`none in ${city}`)
      )
      expect(await runtime.runPromise(Effect.provideService(caught, Weather, cloudy))).toBe("none in Paris")
    })

    it("a failure is ToolFailed with its cause by default; with onError return the model gets it", async () => {
      const { runtime, server } = await effects(call(args), final)
      const wrapped = Effect.flip(Chat.text("Hi", { tools: [weather("wrap")] }))
      expect(await runtime.runPromise(Effect.provideService(wrapped, Weather, cloudy))).toMatchObject({
        _tag: "ToolFailed",
        cause: { _tag: "NoWeather", city: "Paris" }
      })
      await server.setBehaviour({ reply: rounds(call(args), final) })
      const answer = Chat.text("Hi", { tools: [weather("return")] })
      expect(await runtime.runPromise(Effect.provideService(answer, Weather, cloudy))).toBe("It rains.")
      expect(server.chatRequests.at(-1)?.body.messages.at(-1).content).toBe("Error: NoWeather")
    })

    it("a defect stays a defect with any onError", async () => {
      const { runtime } = await effects(call({}))
      for (const onError of ["wrap", "fail", "return"] as const) {
        const tools = [Chat.tool({ name: "f", execute: () => Effect.die(new Error("a bug")), onError })]
        const exit = await runtime.runPromiseExit(Chat.text("Hi", { tools }))
        expect(Exit.isFailure(exit) && Chunk.toReadonlyArray(Cause.defects(exit.cause))).toEqual([new Error("a bug")])
      }
    })
  })
})

it("events narrow by type", () => {
  const seen = (event: ChatEvent): string => {
    if (event.type === "tool_result") return event.failed === true ? String(event.result) : event.name
    return event.type
  }
  expect(seen({ type: "tool_result", id: "1", name: "f", result: 1, timestamp: 0 })).toBe("f")
})
