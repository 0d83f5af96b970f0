/** The flags of how a model is started, as options. */
import type { EngineName } from "../../engines/engine.js"
import type { StartOptions } from "../../LocalModels.js"

export interface StartFlags {
  readonly contextSize: number | undefined
  readonly gpuLayers: number | undefined
  readonly threads: number | undefined
  readonly parallel: number | undefined
  readonly replicas: number | undefined
  readonly engine: EngineName | undefined
  readonly image: string | undefined
  readonly embeddings: boolean
  readonly keepAlive: number | undefined
  readonly timeout: number | undefined
}

export const optionsOf = ({ embeddings, image, ...flags }: StartFlags): StartOptions => {
  const { contextSize, engine, gpuLayers, keepAlive, parallel, replicas, threads, timeout } = flags
  const given = { contextSize, engine, gpuLayers, keepAlive, parallel, replicas, threads, timeout, baseImage: image }
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    ...(embeddings ? { embeddings } : {})
  }
}
