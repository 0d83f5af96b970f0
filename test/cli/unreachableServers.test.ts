import { spawn } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createCortex } from "aicortex/promise"
import { describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"
import { unusedPort } from "../support/ports.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]
const keep = useKeep()
const kinds = { ollama: startFakeOllama, openai: startFakeOpenAI }
type Kind = keyof typeof kinds
const kindNames = Object.keys(kinds) as Array<Kind>
const start = async (kind: Kind, options: Parameters<typeof startFakeOllama>[0] = {}): Promise<FakeServer> =>
  keep(await kinds[kind]({ models: [model], reply: "Well.", ...options }))
const broken = (kind: Kind) => start(kind, { faults: () => ({ kind: "status", code: 401 }), faultOn: "chat" })
const dead = async () => `http://127.0.0.1:${await unusedPort()}`
const cortexOf = (servers: ReadonlyArray<string>) => {
  const cortex = createCortex({ servers, configFile: false })
  keep({ [Symbol.asyncDispose]: () => cortex.close() })
  return cortex
}
const gatewayOf = async (servers: ReadonlyArray<string>, options = {}) => keep(await startGateway(servers, options))
// biome-ignore lint/suspicious/noExplicitAny: errors are read freely.
const rejection = (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    () => expect.fail("it did not fail"),
    (error: unknown) => error
  )
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Response): Promise<any> => response.json()

