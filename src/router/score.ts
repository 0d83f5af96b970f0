/**
 * The strategies that look at each server for itself: `random`, `fastest`, `nearest` and `balanced`.
 *
 * @since 0.1.0
 */
import type { Pool } from "../fleet/pool.js"

/** The scores of a strategy: lower is tried first. */
type Score = (i: number) => number

/**
 * How soon a server can begin: 0 where the model is in memory, 1 where it is being loaded, 2 where it must be loaded
 * first, or nothing is known.
 */
const readiness = (pool: Pool, i: number, now: number): number =>
  (pool.residentUntil[i] ?? 0) > now ? 0 : (pool.own[i] ?? 0) > 0 ? 1 : 2

/**
 * 0.6 speed and 0.4 proximity, both as shares of the best.
 *
 * @since 0.1.0
 * @category combinators
 */
export const balanced = (pool: Pool, chosen: Int32Array, count: number): Score => {
  let fastest = 0
  let farthest = 0
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    fastest = Math.max(fastest, pool.speed[i] || 0)
    farthest = Math.max(farthest, pool.remoteness[i] || 0)
  }
  return (i) => {
    const far = pool.remoteness[i] ?? Number.NaN
    const fast = fastest === 0 ? 0 : (pool.speed[i] || 0) / fastest
    const near = Number.isNaN(far) ? 0 : farthest === 0 ? 1 : 1 - far / farthest
    return -(0.6 * fast + 0.4 * near)
  }
}

/**
 * A server that has not shown its speed counts as faster than the others, so that it is tried, and shows it.
 *
 * @since 0.1.0
 * @category combinators
 */
export const fastest = (pool: Pool, explore: boolean): Score => {
  let best = 0
  if (explore) for (let i = 0; i < pool.size; i++) best = Math.max(best, pool.speed[i] || 0)
  return (i) => -(pool.speed[i] || (explore ? best + 1 : 0))
}

/**
 * @since 0.1.0
 * @category combinators
 */
export const nearest =
  (pool: Pool): Score =>
  (i) => {
    const far = pool.remoteness[i] ?? Number.NaN
    return Number.isNaN(far) ? Number.MAX_VALUE : far
  }

/**
 * The lowest score; of equals the one that can begin soonest, then the fewest requests in flight, then chance.
 *
 * @since 0.1.0
 * @category combinators
 */
export const lowest = (
  pool: Pool,
  chosen: Int32Array,
  count: number,
  score: Score,
  random: () => number,
  now: number
): number => {
  let best = chosen[0] ?? 0
  let bestScore = score(best)
  let equals = 1
  for (let k = 1; k < count; k++) {
    const i = chosen[k] ?? 0
    const value = score(i)
    if (value > bestScore) continue
    if (value === bestScore) {
      const order =
        readiness(pool, i, now) - readiness(pool, best, now) || (pool.inFlight[i] ?? 0) - (pool.inFlight[best] ?? 0)
      if (order > 0) continue
      if (order === 0) {
        equals++
        if (random() * equals >= 1) continue
      } else equals = 1
    } else equals = 1
    best = i
    bestScore = value
  }
  return best
}

/**
 * One of them by weight. Servers that have shown their speed weigh up to four times more, or less, than the average
 * of those.
 *
 * @since 0.1.0
 * @category combinators
 */
export const byWeight = (pool: Pool, chosen: Int32Array, count: number, random: () => number): number => {
  let sum = 0
  let known = 0
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    const speed = pool.proven[i] === 1 ? (pool.speed[i] ?? Number.NaN) : Number.NaN
    if (speed > 0) {
      sum += speed
      known++
    }
  }
  const mean = sum / known
  const weigh = (i: number): number => {
    const speed = pool.proven[i] === 1 ? (pool.speed[i] ?? Number.NaN) : Number.NaN
    return (pool.weight[i] ?? 1) * (speed > 0 ? Math.min(4, Math.max(0.25, speed / mean)) : 1)
  }
  let total = 0
  for (let k = 0; k < count; k++) total += weigh(chosen[k] ?? 0)
  let left = random() * total
  for (let k = 0; k < count - 1; k++) {
    left -= weigh(chosen[k] ?? 0)
    if (left < 0) return chosen[k] ?? 0
  }
  return chosen[count - 1] ?? 0
}
