/**
 * `aicortex servers add`: adds a server to the configuration file.
 *
 * @since 0.1.0
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { withExamples } from "./examples.js"
import * as Flags from "./flags.js"

/**
 * @since 0.1.0
 * @category models
 */
export const options = {
  protocol: Flags.choice(
    "protocol",
    [
      ["ollama", "ollama"],
      ["openai", "openai"]
    ],
    {
      about: "What the server speaks. Default: found out."
    }
  ),
  apiKeyEnv: Flags.text("api-key-env", {
    value: "VARIABLE",
    about: "The environment variable that holds its API key."
  }),
  apiKey: Flags.flag("api-key", {
    about: "Ask for its API key, or read it from standard input; it is kept in the configuration file."
  }),
  location: Flags.text("location", { value: "LAT,LON", about: "Where it stands, for the routing `nearest`." }),
  city: Flags.text("city", { value: "NAME", about: "The city in which it stands." }),
  country: Flags.text("country", { value: "CODE", about: "The country in which it stands, such as DE." }),
  weight: Flags.number("weight", { about: "Its share of the traffic, above 0, default 1." }),
  priority: Flags.whole("priority", { about: "Lower is tried first, default 0." }),
  maxInFlight: Flags.whole("max-in-flight", { about: "Requests at once. Default: no limit." })
}

const url = Args.text({ name: "URL" }).pipe(
  Args.withDescription("Its address, such as http://gpu-1:11434 or https://host/v1.")
)

/**
 * @since 0.1.0
 * @category models
 */
export const config = { ...options, url }

/**
 * @since 0.1.0
 * @category commands
 */
export const command = Command.make("add", config, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./servers/add.js")),
    ({ run }) => run(flags)
  )
).pipe(
  Command.withDescription(
    withExamples(
      "Add a server to the configuration file, and tell whether it answers. It is added also if it does not.",
      [
        "aicortex servers add http://gpu-1:11434 --location 52.52,13.40 --city Berlin --country DE",
        "aicortex servers add https://llm.example.com/v1 --api-key-env LLM_KEY"
      ]
    )
  )
)
