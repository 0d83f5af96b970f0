import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, describe, expect, it, vi } from "vitest"
import { build, makeHome } from "../support/cliProcess.js"
import { useFleet } from "../support/fleet.js"
import { unusedPort } from "../support/ports.js"

// Each test runs several processes.
vi.setConfig({ testTimeout: 120_000 })

beforeAll(build, 120_000)

const fleet = useFleet()
const dead = async () => `http://127.0.0.1:${await unusedPort()}`

describe("aicortex servers", () => {
  it("shows the state, latency and version of each", async () => {
    const one = await fleet.ollama({ version: "0.12.3", loaded: ["m:1b"] })
    const [api, gone] = [await fleet.openai(), await dead()]
    const claude = await fleet.anthropic({ apiKey: "s3cret" })
    const third = { url: claude.url, protocol: "anthropic", apiKey: "s3cret" }
    const { run } = fleet.keep(makeHome({ servers: [one.url, `${api.url}/v1`, gone, third] }))
    const { code, out } = await run(["servers"])
    expect(code).toBe(0)
    const rows = out.trimEnd().split("\n")
    expect(rows[0]).toMatch(/^URL +Protocol +Version +Latency +Models +Loaded +Status$/)
    expect(rows[1]).toMatch(new RegExp(`^${one.url} +ollama +0\\.12\\.3 +\\d+ ms +1 +m:1b +reachable$`))
    expect(rows[2]).toMatch(new RegExp(`^${api.url}/v1 +openai +- +\\d+ ms +1 +- +reachable$`))
    expect(rows[3]).toMatch(new RegExp(`^${gone} +- +- +- +- +- +refused the connection$`))
    expect(rows[4]).toMatch(new RegExp(`^${claude.url} +anthropic +- +\\d+ ms +1 +- +reachable$`))
    const json = JSON.parse((await run(["servers", "--json"])).out)
    expect(json).toMatchObject([
      { url: one.url, state: "up", version: "0.12.3", latency: expect.any(Number), reachable: true },
      { state: "up", version: null, latency: expect.any(Number) },
      { url: gone, state: "down", version: null, latency: null, problem: "refused the connection" },
      { state: "up", version: null, latency: expect.any(Number) }
    ])
    // Each protocol is asked in its own words.
    expect(api.requests.map(({ path }) => path)).not.toContain("/api/version")
  })

  it("colours servers that are up, resting or down", async () => {
    const [one, two] = [await fleet.ollama(), await fleet.ollama()]
    const failing = await fleet.ollama({ faults: () => ({ kind: "status", code: 500 }), faultOn: "chat" })
    const gone = await dead()
    const at = fleet.keep(makeHome({ servers: [one.url, { url: failing.url, priority: -1 }, two.url, gone] }))
    // Failures of calls open the breaker, which outlives the process.
    for (let tries = 0; tries < 3; tries++) expect((await at.run(["chat", "hi", "-m", "m:1b"])).code).toBe(0)
    const { out } = await at.run(["servers"], { FORCE_COLOR: "1" })
    const line = (url: string) => out.split("\n").find((row) => row.includes(url))
    expect(line(one.url)).toContain("\u001b[32mreachable\u001b[39m")
    expect(line(failing.url)?.replaceAll("\u001b", "^")).toMatch(/\^\[33mreachable rests for \d+ s\^\[39m/)
    expect(line(gone)).toContain("\u001b[31mrefused the connection\u001b[39m")
    expect((await at.run(["servers"])).out).not.toContain("\u001b")
  })

  it("asks a server that only a registry file names for its models, and never manages it", async () => {
    const [own, other] = [await fleet.ollama({ models: ["a:1b"] }), await fleet.ollama({ models: ["b:1b"] })]
    const folder = fleet.keep(makeHome()).path
    writeFileSync(join(folder, "fleet.json"), JSON.stringify({ servers: [{ url: other.url, models: ["b:1b"] }] }))
    const { run } = fleet.keep(makeHome({ servers: [own.url], registry: [folder] }))
    expect((await run(["ls"])).out).toContain(other.url)
    const refused = await run(["pull", "b:1b", "--server", other.url])
    expect(refused).toMatchObject({ code: 1, out: "" })
    expect(refused.err).toContain(`${other.url} is named by a registry file only: name it in your servers`)
    expect((await run(["rm", "b:1b"])).code).toBe(1)
    expect((await run(["ps"])).err).toContain(`${other.url} is named by a registry file only`)
    expect((await run(["pull", "c:1b", "--all"])).out).toBe(`c:1b is on ${own.url}.\n`)
    expect((await run(["servers"])).code).toBe(0)
    expect(new Set(other.requests.map(({ path }) => path))).toEqual(new Set(["/api/tags", "/api/ps"]))
  })
})
