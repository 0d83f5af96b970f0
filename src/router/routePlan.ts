/**
 * One call's way over the servers of its model.
 *
 * @since 0.1.0
 */
import type { Routing } from "../ChatRequest.js"
import type { Service as Fleet, Full, Priority, Ticket } from "../Fleet.js"
import type { Whereabouts } from "../fleet/cacheAffinity.js"
import { flag, type Pool } from "../fleet/columns.js"
import type { Lease, Observation } from "../fleet/lease.js"
import type { Host } from "../Server.js"
import type { Conversation } from "./conversationKey.js"
import { pick } from "./pick.js"
import { type Circumstances, none, wait } from "./pickInput.js"

/**
 * Who asks for a route. `conversation` tells what belongs together, so that it is answered where its prompt is cached;
 * `tokens` tells about how many tokens the prompt has, and is asked only where that matters. Servers that `only` refuses
 * are left out. Those on whose behalf calls wait (`owner`) take turns, and `batch` calls let others go first. `company`
 * is one object for requests that had better be sent to one server, where that takes them as one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Traveller {
  readonly conversation?: Conversation | undefined
  readonly tokens?: (() => number) | undefined
  readonly only?: ((host: Host) => boolean) | undefined
  readonly owner?: string | undefined
  readonly priority?: Priority | undefined
  readonly company?: { server?: string } | undefined
}

/**
 * Which servers one call has tried, and which comes next.
 *
 * - `next`: the index of the next server, `wait`, or `none`. It counts as tried from now on
 * - `rival`: the index of a server that could answer at once, besides the one that is at work: it holds the model, has
 *   a free place and does not rest, and nobody waits for one; or `none`. It counts as tried from now on
 * - `patience`: how long that server's first token takes at most in 95 of 100 cases, in milliseconds; `undefined` where
 *   too little is known
 * - `lease`: takes a place on the server that `next` named
 * - `queue`: waits for a place: `go` is called once, with what `next` would give then, but never `wait`; or `displaced`,
 *   where the queue is full and others wait with fewer calls. A call that had a place before goes before those that had
 *   none
 * - `restart`: begins anew with every server that is able
 * - `able`: how many servers there are that can serve the request at all
 * - `exclude`: leaves a server out for good
 *
 * @since 0.1.0
 * @category models
 */
export interface Route {
  readonly pool: Pool
  readonly tried: Uint8Array
  readonly next: () => number
  readonly rival: () => number
  readonly patience: (at: number) => number | undefined
  readonly lease: (at: number) => Lease
  readonly queue: (go: (at: number) => void, displaced: (full: Full) => void) => Ticket
  readonly restart: () => void
  readonly able: () => number
  readonly exclude: (at: number) => void
}

/** The same as `pick`, where there is nothing to choose. */
const only = (pool: Pool, tried: Uint8Array, waited: boolean): number =>
  tried[0] === 1 ? none : (pool.free[0] ?? 0) <= 0 || (!waited && pool.queued > 0) ? wait : 0

/** Tells the route what its request has shown, before the fleet. */
class Watched implements Lease {
  constructor(
    private readonly lease: Lease,
    private readonly done: (observation: Observation) => void
  ) {}
  get cold(): boolean {
    return this.lease.cold
  }
  answered(): void {
    this.lease.answered()
  }
  succeed(observation: Observation): void {
    this.done(observation)
    this.lease.succeed(observation)
  }
  overtaken(): void {
    this.lease.overtaken()
  }
  fail(...failure: Parameters<Lease["fail"]>): void {
    this.lease.fail(...failure)
  }
  pardon(): void {
    this.lease.pardon()
  }
  contradicted(): void {
    this.lease.contradicted()
  }
  cancel(): void {
    this.lease.cancel()
  }
}

/**
 * @since 0.1.0
 * @category constructors
 */
export class Way implements Route {
  readonly tried: Uint8Array
  private excluded: Array<number> | undefined
  private narrow = false
  private begun = false
  private affinity: number | undefined
  /** The conversation's tokens in the cache of that server, and how many requests had begun there. */
  private cached = 0
  private mark = 0
  private tokens: number | undefined

  constructor(
    readonly pool: Pool,
    private readonly strategy: Routing,
    private readonly fleet: Fleet,
    private readonly random: () => number,
    private readonly now: () => number,
    private readonly traveller: Traveller,
    /** Whether a server is believed to take several requests as one. */
    private readonly takesTogether: (host: Host) => boolean = () => false
  ) {
    this.tried = new Uint8Array(pool.size)
    const { conversation, only } = traveller
    if (only !== undefined) pool.hosts.forEach((host, at) => only(host) || this.exclude(at))
    if (conversation === undefined) return
    let last: Whereabouts | undefined
    for (const key of conversation.from) {
      last = fleet.whereabouts(key)
      if (last !== undefined) break
    }
    if (last === undefined) return
    const at = pool.indexOf(last.server)
    if (at === -1) return
    this.affinity = at
    this.cached = last.tokens
    this.mark = last.begun
  }

