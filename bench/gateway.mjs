// The gateway next to Portkey's and to a pass-through written by hand: `node bench/gateway.mjs [--quick] [--strict]
// [--rounds N] [--only=call,burst,paced] [--without=portkey] [--sleep]`; see README.md. Measures dist/bin.js: build it first.
import { fork, spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { keepAwake } from "./gateway/awake.mjs"
import { load, once, request } from "./gateway/load.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const args = process.argv.slice(2)
const flag = (name) => args.includes(`--${name}`)
const option = (name, otherwise) => {
  const inline = args.find((arg) => arg.startsWith(`--${name}=`))
  if (inline !== undefined) return inline.slice(name.length + 3)
  const at = args.indexOf(`--${name}`)
  return at === -1 ? otherwise : (args[at + 1] ?? otherwise)
}
const quick = flag("quick")
const rounds = Number(option("rounds", quick ? "2" : "9"))
const only = option("only", "call,burst,paced").split(",")
const without = option("without", "").split(",")

// -----------------------------------------------------------------------------
// processes
// -----------------------------------------------------------------------------

const children = []
const folder = mkdtempSync(join(tmpdir(), "aicortex-bench-"))
const stop = () => {
  for (const child of children) child.kill("SIGKILL")
  rmSync(folder, { recursive: true, force: true })
}
process.on("exit", stop)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

/**
 * Starts a server that prints `{"url": …}`, and gives its port. Some 100 s into its life V8 makes an idle process small
 * and throws compiled code away; whose next thousand requests then cost three times as much is chance, so nobody has it.
 */
const start = (name, command, env = {}) =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--no-memory-reducer", ...command], {
      cwd: root,
      env: { PATH: process.env.PATH, HOME: folder, ...env },
      stdio: ["ignore", "pipe", flag("verbose") ? "inherit" : "ignore"]
    })
    children.push(child)
    let text = ""
    child.stdout.on("data", (part) => {
      text += part
      const url = /http:\/\/127\.0\.0\.1:(\d+)/.exec(text)
      if (url !== null) resolve({ name, pid: child.pid, port: Number(url[1]) })
    })
    child.on("exit", (code) => reject(new Error(`${name} ended (${code}): ${text}`)))
  })

const upstream = await new Promise((resolve) => {
  const child = fork(join(root, "bench/gateway/upstream.mjs"))
  children.push(child)
  child.once("message", resolve)
})

const ours = (kind) => {
  const file = join(folder, `${kind}.json`)
  const url = kind === "openai" ? `http://127.0.0.1:${upstream.openai}/v1` : `http://127.0.0.1:${upstream.ollama}`
  writeFileSync(file, JSON.stringify({ servers: [{ url, maxInFlight: 10_000 }] }))
  return start(`ours/${kind}`, ["dist/bin.js", "serve", "--port", "0", "--json", "--config", file], {
    OLLAMA_NUM_PARALLEL: "10000"
  })
}
const portkey = () => {
  const require = createRequire(import.meta.url)
  const entry = join(dirname(require.resolve("@portkey-ai/gateway/package.json")), "build/start-server.js")
  return start("portkey", ["--require", join(root, "bench/gateway/loopback.cjs"), entry, "--headless"], {
    NODE_ENV: "production"
  })
}

const raw = (kind) => start(`raw/${kind}`, ["bench/gateway/raw.mjs", `http://127.0.0.1:${upstream[kind]}`])

const variants = [
  { ...(await raw("openai")), path: "/v1/chat/completions" },
  { ...(await ours("openai")), path: "/v1/chat/completions" },
  { ...(await raw("ollama")), path: "/api/chat" },
  { ...(await ours("ollama")), path: "/v1/chat/completions" },
  ...(without.includes("portkey")
    ? []
    : [
        {
          ...(await portkey()),
          path: "/v1/chat/completions",
          headers: {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": `http://127.0.0.1:${upstream.openai}/v1`,
            authorization: "Bearer none"
          }
        }
      ]),
  { name: "direct", port: upstream.openai, path: "/v1/chat/completions" }
]

/** CPU of all threads of a process, in microseconds. */
const cpuOf = (pid) => {
  if (pid === undefined) return Number.NaN
  let total = 0
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      total += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0])
    } catch {
      // The thread has ended.
    }
  }
  return total / 1000
}
const memoryOf = (pid) =>
  pid === undefined
    ? Number.NaN
    : Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024

// -----------------------------------------------------------------------------
// cores
// -----------------------------------------------------------------------------

const awake = !flag("sleep") && keepAwake()

// -----------------------------------------------------------------------------
// rounds
// -----------------------------------------------------------------------------

const median = (values) => {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b)
  return sorted.length === 0 ? Number.NaN : sorted[sorted.length >> 1]
}
const shuffle = (values) => {
  const all = [...values]
  for (let i = all.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1))
    ;[all[i], all[j]] = [all[j], all[i]]
  }
  return all
}

const scenarios = [
  ["call", 1, 1500],
  ["call", 16, 1200],
  ["call", 64, 1600],
  ["burst", 1, 300],
  ["burst", 16, 300],
  ["burst", 64, 300],
  ["paced", 1, 4],
  ["paced", 16, 48],
  ["paced", 64, 128]
]
  .filter(([model]) => only.includes(model))
  .map(([model, connections, count]) => ({
    model,
    connections,
    count,
    at: `${model}, ${connections} connection${connections === 1 ? "" : "s"}`
  }))

