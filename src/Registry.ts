/**
 * Which models exist, and which of the user's servers have them.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Path from "@effect/platform/Path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { type InvalidRequest, ModelNotFound, NoServers, type RegistryWarning, type Unreachable } from "./Errors.js"
import { Fleet } from "./Fleet.js"
import * as Direct from "./internal/direct.js"
import * as Model from "./Model.js"
import { isAuto } from "./modelSelection/candidate.js"
import { EmbeddedModel, type EmbeddedModelInfo, hostsOf } from "./registry/embeddedModel.js"
import * as FileRegistry from "./registry/fileRegistry.js"
import * as KnownModels from "./registry/knownModels.js"
import { chatHosts, type LlmParams, paramsOf } from "./registry/llmParams.js"
import * as LocalServers from "./registry/localServers.js"
import * as Lists from "./registry/modelLists.js"
import { answers, isThere, type Offer, offersOver, silent, unreachable } from "./registry/offers.js"
import * as RegistrySources from "./registry/registrySources.js"
import { type KnownServer, namesOn } from "./registry/serverEntry.js"
import { serverInfoOf } from "./registry/serverInfo.js"
import type { RegistrySource } from "./registry/sourceStatus.js"
import { sourcesOf } from "./registry/sources.js"
import * as WakeOnLan from "./registry/wakeOnLan.js"
import * as Server from "./Server.js"
import { Servers } from "./Servers.js"
import { CurrentSettings } from "./Settings.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  ModelsOptions,
  /**
   * @since 0.1.0
   * @category models
   */
  SearchOptions
} from "./registry/knownModels.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  LlmParams
} from "./registry/llmParams.js"
export type {
  /**
   * @since 0.2.0
   * @category models
   */
  Offer
} from "./registry/offers.js"
export type {
  /**
   * @since 0.3.0
   * @category models
   */
  RegistrySource
} from "./registry/sourceStatus.js"

// =============================================================================
// Models
// =============================================================================

/**
 * What is known about a model.
 *
 * @since 0.1.0
 * @category models
 */
export type ModelInfo = Model.ModelInfo

/**
 * A server that has, or may have, a model.
 *
 * @since 0.1.0
 * @category models
 */
export type Host = Server.Host

/**
 * A server and what is known of it at this moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerStatus {
  /** The server's address. */
  readonly url: string
  /** What it speaks; `undefined` if that is not known. */
  readonly protocol: Server.Protocol | undefined
  /** Whether it answered. */
  readonly reachable: boolean
  /** Why it is not reachable. */
  readonly problem: string | undefined
  /** The names of the models that it has. */
  readonly models: ReadonlyArray<string>
  /** When it last answered or failed, in milliseconds since the epoch; `undefined` if it has not yet. */
  readonly checkedAt: number | undefined
  /** Under which address its API was found, where that is not where it is looked for first. */
  readonly api?: string
  /** The names of the headers that every request to it has. */
  readonly headers?: ReadonlyArray<string>
}

/**
 * Which models and servers there are.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service extends WakeOnLan.Waking {
  /** The model of the engine in this process. */
  readonly embedded: EmbeddedModelInfo
  /** Sorted; the names of the registry files. */
  readonly families: Effect.Effect<ReadonlyArray<string>>
  /** Unique names, sorted: the catalogue, and whatever the servers have. */
  readonly models: (options?: KnownModels.ModelsOptions) => Effect.Effect<ReadonlyArray<string>>
  /**
   * The facts about a model, without addresses. Where servers have reported how much context they allow, that holds,
   * and not what the model could do.
   */
  readonly modelInfo: (model: string) => Effect.Effect<ModelInfo, ModelNotFound>
  /** Names that contain `query`, the largest model first. */
  readonly searchModels: (
    query: string,
    options?: KnownModels.SearchOptions
  ) => Effect.Effect<ReadonlyArray<string>, InvalidRequest>
  /**
   * Every server, in the configured order. Servers that were never asked are waited for. Of the others an outdated
   * state is refreshed in the background and reported as it is after 50 ms at most: `checkedAt` tells its age.
   */
  readonly servers: Effect.Effect<ReadonlyArray<ServerStatus>>
  /**
   * Every server once, as soon as its state is known: at once if that is fresh, else when it has answered or failed.
   * Ends after the last one.
   */
  readonly serverStream: Stream.Stream<ServerStatus>
  /**
   * The models of the servers that answer. Once one of them has answered, the others are waited for only briefly.
   */
  readonly offers: Effect.Effect<ReadonlyArray<Offer>>
  /** The servers of a model, in the order in which they are configured. */
  readonly listModelServers: (model: string) => Effect.Effect<ReadonlyArray<Server.ServerInfo>>
  /** The first of them, or the one at `url`. */
  readonly serverInfo: (model: string, url?: string) => Effect.Effect<Server.ServerInfo, ModelNotFound | NoServers>
  /**
   * A random server that answers and has the model (default: the configured one, else any), one that is not resting if
   * possible.
   */
  readonly llmParams: (model?: string) => Effect.Effect<LlmParams, ModelNotFound | NoServers>
  /** The same for any model. */
  readonly randomLlmParams: Effect.Effect<LlmParams, NoServers>
  /** The servers of a model, those that are certain to have it first. */
  readonly locate: (model: string) => Effect.Effect<ReadonlyArray<Host>, ModelNotFound | NoServers>
  /** The error of `locate` when no server has the model. */
  readonly missing: (model: string) => Effect.Effect<never, ModelNotFound | NoServers>
  /** The servers that could not be asked which models they have, at once, as far as it is known. */
  readonly unreachable: () => ReadonlyArray<Unreachable>
  /** A server has answered that it does not have a model after all. */
  readonly markAbsent: (model: string, url: string) => Effect.Effect<void>
  /** Reads the sources of the registry, and every server's list, again. */
  readonly refresh: Effect.Effect<void>
  /** Where the registry comes from (the setting `registry`), in that order, with the state of each source. */
  readonly sources: Effect.Effect<ReadonlyArray<RegistrySource>>
  /** What in the registry files could not be used. */
  readonly warnings: Effect.Effect<ReadonlyArray<RegistryWarning>>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Registry extends Context.Tag("aicortex/Registry")<Registry, Service>() {}

