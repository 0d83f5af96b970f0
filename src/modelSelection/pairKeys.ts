/**
 * What each pair of a model and a server is ordered by, for one request: one pass over typed arrays.
 *
 * A key is a sum of parts, each larger than all that come after it: how certain it is that the model can do it, whether
 * the policy prefers the server, its priority, whether the model is loaded, how long the request would wait, and the
 * place of the model by its capability.
 */
import type { PairColumns } from "../fleet/pairColumns.js"
import type { PairIndex } from "./pairIndex.js"

/**
 * Why a pair does not suit. Those from `rests` on are no certainties: where nothing else is left, they are tried in this
 * order.
 */
export const cause = {
  none: 0,
  unable: 1,
  unsupported: 2,
  forbidden: 3,
  rests: 4,
  refused: 5,
  memory: 6,
  context: 7
} as const

/** A wait of so many seconds, or more, is as bad as any. */
export const longestWait = 63

/** What a request asks of the pairs. */
export interface PairRequest {
  /** In milliseconds since the epoch. */
  readonly now: number
  /** How many tokens the prompt and the answer may have together. */
  readonly tokens: number
  /** Available memory, in bytes; Infinity where it is not known. */
  readonly memory: number
  /** The index of the model that goes before its equals; -1: none. */
  readonly preferred: number
  /** How certain it is that models of each kind can do it, from 0 (they cannot) to `mostCertain`. */
  readonly certainty: ReadonlyArray<number>
  readonly mostCertain: number
  /** Whether a protocol cannot express the request. */
  readonly cannot: ReadonlyArray<boolean>
  /** Why a server must not be asked; `undefined`: it may be. */
  readonly forbidden: ReadonlyArray<string | undefined>
  /** Whether the policy asks a server before the others. */
  readonly prefers: ReadonlyArray<boolean>
}

export interface PairKeys {
  /** Why each pair does not suit. */
  readonly causes: Uint8Array
  /** Lower is better; Infinity where the pair is left out. */
  readonly keys: Float64Array
  /** The best of each model. */
  readonly bestKey: Float64Array
  /** How many models suit. */
  readonly count: number
}

export const keysOf = (index: PairIndex, columns: PairColumns, request: PairRequest): PairKeys => {
  const { context, isSingle, kind, memory: need, model, priorities, priority, protocol, rank, server, start } = index
  const { avoidedUntil, free, residentUntil, restsUntil } = columns
  const { memory, now, tokens, preferred, cannot, forbidden } = request
  const models = index.models.length
  const waitPart = models + 1
  const coldPart = waitPart * (longestWait + 1)
  const placePart = coldPart * 2
  const certaintyPart = placePart * 2 * priorities
  const ofServer = new Float64Array(request.prefers.length)
  for (let on = 0; on < ofServer.length; on++) {
    ofServer[on] = placePart * ((request.prefers[on] ? 0 : priorities) + (priority[on] ?? 0))
  }
  const ofKind = new Float64Array(request.certainty.length)
  for (let one = 0; one < ofKind.length; one++) {
    const certain = request.certainty[one] ?? 0
    ofKind[one] = certain === 0 ? Number.POSITIVE_INFINITY : certaintyPart * (request.mostCertain - certain)
  }
  // Mostly nothing is left out for one of these reasons: then no pair need be looked at for it.
  const anyBarred = cannot.includes(true) || forbidden.some((reason) => reason !== undefined)
  const anyShort = index.leastContext < tokens
  const anyLarge = index.mostMemory > memory
  const causes = new Uint8Array(index.hosts.length)
  const keys = new Float64Array(index.hosts.length)
  // With one server each, the best pair of a model is its only one.
  const bestKey = isSingle ? keys : new Float64Array(models).fill(Number.POSITIVE_INFINITY)
  let count = 0
  // One flat loop: an inner loop for each model is slow where each has one server.
  const size = keys.length
  for (let at = 0; at < size; at++) {
    const own = model[at] ?? 0
    const on = server[at] ?? 0
    const resident = (residentUntil[at] ?? 0) > now
    let key = (ofKind[kind[own] ?? 0] ?? 0) + (ofServer[on] ?? 0) + (rank[own] ?? 0) + 1
    let why: number = cause.none
    if (key === Number.POSITIVE_INFINITY) why = cause.unable
    else if (anyBarred && cannot[protocol[at] ?? 0] === true) why = cause.unsupported
    else if (anyBarred && forbidden[on] !== undefined) why = cause.forbidden
    else if (anyShort && (context[at] ?? 0) < tokens) why = cause.context
    else if ((avoidedUntil[at] ?? 0) > now) why = (restsUntil[at] ?? 0) > now ? cause.rests : cause.refused
    else if (anyLarge && !resident && (need[at] ?? 0) > memory) why = cause.memory
    if (why !== cause.none) {
      causes[at] = why
      keys[at] = Number.POSITIVE_INFINITY
      continue
    }
    if (!resident) key += coldPart
    if (!((free[at] ?? 0) > 0)) key += waitPart * Math.min(longestWait, 1 + Math.floor(columns.wait(at) / 1_000))
    keys[at] = key
    count++
    if (!isSingle && key < (bestKey[own] ?? 0)) bestKey[own] = key
  }
  if (!isSingle) {
    count = 0
    for (const key of bestKey) if (key !== Number.POSITIVE_INFINITY) count++
  }
  if (preferred !== -1) {
    const part = (rank[preferred] ?? 0) + 1
    const end = start[preferred + 1] ?? 0
    for (let at = start[preferred] ?? 0; at < end; at++) keys[at] = (keys[at] ?? 0) - part
    if (!isSingle) bestKey[preferred] = (bestKey[preferred] ?? 0) - part
  }
  return { causes, keys, bestKey, count }
}
