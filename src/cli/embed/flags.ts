/** The flags of `aicortex embed`. */
import * as Args from "@effect/cli/Args"
import { Options } from "../../EmbedRequest.js"
import { callFlags } from "../callFlags.js"
import * as Flags from "../flags.js"

export const options = {
  model: Flags.model,
  lines: Flags.flag("lines", { alias: "l", about: "Each line of standard input is a text of its own." }),
  dimensions: Flags.number("dimensions", Options.fields.dimensions.from, {
    about: "Number of dimensions, for models that support fewer."
  }),
  ...callFlags,
  json: Flags.json
}

export const config = { ...options, texts: Args.repeated(Args.text({ name: "TEXT" })) }
