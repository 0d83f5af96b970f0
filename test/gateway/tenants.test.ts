/** Short runs of the benches that show what one key notices of an attacker, and how many answers restarts cost. */
import { spawn } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))

const bench = async (...args: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [join(root, "bench", args[0] ?? ""), ...args.slice(1), "--json"], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"]
  })
  let out = ""
  child.stdout.on("data", (part) => {
    out += part
  })
  await new Promise((resolve) => child.once("close", resolve))
  return JSON.parse(out)
}

describe("one key beside an attacker", () => {
  it("has no failures and loses no turn", async () => {
    const only = "pipelined,31 MB of text"
    const { attacks, ended, lost, problems } = await bench(
      "tenants.mjs",
      ...["--only", only, "--seconds", "2", "--quiet", "1", "--rate", "4"]
    )
    expect(attacks.length).toBe(3)
    expect(problems).toEqual([])
    expect(lost).toBe(0)
    expect(ended).toBe(false)
    for (const { damage, failed, lost, memory, name, requests } of attacks) {
      expect([name, requests, failed, lost]).toEqual([name, 8, 0, 0])
      expect(damage.connections, name).toBeGreaterThan(0)
      expect(memory, name).toBeLessThan(2_500)
    }
  }, 180_000)
})

describe("restarts", () => {
  it("lose no answer, and faults on all servers hardly any", async () => {
    const { problems, results } = await bench("restarts.mjs", "--answers", "16", "--faulty-answers", "64")
    expect(problems).toEqual([])
    expect(results.length).toBe(5)
    for (const { lost } of results) expect(Object.values(lost)).toEqual([0, 0, 0, 0])
  }, 180_000)
})
