/** The flags of `aicortex serve`. */
import { fleet } from "../../config/fleet.js"
import { gateway } from "../../config/gateway.js"
import { wholeBetween } from "../../internal/units.js"
import * as Flags from "../flags.js"
import { flagsOf } from "../settingFlags.js"

export const options = {
  gateway: flagsOf(gateway),
  fleet: flagsOf(fleet),
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
    about: "Certificates (PEM) of an authority that is trusted in addition to those that Node trusts. Repeatable."
  }),
  noLocal: Flags.flag("no-local", {
    about: "Do not serve the models of this machine. Default: they are served where there are any."
  }),
  announce: Flags.flag("announce", {
    about: "Announce the gateway in the local network (mDNS), where `aicortex discover` finds it."
  }),
  announceName: Flags.text("announce-name", {
    value: "NAME",
    about: "The same under this name. Default: aicortex on the name of this machine."
  }),
  workers: Flags.number("workers", wholeBetween(1, 256), {
    about: "Number of processes, to use several cores.",
    default: 1
  }),
  dryRun: Flags.dryRun,
  json: Flags.json
}
