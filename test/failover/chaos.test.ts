import { describe, expect, it } from "vitest"
import type { Outcome } from "../../bench/chaos/chaos.js"
import { chaos } from "../../bench/chaos/chaos.js"
import { matrixOf, phases, show } from "../../bench/chaos/matrix.js"
import { type Member, plan, type Step } from "../../bench/chaos/plan.js"
import { expectedOf, promptOf, reply, tokensOf } from "../../bench/chaos/questions.js"

const members: ReadonlyArray<Member> = [
  { name: "a", models: ["x", "y"], process: false },
  { name: "b", models: ["x"], process: false },
  { name: "c", models: ["y"], process: false },
  { name: "d", models: ["z"], process: true },
  { name: "e", models: ["z"], process: true }
]

const steps = (seed: number, count: number): ReadonlyArray<Step> => {
  const all = plan(seed, members)
  return Array.from({ length: count }, () => all.next().value)
}

describe("the plan", () => {
  it("is the same for the same seed, and different for another", () => {
    expect(steps(1, 200)).toEqual(steps(1, 200))
    expect(steps(2, 200)).not.toEqual(steps(1, 200))
  })

  it("always leaves each model one healthy server, and restores every server", () => {
    const kinds = new Set<string>()
    for (let seed = 0; seed < 50; seed++) {
      const struck = new Set<number>()
      const returned = new Set<number>()
      for (const { server, strike } of steps(seed, 300)) {
        if (strike === undefined) {
          expect(struck.delete(server)).toBe(true)
          returned.add(server)
        } else {
          expect(struck.has(server)).toBe(false)
          struck.add(server)
          kinds.add(strike.kind)
          if (members[server]?.process === true) expect(["kill", "stall", "slow"]).toContain(strike.kind)
        }
        for (const model of ["x", "y", "z"])
          expect(members.some((member, i) => !struck.has(i) && member.models.includes(model))).toBe(true)
      }
      expect(returned.size).toBe(members.length)
    }
    expect([...kinds].sort()).toEqual([
      "cut",
      "errorLine",
      "garbage",
      "kill",
      "malformed",
      "notFound",
      "silentEnd",
      "slow",
      "stall",
      "status"
    ])
  })
})

it("every fake returns the same answer to a question, with every API", () => {
  const whole = tokensOf(7)
  expect(reply({ messages: [{ role: "user", content: promptOf(7) }] })).toEqual(whole)
  expect(reply({ prompt: `<|im_start|>user\n${promptOf(7)}<|im_end|>\n<|im_start|>assistant\nx` })).toEqual(whole)
  expect(tokensOf(8)).not.toEqual(whole)
  expect(expectedOf(["a", " b", " c"], { maxTokens: 2, stop: undefined })).toBe("a b")
  expect(expectedOf(["a", " b", " c"], { maxTokens: undefined, stop: " c" })).toBe("a b")
})

it("the matrix shows the outcome of each affected request, and failures that the plan does not explain", () => {
  const attempt = { phase: "stream", reason: "cut", message: "cut", elapsed: 1 } as const
  const outcome = (id: number, stream: boolean, servers: ReadonlyArray<string>, problem?: string): Outcome => ({
    question: { id, model: "x", prompt: "", maxTokens: undefined, stop: undefined, stream },
    problem,
    attempts: servers.map((server) => ({ ...attempt, server }))
  })
  const matrix = matrixOf(
    [
      { server: "a", fault: "cut", phase: "mid-stream", id: 0 },
      { server: "a", fault: "cut", phase: "mid-stream", id: 1 },
      { server: "a", fault: "cut", phase: "last chunk", id: 2 },
      { server: "a", fault: "slow", phase: "first token", id: 3 },
      { server: "b", fault: "kill", phase: "idle" }
    ],
    [outcome(0, true, ["a"]), outcome(1, false, ["a"]), outcome(2, true, ["a"], "lost"), outcome(3, true, ["b"])],
    new Set()
  )
  const line = (...cells: ReadonlyArray<string>) => cells.join(" ")
  expect(show(matrix).replace(/ +/g, " ").split("\n")).toEqual([
    line("fault", ...phases),
    expect.stringMatching(/^[- ]+$/),
    line("cut", "-", "-", "next 1, resumed 1", "failed 1", "-"),
    line("kill", "-", "-", "-", "-", "1"),
    line("slow", "-", "there 1", "-", "-", "-")
  ])
  expect(matrix.unexplained).toEqual(["b, stream: cut, cut"])
})

it("no stream and no call is lost while servers are killed, stalled, cut, slowed and restored", async () => {
  const report = await chaos({ seed: 20, streams: 90, calls: 90, concurrency: 12 })
  const shown = `seed ${report.seed}, ${report.strikes} strikes in ${report.seconds.toFixed(1)} s\n${show(report.matrix)}`
  console.log(shown)
  const problems = report.outcomes.flatMap(({ problem, question }) =>
    problem === undefined ? [] : [`${question.stream ? "stream" : "call"} ${question.id}: ${problem}`]
  )
  expect(problems, shown).toEqual([])
  expect(report.outcomes).toHaveLength(180)
  // It was chaos: otherwise all this shows nothing.
  expect(report.strikes, shown).toBeGreaterThan(5)
  expect(report.outcomes.filter(({ attempts }) => attempts.length > 0).length, shown).toBeGreaterThan(5)
})
