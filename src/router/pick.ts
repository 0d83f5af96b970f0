/** Picks the next server: a pure function over the servers' state. */
import type { Routing } from "../ChatRequest.js"
import { Columns, flag } from "../fleet/columns.js"
import type { Location } from "../Server.js"
import { remoteness, type ServerCandidate, speed } from "./distance.js"
import { load, pickSoonest } from "./expectedWait.js"
import { none, type PickInput, restingAt, waitForSlot } from "./pickInput.js"
import { balanced, byWeight, exploring, fastest, lowest, nearest } from "./score.js"
import { scratchIndices } from "./scratch.js"

const choose = (
  strategy: Exclude<Routing, "least-busy" | "warm">,
  columns: Columns,
  chosen: Int32Array,
  count: number,
  { explore, now, random }: PickInput
): number => {
  switch (strategy) {
    case "random":
      return byWeight(columns, chosen, count, random)
    case "fastest":
      return lowest(columns, chosen, count, explore === false ? fastest : exploring, random, now)
    case "nearest":
      return lowest(columns, chosen, count, nearest, random, now)
    case "balanced":
      return balanced(columns, chosen, count, random, now)
  }
}

/** How much busier than the average of its peers a server may be before a conversation leaves it. */
const affinityBound = 1.25

/**
 * The position of the conversation's server among the chosen, or `none`; and whether it is much busier than they are.
 */
const affinityCandidate = (chosen: Int32Array, count: number, affinity: number): number => {
  for (let k = 0; k < count; k++) if (chosen[k] === affinity) return k
  return none
}

const overloaded = (columns: Columns, chosen: Int32Array, count: number, affinity: number): boolean => {
  let busy = 0
  for (let k = 0; k < count; k++) busy += columns.inFlight[chosen[k] ?? 0] ?? 0
  return (columns.inFlight[affinity] ?? 0) > affinityBound * (busy / count + 1)
}

/**
 * Collects the servers of a tier that can take the request now; `mask` has the disqualifying flags. Branchless: which
 * servers are full is unpredictable, and branch mispredictions would cost more than the rest of the pass.
 */
const collect = (columns: Columns, indices: Int32Array, tried: Uint8Array, mask: number, now: number): number => {
  const { flags, size } = columns
  const chosen = scratchIndices(size + 1)
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
  if (columns.openBreakers.length === 0) return count
  // Half-open servers may be tried too, one request at a time.
  const tier = columns.tier[indices[0] ?? 0]
  for (const i of columns.openBreakers) {
    const flagged = (flags[i] ?? 0) & mask & ~flag.rests
    if (flagged === 0 && tried[i] === 0 && columns.tier[i] === tier && !restingAt(columns, i, now)) chosen[count++] = i
  }
  return count
}

/** When no server can take the request now: whether to wait for a slot, or which open breaker to try anyway. */
const nothingFree = (columns: Columns, tried: Uint8Array, now: number): number => {
  const { flags, size } = columns
  let full = false
  for (let i = 0; i < size; i++) {
    if (tried[i] === 1 || ((flags[i] ?? 0) & flag.full) === 0) continue
    full = true
    if (!restingAt(columns, i, now)) return waitForSlot
  }
  let longestRested = none
  let until = Number.POSITIVE_INFINITY
  for (const i of columns.openBreakers) {
    if (tried[i] === 1 || ((flags[i] ?? 0) & flag.full) !== 0) continue
    const own = columns.restsUntil[i] ?? 0
    if (own > until || (own === until && (columns.tier[i] ?? 0) >= (columns.tier[longestRested] ?? 0))) continue
    until = own
    longestRested = i
  }
  return longestRested === none && full ? waitForSlot : longestRested
}

/**
 * The index of the next server; `waitForSlot` if the request should wait for its turn or a slot; `none` if no server
 * remains.
 *
 * Servers with an open breaker come last, the one that has rested longest first. Before them the lower `priority`; then servers
 * certain to have the model; then the strategy decides.
 *
 * `least-busy` and `warm` prefer servers that have the model loaded, and among them the soonest expected first token.
 * If those are full, or there are none, they decide whether another server loads it; `warm` waits twice as long before
 * one unloads a model in use.
 *
 * @since 0.1.0
 * @category combinators
 */
