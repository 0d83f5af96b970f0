/** All sources of the registry as one: read when first needed, and kept up to date as long as the scope is open. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as Path from "@effect/platform/Path"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { RegistryWarning } from "../Errors.js"
import * as Background from "../internal/background.js"
import type { Settings } from "../Settings.js"
import * as Catalogue from "./catalogue.js"
import * as FileRegistry from "./fileRegistry.js"
import { RegistryCopies } from "./registryCopies.js"
import * as RegistryUrls from "./registryUrl.js"
import { RegistryWatch } from "./registryWatch.js"
import * as RemoteRegistry from "./remoteRegistry.js"
import type { RegistrySource } from "./sourceStatus.js"

/** How long the first call waits for registries by address where servers are configured, in milliseconds. */
const maxWait = 2_000

/** Files are written in several steps: so long after a change they are read, and once more if one is broken. */
const settleTime = 100
const secondLook = 500

/** What all sources say together. */
export interface Sources {
  /** What is in use; reads it first if that was not done yet. The same object while nothing changes. */
  readonly current: Effect.Effect<Catalogue.Catalogue>
  /** Reads all files again, and asks the addresses. */
  readonly refresh: Effect.Effect<void>
  readonly statuses: Effect.Effect<ReadonlyArray<RegistrySource>>
}

interface One {
  readonly now: () => Catalogue.Catalogue
  readonly load: Effect.Effect<void>
  readonly follow: Effect.Effect<void, never, Scope.Scope>
  readonly refresh: Effect.Effect<void>
  readonly status: (now: number) => RegistrySource
}

interface Outside {
  readonly client: HttpClient.HttpClient
  readonly fs: FileSystem.FileSystem
  readonly path: Path.Path
}

/** The files at a path: `changed` runs after each change. */
const files = (
  location: string,
  outside: Outside,
  watch: RegistryWatch["Type"],
  changed: Effect.Effect<void>
): Effect.Effect<One> =>
  Effect.map(Effect.makeSemaphore(1), (permit) => {
    const registry = FileRegistry.make(location, true, outside)
    const read = permit.withPermits(1)(registry.read)
    const told = new Set<string>()
    const tell = Effect.suspend(() => {
      const all = registry.broken().map(({ message }) => message)
      const news = all.filter((message) => !told.has(message))
      told.clear()
      for (const message of all) told.add(message)
      return Effect.forEach(news, (message) => Effect.logWarning(message), { discard: true })
    })
    const readAgain = Effect.gen(function* () {
      let isNew = yield* read
      if (registry.broken().length > 0) {
        yield* Background.pause(secondLook)
        isNew = (yield* read) || isNew
      }
      if (isNew) yield* changed
      yield* tell
    })
    return {
      now: registry.now,
      load: Effect.asVoid(read),
      follow: Effect.gen(function* () {
        const events = yield* Queue.sliding<void>(1)
        yield* watch(location, () => events.unsafeOffer(undefined))
        return yield* Effect.forever(
          Effect.gen(function* () {
            yield* Queue.take(events)
            yield* Background.pause(settleTime)
            yield* Queue.takeAll(events)
            yield* readAgain
          })
        )
      }),
      refresh: Effect.flatMap(read, (isNew) => (isNew ? changed : Effect.void)),
      status: registry.status
    }
  })

/** The error of a source among the warnings, which callers know by file. */
const warningOf = ({ error, kind }: RegistrySource): ReadonlyArray<RegistryWarning> =>
  error === undefined || kind === "files" ? [] : [new RegistryWarning({ file: error.source, reason: error.detail })]

/** `changed` runs after each change of what is in use. */
export const make = Effect.fnUntraced(function* (
  { registry, servers }: Pick<Settings, "registry" | "servers">,
  outside: Outside,
  changed: Effect.Effect<void>
) {
  const scope = yield* Effect.scope
  const copies = yield* RegistryCopies
  const watch = yield* RegistryWatch
  const all = yield* Effect.forEach(registry, (given): Effect.Effect<One> => {
    const named = typeof given === "string" && RegistryUrls.isUrl(given)
    // What the configuration gives is checked already; a program that makes the settings itself may err.
    const source = named ? Either.getOrUndefined(RegistryUrls.fromOptions(given, "the settings")) : given
    return typeof source === "object"
      ? RemoteRegistry.make(outside.client, copies, source, changed)
      : files(typeof given === "string" ? given : given.url, outside, watch, changed)
  })
  const own = servers.some(({ implicit }) => !implicit)

  interface Merged {
    readonly parts: ReadonlyArray<Catalogue.Catalogue>
    readonly failures: string
    readonly whole: Catalogue.Catalogue
  }
  let merged: Merged | undefined
  const inUse = (at: number): Catalogue.Catalogue => {
    const parts = all.map((one) => one.now())
    const warnings = all.flatMap((one) => warningOf(one.status(at)))
    const failures = warnings.map(({ message }) => message).join("\n")
    const before = merged
    if (before?.failures === failures && parts.every((part, i) => before.parts[i] === part)) return before.whole
    const whole = Catalogue.merge(parts)
    merged = { parts, failures, whole: { ...whole, warnings: [...warnings, ...whole.warnings] } }
    return merged.whole
  }

  // Not in the fiber of the first caller: others wait for the same, and it may be interrupted.
  const loaded = yield* Deferred.make<void>()
  let left = all.length
  const arrived = Effect.suspend(() => (--left === 0 ? Deferred.succeed(loaded, undefined) : Effect.void))
  const keep = (one: One) =>
    Effect.zipRight(Effect.ensuring(one.load, arrived), Effect.provideService(one.follow, Scope.Scope, scope))
  const afterMaxWait = own
    ? Effect.zipRight(Background.pause(maxWait), Deferred.succeed(loaded, undefined))
    : Effect.void
  let begun = false
  const wait = Effect.suspend(() => {
    if (all.length === 0) return Effect.void
    if (begun) return Deferred.await(loaded)
    begun = true
    return Effect.forEach([...all.map(keep), afterMaxWait], (one) =>
      Effect.forkIn(Effect.interruptible(one), scope)
    ).pipe(Effect.zipRight(Deferred.await(loaded)))
  })
  const current = Effect.zipRight(wait, Effect.map(Clock.currentTimeMillis, inUse))

  const sources: Sources = {
    current,
    refresh: Effect.zipRight(
      current,
      Effect.forEach(all, (one) => one.refresh, { concurrency: "unbounded", discard: true })
    ),
    statuses: Effect.zipRight(
      current,
      Effect.map(Clock.currentTimeMillis, (now) => all.map((one) => one.status(now)))
    )
  }
  return sources
})
