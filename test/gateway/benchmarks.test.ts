/** `GET /benchmarks` and `GET /settings`, which the page shows. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Benchmark } from "aicortex"
import { describe, expect, it } from "vitest"
import { added, maxOfOne } from "../../src/benchmark/history.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response>): Promise<any> => (await response).json()
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), "aicortex-benchmarks-"))
  keep({ [Symbol.asyncDispose]: async () => rmSync(made, { recursive: true, force: true }) })
  return made
}
const result = (server: string, model: string, at: number, tokensPerSecond: number): Benchmark.Result => ({
  server,
  model,
  at,
  firstTokenTime: 120,
  tokensPerSecond,
  measured: { tokensPerSecond },
  claimed: {},
  disagrees: false,
  phases: [
    {
      prompt: "short",
      concurrency: 4,
      requests: 8,
      failed: 0,
      promptTokens: 20,
      outputTokens: 64,
      firstTokenTime: { p50: 120, p95: 180 },
      tokensPerSecond: { p50: tokensPerSecond, p95: tokensPerSecond / 2 },
      throughput: tokensPerSecond * 3
    }
  ],
  complete: true,
  notes: []
})

describe("benchmarks", () => {
  it("are kept for the last runs, per model and server", () => {
    let kept: ReadonlyArray<Benchmark.Result> = []
    for (let i = 0; i < maxOfOne + 5; i++) kept = added(kept, [result("http://a", "m", i, i + 1)])
    kept = added(kept, [result("http://b", "m", 1, 1)])
    expect(kept.filter(({ server }) => server === "http://a").map(({ at }) => at)).toEqual(
      Array.from({ length: maxOfOne }, (_, i) => maxOfOne + 4 - i)
    )
    expect(kept.filter(({ server }) => server === "http://b")).toHaveLength(1)
  })

  it("are returned by the gateway, newest first, for its servers and the models that a key may use", async () => {
    const ollama = keep(await startFakeOllama({ models: ["m:1b", "n:1b"] }))
    const at = folder()
    const stateFile = join(at, "state.json")
    const keys = [
      { name: "root", key: "key-of-root", admin: true },
      { name: "ann", key: "key-of-ann" }
    ]
    const gateway = keep(await startGateway([ollama.url], { keys }, { cortex: { stateFile } }))
    expect(await json(gateway.get("/benchmarks", as("key-of-ann")))).toEqual({ kept: true, benchmarks: [] })
    const results = [
      result(ollama.url, "m:1b", 1_000, 40),
      result(ollama.url, "m:1b", 3_000, 50),
      result(ollama.url, "n:1b", 2_000, 90),
      result("http://elsewhere:11434", "m:1b", 4_000, 10)
    ]
    writeFileSync(join(at, "benchmarks.json"), Benchmark.encodeResults(results))
    const { benchmarks } = await json(gateway.get("/benchmarks", as("key-of-ann")))
    expect(benchmarks.map(({ at, model, server }: Record<string, unknown>) => [server, model, at])).toEqual([
      ["server-1", "m:1b", 3_000],
      ["server-1", "n:1b", 2_000],
      ["server-1", "m:1b", 1_000]
    ])
    expect(benchmarks[0]).toMatchObject({
      tokens_per_second: 50,
      first_token_ms: 120,
      prompt_tokens_per_second: null,
      complete: true,
      phases: [{ prompt: "short", concurrency: 4, throughput: 150, first_token_ms: { p50: 120, p95: 180 } }]
    })
    const some = await json(gateway.get("/benchmarks?model=m:1b&limit=1", as("key-of-ann")))
    expect(some.benchmarks).toHaveLength(1)
    expect((await json(gateway.get("/benchmarks?server=server-2", as("key-of-ann")))).benchmarks).toEqual([])
    expect((await gateway.get("/benchmarks?limit=0", as("key-of-ann"))).status).toBe(400)
    expect((await gateway.get("/benchmarks")).status).toBe(401)
    writeFileSync(join(at, "benchmarks.json"), "{broken")
    expect((await json(gateway.get("/benchmarks", as("key-of-ann")))).error.code).toBe("benchmarks_unreadable")
  })

  it("are empty if nothing is stored", async () => {
    const ollama = keep(await startFakeOllama({ models: ["m:1b"] }))
    const gateway = keep(await startGateway([ollama.url], {}, { cortex: { stateFile: false } }))
    expect(await json(gateway.get("/benchmarks"))).toEqual({ kept: false, benchmarks: [] })
  })
})

describe("settings", () => {
  it("are returned with their sources, to administrators, without secrets", async () => {
    const at = folder()
    const file = join(at, "config.json")
    const ollama = keep(await startFakeOllama({ models: ["m:1b"] }))
    const config = {
      servers: [{ url: ollama.url, apiKey: "sk-of-the-server-123" }],
      discoveryTtl: 7,
      gateway: {
        maxContext: 1_234,
        keys: [
          { name: "root", key: "key-of-root-in-the-file", admin: true },
          { name: "ann", key: "key-of-ann-in-the-file" }
        ]
      }
    }
    writeFileSync(file, JSON.stringify(config))
    process.env["AICORTEX_DISCOVERY_CONCURRENCY"] = "3"
    try {
      const cortex = { configFile: file, servers: undefined, stateFile: false as const }
      // biome-ignore lint/suspicious/noExplicitAny: the servers are those of the file.
      const gateway = keep(await startGateway(undefined as any, { drain: 1_500 }, { cortex }))
      const answer = await gateway.get("/settings", as("key-of-root-in-the-file"))
      const text = await answer.text()
      const { file: told, settings } = JSON.parse(text)
      expect(told).toBe(file)
      const of = (name: string) => settings.find((one: { name: string }) => one.name === name)
      expect(of("discoveryTtl")).toMatchObject({ value: 7, unit: "s", from: "file", by: null })
      expect(of("discoveryConcurrency")).toMatchObject({
        value: 3,
        unit: null,
        from: "environment",
        by: "AICORTEX_DISCOVERY_CONCURRENCY"
      })
      expect(of("gateway.drain")).toMatchObject({ value: 1.5, unit: "s", from: "flag", by: "--drain" })
      expect(of("gateway.maxContext")).toMatchObject({ value: 1_234, from: "file" })
      expect(of("gateway.keys")).toMatchObject({ value: ["root", "ann"], from: "file" })
      expect(of("parallel")).toMatchObject({ from: "default" })
      expect(of("servers").value[0]).toMatchObject({ key: true })
      expect(text).not.toMatch(/sk-of-the-server|in-the-file"/)
      // Addresses are hidden here as they are everywhere.
      expect(text).not.toContain(ollama.url)
      expect((await gateway.get("/settings", as("key-of-ann-in-the-file"))).status).toBe(403)
      // A change of the file is shown once it is loaded.
      writeFileSync(file, JSON.stringify({ ...config, discoveryTtl: 9 }))
      await gateway.reload()
      const after = await json(gateway.get("/settings", as("key-of-root-in-the-file")))
      expect(after.settings.find((one: { name: string }) => one.name === "discoveryTtl").value).toBe(9)
      expect(readFileSync(file, "utf8")).toContain("9")
    } finally {
      delete process.env["AICORTEX_DISCOVERY_CONCURRENCY"]
    }
  })
})
