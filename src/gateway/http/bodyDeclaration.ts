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
 * A field of a body.
 *
 * - `required`: the reader rejects a body without it
 * - `ignored`: it is not read, but left out and named in the response
 */
export interface Field<A> {
  readonly schema: JsonSchema | (() => JsonSchema)
  readonly required?: boolean
  readonly ignored?: boolean
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
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.flag(fields, name, at)
})

/** A string. */
export const text = (notes?: Notes): Field<string | undefined> => ({
  schema: noted({ type: "string" }, notes),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.text(fields, name, at)
})

/** One of some strings. */
export const oneOf = <const A extends string>(values: ReadonlyArray<A>, notes?: Notes): Field<A | undefined> => ({
  schema: noted({ enum: values }, notes),
  reader:
    (name, path) =>
    (fields, at = path) =>
      Fields.oneOf(fields, name, values, at)
})

/** An object; `members` reads what is in it. */
export const object = (notes?: Notes, members?: AnyStruct): Field<Fields.Fields | undefined> => ({
  schema: () => noted(members === undefined ? { type: "object" } : members.schema(), notes),
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
  items: JsonSchema | AnyStruct,
  notes?: Notes & { readonly minItems?: number; readonly maxItems?: number }
): Field<ReadonlyArray<unknown> | undefined> => ({
  schema: () => noted({ type: "array", items: isStruct(items) ? items.schema() : items }, notes),
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
  schema: field.schema,
  required: true,
  reader: (name, path) => {
    const read = field.reader(name, path)
    return (fields, at = path) =>
      (read(fields, at) ?? reject(at, "is missing", "missing_required_parameter")) as Exclude<A, undefined>
  }
})

/** The same field, which a body must have: whoever reads it says in the words of its API that it is missing. */
export const needed = <F extends Field<unknown>>(field: F): F => ({ ...field, required: true })

const schemaOf = ({ schema }: Field<unknown>): JsonSchema => (typeof schema === "function" ? schema() : schema)

const noEffect = "Accepted for compatibility; has no effect."

/** The same field, whose value makes no difference to an answer: only its type is checked. */
export const withoutEffect = <A>(field: Field<A>): Field<A> => ({
  ...field,
  schema: () => ({ ...schemaOf(field), description: noEffect })
})

/** The keyword of the OpenAPI document for fields that are left out and named: always, or where they are not valid. */
const effectKeyword = "x-aicortex-effect"

/** A field that is left out, and named in the response. */
export const ignored: Field<undefined> = {
  schema: { description: noEffect, [effectKeyword]: "ignored" },
  ignored: true,
  reader: () => () => undefined
}

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

const isStruct = (value: JsonSchema | AnyStruct): value is AnyStruct => "read" in value

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
