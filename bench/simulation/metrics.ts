/** What is made of a run, and of the runs of several seeds. */
import type { Outcome } from "./engine.js"
import type { World } from "./world.js"

/** Answers count as goodput if their first token came within so many seconds. */
export const objective = 10

export interface Measures {
  readonly p50: number
  readonly p99: number
  readonly mean: number
  readonly failed: number
  readonly loads: number
  readonly attempts: number
  /** Tokens per second of complete answers whose first token came within the objective. */
  readonly goodput: number
  /** Answers of the busiest tenth of the servers, as a share of all. */
  readonly top: number
  /** Servers that answered nothing. */
  readonly unused: number
}

/** Of sorted values, the nearest rank. */
export const quantile = (sorted: ArrayLike<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] as number

/** A question that got no first token counts as one that waited for `patience` seconds. */
export const measure = (world: World, outcome: Outcome, maxWait: number): Measures => {
  const waits = outcome.ttft.map((time) => Math.min(time, maxWait)).sort()
  let sum = 0
  for (const wait of waits) sum += wait
  let failed = 0
  let good = 0
  for (let id = 0; id < outcome.served.length; id++) {
    if (outcome.served[id] === 0) failed++
    else if ((outcome.ttft[id] as number) <= objective) good += outcome.tokens[id] as number
  }
  const shares = outcome.perServer.slice().sort().reverse()
  const busiest = shares.slice(0, Math.max(1, Math.round(shares.length / 10))).reduce((a, b) => a + b, 0)
  const all = shares.reduce((a, b) => a + b, 0)
  return {
    p50: quantile(waits, 0.5),
    p99: quantile(waits, 0.99),
    mean: sum / waits.length,
    failed,
    loads: outcome.loads,
    attempts: outcome.attempts,
    goodput: good / world.duration,
    top: all === 0 ? 0 : busiest / all,
    unused: shares.reduce((count, share) => (share === 0 ? count + 1 : count), 0)
  }
}

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export const spread = (values: ReadonlyArray<number>): Spread => {
  const sorted = [...values].sort((a, b) => a - b)
  const half = sorted.length >> 1
  const upper = sorted[half] ?? Number.NaN
  const median = sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? upper) + upper) / 2
  return { median, min: sorted[0] ?? Number.NaN, max: sorted[sorted.length - 1] ?? Number.NaN }
}
