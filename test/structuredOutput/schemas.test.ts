import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { JsonObject } from "../../src/ChatRequest.js"
import * as StructuredOutput from "../../src/StructuredOutput.js"

const read = (decoder: StructuredOutput.Decoder<unknown>, value: unknown) => decoder.decode(JSON.stringify(value))

/** A schema, what fits it, and what does not. */
type Row = readonly [name: string, schema: JsonObject, fits: ReadonlyArray<unknown>, others: ReadonlyArray<unknown>]

const draft = (version: string) => ({ $schema: `https://json-schema.org/draft/${version}/schema` })

const odd: ReadonlyArray<Row> = [
  [
    "recursion to the root",
    { type: "object", properties: { n: { type: "integer" }, next: { $ref: "#" } }, additionalProperties: false },
    [{}, { next: { next: { n: 1 } } }],
    [{ next: { next: { n: "1" } } }, { next: { other: 1 } }]
  ],
  [
    "recursion to the root in an array, with a $schema",
    { ...draft("2020-12"), type: ["array", "string"], items: { $ref: "#" } },
    ["a", [["a"], []]],
    [1, [["a"], [1]]]
  ],
  [
    "recursion through $defs",
    {
      $ref: "#/$defs/tree",
      $defs: {
        tree: {
          type: "object",
          properties: { kids: { type: "array", items: { $ref: "#/$defs/tree" } } },
          required: ["kids"]
        }
      }
    },
    [{ kids: [] }, { kids: [{ kids: [] }] }],
    [{}, { kids: [{}] }]
  ],
  [
    "mutual recursion, with draft-07's definitions",
    {
      $schema: "http://json-schema.org/draft-07/schema#",
      definitions: {
        a: { type: "object", properties: { b: { $ref: "#/definitions/b" } } },
        b: { type: "array", items: { $ref: "#/definitions/a" } }
      },
      $ref: "#/definitions/a"
    },
    [{ b: [{ b: [] }] }, {}],
    [{ b: [{ b: 1 }] }, []]
  ],
  [
    "keywords beside $ref",
    { $defs: { s: { type: "string" } }, properties: { x: { $ref: "#/$defs/s", minLength: 2, description: "x" } } },
    [{ x: "ab" }],
    [{ x: "a" }, { x: 12 }]
  ],
  [
    "$id and relative references",
    {
      $id: "https://example.com/root.json",
      properties: { a: { $ref: "item.json" }, b: { $ref: "https://example.com/item.json#/$defs/n" } },
      $defs: {
        item: { $id: "item.json", type: "array", items: { $ref: "#/$defs/n" }, $defs: { n: { type: "number" } } }
      }
    },
    [{ a: [1], b: 1 }],
    [{ a: ["1"] }, { b: "1" }]
  ],
  [
    "$anchor, and draft-07's $id that is one",
    {
      $defs: { a: { $anchor: "name", type: "string" }, b: { $id: "#old", type: "number" } },
      properties: { x: { $ref: "#name" }, y: { $ref: "#old" } }
    },
    [{ x: "a", y: 1 }],
    [{ x: 1 }, { y: "a" }]
  ],
  [
    "$dynamicRef",
    {
      ...draft("2020-12"),
      $id: "https://example.com/strict",
      $dynamicAnchor: "node",
      $ref: "tree",
      unevaluatedProperties: false,
      $defs: {
        tree: {
          $id: "tree",
          $dynamicAnchor: "node",
          type: "object",
          properties: { data: true, kids: { type: "array", items: { $dynamicRef: "#node" } } }
        }
      }
    },
    [{ data: 1, kids: [{ data: 2 }] }],
    [{ kids: [{ dat: 1 }] }, { dat: 1 }]
  ],
  [
    "$recursiveRef",
    { ...draft("2019-09"), $recursiveAnchor: true, type: "object", additionalProperties: { $recursiveRef: "#" } },
    [{ a: { b: {} } }],
    [{ a: { b: 1 } }]
  ],
  ["a pattern without the u flag: \\-", { pattern: "^[\\w\\-_]+$" }, ["a-b_c"], ["a b", ""]],
  ["a pattern without the u flag: \\_", { pattern: "\\_" }, ["a_"], ["a"]],
  ["a pattern without the u flag: \\.-]", { pattern: "^[a-z\\.-]$" }, ["-", "."], ["A"]],
  ["a pattern without the u flag: a brace", { pattern: "^{\\w+}$" }, ["{a}"], ["a"]],
  ["a pattern beyond the first plane", { pattern: "^😀\\_.$" }, ["😀_😀"], ["😀_"]],
  [
    "patternProperties",
    { patternProperties: { "^x\\-": { type: "number" } }, additionalProperties: false },
    [{ "x-a": 1 }],
    [{ "x-a": "1" }, { y: 1 }]
  ],
  ["lookaheads at the beginning", { pattern: "^(?=.*\\d)(?!.*\\s).{3,}$" }, ["ab1"], ["abc", "a 1", "a1"]],
  ["JavaScript's blanks, and its dot", { pattern: "^\\s.$" }, ["\u00a0x"], ["a.", " \r", " \u2028"]],
  ["JavaScript's end of text", { pattern: "^a$" }, ["a"], ["a\n"]],
  ["what other engines know as syntax", { pattern: "^[[:alpha:]]\\A$" }, [":]A"], ["aA"]],
  ["Unicode properties", { pattern: "^\\p{Script=Greek}\\p{Letter}\\P{L}$" }, ["αb1"], ["abc"]],
  ["a format, which is a remark", { type: "string", format: "email" }, ["no address"], [1]],
  ["a format that nobody knows", { type: "string", format: "made-up" }, ["x"], [1]],
  ["nullable", { type: "string", nullable: true }, ["x", null], [1]],
  ["boolean schemas", { properties: { a: true, b: false }, additionalProperties: true }, [{ a: 1, c: 1 }], [{ b: 1 }]],
  [
    "const",
    { properties: { a: { const: { x: [1, null] } } } },
    [{ a: { x: [1, null] } }],
    [{ a: { x: [1] } }, { a: null }]
  ],
  [
    "const null and enum of several types",
    { anyOf: [{ const: null }, { enum: [1, "a", [true]] }] },
    [null, 1, "a", [true]],
    [0, "b", [false]]
  ],
  [
    "a tuple of draft-07",
    { type: "array", items: [{ type: "string" }, { type: "number" }], additionalItems: false },
    [["a", 1], ["a"]],
    [[1], ["a", 1, 2]]
  ],
  [
    "prefixItems without $schema",
    { type: "array", prefixItems: [{ type: "string" }], items: false },
    [["a"], []],
    [[1], ["a", "b"]]
  ],
  [
    "unevaluatedProperties",
    {
      allOf: [{ properties: { a: true } }],
      if: { required: ["b"] },
      // biome-ignore lint/suspicious/noThenProperty: the keyword is called so.
      then: { properties: { b: { type: "number" } } },
      unevaluatedProperties: false
    },
    [{ a: 1, b: 1 }, {}],
    [{ c: 1 }, { a: 1, b: 1, c: 1 }]
  ],
  [
    "unevaluatedItems",
    { ...draft("2020-12"), prefixItems: [true], contains: { type: "string" }, unevaluatedItems: false },
    [[1, "a"], ["a"]],
    [[1, 2, "a"]]
  ],
  [
    "dependentRequired, and dependencies as they were",
    { dependentRequired: { a: ["b"] }, dependencies: { c: ["d"], e: { required: ["f"] } } },
    [{ a: 1, b: 1 }, { d: 1 }],
    [{ a: 1 }, { c: 1 }, { e: 1 }]
  ],
  ["draft-04's exclusive bounds", { minimum: 1, exclusiveMinimum: true }, [2], [1]],
  ["multiples of a fraction", { multipleOf: 0.01 }, [0.07, 19.99], [0.075]],
  [
    "a property called __proto__",
    { properties: JSON.parse('{"__proto__":{"type":"string"}}'), required: ["__proto__"] },
    [JSON.parse('{"__proto__":"a"}')],
    [{}, JSON.parse('{"__proto__":1}')]
  ],
  [
    "a reference into an odd place",
    {
      properties: { a: { $ref: "#/components/schemas/x~1y" } },
      components: { schemas: { "x/y": { type: "number" } } }
    },
    [{ a: 1 }],
    [{ a: "1" }]
  ]
]

