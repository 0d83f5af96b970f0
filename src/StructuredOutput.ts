/**
 * Turns a model's reply into a value: extracts the JSON, validates it against a schema, and describes violations so
 * that the model can correct them.
 *
 * @since 0.1.0
 */
import type { StandardSchemaV1 } from "@standard-schema/spec"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as JSONSchema from "effect/JSONSchema"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { JsonObject } from "./ChatRequest.js"
import { InvalidRequest, type SchemaIssue } from "./Errors.js"
import { inlineRefs } from "./internal/inlineRefs.js"
import { type AnySchema, type ContextOf, type OutputOf, recognise } from "./structuredOutput/anySchema.js"
import { CheckRun } from "./structuredOutput/check.js"
import * as Compile from "./structuredOutput/compile.js"
import { linesOf } from "./structuredOutput/issueText.js"
import * as Limits from "./structuredOutput/limits.js"
import * as Standard from "./structuredOutput/standardSchema.js"

export type { AnySchema, ContextOf, DeepPartial, InputOf, OutputOf } from "./structuredOutput/anySchema.js"

// =============================================================================
// The prompt
// =============================================================================

/**
 * Added to the system prompt of every call that requests JSON.
 *
 * @since 0.1.0
 * @category constants
 */
export const instruction = "Respond only with valid JSON. No prose, no markdown."

/**
 * The caller's system prompt, followed by the instruction.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withInstruction = (system?: string | undefined): string =>
  system === undefined || system === "" ? instruction : `${system}\n${instruction}`

/**
 * Whether a retry may help: not if the reply was too costly to check, because the next one would be too.
 *
 * @since 0.1.0
 * @category guards
 */
export const canRepair = (issues: ReadonlyArray<SchemaIssue>): boolean => !issues.some(({ unchecked }) => unchecked)

/**
 * The user message that asks the model to correct its reply.
 *
 * @since 0.1.0
 * @category constructors
 */
export const repairPrompt = (issues: ReadonlyArray<SchemaIssue>): string =>
  `Your reply does not fit what was asked for:\n${linesOf(issues)}\nGive the whole answer again, corrected. ${instruction}`

// =============================================================================
// parsing
// =============================================================================

const fence = "```"
const maxFences = 32

const tryParse = (text: string): Either.Either<unknown, string> =>
  Either.try({
    try: (): unknown => JSON.parse(text),
    catch: (cause) => (cause instanceof Error ? cause.message : String(cause))
  })

/** The ranges of the code fences in a text. An unclosed fence ends with the text. */
const fencePositions = (text: string): ReadonlyArray<number> => {
  const positions: Array<number> = []
  for (let at = text.indexOf(fence); at >= 0 && positions.length < maxFences; at = text.indexOf(fence, at + 3)) {
    positions.push(at)
  }
  return positions
}

/** Every JSON value in a code fence. A fence inside a string never ends a value: the text before it does not parse. */
const fenced = (text: string): ReadonlyArray<unknown> => {
  const positions = fencePositions(text)
  const values: Array<unknown> = []
  for (let open = 0; open < positions.length; ) {
    const start = (positions[open] ?? 0) + fence.length
    const rest = text.slice(start)
    const info = /^[\w+-]*(?=\s)/.exec(rest)?.[0].length ?? 0
    let next = open + 1
    for (let close = open + 1; close <= positions.length; close++) {
      const parsed = tryParse(text.slice(start + info, positions[close] ?? text.length))
      if (Either.isRight(parsed)) {
        values.push(parsed.right)
        next = close + 1
        break
      }
    }
    open = next
  }
  return values
}

const issue = (message: string): ReadonlyArray<SchemaIssue> => [{ path: "", message }]

