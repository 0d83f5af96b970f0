// Many streams at once through the gateway while a tenth of the servers fails at random:
// `node bench/soak.mjs [--streams 2000] [--seconds 60] [--servers 20]`; see README.md. Measures dist/bin.js.
import { fork, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { request } from "./gateway/load.mjs"
import { tokensOf } from "./gateway/said.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const args = process.argv.slice(2)
const option = (name, otherwise) => {
  const at = args.indexOf(`--${name}`)
  return at === -1 ? otherwise : Number(args[at + 1])
}
const streams = option("streams", 2000)
const seconds = option("seconds", 60)
const servers = option("servers", 20)

const folder = mkdtempSync(join(tmpdir(), "aicortex-soak-"))
const children = []
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL")
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

const upstream = fork(join(root, "bench/gateway/failing.mjs"), [String(servers), "200", "0.1"])
children.push(upstream)
const ports = await new Promise((resolve) => upstream.once("message", resolve))
const config = join(folder, "config.json")
writeFileSync(
  config,
  JSON.stringify({
    servers: ports.map((port) => `http://127.0.0.1:${port}/v1`),
    serverCooldown: 3,
    gateway: { timeout: 8 }
  })
)
const gateway = spawn(
  process.execPath,
  [
    "--expose-gc",
    "--import",
    join(root, "bench/gateway/gc.mjs"),
    "dist/bin.js",
    "serve",
    "--port",
    "0",
    "--json",
    "--config",
    config
  ],
  { cwd: root, env: { PATH: process.env.PATH, HOME: folder }, stdio: ["ignore", "pipe", "inherit"] }
)
children.push(gateway)
const port = await new Promise((resolve) => {
  let text = ""
  gateway.stdout.on("data", (part) => {
    text += part
    const url = /127\.0\.0\.1:(\d+)/.exec(text)
    if (url !== null) resolve(Number(url[1]))
  })
})

/** Pages that a collection has emptied are given back with a later one, and it is not always the next. */
const memory = async () => {
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    gateway.kill("SIGUSR2")
    await sleep(2_000)
    const status = readFileSync(`/proc/${gateway.pid}/status`, "utf8")
    least = Math.min(least, Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024)
  }
  return least
}

const tally = { done: 0, failed: 0, wrong: 0, resumed: 0 }
const problems = []
let asked = 0

/** One client: asks one question after the other on one connection. */
const client = async (until) => {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true })
  let text = ""
  let finish = () => {}
  socket.setEncoding("utf8")
  socket.on("data", (part) => {
    text += part
    if (text.endsWith("0\r\n\r\n") || /^HTTP\/1\.1 [45]/.test(text)) finish()
  })
  socket.on("error", () => finish())
  socket.on("close", () => finish())
  await new Promise((resolve) => socket.once("connect", resolve))
  await sleep(Math.random() * 2_000)
  while (performance.now() < until) {
    const question = `Question ${asked++}?`
    const done = new Promise((resolve) => {
      finish = resolve
    })
    text = ""
    socket.write(
      request("/v1/chat/completions", { model: "soak", stream: true, messages: [{ role: "user", content: question }] })
    )
    await done
    const said = [...text.matchAll(/"content":("(?:[^"\\]|\\.)*")/g)].map(([, words]) => JSON.parse(words)).join("")
    if (/x-aicortex-attempts: (?!1\r)/.test(text)) tally.resumed++
    if (!text.includes("data: [DONE]")) {
      tally.failed++
      if (problems.length < 5) problems.push(text.slice(0, 120) + " … " + text.slice(-400))
    } else if (said !== tokensOf(question).join("")) {
      tally.wrong++
      if (problems.length < 5) problems.push(`${said}\n  instead of\n${tokensOf(question).join("")}`)
    } else tally.done++
  }
  socket.destroy()
}

const wave = (time) => {
  const until = performance.now() + time
  return Promise.all(Array.from({ length: streams }, () => client(until)))
}

const idle = await memory()
await wave(5_000)
const start = await memory()
Object.assign(tally, { done: 0, failed: 0, wrong: 0, resumed: 0 })
await wave(seconds * 1000)
const end = await memory()
process.stdout.write(
  `${streams} streams at once for ${seconds} s over ${servers} servers, a tenth of them failing\n` +
    `complete ${tally.done}, failed ${tally.failed}, wrong ${tally.wrong}, on another server than the first ${tally.resumed}\n` +
    `resident memory: ${idle.toFixed(0)} MB before, ${start.toFixed(0)} MB after a first wave, ${end.toFixed(0)} MB at the end (${(((end - start) / start) * 100).toFixed(0)} %)\n`
)
for (const problem of problems) process.stdout.write(`  ${problem}\n`)
process.exit(tally.failed === 0 && tally.wrong === 0 && end <= start * 1.2 ? 0 : 1)
