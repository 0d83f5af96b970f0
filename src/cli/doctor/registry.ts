/** Checks the sources of the registry: whether they could be read, and how old what is in use of them is. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Registry, type RegistrySource } from "../../Registry.js"
import { counted } from "../counted.js"
import { type Check, ok, warning, wrong } from "./check.js"

/** How long ago, in words. */
const ago = (milliseconds: number): string => {
  const minutes = Math.round(milliseconds / 60_000)
  if (minutes < 1) return "just now"
  return minutes < 120 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`
}

const check = ({ checkedAt, error, kind, models, readAt, servers, source }: RegistrySource, now: number): Check => {
  const content = `${counted(servers, "server")}, ${counted(models, "model")}`
  const age = checkedAt === undefined ? "" : `, confirmed ${ago(now - checkedAt)}`
  if (error === undefined) return ok("registry", source, `${content}${kind === "url" ? age : ""}`)
  const advice =
    kind === "url"
      ? "Open the address in a browser, or ask its maintainer. `aicortex config` shows the setting `registry`."
      : "Correct it, or remove it from the setting `registry`: `aicortex config`."
  if (readAt === undefined) return wrong("registry", source, `${error.detail}; nothing is known of it`, advice)
  return warning("registry", source, `${error.detail}; in use is a copy with ${content}${age}`, advice)
}

/** What is to say of each source. */
export const checkRegistry = Effect.gen(function* () {
  const now = yield* Clock.currentTimeMillis
  return (yield* (yield* Registry).sources).map((one) => check(one, now))
})
