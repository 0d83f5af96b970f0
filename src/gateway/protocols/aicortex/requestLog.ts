/** `GET /requests/log`: requests to models that have ended, from the store. For administrators. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { StoreUnavailable } from "../../../Errors.js"
import type { GatewayContext } from "../../GatewayContext.js"
import { make, RequestRejected, reject } from "../../http/errorResponse.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import { storeRejection } from "../../http/storeRejection.js"
import * as Table from "../../requestLog/table.js"

const defaultLimit = 100

const timeOf = (name: string, text: string | null): number | undefined => {
  if (text === null) return undefined
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? reject(name, "must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z") : time
}

const limitOf = (text: string | null): number => {
  const limit = text === null ? defaultLimit : Number(text)
  return Number.isInteger(limit) && limit >= 1 && limit <= Table.maxListed
    ? limit
    : reject("limit", `must be a whole number from 1 to ${Table.maxListed}`)
}

export const read = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const query = Query.of(context, ["id", "limit", "before", "since"])
  const id = query.get("id")
  const limit = limitOf(query.get("limit"))
  const [before, since] = [timeOf("before", query.get("before")), timeOf("since", query.get("since"))]
  const { requestRecorder, store } = gateway
  if (store === undefined || requestRecorder === undefined) {
    const message = "This gateway has no store, so it keeps no log of requests. Start it with --store."
    throw new RequestRejected(make(501, message, "no_store"))
  }
  const found: Effect.Effect<object | undefined, StoreUnavailable> =
    id === null
      ? Effect.map(Table.list(store, { limit, before, since }), (requests) => ({ requests }))
      : Table.show(store, id)
  // What this process has not written yet is a part of the answer.
  const done = await Effect.runPromise(Effect.either(Effect.zipRight(requestRecorder.flush, found)))
  if (Either.isLeft(done)) {
    throw new RequestRejected(storeRejection("The store of the request log", done.left.reason))
  }
  if (done.right === undefined) {
    throw new RequestRejected(make(404, "There is no request of this id in the log.", "request_not_found", "id"))
  }
  context.json(done.right)
}
