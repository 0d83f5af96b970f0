import type { JsonObject } from "../ChatRequest.js"
import { isObject } from "./isObject.js"

const prefix = "#/$defs/"

const nameOf = (value: JsonObject): string | undefined => {
  const ref = value["$ref"]
  return typeof ref === "string" && ref.startsWith(prefix)
    ? decodeURIComponent(ref.slice(prefix.length)).replaceAll("~1", "/").replaceAll("~0", "~")
    : undefined
}

/** Maximum size: references can double it with every level. */
const maxInlined = 20_000

/**
 * Inlines every `$ref` into the schema's `$defs`, because not every server follows them. Recursive definitions stay as
 * they are; all stay if the result would be too large.
 *
 * @internal
 */
export const inlineRefs = (schema: JsonObject): JsonObject => inlined(schema, false) ?? inlined(schema, true) ?? schema

/** `undefined` if it would be too large. `keepsAll`: whether every reference stays one. */
const inlined = (schema: JsonObject, keepsAll: boolean): JsonObject | undefined => {
  const { $defs, $schema: _, ...root } = schema
  const defs = isObject($defs) ? $defs : {}
  const recursive = new Set<string>(keepsAll ? Object.keys(defs) : [])
  const visited = new Set<string>()

  const findRecursive = (value: unknown, path: ReadonlyArray<string>): void => {
    if (Array.isArray(value)) for (const item of value) findRecursive(item, path)
    if (!isObject(value)) return
    const name = nameOf(value)
    if (name !== undefined) {
      if (path.includes(name)) recursive.add(name)
      else if (!visited.has(name)) {
        findRecursive(defs[name], [...path, name])
        visited.add(name)
      }
    }
    for (const item of Object.values(value)) findRecursive(item, path)
  }
  if (!keepsAll) findRecursive(root, [])

  const kept: Record<string, unknown> = {}
  const keep = (name: string): void => {
    if (Object.hasOwn(kept, name)) return
    kept[name] = {}
    kept[name] = inline(defs[name])
  }
  let parts = 0
  const inline = (value: unknown): unknown => {
    if (!keepsAll && ++parts > maxInlined) return undefined
    if (Array.isArray(value)) return value.map(inline)
    if (!isObject(value)) return value
    const name = nameOf(value)
    if (name !== undefined && Object.hasOwn(defs, name) && !recursive.has(name)) {
      const { $ref: _, ...beside } = value
      const target = inline(defs[name])
      return isObject(target) ? { ...target, ...beside } : target
    }
    if (name !== undefined && recursive.has(name)) keep(name)
    const entries = Object.entries(value).filter(
      // Not addresses, but marks that `effect/JSONSchema` leaves on `unknown`, `any` and the like.
      ([key, item]) => !(key === "$id" && typeof item === "string" && item.startsWith("/schemas/"))
    )
    return Object.fromEntries(entries.map(([key, item]) => [key, inline(item)]))
  }

  // A recursive root is expanded once, so that the schema itself has content.
  const name = nameOf(root)
  if (name !== undefined && recursive.has(name)) keep(name)
  const top = name !== undefined && recursive.has(name) ? kept[name] : inline(root)
  if (parts > maxInlined) return undefined
  return { ...(isObject(top) ? top : {}), ...(Object.keys(kept).length === 0 ? {} : { $defs: { ...kept } }) }
}
