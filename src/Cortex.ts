/**
 * All services wired together with sensible defaults, for Node. Any of them can be replaced by providing another layer.
 *
 * ```ts
 * import { Chat, Cortex } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Chat.text("Why is the sky blue?").pipe(
 *   Effect.provide(Cortex.layer({ servers: ["http://gpu-1:11434", "http://gpu-2:11434"] }))
 * )
 * ```
 *
 * @since 0.1.0
 */

import { freemem } from "node:os"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpClient from "@effect/platform/HttpClient"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as Path from "@effect/platform/Path"
import * as EffectConfig from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Backends } from "./Backend.js"
import * as Benchmark from "./Benchmark.js"
import * as Embedded from "./backend/embedded.js"
import * as ResumeSupport from "./backend/resumeSupport.js"
import * as Wired from "./backend/wired.js"
import * as Chat from "./Chat.js"
import * as Conditions from "./Conditions.js"
import type * as Config from "./config/resolve.js"
import * as ListingServices from "./cortex/listingServices.js"
import * as StoreHost from "./cortex/modelStoreHost.js"
import { wrongPart } from "./cortex/parts.js"
import * as ResourceReader from "./cortex/resourceReader.js"
import * as Terminal from "./cortex/terminal.js"
import { replaceFile } from "./cortex/writeFile.js"
import * as Embeddings from "./Embeddings.js"
import type { InvalidConfig } from "./Errors.js"
import * as Execute from "./Execute.js"
import * as Failover from "./Failover.js"
import type * as Fleet from "./Fleet.js"
import * as LayerStack from "./internal/layerStack.js"
import { makeFolder } from "./internal/makeFolder.js"
import * as ModelSelection from "./ModelSelection.js"
import * as ModelStore from "./ModelStore.js"
import type * as Registry from "./Registry.js"
import * as RegistryPipeline from "./RegistryPipeline.js"
import * as ResponseCache from "./ResponseCache.js"
import * as Router from "./Router.js"
import * as KeyValue from "./responseCache/keyValue.js"
import type * as Sessions from "./Sessions.js"
import { CurrentSettings } from "./Settings.js"
import type { Transport } from "./Transport.js"
import * as ByRuntime from "./transport/byRuntime.js"

/**
 * The options of a program: see `config/resolve` for each and for other sources.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Config.ConfigOptions {}

/**
 * What `layer` provides.
 *
 * @since 0.1.0
 * @category models
 */
export type Services = PortableServices | ModelStore.ModelStore | RegistryPipeline.RegistryPipeline

/**
 * What can be had in a browser too: all that needs no files.
 *
 * @since 0.3.0
 * @category models
 */
export type PortableServices =
  | Benchmark.Benchmark
  | Chat.Chat
  | Conditions.Conditions
  | Embeddings.Embeddings
  | Execute.Execute
  | Failover.Failover
  | ModelSelection.ModelSelection
  | ResponseCache.ResponseCache
  | Sessions.Sessions
  | Router.Router
  | Registry.Registry
  | Fleet.Fleet
  | CurrentSettings
  | Transport

export { layerSettings, makeSessionStore, makeStore, openStore } from "./cortex/listingServices.js"

/**
 * The backends over a transport: Ollama, OpenAI, Anthropic, and the engine in this process.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerBackends = (options: Embedded.EmbeddedOptions = {}): Layer.Layer<Backends, never, Transport> =>
  Wired.layer(Embedded.scoped(options))

/** The limit of a container counts too. */
const layerMemory = Layer.succeed(ModelSelection.LocalMemory, () => process.availableMemory?.() ?? freemem())

/**
 * What keeps a folder of registry files true, on this machine.
 *
 * @since 0.4.0
 * @category layers
 */
export const layerRegistryPipeline: Layer.Layer<
  RegistryPipeline.RegistryPipeline,
  never,
  CurrentSettings | HttpClient.HttpClient | FileSystem.FileSystem | Path.Path
> = Layer.provide(RegistryPipeline.layer, StoreHost.layer)

