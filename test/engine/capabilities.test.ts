import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { createInterface } from "node:readline"
import { setTimeout } from "node:timers/promises"
import OpenAI from "openai"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { bin, build, ended } from "../support/cliProcess.js"

const timeout = 60_000
const running: Array<ChildProcess> = []

const start = async (...args: ReadonlyArray<string>): Promise<OpenAI> => {
  const words = [bin, "engine", defaultModelPath(), "--port", "0", ...args]
  const child = spawn(process.execPath, words, { stdio: ["ignore", "pipe", "inherit"] })
  running.push(child)
  const [line] = await once(createInterface({ input: child.stdout }), "line")
  const { url } = JSON.parse(String(line))
  while ((await fetch(`${url}/health`)).status !== 200) await setTimeout(50)
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 })
}

let client: OpenAI
beforeAll(async () => {
  build()
  client = await start()
}, 120_000)
afterAll(() => {
  for (const child of running) child.kill("SIGKILL")
})

const model = "aicortex-demo"
const messages = [{ role: "user" as const, content: "What is the capital of France?" }]

describe("aicortex engine: through OpenAI's client", () => {
  it("logprobs, whole and streamed", async () => {
    const asked = { model, messages, temperature: 0, logprobs: true, top_logprobs: 3 }
    const whole = await client.chat.completions.create(asked)
    const tokens = whole.choices[0]?.logprobs?.content ?? []
    expect(tokens.map(({ token }) => token).join("")).toBe("The capital of France is Paris.")
    expect(tokens[0]?.top_logprobs).toHaveLength(3)
    expect(tokens[0]?.top_logprobs[0]?.token).toBe("The")
    const streamed: Array<string> = []
    for await (const { choices } of await client.chat.completions.create({ ...asked, stream: true })) {
      streamed.push(...(choices[0]?.logprobs?.content ?? []).map(({ token }) => token))
    }
    expect(streamed).toEqual(tokens.map(({ token }) => token))
  })

  it("logprobs of a text completion", async () => {
    const { choices } = await client.completions.create({
      model,
      prompt: "The capital",
      temperature: 0,
      max_tokens: 4,
      logprobs: 2
    })
    expect(choices[0]?.logprobs?.tokens?.join("")).toBe(choices[0]?.text)
    expect(choices[0]?.logprobs?.token_logprobs).toHaveLength(choices[0]?.logprobs?.tokens?.length ?? 0)
  })

  it.each([2, 4, 6])("n: %i answers, each complete, also streamed", async (n) => {
    const asked = { model, messages, temperature: 0, n }
    const { choices, usage } = await client.chat.completions.create(asked)
    expect(choices.map(({ message }) => message.content)).toEqual(
      Array.from({ length: n }, () => "The capital of France is Paris.")
    )
    expect(usage?.prompt_tokens).toBe(16)
    const texts = Array.from({ length: n }, () => "")
    for await (const { choices } of await client.chat.completions.create({ ...asked, stream: true })) {
      for (const { delta, index } of choices) texts[index] += delta.content ?? ""
    }
    expect(texts).toEqual(choices.map(({ message }) => message.content))
  })

  it("several answers differ at a temperature above 0, and repeat with the same seed", async () => {
    const story = { model, messages: [{ role: "user" as const, content: "Tell me a short story about a robot." }] }
    const ask = async () => {
      const { choices } = await client.chat.completions.create({ ...story, n: 4, temperature: 1.5, seed: 5 })
      return choices.map(({ message }) => message.content)
    }
    const once = await ask()
    expect(new Set(once).size).toBeGreaterThan(1)
    expect(await ask()).toEqual(once)
  })

  it("logit_bias, and an unknown token", async () => {
    const biased = await client.chat.completions.create({
      model,
      messages,
      temperature: 0,
      max_tokens: 3,
      logit_bias: { 266: 100 }
    })
    expect(biased.choices[0]?.message.content).toBe(" is is is")
    await expect(client.chat.completions.create({ model, messages, logit_bias: { 999999: 1 } })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("no token 999999")
    })
  })

  it("a forced tool is called", async () => {
    const parameters = {
      type: "object",
      properties: { country: { type: "string", enum: ["France", "Italy"] } },
      required: ["country"]
    }
    const { choices } = await client.chat.completions.create({
      model,
      messages,
      temperature: 0,
      tools: [{ type: "function", function: { name: "capital", parameters } }],
      tool_choice: "required"
    })
    const [call] = choices[0]?.message.tool_calls ?? []
    expect(choices[0]?.finish_reason).toBe("tool_calls")
    expect(call).toMatchObject({ type: "function", function: { name: "capital" } })
    expect(JSON.parse(call?.type === "function" ? call.function.arguments : "")).toMatchObject({
      country: expect.any(String)
    })
  })

  it("a prefilled answer is continued, and cached tokens are reported", async () => {
    const whole = "The capital of France is Paris."
    for (const cut of [3, 11, 30]) {
      const { choices, usage } = await client.chat.completions.create({
        model,
        messages: [...messages, { role: "assistant", content: whole.slice(0, cut) }],
        temperature: 0
      })
      expect(whole.slice(0, cut) + (choices[0]?.message.content ?? "")).toBe(whole)
      expect(usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThan(0)
    }
  })

  it("embeddings are refused, with the flag that enables them", async () => {
    await expect(client.embeddings.create({ model, input: "Hi" })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("--embeddings")
    })
  })
})

describe("aicortex engine --embeddings", () => {
  it(
    "gives vectors of length 1, the same for the same text, and no answers",
    async () => {
      const vectors = await start("--embeddings")
      const input = ["A cat sat on the mat.", "A cat sat on a mat.", "1, 2, 3, 4, 5.", "A cat sat on the mat."]
      const { data, usage } = await vectors.embeddings.create({ model, input, encoding_format: "float" })
      const all = data.map(({ embedding }) => embedding)
      for (const vector of all) expect(Math.hypot(...vector)).toBeCloseTo(1, 5)
      expect(all[3]).toEqual(all[0])
      const likeness = (one = 0, other = 0) =>
        (all[one] ?? []).reduce((sum, x, i) => sum + x * (all[other]?.[i] ?? 0), 0)
      expect(likeness(0, 1)).toBeGreaterThan(likeness(0, 2))
      expect(usage.prompt_tokens).toBeGreaterThan(20)
      // Other tokens than the last one count too.
      const [one, two] = (
        await vectors.embeddings.create({ model, input: ["cats are nice", "dogs are nice"], encoding_format: "float" })
      ).data
      expect(one?.embedding).not.toEqual(two?.embedding)
      const short = await vectors.embeddings.create({ model, input: "Hi", dimensions: 8, encoding_format: "float" })
      expect(short.data[0]?.embedding).toHaveLength(8)
      await expect(vectors.embeddings.create({ model, input: "word ".repeat(600) })).rejects.toMatchObject({
        status: 400
      })
      await expect(vectors.chat.completions.create({ model, messages })).rejects.toMatchObject({
        status: 400,
        message: expect.stringContaining("embeddings only")
      })
    },
    timeout
  )

  it("another model file is still refused", async () => {
    const { code, err } = await ended(
      spawn(process.execPath, [bin, "engine", new URL(import.meta.url).pathname, "--embeddings", "--port", "0"])
    )
    expect(code).toBe(1)
    expect(err).toContain("is not a model")
  })
})
