// This build next to another one, say that of an older commit: the rows of `gateway.mjs` and of `main.mjs`, in one run.
// `node bench/compare.mjs DIR [--quick] [--strict] [--only=gateway,library,startup] [--processes N] [--rounds N]`; see
// README.md. DIR is another clone, built. Measures dist/: build both first.
import { fork, spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { build } from "esbuild"
import { keepAwake } from "./gateway/awake.mjs"
import { cpuOf } from "./gateway/cpu.mjs"
import { load, once, request } from "./gateway/load.mjs"

const { positionals, values: options } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: "boolean", default: false },
    strict: { type: "boolean", default: false },
    only: { type: "string", default: "gateway,library,startup" },
    processes: { type: "string" },
    rounds: { type: "string" }
  }
})
const here = fileURLToPath(new URL("..", import.meta.url))
const builds = [
  { name: "other", root: resolve(positionals[0] ?? "") },
  { name: "this", root: here }
]
const { quick } = options
const only = new Set(options.only.split(","))
const processes = Number(options.processes ?? (quick ? 1 : 8))
const rounds = Number(options.rounds ?? (quick ? 1 : 5))
const limit = 0.03

const usage = (message) => {
  process.stderr.write(
    `${message}\nUsage: node bench/compare.mjs DIR [--quick] [--strict] [--only=gateway,library,startup] [--processes N] [--rounds N]\n`
  )
  process.exit(2)
}
if (positionals.length !== 1) usage("Name the folder of the other build.")
for (const { root } of builds) {
  if (!existsSync(join(root, "dist/bin.js")) || !existsSync(join(root, "dist/index.js"))) usage(`${root} is not built.`)
}
for (const [name, value] of Object.entries({ processes, rounds })) {
  if (!Number.isInteger(value) || value < 1) usage(`--${name} must be a number from 1.`)
}

// -----------------------------------------------------------------------------
// processes
// -----------------------------------------------------------------------------

const folder = mkdtempSync(join(tmpdir(), "aicortex-compare-"))
const caches = []
const children = new Set()
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL")
  for (const one of [folder, ...caches]) rmSync(one, { recursive: true, force: true })
})
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

const keep = (child) => {
  children.add(child)
  child.once("exit", () => children.delete(child))
  return child
}
const stop = async (all) => {
  await Promise.all(
    all.map(
      ({ child }) =>
        new Promise((done) => (child.exitCode === null ? child.once("exit", done).kill("SIGKILL") : done()))
    )
  )
}

// -----------------------------------------------------------------------------
// figures
// -----------------------------------------------------------------------------

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b)
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2
}
/** The mean over processes, and its standard error. */
const meanOf = (values) => {
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0)
  return { mean, error: values.length < 2 ? Number.NaN : Math.sqrt(squares / (values.length - 1) / values.length) }
}

const rows = []
let missed = false
/**
 * `samples` has the figures of each process, a round each, by build. The machine is not the same in each round, by half
 * at worst: each figure is seen relative to the median of its round, and of a process the median over the rounds.
 */
const row = (title, unit, samples) => {
  const all = [...samples.values()].flat()
  const ofRound = all[0].map((_, round) => median(all.map((values) => values[round])))
  const [before, after] = builds.map(({ name }) =>
    meanOf(samples.get(name).map((values) => median(values.map((value, round) => value / ofRound[round]))))
  )
  const typical = median(ofRound)
  const change = after.mean / before.mean - 1
  const error = (after.mean / before.mean) * Math.hypot(before.error / before.mean, after.error / after.mean)
  const verdict = change <= limit ? "ok" : change - 2 * error > limit ? "MISS" : "unsure"
  if (verdict === "MISS") missed = true
  const percent = (value) => `${value < 0 ? "" : "+"}${(value * 100).toFixed(1)} %`
  rows.push([
    title,
    unit,
    (before.mean * typical).toFixed(1),
    (after.mean * typical).toFixed(1),
    percent(change),
    Number.isNaN(error) ? "-" : `${(error * 100).toFixed(1)} %`,
    verdict
  ])
  process.stderr.write(`${title}: ${percent(change)}\n`)
}

/**
 * Measures all processes of both builds once a round, in an order that is turned each time; the first round of each is
 * thrown away. `measure` gives CPU per unit.
 */
const compare = async (title, unit, running, measure, times = rounds) => {
  const figures = new Map(running.map((one) => [one, []]))
  for (let round = -1; round < times; round++) {
    for (const one of round % 2 === 0 ? running : [...running].reverse()) {
      const figure = await measure(one)
      if (round >= 0) figures.get(one).push(figure)
    }
  }
  const samples = new Map(builds.map(({ name }) => [name, []]))
  for (const [{ name }, values] of figures) samples.get(name).push(values)
  row(title, unit, samples)
}

