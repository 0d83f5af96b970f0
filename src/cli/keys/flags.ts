/** The flags of `aicortex keys`. */
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Either from "effect/Either"
import { fleet } from "../../config/fleet.js"
import { longestGrace, longestLife, ranges, roles } from "../../gateway/keys/keyPolicy.js"
import * as Duration from "../../internal/duration.js"
import { wholeBetween } from "../../internal/units.js"
import * as Flags from "../flags.js"
import { flagsOf } from "../settingFlags.js"

const long: { readonly [unit: string]: number } = { d: 86_400_000, w: 7 * 86_400_000 }

/** `90d`, `12h`, `1h30m`, or a number of seconds, in milliseconds. */
export const spanOf = (text: string): number | undefined => {
  const [, amount, unit = ""] = /^(\d+(?:\.\d+)?)([dw]?)$/.exec(text) ?? []
  return amount === undefined ? Duration.parse(text) : Number(amount) * (long[unit] ?? 1_000)
}

/** A time from now. */
const span = (name: string, [minimum, maximum]: readonly [number, number], words: string, about: string) => {
  const help = { value: "DURATION", about: `${about} Such as 30d, 12h or 90s; ${words}.` }
  return Flags.group(
    Options.mapEffect(Flags.text(name, help), (text) => {
      const value = text === undefined ? undefined : spanOf(text)
      if (text === undefined) return Either.right(undefined)
      return value !== undefined && value >= minimum && value <= maximum
        ? Either.right(value)
        : Either.left(
            ValidationError.invalidValue(
              HelpDoc.p(`--${name} must be a time such as 30d or 12h, ${words}, not '${text}'`)
            )
          )
    }),
    { [name]: help.about }
  )
}

const limit = (flag: string, name: keyof typeof ranges, about: string) => {
  const [minimum, maximum] = ranges[name]
  return Flags.number(flag, wholeBetween(minimum, maximum), { about })
}

export const store = { fleet: flagsOf({ store: fleet.store }) }

/** Of commands that read what was kept over time. */
export const since = Flags.text("since", {
  value: "TIME",
  about: "From when on: a time from now such as 24h or 30d, or a date such as 2026-01-31. Default: 7d, of requests all."
})

/** Of commands that remove what was kept over time. */
export const pruneOptions = {
  ...store,
  before: Flags.text("before", {
    value: "TIME",
    about: "What ended before goes: a time from now such as 90d, or a date such as 2026-01-31."
  }),
  dryRun: Flags.dryRun,
  json: Flags.json
}

export const createOptions = {
  ...store,
  role: Flags.choice("role", Flags.words(roles), {
    about: "use: ask models; manage: change the models on servers too; admin: everything. Default: use."
  }),
  models: Flags.texts("allow", {
    value: "PATTERN",
    about: "A model, an alias or auto that it may use; * stands for any text. Repeatable. Default: all."
  }),
  requestsPerMinute: limit("requests-per-minute", "requestsPerMinute", "Requests per minute."),
  tokensPerMinute: limit("tokens-per-minute", "tokensPerMinute", "Tokens of prompts and answers per minute."),
  concurrency: limit("max-concurrent", "concurrency", "Requests at once."),
  tokensPerDay: limit("tokens-per-day", "tokensPerDay", "Quota of tokens of prompts and answers per day (UTC)."),
  tokensPerWeek: limit("tokens-per-week", "tokensPerWeek", "The same per week, from Monday."),
  tokensPerMonth: limit("tokens-per-month", "tokensPerMonth", "The same per month."),
  private: Flags.flag("local-only", { about: "Only local servers answer its requests." }),
  batch: Flags.flag("batch", { about: "Its requests let those of others go first." }),
  expiresIn: span(
    "expires",
    [1_000, longestLife],
    "from 1s to 3650d",
    "After how long it is no longer valid. Default: never."
  ),
  note: Flags.text("note", { value: "TEXT", about: "One line for administrators." }),
  json: Flags.json
}

export const listOptions = {
  ...store,
  all: Flags.flag("all", { about: "Also those that are revoked." }),
  json: Flags.json
}

export const oneOptions = { ...store, json: Flags.json }

export const rotateOptions = {
  ...store,
  grace: span("grace", [0, longestGrace], "from 0 to 30d", "For how long the key before stays valid. Default: 0."),
  json: Flags.json
}
