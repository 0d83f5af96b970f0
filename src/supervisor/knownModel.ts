/** The models that can be loaded, and how they are. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { LocalSource } from "../engines/engine.js"
import type * as LocalModels from "../LocalModels.js"
import { canonical } from "../Model.js"
import type * as ModelStore from "../ModelStore.js"

/** A model of the store, or a file. */
export interface KnownModel {
  readonly source: LocalSource
  readonly info: Omit<LocalModels.Model, "engines">
}

export const toKnownModel = (stored: ModelStore.StoredModel): KnownModel => ({
  source: { name: stored.name, path: stored.path },
  info: {
    name: stored.name,
    names: [],
    path: stored.path,
    size: stored.size,
    contextSize: stored.metadata.contextLength ?? null,
    family: stored.metadata.architecture ?? "others",
    embeddings: false
  }
})

/** The other names of models: the user's own, and repositories without a quantisation. */
export const otherNames = Effect.fnUntraced(function* (
  store: ModelStore.Service,
  known: ReadonlyArray<KnownModel>,
  aliases: ReadonlyArray<string>
) {
  const repositories = known.flatMap(({ info }) => /^([^:]+\/[^:]+):/.exec(info.name)?.[1] ?? [])
  const taken = new Set(known.map(({ info }) => canonical(info.name)))
  const names = new Map<string, Array<string>>()
  for (const name of new Set([...aliases, ...repositories])) {
    if (taken.has(canonical(name))) continue
    const model = Option.flatten(yield* Effect.option(store.find(name)))
    if (Option.isSome(model)) names.set(model.value.name, [...(names.get(model.value.name) ?? []), name])
  }
  return names
})
