/** `listModelServers` and `getModelInfo` know the names that a call knows. */
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import * as ModelSelection from "../../src/ModelSelection.js"
import { failure, useFleet } from "../support/fleet.js"

const fleet = useFleet()

const aliases = {
  plain: "b:1b",
  fast: ["missing:1b", "b:1b"],
  quick: "fast",
  // In the catalogue, but on no server.
  known: ["llama3.2:3b", "b:1b"],
  recorded: ["missing:1b", "llama3.2:3b"],
  onOpenAI: ["openai:a:1b", "openai:b:1b"],
  nobody: ["missing:1b", "gone:1b"],
  any: ["missing:1b", "auto"]
}

/** `a:1b` on both servers, `b:1b` only on the one that speaks OpenAI's protocol. */
const made = async () => {
  const ollama = await fleet.ollama({ models: ["a:1b"] })
  const openai = await fleet.openai({ models: ["a:1b", "b:1b"] })
  const options = { servers: [ollama.url, openai.url], aliases, configFile: false as const }
  return {
    cortex: fleet.cortex([ollama, openai], { aliases }),
    both: [ollama.url, openai.url],
    ollama,
    openai,
    options
  }
}

const names: ReadonlyArray<readonly [name: string, model: string, servers: ReadonlyArray<"ollama" | "openai">]> = [
  ["a:1b", "a:1b", ["ollama", "openai"]],
  ["b:1b", "b:1b", ["openai"]],
  ["plain", "b:1b", ["openai"]],
  ["fast", "b:1b", ["openai"]],
  ["quick", "b:1b", ["openai"]],
  ["fast:latest", "b:1b", ["openai"]],
  ["known", "b:1b", ["openai"]],
  ["ollama:a:1b", "a:1b", ["ollama"]],
  ["openai:a:1b", "a:1b", ["openai"]],
  ["OpenAI:a:1b", "a:1b", ["openai"]],
  ["onOpenAI", "a:1b", ["openai"]]
]

describe.each(names)("the name %s", (name, model, protocols) => {
  it("lists its servers and model info, in the Promise functions and in Effect", async () => {
    const { cortex, options, ...servers } = await made()
    const urls = protocols.map((protocol) => servers[protocol].url)
    expect((await cortex.listModelServers(name)).map(({ url }) => url)).toEqual(urls)
    expect(await cortex.getModelInfo(name)).toMatchObject({ model_name: model })
    const found = Effect.all([ModelSelection.listModelServers(name), ModelSelection.modelInfo(name)])
    const [infos, info] = await Effect.runPromise(Effect.provide(found, Cortex.layer(options)))
    expect(infos.map(({ url }) => url)).toEqual(urls)
    expect(info).toMatchObject({ model_name: model })
  })
})

describe("control", () => {
  it.each(["auto", "any"])("%s has those of a suitable model", async (name) => {
    const { both, cortex } = await made()
    const servers = await cortex.listModelServers(name)
    expect(servers.length).toBeGreaterThan(0)
    for (const { url } of servers) expect(both).toContain(url)
    expect(["a:1b", "b:1b"]).toContain((await cortex.getModelInfo(name)).model_name)
  })

  it.each([
    ["missing:1b", "ModelNotFound"],
    ["nobody", "ModelNotFound"],
    ["ollama:b:1b", "NoServers"],
    ["embedded:a:1b", "NoServers"]
  ])("%s has no servers, and its info fails with %s", async (name, tag) => {
    const { cortex } = await made()
    expect(await cortex.listModelServers(name)).toEqual([])
    expect(await failure(cortex.getModelInfo(name))).toMatchObject({ _tag: tag })
  })

  it.each(["llama3.2:3b", "recorded"])("the catalogue's info of %s needs no server", async (name) => {
    const { cortex } = await made()
    expect(await cortex.getModelInfo(name)).toMatchObject({ model_name: "llama3.2:3b" })
    expect(await cortex.listModelServers(name)).toEqual([])
  })

  it("an invalid name is refused", async () => {
    const { cortex } = await made()
    expect(await failure(cortex.getModelInfo(5 as unknown as string))).toMatchObject({ field: "model" })
    expect(await failure(cortex.listModelServers(5 as unknown as string))).toMatchObject({ field: "model" })
  })
})
