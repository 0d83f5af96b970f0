/** Stacks of layers are built and released as the same layers are with Effect's own combinators, which are the control. */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { describe, expect, expectTypeOf, it } from "vitest"
import * as LayerStack from "../../src/internal/layerStack.js"

class A extends Context.Tag("test/A")<A, string>() {}
class B extends Context.Tag("test/B")<B, string>() {}
class C extends Context.Tag("test/C")<C, string>() {}

/** Layers that log when they are built and released, with what they were given. */
const makeLayers = (middle: Effect.Effect<void, string> = Effect.void) => {
  const log: Array<string> = []
  const built = (name: string) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        log.push(`+${name}`)
        return name
      }),
      () => Effect.sync(() => log.push(`-${name}`))
    )
  const a = Layer.scoped(A, built("a"))
  const b = Layer.scoped(
    B,
    Effect.flatMap(A, (a) => Effect.zipRight(middle, built(`b(${a})`)))
  )
  const c = Layer.scoped(
    C,
    Effect.flatMap(Effect.all([A, B]), ([a, b]) => built(`c(${a},${b})`))
  )
  return { log, a, b, c, built }
}
type Layers = ReturnType<typeof makeLayers>

/** Each with what those before it make, the result of all. */
const stacks: ReadonlyArray<readonly [string, (layers: Layers) => Layer.Layer<A | B | C, string>]> = [
  ["stack", ({ a, b, c }) => LayerStack.stack(a, b, c)],
  ["Layer.provideMerge", ({ a, b, c }) => Layer.provideMerge(c, Layer.provideMerge(b, a))]
]

/** The same, the result of the last. */
const lasts: ReadonlyArray<readonly [string, (layers: Layers) => Layer.Layer<C, string>]> = [
  ["last", ({ a, b, c }) => LayerStack.last(a, b, c)],
  ["Layer.provide", ({ a, b, c }) => Layer.provide(c, Layer.provideMerge(b, a))]
]

/** The names of the services that a layer makes. */
const madeBy = <A, E>(layer: Layer.Layer<A, E>) =>
  Effect.map(Effect.scoped(Layer.build(layer)), (made) => [...made.unsafeMap.keys()].sort())

const whole = ["+a", "+b(a)", "+c(a,b(a))", "-c(a,b(a))", "-b(a)", "-a"]

describe.each([...stacks, ...lasts])("%s", (name, layerOf) => {
  it("builds in order, each with what those before it make, and releases in reverse", async () => {
    const layers = makeLayers()
    const all = name === "stack" || name === "Layer.provideMerge"
    expect(await Effect.runPromise(madeBy(layerOf(layers)))).toEqual(all ? ["test/A", "test/B", "test/C"] : ["test/C"])
    expect(layers.log).toEqual(whole)
  })

  it("is built anew with each build", async () => {
    const layers = makeLayers()
    const layer = layerOf(layers)
    for (let i = 0; i < 2; i++) await Effect.runPromise(madeBy(layer))
    expect(layers.log).toEqual([...whole, ...whole])
  })

  it("a layer that stands elsewhere in the same build too is built once, and released after all that use it", async () => {
    const layers = makeLayers()
    class D extends Context.Tag("test/D")<D, string>() {}
    const d = Layer.scoped(
      D,
      Effect.flatMap(A, (a) => layers.built(`d(${a})`))
    )
    const both = Layer.merge(Layer.provide(d, layers.a), layerOf(layers))
    await Effect.runPromise(madeBy(both))
    expect(layers.log.filter((line) => line === "+a")).toEqual(["+a"])
    expect([layers.log.at(0), layers.log.at(-1)]).toEqual(["+a", "-a"])
    expect(layers.log).toHaveLength(8)
  })

  it.each([
    ["an error", Effect.fail("no b"), Exit.fail("no b")],
    ["a defect", Effect.die("bug"), Exit.die("bug")]
  ] as const)(
    "%s in the middle is that of the build: those before are released, those after not built",
    async (_, middle, exit) => {
      const layers = makeLayers(middle)
      expect(await Effect.runPromiseExit(madeBy(layerOf(layers)))).toEqual(exit)
      expect(layers.log).toEqual(["+a", "-a"])
    }
  )

  it("an interruption ends a layer that is being built, and those before are released", async () => {
    const program = Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<void>()
      const middle = Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
      const layers = makeLayers(Effect.onInterrupt(middle, () => Deferred.succeed(ended, undefined)))
      const fiber = yield* Effect.fork(madeBy(layerOf(layers)))
      yield* Deferred.await(begun)
      const exit = yield* Fiber.interrupt(fiber)
      yield* Deferred.await(ended)
      return { interrupted: Exit.isInterrupted(exit), log: layers.log }
    })
    expect(await Effect.runPromise(program)).toEqual({ interrupted: true, log: ["+a", "-a"] })
  })
})

describe("stack", () => {
  it("a layer within it twice is built once, also within a stack in it", async () => {
    const { a, b, c, log } = makeLayers()
    await Effect.runPromise(madeBy(LayerStack.stack(a, LayerStack.last(a, b), LayerStack.last(a, b, c))))
    expect(log).toEqual(whole)
  })

  it("of two layers for one service, the later one is given, also to those after it", async () => {
    const { a, b, built, log } = makeLayers()
    const other = Layer.scoped(A, built("other"))
    const made = await Effect.runPromise(Effect.scoped(Layer.build(LayerStack.stack(a, other, b))))
    expect([Context.get(made, A), Context.get(made, B)]).toEqual(["other", "b(other)"])
    expect(log).toEqual(["+a", "+other", "+b(other)", "-b(other)", "-other", "-a"])
  })

  it("what none before it makes is needed from outside", async () => {
    const { a, b, c, log } = makeLayers()
    const open = LayerStack.stack(b, c)
    expectTypeOf(open).toEqualTypeOf<Layer.Layer<B | C, string, A>>()
    await Effect.runPromise(madeBy(Layer.provide(open, a)))
    expect(log).toEqual(whole)
  })
})
