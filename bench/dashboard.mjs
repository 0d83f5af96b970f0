// What open pages cost the gateway: `node bench/dashboard.mjs [--quick] [--strict] [--rounds N] [--streams N] [--pages N]
// [--seconds N] [--gateway bin.js]`; see README.md. Measures dist/bin.js: build it first.
import { fork, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const args = process.argv.slice(2)
const flag = (name) => args.includes(`--${name}`)
const option = (name, otherwise) => {
  const at = args.indexOf(`--${name}`)
  return Number(at === -1 ? otherwise : args[at + 1])
}
const quick = flag("quick")
const rounds = option("rounds", quick ? 2 : 12)
const streams = option("streams", quick ? 200 : 2_000)
const pages = option("pages", 50)
const seconds = option("seconds", quick ? 2 : 4)
const program = args.includes("--gateway") ? args[args.indexOf("--gateway") + 1] : "dist/bin.js"

/**
 * Events are made for 30 seconds after the last page was closed. Here it is a tenth of a second, so that times with and
 * without pages can follow each other closely: nothing else of the gateway has a timer of that length.
 */
const shortLinger = `data:text/javascript,${encodeURIComponent(
  "const set = globalThis.setTimeout; globalThis.setTimeout = Object.assign((run, time, ...rest) => set(run, time === 30_000 ? 100 : time, ...rest), set)"
)}`
const settleTime = 700

const children = []
const folder = mkdtempSync(join(tmpdir(), "aicortex-bench-"))
const stop = () => {
  for (const child of children) child.kill("SIGKILL")
  rmSync(folder, { recursive: true, force: true })
}
process.on("exit", stop)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time))
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length
/** Of a mean. */
const standardError = (values) => {
  const middle = mean(values)
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1) / values.length)
}

/** A part of the bench in a process of its own, so that it costs the gateway nothing; what it says last is `told`. */
const part = async (name, ...given) => {
  const child = fork(join(root, `bench/dashboard/${name}.mjs`), given.map(String))
  children.push(child)
  const one = { child, told: undefined }
  one.told = await new Promise((resolve) => child.once("message", resolve))
  child.on("message", (message) => {
    one.told = message
  })
  return one
}

const upstream = await part("upstream")
const { ports } = upstream.told
const file = join(folder, "config.json")
const servers = ports.map((port) => ({ url: `http://127.0.0.1:${port}/v1`, maxInFlight: 10_000 }))
writeFileSync(file, JSON.stringify({ servers }))
const gateway = spawn(
  process.execPath,
  // See gateway.mjs: that V8 makes an idle process small is chance.
  [
    "--no-memory-reducer",
    "--import",
    shortLinger,
    program,
    "serve",
    "--port",
    "0",
    "--config",
    file,
    "--log",
    "off",
    "--no-local"
  ],
  { cwd: root, env: { PATH: process.env.PATH, HOME: folder }, stdio: ["ignore", "pipe", "pipe"] }
)
children.push(gateway)
const port = await new Promise((resolve, reject) => {
  let text = ""
  const take = (piece) => {
    text += piece
    const url = /http:\/\/127\.0\.0\.1:(\d+)/.exec(text)
    if (url !== null) resolve(Number(url[1]))
  }
  gateway.stdout.on("data", take)
  gateway.stderr.on("data", take)
  gateway.on("exit", (code) => reject(new Error(`the gateway ended (${code}): ${text}`)))
})

/** CPU of all threads of the gateway, in milliseconds. */
const cpu = () => {
  let total = 0
  for (const task of readdirSync(`/proc/${gateway.pid}/task`)) {
    try {
      total += Number(readFileSync(`/proc/${gateway.pid}/task/${task}/schedstat`, "utf8").split(" ")[0])
    } catch {
      // The thread has ended.
    }
  }
  return total / 1e6
}

const load = await part("load", port, streams)
const watching = await part("pages", port)
const watch = async (count) => {
  watching.child.send({ pages: count })
  while (watching.told.open !== count) await sleep(50)
}
const measure = async (count) => {
  await watch(count)
  await sleep(settleTime)
  const before = {
    at: performance.now(),
    cpu: cpu(),
    ended: load.told.ended,
    events: watching.told.bytes,
    tokens: upstream.told.written
  }
  await sleep(seconds * 1_000)
  const time = performance.now() - before.at
  const found = {
    count,
    percent: (100 * (cpu() - before.cpu)) / time,
    ended: ((load.told.ended - before.ended) * 1_000) / time,
    tokens: ((upstream.told.written - before.tokens) * 1_000) / time,
    open: load.told.open,
    bytes: count === 0 ? 0 : ((watching.told.bytes - before.events) * 1_000) / time / count
  }
  process.stdout.write(
    `${String(count).padStart(3)} pages  CPU ${found.percent.toFixed(2).padStart(6)} %  ${found.open} streams  ` +
      `${found.ended.toFixed(0)} answers/s  ${found.tokens.toFixed(0)} tokens/s  ${(found.bytes / 1024).toFixed(1)} KB/s per page\n`
  )
  return found
}

while (load.told.open < streams * 0.98) await sleep(200)
// One whole answer each: what is compiled and learned at the beginning is not the page's.
await sleep(quick ? 2_000 : 30_000)
await measure(pages)

/**
 * What pages cost, from times without, with, with and without them in turn: what changes slowly is in both. They are
 * compared at as many tokens: on a machine with other work the servers write a little less at one time than at another.
 */
const compare = async (count) => {
  const phases = []
  for (const open of [0, count, count, 0]) phases.push(await measure(open))
  const [first, second, third, last] = phases
  const tokens = mean(phases.map((phase) => phase.tokens))
  const at = ({ percent, tokens: written }) => (percent * tokens) / written
  return (at(second) + at(third) - at(first) - at(last)) / 2
}
const costs = { one: [], many: [] }
for (let round = 0; round < rounds; round++) {
  costs.one.push(await compare(1))
  if (round % 3 === 0) costs.many.push(await compare(pages))
}
let failed = false
const target = (what, values, most) => {
  const ok = mean(values) <= most
  failed ||= !ok
  const error = values.length > 1 ? ` ± ${standardError(values).toFixed(2)}` : ""
  process.stdout.write(
    `${ok ? "ok  " : "MISS"}  ${what}: ${mean(values).toFixed(2)}${error} % of a core (at most ${most} %)\n`
  )
}
target("one open page", costs.one, 1)
target(
  `each of ${pages} open pages`,
  costs.many.map((cost) => cost / pages),
  1
)
target(`${pages} open pages together`, costs.many, 5)
const each = (values) => values.map((cost) => cost.toFixed(2)).join(", ")
process.stdout.write(`in each round, of one: ${each(costs.one)}; of ${pages}: ${each(costs.many)}\n`)
process.exit(failed && flag("strict") ? 1 : 0)
