/** How the engine runs a model. Names nothing of `node-llama-cpp`, which programs that import this need not have. */

/** How a model is run. */
export interface EngineOptions {
  /** Tokens of context of each request; 0, the default: those that the model was trained for, as far as memory allows. */
  readonly contextSize?: number | undefined
  /** Layers that run on the graphics card; -1: as many as fit. Default: none. */
  readonly gpuLayers?: number | undefined
  /** Threads that compute; -1, the default: as many as suit the model and this machine. */
  readonly threads?: number | undefined
  /** How many requests are answered at the same time; default: 4. */
  readonly parallel?: number | undefined
  /** Vectors of texts instead of answers. Default: `false`. */
  readonly embeddings?: boolean | undefined
}
