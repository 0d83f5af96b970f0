/** Flags made of settings: the name of a flag, its value, its checks and its help are those of its setting. */
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import {
  type AnySetting,
  defaultOf,
  fileSchemaOf,
  fromText,
  kindOf,
  type OptionsOf,
  type Settings,
  unitOf
} from "../config/setting.js"
import { describe } from "../internal/issues.js"
import * as Flags from "./flags.js"

const about = (setting: AnySetting): string => {
  const otherwise = defaultOf(setting)
  const value = kindOf(setting) === "boolean" ? undefined : otherwise
  const sources = [...(setting.env ?? []), ...(value === undefined ? [] : [value])]
  const repeatable = kindOf(setting) === "list" ? " Repeatable." : ""
  return `${setting.doc}${repeatable}${sources.length === 0 ? "" : ` Default: ${sources.join(", else ")}.`}`
}

const decode = (
  setting: AnySetting,
  flag: string,
  text: string
): Either.Either<unknown, ValidationError.ValidationError> =>
  Either.flatMap(fromText(setting, text, `--${flag}`), (given) =>
    Either.mapLeft(Schema.decodeUnknownEither(fileSchemaOf(setting))(given), (error) => describe(error).reason)
  ).pipe(
    Either.mapLeft((reason) =>
      ValidationError.invalidValue(HelpDoc.p(`--${flag} ${reason}${text.trim() === "" ? "" : `, not '${text}'`}`))
    )
  )

/** `undefined` where it is not given: a flag without a value then says nothing, and an empty list neither. */
const flagOf = (setting: AnySetting, { alias, name, value }: NonNullable<AnySetting["flag"]>) => {
  const help = { about: about(setting), ...(alias === undefined ? {} : { alias }) }
  const kind = kindOf(setting)
  if (kind === "boolean") return Options.map(Flags.flag(name, help), (given) => given || undefined)
  const shown = { ...help, value: value ?? (unitOf(setting) === "ms" ? "SECONDS" : kind.toUpperCase()) }
  if (kind === "list") {
    return Options.map(Flags.texts(name, shown), (given) => (given.length === 0 ? undefined : given))
  }
  return Options.mapEffect(Flags.text(name, shown), (given) =>
    given === undefined ? Effect.succeed(undefined) : decode(setting, name, given)
  )
}

/** All flags of some settings as one: its value has the settings that are given. */
export const flagsOf = <S extends Settings>(settings: S): Options.Options<OptionsOf<S>> => {
  const named = Object.entries(settings).flatMap(([name, setting]) =>
    setting.flag === undefined ? [] : [[name, setting, setting.flag] as const]
  )
  const all = Options.all(Object.fromEntries(named.map(([name, setting, flag]) => [name, flagOf(setting, flag)])))
  const given = Options.map(
    all,
    (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as OptionsOf<S>
  )
  return Flags.group(given, Object.fromEntries(named.map(([, setting, { name }]) => [name, about(setting)])))
}
