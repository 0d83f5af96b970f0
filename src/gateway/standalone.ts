/** A gateway with a server of its own: its settings, its store, and what all its requests share. */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Cortex from "../Cortex.js"
import * as ConfigFile from "../config/file.js"
import type * as Declared from "../config/gateway.js"
import * as Settings from "../config/gatewaySettings.js"
import * as ConfigReport from "../config/report.js"
import * as Config from "../config/resolve.js"
import { environment } from "../cortex/environment.js"
import type { InvalidConfig, StoreUnavailable } from "../Errors.js"
import { RemoteTokenCounter, SharedRemoteTokens } from "../Fleet.js"
import { CurrentReplicaLink } from "../fleet/replicas.js"
import * as Servers from "../Servers.js"
import * as Sessions from "../Sessions.js"
import type * as GatewayContext from "./GatewayContext.js"
import * as KeyCache from "./keys/KeyCache.js"
import * as Lifecycle from "./lifecycle.js"
import * as LeasedLimits from "./replicas/LeasedLimits.js"
import * as LimitTable from "./replicas/limitTable.js"
import * as ReplicaGroup from "./replicas/ReplicaGroup.js"
import * as RequestRecorder from "./requestLog/RequestRecorder.js"
import * as StoredResponses from "./storedResponses.js"
import * as Quotas from "./usage/quotas.js"
import * as Retention from "./usage/retention.js"
import * as UsageRecorder from "./usage/UsageRecorder.js"

/**
 * - `log`: receives messages for the operator; default: they are dropped
 * - `local`: manages the models of this machine, over HTTP
 * - `accessLog`, `metrics`, `shared`, `timeouts`: see `gateway/lifecycle`; the sessions of `shared` replace those that
 *   `cortex` would keep
 */
export interface ServeOptions extends Omit<Lifecycle.LifecycleOptions, "plan" | "watched"> {
  /** Overrides the environment and the configuration file. */
  readonly gateway?: Declared.GatewayOptions | undefined
  /** The fleet; omitted options come from the environment and the configuration file. */
  readonly cortex?: Cortex.Options | undefined
  /** Servers that come and go, in addition to those of the fleet; default: none. */
  readonly servers?: Servers.Service | undefined
}

/** See `Gateway.serve`. */
export const serve = Effect.fnUntraced(function* (
  options: ServeOptions
): Effect.fn.Return<
  Lifecycle.RunningGateway,
  InvalidConfig | StoreUnavailable,
  Scope.Scope | FileSystem.FileSystem | Path.Path
> {
  const { cortex = {}, gateway = {}, servers, ...rest } = options
  const files = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
  const alone = cortex.configFile === false
  const { named, path } =
    cortex.configFile === false ? { named: false, path: "" } : yield* ConfigFile.place(cortex.configFile)
  // What is stored survives a change of the settings, so the store is chosen once; whether it can be used is known
  // before anything is served.
  const fleet = yield* Config.settings(cortex)
  const database = options.shared?.store ?? (yield* Cortex.openStore(fleet, options.log ?? (() => {})))
  const sessions = options.shared?.sessions ?? (yield* Cortex.makeSessionStore(fleet.sessions, database))
  const store = Layer.succeed(Sessions.SessionStore, sessions)
  const storedKeys = database === undefined ? undefined : yield* KeyCache.make(database, options.log ?? (() => {}))
  // Its last counts are stored after the last request has ended.
  const usage = database === undefined ? undefined : yield* UsageRecorder.make(database, options.log ?? (() => {}))
  const requestRecorder =
    database === undefined ? undefined : yield* RequestRecorder.make(database, options.log ?? (() => {}))
  const shared: { -readonly [K in keyof GatewayContext.SharedState]?: GatewayContext.SharedState[K] } = {
    ...(database === undefined ? {} : { store: database, responses: StoredResponses.make(database) }),
    ...(storedKeys === undefined ? {} : { storedKeys }),
    ...(usage === undefined ? {} : { usage }),
    ...(requestRecorder === undefined ? {} : { requestRecorder }),
    ...options.shared
  }
  if (database !== undefined && usage !== undefined) {
    const limits =
      options.shared?.keyLimits ??
      (yield* LeasedLimits.make(LimitTable.exchangeIn(database), options.log ?? (() => {})))
    shared.keyLimits = Quotas.limiter(new Quotas.Quotas(database, usage), limits)
  }
  // So does the count of the tokens of remote servers.
  const remoteTokens = options.shared?.remoteTokens ?? new RemoteTokenCounter()
  const channel = database?.messages ?? options.shared?.channel
  const replicas =
    channel === undefined ? undefined : yield* ReplicaGroup.make(channel, remoteTokens, options.log ?? (() => {}))
  if (replicas !== undefined) shared.replicas = replicas
  const counted = Layer.merge(
    Layer.succeed(SharedRemoteTokens, remoteTokens),
    Layer.succeed(CurrentReplicaLink, replicas)
  )
  let usageRetention: number | undefined
  if (database !== undefined) yield* Retention.run(database, () => usageRetention, options.log ?? (() => {}))
  // Without the file there would be no keys: its disappearance must not open the gateway.
  let needed = named
  const read = Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const file = yield* ConfigFile.readFile(path, needed)
    needed ||= yield* Effect.orElseSucceed(fs.exists(path), () => true)
    return file
  })
  const plan = Effect.gen(function* () {
    const file = alone ? {} : yield* read
    const variable = alone ? () => undefined : environment
    const from = {
      variable,
      file: file.gateway ?? {},
      path,
      hasStoredKeys: storedKeys?.isUsed ?? false
    }
    const { places, settings } = yield* Settings.resolvePlaces(gateway, from)
    usageRetention = settings.usageRetention === false ? undefined : settings.usageRetention
    const options = needed ? { ...cortex, configFile: path } : cortex
    const resolved = yield* Config.resolve(options)
    const keys = { names: settings.keys.map(({ name }) => name), origin: places.keys?.origin ?? "default" }
    const explained = {
      file: resolved.file,
      fleet: ConfigReport.fleetShown(resolved),
      gateway: ConfigReport.gatewayShown(settings, places, keys)
    }
    const services = Cortex.layer(options, { store })
    const counting = Layer.provide(services, counted)
    return {
      settings,
      explained,
      services: servers === undefined ? counting : Layer.provideMerge(counting, Layer.succeed(Servers.Servers, servers))
    }
  }).pipe(Effect.provide(files))
  return yield* Lifecycle.make({ ...rest, shared, plan, ...(alone ? {} : { watched: path }) })
})
