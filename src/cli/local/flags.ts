/** How a model is started. */
import { EngineName } from "../../engines/engine.js"
import { wholeFrom } from "../../internal/units.js"
import type { StartOptions } from "../../LocalModels.js"
import { options as engine } from "../engine/flags.js"
import * as Flags from "../flags.js"

export const startFlags = {
  contextSize: engine.contextSize,
  gpuLayers: engine.gpuLayers,
  threads: engine.threads,
  parallel: engine.parallel,
  replicas: Flags.number("replicas", wholeFrom(1), { about: "How many engines run it side by side.", default: 1 }),
  engine: Flags.choice(
    "engine",
    EngineName.literals.map((name) => [name, name] as const),
    { about: "The program that runs it. Default: the first that is installed: see `aicortex engines`." }
  ),
  image: Flags.text("base-image", { value: "IMAGE", about: "The image of a container to run it in." }),
  embeddings: engine.embeddings,
  keepAlive: Flags.seconds("keep-alive", {
    about: "How long it stays after its last request. Default: until it is stopped."
  }),
  timeout: Flags.seconds("start-timeout", { about: "How long it may take until it answers. Default: 30." })
}

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
