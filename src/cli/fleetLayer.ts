/**
 * The fleet as the command line sees it: the user's settings, with its own default model.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cortex from "../Cortex.js"
import * as ConfigFile from "../config/file.js"
import * as Registry from "../Registry.js"
import { CurrentSettings } from "../Settings.js"

/**
 * The model where nobody names one.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultModel = "llama3.2:3b"

/** More warnings than this would bury the answer. */
const maxWarnings = 10

/** Says what in the user's registry files cannot be used: the shipped ones are tested. */
const warn = Effect.gen(function* () {
  const { registry } = yield* CurrentSettings
  if (registry.length === 0) return
  const warnings = yield* Registry.warnings
  for (const { message } of warnings.slice(0, maxWarnings)) yield* Effect.logWarning(`left out: ${message}`)
  const more = warnings.length - maxWarnings
  if (more > 0) yield* Effect.logWarning(`left out: ${more} more records of registry files`)
})

/**
 * Answers, conversations, and what is learned of the servers, are kept in files: a process of its own would remember none.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = Layer.unwrapEffect(
  Effect.map(
    Effect.all([ConfigFile.cacheFolder, ConfigFile.stateFile, ConfigFile.sessionFolder]),
    ([cacheFolder, defaultStateFile, defaultSessionFolder]) =>
      Layer.tap(Cortex.layer({ defaultModel, cacheFolder, defaultStateFile, defaultSessionFolder }), (services) =>
        Effect.provide(warn, services)
      )
  )
)
