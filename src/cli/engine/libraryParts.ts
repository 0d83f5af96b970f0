/**
 * The parts of `node-llama-cpp` that an engine uses. Its index also imports all chat formats and a downloader, which
 * takes as long as starting Node; and one file with all that is used takes a quarter of what its modules take.
 */
import { existsSync, readFileSync } from "node:fs"
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

/** The one file, where it is of the version that is installed: it takes its binaries and all other files from there. */
const bundleOf = (index: URL, bundles: URL): URL | undefined => {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", index), "utf8")) as { version?: unknown }
  const bundle = new URL(`node-llama-cpp-${version}.js`, bundles)
  if (!existsSync(bundle)) return undefined
  bundle.searchParams.set("at", index.href)
  return bundle
}

/**
 * `undefined`: the version that is installed has them elsewhere, or none is. `from` is the module that looks for it,
 * default: this one; `bundles` the folder of bundled versions, default: that of the command line.
 */
export const importParts = async (
  from: string = import.meta.url,
  bundles: URL = new URL("../../bin/", import.meta.url)
): Promise<LibraryParts | undefined> => {
  try {
    const index = pathToFileURL(createRequire(from).resolve("node-llama-cpp"))
    const bundle = bundleOf(index, bundles)
    const files = bundle === undefined ? modules.map((module) => new URL(module, index)) : [bundle]
    const found = await Promise.all(files.map(({ href }) => import(href) as Promise<object>))
    const parts: Partial<LibraryParts> = Object.assign({}, ...found)
    return names.every((name) => parts[name] !== undefined) ? (parts as LibraryParts) : undefined
  } catch {
    return undefined
  }
}
