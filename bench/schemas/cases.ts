import type { JsonObject } from "../../src/ChatRequest.js"
import { type Generator, make } from "../../test/support/schemaGenerator.js"

/** A schema as JSON, and what the model says to it. */
export interface Case {
  readonly name: string
  readonly schema: string
  readonly reply: string
}

const times = <A>(n: number, one: (at: number) => A): Array<A> => Array.from({ length: n }, (_, at) => one(at))
const record = (n: number, one: (at: number) => unknown) => Object.fromEntries(times(n, (at) => [`k${at}`, one(at)]))
const bomb = (name: string, schema: unknown, reply: unknown): Case => ({
  name,
  schema: typeof schema === "string" ? schema : JSON.stringify(schema),
  reply: typeof reply === "string" ? reply : JSON.stringify(reply)
})
const a = (n: number): string => JSON.stringify(`${"a".repeat(n)}!`)
const nested = (open: string, close: string, n: number): string => `${open.repeat(n)}{}${close.repeat(n)}`

/** What is longer than a schema may be, up to nearly as long as a request may be. */
export const long: ReadonlyArray<() => Case> = [
  () => bomb("30 MB, one text", { description: "d".repeat(30e6) }, "{}"),
  () => bomb("30 MB, an enum of numbers", { enum: times(3_700_000, (at) => at) }, "1"),
  () => bomb("30 MB, an enum of objects", { enum: times(1_500_000, (at) => ({ a: at })) }, "{}"),
  () => bomb("30 MB, empty schemas", { prefixItems: times(9_000_000, () => ({})) }, "[]"),
  () => bomb("30 MB, properties", { properties: record(1_000_000, () => ({ type: "null" })) }, "{}"),
  () => bomb("30 MB, nested arrays", `{"const":${"[".repeat(1e6)}${"]".repeat(1e6)}}`, "1"),
  () => bomb("30 MB, nested schemas", nested('{"not":', "}", 3_500_000), "1")
]

