/**
 * Declarations of request bodies. A field is declared once: its name, type, range, purpose and what becomes of it. The
 * decoders read it with the reader that is made of the declaration at start, a plain function, and the OpenAPI document
 * has the JSON Schema that is made of it.
 */
import * as Fields from "./body.js"
import { reject } from "./errorResponse.js"

/** A JSON Schema. */
export interface JsonSchema {
  readonly [keyword: string]: unknown
}

/** Reads a field of an object, or rejects it; `at` is its path in errors. */
export type Reader<A> = (fields: Fields.Fields, at?: string) => A

/**
 * The same, where `parent` is the path of the object, or with `index` that of the list which it is an item of: no path
 * is made for a value that is taken as it is.
 */
export type ItemReader<A> = (fields: Fields.Fields, parent: string, index?: number) => A

/**
 * A field of a body.
 *
 * - `required`: the reader rejects a body without it
 * - `ignored`: it is not read, but left out and named in the response
 */
export interface Field<A> {
  readonly schema: JsonSchema | (() => JsonSchema)
  readonly required?: boolean
  readonly ignored?: boolean
  /** Whether a value is taken as it is. */
  readonly accepts?: (value: unknown) => boolean
  /** Makes the reader of the field of this name; `path` is its whole path in errors. */
  readonly reader: (name: string, path: string) => Reader<A>
}

/** What a schema says besides the type; `default` is the value that holds if the field is absent. */
export interface Notes {
  readonly doc?: string
  readonly default?: unknown
}

const noted = (schema: JsonSchema, { doc, ...rest }: Notes = {}): JsonSchema => ({
  ...schema,
  ...(doc === undefined ? {} : { description: doc }),
  ...rest
})

// =============================================================================
// Kinds of fields
// =============================================================================

const isString = (value: unknown): value is string => typeof value === "string"

const above = Number.MIN_VALUE
const unbounded = Number.POSITIVE_INFINITY

const range = (minimum: number, maximum: number): JsonSchema => ({
  ...(minimum === above ? { exclusiveMinimum: 0 } : minimum === Number.MIN_SAFE_INTEGER ? {} : { minimum }),
  ...(maximum === unbounded ? {} : { maximum })
})

/** A number in a range. */
export const number = (minimum: number, maximum = unbounded, notes?: Notes): Field<number | undefined> => ({
  schema: noted({ type: "number", ...range(minimum, maximum) }, notes),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.number(fields, name, minimum, maximum, at)
})

/** A number above 0. */
export const positive = (notes?: Notes): Field<number | undefined> => number(above, unbounded, notes)

/** A whole number in a range. */
export const whole = (
  minimum = Number.MIN_SAFE_INTEGER,
  maximum = unbounded,
  notes?: Notes
): Field<number | undefined> => ({
  schema: noted({ type: "integer", ...range(minimum, maximum) }, notes),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.whole(fields, name, minimum, maximum, at)
})

/** `true` or `false`. */
export const flag = (notes?: Notes): Field<boolean | undefined> => ({
  schema: noted({ type: "boolean" }, notes),
  accepts: (value) => typeof value === "boolean",
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.flag(fields, name, at)
})

/** A string. */
export const text = (notes?: Notes): Field<string | undefined> => ({
  schema: noted({ type: "string" }, notes),
  accepts: isString,
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.text(fields, name, at)
})

/** One of some strings. */
export const oneOf = <const A extends string>(values: ReadonlyArray<A>, notes?: Notes): Field<A | undefined> => ({
  schema: noted({ enum: values }, notes),
  accepts: (value) => (values as ReadonlyArray<unknown>).includes(value),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.oneOf(fields, name, values, at)
})

const isContent = (value: unknown): value is string | ReadonlyArray<unknown> =>
  typeof value === "string" || Array.isArray(value)

/** A text, or a list of objects, which are decoded where they are used; `called` is what errors call those. */
export const content = (
  items: JsonSchema | Declared,
  called: string,
  notes?: Notes
): Field<string | ReadonlyArray<unknown> | undefined> => ({
  schema: () => noted(anyOf({ type: "string" }, { type: "array", items: schemaIn(items) }), notes),
  accepts: isContent,
  reader:
    (name, path) =>
    (fields, at = path) => {
      const value = fields[name]
      if (isContent(value)) return value
      return value === undefined || value === null ? undefined : reject(at, `must be a string or an array of ${called}`)
    }
})

/** An object; `members` reads what is in it. */
export const object = (notes?: Notes, members?: Declared): Field<Fields.Fields | undefined> => ({
  schema: () => noted(members === undefined ? { type: "object" } : members.schema(), notes),
  accepts: Fields.isObject,
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.object(fields, name, at)
})

/** Any object, passed on unchanged. */
export const json = (notes?: Notes): Field<Fields.Fields | undefined> => ({
  schema: noted({ type: "object" }, notes),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.json(fields, name, at)
})

