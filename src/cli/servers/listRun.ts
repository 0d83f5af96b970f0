/**
 * What `aicortex servers` lists.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { Registry } from "../../Registry.js"
import type { ServerInfo } from "../../Server.js"
import { addServer } from "../failure.js"
import * as Fleet from "../fleet.js"
import * as Output from "../output.js"

/** Registries hold speeds of every kind: whatever is no number is not known. */
const speed = (value: unknown): string => (typeof value === "number" && Number.isFinite(value) ? value.toFixed(1) : "-")

const row = ({ location, tokens_per_second, url }: ServerInfo): ReadonlyArray<string> => [
  url,
  location.city ?? "-",
  location.country ?? "-",
  speed(tokens_per_second)
]

/**
 * The servers of a model.
 *
 * @since 0.1.0
 * @category constructors
 */
export const listOf = (model: string, json: boolean) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const servers = yield* registry.listModelServers(model)
    if (servers.length === 0) return yield* registry.missing(model)
    if (json) return yield* Output.writeJson(servers)
    yield* Output.write(Output.table(["URL", "City", "Country", "TPS"], servers.map(row)))
  }).pipe(Effect.provide(Fleet.layer))

/**
 * The user's servers.
 *
 * @since 0.1.0
 * @category constructors
 */
export const listAll = (json: boolean) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const servers = yield* registry.servers
    if (json) return yield* Output.writeJson(servers)
    if (servers.length === 0) {
      return yield* Output.note(`no server is known; add one with ${addServer}`)
    }
    const rows = servers.map(({ models, problem, protocol, reachable, url }) => [
      url,
      protocol ?? "-",
      reachable ? String(models.length) : "-",
      reachable ? "reachable" : (problem ?? "cannot be reached")
    ])
    yield* Output.write(Output.table(["URL", "Protocol", "Models", "Status"], rows))
  }).pipe(Effect.provide(Fleet.layer))
