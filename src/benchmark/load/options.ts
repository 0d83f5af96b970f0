/** What a load test is asked for. */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { InvalidRequest } from "../../Errors.js"
import { decoder, type InputOf, milliseconds, optional, whole } from "../../internal/optionSchemas.js"
import { positive, range, wholeBetween, wholeFrom } from "../../internal/units.js"
import type { ServerOptions } from "../../Server.js"

/** How requests are sent, in the terms of GuideLLM. */
export const profiles = ["synchronous", "concurrent", "throughput", "constant", "poisson", "sweep"] as const

/** What requests ask. */
export const traces = ["random", "shared-prefix", "chat"] as const

/**
 * Time limits of a good request, in milliseconds. A request is good if it succeeds and keeps all that are given.
 *
 * @since 0.3.0
 * @category models
 */
export const LoadObjectives = Schema.Struct({
  /** Time to first token. */
  ttft: optional(milliseconds),
  /** Mean inter-token latency of the request: the mean of the times between its pieces. */
  itl: optional(milliseconds),
  /** Time per output token: what the request takes after its first token, over its further tokens. */
  tpot: optional(milliseconds),
  /** From the request to the end of its answer. */
  latency: optional(milliseconds)
})

/**
 * @since 0.3.0
 * @category models
 */
export interface LoadObjectives extends Schema.Schema.Type<typeof LoadObjectives> {}

/**
 * How to load a server, and how much that may cost.
 *
 * @since 0.3.0
 * @category models
 */
export const LoadOptions = Schema.Struct({
  /**
   * The server to load: its address, or its address and key as in the settings. It need not be one of the settings; one
   * that is has the key and the headers that they say. Without a `protocol` it is asked as an OpenAI-compatible server.
   */
  server: Schema.Union(Schema.NonEmptyTrimmedString, Schema.Object as unknown as Schema.Schema<ServerOptions>),
  /** The model to ask. */
  model: Schema.NonEmptyTrimmedString,
  /**
   * How requests are sent. Open loops (`constant`, `poisson`) send `rate` requests per second whether or not answers
   * have come. Closed loops send the next one when one has ended: one at a time (`synchronous`), `concurrency` at a
   * time (`concurrent`), or `maxConcurrency` at a time (`throughput`). `sweep` runs `synchronous`, `throughput` and
   * then open loops at constant rates between those two. Default: `poisson` with a `rate`, else `concurrent` with a
   * `concurrency`.
   */
  profile: optional(Schema.Literal(...profiles)),
  /** Requests per second of an open loop. */
  rate: optional(positive),
  /** Requests at the same time with the profile `concurrent`: 1 to 10,000, default 4. */
  concurrency: optional(wholeBetween(1, 10_000)),
  /** How long requests are sent, in milliseconds, for each step of a sweep; default 30,000. */
  duration: optional(milliseconds),
  /** How many requests are sent at most, for each step of a sweep. Default: as many as fit into `duration`. */
  requests: optional(wholeFrom(1)),
  /** Steps of a sweep, the first two included: 3 to 100, default 10. */
  steps: optional(wholeBetween(3, 100)),
  /**
   * What is asked. `random`: each prompt is new from its first word on, so that no cache has it. `shared-prefix`: all
   * have the same system prompt of `prefixTokens`. `chat`: conversations of `turns` questions, each sent with all
   * before it. Default `random`.
   */
  trace: optional(Schema.Literal(...traces)),
  /** Tokens of each prompt (of each question with the trace `chat`), about: 1 to 100,000, default 256. */
  promptTokens: optional(wholeBetween(1, 100_000)),
  /** Most tokens of an answer: 1 to 100,000, default 64. */
  outputTokens: optional(wholeBetween(1, 100_000)),
  /**
   * Tokens of the shared system prompt, about: 1 to 100,000, default 1,024 with the trace `shared-prefix`, else none.
   */
  prefixTokens: optional(wholeBetween(1, 100_000)),
  /** Questions of a conversation with the trace `chat`: 1 to 100, default 4. */
  turns: optional(wholeBetween(1, 100)),
  /** Time limits that a good request keeps; without them there is no goodput. */
  slo: optional(LoadObjectives),
  /** Makes arrivals and prompts repeatable; default 42. */
  seed: optional(whole),
  /** The part of the time at the beginning whose requests are not counted: 0 to 0.5, default 0.1. */
  warmup: optional(range(0, 0.5)),
  /** The part of the time at the end whose requests are not counted: 0 to 0.4, default 0.1. */
  cooldown: optional(range(0, 0.4)),
  /**
   * The most requests in flight: 1 to 10,000, default 256. In an open loop further arrivals wait, which the result
   * says.
   */
  maxConcurrency: optional(wholeBetween(1, 10_000)),
  /** A request that takes longer has failed, in milliseconds; default 120,000. */
  requestTimeout: optional(milliseconds),
  /** How long the last answers are waited for; those that are left are cancelled, in milliseconds; default 30,000. */
  drainTime: optional(milliseconds),
  /** How long the whole may take, in milliseconds; default 900,000. */
  maxTime: optional(milliseconds),
  /** How many requests in all; default 10,000. */
  maxRequests: optional(wholeFrom(1)),
  /** How many tokens of prompts and answers in all; default 5,000,000. */
  maxTokens: optional(wholeFrom(1))
})

