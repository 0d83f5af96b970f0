/**
 * Which models a request may use. A key that names an alias, or `auto`, may use the models behind that; else each model
 * must be one that the key names, also where an alias or a fallback leads to it.
 */
import { candidateOf, isAuto, type ModelCandidate, withOthers } from "../../modelSelection/candidate.js"
import type { GatewayContext } from "../GatewayContext.js"
import { make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import { chainOf } from "../pipeline/modelSelection.js"
import type { ModelPatterns } from "./modelPatterns.js"

const denied = ({ caller }: RequestContext, name: string): RequestRejected => {
  const message = `The API key '${caller}' may not use the model '${name}'. GET /v1/models lists those that it may use.`
  return new RequestRejected(make(403, message, "model_not_allowed", "model"))
}

/** The models behind a name are allowed with the name. */
const isGranted = (gateway: GatewayContext, models: ModelPatterns, name: string): boolean =>
  isAuto(name) ? models.grants("auto") : chainOf(gateway, name) !== undefined && models.grants(name)

const isNamed = (models: ModelPatterns, name: string): boolean =>
  !isAuto(name) && models.allows(candidateOf(name).model)

/** Those of the candidates for a name that the request's key may use; rejects the request if there is none. */
export const permitted = (
  gateway: GatewayContext,
  context: RequestContext,
  name: string,
  candidates: ReadonlyArray<ModelCandidate>
): ReadonlyArray<ModelCandidate> => {
  const { models } = context
  if (models === undefined || isGranted(gateway, models, name)) return candidates
  const allowed = withOthers(candidates).filter(({ model }) => models.allows(model))
  if (allowed.length === 0) throw denied(context, name)
  return allowed.map((candidate) => (candidate.others === undefined ? candidate : { ...candidate, others: undefined }))
}

/** Rejects a request for a model, or for an alias that leads to one, that its key may not use. */
export const check = (gateway: GatewayContext, context: RequestContext, name: string): void => {
  const { models } = context
  if (models === undefined || isGranted(gateway, models, name)) return
  const chain = chainOf(gateway, name) ?? [name]
  if (!chain.every((one) => isNamed(models, one))) throw denied(context, name)
}

/** Those of the names of models and aliases that may be asked for with the request's key. */
export const visible = (
  gateway: GatewayContext,
  { models }: RequestContext,
  names: ReadonlyArray<string>
): ReadonlyArray<string> =>
  models === undefined
    ? names
    : names.filter(
        (name) =>
          isGranted(gateway, models, name) || (chainOf(gateway, name) ?? [name]).some((one) => isNamed(models, one))
      )
