/**
 * Which server to try next: a pure function over what is known of the servers.
 *
 * @since 0.1.0
 */
import type { Routing } from "../ChatRequest.js"
import { flag, Pool } from "../fleet/columns.js"
import type { Location } from "../Server.js"
import { type Candidate, remoteness, speed } from "./distance.js"
import { load, soonest } from "./expectedWait.js"
import { type Circumstances, none, restingAt, wait } from "./pickInput.js"
import { balanced, byWeight, exploring, fastest, lowest, nearest } from "./score.js"
import { indexRoom } from "./scratch.js"

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
      return lowest(pool, chosen, count, explore === false ? fastest : exploring, random, now)
    case "nearest":
      return lowest(pool, chosen, count, nearest, random, now)
    case "balanced":
      return balanced(pool, chosen, count, random, now)
  }
}

/** A server may have this much more than the average of its equals before a conversation leaves it. */
const affinityBound = 1.25

/** Where the conversation's server stands among the chosen, or `none`; and whether that is much busier than they are. */
const standing = (chosen: Int32Array, count: number, affinity: number): number => {
  for (let k = 0; k < count; k++) if (chosen[k] === affinity) return k
  return none
}

const overloaded = (pool: Pool, chosen: Int32Array, count: number, affinity: number): boolean => {
  let busy = 0
  for (let k = 0; k < count; k++) busy += pool.inFlight[chosen[k] ?? 0] ?? 0
  return (pool.inFlight[affinity] ?? 0) > affinityBound * (busy / count + 1)
}

/**
 * Collects the servers of a tier that could take the request now, `mask` being the flags that speak against it.
 * Without a branch per server: which of them are full is not to be foretold, and a wrong guess costs the processor more
 * than the rest of the pass.
 */
const collect = (pool: Pool, indices: Int32Array, tried: Uint8Array, mask: number, now: number): number => {
  const { flags, size } = pool
  const chosen = indexRoom(size + 1)
  let count = 0
  if (indices.length === size) {
    for (let i = 0; i < size; i++) {
      chosen[count] = i
      count += ((((flags[i] ?? 0) & mask) | (tried[i] ?? 0)) - 1) >>> 31
    }
  } else {
    for (let k = 0; k < indices.length; k++) {
      const i = indices[k] ?? 0
      chosen[count] = i
      count += ((((flags[i] ?? 0) & mask) | (tried[i] ?? 0)) - 1) >>> 31
    }
  }
  if (pool.resting.length === 0) return count
  // Those that are rested may be tried, too, by one request at a time.
  const tier = pool.tier[indices[0] ?? 0]
  for (const i of pool.resting) {
    const flagged = (flags[i] ?? 0) & mask & ~flag.rests
    if (flagged === 0 && tried[i] === 0 && pool.tier[i] === tier && !restingAt(pool, i, now)) chosen[count++] = i
  }
  return count
}

/** Where nobody could take the request now: whether a place may become free, or else who is tried although it rests. */
const otherwise = (pool: Pool, tried: Uint8Array, now: number): number => {
  const { flags, size } = pool
  let full = false
  for (let i = 0; i < size; i++) {
    if (tried[i] === 1 || ((flags[i] ?? 0) & flag.full) === 0) continue
    full = true
    if (!restingAt(pool, i, now)) return wait
  }
  let rested = none
  let until = Number.POSITIVE_INFINITY
  for (const i of pool.resting) {
    if (tried[i] === 1 || ((flags[i] ?? 0) & flag.full) !== 0) continue
    const own = pool.restsUntil[i] ?? 0
    if (own > until || (own === until && (pool.tier[i] ?? 0) >= (pool.tier[rested] ?? 0))) continue
    until = own
    rested = i
  }
  return rested === none && full ? wait : rested
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
 * waits twice as long before it has one unload a model that is in use.
 *
 * @since 0.1.0
 * @category combinators
 */
export const pick = (strategy: Routing, pool: Pool, tried: Uint8Array, circumstances: Circumstances): number => {
  const { affinity, now, waited = false } = circumstances
  const { line } = pool
  const loads = strategy === "least-busy" || strategy === "warm"
  // First come, first served; where no more may wait, a load may still be possible.
  if (!waited && line.queued > 0 && !(loads && line.full)) return wait
  pool.pass(now)
  for (const indices of pool.tiers) {
    if (loads) {
      const warm = collect(pool, indices, tried, flag.full | flag.rests | flag.absent, now)
      if (warm > 0) return soonest(pool, indexRoom(warm), warm, circumstances)
    }
    let count = collect(pool, indices, tried, flag.full | flag.rests, now)
    if (count === 0) continue
    const chosen = indexRoom(count)
    if (loads) {
      const ahead = waited ? Math.max(1, line.queued) : line.queued + 1
      return load(strategy, pool, tried, pool.tier[indices[0] ?? 0] ?? 0, chosen, count, ahead, circumstances)
    }
    const at = affinity === undefined ? none : standing(chosen, count, affinity)
    if (affinity !== undefined && at !== none) {
      if (!overloaded(pool, chosen, count, affinity)) return affinity
      // Whoever leaves it for its load does not draw it again.
      chosen[at] = chosen[--count] ?? 0
    }
    return count === 1 ? (chosen[0] ?? 0) : choose(strategy, pool, chosen, count, circumstances)
  }
  return otherwise(pool, tried, now)
}

/**
 * The server with the fewest requests, of those that do not rest: where one that waits most likely ends up.
 *
 * @since 0.1.0
 * @category combinators
 */
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
  for (let i = 0; i < pool.size; i++) pool.settle(i, now)
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
    pool.settle(i, now)
  })
  return pool
}
