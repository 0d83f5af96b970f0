/**
 * What a user may say of a server: the form of each option, as programs give it. The configuration file has the same ones
 * (`config/server.ts`), with what they are for.
 */
import * as Either from "effect/Either"
import type { ParseError } from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { describe } from "../internal/issues.js"
import { InFile, positive, whole, wholeFrom } from "../internal/units.js"
import { type Location, LocationInput } from "./location.js"

/**
 * What a server elsewhere may speak: what a user may name.
 *
 * @since 0.2.0
 * @category models
 */
export const NetworkProtocol = Schema.Literal("ollama", "openai", "anthropic").annotations({
  message: () => "must be one of ollama, openai, anthropic"
})
/**
 * @since 0.2.0
 * @category models
 */
export type NetworkProtocol = typeof NetworkProtocol.Type

/** A text that may be a secret. */
export const Redactable = Schema.Union(
  Schema.String,
  Schema.RedactedFromSelf(Schema.String).annotations({ [InFile]: Schema.Never })
)

const secret = Redactable.annotations({ message: () => "must be a text" })

/** Each option with its form. */
export const fields = {
  url: Schema.NonEmptyString.annotations({ message: () => "must be an address" }),
  protocol: NetworkProtocol,
  apiKey: secret,
  headers: Schema.Record({ key: Schema.String, value: secret }),
  location: LocationInput as Schema.Schema<Location, string | Location>,
  organization: Schema.String,
  weight: positive,
  priority: whole,
  maxInFlight: wholeFrom(1),
  local: Schema.Boolean,
  wake: Schema.String.annotations({ message: () => "must be a text" }),
  wakeAddress: Schema.String.annotations({ message: () => "must be a text" })
}

type Fields = typeof fields

/** The options of a server, each in the form that it is used in. */
export type CheckedOptions = { readonly [K in keyof Fields]?: Schema.Schema.Type<Fields[K]> | undefined }

const decoders: ReadonlyMap<string, (value: unknown) => Either.Either<unknown, ParseError>> = new Map(
  Object.entries(fields).map(([name, schema]) => {
    const whole = schema as Schema.Schema.AnyNoContext
    return [name, Schema.decodeUnknownEither(whole, { onExcessProperty: "ignore" })]
  })
)

/** The names of the options. */
export const names: ReadonlyArray<string> = Object.keys(fields)

/** What is wrong with an option, never its value; `part` is where in it, empty if it is the whole. */
export interface Misfit {
  readonly name: string
  readonly part: string
  readonly reason: string
}

/** The options as they are used, or what is wrong with the first that does not have its form. */
export const check = (given: object): Either.Either<CheckedOptions, Misfit> => {
  const checked: { [name: string]: unknown } = {}
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    const decoded = decoders.get(name)?.(value)
    if (decoded === undefined) continue
    if (Either.isLeft(decoded)) {
      const { field, reason } = describe(decoded.left)
      return Either.left({ name, part: field, reason })
    }
    checked[name] = decoded.right
  }
  return Either.right(checked)
}
