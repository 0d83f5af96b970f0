/** What a benchmark is asked for. */
import * as Schema from "effect/Schema"
import { decoder, type InputOf, milliseconds, optional } from "../internal/optionSchemas.js"
import { positive, wholeBetween, wholeFrom } from "../internal/units.js"

/**
 * What to measure, and how much that may cost.
 *
 * @since 0.3.0
 * @category models
 */
export const Options = Schema.Struct({
  /** Addresses of servers of the settings; default: all of them. */
  servers: optional(Schema.Array(Schema.NonEmptyTrimmedString)),
  /**
   * The model to measure. Default: of each server one, the configured model where it has that, else the first of those
   * in its memory.
   */
  model: optional(Schema.NonEmptyTrimmedString),
  /** Whether each model of the servers is measured; default `false`. Not together with `model`. */
  all: optional(Schema.Boolean),
  /** Whether models that are not in a server's memory are loaded for it, which may unload others; default `false`. */
  cold: optional(Schema.Boolean),
  /** Requests per prompt, one at a time: 1 to 100, default 3. */
  runs: optional(wholeBetween(1, 100)),
  /**
   * Requests at the same time in the last part, `runs` times: 1 to 64, default 4, and at most a server's `maxInFlight`;
   * 1: only one at a time.
   */
  concurrency: optional(wholeBetween(1, 64)),
  /** Length of the long prompt, in tokens, about: 100 to 100,000, default 1,000. */
  promptTokens: optional(wholeBetween(100, 100_000)),
  /** Most tokens of an answer: 8 to 4,096, default 64. */
  outputTokens: optional(wholeBetween(8, 4_096)),
  /**
   * How long the whole may take, in milliseconds; default 120,000. Each of those that are still to be measured gets the
   * same part of what is left.
   */
  maxTime: optional(milliseconds),
  /** How many requests in all; default 200. */
  maxRequests: optional(wholeFrom(1)),
  /** How many tokens of prompts and answers in all; default 50,000. */
  maxTokens: optional(wholeFrom(1)),
  /**
   * By how much a server's own speed may differ from the one measured here, as a part of it, before that is reported;
   * default 0.25.
   */
  tolerance: optional(positive)
})

/**
 * @since 0.3.0
 * @category models
 */
export interface Options extends InputOf<typeof Options.fields> {}

/**
 * The defaults of every option that has one.
 *
 * @since 0.3.0
 * @category constants
 */
export const defaults = {
  runs: 3,
  concurrency: 4,
  promptTokens: 1_000,
  outputTokens: 64,
  maxTime: 120_000,
  maxRequests: 200,
  maxTokens: 50_000,
  tolerance: 0.25
} as const

const decode = decoder(Options, ["signal"])

/** Options with their defaults. An unknown one, or one out of its range, is `InvalidRequest`. */
export const decodeOptions = (input: unknown) => decode(input)

/** Options that were checked. */
export interface CheckedOptions extends Schema.Schema.Type<typeof Options> {}
