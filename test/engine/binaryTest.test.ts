import { fork } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { testOnce } from "../../src/cli/engine/binaryTest.js"

/** What the library starts to try a binary: it notes that it was, and fails where the binary says so. */
const script = `
const { appendFileSync, readFileSync } = require("node:fs")
let text = ""
process.on("message", ({ bindingBinaryPath, type }) => {
  if (type === "start") {
    appendFileSync(__dirname + "/tried", "x")
    text = readFileSync(bindingBinaryPath, "utf8")
    process.send({ type: "loaded" })
  } else if (type === "test") {
    if (text === "bad") process.exit(1)
    process.send({ type: "done" })
  } else process.exit(0)
})
process.send({ type: "ready" })
`

let folder: string
const tried = (): number => (existsSync(join(folder, "tried")) ? readFileSync(join(folder, "tried"), "utf8").length : 0)
const note = (): boolean => existsSync(join(folder, "state/aicortex/engine-binary"))

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aicortex-binary-"))
  vi.stubEnv("XDG_STATE_HOME", join(folder, "state"))
  writeFileSync(join(folder, "package.json"), "{}")
  writeFileSync(join(folder, "testBindingBinary.js"), script)
  writeFileSync(join(folder, "addon.node"), "good")
})

afterAll(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true, force: true })
})

/** What the library does: whether the binary passed, how often it was really tried, whether a note was left meanwhile. */
const start = async (options: { readonly gpu?: string | false; readonly loads?: boolean } = {}) => {
  const before = tried()
  const settled = testOnce()
  const child = fork(join(folder, "testBindingBinary.js"), [], { stdio: ["ignore", "ignore", "ignore", "ipc"] })
  const asked = { bindingBinaryPath: join(folder, "addon.node"), gpu: options.gpu ?? false }
  let passed = false
  child.on("message", ({ type }: { readonly type: string }) => {
    if (type === "ready") child.send({ type: "start", ...asked })
    else if (type === "loaded") child.send({ type: "test", ...asked })
    else {
      passed = true
      child.send({ type: "exit" })
    }
  })
  const [code] = await once(child, "exit")
  const meanwhile = note()
  settled(options.loads ?? true)
  return { passed: passed && code === 0, tried: tried() - before, meanwhile }
}

describe("the binary of the engine is tested once", () => {
  it("a second start does not test it again, and leaves no note while it is loaded", async () => {
    expect(await start()).toEqual({ passed: true, tried: 1, meanwhile: false })
    expect(note()).toBe(true)
    expect(await start()).toEqual({ passed: true, tried: 0, meanwhile: false })
    expect(note()).toBe(true)
  })

  it("a start that did not load it makes the next one test it", async () => {
    expect(await start({ loads: false })).toMatchObject({ tried: 0 })
    expect(note()).toBe(false)
    expect(await start()).toMatchObject({ passed: true, tried: 1 })
    expect(await start()).toMatchObject({ tried: 0 })
  })

  it("a changed binary is tested, and a failed one is not noted", async () => {
    utimesSync(join(folder, "addon.node"), 1, 1)
    expect(await start()).toMatchObject({ passed: true, tried: 1 })
    writeFileSync(join(folder, "addon.node"), "bad")
    expect(await start()).toMatchObject({ passed: false, tried: 1 })
    expect(await start()).toMatchObject({ passed: false, tried: 1 })
    writeFileSync(join(folder, "addon.node"), "good")
  })

  it("a binary for a graphics card is tested each time", async () => {
    expect(await start({ gpu: "cuda" })).toMatchObject({ passed: true, tried: 1 })
    expect(await start({ gpu: "cuda" })).toMatchObject({ passed: true, tried: 1 })
  })

  it("other processes are started unchanged", async () => {
    writeFileSync(join(folder, "other.js"), "process.exit(7)")
    const settled = testOnce()
    const child = fork(join(folder, "other.js"), [], { stdio: ["ignore", "ignore", "ignore", "ipc"] })
    settled(true)
    expect(await once(child, "exit")).toEqual([7, null])
  })
})
