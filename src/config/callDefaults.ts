/**
 * The defaults of calls as the options, the environment and the configuration file give them.
 *
 * @since 0.2.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { type CallDefaults, decode, times } from "../CallDefaults.js"
import { InvalidConfig } from "../Errors.js"

/**
 * A place where defaults stand. `source` and `field` are what its errors say, `origin` what it is called where the
 * settings are shown; `seconds`: times are in seconds.
 *
 * @since 0.2.0
 * @category models
 */
export interface Place {
  readonly origin: string
  readonly source: string
  readonly field: string
  readonly value: unknown
  readonly seconds?: boolean | undefined
}

const timeNames: ReadonlySet<string> = new Set(times)

/**
 * Whether a default is a time.
 *
 * @since 0.2.0
 * @category guards
 */
export const isTime = (name: string): boolean => timeNames.has(name)

const isObject = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const scaled = (all: { readonly [name: string]: unknown }, factor: number): { readonly [name: string]: unknown } =>
  Object.fromEntries(
    Object.entries(all).map(([name, value]) => {
      if (typeof value === "number" && isTime(name)) return [name, value * factor]
      const after = name === "hedge" && isObject(value) ? value["after"] : undefined
      return typeof after === "number" ? [name, { ...(value as object), after: after * factor }] : [name, value]
    })
  )

/**
 * Defaults as the configuration file has them: times in seconds.
 *
 * @since 0.2.0
 * @category encoding
 */
export const inSeconds = (defaults: CallDefaults): { readonly [name: string]: unknown } =>
  scaled(defaults as { readonly [name: string]: unknown }, 1 / 1000)

/**
 * The place that a variable of the environment is: a JSON object, as in the file.
 *
 * @since 0.2.0
 * @category constructors
 */
export const fromVariable = (text: string | undefined): Effect.Effect<Place, InvalidConfig> => {
  const origin = "AICORTEX_DEFAULTS"
  const place = { origin, source: "the environment", field: origin, seconds: true }
  if (text === undefined) return Effect.succeed({ ...place, value: undefined })
  return Effect.try({
    try: () => ({ ...place, value: JSON.parse(text) as unknown }),
    catch: () => new InvalidConfig({ source: "the environment", field: origin, reason: "is not a JSON object" })
  })
}

const read = ({ field, seconds = false, source, value }: Place): Either.Either<CallDefaults, InvalidConfig> => {
  if (value === undefined || value === null) return Either.right({})
  if (!isObject(value)) {
    return Either.left(new InvalidConfig({ source, field, reason: "must be an object of options of calls" }))
  }
  return Either.mapLeft(decode(seconds ? scaled(value, 1000) : value), (error) => {
    const words = error.field.startsWith("hedge")
      ? "must be true, false or { after } with a number of milliseconds above 0"
      : error.reason
    const reason = seconds ? words.replaceAll("milliseconds", "seconds") : words
    return new InvalidConfig({ source, field: `${field}.${error.field}`, reason })
  })
}

/**
 * The defaults that hold, each from the first place that names it, and where each comes from.
 *
 * @since 0.2.0
 * @category constructors
 */
export const resolve = Effect.fnUntraced(function* (places: ReadonlyArray<Place>) {
  const defaults: Record<string, unknown> = {}
  const origins: Record<string, string> = {}
  for (const place of places) {
    for (const [name, value] of Object.entries(yield* read(place))) {
      if (value === undefined || value === null || name in defaults) continue
      defaults[name] = value
      origins[name] = place.origin
    }
  }
  return { defaults: defaults as CallDefaults, origins }
})