/**
 * The JSON value of a reply: the complete text, or the content of its only code fence. The content of strings is never
 * changed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const parse = (text: string): Either.Either<unknown, ReadonlyArray<SchemaIssue>> => {
  const trimmed = text.trim()
  if (trimmed === "") return Either.left(issue("the reply is empty, not JSON"))
  const whole = tryParse(trimmed)
  if (Either.isRight(whole)) return Either.right(whole.right)
  const values = fenced(trimmed)
  if (values.length === 1) return Either.right(values[0])
  return Either.left(
    issue(values.length > 1 ? "the reply holds more than one JSON value" : `the reply is not JSON: ${whole.left}`)
  )
}

// =============================================================================
// decoders
// =============================================================================

/**
 * Decodes a reply. `jsonSchema` is the schema sent to the server for constrained decoding.
 *
 * @since 0.1.0
 * @category models
 */
export interface Decoder<out A> {
  /** The schema sent to the server for constrained decoding; `undefined`: any JSON. */
  readonly jsonSchema: JsonObject | undefined
  /** The value in a reply, or the violations. */
  readonly decode: (text: string) => Either.Either<A, ReadonlyArray<SchemaIssue>>
}

/**
 * Decodes a reply, possibly asynchronously or with services. Every `Decoder` is one.
 *
 * @since 0.2.0
 * @category models
 */
export interface AsyncDecoder<out A, out R = never> {
  /** The schema sent to the server for constrained decoding; `undefined`: any JSON. */
  readonly jsonSchema: JsonObject | undefined
  /** The value in a reply, or the violations. */
  readonly decode: (text: string) => Effect.Effect<A, ReadonlyArray<SchemaIssue>, R>
}

/**
 * Validates parsed values, such as the arguments of a tool call, and decodes replies.
 *
 * @since 0.2.0
 * @category models
 */
export interface ValueDecoder<out A, out R = never> extends AsyncDecoder<A, R> {
  /** The JSON Schema. */
  readonly jsonSchema: JsonObject | undefined
  /** The output for a value, or the violations. */
  readonly decodeValue: (value: unknown) => Effect.Effect<A, ReadonlyArray<SchemaIssue>, R>
}

/**
 * Accepts any JSON value.
 *
 * @since 0.1.0
 * @category constructors
 */
export const any: Decoder<unknown> = { jsonSchema: undefined, decode: parse }

const schemaDecoders = new WeakMap<object, Decoder<unknown>>()

/** A schema that JSON Schema cannot express is not sent to the server; replies are still validated against it. */
const toJsonSchema = <A, I, R>(schema: Schema.Schema<A, I, R>): JsonObject | undefined =>
  Either.getOrUndefined(Either.try(() => inlineRefs({ ...JSONSchema.make(schema, { target: "jsonSchema7" }) })))

const issuesOf = (issue: ParseResult.ParseIssue): ReadonlyArray<SchemaIssue> =>
  ParseResult.ArrayFormatter.formatIssueSync(issue).map(({ message, path }) => ({
    path: path.map(String).join("."),
    message
  }))

const makeSchemaDecoder = <A, I>(schema: Schema.Schema<A, I>): Decoder<A> => {
  const decodeValue = Schema.decodeUnknownEither(schema, { errors: "all" })
  return {
    jsonSchema: toJsonSchema(schema),
    decode: (text) =>
      Either.flatMap(parse(text), (value) => Either.mapLeft(decodeValue(value), ({ issue }) => issuesOf(issue)))
  }
}

/**
 * Decodes with an Effect schema. Cached per schema.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromSchema = <A, I>(schema: Schema.Schema<A, I>): Decoder<A> => {
  const known = schemaDecoders.get(schema)
  if (known !== undefined) return known as Decoder<A>
  const decoder = makeSchemaDecoder(schema)
  schemaDecoders.set(schema, decoder)
  return decoder
}

const jsonSchemaDecoders = new WeakMap<JsonObject, Decoder<unknown> & ValueDecoder<unknown>>()

const badSchema = (reason: string) => new InvalidRequest({ field: "schema", reason })

/** An invalid schema is an error; anything else is a defect. */
const orBad = <A>(work: () => A): Effect.Effect<A, InvalidRequest> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(work())
    } catch (cause) {
      return cause instanceof Limits.InvalidSchemaError ? badSchema(cause.message) : Effect.die(cause)
    }
  })

