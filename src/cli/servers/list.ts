/** `aicortex servers list`: the user's servers. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "../commandLine.js"
import * as Flags from "../flags.js"

const options = { json: Flags.json }

const about: About = {
  about: ["List your servers, what they speak, and whether they can be reached."],
  examples: ["aicortex servers list", "aicortex servers list --json"]
}

export const listShape = shape(about, options)

export const list = Command.make("list", options, ({ json }) =>
  Effect.flatMap(
    Effect.promise(() => import("./listRun.js")),
    ({ listAll }) => listAll(json)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
