/** The examples in the doc comments of `src/` are whole programs that compile. */
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative } from "node:path"
import { assert, describe, it, onTestFinished } from "vitest"
import { examplesOf, sources } from "../../scripts/docExamples.mjs"
import { root } from "../support/docs/pages.js"

/** The check, in a process of its own: the compiler blocks the one that it runs in. */
const check = (...files: ReadonlyArray<string>): Promise<readonly [code: number | null, stderr: string]> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [join(root, "scripts/docExamples.mjs"), ...files], {
      stdio: ["ignore", "ignore", "pipe"]
    })
    let stderr = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    child.on("close", (code) => resolve([code, stderr]))
  })

describe("examples in doc comments", () => {
  it("are found with their positions", () => {
    const found = sources().map((file) => {
      const source = readFileSync(file, "utf8")
      const examples = examplesOf(relative(root, file), source)
      for (const { code, line } of examples) {
        assert.include(source.split("\n")[line - 1], code.split("\n")[0] ?? "", `${file}:${line}`)
      }
      const tags = source.match(/^ *\* @example/gm) ?? []
      assert.isAtLeast(examples.length, tags.length, file)
      return examples.length
    })
    assert.isAtLeast(
      found.reduce((all, one) => all + one),
      15
    )
  })

  it("compile", async () => {
    assert.deepStrictEqual(await check(), [0, ""])
  }, 300_000)

  it("control: an error is reported with its position", async () => {
    const folder = mkdtempSync(join(tmpdir(), "aicortex-examples-"))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, "wrong.ts")
    const lines = [
      "/**",
      " * A text.",
      " *",
      " * @example",
      ' * import { chat } from "aicortex/promise"',
      " *",
      ' * const text: string = await chat("Hi")',
      ' * await chat("Hi", { temprature: 0 })',
      " *",
      " * @since 0.1.0",
      " */",
      "/**",
      " * ```ts",
      ' * import { nothing } from "aicortex/Chat"',
      " * ```",
      " */",
      "/**",
      " * @example",
      " * const alone = 1",
      " */"
    ]
    writeFileSync(file, lines.join("\n"))
    const [code, stderr] = await check(file)
    assert.strictEqual(code, 1)
    const reported = [...stderr.matchAll(/wrong\.ts:(\d+): /g)].map(([, line]) => Number(line))
    assert.deepStrictEqual(reported, [19, 8, 14])
  }, 300_000)
})
