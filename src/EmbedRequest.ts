/**
 * What a caller asks of a model that turns texts into vectors, and what comes of it.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { defaults, type JsonObject, type Limits, Routing } from "./ChatRequest.js"
import { type Attempt, InvalidRequest } from "./Errors.js"
import {
  decoder,
  type InputOf,
  JsonObjectSchema,
  keepAlive,
  milliseconds,
  optional,
  pause,
  wholeFrom
} from "./internal/optionSchemas.js"

// =============================================================================
// Options
// =============================================================================

/**
 * The options of a call, as every face takes them. Times are a number of milliseconds, or another duration of
 * Effect, such as `"30 seconds"` or `Duration.minutes(2)`.
 *
 * @since 0.1.0
 * @category models
 */
export const Options = Schema.Struct({
  /** The model that makes the vectors. There is no default: vectors of two models are not comparable. */
  model: Schema.NonEmptyTrimmedString,
  /** Number of dimensions, for models that support fewer. */
  dimensions: optional(wholeFrom(1)),
  /**
   * Whether a text longer than the model's context is truncated; default: the server's behaviour. OpenAI-compatible
   * servers cannot be asked to, and are skipped if it is `true`.
   */
  truncate: optional(Schema.Boolean),
  /**
   * How long Ollama keeps the model loaded: seconds, or a duration such as `5m` or `1h30m`; below 0 for ever, 0 not at
   * all.
   */
  keepAlive: optional(keepAlive),
  /** Ollama's own options (`num_ctx`, …), passed on as they are. */
  options: optional(JsonObjectSchema),
  /** Which server is asked first, as in `ChatRequest.Options`. Default `random`. */
  routing: optional(Routing),
  /** As in `ChatRequest.Options`: `batch` yields to others. */
  priority: optional(Schema.Literal("interactive", "batch")),
  /** As in `ChatRequest.Options`: owners take turns. */
  owner: optional(Schema.NonEmptyString),
  /** As in `ChatRequest.Options`: only local servers are asked. */
  private: optional(Schema.Boolean),
  /** The longest silence in any phase, in milliseconds; default 30,000. */
  timeout: optional(milliseconds),
  /** Until the connection stands, in milliseconds; default 5,000 or `timeout`, whichever is less. */
  connectTimeout: optional(milliseconds),
  /**
   * The longest silence if the server must load the model first, in milliseconds; default 120,000, or `timeout` if given.
   */
  loadTimeout: optional(milliseconds),
  /** For the whole call with all its attempts, in milliseconds; default none. */
  deadline: optional(milliseconds),
  /**
   * Total number of attempts, including the first; with more than there are servers, they are tried again in rounds.
   * Default: two rounds over the servers, and at least six attempts, for at most ten seconds after each of them has
   * failed; when the answer has grown the count starts over. Servers that reject the caller or lack the model are asked
   * once.
   */
  maxRetries: optional(wholeFrom(1)),
  /** Pause before the same server is tried again, in milliseconds, doubled each time, with jitter; default 500. */
  retryBackoff: optional(pause)
})
/**
 * @since 0.1.0
 * @category models
 */
export interface Options extends InputOf<typeof Options.fields> {}

/**
 * Options that were validated: times are in milliseconds.
 *
 * @since 0.2.0
 * @category models
 */
export interface CheckedOptions extends Schema.Schema.Type<typeof Options> {}

/** An additional option of the Promise facade. */
const decode = decoder(Options, ["signal"])

/**
 * Validates options. An unknown option is an error, never dropped.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decodeOptions = (input: unknown): Either.Either<CheckedOptions, InvalidRequest> =>
  typeof input === "object" && input !== null && (!("model" in input) || input.model === undefined)
    ? Either.left(new InvalidRequest({ field: "model", reason: "must name a model that makes embeddings" }))
    : decode(input)

/**
 * How long a call may take, and how often it is tried.
 *
 * @since 0.1.0
 * @category constructors
 */
export const limits = (options: CheckedOptions): Limits => {
  const timeout = options.timeout ?? defaults.timeout
  return {
    connectTimeout: options.connectTimeout ?? Math.min(defaults.connectTimeout, timeout),
    firstTokenTimeout: timeout,
    firstToken: "fixed",
    loadTimeout: options.loadTimeout ?? options.timeout ?? defaults.loadTimeout,
    idleTimeout: timeout,
    deadline: options.deadline,
    maxAttempts: options.maxRetries,
    retryBackoff: options.retryBackoff ?? defaults.retryBackoff,
    onInterrupt: "restart",
    hedge: undefined
  }
}

// =============================================================================
// the request
// =============================================================================

/**
 * Texts, or texts as token ids, which Ollama does not accept.
 *
 * @since 0.1.0
 * @category models
 */
export type Input = ReadonlyArray<string> | ReadonlyArray<ReadonlyArray<number>>

/**
 * Validates the input: one text, or several.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decodeInput = (input: unknown): Either.Either<ReadonlyArray<string>, InvalidRequest> => {
  const wrong = (reason: string, at = "") => Either.left(new InvalidRequest({ field: `input${at}`, reason }))
  if (typeof input === "string") return input === "" ? wrong("must not be empty") : Either.right([input])
  if (!Array.isArray(input)) return wrong("must be a text or an array of texts")
  if (input.length === 0) return wrong("must hold at least one text")
  const texts: ReadonlyArray<unknown> = input
  const odd = texts.findIndex((text) => typeof text !== "string" || text === "")
  if (odd === -1) return Either.right([...(texts as ReadonlyArray<string>)])
  return wrong(texts[odd] === "" ? "must not be empty" : "must be a text", `.${odd}`)
}

/**
 * What a backend sends.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmbedRequest {
  /** The name of the model. */
  readonly model: string
  /** The texts. */
  readonly input: Input
  /** The length of each vector; `undefined`: the model's. */
  readonly dimensions: number | undefined
  /** Whether a text that exceeds the model's context is cut off; `undefined`: the server's default. */
  readonly truncate: boolean | undefined
  /** How long Ollama keeps the model loaded: seconds, or a text such as `10m`; `undefined`: the server's default. */
  readonly keepAlive: number | string | undefined
  /** Options of Ollama under their own names. */
  readonly options: JsonObject | undefined
  /** `keepAlive`, `options` and `truncate` are optional: a server that does not support them is asked without them. */
  readonly lenient?: true | undefined
}

/**
 * A request of checked options.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (options: Options & Pick<EmbedRequest, "lenient">, input: Input): EmbedRequest => ({
  model: options.model,
  input,
  dimensions: options.dimensions,
  truncate: options.truncate,
  keepAlive: options.keepAlive,
  options: options.options,
  ...(options.lenient === true ? { lenient: true } : {})
})

// =============================================================================
// The answer
// =============================================================================

/**
 * The vectors, one for each text, in order. `promptTokens` is the number of input tokens, if reported; `attempts` are
 * the failed ones.
 *
 * @since 0.1.0
 * @category models
 */
export interface Embedded {
  /** One vector for each text, in order. */
  readonly embeddings: ReadonlyArray<ReadonlyArray<number>>
  /** The model that made them. */
  readonly model: string
  /** The address of the server that answered. */
  readonly server: string
  /** Tokens of all texts together, if reported. */
  readonly promptTokens: number | undefined
  /** The attempts that failed before. */
  readonly attempts: ReadonlyArray<Attempt>
}
