/** Selects the models that may answer a request, and the name that the response reports. */
import type * as Effect from "effect/Effect"
import type { ModelCandidate, SelectionError } from "../../ModelSelection.js"
import * as Aliases from "../../modelSelection/aliases.js"
import type { GatewayContext } from "../GatewayContext.js"
import type { GatewayRequest } from "./gatewayRequest.js"

/** The model of a request that names none. */
export const defaultModel = ({ library, settings }: GatewayContext): string =>
  settings.defaultModel ?? library.settings.model

/** The models of an alias. */
export const chainOf = ({ aliases }: GatewayContext, name: string): ReadonlyArray<string> | undefined =>
  Aliases.chainOf(aliases, name)

/** Differences from the fleet's own policy. */
export const policyOf = (gateway: GatewayContext) => ({
  aliases: gateway.aliases,
  preferred: defaultModel(gateway)
})

/** The name that a request's models are selected by. */
export const requestedModel = (gateway: GatewayContext, { model }: Pick<GatewayRequest, "model">): string =>
  model?.trim() || defaultModel(gateway)

/** The models for a request. */
export const candidates = (
  gateway: GatewayContext,
  gatewayRequest: GatewayRequest,
  localOnly: boolean
): Effect.Effect<ReadonlyArray<ModelCandidate>, SelectionError> => {
  const preferred = defaultModel(gateway)
  // Spreading `policyOf` costs more than selecting a named model.
  return gateway.library.models.select(requestedModel(gateway, gatewayRequest), gatewayRequest, {
    aliases: gateway.aliases,
    preferred,
    private: localOnly || gateway.library.settings.defaults.private === true
  })
}

/**
 * The model name in a response: the name that the client used, or the model's own name if the gateway chose it.
 * `model` and `server` come from the answer.
 */
export const shown = (
  { library }: GatewayContext,
  { auto, name }: ModelCandidate,
  model: string,
  server: string
): string => (auto ? `auto (selected: ${library.protocol(server, model)}:${model})` : name)
