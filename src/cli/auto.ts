/** `aicortex auto`: which model `auto` would ask, and why. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const preferences = [
  ["local", "local"],
  ["remote", "remote"],
  ["fastest", "fastest"]
] as const

const options = {
  explain: Flags.flag("explain", {
    about: "Show all that could answer in order, and what is left out, each with why."
  }),
  image: Flags.texts("image", { value: "FILE", about: "As for a call with this image. Repeatable." }),
  schema: Flags.text("schema", { value: "FILE", about: "As for a call whose answer must fit this JSON Schema." }),
  tools: Flags.flag("tools", { about: "As for a call with tools." }),
  maxTokens: Flags.whole("max-tokens", { about: "As for a call whose answer may have this many tokens." }),
  private: Flags.orSettings("private", { about: "As for a call that stays on local servers." }),
  prefer: Flags.choice("prefer", preferences, {
    about: "Which servers go first where the conditions are good. Default: auto.prefer in the settings."
  }),
  json: Flags.json
}

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

export const config = { ...options, prompt: Args.repeated(Args.text({ name: "PROMPT" })) }

/** The parsed flags. */
export type Given = Command.Command.ParseConfig<typeof config>

export const auto = Command.make("auto", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./auto/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