/** The folder is created when first needed: most programs never cache an answer. It is private. */
const layerFolder = (
  folder: string
): Layer.Layer<KeyValueStore.KeyValueStore, never, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(
    KeyValueStore.KeyValueStore,
    Effect.gen(function* () {
      const path = yield* Path.Path
      const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
      const files = yield* makeFolder(folder, { mode: 0o700 }).pipe(
        Effect.zipRight(Layer.build(KeyValueStore.layerFileSystem(folder))),
        Effect.scoped,
        Effect.map(Context.get(KeyValueStore.KeyValueStore)),
        Effect.provide(context),
        // The memoised result must not be the interruption of its first user.
        Effect.uninterruptible,
        Effect.cached
      )
      return KeyValueStore.make({
        get: (key) => Effect.flatMap(files, (store) => store.get(key)),
        getUint8Array: (key) => Effect.flatMap(files, (store) => store.getUint8Array(key)),
        // A process that ends in the middle leaves the old content or the new one.
        set: (key, value) =>
          typeof value === "string"
            ? Effect.zipRight(
                files,
                Effect.provide(replaceFile(path.join(folder, encodeURIComponent(key)), value), context)
              )
            : Effect.flatMap(files, (store) => store.set(key, value)),
        remove: (key) => Effect.flatMap(files, (store) => store.remove(key)),
        clear: Effect.flatMap(files, (store) => store.clear),
        size: Effect.flatMap(files, (store) => store.size)
      })
    })
  )

/** As large as the settings say. */
const layerResponseStore = (folder: string | undefined) =>
  Layer.unwrapEffect(
    Effect.map(CurrentSettings, ({ cache }) =>
      folder === undefined
        ? ResponseCache.layerStoreMemory(cache)
        : Layer.provide(KeyValue.layerStoreKeyValue(cache), layerFolder(folder))
    )
  )

/**
 * Parts that can be replaced, each by a layer.
 *
 * What such a layer fails with, `E`, and what it needs, `R`, are those of the whole; what a store (`S`), a router (`T`)
 * and backends (`B`) need is, unless the other parts give it to them.
 *
 * @example
 * import { Cortex, Sessions } from "aicortex"
 *
 * const small = Cortex.layer({}, { store: Sessions.layerStoreMemory({ maxSessions: 10 }) })
 *
 * @since 0.1.0
 * @category models
 */
export interface Replacements<out E = never, out R = never, out S = R, out T = R, out B = R> {
  /** The session store; default: the configured store, or memory. */
  readonly store?:
    | Layer.Layer<Sessions.SessionStore, E, CurrentSettings | FileSystem.FileSystem | Path.Path | S>
    | undefined
  /** The response store for calls with `cache`; default: memory, or the configured folder. */
  readonly responses?: Layer.Layer<ResponseCache.ResponseCacheStore, E, R> | undefined
  /** How busy this machine is, and how good the lines to remote servers are. */
  readonly conditions?: Layer.Layer<Conditions.Conditions, E, R> | undefined
  /** The router. */
  readonly router?: Layer.Layer<Router.Router, E, Registry.Registry | Fleet.Fleet | CurrentSettings | T> | undefined
  /** What speaks to servers, by protocol. */
  readonly backends?: Layer.Layer<Backends, E, Transport | B> | undefined
  /** How chat requests are sent. */
  readonly transport?: Layer.Layer<Transport, E, R> | undefined
}

/** What is left of what a store, a router and backends need: the compiler infers what the others give them, too. */
type Needs<S, T, B> =
  | Exclude<S, CurrentSettings | FileSystem.FileSystem | Path.Path>
  | Exclude<T, Registry.Registry | Fleet.Fleet | CurrentSettings>
  | Exclude<B, Transport>

/** Those that `layerServices` takes. */
const parts = ["store", "responses", "conditions", "router", "backends"] as const satisfies ReadonlyArray<
  keyof Replacements
>

