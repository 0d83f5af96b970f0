import { spawn } from "node:child_process"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Chat, Cortex, Embeddings } from "aicortex"
import { createCortex } from "aicortex/promise"
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import { bin, ended } from "../support/cliProcess.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const capabilities = ["completion", "embedding", "thinking"]
const messages = [{ role: "user" as const, content: "Hi" }]
const keep = useKeep()
const kinds = { ollama: startFakeOllama, openai: startFakeOpenAI }
type Kind = keyof typeof kinds
const kindNames = Object.keys(kinds) as Array<Kind>
const start = async (kind: Kind, options: Parameters<typeof startFakeOllama>[0] = {}): Promise<FakeServer> =>
  keep(await kinds[kind]({ models: [{ name: model, capabilities }], reply: "Well.", ...options }))
const cortexOf = (options: Cortex.Options) => {
  const cortex = createCortex({ configFile: false, ...options })
  keep({ [Symbol.asyncDispose]: () => cortex.close() })
  return cortex
}
// biome-ignore lint/suspicious/noExplicitAny: what was sent is read freely.
const last = (server: FakeServer): any =>
  server.requests.findLast(({ method, body }) => method === "POST" && body)?.body
/** What was sent, as either protocol says it. */
const sampled = (server: FakeServer) => {
  const { max_completion_tokens, max_tokens, options, temperature, top_p } = last(server)
  return {
    temperature: temperature ?? options?.temperature,
    topP: top_p ?? options?.top_p,
    maxTokens: max_tokens ?? max_completion_tokens ?? options?.num_predict
  }
}
const chats = (server: FakeServer) => server.requests.filter(({ kind }) => kind === "chat").length
const folder = async () => {
  const path = await mkdtemp(join(tmpdir(), "aicortex-"))
  keep({ [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) })
  return path
}
const withFile = async (content: object) => {
  const file = join(await folder(), "config.json")
  await writeFile(file, JSON.stringify(content))
  return file
}

