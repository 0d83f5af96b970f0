import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { Agent, request } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const home = mkdtempSync(join(tmpdir(), "aicortex-workers-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
const model = "m:1b"

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  assert.strictEqual(built.status, 0, built.stderr)
}, 120_000)

/** One request on a connection of its own, or of the agent. */
const ask = (port: number, agent?: Agent): Promise<string> =>
  new Promise((resolve) => {
    const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }] })
    const headers = { "content-type": "application/json", "content-length": body.length }
    const clientRequest = request(
      { port, host: "127.0.0.1", path: "/v1/chat/completions", method: "POST", agent: agent ?? false, headers },
      (response) => {
        response.resume()
        response.on("end", () => resolve(String(response.statusCode)))
        response.on("error", () => resolve("broken"))
      }
    )
    clientRequest.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "broken"))
    clientRequest.end(body)
  })

describe("a worker that dies", { timeout: 120_000 }, () => {
  it("loses only its own connections, the others continue, and a new one is started", async () => {
    const server = await startFakeOllama({ models: [model], reply: "Well." })
    const file = join(home, "config.json")
    writeFileSync(file, JSON.stringify({ servers: [server.url] }))
    const child = spawn(process.execPath, [join(root, "dist/bin.js"), "serve", "--port", "0", "--workers", "2"], {
      env: { PATH: process.env["PATH"], HOME: home, AICORTEX_CONFIG: file },
      stdio: ["ignore", "pipe", "pipe"]
    })
    const ended = new Promise((resolve) => child.once("exit", resolve))
    let said = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (part) => {
        said += part
      })
    }
    const workers = () =>
      spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" })
        .stdout.split("\n")
        .flatMap((line) => (line === "" ? [] : [Number(line)]))
    const kept = new Agent({ keepAlive: true, maxSockets: 4 })
    try {
      await eventually(() => /http:\/\/[\w.]+:\d+/.test(said), "it listens")
      const port = Number(/http:\/\/[\w.]+:(\d+)/.exec(said)?.[1])
      assert.deepEqual(await Promise.all(Array.from({ length: 4 }, () => ask(port, kept))), Array(4).fill("200"))
      const [dying] = workers()
      assert.isDefined(dying)
      // It takes nothing more, but is handed a connection all the same.
      process.kill(dying as number, "SIGSTOP")
      const answers = Array.from({ length: 12 }, () => ask(port))
      let open = answers.length
      for (const answer of answers) void answer.then(() => open--)
      await eventually(() => open <= 1, "the other one answers")
      assert.strictEqual(open, 1)
      process.kill(dying as number, "SIGKILL")
      assert.deepEqual(await Promise.all(answers), Array(12).fill("200"))
      // Connections that were kept to it are closed, and clients open new ones.
      const later = await Promise.all(Array.from({ length: 8 }, () => ask(port)))
      assert.deepEqual(later, Array(8).fill("200"))
      await eventually(() => said.includes("it is replaced"), "it is noticed")
      await eventually(() => workers().length === 2 && !workers().includes(dying as number), "another one is started")
      assert.deepEqual(await Promise.all(Array.from({ length: 8 }, () => ask(port))), Array(8).fill("200"))
    } finally {
      kept.destroy()
      child.kill("SIGKILL")
      for (const worker of workers()) process.kill(worker, "SIGKILL")
      await ended
      await server.stop()
    }
  })
})
