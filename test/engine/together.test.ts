/** Requests that are answered together are answered as they would be alone. */
import { expect, it } from "vitest"
import type { Sink } from "../../src/Backend.js"
import * as Embedded from "../../src/backend/embedded.js"
import * as ChatRequest from "../../src/ChatRequest.js"
import * as Server from "../../src/Server.js"

const prompts = [
  "Tell me a short story about a robot.",
  "Write a haiku about the sea.",
  "What is Docker?",
  "Tell me a poem.",
  "What is the capital of France?",
  "Hello",
  "What is recursion good for in programming, and who should learn it first of all?"
]

it("prompts of different lengths, four at a time, many times over", { timeout: 180_000 }, async () => {
  const engine = Embedded.make()
  const answer = (prompt: string): Promise<string> =>
    new Promise((resolve, reject) => {
      let text = ""
      let done = false
      const sink: Sink = {
        connected: () => {},
        read: () => {},
        text: (piece) => {
          text += piece
        },
        thinking: () => {},
        toolCall: () => {},
        finish: () => {
          done = true
        },
        flush: () => {
          if (done) resolve(text)
        },
        fail: ({ message }) => reject(new Error(message))
      }
      const messages = [{ role: "user", content: prompt }] as const
      const request = ChatRequest.make({ temperature: 0, maxTokens: 4 }, "aicortex-demo", messages, "text")
      engine.backend.start(Server.embedded, request, sink)
    })
  const alone = new Map<string, string>()
  for (const prompt of prompts) alone.set(prompt, await answer(prompt))
  for (let round = 0; round < 700; round++) {
    // Each four of them, in another order.
    const asked = [0, 1, 2, 3].map((i) => prompts[(round * 5 + i * (1 + (round % 3))) % prompts.length] ?? "")
    expect(await Promise.all(asked.map(answer))).toEqual(asked.map((prompt) => alone.get(prompt)))
  }
  await engine.close()
})
