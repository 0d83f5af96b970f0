/** `aicortex sessions`: stored conversations. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const run = Effect.promise(() => import("./sessions/run.js"))

// =============================================================================
// List
// =============================================================================

const listOptions = {
  limit: Flags.whole("limit", { about: "Maximum number, most recently used first. Default: 50." }),
  json: Flags.json
}
const listAbout: About = {
  about: ["List the conversations that are kept, the one that was used last first."],
  examples: ["aicortex sessions list --limit 10"]
}
const list = Command.make("list", listOptions, (flags) => Effect.flatMap(run, ({ list }) => list(flags))).pipe(
  Command.withDescription(listAbout.about[0] ?? "")
)

// =============================================================================
// Create
// =============================================================================

const createOptions = {
  from: Flags.text("from", {
    value: "FILE",
    about: "Begin with the messages of a file, as `aicortex sessions show ID --json` prints them; - is standard input."
  })
}
const createAbout: About = {
  about: ["Begin a conversation, and print its id."],
  examples: [
    "id=$(aicortex sessions create)",
    'aicortex chat "My name is Alice." --session "$id"',
    "aicortex sessions show ID --json | aicortex sessions create --from -"
  ]
}
const create = Command.make("create", createOptions, ({ from }) =>
  Effect.flatMap(run, ({ create }) => create(from))
).pipe(Command.withDescription(createAbout.about[0] ?? ""))

// =============================================================================
// Show, reset, remove
// =============================================================================

const id = Args.text({ name: "ID" })

const showOptions = { json: Flags.json }
const showAbout: About = {
  about: ["Print the messages of a conversation."],
  takes: "ID",
  examples: ["aicortex sessions show ID", "aicortex sessions show ID --json > conversation.json"]
}
const show = Command.make("show", { ...showOptions, id }, ({ id, json }) =>
  Effect.flatMap(run, ({ show }) => show(id, json))
).pipe(Command.withDescription(showAbout.about[0] ?? ""))

const resetAbout: About = {
  about: ["Delete the messages of a conversation, and keep its id."],
  takes: "ID",
  examples: ["aicortex sessions reset ID"]
}
const reset = Command.make("reset", { id }, ({ id }) => Effect.flatMap(run, ({ reset }) => reset(id))).pipe(
  Command.withDescription(resetAbout.about[0] ?? "")
)

const removeAbout: About = {
  about: ["Delete conversations."],
  takes: "ID…",
  examples: ["aicortex sessions remove ID"]
}
const remove = Command.make("remove", { ids: Args.atLeast(id, 1) }, ({ ids }) =>
  Effect.flatMap(run, ({ remove }) => remove(ids))
).pipe(Command.withDescription(removeAbout.about[0] ?? ""))

// =============================================================================
// All subcommands
// =============================================================================

const about: About = {
  about: [
    "List the conversations that are kept, or make, show and delete one. `aicortex chat --session ID` goes on with it.",
    "They are in the folder that `aicortex config` tells: AICORTEX_SESSIONS, or `sessions.folder` in the file, sets another."
  ],
  examples: ["aicortex sessions", "id=$(aicortex sessions create)", "aicortex sessions show ID"]
}

export const sessionsShape = shape(about, listOptions, {
  list: shape(listAbout, listOptions),
  create: shape(createAbout, createOptions),
  show: shape(showAbout, showOptions),
  reset: shape(resetAbout, {}),
  remove: shape(removeAbout, {})
})

export const sessions = Command.make("sessions", listOptions, (flags) =>
  Effect.flatMap(run, ({ list }) => list(flags))
).pipe(Command.withDescription(about.about[0] ?? ""), Command.withSubcommands([list, create, show, reset, remove]))
