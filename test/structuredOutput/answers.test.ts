import { describe, expect, it } from "vitest"
import { failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const times = <A>(n: number, make: (i: number) => A): Array<A> => Array.from({ length: n }, (_, i) => make(i))

const upstreams = [
  ["ollama", fleet.ollama],
  ["openai", fleet.openai]
] as const

/** Checking any reply that is nested deeply takes twice as much with every level. */
const doubling = {
  $defs: { a: { anyOf: times(2, (i) => ({ required: [`no${i}`], properties: { x: { $ref: "#/$defs/a" } } })) } },
  $ref: "#/$defs/a"
}
const deep = `${'{"x":'.repeat(60)}1${"}".repeat(60)}`

const odd = [
  {
    name: "recursion to the root",
    schema: { type: "object", properties: { next: { $ref: "#" }, n: { type: "integer" } }, required: ["n"] },
    fits: { n: 1, next: { n: 2 } },
    other: { n: 1, next: {} }
  },
  {
    name: "a pattern without the u flag",
    schema: { type: "object", properties: { id: { type: "string", pattern: "^[\\w\\-_]+$" } }, required: ["id"] },
    fits: { id: "a-b_c" },
    other: { id: "a b" }
  },
  {
    name: "a catastrophic pattern",
    schema: { type: "object", properties: { a: { type: "string", pattern: "^(a+)+$" } } },
    fits: { a: "a".repeat(5_000) },
    other: { a: `${"a".repeat(5_000)}!` }
  },
  {
    name: "what was not evaluated",
    schema: { allOf: [{ properties: { a: { type: "number" } } }], unevaluatedProperties: false },
    fits: { a: 1 },
    other: { a: 1, b: 2 }
  },
  {
    name: "decimals",
    schema: { type: "object", properties: { price: { multipleOf: 0.01 } } },
    fits: { price: 19.99 },
    other: { price: 19.999 }
  }
] as const

const streamed: ReadonlyArray<readonly [path: string, body: (schema: object) => object, mismatch: RegExp]> = [
  [
    "/v1/chat/completions",
    (schema) => ({
      stream: true,
      messages: [{ role: "user", content: "Hi" }],
      response_format: { type: "json_schema", json_schema: { name: "a", schema } }
    }),
    /does not fit/
  ],
  [
    "/v1/responses",
    (schema) => ({ stream: true, input: "Hi", text: { format: { type: "json_schema", name: "a", schema } } }),
    /does not fit/
  ],
  [
    "/v1/messages",
    (schema) => ({
      stream: true,
      max_tokens: 100,
      messages: [{ role: "user", content: "Hi" }],
      output_format: { type: "json_schema", schema }
    }),
    /does not fit/
  ],
  ["/api/chat", (schema) => ({ messages: [{ role: "user", content: "Hi" }], format: schema }), /does not fit/],
  ["/api/generate", (schema) => ({ prompt: "Hi", format: schema }), /does not fit/]
]

describe.each(upstreams)("over %s", (_, start) => {
  it.each(odd)("the Promise functions validate replies with $name", async ({ fits, other, schema }) => {
    const server = await start({ reply: JSON.stringify(fits) })
    const cortex = fleet.cortex([server.url], { model })
    expect(await cortex.chat("Hi", { schema })).toEqual(fits)
    await server.setBehaviour({ reply: JSON.stringify(other) })
    expect(await failure(cortex.chat("Hi", { schema }))).toMatchObject({ _tag: "SchemaMismatch" })
    // The first, and one repair.
    expect(server.chatRequests).toHaveLength(3)
  })

  it.each(streamed)("%s: a stream is validated at its end", async (path, body, mismatch) => {
    for (const { fits, name, other, schema } of odd) {
      const server = await start({ reply: JSON.stringify(fits) })
      await using gateway = await startGateway([server.url])
      const good = await (await gateway.post(path, { model, ...body(schema) })).text()
      expect(good, name).not.toMatch(mismatch)
      await server.setBehaviour({ reply: JSON.stringify(other) })
      const bad = await (await gateway.post(path, { model, ...body(schema) })).text()
      expect(bad, name).toMatch(mismatch)
      expect(server.chatRequests).toHaveLength(2)
    }
  })

  it("a reply that is too costly to validate is not requested again", async () => {
    const server = await start({ reply: deep })
    const cortex = fleet.cortex([server.url], { model })
    const error = await failure(cortex.chat("Hi", { schema: doubling }))
    expect(error).toMatchObject({ _tag: "SchemaMismatch", text: deep })
    expect(String(error)).toContain("300000 steps")
    expect(server.chatRequests).toHaveLength(1)
    await using gateway = await startGateway([server.url])
    for (const [path, body] of streamed) {
      const before = server.chatRequests.length
      const response = await gateway.post(path, { model, ...body(doubling), stream: false })
      expect(response.status, path).toBe(422)
      expect(await response.text()).toContain("300000 steps")
      expect(server.chatRequests.length - before, path).toBe(1)
      const stream = await (await gateway.post(path, { model, ...body(doubling) })).text()
      expect(stream, path).toContain("300000 steps")
    }
  })

  it("a pattern that is used in many places counts once", async () => {
    const day = { type: "string", pattern: "^\\d{4}-(0[1-9]|1[0-2])-[0-3]\\d$" }
    const properties = Object.fromEntries(times(1_500, (i) => [`day${i}`, day]))
    const server = await start({ reply: '{"day7":"2026-11-29"}' })
    const cortex = fleet.cortex([server.url], { model })
    expect(await cortex.chat("Hi", { schema: { properties } })).toEqual({ day7: "2026-11-29" })
    const distinct = Object.fromEntries(times(1_500, (i) => [`day${i}`, { pattern: `${i}` }]))
    expect(await failure(cortex.chat("Hi", { schema: { properties: distinct } }))).toMatchObject({
      _tag: "InvalidRequest",
      reason: expect.stringContaining("patterns that are larger than 10000")
    })
  })

  it("schemas with too many subschemas are the request's fault", async () => {
    const server = await start({ reply: "[]" })
    const cortex = fleet.cortex([server.url], { model })
    for (const one of [{}, true, { not: {} }]) {
      const schema = { prefixItems: times(20_001, () => structuredClone(one)) }
      expect(await failure(cortex.chat("Hi", { schema }))).toMatchObject({
        _tag: "InvalidRequest",
        reason: expect.stringContaining("more than 20000 subschemas")
      })
    }
    expect(await cortex.chat("Hi", { schema: { prefixItems: times(19_999, () => ({})) } })).toEqual([])
  })

  it("patterns whose groups are nested too deeply are the request's fault", async () => {
    const server = await start({ reply: '"a"' })
    const cortex = fleet.cortex([server.url], { model })
    for (const open of ["(", "(?:", "(?<=", "(?=", "(?<n>"]) {
      for (const pattern of [`${open.repeat(1_500)}a${")".repeat(1_500)}`, `^${open.repeat(101)}a${")".repeat(101)}`]) {
        expect(await failure(cortex.chat("Hi", { schema: { pattern } })), pattern.slice(0, 10)).toMatchObject({
          _tag: "InvalidRequest"
        })
      }
    }
    const pattern = `${"(".repeat(100)}a${")".repeat(100)}|\\(+|[(]+`
    expect(await cortex.chat("Hi", { schema: { pattern } })).toBe("a")
  })
})
