import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { inspect } from "node:util"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { describe, expect, expectTypeOf, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import type { InvalidConfig } from "../../src/Errors.js"
import { type ChatOptions, type ChatStream, createCortex } from "../../src/promise.js"
import * as Registry from "../../src/Registry.js"
import * as Router from "../../src/Router.js"
import * as Server from "../../src/Server.js"
import * as Sessions from "../../src/Sessions.js"
import * as Settings from "../../src/Settings.js"
import { failure, inOrder, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()

const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length

describe("resources after a call", () => {
  it("no timer and no memory after thousands of calls and abandoned streams", async () => {
    const server = await fleet.ollama({ reply: "one two three four", perToken: "burst" })
    const cortex = fleet.cortex([server])
    const rounds = async (n: number) => {
      for (let i = 0; i < n; i++) {
        await cortex.chat("Hi")
        for await (const event of await cortex.chat("Hi", { stream: true })) if (event.type === "token") break
        if (i % 100 === 0) server.clear()
      }
    }
    await rounds(100)
    const before = timers()
    await rounds(400)
    expect(timers()).toBeLessThanOrEqual(before + 5)
  })

  it("an abandoned answer is cancelled on the server", async () => {
    const first = await fleet.ollama({ reply: "one two three", faults: { kind: "cut", after: 2 } })
    const second = await fleet.openai({ reply: "other words ".repeat(200).trim(), perToken: 20 })
    const cortex = fleet.cortex(inOrder(first, second))
    const stream = await cortex.chat("Hi", { stream: true })
    expect((await failure(stream.text()))._tag).toBe("StreamInterrupted")
    // The first request only shows that it cannot go on with a text that was begun.
    expect(await second.chatRequests[1]?.closedByClient).toBeTypeOf("number")
  })
})

describe("closing", () => {
  it("running and later calls reject with Closed, and no server is blamed", async () => {
    const server = await fleet.ollama({ faults: { kind: "hang" } })
    const cortex = createCortex({ servers: [server.url], configFile: false, model })
    const call = failure(cortex.chat("Hi"))
    const stream = await cortex.chat("Hi", { stream: true })
    const reading = failure(stream.text())
    await server.waitForChats(2)
    await cortex.close()
    expect((await call)._tag).toBe("Closed")
    expect((await reading)._tag).toBe("Closed")
    const after = await failure(cortex.chat("Hi"))
    expect(after._tag).toBe("Closed")
    expect(after).toBeInstanceOf(Error)
  })

  it.each([false, true])(
    "calls whose servers are still being looked for reject with Closed; asked: %s",
    async (count) => {
      const server = await fleet.ollama({ faults: { kind: "hang" }, faultOn: "all" })
      const cortex = createCortex({ servers: [server.url], configFile: false, model })
      const calls = [
        cortex.chat("Hi"),
        cortex.complete("Hi"),
        cortex.chat("Hi", { stream: true }).then((stream) => stream.text()),
        cortex.chat("Hi", { responseFormat: "json" }),
        cortex.embed("Hi", { model }),
        cortex.bestServer(model),
        cortex.listServers()
      ].map(failure)
      if (count) await expect.poll(() => server.requests.length).toBeGreaterThan(0)
      await cortex.close()
      for (const error of await Promise.all(calls)) expect(error._tag).toBe("Closed")
    }
  )

  it("an Effect run after the services closed fails with Closed, too", async () => {
    const server = await fleet.ollama({ faults: { kind: "hang" }, faultOn: "discovery" })
    const layer = Cortex.layer({ servers: [server.url], configFile: false, model })
    const scope = Effect.runSync(Scope.make())
    const services = await Effect.runPromise(Scope.extend(Layer.build(layer), scope))
    const call = Effect.runPromise(Effect.flip(Effect.provide(Chat.text("Hi"), services)))
    await expect.poll(() => server.requests.length).toBeGreaterThan(0)
    await Effect.runPromise(Scope.close(scope, Exit.void))
    expect((await call)._tag).toBe("Closed")
  })

  it("cancelling a failed stream does not fail", async () => {
    const server = await fleet.ollama({ faults: { kind: "status", code: 500 } })
    const stream = await fleet.cortex([server]).chat("Hi", { stream: true })
    expect((await failure(stream.text()))._tag).toBe("AllServersFailed")
    await expect(stream.cancel()).resolves.toBeUndefined()
    await expect(stream[Symbol.asyncDispose]()).resolves.toBeUndefined()
  })
})

describe("what a failure means for its server", () => {
  it("an answer that began before a server asked for rest does not end the rest", async () => {
    const server = await fleet.ollama({ reply: "slow answer here", firstToken: 150 })
    const other = await fleet.ollama({ reply: "other" })
    const cortex = fleet.cortex(inOrder(server, other))
    const slow = cortex.chat("Hi")
    await server.waitForChats(1)
    await server.setBehaviour({ faults: { kind: "status", code: 429, retryAfter: 60 } })
    expect(await cortex.chat("Hi")).toBe("other")
    expect(await slow).toBe("slow answer here")
    const requestCount = server.chatRequests.length
    expect(await cortex.chat("Hi")).toBe("other")
    expect(server.chatRequests).toHaveLength(requestCount)
  })

  it.each([402, 405, 409, 421, 451])("HTTP %i: the next server, and this one does not rest", async (code) => {
    const server = await fleet.ollama({ faults: { kind: "status", code } })
    const other = await fleet.ollama({ reply: "other" })
    const cortex = fleet.cortex(inOrder(server, other))
    expect(await cortex.chat("Hi")).toBe("other")
    expect(await cortex.chat("Hi")).toBe("other")
    expect(server.chatRequests).toHaveLength(2)
  })

  it("fastest tries a server whose speed is not known yet", async () => {
    const slow = await fleet.openai({ reply: "a b c d e f", perToken: 30, flavour: "vllm" })
    const fast = await fleet.openai({ reply: "a b c d e f", perToken: 10, flavour: "vllm" })
    const cortex = fleet.cortex([slow, fast])
    for (let i = 0; i < 6; i++) await cortex.chat("Hi", { routing: "fastest" })
    expect(slow.chatRequests.length).toBeGreaterThan(0)
    expect(fast.chatRequests.length).toBeGreaterThan(0)
  })
})

describe("tool calls without results", () => {
  const reply = { tokens: [], toolCalls: [{ name: "nobody", arguments: {} }] }
  const tools = [{ name: "time", execute: () => "noon" }]

  it("fail instead of returning an empty text", async () => {
    const cortex = fleet.cortex([
      await fleet.ollama({ reply, models: [{ name: model, capabilities: ["completion", "tools"] }] })
    ])
    const error = await failure(cortex.chat("Hi", { tools }))
    expect(error).toMatchObject({ _tag: "ToolFailed", tool: "nobody" })
    expect(error.message).toMatch(/Use complete\(\) or stream to see the calls\.$/)
    expect((await cortex.complete("Hi", { tools })).toolCalls).toMatchObject([{ name: "nobody" }])
  })

  it("tools that are not a list are refused", async () => {
    const cortex = fleet.cortex([await fleet.ollama()])
    const error = await failure(cortex.chat("Hi", { tools: {} as never }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "tools" })
    const holes = await failure(cortex.chat("Hi", { tools: [null] as never }))
    expect(holes).toMatchObject({ _tag: "InvalidRequest", field: "tools.0" })
  })
})

describe("secrets", () => {
  const secret = "hunter2"
  it.each([
    `http://me:${secret}@:99999`,
    `me:${secret}@[bad`,
    `ftp://me:${secret}@host`,
    `http://me:${secret}%@host:x`,
    `http://me:a/${secret}@host`,
    `http://me:${secret}@host/?query=1`
  ])("do not appear in errors: %s", async (url) => {
    const cortex = createCortex({ servers: [url], configFile: false })
    const error = await failure(cortex.chat("Hi"))
    expect(error._tag).toBe("InvalidConfig")
    expect(inspect(error, { depth: 9 }) + JSON.stringify(error) + error.stack).not.toContain(secret)
    await cortex.close()
  })

  it("a percent sign in a password is literal", () => {
    const made = Server.fromOptions(`http://me:50%@host`, "test")
    expect(inspect(made, { depth: 9 })).not.toContain("50%")
    expect(made._tag).toBe("Right")
  })

  it("an address with a password finds its server and shows no password", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    const url = server.url.replace("//", `//me:${secret}@`)
    expect((await cortex.getServerInfo(model, { serverUrl: url })).url).toBe(server.url)
    const error = await failure(cortex.getServerInfo(model, { serverUrl: `http://me:${secret}@elsewhere` }))
    expect(error.message).not.toContain(secret)
  })
})

describe("unknown options are refused", () => {
  it("options of createCortex and searchModels; similar names get a hint", async () => {
    const wrong = createCortex({ server: ["http://x"], configFile: false } as never)
    expect(await failure(wrong.chat("Hi"))).toMatchObject({ _tag: "InvalidConfig", field: "server" })
    await wrong.close()
    const cortex = fleet.cortex([await fleet.ollama()])
    const search = await failure(cortex.searchModels("x", { min_params: "7b" } as never))
    expect(search).toMatchObject({ _tag: "InvalidRequest", field: "min_params" })
    expect((await failure(cortex.chat("Hi", { max_tokens: 3 } as never))).message).toContain("did you mean maxTokens?")
    expect((await failure(cortex.chat("Hi", { tempreature: 1 } as never))).message).toContain("temperature?")
    expect((await failure(cortex.chat("Hi", { routing: "quick" as never }))).message).toContain('"balanced"')
  })

  it("options of bestServer, models and getServerInfo, and values that are not objects", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    for (const [call, field] of [
      [cortex.bestServer(model, { strategi: "nearest" } as never), "strategi"],
      [cortex.bestServer(model, { strategy: "quick" as never }), "strategy"],
      [cortex.bestServer(model, "nearest" as never), "options"],
      [cortex.models({ famly: "llama" } as never), "famly"],
      [cortex.getServerInfo(model, { server_url: server.url } as never), "server_url"],
      [cortex.getServerInfo(model, server.url as never), "options"]
    ] as const) {
      expect(await failure(call)).toMatchObject({ _tag: "InvalidRequest", field })
    }
    expect((await failure(cortex.bestServer(model, "nearest" as never))).message).toContain("{ strategy }")
    expect((await failure(cortex.models({ famly: "llama" } as never))).message).toContain("did you mean family?")
    expect((await cortex.bestServer(model, undefined)).url).toBe(server.url)
    expect(await cortex.models({ available: true, family: undefined })).toContain(model)
  })

  it("options of sessions and of their list", async () => {
    const cortex = fleet.cortex([])
    const wrong = [
      [cortex.Session.create({ message: [] } as never), "message"],
      [cortex.Session.create({ prefix: "x" } as never), "prefix"],
      [cortex.Session.create("x" as never), "options"],
      [cortex.Session.list({ limt: 3 } as never), "limt"]
    ] as const
    for (const [call, field] of wrong) expect(await failure(call)).toMatchObject({ _tag: "InvalidRequest", field })
    expect((await failure(cortex.Session.create({ message: [] } as never))).message).toContain("did you mean messages?")
    expect(await cortex.Session.list()).toEqual([])
    const sessions = Effect.provide(
      Effect.all({
        create: Effect.flip(Sessions.create({ prefx: "x" } as never)),
        list: Effect.flip(Sessions.list({ prefx: "x" } as never)),
        none: Sessions.list()
      }),
      Sessions.layerMemory()
    )
    expect(await Effect.runPromise(sessions)).toMatchObject({
      create: { _tag: "InvalidRequest", field: "prefx" },
      list: { _tag: "InvalidRequest", field: "prefx" },
      none: []
    })
  })

  it("services to replace", async () => {
    const build = (parts: object) =>
      Effect.runPromise(Effect.flip(Effect.provide(Effect.void, Cortex.layer({ configFile: false }, parts))))
    expect(await build({ stor: Sessions.layerStoreMemory() })).toMatchObject({
      _tag: "InvalidConfig",
      source: "the replacements",
      field: "stor",
      reason: "there is no such part; there are store, responses, conditions, router, backends, transport"
    })
    expect(await build({ store: Sessions.makeStoreMemory() })).toMatchObject({
      field: "store",
      reason: "must be a layer"
    })
    const open = Cortex.layerServices({}, { transport: Cortex.layerTransport } as never)
    const outside = Layer.mergeAll(
      Settings.layer({}),
      Cortex.layerTransport,
      NodeContext.layer,
      NodeHttpClient.layerUndici
    )
    const services = Effect.provide(Effect.flip(Effect.provide(Effect.void, open)), outside)
    expect(await Effect.runPromise(services)).toMatchObject({ _tag: "InvalidConfig", field: "transport" })
  })

  it.each([
    [{ servers: "http://x" }, "servers"],
    [{ personas: [] }, "personas"],
    [{ personas: { pirate: 5 } }, "personas.pirate"],
    [{ location: 52 }, "location"],
    [{ location: { latitude: "52" } }, "location.latitude"],
    [{ location: { lat: 52 } }, "location.lat"],
    [{ registry: 5 }, "registry"],
    [{ sessions: { maxSession: 1 } }, "sessions.maxSession"],
    [{ sessions: 5 }, "sessions"],
    [{ cache: { ttl: 5, maxEntry: 5 } }, "cache.maxEntry"],
    [{ cacheFolder: 5 }, "cacheFolder"],
    [{ demoModel: 5 }, "demoModel"],
    [{ tracing: 5 }, "tracing"]
  ])("a setting of the wrong type, also nested: %j", async (options, field) => {
    const cortex = fleet.cortex([], options as never)
    const error = await failure(cortex.chat("Hi"))
    expect(error).toMatchObject({ _tag: "InvalidConfig", source: "the options", field })
    expect(error.message).not.toMatch(/\n|actual/)
  })
})

