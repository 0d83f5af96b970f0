/** `aicortex models`: lists models. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import { options } from "./models/flags.js"

const about: About = {
  about: [
    "List the families of models with their counts, or the models that fit every flag given.",
    "A search lists the largest model first. `aicortex ls` lists the models that your servers have, with their sizes."
  ],
  examples: ["aicortex models", "aicortex models --family gemma", "aicortex models --search coder --max-params 14b"]
}

export const modelsShape = shape(about, options)

export const models = Command.make("models", options, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./models/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
