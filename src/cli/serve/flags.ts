/** The flags of `aicortex serve`. */
import * as Schema from "effect/Schema"
import { gateway } from "../../config/gateway.js"
import * as Flags from "../flags.js"
import { flagsOf } from "../settingFlags.js"

const workers = Schema.Number.pipe(
  Schema.filter(
    (n) => (Number.isInteger(n) && n >= 1 && n <= 256 ? undefined : "must be a whole number from 1 to 256"),
    {
      jsonSchema: { minimum: 1, maximum: 256 }
    }
  )
)

export const options = {
  gateway: flagsOf(gateway),
  apiKey: Flags.text("api-key", {
    value: "KEY",
    about: "Requests without it are rejected. Other processes can see it: prefer AICORTEX_API_KEY."
  }),
  adminKey: Flags.text("admin-key", {
    value: "KEY",
    about: "A key that may also change models. Prefer AICORTEX_ADMIN_KEY."
  }),
  config: Flags.text("config", { value: "FILE", about: "The configuration file, instead of the usual one." }),
  proxy: Flags.text("proxy", {
    value: "ADDRESS",
    about: "The proxy through which servers are reached, or off. Better give one with a password as AICORTEX_PROXY."
  }),
  ca: Flags.texts("ca", {
    value: "FILE",
    about: "Certificates (PEM) of an authority that is trusted besides those that Node trusts. Repeatable."
  }),
  workers: Flags.number("workers", workers, {
    about: "Number of processes, to use several cores.",
    default: 1
  }),
  json: Flags.json
}
