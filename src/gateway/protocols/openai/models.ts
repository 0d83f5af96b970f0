/** `GET /v1/models` and `/v1/models/{id}`. */

import type { GatewayContext } from "../../GatewayContext.js"
import type { RequestContext } from "../../http/RequestContext.js"
import { created, factsOf, listModels } from "../../pipeline/models.js"
import * as Local from "../cortex/models.js"

const item = (id: string): object => ({ id, object: "model", created, owned_by: "aicortex" })

export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const names = await listModels(gateway, context)
  context.json({ object: "list", data: names.map(item) })
}

export const one = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const info = await factsOf(gateway, context, id)
  context.json({
    ...item(id),
    ...(info?.context_length === undefined ? {} : { context_length: info.context_length }),
    ...(info?.capabilities === undefined ? {} : { capabilities: info.capabilities }),
    ...(await Local.factsOf(gateway, context, id))
  })
}
