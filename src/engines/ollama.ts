/** An installed `ollama`, for the models that it keeps: a server of its own, at a port of its own. */
import * as Effect from "effect/Effect"
import { type Engine, refusesImage } from "./engine.js"

const name = "ollama"

const perRequest = (field: string) => ({
  field,
  reason: "cannot be set for a whole server of Ollama; give it with each request (options), or use another engine"
})

export const engine: Engine = {
  name,
  about: "The Ollama that is installed here, for the models that it keeps.",
  protocol: "ollama",
  available: (system) =>
    Effect.map(system.find(name), (program) =>
      program === undefined
        ? { program, reason: "there is no ollama on PATH", install: "Get it from ollama.com/download." }
        : { program }
    ),
  refusal: (source, options) => {
    if (source.path !== undefined) {
      return { field: "engine", reason: "ollama runs the models that it keeps itself, not files" }
    }
    if (options.gpuLayers !== -1) return perRequest("ngl")
    if (options.threads !== -1) return perRequest("threads")
    return refusesImage(name, options)
  },
  command: (program, _source, { contextSize, parallel }, port) => ({
    file: program,
    args: ["serve"],
    env: {
      OLLAMA_HOST: `127.0.0.1:${port}`,
      // The process that started it decides when it is unloaded.
      OLLAMA_KEEP_ALIVE: "-1",
      ...(contextSize === 0 ? {} : { OLLAMA_CONTEXT_LENGTH: String(contextSize) }),
      ...(parallel === undefined ? {} : { OLLAMA_NUM_PARALLEL: String(parallel) })
    },
    guardsItself: false
  }),
  health: { ready: "/api/version", models: "/v1/models" }
}
