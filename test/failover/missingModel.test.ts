/** Every server says that it has not the model, while its list names it. */
import { describe, expect, it } from "vitest"
import type { Fault } from "../support/faults.js"
import { eventsOf, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const missing: Fault = { kind: "notFound" }
const reply = ["It ", "rains."]

describe.each(["ollama", "openai"] as const)("over %s", (protocol) => {
  describe.each([1, 2])("with %i servers", (count) => {
    const begin = (faults: ReadonlyArray<Fault | undefined> | Fault) =>
      Promise.all(Array.from({ length: count }, () => fleet[protocol]({ reply, faults })))

    it.each([1, 2])("a model that is back after %i refusals of each server is used: complete", async (refusals) => {
      const servers = await begin(Array.from({ length: refusals }, () => missing))
      const cortex = fleet.cortex(inOrder(...servers), { model })
      expect(await cortex.complete("Hi", { retryBackoff: 10 })).toMatchObject({ text: reply.join("") })
    })

    it("streamed", async () => {
      const servers = await begin([missing])
      const cortex = fleet.cortex(inOrder(...servers), { model })
      expect(textOf(await eventsOf(await cortex.chat("Hi", { stream: true, retryBackoff: 10 })))).toBe(reply.join(""))
    })

    it("control: one that does not come back is not found, after few attempts", async () => {
      const servers = await begin(missing)
      const cortex = fleet.cortex(inOrder(...servers), { model })
      expect(await failure(cortex.complete("Hi", { retryBackoff: 10 }))).toMatchObject({ _tag: "ModelNotFound", model })
      for (const server of servers) expect(server.chatRequests.length).toBeLessThanOrEqual(3)
    })

    it("control: a configured number of attempts applies", async () => {
      const servers = await begin([missing])
      const cortex = fleet.cortex(inOrder(...servers), { model })
      await failure(cortex.complete("Hi", { retryBackoff: 10, maxRetries: count }))
      expect(servers.map((server) => server.chatRequests.length)).toEqual(servers.map(() => 1))
    })
  })
})
