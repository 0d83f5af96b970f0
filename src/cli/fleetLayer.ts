/** The fleet of the command line: the user's settings, and folders of its own. */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cortex from "../Cortex.js"
import * as ConfigFile from "../config/file.js"
import * as Registry from "../Registry.js"
import * as Sessions from "../Sessions.js"
import { CurrentSettings } from "../Settings.js"
import { orInMemory } from "../sessions/fallback.js"
import * as LocalServers from "../supervisor/feed.js"
import * as Output from "./output.js"

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

/**
 * Conversations in the store; if no setting names one and none can be opened, they are in memory, and a line says so.
 */
const sessionsOfChat = Layer.scoped(
  Sessions.SessionStore,
  Effect.gen(function* () {
    const settings = yield* CurrentSettings
    const store = yield* Cortex.makeStore(settings)
    const kept = yield* Cortex.makeSessionStore(settings.sessions, store)
    if (store === undefined || settings.isDefaultStore !== true || settings.sessions.inMemory === true) return kept
    const memory = yield* Sessions.makeStoreMemory(settings.sessions)
    return orInMemory(kept, memory, store.open, (reason) => Output.notice(`this conversation is not kept: ${reason}`))
  })
)

/** Conversations in the store, of which no file is made; unless there are some to be taken into it. */
const sessionsOfReader = Layer.scoped(
  Sessions.SessionStore,
  Effect.gen(function* () {
    const settings = yield* CurrentSettings
    const fs = yield* FileSystem.FileSystem
    const { folder } = settings.sessions
    const create = folder !== undefined && (yield* Effect.orElseSucceed(fs.exists(folder), () => true))
    return yield* Cortex.makeSessionStore(settings.sessions, yield* Cortex.makeStore(settings, { create }))
  })
)

/** The command line's own defaults. */
const defaults = Effect.map(
  Effect.all([ConfigFile.cacheFolder, ConfigFile.stateFile, ConfigFile.storeFile, ConfigFile.sessionFolder]),
  ([cacheFolder, defaultStateFile, defaultStore, defaultSessionFolder]): Cortex.Options => ({
    cacheFolder,
    defaultStateFile,
    defaultStore,
    defaultSessionFolder
  })
)

const withLocalServers = <E, R>(cortex: Layer.Layer<Cortex.Services, E, R>) =>
  Layer.tap(Layer.provideMerge(cortex, LocalServers.layer), (services) => Effect.provide(warn, services))

/**
 * The models that run on this machine are among those of the fleet.
 *
 * Cached answers and learned server state are kept in files, and conversations in the store: a short-lived process
 * would forget them.
 */
export const layer = Layer.unwrapEffect(Effect.map(defaults, (options) => withLocalServers(Cortex.layer(options))))

const withSessions = <E>(
  sessions: Layer.Layer<Sessions.SessionStore, E, CurrentSettings | FileSystem.FileSystem | Path.Path>
) =>
  Layer.unwrapEffect(
    Effect.map(defaults, (options) => {
      const store = Layer.provide(sessions, Cortex.layerSettings(options))
      return withLocalServers(Cortex.layer(options, { store }))
    })
  )

/** The same for a conversation that is held here, which needs no store. */
export const chatLayer = withSessions(sessionsOfChat)

/** The same for what only reads conversations. */
export const readerLayer = withSessions(sessionsOfReader)
