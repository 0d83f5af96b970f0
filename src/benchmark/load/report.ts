/** What a load test found, as plain data. */
import type { LoadObjectives, profiles, traces } from "./options.js"

/**
 * The distribution of a figure over requests. Percentiles by the nearest rank; all are 0 where `count` is.
 *
 * @since 0.3.0
 * @category models
 */
export interface LoadDistribution {
  /** How many values there are. */
  readonly count: number
  /** Their mean. */
  readonly mean: number
  /** The least. */
  readonly min: number
  /** 50 % are no greater. */
  readonly p50: number
  /** 90 % are no greater. */
  readonly p90: number
  /** 95 % are no greater. */
  readonly p95: number
  /** 99 % are no greater. */
  readonly p99: number
  /** The greatest. */
  readonly max: number
}

/**
 * The requests of a step by what they came to. Only those that succeeded are in its latencies.
 *
 * @since 0.3.0
 * @category models
 */
export interface LoadRequests {
  /** All that were sent, those of the warm-up and the cool-down included. */
  readonly sent: number
  /** Those of them that were sent in the warm-up or the cool-down; all that follow are without them. */
  readonly excluded: number
  /** Answered completely. */
  readonly succeeded: number
  /** Ended by an error, or by `requestTimeout`. */
  readonly failed: number
  /** Still in flight when the step ended. */
  readonly cancelled: number
}

/**
 * Requests that kept all time limits.
 *
 * @since 0.3.0
 * @category models
 */
export interface LoadGoodput {
  /** How many. */
  readonly requests: number
  /** Good requests per second. */
  readonly requestsPerSecond: number
  /** Output tokens per second of good requests. */
  readonly outputTokensPerSecond: number
  /** The part of all counted requests, failed and cancelled ones included, that is good: 0 to 1. */
  readonly attainment: number
}

/**
 * One step: a constant way to send requests. Times are in milliseconds.
 *
 * @since 0.3.0
 * @category models
 */
export interface LoadStep {
  /** How requests were sent. */
  readonly profile: Exclude<(typeof profiles)[number], "sweep">
  /** Requests per second that were to be sent, in an open loop. */
  readonly rate?: number
  /** Requests at the same time, in a closed loop. */
  readonly concurrency?: number
  /** How long all of it took, the last answers included. */
  readonly took: number
  /** The length of the time between warm-up and cool-down, whose requests are counted. */
  readonly window: number
  /** By what they came to. */
  readonly requests: LoadRequests
  /** Requests per second that were sent. */
  readonly sentPerSecond: number
  /** Requests per second that were answered completely. */
  readonly requestsPerSecond: number
  /** Output tokens per second of all requests together. */
  readonly outputTokensPerSecond: number
  /** Time to first token. */
  readonly ttft: LoadDistribution
  /** Inter-token latency: the times between the pieces of an answer, of all answers. */
  readonly itl: LoadDistribution
  /** Time per output token of a request, after its first one. */
  readonly tpot: LoadDistribution
  /** From the request to the end of its answer. */
  readonly latency: LoadDistribution
  /** Tokens of a prompt. */
  readonly promptTokens: LoadDistribution
  /** Tokens of an answer. */
  readonly outputTokens: LoadDistribution
  /** How many requests' output tokens the server counted, and how many we estimated because it did not. */
  readonly counts: { readonly server: number; readonly estimated: number }
  /** With time limits only. */
  readonly goodput?: LoadGoodput
  /** How much later than planned requests were sent, in an open loop. */
  readonly lateness?: LoadDistribution
  /** The most requests in flight. */
  readonly maxInFlight: number
  /** How many arrivals had to wait because `maxConcurrency` requests were in flight. */
  readonly limited: number
  /** Why requests failed, and how many did so, the most frequent reason first. */
  readonly failures: ReadonlyArray<{ readonly message: string; readonly count: number }>
  /** What is remarkable, in words. */
  readonly notes: ReadonlyArray<string>
}

/**
 * Why a load test ended: it was complete, stopped by its caller, a part of the budget was used up (`remote-tokens`: that
 * of remote servers for the day), or nothing but failures came.
 *
 * @since 0.3.0
 * @category models
 */
export type LoadEnd = "complete" | "stopped" | "time" | "requests" | "tokens" | "remote-tokens" | "failing"

/**
 * A whole load test.
 *
 * @since 0.3.0
 * @category models
 */
export interface LoadReport {
  /** When it began, in milliseconds since the epoch. */
  readonly at: number
  /** How long it took, in milliseconds. */
  readonly took: number
  /** The server's address. */
  readonly server: string
  /** The model. */
  readonly model: string
  /** What was asked. */
  readonly trace: (typeof traces)[number]
  /** Makes arrivals and prompts repeatable. */
  readonly seed: number
  /** The time limits, in milliseconds. */
  readonly slo?: LoadObjectives
  /** How many requests were sent. */
  readonly requests: number
  /** How many tokens of prompts and answers were spent. */
  readonly tokens: number
  /** Why it ended. */
  readonly ended: LoadEnd
  /** One, or several with the profile `sweep`. */
  readonly steps: ReadonlyArray<LoadStep>
}

/**
 * How far a load test is. With the last one, `done` is `true`.
 *
 * @since 0.3.0
 * @category models
 */
export interface LoadProgress {
  /** Whether it has ended. */
  readonly done: boolean
  /** The present step, from 1, of how many. */
  readonly step: number
  /** How many steps there are. */
  readonly steps: number
  /** Requests that were sent in this step. */
  readonly sent: number
  /** Requests of this step that have ended. */
  readonly ended: number
  /** Those of them that failed. */
  readonly failed: number
  /** Requests in flight. */
  readonly inFlight: number
  /** Computes what was measured so far. */
  readonly report: () => LoadReport
}
