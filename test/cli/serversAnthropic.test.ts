/** Servers of Anthropic's API on the command line. */
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, expect, it } from "vitest"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))
const home = mkdtempSync(join(tmpdir(), "aicortex-anthropic-"))
const file = join(home, "config.json")

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  if (built.status !== 0) throw new Error(built.stderr)
}, 120_000)
afterAll(() => rmSync(home, { recursive: true, force: true }))

const run = async (args: ReadonlyArray<string>, env: { readonly [name: string]: string } = {}) => {
  const { PATH = "" } = process.env
  const child = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
    env: { PATH, HOME: home, AICORTEX_CONFIG: file, ...env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let stdout = ""
  let stderr = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
  })
  const [code] = await once(child, "close")
  return { code: code as number, stdout, stderr }
}

it("Anthropic servers are added with a key from a variable, listed and used", async () => {
  const claude = "claude-sonnet-4-5"
  const server = await fleet.anthropic({ models: [claude], apiKey: "sk-ant-secret", reply: "Well said." })
  const env = { CLAUDE_KEY: "sk-ant-secret" }
  const named = ["--protocol", "anthropic", "--api-key-env", "CLAUDE_KEY"]
  expect(await run(["servers", "add", `${server.url}/v1`, ...named], env)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("It answers: anthropic")
  })
  expect(JSON.parse(readFileSync(file, "utf8")).servers).toEqual([
    { url: `${server.url}/v1`, protocol: "anthropic", apiKey: { env: "CLAUDE_KEY" } }
  ])
  const result = await run(["chat", "Hello!", "--model", `claude:${claude}`], env)
  expect(result).toMatchObject({ code: 0, stdout: expect.stringContaining("Well said.") })
  const listed = await run(["servers", "list", "--json"], env)
  expect(JSON.parse(listed.stdout)).toMatchObject([{ protocol: "anthropic", models: [claude] }])
  const loaded = await run(["ps"], env)
  expect(loaded.stderr + loaded.stdout).toContain("speaks Anthropic's protocol, which cannot tell what is loaded")
  for (const { stderr, stdout } of [result, listed, loaded]) expect(stdout + stderr).not.toContain("sk-ant-secret")
  const wrong = await run(["servers", "add", server.url, "--protocol", "gemini"])
  expect(wrong.code).not.toBe(0)
  expect(wrong.stderr + wrong.stdout).toContain("anthropic")
})
