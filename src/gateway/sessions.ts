/**
 * Conversations that the gateway remembers: `POST /v1/sessions`, `GET` and `DELETE /v1/sessions/{id}`.
 *
 * @since 0.1.0
 */
import type { Exchange } from "./exchange.js"
import type { House } from "./house.js"

/**
 * @since 0.1.0
 * @category handlers
 */
export const create = async (house: House, exchange: Exchange): Promise<void> => {
  const { id } = await house.library.run(house.library.sessions.create()).result
  exchange.json({ id, object: "session", messages: [] }, 201)
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const read = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  const messages = await house.library.run(house.library.sessions.history(id)).result
  exchange.json({ id, object: "session", messages })
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const remove = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  await house.library.run(house.library.sessions.remove(id)).result
  exchange.json({ id, object: "session.deleted", deleted: true })
}
