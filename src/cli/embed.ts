/** `aicortex embed`: turns texts into vectors. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import { config, options } from "./embed/flags.js"

const about: About = {
  about: [
    "Turn texts into vectors, and print each as a line of JSON.",
    "Each argument is a text; without any, or with -, standard input is one, or, with --lines, one in each line."
  ],
  takes: "[TEXT]…",
  examples: [
    'aicortex embed "a cat" "a dog" --model nomic-embed-text',
    "aicortex embed --lines --model nomic-embed-text < titles.txt > vectors.jsonl"
  ]
}

export const embedShape = shape(about, options)

export const embed = Command.make("embed", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./embed/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
