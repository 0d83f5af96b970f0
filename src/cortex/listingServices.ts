/**
 * What is known of the servers, and the conversations: the services below a call, which are all that a listing needs.
 * Whoever takes only these loads no backend and nothing that answers.
 */
import { dirname } from "node:path"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as Path from "@effect/platform/Path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { defaultModelPath } from "../backend/embeddedModel.js"
import * as Config from "../config/resolve.js"
import type { InvalidConfig, StoreUnavailable } from "../Errors.js"
import * as Fleet from "../Fleet.js"
import * as LayerStack from "../internal/layerStack.js"
import * as Probes from "../Probes.js"
import * as Registry from "../Registry.js"
import * as Sessions from "../Sessions.js"
import { CurrentSettings, type Settings } from "../Settings.js"
import * as Store from "../Store.js"
import * as FolderImport from "../sessions/folderImport.js"
import * as SessionSql from "../sessions/sql.js"
import type { TurnOrder } from "../sessions/turnQueue.js"
import type { Transport } from "../Transport.js"
import * as ByRuntime from "../transport/byRuntime.js"
import * as TransportClient from "../transport/httpClient.js"
import * as Datagrams from "./datagrams.js"
import * as RegistryCopies from "./registryCopies.js"
import * as RegistryWatch from "./registryWatch.js"
import * as StateFile from "./stateFile.js"

/**
 * The settings of these options, the environment and the configuration file. Fails with `InvalidConfig` where one
 * cannot be used.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerSettings = (
  options: Config.ConfigOptions = {}
): Layer.Layer<CurrentSettings, InvalidConfig, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(CurrentSettings, Config.settings(options))

/**
 * The store that these settings name, which is opened when it is first used; `undefined` where they name none.
 *
 * @since 0.4.0
 * @category constructors
 */
export const makeStore = (
  { store }: Pick<Settings, "store">,
  options?: Store.MakeOptions
): Effect.Effect<Store.Service | undefined, InvalidConfig, Scope.Scope> =>
  store === undefined ? Effect.succeed(undefined) : Store.make(store, options)

/**
 * The store that these settings name, opened. If no setting names it and there can be none (its package is not
 * installed, or its file cannot be made), `log` gets a line, and it is `undefined`: all is in memory.
 *
 * @since 0.4.0
 * @category constructors
 */
export const openStore = Effect.fnUntraced(function* (
  settings: Pick<Settings, "store" | "isDefaultStore">,
  log: (text: string) => void
): Effect.fn.Return<Store.Service | undefined, InvalidConfig | StoreUnavailable, Scope.Scope> {
  const store = yield* makeStore(settings)
  if (store === undefined) return undefined
  const opened = yield* Effect.either(store.open)
  if (Either.isRight(opened)) return store
  if (settings.isDefaultStore !== true || opened.left.absent !== true) return yield* opened.left
  log(`everything is kept in memory and ends with this process: ${opened.left.reason}`)
  return undefined
})

/**
 * The session store that these settings ask for: in memory, or in this store. What is in the folder, where earlier
 * versions kept them, is taken into the store when that is first used, and the folder is renamed. `order` is that of
 * the turns in a store; default: of the turns in this process.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeSessionStore = (
  { folder, inMemory, ...bounds }: Settings["sessions"],
  store?: Store.Service,
  order?: TurnOrder
): Effect.Effect<Sessions.Store, never, FileSystem.FileSystem | Path.Path> => {
  if (inMemory === true || store === undefined) return Sessions.makeStoreMemory(bounds)
  const sessions = SessionSql.make(store, bounds, order)
  if (folder === undefined) return sessions
  return Effect.flatMap(Effect.context<FileSystem.FileSystem | Path.Path>(), (context) =>
    Effect.map(sessions, (made) =>
      FolderImport.after(Effect.provide(FolderImport.importFolder(store, folder), context), made)
    )
  )
}

/** Conversations in the store that the settings name, or in memory. */
export const layerSessionStore = Layer.scoped(
  Sessions.SessionStore,
  Effect.flatMap(CurrentSettings, (settings) =>
    Effect.flatMap(makeStore(settings), (store) => makeSessionStore(settings.sessions, store))
  )
)

/** The folder of the built-in registry: the demo model lies in it. */
const registryFolder = (): string => dirname(dirname(defaultModelPath()))

/** The services below a call. */
export type ListingServices = Sessions.Sessions | Fleet.Fleet | Registry.Registry

/** What they need from outside. */
type Outside = CurrentSettings | HttpClient.HttpClient | FileSystem.FileSystem | Path.Path

/** The servers and what is known of them, and the conversations in this store. */
export const layerKnown = <E, R>(
  store: Layer.Layer<Sessions.SessionStore, E, CurrentSettings | FileSystem.FileSystem | Path.Path | R>
): Layer.Layer<ListingServices, E, Outside | R> =>
  LayerStack.stack(
    LayerStack.last(store, Sessions.layer),
    Fleet.layer,
    LayerStack.last(
      Layer.succeed(Registry.CatalogueLocation, registryFolder()),
      StateFile.layer,
      Probes.layer,
      Datagrams.layer,
      RegistryCopies.layer,
      RegistryWatch.layer,
      Registry.layer
    )
  )

/** Services on what they need from outside, with the settings and the transport, which may be another one. */
export const layerOn = <A, E = never, R = never>(
  options: Config.ConfigOptions,
  services: Layer.Layer<A, InvalidConfig | E, Outside | Transport | R>,
  own?: Layer.Layer<Transport, E, R>
): Layer.Layer<A | CurrentSettings | Transport, InvalidConfig | E, R> => {
  const settings = LayerStack.last(NodeFileSystem.layer, NodePath.layer, layerSettings(options))
  const configured = LayerStack.last(settings, ByRuntime.layerConfigured)
  const transport: Layer.Layer<Transport, InvalidConfig | E, R> = own ?? configured
  return LayerStack.stack(
    transport,
    settings,
    LayerStack.last(NodeFileSystem.layer, NodePath.layer, LayerStack.last(configured, TransportClient.layer), services)
  )
}