describe.each(kindNames)("errors name the servers that could not be asked (%s)", (kind) => {
  const asks: Record<string, (cortex: ReturnType<typeof createCortex>) => Promise<unknown>> = {
    chat: (cortex) => cortex.chat("Hi", { model }),
    complete: (cortex) => cortex.complete("Hi", { model }),
    stream: async (cortex) => {
      for await (const _ of await cortex.chat("Hi", { model, stream: true }));
    }
  }
  it.each(Object.keys(asks))("AllServersFailed of %s", async (how) => {
    const [one, other] = [await broken(kind), await dead()]
    const error = await rejection(asks[how]?.(cortexOf([one.url, other])) ?? Promise.resolve())
    expect(error).toMatchObject({
      _tag: "AllServersFailed",
      attempts: [{ server: one.url, reason: "unauthorized" }],
      unreachable: [{ url: other, reason: "refused the connection" }]
    })
    expect(error.message).toContain(`${other} could not be asked which models it has (refused the connection)`)
  })

  it("AllServersFailed of embeddings", async () => {
    const one = await start(kind, {
      faultOn: "all",
      faults: (_, body) => (body?.input === undefined ? undefined : { kind: "status", code: 401 })
    })
    const other = await dead()
    const cortex = cortexOf([one.url, other])
    const error = await rejection(cortex.embed("Hi", { model }))
    expect(error).toMatchObject({ _tag: "AllServersFailed", unreachable: [{ url: other }] })
  })

  it("but each server once, and only unreachable ones", async () => {
    const [one, without] = [await broken(kind), await start(kind, { models: ["other:1b"] })]
    const error = await rejection(cortexOf([one.url, without.url]).chat("Hi", { model }))
    expect(error).toMatchObject({ _tag: "AllServersFailed" })
    expect(error.unreachable).toBeUndefined()
    const gone = await dead()
    const alone = await rejection(cortexOf([gone]).chat("Hi", { model, maxRetries: 1 }))
    expect(alone).toMatchObject({ _tag: "AllServersFailed", attempts: [{ server: gone }] })
    expect(alone.unreachable).toBeUndefined()
  })

  it("and each kind of failure once, with its count", async () => {
    const gone = await dead()
    const error = await rejection(cortexOf([gone]).chat("Hi", { model, maxRetries: 3, retryBackoff: 1 }))
    expect(error.attempts).toHaveLength(3)
    expect(error.message).toContain("(3 attempts)")
    expect(error.message.split("\n").filter((line: string) => line.includes(gone))).toEqual([
      expect.stringMatching(/\(refused, connect, 3 times, at most \d+ ms\): /)
    ])
  })

  it("NoServers lists the available tags of the model", async () => {
    const has = await start(kind, { models: ["llama3.2:3b", "gemma3:4b"] })
    const error = await rejection(cortexOf([has.url]).chat("Hi", { model: "llama3.2" }))
    expect(error).toMatchObject({ _tag: "NoServers", otherTags: ["llama3.2:3b"] })
    expect(error.message).toContain("has it. Did you mean llama3.2:3b? They have: gemma3:4b, llama3.2:3b.")
    const other = await rejection(cortexOf([has.url]).chat("Hi", { model: "qwen3:4b" }))
    expect(other).toMatchObject({ _tag: "NoServers", otherTags: [] })
    expect(other.message).not.toContain("Did you mean")
    const gateway = await startGateway([has.url])
    await using _gateway = gateway
    const response = await gateway.post("/v1/chat/completions", {
      model: "llama3.2",
      messages: [{ role: "user", content: "Hi" }]
    })
    expect(response.status).toBe(404)
    expect(await response.text()).toContain("No server has the model 'llama3.2'. Did you mean llama3.2:3b? There are:")
  })

  it("NoServers and ModelNotFound, wherever they come from", async () => {
    const [one, other] = [await start(kind, { models: ["other:1b"] }), await dead()]
    const cortex = cortexOf([one.url, other])
    const unreachable = [{ url: other, reason: "refused the connection" }]
    const words = `${other} could not be asked (refused the connection)`
    for (const missing of [
      cortex.chat("Hi", { model: "nobody-has:9b" }),
      cortex.getModelInfo("nobody-has:9b"),
      cortex.getServerInfo("nobody-has:9b"),
      cortex.embed("Hi", { model: "nobody-has:9b" })
    ]) {
      const error = await rejection(missing)
      expect(error).toMatchObject({ _tag: "ModelNotFound", unreachable })
      expect(error.message).toContain(words)
    }
    for (const missing of [cortex.getLlmParams("llama3.2:3b"), cortex.getServerInfo("llama3.2:3b")]) {
      const error = await rejection(missing)
      expect(error).toMatchObject({ _tag: "NoServers", unreachable })
      expect(error.message).toContain(words)
    }
    const whole = await rejection(cortexOf([one.url]).getModelInfo("nobody-has:9b"))
    expect(whole.unreachable).toBeUndefined()
  })

  it("the gateway names them by their labels, with the reason", async () => {
    const [one, other] = [await broken(kind), await dead()]
    const gateway = await gatewayOf([one.url, other])
    const expected = [{ server: "server-2", reason: "refused the connection" }]
    const response = await gateway.post("/v1/chat/completions", { model, messages })
    expect(response.status).toBe(502)
    const { error } = await json(response)
    expect(error.unreachable).toEqual(expected)
    expect(error.message).toContain("Could not be asked which models they have: server-2 (refused the connection).")
    const anthropic = await json(await gateway.post("/v1/messages", { model, messages, max_tokens: 9 }))
    expect(anthropic.error.unreachable).toEqual(expected)
    const plain = await json(await gateway.post("/api/chat", { model, messages, stream: false }))
    expect(plain.error).toContain("server-2 (refused the connection)")
    const missing = await json(await gateway.post("/v1/chat/completions", { model: "nobody-has:9b", messages }))
    expect(missing.error).toMatchObject({ code: "model_not_found", unreachable: expected })
    expect(JSON.stringify([error, anthropic, plain, missing])).not.toMatch(/127\.0\.0\.1|http:/)
    const open = await gatewayOf([one.url, other], { exposeServers: true })
    const shown = await json(await open.post("/v1/chat/completions", { model, messages }))
    expect(shown.error.unreachable).toEqual([{ server: other, reason: "refused the connection" }])
  })

  it("the command line names them", async () => {
    const [one, other] = [await broken(kind), await dead()]
    const home = await mkdtemp(join(tmpdir(), "aicortex-"))
    keep({ [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }) })
    const run = (...args: ReadonlyArray<string>) =>
      new Promise<string>((resolve) => {
        const bin = new URL("../../dist/bin.js", import.meta.url).pathname
        const env = { PATH: process.env["PATH"], HOME: home, AICORTEX_SERVERS: `${one.url} ${other}` }
        const child = spawn(process.execPath, [bin, ...args], { env, stdio: ["ignore", "ignore", "pipe"] })
        let text = ""
        child.stderr.setEncoding("utf8").on("data", (piece: string) => {
          text += piece
        })
        child.on("close", () => resolve(text))
      })
    expect(await run("chat", "Hi", "-m", model)).toContain(`${other} could not be asked which models it has (refused`)
    expect(await run("chat", "Hi", "-m", "nobody-has:9b")).toContain(`${other} could not be asked (refused`)
  })
})

