/**
 * `GET /v1/models` and `/v1/models/{id}`.
 *
 * @since 0.1.0
 */

import type { House } from "../../GatewayContext.js"
import type { Exchange } from "../../http/RequestContext.js"
import { created, factsOf, listed } from "../../pipeline/models.js"

const item = (id: string): object => ({ id, object: "model", created, owned_by: "aicortex" })

/**
 * @since 0.1.0
 * @category handlers
 */
export const list = async (house: House, exchange: Exchange): Promise<void> => {
  const names = await listed(house, exchange)
  exchange.json({ object: "list", data: names.map(item) })
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const one = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  const info = await factsOf(house, exchange, id)
  exchange.json({
    ...item(id),
    ...(info?.context_length === undefined ? {} : { context_length: info.context_length }),
    ...(info?.capabilities === undefined ? {} : { capabilities: info.capabilities })
  })
}
