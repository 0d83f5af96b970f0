import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import type { JsonObject } from "../../src/ChatRequest.js"
import * as StructuredOutput from "../../src/StructuredOutput.js"

const value = (text: string): unknown =>
  Either.getOrThrowWith(StructuredOutput.parse(text), (e) => new Error(JSON.stringify(e)))
const problem = (text: string): string => {
  const parsed = StructuredOutput.parse(text)
  if (Either.isRight(parsed)) assert.fail(`parsed: ${JSON.stringify(parsed.right)}`)
  assert.lengthOf(parsed.left, 1)
  assert.strictEqual(parsed.left[0]?.path, "")
  return parsed.left[0]?.message ?? ""
}
const issues = <A>(decoder: StructuredOutput.Decoder<A>, input: unknown) =>
  Either.match(decoder.decode(JSON.stringify(input)), {
    onLeft: (left) => left,
    onRight: () => []
  })
const accepts = <A>(decoder: StructuredOutput.Decoder<A>, input: unknown) =>
  Either.isRight(decoder.decode(JSON.stringify(input)))

describe("parse", () => {
  it("accepts plain JSON of every kind", () => {
    assert.deepStrictEqual(value(' \n{"a":[1,null]}\n'), { a: [1, null] })
    assert.deepStrictEqual(value("\uFEFF[1,2]"), [1, 2])
    assert.strictEqual(value("null"), null)
    assert.strictEqual(value('"```"'), "```")
  })

  it("accepts fenced JSON", () => {
    for (const text of [
      '```json\n{"a":1}\n```',
      '```\n{"a":1}\n```',
      '```JSON\r\n{"a":1}\r\n```\r\n',
      '```json {"a":1} ```',
      '```{"a":1}```',
      'Here it is:\n\n```json\n{"a":1}\n```\nAnything else?',
      'Here it is:\n  ```json5\n  {"a":1}\n  ```',
      '\uFEFF```json\n{"a":1}\n```',
      '```json\n{"a":1}',
      'Run `x`:\n```json\n{"a":1}\n```\n```sh\nls\n```',
      '```sh\nls\n```\nprints\n```json\n{"a":1}\n```'
    ]) {
      assert.deepStrictEqual(value(text), { a: 1 }, text)
    }
    assert.deepStrictEqual(value("```json\n[1]\n```"), [1])
  })

  it("never edits the content of strings when removing a fence", () => {
    const code = { code: "```json\n{}\n```", more: "``` and ```" }
    assert.deepStrictEqual(value(JSON.stringify(code)), code)
    assert.deepStrictEqual(value(`Sure:\n\`\`\`json\n${JSON.stringify(code, null, 2)}\n\`\`\`\nDone.`), code)
  })

  it("reports why a text is not JSON", () => {
    assert.match(problem("The capital is Berlin."), /^the reply is not JSON: /)
    assert.match(problem('{"a":1'), /^the reply is not JSON: /)
    assert.match(problem("```json\n{a:1}\n```"), /^the reply is not JSON: /)
    assert.strictEqual(problem("  "), "the reply is empty, not JSON")
    assert.strictEqual(problem("```json\n1\n```\nor\n```json\n2\n```"), "the reply holds more than one JSON value")
    assert.match(problem('{"a":1} {"b":2}'), /not JSON/)
    assert.match(problem("`".repeat(100_000)), /not JSON/)
  })

  it("any JSON value survives stringify, fence and parse", () => {
    const string = fc.oneof(fc.string(), fc.constantFrom("```", "```json\n{}\n```", "\n```\n", "\uFEFF", '\\```"', "`"))
    const json = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        string,
        fc.constant(null),
        fc.boolean(),
        fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
        fc.array(tie("value"), { maxLength: 4 }),
        fc.array(fc.tuple(string, tie("value")), { maxLength: 4 }).map((entries) => Object.fromEntries(entries))
      )
    })).value
    const wrap = fc.constantFrom<(json: string) => string>(
      (body) => body,
      (body) => `\uFEFF\n${body}\n`,
      (body) => `\`\`\`json\n${body}\n\`\`\``,
      (body) => `\`\`\`\n${body}\n\`\`\``,
      (body) => `Here you are:\n\n\`\`\`json\n${body}\n\`\`\`\n\nTell me if it's \`fine\`.`
    )
    fc.assert(
      fc.property(json, wrap, fc.constantFrom(undefined, 2, "\t"), (input, wrapped, indent) => {
        const text = JSON.stringify(input, null, indent)
        assert.deepStrictEqual(value(wrapped(text)), JSON.parse(text))
      }),
      { numRuns: 2000 }
    )
  })
})

