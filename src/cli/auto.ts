/** `aicortex auto`: which model `auto` would ask, and why. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { config, options } from "./auto/flags.js"
import { type About, shape } from "./commandLine.js"

const about: About = {
  about: [
    "Print the model that auto would choose for a prompt; with --explain why, and what else there is.",
    "Nothing is asked of a model: the servers are asked for their lists, and the lines to remote ones are checked.",
    "With - the prompt is read from standard input."
  ],
  takes: "PROMPT…",
  examples: [
    'aicortex auto --explain "Why is the sky blue?"',
    'aicortex auto --explain --tools --prefer local "What is the weather?"',
    'aicortex chat "Hi" --model "$(aicortex auto Hi)"'
  ]
}

export const autoShape = shape(about, options)

export const auto = Command.make("auto", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./auto/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
