/**
 * The conditions that calls are made under: how much of this machine is left, and how good the lines to remote servers
 * are.
 *
 * Everything is read in the background, and only while it is used: for ten minutes after the last call,
 * or as long as `changes` is listened to. Lines are judged by the attempts of calls, and by probes of the user's own
 * servers; no other address is ever asked.
 *
 * @since 0.2.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import { type Line, LineTracker, maxAge } from "./conditions/connectivity.js"
import { type Reading, type Resources, ResourceTracker } from "./conditions/resources.js"
import { thresholdsOf } from "./conditions/thresholds.js"
import { Fleet, type RemoteCosts, type RemoteTokens } from "./Fleet.js"
import { throughputOf } from "./fleet/throughput.js"
import * as Background from "./internal/background.js"
import { probe } from "./Probes.js"
import { isLocal, type Server } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

export type {
  /**
   * @since 0.2.0
   * @category models
   */
  Line,
  /**
   * @since 0.2.0
   * @category models
   */
  LineState
} from "./conditions/connectivity.js"
export type {
  /**
   * @since 0.2.0
   * @category models
   */
  Reading,
  /**
   * @since 0.2.0
   * @category models
   */
  ResourceState,
  /**
   * @since 0.2.0
   * @category models
   */
  Resources
} from "./conditions/resources.js"

/**
 * The conditions at one moment.
 *
 * @since 0.2.0
 * @category models
 */
export interface Snapshot {
  /** This machine; `undefined` where it was not read yet, or cannot be. */
  readonly resources: Resources | undefined
  /** The lines to remote servers that were checked, in the order of the settings. */
  readonly lines: ReadonlyArray<Line>
  /** The tokens of remote servers on this day (UTC); absent where no server is remote. */
  readonly remoteTokens?: RemoteTokens | undefined
  /** What remote servers cost in this day and month (UTC); absent where no price is known, or no server is remote. */
  readonly remoteCosts?: RemoteCosts | undefined
}

/**
 * What is known of the conditions.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** What is known now, at once: nothing before the first reading. The monitors run for ten minutes from here. */
  readonly current: () => Snapshot
  /** The same, after the first reading of this machine and the first check of each line. */
  readonly snapshot: Effect.Effect<Snapshot>
  /** What is known now, and again after each reading and check; a subscriber that is too slow loses the oldest. */
  readonly changes: Stream.Stream<Snapshot>
}

/**
 * The tag of the service.
 *
 * @since 0.2.0
 * @category tags
 */
export class Conditions extends Context.Tag("aicortex/Conditions")<Conditions, Service>() {}

/**
 * How this machine is read; `undefined`, the default, where it cannot be, as in a browser. It is read every five
 * seconds while it is used. All resources are released at the end of the scope.
 *
 * @since 0.2.0
 * @category tags
 */
export class ResourceSource extends Context.Reference<ResourceSource>()("aicortex/Conditions/ResourceSource", {
  defaultValue: (): Effect.Effect<Reading> | undefined => undefined
}) {}

/** How often this machine is read, in milliseconds. */
const resourceInterval = 5_000

/** How long the monitors go on after the last use, in milliseconds. */
const idleAfter = 600_000

const nothing: Snapshot = { resources: undefined, lines: [] }

