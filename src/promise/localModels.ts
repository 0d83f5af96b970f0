/** The models of this machine, as Promise functions. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { ModelStore, type PullEvent, type StoredModel } from "../ModelStore.js"
import { given, importModelOptions, named, pullModelOptions, type RunWith } from "./calls.js"

/**
 * How a model is got.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullModelOptions {
  /** The name that it gets; default: that of the repository with its quantization, or of the file. */
  readonly name?: string | undefined
  /** Hears what happens. */
  readonly onEvent?: ((event: PullEvent) => void) | undefined
  /** Ends it. What was downloaded is kept, and the next one goes on with it. */
  readonly signal?: AbortSignal | undefined
}

/**
 * How a file becomes a model.
 *
 * @since 0.3.0
 * @category models
 */
export interface ImportModelOptions {
  /** The name; default: that of the file, without `.gguf`. */
  readonly name?: string | undefined
  /** Whether a copy is kept. Default `false`: the file stays where it is, and yours. */
  readonly copy?: boolean | undefined
}

/**
 * The models of this machine.
 *
 * @since 0.3.0
 * @category models
 */
export interface LocalModels {
  /** Gets a model from a hub or another web server, as a GGUF file, or brings it up to date. */
  readonly pullModel: (name: string, options?: PullModelOptions) => Promise<StoredModel>
  /** The models of this machine, by name. */
  readonly localModels: () => Promise<ReadonlyArray<StoredModel>>
  /** The model of this machine that a name or a path means; `undefined` where there is none. */
  readonly localModel: (name: string) => Promise<StoredModel | undefined>
  /** Makes a file a model of this machine. */
  readonly importModel: (path: string, options?: ImportModelOptions) => Promise<StoredModel>
  /** Deletes a model of this machine. Rejects with `ModelNotStored` where there is none. */
  readonly removeModel: (name: string) => Promise<void>
}

/** The functions over a store. */
export const make = (run: RunWith<ModelStore>): LocalModels => ({
  pullModel: (name, options) =>
    named("model", name, async () => {
      const { signal } = given(options)
      if (signal?.aborted) throw signal.reason
      const pulled = Effect.gen(function* () {
        const store = yield* ModelStore
        const { name: own, onEvent } = yield* pullModelOptions(options ?? {})
        let model: StoredModel | undefined
        yield* Stream.runForEach(store.pull(name, { name: own }), (event) =>
          Effect.sync(() => {
            if (event.type === "done") model = event.model
            onEvent?.(event)
          })
        )
        return model ?? (yield* Effect.dieMessage("a download ended without a model"))
      })
      return run(pulled, signal)
    }),
  localModels: () => run(Effect.flatMap(ModelStore, ({ list }) => list)),
  localModel: (name) =>
    named("model", name, () =>
      run(Effect.flatMap(ModelStore, (store) => Effect.map(store.find(name), Option.getOrUndefined)))
    ),
  importModel: (path, options) =>
    named("path", path, () =>
      run(
        Effect.flatMap(ModelStore, (store) =>
          Effect.flatMap(importModelOptions(options ?? {}), (checked) => store.importFile(path, checked))
        )
      )
    ),
  removeModel: (name) => named("model", name, () => run(Effect.flatMap(ModelStore, (store) => store.remove(name))))
})
