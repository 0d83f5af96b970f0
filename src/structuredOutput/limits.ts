/**
 * What a schema, and checking an answer against it, may cost. A schema may come from anybody, and the answer from a
 * model that somebody told what to write, so neither is trusted: both are bounded before and while they are worked on.
 *
 * @since 0.1.0
 */

/**
 * The longest schema that is taken where nobody says otherwise, in bytes of JSON.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultMaxBytes = 256 * 1024

/**
 * How deep a schema may be nested, in levels of JSON.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxDepth = 100

/**
 * How large the patterns of a schema may be together, in characters with their repetitions spelt out.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxPatterns = 10_000

/**
 * How many subschemas may apply to one and the same value, by `allOf`, `anyOf`, `$ref` and the like.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxCombinations = 20_000

/**
 * How many subschemas a schema may have.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxSubschemas = 20_000

/**
 * How many references and combinations may lie within each other before a value is looked into.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxIndirections = 200

/**
 * How many steps an answer may take to be checked. A step is a subschema that is applied, or about as much work.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxSteps = 300_000

/**
 * How deep an answer is checked. Deeper ones would exhaust the stack.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxAnswerDepth = 500

/**
 * How many properties and items the JSON of an answer may have. Reading more takes longer than checking it may.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxValues = 200_000

/**
 * Refuses an answer with more properties and items than `maxValues`, a property counting as four, with `CheckTooCostly`,
 * before it is read.
 *
 * @since 0.1.0
 * @category accessors
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

/**
 * A schema that is invalid, or over a bound. `message` goes to whoever sent it.
 *
 * @since 0.1.0
 * @category errors
 */
export class InvalidSchemaError extends Error {}

/**
 * An answer takes more than it may to be checked.
 *
 * @since 0.1.0
 * @category errors
 */
export class CheckTooCostly extends Error {}

/**
 * @since 0.1.0
 * @category guards
 */
export const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** How many bytes a text is, or some number above `limit` where it is longer than that. */
const bytesOf = (text: string, limit: number): number => {
  let bytes = text.length
  for (let at = 0; at < text.length && bytes <= limit; at++) {
    const code = text.charCodeAt(at)
    // A pair of surrogates is four bytes together.
    if (code >= 0x80) bytes += code >= 0x800 && (code & 0xf800) !== 0xd800 ? 2 : 1
  }
  return bytes
}

const patterned: ReadonlySet<string> = new Set(["pattern", "patternProperties"])

/**
 * Refuses a schema that is longer than `maxBytes` as JSON, or too deep, with `InvalidSchemaError`; ends as soon as it knows.
 * Whether it may have patterns.
 *
 * @since 0.1.0
 * @category accessors
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

/**
 * A value as text that is the same for equal values, whatever the order of their keys. `spend` is told how long it was.
 *
 * @since 0.1.0
 * @category accessors
 */
export const canonical = (value: unknown, spend: (steps: number) => void, depth = 0): string => {
  if (typeof value !== "object" || value === null) {
    if (typeof value === "string") spend(1 + (value.length >> 4))
    else spend(1)
    return JSON.stringify(value) ?? "null"
  }
  if (depth === maxAnswerDepth) throw new CheckTooCostly(`it is nested deeper than ${maxAnswerDepth} levels`)
  spend(3)
  const keys = Array.isArray(value) ? [] : Object.keys(value)
  // They are sorted.
  spend(keys.length * (keys.length > 1_000 ? 4 : 1))
  const parts = Array.isArray(value)
    ? value.map((item) => canonical(item, spend, depth + 1))
    : keys.sort().map((key) => {
        spend(key.length >> 4)
        return `${JSON.stringify(key)}:${canonical((value as { [key: string]: unknown })[key], spend, depth + 1)}`
      })
  const joined = parts.join(",")
  // Every level copies what is within it.
  spend(joined.length >> 10)
  return Array.isArray(value) ? `[${joined}]` : `{${joined}}`
}
