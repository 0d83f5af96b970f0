import type { JsonObject } from "../../src/ChatRequest.js"
import * as Prng from "../../src/internal/prng.js"

/** Which keywords a schema may have. */
export type Dialect = "draft-07" | "2020-12"

/** Schemas and values by chance: equal seeds give equal ones. */
export interface Generator {
  readonly schema: (dialect: Dialect) => JsonObject
  /** A value, as a rule with something that `schema` asks for. */
  readonly value: (schema: JsonObject) => unknown
  readonly pattern: () => string
  readonly text: () => string
  readonly pick: <A>(from: ReadonlyArray<A>) => A
  readonly chance: (probability: number) => boolean
}

// Not "" nor what every object inherits, which ajv does not get right.
const keys = ["a", "b", "ab", "c1", "é", "😀", "a/b", "a~b", "length"]
const strings = ["", "a", "ab", "abc", "é", "e\u0301", "😀", "a😀b", "\ud83d", "1", "true", "a b", "constructor", "A\n"]
const integers = [0, -0, 1, -1, 2, 3, 4, 7, 10, 100, -12, 2 ** 31, 2 ** 53]
const fractions = [0.5, 1.5, -2.25, 0.75, 3.125, 1e-3]
const scalars: ReadonlyArray<unknown> = [...strings, ...integers, ...fractions, true, false, null]
const typeNames = ["string", "number", "integer", "boolean", "null", "array", "object"]
const patterns = ["a", "^a", "b$", "^[a-z]*$", "^.{2}$", "\\d", "^\\p{L}+$", "(ab|c)+", "^(?!a)", "\\s", "^$"]

/** What a value with a property or so of a schema is made of. */
interface Wishes {
  readonly names: ReadonlyArray<string>
  readonly values: ReadonlyArray<unknown>
}

const wishesOf = (schema: unknown): Wishes => {
  const names = new Set<string>()
  const values: Array<unknown> = []
  const visit = (at: unknown, depth: number): void => {
    if (typeof at !== "object" || at === null || depth > 12) return
    for (const [key, value] of Object.entries(at)) {
      if (key === "const") values.push(value)
      else if (key === "enum") values.push(...(value as ReadonlyArray<unknown>))
      else if (key === "required") for (const name of value as ReadonlyArray<string>) names.add(name)
      else if (/^(properties|dependentSchemas|dependentRequired|dependencies)$/.test(key)) {
        for (const name of Object.keys(value as object)) names.add(name)
      }
      visit(value, depth + 1)
    }
  }
  visit(schema, 0)
  return { names: [...names], values }
}

