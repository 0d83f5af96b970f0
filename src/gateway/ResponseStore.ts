/**
 * Stores responses for `previous_response_id` and for later retrieval.
 *
 * A response that continues another shares its history: a chain takes as much memory as its own turns, and two branches
 * of one response do not affect each other.
 */
import type { ResponseBounds } from "../config/gateway.js"

/** A response and its input as JSON: `input` is an array of items, `response` is what the client received. */
export interface StoredResponse {
  readonly input: string
  readonly response: string
}

/** A response to store: only `owner` may read it, `previous` is the response it continues. */
export interface NewResponse extends StoredResponse {
  readonly owner: string
  readonly id: string
  readonly previous: string | undefined
}

/** A store of responses: for one process, or shared by several. */
export interface ResponseStore {
  /** Sets the capacity from now on. */
  readonly bound: (bounds: ResponseBounds) => void
  /**
   * `forgotten` if the response it continues is gone, `too-long` if there is no room even after evicting everything
   * else of this owner and whatever others hold above their equal share.
   */
  readonly put: (draft: NewResponse) => Promise<"kept" | "forgotten" | "too-long">
  /** The responses it continues, oldest first, ending with itself. */
  readonly chain: (owner: string, id: string) => Promise<ReadonlyArray<StoredResponse> | undefined>
  /** A response as the client received it. */
  readonly get: (owner: string, id: string) => Promise<string | undefined>
  /** Items of stored input or output, as JSON; `undefined` for each that does not exist. */
  readonly items: (owner: string, ids: ReadonlyArray<string>) => Promise<ReadonlyArray<string | undefined>>
  /** False if it does not exist. Responses that continue it are not affected. */
  readonly remove: (owner: string, id: string) => Promise<boolean>
}

/** A turn, kept as long as a stored response continues from it. */
interface StoredTurn extends StoredResponse {
  readonly previous: StoredTurn | undefined
  readonly bytes: number
  /** Including the turns it continues from. */
  readonly allBytes: number
  /** Reference count: its own response, and the turns that continue from it. */
  needed: number
}

/** Approximate overhead of an entry in addition to its text, in bytes. */
export const overhead = 512

/** The entries of one owner, least recently used first. */
interface OwnerResponses {
  readonly entries: Map<string, { readonly turn: StoredTurn; readonly usedAt: number }>
  bytes: number
}

const mentions = (json: string, ids: ReadonlySet<string>): boolean => {
  for (const [, id = ""] of json.matchAll(/"id":"([^"\\]+)"/g)) if (ids.has(id)) return true
  return false
}

/** Newest first: those are what clients usually refer to. */
const itemsOf = (owned: OwnerResponses | undefined, ids: ReadonlyArray<string>): ReadonlyArray<string | undefined> => {
  const found = new Map<string, string>()
  const wanted = new Set(ids)
  const turns = owned === undefined ? [] : [...owned.entries.values()].map(({ turn }) => turn).reverse()
  const seen = new Set<StoredTurn>()
  for (const last of turns) {
    for (let turn: StoredTurn | undefined = last; turn !== undefined && !seen.has(turn); turn = turn.previous) {
      if (found.size === wanted.size) return ids.map((id) => found.get(id))
      seen.add(turn)
      // Most contain none of the items, and a text search shows that faster than parsing.
      const { input, response } = turn
      if (!mentions(response, wanted) && !mentions(input, wanted)) continue
      const { output } = JSON.parse(response) as { readonly output?: ReadonlyArray<{ readonly id?: unknown }> }
      const items = [...(JSON.parse(input) as ReadonlyArray<{ readonly id?: unknown }>), ...(output ?? [])]
      for (const item of items) {
        if (typeof item.id === "string" && wanted.has(item.id)) found.set(item.id, JSON.stringify(item))
      }
    }
  }
  return ids.map((id) => found.get(id))
}

