/**
 * Which models may be asked for, and what is known of them; and `GET /models`, the plain list of them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Unreachable } from "../../Errors.js"
import { canonical, demoInfo, demoModel, type ModelInfo } from "../../Model.js"
import type { ServerStatus } from "../../Registry.js"
import type { House } from "../GatewayContext.js"
import { make, Refusal, withUnreachable } from "../http/errorResponse.js"
import type { Exchange } from "../http/RequestContext.js"
import type { Library } from "../library.js"
import { chainOf, defaultModel } from "./modelSelection.js"

/**
 * What is said of a model's age, as there is nothing else to say: seconds since the Unix epoch.
 *
 * @since 0.1.0
 * @category constants
 */
export const created = 1_700_000_000

/** Clients may ask again when the servers are. */
const retryAfter = 5_000

/** Says how many servers could not be asked; refuses to list anything where none could be. */
const tellUnreachable = (
  { labels }: House,
  exchange: Exchange,
  unreachable: ReadonlyArray<Unreachable>,
  asked: number,
  what: string
): void => {
  if (unreachable.length === 0) return
  exchange.headers["x-aicortex-unreachable"] = unreachable.length
  if (unreachable.length < asked) return
  const message = `No server could be reached, so it is not known which models ${what}.`
  throw new Refusal(withUnreachable(make(503, message, "no_server_answers", null, retryAfter), unreachable, labels))
}

/**
 * What is known of every server, for a list of what they have: the answer says how many could not be asked. Refuses to
 * list anything where none could be.
 *
 * @since 0.2.0
 * @category accessors
 */
export const statuses = async (house: House, exchange: Exchange): Promise<ReadonlyArray<ServerStatus>> => {
  const all = await house.library.run(house.library.registry.servers).result
  tellUnreachable(house, exchange, all.flatMap(unreachableOf), all.length, "there are")
  return all
}

const unreachableOf = ({ problem = "has not answered yet", reachable, url }: ServerStatus): Array<Unreachable> =>
  reachable ? [] : [{ url, reason: problem }]

/**
 * The same where servers have just been asked for something that is not kept, such as what is in memory: `failed` are
 * those that did not answer. Servers that have no such thing count as reached.
 *
 * @since 0.2.0
 * @category accessors
 */
export const tellFailed = (
  house: House,
  exchange: Exchange,
  all: ReadonlyArray<ServerStatus>,
  failed: ReadonlyArray<Unreachable>
): void => tellUnreachable(house, exchange, [...all.flatMap(unreachableOf), ...failed], all.length, "are loaded")

const namesOf = (all: ReadonlyArray<ServerStatus>): ReadonlyArray<string> => {
  const names = new Map<string, string>()
  for (const { models, reachable } of all) if (reachable) for (const name of models) names.set(canonical(name), name)
  if (all.length === 0) names.set(demoModel, demoModel)
  return [...names.values()].sort()
}

/**
 * Every model that can be asked for now: what the reachable servers have. Without any server, the one that is built in.
 *
 * @since 0.1.0
 * @category accessors
 */
export const available = async ({ library }: House): Promise<ReadonlyArray<string>> =>
  namesOf(await library.run(library.registry.servers).result)

/**
 * The names that may be asked for: those of models, and those that stand for one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const listed = async (house: House, exchange: Exchange): Promise<ReadonlyArray<string>> => [
  ...namesOf(await statuses(house, exchange)),
  "auto",
  ...house.aliases.keys()
]

/**
 * What is known of a model, if anything is.
 *
 * @since 0.1.0
 * @category accessors
 */
export const facts = ({ registry }: Library, model: string): Effect.Effect<ModelInfo | undefined> =>
  Effect.orElseSucceed(registry.modelInfo(model), () => (canonical(model) === demoModel ? demoInfo : undefined))

/**
 * The same of one by its name; refuses a name that may not be asked for.
 *
 * @since 0.1.0
 * @category accessors
 */
export const factsOf = async (house: House, exchange: Exchange, id: string): Promise<ModelInfo | undefined> => {
  const own = id === "auto" || canonical(id) === demoModel || chainOf(house, id) !== undefined
  if (!own && !namesOf(await statuses(house, exchange)).some((name) => canonical(name) === canonical(id))) {
    throw new Refusal(
      make(404, `The model '${id}' does not exist. GET /v1/models lists those that do.`, "model_not_found", "model")
    )
  }
  return house.library.run(facts(house.library, id)).result
}

/**
 * The plain list: `GET /models`.
 *
 * @since 0.1.0
 * @category handlers
 */
export const plain = async (house: House, exchange: Exchange): Promise<void> => {
  const models = namesOf(await statuses(house, exchange))
  exchange.json({ models, default_model: defaultModel(house), total_models: models.length })
}
