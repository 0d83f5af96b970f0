/** The schema keywords, except those that need to know the whole schema. */

import { isObject } from "../internal/isObject.js"
import { type Check, type CheckRun, EvaluatedKeys, type Node, show } from "./check.js"
import { canonical, InvalidSchemaError } from "./limits.js"
import type { SchemaObject } from "./references.js"

// =============================================================================
// Scalars
// =============================================================================

const types: { readonly [name: string]: (value: unknown) => boolean } = {
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number" && Number.isFinite(value),
  integer: Number.isInteger,
  boolean: (value) => typeof value === "boolean",
  null: (value) => value === null,
  array: Array.isArray,
  object: isObject
}

/** The decimal digits of a number, and their exponent. */
const digitsOf = (value: number): readonly [digits: bigint, exponent: number] => {
  const [mantissa = "", exponent = "0"] = String(value).split("e")
  const [whole = "", fraction = ""] = mantissa.split(".")
  return [BigInt(whole + fraction), Number(exponent) - fraction.length]
}

/** In decimals, because 0.07 is 7.000000000000001 times 0.01 in binary. */
const isMultiple = (value: number, of: number, run: CheckRun): boolean => {
  if (Number.isSafeInteger(value) && Number.isSafeInteger(of)) return value % of === 0
  if (!Number.isFinite(value)) return false
  const [left, leftExponent] = digitsOf(value)
  const [right, rightExponent] = digitsOf(of)
  const exponent = Math.min(leftExponent, rightExponent)
  run.spend(4 + Math.abs(leftExponent - rightExponent) / 8)
  const scaled = (digits: bigint, own: number) => digits * 10n ** BigInt(own - exponent)
  return scaled(left, leftExponent) % scaled(right, rightExponent) === 0n
}

/** Length in code points. */
const lengthOf = (text: string): number => {
  let length = text.length
  for (let at = 0; at < text.length - 1; at++) {
    if ((text.charCodeAt(at) & 0xfc00) === 0xd800 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00) {
      length--
      at++
    }
  }
  return length
}

type Bound = readonly [
  message: (limit: number) => string,
  holds: (size: number, limit: number, run: CheckRun) => boolean
]
const atLeast = (what: string): Bound => [(n) => `must NOT have fewer than ${n} ${what}`, (size, n) => size >= n]
const atMost = (what: string): Bound => [(n) => `must NOT have more than ${n} ${what}`, (size, n) => size <= n]

const numbers: { readonly [keyword: string]: Bound } = {
  minimum: [(n) => `must be >= ${n}`, (value, n) => value >= n],
  maximum: [(n) => `must be <= ${n}`, (value, n) => value <= n],
  exclusiveMinimum: [(n) => `must be > ${n}`, (value, n) => value > n],
  exclusiveMaximum: [(n) => `must be < ${n}`, (value, n) => value < n],
  multipleOf: [(n) => `must be multiple of ${n}`, isMultiple]
}
const lengths = { minLength: atLeast("characters"), maxLength: atMost("characters") }
const counts = { minItems: atLeast("items"), maxItems: atMost("items") }
const sizes = { minProperties: atLeast("properties"), maxProperties: atMost("properties") }

/** The unit of cost: this many characters, or pattern states. */
export const stepOf = 64

const spelling = (value: unknown): string => canonical(value, () => {})

// =============================================================================
// Forms of keywords
// =============================================================================

/** The compiled schema of a keyword. */
export type Of = (value: unknown, keyword: string) => Node

export const wrong = (keyword: string, must: string): never => {
  throw new InvalidSchemaError(`has '${keyword.length > 100 ? `${keyword.slice(0, 100)}…` : keyword}', which ${must}`)
}

export const text = (schema: SchemaObject, keyword: string): string | undefined => {
  const value = schema[keyword]
  return value === undefined || typeof value === "string" ? value : wrong(keyword, "must be a string")
}

export const record = (schema: SchemaObject, keyword: string): SchemaObject => {
  const value = schema[keyword]
  return value === undefined ? {} : isObject(value) ? value : wrong(keyword, "must be an object")
}

