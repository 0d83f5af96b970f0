/** One call's route over the servers of its model. */
import type { Routing } from "../ChatRequest.js"
import type { Service as Fleet, Priority, QueueFull, QueueTicket } from "../Fleet.js"
import type { CacheAffinity } from "../fleet/cacheAffinity.js"
import { type Columns, flag } from "../fleet/columns.js"
import type { Lease, Observation } from "../fleet/lease.js"
import { type Host, isLocal } from "../Server.js"
import type { ConversationKey } from "./conversationKey.js"
import { pick } from "./pick.js"
import { none, type PickInput, restingAt, waitForSlot } from "./pickInput.js"

/**
 * Who asks for a route. `conversation` tells what belongs together, so that it is answered where its prompt is cached;
 * `tokens` tells about how many tokens the prompt has, and is asked only where that matters. Servers that `only` refuses
 * are left out. Those on whose behalf calls wait (`owner`) take turns, and `batch` calls let others go first. `sharedServer`
 * is one object for requests that had better be sent to one server, where that takes them as one.
 *
 * @since 0.1.0
 * @category models
 */
export interface RouteHints {
  /**
   * Tells what belongs together, so that it is answered where its prompt is cached. Called only where there is a choice
   * of servers.
   */
  readonly conversation?: (() => ConversationKey | undefined) | undefined
  /** About how many tokens the prompt has. Called only where that matters. */
  readonly tokens?: (() => number) | undefined
  /** Servers that it refuses are left out. */
  readonly only?: ((host: Host) => boolean) | undefined
  /** Remote servers are left out, whatever happens. */
  readonly private?: boolean | undefined
  /** Servers that it refuses are asked only where none of the others can answer at once. */
  readonly prefers?: ((host: Host) => boolean) | undefined
  /** On whose behalf the call waits: owners take turns. */
  readonly owner?: string | undefined
  /** `batch` calls let others go first. */
  readonly priority?: Priority | undefined
  /** One object for requests that had better be sent to one server, where that takes them as one. */
  readonly sharedServer?: { server?: string } | undefined
}

/**
 * The servers that one call has tried, and the next one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Route {
  /** The servers of the model, and their state. */
  readonly columns: Columns
  /** 1 for each server that was tried. */
  readonly tried: Uint8Array
  /** The index of the next server, `waitForSlot`, or `none`. It counts as tried from now on. */
  readonly next: () => number
  /**
   * The index of another server that could answer at once: it has the model loaded, a free slot and a closed breaker,
   * and no request waits; or `none`. It counts as tried from now on.
   */
  readonly hedgeTarget: () => number
  /** The 95th percentile of that server's time to first token, in milliseconds; `undefined` if too little is known. */
  readonly hedgeDelay: (at: number) => number | undefined
  /** Takes a slot on the server that `next` returned. */
  readonly lease: (at: number) => Lease
  /**
   * Waits for a slot: `go` is called once, with what `next` would return then, but never `waitForSlot`; or `displaced`,
   * if the queue is full and others wait with fewer calls. A call that had a slot before goes ahead of those that had
   * none.
   */
  readonly queue: (go: (at: number) => void, displaced: (full: QueueFull) => void) => QueueTicket
  /** Starts over with every eligible server. */
  readonly restart: () => void
  /** How many servers can serve the request at all. */
  readonly able: () => number
  /** Excludes a server for good. */
  readonly exclude: (at: number) => void
  /** Whether a server was excluded for good. */
  readonly isExcluded: (at: number) => boolean
}

/** The same as `pick` for a single server. */
const only = (columns: Columns, tried: Uint8Array, waited: boolean, now: number): number => {
  if (tried[0] === 1) return none
  columns.refresh(now)
  return (columns.free[0] ?? 0) <= 0 || (!waited && columns.queued > 0) ? waitForSlot : 0
}

