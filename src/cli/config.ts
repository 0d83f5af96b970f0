/** `aicortex config`: the effective settings and where each comes from, and the file that holds them. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = { json: Flags.json }

const about: About = {
  about: [
    "Show the settings, and whether each comes from the environment, the configuration file or a default.",
    "The file is AICORTEX_CONFIG, else aicortex/config.json under XDG_CONFIG_HOME or ~/.config. API keys are not shown."
  ],
  examples: ["aicortex config", "aicortex config --json", "aicortex config set defaults.temperature 0.2"]
}

const change = Effect.promise(() => import("./config/changeRun.js"))
const key = Args.text({ name: "KEY" })

const getAbout: About = {
  about: ["Print the value of a setting that holds, wherever it comes from."],
  takes: "KEY",
  examples: ["aicortex config get model", "aicortex config get gateway.port"]
}
const get = Command.make("get", { ...options, key }, ({ json, key }) =>
  Effect.flatMap(change, ({ get }) => get(key, json))
).pipe(Command.withDescription(getAbout.about[0] ?? ""))

const setAbout: About = {
  about: [
    "Set a setting in the configuration file, which is made where there is none.",
    "The value is as in the variable of the setting, or as in the file, in JSON. One that does not fit changes nothing."
  ],
  takes: "KEY VALUE…",
  examples: [
    "aicortex config set defaults.timeout 20",
    "aicortex config set defaults.temperature 0.2",
    `aicortex config set aliases.best '["qwen2.5:72b", "llama3.2:3b"]'`
  ]
}
const set = Command.make("set", { words: Args.repeated(Args.text({ name: "KEY VALUE" })) }, ({ words }) =>
  Effect.flatMap(change, ({ set }) => set(words))
).pipe(Command.withDescription(setAbout.about[0] ?? ""))

const unsetAbout: About = {
  about: ["Take a setting out of the configuration file: its default holds again."],
  takes: "KEY",
  examples: ["aicortex config unset model"]
}
const unset = Command.make("unset", { key }, ({ key }) => Effect.flatMap(change, ({ unset }) => unset(key))).pipe(
  Command.withDescription(unsetAbout.about[0] ?? "")
)

const editAbout: About = {
  about: [
    "Open the configuration file in your editor: VISUAL, else EDITOR.",
    "It is saved only if it can be used; else what you wrote is kept beside it."
  ],
  examples: ["aicortex config edit"]
}
const edit = Command.make("edit", {}, () => Effect.flatMap(change, ({ edit }) => edit)).pipe(
  Command.withDescription(editAbout.about[0] ?? "")
)

const pathAbout: About = {
  about: ["Print where the configuration file is, or would be."],
  examples: ["aicortex config path"]
}
const path = Command.make("path", {}, () => Effect.flatMap(change, ({ path }) => path)).pipe(
  Command.withDescription(pathAbout.about[0] ?? "")
)

export const configShape = shape(about, options, {
  get: shape(getAbout, options),
  set: shape(setAbout, {}),
  unset: shape(unsetAbout, {}),
  edit: shape(editAbout, {}),
  path: shape(pathAbout, {})
})

export const config = Command.make("config", options, ({ json }) =>
  Effect.flatMap(
    Effect.promise(() => import("./config/run.js")),
    ({ run }) => run(json)
  )
).pipe(Command.withDescription(about.about[0] ?? ""), Command.withSubcommands([get, set, unset, edit, path]))
