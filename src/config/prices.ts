/** What models cost, as programs, the environment and the configuration file say it. */
import * as Schema from "effect/Schema"

const amount = Schema.Number.pipe(
  Schema.filter((n) => (Number.isFinite(n) && n >= 0 ? undefined : "must be a number from 0"), {
    jsonSchema: { minimum: 0 }
  })
)

/**
 * What a million tokens of a model cost. Without `cached`, tokens that a server had in its cache cost what others do.
 */
export const ModelPrice = Schema.Struct({
  /** Of the prompt. */
  prompt: amount,
  /** Of those tokens of the prompt that a server had in its cache; default: as the others. */
  cached: Schema.optional(amount),
  /** Of the answer. */
  completion: amount
})

/** Prices of models by their names, in which `*` matches any text, and the name of the currency. */
export const PriceOptions = Schema.Struct({
  /** What the amounts are in, such as `EUR`. */
  currency: Schema.optional(
    Schema.String.pipe(
      Schema.filter((text) => /^\S{1,16}$/u.test(text) || "must be one word of at most 16 characters, such as EUR")
    )
  ),
  /** The price of each model: in a name, `*` is any text. */
  models: Schema.Record({ key: Schema.NonEmptyString, value: ModelPrice })
})
export type PriceOptions = typeof PriceOptions.Type
