/**
 * Records docs/assets/failover.svg from a real run: `node scripts/record.mjs`.
 *
 * `aicortex chat` streams an answer from one of two servers, that server's process is killed in the middle of it, and the
 * other one goes on. The servers are processes of this script: as much of Ollama as is needed, writing slowly enough to
 * watch. Both are reached by a name, which test/support/hosts.mjs leads to a port of this machine.
 */
import { spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath, pathToFileURL } from "node:url"
import { render } from "./terminalSvg.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const model = "llama3.2:3b"
const answer = `Sunlight looks white, but it is a mixture of all the colours of the rainbow.
When it enters the atmosphere, it meets molecules of air that are much smaller
than its wavelength. They scatter short wavelengths far more than long ones,
so blue light reaches your eyes from every direction of the sky.`
const pieces = answer.match(/\s*\S+/g) ?? []
const pause = 70

// -----------------------------------------------------------------------------
// a server
// -----------------------------------------------------------------------------

const serve = () => {
  const server = createServer(async (request, response) => {
    let body = ""
    for await (const part of request) body += part
    const requestBody = body === "" ? {} : JSON.parse(body)
    const reply = (/** @type {unknown} */ value) => response.end(JSON.stringify(value))
    /** @type {(pieces: ReadonlyArray<string>, piece: (text: string) => object) => Promise<void>} */
    const write = async (pieces, piece) => {
      for (const text of pieces) {
        response.write(`${JSON.stringify({ model, ...piece(text), done: false })}\n`)
        await sleep(pause)
      }
      response.end(`${JSON.stringify({ model, ...piece(""), done: true, done_reason: "stop" })}\n`)
    }
    if (request.url === "/api/tags") return reply({ models: [{ name: model, model }] })
    if (request.url === "/api/version") return reply({ version: "0.13.0" })
    if (request.url === "/api/chat" && requestBody._debug_render_only) {
      return reply({ _debug_info: { rendered_template: "user: Why is the sky blue?\nassistant: " } })
    }
    if (request.url === "/api/chat") return write(pieces, (content) => ({ message: { role: "assistant", content } }))
    // To go on, the prompt ends with the text so far.
    if (request.url === "/api/generate") {
      const given = pieces.findLastIndex((_, i) => String(requestBody.prompt).endsWith(pieces.slice(0, i + 1).join("")))
      return write(pieces.slice(given + 1), (text) => ({ response: text }))
    }
    response.statusCode = 404
    response.end()
  })
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    if (typeof address === "object") process.send?.(address?.port)
  })
}

/** @type {() => Promise<{ readonly port: number; readonly child: import("node:child_process").ChildProcess }>} */
const startServer = () =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), "--server"], {
      stdio: ["ignore", "ignore", "inherit", "ipc"]
    })
    child.once("message", (port) => resolve({ port: Number(port), child }))
    child.once("exit", () => reject(new Error("the server ended")))
  })

// -----------------------------------------------------------------------------
// the run
// -----------------------------------------------------------------------------

const record = async () => {
  const home = mkdtempSync(join(tmpdir(), "aicortex-record-"))
  const [first, second] = [await startServer(), await startServer()]
  mkdirSync(join(home, ".config/aicortex"), { recursive: true })
  const servers = [
    { url: "http://gpu-1:11434", priority: 0 },
    { url: "http://gpu-2:11434", priority: 1 }
  ]
  writeFileSync(join(home, ".config/aicortex/config.json"), JSON.stringify({ servers, model }))
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    NO_COLOR: "1",
    NODE_OPTIONS: `--import=${pathToFileURL(join(root, "test/support/hosts.mjs")).href}`,
    TEST_HOSTS: JSON.stringify({ "gpu-1:11434": first.port, "gpu-2:11434": second.port })
  }

  /** @type {Array<import("./terminalSvg.mjs").Piece>} */
  const shown = []
  const began = Date.now()
  // What is typed takes no time of the run: it moves what follows.
  let typing = 0
  const now = () => Date.now() - began + typing
  /** @type {(text: string) => void} */
  const type = (text) => {
    shown.push({ at: now(), text: "$ ", style: "prompt" })
    typing += 600
    for (const letter of text) {
      shown.push({ at: now(), text: letter, style: "typed" })
      typing += 28
    }
    typing += 300
    shown.push({ at: now(), text: "\n", style: "typed" })
  }

  /** @type {(args: ReadonlyArray<string>, onData: (text: string) => void) => Promise<string>} */
  const run = (args, onData) =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
        cwd: home,
        env,
        stdio: ["ignore", "pipe", "pipe"]
      })
      let errors = ""
      child.stdout.setEncoding("utf8").on("data", onData)
      child.stderr.setEncoding("utf8").on("data", (/** @type {string} */ text) => {
        errors += text
      })
      child.on("close", (code) => (code === 0 ? resolve(errors) : reject(new Error(`exit code ${code}: ${errors}`))))
    })

  try {
    type('aicortex chat "Why is the sky blue?" --stream 2> notes')
    let text = ""
    const notes = await run(["chat", "Why is the sky blue?", "--stream"], (data) => {
      text += data
      shown.push({ at: now(), text: data, style: "output" })
      if (first.child.killed || text.split(/\s+/).length < pieces.length * 0.55) return
      first.child.kill("SIGKILL")
      shown.push({
        at: now(),
        text: `kill -9 ${first.child.pid}   # the server that writes this answer`,
        style: "aside"
      })
    })
    if (text.trim() !== answer) throw new Error(`The answer is not whole:\n${text}`)
    typing += 900
    type("cat notes")
    shown.push({ at: now(), text: notes, style: "output" })
    typing += 400
    shown.push({ at: now(), text: "$ ", style: "prompt" })
    const file = join(root, "docs/assets/failover.svg")
    writeFileSync(file, render(shown, { columns: 86, title: "A server is killed in mid-answer, and the text goes on" }))
    process.stderr.write(`${file}\n`)
  } finally {
    for (const { child } of [first, second]) child.kill("SIGKILL")
    rmSync(home, { recursive: true, force: true })
  }
}

if (process.argv.includes("--server")) serve()
else await record()
