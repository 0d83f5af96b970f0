/** What `isChatError` recognises, and that everything else stays a defect. */
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { describe, expect, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as Errors from "../../src/Errors.js"
import { chat, complete, isChatError } from "../../src/promise.js"
import { failure, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

/** Data about what went wrong without a failure of a call; and failures of the registry's pipeline, which is no call. */
const warnings: ReadonlySet<unknown> = new Set([
  Errors.RegistryWarning,
  Errors.RegistryFileFailed,
  Errors.RegistryUnanswered,
  Errors.RegistryChangeRefused,
  Errors.RegistrySourceFailed,
  Errors.SavedStateWarning,
  Errors.TurnNotStored
])

type ErrorClass = Schema.Schema<Error & { readonly _tag: string }, unknown> & { readonly _tag: string }

const classes = Object.values(Errors).filter(
  (one): one is typeof one & ErrorClass => typeof one === "function" && "_tag" in one && !warnings.has(one)
)

const sample = (one: ErrorClass) => FastCheck.sample(Arbitrary.make(one), { numRuns: 5, seed: 1 })

class Overloaded extends Data.TaggedError("Overloaded")<{ readonly model: string }> {}
class PlainOverloaded extends Error {
  readonly _tag = "Overloaded"
}

const foreign: ReadonlyArray<readonly [what: string, value: unknown]> = [
  ["another library's error of the same tag", new Overloaded({ model })],
  ["an error with an own _tag", new PlainOverloaded()],
  ["an error of an unknown tag", Object.assign(new Error("no"), { _tag: "SystemError" })],
  ["an error whose tag is a name of Object.prototype", Object.assign(new Error("no"), { _tag: "constructor" })],
  ["an error", new TypeError("no")],
  ["an abort", new DOMException("stop", "AbortError")]
]

describe("isChatError", () => {
  it("is true of the errors of this module", () => {
    expect(classes.map(({ _tag }) => _tag)).toEqual(
      expect.arrayContaining(["NoServers", "SchemaMismatch", "EngineFailed"])
    )
    expect(classes).toHaveLength(32)
  })

  it.each(classes.map((one) => [one._tag, one] as const))("is true of %s, also of one that was decoded", (_, one) => {
    for (const error of sample(one)) {
      expect(isChatError(error)).toBe(true)
      expect(isChatError(Schema.decodeUnknownSync(one)(Schema.encodeSync(one)(error)))).toBe(true)
      expect(isChatError({ ...error, _tag: one._tag })).toBe(false)
    }
  })

  it.each(foreign)("is false of %s", (_, value) => {
    expect(isChatError(value)).toBe(false)
  })

  it.each([undefined, null, "Overloaded", 0, { _tag: "Overloaded", model }, Errors.Overloaded])(
    "is false of %s, which is no error",
    (value) => {
      expect(isChatError(value)).toBe(false)
    }
  )

  it("is false of warnings", () => {
    expect(isChatError(new Errors.RegistryWarning({ file: "a", reason: "b" }))).toBe(false)
  })

  it("narrows the errors of an Effect, so that catchIf keeps the others", async () => {
    const failed = (error: Errors.ChatError | Overloaded): Effect.Effect<string, Errors.ChatError | Overloaded> =>
      Effect.fail(error)
    const handled = (error: Errors.ChatError | Overloaded): Effect.Effect<string, Overloaded> =>
      Effect.catchIf(failed(error), isChatError, ({ _tag }) => Effect.succeed(_tag))
    expect(await Effect.runPromise(handled(new Errors.Closed()))).toBe("Closed")
    expect(await Effect.runPromise(Effect.flip(handled(new Overloaded({ model }))))).toBeInstanceOf(Overloaded)
  })
})

describe("a call", () => {
  const outcome = async (error: unknown, ask: Effect.Effect<unknown, unknown, Chat.Chat>) => {
    const script = () => Effect.fail(error as Errors.ChatError)
    const exit: Exit.Exit<unknown, unknown> = await Effect.runPromiseExit(Effect.provide(ask, Chat.layerTest(script)))
    if (exit._tag === "Success") return "success"
    if (Cause.squash(exit.cause) !== error) return Cause.pretty(exit.cause)
    return Cause.isDie(exit.cause) ? "defect" : "failure"
  }

  const forms: ReadonlyArray<readonly [form: string, ask: Effect.Effect<unknown, unknown, Chat.Chat>]> = [
    ["text", Chat.text("Hi")],
    ["complete", Chat.complete("Hi")],
    ["stream", Stream.runDrain(Chat.stream("Hi"))],
    ["json", Chat.json("Hi", Schema.Struct({ a: Schema.Number }))]
  ]

  describe.each(forms)("as %s", (_, ask) => {
    it.each([...foreign, ["what starting a model fails with", new Errors.NotRunning({ model })] as const])(
      "makes %s a defect",
      async (_, error) => {
        expect(await outcome(error, ask)).toBe("defect")
      }
    )

    it.each([
      new Errors.Overloaded({ model, queued: 1, retryAfter: 1 }),
      new Errors.ToolFailed({ tool: "t", reason: "r" }),
      new Errors.NoServers({ model, servers: [], available: [] })
    ])("fails with $_tag", async (error) => {
      expect(await outcome(error, ask)).toBe("failure")
    })
  })
})

describe.each(["ollama", "openai"] as const)("the Promise functions over %s", (protocol) => {
  it("reject with ChatErrors", async () => {
    const server = await fleet[protocol]({ reply: "no JSON" })
    const cortex = fleet.cortex([server], { model })
    const errors = await Promise.all([
      failure(cortex.chat("Hi", { schema: { type: "object", required: ["a"] } })),
      failure(cortex.chat("Hi", { model: "nobody:1b" })),
      failure(cortex.complete("Hi", { topP: 2 })),
      failure(cortex.chat("Hi", { session: "none" })),
      failure(cortex.embed("", { model, dimensions: -1 }))
    ])
    expect(errors.map(({ _tag }) => _tag)).toEqual([
      "SchemaMismatch",
      "ModelNotFound",
      "InvalidRequest",
      "SessionNotFound",
      "InvalidRequest"
    ])
    expect(errors.map(isChatError)).toEqual(errors.map(() => true))
  })

  it("reject with the reason of a signal, which is not a ChatError", async () => {
    const server = await fleet[protocol]({})
    const cortex = fleet.cortex([server], { model })
    expect(isChatError(await failure(cortex.chat("Hi", { signal: AbortSignal.abort() })))).toBe(false)
    expect(
      isChatError(await failure(cortex.chat("Hi", { signal: AbortSignal.abort(new Overloaded({ model })) })))
    ).toBe(false)
  })
})

it("the shared functions reject with the InvalidConfig of the settings", async () => {
  const before = process.env.AICORTEX_CONFIG
  process.env.AICORTEX_CONFIG = "/nowhere/config.json"
  try {
    const errors = await Promise.all([failure(chat("Hi")), failure(complete("Hi"))])
    expect(errors.map(({ _tag }) => _tag)).toEqual(["InvalidConfig", "InvalidConfig"])
    expect(errors.every(isChatError)).toBe(true)
  } finally {
    if (before === undefined) delete process.env.AICORTEX_CONFIG
    else process.env.AICORTEX_CONFIG = before
  }
})
