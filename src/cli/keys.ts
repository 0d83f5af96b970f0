/** `aicortex keys`: the API keys of gateways, in their store. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import { createOptions, listOptions, oneOptions, rotateOptions } from "./keys/flags.js"

const run = Effect.promise(() => import("./keys/run.js"))

const named = Args.text({ name: "KEY" })

const createAbout: About = {
  about: ["Make an API key, and print it: once, because only a hash of it is stored."],
  takes: "NAME",
  examples: [
    "aicortex keys create alice",
    "aicortex keys create ci --allow 'llama3.2*' --allow auto --requests-per-minute 60 --expires 90d",
    "aicortex keys create ops --role admin"
  ]
}
const create = Command.make("create", { ...createOptions, name: Args.text({ name: "NAME" }) }, (flags) =>
  Effect.flatMap(run, ({ create }) => create(flags))
).pipe(Command.withDescription(createAbout.about[0] ?? ""))

const listAbout: About = { about: ["List the API keys."], examples: ["aicortex keys list --all"] }
const list = Command.make("list", listOptions, (flags) => Effect.flatMap(run, ({ list }) => list(flags))).pipe(
  Command.withDescription(listAbout.about[0] ?? "")
)

const showAbout: About = {
  about: ["Show what an API key may do."],
  takes: "KEY",
  examples: ["aicortex keys show alice"]
}
const show = Command.make("show", { ...oneOptions, named }, (flags) =>
  Effect.flatMap(run, ({ show }) => show(flags))
).pipe(Command.withDescription(showAbout.about[0] ?? ""))

const revokeAbout: About = {
  about: ["Revoke an API key: every gateway denies it within a second."],
  takes: "KEY",
  examples: ["aicortex keys revoke alice"]
}
const revoke = Command.make("revoke", { ...oneOptions, named }, (flags) =>
  Effect.flatMap(run, ({ revoke }) => revoke(flags))
).pipe(Command.withDescription(revokeAbout.about[0] ?? ""))

const rotateAbout: About = {
  about: ["Give an API key another text, and print it; what the key may do stays as it is."],
  takes: "KEY",
  examples: ["aicortex keys rotate alice", "aicortex keys rotate alice --grace 24h"]
}
const rotate = Command.make("rotate", { ...rotateOptions, named }, (flags) =>
  Effect.flatMap(run, ({ rotate }) => rotate(flags))
).pipe(Command.withDescription(rotateAbout.about[0] ?? ""))

const about: About = {
  about: [
    "Make, list, show, revoke and rotate the API keys of gateways. KEY is the name or the id of a key.",
    "They are in the store that --store, AICORTEX_STORE or the configuration file names, and hold for every `aicortex serve` that uses it."
  ],
  examples: ["aicortex keys create alice --store aicortex.db", "aicortex keys list"]
}

export const keysShape = shape(about, listOptions, {
  create: shape(createAbout, createOptions),
  list: shape(listAbout, listOptions),
  show: shape(showAbout, oneOptions),
  revoke: shape(revokeAbout, oneOptions),
  rotate: shape(rotateAbout, rotateOptions)
})

export const keys = Command.make("keys", listOptions, (flags) => Effect.flatMap(run, ({ list }) => list(flags))).pipe(
  Command.withDescription(about.about[0] ?? ""),
  Command.withSubcommands([create, list, show, revoke, rotate])
)
