/** `aicortex serve`: runs the gateway. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import { options } from "./serve/flags.js"

const about: About = {
  about: [
    "Serve the fleet to every OpenAI, Anthropic and Ollama client.",
    "A change of the configuration file, or SIGHUP, is taken over without dropping a stream; SIGTERM lets requests end, and then the exit code is 0."
  ],
  examples: [
    "aicortex serve",
    "AICORTEX_API_KEY=… aicortex serve --host 0.0.0.0 --port 8000",
    "aicortex serve --default-model llama3.2:3b --workers 4"
  ]
}

export const serveShape = shape(about, options)

export const serve = Command.make("serve", options, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./serve/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
