/**
 * `aicortex embed`: turns texts into vectors.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
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

const config = { ...options, texts: Args.repeated(Args.text({ name: "TEXT" })) }

/**
 * @since 0.1.0
 * @category models
 */
export type Embed = Command.Command.ParseConfig<typeof config>

const about: About = {
  about: [
    "Turn texts into vectors, and print each as a line of JSON.",
    "Each argument is a text; without any, standard input is one, or, with --lines, one in each line."
  ],
  takes: "[TEXT]…",
  examples: [
    'aicortex embed "a cat" "a dog" --model nomic-embed-text',
    "aicortex embed --lines --model nomic-embed-text < titles.txt > vectors.jsonl"
  ]
}

/**
 * @since 0.1.0
 * @category commands
 */
export const embedShape = shape(about, options)

/**
 * @since 0.1.0
 * @category commands
 */
export const embed = Command.make("embed", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./embed/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
