/** `POST /v1/messages` and `/v1/messages/count_tokens`. */
import * as Effect from "effect/Effect"
import type { ModelCandidate } from "../../../ModelSelection.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import type { RequestContext } from "../../http/RequestContext.js"
import { dispatch } from "../../pipeline/dispatch.js"
import { candidates } from "../../pipeline/modelSelection.js"
import { facts } from "../../pipeline/models.js"
import * as Sessions from "../aicortex/sessions.js"
import * as AnthropicCodec from "./codec.js"
import * as Request from "./request.js"

/** Models that are known not to think. */
const unthinking = (
  { library }: GatewayContext,
  models: ReadonlyArray<ModelCandidate>
): Effect.Effect<ReadonlyArray<ModelCandidate>> =>
  Effect.filter(models, ({ model }) =>
    Effect.map(facts(library, model), (info) => info?.capabilities?.includes("thinking") === false)
  )

/**
 * Clients of this API ask every model to think and leave it to the model; Ollama servers reject that if the model
 * cannot. As in Ollama's own implementation, such models are not asked. Thinking models think without being asked.
 */
const fitting = async (
  gateway: GatewayContext,
  context: RequestContext,
  request: Request.AnthropicRequest
): Promise<Request.AnthropicRequest> => {
  const { think } = request.request
  if (think === undefined || think === false) return request
  const known = candidates(gateway, request, context.private)
  const { result, stop } = gateway.library.run(Effect.flatMap(known, (models) => unthinking(gateway, models)))
  context.onDisconnect(stop)
  const models = await result
  return models.length === 0 ? request : { ...request, withoutThinking: new Set(models.map(({ model }) => model)) }
}

export const create = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  const started = performance.now()
  const interleaved = Request.interleaves(context.request.headers["anthropic-beta"])
  const request = context.decode((fields, ignored) => Request.decode(fields, ignored, interleaved), body)
  const joined = Sessions.joined(gateway, request, context)
  const decoded = joined instanceof Promise ? await joined : joined
  context.ownTime += performance.now() - started
  const fitted = await fitting(gateway, context, decoded)
  return dispatch(gateway, context, fitted, AnthropicCodec.codec(fitted))
}

export const countTokens = (_: GatewayContext, context: RequestContext, body: BodyFields.Fields): void =>
  context.json({ input_tokens: context.decode(Request.count, body) })
