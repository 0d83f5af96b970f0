/**
 * What form a program's options have. Values that come from elsewhere, too, are checked where they are put together.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "../Errors.js"
import * as Server from "../Server.js"
import { describe } from "./file.js"

const must = <A, I>(schema: Schema.Schema<A, I>, be: string) =>
  Schema.optional(schema.annotations({ message: () => `must be ${be}` }))

const anything = Schema.optional(Schema.Unknown)

/** What form options have whose values nobody else looks at. */
const Forms = Schema.Struct({
  servers: must(Schema.Array(Schema.Unknown), "a list of servers"),
  personas: must(Schema.Record({ key: Schema.String, value: Schema.String }), "an object of texts"),
  location: Schema.optional(Server.GivenLocation),
  registry: must(Schema.Union(Schema.String, Schema.Array(Schema.String)), "a folder, or a list of folders"),
  sessions: Schema.optional(
    Schema.Struct({ folder: anything, maxSessions: anything, maxBytes: anything, ttl: anything })
  ),
  cache: Schema.optional(Schema.Struct({ ttl: anything, maxEntries: anything, maxBytes: anything, shared: anything })),
  cacheFolder: must(Schema.NonEmptyString, "a folder"),
  demoModel: must(Schema.NonEmptyString, "a file"),
  configFile: must(Schema.Union(Schema.NonEmptyString, Schema.Literal(false)), "a file, or false")
})

const decode = Schema.decodeUnknownEither(Forms, { onExcessProperty: "error" })

type Options = { readonly [name in keyof typeof Forms.fields]?: unknown }

/**
 * What is wrong with the options, if anything; `source` is where they stand.
 *
 * @since 0.1.0
 * @category constructors
 */
export const check = (options: Options, source: string): Either.Either<unknown, InvalidConfig> => {
  const { cache, cacheFolder, configFile, demoModel, location, personas, registry, servers, sessions } = options
  // What is no object has a check of its own.
  const policy = typeof cache === "object" && cache !== null ? cache : undefined
  const forms = { servers, personas, location, registry, sessions, cache: policy, cacheFolder, demoModel, configFile }
  return Either.mapLeft(decode(forms), (error) => new InvalidConfig({ source, ...describe(error) }))
}

/**
 * What is wrong with the layers that are to stand in the place of parts, if anything: `known` are the parts there are.
 *
 * @since 0.1.0
 * @category constructors
 */
export const wrongPart = (parts: object, known: ReadonlyArray<string>): InvalidConfig | undefined => {
  const source = "the replacements"
  for (const [field, layer] of Object.entries(parts)) {
    if (!known.includes(field)) {
      return new InvalidConfig({ source, field, reason: `there is no such part; there are ${known.join(", ")}` })
    }
    if (layer !== undefined && !Layer.isLayer(layer)) {
      return new InvalidConfig({ source, field, reason: "must be a layer" })
    }
  }
  return undefined
}