const list = (schema: SchemaObject, keyword: string): ReadonlyArray<unknown> | undefined => {
  const value = schema[keyword]
  return value === undefined || Array.isArray(value) ? value : wrong(keyword, "must be an array")
}

const strings = (value: unknown, keyword: string): ReadonlyArray<string> =>
  Array.isArray(value) && value.every((one) => typeof one === "string")
    ? value
    : wrong(keyword, "must be an array of strings")

// =============================================================================
// Keywords
// =============================================================================

export const typed = (schema: SchemaObject): Check | undefined => {
  const { nullable, type } = schema
  if (type === undefined) return undefined
  const given: ReadonlyArray<unknown> = Array.isArray(type) ? type : [type]
  const named = given.map((one) =>
    typeof one === "string" && Object.hasOwn(types, one)
      ? one
      : wrong("type", `must be one of ${Object.keys(types).join(", ")}, or several of them`)
  )
  if (named.length === 0) return wrong("type", "must not be empty")
  const all = nullable === true && !named.includes("null") ? [...named, "null"] : named
  const tests = [...new Set(all)].flatMap((one) => types[one] ?? [])
  const message = `must be ${all.join(",")}`
  return (value, run, path) => tests.some((test) => test(value)) || run.fail(path, message)
}

export const allowed = (schema: SchemaObject): Check | undefined => {
  const checks: Array<Check> = []
  const among = (values: ReadonlyArray<unknown>, message: string, detail: string): void => {
    const spelled = new Set(values.map(spelling))
    const scalars = values.every((one) => typeof one !== "object" || one === null)
    checks.push(
      (value, run, path) =>
        (!(scalars && typeof value === "object" && value !== null) && spelled.has(canonical(value, run.spend))) ||
        run.fail(path, message, detail)
    )
  }
  const values = list(schema, "enum")
  if (values?.length === 0) return wrong("enum", "must not be empty")
  if (values !== undefined) among(values, "must be equal to one of the allowed values", show(values))
  if ("const" in schema && schema["const"] !== undefined) {
    among([schema["const"]], "must be equal to constant", show(schema["const"]))
  }
  return checks.length <= 1 ? checks[0] : (...args) => checks.map((check) => check(...args)).every(Boolean)
}

const bounded = (
  schema: SchemaObject,
  bounds: { readonly [keyword: string]: Bound },
  sizeOf: (value: unknown, run: CheckRun) => number | undefined
): ReadonlyArray<Check> => {
  const checks: Array<Check> = []
  for (const keyword of Object.keys(bounds)) {
    const [message, holds] = bounds[keyword] as Bound
    let limit = schema[keyword]
    if (limit === undefined) continue
    if (typeof limit === "boolean" && keyword.startsWith("exclusive")) {
      // The draft-04 form: whether `minimum` itself is excluded.
      if (!limit) continue
      limit = schema[keyword === "exclusiveMinimum" ? "minimum" : "maximum"]
    }
    if (typeof limit !== "number" || !Number.isFinite(limit)) return wrong(keyword, "must be a number")
    if (bounds !== numbers && !(Number.isInteger(limit) && limit >= 0)) wrong(keyword, "must be a whole number from 0")
    if (keyword === "multipleOf" && limit <= 0) wrong(keyword, "must be a number above 0")
    const number = limit
    checks.push((value, run, path) => {
      const size = sizeOf(value, run)
      return size === undefined || holds(size, number, run) || run.fail(path, message(number))
    })
  }
  return checks
}

/** Bounds of numbers, strings, arrays and objects. */
export const sized = (schema: SchemaObject): ReadonlyArray<Check> => [
  ...bounded(schema, numbers, (value) => (typeof value === "number" ? value : undefined)),
  ...bounded(schema, lengths, (value, run) => {
    if (typeof value !== "string") return undefined
    run.spend(value.length / stepOf)
    return lengthOf(value)
  }),
  ...bounded(schema, counts, (value) => (Array.isArray(value) ? value.length : undefined)),
  ...bounded(schema, sizes, (value, run) => {
    if (!isObject(value)) return undefined
    const { length } = Object.keys(value)
    run.spend(length)
    return length
  })
]

