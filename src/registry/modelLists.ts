/** Which server has which model: asks the servers, caches their lists, and refreshes them. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { LRUCache } from "lru-cache"
import { canonical } from "../Model.js"
import type { Host } from "../Server.js"
import type { Transfer } from "../Transport.js"
import * as PlainRequests from "../transport/plainRequests.js"
import * as Transfers from "../transport/transfer.js"
import * as Discovery from "./discovery.js"
import * as Waits from "./discoveryWait.js"
import * as Workers from "./discoveryWorkers.js"
import { type Listing, ListingFailed } from "./listing.js"
import {
  type Entry,
  hostOn,
  isClaimed,
  isSame,
  type KnownServer,
  locateApi,
  makeEntry,
  record,
  type Source,
  toKnown,
  withLoaded,
  writeFixed
} from "./serverEntry.js"

// =============================================================================
// Models
// =============================================================================

export interface ModelLists {
  /** The servers of a model, the certain ones first; empty if none has it. */
  readonly locate: (model: string) => Effect.Effect<ReadonlyArray<Host>>
  /** The same synchronously, if no server must be asked. */
  readonly located: (model: string) => ReadonlyArray<Host> | undefined
  /** Like `locate`, and also unreachable servers recorded to have it; asks no server. */
  readonly claims: (model: string) => Effect.Effect<ReadonlyArray<Host>>
  /** Every server, asked unless its list is fresh. */
  readonly known: (wait: WaitFor) => Effect.Effect<ReadonlyArray<KnownServer>>
  /** Every server once, as soon as it is known: those whose lists are fresh at once, the others as they answer or fail. */
  readonly stream: Stream.Stream<KnownServer>
  /** The current state of every server, without asking. */
  readonly now: Effect.Effect<ReadonlyArray<KnownServer>>
  /** Changes whenever anything of `now` may have. */
  readonly version: () => number
  /** Whether every list is fresh, so that no server would be asked. */
  readonly isSettled: () => boolean
  /** The same synchronously; empty before the first request. */
  readonly peek: () => ReadonlyArray<KnownServer>
  /** Whether a server is off, can be woken, and may have the model as far as is known. */
  readonly isAsleep: (url: string, model: string) => boolean
  /** Asks one server now, and whether it has answered. */
  readonly probe: (url: string) => Effect.Effect<boolean>
  readonly markAbsent: (model: string, url: string) => Effect.Effect<void>
  readonly refresh: Effect.Effect<void>
  /** The sources have changed; no server is asked for that. */
  readonly reload: Effect.Effect<void>
}

/**
 * Which servers that are being asked to wait for: those of which nothing is known yet (`unknown`), or none for
 * long once one has answered that has a model (`first`).
 */
export type WaitFor = "unknown" | "first"

/** Limits of discovery: how many servers are asked at once, and for how long one is, in milliseconds. */
export interface DiscoveryLimits {
  readonly concurrency: number
  readonly timeout: number
  /** How long a list is fresh, in milliseconds. */
  readonly ttl: number
}

/**
 * Receives what asking has shown: the response time in milliseconds, without that in which a long list arrived, how that list
 * arrived, and the loaded models.
 */
export interface Observer {
  readonly answered: (url: string, milliseconds: number, transfer: Transfer | undefined) => void
  readonly resident: (url: string, models: ReadonlyMap<string, number>) => void
}

// =============================================================================
// Settings
// =============================================================================

/** How long a failed server is not asked again, in milliseconds. */
const retryAfter = 5_000

/** How long an unknown model does not trigger another refresh, in milliseconds. */
const missInterval = 1_000

/** Maximum number of remembered lists: if no server answers, any name may be a model. */
const maxRemembered = 10_000

/** How long a listing waits for servers of which an earlier state is known, in milliseconds. */
const refreshGrace = 50

const isHealthy = (entry: Entry): boolean => entry.problem === undefined
const isUnknown = (entry: Entry): boolean =>
  entry.readAt === Number.NEGATIVE_INFINITY && entry.failedAt === Number.NEGATIVE_INFINITY

const isUnread = (entry: Entry): boolean => entry.readAt === Number.NEGATIVE_INFINITY
/** Whether a server is off, and its machine can be woken. */
const isSleeping = ({ problem, responded, server }: Entry): boolean =>
  server.wake !== undefined && problem !== undefined && !responded

