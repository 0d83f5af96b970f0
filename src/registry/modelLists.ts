/** Which server has which model: asks the servers, caches their lists, and refreshes them. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { LRUCache } from "lru-cache"
import { canonical } from "../Model.js"
import type { Host } from "../Server.js"
import type { Transfer } from "../Transport.js"
import * as Transfers from "../transport/transfer.js"
import * as Discovery from "./discovery.js"
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
  withLoaded
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
  readonly known: (wait: Patience) => Effect.Effect<ReadonlyArray<KnownServer>>
  /** The current state of every server, without asking. */
  readonly now: Effect.Effect<ReadonlyArray<KnownServer>>
  /** The same synchronously; empty before the first request. */
  readonly peek: () => ReadonlyArray<KnownServer>
  readonly markAbsent: (model: string, url: string) => Effect.Effect<void>
  readonly refresh: Effect.Effect<void>
}

/**
 * Which of the servers that are being asked are waited for: all (`all`), all but those that failed last time
 * (`healthy`), or none for long once one has answered that has a model (`first`).
 */
export type Patience = "all" | "healthy" | "first"

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

/** Maximum number of servers asked at once. */
const concurrency = 32

/** How long a failed server is not asked again, in milliseconds. */
const retryAfter = 5_000

/** How long an unknown model does not trigger another refresh, in milliseconds. */
const missInterval = 1_000

/** Maximum number of remembered lists: if no server answers, any name may be a model. */
const maxRemembered = 10_000

/** How long to wait for other servers once one is certain to have the model, in milliseconds. */
const grace = 250

/** The same for a server of a better `priority`: the others are only its substitutes. */
const preferredGrace = 1_000

// =============================================================================
// Constructors
// =============================================================================

/**
 * `sources` is evaluated when a server is first needed and again by `refresh`; `ttl` is how long a list is fresh, in
 * milliseconds. Everything in progress ends with the scope.
 */
