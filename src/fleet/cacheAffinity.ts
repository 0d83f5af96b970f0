/**
 * Where conversations were last answered: that server has most of the next prompt in its cache.
 *
 * @since 0.1.0
 */

/**
 * - `server`: its address
 * - `tokens`: of the conversation, answer included
 * - `begun`: how many requests for the model had begun there; after as many more as it answers at once, the cache is
 *   somebody else's
 *
 * @since 0.1.0
 * @category models
 */
export interface CacheAffinity {
  readonly server: string
  readonly tokens: number
  readonly begun: number
}

/** Of so many conversations; the oldest are forgotten. */
const maximum = 10_000

/**
 * @since 0.1.0
 * @category models
 */
export class CacheAffinityMap {
  private readonly known = new Map<string, CacheAffinity>()
  /** Stands at the oldest: a new iterator would have to pass all that were forgotten before. */
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
