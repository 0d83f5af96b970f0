/** Which files a name refers to, and how they are obtained. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { defaultModelPath } from "../backend/embeddedModel.js"
import type { SystemService } from "../Engines.js"
import { type InvalidModelReference, ModelNotStored } from "../Errors.js"
import type { EngineName, LocalSource } from "../engines/engine.js"
import { canonical, demoModel } from "../Model.js"
import { type FindError, ModelStore, type PullError, type PullEvent, type StoredModel } from "../ModelStore.js"

/** The name that requests ask for: what was said, and of a file or an address the name of the file. */
export const nameOf = (model: string): string => {
  const isFile = /\.gguf$/i.test(model) || /^(\.{0,2}[\\/]|~[\\/]|[a-z]:[\\/]|file:)/i.test(model)
  return isFile ? (model.split(/[\\/]/).at(-1) ?? model).replace(/\.gguf$/i, "") : model.trim()
}

/** The model of this machine that a name means: one of the store, a file, or the one that is built in. */
export const find = (name: string): Effect.Effect<Option.Option<StoredModel>, FindError, ModelStore> =>
  Effect.flatMap(ModelStore, (store) =>
    store.find(canonical(name) === canonical(demoModel) ? defaultModelPath() : name)
  )

/** Whether a name is that of a model that an installed Ollama keeps and is to run. */
export const isOllamas = Effect.fnUntraced(function* (
  name: string,
  engine: EngineName | undefined,
  system: Pick<SystemService, "find">
): Effect.fn.Return<boolean, InvalidModelReference, ModelStore> {
  const { kind } = yield* Effect.flatMap(ModelStore, (store) => store.parse(name))
  if (kind !== "ollama") return false
  return engine === undefined ? (yield* system.find("ollama")) !== undefined : engine === "ollama"
})

/** The source of a model, which is downloaded where it is missing. `tell` receives its events. */
export const get = Effect.fnUntraced(function* (
  name: string,
  engine: EngineName | undefined,
  system: Pick<SystemService, "find">,
  tell: (event: PullEvent) => void
): Effect.fn.Return<LocalSource, FindError | PullError | ModelNotStored, ModelStore> {
  const store = yield* ModelStore
  const ollamas = yield* isOllamas(name, engine, system)
  // What Ollama is asked for by name is not a file that is called the same.
  const found = ollamas && engine === "ollama" ? Option.none<StoredModel>() : yield* find(name)
  if (Option.isSome(found)) return { name: found.value.name, path: found.value.path }
  if (ollamas) return { name, path: undefined }
  const { kind } = yield* store.parse(name)
  if (kind === "ollama") {
    const stored = yield* Effect.orElseSucceed(store.list, () => [])
    return yield* new ModelNotStored({ model: name, stored: stored.map((one) => one.name).slice(0, 20) })
  }
  let pulled: StoredModel | undefined
  yield* Stream.runForEach(store.pull(name), (event) =>
    Effect.sync(() => {
      if (event.type === "done") pulled = event.model
      tell(event)
    })
  )
  if (pulled === undefined) return yield* Effect.dieMessage("a download ended without a model")
  return { name: pulled.name, path: pulled.path }
})
