/**
 * `aicortex servers list`: the user's servers.
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
export const command = Command.make("list", options, ({ json }) =>
  Effect.flatMap(
    Effect.promise(() => import("./servers/run.js")),
    ({ listAll }) => listAll(json)
  )
).pipe(
  Command.withDescription(
    withExamples("List your servers, what they speak, and whether they can be reached.", ["aicortex servers list"])
  )
)
