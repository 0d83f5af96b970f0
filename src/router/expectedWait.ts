/**
 * The strategies that look at the model's servers together, `least-busy` and `warm`: where the first token is expected
 * soonest, and whether another server should load the model.
 */
import type { Columns } from "../fleet/columns.js"
import { loadingAt, type PickInput, restingAt, waitForSlot } from "./pickInput.js"
import { scratchValues } from "./scratch.js"

// =============================================================================
// Expected wait
// =============================================================================

/** Assumed prompt tokens per second of an unknown server: a small model on a small GPU. */
const typicalPromptSpeed = 1_000

/** Assumed prompt tokens if the length is unknown. It only matters next to a load, which takes far longer. */
const typicalPrompt = 350

/**
 * Servers whose expected wait is within this factor of the shortest are considered equal, and one is drawn at random.
 * The figures are no more exact than that, and always taking the best would send all concurrent decisions, here and in
 * other processes, to the same server.
 */
const tieSlack = 1.25

/** Assumed milliseconds per prompt token of a server with unknown speed. */
const meanPace = ({ queue: line }: Columns): number =>
  1_000 / (line.promptSpeed > 0 ? line.promptSpeed : typicalPromptSpeed)

/**
 * Expected prompt evaluation time in milliseconds: at the measured speed, shared with everything in flight on the
 * server. (Weighting by the peak of past times to first token was measured to be up to five times worse in the slowest
 * percent: those times mostly reflect the length of other prompts.)
 */
const expected = (columns: Columns, i: number, tokens: number, mean: number): number => {
  const pace = columns.pace[i] ?? 0
  return tokens * (pace < 0 ? -pace * mean : pace)
}

/** Draws one of those whose value is within the slack of the least. */
const draw = (chosen: Int32Array, values: Float64Array, count: number, least: number, random: () => number): number => {
  const bound = least * tieSlack
  // A few random tries usually find one; each within the bound is equally likely, as in the pass below.
  for (let tries = 0; tries < 16; tries++) {
    const k = Math.floor(random() * count)
    if ((values[k] ?? 0) <= bound) return chosen[k] ?? 0
  }
  let equals = 0
  for (let k = 0; k < count; k++) if ((values[k] ?? 0) <= bound) equals++
  let left = Math.floor(random() * equals)
  for (let k = 0; k < count; k++) {
    if ((values[k] ?? 0) <= bound && left-- === 0) return chosen[k] ?? 0
  }
  return chosen[0] ?? 0
}

/**
 * Of servers with the model loaded and a free slot, the one with the soonest expected first token. A conversation
 * returns to its last server if the wait there is no longer: its prompt is mostly cached there.
 */
export const pickSoonest = (columns: Columns, chosen: Int32Array, count: number, input: PickInput): number => {
  const { random } = input
  const mean = meanPace(columns)
  const { pace } = columns
  const values = scratchValues(count)
  let least = Number.POSITIVE_INFINITY
  for (let k = 0; k < count; k++) {
    const own = pace[chosen[k] ?? 0] ?? 0
    const value = own < 0 ? -own * mean : own
    values[k] = value
    least = Math.min(least, value)
  }
  const best = draw(chosen, values, count, least, random)
  const { affinity } = input
  if (affinity === undefined || affinity === best || !includes(chosen, count, affinity)) return best
  const { cached = 0, tokens = typicalPrompt } = input
  const left = Math.max(1, tokens - cached)
  return expected(columns, affinity, left, mean) <= expected(columns, best, tokens, mean) ? affinity : best
}

const includes = (chosen: Int32Array, count: number, index: number): boolean => {
  for (let k = 0; k < count; k++) if (chosen[k] === index) return true
  return false
}

// =============================================================================
// Loads
// =============================================================================

/**
 * When another server loads the model although some have it loaded, or are loading it.
 */
interface LoadTolerance {
  /** Once the expected queue wait exceeds this many loads, a server that loses nothing by it. */
  readonly factor: number
  /** The same for a server whose other models are in use. */
  readonly harm: number
}

/** In half the time of a load the queue may dissolve; after two loads' time loading is cheaper for everybody. */
const leastBusy: LoadTolerance = { factor: 0.5, harm: 2 }

const warm: LoadTolerance = { factor: 0.5, harm: 4 }

/**
 * Number of waiting requests that justify each load in progress. It is below a server's slots, because concurrent
 * requests slow each other down.
 */
const perLoad = 2

/** A model used within this many milliseconds is in use. */
const busyWeight = 15_000

/** The cost of a load there for others: none, a model in use, or one that others wait for. */
const harmless = 0
const harmful = 1
const maxHarm = 2

const harmAt = (columns: Columns, i: number, now: number): number => {
  let harm = (columns.inFlight[i] ?? 0) > 0 ? harmful : harmless
  const neighbours = columns.otherModels[i]
  if (neighbours === undefined) return harm
  const self = columns.self[i]
  for (const other of neighbours) {
    if (other === self) continue
    if (now - other.usedAt < busyWeight) harm = harmful
    // Otherwise two models with waiting requests would keep unloading each other.
    if (other.queued > 0 && (other.residentUntil > now || other.inFlight > 0)) return maxHarm
  }
  return harm
}

/**
 * Where to load the model, when none of `chosen`, which all have a free slot, has it loaded. `waitForSlot` if waiting
 * for those that have it, or are loading it, is better.
 *
 * If no server has or loads it, one loads it at once. After that, one more only if more requests wait than the loads in
 * progress are for, and their expected wait exceeds a load. `line` is the number of waiting requests, including this
 * one.
 */
export const load = (
  strategy: "least-busy" | "warm",
  columns: Columns,
  tried: Uint8Array,
  tier: number,
  chosen: Int32Array,
  count: number,
  line: number,
  input: PickInput
): number => {
  const { now, random, tokens = typicalPrompt } = input
  const { full, loadTime, serviceTime } = columns.queue
  let loads = 0
  let busy = 0
  for (let i = 0; i < columns.size; i++) {
    const own = columns.ownInFlight[i] ?? 0
    if (own === 0 || tried[i] === 1 || (columns.tier[i] ?? 0) > tier || restingAt(columns, i, now)) continue
    if ((columns.residentUntil[i] ?? 0) > now) busy += own
    else if (loadingAt(columns, i, now)) loads++
  }
  let allowed = maxHarm
  if (full) allowed = harmful
  else if (loads > 0 || busy > 0) {
    if (line <= loads * perLoad) return waitForSlot
    allowed = harmful
    if (busy > 0) {
      const { harm, factor } = strategy === "warm" ? warm : leastBusy
      const expectedWait = (line * serviceTime) / busy
      if (expectedWait < factor * loadTime) return waitForSlot
      if (expectedWait < harm * loadTime) allowed = harmless
    }
  }
  const mean = meanPace(columns)
  const values = scratchValues(count)
  let found = 0
  let least = Number.POSITIVE_INFINITY
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    // Another request for it is already there.
    if ((columns.ownInFlight[i] ?? 0) > 0) continue
    const harm = harmAt(columns, i, now)
    if (harm > allowed) continue
    const value = (loadTime + expected(columns, i, tokens, mean)) * (1 + (columns.inFlight[i] ?? 0)) + harm * loadTime
    chosen[found] = i
    values[found++] = value
    if (value < least) least = value
  }
  return found === 0 ? waitForSlot : draw(chosen, values, found, least, random)
}
