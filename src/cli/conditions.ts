/** `aicortex conditions`: how busy this machine is, and how good the lines to remote servers are. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
  watch: Flags.flag("watch", { alias: "w", about: "Go on, and show each change, until Ctrl-C." }),
  json: Flags.json
}

const about: About = {
  about: [
    "Show how busy this machine is, how good the lines to remote servers are, and how many tokens those had today: what auto goes by.",
    "Only your own servers are asked. The thresholds are the setting conditions.",
    "With --watch, --json prints a line for each change."
  ],
  examples: ["aicortex conditions", "aicortex conditions --watch", "aicortex conditions --json"]
}

export const conditionsShape = shape(about, options)

export const conditions = Command.make("conditions", options, ({ json, watch }) =>
  Effect.flatMap(
    Effect.promise(() => import("./conditions/run.js")),
    ({ run }) => run(watch, json)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
