/** What a model can do, by what is known of it. */
import { type ModelInfo, parseParameters, sizeOfName } from "../Model.js"
import type { Requirements } from "./needs.js"

const visionNames = /llava|bakllava|vision|moondream|pixtral|gemma3|gemma-3|minicpm-v|[-.]?vl\b|llama4/i
const codeNames = /code|\bfim\b/i
const embeddingNames = /embed|minilm|bge-|reranker/i

/** Of models that do both, only some list the capability. */
const completes = ({ capabilities, model_name: name }: ModelInfo): boolean =>
  capabilities === undefined
    ? !embeddingNames.test(name)
    : capabilities.includes("completion") || !capabilities.includes("embedding")

/** 2: certain; 1: possible; 0: no. */
const supports = ({ capabilities, model_name: name }: ModelInfo, capability: "tools" | "vision" | "insert"): number => {
  if (capabilities !== undefined) return capabilities.includes(capability) ? 2 : 0
  if (capability === "insert") return codeNames.test(name) ? 1 : 0
  return capability === "tools" || visionNames.test(name) ? 1 : 0
}

/** How certain it is that a model can do what is needed; 0: it cannot. */
export const isSuitable = (info: ModelInfo, wanted: Requirements): number => {
  if (!completes(info)) return 0
  const tools = wanted.tools ? supports(info, "tools") : 2
  const vision = wanted.vision ? supports(info, "vision") : 2
  const insert = wanted.insert ? supports(info, "insert") : 2
  return tools === 0 || vision === 0 || insert === 0 ? 0 : tools + vision + insert
}

/** How many parameters a model has; 0 where nobody says. */
export const sizeOf = (info: ModelInfo): number =>
  (info.parameter_size === undefined ? undefined : parseParameters(info.parameter_size)) ??
  sizeOfName(info.model_name) ??
  0