/** Keeps responses in the memory of this process. `now` is in milliseconds. */
export const makeMemory = (now: () => number): ResponseStore => {
  const byOwner = new Map<string, OwnerResponses>()
  let bounds: ResponseBounds | undefined
  let bytes = 0
  let count = 0

  const forget = (owner: string, id: string): boolean => {
    const owned = byOwner.get(owner)
    let turn = owned?.entries.get(id)?.turn
    if (owned === undefined || turn === undefined) return false
    owned.entries.delete(id)
    count--
    while (turn !== undefined) {
      turn.needed--
      if (turn.needed > 0) break
      bytes -= turn.bytes
      owned.bytes -= turn.bytes
      turn = turn.previous
    }
    if (owned.entries.size === 0) byOwner.delete(owner)
    return true
  }
  const oldest = ({ entries }: OwnerResponses): readonly [id: string, usedAt: number] => {
    for (const [id, { usedAt }] of entries) return [id, usedAt]
    return ["", Number.POSITIVE_INFINITY]
  }
  /** Evicts from the owner that holds the most; among equals, the least recently used. */
  const evict = (held: (owned: OwnerResponses) => number): void => {
    let most: { readonly owner: string; readonly shelf: OwnerResponses } | undefined
    for (const [owner, owned] of byOwner) {
      const more = most === undefined ? 1 : held(owned) - held(most.shelf)
      if (most === undefined || more > 0 || (more === 0 && oldest(owned)[1] < oldest(most.shelf)[1])) {
        most = { owner, shelf: owned }
      }
    }
    if (most !== undefined) forget(most.owner, oldest(most.shelf)[0])
  }
  const tidy = (): void => {
    if (bounds === undefined) return
    const { maxBytes, maxEntries, ttl } = bounds
    const last = now() - ttl
    for (const [owner, { entries }] of byOwner) {
      for (const [id, { usedAt }] of entries) {
        if (usedAt > last) break
        forget(owner, id)
      }
    }
    while (bytes > maxBytes) evict((owned) => owned.bytes)
    while (count > maxEntries) evict(({ entries }) => entries.size)
  }
  /** Whether an owner may hold this many bytes more. */
  const fits = (owner: string, size: number): boolean => {
    if (bounds === undefined) return true
    let sum = size
    for (const [other, owned] of byOwner) if (other !== owner) sum += Math.min(owned.bytes, size)
    return sum <= bounds.maxBytes
  }
  const put = (owner: string, id: string, turn: StoredTurn): void => {
    let owned = byOwner.get(owner)
    if (owned === undefined) {
      owned = { entries: new Map(), bytes: 0 }
      byOwner.set(owner, owned)
    }
    owned.entries.set(id, { turn, usedAt: now() })
    owned.bytes += turn.bytes
    bytes += turn.bytes
    count++
  }
  const use = (owner: string, id: string): StoredTurn | undefined => {
    tidy()
    const entries = byOwner.get(owner)?.entries
    const turn = entries?.get(id)?.turn
    if (entries === undefined || turn === undefined) return undefined
    entries.delete(id)
    entries.set(id, { turn, usedAt: now() })
    return turn
  }

  return {
    bound: (given) => {
      bounds = given
      tidy()
    },
    put: async ({ id, input, owner, previous, response }) => {
      const before = previous === undefined ? undefined : use(owner, previous)
      if (previous !== undefined && before === undefined) return "forgotten"
      const size = overhead + Buffer.byteLength(input) + Buffer.byteLength(response)
      const allBytes = size + (before?.allBytes ?? 0)
      if (!fits(owner, allBytes)) return "too-long"
      if (before !== undefined) before.needed++
      put(owner, id, { input, response, previous: before, bytes: size, allBytes, needed: 1 })
      tidy()
      return "kept"
    },
    chain: async (owner, id) => {
      const last = use(owner, id)
      if (last === undefined) return undefined
      const all: Array<StoredResponse> = []
      for (let turn: StoredTurn | undefined = last; turn !== undefined; turn = turn.previous) {
        all.push({ input: turn.input, response: turn.response })
      }
      return all.reverse()
    },
    get: async (owner, id) => use(owner, id)?.response,
    items: async (owner, ids) => {
      tidy()
      return itemsOf(byOwner.get(owner), ids)
    },
    remove: async (owner, id) => {
      tidy()
      return forget(owner, id)
    }
  }
}
