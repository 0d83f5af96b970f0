/** Flags shared by all commands that call a model. */
import { routingNames } from "../chatRequest/routing.js"
import * as Flags from "./flags.js"

/** The routing strategies. */
export const strategies = Flags.words(routingNames)

export const callFlags = {
  routing: Flags.choice("routing", strategies, { about: "The routing strategy. Default: random." }),
  private: Flags.orSettings("private", {
    about: "Stay on local servers: fail rather than send anything elsewhere."
  }),
  timeout: Flags.timeout,
  deadline: Flags.seconds("deadline", { about: "Deadline of the whole call, over all servers. Default: none." }),
  maxRetries: Flags.maxRetries,
  keepAlive: Flags.duration("keep-alive", {
    about: "How long Ollama keeps the model loaded: seconds, or such as 10m; -1 for ever."
  })
}