export const unique = (schema: SchemaObject): Check | undefined => {
  const { uniqueItems } = schema
  if (uniqueItems !== undefined && typeof uniqueItems !== "boolean") wrong("uniqueItems", "must be true or false")
  if (uniqueItems !== true) return undefined
  return (value, run, path) => {
    if (!Array.isArray(value)) return true
    const first = new Map<string, number>()
    for (let at = 0; at < value.length; at++) {
      const spelled = canonical(value[at], run.spend)
      const before = first.get(spelled)
      if (before !== undefined) {
        return run.fail(path, `must NOT have duplicate items (items ## ${before} and ${at} are identical)`)
      }
      first.set(spelled, at)
    }
    return true
  }
}

const countOf = (schema: SchemaObject, keyword: string): number | undefined => {
  const value = schema[keyword]
  if (value === undefined || (typeof value === "number" && Number.isInteger(value) && value >= 0)) return value
  return wrong(keyword, "must be a whole number from 0")
}

export const contains = (schema: SchemaObject, of: Of): Check | undefined => {
  if (schema["contains"] === undefined) return undefined
  const node = of(schema["contains"], "contains")
  const min = countOf(schema, "minContains") ?? 1
  const max = countOf(schema, "maxContains")
  const message =
    max === undefined
      ? `must contain at least ${min} valid item(s)`
      : `must contain at least ${min} and no more than ${max} valid item(s)`
  return (value, run, path, seen) => {
    if (!Array.isArray(value)) return true
    let found = 0
    for (let at = 0; at < value.length; at++) {
      if (!run.quietly(node, value[at], path, undefined)) continue
      found++
      seen?.others.add(at)
    }
    return (found >= min && (max === undefined || found <= max)) || run.fail(path, message)
  }
}

export const items = (schema: SchemaObject, of: Of): ReadonlyArray<Check> => {
  const given = schema["items"]
  const tuple = Array.isArray(given) ? given : list(schema, "prefixItems")
  const rest = Array.isArray(given) ? schema["additionalItems"] : given
  const checks: Array<Check> = []
  const first = tuple?.map((one, at) => of(one, `items/${at}`)) ?? []
  if (first.length > 0) {
    checks.push((value, run, path, seen) => {
      if (!Array.isArray(value)) return true
      let holds = true
      const length = Math.min(first.length, value.length)
      for (let key = 0; key < length; key++) {
        if (!run.part(first[key] as Node, value[key], { parent: path, key })) holds = false
      }
      if (seen !== undefined) seen.items = Math.max(seen.items, length)
      return holds
    })
  }
  if (rest === undefined) return checks
  const node = of(rest, Array.isArray(given) ? "additionalItems" : "items")
  checks.push((value, run, path, seen) => {
    if (!Array.isArray(value)) return true
    if (seen !== undefined) seen.items = Number.POSITIVE_INFINITY
    if (rest === false) {
      return value.length <= first.length || run.fail(path, `must NOT have more than ${first.length} items`)
    }
    let holds = true
    for (let key = first.length; key < value.length; key++) {
      if (!run.part(node, value[key], { parent: path, key })) holds = false
    }
    return holds
  })
  return checks
}

const missing = (value: unknown, names: ReadonlyArray<string>, run: CheckRun): ReadonlyArray<string> => {
  run.spend(names.length)
  return names.filter((name) => !Object.hasOwn(value as object, name))
}

export const required = (schema: SchemaObject): ReadonlyArray<Check> => {
  const given = schema["required"]
  // In draft-03, and in some schemas, it is a boolean on a property.
  if (given === undefined || typeof given === "boolean") return []
  const names = [...new Set(strings(given, "required"))]
  return [
    (value, run, path) => {
      if (!isObject(value)) return true
      const lacks = missing(value, names, run)
      for (const name of lacks) run.fail(path, `must have required property '${name}'`)
      return lacks.length === 0
    }
  ]
}

