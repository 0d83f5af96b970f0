/**
 * The steps of the pipeline over servers and files: `check`, `fetch`, `resolve`, `apply`, and `refresh`, which is all
 * of them.
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { RegistryFileFailed, RegistryUnanswered } from "../../errors/registry.js"
import { StoreHost } from "../../modelStore/host.js"
import type { Server } from "../../Server.js"
import { CurrentSettings } from "../../Settings.js"
import { type Applied, applyRecords, now } from "./apply.js"
import * as Ask from "./ask.js"
import * as Folder from "./folder.js"
import * as Inventory from "./inventory.js"
import {
  type ApplyOptions,
  type CheckOptions,
  decodeApply,
  decodeCheck,
  decodeFetch,
  decodeRefresh,
  decodeResolve,
  defaults,
  type FetchOptions,
  type RefreshOptions,
  type ResolveOptions
} from "./options.js"
import type { PresentFile } from "./plan.js"
import type { Rejected } from "./record.js"
import { type Fetched, type Resolved, resolve as resolveRecords } from "./resolve.js"
import * as Sources from "./sources.js"

// =============================================================================
// Models
// =============================================================================

/**
 * What `check` found.
 *
 * @since 0.4.0
 * @category models
 */
export interface Checked {
  /** The addresses that answer with a list of models: `http://host:11434/api/tags`, or that of the server. */
  readonly endpoints: ReadonlyArray<string>
  /** What was left out, and why. */
  readonly rejected: ReadonlyArray<Rejected>
}

/**
 * What `fetch` found.
 *
 * @since 0.4.0
 * @category models
 */
export interface FetchedModels {
  /** The lists of models, one for each server that answered. */
  readonly fetched: ReadonlyArray<Fetched>
  /** What was left out, and why. */
  readonly rejected: ReadonlyArray<Rejected>
}

/**
 * The end of a step, with what it came to.
 *
 * @since 0.4.0
 * @category models
 */
export interface StepDone<A> {
  /** What happened. */
  readonly type: "done"
  /** What it came to. */
  readonly result: A
}

/**
 * That all servers were asked: `refresh` joins what they said with the registry now.
 *
 * @since 0.4.0
 * @category models
 */
export interface ServersAsked {
  /** What happened. */
  readonly type: "asked"
  /** How many servers answered. */
  readonly answered: number
  /** How many were left out. */
  readonly rejected: number
}

// =============================================================================
// Asking
// =============================================================================

/** Asks servers, and makes of their answers what follows them. */
const asking = <A, E, R>(
  servers: ReadonlyArray<Server>,
  options: Ask.AskOptions,
  then: (answers: Ask.Answers) => Stream.Stream<A, E, R>
): Stream.Stream<Ask.AskEvent | A, E, R | HttpClient.HttpClient> =>
  Stream.unwrap(
    Effect.map(HttpClient.HttpClient, (client) => {
      const events: Array<Ask.AskEvent> = []
      const asked = Ask.askAll(client, servers, options, (event) => void events.push(event))
      return Stream.concat(
        asked,
        Stream.suspend(() => then(Ask.answersFrom(servers, events)))
      )
    })
  )

const unanswered = (asked: number, rejected: ReadonlyArray<Rejected>) =>
  new RegistryUnanswered({ asked, rejected }, { disableValidation: true })

const done = <A>(result: A): StepDone<A> => ({ type: "done", result })

/** The servers of an inventory are asked, and their lists are the end of it. */
const fetching = <A>(
  inventory: Inventory.Inventory,
  given: { readonly [K in keyof Ask.AskOptions]?: number | undefined },
  otherwise: Ask.AskOptions,
  make: (fetched: ReadonlyArray<Fetched>, rejected: ReadonlyArray<Rejected>) => A
) =>
  Effect.map(Sources.serversOf(inventory), (servers) => {
    const { timeout = otherwise.timeout, workers = otherwise.workers } = given
    return asking(servers, { timeout, workers }, (answers): Stream.Stream<StepDone<A>, RegistryUnanswered> => {
      const rejected = [...inventory.rejected, ...answers.rejected]
      return answers.fetched.length === 0
        ? Stream.fail(unanswered(servers.length, rejected))
        : Stream.make(done(make(answers.fetched, rejected)))
    })
  })

/** Asks servers, and returns the addresses of those that answer with a list of models. */
export const check = (given: CheckOptions) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { sources = [], ...ask } = yield* decodeCheck(given)
      const inventory = yield* Sources.gather(sources.length > 0 ? sources : [yield* Sources.registryOf(undefined)])
      return yield* fetching(
        inventory,
        ask,
        defaults.check,
        (fetched, rejected): Checked => ({ endpoints: fetched.map(({ source_url: url }) => url), rejected })
      )
    })
  )

