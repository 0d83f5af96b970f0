/** `aicortex llm-params`: the settings that other clients need for a server of the fleet. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

/** It prints JSON in any case. */
const options = { json: Flags.json }

const about: About = {
  about: [
    "Print a model and the address of a random server that has it, as JSON; without a model, any that a server has."
  ],
  takes: "[MODEL]",
  examples: ["aicortex llm-params llama3.2:3b", "aicortex llm-params | jq -r .base_url"]
}

export const llmParamsShape = shape(about, options)

export const llmParams = Command.make(
  "llm-params",
  { ...options, model: Args.optional(Args.text({ name: "MODEL" })) },
  ({ model }) =>
    Effect.flatMap(
      Effect.promise(() => import("./llmParams/run.js")),
      ({ run }) => run(Option.getOrUndefined(model))
    )
).pipe(Command.withDescription(about.about[0] ?? ""))
