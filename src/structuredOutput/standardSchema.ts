/**
 * Standard Schemas: conversion to JSON Schema and validation, both by the library that the schema comes from.
 *
 * Anything that JSON Schema cannot express (a refinement, a date) is omitted from it and still checked: every value is
 * validated by the schema itself.
 */
import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { JsonObject } from "../ChatRequest.js"
import type { SchemaIssue } from "../Errors.js"
import { inlineRefs } from "../internal/inlineRefs.js"
import { InvalidSchemaError } from "./limits.js"

/** Options that make a converter omit what JSON Schema cannot express, instead of failing. */
const libraryOptions: { readonly [vendor: string]: Record<string, unknown> } = {
  zod: { unrepresentable: "any" },
  valibot: { errorMode: "ignore" },
  arktype: { fallback: ({ base }: { readonly base: unknown }) => base }
}

const standardOf = (schema: StandardSchemaV1) =>
  schema["~standard"] as StandardSchemaV1.Props & Partial<StandardJSONSchemaV1.Props>

/** For what is not installed. Bundlers let an `import` fail that has `.catch` right behind it, and no other. */
const absent = (): undefined => undefined

const missing = (vendor: string, hint: string): InvalidSchemaError =>
  new InvalidSchemaError(`is a schema of ${vendor} that does not say what its JSON Schema is: ${hint}`)

const convertZod = async (schema: StandardSchemaV1): Promise<JsonObject> => {
  if (!("_zod" in schema)) throw missing("Zod 3", "use Zod 4")
  const zod = await import("zod/v4/core").catch(absent)
  if (zod === undefined) throw missing("Zod", "update it to 4.2 or later")
  return zod.toJSONSchema(schema as never, { io: "input", unrepresentable: "any" })
}

const convertValibot = async (schema: StandardSchemaV1): Promise<JsonObject> => {
  const valibot = await import("@valibot/to-json-schema").catch(absent)
  if (valibot === undefined) throw missing("Valibot", "install @valibot/to-json-schema")
  return { ...valibot.toJsonSchema(schema as never, { typeMode: "input", errorMode: "ignore" }) }
}

const convertArkType = (schema: StandardSchemaV1): JsonObject => {
  const type = schema as unknown as { readonly in: { readonly toJsonSchema: (options: object) => JsonObject } }
  return type.in.toJsonSchema(libraryOptions["arktype"] ?? {})
}

/** Converters for library versions whose schemas have none of their own. */
const converters: { readonly [vendor: string]: (schema: StandardSchemaV1) => JsonObject | Promise<JsonObject> } = {
  zod: convertZod,
  valibot: convertValibot,
  arktype: convertArkType
}

const convert = async (schema: StandardSchemaV1): Promise<JsonObject> => {
  const { jsonSchema, vendor } = standardOf(schema)
  const own = libraryOptions[vendor]
  if (jsonSchema !== undefined) {
    return jsonSchema.input({ target: "draft-2020-12", ...(own === undefined ? {} : { libraryOptions: own }) })
  }
  const converter = converters[vendor]
  if (converter !== undefined) return converter(schema)
  throw missing(vendor, "give it as Standard JSON Schema (~standard.jsonSchema), or give its JSON Schema")
}

/** The JSON Schema of a Standard Schema. Rejects with `InvalidSchemaError` if the library cannot convert it. */
export const jsonSchemaOf = async (schema: StandardSchemaV1): Promise<JsonObject> => {
  try {
    return inlineRefs(await convert(schema))
  } catch (cause) {
    if (cause instanceof InvalidSchemaError) throw cause
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new InvalidSchemaError(`cannot be written as JSON Schema: ${reason}`)
  }
}

const keyOf = (segment: PropertyKey | StandardSchemaV1.PathSegment): string =>
  String(typeof segment === "object" ? segment.key : segment)

const resultOf = <A>(result: StandardSchemaV1.Result<A>): Either.Either<A, ReadonlyArray<SchemaIssue>> =>
  result.issues === undefined
    ? Either.right(result.value)
    : Either.left(
        result.issues.map(({ message, path }) => ({
          path: path === undefined ? "" : path.map(keyOf).join("."),
          message
        }))
      )

/** The output of a schema for a value, or the violations. An exception in the schema is a defect. */
export const validate = <A>(
  schema: StandardSchemaV1<unknown, A>,
  value: unknown
): Effect.Effect<A, ReadonlyArray<SchemaIssue>> => {
  try {
    const result = schema["~standard"].validate(value)
    return "then" in result
      ? Effect.flatMap(
          Effect.promise(() => result),
          resultOf
        )
      : resultOf(result)
  } catch (cause) {
    return Effect.die(cause)
  }
}
