/**
 * `aicortex config`: which settings hold, and where they come from.
 *
 * @since 0.1.0
 */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { withExamples } from "./examples.js"
import * as Flags from "./flags.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = { json: Flags.json }

/**
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make("config", options, ({ json }) =>
  Effect.flatMap(
    Effect.promise(() => import("./config/run.js")),
    ({ run }) => run(json)
  )
).pipe(
  Command.withDescription(
    withExamples(
      "Show the settings, and whether each comes from the environment, the configuration file or a default.",
      ["aicortex config"]
    )
  )
)
