/** `GET /usage`: what requests have used. A key sees its own usage, an administrator that of all keys. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { GatewayContext } from "../../GatewayContext.js"
import { make, RequestRejected, reject } from "../../http/errorResponse.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import { storeRejection } from "../../http/storeRejection.js"
import * as Permissions from "../../permissions.js"
import * as Usage from "../../usage/query.js"

const week = 7 * 86_400_000

const byOf = (text: string): ReadonlyArray<Usage.Dimension> => {
  const names = text === "" ? [] : text.split(",").map((one) => one.trim())
  return names.map((name, i) => {
    const found = Usage.dimensions.find((one) => one === name)
    if (found === undefined) return reject("by", `must be some of ${Usage.dimensions.join(", ")}, separated by commas`)
    return names.indexOf(name) === i ? found : reject("by", `names ${found} twice`)
  })
}

const sinceOf = (text: string | null): number => {
  if (text === null) return Date.now() - week
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? reject("since", "must be a time such as 2026-01-31 or 2026-01-31T12:00:00Z") : time
}

/** `GET /usage`. */
export const read = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const query = Query.of(context, ["by", "since", "format"])
  const by = byOf(query.get("by") ?? "key,model")
  const since = sinceOf(query.get("since"))
  const format = query.get("format") ?? (/\btext\/csv\b/.test(context.request.headers.accept ?? "") ? "csv" : "json")
  if (format !== "json" && format !== "csv") reject("format", "must be json or csv")
  const { store, usage } = gateway
  if (store === undefined || usage === undefined) {
    const message = "This gateway has no store, so it keeps no usage. Start it with --store."
    throw new RequestRejected(make(501, message, "no_store"))
  }
  if (context.caller === undefined && !context.admin)
    throw new RequestRejected(Permissions.notAllowed(undefined, false))
  const key = context.admin ? undefined : context.identity
  // What this process has counted is a part of the answer.
  const reading = Effect.zipRight(
    usage.flush,
    Usage.rows(store, { by, since, key }, gateway.labels.label, gateway.prices)
  )
  const done = await Effect.runPromise(Effect.either(reading))
  if (Either.isLeft(done)) {
    throw new RequestRejected(storeRejection("The store of usage", done.left.reason))
  }
  const rows = done.right
  if (rows.length > Usage.maxRows)
    reject("by", `has more than ${Usage.maxRows} rows: ask for less time, or group by less`)
  if (format === "csv") context.send(200, "text/csv; charset=utf-8", Usage.csv(by, rows))
  else
    context.json({ since: new Date(since).toISOString(), by, currency: gateway.prices?.currency ?? null, usage: rows })
}
