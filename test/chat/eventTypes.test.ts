/** Events are told apart by their `type`, down to what a `meta` event tells: no cast is needed. */
import { describe, expect, expectTypeOf, it } from "vitest"
import type { ChatEvent } from "../../src/ChatEvent.js"
import { chat } from "../../src/promise.js"
import { eventsOf, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

/** Everything that each event tells, in words. */
const reportOf = (event: ChatEvent): string => {
  switch (event.type) {
    case "start":
    case "end":
      return event.model
    case "token":
      return `${event.index}: ${event.content}`
    case "thinking":
      return event.content
    case "logprobs":
      return `${event.logprobs.length}`
    case "tool_call_delta":
      return `${event.index} ${event.content}`
    case "tool_call":
      return JSON.stringify(event.arguments)
    case "tool_result":
      return String(event.result)
    case "error":
      return event.attempt.server
    case "restart":
      return `${event.discard}`
    case "meta":
      switch (event.meta.type) {
        case "attempt":
          return `attempt ${event.meta.attempt.toFixed()} at ${event.meta.server}${event.meta.hedge === true ? ", too" : ""}`
        case "trimmed":
          return `${event.meta.trimmed.toFixed()} messages left out`
        case "cached":
          return `kept for ${event.meta.age.toFixed()} ms`
      }
  }
}

describe.each(["ollama", "openai"] as const)("over %s", (protocol) => {
  it("attempts, cached answers and trimmed histories have their own event types", async () => {
    const server = await fleet[protocol]({ reply: ["It ", "rains."] })
    const cortex = fleet.cortex([server.url], { model })
    const seen = async (options: object) =>
      (await eventsOf(await cortex.chat("Hi", { ...options, stream: true as const }))).flatMap((event) =>
        event.type === "meta" ? [event.meta] : []
      )
    // Only Ollama tells which models are in memory.
    const decision = expect.objectContaining({ asked: model, chosen: { model, server: server.url } })
    const loads = protocol === "ollama" ? { loads: true } : {}
    expect(await seen({ cache: true })).toEqual([
      { type: "attempt", server: server.url, attempt: 1, ...loads, decision }
    ])
    expect(await seen({ cache: true })).toEqual([{ type: "cached", cached: true, age: expect.any(Number) }])
    const session = await cortex.Session.create({
      messages: Array.from({ length: 40 }, (_, i) => ({
        role: i % 2 === 0 ? ("user" as const) : ("assistant" as const),
        content: "word ".repeat(400)
      }))
    })
    const options = protocol === "ollama" ? { options: { num_ctx: 4096 } } : {}
    const [first] = await seen({ session, ...options })
    if (protocol === "ollama") expect(first).toEqual({ type: "trimmed", trimmed: expect.any(Number) })
  })
})

it("is typed", () => {
  const ask = () => chat("Hi", { stream: true })
  type Events = Awaited<ReturnType<typeof ask>>["events"][number]
  expectTypeOf<Events>().toEqualTypeOf<ChatEvent>()
  expect(reportOf({ type: "meta", meta: { type: "trimmed", trimmed: 3 }, timestamp: 0 })).toBe("3 messages left out")
})
