/** An installed `llama-server` of llama.cpp. */
import * as Effect from "effect/Effect"
import { type Engine, type EngineOptions, needsFile, refusesImage } from "./engine.js"

const name = "llama-server"

/** More layers than any model has. */
const allLayers = 999

/** The arguments of `llama-server`, wherever it runs. */
export const argumentsOf = (
  file: string,
  model: string,
  host: string,
  port: number,
  { contextSize, embeddings, gpuLayers, maxTokens, parallel, temperature, threads }: EngineOptions
): ReadonlyArray<string> => [
  ...["--model", file, "--alias", model, "--host", host, "--port", String(port)],
  ...["--ctx-size", String(contextSize), "--n-gpu-layers", String(gpuLayers < 0 ? allLayers : gpuLayers)],
  ...["--threads", String(threads)],
  ...(parallel === undefined ? [] : ["--parallel", String(parallel)]),
  ...(temperature === undefined ? [] : ["--temp", String(temperature)]),
  ...(maxTokens === undefined ? [] : ["--predict", String(maxTokens === 0 ? -1 : maxTokens)]),
  ...(embeddings === true ? ["--embeddings"] : ["--jinja"])
]

export const engine: Engine = {
  name,
  about: "The server of llama.cpp, as it is installed here.",
  protocol: "openai",
  available: (system) =>
    Effect.map(system.find(name), (program) =>
      program === undefined
        ? {
            program,
            reason: "there is no llama-server on PATH",
            install: "Install llama.cpp: `brew install llama.cpp`, or a release of github.com/ggml-org/llama.cpp."
          }
        : { program }
    ),
  refusal: (source, options) => needsFile(source) ?? refusesImage(name, options),
  command: (program, { name, path = "" }, options, port) => ({
    file: program,
    args: argumentsOf(path, name, "127.0.0.1", port, options),
    env: {},
    guardsItself: false
  }),
  health: { ready: "/health", models: "/v1/models" }
}
