/**
 * Turns a model's reply into a value: finds the JSON in it, checks it against a schema, and says what is wrong in
 * words that can be given back to the model.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as JSONSchema from "effect/JSONSchema"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { JsonObject } from "./ChatRequest.js"
import { InvalidRequest, type SchemaIssue } from "./Errors.js"
import { inlineRefs } from "./internal/inlineRefs.js"

// =============================================================================
// the prompt
// =============================================================================

/**
 * What is added to the system prompt of every call that wants JSON.
 *
 * @since 0.1.0
 * @category constants
 */
export const instruction = "Respond only with valid JSON. No prose, no markdown."

/**
 * The caller's system prompt with the instruction after it.
 *
 * @since 0.1.0
 * @category combinators
 */
export const withInstruction = (system?: string | undefined): string =>
  system === undefined || system === "" ? instruction : `${system}\n${instruction}`

const maxIssues = 20

/**
 * What the user says to have a reply mended.
 *
 * @since 0.1.0
 * @category constructors
 */
export const repairPrompt = (issues: ReadonlyArray<SchemaIssue>): string => {
  const lines = issues
    .slice(0, maxIssues)
    .map(({ message, path }) => (path === "" ? `- ${message}` : `- ${path}: ${message}`))
  return `Your reply does not fit what was asked for:\n${lines.join("\n")}\nGive the whole answer again, corrected. ${instruction}`
}

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

/** Where the fences of a text begin and end. A fence that nothing closes is closed by the end of the text. */
const fencePositions = (text: string): ReadonlyArray<number> => {
  const positions: Array<number> = []
  for (let at = text.indexOf(fence); at >= 0 && positions.length < maxFences; at = text.indexOf(fence, at + 3)) {
    positions.push(at)
  }
  return positions
}

/** Every value that stands in a fence. A fence inside a string never ends a value: what is before it does not parse. */
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
 * The JSON value of a reply: the whole of it, or what stands in its one fence, whatever is around that. The content
 * of strings is never touched.
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
 * Reads a reply. `jsonSchema` is what the server may be asked to hold the model to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Decoder<out A> {
  readonly jsonSchema: JsonObject | undefined
  readonly decode: (text: string) => Either.Either<A, ReadonlyArray<SchemaIssue>>
}

/**
 * Takes any JSON value.
 *
 * @since 0.1.0
 * @category constructors
 */
export const any: Decoder<unknown> = { jsonSchema: undefined, decode: parse }

const schemaDecoders = new WeakMap<object, Decoder<unknown>>()

/** A schema that JSON Schema cannot express is not sent; replies are checked against it all the same. */
const toJsonSchema = <A, I>(schema: Schema.Schema<A, I>): JsonObject | undefined =>
  Either.getOrUndefined(Either.try(() => inlineRefs({ ...JSONSchema.make(schema, { target: "jsonSchema7" }) })))

const makeSchemaDecoder = <A, I>(schema: Schema.Schema<A, I>): Decoder<A> => {
  const decodeValue = Schema.decodeUnknownEither(schema, { errors: "all" })
  return {
    jsonSchema: toJsonSchema(schema),
    decode: (text) =>
      Either.flatMap(parse(text), (value) =>
        Either.mapLeft(decodeValue(value), (error) =>
          ParseResult.ArrayFormatter.formatErrorSync(error).map(({ message, path }) => ({
            path: path.map(String).join("."),
            message
          }))
        )
      )
  }
}

/**
 * Takes what an Effect schema decodes. Made once per schema.
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

type Dialect = "draft-07" | "2019-09" | "2020-12"

const dialectOf = (schema: JsonObject): Dialect => {
  const uri = String(schema["$schema"] ?? "")
  return uri.includes("2020-12") ? "2020-12" : uri.includes("2019-09") ? "2019-09" : "draft-07"
}

interface Problem {
  readonly instancePath: string
  readonly message?: string
  readonly params: { readonly [name: string]: unknown }
}

interface Validate {
  (value: unknown): unknown
  errors?: ReadonlyArray<Problem> | null
}

type Compile = (schema: JsonObject) => Validate

const ajvOptions = {
  strict: false,
  allErrors: true,
  validateFormats: false,
  addUsedSchema: false,
  logger: false
} as const

const constructors = {
  "draft-07": () => import("ajv").then(({ default: Ajv }) => new Ajv(ajvOptions)),
  "2019-09": () => import("ajv/dist/2019.js").then(({ default: Ajv2019 }) => new Ajv2019(ajvOptions)),
  "2020-12": () => import("ajv/dist/2020.js").then(({ default: Ajv2020 }) => new Ajv2020(ajvOptions))
}

const compilers = new Map<Dialect, Compile>()

/** ajv keeps something of every schema it has compiled, so after so many of them another one takes its place. */
const maxCompiled = 256
let compiled = 0

const compiler = Effect.fnUntraced(function* (dialect: Dialect) {
  const known = compilers.get(dialect)
  if (known !== undefined) return known
  const ajv = yield* Effect.promise(constructors[dialect])
  const compile: Compile = (schema) => {
    // A dialect other than these three is read as draft-07; with its own name ajv would refuse it.
    const { $schema: _, ...own } = schema
    const validate = ajv.compile<unknown>(own)
    // ajv would hold it for ever; the dialect's own schema, which it needs, has the one address that is spared.
    if (!String(own["$id"] ?? "").includes("json-schema.org")) ajv.removeSchema(own)
    return validate
  }
  compilers.set(dialect, compile)
  return compile
})

const toIssue = ({ instancePath, message = "is not valid", params }: Problem): SchemaIssue => {
  const path = instancePath
    .slice(1)
    .split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"))
    .join(".")
  const detail =
    params["additionalProperty"] ?? params["unevaluatedProperty"] ?? params["allowedValues"] ?? params["allowedValue"]
  return { path, message: detail === undefined ? message : `${message}: ${JSON.stringify(detail)}` }
}

const jsonSchemaDecoders = new WeakMap<JsonObject, Decoder<unknown>>()

/** Schemas written where they are used are new objects each time, with the same words. */
const decodersByText = new Map<string, Decoder<unknown>>()

const badSchema = (reason: string) => new InvalidRequest({ field: "schema", reason })

/**
 * Takes what fits a JSON Schema: draft-07, or 2019-09 or 2020-12 where its `$schema` says so. Made once per object.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromJsonSchema = Effect.fnUntraced(function* (
  schema: JsonObject
): Effect.fn.Return<Decoder<unknown>, InvalidRequest> {
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    return yield* badSchema("must be a JSON Schema, as an object")
  }
  const known = jsonSchemaDecoders.get(schema)
  if (known !== undefined) return known
  if (schema["$async"] !== undefined) return yield* badSchema("must not be asynchronous ($async)")
  const text = JSON.stringify(schema)
  const same = decodersByText.get(text)
  if (same !== undefined) {
    jsonSchemaDecoders.set(schema, same)
    return same
  }
  if (++compiled % maxCompiled === 0) {
    compilers.clear()
    decodersByText.clear()
  }
  const compile = yield* compiler(dialectOf(schema))
  const validate = yield* Either.try({
    try: () => compile(schema),
    catch: (cause) => badSchema(cause instanceof Error ? cause.message : String(cause))
  })
  const decoder: Decoder<unknown> = {
    jsonSchema: schema,
    decode: (text) =>
      Either.flatMap(parse(text), (value) =>
        validate(value) === true ? Either.right(value) : Either.left((validate.errors ?? []).map(toIssue))
      )
  }
  jsonSchemaDecoders.set(schema, decoder)
  decodersByText.set(text, decoder)
  return decoder
})
