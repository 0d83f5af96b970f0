/**
 * Live state of each server: requests in flight, speed, time to first token, loaded models, slots, and its circuit
 * breaker; and the queues of calls that wait for a slot.
 *
 * Everything is learned from the answers themselves, and from what servers report when asked for their models.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import { average } from "./fleet/average.js"
import { longestRest } from "./fleet/breaker.js"
import { type CacheAffinity, CacheAffinityMap } from "./fleet/cacheAffinity.js"
import * as Feed from "./fleet/changeFeed.js"
import { Columns } from "./fleet/columns.js"
import { type Lease, SlotLease } from "./fleet/lease.js"
import * as Maintenance from "./fleet/maintenance.js"
import type { PairColumns } from "./fleet/pairColumns.js"
import * as Pairs from "./fleet/pairs.js"
import * as Saving from "./fleet/persisted.js"
import type { PricedTokens } from "./fleet/prices.js"
import { ModelQueue } from "./fleet/queue.js"
import * as Waiting from "./fleet/queueWaiters.js"
import * as RemoteLimits from "./fleet/remoteLimit.js"
import { type RemoteCosts, RemoteTokenCounter, type RemoteTokens, SharedRemoteTokens } from "./fleet/remoteTokens.js"
import * as Replicas from "./fleet/replicas.js"
import { ServerChanges } from "./fleet/serverChanges.js"
import { type Snapshot, snapshotOf } from "./fleet/snapshot.js"
import {
  type BenchmarkFigures,
  type ColumnEntry,
  type ModelState,
  type Remoteness,
  ServerState
} from "./fleet/state.js"
import type { Host } from "./Server.js"
import { CurrentSettings } from "./Settings.js"
import * as Telemetry from "./Telemetry.js"
import type { Transfer } from "./Transport.js"

export type {
  /**
   * @since 0.3.0
   * @category models
   */
  BreakerCause,
  /**
   * @since 0.1.0
   * @category models
   */
  BreakerState
} from "./fleet/breaker.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  CacheAffinity
} from "./fleet/cacheAffinity.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Change
} from "./fleet/changeFeed.js"
export {
  /**
   * @since 0.1.0
   * @category models
   */
  Columns
} from "./fleet/columns.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Priority
} from "./fleet/fairQueue.js"
export {
  /**
   * @since 0.1.0
   * @category constants
   */
  defaultKeepAlive,
  /**
   * @since 0.1.0
   * @category models
   */
  type Lease,
  /**
   * @since 0.1.0
   * @category models
   */
  type Observation
} from "./fleet/lease.js"
export {
  /**
   * @since 0.2.0
   * @category models
   */
  PairColumns
} from "./fleet/pairColumns.js"
export {
  /**
   * @since 0.1.0
   * @category combinators
   */
  decode as decodeSaved,
  /**
   * @since 0.1.0
   * @category combinators
   */
  encode as encodeSaved,
  /**
   * @since 0.1.0
   * @category combinators
   */
  merge as mergeSaved,
  /**
   * @since 0.1.0
   * @category models
   */
  Persisted
} from "./fleet/persisted.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  QueuedCall,
  /**
   * @since 0.1.0
   * @category models
   */
  QueueFull,
  /**
   * @since 0.1.0
   * @category models
   */
  QueueTicket
} from "./fleet/queueWaiters.js"
export type {
  /**
   * @since 0.4.0
   * @category models
   */
  RemoteLimit
} from "./fleet/remoteLimit.js"
export {
  /**
   * @since 0.2.0
   * @category models
   */
  type RemoteCost,
  /**
   * @since 0.4.0
   * @category models
   */
  type RemoteCosts,
  /**
   * @since 0.2.0
   * @category models
   */
  RemoteTokenCounter,
  /**
   * @since 0.2.0
   * @category models
   */
  type RemoteTokens,
  /**
   * @since 0.2.0
   * @category tags
   */
  SharedRemoteTokens
} from "./fleet/remoteTokens.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Snapshot
} from "./fleet/snapshot.js"
export {
  /**
   * @since 0.3.0
   * @category models
   */
  type BenchmarkFigures,
  /**
   * @since 0.1.0
   * @category constants
   */
  maxPlausibleSpeed
} from "./fleet/state.js"

