/** Three gateways with one PostgreSQL while one is killed and PostgreSQL stands still: a short run of the bench. */
import { execFile, spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { beforeAll, describe, expect, it } from "vitest"
import { engines } from "../support/databases.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const hasPostgres = engines.some(({ name }) => name === "PostgreSQL")

describe.skipIf(!hasPostgres || process.platform === "win32")(
  `three gateways with one PostgreSQL${hasPostgres ? "" : " (there is none here)"}`,
  { timeout: 180_000 },
  () => {
    beforeAll(() => {
      const built = spawnSync(process.execPath, ["scripts/setup.mjs"], { cwd: root, encoding: "utf8" })
      if (built.status !== 0) throw new Error(built.stderr)
    }, 240_000)

    it("lose and double nothing, and hold limits and quotas, while one is killed and PostgreSQL stands still", async () => {
      const run = promisify(execFile)(process.execPath, ["bench/replicas.mjs", "--short"], { cwd: root })
      const { stdout } = await run.catch((error: { readonly stdout?: string }) => ({ stdout: String(error.stdout) }))
      const lines = stdout.split("\n")
      expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([])
      // All was looked at: the limit twice, a quota in each fault, answers and turns.
      expect(
        lines.filter((line) => line.startsWith("ok  ")).map((line) => line.split(":")[0]?.slice(5)),
        stdout
      ).toEqual([
        "a limit per minute over three gateways, within 1 % and a request of each",
        "a quota, within one request of each gateway (kill)",
        "a quota, within one request of each gateway (pause)",
        "answers lost",
        "answers that are wrong or doubled",
        "turns lost",
        "turns doubled",
        "conversations out of order",
        "the limit over all that time, never more than allowed"
      ])
    })
  }
)
