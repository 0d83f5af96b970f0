/** The strategies that score each server by itself: `random`, `fastest`, `nearest` and `balanced`. */
import type { Columns } from "../fleet/columns.js"
import { scratchValues } from "./scratch.js"

/** Fills `values` with the scores of the chosen: lower is tried first. */
type Score = (columns: Columns, chosen: Int32Array, count: number, values: Float64Array) => void

/** A server of unknown speed counts as fastest, so that it is tried and measured. */
export const exploring: Score = ({ speed }, chosen, count, values) => {
  for (let k = 0; k < count; k++) {
    const own = speed[chosen[k] ?? 0] ?? 0
    values[k] = own > 0 ? -own : Number.NEGATIVE_INFINITY
  }
}

/** A server of unknown speed counts as slowest. */
export const fastest: Score = ({ speed }, chosen, count, values) => {
  for (let k = 0; k < count; k++) {
    const own = speed[chosen[k] ?? 0] ?? 0
    values[k] = own > 0 ? -own : 0
  }
}

export const nearest: Score = ({ remoteness }, chosen, count, values) => {
  for (let k = 0; k < count; k++) {
    const far = remoteness[chosen[k] ?? 0] ?? 0
    values[k] = far >= 0 ? far : Number.MAX_VALUE
  }
}

/**
 * How soon a server can begin: 0 if the model is loaded, 1 if it is loading, 2 if it must be loaded or nothing is
 * known.
 */
const readiness = (columns: Columns, i: number, now: number): number =>
  (columns.residentUntil[i] ?? 0) > now ? 0 : (columns.ownInFlight[i] ?? 0) > 0 ? 1 : 2

/**
 * Whether `i` replaces `best` at an equal score: returns the number of candidates equal in all else too, negative if
 * `best` stays.
 */
const among = (
  columns: Columns,
  i: number,
  best: number,
  equals: number,
  random: () => number,
  now: number
): number => {
  const order =
    readiness(columns, i, now) - readiness(columns, best, now) ||
    (columns.inFlight[i] ?? 0) - (columns.inFlight[best] ?? 0)
  if (order > 0) return -equals
  if (order < 0) return 1
  return random() * (equals + 1) >= 1 ? -(equals + 1) : equals + 1
}

/** The lowest score; among equals the one that can begin soonest, then the fewest requests in flight, then random. */
export const lowest = (
  columns: Columns,
  chosen: Int32Array,
  count: number,
  score: Score,
  random: () => number,
  now: number
): number => {
  const values = scratchValues(count)
  score(columns, chosen, count, values)
  let best = chosen[0] ?? 0
  let least = values[0] ?? 0
  let equals = 1
  for (let k = 1; k < count; k++) {
    const value = values[k] ?? 0
    if (value > least) continue
    const i = chosen[k] ?? 0
    equals = value === least ? among(columns, i, best, equals, random, now) : 1
    if (equals < 0) {
      equals = -equals
      continue
    }
    best = i
    least = value
  }
  return best
}

/** 0.6 speed and 0.4 proximity, both relative to the best; ties as in `lowest`. The maxima are needed first. */
export const balanced = (
  columns: Columns,
  chosen: Int32Array,
  count: number,
  random: () => number,
  now: number
): number => {
  const { remoteness, speed } = columns
  let fastest = 0
  let farthest = 0
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    const fast = speed[i] ?? 0
    const far = remoteness[i] ?? 0
    if (fast > fastest) fastest = fast
    if (far > farthest) farthest = far
  }
  const perSpeed = fastest > 0 ? 0.6 / fastest : 0
  const perDistance = farthest > 0 ? 0.4 / farthest : 0
  let best = -1
  let least = Number.POSITIVE_INFINITY
  let equals = 1
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    const own = speed[i] ?? 0
    const far = remoteness[i] ?? 0
    const value = (far >= 0 ? far * perDistance - 0.4 : 0) - (own > 0 ? own * perSpeed : 0)
    if (value > least) continue
    equals = value === least ? among(columns, i, best, equals, random, now) : 1
    if (equals < 0) {
      equals = -equals
      continue
    }
    best = i
    least = value
  }
  return best
}

/** Measured speeds weigh at most this factor more, or less, than their average. */
const maxFactor = 4

/** From this many servers on, rejection sampling replaces summing all weights; at most this many draws. */
const many = 256
const mostDraws = 64

/** A weighted random choice, where proven speed counts too. */
export const byWeight = (columns: Columns, chosen: Int32Array, count: number, random: () => number): number => {
  const { provenSpeed: shown, weight } = columns
  let sum = 0
  let known = 0
  for (let k = 0; k < count; k++) {
    const own = shown[chosen[k] ?? 0] ?? 0
    sum += own
    known += own > 0 ? 1 : 0
  }
  const mean = sum / known
  const least = mean / maxFactor
  const most = mean * maxFactor
  const share = 1 / mean
  if (count >= many) {
    const heaviest = columns.maxWeight * maxFactor
    for (let draw = 0; draw < mostDraws; draw++) {
      const i = chosen[Math.floor(random() * count)] ?? 0
      const own = shown[i] ?? 0
      const scaled = (weight[i] ?? 1) * (own > 0 ? Math.min(most, Math.max(least, own)) * share : 1)
      if (random() * heaviest < scaled) return i
    }
  }
  const values = scratchValues(count)
  let total = 0
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    const own = shown[i] ?? 0
    total += (weight[i] ?? 1) * (own > 0 ? Math.min(most, Math.max(least, own)) * share : 1)
    values[k] = total
  }
  // The cumulative weights ascend: binary search for the first above the draw.
  const drawn = random() * total
  let low = 0
  let high = count - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if ((values[middle] ?? 0) > drawn) high = middle
    else low = middle + 1
  }
  return chosen[low] ?? 0
}