describe("prompts", () => {
  it("the instruction follows the caller's own system prompt", () => {
    assert.strictEqual(StructuredOutput.withInstruction(), "Respond only with valid JSON. No prose, no markdown.")
    assert.strictEqual(
      StructuredOutput.withInstruction("You are terse."),
      "You are terse.\nRespond only with valid JSON. No prose, no markdown."
    )
  })

  it("the repair prompt names every issue, up to a limit", () => {
    const prompt = StructuredOutput.repairPrompt([
      { path: "", message: "the reply is empty" },
      { path: "a.0", message: "must be a number" }
    ])
    assert.include(prompt, "- the reply is empty\n- a.0: must be a number\n")
    assert.include(prompt, StructuredOutput.instruction)
    const many = Array.from({ length: 500 }, (_, i) => ({ path: `p${i}`, message: "wrong" }))
    assert.isBelow(StructuredOutput.repairPrompt(many).length, 1000)
  })
})

describe("fromSchema", () => {
  const Person = Schema.Struct({
    name: Schema.NonEmptyString,
    age: Schema.Int,
    born: Schema.optional(Schema.Date),
    tags: Schema.Array(Schema.Literal("a", "b"))
  }).annotations({ identifier: "Person" })

  it("sends a schema without references", () => {
    const { jsonSchema } = StructuredOutput.fromSchema(Person)
    assert.notInclude(JSON.stringify(jsonSchema), "$")
    assert.deepInclude(jsonSchema, { type: "object", required: ["name", "age", "tags"], additionalProperties: false })
    assert.deepNestedInclude(jsonSchema, { "properties.age.type": "integer" })
    assert.notInclude(
      JSON.stringify(StructuredOutput.fromSchema(Schema.Struct({ x: Schema.Unknown })).jsonSchema),
      "$id"
    )
  })

  it("keeps recursion as references", () => {
    interface Tree {
      readonly name: string
      readonly kids: ReadonlyArray<Tree>
      readonly other: { readonly n: number }
    }
    const Tree: Schema.Schema<Tree> = Schema.Struct({
      name: Schema.String,
      kids: Schema.Array(Schema.suspend(() => Tree)),
      other: Schema.Struct({ n: Schema.Int })
    }).annotations({ identifier: "Tree" })
    const { jsonSchema } = StructuredOutput.fromSchema(Tree)
    assert.strictEqual(jsonSchema?.["type"], "object")
    assert.deepEqual(Object.keys(jsonSchema?.["$defs"] ?? {}), ["Tree"])
    assert.deepNestedInclude(jsonSchema, { "properties.kids.items.$ref": "#/$defs/Tree" })
    const wrapped = StructuredOutput.fromSchema(Schema.Struct({ root: Tree })).jsonSchema
    assert.deepNestedInclude(wrapped, { "properties.root.$ref": "#/$defs/Tree" })
    assert.deepNestedInclude(wrapped, { "$defs.Tree.properties.other.properties.n.type": "integer" })
    return Effect.runPromise(
      Effect.map(StructuredOutput.fromJsonSchema(wrapped ?? {}), (decoder) => {
        const leaf = { name: "b", kids: [], other: { n: 1 } }
        assert.isTrue(accepts(decoder, { root: { name: "a", kids: [leaf], other: { n: 1 } } }))
        assert.isFalse(accepts(decoder, { root: { name: "a", kids: [{ ...leaf, name: 1 }], other: { n: 1 } } }))
      })
    )
  })

  it("decodes, also fenced, and reports every issue with its path", () => {
    const decoder = StructuredOutput.fromSchema(Person)
    const decoded = decoder.decode('```json\n{"name":"Ann","age":3,"born":"2020-01-02T00:00:00Z","tags":["a"]}\n```')
    assert.deepStrictEqual(Either.getOrThrow(decoded).born, new Date("2020-01-02T00:00:00Z"))
    assert.deepEqual(
      issues(decoder, { name: "", age: 1.5, tags: ["a", "c"] }).map(({ path }) => path),
      ["name", "age", "tags.1", "tags.1"]
    )
    assert.deepEqual(
      issues(decoder, 1).map(({ path }) => path),
      [""]
    )
  })

  it("validates top-level arrays", () => {
    const decoder = StructuredOutput.fromSchema(Schema.Array(Schema.Int))
    assert.isTrue(accepts(decoder, [1, 2]))
    assert.deepEqual(
      issues(decoder, [1, "x"]).map(({ path }) => path),
      ["1"]
    )
  })

  it("is created once per schema, and validates what JSON Schema cannot express", () => {
    assert.strictEqual(StructuredOutput.fromSchema(Person), StructuredOutput.fromSchema(Person))
    const odd = StructuredOutput.fromSchema(Schema.Struct({ x: Schema.BigIntFromSelf }))
    assert.isUndefined(odd.jsonSchema)
    assert.isFalse(accepts(odd, { x: 1 }))
  })
})

