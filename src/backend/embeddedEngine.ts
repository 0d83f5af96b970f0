/**
 * Loads the engine of the built-in model.
 */
import { existsSync } from "node:fs"
import { stat } from "node:fs/promises"
import type { GbnfJsonObjectSchema, LlamaContextSequence, LlamaGrammar, LlamaModel } from "node-llama-cpp"
import type { ServerFailure } from "../Backend.js"
import { engineFailure } from "../internal/engineFailure.js"

/** The loaded model, and its grammars. */
export interface Engine {
  readonly model: LlamaModel
  readonly sequence: LlamaContextSequence
  readonly json: () => Promise<LlamaGrammar>
  readonly schema: (schema: GbnfJsonObjectSchema) => Promise<LlamaGrammar>
  readonly grammarState: (grammar: LlamaGrammar) => import("node-llama-cpp").LlamaGrammarEvaluationState
  readonly dispose: () => Promise<void>
}

/** The message of whatever was thrown. */
export const describe = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** The engine or the model cannot be loaded. */
export class LoadFailure extends Error {
  constructor(readonly failure: ServerFailure) {
    super(failure.message)
  }
}

const importEngine = async (): Promise<typeof import("node-llama-cpp")> => {
  try {
    return await import("node-llama-cpp")
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
    const reason = missing ? "node-llama-cpp is not installed" : `node-llama-cpp cannot be loaded (${describe(cause)})`
    throw new LoadFailure(engineFailure(reason))
  }
}

/** Threads would wait for each other longer than a model of fewer bytes takes to compute a token. */
const smallModel = 64 * 1024 * 1024

/** How a model is run. */
export interface EngineOptions {
  /** Tokens of context of each request; 0, the default: those that the model was trained for. */
  readonly contextSize?: number | undefined
  /** Layers that run on the graphics card; -1: as many as fit. Default: none. */
  readonly gpuLayers?: number | undefined
  /** Threads that compute; -1: as many as suit this machine. Default: 1. */
  readonly threads?: number | undefined
  /** How many requests are answered at the same time; default: 4. */
  readonly parallel?: number | undefined
}

/** Loads the engine and a model file. */
export const loadEngine = async (modelPath: string, options: EngineOptions = {}): Promise<Engine> => {
  const library = await importEngine()
  // On Apple silicon the only prebuilt engine is the Metal one; elsewhere a model this small is fastest on one core.
  const gpu = process.platform === "darwin" && process.arch === "arm64" ? "auto" : false
  const logLevel = library.LlamaLogLevel.disabled
  const llama = await library.getLlama({ gpu, build: "never", progressLogs: false, logLevel }).catch((cause) => {
    throw new LoadFailure(engineFailure(`node-llama-cpp has nothing that runs on this machine (${describe(cause)})`))
  })
  try {
    if (!existsSync(modelPath)) {
      throw new LoadFailure(engineFailure(`the model file ${modelPath} is missing`, "npm install aicortex"))
    }
    const { contextSize = 0, gpuLayers = 0, threads = 1 } = options
    const { size } = await stat(modelPath)
    const model = await llama.loadModel({ modelPath, ...(gpuLayers >= 0 ? { gpuLayers } : {}) })
    const context = await model.createContext({
      contextSize: contextSize > 0 ? contextSize : model.trainContextSize,
      sequences: 1,
      ...(threads > 0 ? { threads } : size < smallModel ? { threads: 1 } : {})
    })
    return {
      model,
      sequence: context.getSequence(),
      json: () => llama.getGrammarFor("json"),
      schema: (schema) => llama.createGrammarForJsonSchema(schema),
      grammarState: (grammar) => new library.LlamaGrammarEvaluationState({ model, grammar }),
      dispose: () => llama.dispose()
    }
  } catch (cause) {
    await llama.dispose()
    throw cause instanceof LoadFailure
      ? cause
      : new LoadFailure({ reason: "engine", message: `the model ${modelPath} cannot be loaded: ${describe(cause)}` })
  }
}
