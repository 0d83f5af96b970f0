/** A store of models over a folder, for tests. */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { layerTransport } from "../../src/Cortex.js"
import * as StoreHost from "../../src/cortex/modelStoreHost.js"
import * as ModelStore from "../../src/ModelStore.js"
import { LocalMemory } from "../../src/modelSelection/memory.js"
import * as Settings from "../../src/Settings.js"

export interface StoreOptions extends Omit<Settings.ModelPolicy, "token"> {
  readonly token?: string
  /** How much memory is free, in bytes. */
  readonly memory?: number
  readonly freeBytes?: number
}

const layerOf = ({ freeBytes, memory, token, ...models }: StoreOptions) => {
  const host = Layer.effect(
    ModelStore.StoreHost,
    Effect.map(ModelStore.StoreHost, (real) =>
      freeBytes === undefined ? real : { ...real, freeBytes: () => Effect.succeed(freeBytes) }
    )
  ).pipe(Layer.provide(StoreHost.layer))
  return Layer.provide(ModelStore.layer, [
    Settings.layer({ models: { ...models, token: token === undefined ? undefined : Redacted.make(token) } }),
    NodeContext.layer,
    host,
    layerTransport,
    Layer.succeed(LocalMemory, () => memory)
  ])
}

/** Uses a store. */
export const withStore = <A, E>(
  options: StoreOptions,
  use: (store: ModelStore.Service) => Effect.Effect<A, E>,
  signal?: AbortSignal
): Promise<Exit.Exit<A, E>> =>
  Effect.runPromiseExit(
    Effect.flatMap(ModelStore.ModelStore, use).pipe(Effect.provide(layerOf(options))),
    signal === undefined ? {} : { signal }
  )

const settled = <A, E>(exit: Exit.Exit<A, E>): A =>
  Exit.match(exit, {
    onSuccess: (value) => value,
    onFailure: (cause) => {
      throw new Error(`it failed: ${cause}`, { cause })
    }
  })

export const run = async <A, E>(options: StoreOptions, use: (store: ModelStore.Service) => Effect.Effect<A, E>) =>
  settled(await withStore(options, use))

export const failure = async <A, E>(options: StoreOptions, use: (store: ModelStore.Service) => Effect.Effect<A, E>) =>
  settled(await withStore(options, (store) => Effect.flip(use(store))))

export type Pulled = ReadonlyArray<ModelStore.PullEvent>

/** Gets a model, with all that is told of it. */
export const pull = (options: StoreOptions, name: string, more: ModelStore.PullOptions = {}): Promise<Pulled> =>
  run(options, (store) => Effect.map(Stream.runCollect(store.pull(name, more)), Chunk.toReadonlyArray))

export const pullFailure = (options: StoreOptions, name: string, more: ModelStore.PullOptions = {}) =>
  failure(options, (store) => Stream.runDrain(store.pull(name, more)))

/** The model of the last event. */
export const modelOf = (events: Pulled): ModelStore.StoredModel => {
  const last = events.at(-1)
  if (last?.type !== "done") throw new Error(`it ended with ${JSON.stringify(last)}`)
  return last.model
}
