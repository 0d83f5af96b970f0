/** How often a call is tried where its caller does not say, and where it does. */
import { describe, expect, it } from "vitest"
import type { Fault } from "../support/faults.js"
import { chats, eventsOf, failure, model, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const protocols = ["ollama", "openai"] as const
const words = Array.from({ length: 24 }, (_, i) => ` word${i}`)
const whole = words.join("")

/** Servers of which whichever answers breaks off, three times in each answer. */
const restarting = async (protocol: (typeof protocols)[number], n: number) => {
  let left = 0
  const fault = (): Fault | undefined => (left-- > 0 ? { kind: "cut", after: 4 } : undefined)
  const servers = await Promise.all(
    Array.from({ length: n }, () => fleet[protocol]({ reply: words, continuation: "continue" }))
  )
  const arm = () => servers.map((server) => server.setBehaviour({ faults: fault }))
  return { servers, arm, begin: () => (left = 3) }
}

describe.each(protocols)("the answering server fails three times in each answer (%s)", (protocol) => {
  it.each([1, 3])("over %i servers no answer is lost, with default options", async (n) => {
    const { arm, begin, servers } = await restarting(protocol, n)
    const cortex = fleet.cortex(servers, { serverCooldown: 5 })
    await cortex.listServers()
    await Promise.all(arm())
    for (let i = 0; i < 6; i++) {
      begin()
      const options = { temperature: 0, retryBackoff: 1 }
      if (i % 2 === 0) expect((await cortex.complete(`number ${i}`, options)).text).toBe(whole)
      else expect(textOf(await eventsOf(await cortex.chat(`number ${i}`, { ...options, stream: true })))).toBe(whole)
    }
  })

  it("through the gateway too", async () => {
    const { arm, begin, servers } = await restarting(protocol, 3)
    await using gateway = await startGateway(servers.map(({ url }) => ({ url })))
    await gateway.get("/v1/models")
    await Promise.all(arm())
    for (let i = 0; i < 4; i++) {
      begin()
      const messages = [{ role: "user", content: `number ${i}` }]
      const response = await gateway.post("/v1/chat/completions", { model, messages, temperature: 0 })
      const answer = (await response.json()) as { readonly choices: ReadonlyArray<{ message: { content: string } }> }
      expect(answer.choices[0]?.message.content).toBe(whole)
    }
  })
})

describe("a single server", () => {
  it("that recovers is used by the call that failed there", async () => {
    const server = await fleet.ollama({ reply: "Back." })
    const cortex = fleet.cortex([server])
    await cortex.listServers()
    await server.setBehaviour({ faults: [{ kind: "cut" }, { kind: "status", code: 500 }] })
    expect(await cortex.complete("Hi")).toMatchObject({ text: "Back.", attempts: [{}, {}] })
  })

  it("that rejects the caller is asked once", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    await cortex.listServers()
    await server.setBehaviour({ faults: { kind: "status", code: 401 } })
    expect(await failure(cortex.chat("Hi"))).toMatchObject({ _tag: "AllServersFailed" })
    expect(chats(server)).toEqual([1])
  })
})

describe("a gateway", () => {
  const ask = { model, messages: [{ role: "user", content: "Hi" }] }

  it("uses its configured number of attempts, and fewer if the client says so", async () => {
    const server = await fleet.ollama()
    await using gateway = await startGateway([{ url: server.url }], { maxRetries: 2 })
    await gateway.get("/v1/models")
    await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    const tried = async (headers: Record<string, string>) => {
      const before = server.chatRequests.length
      const { status } = await gateway.post("/v1/chat/completions", ask, { headers })
      return [status, server.chatRequests.length - before]
    }
    expect(await tried({})).toEqual([502, 2])
    expect(await tried({ "x-aicortex-max-retries": "1" })).toEqual([502, 1])
    expect(await tried({ "x-aicortex-max-retries": "16" })).toEqual([502, 2])
    for (const odd of ["0", "17", "-1", "many", "1.5"]) {
      expect(await tried({ "x-aicortex-max-retries": odd })).toEqual([400, 0])
    }
  })
})