export const make = (seed: number): Generator => {
  const random = Prng.make(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const chance = (probability: number): boolean => random() < probability
  const pick = <A>(from: ReadonlyArray<A>): A => from[below(from.length)] as A
  const several = <A>(most: number, one: (at: number) => A): Array<A> =>
    Array.from({ length: below(most + 1) }, (_, at) => one(at))
  const some = <A>(most: number, one: (at: number) => A): Array<A> =>
    Array.from({ length: 1 + below(most) }, (_, at) => one(at))
  const distinct = <A>(from: ReadonlyArray<A>, most: number): Array<A> => [...new Set(some(most, () => pick(from)))]
  const record = <A>(names: ReadonlyArray<string>, one: (name: string) => A): { [name: string]: A } =>
    Object.fromEntries(names.map((name) => [name, one(name)]))

  const anyValue = (depth: number, { names, values }: Wishes): unknown => {
    if (values.length > 0 && chance(0.25)) return pick(values)
    const kind = depth <= 0 ? 0 : random()
    if (kind < 0.35) return pick(scalars)
    if (kind < 0.6) return several(4, () => anyValue(depth - 1, { names, values }))
    const from = names.length > 0 && chance(0.8) ? names : keys
    return record(distinct(from, 4), () => anyValue(depth - 1, { names, values }))
  }
  /** A schema must not list a value twice. */
  const unlike = (values: ReadonlyArray<unknown>) => [
    ...new Map(values.map((value) => [JSON.stringify(value), value])).values()
  ]
  const none: Wishes = { names: [], values: [] }

  // ---------------------------------------------------------------------------
  // patterns
  // ---------------------------------------------------------------------------

  const alphabet = ["a", "b", "z", "A", "0", "9", "_", "-", " ", "\n", "é", "ß", "\u2028", "\u00a0", "😀", "\ufeff"]
  const sets = ["\\d", "\\D", "\\w", "\\W", "\\s", "\\S", ".", "\\p{L}", "\\P{L}", "\\p{Lu}", "\\p{Script=Greek}"]
  const literals = ["a", "b", "z", "A", "0", "_", " ", "é", "😀", "\\n", "\\t", "\\u00e9", "\\u{1f600}", "\\.", "\\x61"]
  const range = (): string =>
    pick(["a-c", "A-Z", "0-9", "é-ü", "\\u{1f600}-\\u{1f64f}", "\\d", "\\s", "\\w", "\\P{L}", "_", "a"])
  const atom = (depth: number): string => {
    const kind = random()
    if (kind < 0.4 || depth <= 0) return pick(literals)
    if (kind < 0.55) return pick(sets)
    if (kind < 0.75) return `[${chance(0.3) ? "^" : ""}${some(3, range).join("")}]`
    return `${pick(["(", "(?:", "(?<n>"])}${alternatives(depth - 1)})`
  }
  const term = (depth: number): string => {
    if (chance(0.08)) return pick(["^", "$", "\\b"])
    return `${atom(depth)}${chance(0.4) ? pick(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?", "{0}"]) : ""}`
  }
  const sequence = (depth: number): string => several(3, () => term(depth)).join("")
  const alternatives = (depth: number): string => some(2, () => sequence(depth)).join("|")
  const pattern = (): string => {
    const conditions = several(chance(0.15) ? 2 : 0, () => `(?${pick(["=", "!"])}${alternatives(1)})`).join("")
    const source = conditions === "" ? alternatives(3) : `^${conditions}${sequence(2)}`
    // Two groups must not have one name.
    let named = 0
    return source.replaceAll("(?<n>", () => `(?<n${named++}>`)
  }
  const text = (): string => several(6, () => pick(alphabet)).join("")

  // ---------------------------------------------------------------------------
  // schemas
  // ---------------------------------------------------------------------------

  /** Whether what was evaluated counts. ajv does not get that right for conditions, `oneOf` and `contains`, nor items in branches. */
  let tracks: false | "properties" | "items" = false

  const subschema = (depth: number, dialect: Dialect): unknown =>
    chance(0.07) ? chance(0.7) : schemaOf(depth - 1, dialect)

  const reference = (dialect: Dialect): JsonObject => {
    if (dialect === "draft-07") return { $ref: pick(["#", "#/definitions/x", "#/definitions/y~0z"]) }
    return { $ref: pick(["#", "#/$defs/x", "#/$defs/y~0z", "#anchored"]) }
  }

  const count = (): number => below(4)

  const keywords = (depth: number, dialect: Dialect): JsonObject => {
    const one = () => subschema(depth, dialect)
    const rule = () => schemaOf(depth - 1, dialect)
    const choices: Array<() => JsonObject> = [
      () => ({ type: pick(typeNames) }),
      () => ({ type: distinct(typeNames, 3) }),
      () => ({ enum: distinct(scalars, 4) }),
      () => ({ enum: unlike(some(3, () => anyValue(2, none))) }),
      () => ({ const: chance(0.5) ? pick(scalars) : anyValue(2, none) }),
      () => ({ minimum: pick(integers) }),
      () => ({ maximum: pick([...integers, ...fractions]) }),
      () => ({ exclusiveMinimum: pick(integers) }),
      () => ({ exclusiveMaximum: pick(fractions) }),
      () => ({ multipleOf: pick([1, 2, 3, 0.5, 0.25, 7]) }),
      () => ({ minLength: count() }),
      () => ({ maxLength: count() }),
      () => ({ pattern: pick(patterns) }),
      () => ({ minItems: count() }),
      () => ({ maxItems: count() }),
      () => ({ uniqueItems: chance(0.9) }),
      () => ({ required: distinct(keys, 2) }),
      () => ({ minProperties: count() }),
      () => ({ maxProperties: count() }),
      () => ({ format: "email" })
    ]
    if (depth > 0) {
      const nested: Array<() => JsonObject> = [
        () => ({ properties: record(distinct(keys, 3), one) }),
        () => ({ properties: record(distinct(keys, 3), one), additionalProperties: one() }),
        () => ({ patternProperties: record(distinct(patterns, 2), one) }),
        () => ({ additionalProperties: one() }),
        () => ({ propertyNames: one() }),
        () => ({ items: one() }),
        () => ({ allOf: some(3, one) }),
        ...(tracks === "items" ? [] : [() => ({ anyOf: some(3, one) })]),
        () => ({ not: one() }),
        () => reference(dialect),
        ...(dialect === "draft-07"
          ? [
              () => ({ items: some(3, one) }),
              () => ({ items: some(3, one), additionalItems: one() }),
              () => ({ dependencies: { [pick(keys)]: one(), [pick(keys)]: distinct(keys, 2) } })
            ]
          : [
              () => ({ prefixItems: some(3, one) }),
              () => ({ prefixItems: some(3, one), items: one() }),
              () => ({ dependentRequired: record(distinct(keys, 2), () => distinct(keys, 2)) }),
              ...(tracks
                ? []
                : [
                    () => ({ contains: rule(), minContains: count() }),
                    () => ({ contains: rule(), minContains: count(), maxContains: count() }),
                    () => ({ dependentSchemas: record(distinct(keys, 2), one) })
                  ])
            ]),
        ...(tracks
          ? []
          : [
              () => ({ oneOf: some(3, one) }),
              () => ({ contains: rule() }),
              () => record(["if", "then"], one),
              () => record(["if", "else"], one),
              () => record(["if", "then", "else"], one)
            ])
      ]
      choices.push(...nested, ...nested)
    }
    return pick(choices)()
  }

  const schemaOf = (depth: number, dialect: Dialect): JsonObject => {
    const schema: JsonObject = Object.assign({}, ...some(depth > 1 ? 4 : 2, () => keywords(depth, dialect)))
    // ajv takes an empty array here, where another keyword held before.
    return "contains" in schema ? { ...schema, minItems: 1 } : schema
  }

  return {
    schema: (dialect) => {
      tracks = dialect === "2020-12" && chance(0.4) && pick(["properties", "items"] as const)
      const root = {
        ...schemaOf(3, dialect),
        ...(tracks === "properties" ? { unevaluatedProperties: chance(0.5) ? false : subschema(2, dialect) } : {}),
        ...(tracks === "items" ? { unevaluatedItems: chance(0.5) ? false : subschema(2, dialect) } : {})
      }
      const shared = { x: schemaOf(2, dialect), "y~z": schemaOf(1, dialect) }
      return dialect === "draft-07"
        ? { $schema: "http://json-schema.org/draft-07/schema#", ...root, definitions: shared }
        : { ...root, $defs: { ...shared, w: { ...schemaOf(1, dialect), $anchor: "anchored" } } }
    },
    value: (schema) => anyValue(3, wishesOf(schema)),
    pattern,
    text,
    pick,
    chance
  }
}
