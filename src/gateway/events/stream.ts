/** `GET /events`: the gateway's events as server-sent events. */
import type { GatewayContext } from "../GatewayContext.js"
import { make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import { type EventType, eventTypes, maxWatchers } from "./hub.js"
import { onlyOf } from "./requestLog.js"

/** Something is sent at least this often, in milliseconds: a connection through a proxy stays open. */
const heartbeatTime = 15_000

/** When a client whose connection broke comes again, in milliseconds. */
const retryTime = 1_000

const isType = (name: string): name is EventType => (eventTypes as ReadonlyArray<string>).includes(name)

const typesOf = (request: string): ReadonlySet<EventType> => {
  const { searchParams } = new URL(request, "http://gateway")
  const names = searchParams
    .getAll("types")
    .flatMap((list) => list.split(","))
    .map((name) => name.trim())
    .filter((name) => name !== "")
  const unknown = names.find((name) => !isType(name))
  if (unknown !== undefined) {
    const message = `'types' has no '${unknown.slice(0, 50)}': it is a list of ${eventTypes.join(", ")}, separated by commas.`
    throw new RequestRejected(make(400, message, "invalid_types", "types"))
  }
  return new Set(names.length === 0 ? eventTypes : names.filter(isType))
}

export const events = ({ events: hub }: GatewayContext, context: RequestContext): void => {
  const types = typesOf(context.request.url ?? "/")
  if (hub.watcherCount >= maxWatchers) {
    const message = `${maxWatchers} clients read the events already. Try again later.`
    throw new RequestRejected(make(503, message, "too_many_watchers", null, 10_000))
  }
  const seen = context.request.headers["last-event-id"]
  context.stream("text/event-stream")
  if (context.request.method === "HEAD") {
    context.end()
    return
  }
  context.write(`retry: ${retryTime}\n\n`)
  const sink = {
    write: (text: Buffer) => context.writeShared(text),
    drained: () => context.drained(),
    end: () => context.end()
  }
  const leave = hub.watch(types, typeof seen === "string" && seen !== "" ? seen : undefined, sink, onlyOf(context))
  const heartbeat = setInterval(() => {
    if (!context.response.writableNeedDrain) context.write(": \n\n")
  }, heartbeatTime)
  heartbeat.unref()
  context.response.once("close", () => {
    clearInterval(heartbeat)
    leave()
  })
}