  next(): number {
    return this.find(this.begun)
  }

  rival(): number {
    const { pool, tried } = this
    if (pool.queued > 0) return none
    pool.pass(this.now())
    const unfit = Uint8Array.from(tried, (done, i) => (done === 1 || pool.flags[i] !== 0 ? 1 : 0))
    const at = pick(this.strategy, pool, unfit, this.circumstances(true))
    if (at < 0) return none
    tried[at] = 1
    this.narrow = true
    return at
  }

  patience(at: number): number | undefined {
    return this.pool.self[at]?.firstTokens?.percentile(0.95)
  }

  lease(at: number): Lease {
    const { fleet, pool } = this
    this.begun = true
    const lease = fleet.lease(pool, at, at === this.affinity ? this.inCache() : 0)
    // A call that is neither part of a conversation nor goes on after a tool leaves nothing to remember.
    return new Watched(lease, (seen) => this.arrived(at, seen))
  }

  queue(go: (at: number) => void, displaced: (full: Full) => void): Ticket {
    const { owner, priority } = this.traveller
    const look = (): boolean => {
      const at = this.find(true)
      if (at === wait) return false
      go(at)
      return true
    }
    return this.fleet.queue(this.pool, { look, narrow: () => this.narrow, displaced, owner, priority }, this.begun)
  }

  restart(): void {
    this.tried.fill(0)
    this.narrow = this.excluded !== undefined
    if (this.excluded !== undefined) for (const at of this.excluded) this.tried[at] = 1
  }

  able(): number {
    return this.pool.size - (this.excluded?.length ?? 0)
  }

  exclude(at: number): void {
    this.excluded ??= []
    this.excluded.push(at)
    this.tried[at] = 1
    this.narrow = true
  }

  private find(waited: boolean): number {
    const { pool, tried } = this
    const { company } = this.traveller
    const at =
      pool.size === 1
        ? only(pool, tried, waited)
        : company === undefined
          ? pick(this.strategy, pool, tried, this.circumstances(waited))
          : this.accompany(company, waited)
    if (at >= 0) {
      tried[at] = 1
      this.narrow = true
    }
    return at
  }

  /** Where the one before was sent, if that server takes both as one and has a place; else wherever is best. */
  private accompany(company: { server?: string }, waited: boolean): number {
    const { pool, tried } = this
    const { server } = company
    const before = server === undefined || (!waited && pool.queued > 0) ? -1 : pool.indexOf(server)
    if (before >= 0) {
      pool.pass(this.now())
      if (tried[before] === 0 && ((pool.flags[before] ?? 0) & (flag.full | flag.rests)) === 0) return before
    }
    const at = pick(this.strategy, pool, tried, this.circumstances(waited))
    const host = pool.hosts[at]
    if (host !== undefined && this.takesTogether(host)) company.server = host.server.url
    return at
  }

  private circumstances(waited: boolean): Circumstances {
    const { affinity, random, strategy } = this
    const now = this.now()
    if (strategy !== "least-busy" && strategy !== "warm") return { now, random, waited, affinity }
    this.tokens ??= this.traveller.tokens?.()
    const cached = this.inCache()
    const tokens = this.tokens === undefined ? undefined : Math.max(this.tokens, cached + 1)
    return { now, random, waited, affinity, tokens, cached }
  }

  /** After as many further requests as the server answers at once, the cache is believed to be theirs. */
  private inCache(): number {
    const { affinity, cached, mark, pool } = this
    if (affinity === undefined) return 0
    return (pool.begun[affinity] ?? 0) - mark >= (pool.places[affinity] ?? 0) ? 0 : cached
  }

  private arrived(at: number, seen: Observation): void {
    const { fleet, pool, traveller } = this
    const host = pool.hosts[at]
    if (host === undefined) return
    this.affinity = at
    this.cached = (seen.promptTokens ?? this.tokens ?? 0) + (seen.completionTokens ?? 0)
    this.mark = pool.begun[at] ?? 0
    if (traveller.conversation === undefined) return
    const here = { server: host.server.url, tokens: this.cached, begun: this.mark }
    for (const key of traveller.conversation.to) fleet.remember(key, here)
  }
}
