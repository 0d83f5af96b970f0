/**
 * The fleet as the command line sees it: the user's settings, with its own default model.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cortex from "../Cortex.js"
import * as Config from "../cortex/config.js"

/**
 * The model where nobody names one.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultModel = "llama3.2:3b"

/**
 * Answers are kept in files: a process of its own would remember none.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = Layer.unwrapEffect(
  Effect.map(Config.cacheFolder, (cacheFolder) => Cortex.layer({ defaultModel, cacheFolder }))
)
