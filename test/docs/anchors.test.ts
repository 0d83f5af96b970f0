/** What the command line says of an error of the library leads to the section that explains it. */
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { anchorsOf, root } from "../support/docs/pages.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI, unusedPort } from "../support/fakeServer.js"

const anchors = anchorsOf(readFileSync(join(root, "docs/errors.md"), "utf8"))
const home = mkdtempSync(join(tmpdir(), "aicortex-anchors-"))

beforeAll(() => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  assert.strictEqual(status, 0, stderr)
}, 120_000)

afterAll(() => rmSync(home, { recursive: true, force: true }))

const run = (args: ReadonlyArray<string>, servers: string, env: NodeJS.ProcessEnv = {}) =>
  new Promise<{ readonly code: number | null; readonly stderr: string }>((resolve) => {
    const child = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
      env: { PATH: process.env["PATH"], HOME: home, NO_COLOR: "1", AICORTEX_SERVERS: servers, ...env },
      stdio: ["ignore", "ignore", "pipe"]
    })
    let stderr = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    child.on("close", (code) => resolve({ code, stderr }))
  })

/** The last line of what was said, and nowhere else. */
const anchorIn = (stderr: string): string | undefined => {
  const found = stderr.match(/docs\/errors\.md#[a-z]+/g) ?? []
  assert.isAtMost(found.length, 1, stderr)
  return / {2}See docs\/errors\.md#([a-z]+)\n$/.exec(stderr)?.[1]
}

describe.each([
  ["Ollama", startFakeOllama],
  ["OpenAI", startFakeOpenAI]
] as const)("over %s", (_, start: (options: object) => Promise<FakeServer>) => {
  const failing = { models: ["m"], faults: { kind: "status", code: 500 } }
  it.each([
    ["modelnotfound", ["chat", "hi", "-m", "nobody-has-this"], {}],
    ["noservers", ["chat", "hi", "-m", "llama3.2:3b"], { models: ["m"] }],
    ["allserversfailed", ["chat", "hi", "-m", "m", "--max-retries", "1"], failing],
    ["allserversfailed", ["chat", "hi", "-m", "m", "--max-retries", "1", "--stream"], failing],
    [
      "streaminterrupted",
      ["chat", "hi", "-m", "m", "--stream", "--on-interrupt", "fail"],
      { models: ["m"], faults: { kind: "cut", after: 2 } }
    ],
    ["invalidrequest", ["chat", "hi", "-m", "m"], { models: ["m"], faults: { kind: "status", code: 400 } }],
    ["personanotfound", ["chat", "hi", "-m", "m", "--persona", "pirate"], { models: ["m"] }],
    ["sessionnotfound", ["chat", "hi", "-m", "m", "--session", "none"], { models: ["m"] }]
  ] as const)("%s: %j", async (anchor, args, options) => {
    await using server = await start(options)
    const { code, stderr } = await run(args, server.url)
    assert.strictEqual(code, 1, stderr)
    assert.strictEqual(anchorIn(stderr), anchor, stderr)
    assert.isTrue(anchors.has(anchor))
  })
})

describe("other errors", () => {
  it("a setting that cannot be used has its anchor too", async () => {
    const file = join(home, "wrong.json")
    writeFileSync(file, '{ "maxQueued": "many" }')
    const { stderr } = await run(["chat", "hi"], "", { AICORTEX_CONFIG: file })
    assert.strictEqual(anchorIn(stderr), "invalidconfig", stderr)
  })

  it("errors of the command line only have no anchor", async () => {
    const wrong = await run(["chat", "hi", "--nonsense"], "")
    assert.strictEqual(wrong.code, 2)
    assert.isUndefined(anchorIn(wrong.stderr), wrong.stderr)
    const embed = await run(["best", "aicortex-demo"], `http://127.0.0.1:${await unusedPort()}`)
    assert.strictEqual(embed.code, 1)
    assert.isUndefined(anchorIn(embed.stderr), embed.stderr)
  })
})