export const make = Effect.fnUntraced(function* (
  client: HttpClient.HttpClient,
  sources: Effect.Effect<ReadonlyArray<Source>>,
  ttl: number,
  observer: Observer
) {
  const scope = yield* Effect.scope
  const clock = yield* Effect.clock
  const permits = yield* Effect.makeSemaphore(concurrency)
  let entries: ReadonlyArray<Entry> | undefined
  /** Until then all lists are fresh, and `locate` answers without asking. */
  let settledUntil = Number.NEGATIVE_INFINITY
  /** The servers of a model, as long as nothing changes. */
  const current = new Map<string, ReadonlyArray<Host>>()
  /** The newest list of servers of each model. */
  const newest = new LRUCache<string, ReadonlyArray<Host>>({ max: maxRemembered })
  /** Resolved by the next answer of any server. */
  let changed = Deferred.unsafeMake<void>(FiberId.none)

  const isFresh = (entry: Entry, now: number): boolean => entry.problem === undefined && now - entry.readAt < ttl
  const isDue = (entry: Entry, now: number): boolean =>
    !entry.running &&
    (entry.problem === undefined ? entry.stale || !isFresh(entry, now) : now - entry.failedAt >= retryAfter)

  const settledEntry = (entry: Entry): number => {
    if (entry.problem !== undefined) return entry.running ? Number.POSITIVE_INFINITY : entry.failedAt + retryAfter
    return entry.stale && !entry.running ? Number.NEGATIVE_INFINITY : entry.readAt + ttl
  }
  const update = (): void => {
    current.clear()
    settledUntil = Number.POSITIVE_INFINITY
    for (const entry of entries ?? []) settledUntil = Math.min(settledUntil, settledEntry(entry))
  }

  const load = Effect.map(sources, (found) => {
    const before = new Map(entries?.map((entry) => [entry.server.url, entry]))
    entries = found.map((source) => {
      const entry = before.get(source.server.url)
      if (entry === undefined) return makeEntry(source)
      const { api } = entry.server
      Object.assign(entry, source, { measurements: new Map(source.measurements) })
      locateApi(entry, api)
      return entry
    })
    update()
    return entries
  })
  const loaded = Effect.suspend(() => (entries === undefined ? load : Effect.succeed(entries)))

  // ---------------------------------------------------------------------------
  // Calling the fleet
  // ---------------------------------------------------------------------------

  const settle = (entry: Entry, exit: Exit.Exit<Discovery.Listing, Discovery.ListingFailed>, now: number): void => {
    record(entry, exit, now)
    update()
    const done = changed
    changed = Deferred.unsafeMake<void>(FiberId.none)
    Deferred.unsafeDone(done, Exit.void)
  }

  // Discovery belongs to the scope, not to the caller that started it: others wait for the same one.
  const start = (entry: Entry): Effect.Effect<void> =>
    Effect.clockWith((clock) => {
      if (entry.running) return Effect.void
      entry.running = true
      entry.askedAt = clock.unsafeCurrentTimeMillis()
      const { client: watched, longest } = Transfers.metered(client)
      const listing = Effect.map(Effect.timed(Discovery.list(watched, entry.server)), ([took, found]) => {
        const transfer = longest()
        const roundTrip = Transfers.roundTripOf(Duration.toMillis(took), transfer)
        observer.answered(entry.server.url, roundTrip, transfer)
        return found
      })
      // In parallel, so that it adds no time.
      const discovery =
        entry.server.protocol === "openai" || entry.server.protocol === "anthropic"
          ? listing
          : Effect.map(
              Effect.all([listing, Discovery.loaded(client, entry.server)], { concurrency: 2 }),
              ([found, loaded]) =>
                found.protocol === "ollama" && loaded !== undefined
                  ? withLoaded(found, loaded, (models) => observer.resident(entry.server.url, models))
                  : found
            )
      return discovery.pipe(
        permits.withPermits(1),
        Effect.interruptible,
        Effect.exit,
        Effect.map((exit) => settle(entry, exit, clock.unsafeCurrentTimeMillis())),
        Effect.forkIn(scope)
      )
    })
  const startAll = (list: ReadonlyArray<Entry>): Effect.Effect<void> =>
    list.length === 0 ? Effect.void : Effect.uninterruptible(Effect.forEach(list, start, { discard: true }))

  /** Waits for the next answer, or until each of these has had its time relative to those found. */
  const awaitChange = (left: ReadonlyArray<Entry>, found: ReadonlyArray<Pick<Host, "server">>, now: number) => {
    const best = found.reduce((least, { server }) => Math.min(least, server.priority), Number.POSITIVE_INFINITY)
    const graceOf = (entry: Entry): number =>
      found.length > 0 && entry.problem === undefined && entry.server.priority < best ? preferredGrace : grace
    const until = left.reduce((most, entry) => Math.max(most, entry.askedAt + graceOf(entry)), 0)
    return until <= now
      ? Effect.succeed(false)
      : Effect.as(Effect.timeoutOption(Deferred.await(changed), until - now), true)
  }

  /** Waits for these, but for those that failed last time only briefly, in case they are back. */
  const awaitAll = Effect.fnUntraced(function* (
    running: ReadonlyArray<Entry>,
    patient: boolean,
    enough: (now: number) => ReadonlyArray<Pick<Host, "server">> = () => []
  ) {
    while (true) {
      const now = yield* Clock.currentTimeMillis
      const left = running.filter((entry) => entry.running)
      if (left.length === 0) return
      const found = enough(now)
      if (found.length === 0 && (patient || left.some((entry) => entry.problem === undefined))) {
        yield* Deferred.await(changed)
      } else if (!(yield* awaitChange(left, found, now))) {
        return
      }
    }
  })

  // ---------------------------------------------------------------------------
  // Locating
  // ---------------------------------------------------------------------------

  /** The servers that have it, then those that had it in their last list; empty if none is certain. */
  const hostsOf = (key: string, now: number): ReadonlyArray<Host> => {
    const certain: Array<Host> = []
    const uncertain: Array<Host> = []
    for (const entry of entries ?? []) {
      if (!entry.models.has(key)) continue
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
      yield* awaitAll(
        all.filter((entry) => entry.running && entry.problem === undefined && !entry.stale),
        false,
        (now) => hostsOf(key, now)
      )
    } else {
      // A missing model may have been added since, so every list is refreshed.
      yield* startAll(all.filter((entry) => entry.stale || now - entry.askedAt >= missInterval))
      yield* awaitAll(
        all.filter((entry) => entry.running),
        false,
        (now) => hostsOf(key, now)
      )
    }
    const end = yield* Clock.currentTimeMillis
    const found = hostsOf(key, end)
    if (found.length > 0) return shared(key, found)
    const uncertainHosts = unasked(key, model, end)
    return uncertainHosts.length > 0 ? shared(key, uncertainHosts) : uncertainHosts
  })

  const located = (model: string): ReadonlyArray<Host> | undefined => {
    const now = clock.unsafeCurrentTimeMillis()
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

  const known = Effect.fnUntraced(function* (wait: Patience) {
    const all = yield* loaded
    const now = yield* Clock.currentTimeMillis
    yield* startAll(all.filter((entry) => isDue(entry, now)))
    const found = (now: number) => all.filter((entry) => isFresh(entry, now) && entry.models.size > 0)
    const running = all.filter((entry) => entry.running)
    yield* awaitAll(running, wait === "all", wait === "first" ? found : undefined)
    return all.map(toKnown)
  })

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
      if (entry === undefined) return
      const key = canonical(model)
      entry.models.delete(key)
      entry.measurements.delete(key)
      entry.lost.add(key)
      entry.stale = true
      update()
    })

  const refresh = Effect.gen(function* () {
    const all = yield* load
    yield* startAll(all)
    yield* awaitAll(all, true)
  })

  const lists: ModelLists = {
    locate,
    located,
    claims,
    known,
    now: Effect.map(loaded, (all) => all.map(toKnown)),
    peek: () => (entries ?? []).map(toKnown),
    markAbsent,
    refresh
  }
  return lists
})