/**
 * @since 0.3.0
 * @category models
 */
export interface LoadOptions extends InputOf<typeof LoadOptions.fields> {}

/**
 * The defaults of the options of a load test that have one.
 *
 * @since 0.3.0
 * @category constants
 */
export const loadDefaults = {
  concurrency: 4,
  duration: 30_000,
  steps: 10,
  trace: "random",
  promptTokens: 256,
  outputTokens: 64,
  prefixTokens: 1_024,
  turns: 4,
  seed: 42,
  warmup: 0.1,
  cooldown: 0.1,
  maxConcurrency: 256,
  requestTimeout: 120_000,
  drainTime: 30_000,
  maxTime: 900_000,
  maxRequests: 10_000,
  maxTokens: 5_000_000
} as const

type DecodedOptions = Schema.Schema.Type<typeof LoadOptions>

/** Options that were checked, with their defaults. */
export type CheckedLoad = {
  readonly [K in Exclude<keyof DecodedOptions, "rate" | "requests" | "slo">]-?: Exclude<DecodedOptions[K], undefined>
} & Pick<DecodedOptions, "rate" | "requests" | "slo">

const decode = decoder(LoadOptions, ["signal"])

type Profile = (typeof profiles)[number]

const isOpen = (profile: Profile): boolean => profile === "constant" || profile === "poisson"

/** Which options belong to which profiles and traces: one that would have no effect is an error. */
const misplaced = (
  given: DecodedOptions,
  profile: Profile,
  trace: (typeof traces)[number]
): InvalidRequest | undefined => {
  const wrong = (field: string, reason: string) => new InvalidRequest({ field, reason })
  if (isOpen(profile) && given.rate === undefined) return wrong("rate", `is needed by the profile ${profile}`)
  if (!isOpen(profile) && given.rate !== undefined) return wrong("rate", `has no effect with the profile ${profile}`)
  if (profile !== "concurrent" && given.concurrency !== undefined) {
    return wrong("concurrency", `has no effect with the profile ${profile}`)
  }
  if (profile !== "sweep" && given.steps !== undefined) {
    return wrong("steps", `has no effect with the profile ${profile}`)
  }
  if (trace !== "chat" && given.turns !== undefined) return wrong("turns", `has no effect with the trace ${trace}`)
  if (trace === "random" && given.prefixTokens !== undefined) {
    return wrong("prefixTokens", "has no effect with the trace random")
  }
  if (given.slo !== undefined && Object.values(given.slo).every((limit) => limit === undefined)) {
    return wrong("slo", "names no limit: there are ttft, itl, tpot and latency")
  }
  return undefined
}

/** Options with their defaults. An unknown one, one out of its range, or one without effect is `InvalidRequest`. */
export const decodeLoad = (input: unknown): Either.Either<CheckedLoad, InvalidRequest> =>
  Either.flatMap(decode(input), (given) => {
    const profile: Profile | undefined =
      given.profile ??
      (given.rate !== undefined ? "poisson" : given.concurrency !== undefined ? "concurrent" : undefined)
    if (profile === undefined) {
      return Either.left(
        new InvalidRequest({ field: "profile", reason: `give a rate, or a profile: ${profiles.join(", ")}` })
      )
    }
    const trace = given.trace ?? loadDefaults.trace
    const wrong = misplaced(given, profile, trace)
    if (wrong !== undefined) return Either.left(wrong)
    const own = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
    const prefixTokens = given.prefixTokens ?? (trace === "shared-prefix" ? loadDefaults.prefixTokens : 0)
    const checked = {
      rate: undefined,
      requests: undefined,
      slo: undefined,
      ...loadDefaults,
      ...own,
      profile,
      trace,
      prefixTokens
    }
    return Either.right(checked as CheckedLoad)
  })
