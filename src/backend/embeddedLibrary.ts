/**
 * Starts the library of the engine. Apart from the library itself it imports nothing that takes time.
 *
 * @internal
 */
import type { Llama } from "node-llama-cpp"
import type { ServerFailure } from "../Backend.js"
import { engineFailure } from "../internal/engineFailure.js"
import type { EngineOptions } from "./embeddedEngineOptions.js"

/** The message of whatever was thrown. */
export const describe = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** The engine or the model cannot be loaded. */
export class LoadFailure extends Error {
  constructor(readonly failure: ServerFailure) {
    super(failure.message)
  }
}

/** What is used of the library. */
export type LibraryParts = Pick<
  typeof import("node-llama-cpp"),
  "getLlama" | "LlamaLogLevel" | "LlamaGrammarEvaluationState" | "TokenBias"
>

const importEngine = async (parts?: () => Promise<LibraryParts | undefined>): Promise<LibraryParts> => {
  const found = await parts?.()
  if (found !== undefined) return found
  try {
    return await import("node-llama-cpp")
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
    const reason = missing ? "node-llama-cpp is not installed" : `node-llama-cpp cannot be loaded (${describe(cause)})`
    throw new LoadFailure(engineFailure(reason))
  }
}

interface Library {
  readonly library: LibraryParts
  readonly llama: Llama
}

const startLibrary = async (gpu: "auto" | false, imported = importEngine()): Promise<Library> => {
  const library = await imported
  const logLevel = library.LlamaLogLevel.disabled
  const llama = await library.getLlama({ gpu, build: "never", progressLogs: false, logLevel }).catch((cause) => {
    throw new LoadFailure(engineFailure(`node-llama-cpp has nothing that runs on this machine (${describe(cause)})`))
  })
  return { library, llama }
}

let prepared: { readonly gpu: "auto" | false; readonly started: Promise<Library> } | undefined

/** How often it is looked whether the library tries its binary already, a millisecond apart. */
const looks = 150

const childProcesses = (): number => process.getActiveResourcesInfo().filter((one) => one === "ProcessWrap").length

/**
 * Begins to start the library for the next model that is loaded with these options. Resolves once it tries its binary
 * in another process, or does not: a caller that has more to import does it meanwhile. `settled` is called with whether
 * it has started; `parts` imports less than all of it.
 */
export const prepare = async (
  options: EngineOptions,
  settled?: (started: boolean) => void,
  parts?: () => Promise<LibraryParts | undefined>
): Promise<void> => {
  const gpu = gpuOf(options)
  const imported = importEngine(parts)
  const started = startLibrary(gpu, imported)
  let ended = false
  // Loading the model reports what is wrong.
  const end = (ok: boolean) => (): void => {
    ended = true
    settled?.(ok)
  }
  started.then(end(true), end(false))
  prepared = { gpu, started }
  const before = childProcesses()
  await imported.catch(() => {})
  for (let i = 0; i < looks && !ended && childProcesses() === before; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** The library that was prepared with these options, or a new one. */
export const takeLibrary = (gpu: "auto" | false): Promise<Library> => {
  const taken = prepared?.gpu === gpu ? prepared.started : startLibrary(gpu)
  prepared = undefined
  return taken
}

/** Where a model runs: the only prebuilt engine on Apple silicon is the one for its graphics. */
export const gpuOf = ({ gpuLayers = 0 }: EngineOptions): "auto" | false =>
  gpuLayers !== 0 || (process.platform === "darwin" && process.arch === "arm64") ? "auto" : false
