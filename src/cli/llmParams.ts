/**
 * `aicortex llm-params`: what other clients need to talk to a server of the fleet.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { withExamples } from "./examples.js"
import * as Flags from "./flags.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = { json: Flags.flag("json", { about: "The output is JSON in any case." }) }

const model = Args.text({ name: "MODEL" }).pipe(
  Args.withDescription("The model; without it, any that a server has."),
  Args.optional
)

/**
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make("llm-params", { ...options, model }, ({ model }) =>
  Effect.flatMap(
    Effect.promise(() => import("./llmParams/run.js")),
    ({ run }) => run(Option.getOrUndefined(model))
  )
).pipe(
  Command.withDescription(
    withExamples("Print the model and the address of a random server that has it, as JSON.", [
      "aicortex llm-params llama3.2:3b",
      "aicortex llm-params | jq -r .base_url"
    ])
  )
)
