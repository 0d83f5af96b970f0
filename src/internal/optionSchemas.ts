/**
 * Validation of external options: common ranges, and checks whose errors say what would be valid.
 *
 * @internal
 */
import * as Either from "effect/Either"
import { toStringUnknown } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import { InvalidRequest } from "../Errors.js"
import * as Duration from "./duration.js"
import { type Leaf, leaves, nearestName } from "./issues.js"

/** Each field may be left out. */
type Optional<F> = { readonly [K in keyof F]?: Given<F[K]> }

/** Each field must be given. */
type Needed<F> = { readonly [K in keyof F]: Given<F[K]> }

type OptionalNames<F> = { [K in keyof F]: F[K] extends { readonly _EncodedToken: "?:" } ? K : never }[keyof F]

/**
 * What a program gives for these fields. Unlike `Schema.Schema.Encoded` it keeps the comment of each field, which editors
 * show where the option is written.
 *
 * @internal
 */
export type InputOf<F> = Optional<Pick<F, OptionalNames<F>>> & Needed<Omit<F, OptionalNames<F>>>

/**
 * What a program gives for a schema, with the comments of all fields in it.
 *
 * @internal
 */
export type Given<S> =
  S extends Schema.optional<infer T>
    ? Given<T> | undefined
    : S extends Schema.Struct<infer F>
      ? InputOf<F>
      : S extends Schema.Array$<infer Item>
        ? ReadonlyArray<Given<Item>>
        : S extends Schema.Record$<infer Key, infer Value>
          ? { readonly [K in Schema.Schema.Encoded<Key> & string]: Given<Value> }
          : S extends Schema.Union<infer Members>
            ? Given<Members[number]>
            : S extends Schema.refine<infer _, infer From>
              ? Given<From>
              : Schema.Schema.Encoded<S>

/** @internal */
export const optional = Schema.optional

/** @internal */
export { annotationOf, InFile, keptFor, milliseconds, pause, positive, range, whole, wholeFrom } from "./units.js"

/**
 * Whether Ollama accepts it as a keep-alive.
 *
 * @internal
 */
export const isKeepAlive = (value: number | string): boolean =>
  typeof value === "number" ? Number.isFinite(value) : Duration.parse(value) !== undefined

/** @internal */
export const keepAlive = Schema.Union(Schema.Number, Schema.String).pipe(
  Schema.filter((value) =>
    isKeepAlive(value) ? undefined : "must be a number of seconds, or a duration such as 5m or 1h30m"
  )
)

/** @internal */
export const JsonObjectSchema = Schema.Record({ key: Schema.String, value: Schema.Unknown })

const show = (value: unknown): string => (typeof value === "string" ? JSON.stringify(value) : toStringUnknown(value, 0))

/** The alternatives of a union, if none of them matches. */
const alternatives = (faults: ReadonlyArray<Leaf>): string | undefined => {
  const [first] = faults
  const at = first?.path.join(".")
  const expected = new Set<string>()
  for (const fault of faults) {
    if (fault.expected === undefined || fault.path.join(".") !== at || AST.isUndefinedKeyword(fault.expected)) continue
    expected.add(String(fault.expected))
  }
  if (expected.size < 2) return undefined
  return `must be ${[...expected].join(" or ")}, not ${show(first?.actual)}`
}

/**
 * The error in the caller's terms. `known` are the valid options, for an unknown field; `prefix` precedes the field.
 * `elsewhere` are options that only other functions take.
 *
 * @internal
 */
export const invalid = (
  error: ParseResult.ParseError,
  known: ReadonlyArray<string>,
  prefix = "",
  elsewhere: ReadonlyArray<string> = []
): InvalidRequest => {
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  const issue = issues[0]
  const path = issue?.path.map(String) ?? []
  const field = prefix === "" ? path.join(".") || "options" : [prefix, ...path].join(".")
  if (issue?._tag === "Unexpected" && prefix === "") {
    if (elsewhere.includes(field)) return new InvalidRequest({ field, reason: "cannot be given to this function" })
    const near = nearestName(field, known)
    return new InvalidRequest({
      field,
      reason:
        near === undefined
          ? `there is no such option; there are ${known.join(", ")}`
          : `there is no such option; did you mean ${near}? There are ${known.join(", ")}`
    })
  }
  return new InvalidRequest({ field, reason: alternatives(leaves(error.issue)) ?? issue?.message ?? "is not valid" })
}

/**
 * Without those of its fields that are `null`, which are optional and so not given; the same object where none is.
 * `within` are fields whose values are such objects, too, if they are objects.
 *
 * @internal
 */
export const withoutNulls = <A extends object>(given: A, within: ReadonlyArray<keyof A> = []): A => {
  let left: A | undefined
  const change = (): A => {
    left ??= Object.assign(Object.create(Object.getPrototypeOf(given)), given) as A
    return left
  }
  for (const name in given) if (given[name] === null) delete change()[name]
  for (const name of within) {
    const value = given[name]
    if (typeof value !== "object" || value === null || Array.isArray(value)) continue
    const inner = withoutNulls(value as object)
    if (inner !== value) change()[name] = inner as A[keyof A]
  }
  return left ?? given
}