const bodyOf = (model) => ({
  model,
  messages: [{ role: "user", content: "Why is the sky blue?" }],
  ...(model === "call" ? { stream: false } : { stream: true })
})

/** The text of an answer, whichever the protocol. */
const said = (text) => {
  const body = text.slice(text.indexOf("\r\n\r\n"))
  return [...body.matchAll(/"content":"((?:[^"\\]|\\.)*)"/g)].map(([, words]) => words).join("")
}

for (const model of only) {
  const expected = said((await once(upstream.openai, request("/v1/chat/completions", bodyOf(model)))).text)
  for (const { headers, name, path, port } of variants) {
    const { status, text } = await once(port, request(path, bodyOf(model), headers))
    if (status !== 200 || said(text) !== expected) {
      process.stderr.write(`${name} does not answer ${model} as it should (${status}):\n${text.slice(0, 2000)}\n`)
      process.exit(1)
    }
  }
}

// What is compiled while it runs is compiled by then.
for (const model of quick ? [] : only.filter((one) => one !== "paced")) {
  for (const { headers, path, port } of variants) {
    await load(port, request(path, bodyOf(model), headers), 16, model === "call" ? 4_000 : 1_000)
  }
}

const results = new Map()
for (const { at, connections, count, model } of scenarios) {
  const n = quick ? Math.max(connections, Math.ceil(count / 4)) : count
  for (let round = -1; round < rounds; round++) {
    for (const { headers, name, path, pid, port } of shuffle(variants)) {
      const before = cpuOf(pid)
      const { elapsed, firsts } = await load(port, request(path, bodyOf(model), headers), connections, n)
      const cpu = (cpuOf(pid) - before) / n
      if (round < 0) continue
      const key = `${at} ${name}`
      const known = results.get(key) ?? { cpu: [], rate: [], first: [] }
      results.set(key, known)
      known.cpu.push(cpu)
      known.rate.push((n / elapsed) * 1000)
      known.first.push(median(firsts))
    }
  }
}

// -----------------------------------------------------------------------------
// Tables
// -----------------------------------------------------------------------------

const ratios = (key, base, field) => {
  const a = results.get(key)?.[field] ?? []
  const b = results.get(base)?.[field] ?? []
  return median(a.map((value, i) => value / b[i]))
}
const lines = []
const targets = []
const target = (text, value, ok, shown) =>
  targets.push([text, shown, Number.isNaN(value) ? "not measured" : ok ? "ok" : "MISS"])
for (const { at, connections, model } of scenarios) {
  for (const { name } of variants) {
    const key = `${at} ${name}`
    const { cpu, first, rate } = results.get(key)
    const base = `${at} raw/${name.endsWith("ollama") ? "ollama" : "openai"}`
    lines.push([
      model,
      connections,
      name,
      median(cpu).toFixed(0),
      ratios(key, base, "cpu").toFixed(2),
      median(rate).toFixed(0),
      model === "call" ? "-" : (median(rate) * 100).toFixed(0),
      median(first).toFixed(2),
      results.has(`${at} portkey`) ? ratios(key, `${at} portkey`, "rate").toFixed(1) : "-"
    ])
  }
}
const print = (header, rows) => {
  const all = [header, ...rows].map((row) => row.map(String))
  const widths = header.map((_, i) => Math.max(...all.map((row) => row[i].length)))
  const show = (row) => row.map((text, i) => (i < 3 ? text.padEnd(widths[i]) : text.padStart(widths[i]))).join("  ")
  process.stdout.write(`${all.map(show).join("\n")}\n\n`)
}
print(["answer", "conns", "variant", "CPU us", "x raw", "req/s", "chunks/s", "first ms", "x portkey"], lines)

for (const { at, connections, model } of scenarios) {
  const cpu = ratios(`${at} ours/openai`, `${at} raw/openai`, "cpu")
  target(`CPU per request, OpenAI to OpenAI, ${at}: <= 2x raw`, cpu, cpu <= 2, `${cpu.toFixed(2)}x`)
  const translated = ratios(`${at} ours/ollama`, `${at} raw/ollama`, "cpu")
  target(
    `CPU per request, Ollama translated, ${at}: <= 3x raw`,
    translated,
    translated <= 3,
    `${translated.toFixed(2)}x`
  )
  if (connections === 1 && model !== "call") {
    for (const kind of ["openai", "ollama"]) {
      const added = median(results.get(`${at} ours/${kind}`).first) - median(results.get(`${at} direct`).first)
      target(`time to first chunk added, ${model}, ${kind}: <= 1 ms`, added, added <= 1, `${added.toFixed(2)} ms`)
    }
  }
  if (results.has(`${at} portkey`) && model !== "paced") {
    const rate = ratios(`${at} ours/openai`, `${at} portkey`, "rate")
    const least = model === "call" ? 5 : 2
    target(
      `${model === "call" ? "requests" : "chunks"} per second, ${at}: >= ${least}x Portkey's`,
      rate,
      rate >= least,
      `${rate.toFixed(1)}x`
    )
  }
}
const memory = Object.fromEntries(variants.map(({ name, pid }) => [name, memoryOf(pid)]))
if (memory.portkey !== undefined) {
  target(
    "resident memory: below Portkey's",
    memory.portkey,
    memory["ours/openai"] < memory.portkey,
    `${memory["ours/openai"].toFixed(0)} MB, ${memory.portkey.toFixed(0)} MB`
  )
}
print(["target", awake ? "measured" : "measured, cores that sleep", ""], targets)
process.exit(flag("strict") && targets.some(([, , verdict]) => verdict !== "ok") ? 1 : 0)
