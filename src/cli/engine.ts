/** `aicortex engine`: serves one model file of this machine. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import { options } from "./engine/flags.js"

const about: About = {
  about: [
    "Run a GGUF file and serve it to OpenAI, Anthropic and Ollama clients.",
    "It prints its address as a line of JSON as soon as it listens; GET /health is 200 once the model is loaded."
  ],
  takes: "FILE",
  examples: ["aicortex engine qwen3-4b-q4_k_m.gguf --port 8080", "aicortex engine model.gguf --ctx 8192 --parallel 8"]
}

export const engineShape = shape(about, options)

export const engine = Command.make("engine", { ...options, file: Args.text({ name: "FILE" }) }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./engine/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
