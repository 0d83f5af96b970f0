/** `aicortex ls`, `ps`, `show`, `pull` and `rm`: the models on the user's servers. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const model = Args.text({ name: "MODEL" })

const server = Flags.texts("server", {
  value: "URL",
  about: "Only this server, by its address or its host name. May be given again."
})

const all = Flags.flag("all", { about: "All of your servers, instead of some of them." })

// =============================================================================
// List
// =============================================================================

const lsOptions = { server, json: Flags.json }
const lsAbout: About = {
  about: [
    "List the models of your servers and of this machine: their sizes, and where they are.",
    "A name stands there twice where servers have different versions of it. `aicortex models` searches all models that are known."
  ],
  examples: ["aicortex ls", "aicortex ls --server gpu-1 --json"]
}
export const lsShape = shape(lsAbout, lsOptions)
export const ls = Command.make("ls", lsOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./manage/ls.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(lsAbout.about[0] ?? ""))

const listAbout: About = { ...lsAbout, about: ["The same as `aicortex ls`."], examples: ["aicortex list"] }
export const listShape = shape(listAbout, lsOptions)
export const list = Command.make("list", lsOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./manage/ls.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(listAbout.about[0] ?? ""))

// =============================================================================
// What is loaded
// =============================================================================

const psAbout: About = {
  about: [
    "List the models that are loaded: on which server or engine of this machine, in how much memory, and until when."
  ],
  examples: ["aicortex ps", "aicortex ps --json"]
}
export const psShape = shape(psAbout, lsOptions)
export const ps = Command.make("ps", lsOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./manage/ps.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(psAbout.about[0] ?? ""))

// =============================================================================
// Show
// =============================================================================

const showOptions = {
  server,
  json: Flags.json
}
const showAbout: About = {
  about: [
    "Show what a server says of a model: its size, context, capabilities, parameters and licence.",
    "The server is the first that has it, of those that are named with --server, if any."
  ],
  takes: "MODEL",
  examples: ["aicortex show llama3.2:3b", "aicortex show llama3.2:3b --server gpu-2 --json"]
}
export const showShape = shape(showAbout, showOptions)
export const show = Command.make("show", { ...showOptions, model }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./manage/show.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(showAbout.about[0] ?? ""))

// =============================================================================
// Pull
// =============================================================================

const pullOptions = {
  server,
  all,
  name: Flags.text("name", { value: "NAME", about: "The name that the model gets. Default: that of the file." }),
  copy: Flags.flag("copy", { about: "Keep a copy of FILE, which otherwise stays where it is." }),
  list: Flags.flag("list", { about: "List the quantizations of a repository, and which fit in memory." }),
  json: Flags.json
}
const pullAbout: About = {
  about: [
    "Download a model, or update it. Ctrl-C stops; the same command continues where it stopped.",
    "To this machine: a repository of the hub (owner/repo, owner/repo:Q4_K_M), the address of a GGUF file, a file, or a variant of Cortex (llama3.1:8b-gguf-q4-km).",
    "To your Ollama servers: any other name. Without --server and --all, to those that have it, else to the one whose models take the least space."
  ],
  takes: "MODEL",
  examples: [
    "aicortex pull bartowski/Llama-3.2-1B-Instruct-GGUF --list",
    "aicortex pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M",
    "aicortex pull ./mine.gguf --name mine",
    "aicortex pull llama3.2:3b",
    "aicortex pull llama3.2:3b --server gpu-1",
    "aicortex pull llama3.2:3b --all"
  ]
}
export const pullShape = shape(pullAbout, pullOptions)
export const pull = Command.make("pull", { ...pullOptions, model }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./manage/pull.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(pullAbout.about[0] ?? ""))

// =============================================================================
// Remove
// =============================================================================

const rmOptions = {
  server,
  all,
  json: Flags.json
}
const rmAbout: About = {
  about: [
    "Delete a model of this machine, or else from a server. Where several servers have it, say --server or --all."
  ],
  takes: "MODEL",
  examples: ["aicortex rm llama3.2:3b --server gpu-1", "aicortex rm llama3.2:3b --all"]
}
export const rmShape = shape(rmAbout, rmOptions)
export const rm = Command.make("rm", { ...rmOptions, model }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./manage/rm.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(rmAbout.about[0] ?? ""))
