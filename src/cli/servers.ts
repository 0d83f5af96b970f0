/**
 * `aicortex servers`: the user's servers, and those of a model.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { withExamples } from "./examples.js"
import * as Flags from "./flags.js"
import * as Add from "./serversAdd.js"
import * as List from "./serversList.js"
import * as Remove from "./serversRemove.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = { json: Flags.json }

const model = Args.text({ name: "MODEL" }).pipe(
  Args.withDescription("Only the servers that have this model, with their speed for it."),
  Args.optional
)

/**
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make("servers", { ...options, model }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./servers/run.js")),
    ({ listAll, listOf }) =>
      Option.match(flags.model, { onNone: () => listAll(flags.json), onSome: (model) => listOf(model, flags.json) })
  )
).pipe(
  Command.withDescription(
    withExamples("List your servers and whether they can be reached, or the servers that have a model.", [
      "aicortex servers",
      "aicortex servers llama3.2:3b",
      "aicortex servers add http://gpu-1:11434"
    ])
  ),
  Command.withSubcommands([List.command, Add.command, Remove.command])
)
