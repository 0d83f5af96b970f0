/** The flags of `aicortex models`. */
import * as Flags from "../flags.js"

export const options = {
  family: Flags.text("family", { alias: "f", value: "NAME", about: "Only models of this family." }),
  search: Flags.text("search", { value: "TEXT", about: "Only models with this text in their name." }),
  available: Flags.flag("available", { alias: "a", about: "Only models that one of your servers has." }),
  minParams: Flags.text("min-params", {
    value: "SIZE",
    about: "Only models of at least this size, such as 7b or 500m."
  }),
  maxParams: Flags.text("max-params", { value: "SIZE", about: "Only models of at most this size." }),
  generation: Flags.whole("generation", { about: "Only models of this generation: 3 for gemma3 and llama3.2." }),
  json: Flags.json
}
