/**
 * The fleet as the command line sees it: the user's settings, with its own default model.
 *
 * @since 0.1.0
 */
import * as Cortex from "../Cortex.js"

/**
 * The model where nobody names one.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultModel = "llama3.2:3b"

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = Cortex.layer({ defaultModel })
