/** What a benchmark found, as plain data that can be kept as JSON. */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })
const Figure = Schema.Number.pipe(Schema.finite(), Schema.nonNegative())

/**
 * The middle of several values, and the one that 95 % of them are no worse than.
 *
 * @since 0.3.0
 * @category models
 */
export const Percentiles = Schema.Struct({
  /** Half of the values are no worse. */
  p50: Figure,
  /** 95 % of the values are no worse: of times that is a longer one, of speeds a lower one. */
  p95: Figure
})
/**
 * @since 0.3.0
 * @category models
 */
export type Percentiles = typeof Percentiles.Type

/**
 * The requests with one prompt, so many at a time.
 *
 * @since 0.3.0
 * @category models
 */
export const Phase = Schema.Struct({
  /** Which prompt. */
  prompt: Schema.Literal("short", "long"),
  /** How many requests there were at a time. */
  concurrency: Schema.Positive,
  /** How many requests were answered. */
  requests: Schema.NonNegativeInt,
  /** How many failed. */
  failed: Schema.NonNegativeInt,
  /** Tokens of a prompt that were evaluated: the middle. */
  promptTokens: Figure,
  /** Tokens of an answer: the middle. */
  outputTokens: Figure,
  /** Time to first token, in milliseconds. */
  firstTokenTime: Percentiles,
  /** Output tokens per second of a request, by our clock. */
  tokensPerSecond: Percentiles,
  /** Output tokens per second of all requests together. */
  throughput: Figure
})
/**
 * @since 0.3.0
 * @category models
 */
export type Phase = typeof Phase.Type

const Speeds = Schema.Struct({
  /** Output tokens per second. */
  tokensPerSecond: optional(Figure),
  /** Prompt tokens per second. */
  promptTokensPerSecond: optional(Figure)
})

/**
 * A model on a server.
 *
 * @since 0.3.0
 * @category models
 */
export const Result = Schema.Struct({
  /** The server's address. */
  server: Schema.NonEmptyString,
  /** The model's name there. */
  model: Schema.NonEmptyString,
  /** When it was measured, in milliseconds since the epoch. */
  at: Figure,
  /** Time to first token of the short prompt, in milliseconds: the middle. */
  firstTokenTime: Figure,
  /** Output tokens per second of one request at a time: what counts for routing. */
  tokensPerSecond: Figure,
  /** Prompt tokens per second: what counts for routing. */
  promptTokensPerSecond: optional(Figure),
  /** By our clock. */
  measured: Speeds,
  /** By the server's counters, where it has any. */
  claimed: Speeds,
  /** Whether the server's counters differ from our clock by more than is tolerated; then the lower speed counts. */
  disagrees: Schema.Boolean,
  /** How long loading the model took, in milliseconds, if it was loaded for this. */
  loadTime: optional(Figure),
  /** What was measured: each prompt alone, and the short one several times at once. */
  phases: Schema.Array(Phase),
  /** Whether the budget sufficed for all phases. */
  complete: Schema.Boolean,
  /** What is remarkable, in words. */
  notes: Schema.Array(Schema.String)
})
/**
 * @since 0.3.0
 * @category models
 */
export type Result = typeof Result.Type

/**
 * What was not measured.
 *
 * @since 0.3.0
 * @category models
 */
export const Skipped = Schema.Struct({
  /** The server's address. */
  server: Schema.NonEmptyString,
  /** The model's name there; absent where it is about the whole server. */
  model: optional(Schema.NonEmptyString),
  /**
   * - `absent`: the server does not have the model
   * - `budget`: the time, requests or tokens of the benchmark were used up
   * - `busy`: requests of others were in flight
   * - `cold`: the model is not in the server's memory
   * - `failed`: its requests failed
   * - `remote-tokens`: the tokens of remote servers for this day are used up
   * - `unreachable`: the server did not answer
   */
  reason: Schema.Literal("absent", "budget", "busy", "cold", "failed", "remote-tokens", "unreachable"),
  /** The same in words. */
  message: Schema.String
})
/**
 * @since 0.3.0
 * @category models
 */
export type Skipped = typeof Skipped.Type

/**
 * A whole benchmark.
 *
 * @since 0.3.0
 * @category models
 */
export const Report = Schema.Struct({
  /** When it began, in milliseconds since the epoch. */
  at: Figure,
  /** How long it took, in milliseconds. */
  took: Figure,
  /** How many requests it sent. */
  requests: Schema.NonNegativeInt,
  /** How many tokens of prompts and answers it spent. */
  tokens: Figure,
  /** What was measured. */
  results: Schema.Array(Result),
  /** What was not, and why. */
  skipped: Schema.Array(Skipped)
})
/**
 * @since 0.3.0
 * @category models
 */
export type Report = typeof Report.Type

const Kept = Schema.Struct({ version: Schema.Literal(1), results: Schema.Array(Result) })
const decodeKept = Schema.decodeUnknownEither(Schema.parseJson(Kept))
const encodeKept = Schema.encodeSync(Schema.parseJson(Kept))

/**
 * The text in which the last results of each model on each server are kept.
 *
 * @since 0.3.0
 * @category combinators
 */
export const encodeResults = (results: ReadonlyArray<Result>): string => encodeKept({ version: 1, results })

/**
 * Reads what `encodeResults` wrote, or says what is wrong with it.
 *
 * @since 0.3.0
 * @category combinators
 */
export const decodeResults = (text: string): Either.Either<ReadonlyArray<Result>, string> =>
  Either.mapBoth(decodeKept(text), {
    onLeft: (error) => {
      const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
      return `${issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `}${issue?.message ?? "it cannot be read"}`
    },
    onRight: ({ results }) => results
  })