describe("fromJsonSchema", () => {
  const make = (schema: JsonObject) => StructuredOutput.fromJsonSchema(schema)

  it.effect("validates objects and top-level arrays", () =>
    Effect.gen(function* () {
      const schema = {
        type: "object",
        properties: { capital: { type: "string" }, population: { type: "integer" }, in: { enum: ["EU", "NA"] } },
        required: ["capital", "population"],
        additionalProperties: false
      }
      const decoder = yield* make(schema)
      assert.strictEqual(decoder.jsonSchema, schema)
      assert.deepStrictEqual(Either.getOrThrow(decoder.decode('{"capital":"Berlin","population":84000000}')), {
        capital: "Berlin",
        population: 84000000
      })
      assert.deepEqual(issues(decoder, { capital: 1, in: "AS", "a/b": 1 }), [
        { path: "", message: "must have required property 'population'" },
        { path: "capital", message: "must be string" },
        { path: "in", message: 'must be equal to one of the allowed values: ["EU","NA"]' },
        { path: "", message: 'must NOT have additional properties: "a/b"' }
      ])
      const list = yield* make({ type: "array", items: { properties: { "a/b": { type: "number" } } } })
      assert.isTrue(accepts(list, [{ "a/b": 1 }]))
      assert.deepEqual(issues(list, [{}, { "a/b": "x" }]), [{ path: "1.a/b", message: "must be number" }])
    })
  )

  it.effect("reads the dialect from $schema", () =>
    Effect.gen(function* () {
      const tuple = { type: "array", prefixItems: [{ type: "string" }], items: false }
      const modern = yield* make({ $schema: "https://json-schema.org/draft/2020-12/schema", ...tuple })
      assert.isTrue(accepts(modern, ["a"]))
      assert.isFalse(accepts(modern, [1]))
      assert.isFalse(accepts(modern, ["a", "b"]))
      const middle = yield* make({
        $schema: "https://json-schema.org/draft/2019-09/schema",
        properties: { a: true },
        unevaluatedProperties: false
      })
      assert.isFalse(accepts(middle, { b: 1 }))
      for (const $schema of ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-06/schema#"]) {
        const old = yield* make({ $schema, type: "array", items: [{ type: "string" }], additionalItems: false })
        assert.isTrue(accepts(old, ["a"]))
        assert.isFalse(accepts(old, ["a", "b"]))
      }
    })
  )

  it.effect("is created once per object, and the same $id may be reused", () =>
    Effect.gen(function* () {
      const schema = { $id: "https://example.com/s", type: "integer" }
      assert.strictEqual(yield* make(schema), yield* make(schema))
      const other = yield* make({ $id: "https://example.com/s", type: "string" })
      assert.isTrue(accepts(other, "x"))
      assert.isFalse(accepts(other, 1))
    })
  )

  it.effect("a bad schema is an invalid request", () =>
    Effect.gen(function* () {
      for (const schema of [
        { type: "strnig" },
        { properties: 1 },
        { $ref: "#/definitions/none" },
        { $ref: "https://example.com/other" },
        { pattern: "(" }
      ]) {
        const error = yield* Effect.flip(make(schema))
        assert.strictEqual(error._tag, "InvalidRequest")
        assert.strictEqual(error.field, "schema")
        assert.isNotEmpty(error.reason)
      }
      // One that takes the name of its dialect spoils nothing for the next.
      yield* make({ $id: "http://json-schema.org/draft-07/schema#", type: "object" })
      assert.isTrue(accepts(yield* make({ type: "string", format: "made-up" }), "x"))
    })
  )

  it.effect("invalid JSON is an issue, not an exception", () =>
    Effect.gen(function* () {
      const decoder = yield* make({ type: "object" })
      assert.isTrue(Either.isLeft(decoder.decode("Sorry, no.")))
      assert.isTrue(Either.isRight(StructuredOutput.any.decode('"any"')))
    })
  )
})
