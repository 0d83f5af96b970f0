/**
 * Converts JSON schemas to the subset that Anthropic's API accepts: every object is closed, and ranges, lengths and
 * patterns, which it rejects, become part of the description.
 */
import { isObject } from "../internal/isObject.js"

/** Keywords that are copied. */
const kept = new Set(["type", "enum", "const", "required", "title", "description", "default", "$ref"])
/** Schemas by name. */
const named = new Set(["properties", "$defs", "definitions"])
/** Lists of schemas. The API has no `oneOf`. */
const lists: { readonly [keyword: string]: string } = { anyOf: "anyOf", oneOf: "anyOf", allOf: "allOf" }
/** Keywords that are dropped. */
const silent = new Set(["$schema", "$id", "$comment", "examples", "additionalProperties"])

const formats = new Set(["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"])

/** Converts a schema. */
export const outputSchema = (schema: unknown): unknown => {
  if (!isObject(schema)) return schema
  const made: { [key: string]: unknown } = {}
  const converted: { [key: string]: unknown } = {}
  for (const [key, value] of Object.entries(schema)) {
    const list = lists[key]
    if (kept.has(key)) made[key] = value
    else if (silent.has(key)) continue
    else if (named.has(key) && isObject(value)) {
      made[key] = Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, outputSchema(inner)]))
    } else if (list !== undefined && Array.isArray(value)) made[list] = value.map(outputSchema)
    else if (key === "items") made[key] = outputSchema(value)
    else if (key === "format" && typeof value === "string" && formats.has(value)) made[key] = value
    else if (key === "minItems" && (value === 0 || value === 1)) made[key] = value
    else converted[key] = value
  }
  const { type } = schema
  const isObjects =
    type === "object" || (Array.isArray(type) && type.includes("object")) || isObject(schema["properties"])
  if (isObjects) made["additionalProperties"] = false
  if (Object.keys(converted).length > 0) {
    const rules = JSON.stringify(converted)
    const { description } = made
    made["description"] = typeof description === "string" && description !== "" ? `${description}\n\n${rules}` : rules
  }
  return made
}