/** A list; its items are decoded where they are used. */
export const list = (
  items: JsonSchema | Declared,
  notes?: Notes & { readonly minItems?: number; readonly maxItems?: number }
): Field<ReadonlyArray<unknown> | undefined> => ({
  schema: () => noted({ type: "array", items: schemaIn(items) }, notes),
  accepts: Array.isArray,
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.list(fields, name, at)
})

/** A string, or a list of up to `max`, none of them empty. */
export const strings = (max: number, notes?: Notes): Field<ReadonlyArray<string>> => ({
  schema: noted(anyOf({ type: "string" }, { type: "array", items: { type: "string" }, maxItems: max }), notes),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.strings(fields, name, max, at)
})

/** Whatever else: the schema stands beside the function that reads it. */
export const custom = <A>(
  schema: JsonSchema | (() => JsonSchema),
  read: (fields: Fields.Fields, name: string, at: string) => A
): Field<A> => ({
  schema,
  reader:
    (name, path) =>
    (fields, at = path) =>
      read(fields, name, at)
})

/** A schema of which either alternative holds. */
export const anyOf = (...alternatives: ReadonlyArray<JsonSchema>): JsonSchema => ({ anyOf: alternatives })

/** The same field, whose reader rejects a body without it. */
export const required = <A>(field: Field<A>): Field<Exclude<A, undefined>> => ({
  ...field,
  required: true,
  reader: (name, path) => {
    const read = field.reader(name, path)
    return (fields, at = path) =>
      (read(fields, at) ?? reject(at, "is missing", "missing_required_parameter")) as Exclude<A, undefined>
  }
})

/** The same field, required. The reader reports a missing one in the format of its API. */
export const needed = <F extends Field<unknown>>(field: F): F => ({ ...field, required: true })

/** The same field, where `null` is a usual way to say that it is absent. */
export const nullable = <A>(field: Field<A>): Field<A> => ({
  ...field,
  schema: () => {
    const { description, ...schema } = schemaOf(field)
    const alternatives = Array.isArray(schema["anyOf"]) ? (schema["anyOf"] as ReadonlyArray<JsonSchema>) : [schema]
    return { ...anyOf(...alternatives, { type: "null" }), ...(description === undefined ? {} : { description }) }
  }
})

const schemaOf = ({ schema }: Field<unknown>): JsonSchema => (typeof schema === "function" ? schema() : schema)

const noEffect = "Accepted for compatibility; has no effect."

/** The same field, whose value makes no difference to an answer: only its type is checked. */
export const withoutEffect = <A>(field: Field<A>): Field<A> => ({
  ...field,
  schema: () => ({ ...schemaOf(field), description: noEffect })
})

/** A field of any type that clients send, and that is not read. */
export const unread: Field<undefined> = { schema: { description: noEffect }, reader: () => () => undefined }

/** The keyword of the OpenAPI document for fields that are left out and named: always, or where they are not valid. */
const effectKeyword = "x-aicortex-effect"

/** A field that is left out, and named in the response. */
export const ignored: Field<undefined> = {
  schema: { description: noEffect, [effectKeyword]: "ignored" },
  ignored: true,
  reader: () => () => undefined
}

/** The same, within an object whose decoder names it. */
export const leftOut: Field<undefined> = { schema: ignored.schema, reader: ignored.reader }

/** The same field, which is left out and named where its value is not valid. */
export const lenient = <A>(field: Field<A>): Field<A> => ({
  ...field,
  schema: () => ({ ...schemaOf(field), [effectKeyword]: "ignored-if-invalid" })
})

// =============================================================================
// Objects
// =============================================================================

/** Fields by their names. */
export interface FieldMap {
  readonly [name: string]: Field<unknown>
}

/** A declared object: a body, or one within it. */
export interface Struct<F extends FieldMap> {
  /** A reader for each field. */
  readonly read: { readonly [K in keyof F]: F[K] extends Field<infer A> ? Reader<A> : never }
  /** The same for an object within a body, which is given with its path. */
  readonly within: { readonly [K in keyof F]: F[K] extends Field<infer A> ? ItemReader<A> : never }
  /** The fields that are read. */
  readonly names: ReadonlySet<string>
  /** Fields that are not supported, each with the reason. */
  readonly refused: Fields.Reasons
  /** The name of its type, where its API's errors have it. */
  readonly name?: string
  /** The JSON Schema of the object. */
  readonly schema: () => JsonSchema
}

// biome-ignore lint/suspicious/noExplicitAny: objects have fields of any kind.
type AnyStruct = Struct<any>

/** Whatever has a JSON Schema that is made of its declaration. */
export interface Declared {
  readonly schema: () => JsonSchema
}

const isDeclared = (value: JsonSchema | Declared): value is Declared => typeof value["schema"] === "function"

