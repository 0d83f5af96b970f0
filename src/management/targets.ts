/** The servers that an operation on a model applies to. */
import { canonical } from "../Model.js"
import type { Service as Transport } from "../Transport.js"
import { type Listed, listAll } from "./models.js"

/** A server, and the names of the models that it has. */
export interface Target extends Listed {
  readonly models: ReadonlyArray<string>
}

/** Those that have a model. */
export const withModel = <K extends Target>(all: ReadonlyArray<K>, model: string): ReadonlyArray<K> => {
  const key = canonical(model)
  return all.filter(({ models }) => models.some((name) => canonical(name) === key))
}

/**
 * The server with the most room: the one whose models take the least space. Ollama does not report its disk size.
 * Servers whose models are unknown come last; among equals, the first in the configuration.
 */
export const mostRoom = async <K extends Target>(
  transport: Transport,
  all: readonly [K, ...ReadonlyArray<K>]
): Promise<K> => {
  let [best] = all
  let least = Number.POSITIVE_INFINITY
  for (const { known, models } of all.length === 1 ? [] : await listAll(transport, all, "/api/tags")) {
    // Tags of one model share layers.
    const sizes = new Map((models ?? []).map(({ digest, name, size }) => [digest || name, Number(size) || 0]))
    const held =
      models === undefined ? Number.POSITIVE_INFINITY : [...sizes.values()].reduce((sum, one) => sum + one, 0)
    if (held < least) {
      best = known
      least = held
    }
  }
  return best
}