export const names = (schema: SchemaObject, of: Of): Check | undefined => {
  const given = schema["propertyNames"]
  if (given === undefined) return undefined
  const node = of(given, "propertyNames")
  return (value, run, path) => {
    if (!isObject(value)) return true
    let holds = true
    for (const key of Object.keys(value)) {
      if (!run.part(node, key, path)) holds = run.fail(path, "property name must be valid", show(key))
    }
    return holds
  }
}

export const dependents = (schema: SchemaObject, inPlace: Of): ReadonlyArray<Check> => {
  const checks: Array<Check> = []
  for (const keyword of ["dependencies", "dependentRequired", "dependentSchemas"]) {
    for (const [key, given] of Object.entries(record(schema, keyword))) {
      const at = `${keyword}/${key}`
      if (Array.isArray(given) || keyword === "dependentRequired") {
        const names = strings(given, at)
        checks.push((value, run, path) => {
          if (!isObject(value) || !Object.hasOwn(value, key)) return true
          const lacks = missing(value, names, run)
          for (const name of lacks) run.fail(path, `must have property ${name} when property ${key} is present`)
          return lacks.length === 0
        })
        continue
      }
      const node = inPlace(given, at)
      checks.push(
        (value, run, path, seen) => !isObject(value) || !Object.hasOwn(value, key) || run.apply(node, value, path, seen)
      )
    }
  }
  return checks
}

export const combined = (schema: SchemaObject, inPlace: Of): ReadonlyArray<Check> => {
  const checks: Array<Check> = []
  const nodes = (keyword: string) => {
    const given = list(schema, keyword)
    if (given?.length === 0) wrong(keyword, "must not be empty")
    return given?.map((one, at) => inPlace(one, `${keyword}/${at}`))
  }
  const all = nodes("allOf")
  if (all !== undefined) {
    checks.push((value, run, path, seen) => {
      let holds = true
      for (const node of all) if (!run.apply(node, value, path, seen)) holds = false
      return holds
    })
  }
  const any = nodes("anyOf")
  if (any !== undefined) {
    checks.push((value, run, path, seen) => {
      const before = run.issues.length
      let holds = false
      for (const node of any) {
        if (!run.apply(node, value, path, seen)) continue
        holds = true
        // The other branches may have evaluated more, which matters only if that is tracked.
        if (seen === undefined) break
      }
      if (holds) run.issues.length = before
      return holds || run.fail(path, "must match a schema in anyOf")
    })
  }
  const one = nodes("oneOf")
  if (one !== undefined) {
    checks.push((value, run, path, seen) => {
      const before = run.issues.length
      let found = 0
      for (const node of one) {
        const own = seen === undefined ? undefined : new EvaluatedKeys()
        if (!run.apply(node, value, path, own)) continue
        if (++found > 1) break
        if (own !== undefined) seen?.add(own, run)
      }
      if (found > 0) run.issues.length = before
      return found === 1 || run.fail(path, "must match exactly one schema in oneOf")
    })
  }
  if (schema["not"] !== undefined) {
    const node = inPlace(schema["not"], "not")
    checks.push((value, run, path) => !run.quietly(node, value, path, undefined) || run.fail(path, "must NOT be valid"))
  }
  if (schema["if"] !== undefined) {
    const test = inPlace(schema["if"], "if")
    const branch = (keyword: "then" | "else") =>
      schema[keyword] === undefined ? undefined : inPlace(schema[keyword], keyword)
    const yes = branch("then")
    const no = branch("else")
    checks.push((value, run, path, seen) => {
      const holds = run.quietly(test, value, path, seen)
      const next = holds ? yes : no
      if (next === undefined || run.apply(next, value, path, seen)) return true
      return run.fail(path, `must match "${holds ? "then" : "else"}" schema`)
    })
  }
  return checks
}
