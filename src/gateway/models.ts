/**
 * Which models may be asked for, and what is known of them; and `GET /models`, the plain list of them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { canonical, demoInfo, demoModel, type ModelInfo } from "../Model.js"
import type { Exchange } from "./exchange.js"
import type { Library } from "./fleet.js"
import type { House } from "./house.js"
import { make, Refusal } from "./problem.js"
import { chainOf } from "./settings.js"

/**
 * What is said of a model's age, as there is nothing else to say: seconds since the Unix epoch.
 *
 * @since 0.1.0
 * @category constants
 */
export const created = 1_700_000_000

/**
 * Every model that can be asked for now: what the reachable servers have. Without any server, the one that is built in.
 *
 * @since 0.1.0
 * @category accessors
 */
export const available = async (house: House): Promise<ReadonlyArray<string>> => {
  const statuses = await house.library.run(house.library.registry.servers).result
  const names = new Map<string, string>()
  for (const { models, reachable } of statuses)
    if (reachable) for (const name of models) names.set(canonical(name), name)
  if (statuses.length === 0) names.set(demoModel, demoModel)
  return [...names.values()].sort()
}

/**
 * The names that may be asked for: those of models, and those that stand for one.
 *
 * @since 0.1.0
 * @category accessors
 */
export const listed = async (house: House): Promise<ReadonlyArray<string>> => [
  ...(await available(house)),
  "auto",
  ...house.settings.aliases.keys()
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
export const factsOf = async (house: House, id: string): Promise<ModelInfo | undefined> => {
  const names = await available(house)
  const known =
    id === "auto" ||
    chainOf(house.settings, id) !== undefined ||
    names.some((name) => canonical(name) === canonical(id))
  if (!known && canonical(id) !== demoModel) {
    throw new Refusal(
      make(404, `The model '${id}' does not exist. GET /v1/models lists those that do.`, "model_not_found", "model")
    )
  }
  return house.library.run(facts(house.library, id)).result
}

/**
 * The model where a request names none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const defaultModel = ({ library, settings }: House): string =>
  settings.defaultModel ?? (library.settings.modelNamed ? library.settings.model : "auto")

/**
 * The plain list: `GET /models`.
 *
 * @since 0.1.0
 * @category handlers
 */
export const plain = async (house: House, exchange: Exchange): Promise<void> => {
  const models = await available(house)
  exchange.json({ models, default_model: defaultModel(house), total_models: models.length })
}
