/**
 * `think: false`, which some Ollama clients always send: a model that cannot think needs no switch, and
 * OpenAI-compatible servers may reject it.
 */
import * as Effect from "effect/Effect"
import type { GatewayContext } from "../../GatewayContext.js"
import type { RequestContext } from "../../http/RequestContext.js"
import type { GatewayRequest } from "../../pipeline/gatewayRequest.js"
import { candidates } from "../../pipeline/modelSelection.js"
import { facts } from "../../pipeline/models.js"

/** Names of models that may think, where the server does not say. */
const thinks =
  /think|reason|\br1\b|qwq|qwen-?3|gpt-oss|\bo[134]\b|magistral|deepseek|glm|nemotron|granite|exaone|smollm-?3|hunyuan|kimi|minimax|cogito|phi-?4|gemma-?[4-9]|ernie|seed/i

/** The same request, with the models that do not need the switch. */
export const modelsWithoutThinking = async <A extends GatewayRequest>(
  gateway: GatewayContext,
  context: RequestContext,
  gatewayRequest: A
): Promise<A> => {
  if (gatewayRequest.request.think !== false) return gatewayRequest
  const { library } = gateway
  const known = candidates(gateway, gatewayRequest, context.private)
  const telling = Effect.flatMap(
    known,
    Effect.filter(({ model }) =>
      Effect.map(facts(library, model), (info) =>
        info?.capabilities === undefined ? !thinks.test(model) : !info.capabilities.includes("thinking")
      )
    )
  )
  const { result, stop } = library.run(telling)
  context.onDisconnect(stop)
  const models = await result
  return models.length === 0
    ? gatewayRequest
    : { ...gatewayRequest, withoutThinking: new Set(models.map(({ model }) => model)) }
}
