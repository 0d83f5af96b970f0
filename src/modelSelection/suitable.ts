/** What a model can do, by what is known of it. */
import { type ModelInfo, parseParameters, sizeOfName } from "../Model.js"
import type { Requirements } from "./needs.js"

const visionNames = /llava|bakllava|vision|moondream|pixtral|gemma3|gemma-3|minicpm-v|[-.]?vl\b|llama4/i
const codeNames = /code|\bfim\b/i
const embeddingNames = /embed|minilm|bge-|reranker/i

/** Of models that do both, only some list the capability. */
export const completes = ({ capabilities, model_name: name }: ModelInfo): boolean =>
  capabilities === undefined
    ? !embeddingNames.test(name)
    : capabilities.includes("completion") || !capabilities.includes("embedding")

/** 2: certain; 1: possible; 0: no. */
const supports = ({ capabilities, model_name: name }: ModelInfo, capability: "tools" | "vision" | "insert"): number => {
  if (capabilities !== undefined) return capabilities.includes(capability) ? 2 : 0
  if (capability === "insert") return codeNames.test(name) ? 1 : 0
  return capability === "tools" || visionNames.test(name) ? 1 : 0
}

/**
 * What a model can do; of `tools`, `vision` and `insert`: 2 if that is certain, 1 if it is possible, 0 if it cannot.
 */
export interface Capabilities {
  readonly completes: boolean
  readonly tools: number
  readonly vision: number
  readonly insert: number
}

export const capabilitiesOf = (info: ModelInfo): Capabilities => ({
  completes: completes(info),
  tools: supports(info, "tools"),
  vision: supports(info, "vision"),
  insert: supports(info, "insert")
})

/** The largest value of `certainty`. */
export const mostCertain = 6

/** How certain it is that a model can do what is needed; 0: it cannot. */
export const certainty = (abilities: Capabilities, wanted: Requirements): number => {
  if (!abilities.completes) return 0
  const tools = wanted.tools ? abilities.tools : 2
  const vision = wanted.vision ? abilities.vision : 2
  const insert = wanted.insert ? abilities.insert : 2
  return tools === 0 || vision === 0 || insert === 0 ? 0 : tools + vision + insert
}

/** Why a model cannot do what is needed, in words. */
export const missingCapability = (abilities: Capabilities, wanted: Requirements): string => {
  if (!abilities.completes) return "makes embeddings only"
  const lacks = [
    ...(wanted.tools && abilities.tools === 0 ? ["call tools"] : []),
    ...(wanted.vision && abilities.vision === 0 ? ["see images"] : []),
    ...(wanted.insert && abilities.insert === 0 ? ["fill in the middle"] : [])
  ]
  return `is not known to ${lacks.join(" or ")}`
}

/** How many parameters a model has; 0 if unknown. */
export const sizeOf = (info: ModelInfo): number =>
  (info.parameter_size === undefined ? undefined : parseParameters(info.parameter_size)) ??
  sizeOfName(info.model_name) ??
  0
