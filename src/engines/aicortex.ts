/** This package's own engine: `aicortex engine FILE`, with `node-llama-cpp` in the child process. */
import * as Effect from "effect/Effect"
import { announced, engineArguments } from "./aicortexArguments.js"
import { type Engine, needsFile, refusesImage } from "./engine.js"

const name = "aicortex"

export const engine: Engine = {
  name,
  about: "The engine of this package: llama.cpp through node-llama-cpp.",
  protocol: "openai",
  available: Effect.fnUntraced(function* (system) {
    const self = yield* system.self
    if (self === undefined) {
      return {
        program: undefined,
        reason: "the command line of this package is not built",
        install: "Build it with `npm run build`."
      }
    }
    if (yield* system.hasPackage("node-llama-cpp")) return { program: [self.file, ...self.args].join("\0") }
    return {
      program: undefined,
      reason: "node-llama-cpp is missing",
      install: "Install it with `npm install node-llama-cpp`, beside this package."
    }
  }),
  refusal: (source, options) => needsFile(source) ?? refusesImage(name, options),
  command: (program, source, options, port) => {
    const [file = "", ...args] = program.split("\0")
    return { file, args: [...args, ...engineArguments(source, options, port)], env: {}, guardsItself: true }
  },
  announced,
  health: { ready: "/health", models: "/v1/models" }
}
