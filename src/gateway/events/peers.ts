/** The other processes of the same gateway: what they see of its servers and requests. */
import type { Labels } from "../http/errorResponse.js"
import type { Library } from "../library.js"
import { serversOf } from "./fleetState.js"
import type { EventsHub } from "./hub.js"
import { mergeFleets } from "./mergeFleet.js"
import { type ListedRequests, mergeRequests, type RequestLog } from "./requestLog.js"
import type { ServerView } from "./views.js"

/** What this process has, and how it reaches the others. */
interface OwnGateway {
  readonly events: EventsHub
  readonly requests: RequestLog
  readonly labels: Labels
  readonly library: Library
}

/** From now on, what others ask is answered about the servers of this library. */
export const attach = (
  library: Library,
  labels: Labels,
  { events, requests }: Pick<OwnGateway, "events" | "requests">
): void =>
  events.answers((question) => {
    if (question.type === "fleet") return serversOf(library, labels)
    return question.type === "requests" ? requests.list() : requests.cancel(question.id)
  })

/** Every server, as all processes see it, and how many those are. */
export const fleet = async ({
  events,
  labels,
  library
}: Pick<OwnGateway, "events" | "labels" | "library">): Promise<{
  readonly servers: ReadonlyArray<ServerView>
  readonly processes: number
}> => {
  const [own, others] = await Promise.all([
    serversOf(library, labels),
    events.ask<ReadonlyArray<ServerView>>({ type: "fleet" })
  ])
  return { servers: mergeFleets(own, others), processes: others.length + 1 }
}

/** The requests of all processes. */
export const requests = async ({
  events,
  requests
}: Pick<OwnGateway, "events" | "requests">): Promise<ListedRequests> =>
  mergeRequests([requests.list(), ...(await events.ask<ListedRequests>({ type: "requests" }))])

/** Breaks a request off, in whichever process it is; `false` if there is none of this id. */
export const cancel = async (
  { events, requests }: Pick<OwnGateway, "events" | "requests">,
  id: string
): Promise<boolean> => requests.cancel(id) || (await events.ask<boolean>({ type: "cancel", id })).includes(true)