describe.each(kindNames)("defaults of calls (%s)", (kind) => {
  const defaults = { temperature: 0.1, topP: 0.5, maxTokens: 7 }
  const wanted = { temperature: 0.1, topP: 0.5, maxTokens: 7 }

  it("apply to calls without the option, complete and streamed, and options of a call win", async () => {
    const server = await start(kind)
    const cortex = cortexOf({ servers: [server.url], defaults })
    await cortex.chat("Hi", { model })
    expect(sampled(server)).toEqual(wanted)
    await cortex.complete("Hi", { model })
    expect(sampled(server)).toEqual(wanted)
    for await (const _ of await cortex.chat("Hi", { model, stream: true }));
    expect(sampled(server)).toEqual(wanted)
    const session = await cortex.Session.create()
    await cortex.chat("Hi", { model, session })
    expect(sampled(server)).toEqual(wanted)
    await cortex.chat("Hi", { model, temperature: 1.5, maxTokens: 9 })
    expect(sampled(server)).toEqual({ temperature: 1.5, topP: 0.5, maxTokens: 9 })
    const plain = cortexOf({ servers: [server.url] })
    await plain.chat("Hi", { model })
    expect(sampled(server)).toEqual({ temperature: 0.7, topP: 1, maxTokens: undefined })
  })

  it("apply to Effect's services", async () => {
    const server = await start(kind)
    const layer = Cortex.layer({ servers: [server.url], configFile: false, defaults })
    await Effect.runPromise(Effect.provide(Chat.text("Hi", { model }), layer))
    expect(sampled(server)).toEqual(wanted)
    const failing = Effect.provide(
      Embeddings.embed("Hi", { model: "nobody-has:9b" }),
      Cortex.layer({ servers: [], configFile: false, defaults: { deadline: 1_000 } })
    )
    expect((await Effect.runPromise(Effect.flip(failing)))._tag).toBe("ModelNotFound")
  })

  it("set attempts and timeouts, for chats and embeddings alike", async () => {
    const server = await start(kind, { faultOn: "all", faults: (_, body) => body && { kind: "status", code: 500 } })
    const cortex = cortexOf({ servers: [server.url], defaults: { maxRetries: 3, retryBackoff: 0 } })
    const failed = await cortex.chat("Hi", { model }).catch((error: unknown) => error)
    expect(failed).toMatchObject({ _tag: "AllServersFailed", attempts: [{}, {}, {}] })
    const once = await cortex.chat("Hi", { model, maxRetries: 1 }).catch((error: unknown) => error)
    expect((once as { attempts: ReadonlyArray<unknown> }).attempts).toHaveLength(1)
    const vectors = await cortex.embed("Hi", { model }).catch((error: unknown) => error)
    expect(vectors).toMatchObject({ _tag: "AllServersFailed", attempts: [{}, {}, {}] })
    const silent = await start(kind, { faults: () => ({ kind: "stall", afterTokens: 0 }) as never })
    const hurried = cortexOf({ servers: [silent.url], defaults: { deadline: 150 } })
    const late = await hurried.chat("Hi", { model }).catch((error: unknown) => error)
    expect(late).toMatchObject({ _tag: "DeadlineExceeded", deadline: 150 })
  })

  it("that only Ollama supports do not exclude other servers", async () => {
    const server = await start(kind)
    const cortex = cortexOf({ servers: [server.url], defaults: { keepAlive: "9m", options: { num_ctx: 4096 } } })
    expect(await cortex.chat("Hi", { model })).toBe("Well.")
    expect(last(server).keep_alive).toBe(kind === "ollama" ? "9m" : undefined)
    expect(last(server).options?.num_ctx).toBe(kind === "ollama" ? 4096 : undefined)
    await cortex.embed("Hi", { model })
    expect(last(server).keep_alive).toBe(kind === "ollama" ? "9m" : undefined)
    if (kind === "openai") {
      await expect(cortex.chat("Hi", { model, keepAlive: "1m" })).rejects.toMatchObject({ _tag: "InvalidRequest" })
    } else {
      await cortex.chat("Hi", { model, keepAlive: "1m", options: { top_k: 3 } })
      expect([last(server).keep_alive, last(server).options]).toMatchObject(["1m", { num_ctx: 4096, top_k: 3 }])
    }
  })

  it("apply in the gateway if neither the request nor its own settings set the option", async () => {
    const server = await start(kind)
    const all = { ...defaults, routing: "fastest" as const, keepAlive: "9m" }
    const gateway = keep(
      await startGateway(
        [server.url],
        { strict: true },
        { cortex: { servers: [server.url], configFile: false, defaults: all } }
      )
    )
    const asks: ReadonlyArray<readonly [path: string, body: object]> = [
      ["/v1/chat/completions", { messages }],
      ["/v1/chat/completions", { messages, stream: true }],
      ["/v1/responses", { input: "Hi" }],
      ["/api/chat", { messages, stream: false }],
      ["/api/generate", { prompt: "Hi" }]
    ]
    for (const [path, body] of asks) {
      const answer = await gateway.post(path, { model, ...body })
      const text = await answer.text()
      expect([path, answer.status, answer.headers.get("x-aicortex-ignored")]).toEqual([path, 200, null])
      expect(answer.headers.get("x-aicortex-reason")).toBe("fastest")
      expect([path, sampled(server)]).toEqual([path, wanted])
      if (path === "/v1/responses") expect(JSON.parse(text)).toMatchObject({ temperature: 0.1, top_p: 0.5 })
    }
    await gateway.post("/v1/messages", { model, messages, max_tokens: 9 })
    expect(sampled(server)).toEqual({ temperature: 0.1, topP: 0.5, maxTokens: 9 })
    await gateway.post("/v1/chat/completions", { model, messages, temperature: 1.5, routing: "random" })
    expect(sampled(server)).toEqual({ ...wanted, temperature: 1.5 })
    const plain = keep(await startGateway([server.url]))
    await plain.post("/v1/chat/completions", { model, messages })
    expect(sampled(server)).toEqual({ temperature: 0.7, topP: 1, maxTokens: undefined })
    const echoed = await (await plain.post("/v1/responses", { model, input: "Hi" })).json()
    expect(echoed).toMatchObject({ temperature: 0.7, top_p: 1 })
    await plain.post("/api/chat", { model, messages, stream: false })
    expect(sampled(server).temperature).toBeUndefined()
  })

  it("of the gateway override those of the fleet", async () => {
    const server = await start(kind, { faultOn: "all", faults: (_, body) => body && { kind: "status", code: 500 } })
    const cortex = { servers: [server.url], configFile: false as const, defaults: { maxRetries: 3, retryBackoff: 0 } }
    const attempts = async (options: object, path: string, body: object) => {
      const gateway = keep(await startGateway([server.url], options, { cortex }))
      // biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
      const reported: any = await (await gateway.post(path, { model, ...body })).json()
      return reported.error.attempts.length
    }
    expect(await attempts({}, "/v1/chat/completions", { messages })).toBe(3)
    expect(await attempts({}, "/v1/embeddings", { input: "Hi" })).toBe(3)
    expect(await attempts({ maxRetries: 2 }, "/v1/chat/completions", { messages })).toBe(2)
  })
})

