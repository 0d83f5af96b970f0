/**
 * Schemas of numbers with a unit. Programs give times in milliseconds, or as durations of Effect; where people write them (files, variables of the
 * environment, flags) they are in seconds, and the schema knows how they stand there.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as AST from "effect/SchemaAST"

/**
 * The annotation with the schema of a value's form in the configuration file, where that is another one.
 *
 * @internal
 */
export const InFile: unique symbol = Symbol.for("aicortex/config/InFile")

/**
 * The annotation with a value's unit.
 *
 * @internal
 */
export const Unit: unique symbol = Symbol.for("aicortex/config/Unit")

/** @internal */
export type Unit = "ms" | "bytes" | "tokens"

/** Effect would take a negative duration for none at all. */
const isNegative = (value: Duration.DurationInput): boolean => {
  if (typeof value === "bigint") return value < 0n
  if (typeof value === "string") return value.startsWith("-")
  return Array.isArray(value) && value.some((part) => part < 0)
}

const isDurationInput = (value: unknown): value is Duration.DurationInput =>
  typeof value === "number" || (Option.isSome(Duration.decodeUnknown(value)) && !isNegative(value as never))

/** A time as programs give it: a number of milliseconds, or any other duration of Effect. */
const DurationInput = Schema.declare(isDurationInput)

/** @internal */
export const toMilliseconds = (value: Duration.DurationInput): number =>
  typeof value === "number" ? value : Duration.toMillis(value)

interface Range {
  readonly fits: (milliseconds: number) => boolean
  /** Stands behind `a number of milliseconds`. */
  readonly words: string
  readonly json: (perSecond: number) => object
}

const time = ({ fits, json, words }: Range) => {
  const seconds = Schema.Number.pipe(
    Schema.filter((n) => (Number.isFinite(n) && fits(n * 1000) ? undefined : `must be a number of seconds ${words}`), {
      jsonSchema: json(1)
    })
  )
  const inFile = Schema.transform(seconds, Schema.Number, {
    strict: true,
    decode: (value) => value * 1000,
    encode: (value) => value / 1000
  })
  const inMilliseconds = `must be a number of milliseconds ${words}`
  const own = Schema.Number.pipe(
    Schema.filter((n) => (Number.isFinite(n) && fits(n) ? undefined : inMilliseconds), { jsonSchema: json(1000) })
  )
  const given = DurationInput.annotations({
    message: () => ({ message: `${inMilliseconds}, or a duration such as "30 seconds"`, override: true })
  })
  return Schema.transform(given, own, { strict: true, decode: toMilliseconds, encode: (value) => value }).annotations({
    [InFile]: inFile,
    [Unit]: "ms"
  })
}

/**
 * A time above 0, in milliseconds.
 *
 * @internal
 */
export const milliseconds = time({ fits: (n) => n > 0, words: "above 0", json: () => ({ exclusiveMinimum: 0 }) })

/**
 * A time from 0, in milliseconds.
 *
 * @internal
 */
export const pause = time({ fits: (n) => n >= 0, words: "from 0", json: () => ({ minimum: 0 }) })

/**
 * How long something is kept, in milliseconds; 0: no longer than it is used, negative: for ever.
 *
 * @internal
 */
export const keptFor = time({
  fits: () => true,
  words: "(0: only while it is used, negative: for ever)",
  json: () => ({})
})

/**
 * A time of at least one second, in milliseconds.
 *
 * @internal
 */
export const secondOrMore = time({
  fits: (n) => n >= 1000,
  words: "that is at least one second",
  json: (perSecond) => ({ minimum: perSecond })
})

/**
 * A whole number from `min`.
 *
 * @internal
 */
export const wholeFrom = (min: number, unit?: Unit) =>
  Schema.Number.pipe(
    Schema.filter((n) => (Number.isSafeInteger(n) && n >= min ? undefined : `must be a whole number from ${min}`), {
      // With this id, a description stands beside the type in the JSON Schema, and not in its place.
      schemaId: Schema.IntSchemaId,
      jsonSchema: { type: "integer", minimum: min },
      ...(unit === undefined ? {} : { [Unit]: unit })
    })
  )

/**
 * A whole number.
 *
 * @internal
 */
export const whole = Schema.Number.pipe(
  Schema.filter((n) => (Number.isSafeInteger(n) ? undefined : "must be a whole number"), {
    schemaId: Schema.IntSchemaId,
    jsonSchema: { type: "integer" }
  })
)

/**
 * A whole number of a range.
 *
 * @internal
 */
export const wholeBetween = (min: number, max: number) =>
  Schema.Number.pipe(
    Schema.filter(
      (n) => (Number.isInteger(n) && n >= min && n <= max ? undefined : `must be a whole number from ${min} to ${max}`),
      { schemaId: Schema.IntSchemaId, jsonSchema: { type: "integer", minimum: min, maximum: max } }
    )
  )

/**
 * A number above 0.
 *
 * @internal
 */
export const positive = Schema.Number.pipe(
  Schema.filter((n) => (n > 0 && Number.isFinite(n) ? undefined : "must be a number above 0"), {
    jsonSchema: { exclusiveMinimum: 0 }
  })
)

/** @internal */
export const range = (min: number, max: number) =>
  Schema.Number.pipe(
    Schema.filter((n) => (n >= min && n <= max ? undefined : `must be from ${min} to ${max}`), {
      jsonSchema: { minimum: min, maximum: max }
    })
  )

/** @internal */
export const annotationOf = <A>(ast: AST.AST, id: symbol): A | undefined => ast.annotations[id] as A | undefined
