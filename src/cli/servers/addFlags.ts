/** The flags of `aicortex servers add`. */
import * as Args from "@effect/cli/Args"
import { server } from "../../config/server.js"
import { fields } from "../../server/options.js"
import * as Flags from "../flags.js"

export const options = {
  protocol: Flags.choice("protocol", Flags.words(fields.protocol.literals), {
    about: "The server's protocol. Default: detected."
  }),
  apiKeyEnv: Flags.text("api-key-env", {
    value: "VARIABLE",
    about: "The environment variable that holds its API key."
  }),
  askApiKey: Flags.flag("ask-api-key", {
    about: "Ask for its API key, or read it from standard input; it is kept in the configuration file."
  }),
  header: Flags.texts("header", {
    value: "'NAME: VALUE'",
    about: "A header of every request to it; may be given again. It is kept in the configuration file."
  }),
  headerEnv: Flags.texts("header-env", {
    value: "NAME=VARIABLE",
    about: "The same, where an environment variable holds the value."
  }),
  location: Flags.text("location", {
    value: "PLACE",
    about: "Its location, for the routing `nearest`: a latitude and a longitude, or a name."
  }),
  city: Flags.text("city", { value: "NAME", about: "Its city." }),
  country: Flags.text("country", { value: "CODE", about: "Its country, such as DE." }),
  weight: Flags.number("weight", fields.weight, {
    about: "Its share of the traffic.",
    default: server.weight.default
  }),
  priority: Flags.number("priority", fields.priority, {
    about: "Lower is tried first.",
    default: server.priority.default
  }),
  local: Flags.choice(
    "local",
    [
      ["true", true],
      ["false", false]
    ],
    { about: "Whether it is local, where private calls stay. Default: whether its address is of this machine." }
  ),
  wake: Flags.text("wake", {
    value: "MAC",
    about: "The hardware address of its machine, which is woken (wake-on-LAN) where it sleeps and a call needs it."
  }),
  wakeAddress: Flags.text("wake-address", {
    value: "HOST:PORT",
    about: "Where the magic packet is sent, such as 192.168.1.255:9. Default: 255.255.255.255:9."
  }),
  maxInFlight: Flags.number("max-in-flight", fields.maxInFlight, {
    about: "Requests at once; more wait. Default: no limit, or for Ollama 4 per model."
  })
}

export const config = { ...options, url: Args.text({ name: "URL" }) }
