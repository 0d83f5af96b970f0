/** The servers that a model operation applies to: the named ones, else those that it concerns. */
import { canonical } from "../../../Model.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as Go from "./goFields.js"
import { fromAll, type KnownServer, servers } from "./servers.js"

const { read } = Body.struct({ server: Go.server })

export interface Targets {
  /** Every reachable Ollama server. */
  readonly all: ReadonlyArray<KnownServer>
  /** Those that the request names, by address or label, or `all`; `undefined` if it names none. */
  readonly named: ReadonlyArray<KnownServer> | undefined
}

export const targetsOf = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<Targets> => {
  const all = (await servers(gateway)).filter(({ ollama }) => ollama)
  const header = context.request.headers["x-aicortex-target"]
  const query = new URL(context.request.url ?? "/", "http://gateway").searchParams.get("server")
  const wanted = read.server(body) ?? query ?? (typeof header === "string" ? header : undefined)
  if (all.length === 0)
    throw new RequestRejected(
      make(503, "No Ollama server can be reached. Models are kept on those: start one, or name it in `servers`.")
    )
  if (wanted === undefined) return { all, named: undefined }
  if (wanted === "all") return { all, named: all }
  const found = all.filter(({ label, server }) => label === wanted || server.url === wanted.replace(/\/+$/, ""))
  if (found.length === 0) {
    const names = all.map(({ label }) => label).join(", ")
    throw new RequestRejected(make(404, `There is no server '${wanted.slice(0, 100)}'; there are ${names}, and all.`))
  }
  return { all, named: found }
}

/** The refusal of a request that must name one server. `what` completes "Say which server …". */
export const unnamed = (all: ReadonlyArray<KnownServer>, what: string): RequestRejected => {
  const names = all.map(({ label }) => label).join(", ")
  const message = `Say which server ${what}: "server" must be one of ${names} (in the body, as ?server=, or as X-Aicortex-Target).`
  return new RequestRejected(make(400, message, "missing_required_parameter", "server"))
}

/** The servers that have a model. */
export const withModel = (all: ReadonlyArray<KnownServer>, model: string): ReadonlyArray<KnownServer> => {
  const key = canonical(model)
  return all.filter(({ models }) => models.some((name) => canonical(name) === key))
}

/**
 * The server with the most room: the one whose models take the least space. Ollama does not report its disk size.
 * Servers whose models are unknown come last; among equals, the first in the configuration.
 */
export const mostFreeMemory = async (
  gateway: GatewayContext,
  all: ReadonlyArray<KnownServer>
): Promise<KnownServer> => {
  let best: KnownServer | undefined
  let least = Number.POSITIVE_INFINITY
  for (const { known, models } of all.length === 1 ? [] : await fromAll(gateway, all, "/api/tags")) {
    // Tags of one model share layers.
    const sizes = new Map((models ?? []).map(({ digest, name, size }) => [digest || name, Number(size) || 0]))
    const held =
      models === undefined ? Number.POSITIVE_INFINITY : [...sizes.values()].reduce((sum, one) => sum + one, 0)
    if (held < least) {
      best = known
      least = held
    }
  }
  return best ?? (all[0] as KnownServer)
}
