/** `aicortex setup`: the settings with which other programs use the gateway. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
  url: Flags.text("url", {
    value: "URL",
    about: "The gateway's address. Default: the one that serve would have with the settings of now."
  }),
  model: Flags.model,
  smallModel: Flags.text("small-model", {
    value: "MODEL",
    about: "The model for what should be fast: titles, completion while typing. Default: the same."
  }),
  keyEnv: Flags.keyEnv,
  file: Flags.text("file", { value: "FILE", about: "The file to change. Default: where the program reads its own." }),
  yes: Flags.yes,
  json: Flags.json
}

const about: About = {
  about: [
    "Show what a program needs in its settings to use this gateway and, on yes, write it there.",
    "PROGRAM is claude, codex, continue, open-webui or opencode. It asks the gateway for auto unless a model is named. What else the file holds stays as it is, and a copy of it is kept beside it. Off a terminal nothing is written without --yes."
  ],
  takes: "PROGRAM",
  examples: ["aicortex setup codex", "aicortex setup claude --model qwen3:8b --key-env AICORTEX_API_KEY"]
}

export const setupShape = shape(about, options)

export const setup = Command.make("setup", { ...options, program: Args.text({ name: "PROGRAM" }) }, (given) =>
  Effect.flatMap(
    Effect.promise(() => import("./setup/run.js")),
    ({ run }) => run(given)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
