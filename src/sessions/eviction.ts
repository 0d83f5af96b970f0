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
