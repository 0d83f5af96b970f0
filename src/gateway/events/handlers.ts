/** `GET /fleet`, `/servers` and `/requests`, and what administrators do with them. */
import { version } from "../../internal/version.js"
import { type GatewayContext, needsKey } from "../GatewayContext.js"
import type * as BodyFields from "../http/body.js"
import * as Body from "../http/bodyDeclaration.js"
import { make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import { statusesOf } from "./fleetState.js"
import * as Peers from "./peers.js"
import { ofKey, onlyOf } from "./requestLog.js"
import type { ServerAction } from "./serverActions.js"
import type { FleetView, ServerView } from "./views.js"

/** `GET /servers`. */
export const servers = async (gateway: GatewayContext, context: RequestContext): Promise<void> =>
  context.json({ servers: (await Peers.fleet(gateway)).servers })

/** A model's queue is the same on each of its servers. */
const queuedOf = (all: ReadonlyArray<ServerView>): number => {
  const queues = new Map<string, number>()
  for (const { models } of all) {
    for (const { model, queued } of models) queues.set(model, Math.max(queued, queues.get(model) ?? 0))
  }
  let sum = 0
  for (const queued of queues.values()) sum += queued
  return sum
}

const remoteCosts = ({ fleet }: GatewayContext["library"]): FleetView["remote_costs"] => {
  const costs = fleet.remoteCosts()
  if (costs === undefined) return null
  const of = ({ limit, resetsAt, spent }: (typeof costs)["day"]) => ({
    spent,
    limit: limit ?? null,
    resets_at: resetsAt
  })
  return { currency: costs.currency, day: of(costs.day), month: of(costs.month) }
}

/** `GET /fleet`. */
export const fleet = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const { events, library } = gateway
  const { processes, servers: all } = await Peers.fleet(gateway)
  const { limit, resetsAt, used } = library.fleet.remoteTokens()
  const view: FleetView = {
    at: Date.now(),
    version,
    process: process.pid,
    processes,
    event: events.position,
    admin: context.admin,
    manages: context.manages,
    keys: needsKey(gateway),
    in_flight: all.reduce((sum, server) => sum + server.in_flight, 0),
    queued: queuedOf(all),
    remote_tokens: { used, limit: limit ?? null, resets_at: resetsAt },
    remote_costs: remoteCosts(library),
    servers: all
  }
  context.json(view)
}

/** `GET /requests`. */
export const requests = async (gateway: GatewayContext, context: RequestContext): Promise<void> =>
  context.json(ofKey(await Peers.requests(gateway), onlyOf(context)))

/** `DELETE /requests/{id}`. */
export const cancel = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  if (!(await Peers.cancel(gateway, id))) {
    const message = "There is no such request under way. GET /requests lists them."
    throw new RequestRejected(make(404, message, "request_not_found"))
  }
  context.json({ cancelled: id })
}

const actions: ReadonlyArray<ServerAction["action"]> = ["rest", "drain", "wake"]

/** The body of `POST /servers/{id}`. */
export const actionBody = Body.struct({
  action: Body.needed(
    Body.oneOf(actions, { doc: "rest: asked only where no other can be; drain: no new requests; wake." })
  ),
  seconds: Body.whole(1, 86_400, { doc: "How long it rests. Default: 60." })
})

const { read } = actionBody

/** `POST /servers/{id}`: a server by its name in `GET /servers`. */
export const act = async (
  { labels, library, serverActions }: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields,
  id: string
): Promise<void> => {
  context.decode((body, ignored) => ignored.check(body, actionBody), body)
  const action = read.action(body)
  const seconds = read.seconds(body) ?? 60
  const status = (await statusesOf(library)).find(({ url }) => labels.label(url) === id)
  if (status === undefined) {
    const message = `There is no server '${id.slice(0, 100)}'. GET /servers lists them.`
    throw new RequestRejected(make(404, message, "server_not_found"))
  }
  if (action === undefined)
    throw new RequestRejected(make(400, "'action' is missing.", "missing_required_parameter", "action"))
  serverActions.act({ action, url: status.url, time: seconds * 1_000 })
  context.json({ server: id, action })
}
