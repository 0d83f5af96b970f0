import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { CortexOptions } from "../../src/promise.js"
import { bin, ended } from "../support/cliProcess.js"
import { unusedPort } from "../support/fakeServer.js"
import { chats, eventsOf, type Fake, failure, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const home = mkdtempSync(join(tmpdir(), "aicortex-models-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))

const able = (name: string, ...capabilities: ReadonlyArray<string>) => ({
  name,
  capabilities: ["completion", ...capabilities]
})
const modelsOf = (server: Fake): ReadonlyArray<unknown> => server.chatRequests.map(({ body }) => body.model)

describe.each(["ollama", "openai"] as const)("a chain of models (%s)", (protocol) => {
  const made = async (options: CortexOptions = {}) => {
    const server = await fleet[protocol]({ models: ["a:1b", "b:1b"], reply: "well said" })
    const aliases = { fast: ["missing:1b", "b:1b"], quick: "fast", plain: "b:1b" }
    return { server, cortex: fleet.cortex([server], { aliases, ...options }) }
  }

  it.each(["fast", "quick", "plain", "fast:latest"])("is used for the name %s", async (model) => {
    const { cortex, server } = await made()
    expect(await cortex.chat("Hi", { model })).toBe("well said")
    expect((await cortex.complete("Hi", { model })).model).toBe("b:1b")
    const events = await eventsOf(await cortex.chat("Hi", { model, stream: true }))
    expect(textOf(events)).toBe("well said")
    expect(events.filter(({ type }) => type === "start")).toHaveLength(1)
    expect(events.at(-1)).toMatchObject({ type: "end", model: "b:1b" })
    expect(modelsOf(server)).toEqual(["b:1b", "b:1b", "b:1b"])
  })

  it("may be the default, have a session, and return JSON", async () => {
    const { cortex, server } = await made({ model: "fast" })
    const session = await cortex.Session.create()
    await cortex.chat("Hi", { session })
    await cortex.chat("And?", { session })
    expect(server.chatRequests.at(-1)?.body.messages).toHaveLength(3)
    await server.setBehaviour({ reply: `{"capital":"Berlin"}` })
    expect(await cortex.chat("The capital?", { responseFormat: "json" })).toEqual({ capital: "Berlin" })
  })

  it("continues if all servers of a model fail before its first token, and not after it", async () => {
    const bad = await fleet[protocol]({ models: ["a:1b"], faults: { kind: "status", code: 500 } })
    const good = await fleet[protocol]({ models: ["b:1b"], reply: "well said" })
    const cortex = fleet.cortex([bad, good], { aliases: { both: ["a:1b", "b:1b"] }, defaults: { maxRetries: 1 } })
    const events = await eventsOf(await cortex.chat("Hi", { model: "both", stream: true }))
    expect(textOf(events)).toBe("well said")
    expect(events.filter(({ type }) => type === "start")).toHaveLength(1)
    expect(await cortex.chat("Hi", { model: "both" })).toBe("well said")
    expect(chats(bad)[0]).toBeGreaterThan(0)
    await bad.setBehaviour({ reply: "one two three", faults: { kind: "cut", after: 2 } })
    expect(await failure(cortex.chat("Hi", { model: "both", stream: true }).then(eventsOf))).toMatchObject({
      _tag: "StreamInterrupted",
      partial: expect.stringContaining("one")
    })
  })

  it("fails with the error of its last model, and at once if the request is invalid", async () => {
    const { cortex, server } = await made({ aliases: { none: ["missing:1b", "gone:1b"], fast: ["a:1b", "b:1b"] } })
    expect(await failure(cortex.chat("Hi", { model: "none" }))).toMatchObject({
      _tag: "ModelNotFound",
      model: "gone:1b"
    })
    expect(await failure(cortex.chat("Hi", { model: "fast", temperature: -1 }))).toMatchObject({
      _tag: "InvalidRequest"
    })
    expect(chats(server)).toEqual([0])
  })

  it("stops when it is cancelled, without leftovers", async () => {
    const server = await fleet[protocol]({ models: ["b:1b"], reply: "one two three four", perToken: 50 })
    const cortex = fleet.cortex([server], { aliases: { fast: ["missing:1b", "b:1b"] } })
    const controller = new AbortController()
    const stream = await cortex.chat("Hi", { model: "fast", stream: true, signal: controller.signal })
    const reading = (async () => {
      for await (const event of stream) if (event.type === "token") controller.abort(new Error("enough"))
    })()
    await expect(reading).rejects.toThrow("enough")
    await server.chatRequests[0]?.closedByClient
    expect(server.inFlight()).toBe(0)
  })
})

describe("provider:model", () => {
  it("asks only servers of that kind", async () => {
    const one = await fleet.ollama({ models: ["a:1b"], reply: "of ollama" })
    const other = await fleet.openai({ models: ["a:1b"], reply: "of openai" })
    const cortex = fleet.cortex([one, other])
    for (let i = 0; i < 3; i++) {
      expect(await cortex.chat("Hi", { model: "openai:a:1b" })).toBe("of openai")
      expect(await cortex.chat("Hi", { model: "ollama:a:1b" })).toBe("of ollama")
    }
    expect(modelsOf(one)).toEqual(["a:1b", "a:1b", "a:1b"])
  })

  it("fails if no such server has it, and treats similar names as plain names", async () => {
    const cortex = fleet.cortex([await fleet.ollama({ models: ["a:1b", "openai:1b"] })])
    expect(await failure(cortex.chat("Hi", { model: "openai:a:1b" }))).toMatchObject({
      _tag: "NoServers",
      model: "openai:a:1b"
    })
    expect(await failure(cortex.chat("Hi", { model: "mistral:a:1b" }))).toMatchObject({ _tag: "ModelNotFound" })
  })
})

describe("auto", () => {
  it("picks a model that suits the request", async () => {
    const server = await fleet.ollama({
      models: [able("small:1b"), able("tools:1b", "tools"), able("eyes:1b", "vision")]
    })
    const cortex = fleet.cortex([server])
    const tools = [{ name: "now", execute: () => "noon" }]
    await cortex.chat("Hi", { model: "auto", tools })
    expect(modelsOf(server)).toEqual(["tools:1b"])
    const image = { type: "image" as const, data: "iVBORw0KGgo=", mediaType: "image/png" }
    await cortex.chat([{ role: "user", content: [image] }], { model: "auto" })
    expect(modelsOf(server)).toEqual(["tools:1b", "eyes:1b"])
  })

  it("has its own error if no model is suitable, or no server answers", async () => {
    const server = await fleet.ollama({ models: [able("small:1b")] })
    const tools = [{ name: "now", execute: () => "noon" }]
    expect(await failure(fleet.cortex([server]).chat("Hi", { model: "auto", tools }))).toMatchObject({
      _tag: "NoSuitableModel",
      lacks: ["tools"],
      message: expect.stringContaining("call tools")
    })
    const dead = fleet.cortex([`http://127.0.0.1:${await unusedPort()}`])
    const error = await failure(dead.chat("Hi", { model: "auto" }))
    expect(error).toMatchObject({ _tag: "NoSuitableModel", unanswered: true })
    expect(error.unreachable).toHaveLength(1)
  })

  it("may be in a chain", async () => {
    const server = await fleet.ollama({ models: [able("small:1b")] })
    const cortex = fleet.cortex([server], { aliases: { any: ["missing:1b", "auto"] } })
    await cortex.chat("Hi", { model: "any" })
    expect(modelsOf(server)).toEqual(["small:1b"])
  })
})

describe("vectors", () => {
  const embedding = [{ name: "e:1b", capabilities: ["embedding"] }]
  it.each(["ollama", "openai"] as const)("of an alias, a chain and a provider (%s)", async (protocol) => {
    const server = await fleet[protocol]({ models: embedding })
    const cortex = fleet.cortex([server], { aliases: { e: "e:1b", chain: ["missing:1b", "auto", "e:1b"] } })
    for (const model of ["e", "chain", `${protocol}:e:1b`]) {
      expect(await cortex.embed("Hi", { model })).toMatchObject({ model: "e:1b" })
    }
    expect(await failure(cortex.embed("Hi", { model: "auto" }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "model"
    })
  })
})

describe("sources of aliases", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url))
  beforeAll(async () => {
    const setup = spawn(process.execPath, [join(root, "scripts/setup.mjs")], { stdio: "ignore" })
    expect(await new Promise((resolve) => setup.on("close", resolve))).toBe(0)
  }, 120_000)

  let runs = 0
  const withFile = (content: unknown): string => {
    const file = join(home, `config-${runs++}.json`)
    writeFileSync(file, JSON.stringify(content))
    return file
  }

  const run = async (config: unknown, env: Record<string, string>, ...args: ReadonlyArray<string>) => {
    const child = spawn(process.execPath, [bin, ...args], {
      env: { PATH: process.env["PATH"], HOME: home, XDG_CONFIG_HOME: home, AICORTEX_CONFIG: withFile(config), ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    return ended(child)
  }

  it("the command line uses those of the file, also of its gateway, and of the environment", async () => {
    const server = await fleet.ollama({ models: [able("a:1b"), able("b:1b")], reply: "well said" })
    const config = { servers: [server.url], aliases: { one: "a:1b" }, gateway: { aliases: { two: ["gone", "b:1b"] } } }
    for (const model of ["one", "two", "ollama:a:1b", "auto"]) {
      const { code, err, out } = await run(config, {}, "chat", "Hi", "-m", model)
      expect([code, err, out.trim()]).toEqual([0, "", "well said"])
    }
    expect(modelsOf(server).slice(0, 3)).toEqual(["a:1b", "b:1b", "a:1b"])
    const env = { AICORTEX_ALIASES: '{"one":"b:1b"}' }
    expect((await run(config, env, "chat", "Hi", "-m", "one")).code).toBe(0)
    expect(modelsOf(server).at(-1)).toBe("b:1b")
    const shown = await run(config, env, "config")
    expect(shown.out).toMatch(/aliases +one: b:1b +AICORTEX_ALIASES/)
  })

  it("a program's options override the file's", async () => {
    const server = await fleet.openai({ models: ["a:1b", "b:1b"] })
    const configFile = withFile({ servers: [server.url], aliases: { one: "a:1b" } })
    await fleet.cortex([server], { configFile }).chat("Hi", { model: "one" })
    await fleet.cortex([server], { configFile, aliases: { one: "b:1b" } }).chat("Hi", { model: "one" })
    expect(modelsOf(server)).toEqual(["a:1b", "b:1b"])
  })

  it("the gateway uses the fleet's and its own", async () => {
    const server = await fleet.ollama({ models: ["a:1b", "b:1b"], reply: "well said" })
    const gateway = fleet.keep(
      await startGateway(
        [server.url],
        { aliases: { own: ["gone", "fleets"] } },
        { cortex: { aliases: { fleets: "b:1b" } } }
      )
    )
    for (const model of ["own", "fleets"]) {
      const response = await gateway.post("/v1/chat/completions", {
        model,
        messages: [{ role: "user", content: "Hi" }]
      })
      expect([response.status, ((await response.json()) as { model: string }).model]).toEqual([200, "b:1b"])
    }
  })

  it.each([
    [{ auto: "a" }, "cannot be given"],
    [{ a: "b", b: "a" }, "stands for itself"],
    [{ a: [] }, "a model, or a list of models"],
    [{ a: 7 }, "a model, or a list of models"],
    [["a"], "must"]
  ])("invalid ones are refused: %j", async (aliases, reason) => {
    const wrong = fleet.cortex([], { aliases: aliases as never })
    expect(await failure(wrong.chat("Hi"))).toMatchObject({
      _tag: "InvalidConfig",
      field: expect.stringMatching(/^aliases/)
    })
    const { code, err } = await run({ servers: [] }, { AICORTEX_ALIASES: JSON.stringify(aliases) }, "config")
    expect(code).toBe(2)
    expect(err).toContain("AICORTEX_ALIASES")
    expect(err).toContain(reason)
  })
})
