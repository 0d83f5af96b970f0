/** The services wired together for a page: servers are reached by `fetch`, and there are no files. */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import type { Backend } from "../Backend.js"
import * as Benchmark from "../Benchmark.js"
import * as ResumeSupport from "../backend/resumeSupport.js"
import * as Wired from "../backend/wired.js"
import * as Chat from "../Chat.js"
import * as Conditions from "../Conditions.js"
import type { PortableServices } from "../Cortex.js"
import * as Config from "../config/resolve.js"
import * as Embeddings from "../Embeddings.js"
import { InvalidConfig } from "../Errors.js"
import * as Execute from "../Execute.js"
import * as Failover from "../Failover.js"
import * as Fleet from "../Fleet.js"
import { failure as unsupported } from "../internal/unsupported.js"
import * as ModelSelection from "../ModelSelection.js"
import * as Probes from "../Probes.js"
import * as Registry from "../Registry.js"
import * as ResponseCache from "../ResponseCache.js"
import * as Router from "../Router.js"
import * as Sessions from "../Sessions.js"
import { CurrentSettings } from "../Settings.js"
import * as Fetch from "../transport/fetch.js"
import * as TransportClient from "../transport/httpClient.js"
import * as RegistryFiles from "./registryFiles.js"
import * as PageStore from "./store.js"
import * as StoredLists from "./storedLists.js"

/** Options that mean nothing in a page: it has no files, and its connections are the browser's. */
type Elsewhere =
  | "ca"
  | "cacheFolder"
  | "configFile"
  | "defaultModel"
  | "defaultSessionFolder"
  | "defaultStateFile"
  | "defaultStore"
  | "demoModel"
  | "models"
  | "proxy"
  | "registryCopies"
  | "stateFile"

const elsewhere: { readonly [K in Elsewhere]: string } = {
  ca: "certificates are the browser's",
  cacheFolder: "a page has no files",
  configFile: "a page has no files",
  defaultModel: "give `model`",
  defaultSessionFolder: "a page has no files",
  defaultStateFile: "a page has no files",
  defaultStore: "a page has no files",
  demoModel: "the built-in model runs on Node only",
  models: "a page has no files",
  proxy: "connections are the browser's",
  registryCopies: "a page has no files; see `storage`",
  stateFile: "a page has no files"
}

/**
 * The settings of a fleet in a page: those of `aicortex/promise` that need no files. Nothing comes from elsewhere, and no
 * server is asked that is not named here. `registry` are addresses of registry files.
 */
export interface BrowserOptions extends Omit<Config.ConfigOptions, Elsewhere> {
  /**
   * Where lists of models and registry files are kept for the next visit: `false` for nowhere. Lists are believed as long
   * as `discoveryTtl` says, registry files for an hour. Default: `localStorage`, where there is one.
   */
  readonly storage?: PageStore.KeyValueStorage | false | undefined
}

const source = "the options"

const settings = (
  options: Omit<BrowserOptions, "storage">
): Effect.Effect<Config.Resolved["settings"], InvalidConfig, FileSystem.FileSystem | Path.Path> => {
  for (const [field, reason] of Object.entries(elsewhere)) {
    if (field in options) {
      return Effect.fail(new InvalidConfig({ source, field, reason: `does not exist in a browser: ${reason}` }))
    }
  }
  if (typeof options.sessions?.folder === "string") {
    const reason = "does not exist in a browser: a page has no files"
    return Effect.fail(new InvalidConfig({ source, field: "sessions.folder", reason }))
  }
  if (
    Array.isArray(options.servers) &&
    options.servers.some((server: unknown) => Predicate.hasProperty(server, "wake"))
  ) {
    const reason = "does not exist in a browser: a page sends no datagrams"
    return Effect.fail(new InvalidConfig({ source, field: "servers.wake", reason }))
  }
  const { registry } = options
  const sources = Array.isArray(registry) ? registry.map(RegistryFiles.absolute) : RegistryFiles.absolute(registry)
  return Config.settings({ ...options, registry: sources, configFile: false })
}

const nodeOnly = { field: "model", reason: "the built-in model runs on Node only: name a model of your servers" }

const noEngine: Backend = (() => {
  const refuse = (sink: { readonly fail: (failure: ReturnType<typeof unsupported>) => void }) => {
    sink.fail(unsupported([nodeOnly]))
    return { abort() {}, pause() {}, resume() {} }
  }
  return {
    unsupported: () => [nodeOnly],
    start: (_server, _request, sink) => refuse(sink),
    resume: (_server, _request, _partial, sink) => refuse(sink),
    cannotEmbed: () => [nodeOnly],
    embed: (_server, _request, sink) => refuse(sink)
  }
})()

/** Everything, in a page. Fails with `InvalidConfig` where an option cannot be used. */
export const layer = ({ storage, ...options }: BrowserOptions): Layer.Layer<PortableServices, InvalidConfig> => {
  const store = PageStore.make(storage)
  const plainClient = Layer.provide(TransportClient.layer, Fetch.layer)
  const files = RegistryFiles.layerFiles
  const configured = Layer.provide(Layer.effect(CurrentSettings, settings(options)), files)
  const client = Layer.provide(StoredLists.layer(store), [plainClient, configured])
  const registry = Registry.layer.pipe(
    Layer.provide(Layer.succeed(Registry.CatalogueLocation, "")),
    Layer.provide(Layer.merge(Probes.layer, RegistryFiles.layerCopies(store))),
    Layer.provideMerge(Fleet.layer)
  )
  const memory = Layer.unwrapEffect(Effect.map(CurrentSettings, ({ cache }) => ResponseCache.layerStoreMemory(cache)))
  const sessions = Layer.effect(
    Sessions.SessionStore,
    Effect.flatMap(CurrentSettings, ({ sessions: { folder: _, inMemory: _memory, ...bounds } }) =>
      Sessions.makeStoreMemory(bounds)
    )
  )
  return Execute.layer.pipe(
    Layer.provideMerge(Layer.merge(Chat.layer, Embeddings.layer)),
    Layer.provideMerge(Layer.merge(Failover.layer, Benchmark.layer)),
    Layer.provideMerge(ResponseCache.layer),
    Layer.provideMerge(ModelSelection.layer),
    Layer.provide(Wired.layer(Effect.succeed(noEngine))),
    Layer.provide(memory),
    Layer.provideMerge(Conditions.layer),
    Layer.provideMerge(Router.layer),
    Layer.provideMerge(registry),
    Layer.provideMerge(Sessions.layer),
    Layer.provide([sessions, ResumeSupport.layer, client, files]),
    Layer.provideMerge(configured),
    Layer.provideMerge(Fetch.layer)
  )
}