/** The processes of both builds, in an order that favours none. */
const pairs = () => Array.from({ length: processes }, (_, i) => (i % 2 === 0 ? builds : [...builds].reverse())).flat()

// -----------------------------------------------------------------------------
// the gateway
// -----------------------------------------------------------------------------

const startGateway = ({ name, root }, url) =>
  new Promise((started, failed) => {
    const home = mkdtempSync(join(folder, "home-"))
    const file = join(home, "config.json")
    writeFileSync(file, JSON.stringify({ servers: [{ url, maxInFlight: 10_000 }] }))
    const child = keep(
      spawn(
        process.execPath,
        ["--no-memory-reducer", "dist/bin.js", "serve", "--port", "0", "--json", "--config", file],
        {
          cwd: root,
          // What a store costs is measured by `store.mjs`; an older build may have none.
          env: { PATH: process.env.PATH, HOME: home, OLLAMA_NUM_PARALLEL: "10000", AICORTEX_STORE: "memory" },
          stdio: ["ignore", "pipe", "inherit"]
        }
      )
    )
    let text = ""
    child.stdout.on("data", (part) => {
      text += part
      const at = /http:\/\/127\.0\.0\.1:(\d+)/.exec(text)
      if (at !== null) started({ name, child, pid: child.pid, port: Number(at[1]) })
    })
    child.on("exit", (code) => failed(new Error(`${root}: the gateway ended (${code}): ${text}`)))
  })

const bodyOf = (model) => ({
  model,
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  stream: model !== "call"
})
const path = "/v1/chat/completions"
/** Paced answers one after the other take a fifth of a second each: many short rounds. */
const lone = quick ? { warm: 1, count: 1, rounds } : { warm: 60, count: 2, rounds: 6 * rounds }

if (only.has("gateway")) {
  keepAwake()
  const upstream = await new Promise((done) =>
    keep(fork(join(here, "bench/gateway/upstream.mjs"))).once("message", done)
  )
  for (const kind of ["openai", "ollama"]) {
    const url = kind === "openai" ? `http://127.0.0.1:${upstream.openai}/v1` : `http://127.0.0.1:${upstream.ollama}`
    const running = []
    for (const one of pairs()) running.push(await startGateway(one, url))
    for (const { name, port } of running) {
      const { status, text } = await once(port, request(path, bodyOf("call")))
      if (status !== 200) throw new Error(`${name}: ${status} ${text}`)
      await load(port, request(path, bodyOf("call")), 16, quick ? 50 : 12_000)
    }
    for (const [model, count, warm] of [
      ["call", 2_000, 8_000],
      ["burst", 400, 1_500],
      ["paced", 64, 64]
    ]) {
      // After another kind of load the heap and the compiled code have to settle again.
      if (model === "paced" && !quick) {
        for (const { port } of running) await load(port, request(path, bodyOf(model)), 64, 1_500)
      }
      for (const connections of [1, 16, 64]) {
        const message = request(path, bodyOf(model))
        const isLone = model === "paced" && connections === 1
        // A connection that is made for a few answers only is part of what they cost.
        const least = quick || isLone ? connections : 4 * connections
        const n = isLone ? lone.count : Math.max(least, Math.ceil(quick ? count / 10 : count))
        if (isLone) await Promise.all(running.map(({ port }) => load(port, message, 1, lone.warm)))
        else {
          // One connection takes longest: calls for 10,000 requests and more.
          const settling = model === "call" && connections === 1 ? 3 * warm : warm
          for (const { port } of running)
            await load(port, message, connections, quick ? Math.max(connections, model === "paced" ? 1 : 50) : settling)
        }
        const title = `gateway, ${kind} server, ${model}, ${connections} connection${connections === 1 ? "" : "s"}`
        const measure = async (one) => {
          const before = cpuOf(one)
          await load(one.port, message, connections, n)
          return (cpuOf(one) - before) / n
        }
        await compare(title, "us/request", running, measure, isLone ? lone.rounds : rounds)
      }
    }
    await stop(running)
  }
}

// -----------------------------------------------------------------------------
// the library
// -----------------------------------------------------------------------------

/** The worker of `main.mjs`, bundled where it finds the packages of a build. */
const workerOf = async ({ root }) => {
  const cache = join(root, "node_modules/.cache")
  mkdirSync(cache, { recursive: true })
  const outdir = mkdtempSync(join(cache, "aicortex-compare-"))
  caches.push(outdir)
  await build({
    entryPoints: [join(here, "bench/child.ts")],
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node20",
    packages: "external",
    logLevel: "warning"
  })
  mkdirSync(join(outdir, "node_modules"))
  symlinkSync(root, join(outdir, "node_modules/aicortex"), "dir")
  return join(outdir, "child.js")
}

