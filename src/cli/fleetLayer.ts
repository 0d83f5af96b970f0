/** The fleet of the command line: the user's settings, and folders of its own. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cortex from "../Cortex.js"
import * as ConfigFile from "../config/file.js"
import * as Registry from "../Registry.js"
import { CurrentSettings } from "../Settings.js"
import * as LocalServers from "../supervisor/feed.js"

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
 * The models that run on this machine are among those of the fleet.
 *
 * Cached answers, conversations and learned server state are kept in files: a short-lived process would forget them.
 */
export const layer = Layer.unwrapEffect(
  Effect.map(
    Effect.all([ConfigFile.cacheFolder, ConfigFile.stateFile, ConfigFile.sessionFolder]),
    ([cacheFolder, defaultStateFile, defaultSessionFolder]) =>
      Layer.tap(
        Layer.provideMerge(Cortex.layer({ cacheFolder, defaultStateFile, defaultSessionFolder }), LocalServers.layer),
        (services) => Effect.provide(warn, services)
      )
  )
)
