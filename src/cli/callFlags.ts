/**
 * The flags that every call to a model has.
 *
 * @since 0.1.0
 */
import type { Routing } from "../ChatRequest.js"
import * as Flags from "./flags.js"

// Its schema would cost every start of the command line some milliseconds.
const names = [
  "random",
  "fastest",
  "nearest",
  "balanced",
  "least-busy",
  "warm"
] as const satisfies ReadonlyArray<Routing>

/**
 * The orders in which servers are tried.
 *
 * @since 0.1.0
 * @category constants
 */
export const strategies = names.map((name) => [name, name] as const)

/**
 * @since 0.1.0
 * @category models
 */
export const callFlags = {
  routing: Flags.choice("routing", strategies, { about: "In which order servers are tried. Default: random." }),
  timeout: Flags.seconds("timeout", {
    about: "How long a server may be silent before the next one is tried. Default: 30."
  }),
  deadline: Flags.seconds("deadline", { about: "For the whole call, with every server tried. Default: none." }),
  maxRetries: Flags.whole("max-retries", {
    about: "How many attempts in all. Default: two rounds over the servers, and at least six."
  }),
  keepAlive: Flags.duration("keep-alive", {
    about: "How long Ollama keeps the model loaded: seconds, or such as 10m; -1 for ever."
  })
}
