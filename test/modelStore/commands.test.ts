/** The models of this machine on the command line. */
import { copyFileSync, existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { bin, build, type Home, makeHome } from "../support/cliProcess.js"
import { FakeHub, type HubFile } from "../support/fakeHub.js"
import { startFakeOllama } from "../support/fakeOllama.js"
import { gguf } from "../support/gguf.js"
import { hasTerminals, startTerminal } from "../support/terminal.js"

// Each test runs several processes.
vi.setConfig({ testTimeout: 120_000 })

const demo = new URL("../../registry/demo/aicortex-demo.gguf", import.meta.url).pathname
const repository = "owner/tiny-GGUF"
let hub: FakeHub
let file: HubFile
let home: Home
let env: NodeJS.ProcessEnv

beforeAll(async () => {
  build()
  hub = await FakeHub.start()
  file = hub.add(repository, "tiny.Q4_K_M.gguf", gguf({ weights: 600_000 }))
  hub.add(repository, "tiny.Q8_0.gguf", gguf({ weights: 1_200_000 }))
  home = makeHome({ servers: [] })
  env = { HF_ENDPOINT: hub.url, AICORTEX_MODELS: join(home.path, "models") }
}, 120_000)
afterAll(async () => {
  await hub.stop()
  await home[Symbol.asyncDispose]()
})

const ok = async (...args: ReadonlyArray<string>) => {
  const { code, err, out } = await home.run(args, env)
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" })
  return out
}

describe("models of this machine", () => {
  it("are downloaded, listed, shown and deleted, without any server", async () => {
    expect(await ok("pull", repository)).toBe(`${repository}:Q4_K_M is on this machine (602 kB).\n`)
    expect(await ok("pull", repository)).toBe(`${repository}:Q4_K_M is on this machine already (602 kB).\n`)
    const rows = (await ok("ls"))
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ {2,}/))
    expect(rows).toEqual([
      ["Model", "Size", "Parameters", "Quantization", "Servers"],
      [`${repository}:Q4_K_M`, "602 kB", "150K", "Q4_K_M", "this machine"]
    ])
    expect(JSON.parse(await ok("ls", "--json"))).toMatchObject([{ servers: ["this machine"], size: file.bytes.length }])
    const shown = await ok("show", repository)
    for (const word of ["llama", "Q4_K_M", "2048", "this machine", "hf:owner/tiny-GGUF/tiny.Q4_K_M.gguf"]) {
      expect(shown).toContain(word)
    }
    expect(JSON.parse(await ok("show", repository, "--json"))).toMatchObject({ size: file.bytes.length, kept: true })
    expect(await ok("rm", repository)).toBe(`Deleted ${repository} from this machine.\n`)
    const none = await home.run(["rm", repository], env)
    expect(none.code).toBe(1)
    const error = await home.run(["ls"], env)
    expect(error.code).toBe(1)
  })

  it("that are files are used in place, or copied", async () => {
    const mine = join(home.path, "mine.gguf")
    copyFileSync(demo, mine)
    expect(await ok("pull", mine, "--name", "mine/small:1")).toBe(`mine/small:1 is the file ${mine} (2.3 MB).\n`)
    expect(await ok("rm", "mine/small:1")).toContain("Deleted")
    expect(existsSync(mine)).toBe(true)
    expect(await ok("pull", mine, "--copy")).toBe("mine is on this machine (2.3 MB).\n")
    expect(readFileSync(join(env["AICORTEX_MODELS"] ?? "", "model-mine", "mine.gguf")).equals(readFileSync(demo))).toBe(
      true
    )
    expect(await ok("show", mine)).toContain("Q8_0")
    await ok("rm", "mine")
    expect(existsSync(mine)).toBe(true)
  })

  it("list their quantizations, and emit events for programs", async () => {
    const table = await ok("pull", repository, "--list")
    expect(table).toMatch(/Q4_K_M +60\d kB +yes +taken where none is named/)
    expect(JSON.parse(await ok("pull", repository, "--list", "--json"))).toMatchObject([
      { name: "Q4_K_M", chosen: true },
      { name: "Q8_0", chosen: false }
    ])
    const events = (await ok("pull", `${repository}:q8_0`, "--json"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly type: string })
    expect(events[0]?.type).toBe("resolved")
    expect(events.at(-1)).toMatchObject({ type: "done", model: { name: `${repository}:Q8_0` } })
    await ok("rm", `${repository}:Q8_0`)
  })

  it.each([
    [["pull", "s3://x/y.gguf"], 2, "is not the name of a model"],
    [["pull", "a/b/../c.gguf"], 2, "is not the name of a model"],
    [["pull", "owner/none"], 1, "no such repository"],
    [["pull", `${repository}:Q2_K`], 1, "it has Q4_K_M, Q8_0"],
    [["pull", "./no.gguf"], 1, "there is no such file"],
    [["pull", repository, "--copy"], 2, "--copy"],
    [["pull", "llama3.2:3b", "--list"], 2, "--list"],
    [["pull", repository, "--name", "x", "--all"], 2, "--name"],
    [["pull", repository, "--name", "../x"], 2, "is not the name of a model"]
  ] as const)("%j is an error", async (args, expected, words) => {
    const { code, err, out } = await home.run(args, env)
    expect({ code, out }).toEqual({ code: expected, out: "" })
    expect(err).toContain(words)
  })

  it("control: other names, and commands for a server, go to the servers", async () => {
    const ollama = await startFakeOllama()
    const other = makeHome({ servers: [ollama.url] })
    try {
      for (const args of [["tiny:1b"], ["hf.co/owner/tiny-GGUF:Q4_K_M", "--server", ollama.url]]) {
        await other.run(["pull", ...args], env)
      }
      const asked = ollama.requests.filter(({ path }) => path === "/api/pull").map(({ body }) => JSON.stringify(body))
      expect(asked).toHaveLength(2)
      expect(asked[0]).toContain("tiny:1b")
      expect(asked[1]).toContain("hf.co/owner/tiny-GGUF:Q4_K_M")
    } finally {
      await other[Symbol.asyncDispose]()
      await ollama[Symbol.asyncDispose]()
    }
  })

  it.runIf(hasTerminals)("have a progress bar with speed and time left on a terminal", async () => {
    hub.behaviour = { piece: 4096, pace: 8 }
    const terminal = startTerminal([process.execPath, bin, "pull", repository], {
      columns: 100,
      env: { ...env, PATH: process.env["PATH"], HOME: home.path, AICORTEX_CONFIG: home.file, TERM: "xterm-256color" }
    })
    try {
      await terminal.shows(/█░.*of 60\d kB {2}.*\/s {2}\d+ s left/)
      expect(await terminal.ended).toBe(0)
      expect(terminal.screen()).toContain("is on this machine")
    } finally {
      terminal.stop()
      hub.behaviour = {}
    }
  })
})
