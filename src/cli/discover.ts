/** `aicortex discover`: servers in the local network. */
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const options = {
  wait: Flags.seconds("wait", { about: "How long to listen for servers. Default: 3." }),
  yes: Flags.yes,
  interface: Flags.text("interface", {
    value: "ADDRESS",
    about: "The address of this machine on the network to ask in. Default: all networks."
  }),
  json: Flags.json
}

const about: About = {
  about: [
    "Find Ollama servers and aicortex gateways in the local network (mDNS), and add them to your servers.",
    "It only asks which servers there are. It connects to servers and adds them after a question or with --yes; off a terminal it only lists them."
  ],
  examples: ["aicortex discover", "aicortex discover --json --wait 1", "aicortex discover --yes"]
}

export const discoverShape = shape(about, options)

export const discover = Command.make("discover", options, (flags) =>
  Effect.flatMap(
    Effect.promise(() => import("./discover/run.js")),
    ({ run }) => run(flags)
  )
).pipe(Command.withDescription(about.about[0] ?? ""))
