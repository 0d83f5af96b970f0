/** `GET /local/models` and `GET /local/quantisations`: the models of this machine, and what could be downloaded to it. */
import type { Engine, Model } from "../../../LocalModels.js"
import type { GatewayContext } from "../../GatewayContext.js"
import { reject } from "../../http/errorResponse.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as ModelAccess from "../../keys/modelAccess.js"
import { controlOf, run } from "../cortex/models.js"

const engineOf = ({ engine, inFlight, memory, problem, readyAt, restarts, slots, state, tokensPerSecond }: Engine) => ({
  engine,
  state,
  problem,
  slots,
  in_flight: inFlight,
  memory,
  ready_at: readyAt,
  restarts,
  tokens_per_second: tokensPerSecond
})

const modelOf = ({ contextSize, embeddings, engines, family, name, names, size }: Model) => ({
  name,
  names,
  size,
  context_size: contextSize,
  family,
  embeddings,
  loaded: engines.some(({ state }) => state === "ready"),
  engines: engines.map(engineOf)
})

/** `GET /local/models`. */
export const list = (gateway: GatewayContext, context: RequestContext): void => {
  const all = controlOf(gateway).models()
  const names = all.map(({ name }) => name)
  const visible = new Set(ModelAccess.visible(gateway, context, names))
  context.json({ models: all.filter(({ name }) => visible.has(name)).map(modelOf) })
}

/** `GET /local/quantisations?model=`. */
export const quantisations = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const model = Query.of(context, ["model"]).get("model") ?? ""
  if (model.trim() === "") reject("model", "must name a repository, such as owner/name")
  context.json(await run(gateway, context, "quantisations", { model }))
}
