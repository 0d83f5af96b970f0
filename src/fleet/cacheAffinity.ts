/**
 * Cache affinity: the server that last answered a conversation has most of the next prompt in its cache.
 *
 * @since 0.1.0
 */

/**
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

/**
 * @since 0.1.0
 * @category models
 */
export class CacheAffinityMap {
  private readonly known = new Map<string, CacheAffinity>()
  /** An iterator at the oldest entry: a new one would have to skip all deleted entries. */
  private oldest = this.known.keys()

  find(conversation: string): CacheAffinity | undefined {
    return this.known.get(conversation)
  }

  remember(conversation: string, affinity: CacheAffinity): void {
    this.known.delete(conversation)
    this.known.set(conversation, affinity)
    if (this.known.size <= maximum) return
    const { done, value } = this.oldest.next()
    if (done !== true) this.known.delete(value)
  }

  clear(): void {
    this.known.clear()
    this.oldest = this.known.keys()
  }
}
