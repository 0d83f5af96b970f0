/** `aicortex top`: a gateway's fleet and requests, live in the terminal. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
  key: Flags.text("key", {
    value: "KEY",
    about: "The gateway's key. Others may see it in the list of processes: --key-env hides it."
  }),
  keyEnv: Flags.keyEnv,
  noGateway: Flags.flag("no-gateway", {
    about: "Ask no gateway: show the servers of the configuration, as this process finds them."
  }),
  once: Flags.flag("once", { about: "Print what holds now, and end. Always so off a terminal." }),
  interval: Flags.seconds("interval", {
    about: "How often it is drawn. Default: 1. Off a terminal, and with --once or --json: print again so often."
  }),
  json: Flags.json
}

const about: About = {
  about: [
    "Watch the servers and requests of a gateway, and rest, drain and wake servers or cancel requests.",
    "Without URL it is the gateway that serve would start with the settings of now, with the key that they name. Press ? for the keys.",
    "It reads what the page of the gateway reads: GET /fleet, /requests and /events."
  ],
  takes: "[URL]",
  examples: [
    "aicortex top",
    "aicortex top http://gateway:8000 --key-env AICORTEX_ADMIN_KEY",
    "aicortex top --once --json"
  ]
}

export const topShape = shape(about, options)

export const top = Command.make("top", { ...options, url: Args.optional(Args.text({ name: "URL" })) }, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./top/run.js")),
    ({ run }) => run({ ...flags, url: Option.getOrUndefined(flags.url) })
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