/** Reports the request's observation to the route before the fleet. */
class ObservedLease implements Lease {
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
 * A route over columns, by a strategy.
 *
 * @since 0.1.0
 * @category constructors
 */
export class RoutePlan implements Route {
  readonly tried: Uint8Array
  private excluded: Array<number> | undefined
  /** Those that go last, and whether they still wait. */
  private readonly last: ReadonlyArray<number> | undefined
  private isHeldBack = false
  /** Servers that lack the memory for the model: they are asked where every other one was. */
  private refused: ReadonlyArray<number> | undefined
  private withholdsRefused = false
  private isNarrowed = false
  private begun = false
  private affinity: number | undefined
  /** The conversation's tokens in the cache of that server, and how many requests had started there. */
  private cached = 0
  private startedThere = 0
  private tokens: number | undefined
  private readonly conversation: ConversationKey | undefined

  constructor(
    readonly columns: Columns,
    private readonly strategy: Routing,
    private readonly fleet: Fleet,
    private readonly random: () => number,
    private readonly now: () => number,
    private readonly hints: RouteHints,
    /** Whether a server is believed to take several requests as one. */
    private readonly takesTogether: (host: Host) => boolean = () => false
  ) {
    this.tried = new Uint8Array(columns.size)
    const { only, prefers } = hints
    if (hints.private === true) columns.hosts.forEach(({ server }, at) => isLocal(server) || this.exclude(at))
    if (only !== undefined) columns.hosts.forEach((host, at) => only(host) || this.exclude(at))
    if (columns.refusals > 0 && columns.size > 1) this.withholdRefused()
    if (prefers !== undefined && columns.size > 1) {
      const last = columns.hosts.flatMap((host, at) => (this.tried[at] === 0 && !prefers(host) ? [at] : []))
      if (last.length > 0) {
        this.last = last
        this.holdBack()
      }
    }
    const conversation = columns.size > 1 ? hints.conversation?.() : undefined
    this.conversation = conversation
    if (conversation === undefined) return
    let last: CacheAffinity | undefined
    for (const key of conversation.from) {
      last = fleet.cacheAffinity(key)
      if (last !== undefined) break
    }
    if (last === undefined) return
    const at = columns.indexOf(last.server)
    if (at === -1) return
    this.affinity = at
    this.cached = last.tokens
    this.startedThere = last.begun
  }

  next(): number {
    return this.find(this.begun)
  }

  hedgeTarget(): number {
    const { columns, tried } = this
    if (columns.queued > 0) return none
    columns.refresh(this.now())
    const unfit = Uint8Array.from(tried, (done, i) => (done === 1 || columns.flags[i] !== 0 ? 1 : 0))
    const at = pick(this.strategy, columns, unfit, this.pickInput(true))
    if (at < 0) return none
    tried[at] = 1
    this.isNarrowed = true
    return at
  }

  hedgeDelay(at: number): number | undefined {
    return this.columns.self[at]?.firstTokens?.percentile(0.95)
  }

  lease(at: number): Lease {
    const { fleet, columns } = this
    this.begun = true
    const lease = fleet.lease(columns, at, at === this.affinity ? this.inCache() : 0)
    // A call that is neither part of a conversation nor continues after a tool leaves nothing to remember.
    return new ObservedLease(lease, (observation) => this.rememberAffinity(at, observation))
  }

  queue(go: (at: number) => void, displaced: (full: QueueFull) => void): QueueTicket {
    const { owner, priority } = this.hints
    const look = (): boolean => {
      const at = this.find(true)
      if (at === waitForSlot) return false
      go(at)
      return true
    }
    return this.fleet.queue(
      this.columns,
      { look, narrow: () => this.isNarrowed, displaced, owner, priority },
      this.begun
    )
  }

  restart(): void {
    this.tried.fill(0)
    this.isNarrowed = this.excluded !== undefined
    if (this.excluded !== undefined) for (const at of this.excluded) this.tried[at] = 1
    if (this.columns.refusals > 0 && this.columns.size > 1) this.withholdRefused()
    this.holdBack()
  }

  able(): number {
    return this.columns.size - (this.excluded?.length ?? 0)
  }

  isExcluded(at: number): boolean {
    return this.excluded?.includes(at) === true
  }

  exclude(at: number): void {
    this.excluded ??= []
    this.excluded.push(at)
    this.tried[at] = 1
    this.isNarrowed = true
  }

  /** Those that go last count as tried for now. */
  private holdBack(): void {
    if (this.last === undefined) return
    this.isHeldBack = true
    for (const at of this.last) this.tried[at] = 1
  }

