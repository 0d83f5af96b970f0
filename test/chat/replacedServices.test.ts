import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { describe, expect, expectTypeOf, it } from "vitest"
import * as ResumeSupport from "../../src/backend/resumeSupport.js"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import * as Embeddings from "../../src/Embeddings.js"
import type { InvalidConfig } from "../../src/Errors.js"
import * as Failover from "../../src/Failover.js"
import * as Gateway from "../../src/Gateway.js"
import * as Direct from "../../src/internal/direct.js"
import * as Registry from "../../src/Registry.js"
import * as Router from "../../src/Router.js"
import * as Sessions from "../../src/Sessions.js"
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
    Layer.provide(Layer.fresh(Layer.mergeAll(ResumeSupport.layer, Cortex.layerBackends()))),
    Layer.provideMerge(live)
  )
}

const runtimeOf = (servers: ReadonlyArray<Fake>) => {
  const runtime = ManagedRuntime.make(replaced(servers))
  fleet.keep({ [Symbol.asyncDispose]: () => runtime.dispose() })
  return runtime
}

describe.each(["ollama", "openai"] as const)("replaced services (%s)", (protocol) => {
  it("answer with text, results, streams and JSON", async () => {
    const server = await fleet[protocol]({ reply: "Berlin is large." })
    const runtime = runtimeOf([server])
    expect(await runtime.runPromise(Chat.text("Hi"))).toBe("Berlin is large.")
    expect((await runtime.runPromise(Chat.complete("Hi"))).text).toBe("Berlin is large.")
    const events = await runtime.runPromise(Stream.runCollect(Chat.stream("Hi")))
    expect([...events].at(-1)?.type).toBe("end")
    expect(chats(server)).toEqual([3])
  })

  it("decode JSON and embed", async () => {
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

  it("fail as the built-in ones do", async () => {
    const runtime = runtimeOf([await fleet[protocol]()])
    const exit = await runtime.runPromiseExit(Chat.text("Hi", { model: "nobody:1b" }))
    expect(Exit.isFailure(exit) && exit.cause).toMatchObject({ error: { _tag: "ModelNotFound" } })
  })
})

/** A gateway over these services. */
const gatewayOver = async (services: Layer.Layer<Cortex.Services, InvalidConfig>) => {
  const scope = await Effect.runPromise(Scope.make())
  fleet.keep({ [Symbol.asyncDispose]: () => Effect.runPromise(Scope.close(scope, Exit.void)) })
  const node = createServer()
  const application = HttpRouter.empty.pipe(
    HttpRouter.mountApp("/", Gateway.app),
    HttpServer.serve(),
    Layer.provide(Gateway.layer({ aliases: { fast: ["missing:1b", model] } })),
    Layer.provide(services),
    Layer.provide(NodeHttpServer.layer(() => node, { port: 0, host: "127.0.0.1" }))
  )
  await Effect.runPromise(Layer.buildWithScope(application, scope))
  const { port } = node.address() as AddressInfo
  return (path: string, body: object) =>
    fetch(`http://127.0.0.1:${port}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body)
    })
}

const messages = [{ role: "user", content: "Hi" }]
const schema = { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] }
// biome-ignore lint/suspicious/noExplicitAny: a body is read freely.
const json = async (response: Promise<Response>): Promise<any> => (await response).json()

describe.each(["ollama", "openai"] as const)("a gateway with replaced services (%s)", (protocol) => {
  it.each([model, "fast", `${protocol}:${model}`])(
    "answers for %s, whole, streamed, as JSON and with vectors",
    async (name) => {
      const server = await fleet[protocol]({
        reply: "Berlin is large.",
        models: [{ name: model, capabilities: ["completion", "embedding"] }]
      })
      const post = await gatewayOver(replaced([server]))
      const whole = await json(post("/v1/chat/completions", { model: name, messages }))
      expect(whole.choices[0].message.content).toBe("Berlin is large.")
      const text = await (await post("/v1/chat/completions", { model: name, messages, stream: true })).text()
      expect(text).toMatch(/\[DONE\]\n\n$/)
      await server.setBehaviour({ reply: `{"capital":"Berlin"}` })
      const format = { type: "json_schema", json_schema: { name: "c", schema } }
      const fitting = await json(post("/v1/chat/completions", { model: name, messages, response_format: format }))
      expect(fitting.choices[0].message.content).toBe(`{"capital":"Berlin"}`)
      expect((await json(post("/v1/embeddings", { model: name, input: "Hi" }))).data).toHaveLength(1)
    }
  )

  it("uses the public methods of a Chat that was replaced", async () => {
    const server = await fleet[protocol]({ reply: `{"capital":"Berlin"}` })
    const seen: Array<string> = []
    const chat = Layer.effect(
      Chat.Chat,
      Effect.map(Chat.Chat, (live) =>
        Chat.Chat.of({
          open: (...args) =>
            Effect.zipRight(
              Effect.sync(() => seen.push("open")),
              plainly(() => live.open(...args))
            ),
          stream: live.stream,
          complete: (...args) =>
            Effect.zipRight(
              Effect.sync(() => seen.push("complete")),
              plainly(() => live.complete(...args))
            ),
          text: live.text,
          structured: (...args) =>
            Effect.zipRight(
              Effect.sync(() => seen.push("structured")),
              plainly(() => live.structured(...args))
            ),
          openStructured: live.openStructured
        })
      )
    )
    const post = await gatewayOver(Layer.provideMerge(chat, replaced([server])))
    const whole = await json(post("/v1/chat/completions", { model: "fast", messages, temperature: 0.5, stop: ["x"] }))
    expect(whole.choices[0].message.content).toBe(`{"capital":"Berlin"}`)
    expect(whole.model).toBe(model)
    await (await post("/v1/chat/completions", { model, messages, stream: true })).text()
    const format = { type: "json_schema", json_schema: { name: "c", schema } }
    const fitting = await json(post("/v1/chat/completions", { model, messages, response_format: format }))
    expect(fitting.choices[0].message.content).toBe(`{"capital":"Berlin"}`)
    expect(seen).toEqual(["complete", "complete", "open", "structured"])
    const refused = await post("/v1/chat/completions", { model, messages, logprobs: true })
    expect(refused.status).toBe(400)
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

  it("behaves like any Effect in a fiber, evaluated on each run", async () => {
    const { effect, seen } = counted()
    expect(await Effect.runPromise(Effect.zip(effect, effect))).toEqual([-1, -2])
    expect(seen()).toEqual([0, -2])
  })

  it("runs without a fiber for a direct caller, with the operators applied to it", () => {
    const { effect, seen } = counted()
    expect(Direct.valueOf(Direct.map(effect, (n) => n * 10))).toBe(10)
    expect(seen()).toEqual([1, 0])
  })

  it("is recognized only among its own kind", () => {
    let run = 0
    const effect = Effect.sync(() => ++run)
    expect(Direct.attempt(effect)).toBeUndefined()
    expect(Direct.attempt(Direct.map(effect, (n) => n))).toBeUndefined()
    expect(run).toBe(0)
    expect(Direct.valueOf(Effect.succeed(7))).toBe(7)
    expect(Direct.valueOf(Effect.fail("no"))).toBeUndefined()
  })
})

describe("a router of one's own", () => {
  it("is asked, and needs nothing that the other parts give it", async () => {
    const [first, second] = [await fleet.ollama(), await fleet.ollama()]
    for (const wanted of [first, second]) {
      const router = Layer.effect(
        Router.Router,
        Effect.map(Router.make, (router) =>
          Router.Router.of({
            ...router,
            plan: (hosts, strategy, hints) =>
              router.plan(hosts, strategy, { ...hints, prefers: ({ server }) => server.url === wanted.url })
          })
        )
      )
      const whole: Layer.Layer<Cortex.Services, InvalidConfig> = Cortex.layer(
        { servers: [first.url, second.url], configFile: false, model },
        { router }
      )
      const servers = Effect.all(Array.from({ length: 6 }, () => Effect.map(Chat.complete("Hi"), (one) => one.server)))
      const asked = await Effect.runPromise(Effect.provide(servers, whole))
      expect(asked).toEqual(Array.from(asked, () => wanted.url))
    }
  })

  it("a store that needs what no part gives leaves the whole in need of it", () => {
    const store = Layer.effect(
      Sessions.SessionStore,
      Effect.flatMap(Registry.Registry, () => Sessions.makeStoreMemory())
    )
    const lacking = Cortex.layer({}, { store })
    expectTypeOf<Layer.Layer.Context<typeof lacking>>().toEqualTypeOf<Registry.Registry>()
    expect(Layer.isLayer(lacking)).toBe(true)
  })
})
