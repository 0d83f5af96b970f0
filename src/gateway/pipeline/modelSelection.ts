/** Which models a request of a client may be answered by, and how an answer names the one that did. */
import type * as Effect from "effect/Effect"
import type { ModelNotFound, NoLocalServer, NoServers, NoSuitableModel } from "../../Errors.js"
import type { ModelCandidate } from "../../ModelSelection.js"
import * as Aliases from "../../modelSelection/aliases.js"
import type { GatewayContext } from "../GatewayContext.js"
import type { GatewayRequest } from "./gatewayRequest.js"

/** The model of a request that names none. */
export const defaultModel = ({ library, settings }: GatewayContext): string =>
  settings.defaultModel ?? library.settings.model

/** The models that a name stands for, where it is an alias. */
export const chainOf = ({ aliases }: GatewayContext, name: string): ReadonlyArray<string> | undefined =>
  Aliases.chainOf(aliases, name)

/** What differs here from the fleet. */
export const policyOf = (gateway: GatewayContext) => ({
  aliases: gateway.aliases,
  preferred: defaultModel(gateway)
})

/** The models for a request. */
export const candidates = (
  gateway: GatewayContext,
  gatewayRequest: GatewayRequest,
  localOnly: boolean
): Effect.Effect<ReadonlyArray<ModelCandidate>, ModelNotFound | NoServers | NoSuitableModel | NoLocalServer> => {
  const preferred = defaultModel(gateway)
  // Spreading `policyOf` would cost more than the selection of a model that was named.
  return gateway.library.models.select(gatewayRequest.model?.trim() || preferred, gatewayRequest, {
    aliases: gateway.aliases,
    preferred,
    private: localOnly || gateway.library.settings.defaults.private === true
  })
}

/**
 * How an answer names its model: as the client did, or, where it was chosen, as what it is. `model` and `server` are
 * what the answer says.
 */
export const shown = (
  { library }: GatewayContext,
  { auto, name }: ModelCandidate,
  model: string,
  server: string
): string => (auto ? `auto (selected: ${library.protocol(server, model)}:${model})` : name)