/** Does it at once and then at every interval, for as long as it is wanted. */
const repeated = (interval: number, wanted: () => boolean, once: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.suspend(() =>
    wanted()
      ? Effect.zipRight(
          Effect.zipRight(once, Background.pause(interval)),
          Effect.suspend(() => repeated(interval, wanted, once))
        )
      : Effect.void
  )

/**
 * The service, over those that it needs.
 *
 * @since 0.2.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const settings = yield* CurrentSettings
  const source = yield* ResourceSource
  const fleet = yield* Fleet
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
  const scope = yield* Effect.scope
  const clock = yield* Effect.clock
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const thresholds = thresholdsOf(settings.conditions)
  const remote = settings.servers.filter((server) => !server.implicit && !isLocal(server))
  const now = () => clock.unsafeCurrentTimeMillis()

  const listeners = new Set<Mailbox.Mailbox<Snapshot>>()
  const lines = new Map<string, Line>()
  let resources: Resources | undefined
  let wantedUntil = Number.NEGATIVE_INFINITY

  const known = (): Snapshot => {
    const checked = lines.size === 0 ? nothing.lines : remote.flatMap(({ url }) => lines.get(url) ?? [])
    if (remote.length > 0) {
      const costs = fleet.remoteCosts()
      const remoteTokens = fleet.remoteTokens()
      return { resources, lines: checked, remoteTokens, ...(costs === undefined ? {} : { remoteCosts: costs }) }
    }
    return resources === undefined ? nothing : { resources, lines: checked }
  }
  const publish = Effect.sync(() => {
    if (listeners.size === 0) return
    const snapshot = known()
    for (const listener of listeners) listener.unsafeOffer(snapshot)
  })
  const wanted = () => listeners.size > 0 || now() < wantedUntil

  const resourceTracker = new ResourceTracker(thresholds)
  const firsts: Array<Effect.Effect<void>> = []
  const monitors: Array<{ running: boolean; readonly run: Effect.Effect<void> }> = []
  const monitor = (interval: number, first: Deferred.Deferred<void>, once: Effect.Effect<void>): void => {
    firsts.push(Deferred.await(first))
    const one = once.pipe(
      // A reading that cannot be had is not the end of them.
      Effect.catchAllDefect((defect) => Effect.logWarning("A condition cannot be read", defect)),
      Effect.zipRight(Deferred.succeed(first, undefined)),
      Effect.zipRight(publish)
    )
    monitors.push({ running: false, run: Effect.interruptible(repeated(interval, wanted, one)) })
  }

  if (source !== undefined) {
    monitor(
      resourceInterval,
      yield* Deferred.make<void>(),
      Effect.map(source, (reading) => {
        resources = resourceTracker.observe(reading, now())
      })
    )
  }

  const checking = (server: Server): Effect.Effect<void> => {
    const tracker = new LineTracker(server.url, thresholds)
    const ask = Effect.provideService(probe(client, server), Fleet, fleet)
    let before = fleet.contacts(server.url)
    let seen: ReadonlyArray<object> = []
    /** The most that the line was seen to transfer since the check before. */
    const throughput = (now: number): number | undefined => {
      const all = fleet.transfers(server.url)
      const { roundTrip } = fleet.snapshot(server.url, "")
      const measured = all.flatMap((one) =>
        seen.includes(one) || now - one.at > maxAge ? [] : (throughputOf(one, roundTrip, thresholds.throughput) ?? [])
      )
      seen = all
      return measured.length === 0 ? undefined : Math.max(...measured)
    }
    return Effect.gen(function* () {
      const first = yield* ask
      // The first one may have had to make the connection, which takes several round trips.
      const slow = first.reached === true && first.took >= thresholds.latency
      const { reached, took } = slow ? yield* ask : first
      const at = yield* Clock.currentTimeMillis
      const contacts = fleet.contacts(server.url)
      const answered = contacts.reached - before.reached
      const lost = contacts.lost - before.lost
      before = contacts
      // One that is silent is busy only if it answers others.
      const isLost = reached === false || (reached === undefined && answered === 0)
      const outcomes = {
        reached: answered + (reached === true ? 1 : 0),
        lost: lost + (isLost ? 1 : 0),
        latency: reached === true ? took : undefined,
        throughput: throughput(at)
      }
      lines.set(server.url, tracker.observe(outcomes, at))
    })
  }
  for (const server of remote) monitor(thresholds.interval, yield* Deferred.make<void>(), checking(server))

  const start = (): void => {
    wantedUntil = now() + idleAfter
    for (const one of monitors) {
      if (one.running) continue
      one.running = true
      const ended = Effect.sync(() => {
        one.running = false
      })
      // Not synchronously: the caller continues first.
      runFork(Effect.ensuring(one.run, ended), { scope, immediate: false })
    }
  }

  const listen = Effect.acquireRelease(
    Effect.tap(Mailbox.make<Snapshot>({ capacity: 64, strategy: "sliding" }), (mailbox) =>
      Effect.sync(() => {
        listeners.add(mailbox)
        start()
        mailbox.unsafeOffer(known())
      })
    ),
    (mailbox) =>
      Effect.zipRight(
        Effect.sync(() => listeners.delete(mailbox)),
        mailbox.shutdown
      )
  )

  return Conditions.of({
    current: () => {
      start()
      return known()
    },
    snapshot: Effect.suspend(() => {
      start()
      return Effect.map(Effect.all(firsts, { concurrency: "unbounded", discard: true }), known)
    }),
    changes: Stream.unwrapScoped(Effect.map(listen, Mailbox.toStream))
  })
})

/**
 * The service as a layer.
 *
 * @since 0.2.0
 * @category layers
 */
export const layer: Layer.Layer<Conditions, never, Fleet | CurrentSettings | HttpClient.HttpClient> = Layer.scoped(
  Conditions,
  make
)

/**
 * Conditions that do not change, for tests; what is left out is not known.
 *
 * @since 0.2.0
 * @category layers
 */
export const layerTest = (snapshot: Partial<Snapshot> | (() => Partial<Snapshot>) = {}): Layer.Layer<Conditions> => {
  const current = () => ({ ...nothing, ...(typeof snapshot === "function" ? snapshot() : snapshot) })
  return Layer.succeed(Conditions, {
    current,
    snapshot: Effect.sync(current),
    changes: Stream.suspend(() => Stream.succeed(current()))
  })
}

/**
 * The conditions, after everything was read once.
 *
 * @since 0.2.0
 * @category accessors
 */
export const snapshot: Effect.Effect<Snapshot, never, Conditions> = Effect.flatMap(Conditions, (self) => self.snapshot)

/**
 * The conditions as they change.
 *
 * @since 0.2.0
 * @category accessors
 */
export const changes: Stream.Stream<Snapshot, never, Conditions> = Stream.unwrap(
  Effect.map(Conditions, (self) => self.changes)
)
