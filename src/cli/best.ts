/**
 * `aicortex best`: the server that a call would try first.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { withExamples } from "./examples.js"
import * as Flags from "./flags.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = {
  strategy: Flags.choice(
    "strategy",
    [
      ["fastest", "fastest"],
      ["nearest", "nearest"],
      ["balanced", "balanced"],
      ["random", "random"]
    ],
    { about: "What makes a server the best. Default: fastest." }
  ),
  json: Flags.flag("json", { about: "Print all that is known of the server as JSON, for programs." })
}

const model = Args.text({ name: "MODEL" }).pipe(Args.withDescription("The model that it must have."))

/**
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make("best", { ...options, model }, ({ json, model, strategy }) =>
  Effect.flatMap(
    Effect.promise(() => import("./best/run.js")),
    ({ run }) => run(model, strategy ?? "fastest", json)
  )
).pipe(
  Command.withDescription(
    withExamples("Print the address of the best server for a model.", [
      "aicortex best llama3.2:3b --strategy nearest",
      "OLLAMA_HOST=$(aicortex best llama3.2:3b) ollama run llama3.2:3b"
    ])
  )
)
