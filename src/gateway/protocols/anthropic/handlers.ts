/**
 * `POST /v1/messages` and `/v1/messages/count_tokens`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Candidate } from "../../../ModelSelection.js"
import type { House } from "../../GatewayContext.js"
import type * as Fields from "../../http/body.js"
import type { Exchange } from "../../http/RequestContext.js"
import { relay } from "../../pipeline/dispatch.js"
import { candidates } from "../../pipeline/modelSelection.js"
import { facts } from "../../pipeline/models.js"
import * as Sessions from "../aicortex/sessions.js"
import * as Events from "./events.js"
import * as Request from "./request.js"

/** Those of which it is known that they do not think. */
const unthinking = ({ library }: House, models: ReadonlyArray<Candidate>): Effect.Effect<ReadonlyArray<Candidate>> =>
  Effect.filter(models, ({ model }) =>
    Effect.map(facts(library, model), (info) => info?.capabilities?.includes("thinking") === false)
  )

/**
 * Clients of this API ask every model to think, and leave it to the model; Ollama's servers refuse that where a model
 * cannot. Those are not asked, as Ollama itself has it here. What thinks does so unasked.
 */
const fitting = async (house: House, exchange: Exchange, asked: Request.Asked): Promise<Request.Asked> => {
  const { think } = asked.request
  if (think === undefined || think === false) return asked
  const known = candidates(house, asked)
  const { result, stop } = house.library.run(Effect.flatMap(known, (models) => unthinking(house, models)))
  exchange.onLeave(stop)
  const models = await result
  return models.length === 0 ? asked : { ...asked, unthinking: new Set(models.map(({ model }) => model)) }
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const create = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  const started = performance.now()
  const decoded = Sessions.joined(exchange.decoded(Request.decode, body), exchange)
  exchange.own += performance.now() - started
  const asked = await fitting(house, exchange, decoded)
  return relay(house, exchange, asked, Events.codec(asked))
}

/**
 * @since 0.1.0
 * @category handlers
 */
export const countTokens = (_: House, exchange: Exchange, body: Fields.Fields): void =>
  exchange.json({ input_tokens: exchange.decoded(Request.count, body) })
