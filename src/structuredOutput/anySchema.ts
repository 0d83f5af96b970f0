/** The kinds of schema that callers may pass, how they are distinguished, and the types inferred from them. */
import type { StandardSchemaV1 } from "@standard-schema/spec"
import * as Schema from "effect/Schema"
import type { FromSchema, JSONSchema } from "json-schema-to-ts"
import type { JsonObject } from "../ChatRequest.js"

/**
 * A schema of any kind: a Standard Schema (Zod, Valibot, ArkType, …), an Effect schema, or a JSON Schema.
 *
 * @since 0.2.0
 * @category models
 */
// biome-ignore lint/suspicious/noExplicitAny: a schema of anything.
export type AnySchema = StandardSchemaV1<any, any> | Schema.Schema<any, any, any> | object

type IsAny<S> = 0 extends 1 & S ? true : false

/** Whether a JSON Schema refers to others, or to itself: types of those cannot be inferred. */
type Refers<S> = S extends { readonly $ref: unknown }
  ? true
  : S extends ReadonlyArray<infer Item>
    ? Refers<Item>
    : S extends object
      ? { [K in keyof S]: Refers<S[K]> }[keyof S]
      : false

/**
 * The output type of a schema: of a Standard Schema its output, of an Effect schema its type, of a JSON Schema that is
 * `as const` and has no `$ref` the type it describes, else `unknown`.
 *
 * @since 0.2.0
 * @category models
 */
export type OutputOf<S> =
  IsAny<S> extends true
    ? unknown
    : // biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
      S extends Schema.Schema.Variance<infer A, any, any>
      ? A
      : // biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
        S extends StandardSchemaV1<any, infer A>
        ? A
        : S extends JSONSchema
          ? true extends Refers<S>
            ? unknown
            : FromSchema<S>
          : unknown

/**
 * The input type of a schema: the value that a model writes, before transformations.
 *
 * @since 0.2.0
 * @category models
 */
export type InputOf<S> =
  IsAny<S> extends true
    ? unknown
    : // biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
      S extends Schema.Schema.Variance<any, infer I, any>
      ? I
      : // biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
        S extends StandardSchemaV1<infer I, any>
        ? I
        : OutputOf<S>

/**
 * An incomplete value: properties may be missing, lists and strings may be shorter.
 *
 * @since 0.2.0
 * @category models
 */
export type DeepPartial<T> =
  T extends ReadonlyArray<infer Item>
    ? ReadonlyArray<DeepPartial<Item>>
    : T extends object
      ? { readonly [K in keyof T]?: DeepPartial<T[K]> }
      : T

/**
 * The services that an Effect schema needs; `never` for any other.
 *
 * @since 0.2.0
 * @category models
 */
export type ContextOf<S> =
  // biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
  IsAny<S> extends true ? never : S extends Schema.Schema.Variance<any, any, infer R> ? R : never

/** A classified schema. */
export type Recognised =
  // biome-ignore lint/suspicious/noExplicitAny: a schema of anything.
  | { readonly kind: "effect"; readonly schema: Schema.Schema<any, any, any> }
  | { readonly kind: "standard"; readonly schema: StandardSchemaV1 }
  | { readonly kind: "json"; readonly schema: JsonObject }
  | { readonly kind: "none"; readonly reason: string }

const what = "must be a Standard Schema (Zod, Valibot, ArkType, …), an Effect schema or a JSON Schema"

const nameOf = (value: unknown): string => {
  if (value === null) return "null"
  if (Array.isArray(value)) return "a list"
  if (typeof value === "function") return "a function"
  if (typeof value !== "object") return `a ${typeof value}`
  const name: unknown = (value as { readonly constructor?: { readonly name?: unknown } }).constructor?.name
  return typeof name === "string" && name !== "" ? `an instance of ${name}` : "an object of another kind"
}

/** Includes objects of other realms. */
const isPlain = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** Deeper schemas are rejected elsewhere for their depth. */
const maxDepth = 100

/** The location and kind of a value in a JSON Schema that is not JSON. */
const foreign = (value: unknown, path: string, depth: number): string | undefined => {
  if (typeof value === "function" || typeof value === "symbol" || typeof value === "bigint") {
    return `'${path}' is ${nameOf(value)}`
  }
  if (typeof value !== "object" || value === null || depth > maxDepth) return undefined
  if (!Array.isArray(value) && !isPlain(value)) return `'${path}' is ${nameOf(value)}`
  for (const [key, inner] of Object.entries(value)) {
    const found = foreign(inner, path === "" ? key : `${path}.${key}`, depth + 1)
    if (found !== undefined) return found
  }
  return undefined
}

const keywords: ReadonlySet<string> = new Set(
  (
    "type properties required additionalProperties patternProperties propertyNames minProperties maxProperties " +
    "dependencies dependentRequired dependentSchemas unevaluatedProperties items prefixItems additionalItems " +
    "unevaluatedItems contains minContains maxContains minItems maxItems uniqueItems enum const allOf anyOf oneOf not " +
    "if then else minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum multipleOf " +
    "nullable definitions title description default examples deprecated readOnly writeOnly contentEncoding " +
    "contentMediaType contentSchema id"
  ).split(" ")
)

const plainSchemas = new WeakSet<object>()

/** The reason why an object that looks like a JSON Schema has no assertions. */
const notJsonSchema = (schema: object): string | undefined => {
  if (plainSchemas.has(schema)) return undefined
  if (!isPlain(schema)) return `${what}, not ${nameOf(schema)}`
  const found = foreign(schema, "", 0)
  if (found !== undefined) return `${what}; in a JSON Schema everything is JSON, and ${found}`
  const names = Object.keys(schema)
  if (names.length > 0 && !names.some((name) => keywords.has(name) || name.startsWith("$"))) {
    return `${what}; ${names.slice(0, 3).join(", ")} is no keyword of JSON Schema, so that it would check nothing`
  }
  plainSchemas.add(schema)
  return undefined
}

const isStandard = (value: object): value is StandardSchemaV1 => {
  const standard: unknown = "~standard" in value ? value["~standard"] : undefined
  return (
    typeof standard === "object" &&
    standard !== null &&
    "validate" in standard &&
    typeof standard.validate === "function" &&
    "version" in standard &&
    standard.version === 1
  )
}

/** Classifies a schema. An Effect schema that is also a Standard Schema is an Effect schema. */
export const recognise = (value: unknown): Recognised => {
  if ((typeof value !== "object" && typeof value !== "function") || value === null || Array.isArray(value)) {
    return { kind: "none", reason: `${what}, not ${nameOf(value)}` }
  }
  if (Schema.isSchema(value)) return { kind: "effect", schema: value }
  if (isStandard(value)) return { kind: "standard", schema: value }
  if (typeof value === "function") return { kind: "none", reason: `${what}, not ${nameOf(value)}` }
  const reason = notJsonSchema(value)
  return reason === undefined ? { kind: "json", schema: value as JsonObject } : { kind: "none", reason }
}
