/** The servers that a model operation applies to: the named ones, else those that it concerns. */
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as Go from "./goFields.js"
import { type KnownServer, servers } from "./servers.js"

const { read } = Body.struct({ server: Go.server })

export interface Targets {
  /** Every reachable Ollama server. */
  readonly all: readonly [KnownServer, ...ReadonlyArray<KnownServer>]
  /** Those that the request names, by address or label, or `all`; `undefined` if it names none. */
  readonly named: ReadonlyArray<KnownServer> | undefined
}

export const targetsOf = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<Targets> => {
  const [first, ...others] = (await servers(gateway)).filter(({ ollama }) => ollama)
  const header = context.request.headers["x-aicortex-target"]
  const query = new URL(context.request.url ?? "/", "http://gateway").searchParams.get("server")
  const wanted = read.server(body) ?? query ?? (typeof header === "string" ? header : undefined)
  if (first === undefined)
    throw new RequestRejected(
      make(503, "No Ollama server can be reached. Models are kept on those: start one, or name it in `servers`.")
    )
  const all = [first, ...others] as const
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
