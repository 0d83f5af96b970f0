import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { describe, expect, it } from "vitest"
import * as Abilities from "../../src/backend/resumeSupport.js"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import * as Embeddings from "../../src/Embeddings.js"
import * as Failover from "../../src/Failover.js"
import * as Direct from "../../src/internal/direct.js"
import * as Registry from "../../src/Registry.js"
import * as Router from "../../src/Router.js"
import { chats, type Fake, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

/** The same Effect as any program would write it. */
const plainly = <A, E>(effect: () => Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.zipRight(Effect.yieldNow(), Effect.suspend(effect))

/** `Chat` and `Embeddings` over a `Registry` and a `Failover` that have only what their interfaces ask for. */
const replaced = (servers: ReadonlyArray<Fake>) => {
  const live = Cortex.layer({ servers: servers.map(({ url }) => url), configFile: false, model })
  const registry = Layer.effect(
    Registry.Registry,
    Effect.map(Registry.Registry, (registry) =>
      Registry.Registry.of({ ...registry, locate: (name) => plainly(() => registry.locate(name)) })
    )
  )
  const failover = Layer.effect(
    Failover.Failover,
    Effect.map(Failover.Failover, ({ embed, prepare }) =>
      Failover.Failover.of({
        prepare: (...args) => plainly(() => prepare(...args)),
        embed: (...args) => plainly(() => embed(...args))
      })
    )
  )
  return Layer.fresh(Layer.merge(Chat.layer, Embeddings.layer)).pipe(
    Layer.provideMerge(Layer.provide(failover, Layer.fresh(Failover.layer))),
    Layer.provideMerge(Layer.fresh(Router.layer)),
    Layer.provideMerge(registry),
    Layer.provide(Layer.fresh(Layer.mergeAll(Abilities.layer, Cortex.layerBackends()))),
    Layer.provideMerge(live)
  )
}

const runtimeOf = (servers: ReadonlyArray<Fake>) => {
  const runtime = ManagedRuntime.make(replaced(servers))
  fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
  return runtime
}

describe.each(["ollama", "openai"] as const)("services that were replaced (%s)", (protocol) => {
  it("answer in every form", async () => {
    const server = await fleet[protocol]({ reply: "Berlin is large." })
    const runtime = runtimeOf([server])
    expect(await runtime.runPromise(Chat.text("Hi"))).toBe("Berlin is large.")
    expect((await runtime.runPromise(Chat.complete("Hi"))).text).toBe("Berlin is large.")
    const events = await runtime.runPromise(Stream.runCollect(Chat.stream("Hi")))
    expect([...events].at(-1)?.type).toBe("end")
    expect(chats(server)).toEqual([3])
  })

  it("decode and embed", async () => {
    const server = await fleet[protocol]({
      reply: `{"capital":"Berlin"}`,
      models: [{ name: model, capabilities: ["completion", "embedding"] }]
    })
    const runtime = runtimeOf([server])
    expect(await runtime.runPromise(Chat.json("Hi", Schema.Struct({ capital: Schema.String })))).toEqual({
      capital: "Berlin"
    })
    expect((await runtime.runPromise(Embeddings.embed("Hi", { model }))).embeddings).toHaveLength(1)
  })

  it("fail as the live ones do", async () => {
    const runtime = runtimeOf([await fleet[protocol]()])
    const exit = await runtime.runPromiseExit(Chat.text("Hi", { model: "nobody:1b" }))
    expect(Exit.isFailure(exit) && exit.cause).toMatchObject({ error: { _tag: "ModelNotFound" } })
  })
})

describe("an Effect that needs no fiber", () => {
  const counted = () => {
    let now = 0
    let later = 0
    const effect = Direct.make<number, never>(
      () => Exit.succeed(++now),
      () => Effect.sync(() => --later)
    )
    return { effect, seen: () => [now, later] }
  }

  it("is an Effect like any other where a fiber runs it, each time anew", async () => {
    const { effect, seen } = counted()
    expect(await Effect.runPromise(Effect.zip(effect, effect))).toEqual([-1, -2])
    expect(seen()).toEqual([0, -2])
  })

  it("is run by who asks it first, with what was made of it", () => {
    const { effect, seen } = counted()
    expect(Direct.valueOf(Direct.map(effect, (n) => n * 10))).toBe(10)
    expect(seen()).toEqual([1, 0])
  })

  it("is none where it is of any other kind", () => {
    let run = 0
    const effect = Effect.sync(() => ++run)
    expect(Direct.attempt(effect)).toBeUndefined()
    expect(Direct.attempt(Direct.map(effect, (n) => n))).toBeUndefined()
    expect(run).toBe(0)
    expect(Direct.valueOf(Effect.succeed(7))).toBe(7)
    expect(Direct.valueOf(Effect.fail("no"))).toBeUndefined()
  })
})