// =============================================================================
// Models
// =============================================================================

/**
 * Attempts of this process on a server.
 *
 * @since 0.2.0
 * @category models
 */
export interface Contacts {
  /** Those that it answered, be it with an error. */
  readonly reached: number
  /** Those that did not reach it, or whose connection broke. */
  readonly lost: number
}

/**
 * The state of every server and model: slots, queues, circuit breakers, measured speeds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** The state of a server for a model now. */
  readonly snapshot: (url: string, model: string) => Snapshot
  /**
   * The columns of these hosts, kept up to date; the same hosts give the same pool. `remoteness` is asked once per
   * host, and again when its round trip was measured again.
   */
  readonly pool: (hosts: ReadonlyArray<Host>, remoteness: Remoteness) => Columns
  /**
   * The columns of these models on these servers. Those that were made last are kept up to date; the same array gives
   * the same columns.
   */
  readonly pairs: (hosts: ReadonlyArray<Host>) => PairColumns
  /** Takes a place on a server of a pool; `cached` is how many tokens of the prompt are believed to be in its cache. */
  readonly lease: (pool: Columns, at: number, cached?: number) => Lease
  /**
   * Puts a call into the model's queue, `first` ahead of all others. It looks for a slot whenever one may have become
   * free, and once a second, because time alone changes things too.
   */
  readonly queue: (pool: Columns, call: Waiting.QueuedCall, first: boolean) => Waiting.QueueTicket
  /** How many requests a server takes at once has changed: calls that wait look for a place. */
  readonly limit: (url: string, maxInFlight: number | undefined) => void
  /** A small request to this server took this many milliseconds. */
  readonly roundTrip: (url: string, milliseconds: number) => void
  /**
   * A benchmark has measured a model on a server: its figures replace those that were known. Own traffic is averaged
   * with them afterwards, or replaces them where they are older than an hour.
   */
  readonly benchmarked: (url: string, model: string, figures: BenchmarkFigures) => void
  /** When `benchmarked` was last called, in milliseconds since the epoch; -Infinity if never. */
  readonly lastBenchmark: () => number
  /** The server reported exactly these loaded models, each until that time (milliseconds since the epoch). */
  readonly resident: (url: string, models: ReadonlyMap<string, number>) => void
  /** The server that last answered a conversation; `undefined` if that is not known. */
  readonly cacheAffinity: (conversation: string) => CacheAffinity | undefined
  /** Remembers which server answered a conversation. */
  readonly remember: (conversation: string, cacheAffinity: CacheAffinity) => void
  /**
   * An active probe has reached this server, or has not. The breaker of an unreachable server opens; one that was open
   * because the server was unreachable closes. Other failures are left to real requests: a server whose model hangs
   * answers a probe all the same.
   */
  readonly probed: (url: string, reached: boolean) => void
  /**
   * Lets a server rest for so many milliseconds: it is asked only where no other can be. Requests in flight there go
   * on.
   */
  readonly rest: (url: string, milliseconds: number) => void
  /** A server gets no new requests until `wake`; those in flight go on. Calls that only it could answer wait. */
  readonly drain: (url: string) => void
  /** Ends `drain`, and closes the circuit breakers of a server and of its models. */
  readonly wake: (url: string) => void
  /** The addresses of the servers that are drained. */
  readonly drained: () => ReadonlyArray<string>
  /** How many attempts of this process reached a server so far, and how many were lost on the way. */
  readonly contacts: (url: string) => Contacts
  /** A body that this server sent as a whole arrived like this. */
  readonly transferred: (url: string, transfer: Transfer) => void
  /** How the last larger bodies from this server arrived, and when: at most eight, the oldest first. */
  readonly transfers: (url: string) => ReadonlyArray<Transfer & { readonly at: number }>
  /** Counts tokens of a prompt and an answer of a remote server, and what those of a model cost. */
  readonly spendRemoteTokens: (tokens: number, priced?: PricedTokens & { readonly model: string }) => void
  /** The tokens of remote servers on this day, and their ceiling. */
  readonly remoteTokens: () => RemoteTokens
  /** What remote servers cost, and their budget; `undefined`: no price is known. */
  readonly remoteCosts: () => RemoteCosts | undefined
  /** The ceiling of remote servers that is reached; `undefined`: none is. */
  readonly remoteLimit: () => RemoteLimits.RemoteLimit | undefined
  /** Whether remote servers must not be asked for a model because they have a budget and it has no price. */
  readonly lacksPrice: (model: string) => boolean
  /** Changes as they happen; a subscriber that is too slow loses the oldest. */
  readonly changes: Stream.Stream<Feed.Change>
  /**
   * Calls `listener` at each change, at once and on the path of the request that causes it: it must be quick and must
   * not throw. `model` is empty where the server has been asked for none. Gives what ends it. It costs less than
   * `changes`, since it needs no fiber and no snapshot.
   *
   * @since 0.1.0
   */
  readonly onChange: (listener: (server: string, model: string) => void) => () => void
  /** The learned state, to be kept beyond this process. */
  readonly saved: Effect.Effect<Saving.Persisted>
  /** Takes over a learned state; newer observations stay. */
  readonly restore: (saved: Saving.Persisted) => Effect.Effect<void>
  /** Forgets every failure and every speed. */
  readonly clear: Effect.Effect<void>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Fleet extends Context.Tag("aicortex/Fleet")<Fleet, Service>() {}

