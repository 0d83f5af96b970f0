/**
 * `GET /v1/models`, `/v1/models/{id}` and `/models`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { canonical, demoInfo, demoModel, type ModelInfo } from "../../Model.js"
import type { Exchange } from "../exchange.js"
import type { House } from "../house.js"
import { make, Refusal } from "../problem.js"
import { chainOf } from "../settings.js"

/**
 * What is said of a model's age, as there is nothing else to say: seconds since the Unix epoch.
 *
 * @since 0.1.0
 * @category constants
 */
export const created = 1_700_000_000

/**
 * Every model that can be asked for now: what the reachable servers have, and the aliases. Without any server, the one
 * that is built in.
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

const item = (id: string, created_: number): object => ({
  id,
  object: "model",
  created: created_,
  owned_by: "aicortex"
})

/**
 * @since 0.1.0
 * @category handlers
 */
export const list = async (house: House, exchange: Exchange): Promise<void> => {
  const names = await listed(house)
  exchange.json({ object: "list", data: names.map((name) => item(name, created)) })
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
 * @since 0.1.0
 * @category handlers
 */
export const one = async (house: House, exchange: Exchange, id: string): Promise<void> => {
  const info = await infoOf(house, id)
  exchange.json({
    ...item(id, created),
    ...(info?.context_length === undefined ? {} : { context_length: info.context_length }),
    ...(info?.capabilities === undefined ? {} : { capabilities: info.capabilities })
  })
}

/**
 * What is known of one model, if anything is; refuses one that cannot be asked for.
 *
 * @since 0.1.0
 * @category accessors
 */
export const infoOf = async (house: House, id: string): Promise<ModelInfo | undefined> => {
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
  return house.library.run(
    Effect.orElseSucceed(house.library.registry.modelInfo(id), () =>
      canonical(id) === demoModel ? demoInfo : undefined
    )
  ).result
}

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

/**
 * The model where a request names none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const defaultModel = ({ library, settings }: House): string =>
  settings.defaultModel ?? (library.settings.modelNamed ? library.settings.model : "auto")
