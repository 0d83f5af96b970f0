/**
 * What a caller asks of a model: the options every face shares, with their ranges, and the request that a backend
 * sends.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import {
  Extra,
  type Format,
  type JsonObject,
  type LogitBias,
  OnInterrupt,
  Routing,
  type Think,
  ThinkLevel,
  type ToolChoice,
  type ToolDefinition
} from "./chatRequest/parts.js"
import type { InvalidRequest } from "./Errors.js"
import {
  decoder,
  type InputOf,
  invalid,
  JsonObjectSchema,
  keepAlive,
  milliseconds,
  optional,
  pause,
  positive,
  range,
  whole,
  wholeFrom
} from "./internal/optionSchemas.js"
import { Message, text as textOf } from "./Message.js"

export * from "./chatRequest/parts.js"

// =============================================================================
// Options
// =============================================================================

/**
 * The options of a call that are plain data, as every face takes them. Times are a number of milliseconds, or another
 * duration of Effect, such as `"30 seconds"` or `Duration.minutes(2)`.
 *
 * @since 0.1.0
 * @category models
 */
export const Options = Schema.Struct({
  /**
   * Default: the configured model (`AICORTEX_MODEL`), else `auto`: the one that fits best of those the servers have.
   */
  model: optional(Schema.NonEmptyTrimmedString),
  /** System prompt for this call only; never stored in a session. */
  system: optional(Schema.String),
  /** The name of a system prompt in the configuration. */
  persona: optional(Schema.NonEmptyString),
  /** How much chance there is in the choice of tokens: 0 to 2, default 0.7. */
  temperature: optional(range(0, 2)),
  /** The probability mass that is sampled from: 0 to 1, default 1. */
  topP: optional(range(0, 1)),
  /** Maximum number of tokens; default: the server's. */
  maxTokens: optional(wholeFrom(1)),
  /** Stop before any of these strings. */
  stop: optional(Schema.Union(Schema.NonEmptyString, Schema.Array(Schema.NonEmptyString))),
  /** Makes sampling repeatable, as far as the server can; default: another one each time. */
  seed: optional(whole),
  /** Makes tokens less likely the more often they stand there already: -2 to 2. Default: the server's. */
  frequencyPenalty: optional(range(-2, 2)),
  /** Makes tokens less likely that stand there already: -2 to 2. Default: the server's. */
  presencePenalty: optional(range(-2, 2)),
  /** How many of the likeliest tokens are sampled from; 0: all. Default: the server's. */
  topK: optional(wholeFrom(0)),
  /** The least probability of a token, relative to the likeliest one: 0 to 1. Default: the server's. */
  minP: optional(range(0, 1)),
  /** Divides the likelihood of tokens that stand there already: above 0; 1 is none. Default: the server's. */
  repeatPenalty: optional(positive),
  /** The tools that the model may call. */
  tools: optional(
    Schema.Array(
      Schema.Struct({
        /** What the model calls it by. */
        name: Schema.NonEmptyString,
        /** What the tool does and when to use it, for the model. */
        description: optional(Schema.String),
        /** The JSON Schema of its arguments. Default: the tool takes none. */
        parameters: optional(JsonObjectSchema),
        /** Whether servers that speak the OpenAI API hold the model to that schema, if they can. Default `false`. */
        strict: optional(Schema.Boolean)
      })
    )
  ),
  /** Whether the model may, must or must not call tools, or the one it must call. Default: it may. */
  toolChoice: optional(
    Schema.Union(
      Schema.Literal("auto", "none", "required"),
      Schema.Struct({
        /** The tool that it must call. */
        name: Schema.NonEmptyString
      })
    )
  ),
  /**
   * How long Ollama keeps the model loaded: seconds, or a duration such as `5m` or `1h30m`; below 0 for ever, 0 not at
   * all.
   */
  keepAlive: optional(keepAlive),
  /** Whether, or how much, a model that can think does so before it answers. Default: the model's. */
  think: optional(Schema.Union(Schema.Boolean, ThinkLevel)),
  /** Ollama's own options (`num_ctx`, `mirostat`, …), passed on as they are. */
  options: optional(JsonObjectSchema),
  /**
   * The prompt is raw text, and the answer continues it: the model gets it without a chat template. Nothing else is
   * allowed in addition to the text: no system prompt, persona, session, tools, images, `think` or JSON. Default
   * `false`.
   */
  raw: optional(Schema.Boolean),
  /**
   * Fill in the middle: the answer is the text between the prompt and this suffix, in the form that the model was
   * trained for. The same restrictions as for `raw`, with which it cannot be combined.
   */
  suffix: optional(
    Schema.String.pipe(
      Schema.filter((text) =>
        text === "" ? "is empty; where nothing follows the text, ask with raw: true" : undefined
      )
    )
  ),
  /** Parameters that only some servers have: see `Extra`. */
  extra: optional(Extra),
  /**
   * Which server is asked first: `random` (the default), `fastest`, `nearest`, `balanced`, `least-busy` or `warm`.
   */
  routing: optional(Routing),
  /**
   * Priority when it waits for a slot: `batch` yields to `interactive` (the default), until it has waited for 30 s.
   */
  priority: optional(Schema.Literal("interactive", "batch")),
  /**
   * On whose behalf, such as a user of your program: owners of waiting calls take turns. Default: all calls have one
   * owner.
   */
  owner: optional(Schema.NonEmptyString),
  /**
   * Whether the call stays on local servers (see `Server.isLocal`): it fails with `NoLocalServer` rather than be sent
   * elsewhere. Default `false`; `true` in a session that was created as private.
   */
  private: optional(Schema.Boolean),
  /**
   * Whether a cached answer may be returned, and this one is cached: see `ResponseCache`. `ttl`, in milliseconds: its
   * maximum age and lifetime. Default: as configured, else `false`.
   */
  cache: optional(
    Schema.Union(
      Schema.Boolean,
      Schema.Struct({
        /** How old the answer may be, and how long this one is kept, in milliseconds; default: as configured. */
        ttl: optional(milliseconds)
      })
    )
  ),
  /**
   * The longest silence in any phase, in milliseconds; default 30,000. If omitted, a server has longer for the first
   * piece of an answer to a long prompt: twice as long as its measured speed requires, at most ten minutes.
   */
  timeout: optional(milliseconds),
  /** Connection timeout in milliseconds; default 5,000 or `timeout`, whichever is less. */
  connectTimeout: optional(milliseconds),
  /**
   * From the request to the first piece of the answer, in milliseconds. Default: `timeout` without any sign of life (a
   * keep-alive comment, prompt progress, an empty piece), and `loadTimeout` in total.
   */
  firstTokenTimeout: optional(milliseconds),
  /**
   * The same if the server must load the model first, in milliseconds; default 120,000, or `firstTokenTimeout` or
   * `timeout` if given.
   */
  loadTimeout: optional(milliseconds),
  /** Between two pieces of the answer, in milliseconds; default `timeout`. */
  idleTimeout: optional(milliseconds),
  /** Deadline of the whole call with all its attempts, in milliseconds; default none. */
  deadline: optional(milliseconds),
  /**
   * Attempts in all, the first included; more than there are servers goes round again. Default: two rounds over the
   * servers, and at least six attempts, as long as at most ten seconds have passed since each of them has failed; an
   * answer that has become longer than before resets the count. Servers that refuse the caller or lack the model are
   * asked once.
   */
  maxRetries: optional(wholeFrom(1)),
  /** Pause before the same server is tried again, in milliseconds, doubled each time, with jitter; default 500. */
  retryBackoff: optional(pause),
  /**
   * When a stream breaks after text was sent: `resume` (default) continues on another server from the same place,
   * `restart` starts over after an event that says so, `fail` is `StreamInterrupted`. Calls for a complete answer send
   * nothing before its end, and always start over.
   */
  onInterrupt: optional(OnInterrupt),
  /**
   * Hedging: whether a second server is asked too when the first one's first token is late; the faster one answers, and
   * the other is cancelled. Late means later than the 95th percentile of that server, or after `after` milliseconds. At
   * most 5 % of the calls that allow it cost a second request, and none goes to a server that is full or must load the
   * model first. Default: as configured, else `false`.
   */
  hedge: optional(
    Schema.Union(
      Schema.Boolean,
      Schema.Struct({
        /** How long the first server has, in milliseconds. */
        after: milliseconds
      })
    )
  )
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

/**
 * The parameters of sampling, which options and requests call the same.
 *
 * @since 0.2.0
 * @category constants
 */
export const sampling = [
  "temperature",
  "topP",
  "maxTokens",
  "seed",
  "frequencyPenalty",
  "presencePenalty",
  "topK",
  "minP",
  "repeatPenalty"
] as const satisfies ReadonlyArray<keyof Options>

const decodeMessagesEither = Schema.decodeUnknownEither(Schema.NonEmptyArray(Message), { onExcessProperty: "error" })

/** `Chat` and the Promise facade take more options. */
const decode = decoder(Options, ["session", "maxToolRounds", "stream", "responseFormat", "schema", "signal"])

/**
 * Validates options. An unknown option is an error, never dropped.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decodeOptions = (input: unknown): Either.Either<CheckedOptions, InvalidRequest> => decode(input)

/**
 * Validates a conversation.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decodeMessages = (input: unknown): Either.Either<ReadonlyArray<Message>, InvalidRequest> =>
  Either.mapLeft(decodeMessagesEither(input), (error) => invalid(error, [], "messages"))

// =============================================================================
// the request
// =============================================================================

/**
 * What a backend sends: options with their defaults, and the whole conversation.
 *
 * @since 0.1.0
 * @category models
 */
export interface ChatRequest {
  /** The name of the model. */
  readonly model: string
  /** The conversation, the oldest message first. */
  readonly messages: ReadonlyArray<Message>
  /** `undefined`: the server's default. */
  readonly temperature: number | undefined
  /** The temperature is the default, which nobody chose: models that take no temperature are asked without it. */
  readonly defaultTemperature?: true | undefined
  /** The probability mass that is sampled from; `undefined`: the server's default. */
  readonly topP: number | undefined
  /** The most tokens of the answer; `undefined`: the server's default. */
  readonly maxTokens: number | undefined
  /** Texts that end the answer. */
  readonly stop: ReadonlyArray<string>
  /** Makes sampling repeatable; `undefined`: the server's default. */
  readonly seed: number | undefined
  /** Makes tokens less likely the more often they stand there already; `undefined`: the server's default. */
  readonly frequencyPenalty: number | undefined
  /** Makes tokens less likely that stand there already; `undefined`: the server's default. */
  readonly presencePenalty: number | undefined
  /** How many of the likeliest tokens are sampled from; `undefined`: the server's default. */
  readonly topK: number | undefined
  /** The least probability of a token, relative to the likeliest one; `undefined`: the server's default. */
  readonly minP: number | undefined
  /** Divides the likelihood of tokens that stand there already; `undefined`: the server's default. */
  readonly repeatPenalty: number | undefined
  /** Number of alternatives reported for each token; 0: only the token itself. */
  readonly logprobs?: number | undefined
  /** Only OpenAI-compatible servers support it. */
  readonly logitBias?: LogitBias | undefined
  /** The tools that the model may call. */
  readonly tools: ReadonlyArray<ToolDefinition>
  /** Whether it may, must or must not; `undefined`: it may. */
  readonly toolChoice: ToolChoice | undefined
  /** How long Ollama keeps the model loaded: seconds, or a text such as `10m`; `undefined`: the server's default. */
  readonly keepAlive: number | string | undefined
  /** Whether, and how much, the model thinks; `undefined`: the server's default. */
  readonly think: Think | undefined
  /** Options of Ollama under their own names. */
  readonly options: JsonObject | undefined
  /** Parameters that only some servers support, under their own names. */
  readonly extra?: JsonObject | undefined
  /** What the answer has to be: text, JSON, or JSON of a schema. */
  readonly format: Format
  /** The one message is raw text to continue. */
  readonly raw?: true | undefined
  /** Fill in the middle: the answer stands between the one message and this. */
  readonly suffix?: string | undefined
  /** What the prompt is put into instead of the model's own template. Only Ollama's servers take one. */
  readonly template?: string | undefined
  /** `keepAlive` and `options` are optional: a server that does not support them is asked without them. */
  readonly lenient?: true | undefined
  /** Whether Ollama drops old messages if the prompt is too long; `undefined`: it does. */
  readonly truncate?: boolean | undefined
  /** Whether Ollama drops the beginning if the answer is too long; `undefined`: it does. */
  readonly shift?: boolean | undefined
  /** Where several answers to the same prompt are asked for: which of them this is. */
  readonly choice?: Choice | undefined
}

/**
 * One of several answers to the same prompt. A server whose API has `n` is asked once for those that are routed to it.
 *
 * It is no part of what is asked: as JSON it is nothing.
 *
 * @since 0.2.0
 * @category models
 */
export class Choice {
  constructor(
    /** The same object for all of them; `server` is where the last of them was sent, so that the next one follows. */
    readonly of: { server?: string },
    /** Its number, from 0. */
    readonly index: number
  ) {}

  /** Nothing: it is no part of what is asked. */
  toJSON(): undefined {
    return undefined
  }
}

/**
 * Timeouts, number of attempts, and what to do when an answer breaks. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limits {
  /** How long making the connection may take. */
  readonly connectTimeout: number
  /** From the request to the first piece of the answer. */
  readonly firstTokenTimeout: number
  /**
   * What `firstTokenTimeout` limits: the time to the first piece (`fixed`: the caller gave it), silence before it
   * (`silence`: the caller gave `timeout`), or silence that a long prompt makes longer (`prompt`: nothing was given).
   */
  readonly firstToken: "fixed" | "silence" | "prompt"
  /** The same if the server must load the model first. */
  readonly loadTimeout: number
  /** Between two pieces of the answer. */
  readonly idleTimeout: number
  /** Of the whole call with all its attempts; `undefined`: none. */
  readonly deadline: number | undefined
  /** Attempts in all, the first included; `undefined`: as many as the rounds give. */
  readonly maxAttempts: number | undefined
  /** The pause before the same server is tried again, doubled each time. */
  readonly retryBackoff: number
  /** What to do when an answer breaks after a part of it was sent. */
  readonly onInterrupt: OnInterrupt
  /**
   * Whether, and after how many milliseconds, a second server is asked; without a time, by that server's own
   * percentile.
   */
  readonly hedge: { readonly after?: number | undefined } | undefined
}

/**
 * The defaults of every option that has one.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaults = {
  temperature: 0.7,
  topP: 1,
  routing: "random",
  timeout: 30_000,
  connectTimeout: 5_000,
  loadTimeout: 120_000,
  retryBackoff: 500,
  onInterrupt: "resume"
} as const

/**
 * A request of checked options: each has its default.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  options: Options & Pick<ChatRequest, "lenient">,
  model: string,
  messages: ReadonlyArray<Message>,
  format: Format
): ChatRequest => ({
  model,
  messages,
  temperature: options.temperature ?? defaults.temperature,
  defaultTemperature: options.temperature === undefined ? true : undefined,
  topP: options.topP ?? defaults.topP,
  maxTokens: options.maxTokens,
  stop: options.stop === undefined ? [] : typeof options.stop === "string" ? [options.stop] : options.stop,
  seed: options.seed,
  frequencyPenalty: options.frequencyPenalty,
  presencePenalty: options.presencePenalty,
  topK: options.topK,
  minP: options.minP,
  repeatPenalty: options.repeatPenalty,
  tools: (options.tools ?? []) as ReadonlyArray<ToolDefinition>,
  toolChoice: options.toolChoice,
  keepAlive: options.keepAlive,
  think: options.think,
  options: options.options,
  extra: options.extra,
  format,
  raw: options.raw === true ? true : undefined,
  suffix: options.suffix,
  ...(options.lenient === true ? { lenient: true } : {})
})

/**
 * Whether a text is to be completed or filled in, rather than a conversation answered.
 *
 * @since 0.1.0
 * @category guards
 */
export const completes = ({ raw, suffix }: Pick<Options, "raw" | "suffix">): boolean =>
  raw === true || suffix !== undefined

/**
 * The text of a request that `completes`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const promptOf = ({ messages }: Pick<ChatRequest, "messages">): string => messages.map(textOf).join("")

const hedgeOf = (hedge: boolean | { readonly after: number }): Limits["hedge"] =>
  hedge === false ? undefined : hedge === true ? {} : hedge

/**
 * `hedge` is the default if the call does not set it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const limits = (options: CheckedOptions, hedge: CheckedOptions["hedge"] = false): Limits => {
  const timeout = options.timeout ?? defaults.timeout
  return {
    connectTimeout: options.connectTimeout ?? Math.min(defaults.connectTimeout, timeout),
    firstTokenTimeout: options.firstTokenTimeout ?? timeout,
    firstToken:
      options.firstTokenTimeout !== undefined ? "fixed" : options.timeout !== undefined ? "silence" : "prompt",
    loadTimeout: options.loadTimeout ?? options.firstTokenTimeout ?? options.timeout ?? defaults.loadTimeout,
    idleTimeout: options.idleTimeout ?? timeout,
    deadline: options.deadline,
    maxAttempts: options.maxRetries,
    retryBackoff: options.retryBackoff ?? defaults.retryBackoff,
    onInterrupt: options.onInterrupt ?? defaults.onInterrupt,
    hedge: hedgeOf(options.hedge ?? hedge)
  }
}