/** A worker that answers one question at a time. */
const startWorker = async (file, name, ...args) => {
  const env = { ...process.env, BENCH_EFFECT: "aicortex", BENCH_PROMISE: "aicortex/promise" }
  const child = keep(fork(file, args, { stdio: ["ignore", 2, 2, "ipc"], env }))
  const next = () =>
    new Promise((done, failed) => {
      const ended = (code) => failed(new Error(`${name} ${args[0]} ended (${code})`))
      child.once("exit", ended)
      child.once("message", (reply) => {
        child.off("exit", ended)
        if (reply.type === "failed" || reply.type === "not built") {
          failed(new Error(`${name} ${args[0]}: ${reply.message ?? reply.type}`))
        } else done(reply)
      })
    })
  const first = await next()
  return {
    name,
    child,
    first,
    ask: (task) => {
      const reply = next()
      child.send(task)
      return reply
    }
  }
}

if (only.has("library")) {
  const files = new Map()
  for (const one of builds) files.set(one.name, await workerOf(one))
  const servers = await startWorker(files.get("this"), "this", "servers", "2")
  const addresses = JSON.stringify(servers.first.addresses)
  const cases = [
    ["call, one at a time", "call", 1, 300],
    ["call, 32 at once", "call", 32, 300],
    ["stream, one token per read, 8 at once", "trickle", 8, 0],
    ["stream, in one burst, 8 at once", "burst", 8, 300]
  ]
  for (const [variant, title, skipped] of [
    ["facade", "Promises, Ollama"],
    ["facadeOpenai", "Promises, OpenAI"],
    ["effect", "Effect, Ollama"],
    ["effectForEach", "Effect per event, Ollama", "call"]
  ]) {
    const running = []
    for (const one of pairs()) running.push(await startWorker(files.get(one.name), one.name, variant, addresses))
    for (const [what, scenario, concurrency, milliseconds] of cases) {
      if (scenario === skipped) continue
      const task = { type: "batch", scenario, concurrency, milliseconds: quick ? milliseconds / 10 : milliseconds }
      // Compiles what will run.
      for (const one of running) for (let i = 0; i < (quick ? 1 : 6); i++) await one.ask(task)
      await compare(
        `library, ${title}, ${what}`,
        scenario === "call" ? "us/call" : "us/token",
        running,
        async (one) => {
          const { cpu, units } = await one.ask(task)
          return (cpu * 1000) / units
        },
        // They are short.
        quick ? rounds : 4 * rounds
      )
    }
    await stop(running)
  }
  await stop([servers])
}

// -----------------------------------------------------------------------------
// starts
// -----------------------------------------------------------------------------

/** CPU of a process from its start to its end, in milliseconds. The kernel counts that of children in ticks of 10 ms. */
const cpuOfRun = (root, args) =>
  new Promise((done, failed) => {
    const code = `
const { spawnSync } = require("node:child_process")
const { readFileSync } = require("node:fs")
const { status } = spawnSync(process.execPath, ${JSON.stringify(args)}, { stdio: "ignore" })
const stat = readFileSync("/proc/self/stat", "utf8")
const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
if (status !== 0) throw new Error("ended with " + status)
console.log((Number(fields[13]) + Number(fields[14])) * 10)`
    const child = keep(spawn(process.execPath, ["-e", code], { cwd: root, stdio: ["ignore", "pipe", "inherit"] }))
    let text = ""
    child.stdout.on("data", (part) => (text += part))
    child.on("close", (status) => (status === 0 ? done(Number(text)) : failed(new Error(`${root}: ${args.join(" ")}`))))
  })

if (only.has("startup")) {
  for (const [title, ...args] of [
    ["aicortex --version", "dist/bin.js", "--version"],
    ["aicortex --help", "dist/bin.js", "--help"],
    ['import "aicortex/promise"', "--input-type=module", "-e", 'import "aicortex/promise"'],
    ['import "aicortex"', "--input-type=module", "-e", 'import "aicortex"']
  ]) {
    const samples = new Map(builds.map(({ name }) => [name, []]))
    for (const one of Array.from({ length: quick ? 1 : 3 }, pairs).flat()) {
      // The mean of five, because of the ticks.
      let sum = 0
      for (let i = 0; i < 5; i++) sum += await cpuOfRun(one.root, args)
      samples.get(one.name).push([sum / 5])
    }
    row(`start, ${title}`, "ms", samples)
  }
}

// -----------------------------------------------------------------------------
// the table
// -----------------------------------------------------------------------------

const all = [["CPU", "unit", "other", "this", "change", "+-", "at most +3 %"], ...rows]
const widths = all[0].map((_, i) => Math.max(...all.map((one) => one[i].length)))
for (const one of all) {
  process.stdout.write(
    `${one.map((text, i) => (i < 2 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join("  ")}\n`
  )
}
process.exit(options.strict && missed ? 1 : 0)