/** @internal */
export type Drop = (value: unknown) => unknown

/**
 * What takes a value of this schema without those of its optional fields that are `null`, and gives the same value where
 * none is. What has no such fields is not looked into: `undefined`.
 *
 * @internal
 */
export const dropper = (ast: AST.AST): Drop | undefined => {
  if (AST.isRefinement(ast)) return dropper(ast.from)
  if (AST.isUnion(ast)) {
    const drops = ast.types.map(dropper).filter((drop) => drop !== undefined)
    return drops.length === 0 ? undefined : (value) => drops.reduce((left, drop) => drop(left), value)
  }
  if (AST.isTupleType(ast)) {
    const item = ast.rest[0] === undefined ? undefined : dropper(ast.rest[0].type)
    if (item === undefined) return undefined
    return (value) => {
      if (!Array.isArray(value)) return value
      const left = value.map(item)
      return left.every((one, i) => Object.is(one, value[i])) ? value : left
    }
  }
  if (!AST.isTypeLiteral(ast) || ast.propertySignatures.length === 0) return undefined
  const optional = new Set<PropertyKey>()
  const inner = new Map<PropertyKey, Drop>()
  for (const { isOptional, name, type } of ast.propertySignatures) {
    if (isOptional) optional.add(name)
    const drop = dropper(type)
    if (drop !== undefined) inner.set(name, drop)
  }
  return (value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return value
    let given: { [name: string]: unknown } | undefined
    for (const [name, field] of Object.entries(value)) {
      const left = field === null && optional.has(name) ? undefined : (inner.get(name)?.(field) ?? field)
      if (Object.is(left, field)) continue
      given ??= Object.assign(Object.create(Object.getPrototypeOf(value)), value) as { [name: string]: unknown }
      if (left === undefined) delete given[name]
      else given[name] = left
    }
    return given ?? value
  }
}

type Check = (value: unknown) => boolean

/** A check of a plain type that allocates nothing; `undefined` for other types. */
const plainCheck = (ast: AST.AST): Check | undefined => {
  if (AST.isStringKeyword(ast)) return (value) => typeof value === "string"
  if (AST.isNumberKeyword(ast)) return (value) => typeof value === "number"
  if (AST.isBooleanKeyword(ast)) return (value) => typeof value === "boolean"
  if (AST.isUndefinedKeyword(ast)) return (value) => value === undefined
  if (AST.isLiteral(ast)) return (value) => value === ast.literal
  if (AST.isRefinement(ast)) {
    const from = plainCheck(ast.from)
    return from && ((value) => from(value) && Option.isNone(ast.filter(value, AST.defaultParseOption, ast)))
  }
  if (AST.isUnion(ast)) {
    const members = ast.types.map(plainCheck)
    return members.every((member) => member !== undefined) ? (value) => members.some((is) => is(value)) : undefined
  }
  return undefined
}

/**
 * A decoder that is cheap for valid options: only given fields are checked. An unknown option is an error, never
 * dropped; `null` counts as absent. `elsewhere` are options that only other functions take.
 *
 * @internal
 */
export const decoder = <Fields extends Schema.Struct.Fields>(
  schema: Schema.Struct<Fields>,
  elsewhere: ReadonlyArray<string> = []
): ((input: unknown) => Either.Either<Schema.Struct.Type<Fields>, InvalidRequest>) => {
  type Options = Schema.Struct.Type<Fields>
  const plain = schema as unknown as Schema.Schema<Options>
  const whole = Schema.decodeUnknownEither(plain, { onExcessProperty: "error" })
  const known = [...Object.keys(schema.fields), ...elsewhere]
  const checks: ReadonlyMap<PropertyKey, Check> = new Map(
    AST.getPropertySignatures(schema.ast).map(({ name, type }) => [
      name,
      plainCheck(AST.typeAST(type)) ?? Schema.is(Schema.make(type), { onExcessProperty: "error" })
    ])
  )
  const required = AST.getPropertySignatures(schema.ast).flatMap(({ isOptional, name }) => (isOptional ? [] : [name]))
  /** A quick check before the whole schema, which has the error messages. */
  const fits = (input: unknown): input is Options => {
    if (typeof input !== "object" || input === null || Array.isArray(input)) return false
    for (const name of required) if (!(name in input)) return false
    const given = input as { readonly [name: string]: unknown }
    for (const name of Object.keys(given)) if (checks.get(name)?.(given[name]) !== true) return false
    return true
  }
  const drop = dropper(schema.ast)
  return (input) => {
    if (fits(input)) return Either.right({ ...(input as object) } as Options)
    const given = drop === undefined ? input : drop(input)
    return fits(given)
      ? Either.right(given)
      : Either.mapLeft(whole(given), (error) => invalid(error, known, "", elsewhere))
  }
}
