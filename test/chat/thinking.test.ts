import { expect, it } from "vitest"
import { model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()

it.each([
  ["a model that cannot think is not asked to, whichever server goes first", ["completion", "tools"], undefined],
  ["a model that can is", ["completion", "thinking"], true]
] as const)("in a fleet where one server reports the model's capabilities: %s", async (_, capabilities, think) => {
  const silent = await fleet.openai({
    reply: "one two three four",
    flavour: "llamacpp",
    faults: { kind: "status", code: 500 }
  })
  const telling = await fleet.ollama({
    models: [{ name: model, capabilities: [...capabilities] }],
    reply: "one two three four"
  })
  const servers = [silent, telling].map(({ url }, priority) => ({ url, priority }))
  const gateway = fleet.keep(await startGateway(servers))
  const reply = await gateway.post("/v1/messages", {
    model,
    max_tokens: 4_000,
    thinking: { type: "enabled", budget_tokens: 1_024 },
    messages: [{ role: "user", content: "Count!" }]
  })
  const answer = JSON.parse(await reply.text())
  expect(reply.status, JSON.stringify(answer)).toBe(200)
  expect(answer.content.find((part: { type: string }) => part.type === "text")).toMatchObject({
    text: "one two three four"
  })
  const chatRequests = telling.chatRequests.filter(({ path }) => path === "/api/chat")
  expect(chatRequests.length).toBeGreaterThan(0)
  for (const { body } of chatRequests) expect(body.think !== undefined).toBe(think === true)
})
