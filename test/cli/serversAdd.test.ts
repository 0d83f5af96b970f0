import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { bin, build, ended } from "../support/cliProcess.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
const home = mkdtempSync(join(tmpdir(), "aicortex-servers-"))
const file = join(home, "config.json")

beforeAll(build, 120_000)
afterAll(() => rmSync(home, { recursive: true, force: true }))

const run = async (args: ReadonlyArray<string>, env: { readonly [name: string]: string } = {}) => {
  const { PATH = "" } = process.env
  const child = spawn(process.execPath, [bin, ...args], {
    env: { PATH, HOME: home, AICORTEX_CONFIG: file, ...env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  const { code, err: stderr, out: stdout } = await ended(child)
  return { code, stdout, stderr }
}

describe("aicortex servers add", () => {
  it("stores headers, sends them, and shows their names only", async () => {
    const server = await fleet.openai()
    const env = { TENANT_KEY: "a-secret-of-the-tenant" }
    const headers = ["--header", "X-Tenant: blue: 1", "--header-env", "X-Key=TENANT_KEY"]
    const added = await run(["servers", "add", `${server.url}/v1`, ...headers], env)
    expect(added).toMatchObject({ code: 0 })
    expect(JSON.parse(readFileSync(file, "utf8")).servers).toEqual([
      { url: `${server.url}/v1`, headers: { "X-Tenant": "blue: 1", "X-Key": { env: "TENANT_KEY" } } }
    ])
    expect(server.requests[0]?.headers).toMatchObject({ "x-tenant": "blue: 1", "x-key": "a-secret-of-the-tenant" })
    const shown = await Promise.all(
      [["servers"], ["servers", "list", "--json"], ["config"], ["config", "--json"]].map((args) => run(args, env))
    )
    for (const { code, stdout, stderr } of shown) {
      expect(code).toBe(0)
      expect(stdout).toContain("x-key")
      expect(stdout + stderr).not.toMatch(/a-secret-of-the-tenant|blue: 1/)
    }
    const unset = await run(["servers", "list"])
    expect(unset.stderr).toContain("the environment variable TENANT_KEY is not set")
  })

  it.each([
    ["no colon", ["--header", "a-secret"], "--header must be a name, a colon and a value"],
    ["no variable", ["--header-env", "X-Key="], "--header-env must be a name and a variable"],
    [
      "one that HTTP sets",
      ["--header", "Host: a-secret"],
      "host of http://127.0.0.1:9 is set by what sends the request"
    ],
    ["one twice", ["--header", "x-a: 1", "--header", "X-A: a-secret"], "is given twice"],
    ["a variable that is not set", ["--header-env", "x-a=NOT_SET"], "NOT_SET is not set"]
  ])("refuses invalid headers (%s)", async (_, flags, words) => {
    const { code, stderr } = await run(["servers", "add", "http://127.0.0.1:9", ...flags])
    expect(code).not.toBe(0)
    expect(stderr).toContain(words)
    expect(stderr).not.toContain("a-secret")
  })
})
