import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { unusedPort } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "aicortex-conditions-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  if (built.status !== 0) throw new Error(built.stderr)
}, 240_000)

let files = 0
const start = (servers: ReadonlyArray<object>, args: ReadonlyArray<string>, conditions: object = { latency: 60 }) => {
  const file = join(folder, `${files++}.json`)
  writeFileSync(file, JSON.stringify({ servers, conditions }))
  const { PATH = "" } = process.env
  return spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
    env: { PATH, HOME: folder, AICORTEX_CONFIG: file, AICORTEX_STATE: "off" },
    stdio: ["ignore", "pipe", "pipe"]
  })
}

const run = async (...given: Parameters<typeof start>) => {
  const child = start(...given)
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

describe("aicortex conditions", () => {
  it("shows this machine, and connections to remote servers only", async () => {
    const [near, far] = [await fleet.ollama(), await fleet.openai()]
    const gone = `http://127.0.0.1:${await unusedPort()}`
    const servers = [{ url: near.url }, { url: far.url, local: false }, { url: gone, local: false }]
    const { code, stderr, stdout } = await run(servers, ["conditions"])
    expect([code, stderr]).toEqual([0, ""])
    expect(stdout).toMatch(/^This machine: (AVAILABLE|CONSTRAINED|CRITICAL)/)
    expect(stdout).toMatch(/CPU \d+ %, memory \d+ %/)
    expect(stdout).toMatch(new RegExp(`${far.url} +OPTIMAL +\\d+ ms +0 % +unknown`))
    expect(stdout).toMatch(new RegExp(`${gone} +DISCONNECTED +- +100 % +unknown +it is not reached`))
    expect(stdout).not.toContain(near.url)
    expect(near.requests).toHaveLength(0)
  })

  it("prints JSON, with thresholds of the settings", async () => {
    const far = await fleet.ollama()
    const { code, stdout } = await run([{ url: far.url, local: false }], ["conditions", "--json"], {
      memory: 1,
      memoryCritical: 1,
      latency: 60
    })
    expect(code).toBe(0)
    const reported = JSON.parse(stdout)
    expect(reported).toMatchObject({
      resources: { state: "CRITICAL", reason: expect.stringContaining("memory"), memory: expect.any(Number) },
      lines: [{ server: far.url, state: "OPTIMAL", loss: 0, throughput: null }]
    })
    expect(Number.isNaN(Date.parse(reported.resources.at))).toBe(false)
  })

  it("says that no server is remote", async () => {
    const { code, stdout } = await run([], ["conditions"])
    expect(code).toBe(0)
    expect(stdout).toContain("No server is remote.")
  })

  it("with --watch prints a line of JSON for each change until it is interrupted", async () => {
    const far = await fleet.ollama()
    const child = start([{ url: far.url, local: false }], ["conditions", "--watch", "--json"], {
      interval: 1,
      latency: 60
    })
    let reported = 0
    for await (const line of createInterface({ input: child.stdout })) {
      const { lines } = JSON.parse(line)
      if (lines.length === 1 && lines[0].server === far.url) reported++
      if (reported === 3) break
    }
    child.kill("SIGINT")
    expect(await once(child, "close")).toEqual([130, null])
  })

  it("refuses impossible thresholds", async () => {
    const { code, stderr } = await run([], ["conditions"], { cpu: 200 })
    expect(code).not.toBe(0)
    expect(stderr).toContain("conditions.cpu")
  })
})

describe("aicortex chat --private", () => {
  it("uses local servers only, and fails if none has the model", async () => {
    const [near, far] = [
      await fleet.ollama({ models: ["a:1b"], reply: "from here" }),
      await fleet.ollama({ models: ["a:1b", "far:1b"], reply: "from afar" })
    ]
    const servers = [{ url: near.url }, { url: far.url, local: false, priority: -1 }]
    const ask = (...args: ReadonlyArray<string>) => run(servers, ["chat", "Hi", "--no-stdin", ...args])
    expect((await ask("--model", "a:1b", "--private")).stdout).toContain("from here")
    const failed = await ask("--model", "far:1b", "--private")
    expect(failed.code).toBe(1)
    expect(failed.stderr).toContain("private")
    expect(far.chatRequests).toHaveLength(0)
    expect((await ask("--model", "a:1b")).stdout).toContain("from afar")
  })
})
