/** Checks the settings: which have no effect, and which name what is not there. */
import { createServer } from "node:net"
import * as Effect from "effect/Effect"
import type { Place } from "../../config/collect.js"
import { fleet } from "../../config/fleet.js"
import { gateway } from "../../config/gateway.js"
import type { Resolved } from "../../config/resolve.js"
import type { Settings } from "../../config/setting.js"
import { nearestName } from "../../internal/issues.js"
import { canonical } from "../../Model.js"
import { candidateOf, isAuto } from "../../modelSelection/candidate.js"
import type { ManagedServer } from "../manage/servers.js"
import { type Check, ok, warning, wrong } from "./check.js"

const variablesOf = (settings: Settings): ReadonlyArray<string> =>
  Object.values(settings).flatMap(({ env }) => env ?? [])

/** Values that another place overrides. */
const overridden = ({ content, file, members, places }: Resolved): ReadonlyArray<Check> =>
  Object.entries(fleet as Settings).flatMap(([name, { env = [], join }]) => {
    const place: Place | undefined = places[name as keyof typeof places]
    // Of one that is put together, each place has its part.
    if (place === undefined || (join === true && members[name as keyof typeof members] !== undefined)) return []
    const { origin } = place
    const lost = env.slice(env.indexOf(origin) + 1).filter((one) => env.includes(origin) && process.env[one]?.trim())
    const checks = lost.map((one) =>
      warning("variable", one, `it has no effect: ${origin} is set, and overrides it`, `Unset ${one}, or ${origin}.`)
    )
    const inFile = (content as { readonly [name: string]: unknown })[name] !== undefined
    return inFile && origin !== "the file"
      ? [
          ...checks,
          warning(
            "setting",
            name,
            `in ${file} it has no effect: ${origin} is set, and overrides it`,
            `Unset ${origin}, or remove it from the file: \`aicortex config unset ${name}\`.`
          )
        ]
      : checks
  })

/** Variables that look like ours and are not read. */
const unknown = (): ReadonlyArray<Check> => {
  const known = [...variablesOf(fleet as Settings), ...variablesOf(gateway as Settings)]
  return Object.keys(process.env)
    .filter((name) => /^AICORTEX_/i.test(name) && !known.includes(name))
    .map((name) => {
      const near = nearestName(name, known)
      const advice = near === undefined ? `Unset it; \`aicortex config\` lists the settings.` : `Did you mean ${near}?`
      return warning("variable", name, "it has no effect: there is no such setting", advice)
    })
}

/** Settings that need others. */
const useless = ({ settings }: Resolved): ReadonlyArray<Check> => {
  const { defaults, location, servers } = settings
  const own = servers.filter(({ implicit }) => !implicit)
  const [only] = own
  const checks: Array<Check> = []
  const nearest = (defaults as { readonly routing?: unknown }).routing === "nearest"
  if (own.length > 1 && (location !== undefined || nearest) && own.every((server) => server.location === undefined)) {
    const message = "no server has a location, so none is the nearest one"
    checks.push(warning("setting", "location", message, "Give each server its `location` in the configuration file."))
  } else if (nearest && location === undefined) {
    const message = "the routing is `nearest`, but where you are is not set"
    checks.push(warning("setting", "location", message, "Set it: `aicortex config set location 'Berlin, DE'`."))
  }
  if (own.length === 1 && only !== undefined && (only.weight !== 1 || only.priority !== 0)) {
    const message = "weight and priority have no effect: there is no other server"
    checks.push(warning("setting", "servers", message, "Remove them, or add a second server."))
  }
  return checks
}

/** Names of models that no server has. */
const missing = ({ settings }: Resolved, all: ReadonlyArray<ManagedServer>): ReadonlyArray<Check> => {
  const there = new Set(all.flatMap(({ models, reachable }) => (reachable ? models.map(canonical) : [])))
  if (there.size === 0) return []
  const has = (name: string) => isAuto(name) || there.has(canonical(candidateOf(name).model))
  // A server that cannot be reached may have it.
  const tell = all.every(({ reachable }) => reachable) ? wrong : warning
  const { aliases, model } = settings
  const chain = aliases.get(model) ?? [model]
  const checks: Array<Check> = []
  if (!chain.some(has)) {
    const advice = `Download it: \`aicortex pull ${chain[0]}\`; or choose another: \`aicortex use MODEL\`.`
    checks.push(tell("setting", "model", `no server has the default model '${model}'`, advice))
  }
  for (const [name, models] of aliases) {
    if (name === model || models.some((one) => aliases.has(one) || has(one))) continue
    const message = `no server has a model of the alias '${name}': ${models.join(", ")}`
    checks.push(warning("setting", "aliases", message, `Download one: \`aicortex pull ${models[0]}\`.`))
  }
  return checks
}

/** All that is to say of the settings. */
export const checkSettings = (resolved: Resolved, all: ReadonlyArray<ManagedServer>): ReadonlyArray<Check> => [
  ...overridden(resolved),
  ...unknown(),
  ...useless(resolved),
  ...missing(resolved, all)
]

/** Whether the gateway could listen there. */
export const checkPort = (host: string, port: number): Effect.Effect<Check> =>
  Effect.async((resume) => {
    const subject = `${host}:${port}`
    const server = createServer()
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE"
      const message = taken
        ? "another program listens there: your gateway, if it runs already"
        : `the gateway cannot listen there (${error.code ?? error.message})`
      const advice = `If it is not your gateway, take another port: \`aicortex serve --port ${port === 8000 ? 8001 : 8000}\`.`
      resume(Effect.succeed(warning("port", subject, message, advice)))
    })
    server.listen({ host, port, exclusive: true }, () =>
      server.close(() => resume(Effect.succeed(ok("port", subject, "it is free for the gateway (`aicortex serve`)"))))
    )
  })
