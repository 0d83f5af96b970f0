import { spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import { afterAll, assert, describe, expect, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import * as Gateway from "../../src/Gateway.js"
import { createCortex } from "../../src/promise.js"
import * as Registry from "../../src/Registry.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-files-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
let count = 0
const newFolder = () => {
  const folder = join(home, String(count++))
  mkdirSync(folder)
  return folder
}
const makePipe = (path: string) => {
  const made = spawnSync("mkfifo", [path], { encoding: "utf8" })
  assert.strictEqual(made.status, 0, made.stderr)
}
/** Nothing is written to its blocks, which the disk need not have. */
const huge = (path: string) => {
  writeFileSync(path, "")
  truncateSync(path, 40 * 1024 * 1024 * 1024)
}
const good = JSON.stringify({ models: [{ model_name: "fine:1b", parameter_size: "1B" }] })

/** The warnings of a registry folder by file, and which of the user's models were found. */
const registryOf = (folder: string) =>
  Effect.runPromise(
    Effect.gen(function* () {
      const registry = yield* Registry.Registry
      const warnings = yield* registry.warnings
      const info = yield* Effect.option(registry.modelInfo("fine:1b"))
      return { found: info._tag === "Some", warnings }
    }).pipe(Effect.provide(Cortex.layer({ configFile: false, servers: [], registry: [folder] })))
  )

describe("a file of a registry folder that is not regular", () => {
  const kinds: ReadonlyArray<readonly [string, string, (path: string) => void]> = [
    ["a pipe that nobody writes to", "it is a pipe and no regular file", makePipe],
    ["a link to a device without end", "it is a device and no regular file", (path) => symlinkSync("/dev/zero", path)],
    ["a folder", "it is a folder and no regular file", (path) => mkdirSync(path)],
    ["a file of 40 GiB", "it is larger than 33554432 bytes", huge]
  ]
  it.each(kinds)("%s is a warning, and is not read", async (_, reason, make) => {
    const folder = newFolder()
    make(join(folder, "odd.json"))
    writeFileSync(join(folder, "good.json"), good)
    const { found, warnings } = await registryOf(folder)
    assert.isTrue(found)
    assert.lengthOf(warnings, 1)
    assert.strictEqual(warnings[0]?._tag, "RegistryWarning")
    assert.strictEqual(warnings[0]?.file, join(folder, "odd.json"))
    assert.include(warnings[0]?.reason, reason)
  })

  it("a socket is a warning, and is not read", async () => {
    const folder = newFolder()
    const server = createServer().listen(join(folder, "odd.json"))
    await new Promise((resolve) => server.once("listening", resolve))
    try {
      const { warnings } = await registryOf(folder)
      assert.deepEqual(
        warnings.map(({ reason }) => reason.includes("it is a socket and no regular file")),
        [true]
      )
    } finally {
      server.close()
    }
  })

  it("many pipes do not block other file access of the process", async () => {
    const folder = newFolder()
    for (let i = 0; i < 16; i++) makePipe(join(folder, `${i}.json`))
    const { warnings } = await registryOf(folder)
    assert.lengthOf(warnings, 16)
    assert.isTrue((await registryOf(newFolder())).warnings.length === 0)
  })

  it("links to regular files and to folders are followed", async () => {
    const folder = newFolder()
    writeFileSync(join(folder, "elsewhere"), good)
    symlinkSync(join(folder, "elsewhere"), join(folder, "link.json"))
    const linked = join(home, `link-${count++}`)
    symlinkSync(folder, linked)
    const { found, warnings } = await registryOf(linked)
    assert.deepEqual(warnings, [])
    assert.isTrue(found)
  })

  it("a pipe or a device in place of the folder itself is a warning", async () => {
    for (const make of [makePipe, (path: string) => symlinkSync("/dev/zero", path)]) {
      const path = join(home, String(count++))
      make(path)
      const { warnings } = await registryOf(path)
      assert.lengthOf(warnings, 1)
      assert.strictEqual(warnings[0]?.file, path)
    }
  })
})

describe("a configuration file that is not regular, or huge", () => {
  const kinds: ReadonlyArray<readonly [string, string, (path: string) => void]> = [
    ["a folder", "it is a folder and no regular file", (path) => mkdirSync(path)],
    ["a device without end", "it is a device and no regular file", (path) => symlinkSync("/dev/zero", path)],
    ["a file of 40 GiB", "it is larger than 16777216 bytes", huge]
  ]
  it.each(kinds)("%s is InvalidConfig, in the library and in the gateway", async (_, reason, make) => {
    const configFile = join(home, `${count++}.json`)
    make(configFile)
    const cortex = createCortex({ configFile })
    await expect(cortex.models()).rejects.toMatchObject({
      _tag: "InvalidConfig",
      source: configFile,
      reason: expect.stringContaining(reason)
    })
    await cortex.close()
    const gateway = Effect.provide(
      Effect.scoped(Gateway.serve({ cortex: { configFile }, gateway: { port: 0 } })),
      NodeContext.layer
    )
    await expect(Effect.runPromise(Effect.flip(gateway))).resolves.toMatchObject({
      _tag: "InvalidConfig",
      reason: expect.stringContaining(reason)
    })
  })

  it("a pipe of a shell's process substitution is read", async () => {
    const configFile = join(home, `${count++}.json`)
    makePipe(configFile)
    const folder = newFolder()
    writeFileSync(join(folder, "good.json"), good)
    const writer = spawn("sh", [
      "-c",
      'printf %s "$1" > "$2"',
      "sh",
      JSON.stringify({ registry: [folder] }),
      configFile
    ])
    const cortex = createCortex({ configFile })
    assert.include(await cortex.models(), "fine:1b")
    await cortex.close()
    assert.strictEqual(writer.exitCode ?? (await new Promise((resolve) => writer.once("exit", resolve))), 0)
  })
})
