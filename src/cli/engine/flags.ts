/** The flags of `aicortex engine`. */
import { gateway } from "../../config/gateway.js"
import { range, wholeBetween } from "../../internal/units.js"
import * as Flags from "../flags.js"
import { flagsOf } from "../settingFlags.js"
import { ranges } from "./ranges.js"

export const options = {
  gateway: flagsOf({ host: gateway.host, port: gateway.port, insecure: gateway.insecure }),
  name: Flags.text("name", { value: "NAME", about: "The name that the model gets. Default: that of the file." }),
  contextSize: Flags.number("ctx", wholeBetween(...ranges.ctx), {
    about: "Tokens of context for each request. 0: those that the model was trained for, the default."
  }),
  gpuLayers: Flags.number("ngl", wholeBetween(...ranges.ngl), {
    about: "Layers that run on the graphics card; -1: as many as fit. Default: -1."
  }),
  threads: Flags.number("threads", wholeBetween(...ranges.threads), {
    about: "Threads that compute; -1: as many as suit the model and this machine. Default: -1."
  }),
  parallel: Flags.number("parallel", wholeBetween(...ranges.parallel), {
    about: "Requests that are answered at the same time.",
    default: 4
  }),
  embeddings: Flags.flag("embeddings", { about: "Serve embeddings of texts instead of answers." }),
  temperature: Flags.number("temp", range(...ranges.temp), {
    about: "The temperature of requests that name none. Default: that of the API that is asked."
  }),
  maxTokens: Flags.number("max-tokens", wholeBetween(...ranges["max-tokens"]), {
    about: "The longest answer of requests that name none, in tokens; 0: unlimited, the default."
  }),
  stdinGuard: Flags.flag("stdin-guard", { about: "End when standard input ends." })
}
