/**
 * Readers for the fields of a request body: each rejects a field of the wrong type or out of range, naming it. `null`
 * counts as absent, as in all of the APIs.
 */
import { isObject } from "../../internal/isObject.js"
import { reject } from "./errorResponse.js"

export { isObject }

export interface Fields {
  readonly [name: string]: unknown
}

/** Reasons why fields are not supported, by field name. */
export type Reasons = ReadonlyMap<string, string>

/** The path of an item of the list at `at`, or `at` itself. */
export const pathOf = (at: string, index?: number): string => (index === undefined ? at : `${at}[${index}]`)

const show = (value: unknown): string => {
  if (Array.isArray(value)) return "an array"
  if (typeof value === "string") return `'${value.length > 40 ? `${value.slice(0, 40)}…` : value}'`
  return typeof value === "object" && value !== null ? "an object" : String(value)
}

export const number = (fields: Fields, name: string, min: number, max: number, at = name): number | undefined => {
  const value = fields[name]
  if (value === undefined || value === null) return undefined
  if (typeof value !== "number" || !Number.isFinite(value)) reject(at, `must be a number, not ${show(value)}`)
  if ((value as number) < min || (value as number) > max) {
    const range = max === Number.POSITIVE_INFINITY ? `at least ${min}` : `from ${min} to ${max}`
    reject(at, `must be ${range}, not ${value}`)
  }
  return value as number
}

export const whole = (
  fields: Fields,
  name: string,
  min: number,
  max = Number.POSITIVE_INFINITY,
  at = name
): number | undefined => {
  const value = number(fields, name, min, max, at)
  if (value !== undefined && !Number.isSafeInteger(value)) reject(at, `must be a whole number, not ${value}`)
  return value
}

export const flag = (fields: Fields, name: string, at = name): boolean | undefined => {
  const value = fields[name]
  if (value === undefined || value === null) return undefined
  return typeof value === "boolean" ? value : reject(at, `must be true or false, not ${show(value)}`)
}

export const text = (fields: Fields, name: string, at = name): string | undefined => {
  const value = fields[name]
  if (value === undefined || value === null) return undefined
  return typeof value === "string" ? value : reject(at, `must be a string, not ${show(value)}`)
}

export const required = (fields: Fields, name: string, at = name): string =>
  text(fields, name, at) ?? reject(at, "is missing", "missing_required_parameter")

export const oneOf = <const A extends string>(
  fields: Fields,
  name: string,
  values: ReadonlyArray<A>,
  at = name
): A | undefined => {
  const value = fields[name]
  if (value === undefined || value === null) return undefined
  return values.find((one) => one === value) ?? reject(at, `must be one of ${values.join(", ")}, not ${show(value)}`)
}

export const object = (fields: Fields, name: string, at = name): Fields | undefined => {
  const value = fields[name]
  if (value === undefined || value === null) return undefined
  return isObject(value) ? value : reject(at, `must be an object, not ${show(value)}`)
}

export const list = (fields: Fields, name: string, at = name): ReadonlyArray<unknown> | undefined => {
  const value = fields[name]
  if (value === undefined || value === null) return undefined
  return Array.isArray(value) ? value : reject(at, `must be an array, not ${show(value)}`)
}

/** Maximum nesting of values that are passed on to a server: serialising them is recursive. */
const maxDepth = 100

const depth = (value: unknown, left: number): boolean => {
  if (typeof value !== "object" || value === null) return true
  if (left === 0) return false
  for (const item of Object.values(value)) if (!depth(item, left - 1)) return false
  return true
}

/** Any object, passed on unchanged. */
export const json = (fields: Fields, name: string, at = name): Fields | undefined => {
  const value = object(fields, name, at)
  return value === undefined ? undefined : shallow(value, at)
}

/** Rejects values that cannot be serialised again. */
export const shallow = (value: Fields, at: string): Fields =>
  depth(value, maxDepth) ? value : reject(at, `must not be nested deeper than ${maxDepth}`)

/** One string, or up to `max` strings, none of them empty. */
export const strings = (fields: Fields, name: string, max: number, at = name): ReadonlyArray<string> => {
  const value = fields[name]
  if (value === undefined || value === null) return []
  const all: ReadonlyArray<unknown> = Array.isArray(value) ? value : [value]
  if (all.length > max) reject(at, `must hold at most ${max} strings, not ${all.length}`)
  for (const one of all) {
    if (typeof one !== "string") reject(at, `must be a string or an array of strings, not ${show(one)}`)
    if (one === "") reject(at, "must not hold an empty string")
  }
  return all as ReadonlyArray<string>
}

/** Whether any of these fields is present. */
export const any = (fields: Fields, names: ReadonlySet<string>): boolean => {
  for (const name in fields) if (names.has(name)) return true
  return false
}

/** Rejects an unsupported field with the reason. */
export const unsupported = (name: string, reason: string): never =>
  reject(name, `is not supported: ${reason}`, "unsupported_parameter")