describe("defaults of the file and the environment", () => {
  const run = async (config: object, env: Record<string, string>, ...args: ReadonlyArray<string>) => {
    const home = await folder()
    const all = { PATH: process.env["PATH"], HOME: home, AICORTEX_CONFIG: await withFile(config), ...env }
    const child = spawn(process.execPath, [bin, ...args], { env: all, stdio: ["ignore", "pipe", "pipe"] })
    return ended(child)
  }

  it("are in seconds, and config shows each with its source", async () => {
    const config = { servers: [], defaults: { timeout: 12, temperature: 0.2, hedge: { after: 0.5 } } }
    const env = { AICORTEX_DEFAULTS: '{"temperature":0.3,"maxRetries":4}' }
    const shown = await run(config, env, "config")
    expect(shown.out).toMatch(/defaults\.timeout +12 s +the file/)
    expect(shown.out).toMatch(/defaults\.temperature +0\.3 +AICORTEX_DEFAULTS/)
    expect(shown.out).toMatch(/defaults\.maxRetries +4 +AICORTEX_DEFAULTS/)
    const json = JSON.parse((await run(config, env, "config", "--json")).out)
    expect(json.settings.defaults).toEqual({ timeout: 12, temperature: 0.3, maxRetries: 4, hedge: { after: 0.5 } })
    expect(json.origins.defaults).toMatchObject({ timeout: "the file", temperature: "AICORTEX_DEFAULTS" })
  })

  it("apply to the command line, whose flags win", async () => {
    const server = await start("ollama")
    const config = { servers: [server.url], defaults: { temperature: 0.2, maxTokens: 5 } }
    await run(config, {}, "chat", "Hi", "-m", model)
    expect(sampled(server)).toMatchObject({ temperature: 0.2, maxTokens: 5 })
    await run(config, {}, "chat", "Hi", "-m", model, "--temperature", "1")
    expect(sampled(server)).toMatchObject({ temperature: 1, maxTokens: 5 })
  })

  it("apply to a program, whose own options win", async () => {
    const server = await start("openai")
    const configFile = await withFile({ defaults: { temperature: 0.2, maxTokens: 5, deadline: 0.001 } })
    const late = cortexOf({ servers: [server.url], configFile })
    await expect(late.chat("Hi", { model })).rejects.toMatchObject({ _tag: "DeadlineExceeded", deadline: 1 })
    const cortex = cortexOf({ servers: [server.url], configFile, defaults: { deadline: 30_000, temperature: 0.4 } })
    await cortex.chat("Hi", { model })
    expect(sampled(server)).toMatchObject({ temperature: 0.4, maxTokens: 5 })
    expect(chats(server)).toBeGreaterThan(0)
  })

  it.each([
    ["the file", { defaults: { timeout: -1 } }, {}, "defaults.timeout", "must be a number of seconds above 0"],
    ["the file", { defaults: { timeOut: 1 } }, {}, "defaults.timeOut", "did you mean 'timeout'"],
    ["the environment", {}, { AICORTEX_DEFAULTS: "{" }, "AICORTEX_DEFAULTS", "is not a JSON object"],
    ["the environment", {}, { AICORTEX_DEFAULTS: "[1]" }, "AICORTEX_DEFAULTS", "must be an object"],
    ["the environment", {}, { AICORTEX_DEFAULTS: '{"topP":2}' }, "AICORTEX_DEFAULTS.topP", "must be from 0 to 1"]
  ])("invalid ones are refused by name: %s %j %j", async (_, config, env, field, reason) => {
    const { code, err } = await run(config, env as Record<string, string>, "config")
    expect(code).not.toBe(0)
    expect(err).toContain(field)
    expect(err).toContain(reason)
  })
})

describe("invalid defaults", () => {
  it.each([
    [{ temperature: 3 }, "temperature", "must be from 0 to 2"],
    [{ timeout: 0 }, "timeout", "must be a number of milliseconds above 0"],
    [{ maxRetries: 1.5 }, "maxRetries", "must be a whole number from 1"],
    [{ routing: "sideways" }, "routing", ""],
    [{ hedge: { after: -1 } }, "hedge.after", "must be a number of milliseconds above 0"],
    [{ hedge: 5 }, "hedge", "must be true or false or an object"],
    [{ temprature: 1 }, "temprature", "did you mean 'temperature'"],
    [{ model: "m" }, "model", "has a setting of its own"],
    [{ cache: true }, "cache", "has a setting of its own"],
    [{ system: "Be brief." }, "system", "must be given with each call"],
    [{ tools: [] }, "tools", "must be given with each call"]
  ])("%j is refused by name, before anything is sent", async (defaults, field, reason) => {
    const server = await start("ollama")
    const cortex = cortexOf({ servers: [server.url], defaults: defaults as never })
    const calls = [() => cortex.chat("Hi", { model }), () => cortex.embed("Hi", { model }), () => cortex.listServers()]
    for (const call of calls) {
      await expect(call()).rejects.toMatchObject({
        _tag: "InvalidConfig",
        source: "the options",
        field: `defaults.${field}`,
        reason: expect.stringContaining(reason)
      })
    }
    expect(server.requests).toHaveLength(0)
  })

  it.each([[5], ["fast"], [[]]])("%j is not an object", async (defaults) => {
    const cortex = cortexOf({ servers: [], defaults: defaults as never })
    await expect(cortex.models()).rejects.toMatchObject({ _tag: "InvalidConfig", field: "defaults" })
  })

  it("a text completion is sent without think", async () => {
    const server = await start("ollama")
    const cortex = cortexOf({ servers: [server.url], defaults: { think: true } })
    await cortex.chat("One, two,", { model, raw: true })
    expect(last(server).think).toBeUndefined()
    await cortex.chat("Hi", { model })
    expect(last(server).think).toBe(true)
    await cortex.chat("Hi", { model, think: false })
    expect(last(server).think).not.toBe(true)
  })
})