/** The issue of a reply that is too costly to check. */
const orUnchecked = (work: () => ReadonlyArray<SchemaIssue>): ReadonlyArray<SchemaIssue> => {
  try {
    return work()
  } catch (cause) {
    if (!(cause instanceof Limits.CheckTooCostly)) throw cause
    const message = `the reply cannot be checked against the schema, because ${cause.message}`
    return [{ path: "", message, unchecked: true }]
  }
}

const check = ({ root, tracks }: Compile.Compiled, value: unknown): ReadonlyArray<SchemaIssue> =>
  orUnchecked(() => {
    const run = new CheckRun(tracks)
    return run.part(root, value, undefined) ? [] : run.issues
  })

const measureReply = (text: string): ReadonlyArray<SchemaIssue> =>
  orUnchecked(() => {
    Limits.measureAnswer(text)
    return []
  })

/**
 * Limits of a schema.
 *
 * @since 0.1.0
 * @category models
 */
export interface SchemaOptions {
  /** Maximum size in bytes of JSON; default 262,144. */
  readonly maxBytes?: number | undefined
}

/**
 * The error of a schema that is passed on to servers but is too long or too deeply nested. `field` is its location.
 *
 * @since 0.1.0
 * @category accessors
 */
export const checkSize = (schema: unknown, field: string, options?: SchemaOptions): InvalidRequest | undefined => {
  try {
    Limits.measure(schema, options?.maxBytes ?? Limits.defaultMaxBytes)
    return undefined
  } catch (cause) {
    if (!(cause instanceof Limits.InvalidSchemaError)) throw cause
    return new InvalidRequest({ field, reason: cause.message })
  }
}

/**
 * Validates with a JSON Schema of any draft from 6 to 2020-12. Cached per object.
 *
 * Neither the schema nor the reply need be trusted: the work on both is bounded. Patterns are matched in linear time;
 * one that cannot be (a backreference, a lookahead that is not at its beginning) is `InvalidRequest`, as is a schema
 * that is invalid, longer than `maxBytes`, nested deeper than 100 levels, or too large in its patterns, subschemas or combinations.
 * A reply that takes more than 300,000 steps to check, or has too many values, is invalid, and the issue says so. `format` is not
 * checked, and other documents are never fetched.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromJsonSchema = Effect.fnUntraced(function* (
  schema: JsonObject,
  options?: SchemaOptions
): Effect.fn.Return<Decoder<unknown> & ValueDecoder<unknown>, InvalidRequest> {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    return yield* badSchema("must be a JSON Schema, as an object")
  }
  const hasPatterns = yield* orBad(() => Limits.measure(schema, options?.maxBytes ?? Limits.defaultMaxBytes))
  const known = jsonSchemaDecoders.get(schema)
  if (known !== undefined) return known
  const patterns = hasPatterns ? yield* Effect.promise(() => import("./structuredOutput/pattern.js")) : undefined
  const compiled = yield* orBad(() => Compile.compile(schema, patterns?.compile))
  const decodeValue = (value: unknown): Either.Either<unknown, ReadonlyArray<SchemaIssue>> => {
    const issues = check(compiled, value)
    return issues.length === 0 ? Either.right(value) : Either.left(issues)
  }
  const decoder = {
    jsonSchema: schema,
    decodeValue,
    decode: (text: string) => {
      const tooMuch = measureReply(text)
      return tooMuch.length > 0 ? Either.left(tooMuch) : Either.flatMap(parse(text), decodeValue)
    }
  }
  jsonSchemaDecoders.set(schema, decoder)
  return decoder
})

// =============================================================================
// schemas of any kind
// =============================================================================

const valueDecoder = <A, R>(
  jsonSchema: JsonObject | undefined,
  decodeValue: ValueDecoder<A, R>["decodeValue"]
): ValueDecoder<A, R> => ({
  jsonSchema,
  decodeValue,
  decode: (text) => {
    const value = parse(text)
    return Either.isLeft(value) ? Either.left(value.left) : decodeValue(value.right)
  }
})

/** A synchronous result is an `Either`, which is also an Effect. */
const isEither = <A, E, R>(effect: Effect.Effect<A, E, R>): effect is Effect.Effect<A, E, R> & Either.Either<A, E> =>
  Either.isEither(effect)

