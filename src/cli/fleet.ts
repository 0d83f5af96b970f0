/**
 * The fleet as the command line sees it: the user's settings, with its own default model.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Cortex from "../Cortex.js"
import * as Config from "../cortex/config.js"
import * as Output from "./output.js"

/**
 * The model where nobody names one.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultModel = "llama3.2:3b"

/** Standard output is for answers: what a service has to say goes to standard error. */
const logger = Logger.replace(
  Logger.defaultLogger,
  Logger.make(({ message }) => {
    process.stderr.write(`aicortex: ${Output.harmless([message].flat().join(" "))}\n`)
  })
)

/**
 * Answers are kept in files: a process of its own would remember none.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = Layer.unwrapEffect(
  Effect.map(Config.cacheFolder, (cacheFolder) => Cortex.layer({ defaultModel, cacheFolder }))
).pipe(Layer.provide(logger))
