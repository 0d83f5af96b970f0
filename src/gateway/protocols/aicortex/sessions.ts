/**
 * Stored conversations: `POST` and `GET /v1/sessions`, `GET` and `DELETE /v1/sessions/{id}`, and `session` in a
 * request. With API keys, each belongs to the key that created it; to other keys it does not exist.
 */
import { createHash } from "node:crypto"
import { SessionNotFound } from "../../../Errors.js"
import type { GatewayContext } from "../../GatewayContext.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import type { GatewayRequest } from "../../pipeline/gatewayRequest.js"

/** The prefix of a key's conversation ids; it does not reveal the key. */
const prefixOf = ({ caller }: RequestContext): string =>
  caller === undefined ? "" : `${createHash("sha256").update(caller).digest("hex").slice(0, 16)}-`

/** The id, if it may belong to the caller. */
const mine = (context: RequestContext, id: string): string => {
  if (!id.startsWith(prefixOf(context))) throw new SessionNotFound({ id })
  return id
}

/** The session may also come in a header: not every client can add a field. */
export const joined = <A extends GatewayRequest>(gatewayRequest: A, context: RequestContext): A => {
  const { session = context.request.headers["x-aicortex-session"] } = gatewayRequest
  if (typeof session !== "string") return gatewayRequest
  mine(context, session)
  return session === gatewayRequest.session ? gatewayRequest : { ...gatewayRequest, session }
}

export const create = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const { id } = await gateway.library.run(gateway.library.sessions.create({ prefix: prefixOf(context) })).result
  context.json({ id, object: "session", messages: [] }, 201)
}

/** The caller's most recently used conversations: `limit` of them (1 to 1,000, default 50). */
export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const limit = Query.limit(Query.of(context, ["limit"]), 1_000, 50)
  const all = await gateway.library.run(gateway.library.sessions.list({ prefix: prefixOf(context), limit })).result
  context.json({
    object: "list",
    data: all.map(({ id, messages, opening, usedAt }) => ({
      id,
      object: "session",
      used_at: Math.floor(usedAt / 1000),
      message_count: messages,
      opening: opening ?? null
    }))
  })
}

export const read = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const messages = await gateway.library.run(gateway.library.sessions.history(mine(context, id))).result
  context.json({ id, object: "session", messages })
}

export const remove = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  await gateway.library.run(gateway.library.sessions.remove(mine(context, id))).result
  context.json({ id, object: "session.deleted", deleted: true })
}
