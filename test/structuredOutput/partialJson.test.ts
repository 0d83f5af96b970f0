/** JSON as it is written: every value is a snapshot, and the work is proportional to the text. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import { PartialJson } from "../../src/structuredOutput/partialJson.js"

/** The values that a text gives, piece by piece. */
const valuesOf = (pieces: Iterable<string>): ReadonlyArray<unknown> => {
  const parser = new PartialJson()
  const values: Array<unknown> = []
  for (const piece of pieces) {
    parser.push(piece)
    const partial = parser.take()
    if (partial !== undefined) values.push(partial.value)
  }
  return values
}

const chunks = (text: string, size: number): ReadonlyArray<string> =>
  Array.from({ length: Math.ceil(text.length / size) }, (_, i) => text.slice(i * size, (i + 1) * size))

/** Whether one value can grow into another. */
const growsInto = (part: unknown, whole: unknown): boolean => {
  if (typeof part === "string") return typeof whole === "string" && whole.startsWith(part)
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.length <= whole.length && part.every((one, i) => growsInto(one, whole[i]))
  }
  if (typeof part === "object" && part !== null) {
    return Object.entries(part).every(
      ([key, value]) => Object.hasOwn(whole as object, key) && growsInto(value, (whole as Record<string, unknown>)[key])
    )
  }
  return Object.is(part, whole)
}

describe("a partial value", () => {
  it("is emitted after every character", () => {
    expect(valuesOf('{"a":"xy","b":[1,{"c":true}]}')).toEqual([
      {},
      { a: "" },
      { a: "x" },
      { a: "xy" },
      { a: "xy" },
      { a: "xy", b: [] },
      { a: "xy", b: [1] },
      { a: "xy", b: [1, {}] },
      { a: "xy", b: [1, { c: true }] }
    ])
  })

  it("grows into the complete value for any split, and never changes what it had", () => {
    const containers = fc.oneof(fc.array(fc.jsonValue()), fc.dictionary(fc.string(), fc.jsonValue()))
    fc.assert(
      fc.property(containers, fc.integer({ min: 1, max: 7 }), fc.boolean(), (given, size, pretty) => {
        const text = JSON.stringify(given, undefined, pretty ? 2 : undefined)
        const whole: unknown = JSON.parse(text)
        const parser = new PartialJson()
        const seen: Array<readonly [value: unknown, then: string]> = []
        for (const piece of chunks(text, size)) {
          parser.push(piece)
          const partial = parser.take()
          if (partial !== undefined) seen.push([partial.value, JSON.stringify(partial.value)])
        }
        for (const [value, then] of seen) {
          expect(JSON.stringify(value)).toBe(then)
          expect(growsInto(value, whole)).toBe(true)
        }
        // All of it is told, unless it is so wide that it waits for more text.
        if (text.length < 500) expect(JSON.stringify(seen.at(-1)?.[0])).toBe(JSON.stringify(whole))
      }),
      { numRuns: 150 }
    )
  })

  it("is extracted from a code fence", () => {
    expect(valuesOf(["```json\n", '{"a":', "1}", "\n```"]).at(-1)).toEqual({ a: 1 })
  })

  it("handles split escapes, and properties of any name", () => {
    const text = String.raw`{"__proto__":{"\u00e9\n":"\ud83d\ude00\"\\\/"},"constructor":1}`
    for (const size of [1, 2, 3, 100]) {
      const last = valuesOf(chunks(text, size)).at(-1) as object
      expect(JSON.stringify(last)).toBe(JSON.stringify(JSON.parse(text)))
      expect(Object.getPrototypeOf(last)).toBe(Object.prototype)
    }
  })

  it.each([
    ['{"a":1,}', { a: 1 }],
    ["[1,2}", [1, 2]],
    ['{"a" 1}', {}],
    ['{"a":tru,"b":1}', {}],
    ["[1 2]", [1]],
    ['["\\x"]', [""]],
    [`${"[".repeat(600)}`, undefined],
    ["no JSON at all", undefined]
  ])("ends at the first error: %s", (text, last) => {
    const values = valuesOf(text)
    if (last !== undefined) expect(values.at(-1)).toEqual(last)
    if (text.startsWith("no")) expect(values).toEqual([])
  })

  it("has linear cost: copying is bounded per character, also for long lists and objects", () => {
    /** How many entries of open objects and lists are copied. */
    const copied = (pieces: ReadonlyArray<string>): number => {
      const values = valuesOf(pieces)
      let count = 0
      for (const value of values) count += Array.isArray(value) ? value.length : Object.keys(value as object).length
      return count
    }
    for (const make of [
      (n: number) => `[${Array.from({ length: n }, (_, i) => i).join(",")}]`,
      (n: number) => `{${Array.from({ length: n }, (_, i) => `"k${i}":1`).join(",")}}`
    ]) {
      const [small, large] = [make(2_000), make(4_000)]
      for (const text of [small, large]) expect(copied(chunks(text, 3))).toBeLessThan(text.length * 65)
    }
    // A long text grows, too.
    const text = `{"a":"${"x".repeat(100_000)}"}`
    const values = valuesOf(chunks(text, 4)) as ReadonlyArray<{ a?: string }>
    expect(values.length).toBeGreaterThan(20_000)
    expect(values.at(-1)?.a).toHaveLength(100_000)
  })
})