export const pick = (strategy: Routing, columns: Columns, tried: Uint8Array, input: PickInput): number => {
  const { affinity, now, waited = false } = input
  const { queue: line } = columns
  const loads = strategy === "least-busy" || strategy === "warm"
  // First come, first served; if the queue is full, a load may still be possible.
  if (!waited && line.length > 0 && !(loads && line.full)) return waitForSlot
  columns.refresh(now)
  for (const indices of columns.tiers) {
    if (loads) {
      const warm = collect(columns, indices, tried, flag.full | flag.rests | flag.absent, now)
      if (warm > 0) return pickSoonest(columns, scratchIndices(warm), warm, input)
    }
    let count = collect(columns, indices, tried, flag.full | flag.rests, now)
    if (count === 0) continue
    const chosen = scratchIndices(count)
    if (loads) {
      const ahead = waited ? Math.max(1, line.length) : line.length + 1
      return load(strategy, columns, tried, columns.tier[indices[0] ?? 0] ?? 0, chosen, count, ahead, input)
    }
    const at = affinity === undefined ? none : affinityCandidate(chosen, count, affinity)
    if (affinity !== undefined && at !== none) {
      if (!overloaded(columns, chosen, count, affinity)) return affinity
      // A request that goes to load elsewhere does not draw it again.
      chosen[at] = chosen[--count] ?? 0
    }
    return count === 1 ? (chosen[0] ?? 0) : choose(strategy, columns, chosen, count, input)
  }
  return nothingFree(columns, tried, now)
}

/** The server with the fewest requests, of those with a closed breaker: where a waiting request most likely ends up. */
export const emptiest = (columns: Columns, now: number): number => {
  let best = none
  for (let i = 0; i < columns.size; i++) {
    if (restingAt(columns, i, now)) continue
    if (best === none || (columns.inFlight[i] ?? 0) < (columns.inFlight[best] ?? 0)) best = i
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
  candidates: ReadonlyArray<ServerCandidate>,
  input: Omit<PickInput, "now"> & { readonly location: Location | undefined; readonly now?: number }
): ReadonlyArray<ServerCandidate> => {
  const now = input.now ?? 0
  const columns = columnsOf(candidates, input.location, now)
  columns.free.fill(Number.POSITIVE_INFINITY)
  // No other request is there: a load is as good as a slot.
  columns.ownInFlight.fill(0)
  for (let i = 0; i < columns.size; i++) columns.settle(i, now)
  const tried = new Uint8Array(columns.size)
  const ordered: Array<ServerCandidate> = []
  for (;;) {
    const at = pick(strategy, columns, tried, { ...input, now })
    const candidate = candidates[at]
    if (candidate === undefined) return ordered
    tried[at] = 1
    ordered.push(candidate)
  }
}

/**
 * The columns of individually described candidates, for tests and simulations.
 *
 * @since 0.1.0
 * @category constructors
 */
export const columnsOf = (
  candidates: ReadonlyArray<ServerCandidate>,
  location: Location | undefined,
  now: number
): Columns => {
  const columns = new Columns(candidates.map((candidate) => candidate.host))
  candidates.forEach((candidate, i) => {
    const { host, snapshot } = candidate
    columns.remoteness[i] = remoteness(candidate, location) ?? Number.NaN
    columns.speed[i] = speed(candidate) ?? Number.NaN
    columns.proven[i] = snapshot.proven ? 1 : 0
    columns.inFlight[i] = snapshot.inFlight
    columns.ownInFlight[i] = snapshot.inFlight
    columns.free[i] = (host.server.maxInFlight ?? snapshot.places ?? Number.POSITIVE_INFINITY) - snapshot.inFlight
    columns.restsUntil[i] =
      snapshot.breaker === "closed"
        ? 0
        : snapshot.breaker === "open"
          ? Math.max(snapshot.restsUntil, now + 1)
          : Math.min(snapshot.restsUntil, now) || -1
    columns.probing[i] = snapshot.probing ? 1 : 0
    columns.promptSpeed[i] = snapshot.promptTokensPerSecond ?? Number.NaN
    columns.residentUntil[i] = snapshot.residentUntil ?? 0
    columns.settle(i, now)
  })
  return columns
}
