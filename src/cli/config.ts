/** `aicortex config`: the effective settings and where each comes from. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = { json: Flags.json }

const about: About = {
  about: [
    "Show the settings, and whether each comes from the environment, the configuration file or a default.",
    "The file is AICORTEX_CONFIG, else aicortex/config.json under XDG_CONFIG_HOME or ~/.config. API keys are not shown."
  ],
  examples: ["aicortex config", "aicortex config --json"]
}

export const configShape = shape(about, options)

export const config = Command.make("config", options, ({ json }) =>
  Effect.flatMap(
    Effect.promise(() => import("./config/run.js")),
    ({ run }) => run(json)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
