/**
 * Which conversations are deleted where a store is full.
 *
 * Owners share a store: an owner that adds more than its reserve loses its own oldest conversations first, and those of
 * others stay. Only an owner that holds less than its reserve takes room from others, from the one that holds most.
 *
 * @since 0.1.0
 */

/** `Sessions.create` puts so many characters after the prefix of an owner. */
const idLength = 16

/**
 * Whose a conversation is, by its id: the prefix that it was created with, or the empty string.
 *
 * @since 0.1.0
 * @category accessors
 */
export const ownerOf = (id: string): string => id.slice(0, Math.max(0, id.length - idLength))

/** Each of so many owners, or of as many as there are, can count on an equal part of the store. */
const leastOwners = 16

/**
 * Whose oldest conversation is deleted next, where `held` is how much each owner holds, with what `writer` is about to
 * add. `fixed` owners have nothing that may be deleted. `undefined` where nobody has to make room for the writer.
 *
 * @since 0.1.0
 * @category accessors
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

/**
 * Why nothing more is kept for an owner.
 *
 * @since 0.1.0
 * @category constants
 */
export const noRoom = "all room for conversations is taken, and this owner has no other one that could be deleted"

/**
 * A conversation in a store: when it was used last, in milliseconds since the epoch, and how much of the store it takes.
 *
 * @since 0.1.0
 * @category models
 */
export interface Item {
  readonly id: string
  readonly usedAt: number
  readonly amount: number
}

/**
 * Which conversations are deleted, in that order, so that all of them with `added` more of `writer` take no more than
 * `capacity`; `fits` tells whether they do then, or the writer is the only owner. `keeps` tells which must stay.
 *
 * @since 0.1.0
 * @category accessors
 */
export const victims = (
  all: ReadonlyArray<Item>,
  writer: string,
  added: number,
  capacity: number,
  keeps: (id: string) => boolean
): { readonly chosen: ReadonlyArray<Item>; readonly fits: boolean } => {
  const held = new Map<string, number>([[writer, added]])
  /** What each owner may lose, the oldest first. */
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
