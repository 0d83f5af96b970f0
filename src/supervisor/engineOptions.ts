/** The options that a model's engine is started with. */
import type { EngineOptions } from "../engines/engine.js"
import type { CheckedOptions } from "../LocalModels.js"

export const engineOptions = (options: CheckedOptions): EngineOptions => ({
  contextSize: options.contextSize ?? 0,
  gpuLayers: options.gpuLayers ?? -1,
  threads: options.threads ?? -1,
  parallel: options.parallel,
  temperature: options.temperature,
  embeddings: options.embeddings,
  baseImage: options.baseImage
})
