/**
 * The servers and the conversations of the command line, for what asks no model: the user's settings, and folders of its
 * own. What answers would take such a command longer to load than all else.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Options } from "../Cortex.js"
import * as ConfigFile from "../config/file.js"
import * as ListingServices from "../cortex/listingServices.js"
import type { InvalidConfig } from "../Errors.js"
import * as LayerStack from "../internal/layerStack.js"
import * as Registry from "../Registry.js"
import * as Sessions from "../Sessions.js"
import { CurrentSettings } from "../Settings.js"
import * as LocalServers from "../supervisor/feed.js"
import type { Transport } from "../Transport.js"

/** More warnings than this would hide the answer. */
const maxWarnings = 10

/** Reports what is unusable in the user's registry files: the shipped ones are tested. */
const warn = Effect.gen(function* () {
  const { registry } = yield* CurrentSettings
  if (registry.length === 0) return
  const warnings = yield* Registry.warnings
  for (const { message } of warnings.slice(0, maxWarnings)) yield* Effect.logWarning(`left out: ${message}`)
  const more = warnings.length - maxWarnings
  if (more > 0) yield* Effect.logWarning(`left out: ${more} more records of registry files`)
})

/** What the command line sets for what nobody else names. */
const defaults = Effect.map(
  Effect.all([ConfigFile.cacheFolder, ConfigFile.stateFile, ConfigFile.storeFile, ConfigFile.sessionFolder]),
  ([cacheFolder, defaultStateFile, defaultStore, defaultSessionFolder]): Options => ({
    cacheFolder,
    defaultStateFile,
    defaultStore,
    defaultSessionFolder
  })
)

/** The services that these options give. The models that run on this machine are among those of the fleet. */
export const layerOf = <A, E>(
  services: (options: Options) => Layer.Layer<A | Registry.Registry | CurrentSettings, E>
) =>
  Layer.unwrapEffect(
    Effect.map(defaults, (options) =>
      Layer.tap(LayerStack.stack(LocalServers.layer, services(options)), (made) => Effect.provide(warn, made))
    )
  )

const withSessions = <E>(
  sessions: Layer.Layer<Sessions.SessionStore, E, CurrentSettings | FileSystem.FileSystem | Path.Path>
) =>
  layerOf<ListingServices.ListingServices | CurrentSettings | Transport, InvalidConfig | E>((options) =>
    ListingServices.layerOn<ListingServices.ListingServices, E>(options, ListingServices.layerKnown<E, never>(sessions))
  )

/** The fleet, as far as it is known without asking a model. */
export const layer = withSessions(ListingServices.layerSessionStore)

/** Conversations in the store, of which no file is made; unless there are some to be taken into it. */
const sessionsOfReader = Layer.scoped(
  Sessions.SessionStore,
  Effect.gen(function* () {
    const settings = yield* CurrentSettings
    const fs = yield* FileSystem.FileSystem
    const { folder } = settings.sessions
    const create = folder !== undefined && (yield* Effect.orElseSucceed(fs.exists(folder), () => true))
    return yield* ListingServices.makeSessionStore(
      settings.sessions,
      yield* ListingServices.makeStore(settings, { create })
    )
  })
)

/** The same for what only reads conversations. */
export const readerLayer = withSessions(sessionsOfReader)