/** Asks servers for their models. */
export const fetch = (given: FetchOptions) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const { sources, ...ask } = yield* decodeFetch(given)
      const inventory = yield* Sources.gather(sources)
      return yield* fetching(
        inventory,
        ask,
        defaults.fetch,
        (fetched, rejected): FetchedModels => ({ fetched, rejected })
      )
    })
  )

// =============================================================================
// Resolving, applying
// =============================================================================

const resolveOptions = Effect.gen(function* () {
  const { sha256 } = yield* StoreHost
  return { newId: Sources.newIdOf(sha256), now: (yield* now).toISOString() }
})

/** Joins fetched models with the registry. */
export const resolve = Effect.fnUntraced(function* (given: ResolveOptions) {
  const { fetched, keepMissing = false, registry } = yield* decodeResolve(given)
  const existing = Inventory.read(yield* Sources.inFolder(yield* Sources.registryOf(registry)))
  const { records, rejected } = resolveRecords(fetched, existing, {
    ...(yield* resolveOptions),
    keeps: () => keepMissing
  })
  const resolved: Resolved = { records, rejected: [...existing.rejected, ...rejected] }
  return resolved
})

/** Replaces the files of a registry. */
export const apply = Effect.fnUntraced(function* (given: ApplyOptions) {
  const { backup = false, dryRun = false, force = false, records, registry } = yield* decodeApply(given)
  const folder = yield* Sources.registryOf(registry)
  return yield* applyRecords(folder, () => Effect.succeed({ records, rejected: [] }), { backup, dryRun, force })
})

// =============================================================================
// Refreshing
// =============================================================================

/** The servers that a registry and the sources name. With no source, the servers of the settings are among them. */
const serversToAsk = Effect.fnUntraced(function* (registry: string, given: Inventory.Inventory, hasSources: boolean) {
  const present = yield* Folder.readFolder(registry)
  if (present === undefined && !hasSources) {
    return yield* new RegistryFileFailed({
      path: registry,
      detail: "is no folder that exists; name servers to make it of"
    })
  }
  const existing = Inventory.read(yield* Sources.inFiles(registry, present ?? []))
  const { servers: configured } = yield* CurrentSettings
  const urls = hasSources ? [] : configured.filter(({ implicit }) => !implicit)
  const own = urls.map((server) => [server.url, { server, facts: {} }] as const)
  return new Map([...own, ...existing.servers, ...given.servers])
})

/** Asks the servers of a registry, and brings its files up to date. */
export const refresh = (given: RefreshOptions) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const {
        backup = true,
        dryRun = false,
        force = false,
        keepMissing = false,
        registry: folder,
        sources = [],
        timeout = defaults.refresh.timeout,
        workers = defaults.refresh.workers
      } = yield* decodeRefresh(given)
      const registry = yield* Sources.registryOf(folder)
      const more = yield* Sources.gather(sources)
      const named = yield* serversToAsk(registry, more, sources.length > 0)
      const servers = yield* Sources.serversOf({ servers: named })
      const options = yield* resolveOptions
      const applied = (answers: Ask.Answers) => {
        const make = (files: ReadonlyArray<PresentFile>) =>
          Effect.map(Sources.inFiles(registry, files), (texts) => {
            // Servers that were added to the registry in the meantime were not asked.
            const latest = Inventory.read(texts)
            const keeps = (url: string) => keepMissing || !named.has(url)
            const { records, rejected } = resolveRecords(answers.fetched, latest, { ...options, keeps })
            return { records, rejected: [...more.rejected, ...latest.rejected, ...answers.rejected, ...rejected] }
          })
        return Effect.map(applyRecords(registry, make, { backup, dryRun, force }), (result) => done(result))
      }
      type Step = Stream.Stream<
        ServersAsked | StepDone<Applied>,
        Effect.Effect.Error<ReturnType<typeof applied>> | RegistryUnanswered,
        Effect.Effect.Context<ReturnType<typeof applied>>
      >
      return asking(servers, { timeout, workers }, (answers): Step => {
        const { fetched, rejected } = answers
        if (fetched.length === 0 && !force) {
          return Stream.fail(unanswered(servers.length, [...more.rejected, ...rejected]))
        }
        const asked: ServersAsked = { type: "asked", answered: fetched.length, rejected: rejected.length }
        return Stream.concat(Stream.succeed(asked), Stream.fromEffect(applied(answers)))
      })
    })
  )
