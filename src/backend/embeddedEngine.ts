/**
 * Loads the engine and a model.
 */
import { existsSync } from "node:fs"
import { stat } from "node:fs/promises"
import type {
  GbnfJsonObjectSchema,
  Llama,
  LlamaContext,
  LlamaEmbeddingContext,
  LlamaGrammar,
  LlamaGrammarEvaluationState,
  LlamaModel,
  TokenBias
} from "node-llama-cpp"
import { engineFailure } from "../internal/engineFailure.js"
import { Batching } from "./embeddedBatching.js"
import type { EngineOptions } from "./embeddedEngineOptions.js"
import { describe, gpuOf, LoadFailure, takeLibrary } from "./embeddedLibrary.js"
import { sampleInTurn } from "./embeddedSampling.js"
import { Sequences } from "./embeddedSequences.js"
import { ChatTemplate } from "./embeddedTemplate.js"

/** The loaded model, and what answers with it. */
export interface Engine {
  readonly model: LlamaModel
  readonly template: ChatTemplate
  readonly sequences: Sequences
  readonly batching: Batching
  /** Tokens of context of each request. */
  readonly contextSize: number
  /** Tokens that are evaluated at once. */
  readonly batchSize: number
  /** What makes vectors, where that is what it is for. */
  readonly vectors: LlamaEmbeddingContext | undefined
  readonly json: () => Promise<LlamaGrammar>
  readonly schema: (schema: GbnfJsonObjectSchema) => Promise<LlamaGrammar>
  readonly grammarState: (grammar: LlamaGrammar) => LlamaGrammarEvaluationState
  readonly tokenBias: () => TokenBias
  readonly dispose: () => Promise<void>
}

/** Threads would wait for each other longer than a model of fewer bytes takes to compute a token. */
const smallModel = 64 * 1024 * 1024

/** Longer texts are evaluated in parts, which a mean over all tokens cannot be made of. */
const longestText = 8192

const loadModel = async (llama: Llama, modelPath: string, { embeddings, gpuLayers = 0 }: EngineOptions) => {
  const layers = gpuLayers >= 0 ? { gpuLayers } : {}
  const model = await llama.loadModel({ modelPath, ...layers })
  if (embeddings !== true) return model
  const { architecture } = model
  const own = (model.fileInfo.metadata as { readonly [key: string]: unknown })[architecture]
  if (typeof own === "object" && own !== null && "pooling_type" in own) return model
  // A model that was not made for it has vectors of its tokens: the text's is their mean.
  await model.dispose()
  return llama.loadModel({ modelPath, ...layers, metadataOverrides: { [architecture]: { pooling_type: 1 } } as never })
}

/** Loads the engine and a model file. `builtIn`: it is the one that this package brings. */
export const loadEngine = async (modelPath: string, options: EngineOptions, builtIn: boolean): Promise<Engine> => {
  const { library, llama } = await takeLibrary(gpuOf(options))
  try {
    if (!existsSync(modelPath)) {
      throw new LoadFailure(engineFailure(`the model file ${modelPath} is missing`, "npm install aicortex"))
    }
    const { contextSize: wanted = 0, parallel = 4, threads: given = -1 } = options
    const [{ size }, jinja, model] = await Promise.all([
      stat(modelPath),
      import("@huggingface/jinja"),
      loadModel(llama, modelPath, options)
    ])
    const threads = given > 0 ? { threads: given } : size < smallModel ? { threads: 1 } : {}
    // With the narrow heads of small models it takes a processor up to eight times as long as the plain way.
    const attention = size < smallModel && llama.gpu === false ? { flashAttention: false } : {}
    const contextSize = wanted > 0 ? wanted : size < smallModel ? model.trainContextSize : ("auto" as const)
    const batching = new Batching()
    let context: LlamaContext | undefined
    let vectors: LlamaEmbeddingContext | undefined
    if (options.embeddings === true) {
      const most = Math.min(wanted > 0 ? wanted : model.trainContextSize, longestText)
      vectors = await model.createEmbeddingContext({ contextSize: most, batchSize: most, ...threads })
    } else {
      const sequences = { sequences: parallel, batching: batching.options }
      context = await model.createContext({ contextSize, ...sequences, ...threads, ...attention })
    }
    const made = context
    // Where sequences would disturb each other, there is one.
    const together = made === undefined || sampleInTurn(made) ? parallel : 1
    return {
      model,
      template: new ChatTemplate(model, jinja, builtIn),
      sequences: new Sequences(made === undefined ? [] : Array.from({ length: together }, () => made.getSequence())),
      batching,
      contextSize: made?.contextSize ?? Math.min(wanted > 0 ? wanted : model.trainContextSize, longestText),
      batchSize: made?.batchSize ?? longestText,
      vectors,
      json: () => llama.getGrammarFor("json"),
      schema: (schema) => llama.createGrammarForJsonSchema(schema),
      grammarState: (grammar) => new library.LlamaGrammarEvaluationState({ model, grammar }),
      tokenBias: () => library.TokenBias.for(model),
      dispose: () => llama.dispose()
    }
  } catch (cause) {
    await llama.dispose()
    throw cause instanceof LoadFailure
      ? cause
      : new LoadFailure({ reason: "engine", message: `the model ${modelPath} cannot be loaded: ${describe(cause)}` })
  }
}
