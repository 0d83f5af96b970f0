/**
 * Memory that all clients share: bodies that are being read, and answers that are not yet sent.
 *
 * When it is full, the client that holds most loses its largest part: so nobody who holds less than an equal share loses
 * anything to another.
 *
 * @since 0.1.0
 */

/**
 * A part of the pool. `owner` is an API key, or an address where there are no keys; `evict` is called at most once, when
 * the part has to go.
 *
 * @since 0.1.0
 * @category models
 */
export abstract class Holding {
  bytes = 0
  /** Where it stands among its owner's; -1: not in the pool. */
  at = -1
  /** The later it came, the higher. */
  turn = 0

  constructor(readonly owner: string) {}

  abstract evict(): void
}

/** No `Set`: one that has parts come and go all the time keeps those that went until the next full garbage collection. */
interface OwnerHoldings {
  readonly parts: Array<Holding>
  bytes: number
}

/**
 * @since 0.1.0
 * @category models
 */
export class MemoryBudget {
  private total = 0
  private turns = 0
  private readonly owners = new Map<string, OwnerHoldings>()

  /** `max` is in bytes. */
  constructor(private readonly max: number) {}

  /** A part takes so many bytes from now on. Parts are evicted where that is too much, perhaps this one. */
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

  /** A part is no longer needed. */
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
    // Of those that are alike, the newest.
    for (const part of most?.parts ?? []) {
      if (largest === undefined || part.bytes > largest.bytes) largest = part
      else if (part.bytes === largest.bytes && part.turn > largest.turn) largest = part
    }
    if (largest === undefined) return
    this.release(largest)
    largest.evict()
  }
}
