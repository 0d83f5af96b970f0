import type { JsonObject } from "../ChatRequest.js"
import { isObject } from "./isObject.js"

/**
 * The part of a JSON Schema that a `node-llama-cpp` grammar can enforce. What it omits (patterns, ranges, …) only makes
 * the grammar more permissive; the answer is validated against the whole schema.
 *
 * `node-llama-cpp` treats unknown schemas as `null` and warns on the console, so only known parts may remain. Throws if
 * it would be too large.
 *
 * @internal
 */
export const grammarSchema = (schema: JsonObject): JsonObject => {
  const defs: Record<string, JsonObject> = {}
  const named = new Map<string, string>()

  const reference = (pointer: string): JsonObject => {
    const known = named.get(pointer)
    if (known !== undefined) return { $ref: `#/$defs/${known}` }
    const target = resolve(schema, pointer)
    if (target === undefined) return anything
    const name = `d${named.size}`
    named.set(pointer, name)
    defs[name] = convert(target)
    return { $ref: `#/$defs/${name}` }
  }

  let converted = 0

  const convert = (value: unknown): JsonObject => {
    if (++converted > maxSchemas) throw new Error(`it has more than ${maxSchemas} parts, its references spelt out`)
    if (!isObject(value)) return anything
    if (typeof value["$ref"] === "string") return reference(value["$ref"])
    const { allOf, anyOf, const: literal, enum: literals, oneOf, type } = value
    if (isScalar(literal)) return { const: literal }
    if (Array.isArray(literals)) {
      const scalars = literals.filter(isScalar)
      return scalars.length === literals.length && scalars.length > 0 ? { enum: scalars } : anything
    }
    if (Array.isArray(allOf) && allOf.length > 0) {
      const { allOf: _, ...rest } = value
      return convertAll(rest, allOf)
    }
    const alternatives = Array.isArray(anyOf) ? anyOf : Array.isArray(oneOf) ? oneOf : []
    if (alternatives.length > 0) {
      const { anyOf: _, oneOf: __, ...rest } = value
      const shaped = rest["type"] !== undefined || isObject(rest["properties"])
      return { oneOf: alternatives.map((one) => (shaped ? convertAll(rest, [one]) : convert(one))) }
    }
    if (Array.isArray(type)) {
      return type.length === 0 ? anything : { oneOf: type.map((one) => convert({ ...value, type: one })) }
    }
    switch (type ?? (isObject(value["properties"]) ? "object" : value["items"] === undefined ? undefined : "array")) {
      case "object":
        return convertObject(value)
      case "array":
        return convertArray(value)
      case "string":
        return convertString(value)
      case "number":
      case "integer":
      case "boolean":
      case "null":
        return { type }
      default:
        return anything
    }
  }

  const following = new Set<string>()

  /** The conjunction of `value` and all `parts`. */
  const convertAll = (value: JsonObject, parts: ReadonlyArray<unknown>): JsonObject => {
    const followed: Array<string> = []
    const literals = parts.map((part) => {
      const pointer = isObject(part) ? part["$ref"] : undefined
      if (typeof pointer !== "string") return part
      if (following.has(pointer)) return {}
      following.add(pointer)
      followed.push(pointer)
      return resolve(schema, pointer)
    })
    const all = convert(merge(value, literals.filter(isObject)))
    for (const pointer of followed) following.delete(pointer)
    return all
  }

  const convertObject = (value: JsonObject): JsonObject => {
    const properties: Record<string, JsonObject> = {}
    for (const [key, property] of Object.entries(isObject(value["properties"]) ? value["properties"] : {})) {
      properties[key] = convert(property)
    }
    const others = value["additionalProperties"]
    const empty = Object.keys(properties).length === 0
    const additionalProperties = isObject(others) ? convert(others) : others === true || (others === undefined && empty)
    return {
      type: "object",
      properties,
      additionalProperties,
      ...pick(value, additionalProperties === false ? [] : ["minProperties", "maxProperties"])
    }
  }

  const convertArray = (value: JsonObject): JsonObject => {
    const { items, prefixItems } = value
    const tuple = Array.isArray(items) ? items : Array.isArray(prefixItems) ? prefixItems : []
    if (tuple.length > 0) {
      return { type: "array", prefixItems: tuple.map(convert), minItems: tuple.length, maxItems: tuple.length }
    }
    return { type: "array", items: convert(items), ...pick(value, ["minItems", "maxItems"]) }
  }

  const root = convert(schema)
  return Object.keys(defs).length === 0 ? root : { ...root, $defs: { ...defs } }
}

const anything: JsonObject = {
  oneOf: [
    { type: "object", additionalProperties: true },
    { type: "array" },
    { type: ["string", "number", "boolean", "null"] }
  ]
}

/** Larger grammars take seconds to build: references can double the size with every level. */
const maxSchemas = 2_000

const isScalar = (value: unknown): value is string | number | boolean | null =>
  value === null || typeof value === "string" || typeof value === "number" || typeof value === "boolean"

/** Larger counts make a grammar too large to be useful. */
const maxCount = 256

const pick = (value: JsonObject, keys: ReadonlyArray<string>): JsonObject =>
  Object.fromEntries(
    keys.flatMap((key) => {
      const count = value[key]
      return typeof count === "number" && Number.isInteger(count) && count >= 0 && count <= maxCount
        ? [[key, count]]
        : []
    })
  )

const formats: ReadonlyArray<unknown> = ["date-time", "time", "date"]

const convertString = (value: JsonObject): JsonObject =>
  formats.includes(value["format"])
    ? { type: "string", format: value["format"] }
    : { type: "string", ...pick(value, ["minLength", "maxLength"]) }

const merge = (value: JsonObject, parts: ReadonlyArray<JsonObject>): JsonObject => {
  const named = [value, ...parts].map((part) => part["properties"]).filter(isObject)
  const properties: JsonObject = Object.assign({}, ...named)
  return Object.assign({}, value, ...parts, named.length === 0 ? {} : { properties })
}

const resolve = (root: JsonObject, pointer: string): unknown => {
  if (pointer === "#") return root
  if (!pointer.startsWith("#/")) return undefined
  let at: unknown = root
  for (const step of pointer.slice(2).split("/")) {
    const key = decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")
    if (!isObject(at) || !Object.hasOwn(at, key)) return undefined
    at = at[key]
  }
  return at
}
