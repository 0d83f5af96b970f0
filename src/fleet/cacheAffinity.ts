/** Cache affinity: the server that last answered a conversation has most of the next prompt in its cache. */
import { LRUCache } from "lru-cache"

/**
 * Which server last answered a conversation.
 *
 * @since 0.1.0
 * @category models
 */
export interface CacheAffinity {
  /** Its address. */
  readonly server: string
  /** Length of the conversation, including the answer. */
  readonly tokens: number
  /**
   * How many requests for the model had started there; after as many more as it handles at once, the cache belongs to
   * others.
   */
  readonly begun: number
}

/** Maximum number of conversations; the oldest are forgotten. */
const maximum = 10_000

export class CacheAffinityMap {
  /** Made when it is first needed: it allocates its entries at once, and many fleets have no conversations. */
  private known: LRUCache<string, CacheAffinity> | undefined

  find(conversation: string): CacheAffinity | undefined {
    return this.known?.peek(conversation)
  }

  remember(conversation: string, affinity: CacheAffinity): void {
    this.known ??= new LRUCache({ max: maximum })
    this.known.set(conversation, affinity)
  }

  clear(): void {
    this.known = undefined
  }
}
