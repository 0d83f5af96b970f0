/** Times as durations of Effect: in options of calls, of fleets, of gateways and of stores. */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as TestContext from "effect/TestContext"
import { describe, expect, it } from "vitest"
import * as ChatRequest from "../../src/ChatRequest.js"
import * as Cortex from "../../src/Cortex.js"
import { resolvePlaces } from "../../src/config/gatewaySettings.js"
import { type ConfigOptions, resolve } from "../../src/config/resolve.js"
import * as EmbedRequest from "../../src/EmbedRequest.js"
import * as Sessions from "../../src/Sessions.js"
import * as Settings from "../../src/Settings.js"
import { failure, model, useFleet } from "../support/fleet.js"

const fakes = useFleet()

/** Every form of two seconds. */
const forms: ReadonlyArray<readonly [form: string, value: Duration.DurationInput]> = [
  ["a number of milliseconds", 2_000],
  ["a Duration", Duration.seconds(2)],
  ["a text", "2 seconds"],
  ["nanoseconds", 2_000_000_000n],
  ["seconds and nanoseconds", [2, 0]]
]

const wrong: ReadonlyArray<readonly [form: string, value: Duration.DurationInput]> = [
  ["a negative number", -1],
  ["NaN", Number.NaN],
  ["for ever", Duration.infinity],
  ["a negative text", "-1 seconds"],
  ["negative nanoseconds", -1n],
  ["negative seconds", [-1, 0]],
  ["a text without a unit", "5" as Duration.DurationInput],
  ["another text", "soon" as Duration.DurationInput],
  ["an object", {} as Duration.DurationInput],
  ["true", true as unknown as Duration.DurationInput]
]

const chatTimes = [
  "timeout",
  "connectTimeout",
  "firstTokenTimeout",
  "loadTimeout",
  "idleTimeout",
  "deadline",
  "retryBackoff"
] as const
const embedTimes = ["timeout", "connectTimeout", "loadTimeout", "deadline", "retryBackoff"] as const

const settled = (options: ConfigOptions) =>
  Effect.runPromise(Effect.either(Effect.provide(resolve({ configFile: false, ...options }), NodeContext.layer)))
const held = async (options: ConfigOptions) => Either.getOrThrow(await settled(options)).settings

const gateway = (options: object) =>
  Either.map(
    resolvePlaces(options, { variable: () => undefined, file: {}, path: "f" }),
    ({ settings }) => settings as unknown as Record<string, unknown>
  )

describe.each(forms)("two seconds as %s", (_, value) => {
  it.each(chatTimes)("is %s of a chat", (name) => {
    expect(ChatRequest.decodeOptions({ [name]: value })).toEqual(Either.right({ [name]: 2_000 }))
  })

  it.each(embedTimes)("is %s of an embedding", (name) => {
    expect(EmbedRequest.decodeOptions({ model, [name]: value })).toEqual(Either.right({ model, [name]: 2_000 }))
  })

  it("is the lifetime in a cache and the delay of a hedge", () => {
    const options: ChatRequest.Options = { cache: { ttl: value }, hedge: { after: value }, temperature: 0 }
    expect(ChatRequest.decodeOptions(options)).toEqual(
      Either.right({ cache: { ttl: 2_000 }, hedge: { after: 2_000 }, temperature: 0 })
    )
  })

  it("is a setting of a fleet", async () => {
    const settings = await held({
      serverCooldown: value,
      bestServerTtl: value,
      discoveryTtl: value,
      probeInterval: value,
      sessions: { ttl: value },
      cache: { ttl: value },
      hedge: { after: value },
      defaults: { timeout: value, deadline: value }
    })
    expect(settings).toMatchObject({
      serverCooldown: 2_000,
      bestServerTtl: 2_000,
      discoveryTtl: 2_000,
      probeInterval: 2_000,
      sessions: { ttl: 2_000 },
      cache: { ttl: 2_000 },
      hedge: { after: 2_000 },
      defaults: { timeout: 2_000, deadline: 2_000 }
    })
    expect((await held({ cacheTtl: value })).serverCooldown).toBe(2_000)
  })

  it.each(["maxKeepAlive", "heartbeat", "drain", "timeout", "firstTokenTimeout", "loadTimeout", "deadline"])(
    "is %s of a gateway",
    (name) => {
      expect(Either.getOrThrow(gateway({ [name]: value }))[name]).toBe(2_000)
    }
  )

  it("is the lifetime of responses in a gateway", () => {
    expect(Either.getOrThrow(gateway({ responses: { ttl: value } }))["responses"]).toMatchObject({ ttl: 2_000 })
  })

  it("is the lifetime of conversations in memory", async () => {
    const program = Effect.gen(function* () {
      const store = yield* Sessions.makeStoreMemory({ ttl: value })
      const known = Effect.map(store.list(), (all) => all.length)
      yield* store.create("a")
      yield* TestClock.adjust("1900 millis")
      const before = yield* known
      yield* TestClock.adjust("200 millis")
      return [before, yield* known]
    })
    expect(await Effect.runPromise(Effect.provide(program, TestContext.TestContext))).toEqual([1, 0])
  })
})

