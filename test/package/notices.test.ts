import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import type { Metafile } from "esbuild"
import { assert, beforeAll, describe, it } from "vitest"
import { notices, packagesOf } from "../../scripts/notices.mjs"

const root = fileURLToPath(new URL("../..", import.meta.url))

describe("the notices of third parties", () => {
  beforeAll(() => {
    const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs"), "--all"], { encoding: "utf8" })
    assert.strictEqual(built.status, 0, built.stderr)
  }, 120_000)

  it("list every package in the bundles, with its version and license text", () => {
    const inputsOf = (name: string) =>
      Object.keys((JSON.parse(readFileSync(join(root, `dist/.${name}.json`), "utf8")) as Metafile).inputs)
    const text = readFileSync(join(root, "dist/THIRD-PARTY-NOTICES"), "utf8")
    const entries = text.split(`${"-".repeat(80)}\n`).slice(1)
    const inputs = [...inputsOf("bin"), ...inputsOf("bundle"), ...inputsOf("dashboard")].filter((input) =>
      input.includes("node_modules/")
    )
    assert.isAbove(inputs.length, 100)
    // A package may hold others of its own.
    const folderOf = (input: string) => {
      const at = input.lastIndexOf("node_modules/") + "node_modules/".length
      const [scope = "", name = ""] = input.slice(at).split("/")
      return input.slice(0, at) + (scope.startsWith("@") ? `${scope}/${name}` : scope)
    }
    const folders = new Set(inputs.map(folderOf))
    for (const folder of folders) {
      const { license, name, version } = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"))
      const entry = entries.find((one) => one.trim().startsWith(`${name} ${version} (${license})\n`))
      assert.isDefined(entry, name)
      assert.match(entry ?? "", /copyright/i, name)
      assert.isAbove(entry?.length ?? 0, 500, name)
    }
    assert.strictEqual(entries.length, folders.size)
  })

  it("are in every published package", () => {
    const { files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
    assert.include(files, "dist")
    assert.notInclude(files, "!dist/THIRD-PARTY-NOTICES")
  })

  it("cannot be generated without a license text", () => {
    const folder = mkdtempSync(join(tmpdir(), "aicortex-notices-"))
    try {
      const metafile = (name: string): Metafile => ({
        inputs: { [`node_modules/${name}/index.js`]: { bytes: 1, imports: [] } },
        outputs: {}
      })
      const install = (name: string, own: object, files: Record<string, string> = {}) => {
        const path = join(folder, "node_modules", name)
        mkdirSync(path, { recursive: true })
        writeFileSync(join(path, "package.json"), JSON.stringify({ name, version: "1.0.0", ...own }))
        for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text)
        return notices(metafile(name), folder)
      }
      assert.throws(() => install("bare", { license: "ISC", author: "A" }), /bare is bundled and holds no text/)
      assert.throws(() => install("nobody", { license: "MIT" }), /nobody is bundled/)
      assert.include(install("named", { license: "MIT", author: { name: "A. Author" } }), "Copyright (c) A. Author")
      const both = install("@a/b", { license: "Apache-2.0" }, { "LICENCE.md": "the terms", NOTICE: "and a notice" })
      assert.include(both, "@a/b 1.0.0 (Apache-2.0)\n\nthe terms\n\nand a notice\n")
      assert.deepEqual(packagesOf(metafile("x/node_modules/@y/z")), ["node_modules/x/node_modules/@y/z"])
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
