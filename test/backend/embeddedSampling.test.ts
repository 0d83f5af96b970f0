import { afterAll, describe, expect, it } from "vitest"
import { user } from "../../src/Message.js"
import { openEngine } from "../support/embeddedEngine.js"

const engine = openEngine()
afterAll(() => engine.close())

const paris = [user("What is the capital of France?")]
const story = [user("Tell me a short story about a robot.")]

describe("embedded: logprobs", () => {
  it("has one entry for each token, which together are the text", async () => {
    const { finish, logprobs, text } = await engine.ask({ messages: paris, logprobs: 0 })
    expect(text).toBe("The capital of France is Paris.")
    expect(logprobs.map(({ token }) => token).join("")).toBe(text)
    expect(logprobs).toHaveLength(finish?.usage.completionTokens ?? 0)
    for (const { bytes, logprob, token, top_logprobs: top } of logprobs) {
      expect(logprob).toBeLessThanOrEqual(0)
      expect(top).toEqual([])
      expect(new TextDecoder().decode(Uint8Array.from(bytes ?? []))).toBe(token)
    }
  })

  it.each([1, 5, 20])(
    "has the %i likeliest ones, the likeliest first, and at temperature 0 that is the chosen one",
    async (n) => {
      const { logprobs } = await engine.ask({ messages: story, logprobs: n, maxTokens: 12 })
      for (const { logprob, token, top_logprobs: top } of logprobs) {
        expect(top).toHaveLength(n)
        expect(top[0]).toMatchObject({ token, logprob })
        expect(top.map((one) => one.logprob)).toEqual([...top.map((one) => one.logprob)].sort((a, b) => b - a))
        expect(top.reduce((sum, one) => sum + Math.exp(one.logprob), 0)).toBeLessThanOrEqual(1.0001)
      }
    }
  )

  it("are the model's own at every temperature", async () => {
    const first = async (temperature: number) => {
      const { logprobs } = await engine.ask({
        messages: story,
        logprobs: 3,
        temperature,
        topK: 0,
        maxTokens: 1,
        seed: 1
      })
      return logprobs[0]?.top_logprobs ?? []
    }
    const cold = await first(0)
    for (const temperature of [0.5, 1, 2]) {
      for (const [i, { logprob, token }] of (await first(temperature)).entries()) {
        expect(token).toBe(cold[i]?.token)
        expect(logprob).toBeCloseTo(cold[i]?.logprob ?? 0, 1)
      }
    }
  })

  it("do not change the answer; control: without the option there are none", async () => {
    const asked = { messages: story, temperature: 1.2, seed: 7 }
    const plain = await engine.ask(asked)
    const told = await engine.ask({ ...asked, logprobs: 2 })
    expect(told.text).toBe(plain.text)
    expect(plain.logprobs).toEqual([])
    expect(told.logprobs.length).toBeGreaterThan(0)
  })

  it("of a stop sequence that is not in the answer are left out", async () => {
    const { logprobs, text } = await engine.ask({ messages: paris, logprobs: 0, stop: [" is"] })
    expect(text).toBe("The capital of France")
    expect(logprobs.map(({ token }) => token).join("")).toBe(text)
  })

  it("go with JSON and with raw text", async () => {
    const json = await engine.ask({
      messages: [user("Return the capital and population of Germany as JSON.")],
      format: "json",
      logprobs: 1
    })
    expect(JSON.parse(json.text)).toMatchObject({ capital: "Berlin" })
    expect(json.logprobs.map(({ token }) => token).join("")).toContain(json.text)
    const raw = await engine.ask({ messages: paris, raw: true, logprobs: 1, maxTokens: 3 })
    expect(raw.logprobs.map(({ token }) => token).join("")).toBe(raw.text)
  })
})

describe("embedded: logitBias", () => {
  /** The last token of a text. */
  const idOf = async (text: string): Promise<number> => {
    const { getLlama, LlamaLogLevel } = await import("node-llama-cpp")
    const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.disabled })
    const { defaultModelPath } = await import("../../src/backend/embedded.js")
    const model = await llama.loadModel({ modelPath: defaultModelPath() })
    const [id] = model.tokenize(`x${text}`).slice(-1)
    await llama.dispose()
    return id ?? -1
  }

  it("can forbid a token, and force one", async () => {
    const city = await idOf(" is")
    const plain = await engine.ask({ messages: paris })
    const without = await engine.ask({ messages: paris, logitBias: { [city]: -100 } })
    expect(plain.text).toContain(" is ")
    expect(without.text).not.toContain(" is ")
    const only = await engine.ask({ messages: paris, logitBias: { [city]: 100 }, maxTokens: 3 })
    expect(only.text.trim()).toBe("is is is")
    const nothing = await engine.ask({ messages: paris, logitBias: { [city]: 0 } })
    expect(nothing.text).toBe(plain.text)
  })

  it.each([
    [{ 99999999: 1 }, "the model has no token 99999999"],
    [{ 2: -100 }, "token 2 ends an answer, which this engine cannot bias"]
  ])("refuses %j", async (logitBias, words) => {
    const { failure } = await engine.ask({ messages: paris, logitBias })
    expect(failure).toMatchObject({ reason: "invalid-request", message: expect.stringContaining(words) })
  })

  it("combines with a grammar: the schema still holds", async () => {
    const format = { enum: ["Paris", "Rome"] }
    const city = await idOf(" is")
    const { text } = await engine.ask({ messages: paris, format, logitBias: { [city]: 5 } })
    expect(["Paris", "Rome"]).toContain(JSON.parse(text))
  })
})
