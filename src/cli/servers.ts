/** `aicortex servers`: the user's servers, and those of a model. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"
import { add, addShape } from "./servers/add.js"
import { list, listShape } from "./servers/list.js"
import { remove, removeShape } from "./servers/remove.js"

const options = { json: Flags.json }

const about: About = {
  about: [
    "List your servers, whether they can be reached, their versions and latencies; or the servers that have a model, with their speed for it."
  ],
  takes: "[MODEL]",
  examples: ["aicortex servers", "aicortex servers llama3.2:3b", "aicortex servers add http://gpu-1:11434"]
}

export const serversShape = shape(about, options, { list: listShape, add: addShape, remove: removeShape })

export const servers = Command.make(
  "servers",
  { ...options, model: Args.optional(Args.text({ name: "MODEL" })) },
  ({ json, model }) =>
    Effect.flatMap(
      Effect.promise(() => import("./servers/listRun.js")),
      ({ listAll, listOf }) =>
        Option.match(model, { onNone: () => listAll(json), onSome: (model) => listOf(model, json) })
    )
).pipe(Command.withDescription(about.about[0] ?? ""), Command.withSubcommands([list, add, remove]))
