/** Whether a model that runs is the one that is asked for, in the way that is asked for. */
import type { EngineOptions, LocalSource } from "../engines/engine.js"
import type * as LocalModels from "../LocalModels.js"
import type { Instance } from "./instance.js"

interface Running {
  readonly name: string
  readonly source: LocalSource
  readonly options: EngineOptions
  readonly engines: ReadonlyArray<Instance>
  readonly slots: number
}

/** The first thing that is asked for and is otherwise; `undefined` if there is none. */
export const disagreement = (
  { engines, name, options, slots, source }: Running,
  { path }: LocalSource,
  asked: LocalModels.CheckedOptions
): { readonly field: string; readonly reason: string } | undefined => {
  if (source.path !== path) {
    const reason = `the name '${name}' is that of ${source.path}, which runs: stop it first, or give this one another name with \`aicortex pull ${path} --name NAME\``
    return { field: "model", reason }
  }
  const pairs = [
    ["engine", asked.engine, engines[0]?.engine.name],
    ["contextSize", asked.contextSize, options.contextSize],
    ["gpuLayers", asked.gpuLayers, options.gpuLayers],
    ["threads", asked.threads, options.threads],
    ["parallel", asked.parallel, slots],
    ["embeddings", asked.embeddings, options.embeddings ?? false],
    ["baseImage", asked.baseImage, options.baseImage],
    ["temperature", asked.temperature, options.temperature],
    ["replicas", asked.replicas, engines.length]
  ] as const
  const other = pairs.find(([, wanted, is]) => wanted !== undefined && wanted !== is)
  if (other === undefined) return undefined
  const [field, , is] = other
  const now = is === undefined ? "without it" : `with ${is}`
  return { field, reason: `'${name}' runs already, ${now}: stop it first, with \`aicortex stop ${name}\`` }
}
