import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { ChatOllama } from "@langchain/ollama"
import * as Effect from "effect/Effect"
import { beforeAll, describe, expect, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import { Registry } from "../../src/Registry.js"
import { bin, build } from "../support/cliProcess.js"
import { model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))

beforeAll(build, 120_000)

const printed = async (args: ReadonlyArray<string>, servers: ReadonlyArray<string>) => {
  const { PATH = "" } = process.env
  const env = { PATH, HOME: root, AICORTEX_CONFIG: "", XDG_CONFIG_HOME: join(root, "nowhere"), AICORTEX_STATE: "off" }
  const child = spawn(process.execPath, [bin, "llm-params", ...args], {
    env: { ...env, AICORTEX_SERVERS: servers.join(" ") },
    stdio: ["ignore", "pipe", "inherit"]
  })
  let stdout = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
  })
  await once(child, "close")
  return JSON.parse(stdout)
}

describe("parameters for LangChain's Ollama class", () => {
  it("are those of a server with Ollama's protocol, and work for a chat there", async () => {
    const [ollama, ...others] = await Promise.all([
      fleet.ollama({ reply: "Hello from Ollama" }),
      fleet.openai(),
      fleet.openai()
    ])
    const servers = [...others, ollama].map(({ url }) => url)
    const promise = fleet.cortex(servers)
    const effect = <A, E>(use: (registry: Registry["Type"]) => Effect.Effect<A, E>) =>
      Effect.runPromise(
        Effect.flatMap(Registry, use).pipe(Effect.provide(Cortex.layer({ servers, configFile: false, model })))
      )
    const all = [
      await promise.getLlmParams(),
      await promise.getLlmParams(model),
      ...(await Promise.all(Array.from({ length: 20 }, () => promise.getRandomLlmParams()))),
      await effect((registry) => registry.llmParams(model)),
      await effect((registry) => registry.randomLlmParams),
      await printed([model], servers),
      await printed([], servers)
    ]
    for (const params of all) {
      expect(params).toEqual({ model, base_url: ollama.url, baseUrl: ollama.url })
      expect((await new ChatOllama(params).invoke("Hi")).content).toBe("Hello from Ollama")
    }
    expect(ollama.chatRequests).toHaveLength(all.length)
  })

  it("control: for a model that only OpenAI servers have, they contain that API's address", async () => {
    const only = await fleet.openai()
    expect(await fleet.cortex([only]).getLlmParams(model)).toMatchObject({ baseUrl: `${only.url}/v1` })
  })
})
