import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { afterAll, describe, expect, it } from "vitest"
import * as ChatRequest from "../../src/ChatRequest.js"
import { File } from "../../src/config/file.js"
import { fleet as fleetSettings, ownDefaults } from "../../src/config/fleet.js"
import type * as Gateway from "../../src/config/gateway.js"
import { gateway as gatewaySettings } from "../../src/config/gateway.js"
import * as GatewaySettings from "../../src/config/gatewaySettings.js"
import * as Config from "../../src/config/resolve.js"
import { server as serverSettings } from "../../src/config/server.js"
import * as EmbedRequest from "../../src/EmbedRequest.js"
import { type CortexOptions, createCortex, type ServerOptions } from "../../src/promise.js"
import * as Server from "../../src/Server.js"
import { failure, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const folder = mkdtempSync(join(tmpdir(), "aicortex-null-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe("null options of calls count as omitted", () => {
  it.each(Object.keys(ChatRequest.Options.fields))("chat: %s", (name) => {
    expect(ChatRequest.decodeOptions({ [name]: null, seed: 1, ...(name === "seed" ? { seed: null } : {}) })).toEqual(
      Either.right(name === "seed" ? {} : { seed: 1 })
    )
  })

  it.each(Object.keys(EmbedRequest.Options.fields).filter((name) => name !== "model"))("embed: %s", (name) => {
    expect(EmbedRequest.decodeOptions({ model, [name]: null })).toEqual(Either.right({ model }))
  })

  it("inside tools and policies too, but not inside values that are sent unchanged", () => {
    const sent = { options: { stop: null }, tools: [{ name: "t", parameters: { default: null } }] }
    const tools = [{ name: "t", description: null, strict: null, parameters: { default: null } }]
    expect(ChatRequest.decodeOptions({ ...sent, tools, cache: { ttl: null } })).toEqual(
      Either.right({ ...sent, cache: {} })
    )
  })

  it("control: missing required and unknown options are still refused", async () => {
    for (const options of [{ tools: [{ name: null }] }, { hedge: { after: null } }, { temprature: null }, null]) {
      expect(Either.isLeft(ChatRequest.decodeOptions(options))).toBe(true)
    }
    expect(Either.isLeft(EmbedRequest.decodeOptions({ model: null }))).toBe(true)
  })

  it.each(Object.keys(File.fields))("the configuration file: %s", async (name) => {
    const server = await fleet.ollama()
    const configFile = join(mkdtempSync(join(folder, "c-")), "config.json")
    writeFileSync(
      configFile,
      JSON.stringify({
        servers: [{ url: server.url, weight: null, location: null }],
        [name]: name === "servers" ? [{ url: server.url, apiKey: null, headers: null }] : null
      })
    )
    expect(await fleet.cortex([server], { configFile }).chat("Hi")).not.toBe("")
  })

  it("control: a list in the file with null is refused", async () => {
    const configFile = join(mkdtempSync(join(folder, "c-")), "config.json")
    writeFileSync(configFile, JSON.stringify({ servers: [null] }))
    expect(await failure(fleet.cortex([], { configFile }).chat("Hi"))).toMatchObject({ _tag: "InvalidConfig" })
  })
})

/** Each of these settings as null. */
const nulls = <S extends object>(settings: S) =>
  Object.fromEntries(Object.keys(settings).map((name) => [name, null])) as { readonly [K in keyof S]: null }

// The compiler says where an option is missing that is no setting.
const fleetOptions: { readonly [K in keyof Required<CortexOptions>]: null } = {
  ...nulls(fleetSettings),
  ...nulls(ownDefaults),
  cacheTtl: null,
  tracing: null
}
const serverOptions: { readonly [K in keyof Required<Omit<ServerOptions, "url">>]: null } = nulls(serverSettings)
const gatewayOptions: { readonly [K in keyof Required<Gateway.GatewayOptions>]: null } = nulls(gatewaySettings)

describe("null options of a fleet count as omitted", () => {
  const resolved = (options: object) =>
    Effect.runPromise(Effect.either(Effect.provide(Config.resolve(options as never), NodeContext.layer)))
  const base = { configFile: false, servers: ["http://127.0.0.1:1"] } as const

  it.each(Object.keys(fleetOptions).filter((name) => name !== "configFile"))("createCortex: %s", async (name) => {
    const server = await fleet.ollama()
    const options = { configFile: false, servers: [server.url], model, [name]: null }
    // Nobody else is named where the environment is not read.
    const cortex = createCortex(options as never)
    await using _ = cortex
    if (name === "servers") expect(await cortex.listServers()).toEqual([])
    else expect(await cortex.chat("Hi", { model })).not.toBe("")
  })

  it("createCortex: configFile, and no options at all", async () => {
    const server = await fleet.ollama()
    for (const options of [
      { configFile: null, servers: [server.url] },
      { servers: [server.url], configFile: null }
    ]) {
      await using cortex = createCortex(options as never)
      expect(await cortex.chat("Hi", { model })).not.toBe("")
    }
    await using none = createCortex(null as never)
    expect(await none.families()).not.toEqual([])
  })

  it.each(
    Object.keys(fleetOptions).filter(
      (name) => !["configFile", "servers", "tracing", "cacheFolder", "demoModel"].includes(name)
    )
  )("Config.resolve: %s", async (name) => {
    expect(await resolved({ ...base, [name]: null })).toEqual(await resolved(base))
  })

  it.each([
    ["sessions", { folder: null, maxSessions: null, maxBytes: null, ttl: null }, {}],
    ["models", { folder: null, aliases: { small: "hf:a/b" } }, { aliases: { small: "hf:a/b" } }],
    ["cache", { ttl: null, maxEntries: null, maxBytes: null, shared: null }, {}],
    ["proxy", { http: "http://proxy:3128", https: null, no: null, loopback: null }, { http: "http://proxy:3128" }],
    ["location", { city: "Berlin", country: "DE", latitude: null }, { city: "Berlin", country: "DE" }],
    ["defaults", { timeout: null, seed: 1 }, { seed: 1 }]
  ])("inside %s", async (name, nulls, without) => {
    const given = await resolved({ ...base, [name]: nulls })
    expect(Either.isRight(given)).toBe(true)
    expect(given).toEqual(await resolved({ ...base, [name]: without }))
  })

  it("control: null for required, unknown or listed values is still an error", async () => {
    for (const options of [
      { hedge: { after: null } },
      { servers: [null] },
      { servers: [{ url: null }] },
      { personas: { one: null } },
      { registry: [null] },
      { modle: "x" }
    ]) {
      expect([options, (await resolved({ ...base, ...options }))._tag]).toEqual([options, "Left"])
    }
  })

  it.each(Object.keys(serverOptions).filter((name) => name !== "url"))("a server: %s", (name) => {
    const url = "http://gpu-1:11434"
    expect(Server.fromOptions({ url, [name]: null } as never, "test")).toEqual(Server.fromOptions({ url }, "test"))
  })

  it("a server without an address is still an error", () => {
    expect(Either.isLeft(Server.fromOptions({ url: null } as never, "test"))).toBe(true)
    expect(Either.isLeft(Server.fromOptions(null as never, "test"))).toBe(true)
  })

  it.each(Object.keys(gatewayOptions))("a gateway: %s", (name) => {
    expect(GatewaySettings.resolve({ [name]: null } as never)).toEqual(GatewaySettings.resolve({}))
  })
})

describe("null options of functions count as omitted", () => {
  it.each(["session", "tools", "maxToolRounds", "signal", "stream", "responseFormat", "schema"])(
    "chat and complete: %s",
    async (name) => {
      const cortex = fleet.cortex([await fleet.ollama()])
      expect(await cortex.chat("Hi", { [name]: null } as never)).toBe(await cortex.chat("Hi"))
      expect((await cortex.complete("Hi", { [name]: null } as never)).text).not.toBe("")
    }
  )

  it("embed: signal; and the options themselves", async () => {
    const capabilities = ["completion", "embedding"]
    const cortex = fleet.cortex([await fleet.ollama({ models: [{ name: model, capabilities }] })])
    expect((await cortex.embed("a", { model, signal: null } as never)).embeddings).toHaveLength(1)
    expect(await cortex.chat("Hi", null as never)).not.toBe("")
  })

  it("a tool's execute: the caller runs it", async () => {
    const cortex = fleet.cortex([await fleet.ollama()])
    const tools = [{ name: "f", execute: null }] as never
    expect((await cortex.complete("Hi", { tools })).text).not.toBe("")
    expect(await failure(cortex.chat("Hi", { tools }))).toMatchObject({ field: "tools" })
  })

  it("best, models, searches, sessions, servers and requests", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    const nothing = null as never
    expect(await cortex.bestServer(model, { strategy: null } as never)).toEqual(await cortex.bestServer(model))
    expect(await cortex.bestServer(model, nothing)).toEqual(await cortex.bestServer(model))
    expect(await cortex.models({ family: null, available: null } as never)).toEqual(await cortex.models())
    expect(await cortex.models(nothing)).toEqual(await cortex.models())
    const search = { family: null, generation: null, minParams: null, maxParams: null, available: null }
    expect(await cortex.searchModels("llama", search as never)).toEqual(await cortex.searchModels("llama"))
    expect(await cortex.searchModels("llama", nothing)).toEqual(await cortex.searchModels("llama"))
    const session = await cortex.Session.create({ messages: null } as never)
    expect(await session.history()).toEqual([])
    expect(await cortex.Session.list({ limit: null } as never)).toHaveLength(1)
    expect(await cortex.Session.list(nothing)).toHaveLength(1)
    await cortex.Session.create(nothing)
    expect(await cortex.getServerInfo(model, { serverUrl: null } as never)).toEqual(await cortex.getServerInfo(model))
    const request = await cortex.buildApiRequest(model, "Hi", { seed: null, stop: null, system: null } as never)
    expect(request).toEqual(await cortex.buildApiRequest(model, "Hi"))
  })

  it("control: null for required and for invalid options is still an error", async () => {
    const cortex = fleet.cortex([await fleet.ollama()])
    expect(await failure(cortex.chat(null as never))).toMatchObject({ field: "prompt" })
    expect(await failure(cortex.bestServer(null as never))).toMatchObject({ field: "model" })
    expect(await failure(cortex.searchModels(null as never))).toMatchObject({ field: "query" })
    expect(await failure(cortex.Session.resume(null as never))).toMatchObject({ field: "session" })
    expect(await failure(cortex.chat("Hi", { maxToolRounds: 0 }))).toMatchObject({ field: "maxToolRounds" })
    expect(await failure(cortex.chat("Hi", { signal: 5 } as never))).toMatchObject({ field: "signal" })
  })
})