// =============================================================================
// implementation
// =============================================================================

/**
 * Default slots of an Ollama server for one model, unless `OLLAMA_NUM_PARALLEL` or `maxInFlight` is set: Ollama's own
 * default if there is memory for it.
 */
const ollamaPlaces = 4

/** A corrected clock goes back by less than this, in milliseconds; more is a jump. */
const clockJitter = 1_000

/** Default queue length per model: this many per server, and at least this many in total. */
const queuedPerServer = 4
const leastCapacity = 512

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const feed = Feed.make()
  const join = yield* Waiting.make
  const servers = new Map<string, ServerState>()
  const changes = new ServerChanges()
  /** The queues that are not empty. */
  const busy = new Set<ModelQueue>()
  let latest = Number.NEGATIVE_INFINITY
  const now = () => {
    const time = clock.unsafeCurrentTimeMillis()
    if (time < latest - clockJitter) {
      const by = latest - time
      latest = time
      for (const server of servers.values()) {
        server.clockWentBack(by, time)
        feed.publish(server, undefined, time)
      }
    } else if (time > latest) latest = time
    return time
  }
  const conversations = new CacheAffinityMap()
  const counter = (yield* SharedRemoteTokens) ?? new RemoteTokenCounter()

  const serverState = (url: string): ServerState => {
    let state = servers.get(url)
    if (state === undefined) {
      state = new ServerState(url, changes, busy)
      state.onModel = (model) => enter(model)
      servers.set(url, state)
    }
    return state
  }
  const { note } = Replicas.make(yield* Replicas.CurrentReplicaLink, {
    servers,
    serverState,
    now,
    publish: (server, at) => feed.publish(server, undefined, at)
  })
  const changed: Feed.ChangeFeed["publish"] = (server, model, at) => {
    note(server, model)
    feed.publish(server, model, at)
  }
  const dependencies = { now, rest: settings.serverCooldown, changed }
  const stateAt = (pool: Columns, at: number): ModelState => {
    const host = pool.hosts[at]
    if (host === undefined) throw new RangeError(`there is no server ${at} in a pool of ${pool.size}`)
    return serverState(host.server.url).model(host.model)
  }

  // ---------------------------------------------------------------------------
  // columns
  // ---------------------------------------------------------------------------

  const pools = new WeakMap<ReadonlyArray<Host>, Columns>()

  /** Puts a pool's columns among those that are kept up to date; `newest` where it replaces the one before. */
  const link = (pool: Columns, remoteness: Remoteness | undefined, newest: boolean): void => {
    const slots: Array<ColumnEntry> = []
    pool.hosts.forEach((host, at) => {
      const state = serverState(host.server.url).model(host.model)
      const others = state.slots.filter((slot) => slot.pool !== pool)
      const measure = remoteness ?? others.at(-1)?.remoteness ?? (() => Number.NaN)
      const slot: ColumnEntry = { pool, at, host, remoteness: measure }
      slots.push(slot)
      const used = newest ? others.filter((slot) => slot.pool.waiting > 0 || slot.pool.active > 0) : others
      for (const other of others) if (!used.includes(other)) other.pool.linked = false
      state.slots = newest ? [...used, slot] : [slot, ...used]
      pool.remoteness[at] = measure(host, state.server.roundTrip)
      state.writeSlot(slot, now())
    })
    pool.follow(changes, (at, now) => {
      const slot = slots[at]
      if (slot !== undefined) stateAt(pool, at).writeSlot(slot, now)
    })
    pool.linked = true
  }

  const pool = (hosts: ReadonlyArray<Host>, remoteness: Remoteness): Columns => {
    // Every call passes here: a clock that was set back is noticed before a server is chosen.
    now()
    const known = pools.get(hosts)
    if (known !== undefined) return known
    const made = new Columns(hosts, now)
    // The queue outlives the list of servers that it was made for.
    const before = hosts.length === 0 ? undefined : stateAt(made, 0).slots.at(-1)?.pool.queue
    made.queue = before ?? new ModelQueue(now, busy)
    made.queue.capacity = settings.maxQueued ?? Math.max(leastCapacity, queuedPerServer * hosts.length)
    hosts.forEach((host, at) => {
      const state = stateAt(made, at)
      const { server } = state
      server.maxInFlight = host.server.maxInFlight ?? Number.POSITIVE_INFINITY
      // The user's setting takes precedence; and only Ollama reports when a request had to wait for a slot.
      const configured = host.server.maxInFlight !== undefined || settings.parallel !== undefined
      const limited = host.protocol === "ollama" && host.server.maxInFlight === undefined
      if (!limited || configured || !state.learns) {
        state.learns = limited && !configured
        const begin = state.learns ? (state.keptPlaces ?? ollamaPlaces) : (settings.parallel ?? ollamaPlaces)
        state.places = limited ? begin : Number.POSITIVE_INFINITY
      }
      // OpenAI-compatible servers, and the in-process engine, serve only what they have loaded.
      if (host.protocol !== "ollama") state.residentUntil = Number.POSITIVE_INFINITY
      state.queue = made.queue
      made.otherModels[at] = server.models
      made.self[at] = state
    })
    link(made, remoteness, true)
    pools.set(hosts, made)
    return made
  }

  const { enter, pairs } = Pairs.make(servers, serverState, changes, now)

  // ---------------------------------------------------------------------------
  // Requests
  // ---------------------------------------------------------------------------

  const queue: Service["queue"] = (pool, call, first) => {
    if (!pool.linked) link(pool, undefined, false)
    return join(pool, call, first)
  }

  const lease: Service["lease"] = (pool, at, cached = 0) => {
    if (!pool.linked) link(pool, undefined, false)
    const state = stateAt(pool, at)
    return new SlotLease(dependencies, pool, state.server, state, cached)
  }

  // ---------------------------------------------------------------------------
  // what servers say
  // ---------------------------------------------------------------------------

  const roundTrip = (url: string, milliseconds: number): void => {
    const server = serverState(url)
    server.roundTrip = average(server.roundTrip, milliseconds)
    for (const { slots } of server.models) {
      for (const { at, host, pool, remoteness } of slots) pool.remoteness[at] = remoteness(host, server.roundTrip)
    }
  }

  let lastBenchmark = Number.NEGATIVE_INFINITY
  const benchmarked: Service["benchmarked"] = (url, model, figures) => {
    const server = serverState(url)
    const at = now()
    lastBenchmark = at
    server.model(model).benchmarked(figures, at)
    server.changed()
    changed(server, model, at)
  }

  const resident = (url: string, models: ReadonlyMap<string, number>): void => {
    const server = serverState(url)
    const at = now()
    server.tellsResident = true
    for (const [model, until] of models) {
      const state = server.model(model)
      state.setResident(until, at)
      state.refusedUntil = 0
    }
    for (const state of server.models) {
      if (!models.has(state.model) && state.residentUntil !== Number.POSITIVE_INFINITY) state.setResident(0, at)
    }
    server.changed()
    changed(server, undefined, at)
    server.serveQueues()
  }

  const limit = (url: string, maxInFlight: number = Number.POSITIVE_INFINITY): void => {
    const server = serverState(url)
    if (server.maxInFlight === maxInFlight) return
    const grows = maxInFlight > server.maxInFlight
    server.maxInFlight = maxInFlight
    server.changed()
    if (grows) server.serveQueues()
  }

  const probed = (url: string, reached: boolean): void => {
    const server = serverState(url)
    const at = now()
    if (!reached) {
      if (server.breaker.state(at) === "open") return
      server.breaker.open(at, at, settings.serverCooldown, undefined)
      server.breaker.unreachable = true
      server.breaker.cause = { reason: "network", message: "a probe did not reach it" }
      server.forgetResident(at)
    } else if (server.breaker.unreachable && server.breaker.restsUntil !== 0) server.breaker.reset()
    else return
    server.changed()
    changed(server, undefined, at)
    server.serveQueues()
  }

  const remote = RemoteLimits.make(settings, counter, now)

  return Fleet.of({
    ...Maintenance.make(servers, serverState, now, changed),
    snapshot: (url, model) => snapshotOf(servers.get(url), model, now()),
    pool,
    pairs,
    lease,
    queue,
    limit,
    roundTrip,
    benchmarked,
    lastBenchmark: () => lastBenchmark,
    resident,
    probed,
    contacts: (url) => {
      const { lost = 0, reached = 0 } = servers.get(url) ?? {}
      return { reached, lost }
    },
    transferred: (url, transfer) => serverState(url).transferred(transfer, now()),
    transfers: (url) => servers.get(url)?.transfers ?? [],
    spendRemoteTokens: (tokens, priced) => {
      remote.spend(tokens, priced)
      if (tokens > 0) Telemetry.remoteTokensUsed(tokens)
    },
    remoteTokens: remote.remoteTokens,
    remoteCosts: remote.remoteCosts,
    remoteLimit: remote.remoteLimit,
    lacksPrice: remote.lacksPrice,
    changes: feed.changes,
    onChange: feed.onChange,
    saved: Effect.sync(() => Saving.save(servers.values(), now(), counter.saved(now()))),
    restore: (saved) =>
      Effect.sync(() => {
        Saving.restore(saved, serverState, now(), longestRest * settings.serverCooldown)
        counter.merge(saved.remoteTokens, now())
      }),
    cacheAffinity: (conversation) => conversations.find(conversation),
    remember: (conversation, cacheAffinity) => conversations.remember(conversation, cacheAffinity),
    clear: Effect.sync(() => {
      // Requests in flight keep their slots; only what was learned is cleared.
      conversations.clear()
      for (const server of servers.values()) {
        server.breaker.reset()
        server.roundTrip = undefined
        for (const state of server.models) {
          state.breaker.reset()
          state.proven = false
          state.refusedUntil = 0
          state.tokensPerSecond = undefined
          state.firstTokenTime = undefined
          state.firstTokens.clear()
          state.promptSpeed = undefined
          state.benchmarkedAt = undefined
          state.overhead = undefined
        }
        server.changed()
        changed(server, undefined, now())
        server.serveQueues()
      }
    })
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Fleet, never, CurrentSettings> = Layer.effect(Fleet, make)
