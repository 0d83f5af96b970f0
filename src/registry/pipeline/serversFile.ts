/** `servers.json`: a list of servers with what is known of them and their models, as people and programs write it. */
import * as JSONSchema from "effect/JSONSchema"
import * as Schema from "effect/Schema"
import { NetworkProtocol } from "../../Server.js"

const text = (description: string) => Schema.optional(Schema.NullOr(Schema.String.annotations({ description })))

const number = (description: string) =>
  Schema.optional(Schema.NullOr(Schema.Union(Schema.Number, Schema.NumberFromString).annotations({ description })))

const Performance = Schema.Struct({
  tokens_per_second: number("How fast it wrote when it was measured."),
  last_tested: text("When that was: ISO 8601."),
  status: text("`error` where it failed: the speed does not count then.")
})

const Model = Schema.Struct({
  model_name: Schema.String.annotations({ description: "Its name on this server, such as `llama3.2:3b`." }),
  family: text("Its family; derived from the name where it is left out."),
  parameter_size: text("How many parameters it has, such as `3.2B`."),
  quantization_level: text("How its weights are stored, such as `Q4_K_M`."),
  size: number("In bytes."),
  context_length: number("In tokens."),
  digest: text("Identifies the weights."),
  modified_at: text("When the server got it: ISO 8601."),
  id: text("Identifies the record."),
  date_added: text("When the record was made: ISO 8601."),
  performance: Schema.optional(Schema.NullOr(Performance))
})

const Location = Schema.Struct({
  city: text("Such as `Berlin`."),
  country: text("Its two-letter code, such as `DE`."),
  countryName: text("Such as `Germany`."),
  continent: text("Such as `Europe`."),
  latitude: number("In degrees, north is positive."),
  longitude: number("In degrees, east is positive.")
})

const ListedServer = Schema.Struct({
  url: Schema.String.annotations({
    description: "Its address, such as `http://gpu-1:11434`. No key: those are configured."
  }),
  protocol: Schema.optional(Schema.NullOr(NetworkProtocol)),
  organization: text("The organization that operates it."),
  location: Schema.optional(Schema.NullOr(Location)),
  models: Schema.optional(
    Schema.NullOr(Schema.Array(Schema.Union(Schema.String.annotations({ description: "The name of a model." }), Model)))
  )
})

/** The file. */
export const ServersFile = Schema.Struct({
  servers: Schema.Array(ListedServer)
})

/** The content of the file. */
export type ServersFile = typeof ServersFile.Encoded

/** The JSON Schema of the file. */
export const serversSchema = (): object => ({ ...JSONSchema.make(ServersFile), title: "aicortex list of servers" })
