import { Ajv } from "ajv"
import { Ajv2020 } from "ajv/dist/2020.js"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { describe, expect, it } from "vitest"
import type { JsonObject } from "../../src/ChatRequest.js"
import * as StructuredOutput from "../../src/StructuredOutput.js"
import * as Pattern from "../../src/structuredOutput/pattern.js"
import { make } from "../support/schemaGenerator.js"

// A longer run, with other cases: SCHEMA_SEED=7 SCHEMA_RUNS=20.
const seed = Number(process.env["SCHEMA_SEED"] ?? 1)
const runs = Number(process.env["SCHEMA_RUNS"] ?? 1)
const timeout = 120_000 * runs

const fits = async (schema: JsonObject, value: unknown): Promise<boolean> => {
  const decoder = await Effect.runPromise(StructuredOutput.fromJsonSchema(schema))
  return Either.isRight(decoder.decode(JSON.stringify(value)))
}

describe.each(["draft-07", "2020-12"] as const)("random schemas, %s", (dialect) => {
  it(
    "are judged as ajv judges them",
    async () => {
      const generator = make(seed)
      const options = { strict: false, validateFormats: false, ownProperties: true, logger: false } as const
      const found = { valid: 0, invalid: 0, endless: 0, broken: 0 }
      for (let i = 0; i < 400 * runs; i++) {
        const schema = generator.schema(dialect)
        const compiled = await Effect.runPromise(Effect.either(StructuredOutput.fromJsonSchema(schema)))
        if (Either.isLeft(compiled)) {
          // ajv would overflow the stack.
          expect(compiled.left.reason, JSON.stringify(schema)).toMatch(/no end/)
          found.endless++
          continue
        }
        const validate = (dialect === "draft-07" ? new Ajv(options) : new Ajv2020(options)).compile(schema)
        for (let j = 0; j < 8; j++) {
          const text = JSON.stringify(generator.value(schema))
          let expected: boolean
          try {
            expected = validate(JSON.parse(text))
          } catch {
            // What it keeps of evaluated properties is not always there.
            found.broken++
            continue
          }
          const decoded = compiled.right.decode(text)
          found[expected ? "valid" : "invalid"]++
          expect(Either.isRight(decoded), `${JSON.stringify(schema)}\n${text}`).toBe(expected)
        }
      }
      expect(found.valid).toBeGreaterThan(1_000 * runs)
      expect(found.invalid).toBeGreaterThan(1_000 * runs)
      expect(found.endless).toBeLessThan(100 * runs)
      expect(found.broken).toBeLessThan(50 * runs)
    },
    timeout
  )
})

describe("random patterns", () => {
  it(
    "match as JavaScript's do",
    () => {
      const generator = make(seed)
      const found = { matched: 0, not: 0 }
      for (let i = 0; i < 3_000 * runs; i++) {
        const source = generator.pattern()
        const native = new RegExp(source, "u")
        const pattern = Pattern.compile(source, () => {})
        for (let j = 0; j < 10; j++) {
          const text = generator.text()
          const expected = native.test(text)
          found[expected ? "matched" : "not"]++
          expect(pattern.test(text), `/${source}/u on ${JSON.stringify(text)}`).toBe(expected)
        }
      }
      expect(found.matched).toBeGreaterThan(5_000 * runs)
      expect(found.not).toBeGreaterThan(5_000 * runs)
    },
    timeout
  )
})

const empty = { "": 1 }

