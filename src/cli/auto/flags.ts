/** The flags of `aicortex auto`. */
import * as Args from "@effect/cli/Args"
import type * as Command from "@effect/cli/Command"
import { callFlags } from "../callFlags.js"
import { options as call } from "../chat/flags.js"
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
  image: call.image,
  schema: call.schema,
  tools: Flags.flag("tools", { about: "As for a call with tools." }),
  maxTokens: call.maxTokens,
  private: callFlags.private,
  prefer: Flags.choice("prefer", preferences, {
    about: "Which servers go first where the conditions are good. Default: auto.prefer in the settings."
  }),
  json: Flags.json
}

export const config = { ...options, prompt: Args.repeated(Args.text({ name: "PROMPT" })) }

/** The parsed flags. */
export type AutoFlags = Command.Command.ParseConfig<typeof config>
