/** How a local model is run and asked, and the checks of that. */
import * as Schema from "effect/Schema"
import { ModelOptions } from "../config/fleet.js"
import { EngineName, type EngineOptions } from "../engines/engine.js"
import { decoder, type InputOf, milliseconds, optional, range, wholeFrom } from "../internal/optionSchemas.js"

/**
 * The options of a local model. Zero is what was said, and is never replaced by a default.
 *
 * @since 0.2.0
 * @category models
 */
export const Options = Schema.Struct({
  /** The image of a container to run it in; only the engine `container` takes one. Default: quay.io/ramalama/ramalama. */
  baseImage: optional(Schema.NonEmptyTrimmedString),
  /** The temperature of answers, 0 to 2; default 0.8. */
  temp: optional(range(0, 2)),
  /** Layers that are put on the GPU; default -1, which is all that fit. */
  ngl: optional(wholeFrom(-1)),
  /** The longest answer, in tokens; default 0, which is unlimited. */
  maxTokens: optional(wholeFrom(0)),
  /** Threads of the CPU; default -1, which is all. */
  threads: optional(wholeFrom(-1)),
  /** The size of the context in tokens; default 0, which is as the model says. */
  ctxSize: optional(wholeFrom(0)),
  /** How long the engine may take until it answers, in milliseconds or as a duration; default 30 seconds. */
  timeout: optional(milliseconds),
  /** Requests that are answered at once; default: the engine's own. */
  parallel: optional(wholeFrom(1)),
  /** Whether it makes vectors of texts instead of answers; default `false`. */
  embeddings: optional(Schema.Boolean),
  /** The program that runs it; default: the first installed one that takes the model. */
  engine: optional(EngineName),
  /** Where models are kept and got, as the setting `models`; default: as the environment and the configuration file say. */
  models: optional(ModelOptions)
})
/**
 * @since 0.2.0
 * @category models
 */
export interface Options extends InputOf<typeof Options.fields> {}

/** Options that were checked. */
export type Checked = typeof Options.Type

export const decode = decoder(Options)

export const defaultTemperature = 0.8

export const defaultTimeout = 30_000

export const engineOptions = (options: Checked): EngineOptions => ({
  contextSize: options.ctxSize ?? 0,
  gpuLayers: options.ngl ?? -1,
  threads: options.threads ?? -1,
  parallel: options.parallel,
  temperature: options.temp ?? defaultTemperature,
  maxTokens: options.maxTokens ?? 0,
  embeddings: options.embeddings,
  baseImage: options.baseImage
})
