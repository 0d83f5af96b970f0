/** `aicortex use`: the model of calls that name none. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type About, shape } from "./commandLine.js"

const about: About = {
  about: [
    "Choose the model that answers where none is named: it is kept in the configuration file.",
    "An alias is fine, and `auto`: the one that fits best. Without a MODEL, print which one would answer now."
  ],
  takes: "[MODEL]",
  examples: ["aicortex use llama3.2:3b", "aicortex use auto", "aicortex use"]
}

export const useShape = shape(about, {})

export const use = Command.make("use", { model: Args.optional(Args.text({ name: "MODEL" })) }, ({ model }) =>
  Effect.flatMap(
    Effect.promise(() => import("./use/run.js")),
    ({ run, show }) => Option.match(model, { onNone: () => show, onSome: run })
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