/**
 * The folder of the built-in catalogue.
 *
 * @since 0.1.0
 * @category tags
 */
export class CatalogueLocation extends Context.Tag("aicortex/Registry/CatalogueLocation")<
  CatalogueLocation,
  string
>() {}

// =============================================================================
// implementation
// =============================================================================

/** How many models of the servers an error lists. */
const maxListed = 20

const statusOf = (known: KnownServer): ServerStatus => ({
  url: known.server.url,
  protocol: known.protocol,
  reachable: answers(known),
  problem: known.problem,
  models: answers(known) || known.isFixed ? namesOn(known) : [],
  checkedAt: known.checkedAt,
  ...(known.server.api === undefined ? {} : { api: known.server.api }),
  ...(known.server.headers === undefined ? {} : { headers: Object.keys(known.server.headers) })
})

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const settings = yield* CurrentSettings
  const fleet = yield* Fleet
  const location = yield* CatalogueLocation
  const embedded = yield* EmbeddedModel
  const embeddedKey = Model.canonical(embedded.info().model_name)
  const embeddedHosts = hostsOf(embedded)
  const started = yield* Servers
  /** The engine in this process has the model, and no other on this machine. */
  const isEmbedded = (model: string) =>
    Model.canonical(model) === embeddedKey && !LocalServers.has(started, embeddedKey)
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)

  // ---------------------------------------------------------------------------
  // catalogue
  // ---------------------------------------------------------------------------

  const builtIn = yield* FileRegistry.once(location, { fs, path })
  let reload: Effect.Effect<void> = Effect.void
  const own = yield* RegistrySources.make(
    settings,
    { client, fs, path },
    Effect.suspend(() => reload)
  )

  // ---------------------------------------------------------------------------
  // servers
  // ---------------------------------------------------------------------------

  const sources = Effect.flatMap(own.current, (mine) => sourcesOf(settings.servers, mine, started.now()))
  const limits = {
    concurrency: settings.discoveryConcurrency,
    timeout: settings.discoveryTimeout,
    ttl: settings.discoveryTtl
  }
  const lists = yield* Lists.make(sources, limits, {
    answered: (url, milliseconds, transfer) => {
      fleet.roundTrip(url, milliseconds)
      if (transfer !== undefined) fleet.transferred(url, transfer)
    },
    resident: fleet.resident
  })
  reload = lists.reload
  const models = KnownModels.make({
    engine: { key: embeddedKey, info: embedded.info },
    own: own.current,
    builtIn,
    lists
  })
  const waking = WakeOnLan.makeWaking(yield* WakeOnLan.make(lists.probe), lists, fleet)
  yield* LocalServers.follow(started, lists, fleet)

  const missing = Effect.fnUntraced(function* (model: string) {
    const catalogue = yield* models.catalogue
    const key = Model.canonical(model)
    const there = (yield* lists.now).filter(isThere)
    const hosted = new Map<string, string>()
    for (const known of there.filter(answers)) {
      for (const [name, info] of known.models) hosted.set(name, info.model_name)
    }
    const unasked = unreachable(there)
    if (catalogue.models.has(key) || hosted.has(key)) {
      return yield* new NoServers({
        model,
        servers: there.map((known) => known.server.url),
        available: [...hosted.values()].sort().slice(0, maxListed),
        ...unasked
      })
    }
    // A name that no server has would only lead to the next error.
    const names = hosted.size > 0 ? [...hosted.values()].sort() : yield* models.recorded
    return yield* new ModelNotFound({
      model,
      suggestions: Model.nearest(model, names),
      ...(hosted.size === 0 ? {} : { available: names.slice(0, maxListed) }),
      ...unasked
    })
  })

  /**
   * Servers that could not be asked may have the model. That is worth an attempt unless the model is unknown everywhere
   * while others did answer: then it is more likely that the name is wrong.
   */
  const uncertain = Effect.fnUntraced(function* (model: string, hosts: ReadonlyArray<Host>) {
    const there = (yield* lists.now).filter(isThere)
    if (!there.some(answers) || (yield* lists.claims(model)).length > 0) return hosts
    const catalogue = yield* models.catalogue
    if (catalogue.models.has(Model.canonical(model))) return hosts
    const asleep = hosts.filter(waking.asleep)
    return asleep.length > 0 ? asleep : yield* missing(model)
  })

  const locate = (model: string): Effect.Effect<ReadonlyArray<Host>, ModelNotFound | NoServers> =>
    isEmbedded(model)
      ? Effect.succeed(embeddedHosts)
      : Direct.make(
          () => {
            const hosts = lists.located(model)
            if (hosts?.[0]?.certain !== true) return undefined
            LocalServers.want(started, hosts)
            return Exit.succeed(hosts)
          },
          () =>
            Effect.flatMap(lists.locate(model), (hosts) => {
              const [first] = hosts
              if (first === undefined) return missing(model)
              LocalServers.want(started, hosts)
              return first.certain ? Effect.succeed(hosts) : uncertain(model, hosts)
            })
        )

  const toServerInfo = (host: Host) => serverInfoOf(host, fleet.snapshot(host.server.url, host.model))

  const hostsToShow = Effect.fnUntraced(function* (model: string) {
    if (isEmbedded(model)) return embeddedHosts
    yield* lists.known("unknown")
    return yield* lists.claims(model)
  })

  const listModelServers = (model: string) => Effect.map(hostsToShow(model), (hosts) => hosts.map(toServerInfo))

  const serverInfo = Effect.fnUntraced(function* (model: string, url?: string) {
    const infos = yield* listModelServers(model)
    const first = infos[0]
    if (first === undefined) return yield* missing(model)
    if (url === undefined) return first
    const wanted = Either.match(Server.normalizeUrl(url), {
      onLeft: Server.redactUserInfo,
      onRight: (normal) => Server.redactUserInfo(normal.href).replace("//…@", "//").replace(/\/+$/, "")
    })
    // The engine in this process has a URL that is no address.
    const found = infos.find((info) => info.url === wanted || info.url === url)
    if (found !== undefined) return found
    const there = (yield* lists.now).find((known) => known.server.url === wanted)
    const available = there === undefined ? [] : [...there.models.values()].map((info) => info.model_name).sort()
    return yield* new NoServers({
      model,
      servers: [wanted],
      available: available.slice(0, maxListed),
      ...unreachable(there === undefined ? [] : [there])
    })
  })

  const offers = offersOver(lists, models.catalogue)

  // ---------------------------------------------------------------------------
  // parameters for other clients
  // ---------------------------------------------------------------------------

  const randomLlmParams = Effect.gen(function* () {
    const there = (yield* lists.known("unknown")).filter(isThere)
    const chosen = yield* paramsOf(chatHosts(there), fleet.snapshot)
    if (chosen !== undefined) return chosen
    return yield* new NoServers({
      model: settings.model,
      servers: there.map((known) => known.server.url),
      available: [],
      ...unreachable(there)
    })
  })

  const llmParams = Effect.fnUntraced(function* (model: string = settings.model) {
    if (isAuto(model)) return yield* randomLlmParams
    // A user of this address has no failover: only a server that answers, and has the model.
    const hosts = (yield* locate(model)).filter((host) => host.certain && host.protocol !== "embedded")
    const chosen = yield* paramsOf(hosts, fleet.snapshot)
    return chosen ?? (yield* missing(model))
  })

  return Registry.of({
    embedded,
    families: models.families,
    models: models.models,
    modelInfo: models.modelInfo,
    searchModels: models.searchModels,
    servers: Effect.map(lists.known("unknown"), (all) => all.filter(isThere).map(statusOf)),
    serverStream: lists.stream.pipe(Stream.filter(isThere), Stream.map(statusOf)),
    offers,
    listModelServers,
    serverInfo,
    llmParams,
    randomLlmParams,
    locate,
    missing,
    unreachable: () => silent(lists.peek()),
    ...waking,
    markAbsent: lists.markAbsent,
    sources: own.statuses,
    refresh: Effect.zipRight(own.refresh, lists.refresh),
    warnings: Effect.map(models.catalogue, ({ warnings }) => warnings)
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Registry,
  never,
  CurrentSettings | Fleet | FileSystem.FileSystem | Path.Path | HttpClient.HttpClient | CatalogueLocation
> = Layer.scoped(Registry, make)

// =============================================================================
// accessors
// =============================================================================

/**
 * What in the registry files could not be used.
 *
 * @since 0.1.0
 * @category accessors
 */
export const warnings = Effect.flatMap(Registry, ({ warnings }): Service["warnings"] => warnings)