export const short: ReadonlyArray<() => Case> = [
  ...[
    "^(a+)+$",
    "^(.|.)*\\u0000$",
    "(x+x+)+y",
    "^(a|aa)+$",
    "(.*)*[xy]$",
    "^(?!(a+)+$)",
    "(?:(?<=(?:a|b)*a)a){100}[xy]"
  ].map((pattern) => () => bomb(`pattern ${pattern}`, { pattern }, a(50_000))),
  () => bomb("a pattern with many states", { pattern: "(?:a?b?c?){600}[xy]$" }, a(500)),
  () => bomb("a pattern of groups", { pattern: `${"(".repeat(3_000)}a${")".repeat(3_000)}` }, a(10)),
  () => bomb("3,000 patterns", { properties: record(3_000, (at) => ({ pattern: `a${at % 10}` })) }, "{}"),
  () =>
    bomb(
      "patternProperties",
      { patternProperties: record(300, () => ({})) },
      record(5_000, () => 1)
    ),
  () => bomb("50,000 properties", { properties: record(50_000, () => ({ type: "string" })) }, "{}"),
  () => bomb("an enum of 500,000", { enum: times(500_000, (at) => at) }, "1"),
  () =>
    bomb(
      "20,000 subschemas",
      { prefixItems: times(19_900, () => ({})) },
      times(19_900, () => 1)
    ),
  () => bomb("80,000 subschemas", { prefixItems: times(80_000, () => ({})) }, "[]"),
  () =>
    bomb(
      "uniqueItems",
      { uniqueItems: true },
      times(50_000, (id) => ({ id, tags: [id, { id }] }))
    ),
  () =>
    bomb(
      "an enum of objects",
      { items: { enum: times(2_000, (id) => ({ id })) } },
      times(50_000, (id) => ({ id, b: [1] }))
    ),
  () => bomb("schemas that are nested", nested('{"not":', "}", 90), "1"),
  () => bomb("schemas that are nested too deeply", nested('{"properties":{"a":', "}}", 20_000), "1"),
  () => bomb("a reply that is nested", { items: { $ref: "#" } }, `${"[".repeat(20_000)}${"]".repeat(20_000)}`),
  () =>
    bomb(
      "references that double",
      {
        $defs: record(40, (at) => ({ allOf: times(2, () => ({ $ref: `#/$defs/k${Math.min(at + 1, 39)}` })) })),
        $ref: "#/$defs/k0"
      },
      "1"
    ),
  () =>
    bomb(
      "alternatives that double",
      { anyOf: times(2, (at) => ({ required: [`no${at}`], properties: { x: { $ref: "#" } } })) },
      `${'{"x":'.repeat(60)}1${"}".repeat(60)}`
    ),
  () =>
    bomb(
      "alternatives that double, and what was evaluated",
      { unevaluatedProperties: false, anyOf: times(2, () => ({ properties: { x: { $ref: "#" } } })) },
      `${'{"x":'.repeat(60)}1${"}".repeat(60)}`
    ),
  () => bomb("references in a circle", { $ref: "#/allOf/0", allOf: [{ $ref: "#" }] }, "1"),
  () =>
    bomb(
      "dynamic references",
      {
        prefixItems: times(2_400, (at) => ({
          $id: `http://x/${at}`,
          $dynamicAnchor: "n",
          items: { $dynamicRef: "#n" }
        }))
      },
      "[]"
    ),
  () => bomb("huge numbers", '{"minimum":1e400,"multipleOf":1e-300,"maxLength":1e308}', "1e308"),
  () =>
    bomb(
      "decimals",
      { items: { allOf: times(50, () => ({ multipleOf: 1e-300 })) } },
      times(20_000, (at) => 1e300 + 1e290 * at)
    ),
  () => bomb("a number of a million digits", `{"maximum":${"9".repeat(200_000)}}`, "9".repeat(1_000_000)),
  () =>
    bomb(
      "a reply of many keys",
      { enum: [{}], allOf: times(100, () => ({ minProperties: 1 })) },
      record(100_000, () => 1)
    ),
  () => bomb("a reply with fences", { type: "object" }, '```json\n{"a":1}\n'.repeat(3_000)),
  () => bomb("a reply with long keys", { allOf: times(500, () => ({ const: {} })) }, { ["k".repeat(500_000)]: 1 }),
  () =>
    bomb(
      "dependent schemas",
      { items: { dependentSchemas: record(3_000, () => ({})) } },
      times(5_000, () => ({}))
    ),
  () =>
    bomb(
      "names of Object.prototype",
      '{"properties":{"__proto__":{"type":"null"},"constructor":{}}}',
      '{"__proto__":{"a":1}}'
    )
]

const odd: ReadonlyArray<unknown> = [
  null,
  true,
  -1,
  1.5,
  1e308,
  "",
  "#",
  "(",
  "[",
  {},
  [],
  [null],
  { $ref: 1 },
  "\u0000",
  "a".repeat(5_000)
]

/** Something in it becomes something else. */
const mutate = (schema: JsonObject, { chance, pick }: Generator): JsonObject => {
  const change = (value: unknown): unknown => {
    if (chance(0.06)) return pick(odd)
    if (Array.isArray(value)) return value.map(change)
    if (typeof value !== "object" || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, one]) => [
        chance(0.03) ? pick(["pattern", "$ref", "items", "type", "enum"]) : key,
        change(one)
      ])
    )
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, change(value)]))
}

/** A long one in `longEvery`, bombs, schemas by chance, and mutated ones. */
export function* cases(seed: number, count: number, longEvery: number): Iterator<Case> {
  const generator = make(seed)
  for (let at = 0; at < count; at++) {
    const { chance, pick } = generator
    if (at % longEvery === longEvery - 1) yield (long[Math.floor(at / longEvery) % long.length] as () => Case)()
    else if (chance(0.15)) yield pick(short)()
    else {
      const schema = generator.schema(pick(["draft-07", "2020-12"] as const))
      const mutated = chance(0.4)
      const reply = chance(0.9) ? JSON.stringify(generator.value(schema)) : generator.text()
      yield bomb(mutated ? "mutated" : "by chance", mutated ? mutate(schema, generator) : schema, reply)
    }
  }
}
