/** The available models and what is known of them; and `GET /models`, the plain list. */
import * as Effect from "effect/Effect"
import type { Unreachable } from "../../Errors.js"
import { canonical, type ModelInfo } from "../../Model.js"
import { isAuto } from "../../modelSelection/candidate.js"
import type { ServerStatus } from "../../Registry.js"
import type { GatewayContext } from "../GatewayContext.js"
import { make, RequestRejected, withUnreachable } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as ModelAccess from "../keys/modelAccess.js"
import type { Library } from "../library.js"
import { chainOf, defaultModel } from "./modelSelection.js"

/** The creation time reported for every model, in seconds since the Unix epoch: the real one is unknown. */
export const created = 1_700_000_000

/** Clients may retry at the servers' next check. */
const retryAfter = 5_000

/** Says how many servers could not be asked; refuses to list anything where none could be. */
const tellUnreachable = (
  { labels }: GatewayContext,
  context: RequestContext,
  unreachable: ReadonlyArray<Unreachable>,
  total: number,
  what: string
): void => {
  if (unreachable.length === 0) return
  context.headers["x-aicortex-unreachable"] = unreachable.length
  if (unreachable.length < total) return
  const message = `No server could be reached, so it is not known which models ${what}.`
  throw new RequestRejected(
    withUnreachable(make(503, message, "no_server_answers", null, retryAfter), unreachable, labels)
  )
}

/**
 * The status of every server, for a list of models: a header reports how many could not be asked. Rejects the request
 * if none could be.
 */
export const statuses = async (
  gateway: GatewayContext,
  context: RequestContext
): Promise<ReadonlyArray<ServerStatus>> => {
  const all = await gateway.library.run(gateway.library.registry.servers).result
  tellUnreachable(gateway, context, all.flatMap(unreachableOf), all.length, "there are")
  return all
}

/** An engine of this machine that failed has its model all the same. */
const isKnown = ({ models, reachable }: ServerStatus): boolean => reachable || models.length > 0

const unreachableOf = (status: ServerStatus): Array<Unreachable> =>
  isKnown(status) ? [] : [{ url: status.url, reason: status.problem ?? "has not answered yet" }]

/**
 * The same after a live query, such as for loaded models: `failed` are the servers that did not answer. Servers
 * without that endpoint count as reached.
 */
export const tellFailed = (
  gateway: GatewayContext,
  context: RequestContext,
  all: ReadonlyArray<ServerStatus>,
  failed: ReadonlyArray<Unreachable>
): void => tellUnreachable(gateway, context, [...all.flatMap(unreachableOf), ...failed], all.length, "are loaded")

const embeddedName = ({ registry }: Library): string => registry.embedded.info().model_name

const namesOf = (library: Library, all: ReadonlyArray<ServerStatus>): ReadonlyArray<string> => {
  const names = new Map<string, string>()
  for (const { models } of all) for (const name of models) names.set(canonical(name), name)
  if (all.length === 0) names.set(canonical(embeddedName(library)), embeddedName(library))
  return [...names.values()].sort()
}

/** Every available model: those of reachable servers. Without any server, the built-in one. */
export const available = async ({ library }: GatewayContext): Promise<ReadonlyArray<string>> =>
  namesOf(library, await library.run(library.registry.servers).result)

/** All names that may be requested: models and aliases. */
export const listModels = async (gateway: GatewayContext, context: RequestContext): Promise<ReadonlyArray<string>> =>
  ModelAccess.visible(gateway, context, [
    ...namesOf(gateway.library, await statuses(gateway, context)),
    // A program that serves one model is one of the servers that another gateway chooses from.
    ...(gateway.library.registry.embedded.dedicated ? [] : ["auto"]),
    ...gateway.aliases.keys()
  ])

/** What is known of a model, if anything. */
export const facts = ({ registry }: Library, model: string): Effect.Effect<ModelInfo | undefined> =>
  Effect.orElseSucceed(registry.modelInfo(model), () => undefined)

/** The same by name; rejects an unknown name. */
export const factsOf = async (
  gateway: GatewayContext,
  context: RequestContext,
  id: string
): Promise<ModelInfo | undefined> => {
  ModelAccess.check(gateway, context, id)
  const own =
    isAuto(id) || canonical(id) === canonical(embeddedName(gateway.library)) || chainOf(gateway, id) !== undefined
  if (
    !own &&
    !namesOf(gateway.library, await statuses(gateway, context)).some((name) => canonical(name) === canonical(id))
  ) {
    throw new RequestRejected(
      make(404, `The model '${id}' does not exist. GET /v1/models lists those that do.`, "model_not_found", "model")
    )
  }
  return gateway.library.run(facts(gateway.library, id)).result
}

/** The plain list: `GET /models`. */
export const plainList = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const models = ModelAccess.visible(gateway, context, namesOf(gateway.library, await statuses(gateway, context)))
  context.json({ models, default_model: defaultModel(gateway), total_models: models.length })
}
