/** `aicortex doctor`: checks the servers, the settings and the gateway's port. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
  timeout: Flags.timeout,
  json: Flags.json
}

const about: About = {
  about: [
    "Check that everything works, and say what to do where it does not: whether each server answers, its models, " +
      "settings that have no effect, and the port of the gateway.",
    "Each server is asked for one token of its default model, else of its smallest. The exit code is 1 if something is wrong."
  ],
  examples: ["aicortex doctor", "aicortex doctor --json"]
}

export const doctorShape = shape(about, options)

export const doctor = Command.make("doctor", options, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./doctor/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription("Check that everything works, and say what to do where it does not."))
