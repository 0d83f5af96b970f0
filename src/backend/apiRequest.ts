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
  /** The sampling temperature. */
  temperature: Schema.optional(Schema.Number),
  /** The probability mass that is sampled from (`top_p`). */
  topP: Schema.optional(Schema.Number),
  /** Texts that end the answer. */
  stop: Schema.optional(Schema.Array(Schema.String)),
  /** The most tokens of the answer (`num_predict`). */
  numPredict: Schema.optional(Schema.Int),
  /** Makes sampling repeatable. */
  seed: Schema.optional(Schema.Int),
  /** Divides the likelihood of tokens that stand there already (`repeat_penalty`). */
  repeatPenalty: Schema.optional(Schema.Number),
  /** Tail-free sampling (`tfs_z`). */
  tfsZ: Schema.optional(Schema.Number),
  /** Which version of Mirostat sampling; 0: none. */
  mirostat: Schema.optional(Schema.Literal(0, 1, 2)),
  /** System instructions. */
  system: Schema.optional(Schema.String),
  /** A conversation in Ollama's form: the payload is then for `/api/chat`. */
  messages: Schema.optional(Schema.Array(JsonObject)),
  /** Tools in Ollama's form. */
  tools: Schema.optional(Schema.Array(JsonObject)),
  /** Whether the answer comes in pieces; default: the server's. */
  stream: Schema.optional(Schema.Boolean)
})
/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends Schema.Schema.Type<typeof Options> {}

/**
 * The body of a request to Ollama.
 *
 * @since 0.1.0
 * @category models
 */
export interface ApiRequest {
  /** The name of the model. */
  readonly model: string
  /** The prompt, for `/api/generate`. */
  readonly prompt?: string
  /** The conversation, for `/api/chat`. */
  readonly messages?: ReadonlyArray<{ readonly [key: string]: unknown }>
  /** System instructions. */
  readonly system?: string
  /** Tools in Ollama's form. */
  readonly tools?: ReadonlyArray<{ readonly [key: string]: unknown }>
  /** Whether the answer comes in pieces. */
  readonly stream?: boolean
  /** Sampling options under Ollama's names. */
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