  /** Servers that recently lacked the memory for the model count as tried for now, unless there is no other. */
  private withholdRefused(): void {
    const { columns, tried } = this
    const now = this.now()
    if (columns.refusals <= now) return
    const refused: Array<number> = []
    let others = false
    for (let at = 0; at < columns.size; at++) {
      if (tried[at] === 1) continue
      if ((columns.refusedUntil[at] ?? 0) > now) refused.push(at)
      else others = true
    }
    if (!others || refused.length === 0) return
    this.refused = refused
    this.withholdsRefused = true
    this.isNarrowed = true
    for (const at of refused) tried[at] = 1
  }

  private find(waited: boolean): number {
    const at = this.findPreferred(waited)
    if (at !== none || !this.withholdsRefused) return at
    this.withholdsRefused = false
    for (const one of this.refused ?? []) if (this.excluded?.includes(one) !== true) this.tried[one] = 0
    return this.findPreferred(waited)
  }

  private findPreferred(waited: boolean): number {
    if (!this.isHeldBack) return this.choose(waited)
    const { columns, tried } = this
    const at = this.choose(waited)
    if (at >= 0 && !restingAt(columns, at, this.now())) return at
    this.isHeldBack = false
    for (const one of this.last ?? []) {
      if (this.excluded?.includes(one) !== true && !(this.withholdsRefused && this.refused?.includes(one) === true))
        tried[one] = 0
    }
    // The one that rests is left to those that may do better.
    if (at < 0) return this.choose(waited)
    tried[at] = 0
    return this.choose(waited)
  }

  private choose(waited: boolean): number {
    const { columns, tried } = this
    const { sharedServer } = this.hints
    const at =
      columns.size === 1
        ? only(columns, tried, waited, this.now())
        : sharedServer === undefined
          ? pick(this.strategy, columns, tried, this.pickInput(waited))
          : this.followShared(sharedServer, waited)
    if (at >= 0) {
      tried[at] = 1
      this.isNarrowed = true
    }
    return at
  }

  /** Where the one before was sent, if that server takes both as one and has a place; else wherever is best. */
  private followShared(sharedServer: { server?: string }, waited: boolean): number {
    const { columns, tried } = this
    const { server } = sharedServer
    const before = server === undefined || (!waited && columns.queued > 0) ? -1 : columns.indexOf(server)
    if (before >= 0) {
      columns.refresh(this.now())
      if (tried[before] === 0 && ((columns.flags[before] ?? 0) & (flag.full | flag.rests)) === 0) return before
    }
    const at = pick(this.strategy, columns, tried, this.pickInput(waited))
    const host = columns.hosts[at]
    if (host !== undefined && this.takesTogether(host)) sharedServer.server = host.server.url
    return at
  }

  private pickInput(waited: boolean): PickInput {
    const { affinity, random, strategy } = this
    const now = this.now()
    if (strategy !== "least-busy" && strategy !== "warm") return { now, random, waited, affinity }
    this.tokens ??= this.hints.tokens?.()
    const cached = this.inCache()
    const tokens = this.tokens === undefined ? undefined : Math.max(this.tokens, cached + 1)
    return { now, random, waited, affinity, tokens, cached }
  }

  /** After as many further requests as the server has slots, the cache is assumed to be theirs. */
  private inCache(): number {
    const { affinity, cached, startedThere: mark, columns } = this
    if (affinity === undefined) return 0
    return (columns.started[affinity] ?? 0) - mark >= (columns.places[affinity] ?? 0) ? 0 : cached
  }

  private rememberAffinity(at: number, observation: Observation): void {
    const { conversation, fleet, columns } = this
    const host = columns.hosts[at]
    if (host === undefined) return
    this.affinity = at
    this.cached = (observation.promptTokens ?? this.tokens ?? 0) + (observation.completionTokens ?? 0)
    this.startedThere = columns.started[at] ?? 0
    if (conversation === undefined) return
    const here = { server: host.server.url, tokens: this.cached, begun: this.startedThere }
    for (const key of conversation.to) fleet.remember(key, here)
  }
}