describe.each(wrong)("%s", (_, value) => {
  it.each(chatTimes)("is refused as %s of a chat, before anything is sent", (name) => {
    const error = Either.getOrThrow(Either.flip(ChatRequest.decodeOptions({ [name]: value })))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: name })
    expect(error.reason).toMatch(/^must be a number of milliseconds (above|from) 0/)
  })

  it("is refused in objects of options, with its place", () => {
    const cache = Either.getOrThrow(Either.flip(ChatRequest.decodeOptions({ cache: { ttl: value } })))
    expect(cache.field).toMatch(/^cache/)
    const hedge = Either.getOrThrow(Either.flip(ChatRequest.decodeOptions({ hedge: { after: value } })))
    expect(hedge.field).toMatch(/^hedge/)
  })

  it("is refused as a setting of a fleet and of a gateway", async () => {
    expect(Either.getOrThrow(Either.flip(await settled({ discoveryTtl: value })))).toMatchObject({
      _tag: "InvalidConfig",
      field: "discoveryTtl"
    })
    expect(Either.getOrThrow(Either.flip(gateway({ drain: value })))).toMatchObject({ field: "drain" })
  })
})

it("a duration out of range is reported in milliseconds, an invalid one with an example", () => {
  const reason = (timeout: unknown) => Either.getOrThrow(Either.flip(ChatRequest.decodeOptions({ timeout }))).reason
  expect(reason(0)).toBe("must be a number of milliseconds above 0")
  expect(reason(Duration.zero)).toBe("must be a number of milliseconds above 0")
  expect(reason("soon")).toBe('must be a number of milliseconds above 0, or a duration such as "30 seconds"')
})

it("a pause may be zero", () => {
  expect(ChatRequest.decodeOptions({ retryBackoff: Duration.zero })).toEqual(Either.right({ retryBackoff: 0 }))
})

it("a program's ConfigProvider gives durations unchanged", async () => {
  const layer = Layer.provide(
    Cortex.layerConfig({
      serverCooldown: Config.duration("COOLDOWN"),
      sessions: { ttl: Config.duration("TTL") },
      configFile: Config.succeed<false>(false)
    }),
    Layer.setConfigProvider(
      ConfigProvider.fromMap(
        new Map([
          ["COOLDOWN", "90 seconds"],
          ["TTL", "1 hour"]
        ])
      )
    )
  )
  expect(await Effect.runPromise(Effect.provide(Settings.CurrentSettings, layer))).toMatchObject({
    serverCooldown: 90_000,
    sessions: { ttl: 3_600_000 }
  })
})

describe.each(["ollama", "openai"] as const)("a call over %s", (protocol) => {
  it.each([Duration.millis(50), "50 millis", 50] as const)("ends at a deadline of %s", async (deadline) => {
    const server = await fakes[protocol]({ faults: { kind: "hang" } })
    const cortex = fakes.cortex([server], { model })
    const whole = await failure(cortex.complete("Hi", { deadline }))
    expect(whole).toMatchObject({ _tag: "DeadlineExceeded", deadline: 50 })
    const read = async () => {
      for await (const _ of await cortex.chat("Hi", { stream: true, deadline }));
    }
    expect(await failure(read())).toMatchObject({ _tag: "DeadlineExceeded", deadline: 50 })
  })
})
