/**
 * The parts of `node-llama-cpp` that an engine uses. Its index imports all chat formats and a downloader besides, which
 * takes as long as starting Node.
 */
import { createRequire } from "node:module"
import { pathToFileURL } from "node:url"
import type { LibraryParts } from "../../backend/embeddedLibrary.js"

/** Where they stand beside the index. */
const modules = [
  "bindings/getLlama.js",
  "bindings/types.js",
  "evaluator/LlamaGrammarEvaluationState.js",
  "evaluator/TokenBias.js"
]

const names: ReadonlyArray<keyof LibraryParts> = [
  "getLlama",
  "LlamaLogLevel",
  "LlamaGrammarEvaluationState",
  "TokenBias"
]

/**
 * `undefined`: the version that is installed has them elsewhere, or none is. `from` is the module that looks for it; default:
 * this one.
 */
export const importParts = async (from: string = import.meta.url): Promise<LibraryParts | undefined> => {
  try {
    const index = pathToFileURL(createRequire(from).resolve("node-llama-cpp"))
    const found = await Promise.all(modules.map((module) => import(new URL(module, index).href) as Promise<object>))
    const parts: Partial<LibraryParts> = Object.assign({}, ...found)
    return names.every((name) => parts[name] !== undefined) ? (parts as LibraryParts) : undefined
  } catch {
    return undefined
  }
}