/** What the specification says where ajv says something else, or has no option for it. */
const spec: ReadonlyArray<readonly [name: string, schema: JsonObject, fit: Array<unknown>, not: Array<unknown>]> = [
  ["decimals have multiples", { multipleOf: 0.01 }, [0.07, 1.1, 19.99, 4.35, 1e21, 0], [0.075, 1.001, 1e-9]],
  ["small decimals have multiples", { multipleOf: 1e-7 }, [3e-7, 0.1, 1], [1e-8, 1.5e-7]],
  ["large numbers are no multiples by rounding", { multipleOf: 3 }, [9007199254740990], [2 ** 53, 1e300]],
  ["what overflows in a division", { multipleOf: 0.5 }, [1e308], [1e-308]],
  ["a property without a name", { required: [""], dependentRequired: { a: [""] } }, [empty, { ...empty, a: 1 }], [{}]],
  [
    "properties that objects inherit",
    { required: ["toString"], properties: { constructor: { type: "number" } } },
    [{ toString: 1, constructor: 2 }, { toString: null }],
    [{}, { toString: 1, constructor: "a" }]
  ],
  [
    "objects with properties that others inherit are compared",
    { enum: [{ toString: 1, constructor: { valueOf: 2 } }] },
    [{ constructor: { valueOf: 2 }, toString: 1 }],
    [{ toString: 1 }, { toString: 2, constructor: { valueOf: 2 } }]
  ],
  [
    "a property named __proto__",
    JSON.parse('{"properties":{"__proto__":{"type":"string"}},"additionalProperties":false}'),
    [JSON.parse('{"__proto__":"a"}'), {}],
    [JSON.parse('{"__proto__":1}')]
  ],
  ["contains and an empty array", { contains: true, prefixItems: [{}] }, [[1]], [[]]],
  ["minContains 0", { contains: false, minContains: 0 }, [[], [1]], []],
  [
    "what contains has found is evaluated",
    { contains: { type: "string" }, unevaluatedItems: false },
    [["a", "b"]],
    [["a", 1]]
  ],
  [
    "what a condition has looked at is evaluated, without branches, too",
    { if: { properties: { a: { const: 1 } } }, unevaluatedProperties: false },
    [{ a: 1 }, {}],
    [{ a: 2 }, { a: 1, b: 1 }]
  ],
  [
    "what a condition leaves out is not evaluated",
    { if: true, else: { items: true }, unevaluatedItems: false },
    [[]],
    [[1]]
  ],
  [
    "what a branch that does not hold has looked at is not evaluated",
    { anyOf: [{}, { items: { type: "integer" } }], unevaluatedItems: false },
    [[], [1]],
    [[null]]
  ],
  [
    "what unevaluatedItems has looked at is evaluated",
    { oneOf: [{ unevaluatedItems: true }], unevaluatedItems: false },
    [[[], {}]],
    []
  ],
  [
    "what a schema that depends on a property has looked at",
    { dependentSchemas: { a: { properties: { b: true } } }, properties: { a: true }, unevaluatedProperties: false },
    [{ a: 1, b: 1 }, { a: 1 }],
    [{ b: 1 }]
  ],
  [
    "what not has looked at is not evaluated",
    { not: { not: { properties: { a: true } } }, unevaluatedProperties: false },
    [{}],
    [{ a: 1 }]
  ],
  [
    "cousins do not see each other",
    { allOf: [{ properties: { a: true } }, { unevaluatedProperties: false }] },
    [{}],
    [{ a: 1 }]
  ],
  [
    "what a reference has looked at is evaluated",
    { $ref: "#/$defs/x", $defs: { x: { properties: { a: true } } }, unevaluatedProperties: false },
    [{ a: 1 }],
    [{ b: 1 }]
  ],
  [
    "a tree that is made strict from outside",
    {
      $id: "http://localhost/strict-tree",
      $dynamicAnchor: "node",
      $ref: "tree",
      unevaluatedProperties: false,
      $defs: {
        tree: {
          $id: "http://localhost/tree",
          $dynamicAnchor: "node",
          type: "object",
          properties: { data: true, children: { type: "array", items: { $dynamicRef: "#node" } } }
        }
      }
    },
    [{ children: [{ data: 1 }] }],
    [{ children: [{ daat: 1 }] }, { daat: 1 }]
  ],
  [
    "a list whose items are filled in from outside",
    {
      $id: "http://localhost/strings",
      $ref: "list",
      $defs: {
        item: { $dynamicAnchor: "T", type: "string" },
        list: {
          $id: "list",
          type: "array",
          items: { $dynamicRef: "#T" },
          $defs: { any: { $dynamicAnchor: "T" } }
        }
      }
    },
    [["a"]],
    [[1]]
  ],
  [
    "an anchor within a schema with an address of its own",
    {
      $defs: { a: { $id: "http://localhost/a", $defs: { b: { $anchor: "c", type: "integer" } } } },
      $ref: "http://localhost/a#c"
    },
    [1],
    ["a"]
  ],
  [
    "what looks like a reference in a value is none",
    { enum: [{ $ref: "#/nowhere" }], properties: { $ref: { type: "string" } } },
    [{ $ref: "#/nowhere" }],
    [{}]
  ],
  [
    "a reference to a property named $ref",
    { properties: { a: { $ref: "#/properties/$ref" }, $ref: { type: "string" } } },
    [{ a: "x" }],
    [{ a: 1 }]
  ],
  ["a number with a point that is whole", { type: "integer" }, [1.0, 1e20, -0], [1.5, "1"]],
  ["pairs of surrogates are one character", { maxLength: 2 }, ["😀😀", "e\u0301"], ["😀😀😀", "abc"]],
  [
    "numbers that are alike",
    { uniqueItems: true },
    [
      [1, true],
      [0, false],
      [{ a: 1 }, { a: true }],
      ["1", 1]
    ],
    [
      [1, 1.0],
      [-0, 0],
      [
        { a: 1, b: 2 },
        { b: 2, a: 1 }
      ]
    ]
  ]
]

describe("according to the specification", () => {
  it.each(spec)("%s", async (_, schema, fit, not) => {
    for (const value of fit) expect(await fits(schema, value), JSON.stringify(value)).toBe(true)
    for (const value of not) expect(await fits(schema, value), JSON.stringify(value)).toBe(false)
  })
})
