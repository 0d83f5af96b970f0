#!/usr/bin/env node
/**
 * A program that stands on PATH under the name of an engine (llama-server, ollama, podman, docker): it notes how it was
 * called in the file FAKE_ENGINE_LOG, and serves its model at the port that it was told. What it does is in FAKE_ENGINE,
 * a JSON object: `exit` ends it at once with that code, `loads` is for how many milliseconds /health is 503, `words` are
 * the pieces of its answers, `delay` the milliseconds between them.
 *
 * A container is a process of its own, as with a daemon: it goes on when the client that started it is killed. The folder
 * FAKE_ENGINE_LOG.d has a file for each one, with its process; `rm --force NAME` ends it.
 */
import { spawn } from "node:child_process"
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { basename, join } from "node:path"

const program = basename(process.argv[1])
const isContainer = process.argv[2] === "inside"
const args = process.argv.slice(isContainer ? 3 : 2)
const { delay = 0, exit, loads = 0, words = ["Hello", " there", "."] } = JSON.parse(process.env.FAKE_ENGINE ?? "{}")
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith("OLLAMA_")))
const note = (/** @type {object} */ record) => {
  if (process.env.FAKE_ENGINE_LOG) appendFileSync(process.env.FAKE_ENGINE_LOG, `${JSON.stringify(record)}\n`)
}
note({ program: isContainer ? "container" : program, args, env, pid: process.pid })

const valueOf = (/** @type {string} */ flag) => (args.includes(flag) ? args[args.indexOf(flag) + 1] : undefined)

const containers = `${process.env.FAKE_ENGINE_LOG}.d`
const fileOf = (/** @type {string | undefined} */ name = "none") => join(containers, name)

if (args[0] === "rm") {
  const file = fileOf(args.at(-1))
  if (!existsSync(file)) process.exit(1)
  try {
    process.kill(Number(readFileSync(file, "utf8")), "SIGKILL")
  } catch {
    // It has ended already.
  }
  rmSync(file, { force: true })
  process.exit(0)
}
if (args[0] === "run" && !isContainer) {
  const file = fileOf(valueOf("--name"))
  if (existsSync(file)) {
    console.error(`the container name "${valueOf("--name")}" is already in use`)
    process.exit(125)
  }
  mkdirSync(containers, { recursive: true })
  const container = spawn(process.execPath, [process.argv[1], "inside", ...args], { detached: true, stdio: "inherit" })
  writeFileSync(file, String(container.pid))
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => container.kill(signal))
  const code = await new Promise((resolve) => container.once("exit", (code) => resolve(code ?? 137)))
  rmSync(file, { force: true })
  process.exit(code)
}
if (exit !== undefined) {
  for (let i = 1; i <= 100; i++) console.error(`line ${i}`)
  console.error("error: the model cannot be loaded")
  process.exit(exit)
}

const published = valueOf("--publish")?.split(":")
const port = Number(
  published === undefined ? (valueOf("--port") ?? process.env.OLLAMA_HOST?.split(":")[1]) : published.at(-2)
)
const model = valueOf("--alias") ?? process.env.FAKE_ENGINE_MODEL ?? "none"
const began = Date.now()

const server = createServer((request, response) => {
  const json = (/** @type {number} */ status, /** @type {unknown} */ body) => {
    response.writeHead(status, { "content-type": "application/json" })
    response.end(JSON.stringify(body))
  }
  if (request.url === "/health") {
    return Date.now() - began < loads ? json(503, { error: { message: "Loading model" } }) : json(200, { status: "ok" })
  }
  if (request.url === "/api/version") return json(200, { version: "0.9.0" })
  if (request.url === "/v1/models") return json(200, { object: "list", data: [{ id: model, object: "model" }] })
  if (request.url === "/api/tags")
    return program === "ollama" ? json(200, { models: [{ name: model, model }] }) : json(404, {})
  let text = ""
  request.setEncoding("utf8").on("data", (piece) => {
    text += piece
  })
  request.on("end", async () => {
    const body = text === "" ? {} : JSON.parse(text)
    note({ program, path: request.url, body })
    if (request.url === "/api/chat") {
      response.writeHead(200, { "content-type": "application/x-ndjson" })
      for (const content of words)
        response.write(`${JSON.stringify({ model, message: { role: "assistant", content }, done: false })}\n`)
      return response.end(
        `${JSON.stringify({ model, message: { role: "assistant", content: "" }, done: true, done_reason: "stop" })}\n`
      )
    }
    if (request.url !== "/v1/chat/completions") return json(404, { error: { message: "not found" } })
    response.writeHead(200, { "content-type": "text/event-stream" })
    const chunk = (/** @type {object} */ delta, /** @type {string | null} */ reason = null) =>
      response.write(
        `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", created: 1, model, choices: [{ index: 0, delta, finish_reason: reason }] })}\n\n`
      )
    chunk({ role: "assistant", content: "" })
    for (const content of words) {
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay))
      chunk({ content })
    }
    chunk({}, "stop")
    response.end("data: [DONE]\n\n")
  })
})
server.on("error", (error) => {
  console.error(error.message)
  process.exit(1)
})
server.listen(port, "127.0.0.1", () => console.error(`listening at ${port}`))
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0))
