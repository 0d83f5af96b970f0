/** The flags of `aicortex serve`. */
import * as Flags from "../flags.js"

export const options = {
  host: Flags.text("host", { value: "ADDRESS", about: "Where to listen. Default: HOST, else 127.0.0.1." }),
  port: Flags.number(
    "port",
    { alias: "p", about: "Default: PORT, else 8000; 0 takes a free one." },
    { must: "a whole number from 0 to 65535", test: (n) => Number.isInteger(n) && n >= 0 && n <= 65_535 }
  ),
  defaultModel: Flags.text("default-model", {
    value: "NAME",
    about: "For requests that name no model. Default: DEFAULT_MODEL, else AICORTEX_MODEL, else whatever fits."
  }),
  apiKey: Flags.text("api-key", {
    value: "KEY",
    about: "Requests without it are rejected. Other processes can see it: prefer AICORTEX_API_KEY."
  }),
  adminKey: Flags.text("admin-key", {
    value: "KEY",
    about: "A key that may also change models. Prefer AICORTEX_ADMIN_KEY."
  }),
  cors: Flags.texts("cors", {
    value: "ORIGIN",
    about:
      "A web page's origin that may use the gateway, such as app://obsidian.md, https://*.example.com, http://localhost:*, or *. Repeatable. Default: those of this machine."
  }),
  hosts: Flags.texts("allow-host", {
    value: "NAME",
    about: "A name by which the gateway may be called without an API key. Repeatable."
  }),
  maxBody: Flags.number(
    "max-body",
    { value: "BYTES", about: "The longest request. Default: 33554432." },
    { must: "a whole number from 1", test: (n) => Number.isSafeInteger(n) && n > 0 }
  ),
  maxRetries: Flags.whole("max-retries", {
    about: "Total attempts of each request. Default: two rounds over the servers, and at least six."
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
  exposeServers: Flags.flag("expose-servers", { about: "Show clients the addresses of servers." }),
  strict: Flags.flag("strict", { about: "Reject requests with unknown parameters." }),
  log: Flags.choice(
    "log",
    [
      ["off", "off"],
      ["text", "text"],
      ["json", "json"]
    ],
    { about: "A line on standard error for each request: never a prompt or a key. Default: off." }
  ),
  insecure: Flags.flag("insecure", { about: "Listen beyond this machine although there is no API key." }),
  drain: Flags.number(
    "drain",
    { value: "SECONDS", about: "How long requests in flight may take at shutdown. Default: 30." },
    { must: "a number of seconds from 0", test: (n) => Number.isFinite(n * 1000) && n >= 0 }
  ),
  workers: Flags.number(
    "workers",
    { about: "Number of processes, to use several cores. Default: 1." },
    { must: "a whole number from 1 to 256", test: (n) => Number.isInteger(n) && n >= 1 && n <= 256 }
  ),
  json: Flags.flag("json", { about: "Print where it listens as JSON, for programs." })
}
