/**
 * Limits of schemas and of checking answers against them. A schema may come from anyone, and the answer from a model
 * that someone instructs, so neither is trusted: both are bounded before and during the work.
 */

/** Default maximum length of a schema, in bytes of JSON. */
export const defaultMaxBytes = 256 * 1024

/** Maximum nesting of a schema, in levels of JSON. */
export const maxDepth = 100

/** Maximum total size of a schema's patterns, in characters with repetitions expanded. */
export const maxPatterns = 10_000

/** Maximum number of subschemas that apply to the same value, by `allOf`, `anyOf`, `$ref` and the like. */
export const maxCombinations = 20_000

/** Maximum number of subschemas. */
export const maxSubschemas = 20_000

/** Maximum depth of references and combinations at the same value. */
export const maxIndirections = 200

/** Maximum number of steps to check an answer. A step is one applied subschema, or about as much work. */
export const maxSteps = 300_000

/** Maximum depth of an answer: deeper ones would overflow the stack. */
export const maxAnswerDepth = 500

/** Maximum number of properties and items in an answer's JSON. Parsing more takes longer than checking may. */
export const maxValues = 200_000

/**
 * Rejects an answer with more properties and items than `maxValues`, a property counting as four, with
 * `CheckTooCostly`, before it is parsed.
 */
export const measureAnswer = (text: string): void => {
  if (text.length <= maxValues / 4) return
  let values = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0x22) {
      for (at++; at < text.length && text.charCodeAt(at) !== 0x22; at++) if (text.charCodeAt(at) === 0x5c) at++
    } else if (code === 0x2c) values++
    else if (code === 0x3a) values += 3
    if (values > maxValues)
      throw new CheckTooCostly(`it has more than ${maxValues} values, a property counting as four`)
  }
}

/** A schema that is invalid, or exceeds a limit. `message` is for its author. */
export class InvalidSchemaError extends Error {}

/** Checking an answer exceeds its budget. */
export class CheckTooCostly extends Error {}

/** The length of a text in bytes, or some number above `limit` if it is longer. */
const bytesOf = (text: string, limit: number): number => {
  let bytes = text.length
  for (let at = 0; at < text.length && bytes <= limit; at++) {
    const code = text.charCodeAt(at)
    // A surrogate pair is four bytes.
    if (code >= 0x80) bytes += code >= 0x800 && (code & 0xf800) !== 0xd800 ? 2 : 1
  }
  return bytes
}

const patterned: ReadonlySet<string> = new Set(["pattern", "patternProperties"])

/**
 * Rejects a schema longer than `maxBytes` as JSON, or too deep, with `InvalidSchemaError`, as soon as that is known.
 * Returns whether it may have patterns.
 */
export const measure = (schema: unknown, maxBytes: number): boolean => {
  let bytes = 0
  let hasPatterns = false
  const add = (count: number) => {
    bytes += count
    if (bytes > maxBytes) throw new InvalidSchemaError(`is longer than ${maxBytes} bytes, the limit of a schema`)
  }
  const visit = (value: unknown, depth: number): void => {
    if (typeof value !== "object" || value === null) {
      add(typeof value === "string" ? bytesOf(value, maxBytes) + 2 : 4)
      return
    }
    if (depth === maxDepth)
      throw new InvalidSchemaError(`is nested deeper than ${maxDepth} levels, the limit of a schema`)
    add(2)
    if (Array.isArray(value)) {
      add(value.length)
      for (const item of value) visit(item, depth + 1)
      return
    }
    for (const key of Object.keys(value)) {
      add(bytesOf(key, maxBytes) + 4)
      hasPatterns ||= patterned.has(key)
      visit((value as { readonly [key: string]: unknown })[key], depth + 1)
    }
  }
  visit(schema, 0)
  return hasPatterns
}

/** A canonical text, the same for equal values, whatever the order of their keys. `spend` gets its length. */
export const canonical = (value: unknown, spend: (steps: number) => void, depth = 0): string => {
  if (typeof value !== "object" || value === null) {
    if (typeof value === "string") spend(1 + (value.length >> 4))
    else spend(1)
    return JSON.stringify(value) ?? "null"
  }
  if (depth === maxAnswerDepth) throw new CheckTooCostly(`it is nested deeper than ${maxAnswerDepth} levels`)
  spend(3)
  const keys = Array.isArray(value) ? [] : Object.keys(value)
  // Sorting has a cost.
  spend(keys.length * (keys.length > 1_000 ? 4 : 1))
  const parts = Array.isArray(value)
    ? value.map((item) => canonical(item, spend, depth + 1))
    : keys.sort().map((key) => {
        spend(key.length >> 4)
        return `${JSON.stringify(key)}:${canonical((value as { [key: string]: unknown })[key], spend, depth + 1)}`
      })
  const joined = parts.join(",")
  // Each level copies the text of those below it.
  spend(joined.length >> 10)
  return Array.isArray(value) ? `[${joined}]` : `{${joined}}`
}
