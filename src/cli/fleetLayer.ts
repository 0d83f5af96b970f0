/** The fleet of the command line: the user's settings, and folders of its own. */
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

/** Conversations in the store; where nobody has named one and there can be none, a new one is in memory, and a line says so. */
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

/** What the command line sets for what nobody else names. */
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
 * Cached answers and learned server state are kept in files, and conversations in the store: a short-lived process would
 * forget them.
 */
export const layer = Layer.unwrapEffect(Effect.map(defaults, (options) => withLocalServers(Cortex.layer(options))))

/** The same for a conversation that is held here, which needs no store. */
export const chatLayer = Layer.unwrapEffect(
  Effect.map(defaults, (options) => {
    const store = Layer.provide(sessionsOfChat, Cortex.layerSettings(options))
    return withLocalServers(Cortex.layer(options, { store }))
  })
)