/** The order in which servers are asked: a server that is off must not delay those that answer. */
const rankOf = (entry: Entry): number => (!isHealthy(entry) ? 2 : isUnknown(entry) ? 1 : 0)

// =============================================================================
// Constructors
// =============================================================================

/**
 * `sources` is evaluated when a server is first needed and again by `refresh`. Everything in progress ends with the
 * scope.
 */
export const make = Effect.fnUntraced(function* (
  sources: Effect.Effect<ReadonlyArray<Source>>,
  { concurrency, timeout, ttl }: DiscoveryLimits,
  observer: Observer
) {
  const send = yield* PlainRequests.make
  const scope = yield* Effect.scope
  const clock = yield* Effect.clock
  const waits = Waits.make()
  const listeners = new Set<(entry: Entry) => void>()
  let entries: ReadonlyArray<Entry> | undefined
  /** Until then all lists are fresh, and `locate` answers without asking; `undefined`: to be computed. */
  let settledUntil: number | undefined = Number.NEGATIVE_INFINITY
  /** The servers of a model, as long as nothing changes. */
  const current = new Map<string, ReadonlyArray<Host>>()
  /** The newest list of servers of each model. */
  const newest = new LRUCache<string, ReadonlyArray<Host>>({ max: maxRemembered })

  const isFresh = (entry: Entry, now: number): boolean => entry.problem === undefined && now - entry.readAt < ttl
  const isDue = (entry: Entry, now: number): boolean =>
    !entry.running &&
    (entry.problem === undefined ? entry.stale || !isFresh(entry, now) : now - entry.failedAt >= retryAfter)

  const settledEntry = (entry: Entry): number => {
    if (entry.problem !== undefined) return entry.running ? Number.POSITIVE_INFINITY : entry.failedAt + retryAfter
    return entry.stale && !entry.running ? Number.NEGATIVE_INFINITY : entry.readAt + ttl
  }
  let version = 0
  const update = (): void => {
    version++
    current.clear()
    settledUntil = undefined
  }
  const computeSettled = (): number => {
    if (entries === undefined) return Number.NEGATIVE_INFINITY
    return entries.reduce((least, entry) => Math.min(least, settledEntry(entry)), Number.POSITIVE_INFINITY)
  }

  const load = Effect.map(sources, (found) => {
    const before = new Map(entries?.map((entry) => [entry.server.url, entry]))
    entries = found.map((source) => {
      const known = before.get(source.server.url)
      const entry = (known?.fixed === undefined) === (source.fixed === undefined) ? known : undefined
      if (entry === undefined) {
        const made = makeEntry(source)
        writeFixed(made)
        return made
      }
      const { api } = entry.server
      Object.assign(entry, source, { measurements: new Map(source.measurements) })
      if (source.fixed === undefined) locateApi(entry, api)
      else writeFixed(entry)
      return entry
    })
    update()
    return entries
  })
  const loaded = Effect.suspend(() => (entries === undefined ? load : Effect.succeed(entries)))

  // ---------------------------------------------------------------------------
  // Calling the fleet
  // ---------------------------------------------------------------------------

  const askOne = async (
    inquiry: Discovery.DiscoveryRequests,
    entry: Entry,
    progress: Workers.Progress<Listing>
  ): Promise<Listing | ListingFailed> => {
    const began = clock.unsafeCurrentTimeNanos()
    const found = await Discovery.ask(inquiry)
    if (found instanceof ListingFailed) return found
    const took = Number(clock.unsafeCurrentTimeNanos() - began) / 1e6
    const transfer = inquiry.longest
    observer.answered(entry.server.url, Transfers.roundTripOf(took, transfer), transfer)
    if (found.protocol !== "ollama") return found
    // Afterwards, on the same connection: a server that is off costs one attempt to connect.
    progress.partial = found
    progress.deadline = clock.unsafeCurrentTimeMillis() + Discovery.loadedTimeout
    const loaded = await Discovery.askLoaded(inquiry)
    return loaded === undefined
      ? found
      : withLoaded(found, loaded, (models) => observer.resident(entry.server.url, models))
  }

  // Discovery belongs to the scope, not to the caller that started it: others wait for the same one.
  const queue = yield* Workers.make(scope, {
    concurrency,
    timeout,
    run: (entry: Entry, progress: Workers.Progress<Listing>, done) => {
      const inquiry = new Discovery.DiscoveryRequests(send, entry.server)
      askOne(inquiry, entry, progress).then(
        (found) => done(found instanceof ListingFailed ? Exit.fail(found) : Exit.succeed(found)),
        (defect) => done(Exit.die(defect))
      )
      return () => inquiry.cancel()
    },
    onTimeout: () => Discovery.timedOut(timeout),
    settle: (entry, exit: Exit.Exit<Listing, ListingFailed>) => {
      const now = clock.unsafeCurrentTimeMillis()
      record(entry, exit, now)
      update()
      waits.settled(entry, now)
      for (const listener of listeners) listener(entry)
    }
  })
  const startAll = (list: ReadonlyArray<Entry>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const now = clock.unsafeCurrentTimeMillis()
      const started = list.filter((entry) => !entry.running && entry.fixed === undefined)
      if (started.length === 0) return Effect.void
      for (const entry of started) {
        entry.running = true
        entry.askedAt = now
      }
      update()
      return queue(started.sort((a, b) => rankOf(a) - rankOf(b)))
    })

  const goalFor = (key: string): Waits.Goal => ({
    hosts: (now) => hostsOf(key, now),
    isMetBy: (entry, now) => isFresh(entry, now) && entry.models.has(key)
  })

  // ---------------------------------------------------------------------------
  // Locating
  // ---------------------------------------------------------------------------

  /** The servers that have it, then those that had it in their last list; empty if none is certain. */
  const hostsOf = (key: string, now: number): ReadonlyArray<Host> => {
    const certain: Array<Host> = []
    const uncertain: Array<Host> = []
    for (const entry of entries ?? []) {
      if (!entry.models.has(key)) {
        // It may have the model, and is woken only where no other server can answer.
        if (isSleeping(entry) && isUnread(entry)) uncertain.push(hostOn(entry, key, key, false))
        continue
      }
      if (isFresh(entry, now)) certain.push(hostOn(entry, key, key, true))
      else if (!entry.server.implicit) uncertain.push(hostOn(entry, key, key, false))
    }
    return certain.length === 0 ? certain : [...certain, ...uncertain]
  }

  /** The servers that could not be asked: first those recorded to have it, then the user's own. */
  const unasked = (key: string, model: string, now: number): ReadonlyArray<Host> => {
    const claiming: Array<Host> = []
    const others: Array<Host> = []
    for (const entry of entries ?? []) {
      if (isFresh(entry, now) || entry.server.implicit) continue
      if (isClaimed(entry, key)) claiming.push(hostOn(entry, key, model, false))
      else if (entry.own) others.push(hostOn(entry, key, model, false))
    }
    return [...claiming, ...others]
  }

  /** The same servers yield the same array: the fleet keeps columns for each array. */
  const shared = (key: string, hosts: ReadonlyArray<Host>): ReadonlyArray<Host> => {
    const before = newest.get(key)
    if (before?.length === hosts.length && before.every((host, i) => isSame(host, hosts[i]))) return before
    newest.set(key, hosts)
    return hosts
  }

  const search = Effect.fnUntraced(function* (key: string, model: string) {
    const all = yield* loaded
    const now = yield* Clock.currentTimeMillis
    if (hostsOf(key, now).length > 0) {
      yield* startAll(all.filter((entry) => isDue(entry, now)))
      yield* waits.forAll(
        all.filter((entry) => isHealthy(entry) && !entry.stale),
        { required: isHealthy, goal: goalFor(key) }
      )
    } else {
      // A missing model may have been added since, so every list is refreshed.
      yield* startAll(all.filter((entry) => entry.stale || now - entry.askedAt >= missInterval))
      yield* waits.forAll(all, { required: isHealthy, goal: goalFor(key) })
    }
    const end = yield* Clock.currentTimeMillis
    const found = hostsOf(key, end)
    if (found.length > 0) return shared(key, found)
    const uncertainHosts = unasked(key, model, end)
    return uncertainHosts.length > 0 ? shared(key, uncertainHosts) : uncertainHosts
  })

  const located = (model: string): ReadonlyArray<Host> | undefined => {
    const now = clock.unsafeCurrentTimeMillis()
    settledUntil ??= computeSettled()
    if (now >= settledUntil) return undefined
    const key = canonical(model)
    const known = current.get(key)
    if (known !== undefined) return known
    const found = hostsOf(key, now)
    if (found.length === 0) return undefined
    const hosts = shared(key, found)
    current.set(key, hosts)
    return hosts
  }

  const locate = (model: string): Effect.Effect<ReadonlyArray<Host>> =>
    Effect.suspend(() => {
      const hosts = located(model)
      return hosts === undefined ? search(canonical(model), model) : Effect.succeed(hosts)
    })

  const startDue = Effect.gen(function* () {
    const all = yield* loaded
    const now = yield* Clock.currentTimeMillis
    yield* startAll(all.filter((entry) => isDue(entry, now)))
    return all
  })

  const anyModel: Waits.Goal = {
    hosts: (now) => (entries ?? []).filter((entry) => isFresh(entry, now) && entry.models.size > 0),
    isMetBy: (entry, now) => isFresh(entry, now) && entry.models.size > 0
  }
  const waiting: { readonly [W in WaitFor]: Waits.WaitOptions } = {
    unknown: { required: isUnknown, grace: refreshGrace },
    first: { required: isHealthy, goal: anyModel }
  }
  const known = (wait: WaitFor) =>
    Effect.flatMap(startDue, (all) => Effect.map(waits.forAll(all, waiting[wait]), () => all.map(toKnown)))

  const stream = Stream.unwrapScoped(
    Effect.gen(function* () {
      const answers = yield* Effect.acquireRelease(Queue.unbounded<Entry>(), Queue.shutdown)
      const listener = (entry: Entry): void => {
        answers.unsafeOffer(entry)
      }
      yield* Effect.acquireRelease(
        Effect.sync(() => listeners.add(listener)),
        () => Effect.sync(() => listeners.delete(listener))
      )
      const all = yield* startDue
      const running = new Set(all.filter((entry) => entry.running))
      const settled = all.filter((entry) => !running.has(entry))
      const later = Stream.fromQueue(answers).pipe(
        // Others may be asked again meanwhile.
        Stream.filter((entry) => running.delete(entry)),
        Stream.map(toKnown),
        Stream.takeUntil(() => running.size === 0)
      )
      const first = Stream.fromIterable(settled.map(toKnown))
      return running.size === 0 ? first : Stream.concat(first, later)
    })
  )

  const claims = Effect.fnUntraced(function* (model: string) {
    yield* loaded
    const now = yield* Clock.currentTimeMillis
    const key = canonical(model)
    const certain = hostsOf(key, now).filter((found) => found.certain)
    const claiming = unasked(key, model, now).filter((found) => {
      const entry = entries?.find((one) => one.server.url === found.server.url)
      return entry !== undefined && isClaimed(entry, key)
    })
    return [...certain, ...claiming]
  })

  const markAbsent = (model: string, url: string): Effect.Effect<void> =>
    Effect.sync(() => {
      const entry = entries?.find((one) => one.server.url === url)
      if (entry === undefined || entry.fixed !== undefined) return
      const key = canonical(model)
      entry.models.delete(key)
      entry.measurements.delete(key)
      entry.lost.add(key)
      entry.stale = true
      update()
    })

  const entryOf = (url: string): Entry | undefined => entries?.find((one) => one.server.url === url)

  const isAsleep = (url: string, model: string): boolean => {
    const entry = entryOf(url)
    return entry !== undefined && isSleeping(entry) && (isUnread(entry) || isClaimed(entry, canonical(model)))
  }

  const probe = (url: string): Effect.Effect<boolean> =>
    Effect.suspend(() => {
      const entry = entryOf(url)
      if (entry === undefined) return Effect.succeed(false)
      return startAll([entry]).pipe(
        Effect.zipRight(waits.forAll([entry], { required: () => true })),
        Effect.map(() => entry.problem === undefined)
      )
    })

  const refresh = Effect.gen(function* () {
    const all = yield* load
    yield* startAll(all)
    yield* waits.forAll(all, { required: () => true })
  })

  const lists: ModelLists = {
    locate,
    located,
    claims,
    known,
    stream,
    now: Effect.map(loaded, (all) => all.map(toKnown)),
    version: () => version,
    isSettled: () => {
      if (entries === undefined) return false
      settledUntil ??= computeSettled()
      return clock.unsafeCurrentTimeMillis() < settledUntil
    },
    peek: () => (entries ?? []).map(toKnown),
    isAsleep,
    probe,
    markAbsent,
    refresh,
    reload: Effect.suspend(() => (entries === undefined ? Effect.void : Effect.asVoid(load)))
  }
  return lists
})
