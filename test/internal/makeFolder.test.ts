/** Folders that are made with those above them, with an Effect and without: the same of both. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import { afterEach, assert, beforeEach, describe, it } from "vitest"
import { makeFolder } from "../../src/internal/makeFolder.js"
import { makeFolderSync } from "../../src/internal/makeFolderSync.js"

let home = ""
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "aicortex-folders-"))
})
afterEach(() => rmSync(home, { recursive: true, force: true }))

const ways = [
  [
    "makeFolder",
    (folder: string) =>
      Effect.runPromise(Effect.provide(makeFolder(folder, { mode: 0o700 }), [NodeFileSystem.layer, NodePath.layer]))
  ],
  ["makeFolderSync", async (folder: string) => makeFolderSync(folder, 0o700)]
] as const

describe.each(ways)("%s", (_, make) => {
  const failure = async (folder: string) =>
    make(folder).then(
      () => assert.fail(`${folder} was made`),
      (error: unknown) => String(error)
    )

  it("creates missing folders for this user only, and leaves existing ones unchanged", async () => {
    const folder = join(home, "a", "b", "c")
    await make(folder)
    for (const made of [folder, join(home, "a")]) assert.strictEqual(statSync(made).mode & 0o777, 0o700)
    chmodSync(join(home, "a"), 0o755)
    await make(folder)
    await make(join(home, "a", "d"))
    assert.strictEqual(statSync(join(home, "a")).mode & 0o777, 0o755)
    assert.isTrue(existsSync(join(home, "a", "d")))
    await make("/")
    await make(".")
  })

  it("follows a link to a folder", async () => {
    mkdirSync(join(home, "real"))
    symlinkSync(join(home, "real"), join(home, "link"))
    await make(join(home, "link"))
    await make(join(home, "link", "a", "b"))
    assert.isTrue(statSync(join(home, "real", "a", "b")).isDirectory())
  })

  it("works if others create the same folder concurrently", async () => {
    const folder = join(home, "x", "y", "z")
    await Promise.all(Array.from({ length: 20 }, () => make(folder)))
    assert.isTrue(statSync(folder).isDirectory())
  })

  it("fails if a file or a dangling link is in its place, or above it", async () => {
    writeFileSync(join(home, "file"), "")
    symlinkSync(join(home, "nothing"), join(home, "dangling"))
    for (const at of ["file", "file/a", "file/a/b", "dangling", "dangling/a/b"]) {
      assert.match(await failure(join(home, at)), /EEXIST|ENOTDIR|ENOENT|AlreadyExists|NotFound|BadResource/, at)
    }
    assert.isFalse(existsSync(join(home, "nothing")))
  })

  it.runIf(process.platform === "linux")("fails at once below a folder that cannot contain any", async () => {
    for (const folder of ["/proc/none", "/proc/none/a/b", "/proc/self/fd/a/b", "/dev/null/a/b", "/sys/none/a"]) {
      assert.include(await failure(folder), "mkdir", folder)
    }
  })
})
