/** The flags of `aicortex auto`. */
import * as Args from "@effect/cli/Args"
import type * as Command from "@effect/cli/Command"
import * as Flags from "../flags.js"

const preferences = [
  ["local", "local"],
  ["remote", "remote"],
  ["fastest", "fastest"]
] as const

export const options = {
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

export const config = { ...options, prompt: Args.repeated(Args.text({ name: "PROMPT" })) }

/** The parsed flags. */
export type Given = Command.Command.ParseConfig<typeof config>
