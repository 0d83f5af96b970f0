import { beforeAll, describe, expect, it, vi } from "vitest"
import { startBlackHole } from "../support/blackHole.js"
import { bin, build, makeHome } from "../support/cliProcess.js"
import { useFleet } from "../support/fleet.js"
import { hasTerminals, startTerminal } from "../support/terminal.js"

vi.setConfig({ testTimeout: 120_000 })

beforeAll(build, 120_000)

const fleet = useFleet()

describe("aicortex servers, with a server that is off", () => {
  const setUp = async () => {
    const living = [await fleet.ollama(), await fleet.openai()]
    const off = fleet.keep(await startBlackHole())
    const config = { servers: [off.url, ...living.map(({ url }) => url)], discoveryTimeout: 8 }
    return { living, off, home: fleet.keep(makeHome(config)) }
  }

  it.skipIf(!hasTerminals)("prints the other rows on a terminal as they arrive", async () => {
    const { home, living, off } = await setUp()
    const env = { PATH: process.env["PATH"], HOME: home.path, AICORTEX_CONFIG: home.file, TERM: "xterm-256color" }
    const terminal = startTerminal([process.execPath, bin, "servers"], { columns: 140, env })
    try {
      const early = (screen: string) => living.every(({ url }) => screen.includes(url)) && !screen.includes(off.url)
      await terminal.shows(early)
      expect(await terminal.ended).toBe(0)
      const rows = terminal.screen().split("\n")
      expect(rows[0]).toMatch(/^URL +Protocol +Version +Latency +Models +Loaded +Status$/)
      expect(rows.slice(1, 3).every((row) => row.endsWith("reachable"))).toBe(true)
      expect(rows[3]).toMatch(new RegExp(`^${off.url} .*did not say within 8 s which models it has$`))
      expect(rows).toHaveLength(4)
    } finally {
      terminal.stop()
    }
  })

  it("prints one table in configured order off a terminal, and the age of each state in JSON", async () => {
    const { home, living, off } = await setUp()
    const rows = (await home.run(["servers"])).out.trimEnd().split("\n").slice(1)
    expect(rows.map((row) => row.split(" ")[0])).toEqual([off.url, ...living.map(({ url }) => url)])
    const json = JSON.parse((await home.run(["servers", "--json"])).out)
    expect(json.map(({ checked_at: at }: { checked_at: string }) => Number.isFinite(Date.parse(at)))).toEqual([
      true,
      true,
      true
    ])
  })
})
