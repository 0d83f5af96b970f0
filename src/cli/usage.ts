/** `aicortex usage`: what requests to gateways have used, from their store. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { dimensions } from "../gateway/usage/query.js"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"
import { pruneOptions, since, store } from "./keys/flags.js"

const options = {
  ...store,
  by: Flags.text("by", {
    value: "LIST",
    about: `What it is counted by: some of ${dimensions.join(", ")}, separated by commas. Default: key,model.`
  }),
  since,
  csv: Flags.flag("csv", { about: "Print CSV, for spreadsheets." }),
  json: Flags.json
}

const pruneAbout: About = {
  about: [
    "Remove old usage from the store.",
    "Gateways do it by themselves: see the setting usageRetention. Hours are removed as a whole."
  ],
  examples: ["aicortex usage prune --before 90d --dry-run"]
}

const prune = Command.make("prune", pruneOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./usage/run.js")),
    ({ prune }) => prune(flags)
  )
).pipe(Command.withDescription(pruneAbout.about[0] ?? ""))

const about: About = {
  about: [
    "Show what requests have used: requests, errors, tokens and time to first token, by API key, end user, model, server and hour.",
    "Every `aicortex serve` with a store counts there, each second."
  ],
  examples: [
    "aicortex usage",
    "aicortex usage --by key,day --since 30d",
    "aicortex usage --by user,model --csv > usage.csv"
  ]
}

export const usageShape = shape(about, options, { prune: shape(pruneAbout, pruneOptions) })

export const usage = Command.make("usage", options, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./usage/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""), Command.withSubcommands([prune]))
