import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { unusedPort } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "aicortex-auto-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  if (built.status !== 0) throw new Error(built.stderr)
}, 240_000)

let files = 0
/** Where `latency` is tiny, every line is bad: then local servers go first, however busy this machine is. */
const run = async (servers: ReadonlyArray<object>, args: ReadonlyArray<string>, input = "", latency = 0.000_001) => {
  const file = join(folder, `${files++}.json`)
  writeFileSync(file, JSON.stringify({ servers, conditions: { latency } }))
  const { PATH = "" } = process.env
  const child = spawn(process.execPath, [join(root, "dist/bin.js"), "auto", ...args], {
    env: { PATH, HOME: folder, AICORTEX_CONFIG: file, AICORTEX_STATE: "off" },
    stdio: ["pipe", "pipe", "pipe"]
  })
  child.stdin.end(input)
  let [out, err] = ["", ""]
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text
  })
  const [code] = await once(child, "close")
  return { out, err, code }
}

const able = (name: string, ...capabilities: ReadonlyArray<string>) => ({
  name,
  size: 1_000,
  capabilities: ["completion", ...capabilities]
})
const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64"
)

describe("aicortex auto", () => {
  const made = async () => {
    const near = await fleet.ollama({
      models: [
        able("big:70b"),
        able("tools:7b", "tools"),
        able("eyes:4b", "vision"),
        { ...able("huge:405b"), size: 240e9 }
      ]
    })
    const far = await fleet.openai({ models: [able("far:3b")] })
    return { near, far, servers: [{ url: near.url }, { url: far.url, local: false }] }
  }

  it("explains the choice without a request to a model", async () => {
    const { far, near, servers } = await made()
    const { code, err, out } = await run(servers, [
      "--explain",
      "--prefer",
      "local",
      "Why",
      "is",
      "the",
      "sky",
      "blue?"
    ])
    expect([code, err]).toEqual([0, ""])
    const [first, , head, ...lines] = out.split("\n")
    expect(first).toMatch(new RegExp(`^big:70b at ${near.url}: the most capable of 4; .*: local servers go first`))
    expect(head).toMatch(/^Model +Server +Why here$/)
    expect(lines.slice(0, 4).map((line) => line.split(/ +/)[0])).toEqual(["big:70b", "tools:7b", "eyes:4b", "far:3b"])
    expect(out).toMatch(
      new RegExp(`huge:405b +${near.url} +needs about 288 GB of memory, and [\\d.]+ GB are available`)
    )
    expect(out).toMatch(new RegExp(`${far.url} +DEGRADED`))
    expect([near.chatRequests.length, far.chatRequests.length]).toEqual([0, 0])
    // Control: the servers were asked for their lists.
    expect(near.requests.length).toBeGreaterThan(0)
  })

  it("prints the whole decision as JSON", async () => {
    const { near, servers } = await made()
    const { code, out } = await run(servers, ["--json", "--private", "Hi"])
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({
      asked: "auto",
      chosen: { model: "big:70b", server: near.url },
      reason: "the most capable of 3",
      candidates: [{ model: "big:70b", reason: "has to be loaded" }, { model: "tools:7b" }, { model: "eyes:4b" }],
      excluded: [{ model: "huge:405b" }, { model: "far:3b", reason: "the call is private, and the server is remote" }],
      conditions: { lines: [{ state: "DEGRADED" }] }
    })
  })

  it.each([
    [["Hi"], "big:70b"],
    [["--tools", "Hi"], "tools:7b"],
    [["--image", "IMAGE", "Hi"], "eyes:4b"],
    [["--private", "-"], "big:70b"]
  ])("prints the model alone: %j", async (args, model) => {
    const { far, near, servers } = await made()
    const image = join(folder, "image.png")
    writeFileSync(image, png)
    const given = args.map((arg) => (arg === "IMAGE" ? image : arg))
    const { code, err, out } = await run(servers, given, "from standard input")
    expect([code, err, out]).toEqual([0, "", `${model}\n`])
    expect([near.chatRequests.length, far.chatRequests.length]).toEqual([0, 0])
  })

  it.each(["local", "remote"] as const)("--prefer %s decides which servers go first", async (prefer) => {
    const { servers } = await made()
    const { code, out } = await run(servers, ["--json", "--prefer", prefer, "Hi"], "", 60)
    expect(code).toBe(0)
    const { chosen, conditions } = JSON.parse(out)
    // On a machine at its limit remote servers go first all the same.
    const isLocal = prefer === "local" && conditions.resources.state !== "CRITICAL"
    expect(chosen.model).toBe(isLocal ? "big:70b" : "far:3b")
  })

  it("says why no model can answer, and which servers could not be asked", async () => {
    const server = await fleet.ollama({ models: [able("big:70b")] })
    const gone = `http://127.0.0.1:${await unusedPort()}`
    const refused = await run([{ url: server.url }, { url: gone }], ["--explain", "--tools", "Hi"])
    expect(refused.code).not.toBe(0)
    expect(refused.err).toContain(`big:70b at ${server.url}: is not known to call tools`)
    expect(refused.err).toContain(gone)
    const found = await run([{ url: server.url }, { url: gone }], ["Hi"])
    expect([found.code, found.out, found.err]).toEqual([0, "big:70b\n", expect.stringContaining(gone)])
    expect((await run([{ url: server.url }], [])).code).toBe(2)
    expect((await run([{ url: server.url }], ["--prefer", "nearest", "Hi"])).code).toBe(2)
  })

  it("without servers it is the built-in model", async () => {
    const { code, out } = await run([], ["--explain", "Hi"])
    expect([code, out]).toEqual([0, expect.stringContaining("no server is known")])
  })
})