describe.each(kindNames)("lists of models, with servers that are down (%s)", (kind) => {
  const lists: ReadonlyArray<readonly [name: string, path: string, headers: Record<string, string>]> = [
    ["OpenAI's", "/v1/models", {}],
    ["Anthropic's", "/v1/models", { "anthropic-version": "2023-06-01" }],
    ["Ollama's", "/api/tags", {}],
    ["the plain one", "/models", {}],
    ["one model", `/v1/models/${model}`, {}],
    ["one model of Anthropic's", `/v1/models/${model}`, { "anthropic-version": "2023-06-01" }]
  ]

  it.each(lists)("%s: an error says that all are down", async (_, path, headers) => {
    const gateway = await gatewayOf([await dead(), await dead()])
    const answer = await gateway.get(path, { headers })
    const text = await answer.text()
    expect([answer.status, answer.headers.get("x-aicortex-unreachable")]).toEqual([503, "2"])
    expect(answer.headers.get("retry-after")).toBe("5")
    expect(text).toContain("No server could be reached")
    expect(text).toContain("server-1 (refused the connection), server-2 (refused the connection)")
    expect(text).not.toContain("127.0.0.1")
  })

  it.each(lists)("%s: with some down, the others' models are listed", async (_, path, headers) => {
    const gateway = await gatewayOf([await dead(), (await start(kind)).url, await dead()])
    const answer = await gateway.get(path, { headers: { ...headers, origin: "http://localhost:3000" } })
    expect([answer.status, answer.headers.get("x-aicortex-unreachable")]).toEqual([200, "2"])
    expect(answer.headers.get("access-control-expose-headers")).toContain("x-aicortex-unreachable")
    expect(await answer.text()).toContain(model)
  })

  it.each(lists)("%s: no notice if all answer", async (_, path, headers) => {
    const gateway = await gatewayOf([(await start(kind)).url])
    const answer = await gateway.get(path, { headers })
    expect([answer.status, answer.headers.get("x-aicortex-unreachable")]).toEqual([200, null])
  })

  it("a model that the others do not have may be on those that are down", async () => {
    const gateway = await gatewayOf([await dead(), (await start(kind)).url])
    const answer = await gateway.get("/v1/models/nobody-has:9b")
    expect([answer.status, answer.headers.get("x-aicortex-unreachable")]).toEqual([404, "1"])
  })

  it("data that needs no server is still available", async () => {
    const gateway = await gatewayOf([await dead()], { aliases: { small: model } })
    for (const path of ["/v1/models/aicortex-demo", "/v1/models/auto", "/v1/models/small", "/config"]) {
      expect([path, (await gateway.get(path)).status]).toEqual([path, 200])
    }
  })
})

describe("lists of models without any server", () => {
  it("contain the built-in one", async () => {
    const gateway = await gatewayOf([])
    for (const path of ["/v1/models", "/api/tags", "/models"]) {
      const answer = await gateway.get(path)
      expect([answer.status, answer.headers.get("x-aicortex-unreachable")]).toEqual([200, null])
      expect(await answer.text()).toContain("aicortex-demo")
    }
  })
})
