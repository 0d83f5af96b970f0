/**
 * Conversations that the gateway remembers: `POST` and `GET /v1/sessions`, `GET` and `DELETE /v1/sessions/{id}`, and `session` in
 * a request. Where there are API keys, one belongs to the key that it was created with: to others it does not exist.
 *
 * @since 0.1.0
 */
import { createHash } from "node:crypto"
import { SessionNotFound } from "../../../Errors.js"
import type { House } from "../../GatewayContext.js"
import * as Query from "../../http/query.js"
import type { Exchange } from "../../http/RequestContext.js"
import type { Ask } from "../../pipeline/gatewayRequest.js"

/** What the ids of a key's conversations begin with, which says nothing about the key. */
const prefixOf = ({ caller }: Exchange): string =>
  caller === undefined ? "" : `${createHash("sha256").update(caller).digest("hex").slice(0, 16)}-`

/** The id, if it may be the caller's. */
const mine = (exchange: Exchange, id: string): string => {
  if (!id.startsWith(prefixOf(exchange))) throw new SessionNotFound({ id })
  return id
}

/**
 * With the session that a header names, too: not every client can add a field.
 *
 * @since 0.1.0
 * @category constructors
 */
export const joined = <A extends Ask>(ask: A, exchange: Exchange): A => {
  const { session = exchange.request.headers["x-aicortex-session"] } = ask
  if (typeof session !== "string") return ask
  mine(exchange, session)
  return session === ask.session ? ask : { ...ask, session }
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const create = async (house: House, exchange: Exchange): Promise<void> => {
  const { id } = await house.library.run(house.library.sessions.create({ prefix: prefixOf(exchange) })).result
  exchange.json({ id, object: "session", messages: [] }, 201)
}

/**
 * Those of the caller's key that were used last: `limit` of them (1 to 1,000, default 50).
 *
 * @since 0.1.0
 * @category handlers
 */
export const list = async (house: House, exchange: Exchange): Promise<void> => {
  const limit = Query.limit(Query.of(exchange, ["limit"]), 1_000, 50)
  const all = await house.library.run(house.library.sessions.list({ prefix: prefixOf(exchange), limit })).result
  exchange.json({
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

/**
 * @since 0.1.0
 * @category handlers
 */
export const read = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  const messages = await house.library.run(house.library.sessions.history(mine(exchange, id))).result
  exchange.json({ id, object: "session", messages })
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const remove = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  await house.library.run(house.library.sessions.remove(mine(exchange, id))).result
  exchange.json({ id, object: "session.deleted", deleted: true })
}