describe("odd but valid schemas", () => {
  for (const [name, schema, fits, others] of odd) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const decoder = yield* StructuredOutput.fromJsonSchema(schema)
        for (const value of fits) {
          const decoded = read(decoder, value)
          assert.isTrue(Either.isRight(decoded), `${JSON.stringify(value)}: ${JSON.stringify(decoded)}`)
        }
        for (const value of others) assert.isTrue(Either.isLeft(read(decoder, value)), JSON.stringify(value))
      })
    )
  }
})

const times = <A>(n: number, make: (i: number) => A): Array<A> => Array.from({ length: n }, (_, i) => make(i))
const nested = (depth: number): JsonObject => (depth === 0 ? {} : { items: nested(depth - 1) })

const refused: ReadonlyArray<readonly [name: string, schema: JsonObject, reason: RegExp]> = [
  [
    "an invalid pattern",
    { properties: { a: { pattern: "(" } } },
    /pattern '\(', which is not a valid regular expression: Unterminated group/
  ],
  ["an invalid pattern for properties", { patternProperties: { "a**": {} } }, /pattern 'a\*\*', .*Nothing to repeat/],
  ["a backreference", { pattern: "(a)\\1" }, /pattern '\(a\)\\1', with a backreference/],
  ["a lookahead in the middle", { pattern: "a(?!b)c" }, /pattern 'a\(\?!b\)c', with a lookahead/],
  [
    "too many repetitions",
    { pattern: "^.{0,5000}$" },
    /repeats something more than 1000 times: use minLength and maxLength/
  ],
  [
    "repetitions of repetitions",
    { pattern: "((a{1,100}){1,100}){1,100}" },
    /patterns that are larger than 10000 characters/
  ],
  [
    "many large patterns",
    { allOf: times(20, (i) => ({ pattern: `x${i}.{900}` })) },
    /patterns that are larger than 10000 characters/
  ],
  ["a reference to itself", { $ref: "#" }, /refers to itself .*no end/],
  [
    "references in a circle",
    { $defs: { a: { allOf: [{ $ref: "#/$defs/b" }] }, b: { anyOf: [{ $ref: "#/$defs/a" }] } }, $ref: "#/$defs/a" },
    /no end/
  ],
  [
    "another document",
    { $ref: "https://example.com/other" },
    /refers to 'https:\/\/example.com\/other', which is another document/
  ],
  ["nothing at the other end", { $ref: "#/$defs/none" }, /refers to '#\/\$defs\/none', which is not in it/],
  [
    "50,000 properties",
    { properties: Object.fromEntries(times(50_000, (i) => [`p${i}`, { type: "string" }])) },
    /longer than 262144 bytes/
  ],
  ["an enum of 500,000", { enum: times(500_000, (i) => i) }, /longer than 262144 bytes/],
  ["characters of several bytes", { description: "漢".repeat(90_000) }, /longer than 262144 bytes/],
  ["too deep", nested(120), /nested deeper than 100 levels/],
  [
    "references that double",
    {
      $defs: Object.fromEntries(
        times(40, (i) => [`d${i}`, i === 39 ? {} : { allOf: times(2, () => ({ $ref: `#/$defs/d${i + 1}` })) }])
      ),
      $ref: "#/$defs/d0"
    },
    /combines more than 20000 schemas for one value/
  ],
  [
    "a long chain of references",
    {
      $defs: Object.fromEntries(times(500, (i) => [`d${i}`, i === 499 ? {} : { $ref: `#/$defs/d${i + 1}` }])),
      $ref: "#/$defs/d0"
    },
    /more than 200 references/
  ],
  ["a type that is none", { type: "strnig" }, /'type', which must be one of string, number/],
  [
    "keywords of the wrong form",
    { properties: { a: { required: "b" } } },
    /'required', which must be an array of strings/
  ]
]

