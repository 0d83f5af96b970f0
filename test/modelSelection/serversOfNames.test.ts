/** `bestServer`, `getServerInfo` and `aicortex best` know the names that a call knows. */
import { spawn } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import { beforeAll, describe, expect, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import * as ModelSelection from "../../src/ModelSelection.js"
import { bin, build, ended } from "../support/cliProcess.js"
import { failure, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))

const aliases = {
  plain: "b:1b",
  fast: ["missing:1b", "b:1b"],
  quick: "fast",
  onOpenAI: ["openai:a:1b", "openai:b:1b"],
  nobody: ["missing:1b", "gone:1b"],
  any: ["missing:1b", "auto"]
}

/** `a:1b` on both servers, `b:1b` only on the one that speaks OpenAI's protocol. */
const made = async () => {
  const ollama = await fleet.ollama({ models: ["a:1b"] })
  const openai = await fleet.openai({ models: ["a:1b", "b:1b"] })
  const options = { servers: [ollama.url, openai.url], aliases, configFile: false as const }
  return { cortex: fleet.cortex([ollama, openai], { aliases }), ollama, openai, options }
}

/** The name, and the protocol of the server that it leads to. */
const names: ReadonlyArray<readonly [name: string, protocol: "ollama" | "openai"]> = [
  ["b:1b", "openai"],
  ["plain", "openai"],
  ["fast", "openai"],
  ["quick", "openai"],
  ["fast:latest", "openai"],
  ["ollama:a:1b", "ollama"],
  ["openai:a:1b", "openai"],
  ["OpenAI:a:1b", "openai"],
  ["onOpenAI", "openai"]
]

describe.each(names)("the name %s", (name, protocol) => {
  it("resolves to a server as in a call, in the Promise functions", async () => {
    const { cortex, ...servers } = await made()
    const { url } = servers[protocol]
    expect(await cortex.bestServer(name)).toMatchObject({ url, protocol })
    expect(await cortex.bestServer(name, { strategy: "least-busy" })).toMatchObject({ url })
    // The remembered one is the same.
    expect(await cortex.bestServer(name)).toMatchObject({ url })
    expect(await cortex.getServerInfo(name)).toMatchObject({ url, protocol })
    expect(await cortex.getServerInfo(name, { serverUrl: url })).toMatchObject({ url })
    expect((await cortex.complete("Hi", { model: name })).server).toBe(url)
  })

  it("resolves to a server in Effect", async () => {
    const { options, ...servers } = await made()
    const found = Effect.all([ModelSelection.bestServer(name), ModelSelection.serverInfo(name)])
    const infos = await Effect.runPromise(Effect.provide(found, Cortex.layer(options)))
    expect(infos.map(({ url }) => url)).toEqual([servers[protocol].url, servers[protocol].url])
  })
})

describe("control", () => {
  it("a kind of server is cached separately", async () => {
    const { cortex, ollama, openai } = await made()
    for (const _ of [1, 2]) {
      expect((await cortex.bestServer("ollama:a:1b")).url).toBe(ollama.url)
      expect((await cortex.bestServer("openai:a:1b")).url).toBe(openai.url)
      expect([ollama.url, openai.url]).toContain((await cortex.bestServer("a:1b")).url)
    }
  })

  it.each(["auto", "any"])("%s resolves to a server of a suitable model", async (name) => {
    const { cortex, ollama, openai } = await made()
    expect([ollama.url, openai.url]).toContain((await cortex.bestServer(name)).url)
    expect([ollama.url, openai.url]).toContain((await cortex.getServerInfo(name)).url)
  })

  it.each([
    ["missing:1b", "ModelNotFound"],
    ["nobody", "ModelNotFound"],
    ["ollama:b:1b", "NoServers"],
    ["embedded:a:1b", "NoServers"]
  ])("%s is %s", async (name, tag) => {
    const { cortex } = await made()
    expect(await failure(cortex.bestServer(name))).toMatchObject({ _tag: tag })
    expect(await failure(cortex.getServerInfo(name))).toMatchObject({ _tag: tag })
    expect(await failure(cortex.complete("Hi", { model: name }))).toMatchObject({ _tag: tag })
  })

  it("a server of another kind, or without the model, is not used", async () => {
    const { cortex, ollama, openai } = await made()
    expect(await failure(cortex.getServerInfo("openai:a:1b", { serverUrl: ollama.url }))).toMatchObject({
      _tag: "NoServers"
    })
    expect(await failure(cortex.getServerInfo("plain", { serverUrl: ollama.url }))).toMatchObject({
      _tag: "NoServers",
      servers: [ollama.url]
    })
    expect(await cortex.getServerInfo("openai:a:1b", { serverUrl: openai.url })).toMatchObject({ url: openai.url })
  })

  it("invalid options are refused", async () => {
    const { cortex } = await made()
    expect(await failure(cortex.bestServer("fast", { strategy: "sideways" as "random" }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "strategy"
    })
    expect(await failure(cortex.bestServer(5 as unknown as string))).toMatchObject({ field: "model" })
  })
})

describe("aicortex best", () => {
  beforeAll(build, 120_000)

  const best = async (name: string, servers: ReadonlyArray<string>) => {
    const { PATH = "" } = process.env
    const child = spawn(process.execPath, [bin, "best", name], {
      env: {
        PATH,
        HOME: root,
        XDG_CONFIG_HOME: join(root, "nowhere"),
        AICORTEX_STATE: "off",
        AICORTEX_SERVERS: servers.join(" "),
        AICORTEX_ALIASES: JSON.stringify(aliases)
      },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const { code, err: stderr, out: stdout } = await ended(child)
    return { code, stdout, stderr }
  }

  it.each([
    ["fast", "openai"],
    ["ollama:a:1b", "ollama"]
  ] as const)("prints the address of %s", async (name, protocol) => {
    const { options, ...servers } = await made()
    expect(await best(name, options.servers)).toEqual({ code: 0, stdout: `${servers[protocol].url}\n`, stderr: "" })
  })

  it("fails with the error of the last model of a chain", async () => {
    const { options } = await made()
    const { code, stderr, stdout } = await best("nobody", options.servers)
    expect([code, stdout]).toEqual([1, ""])
    expect(stderr).toContain("gone:1b")
  })
})