/**
 * How chat requests are sent on Node: straight to the servers. `layer` has proxies and authorities as its settings say.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTransport: Layer.Layer<Transport> = ByRuntime.layer

/**
 * The services over settings, an HTTP client for control calls, files and a transport: what remains to be provided is
 * how to reach the outside world. Fails with `InvalidConfig` where there is no such part to be replaced.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerServices = <E = never, R = never, S = never, T = never, B = never>(
  options: Options = {},
  replace: Omit<Replacements<E, R, S, T, B>, "transport"> = {}
): Layer.Layer<
  Exclude<Services, CurrentSettings | Transport>,
  InvalidConfig | E,
  CurrentSettings | HttpClient.HttpClient | FileSystem.FileSystem | Path.Path | Transport | R | Needs<S, T, B>
> => services<E, R | Needs<S, T, B>>(options, replace as Omit<Replacements<E, R | Needs<S, T, B>>, "transport">)

const services = <E, R>(
  options: Options,
  replace: Omit<Replacements<E, R>, "transport">
): Layer.Layer<
  Exclude<Services, CurrentSettings | Transport>,
  InvalidConfig | E,
  CurrentSettings | HttpClient.HttpClient | FileSystem.FileSystem | Path.Path | Transport | R
> => {
  const wrong = wrongPart(replace, parts)
  if (wrong !== undefined) return Layer.fail(wrong)
  type Outside = CurrentSettings | FileSystem.FileSystem | Path.Path
  const responses: Layer.Layer<ResponseCache.ResponseCacheStore, E, Outside | R> =
    replace.responses ?? layerResponseStore(options.cacheFolder ?? undefined)
  const conditions: Layer.Layer<Conditions.Conditions, E, Fleet.Fleet | CurrentSettings | HttpClient.HttpClient | R> =
    replace.conditions ?? LayerStack.last(ResourceReader.layer, Conditions.layer)
  const store: Layer.Layer<Sessions.SessionStore, E | InvalidConfig, Outside | R> =
    replace.store ?? ListingServices.layerSessionStore
  const backends: Layer.Layer<Backends, E, Transport | R> =
    replace.backends ?? layerBackends({ modelPath: options.demoModel ?? undefined })
  // The selection asks the backends too, for what a server cannot express.
  const calls = LayerStack.last(
    responses,
    backends,
    LayerStack.stack(
      LayerStack.last(layerMemory, ModelSelection.layer),
      ResponseCache.layer,
      Failover.layer,
      Benchmark.layer,
      Chat.layer,
      Embeddings.layer,
      LayerStack.last(Terminal.layer, Execute.layer)
    )
  )
  return LayerStack.last(
    ResumeSupport.layer,
    LayerStack.stack(
      ListingServices.layerKnown(store),
      LayerStack.last(layerMemory, StoreHost.layer, ModelStore.layer),
      layerRegistryPipeline,
      replace.router ?? Router.layer,
      conditions,
      calls
    )
  )
}

/**
 * Everything, on Node. Fails with `InvalidConfig` where a setting cannot be used, or there is no such part to be
 * replaced.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <E = never, R = never, S = never, T = never, B = never>(
  options: Options = {},
  replace: Replacements<E, R, S, T, B> = {}
): Layer.Layer<Services, InvalidConfig | E, R | Needs<S, T, B>> => {
  const wrong = wrongPart(replace, [...parts, "transport"])
  if (wrong !== undefined) return Layer.fail(wrong)
  const { transport, ...others } = replace as Replacements<E, R | Needs<S, T, B>>
  return ListingServices.layerOn(options, services(options, others), transport)
}

/**
 * Everything, on Node, where options come from a program's own configuration: each is a `Config` of Effect, and so are
 * all of them, if they are one. What is left out comes from where it ever does; `AICORTEX_SERVERS` and the like are
 * asked of the same `ConfigProvider`. Fails with a `ConfigError` where one of them cannot be had.
 *
 * @example
 * import { Cortex } from "aicortex"
 * import { Config } from "effect"
 *
 * const cortex = Cortex.layerConfig({
 *   servers: Config.array(Config.string(), "LLM_SERVERS"),
 *   model: Config.withDefault(Config.string("LLM_MODEL"), "llama3.2:3b"),
 *   serverCooldown: Config.withDefault(Config.duration("LLM_COOLDOWN"), "1 minute")
 * })
 *
 * @since 0.1.0
 * @category layers
 */
export const layerConfig = <E = never, R = never, S = never, T = never, B = never>(
  options: EffectConfig.Config.Wrap<Options>,
  replace: Replacements<E, R, S, T, B> = {}
): Layer.Layer<Services, InvalidConfig | ConfigError | E, R | Needs<S, T, B>> =>
  Layer.unwrapEffect(Effect.map(EffectConfig.unwrap(options), (given) => layer(given, replace)))
