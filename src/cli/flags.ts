/** The kinds of flags. Each is optional, and `undefined` if not given, unless stated otherwise. */
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as AST from "effect/SchemaAST"
import { Options as CallOptions } from "../ChatRequest.js"
import { describe } from "../internal/issues.js"
import {
  annotationOf,
  InFile,
  keepAlive,
  keptFor,
  milliseconds,
  whole as wholeNumber
} from "../internal/optionSchemas.js"

/** The help of a flag: the name of its value, a short name, and its purpose. */
export interface About {
  readonly value?: string
  readonly alias?: string
  readonly about: string
}

const abouts = new WeakMap<object, (flag: string) => string>()

/** The help of a flag (`--name`) of this module. */
export const aboutOf = (options: object, flag: string): string => abouts.get(options)?.(flag) ?? ""

const noted = <O extends object>(options: O, { about }: About): O => {
  abouts.set(options, () => about)
  return options
}

/** Several flags as one; `help` has what each is for, by its name. */
export const group = <O extends object>(options: O, help: { readonly [name: string]: string }): O => {
  abouts.set(options, (flag) => help[flag.slice(2)] ?? "")
  return options
}

const describeFlag = <A>(options: Options.Options<A>, { about, alias, value }: About): Options.Options<A> => {
  const described = Options.withDescription(options, about)
  const named = value === undefined ? described : Options.withPseudoName(described, value)
  return alias === undefined ? named : Options.withAlias(named, alias)
}

/** Values of a repeated flag are trimmed; empty ones are dropped. */
export const wrap = (value: string): string => `=${encodeURIComponent(value)}`

const unwrap = (value: string): string => decodeURIComponent(value.slice(1))

const optional = <A>(options: Options.Options<A>, about: About): Options.Options<A | undefined> =>
  noted(Options.map(Options.optional(options), Option.getOrUndefined), about)

const wrong = (name: string, value: string, reason: string) =>
  ValidationError.invalidValue(HelpDoc.p(`--${name} ${reason}, not '${value}'`))

export const text = (name: string, about: About): Options.Options<string | undefined> =>
  optional(describeFlag(Options.text(name), about), about)

/** Repeatable. */
export const texts = (name: string, about: About): Options.Options<ReadonlyArray<string>> =>
  noted(
    Options.map(Options.repeated(describeFlag(Options.text(name), about)), (values) => values.map(unwrap)),
    about
  )

/** The number that a text is, or the text, which no schema of a number takes. */
const numeric = (text: string): number | string =>
  text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text)

/** A schema's value, or what is wrong in the words of the schema. */
const decoded = <A>(name: string, text: string, schema: Schema.Schema<A>, value: unknown) =>
  Either.mapLeft(Schema.decodeUnknownEither(schema)(value), (error) => wrong(name, text, describe(error).reason))

interface JsonRange {
  readonly type?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly exclusiveMinimum?: number
}

