import { afterAll, describe, expect, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { assistant, system, user } from "../../src/Message.js"
import { type Outcome, openEngine, type TestEngine } from "../support/embeddedEngine.js"

const engines: Array<TestEngine> = []
const open = (options?: Parameters<typeof openEngine>[0]) => {
  const engine = openEngine(options)
  engines.push(engine)
  return engine
}
const shared = open()
afterAll(() => Promise.all(engines.map((engine) => engine.close())))

const story = [user("Tell me a short story about a robot.")]
const paris = [user("What is the capital of France?")]
const parisAnswer = "The capital of France is Paris."
/** Text that the grammar draws out as far as the context reaches. */
const endless = { type: "array", items: { type: "string", minLength: 400 }, minItems: 20 }

describe("embedded: several requests at once", () => {
  it("four streams are generated in parallel, in turns", async () => {
    const order: Array<number> = []
    const runs = [0, 1, 2, 3].map((i) =>
      shared.start({ messages: [user("Count to five.")], seed: i }, () => void order.push(i))
    )
    const outcomes = await Promise.all(runs.map(({ outcome }) => outcome))
    expect(outcomes.map(({ text }) => text)).toEqual(Array.from({ length: 4 }, () => "1, 2, 3, 4, 5."))
    // Everybody has got a piece before anybody has half of them.
    const half = (outcomes[0]?.pieces.length ?? 0) / 2
    for (const i of [0, 1, 2, 3]) {
      const first = order.indexOf(i)
      for (const other of [0, 1, 2, 3]) {
        expect(order.slice(0, first).filter((one) => one === other).length).toBeLessThan(half)
      }
    }
  })

  it("a fifth request waits for a free sequence; control: with five sequences it does not", async () => {
    const began = async (engine: TestEngine) => {
      const four = [1, 2, 3, 4].map((seed) => engine.start({ messages: story, format: endless, seed }))
      const begun = Promise.all(
        four.map(
          (run) =>
            new Promise<void>(
              (resolve) =>
                void setImmediate(function look() {
                  if (run.pieces.length > 0) resolve()
                  else setImmediate(look)
                })
            )
        )
      )
      await begun
      const fifth = engine.start({ messages: paris })
      const first = await Promise.race([
        fifth.outcome.then(() => "fifth"),
        ...four.map(({ outcome }) => outcome.then(() => "four"))
      ])
      for (const { exchange } of four) exchange.abort()
      expect((await fifth.outcome).text).toBe(parisAnswer)
      return first
    }
    expect(await began(shared)).toBe("four")
    expect(await began(open({ parallel: 5 }))).toBe("fifth")
  })

  it("an abort during generation frees its sequence at once", async () => {
    const engine = open({ parallel: 1 })
    let pieces: ReadonlyArray<string> = []
    let next: Promise<Outcome> | undefined
    await new Promise<void>((resolve) => {
      const long = engine.start({ messages: story, format: endless }, () => {
        next = engine.ask({ messages: paris })
        long.exchange.abort()
        pieces = long.pieces
        resolve()
      })
    })
    expect((await next)?.text).toBe(parisAnswer)
    expect(pieces).toHaveLength(1)
  })

  it("a request that is aborted in the queue is never generated", async () => {
    const engine = open({ parallel: 1 })
    const runs = Array.from({ length: 6 }, () => engine.start({ messages: paris }))
    for (const { exchange } of runs.slice(1, 5)) exchange.abort()
    const [first, last] = await Promise.all([runs[0]?.outcome, runs[5]?.outcome])
    expect([first?.text, last?.text]).toEqual([parisAnswer, parisAnswer])
    for (const run of runs.slice(1, 5)) expect(run.pieces).toEqual([])
  })

  it("leaves the event loop responsive while four answers are generated", async () => {
    const runs = [1, 2, 3, 4].map((seed) => shared.start({ messages: story, seed, temperature: 1 }))
    let turns = 0
    let over = false
    const turn = () => {
      turns++
      if (!over) setImmediate(turn)
    }
    setImmediate(turn)
    const outcomes = await Promise.all(runs.map(({ outcome }) => outcome))
    over = true
    const tokens = Math.max(...outcomes.map(({ finish }) => finish?.usage.completionTokens ?? 0))
    expect(turns).toBeGreaterThan(tokens)
  })

  it("two models in one process answer at the same time, and closing one leaves the other", async () => {
    const one = open({ modelPath: defaultModelPath(), contextSize: 256 })
    const other = open({ modelPath: defaultModelPath(), parallel: 2 })
    const texts = await Promise.all([one, other, one, other].map((engine) => engine.ask({ messages: paris })))
    expect(texts.map(({ text }) => text)).toEqual(Array.from({ length: 4 }, () => parisAnswer))
    await one.close()
    expect((await one.ask({ messages: paris })).failure?.message).toContain("closed")
    expect((await other.ask({ messages: paris })).text).toBe(parisAnswer)
  })

  it("close fails running and queued requests", async () => {
    const engine = open({ parallel: 1 })
    const runs = [1, 2, 3].map((seed) => engine.start({ messages: story, format: endless, seed }, () => void closing()))
    let closed: Promise<void> | undefined
    const closing = () => {
      closed ??= engine.close()
    }
    for (const { outcome } of runs) expect((await outcome).failure?.message).toContain("closed")
    await closed
  })
})

describe("embedded: the prompt cache", () => {
  const aria = system("You are a helpful assistant named Aria.")
  const first = [aria, user("My name is Alice.")]

  it("the next turn evaluates only new tokens, with the same answer as without the cache", async () => {
    const engine = open()
    const one = await engine.ask({ messages: first })
    expect(one.finish?.usage.cachedTokens).toBe(0)
    const next = [...first, assistant(one.text), user("What is my name?")]
    const two = await engine.ask({ messages: next })
    const { cachedTokens = 0, completionTokens = 0, promptTokens = 0 } = one.finish?.usage ?? {}
    expect(cachedTokens).toBe(0)
    // All that was read and written before, except for the last token of the answer.
    expect(two.finish?.usage.cachedTokens).toBeGreaterThanOrEqual(promptTokens + completionTokens - 2)
    expect(two.finish?.promptEvaluated).toBe(
      (two.finish?.usage.promptTokens ?? 0) - (two.finish?.usage.cachedTokens ?? 0)
    )
    expect(two.text).toBe((await open().ask({ messages: next })).text)
    expect(two.text).toBe("Your name is Alice.")
  })

  it("each conversation reuses its own sequence, in any order", async () => {
    const engine = open()
    const names = ["Alice", "Bob", "Carol"]
    const begun = names.map((name) => [user(`My name is ${name}.`)])
    const replies = await Promise.all(begun.map((messages) => engine.ask({ messages })))
    for (const i of [2, 0, 1]) {
      const messages = [...(begun[i] ?? []), assistant(replies[i]?.text ?? ""), user("What did I say first?")]
      const { finish, text } = await engine.ask({ messages })
      expect(text).toBe(`You said: My name is ${names[i]}.`)
      expect(finish?.usage.cachedTokens).toBeGreaterThan(10)
    }
  })

  it("the same prompt again evaluates one token; another prompt shares nothing but its beginning", async () => {
    const engine = open({ parallel: 1 })
    await engine.ask({ messages: paris })
    const again = await engine.ask({ messages: paris })
    expect(again).toMatchObject({ text: parisAnswer, finish: { promptEvaluated: 1 } })
    const other = await engine.ask({ messages: first })
    expect(other.finish?.usage.cachedTokens).toBeLessThan(4)
    expect(other.text).toBe((await open().ask({ messages: first })).text)
  })

  it("a truncated or aborted answer, or a full context, does not change the next answer", async () => {
    const engine = open({ parallel: 1 })
    await engine.ask({ messages: story, maxTokens: 3 })
    const broken = engine.start({ messages: story, format: endless }, () => broken.exchange.abort())
    const full = await engine.ask({ messages: story, format: endless })
    expect(full.finish?.usage.totalTokens).toBe(512)
    expect((await engine.ask({ messages: paris })).text).toBe(parisAnswer)
    expect((await engine.ask({ messages: [user("word ".repeat(600))] })).failure?.reason).toBe("context-length")
    expect((await engine.ask({ messages: paris })).text).toBe(parisAnswer)
  })
})
