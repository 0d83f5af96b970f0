/**
 * Ollama's JSON payload for a prompt or a conversation, for programs that send it themselves.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { InvalidRequest } from "../Errors.js"
import { withoutNulls } from "../internal/optionSchemas.js"

const JsonObject = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/**
 * The options of the payload. `numPredict` is the token limit. With `messages` the payload is for `/api/chat`, else for
 * `/api/generate`. Options that Ollama's API does not have (a tool choice, memory, a session, metadata) are rejected.
 *
 * @since 0.1.0
 * @category models
 */
export const Options = Schema.Struct({
  temperature: Schema.optional(Schema.Number),
  topP: Schema.optional(Schema.Number),
  stop: Schema.optional(Schema.Array(Schema.String)),
  numPredict: Schema.optional(Schema.Int),
  seed: Schema.optional(Schema.Int),
  repeatPenalty: Schema.optional(Schema.Number),
  tfsZ: Schema.optional(Schema.Number),
  mirostat: Schema.optional(Schema.Literal(0, 1, 2)),
  system: Schema.optional(Schema.String),
  messages: Schema.optional(Schema.Array(JsonObject)),
  tools: Schema.optional(Schema.Array(JsonObject)),
  stream: Schema.optional(Schema.Boolean)
})
/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Schema.Schema.Type<typeof Options> {}

/**
 * @since 0.1.0
 * @category models
 */
export interface ApiRequest {
  readonly model: string
  readonly prompt?: string
  readonly messages?: ReadonlyArray<{ readonly [key: string]: unknown }>
  readonly system?: string
  readonly tools?: ReadonlyArray<{ readonly [key: string]: unknown }>
  readonly stream?: boolean
  readonly options: { readonly [key: string]: unknown }
}

const decode = Schema.decodeUnknownEither(Options, { onExcessProperty: "error" })

/**
 * Builds the payload; nothing is sent. Temperature defaults to 0.7 and `top_p` to 0.9; `stop` is always present.
 * Reference: AI Cortex's `build_api_request`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (model: string, prompt: string, options: unknown = {}): Either.Either<ApiRequest, InvalidRequest> =>
  Either.match(decode(typeof options === "object" ? withoutNulls(options ?? {}) : options), {
    onLeft: (error) => {
      const issue = ParseResult.ArrayFormatter.formatErrorSync(error)[0]
      const field = issue?.path.map(String).join(".") || "options"
      return Either.left(
        new InvalidRequest({
          field,
          reason:
            issue?._tag === "Unexpected"
              ? `Ollama's API has no such field; there are ${Object.keys(Options.fields).join(", ")}`
              : (issue?.message ?? "is not valid")
        })
      )
    },
    onRight: (o) => {
      const conversation = o.messages !== undefined
      const messages = [
        ...(o.system === undefined ? [] : [{ role: "system", content: o.system }]),
        ...(o.messages ?? []),
        ...(prompt === "" ? [] : [{ role: "user", content: prompt }])
      ]
      if (o.tools !== undefined && !conversation) {
        return Either.left(
          new InvalidRequest({ field: "tools", reason: "Ollama takes tools only with a conversation; give messages" })
        )
      }
      return Either.right({
        model,
        ...(conversation ? { messages } : { prompt, ...(o.system === undefined ? {} : { system: o.system }) }),
        ...(o.tools === undefined ? {} : { tools: o.tools }),
        ...(o.stream === undefined ? {} : { stream: o.stream }),
        options: {
          temperature: o.temperature ?? 0.7,
          top_p: o.topP ?? 0.9,
          stop: o.stop ?? [],
          ...(o.numPredict === undefined ? {} : { num_predict: o.numPredict }),
          ...(o.seed === undefined ? {} : { seed: o.seed }),
          ...(o.repeatPenalty === undefined ? {} : { repeat_penalty: o.repeatPenalty }),
          ...(o.tfsZ === undefined ? {} : { tfs_z: o.tfsZ }),
          ...(o.mirostat === undefined ? {} : { mirostat: o.mirostat })
        }
      })
    }
  })
