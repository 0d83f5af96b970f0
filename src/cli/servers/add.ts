/** `aicortex servers add`: adds a server to the configuration file. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "../commandLine.js"
import { config, options } from "./addFlags.js"

const about: About = {
  about: ["Add a server to the configuration file, and tell whether it answers. It is added also if it does not."],
  takes: "URL",
  examples: [
    "aicortex servers add http://gpu-1:11434 --location 52.52,13.40 --city Berlin --country DE",
    "aicortex servers add https://llm.example.com/v1 --api-key-env LLM_KEY"
  ]
}

export const addShape = shape(about, options)

export const add = Command.make("add", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./addRun.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
