import { describe, expect, it } from "vitest"
import { eventsOf, type Fake, inOrder, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

/** A fleet that knows all its servers: a call waits only briefly for those whose lists come later than others. */
const knowing = async (...servers: ReadonlyArray<Fake>) => {
  const cortex = fleet.cortex(inOrder(...servers))
  await cortex.listServers()
  return cortex
}

describe.each(["ollama", "openai"] as const)("the decision of a call that names its model (%s)", (protocol) => {
  it("has the request, the answering server, and the alternatives", async () => {
    const one = await fleet[protocol]({ reply: "well said" })
    const two = await fleet[protocol]()
    const cortex = await knowing(one, two)
    const { decision } = await cortex.complete("Hi", { routing: "fastest" })
    expect(JSON.parse(JSON.stringify(decision))).toEqual({
      asked: model,
      chosen: { model, server: one.url },
      reason: "routing fastest",
      candidates: [
        { model, server: one.url, reason: "" },
        { model, server: two.url, reason: "" }
      ],
      excluded: [],
      conditions: { lines: [] }
    })
  })

  it("reports that another server failed first, in results and in the events of streams", async () => {
    const bad = await fleet[protocol]({ faults: { kind: "status", code: 500 } })
    const good = await fleet[protocol]({ reply: "well said" })
    const cortex = await knowing(bad, good)
    const events = await eventsOf(await cortex.chat("Hi", { stream: true }))
    const metas = events.flatMap((event) =>
      event.type === "meta" && event.meta.type === "attempt" ? [event.meta.decision] : []
    )
    expect(metas).toMatchObject([
      { chosen: { server: bad.url }, reason: "routing random" },
      { chosen: { server: good.url }, reason: "routing random; failover after server-error" }
    ])
    await cortex.clearServerCache()
    expect(await cortex.complete("Hi")).toMatchObject({
      decision: { chosen: { server: good.url }, reason: "routing random; failover after server-error" }
    })
  })

  it("reports a cached answer", async () => {
    const server = await fleet[protocol]({ reply: "well said" })
    const cortex = fleet.cortex([server])
    await cortex.complete("Hi", { cache: true })
    expect(await cortex.complete("Hi", { cache: true })).toMatchObject({
      cached: true,
      decision: { chosen: { model, server: server.url }, reason: "a kept answer" }
    })
  })
})

describe("a server that does not support a request", () => {
  it("is excluded with the reason, and another one is used", async () => {
    const cannot = await fleet.ollama()
    const can = await fleet.openai({ reply: "well said" })
    const cortex = await knowing(cannot, can)
    const { decision } = await cortex.complete("Hi", {
      toolChoice: "required",
      tools: [{ name: "now", description: "The time.", parameters: { type: "object", properties: {} } }]
    })
    expect(decision).toMatchObject({
      chosen: { server: can.url },
      reason: "the only server that may be asked",
      candidates: [{ model, server: can.url }],
      excluded: [{ model, server: cannot.url, reason: expect.stringContaining("toolChoice") }]
    })
    expect(cannot.chatRequests).toHaveLength(0)
  })
})