class Database extends Context.Tag("test/Database")<Database, { readonly up: boolean }>() {}
class DatabaseDown extends Data.TaggedError("DatabaseDown") {}

describe("options from a program's own configuration", () => {
  const given = (values: Record<string, string>) =>
    Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(values))))
  const layer = Cortex.layerConfig({
    servers: Config.array(Config.string(), "LLM_SERVERS"),
    model: Config.withDefault(Config.string("LLM_MODEL"), model),
    serverCooldown: Config.map(Config.withDefault(Config.duration("LLM_REST"), "2 minutes"), Duration.toMillis),
    sessions: { maxSessions: Config.withDefault(Config.integer("LLM_SESSIONS"), 1) },
    configFile: Config.succeed<false>(false)
  })

  it("apply as options do, in each part", async () => {
    const server = await fleet.ollama({ reply: "hello" })
    const program = Effect.gen(function* () {
      const first = yield* Sessions.create()
      const second = yield* Sessions.create()
      const { serverCooldown, servers } = yield* Settings.CurrentSettings
      return {
        text: yield* Chat.text("Hi", { session: second }),
        lost: yield* Effect.flip(Sessions.resume(first.id)),
        serverCooldown,
        urls: servers.map(({ url }) => url)
      }
    }).pipe(Effect.provide(Layer.provide(layer, given({ LLM_SERVERS: server.url, LLM_REST: "5 seconds" }))))
    expect(await Effect.runPromise(program)).toMatchObject({
      text: "hello",
      lost: { _tag: "SessionNotFound" },
      serverCooldown: 5_000,
      urls: [server.url]
    })
  })

  it("fail with the InvalidConfig", async () => {
    const error = (values: Record<string, string>) =>
      Effect.runPromise(Effect.flip(Effect.provide(Effect.void, Layer.provide(layer, given(values)))))
    expect(await error({})).toMatchObject({ _op: "MissingData", path: ["LLM_SERVERS"] })
    expect(await error({ LLM_SERVERS: "http://a", LLM_REST: "soon" })).toMatchObject({ _op: "InvalidData" })
    expect(await error({ LLM_SERVERS: "ftp://a" })).toMatchObject({ _tag: "InvalidConfig", field: "servers.url" })
    expectTypeOf(layer).toEqualTypeOf<Layer.Layer<Cortex.Services, InvalidConfig | ConfigError.ConfigError>>()
  })

  it("read the environment from the ConfigProvider, too", async () => {
    const server = await fleet.ollama({ reply: "hello" })
    const file = join(mkdtempSync(join(tmpdir(), "aicortex-config-")), "config.json")
    writeFileSync(file, "{}")
    const own = Cortex.layerConfig({ model: Config.string("LLM_MODEL"), configFile: Config.succeed(file) })
    const settings = given({ LLM_MODEL: model, AICORTEX_SERVERS: server.url })
    const text = Effect.provide(Chat.text("Hi"), Layer.provide(own, settings))
    expect(await Effect.runPromise(text)).toBe("hello")
    rmSync(dirname(file), { recursive: true })
  })
})

