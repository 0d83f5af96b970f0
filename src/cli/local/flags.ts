/** How a model is started. */
import { EngineName } from "../../engines/engine.js"
import { wholeFrom } from "../../internal/units.js"
import type { StartOptions } from "../../LocalModels.js"
import * as Flags from "../flags.js"

export const startFlags = {
  contextSize: Flags.number("ctx", wholeFrom(0), {
    about: "The size of the context in tokens; 0 is as the model says.",
    default: 0
  }),
  gpuLayers: Flags.number("ngl", wholeFrom(-1), { about: "Layers on the GPU; -1 is all that fit.", default: -1 }),
  threads: Flags.number("threads", wholeFrom(-1), { about: "Threads of the CPU; -1 is all.", default: -1 }),
  parallel: Flags.number("parallel", wholeFrom(1), { about: "Requests that are answered at once.", default: 4 }),
  replicas: Flags.number("replicas", wholeFrom(1), { about: "How many engines run it side by side.", default: 1 }),
  engine: Flags.choice(
    "engine",
    EngineName.literals.map((name) => [name, name] as const),
    { about: "The program that runs it. Default: the first that is installed: see `aicortex engines`." }
  ),
  image: Flags.text("image", { value: "IMAGE", about: "The image of a container to run it in." }),
  embeddings: Flags.flag("embeddings", { about: "It makes vectors of texts instead of answers." }),
  keepAlive: Flags.seconds("keep-alive", {
    about: "How long it stays after its last request. Default: until it is stopped."
  }),
  timeout: Flags.seconds("timeout", { about: "How long it may take until it answers. Default: 30." })
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
