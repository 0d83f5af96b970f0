/** `aicortex best`: the server that a call would try first. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { strategies } from "./callFlags.js"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
  strategy: Flags.choice("strategy", strategies, { about: "The routing strategy. Default: fastest." }),
  json: Flags.json
}

const about: About = {
  about: ["Print the address of the best server for a model, or with --json all that is known of it."],
  takes: "MODEL",
  examples: [
    "aicortex best llama3.2:3b --strategy nearest",
    "OLLAMA_HOST=$(aicortex best llama3.2:3b) ollama run llama3.2:3b"
  ]
}

export const bestShape = shape(about, options)

export const best = Command.make(
  "best",
  { ...options, model: Args.text({ name: "MODEL" }) },
  ({ json, model, strategy }) =>
    Effect.flatMap(
      Effect.promise(() => import("./best/run.js")),
      ({ run }) => run(model, strategy ?? "fastest", json)
    )
).pipe(Command.withDescription(about.about[0] ?? ""))