describe("schemas that are refused", () => {
  for (const [name, schema, reason] of refused) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(StructuredOutput.fromJsonSchema(schema))
        assert.strictEqual(error._tag, "InvalidRequest")
        assert.strictEqual(error.field, "schema")
        assert.match(error.reason, reason)
        assert.isBelow(error.reason.length, 400)
      })
    )
  }

  it.effect("the limit of their length is configurable", () =>
    Effect.gen(function* () {
      const schema = { enum: times(1000, (i) => `a value with the number ${i}`) }
      assert.match(
        (yield* Effect.flip(StructuredOutput.fromJsonSchema(schema, { maxBytes: 1000 }))).reason,
        /1000 bytes/
      )
      yield* StructuredOutput.fromJsonSchema(schema)
      // One that was taken before is refused all the same.
      assert.match(
        (yield* Effect.flip(StructuredOutput.fromJsonSchema(schema, { maxBytes: 1000 }))).reason,
        /1000 bytes/
      )
      const large = { enum: times(100_000, (i) => i) }
      const decoder = yield* StructuredOutput.fromJsonSchema(large, { maxBytes: 2 ** 20 })
      assert.isTrue(Either.isRight(decoder.decode("99999")))
    })
  )
})

/** Schemas and replies that would take for ever: whether the reply fits, or that nobody knows. */
const costly: ReadonlyArray<readonly [name: string, schema: JsonObject, reply: unknown, fits: boolean | "unknown"]> = [
  ["^(a+)+$", { pattern: "^(a+)+$" }, `${"a".repeat(50_000)}!`, false],
  ["^(a+)+$, which fits", { pattern: "^(a+)+$" }, "a".repeat(50_000), true],
  ["^(.|.)*\\u0000$", { pattern: "^(.|.)*\\u0000$" }, "a".repeat(50_000), false],
  ["(x+x+)+y", { pattern: "(x+x+)+y" }, "x".repeat(50_000), false],
  ["^(\\w+\\s?)*$", { patternProperties: { "^(\\w+\\s?)*$": false } }, { [`${"a".repeat(30_000)}!`]: 1 }, true],
  ["a lookahead of that kind", { pattern: "^(?!(a+)+$)" }, `${"a".repeat(30_000)}!`, true],
  ["a pattern with many states", { pattern: "^(?:a?){900}a{900}$" }, "a".repeat(200_000), "unknown"],
  ["uniqueItems", { uniqueItems: true }, times(20_000, (i) => ({ id: i, tags: [i] })), true],
  ["uniqueItems with two alike", { uniqueItems: true }, times(20_000, (i) => ({ id: Math.min(i, 19_998) })), false],
  [
    "a long enum for many items",
    { items: { enum: times(20_000, (i) => `v${i}`) } },
    times(20_000, (i) => `v${i}`),
    true
  ],
  [
    "2,000 properties",
    { properties: Object.fromEntries(times(2_000, (i) => [`p${i}`, { type: "string" }])) },
    {},
    true
  ],
  [
    "alternatives that double with every level",
    {
      $defs: { a: { anyOf: times(2, (i) => ({ required: [`no${i}`], properties: { x: { $ref: "#/$defs/a" } } })) } },
      $ref: "#/$defs/a"
    },
    JSON.parse(`${'{"x":'.repeat(60)}1${"}".repeat(60)}`),
    "unknown"
  ],
  [
    "a reply that is nested deeply",
    { items: { $ref: "#" } },
    JSON.parse(`${"[".repeat(2_000)}${"]".repeat(2_000)}`),
    "unknown"
  ],
  ["a reply of many properties", {}, Object.fromEntries(times(60_000, (i) => [`k${i}`, 1])), "unknown"],
  [
    "a reply of fewer, with colons in texts",
    {},
    { ...Object.fromEntries(times(40_000, (i) => [`k${i}`, 1])), a: '":,'.repeat(90_000) },
    true
  ],
  ["a reply of many items", { type: "array" }, times(200_002, () => 1), "unknown"],
  [
    "many patterns for many names",
    { patternProperties: Object.fromEntries(times(300, (i) => [`^k${i}(a|b)*$`, { type: "number" }])) },
    Object.fromEntries(times(5_000, (i) => [`k${i}ab`, 1])),
    "unknown"
  ]
]

describe("the cost of a schema", () => {
  for (const [name, schema, reply, fits] of costly) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const decoder = yield* StructuredOutput.fromJsonSchema(schema)
        const text = JSON.stringify(reply)
        const began = performance.now()
        const decoded = decoder.decode(text)
        const took = performance.now() - began
        if (fits === "unknown") {
          if (Either.isRight(decoded)) assert.fail("it was checked")
          assert.match(decoded.left[0]?.message ?? "", /^the reply cannot be checked against the schema, because it /)
        } else {
          assert.strictEqual(Either.isRight(decoded), fits)
          if (Either.isLeft(decoded)) assert.notMatch(decoded.left[0]?.message ?? "", /cannot be checked/)
        }
        // Without bounds each of them takes seconds, and most of them years.
        assert.isBelow(took, 1_500)
      })
    )
  }
})
