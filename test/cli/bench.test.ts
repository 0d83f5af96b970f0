/** `aicortex bench`: what it prints and keeps, and what later commands know of it. */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { unusedPort } from "../support/fakeServer.js"
import { type Fake, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "aicortex-bench-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  if (built.status !== 0) throw new Error(built.stderr)
}, 240_000)

let homes = 0
/** A command line with a home of its own, over these servers. */
const desk = (servers: ReadonlyArray<string>) => {
  const home = join(folder, String(homes++))
  const run = async (...args: ReadonlyArray<string>) => {
    const child = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
      env: { PATH: process.env["PATH"], HOME: home, NO_COLOR: "1", AICORTEX_SERVERS: servers.join(",") },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let [stdout, stderr] = ["", ""]
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    const [code] = await once(child, "close")
    return { stdout, stderr, code }
  }
  return { run, kept: join(home, ".local/state/aicortex/benchmarks.json") }
}

const quick = ["--runs", "1", "--concurrency", "2", "--output-tokens", "16", "--prompt-tokens", "100"]
/** A stall of this machine must not decide which server is the faster one. */
const steady = ["--runs", "2", "--concurrency", "2", "--output-tokens", "8", "--prompt-tokens", "100"]
const reply = "word ".repeat(40)
const paced = (perToken: number): ReadonlyArray<() => Promise<Fake>> => [
  () => fleet.ollama({ loaded: [model], perToken, reply }),
  () => fleet.openai({ perToken, reply })
]

describe("aicortex bench", { timeout: 120_000 }, () => {
  it("shows speeds, and stores them for the next process", async () => {
    for (const [i, start] of paced(1).entries()) {
      const [slow, fast] = [await (paced(100)[i] ?? start)(), await start()]
      const { run } = desk([slow.url, fast.url])
      const { code, stderr, stdout } = await run("bench", "--model", model, ...steady)
      expect([code, stderr]).toEqual([0, ""])
      expect(stdout).toMatch(
        /^Server +Model +First token +p95 +Prompt tokens\/s +Output tokens\/s +p95 +Several at once\n/
      )
      expect(stdout).toMatch(new RegExp(`${fast.url} +${model} +[\\d.]+ ms +[\\d.]+ ms .* [\\d.]+ \\(2\\)`))
      const { stdout: listed } = await run("servers", model, "--json")
      const known: ReadonlyArray<{ url: string; tokens_per_second: number; performance: object }> = JSON.parse(listed)
      const of = (url: string) => known.find((info) => info.url === url)
      expect(of(fast.url)?.tokens_per_second).toBeGreaterThan(of(slow.url)?.tokens_per_second ?? Number.NaN)
      expect(of(fast.url)?.performance).toMatchObject({ last_tested: expect.stringMatching(/^\d{4}-/) })
    }
  })

  it("prints JSON, compared with the last run; an unreadable file is replaced", async () => {
    const server = await fleet.openai({ perToken: 2, reply })
    const { kept, run } = desk([server.url])
    const json = async () => {
      const { code, stderr, stdout } = await run("bench", "--compare", "--json", ...quick)
      expect(code).toBe(0)
      return { stderr, report: JSON.parse(stdout) }
    }
    const { report: first } = await json()
    expect(first.results).toMatchObject([{ server: server.url, model, before: null, complete: true }])
    const { report: second } = await json()
    expect(second.results[0].before).toMatchObject({ at: first.results[0].at, server: server.url })
    expect((await run("bench", "--compare", ...quick)).stdout).toMatch(/Since the last time.*\n.* [+-]\d+ %/)
    writeFileSync(kept, '{ "version": 1, "results": [{ "server": 7 }] }')
    const { report: third, stderr } = await json()
    expect(stderr).toContain("benchmarks.json cannot be used")
    expect(third.results[0].before).toBeNull()
    expect(JSON.parse(readFileSync(kept, "utf8")).results).toHaveLength(1)
  })

  it("draws a chart, in which server names are escaped", async () => {
    const name = 'a<script>"&1b'
    const server = await fleet.openai({ models: [name], reply })
    const { run } = desk([server.url])
    const file = join(folder, "speeds.svg")
    expect((await run("bench", "--model", name, "--chart", file, ...quick)).code).toBe(0)
    const svg = readFileSync(file, "utf8")
    expect(svg).toMatch(/^<svg [^>]*>[\s\S]*tokens\/s[\s\S]*ms to the first token[\s\S]*<\/svg>\n$/)
    expect(svg).toContain("a&#60;script&#62;&#34;&#38;1b")
    expect(svg).not.toContain("<script")
    const refused = await run("bench", "--model", name, "--chart", join(folder, "none", "a.svg"), ...quick)
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("cannot be written")])
  })

  it("lists what was not measured, and fails if nothing was", async () => {
    const [cold, loaded] = [await fleet.ollama(), await fleet.ollama({ loaded: [model], reply })]
    const gone = `http://127.0.0.1:${await unusedPort()}`
    const some = await desk([cold.url, loaded.url, gone]).run("bench", "--model", model, ...quick)
    expect(some.code).toBe(0)
    expect(some.stdout).toMatch(new RegExp(`${cold.url} ${model}: not measured: .*--cold`))
    expect(some.stdout).toMatch(new RegExp(`${gone}: not measured: the server refused`))
    expect(cold.chatRequests).toHaveLength(0)
    const none = await desk([cold.url]).run("bench", cold.url)
    expect([none.code, none.stderr]).toEqual([1, "aicortex: nothing was measured\n"])
    const all = await desk([cold.url]).run("bench", "--all", "--cold", "--json", ...quick)
    expect(JSON.parse(all.stdout).results).toMatchObject([{ model, loadTime: expect.any(Number) }])
  })

  it.each([
    [["--runs", "0"], /--runs must be a whole number from 1 to 100, not '0'/, 2],
    [["--max-time", "never"], /--max-time must be a number, not 'never'/, 2],
    [["http://127.0.0.1:1"], /is not one of the servers of the settings/, 1],
    [["--all", "--model", model], /--all: cannot be combined with a model/, 1],
    [["--model", "nobody:1b"], /nobody:1b/, 1]
  ] as const)("refuses %j", async (args, message, code) => {
    const server = await fleet.openai()
    const refused = await desk([server.url]).run("bench", ...args)
    expect(refused.stderr).toMatch(message)
    expect(refused.code).toBe(code)
    expect(server.chatRequests).toHaveLength(0)
  })
})
