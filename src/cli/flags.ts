/** The kinds of flags. Each is optional, and `undefined` if not given, unless stated otherwise. */
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Duration from "../internal/duration.js"

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

const describe = <A>(options: Options.Options<A>, { about, alias, value }: About): Options.Options<A> => {
  const described = Options.withDescription(options, about)
  const named = value === undefined ? described : Options.withPseudoName(described, value)
  return alias === undefined ? named : Options.withAlias(named, alias)
}

/** Values of a repeated flag are trimmed; empty ones are dropped. */
export const wrap = (value: string): string => `=${encodeURIComponent(value)}`

const unwrap = (value: string): string => decodeURIComponent(value.slice(1))

const optional = <A>(options: Options.Options<A>, about: About): Options.Options<A | undefined> =>
  noted(Options.map(Options.optional(options), Option.getOrUndefined), about)

const wrong = (name: string, value: string, must: string) =>
  ValidationError.invalidValue(HelpDoc.p(`--${name} must be ${must}, not '${value}'`))

export const text = (name: string, about: About): Options.Options<string | undefined> =>
  optional(describe(Options.text(name), about), about)

/** Repeatable. */
export const texts = (name: string, about: About): Options.Options<ReadonlyArray<string>> =>
  noted(
    Options.map(Options.repeated(describe(Options.text(name), about)), (values) => values.map(unwrap)),
    about
  )

export const number = (
  name: string,
  about: About,
  { must = "a number", test = Number.isFinite }: { readonly must?: string; readonly test?: (n: number) => boolean } = {}
): Options.Options<number | undefined> =>
  optional(
    Options.mapEffect(describe(Options.text(name), { value: "NUMBER", ...about }), (value) =>
      value.trim() !== "" && test(Number(value)) ? Effect.succeed(Number(value)) : Effect.fail(wrong(name, value, must))
    ),
    about
  )

export const whole = (name: string, about: About): Options.Options<number | undefined> =>
  number(name, about, { must: "a whole number", test: Number.isSafeInteger })

/** Given in seconds, returned in milliseconds. */
export const seconds = (name: string, about: About): Options.Options<number | undefined> =>
  noted(
    Options.map(
      number(
        name,
        { value: "SECONDS", ...about },
        { must: "a number of seconds above 0", test: (n) => Number.isFinite(n * 1000) && n > 0 }
      ),
      (value) => (value === undefined ? undefined : value * 1000)
    ),
    about
  )

/** A number of seconds, or a duration as in Ollama. */
export const duration = (name: string, about: About): Options.Options<number | string | undefined> =>
  optional(
    Options.mapEffect(describe(Options.text(name), { value: "TIME", ...about }), (text) => {
      const value = /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : text
      return typeof value === "number" || Duration.parse(value) !== undefined
        ? Effect.succeed(value)
        : Effect.fail(wrong(name, text, "a number of seconds, or a duration such as 5m or 1h30m"))
    }),
    about
  )

export const choice = <const C extends ReadonlyArray<readonly [name: string, value: unknown]>>(
  name: string,
  choices: C,
  about: About
): Options.Options<C[number][1] | undefined> => {
  const names = choices.map(([one]) => one)
  return optional(
    Options.mapEffect(describe(Options.text(name), { value: names.join("|"), ...about }), (value) => {
      const found = choices.find(([one]) => one === value)
      return found === undefined
        ? Effect.fail(wrong(name, value, `one of ${names.join(", ")}`))
        : Effect.succeed(found[1])
    }),
    about
  )
}

/** `false` if not given. */
export const flag = (name: string, about: About): Options.Options<boolean> =>
  noted(describe(Options.boolean(name), about), about)

/** `true` if given, else `undefined`: the settings may say so too. */
export const orSettings = (name: string, about: About): Options.Options<true | undefined> =>
  noted(
    Options.map(describe(Options.boolean(name), about), (given) => given || undefined),
    about
  )

/** The flag of every command that prints something for programs. */
export const json: Options.Options<boolean> = flag("json", { about: "Print JSON, for programs." })

/** The flag of every command that asks a model. */
export const model: Options.Options<string | undefined> = text("model", {
  alias: "m",
  value: "NAME",
  about: "The model to ask."
})

/** The flag of everything that waits for servers; each command says how long it is without it. */
export const timeout: Options.Options<number | undefined> = seconds("timeout", {
  about: "How long a server may be silent. Default: 30, and 60 for `aicortex doctor`."
})

/** The flag of everything that tries servers. */
export const maxRetries: Options.Options<number | undefined> = whole("max-retries", {
  about: "Total number of attempts. Default: two rounds over the servers, and at least six."
})
