/**
 * Which conversations are evicted from a full store.
 *
 * Owners share a store: an owner that exceeds its share loses its own oldest conversations first, and those of others
 * stay. Only an owner below its share may evict others, from the one that holds the most.
 */

/** Length of the id that `Sessions.create` appends to an owner's prefix. */
const idLength = 16

/** The owner of a conversation: the prefix of its id, or the empty string. */
export const ownerOf = (id: string): string => id.slice(0, Math.max(0, id.length - idLength))

/** The store is divided at least by this number of owners: each is guaranteed an equal share. */
const leastOwners = 16

/**
 * The owner whose oldest conversation is evicted next; `held` is how much each owner holds, including what `writer`
 * adds. `fixed` owners have nothing that may be deleted. `undefined` if no one has to make room for the writer.
 */
export const victimOf = (
  held: ReadonlyMap<string, number>,
  writer: string,
  capacity: number,
  fixed: ReadonlySet<string>
): string | undefined => {
  const reserve = capacity / Math.max(leastOwners, held.size)
  if ((held.get(writer) ?? 0) > reserve) return fixed.has(writer) ? undefined : writer
  let most: string | undefined
  for (const [owner, amount] of held) {
    if (fixed.has(owner) || (owner !== writer && amount <= reserve)) continue
    if (most === undefined || amount > (held.get(most) ?? 0)) most = owner
  }
  return most
}

/** Why nothing more is stored for an owner. */
export const noRoom = "all room for conversations is taken, and this owner has no other one that could be deleted"

/** A stored conversation: when it was last used, in milliseconds since the epoch, and its size. */
export interface Item {
  readonly id: string
  readonly usedAt: number
  readonly amount: number
}

/**
 * The conversations to evict, in order, so that all with `added` more of `writer` fit into `capacity`; `fits` tells
 * whether they do, or the writer is the only owner. `keeps` tells which must stay.
 */
export const victims = (
  all: ReadonlyArray<Item>,
  writer: string,
  added: number,
  capacity: number,
  keeps: (id: string) => boolean
): { readonly chosen: ReadonlyArray<Item>; readonly fits: boolean } => {
  const held = new Map<string, number>([[writer, added]])
  /** What each owner may lose, oldest first. */
  const queues = new Map<string, Array<Item>>()
  let total = added
  for (const item of [...all].sort((a, b) => a.usedAt - b.usedAt)) {
    const owner = ownerOf(item.id)
    total += item.amount
    held.set(owner, (held.get(owner) ?? 0) + item.amount)
    if (keeps(item.id)) continue
    const queue = queues.get(owner)
    if (queue === undefined) queues.set(owner, [item])
    else queue.push(item)
  }
  const fixed = new Set([...held.keys()].filter((owner) => !queues.has(owner)))
  const chosen: Array<Item> = []
  while (total > capacity) {
    const owner = victimOf(held, writer, capacity, fixed)
    if (owner === undefined) break
    const queue = queues.get(owner) ?? []
    const item = queue.shift()
    if (queue.length === 0) fixed.add(owner)
    if (item === undefined) continue
    total -= item.amount
    held.set(owner, (held.get(owner) ?? 0) - item.amount)
    chosen.push(item)
  }
  return { chosen, fits: total <= capacity || held.size === 1 }
}