const ofEffect = <A, I, R>(schema: Schema.Schema<A, I, R>): ValueDecoder<A, R> => {
  const decode = ParseResult.decodeUnknown(schema, { errors: "all" })
  return valueDecoder<A, R>(toJsonSchema(schema), (value) => {
    try {
      const decoded: Effect.Effect<A, ParseResult.ParseIssue, R> | Either.Either<A, ParseResult.ParseIssue> =
        decode(value)
      return isEither(decoded) ? Either.mapLeft(decoded, issuesOf) : Effect.mapError(decoded, issuesOf)
    } catch (cause) {
      // An exception in a transformation is a defect.
      return Effect.die(cause)
    }
  })
}

const anyDecoders = new WeakMap<object, ValueDecoder<unknown>>()

/** Created once; a failure is returned on every use. */
const kept = <E>(
  schema: object,
  make: Effect.Effect<ValueDecoder<unknown>, E>
): Effect.Effect<ValueDecoder<unknown>, E> => {
  const made = anyDecoders.get(schema)
  return made === undefined
    ? Effect.tap(make, (decoder) => Effect.sync(() => anyDecoders.set(schema, decoder)))
    : Effect.succeed(made)
}

const ofStandard = (schema: StandardSchemaV1): Effect.Effect<ValueDecoder<unknown>, InvalidRequest> =>
  Effect.tryPromise({
    try: () => Standard.jsonSchemaOf(schema),
    catch: (cause) => cause
  }).pipe(
    Effect.catchAll((cause) =>
      cause instanceof Limits.InvalidSchemaError ? badSchema(cause.message) : Effect.die(cause)
    ),
    Effect.map((jsonSchema) => valueDecoder(jsonSchema, (value) => Standard.validate(schema, value)))
  )

/**
 * Decodes with a schema of any kind: a Standard Schema (Zod, Valibot, ArkType, …), which then validates each reply
 * itself, an Effect schema, or a JSON Schema as in `fromJsonSchema`. Cached per schema.
 *
 * Fails with `InvalidRequest` for anything else, and for a Standard Schema that cannot be converted to JSON Schema:
 * by its own `~standard.jsonSchema`, or by the converter of its library (`@valibot/to-json-schema` must be installed for
 * schemas of Valibot).
 *
 * @example
 * import { StructuredOutput } from "aicortex"
 * import { Schema } from "effect"
 *
 * const decoder = StructuredOutput.from(Schema.Struct({ capital: Schema.String }))
 *
 * @since 0.2.0
 * @category constructors
 */
export const from = <S extends AnySchema>(
  schema: S,
  options?: SchemaOptions
): Effect.Effect<ValueDecoder<OutputOf<S>, ContextOf<S>>, InvalidRequest> =>
  Effect.suspend((): Effect.Effect<ValueDecoder<unknown>, InvalidRequest> => {
    const known = recognise(schema)
    switch (known.kind) {
      case "none":
        return badSchema(known.reason)
      case "effect":
        return kept(
          known.schema,
          Effect.sync(() => ofEffect(known.schema) as ValueDecoder<unknown>)
        )
      case "json":
        return fromJsonSchema(known.schema, options)
      case "standard":
        return Effect.flatMap(kept(known.schema, ofStandard(known.schema)), (decoder) => {
          const wrong = checkSize(decoder.jsonSchema, "schema", options)
          return wrong === undefined ? Effect.succeed(decoder) : wrong
        })
    }
  }) as Effect.Effect<ValueDecoder<OutputOf<S>, ContextOf<S>>, InvalidRequest>
