import { describe, expect, it } from "vitest"
import type { JsonObject } from "../../src/ChatRequest.js"
import { grammarSchema } from "../../src/internal/grammarSchema.js"
import { inlineRefs } from "../../src/internal/inlineRefs.js"

const times = <A>(n: number, make: (i: number) => A): Array<A> => Array.from({ length: n }, (_, i) => make(i))

/** Each definition uses the next one twice. */
const doubling = (levels: number, use: (ref: JsonObject) => JsonObject): JsonObject => ({
  $ref: "#/$defs/d0",
  $defs: Object.fromEntries(
    times(levels, (i) => [`d${i}`, i === levels - 1 ? { type: "string" } : use({ $ref: `#/$defs/d${i + 1}` })])
  )
})

describe("schemas with inlined references", () => {
  it.each([
    (ref: JsonObject) => ({ type: "object", properties: { a: ref, b: ref } }),
    (ref: JsonObject) => ({ anyOf: [ref, { type: "array", items: ref }] }),
    (ref: JsonObject) => ({ type: "array", prefixItems: [ref, ref] })
  ])("references are kept if inlining would double a schema with every level", (use) => {
    const small = inlineRefs(doubling(5, use))
    expect(JSON.stringify(small)).not.toContain("$ref")
    const large = inlineRefs(doubling(40, use))
    expect(JSON.stringify(large).length).toBeLessThan(10_000)
    expect(Object.keys(large["$defs"] as object)).toHaveLength(40)
  })

  it.each([
    (ref: JsonObject) => ({ type: "object", anyOf: [ref, ref] }),
    (ref: JsonObject) => ({ type: "object", allOf: [{ anyOf: [ref, ref] }], properties: { a: {} } })
  ])("a grammar that would double with every level is refused", (use) => {
    expect(() => grammarSchema(doubling(30, use))).toThrow(/more than 2000 parts/)
    expect(grammarSchema(doubling(4, use))).toMatchObject({})
  })

  it("a grammar keeps recursion as references", () => {
    expect(grammarSchema(doubling(30, (ref) => ({ type: "object", properties: { a: ref, b: ref } })))).toMatchObject({
      $defs: expect.any(Object)
    })
    expect(() => grammarSchema({ properties: Object.fromEntries(times(3_000, (i) => [`p${i}`, {}])) })).toThrow(/2000/)
  })
})
