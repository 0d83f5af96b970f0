/** `aicortex run`, `start`, `stop`, `status`, `logs`, `engines` and `service`: the models that run on this machine. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { wholeBetween } from "../internal/units.js"
import { defaultPort } from "../supervisor/port.js"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"
import { startFlags } from "./local/flags.js"

const described = (about: About) => about.about[0] ?? ""

const port = Flags.number("port", wholeBetween(0, 65_535), {
  alias: "p",
  about: "The port of the endpoint of all models; 0 is a free one.",
  default: defaultPort
})

// =============================================================================
// Run and start
// =============================================================================

export const runOptions = {
  detach: Flags.flag("detach", {
    alias: "d",
    about: "Print the base URL for clients and return; the model keeps running."
  }),
  port,
  ...startFlags,
  json: Flags.json
}
const runAbout: About = {
  about: [
    "Run a model on this machine and talk to it: it is downloaded where it is missing, started, and waited for.",
    "MODEL is a GGUF file, or a name that `aicortex pull` takes. With -d it runs in the background until `aicortex stop`."
  ],
  takes: "MODEL",
  examples: [
    "aicortex run ./qwen3-4b-q4_k_m.gguf",
    "aicortex run -d qwen3-4b --ctx 8192",
    "aicortex run -d MODEL --json"
  ]
}
export const runShape = shape(runAbout, runOptions)
export const run = Command.make("run", { ...runOptions, model: Args.text({ name: "MODEL" }) }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./local/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(described(runAbout)))

export const startOptions = {
  port,
  host: Flags.text("host", { value: "ADDRESS", about: "Where the endpoint listens. Default: 127.0.0.1." }),
  foreground: Flags.flag("foreground", { about: "Hold the models in this process, until it is ended." }),
  whileFollowed: Flags.flag("while-followed", {
    about: "With --foreground: end with the last gateway that serves the models, unless one was started to stay."
  }),
  ...startFlags,
  json: Flags.json
}
const startAbout: About = {
  about: [
    "Start a model in the background, or, without MODEL, only what holds the models: each is loaded at its first request.",
    "The endpoint of all models is http://127.0.0.1:39281/v1."
  ],
  takes: "MODEL",
  examples: ["aicortex start", "aicortex start qwen3-4b --parallel 8", "aicortex start --foreground"]
}
export const startShape = shape(startAbout, startOptions)
export const start = Command.make(
  "start",
  { ...startOptions, models: Args.repeated(Args.text({ name: "MODEL" })) },
  (flags) =>
    Effect.flatMap(
      Effect.promise(() => import("./local/start.js")),
      ({ run }) => run(flags)
    )
).pipe(Command.withDescription(described(startAbout)))

// =============================================================================
// Stop
// =============================================================================

const stopOptions = {
  all: Flags.flag("all", { about: "All models, and what holds them. The default without MODEL." }),
  json: Flags.json
}
const stopAbout: About = {
  about: ["Stop a model of this machine, or all of them and what holds them."],
  takes: "MODEL",
  examples: ["aicortex stop qwen3-4b", "aicortex stop --all"]
}
export const stopShape = shape(stopAbout, stopOptions)
export const stop = Command.make(
  "stop",
  { ...stopOptions, models: Args.repeated(Args.text({ name: "MODEL" })) },
  (flags) =>
    Effect.flatMap(
      Effect.promise(() => import("./local/stop.js")),
      ({ run }) => run(flags)
    )
).pipe(Command.withDescription(described(stopAbout)))

// =============================================================================
// What there is
// =============================================================================

const statusOptions = { json: Flags.json }
const statusAbout: About = {
  about: ["Show what holds the models of this machine, its address, and what each model is doing."],
  examples: ["aicortex status", "aicortex status --json"]
}
export const statusShape = shape(statusAbout, statusOptions)
export const status = Command.make("status", statusOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./local/status.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(described(statusAbout)))

const logsOptions = {
  follow: Flags.flag("follow", { alias: "f", about: "Go on with what is added, until Ctrl-C." }),
  lines: Flags.whole("tail", { about: "How many of the last lines. Default: 80." })
}
const logsAbout: About = {
  about: ["Print what the engines of a model have written; without MODEL, what the supervisor of all has."],
  takes: "MODEL",
  examples: ["aicortex logs qwen3-4b", "aicortex logs -f qwen3-4b"]
}
export const logsShape = shape(logsAbout, logsOptions)
export const logs = Command.make(
  "logs",
  { ...logsOptions, models: Args.repeated(Args.text({ name: "MODEL" })) },
  (flags) =>
    Effect.flatMap(
      Effect.promise(() => import("./local/logs.js")),
      ({ run }) => run(flags)
    )
).pipe(Command.withDescription(described(logsAbout)))

const enginesAbout: About = {
  about: ["List the programs that can run models on this machine, and how to get those that are missing."],
  examples: ["aicortex engines", "aicortex engines --json"]
}
export const enginesShape = shape(enginesAbout, statusOptions)
export const engines = Command.make("engines", statusOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./local/engines.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(described(enginesAbout)))

// =============================================================================
// Service
// =============================================================================

const installOptions = { port }
const installAbout: About = {
  about: ["Write a unit for systemd, so that the models of this machine are there from login on."],
  examples: ["aicortex service install", "aicortex service install --port 8080"]
}
const serviceAbout: About = {
  about: ["Have the models of this machine start with the system."],
  examples: ["aicortex service install"]
}
export const serviceShape = shape(serviceAbout, {}, { install: shape(installAbout, installOptions) })
const install = Command.make("install", installOptions, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./local/service.js")),
    ({ install }) => install(flags)
  )
).pipe(Command.withDescription(described(installAbout)))
export const service = Command.make("service").pipe(
  Command.withDescription(described(serviceAbout)),
  Command.withSubcommands([install])
)
