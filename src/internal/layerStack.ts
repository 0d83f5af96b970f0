/**
 * Layers on top of each other in one node. `Layer.provide` and `Layer.provideMerge` make five nodes of each step, and
 * every node is memoised with a scope of its own: with as many layers as this library has, that takes longer than what
 * they build.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

type Layers = readonly [Layer.Layer.Any, ...ReadonlyArray<Layer.Layer.Any>]

type Made<L extends ReadonlyArray<Layer.Layer.Any>> = { [I in keyof L]: Layer.Layer.Success<L[I]> }[number]

type Failures<L extends ReadonlyArray<Layer.Layer.Any>> = { [I in keyof L]: Layer.Layer.Error<L[I]> }[number]

/** What each needs that none before it makes. */
type Needs<L extends ReadonlyArray<Layer.Layer.Any>, Had = never> = L extends readonly [
  infer First extends Layer.Layer.Any,
  ...infer Rest extends ReadonlyArray<Layer.Layer.Any>
]
  ? Exclude<Layer.Layer.Context<First>, Had> | Needs<Rest, Had | Layer.Layer.Success<First>>
  : never

/** Builds the layers in their order, each with what those before it made. Gives what all of them made, and the last one. */
const build = (layers: Layers) =>
  Effect.gen(function* () {
    const memo = yield* Layer.CurrentMemoMap
    const scope = yield* Effect.scope
    let all = Context.empty() as Context.Context<unknown>
    let last = all
    for (const layer of layers as ReadonlyArray<unknown> as ReadonlyArray<Layer.Layer<unknown, unknown>>) {
      last = yield* Effect.provide(Layer.buildWithMemoMap(layer, memo, scope), all)
      all = Context.merge(all, last)
    }
    return { all, last }
  })

/** The layers, each with what those before it make; gives what all of them make. */
export const stack = <const L extends Layers>(...layers: L): Layer.Layer<Made<L>, Failures<L>, Needs<L>> =>
  Layer.scopedContext(Effect.map(build(layers), ({ all }) => all)) as Layer.Layer<Made<L>, Failures<L>, Needs<L>>

/** The last of the layers, each with what those before it make; gives what the last one makes. */
export const last = <const L extends Layers, Last extends Layer.Layer.Any>(
  ...layers: readonly [...L, Last]
): Layer.Layer<Layer.Layer.Success<Last>, Failures<readonly [...L, Last]>, Needs<readonly [...L, Last]>> =>
  Layer.scopedContext(Effect.map(build(layers as unknown as Layers), ({ last }) => last)) as Layer.Layer<
    Layer.Layer.Success<Last>,
    Failures<readonly [...L, Last]>,
    Needs<readonly [...L, Last]>
  >
