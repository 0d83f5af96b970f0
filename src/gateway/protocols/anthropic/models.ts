/** `GET /v1/models` and `/v1/models/{id}` for clients that send `anthropic-version`. */

import type { GatewayContext } from "../../GatewayContext.js"
import { reject } from "../../http/errorResponse.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as Models from "../../pipeline/models.js"

const createdAt = new Date(Models.created * 1000).toISOString()

const item = (id: string): object => ({ type: "model", id, display_name: id, created_at: createdAt })

/** Anthropic's default is 20; here it is the maximum, because the list is short. */
const maxLimit = 1_000

/** A page of the list: `limit` models (1 to 1,000, default 1,000) after `after_id`, or before `before_id`. */
export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const query = Query.of(context, ["limit", "after_id", "before_id", "beta"])
  const limit = Query.limit(query, maxLimit, maxLimit)
  const [after, before] = [query.get("after_id"), query.get("before_id")]
  if (after !== null && before !== null) reject("before_id", "cannot be used with after_id")
  const names = await Models.listModels(gateway, context)
  const at = (name: string, id: string): number => {
    const found = names.indexOf(id)
    return found === -1 ? reject(name, `names no model of the list: '${id.slice(0, 200)}'`) : found
  }
  const end = before === null ? names.length : at("before_id", before)
  const from = before === null ? (after === null ? 0 : at("after_id", after) + 1) : Math.max(0, end - limit)
  const page = names.slice(from, Math.min(end, from + limit))
  context.json({
    data: page.map(item),
    has_more: before === null ? from + limit < names.length : from > 0,
    first_id: page[0] ?? null,
    last_id: page.at(-1) ?? null
  })
}

export const one = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  Query.of(context, ["beta"])
  const info = await Models.factsOf(gateway, context, id)
  const length = info?.context_length
  context.json({ ...item(id), ...(length === undefined ? {} : { max_input_tokens: length }) })
}