const schemaIn = (value: JsonSchema | Declared): JsonSchema => (isDeclared(value) ? value.schema() : value)

const itemReader = (name: string, { accepts, reader, required }: Field<unknown>): ItemReader<unknown> => {
  const read = reader(name, name)
  const slow: ItemReader<unknown> = (fields, parent, index) => read(fields, `${Fields.pathOf(parent, index)}.${name}`)
  if (accepts === undefined) return slow
  if (required === true) {
    return (fields, parent, index) => {
      const value = fields[name]
      return accepts(value) ? value : slow(fields, parent, index)
    }
  }
  return (fields, parent, index) => {
    const value = fields[name]
    return value === undefined || accepts(value) ? value : slow(fields, parent, index)
  }
}

/**
 * Declares an object.
 *
 * - `path`: its path in errors; default: it is the body
 * - `open`: it may have other fields, which are not refused in strict mode either
 * - `refused`: fields that are not supported, each with the reason
 */
export const struct = <F extends FieldMap>(
  fields: F,
  options: {
    readonly path?: string
    readonly open?: boolean
    readonly refused?: { readonly [name: string]: string }
  } = {}
): Struct<F> => {
  const { open = false, path, refused = {} } = options
  const all = Object.entries(fields)
  const readers = all.map(([name, field]) => [name, field.reader(name, path === undefined ? name : `${path}.${name}`)])
  return {
    read: Object.fromEntries(readers),
    within: Object.fromEntries(all.map(([name, field]) => [name, itemReader(name, field)])) as Struct<F>["within"],
    names: new Set(all.flatMap(([name, field]) => (field.ignored === true ? [] : [name]))),
    refused: new Map(Object.entries(refused)),
    schema: () => {
      const needed = all.flatMap(([name, field]) => (field.required === true ? [name] : []))
      return {
        type: "object",
        ...(needed.length === 0 ? {} : { required: needed }),
        properties: Object.fromEntries(all.map(([name, field]) => [name, schemaOf(field)])),
        ...(open ? {} : { additionalProperties: false })
      }
    }
  }
}

// =============================================================================
// Objects of several kinds
// =============================================================================

/** Objects of several kinds, which one of their fields distinguishes. */
export interface Variants<V extends { readonly [kind: string]: AnyStruct }> extends Declared {
  /** The kinds by the values of that field. */
  readonly of: V
  /** The values of that field. */
  readonly kinds: ReadonlyArray<Extract<keyof V, string>>
  /** The fields that any kind has: none of them is unknown in an object of another kind. */
  readonly names: ReadonlySet<string>
}

/**
 * Declares objects that are distinguished by the field `tag`. Each may have other fields.
 *
 * - `otherwise`: the kind of those without that field
 * - `others`: which other kinds there may be, a pattern, or all but those that are `refused`: they are left out, and
 *   named
 */
export const variants = <const V extends { readonly [kind: string]: AnyStruct }>(
  tag: string,
  of: V,
  options: {
    readonly otherwise?: Extract<keyof V, string>
    readonly others?: RegExp | { readonly refused: ReadonlyArray<string> }
  } = {}
): Variants<V> => {
  const { others, otherwise } = options
  const kinds = Object.keys(of) as Array<Extract<keyof V, string>>
  const structs = new Map<AnyStruct, Array<Extract<keyof V, string>>>()
  for (const kind of kinds) structs.set(of[kind] as AnyStruct, [...(structs.get(of[kind] as AnyStruct) ?? []), kind])
  const schemaOfKind = (struct: AnyStruct, called: ReadonlyArray<Extract<keyof V, string>>): JsonSchema => {
    const { additionalProperties: _, properties, required = [], ...schema } = struct.schema()
    const value = called.length === 1 ? { const: called[0] } : { enum: called }
    const needed = called.some((kind) => kind === otherwise) ? [] : [tag]
    const all = [...new Set([...needed, ...(required as ReadonlyArray<string>)])]
    return {
      ...schema,
      ...(all.length === 0 ? {} : { required: all }),
      properties: { ...(properties as object), [tag]: value }
    }
  }
  return {
    of,
    kinds,
    names: new Set([tag, ...kinds.flatMap((kind) => [...(of[kind] as AnyStruct).names])]),
    schema: () => {
      const alternatives = [...structs].map(([struct, called]) => schemaOfKind(struct, called))
      if (others !== undefined) {
        const other =
          others instanceof RegExp ? { pattern: others.source } : { not: { enum: [...kinds, ...others.refused] } }
        alternatives.push({
          type: "object",
          required: [tag],
          properties: { [tag]: { type: "string", ...other } },
          [effectKeyword]: "ignored"
        })
      }
      return alternatives.length === 1 ? (alternatives[0] as JsonSchema) : anyOf(...alternatives)
    }
  }
}
