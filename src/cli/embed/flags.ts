/**
 * The flags of `aicortex embed`.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Flags from "../flags.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = {
  model: Flags.text("model", {
    alias: "m",
    value: "NAME",
    about: "The model that makes the vectors, such as nomic-embed-text. There is no default."
  }),
  lines: Flags.flag("lines", { alias: "l", about: "Each line of standard input is a text of its own." }),
  dimensions: Flags.whole("dimensions", { about: "So many numbers in each vector, where the model can make fewer." }),
  keepAlive: Flags.text("keep-alive", { value: "TIME", about: "How long Ollama keeps the model loaded, such as 10m." }),
  routing: Flags.choice(
    "routing",
    [
      ["random", "random"],
      ["fastest", "fastest"],
      ["nearest", "nearest"],
      ["balanced", "balanced"]
    ],
    { about: "In which order servers are tried. Default: random." }
  ),
  timeout: Flags.seconds("timeout", {
    about: "How long a server may be silent before the next one is tried. Default: 30."
  }),
  deadline: Flags.seconds("deadline", { about: "For the whole call, with every server tried. Default: none." }),
  maxRetries: Flags.whole("max-retries", { about: "How many attempts in all. Default: every server once." }),
  json: Flags.flag("json", { about: "Print one object with the vectors, the server and the tokens, for programs." })
}

/**
 * @since 0.1.0
 * @category models
 */
export const config = { ...options, texts: Args.repeated(Args.text({ name: "TEXT" })) }
