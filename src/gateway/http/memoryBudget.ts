/**
 * A memory budget shared by all clients: for bodies being read and answers not yet sent.
 *
 * When it is exceeded, the client that holds the most loses its largest part: a client below its equal share never
 * loses anything to another.
 */

/**
 * One holding of the budget. `owner` is an API key, or an address without keys; `evict` is called at most once, when it
 * must be freed.
 */
export abstract class Holding {
  bytes = 0
  /** Its index among its owner's holdings; -1: not in the budget. */
  at = -1
  /** Later arrivals have higher numbers. */
  turn = 0

  constructor(readonly owner: string) {}

  abstract evict(): void
}

/**
 * Not a `Set`: with constant additions and removals, a `Set` retains removed entries until the next full garbage
 * collection.
 */
interface OwnerHoldings {
  readonly parts: Array<Holding>
  bytes: number
}

export class MemoryBudget {
  private total = 0
  private turns = 0
  private readonly owners = new Map<string, OwnerHoldings>()

  /** `max` is in bytes. */
  constructor(private readonly max: number) {}

  /** Sets the size of a holding. Holdings are evicted if the budget is exceeded, possibly this one. */
  resize(part: Holding, bytes: number): void {
    if (bytes === 0 && part.at === -1) return
    let holding = this.owners.get(part.owner)
    if (holding === undefined) {
      holding = { parts: [], bytes: 0 }
      this.owners.set(part.owner, holding)
    }
    if (part.at === -1) {
      part.turn = this.turns++
      part.at = holding.parts.push(part) - 1
    }
    holding.bytes += bytes - part.bytes
    this.total += bytes - part.bytes
    part.bytes = bytes
    while (this.total > this.max) this.evict()
  }

  /** Releases a holding. */
  release(part: Holding): void {
    const holding = this.owners.get(part.owner)
    if (holding === undefined || part.at === -1) return
    holding.bytes -= part.bytes
    this.total -= part.bytes
    part.bytes = 0
    const last = holding.parts.pop()
    if (last !== undefined && last !== part) {
      holding.parts[part.at] = last
      last.at = part.at
    }
    part.at = -1
    if (holding.parts.length === 0) this.owners.delete(part.owner)
  }

  private evict(): void {
    let most: OwnerHoldings | undefined
    for (const holding of this.owners.values()) if (most === undefined || holding.bytes > most.bytes) most = holding
    let largest: Holding | undefined
    // Among equals, the newest.
    for (const part of most?.parts ?? []) {
      if (largest === undefined || part.bytes > largest.bytes) largest = part
      else if (part.bytes === largest.bytes && part.turn > largest.turn) largest = part
    }
    if (largest === undefined) return
    this.release(largest)
    largest.evict()
  }
}
