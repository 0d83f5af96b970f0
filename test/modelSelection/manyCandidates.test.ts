import { describe, expect, it } from "vitest"
import { selectionOver, selectionTarget, shapes } from "../../bench/selection.js"
import type { ModelSelection } from "../../src/index.js"

/** The shapes of the bench with a tenth of the candidates. */
const smaller = shapes.map(({ models, servers }) =>
  servers === 1 ? { models: models / 10, servers } : { models, servers: servers / 10 }
)

const all = (chosen: ReadonlyArray<ModelSelection.ModelCandidate>): ReadonlyArray<string> => [
  ...chosen.map(({ model }) => model),
  ...(chosen
    .at(-1)
    ?.others?.()
    .map(({ model }) => model) ?? [])
]

const sizeOf = (model: string): number => Number(/:(\d+)b$/.exec(model)?.[1])

const request = {
  messages: [{ role: "user" as const, content: "Why is the sky blue?" }],
  tools: [],
  maxTokens: undefined,
  suffix: undefined
}

describe.each(smaller)("auto among $models models on $servers servers", (shape) => {
  it("lists each suitable model once, in the order of the decision", () => {
    const chosen = selectionOver(shape)()
    const names = all(chosen)
    expect(new Set(names).size).toBe(names.length)
    const candidates = chosen[0]?.selection?.candidates ?? []
    expect(names).toEqual([...new Set(candidates.map(({ model }) => model))])
    const excluded = chosen[0]?.selection?.excluded ?? []
    expect(candidates.length + excluded.length).toBe(shape.models * shape.servers)
    // The twentieth model has too short a context, and the tenth cannot call tools.
    for (const model of names) expect(Number(/^m(\d+)/.exec(model)?.[1]) % 10).not.toBe(0)
    // The loaded ones go first, each group from the largest to the smallest.
    const states = new Map(candidates.map(({ model, reason }) => [model, reason] as const).reverse())
    const ready = names.filter((model) => states.get(model) === "loaded already")
    expect(names.slice(0, ready.length)).toEqual(ready)
    const sizes = ready.map(sizeOf)
    expect(sizes).toEqual([...sizes].sort((a, b) => b - a))
  })

  it("lists each once if every one is a last resort", () => {
    const names = all(selectionOver(shape, { ...request, maxTokens: 1_000_000 })())
    expect(names).toHaveLength(shape.models)
    expect(new Set(names).size).toBe(shape.models)
  })

  it("takes no more than ten times its share of the target", () => {
    const select = selectionOver(shape)
    const most = (10 * selectionTarget * shape.models * shape.servers) / 10_000
    let least = Number.POSITIVE_INFINITY
    // Processor time of this process, and the shortest round: other work on the machine does not count.
    for (let round = 0; round < 200 && (round < 20 || least > most); round++) {
      const before = process.cpuUsage()
      for (let n = 0; n < 20; n++) select()
      const { system, user } = process.cpuUsage(before)
      least = Math.min(least, (user + system) / 20)
    }
    expect(least).toBeLessThan(most)
  })
})
