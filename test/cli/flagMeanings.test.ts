import { describe, expect, it } from "vitest"
import { type Shape, shape } from "../../src/cli/commandLine.js"
import * as Flags from "../../src/cli/flags.js"
import { root } from "../../src/cli/main.js"

/** What each flag, long or short, means in each command that takes it. */
const meaningsIn = (
  command: Shape,
  path = "aicortex"
): ReadonlyArray<readonly [flag: string, meaning: string, at: string]> => [
  ...[...command.flags].map(([given, { about, name, repeated, value }]) => {
    const type = value === undefined ? "takes no value" : `takes ${value}`
    return [given, `${name} ${type}${repeated ? ", several times" : ""}: ${about}`, path] as const
  }),
  ...Object.entries(command.children).flatMap(([name, child]) => meaningsIn(child, `${path} ${name}`))
]

/**
 * Flags whose names are given elsewhere: by the programs that a command takes the place of (`docker logs -f`, the steps of
 * AI Cortex's pipeline with their names and defaults, Cortex's port), or by what the command is about.
 */
const namedElsewhere: ReadonlySet<string> = new Set([
  "-f",
  "-o",
  "--output",
  "--timeout",
  "--workers",
  "--port",
  "-p",
  "--host",
  "--keep-alive",
  "--max-tokens",
  "--all",
  "--seed",
  "-l",
  "--list"
])

/** Flags with several meanings, and where each of these is. */
const ambiguous = (tree: Shape) => {
  const found = new Map<string, Map<string, Array<string>>>()
  for (const [flag, meaning, at] of meaningsIn(tree)) {
    const meanings = found.get(flag) ?? new Map<string, Array<string>>()
    found.set(flag, meanings.set(meaning, [...(meanings.get(meaning) ?? []), at]))
  }
  return [...found]
    .filter(([flag, meanings]) => meanings.size > 1 && !namedElsewhere.has(flag))
    .map(([flag, meanings]) => [flag, [...meanings]])
}

describe("flags", () => {
  it("each has one type and one meaning in all commands", () => {
    expect(meaningsIn(root).length).toBeGreaterThan(100)
    expect(ambiguous(root)).toEqual([])
  })

  it("each has a description", () => {
    for (const [flag, meaning] of meaningsIn(root))
      expect([flag, meaning]).toEqual([flag, expect.stringMatching(/: \S/)])
  })

  it.each([
    ["another type", Flags.text("json", { about: "Print JSON, for programs." })],
    ["other words", Flags.flag("json", { about: "Read JSON." })],
    ["a short name that is another's", Flags.flag("just", { alias: "j", about: "Just so." })]
  ])("control: %s is found", (_, option) => {
    const about = { about: ["A command."], examples: [] }
    const jolly = Flags.flag("jolly", { alias: "j", about: "Be jolly." })
    const one = shape(about, { json: Flags.json, jolly })
    const other = shape(about, { option })
    expect(ambiguous(shape(about, {}, { one, other }))).toHaveLength(1)
  })
})