/** The range of a schema, for the help: that a count begins at 1 goes without saying. */
const rangeOf = (schema: Schema.Schema<number>): string | undefined => {
  const { exclusiveMinimum, maximum, minimum } =
    annotationOf<JsonRange>(schema.ast, AST.JSONSchemaAnnotationId) ?? ({} as JsonRange)
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`
  return exclusiveMinimum === undefined ? undefined : `Above ${exclusiveMinimum}`
}

/** The help of a number: what it is for, its range, and what it is if it is not given. */
const rangedAbout = (about: string | undefined, schema: Schema.Schema<number>, otherwise: number | undefined) => {
  const range = rangeOf(schema)
  const rest =
    otherwise === undefined ? range : range === undefined ? `Default: ${otherwise}` : `${range}, default ${otherwise}`
  return [...(about === undefined ? [] : [about]), ...(rest === undefined ? [] : [`${rest}.`])].join(" ")
}

/** A number: its range, and whether it is whole, are those of its schema, which the help names. */
export const number = (
  name: string,
  schema: Schema.Schema<number>,
  { about, default: otherwise, ...rest }: Partial<About> & { readonly default?: number | undefined } = {}
): Options.Options<number | undefined> => {
  const ranged = { value: "NUMBER", ...rest, about: rangedAbout(about, schema, otherwise) }
  return optional(
    Options.mapEffect(describeFlag(Options.text(name), ranged), (text) => decoded(name, text, schema, numeric(text))),
    ranged
  )
}

/** A whole number of any size. */
export const whole = (name: string, about: About): Options.Options<number | undefined> =>
  number(name, wholeNumber, about)

const inSeconds = annotationOf<Schema.Schema<number>>(milliseconds.ast, InFile) as Schema.Schema<number>
const keptForSeconds = annotationOf<Schema.Schema<number>>(keptFor.ast, InFile) as Schema.Schema<number>

const time = (name: string, about: About, schema: Schema.Schema<number>): Options.Options<number | undefined> =>
  optional(
    Options.mapEffect(describeFlag(Options.text(name), { value: "SECONDS", ...about }), (text) =>
      decoded(name, text, schema, numeric(text))
    ),
    about
  )

/** Given in seconds, returned in milliseconds. */
export const seconds = (name: string, about: About): Options.Options<number | undefined> => time(name, about, inSeconds)

/** How long something is kept, in seconds; returned in milliseconds. Negative: for ever. */
export const lifetime = (name: string, about: About): Options.Options<number | undefined> =>
  time(name, about, keptForSeconds)

/** A number of seconds, or a duration as in Ollama. */
export const duration = (name: string, about: About): Options.Options<number | string | undefined> =>
  optional(
    Options.mapEffect(describeFlag(Options.text(name), { value: "TIME", ...about }), (text) =>
      decoded(name, text, keepAlive, /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : text)
    ),
    about
  )

/** The choices of an option that is one of some words. */
export const words = <const W extends string>(
  literals: ReadonlyArray<W>
): ReadonlyArray<readonly [name: W, value: W]> => literals.map((one) => [one, one] as const)

export const choice = <const C extends ReadonlyArray<readonly [name: string, value: unknown]>>(
  name: string,
  choices: C,
  about: About
): Options.Options<C[number][1] | undefined> => {
  const names = choices.map(([one]) => one)
  return optional(
    Options.mapEffect(describeFlag(Options.text(name), { value: names.join("|"), ...about }), (value) => {
      const found = choices.find(([one]) => one === value)
      return found === undefined
        ? Either.left(wrong(name, value, `must be one of ${names.join(", ")}`))
        : Either.right(found[1])
    }),
    about
  )
}

/** `false` if not given. */
export const flag = (name: string, about: About): Options.Options<boolean> =>
  noted(describeFlag(Options.boolean(name), about), about)

/** `true` if given, else `undefined`: the settings may say so too. */
export const orSettings = (name: string, about: About): Options.Options<true | undefined> =>
  noted(
    Options.map(describeFlag(Options.boolean(name), about), (given) => given || undefined),
    about
  )

/** The flag of every command that prints something for programs. */
export const json: Options.Options<boolean> = flag("json", { about: "Print JSON, for programs." })

/** The flag of commands that can show in advance what they would do. */
export const dryRun: Options.Options<boolean> = flag("dry-run", {
  about: "Only show what would be done, or why it would not be, with exit code 1."
})

/** The flag of every command that asks before it changes something. */
export const yes: Options.Options<boolean> = flag("yes", { alias: "y", about: "Go ahead without a question." })

/** The flag of every command that asks a model. */
export const model: Options.Options<string | undefined> = text("model", {
  alias: "m",
  value: "NAME",
  about: "The model to ask."
})

/** The flag of every command that uses a gateway. */
export const keyEnv: Options.Options<string | undefined> = text("key-env", {
  value: "NAME",
  about: "The environment variable that holds the gateway's key: the key itself is written nowhere."
})

/** The flag of everything that waits for servers; each command says how long it is without it. */
export const timeout: Options.Options<number | undefined> = seconds("timeout", {
  about: "How long a server may be silent. Default: 30, and 60 for `aicortex doctor`."
})

/** The flag of everything that tries servers. */
export const maxRetries: Options.Options<number | undefined> = number(
  "max-retries",
  CallOptions.fields.maxRetries.from,
  {
    about: "Total number of attempts. Default: two rounds over the servers, and at least six."
  }
)
