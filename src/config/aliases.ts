/** Names for models, as programs, the environment and the configuration file give them. */
import * as Schema from "effect/Schema"
import type { AliasOptions } from "../modelSelection/aliases.js"

const words = { message: () => "must be a model, or a list of models" }

/** Each name with a model, or with a chain of models. */
export const AliasNames = Schema.Record({
  key: Schema.String,
  value: Schema.Union(Schema.NonEmptyString, Schema.NonEmptyArray(Schema.NonEmptyString)).annotations(words)
}) as Schema.Schema<AliasOptions, unknown>
