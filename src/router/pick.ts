/**
 * Which server to try next: a pure function over what is known of the servers.
 *
 * @since 0.1.0
 */
import type { Routing } from "../ChatRequest.js"
import { Pool } from "../fleet/pool.js"
import type { Location } from "../Server.js"
import { type Circumstances, none, restingAt, wait } from "./circumstances.js"
import { type Candidate, remoteness, speed } from "./measures.js"
import { balanced, byWeight, fastest, lowest, nearest } from "./score.js"
import { load, soonest } from "./soonest.js"

let scratch = new Int32Array(256)

const choose = (
  strategy: Exclude<Routing, "least-busy" | "warm">,
  pool: Pool,
  chosen: Int32Array,
  count: number,
  { explore, now, random }: Circumstances
): number => {
  switch (strategy) {
    case "random":
      return byWeight(pool, chosen, count, random)
    case "fastest":
      return lowest(pool, chosen, count, fastest(pool, explore !== false), random, now)
    case "nearest":
      return lowest(pool, chosen, count, nearest(pool), random, now)
    case "balanced":
      return lowest(pool, chosen, count, balanced(pool, chosen, count), random, now)
  }
}

/** A server may have this much more than the average of its equals before a conversation leaves it. */
const affinityBound = 1.25

/** Whether a conversation stays with its last server: it is among the chosen, and not much busier than they are. */
const stays = (pool: Pool, chosen: Int32Array, count: number, affinity: number): boolean => {
  let busy = 0
  let among = false
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    busy += pool.inFlight[i] ?? 0
    if (i === affinity) among = true
  }
  return among && (pool.inFlight[affinity] ?? 0) <= affinityBound * (busy / count + 1)
}

/**
 * The next server to try, as its index in the pool; `wait` where the request should wait for its turn, or for a place;
 * `none` where no server remains.
 *
 * Servers that rest come last, the one that has rested longest first. Before them the lower `priority`; then servers
 * that are certain to have the model; then the strategy decides.
 *
 * `least-busy` and `warm` give a request to a server that holds the model in memory, the one where its first token is
 * expected soonest. Where those that do are full, or nobody does, they decide whether another server loads it; `warm`
 * waits four times as long before that.
 *
 * @since 0.1.0
 * @category combinators
 */
export const pick = (strategy: Routing, pool: Pool, tried: Uint8Array, circumstances: Circumstances): number => {
  const { affinity, now, waited = false } = circumstances
  const { line, size } = pool
  const loads = strategy === "least-busy" || strategy === "warm"
  // First come, first served; where no more may wait, a load may still be possible.
  if (!waited && line.queued > 0 && !(loads && line.full)) return wait
  if (scratch.length < size) scratch = new Int32Array(size * 2)
  const chosen = scratch
  let count = 0
  let best = Number.POSITIVE_INFINITY
  let full = false
  let rested = none
  let restedUntil = Number.POSITIVE_INFINITY
  let restedTier = Number.POSITIVE_INFINITY
  for (let i = 0; i < size; i++) {
    if (tried[i] === 1) continue
    const tier = pool.tier[i] ?? 0
    if (pool.restsUntil[i] !== 0 && restingAt(pool, i, now)) {
      const until = pool.restsUntil[i] ?? 0
      if (until < restedUntil || (until === restedUntil && tier < restedTier)) {
        restedUntil = until
        restedTier = tier
        rested = i
      }
      continue
    }
    if ((pool.free[i] ?? 0) <= 0) {
      full = true
      continue
    }
    const rank = loads && (pool.residentUntil[i] ?? 0) <= now ? tier + 0.5 : tier
    if (rank > best) continue
    if (rank < best) {
      best = rank
      count = 0
    }
    chosen[count++] = i
  }
  if (count === 0) return full ? wait : rested
  if (loads) {
    const tier = Math.floor(best)
    if (tier === best) return soonest(pool, chosen, count, circumstances)
    const ahead = waited ? Math.max(1, line.queued) : line.queued + 1
    return load(strategy, pool, tried, tier, chosen, count, ahead, circumstances)
  }
  if (affinity !== undefined && stays(pool, chosen, count, affinity)) return affinity
  return count === 1 ? (chosen[0] ?? 0) : choose(strategy, pool, chosen, count, circumstances)
}

/** The server with the fewest requests, of those that do not rest: where one that waits most likely ends up. */
export const emptiest = (pool: Pool, now: number): number => {
  let best = none
  for (let i = 0; i < pool.size; i++) {
    if (restingAt(pool, i, now)) continue
    if (best === none || (pool.inFlight[i] ?? 0) < (pool.inFlight[best] ?? 0)) best = i
  }
  return best
}

/**
 * The candidates in the order in which `pick` would try them if none were full: always all of them.
 *
 * @since 0.1.0
 * @category combinators
 */
export const order = (
  strategy: Routing,
  candidates: ReadonlyArray<Candidate>,
  circumstances: Omit<Circumstances, "now"> & { readonly location: Location | undefined; readonly now?: number }
): ReadonlyArray<Candidate> => {
  const now = circumstances.now ?? 0
  const pool = poolOf(candidates, circumstances.location, now)
  pool.free.fill(Number.POSITIVE_INFINITY)
  // Nobody else is there: a load is as good as a place.
  pool.own.fill(0)
  const tried = new Uint8Array(pool.size)
  const ordered: Array<Candidate> = []
  for (;;) {
    const at = pick(strategy, pool, tried, { ...circumstances, now })
    const candidate = candidates[at]
    if (candidate === undefined) return ordered
    tried[at] = 1
    ordered.push(candidate)
  }
}

/**
 * The columns of candidates that are described one by one, as tests and simulations do.
 *
 * @since 0.1.0
 * @category constructors
 */
export const poolOf = (candidates: ReadonlyArray<Candidate>, location: Location | undefined, now: number): Pool => {
  const pool = new Pool(candidates.map((candidate) => candidate.host))
  candidates.forEach((candidate, i) => {
    const { host, snapshot } = candidate
    pool.remoteness[i] = remoteness(candidate, location) ?? Number.NaN
    pool.speed[i] = speed(candidate) ?? Number.NaN
    pool.proven[i] = snapshot.proven ? 1 : 0
    pool.inFlight[i] = snapshot.inFlight
    pool.own[i] = snapshot.inFlight
    pool.free[i] = (host.server.maxInFlight ?? snapshot.places ?? Number.POSITIVE_INFINITY) - snapshot.inFlight
    pool.restsUntil[i] =
      snapshot.breaker === "closed"
        ? 0
        : snapshot.breaker === "open"
          ? Math.max(snapshot.restsUntil, now + 1)
          : Math.min(snapshot.restsUntil, now) || -1
    pool.probing[i] = snapshot.probing ? 1 : 0
    pool.promptSpeed[i] = snapshot.promptTokensPerSecond ?? Number.NaN
    pool.residentUntil[i] = snapshot.residentUntil ?? 0
  })
  return pool
}
