import { describe, expect, it } from "vitest"
import { type FakeServer, type Fault, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"

const model = "m:1b"
const streams = 60
const rounds = 4

/** What every server says to a question: nothing else decides. */
const answerTo = (question: string): ReadonlyArray<string> =>
  Array.from({ length: 20 }, (_, i) => ` ${question.replace(/\D/g, "")}-${i}${i % 5 === 0 ? "é中" : ""}`)

describe("many streams at once while servers fail", () => {
  it("none fails, and every byte is right", async () => {
    let seed = 42
    const random = (n: number) => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed % n
    }
    const faults = (): Fault | undefined => {
      if (random(10) > 0) return undefined
      const after = random(20)
      const ways: ReadonlyArray<Fault> = [
        { kind: "cut", after },
        { kind: "reset" },
        { kind: "status", code: 500 },
        { kind: "malformed", after },
        { kind: "garbage" },
        { kind: "errorLine", after }
      ]
      return ways[random(ways.length)]
    }
    const servers: Array<FakeServer> = []
    for (let i = 0; i < 8; i++) {
      const options = {
        models: [model],
        perToken: 2,
        faults,
        reply: ({ messages }: { messages: Array<{ role: string; content: string }> }) =>
          answerTo(messages.find(({ role }) => role === "user")?.content ?? "")
      }
      servers.push(await (i % 2 === 0 ? startFakeOllama(options) : startFakeOpenAI(options)))
    }
    const gateway = await startGateway(
      servers.map(({ url }) => ({ url, maxInFlight: 100 })),
      { timeout: 10_000 },
      { cortex: { serverCooldown: 50 } }
    )
    const tally = { complete: 0, broken: [] as Array<string> }
    try {
      await Promise.all(
        Array.from({ length: streams }, async (_, client) => {
          for (let round = 0; round < rounds; round++) {
            const question = `Question ${client * 1000 + round}?`
            const ollama = client % 3 === 0
            const response = await gateway.post(ollama ? "/api/chat" : "/v1/chat/completions", {
              model,
              stream: true,
              messages: [{ role: "user", content: question }]
            })
            const text = await response.text()
            const said = [...text.matchAll(/"content":("(?:[^"\\]|\\.)*")/g)]
              .map(([, words]) => JSON.parse(words ?? ""))
              .join("")
            const whole = ollama ? text.includes(`"done":true`) : text.includes("data: [DONE]")
            if (whole && said === answerTo(question).join("")) tally.complete++
            else tally.broken.push(`${response.status} ${text.slice(-300)}`)
          }
        })
      )
      expect(tally).toEqual({ complete: streams * rounds, broken: [] })
      const failed = await (await gateway.get("/metrics")).text()
      expect(failed).toMatch(/aicortex_attempts_total\{.*outcome="failure".*\} [1-9]/)
      expect(gateway.log).toEqual([])
    } finally {
      await gateway.close()
      for (const server of servers) await server.stop()
    }
  }, 120_000)
})
