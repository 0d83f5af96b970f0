/** The flags of `aicortex engine`. */
import { gateway } from "../../config/gateway.js"
import * as Flags from "../flags.js"
import { flagsOf } from "../settingFlags.js"

const from = (least: number, most: number) => ({
  must: `a whole number from ${least} to ${most}`,
  test: (n: number) => Number.isInteger(n) && n >= least && n <= most
})

export const options = {
  gateway: flagsOf({ host: gateway.host, port: gateway.port, insecure: gateway.insecure }),
  name: Flags.text("name", { value: "NAME", about: "The name of the model. Default: that of the file." }),
  contextSize: Flags.number(
    "ctx",
    { about: "Tokens of context for each request. 0: those that the model was trained for, the default." },
    from(0, 16_777_216)
  ),
  gpuLayers: Flags.number(
    "ngl",
    { about: "Layers that run on the graphics card; -1: as many as fit. Default: -1." },
    from(-1, 100_000)
  ),
  threads: Flags.number(
    "threads",
    { about: "Threads that compute; -1: as many as suit the model and this machine. Default: -1." },
    from(-1, 1024)
  ),
  parallel: Flags.number(
    "parallel",
    { about: "Requests that are answered at the same time. Default: 4." },
    from(1, 256)
  ),
  embeddings: Flags.flag("embeddings", { about: "Serve embeddings of texts instead of answers." }),
  stdinGuard: Flags.flag("stdin-guard", { about: "End when standard input ends." })
}
