/** Downloads that are cut, and whose process is killed: the file is right, and next to nothing comes twice. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest"
import * as Prng from "../../src/internal/prng.js"
import { build, ended, type Home, makeHome } from "../support/cliProcess.js"
import { FakeHub, type HubFile } from "../support/fakeHub.js"
import { gguf } from "../support/gguf.js"
import { modelOf, pull } from "../support/modelStore.js"

// Each runs many processes.
vi.setConfig({ testTimeout: 240_000 })

const root = mkdtempSync(join(tmpdir(), "aicortex-cuts-"))
let hub: FakeHub
let file: HubFile
let home: Home

const rangeBytes = 128 * 1024
const token = "hf_very-secret"

beforeAll(async () => {
  build()
  hub = await FakeHub.start()
  file = hub.add("owner/tiny-GGUF", "tiny.Q4_K_M.gguf", gguf({ weights: 2_000_000 }))
  home = makeHome({ servers: [], models: { rangeBytes, parallel: 4, retryBackoff: 0.01 } })
}, 120_000)
afterAll(async () => {
  await hub.stop()
  await home[Symbol.asyncDispose]()
  rmSync(root, { recursive: true, force: true })
})
beforeEach(() => {
  hub.behaviour = {}
  hub.forget()
})

const folder = () => mkdtempSync(join(root, "s-"))

const noTokenLeft = () => {
  for (const { authorization, server } of hub.requests) {
    expect(authorization).toBe(server === "hub" ? `Bearer ${token}` : undefined)
  }
}

describe("a download", () => {
  it("that is cut at 30 random points continues at the cut", async () => {
    const random = Prng.make(7)
    let cuts = 0
    for (let i = 0; i < 3; i++) {
      hub.forget()
      let left = 10
      hub.behaviour = {
        token,
        piece: 4096,
        cutAfter: () => {
          if (left === 0 || random() < 0.3) return undefined
          left--
          cuts++
          return Math.floor(random() * rangeBytes * 0.9)
        }
      }
      const store = { folder: folder(), hub: hub.url, token, rangeBytes, retryBackoff: 1, retries: 20 }
      const model = modelOf(await pull(store, "owner/tiny-GGUF"))
      expect(readFileSync(model.path).equals(file.bytes)).toBe(true)
      expect(left).toBe(0)
      // What came before a cut was written: at most what the broken connection still held is sent again.
      expect(hub.doubled(file)).toBeLessThanOrEqual(rangeBytes)
      noTokenLeft()
    }
    expect(cuts).toBe(30)
  })

  it("whose process is killed at 20 random points continues at the cut", async () => {
    const random = Prng.make(11)
    const kills = 20
    let killed = 0
    let doubled = 0
    while (killed < kills) {
      const models = folder()
      const env = { AICORTEX_MODELS: models, HF_ENDPOINT: hub.url, HF_TOKEN: token }
      hub.forget()
      for (let i = 0; i < 5; i++) {
        const before = hub.sent
        const enough = Math.floor(50_000 + random() * 300_000)
        const child = home.start(["pull", "owner/tiny-GGUF"], env)
        hub.behaviour = {
          token,
          piece: 4096,
          // Slow enough that little is under way when the process ends.
          pace: 10,
          onSent: () => {
            if (hub.sent - before >= enough) child.kill("SIGKILL")
          }
        }
        const { code, err } = await ended(child)
        expect({ code, err: code === null ? "" : err }).toEqual({ code: null, err: "" })
        killed++
      }
      hub.behaviour = { token }
      const { code, err, out } = await home.run(["pull", "owner/tiny-GGUF"], env)
      expect({ code, err: code === 0 ? "" : err, out }).toEqual({
        code: 0,
        err: "",
        out: "owner/tiny-GGUF:Q4_K_M is on this machine (2.0 MB).\n"
      })
      const path = join(models, "model-owner@tiny-gguf+q4_k_m", "tiny.Q4_K_M.gguf")
      expect(readFileSync(path).equals(file.bytes)).toBe(true)
      expect(err).not.toContain(token)
      doubled += hub.doubled(file)
      noTokenLeft()
    }
    // Killed in the middle of four ranges, all that was not written yet comes again: together, less than one range.
    console.info(`${Math.round(doubled / killed)} bytes came twice for each process that was killed`)
    expect(doubled / killed).toBeLessThanOrEqual(rangeBytes)
  })

  it("that Ctrl-C cancels reports its progress and how to continue, and does continue", async () => {
    const env = { AICORTEX_MODELS: folder(), HF_ENDPOINT: hub.url }
    const child = home.start(["pull", "owner/tiny-GGUF", "--name", "mine"], env)
    // A second signal would end it at once.
    let interrupted = false
    hub.behaviour = {
      piece: 4096,
      pace: 1,
      onSent: () => {
        if (hub.sent < 500_000 || interrupted) return
        interrupted = true
        child.kill("SIGINT")
      }
    }
    const { code, err } = await ended(child)
    expect(code).toBe(130)
    expect(err).toMatch(/stopped at \d+% \(.* of 2\.0 MB\)/)
    expect(err).toContain("`aicortex pull owner/tiny-GGUF --name mine` continues")
    hub.behaviour = {}
    expect((await home.run(["pull", "owner/tiny-GGUF", "--name", "mine"], env)).code).toBe(0)
    expect(hub.doubled(file)).toBeLessThanOrEqual(4 * rangeBytes)
  })

  it("of two processes happens once, also if the downloading one is killed", async () => {
    const env = { AICORTEX_MODELS: folder(), HF_ENDPOINT: hub.url }
    let killed = false
    const first = home.start(["pull", "owner/tiny-GGUF"], env)
    let second: ReturnType<typeof home.start> | undefined
    let secondEnds: ReturnType<typeof ended> | undefined
    let said = ""
    const waits = new Promise<void>((resolve) => {
      hub.behaviour = {
        piece: 4096,
        // So slow that the second begins while the first is at it.
        pace: 400,
        onSent: () => {
          if (second !== undefined) return
          second = home.start(["pull", "owner/tiny-GGUF"], env)
          secondEnds = ended(second)
          second.stderr?.on("data", (text: string) => {
            said += text
            if (said.includes("waiting for it")) resolve()
          })
        }
      }
    })
    const firstEnds = ended(first).then(() => {
      killed = true
    })
    await Promise.race([waits, firstEnds])
    hub.behaviour = {}
    first.kill("SIGKILL")
    await firstEnds
    expect(killed).toBe(true)
    const { code } = (await secondEnds) ?? { code: 1 }
    expect(code).toBe(0)
    expect(said).toContain("waiting for it")
    expect(hub.doubled(file)).toBeLessThanOrEqual(4 * rangeBytes)
  })
})
