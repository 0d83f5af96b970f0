/** `aicortex sessions`: stored conversations. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const run = Effect.promise(() => import("./sessions/run.js"))

// =============================================================================
// List
// =============================================================================

const filters = {
  title: Flags.text("title", { about: "Only conversations whose title has this text; case does not matter." }),
  metadata: Flags.texts("metadata", {
    value: "NAME=VALUE",
    about: "Only conversations whose metadata has this; VALUE is JSON or a text. Repeatable."
  })
}
const times = {
  since: Flags.text("used-since", {
    value: "TIME",
    about: "Only conversations used since then: 24h, 30d or 2026-01-31."
  }),
  until: Flags.text("used-before", {
    value: "TIME",
    about: "Only conversations last used before then: 24h, 30d or 2026-01-31."
  })
}
const words = {
  text: Flags.text("text", {
    value: "WORDS",
    about: "Only conversations in which all these words were said within one turn; case does not matter."
  })
}
const paging = {
  limit: Flags.whole("limit", { about: "Maximum number, most recently used first. Default: 50." }),
  cursor: Flags.text("cursor", { about: "Where the list continues: `next` of the previous page." })
}

const listOptions = { ...filters, ...words, ...times, ...paging, json: Flags.json }
const listAbout: About = {
  about: ["List the conversations that are kept, the one that was used last first."],
  examples: [
    "aicortex sessions list --limit 10",
    "aicortex sessions list --title invoice --used-since 30d",
    "aicortex sessions list --metadata project=x --json"
  ]
}
const list = Command.make("list", listOptions, (flags) => Effect.flatMap(run, ({ list }) => list(flags))).pipe(
  Command.withDescription(listAbout.about[0] ?? "")
)

// =============================================================================
// Search
// =============================================================================

const searchOptions = { ...filters, ...times, ...paging, json: Flags.json }
const searchAbout: About = {
  about: ["Find the turns in which all these words were said, the newest first."],
  takes: "WORDS…",
  examples: ["aicortex sessions search zugspitze", 'aicortex sessions search "how high" --title mountains --json']
}
const search = Command.make(
  "search",
  { ...searchOptions, words: Args.atLeast(Args.text({ name: "WORDS" }), 1) },
  ({ words, ...flags }) => Effect.flatMap(run, ({ search }) => search(words.join(" "), flags))
).pipe(Command.withDescription(searchAbout.about[0] ?? ""))

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

const deleteAbout: About = {
  about: ["Delete conversations."],
  takes: "ID…",
  examples: ["aicortex sessions delete ID"]
}
const ids = { ids: Args.atLeast(id, 1) }
const deleteCommand = Command.make("delete", ids, ({ ids }) => Effect.flatMap(run, ({ remove }) => remove(ids))).pipe(
  Command.withDescription(deleteAbout.about[0] ?? "")
)

const removeAbout: About = { ...deleteAbout, about: ["Delete conversations, as `aicortex sessions delete` does."] }
const remove = Command.make("remove", ids, ({ ids }) => Effect.flatMap(run, ({ remove }) => remove(ids))).pipe(
  Command.withDescription(removeAbout.about[0] ?? "")
)

// =============================================================================
// Title and copy
// =============================================================================

const titleOptions = {
  derived: Flags.flag("derived", { about: "Take the title away: it is made of the first question again." })
}
const titleAbout: About = {
  about: ["Print the title of a conversation, or set it."],
  takes: "ID [TITLE]…",
  examples: [
    "aicortex sessions title ID",
    'aicortex sessions title ID "Mountains"',
    "aicortex sessions title ID --derived"
  ]
}
const title = Command.make(
  "title",
  { ...titleOptions, id, title: Args.repeated(Args.text({ name: "TITLE" })) },
  ({ derived, id, title }) =>
    Effect.flatMap(run, (all) => all.title(id, title.length === 0 ? undefined : title.join(" "), derived))
).pipe(Command.withDescription(titleAbout.about[0] ?? ""))

const copyOptions = {
  title: Flags.text("new-title", { value: "TITLE", about: "The title of the copy. Default: that of the original." }),
  turns: Flags.whole("first-turns", { about: "Copy only so many turns, from the first one. Default: all." })
}
const copyAbout: About = {
  about: ["Copy a conversation, to continue it in another way, and print the id of the copy."],
  takes: "ID",
  examples: ["aicortex sessions copy ID", "aicortex sessions copy ID --first-turns 3"]
}
const copy = Command.make("copy", { ...copyOptions, id }, ({ id, ...flags }) =>
  Effect.flatMap(run, ({ copy }) => copy(id, flags))
).pipe(Command.withDescription(copyAbout.about[0] ?? ""))

// =============================================================================
// Export, import, prune
// =============================================================================

const exportOptions = {
  ...filters,
  ...times,
  markdown: Flags.flag("markdown", { about: "Print one conversation as Markdown, for people." })
}
const exportAbout: About = {
  about: ["Print a conversation as JSON that can be imported, or all of them as JSON lines."],
  takes: "[ID]",
  examples: [
    "aicortex sessions export > conversations.jsonl",
    "aicortex sessions export ID > conversation.json",
    "aicortex sessions export ID --markdown"
  ]
}
const exportCommand = Command.make("export", { ...exportOptions, id: Args.optional(id) }, ({ id, ...flags }) =>
  Effect.flatMap(run, (all) => all.exported(Option.getOrUndefined(id), flags))
).pipe(Command.withDescription(exportAbout.about[0] ?? ""))

const importOptions = {
  newIds: Flags.flag("new-ids", { about: "Import copies with new ids, also of conversations that exist already." }),
  localOnly: Flags.flag("as-private", { about: "All calls of the imported conversations stay on local servers." }),
  dryRun: Flags.dryRun,
  json: Flags.json
}
const importAbout: About = {
  about: [
    "Import conversations: exports of this command, and the JSON of AI Cortex and Oblix.",
    "Each is stored as a whole or not at all, and those that were not are named with the reason (exit code 1)."
  ],
  takes: "FILE",
  examples: [
    "aicortex sessions import conversations.jsonl",
    "aicortex sessions import conversation.json --new-ids",
    "cat conversations.jsonl | aicortex sessions import - --dry-run"
  ]
}
const importCommand = Command.make(
  "import",
  { ...importOptions, file: Args.text({ name: "FILE" }) },
  ({ file, ...flags }) => Effect.flatMap(run, (all) => all.imported(file, flags))
).pipe(Command.withDescription(importAbout.about[0] ?? ""))

const pruneOptions = {
  ...filters,
  olderThan: Flags.text("older-than", {
    value: "DURATION",
    about: "Delete what was not used for this long: 90d, 12h."
  }),
  dryRun: Flags.dryRun,
  json: Flags.json
}
const pruneAbout: About = {
  about: ["Delete the conversations that were not used for a time, and list them."],
  examples: [
    "aicortex sessions prune --older-than 90d --dry-run",
    "aicortex sessions prune --older-than 30d --title test"
  ]
}
const prune = Command.make("prune", pruneOptions, (flags) => Effect.flatMap(run, ({ prune }) => prune(flags))).pipe(
  Command.withDescription(pruneAbout.about[0] ?? "")
)

// =============================================================================
// All subcommands
// =============================================================================

const about: About = {
  about: [
    "List the stored conversations, or create, show and delete one. `aicortex chat --session ID` continues it.",
    "They are in the store that `aicortex config` tells: AICORTEX_STORE, or `store` in the file, sets another."
  ],
  examples: ["aicortex sessions", "id=$(aicortex sessions create)", "aicortex sessions show ID"]
}

export const sessionsShape = shape(about, listOptions, {
  list: shape(listAbout, listOptions),
  search: shape(searchAbout, searchOptions),
  create: shape(createAbout, createOptions),
  show: shape(showAbout, showOptions),
  reset: shape(resetAbout, {}),
  delete: shape(deleteAbout, {}),
  remove: shape(removeAbout, {}),
  title: shape(titleAbout, titleOptions),
  copy: shape(copyAbout, copyOptions),
  export: shape(exportAbout, exportOptions),
  import: shape(importAbout, importOptions),
  prune: shape(pruneAbout, pruneOptions)
})

export const sessions = Command.make("sessions", listOptions, (flags) =>
  Effect.flatMap(run, ({ list }) => list(flags))
).pipe(
  Command.withDescription(about.about[0] ?? ""),
  Command.withSubcommands([
    list,
    search,
    create,
    show,
    reset,
    deleteCommand,
    remove,
    title,
    copy,
    exportCommand,
    importCommand,
    prune
  ])
)
