import { describe, expect, it } from "vitest"
import { CpuUse } from "../../src/cortex/cpuUse.js"

const stat = (user: number, system: number, idle: number, waiting = 0, guest = 0): string =>
  `cpu  ${user} 0 ${system} ${idle} ${waiting} 0 0 0 ${guest} 0\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5 4 3\n`

/** Each reading is the next text; the last one repeats. */
const reading = (...texts: ReadonlyArray<string | undefined>) => {
  let at = 0
  return new CpuUse(() => Promise.resolve(texts[Math.min(at++, texts.length - 1)]))
}

describe("processor load", () => {
  it.each([
    ["idle", stat(100, 100, 100), stat(100, 100, 200), 0],
    ["busy in programs", stat(100, 100, 100), stat(200, 100, 100), 100],
    ["busy in the kernel", stat(100, 100, 100), stat(100, 150, 150), 50],
    ["waiting for disks, which is no work", stat(0, 0, 0, 0), stat(25, 0, 25, 50), 25],
    ["busy in virtual machines, which are part of user time already", stat(0, 0, 0), stat(50, 0, 50, 0, 50), 50]
  ])("is %s", async (_, first, second, percent) => {
    expect(await reading(first, second).use()).toBeCloseTo(percent, 6)
  })

  it("covers the time since the last reading, not since boot", async () => {
    const cpu = reading(stat(900, 0, 100), stat(900, 0, 200), stat(950, 0, 250))
    expect(await cpu.use()).toBeCloseTo(0, 6)
    expect(await cpu.use()).toBeCloseTo(50, 6)
  })

  it.each([
    ["there is no such file", undefined],
    ["it holds something else", "intr 5 4 3\n"],
    ["no tick has passed", stat(1, 2, 3)]
  ])("is unknown if %s", async (_, text) => {
    expect(await reading(text).use()).toBeUndefined()
  })
})
