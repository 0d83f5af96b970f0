/** How a model is started. */
import { EngineName } from "../../engines/engine.js"
import { wholeFrom } from "../../internal/units.js"
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
  keepAlive: Flags.lifetime("keep-alive", {
    about: "How long it stays after its last request; 0: only while it is used, -1: until it is stopped, the default."
  }),
  timeout: Flags.seconds("start-timeout", { about: "How long it may take until it answers. Default: 30." })
}
