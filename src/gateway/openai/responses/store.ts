/**
 * Responses that the gateway remembers, for `previous_response_id` and for who asks for them again.
 *
 * One that goes on from another shares what was said before with it: a chain takes as much room as what was said in it,
 * and two that go on from the same one do not disturb each other.
 *
 * @since 0.1.0
 */

/**
 * - `maxEntries`: so many responses at most
 * - `maxBytes`: so much room for all of them
 * - `ttl`: one that was not used for so long is forgotten, in milliseconds
 *
 * Beyond the first two, the one that was not used for longest goes first.
 *
 * @since 0.1.0
 * @category models
 */
export interface Bounds {
  readonly maxEntries: number
  readonly maxBytes: number
  readonly ttl: number
}

/**
 * A response with what it was asked, as JSON: `input` is an array of items, `response` what the client was told.
 *
 * @since 0.1.0
 * @category models
 */
export interface Kept {
  readonly input: string
  readonly response: string
}

/**
 * A response to be kept: `owner` alone may have it, `previous` is the one that it goes on from.
 *
 * @since 0.1.0
 * @category models
 */
export interface Draft extends Kept {
  readonly owner: string
  readonly id: string
  readonly previous: string | undefined
}

/**
 * What holds responses: that of one process, or one for several.
 *
 * - `bound`: how much it may hold from now on
 * - `put`: `forgotten` where the response that it goes on from is not there any more, `too-long` where there is no room
 *   even if all else is forgotten
 * - `chain`: what a response goes on from, the oldest first, and itself at the end
 * - `get`: a response as the client was told
 * - `remove`: false if there is none. Those that went on from it stay as they are
 *
 * @since 0.1.0
 * @category models
 */
export interface Store {
  readonly bound: (bounds: Bounds) => void
  readonly put: (draft: Draft) => Promise<"kept" | "forgotten" | "too-long">
  readonly chain: (owner: string, id: string) => Promise<ReadonlyArray<Kept> | undefined>
  readonly get: (owner: string, id: string) => Promise<string | undefined>
  readonly remove: (owner: string, id: string) => Promise<boolean>
}

/** A turn, as long as a response that is kept goes on from it. */
interface Turn extends Kept {
  readonly previous: Turn | undefined
  readonly bytes: number
  /** With those that it goes on from. */
  readonly allBytes: number
  /** How many need it: its own response, and turns that go on from it. */
  needed: number
}

/** What an entry takes besides its text, about. */
const overhead = 512

/**
 * Keeps responses in this process, which they end with. `now` is in milliseconds.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeMemory = (now: () => number): Store => {
  /** The one that was not used for longest comes first. */
  const entries = new Map<string, { readonly turn: Turn; readonly usedAt: number }>()
  let bounds: Bounds | undefined
  let bytes = 0

  const keyOf = (owner: string, id: string): string => JSON.stringify([owner, id])
  const forget = (key: string): boolean => {
    let turn = entries.get(key)?.turn
    if (turn === undefined) return false
    entries.delete(key)
    while (turn !== undefined) {
      turn.needed--
      if (turn.needed > 0) break
      bytes -= turn.bytes
      turn = turn.previous
    }
    return true
  }
  const tidy = (): void => {
    if (bounds === undefined) return
    const { maxBytes, maxEntries, ttl } = bounds
    const oldest = now() - ttl
    for (const [key, { usedAt }] of entries) {
      if (entries.size <= maxEntries && bytes <= maxBytes && usedAt > oldest) return
      forget(key)
    }
  }
  const use = (owner: string, id: string): Turn | undefined => {
    tidy()
    const key = keyOf(owner, id)
    const turn = entries.get(key)?.turn
    if (turn === undefined) return undefined
    entries.delete(key)
    entries.set(key, { turn, usedAt: now() })
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
      if (bounds !== undefined && allBytes > bounds.maxBytes) return "too-long"
      if (before !== undefined) before.needed++
      bytes += size
      const turn: Turn = { input, response, previous: before, bytes: size, allBytes, needed: 1 }
      entries.set(keyOf(owner, id), { turn, usedAt: now() })
      tidy()
      return "kept"
    },
    chain: async (owner, id) => {
      const last = use(owner, id)
      if (last === undefined) return undefined
      const all: Array<Kept> = []
      for (let turn: Turn | undefined = last; turn !== undefined; turn = turn.previous) {
        all.push({ input: turn.input, response: turn.response })
      }
      return all.reverse()
    },
    get: async (owner, id) => use(owner, id)?.response,
    remove: async (owner, id) => {
      tidy()
      return forget(keyOf(owner, id))
    }
  }
}
