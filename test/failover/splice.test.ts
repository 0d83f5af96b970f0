import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { classifyReply } from "../../src/backend/resumeSupport.js"
import { Splice } from "../../src/failover/splice.js"

/** Texts that repeat themselves as much as texts can. */
const text = fc.oneof(
  fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 24 }),
  fc.string({ unit: fc.constantFrom("ha ", "ha", " ", "\n"), maxLength: 12 }),
  fc.string({ unit: fc.constantFrom("😀", "你", "a"), maxLength: 12 }),
  fc.string({ maxLength: 24 })
)
const cuts = fc.array(fc.nat(), { maxLength: 12 })

const pieces = (whole: string, at: ReadonlyArray<number>): ReadonlyArray<string> => {
  const places = [...new Set(at.map((n) => n % (whole.length + 1)))].sort((a, b) => a - b)
  return [...places, whole.length].map((to, i) => whole.slice(places[i - 1] ?? 0, to)).filter((piece) => piece !== "")
}

/** What a reader gets of the new text, piece by piece; `undefined` last where it could not be joined. */
const joined = (given: string, expected: string, stops: ReadonlyArray<string>, stream: ReadonlyArray<string>) => {
  const splice = Splice.make(given, expected, stops)
  if (splice === undefined) return { out: stream.join(""), diverged: false, stopped: false, pieces: stream.length }
  let out = ""
  let count = 0
  let open = true
  for (const piece of stream) {
    const fresh = open ? splice.feed(piece) : piece
    if (fresh === undefined) return { out, diverged: true, stopped: false, pieces: count }
    if (splice.stopped) return { out, diverged: false, stopped: true, pieces: count }
    out += fresh
    count += open ? splice.pieces : 1
    if (splice.closed) open = false
  }
  const rest = open ? splice.end() : ""
  if (rest === undefined) return { out, diverged: true, stopped: false, pieces: count }
  return { out: out + rest, diverged: false, stopped: false, pieces: count + (open ? splice.pieces : 0) }
}

describe("the splice", () => {
  it("neither loses nor repeats text, with any server and any repetitions in the text", () => {
    fc.assert(
      fc.property(
        text,
        text,
        cuts,
        fc.constantFrom("continues", "trims", "echoes", "restarts"),
        (a, b, at, ability) => {
          const expected = ability === "continues" ? "" : ability === "trims" ? a.slice(a.trimEnd().length) : a
          const result = joined(a, expected, [], pieces(expected + b, at))
          expect(result).toMatchObject({ out: b, diverged: false, stopped: false })
        }
      ),
      { numRuns: 3000 }
    )
  })

  it("passes on nothing of a different answer", () => {
    fc.assert(
      fc.property(text, text, cuts, (given, other, at) => {
        const left = given.startsWith(other) ? given.slice(other.length) : undefined
        const result = joined(given, given, [], pieces(other, at))
        if (other.startsWith(given)) expect(result).toMatchObject({ out: other.slice(given.length), diverged: false })
        else if (left !== undefined && left.trim() === "") expect(result).toMatchObject({ out: "", diverged: false })
        else expect(result).toMatchObject({ out: "", diverged: true })
      }),
      { numRuns: 3000 }
    )
  })

  const stop = fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 4 })
  const short = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 8 })

  it("finds every stop sequence across it, and no other", () => {
    fc.assert(
      fc.property(
        short,
        short,
        fc.array(stop, { maxLength: 3 }),
        cuts,
        fc.boolean(),
        (given, more, stops, at, echo) => {
          const whole = given + more
          const straddles = stops.some((one) =>
            Array.from({ length: given.length }, (_, start) => start).some(
              (start) => whole.startsWith(one, start) && start + one.length > given.length
            )
          )
          const result = joined(given, echo ? given : "", stops, pieces(echo ? whole : more, at))
          expect(result).toMatchObject({ out: straddles ? "" : more, stopped: straddles, diverged: false })
        }
      ),
      { numRuns: 5000 }
    )
  })

  it("counts the pieces that it withholds", () => {
    const stream = ["O", "P", "!", " on"]
    expect(joined("a ST", "", ["STOPS"], stream)).toMatchObject({ out: "OP! on", pieces: 4 })
    expect(joined("a ST", "a ST", ["STOPS"], ["a S", "TO", "P", "!"])).toMatchObject({ out: "OP!", pieces: 3 })
    expect(joined("a ST", "", ["STOPS"], ["OP"])).toMatchObject({ out: "OP", pieces: 1 })
  })

  it("accepts an end before a stop sequence whose beginning was passed on", () => {
    expect(joined("one ST", "one ST", ["STOP"], ["one "])).toMatchObject({ out: "", diverged: false })
    expect(joined("one SX", "one SX", ["STOP"], ["one "])).toMatchObject({ diverged: true })
  })

  it("is skipped if there is nothing to do", () => {
    expect(Splice.make("text", "", ["STOP"])).toBeUndefined()
    expect(Splice.make("text S", "", ["STOP"])).toBeDefined()
    expect(Splice.make("", "", [])).toBeUndefined()
  })
})

it.each([
  ["3", "continues"],
  ["3. Type", "continues"],
  ["\n3.", "trims"],
  [" 3", "trims"],
  ["1. Python\n2. JavaScript\n3", "echoes"],
  ["1. Python\n2. JavaScript", "echoes"],
  ["1. Python\n2", "restarts"],
  ["Sure! 3", "restarts"],
  ["", "restarts"]
])("a trial that gives %j shows that the server %s", (reply, ability) => {
  expect(classifyReply(reply)).toBe(ability)
})
