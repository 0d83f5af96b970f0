/** `aicortex requests`: the log of requests to models, from the store of gateways. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { wholeBetween } from "../internal/units.js"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"
import { pruneOptions, since, store } from "./keys/flags.js"

const run = Effect.promise(() => import("./requests/run.js"))

const listOptions = {
  ...store,
  limit: Flags.number("last", wholeBetween(1, 1_000), { about: "How many of the latest at most.", default: 50 }),
  since,
  json: Flags.json
}
const oneOptions = { ...store, json: Flags.json }

const listAbout: About = {
  about: ["List requests, the latest first."],
  examples: ["aicortex requests list --since 1h"]
}
const list = Command.make("list", listOptions, (flags) => Effect.flatMap(run, ({ list }) => list(flags))).pipe(
  Command.withDescription(listAbout.about[0] ?? "")
)

const showAbout: About = {
  about: ["Show a request, with its bodies where they were logged."],
  takes: "ID",
  examples: ["aicortex requests show mb2k1x-req-1"]
}
const show = Command.make("show", { ...oneOptions, id: Args.text({ name: "ID" }) }, (flags) =>
  Effect.flatMap(run, ({ show }) => show(flags))
).pipe(Command.withDescription(showAbout.about[0] ?? ""))

const pruneAbout: About = {
  about: [
    "Remove old requests from the log.",
    "Gateways do it by themselves: see the settings requestLogAge and requestLogBytes."
  ],
  examples: ["aicortex requests prune --before 7d --dry-run"]
}
const prune = Command.make("prune", pruneOptions, (flags) => Effect.flatMap(run, ({ prune }) => prune(flags))).pipe(
  Command.withDescription(pruneAbout.about[0] ?? "")
)

const exportAbout: About = {
  about: ["Print all requests with their bodies, oldest first, a JSON object in each line."],
  examples: ["aicortex requests export > requests.jsonl"]
}
const exportAll = Command.make("export", store, (flags) =>
  Effect.flatMap(run, ({ exportAll }) => exportAll(flags))
).pipe(Command.withDescription(exportAbout.about[0] ?? ""))

const about: About = {
  about: [
    "Read the log of requests to models, which `aicortex serve --request-log` writes into the store.",
    "It has no body unless bodies are asked for, and never a key."
  ],
  examples: ["aicortex requests list", "aicortex requests export > requests.jsonl"]
}

export const requestsShape = shape(about, listOptions, {
  list: shape(listAbout, listOptions),
  show: shape(showAbout, oneOptions),
  prune: shape(pruneAbout, pruneOptions),
  export: shape(exportAbout, store)
})

export const requests = Command.make("requests", listOptions, (flags) =>
  Effect.flatMap(run, ({ list }) => list(flags))
).pipe(Command.withDescription(about.about[0] ?? ""), Command.withSubcommands([list, show, prune, exportAll]))
