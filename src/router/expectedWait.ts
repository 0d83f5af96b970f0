/**
 * The strategies that look at the model's servers as a whole, `least-busy` and `warm`: where the first token is
 * expected soonest, and whether another server should load the model.
 *
 * @since 0.1.0
 */
import type { Columns } from "../fleet/columns.js"
import { loadingAt, type PickInput, restingAt, waitForSlot } from "./pickInput.js"
import { scratchValues } from "./scratch.js"

// =============================================================================
// expected wait
// =============================================================================

/** Prompt tokens per second of a server of which nothing is known: a small model on a small graphics card. */
const typicalPromptSpeed = 1_000

/** Tokens of a prompt whose length nobody told. It only matters next to a load, which takes far longer. */
const typicalPrompt = 350

/**
 * Servers whose expected wait is within this factor of the shortest are as good: one by chance. Figures are not more
 * exact than that, and always taking the very best lets everybody who decides at one moment, in this process and in
 * others, meet at the same server.
 */
const tieSlack = 1.25

/** Milliseconds per prompt token of a server whose speed is not known. */
const meanPace = ({ queue: line }: Columns): number =>
  1_000 / (line.promptSpeed > 0 ? line.promptSpeed : typicalPromptSpeed)

/**
 * How long the prompt's tokens take there, in milliseconds: at the speed that it has shown, shared with what is in
 * flight on the whole server. (To weigh by the peak of past times to first token instead was measured to be up to
 * five times worse in the slowest percent: those times are mostly the length of other prompts.)
 */
const expected = (columns: Columns, i: number, tokens: number, mean: number): number => {
  const pace = columns.pace[i] ?? 0
  return tokens * (pace < 0 ? -pace * mean : pace)
}

/** One of those whose value is within the slack of the least, by chance. */
const draw = (chosen: Int32Array, values: Float64Array, count: number, least: number, random: () => number): number => {
  const bound = least * tieSlack
  // Mostly a few tries find one; each of those within the bound is as likely as the others, as in the pass below.
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
 * Of servers that hold the model and have a place, the one whose first token is expected soonest. A conversation goes
 * back to its last server where that has no longer to wait: its prompt is mostly in the cache there.
 *
 * @since 0.1.0
 * @category combinators
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
// loads
// =============================================================================

/**
 * When another server loads the model although some hold it, or are loading it.
 *
 * - `factor`: once the wait in line is expected to be longer than so many loads, a server that loses nothing by it
 * - `harm`: the same, a server whose other models are in use
 */
interface LoadTolerance {
  readonly factor: number
  readonly harm: number
}

/** In half the time of a load the line may well dissolve; in two loads' time it has become cheaper for everybody. */
const leastBusy: LoadTolerance = { factor: 0.5, harm: 2 }

const warm: LoadTolerance = { factor: 0.5, harm: 4 }

/**
 * So many that wait justify each load under way. It is less than a server answers at once, because those that are
 * answered together slow each other down.
 */
const perLoad = 2

/** A model that was used within so many milliseconds is in use. */
const busyWeight = 15_000

/** What a load there may cost others: nothing, a model in use, or one that others wait for. */
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
    // Else two models that are both waited for take it in turns to push each other out.
    if (other.queued > 0 && (other.residentUntil > now || other.inFlight > 0)) return maxHarm
  }
  return harm
}

/**
 * Where to load the model: none of `chosen`, which all have a place, holds it. `wait` where waiting for those that do,
 * or are loading it, is better.
 *
 * Where nobody holds or loads it, there is a load at once. Then one more only if more wait than the loads under way are
 * for, and their wait is expected to be longer than a load is worth. `line` is how many wait, this request among them.
 *
 * @since 0.1.0
 * @category combinators
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
      const { harm, factor: patience } = strategy === "warm" ? warm : leastBusy
      const expectedWait = (line * serviceTime) / busy
      if (expectedWait < patience * loadTime) return waitForSlot
      if (expectedWait < harm * loadTime) allowed = harmless
    }
  }
  const mean = meanPace(columns)
  const values = scratchValues(count)
  let found = 0
  let least = Number.POSITIVE_INFINITY
  for (let k = 0; k < count; k++) {
    const i = chosen[k] ?? 0
    // Another request for it is there already.
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
