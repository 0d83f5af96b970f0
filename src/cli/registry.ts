/** `aicortex registry`: keeps a folder of registry files true. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const run = Effect.promise(() => import("./registry/run.js"))

const described = (about: About): string => about.about[0] ?? ""

// =============================================================================
// Flags
// =============================================================================

const workersOf = (otherwise: number) =>
  Flags.number("workers", Schema.Number.pipe(Schema.int(), Schema.between(1, 1_000)), {
    value: "N",
    about: "How many servers are asked at once.",
    default: otherwise
  })

const timeoutOf = (otherwise: number) =>
  Flags.seconds("timeout", { about: `How long a server may take. Default: ${otherwise}.` })

const output = (otherwise: string) =>
  Flags.text("output", {
    alias: "o",
    value: "FILE",
    about: `Where to write it; - is standard output. Default: ${otherwise}.`
  })

const registry = Flags.text("registry", {
  value: "DIR",
  about: "The folder of registry files. Default: the first of the setting registry."
})

const keepMissing = Flags.flag("keep-missing", {
  about: "Keep the records of servers that did not answer, instead of dropping them."
})

const { dryRun } = Flags

const force = Flags.flag("force", { about: "Apply a result that is empty, or less than half of what was there." })

const input = Args.optional(Args.text({ name: "FILE" }))

const sources = Args.repeated(Args.text({ name: "SOURCE" }))

// =============================================================================
// Check
// =============================================================================

const checkOptions = {
  output: output("valid_models.txt"),
  workers: workersOf(20),
  timeout: timeoutOf(5),
  json: Flags.json
}
const checkAbout: About = {
  about: [
    "Ask servers for their models, and list the addresses of those that answer with such a list.",
    "A source is a folder of registry files, a file (family file, servers.json, list of addresses), an address, or - for standard input. Default: the registry."
  ],
  takes: "[SOURCE]…",
  examples: ["aicortex registry check ./registry", "aicortex registry check addresses.txt --output - --timeout 2"]
}
const check = Command.make("check", { ...checkOptions, sources }, (flags) =>
  Effect.flatMap(run, ({ check }) => check(flags))
).pipe(Command.withDescription(described(checkAbout)))

// =============================================================================
// Fetch
// =============================================================================

const fetchOptions = {
  output: output("fetched_models.json"),
  workers: workersOf(10),
  timeout: timeoutOf(10),
  json: Flags.json
}
const fetchAbout: About = {
  about: [
    "Write the models of servers as JSON: a list of { source_url, models }.",
    "FILE is a list of addresses, as `aicortex registry check` writes it. Default: valid_models.txt; - is standard input."
  ],
  takes: "[FILE]",
  examples: ["aicortex registry fetch", "aicortex registry check ./registry -o - | aicortex registry fetch -"]
}
const fetch = Command.make("fetch", { ...fetchOptions, input }, (flags) =>
  Effect.flatMap(run, ({ fetch }) => fetch(flags))
).pipe(Command.withDescription(described(fetchAbout)))

// =============================================================================
// Resolve
// =============================================================================

const resolveOptions = { registry, output: output("resolved_models.json"), keepMissing, json: Flags.json }
const resolveAbout: About = {
  about: [
    "Join fetched models with the registry: one record for each server and model, with the identifier, date and measurement that it had.",
    "FILE is what `aicortex registry fetch` writes. Default: fetched_models.json; - is standard input."
  ],
  takes: "[FILE]",
  examples: ["aicortex registry resolve --registry ./registry"]
}
const resolve = Command.make("resolve", { ...resolveOptions, input }, (flags) =>
  Effect.flatMap(run, ({ resolve }) => resolve(flags))
).pipe(Command.withDescription(described(resolveAbout)))

// =============================================================================
// Apply
// =============================================================================

const applyOptions = {
  registry,
  backup: Flags.flag("backup", { about: "Copy the files as they are to DIR.backup/ first." }),
  force,
  dryRun,
  json: Flags.json
}
const applyAbout: About = {
  about: [
    "Replace the family files of the registry by these records, each file whole or not at all.",
    "FILE is what `aicortex registry resolve` writes. Default: resolved_models.json; - is standard input."
  ],
  takes: "[FILE]",
  examples: ["aicortex registry apply --registry ./registry --dry-run", "aicortex registry apply --backup"]
}
const apply = Command.make("apply", { ...applyOptions, input }, (flags) =>
  Effect.flatMap(run, ({ apply }) => apply(flags))
).pipe(Command.withDescription(described(applyAbout)))

// =============================================================================
// Refresh
// =============================================================================

const refreshOptions = {
  registry,
  noBackup: Flags.flag("no-backup", { about: "Do not copy the files as they are to DIR.backup/ first." }),
  keepMissing,
  force,
  dryRun,
  workers: workersOf(20),
  timeout: timeoutOf(5),
  json: Flags.json
}
const refreshAbout: About = {
  about: [
    "Ask the servers of the registry, and of the sources given, for their models, and bring the registry files up to date.",
    "With no source, your configured servers are asked too. No other address is."
  ],
  takes: "[SOURCE]…",
  examples: [
    "aicortex registry refresh --registry ./registry --dry-run",
    "aicortex registry refresh http://gpu-1:11434 addresses.txt --registry ./registry"
  ]
}
const refresh = Command.make("refresh", { ...refreshOptions, sources }, ({ noBackup, ...flags }) =>
  Effect.flatMap(run, ({ refresh }) => refresh({ ...flags, backup: !noBackup }))
).pipe(Command.withDescription(described(refreshAbout)))

// =============================================================================
// Import, export, restore
// =============================================================================

const exchange = Effect.promise(() => import("./registry/exchangeRun.js"))

const importOptions = { registry, backup: applyOptions.backup, force, dryRun, json: Flags.json }
const importAbout: About = {
  about: [
    "Add servers and models to the registry: from AI Cortex's family files, a servers.json, or a list of addresses.",
    "What the registry says already stays; what it leaves open is filled. No server is asked."
  ],
  takes: "SOURCE…",
  examples: ["aicortex registry import ./models --registry ./registry", "aicortex registry import addresses.txt"]
}
const importCommand = Command.make(
  "import",
  { ...importOptions, sources: Args.atLeast(Args.text({ name: "SOURCE" }), 1) },
  (flags) => Effect.flatMap(exchange, ({ importAll }) => importAll(flags))
).pipe(Command.withDescription(described(importAbout)))

const exportOptions = {
  registry,
  format: Flags.choice("format", Flags.words(["families", "servers", "urls"]), {
    about: "AI Cortex's family files, one list of servers (servers.json), or addresses. Default: servers."
  }),
  output: Flags.text("output", {
    alias: "o",
    value: "PATH",
    about: "The file, or for families the folder, to write to. Default: - which is standard output."
  })
}
const exportAbout: About = {
  about: ["Write the registry in a form that others read."],
  examples: [
    "aicortex registry export --registry ./registry > servers.json",
    "aicortex registry export --format families --output ./models"
  ]
}
const exportCommand = Command.make("export", exportOptions, (flags) =>
  Effect.flatMap(exchange, ({ exportAll }) => exportAll(flags))
).pipe(Command.withDescription(described(exportAbout)))

const restoreOptions = {
  registry,
  list: Flags.flag("list", { alias: "l", about: "Only list the backups, the newest first." }),
  json: Flags.json
}
const restoreAbout: About = {
  about: ["Bring back the registry files of a backup: the newest unless one is named. The present ones are backed up."],
  takes: "[BACKUP]",
  examples: ["aicortex registry restore --list", "aicortex registry restore 20260102T030405.678Z"]
}
const restore = Command.make(
  "restore",
  { ...restoreOptions, backup: Args.optional(Args.text({ name: "BACKUP" })) },
  (flags) => Effect.flatMap(exchange, ({ restore }) => restore(flags))
).pipe(Command.withDescription(described(restoreAbout)))

// =============================================================================
// The command
// =============================================================================

const about: About = {
  about: [
    "Keep a folder of registry files up to date: which of your servers has which model.",
    "refresh does all of it; check, fetch, resolve and apply are its steps. docs/registry.md explains them."
  ],
  examples: ["aicortex registry refresh --registry ./registry", "aicortex registry restore --registry ./registry"]
}

export const registryShape = shape(
  about,
  {},
  {
    check: shape(checkAbout, checkOptions),
    fetch: shape(fetchAbout, fetchOptions),
    resolve: shape(resolveAbout, resolveOptions),
    apply: shape(applyAbout, applyOptions),
    refresh: shape(refreshAbout, refreshOptions),
    import: shape(importAbout, importOptions),
    export: shape(exportAbout, exportOptions),
    restore: shape(restoreAbout, restoreOptions)
  }
)

export const registryCommand = Command.make("registry").pipe(
  Command.withDescription(described(about)),
  Command.withSubcommands([check, fetch, resolve, apply, refresh, importCommand, exportCommand, restore])
)
