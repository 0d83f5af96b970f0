/**
 * Puts settings together from where they may be given: the options of a program, then the environment, then the
 * configuration file, then the defaults.
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "../Errors.js"
import { isObject } from "../internal/isObject.js"
import { describe, nearestName } from "../internal/issues.js"
import { dropper } from "../internal/optionSchemas.js"
import {
  type AnySetting,
  fileSchemaOf,
  fromText,
  namesOf,
  type OptionsOf,
  type Settings,
  type ValuesOf
} from "./setting.js"

/** Where settings may be given. */
export interface SettingOrigin<S> {
  /** Those of a program, with what errors call them (`the options`). */
  readonly options: OptionsOf<S>
  readonly name: string
  /** Reads a variable of the environment; `undefined` where it is not set. */
  readonly variable: (name: string) => string | undefined
  /** What the configuration file has, decoded; `path` is where that is, for errors. */
  readonly file: OptionsOf<S>
  readonly path: string
  /** What stands before the name of a setting in errors about the file, such as `gateway.`. */
  readonly prefix?: string | undefined
}

/** Where a value stands: `origin` is what `aicortex config` calls it, `source` and `field` are for errors about it. */
export interface Place {
  readonly origin: string
  readonly source: string
  readonly field: string
}

/**
 * The values that hold, and for each that was given its place. Of an object that is put together from several places,
 * `members` has the place of each member.
 */
export interface Collected<S> {
  readonly values: ValuesOf<S>
  readonly places: { readonly [K in keyof S]?: Place }
  readonly members: { readonly [K in keyof S]?: { readonly [name: string]: Place } }
}

interface FoundValue {
  readonly place: Place
  readonly value: unknown
}

const strict = { onExcessProperty: "error" } as const

const environment = "the environment"

const reasonOf = (setting: AnySetting, field: string, reason: string): string => {
  const top = field.includes(".") ? undefined : setting.excluded?.[field]
  return top ?? reason
}

const check = (
  setting: AnySetting,
  schema: Schema.Schema.AnyNoContext,
  value: unknown,
  place: Place,
  given?: string
): Either.Either<unknown, InvalidConfig> =>
  Either.mapLeft(Schema.decodeUnknownEither(schema, strict)(value), (error) => {
    const { field, reason } = describe(error)
    const said = reasonOf(setting, field, reason)
    return new InvalidConfig({
      source: place.source,
      field: field === "" ? place.field : `${place.field}.${field}`,
      reason: given !== undefined && field === "" && said.startsWith("must ") ? `${said}, not '${given}'` : said
    })
  })

/** The value of a setting in one place, under any of its names. */
const oneOf = (
  name: string,
  setting: AnySetting,
  values: { readonly [name: string]: unknown },
  source: string,
  prefix = ""
): Either.Either<{ readonly field: string; readonly value: unknown } | undefined, InvalidConfig> => {
  const [first, second] = namesOf(name, setting).filter((one) => (values[one] ?? undefined) !== undefined)
  if (first === undefined) return Either.right(undefined)
  if (second === undefined) return Either.right({ field: `${prefix}${first}`, value: values[first] })
  const reason = `is another name of '${first}': give only one of them`
  return Either.left(new InvalidConfig({ source, field: `${prefix}${second}`, reason }))
}

function* given(
  name: string,
  setting: AnySetting,
  { file, name: source, options, path, prefix = "", variable }: SettingOrigin<Settings>
): Generator<Either.Either<FoundValue, InvalidConfig>> {
  const option = oneOf(name, setting, options, source)
  if (Either.isLeft(option)) yield Either.left(option.left)
  else if (option.right !== undefined) {
    const { field, value: given } = option.right
    const place = { origin: source, source, field }
    const drop = dropper(setting.schema.ast)
    const value = drop === undefined ? given : drop(given)
    yield Either.map(check(setting, setting.schema, value, place), (decoded) => ({ place, value: decoded }))
  }
  for (const one of setting.env ?? []) {
    const text = variable(one)
    if (text === undefined) continue
    const place = { origin: one, source: environment, field: one }
    const read = fromText(setting, text, one)
    if (Either.isLeft(read)) {
      yield Either.left(new InvalidConfig({ source: environment, field: one, reason: read.left }))
    } else if (read.right !== undefined) {
      const shown = setting.secret === true ? undefined : text
      yield Either.map(check(setting, fileSchemaOf(setting), read.right, place, shown), (value) => ({ place, value }))
    }
  }
  const own = oneOf(name, setting, file, path, prefix)
  if (Either.isLeft(own)) yield Either.left(own.left)
  else if (own.right !== undefined) {
    const { field, value } = own.right
    yield Either.right({ place: { origin: "the file", source: path, field }, value })
  }
}

/**
 * The settings that hold, or what is wrong with the first that cannot be used. A setting that is given in several
 * places is checked in the one that holds; one that is put together from all of them, in each.
 */
export const collect = <S extends Settings>(
  settings: S,
  places: SettingOrigin<S>
): Either.Either<Collected<S>, InvalidConfig> => {
  const values: Record<string, unknown> = {}
  const origins: Record<string, Place> = {}
  const members: Record<string, Record<string, Place>> = {}
  for (const [name, setting] of Object.entries(settings)) {
    values[name] = setting.default
    for (const found of given(name, setting, places as SettingOrigin<Settings>)) {
      if (Either.isLeft(found)) return Either.left(found.left)
      const { place, value } = found.right
      origins[name] ??= place
      if (setting.join !== true || !isObject(value)) {
        values[name] = value
        break
      }
      members[name] ??= {}
      const of = members[name]
      const joined: Record<string, unknown> = { ...(values[name] as object | undefined) }
      for (const [member, one] of Object.entries(value)) {
        if (one === undefined || Object.hasOwn(of, member)) continue
        joined[member] = one
        of[member] = place
      }
      values[name] = joined
    }
  }
  return Either.right({ values, places: origins, members } as unknown as Collected<S>)
}

/** Refuses an option that is none of the settings; `aliases` are accepted, but not proposed. */
export const unknownOption = (
  options: object,
  known: ReadonlyArray<string>,
  source: string,
  aliases: ReadonlyArray<string> = []
): Either.Either<void, InvalidConfig> => {
  const field = Object.keys(options).find((name) => !known.includes(name) && !aliases.includes(name))
  if (field === undefined) return Either.void
  const near = nearestName(field, known)
  const hint = near === undefined ? "" : `; did you mean '${near}'?`
  return Either.left(
    new InvalidConfig({ source, field, reason: `there is no such option${hint || `; there are ${known.join(", ")}`}` })
  )
}
