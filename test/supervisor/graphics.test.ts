/** The graphics cards of `GET /v1/hardware`. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import * as Effect from "effect/Effect"
import { afterEach, describe, expect, it, vi } from "vitest"
import { type Controller, makeGraphics } from "../../src/supervisor/graphics.js"
import { hardware } from "../../src/supervisor/machine.js"

const mebibyte = 1024 * 1024
const unknown = { vendor: null, driver_version: null, total_vram: null, free_vram: null }
const toGpus = (...controllers: ReadonlyArray<Controller>) => Effect.runPromise(makeGraphics(async () => controllers))

afterEach(() => {
  vi.unstubAllEnvs()
})

describe("data about graphics cards", () => {
  it("comes from drivers, in bytes, and null if unknown", async () => {
    const nvidia = { vendor: "NVIDIA Corporation", model: "GA102 [GeForce RTX 3090]", name: "NVIDIA GeForce RTX 3090" }
    expect(
      await toGpus(
        { ...nvidia, driverVersion: "550.54", vram: 256, memoryTotal: 24576, memoryFree: 24000 },
        { vendor: "Intel Corporation", model: "UHD Graphics 620", vram: null },
        { vendor: "Apple", model: "Apple M2", vram: 0 },
        { vendor: " ", model: "", name: 7, driverVersion: "", vram: Number.NaN, memoryFree: -1 }
      )
    ).toEqual([
      {
        id: "0",
        name: "NVIDIA GeForce RTX 3090",
        vendor: "NVIDIA Corporation",
        driver_version: "550.54",
        total_vram: 24576 * mebibyte,
        free_vram: 24000 * mebibyte
      },
      { ...unknown, id: "1", name: "UHD Graphics 620", vendor: "Intel Corporation" },
      { ...unknown, id: "2", name: "Apple M2", vendor: "Apple" },
      { ...unknown, id: "3", name: null }
    ])
  })

  it("is read once a minute, and once for concurrent callers", async () => {
    let asked = 0
    let now = 0
    const graphics = makeGraphics(
      async () => {
        asked++
        return [{ model: `card ${asked}` }]
      },
      () => now
    )
    const names = async () => (await Effect.runPromise(graphics)).map(({ name }) => name)
    expect(asked).toBe(0)
    expect(await Promise.all([names(), names(), names()])).toEqual([["card 1"], ["card 1"], ["card 1"]])
    now = 59_999
    expect(await names()).toEqual(["card 1"])
    now = 60_000
    expect(await names()).toEqual(["card 2"])
  })

  it("is read again if the system could not be asked", async () => {
    const answers = [undefined, new Error("no"), [{ model: "late" }]]
    const graphics = makeGraphics(async () => {
      const answer = answers.shift()
      if (answer instanceof Error) throw answer
      return answer
    })
    expect(await Effect.runPromise(graphics)).toEqual([])
    expect(await Effect.runPromise(graphics)).toEqual([])
    expect(await Effect.runPromise(graphics)).toMatchObject([{ name: "late" }])
  })

  it.runIf(process.platform === "linux")("also comes from the system's programs", async () => {
    const folder = mkdtempSync(join(tmpdir(), "aicortex-graphics-"))
    try {
      const card = "VGA compatible controller: NVIDIA Corporation GA102 [GeForce RTX 3090] (rev a1) (prog-if 00)"
      writeFileSync(join(folder, "lspci"), `#!/bin/sh\nprintf '01:00.0 ${card}\\n\\tRegion 1: Memory [size=256M]\\n'\n`)
      chmodSync(join(folder, "lspci"), 0o755)
      vi.stubEnv("PATH", `${folder}${delimiter}${process.env["PATH"]}`)
      const { cpu, gpus, ram } = await Effect.runPromise(hardware(folder))
      expect(gpus).toMatchObject([{ id: "0", name: "GA102 [GeForce RTX 3090]", vendor: "NVIDIA Corporation" }])
      expect([cpu.cores > 0, ram.total > 0]).toEqual([true, true])
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
