/** A short run of the bench of the engine. Its bounds on time hold on a machine that is busy with something else. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, beforeAll, it } from "vitest"
import { build } from "../support/cliProcess.js"

const root = fileURLToPath(new URL("../..", import.meta.url))

beforeAll(build, 120_000)

it("the engine is nearly as fast as its library, and the next turn uses its cache", { timeout: 240_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-bench-"))
  try {
    const file = join(folder, "result.json")
    const words = [join(root, "bench/engine.mjs"), "--quick", "--rounds", "1", "--json", file]
    const child = spawn(process.execPath, words, { cwd: root, stdio: ["ignore", "ignore", "inherit"] })
    const [code] = await once(child, "exit")
    assert.strictEqual(code, 0)
    const { found, startTimes, turns } = JSON.parse(readFileSync(file, "utf8"))
    for (const n of [1, 4]) assert.isAbove(found[n].ratio[0], 0.2, `${n} chats`)
    for (const { cached, evaluated, first, second, tokens } of [turns.short, turns.long]) {
      assert.isAtLeast(cached[0], tokens[0])
      assert.isBelow(evaluated[0], 30)
      assert.isBelow(second[0], first[0])
    }
    assert.isAbove(startTimes.run[0], 0)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
