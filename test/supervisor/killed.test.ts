/** Engines of one model that are killed in mid-answer: nothing is lost, doubled or wrong. */
import OpenAI from "openai"
import { beforeAll, expect, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { until } from "../support/engines.js"
import { localHome } from "../support/localHome.js"

beforeAll(build, 120_000)

const prompts = [
  "Tell me a short story about a friendly robot.",
  "What is the capital of France?",
  "Write a haiku about programming."
]

it("two engines, one killed after the other under load", { timeout: 240_000 }, async () => {
  await using local = localHome()
  const url = await local.ok("run", "-d", defaultModelPath(), "--replicas", "2", "--port", "0")
  const client = new OpenAI({ baseURL: url, apiKey: "not-needed", maxRetries: 0 })
  const answer = async (content: string) => {
    const messages = [{ role: "user", content }] as const
    const stream = await client.chat.completions.create({
      model: "aicortex-demo",
      messages: [...messages],
      temperature: 0,
      stream: true
    })
    let text = ""
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ""
    return text
  }
  const alone = new Map<string, string>()
  for (const prompt of prompts) alone.set(prompt, await answer(prompt))

  let over = false
  let answered = 0
  const worker = async (first: number) => {
    for (let i = first; !over; i++) {
      const prompt = prompts[i % prompts.length] ?? ""
      expect(await answer(prompt)).toBe(alone.get(prompt))
      answered++
    }
  }
  const clients = Promise.all([0, 1, 2, 3].map(worker))
  clients.catch(() => {})
  for (let kill = 0; kill < 4; kill++) {
    const before = answered
    await until("some are answered", () => answered >= before + 5)
    await until("both engines run", () => local.pids().length === 2)
    process.kill(local.pids()[kill % 2] ?? 0, "SIGKILL")
    await until("the end is noticed", () => local.pids().length < 2)
  }
  await until("some are answered after the last one", () => answered > 40)
  over = true
  await clients
})
