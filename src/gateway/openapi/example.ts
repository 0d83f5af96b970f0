/** A value that a JSON schema allows: its required members, and the first of what it lets choose. */

interface Schema {
  readonly type?: string | ReadonlyArray<string>
  readonly const?: unknown
  readonly enum?: ReadonlyArray<unknown>
  readonly anyOf?: ReadonlyArray<Schema>
  readonly oneOf?: ReadonlyArray<Schema>
  readonly items?: Schema
  readonly minItems?: number
  readonly minimum?: number
  readonly properties?: { readonly [name: string]: Schema }
  readonly required?: ReadonlyArray<string>
}

/** Schemas may be nested in themselves. */
const maxDepth = 8

const valueOf = (schema: Schema, depth: number): unknown => {
  if (schema.const !== undefined) return schema.const
  if (schema.enum !== undefined) return schema.enum[0]
  const first = (schema.anyOf ?? schema.oneOf)?.[0]
  if (first !== undefined) return depth < maxDepth ? valueOf(first, depth + 1) : null
  const type = typeof schema.type === "string" ? schema.type : schema.type?.[0]
  if (type === "string") return "text"
  if (type === "integer" || type === "number") return schema.minimum ?? 1
  if (type === "boolean") return true
  if (type === "array") return schema.items === undefined || depth >= maxDepth ? [] : [valueOf(schema.items, depth + 1)]
  if (type === "object") {
    const members = (schema.required ?? []).map((name) => {
      const member = schema.properties?.[name]
      return [name, member === undefined || depth >= maxDepth ? null : valueOf(member, depth + 1)]
    })
    return Object.fromEntries(members)
  }
  return null
}

/** A value of this schema, for people to change. */
export const exampleOf = (schema: object): unknown => valueOf(schema, 0)
