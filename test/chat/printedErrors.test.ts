/** What Node prints of an uncaught error: the message, the stack, and the fields. */
import { inspect } from "node:util"
import { expect, it } from "vitest"
import { type Cortex, LocalModel } from "../../src/promise.js"
import { eventsOf, failure, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

/** As Node prints it: it does not ask the error how. */
const printed = (error: unknown) => inspect(error, { customInspect: false, depth: 5 })
const count = (text: string, part: string) => text.split(part).length - 1

const limits = { maxRetries: 6, retryBackoff: 1 }

it.each<[string, (cortex: Cortex) => Promise<unknown>]>([
  ["chat", (cortex) => cortex.chat("Hi", limits)],
  ["a stream", async (cortex) => eventsOf(await cortex.chat("Hi", { ...limits, stream: true }))],
  ["embed", (cortex) => cortex.embed("Hi", { model, ...limits })]
])("attempts that failed in the same way are printed once, with how often: %s", async (_, call) => {
  for (const start of [fleet.ollama, fleet.openai]) {
    const fault = { kind: "status", code: 500, body: { error: "out of order" } } as const
    const server = await start({ faults: fault, faultOn: "all" })
    const cortex = fleet.cortex([{ url: server.url, protocol: start === fleet.ollama ? "ollama" : "openai" }])
    const error = await failure(call(cortex))
    const text = printed(error)
    expect([count(text, "out of order"), count(text, "6 times")]).toEqual([1, 1])
    expect(text).toContain("printedErrors.test.ts")
    // Programs have each of them.
    expect(error.attempts).toHaveLength(6)
    expect(JSON.parse(JSON.stringify(error)).attempts).toHaveLength(6)
  }
})

it("so are those of a stream that broke, and of a call that took too long", async () => {
  const server = await fleet.ollama({ reply: "One two three four." })
  const cortex = fleet.cortex([server])
  await cortex.listServers()
  await server.setBehaviour({ faults: { kind: "cut", after: 2 } })
  const stream = async () => eventsOf(await cortex.chat("Hi", { ...limits, stream: true, onInterrupt: "fail" }))
  const broken = await failure(stream())
  expect([broken._tag, count(printed(broken), broken.attempts[0].message)]).toEqual(["StreamInterrupted", 1])
  await server.setBehaviour({ faults: { kind: "hang" } })
  const late = await failure(cortex.chat("Hi", { deadline: 200 }))
  expect([late._tag, count(printed(late), late.attempts[0].message)]).toEqual(["DeadlineExceeded", 1])
})

it("an error that is not ours keeps its fields as they are", async () => {
  const server = await fleet.ollama()
  const own = Object.assign(new Error("mine"), { attempts: [1, 2, 3] })
  const call = fleet.cortex([server]).chat("Hi", { signal: AbortSignal.abort(own) })
  expect(await failure(call)).toBe(own)
  expect(Object.keys(own)).toContain("attempts")
})

it.each<[string, (cortex: Cortex) => Promise<unknown>]>([
  ["of a call", (cortex) => cortex.chat("Hi", { topP: 2 })],
  ["of a stream", async (cortex) => eventsOf(await cortex.chat("Hi", { ...limits, stream: true }))],
  ["of a session", (cortex) => cortex.Session.resume("none")],
  ["of a model of this machine", () => LocalModel.open("missing.gguf")]
])("JSON, a spread and a structured clone have the message of an error: %s", async (_, call) => {
  const server = await fleet.ollama({ faults: { kind: "status", code: 500 }, faultOn: "all" })
  const error = await failure(call(fleet.cortex([server])))
  expect(error.message).toMatch(/./)
  const { _tag, message } = error
  expect(JSON.parse(JSON.stringify(error))).toMatchObject({ _tag, message })
  expect({ ...error }).toMatchObject({ _tag, message })
  const clone = structuredClone(error)
  expect([clone instanceof Error, clone.message, clone.stack]).toEqual([true, message, error.stack])
  expect(count(printed(error), message)).toBe(1)
})