describe("services can be replaced", () => {
  it("by a layer with requirements and errors: both are in the type of the result", async () => {
    const server = await fleet.ollama({ reply: "hello" })
    const store = Layer.effect(
      Sessions.SessionStore,
      Effect.flatMap(Database, ({ up }) => (up ? Sessions.makeStoreMemory() : Effect.fail(new DatabaseDown())))
    )
    const layer = Cortex.layer({ servers: [server.url], configFile: false, model }, { store })
    expectTypeOf(layer).toEqualTypeOf<Layer.Layer<Cortex.Services, InvalidConfig | DatabaseDown, Database>>()
    expectTypeOf(Cortex.layer()).toEqualTypeOf<Layer.Layer<Cortex.Services, InvalidConfig>>()
    const program = Effect.gen(function* () {
      const session = yield* Sessions.create()
      return yield* Chat.text("Hi", { session })
    }).pipe(
      Effect.provide(layer),
      Effect.catchTag("DatabaseDown", () => Effect.succeed("down"))
    )
    const answer = (up: boolean) => Effect.runPromise(Effect.provideService(program, Database, { up }))
    expect([await answer(true), await answer(false)]).toEqual(["hello", "down"])
  })

  it("the store and the router, as layers", async () => {
    const server = await fleet.ollama({ reply: "hello" })
    const requests: Array<string> = []
    const router = Layer.effect(
      Router.Router,
      Effect.map(Router.make, (made) => ({
        ...made,
        plan: (...args: Parameters<Router.Service["plan"]>) => {
          requests.push(...args[0].map((host) => host.model))
          return made.plan(...args)
        }
      }))
    )
    const kept: Array<string> = []
    const store = Layer.effect(
      Sessions.SessionStore,
      Effect.map(Sessions.makeStoreMemory(), (made) => ({
        ...made,
        append: (...args: Parameters<Sessions.Store["append"]>) => {
          kept.push(args[0])
          return made.append(...args)
        }
      }))
    )
    const program = Effect.gen(function* () {
      const session = yield* Sessions.create()
      const text = yield* Chat.text("Hi", { model, session })
      yield* Chat.text("Hi", { model })
      const { url } = yield* Router.best(model)
      const registry = yield* Registry.Registry
      return { text, url, session, turns: yield* Sessions.history(session.id), models: yield* registry.models() }
    })
    const layer = Cortex.layer({ servers: [server.url], configFile: false }, { router, store })
    const result = await Effect.runPromise(Effect.provide(program, layer))
    expect(result).toMatchObject({ text: "hello", url: server.url })
    expect(result.turns).toHaveLength(2)
    // Also where the servers of the model are known already.
    expect(requests).toEqual([model, model])
    expect(kept).toEqual([result.session.id])
  })
})

it("the type of a chat's promise follows its options", () => {
  const { chat } = createCortex({ servers: [], configFile: false })
  const options: ChatOptions = {}
  interface City {
    readonly type: "object"
  }
  const schema: City = { type: "object" }
  // Never called: only their types count.
  const calls = () => [
    expectTypeOf(chat("x")).resolves.toEqualTypeOf<string>(),
    expectTypeOf(chat("x", { stream: false })).resolves.toEqualTypeOf<string>(),
    expectTypeOf(chat("x", { stream: true })).resolves.toEqualTypeOf<ChatStream>(),
    expectTypeOf(chat<{ a: number }>("x", { responseFormat: "json" })).resolves.toEqualTypeOf<{ a: number }>(),
    expectTypeOf(chat<{ a: number }>("x", { schema })).resolves.toEqualTypeOf<{ a: number }>(),
    expectTypeOf(chat("x", options)).resolves.toBeUnknown(),
    expectTypeOf(chat("x", { stream: Math.random() > 0.5 })).resolves.toEqualTypeOf<string | ChatStream>()
  ]
  expect(calls).toBeTypeOf("function")
})
