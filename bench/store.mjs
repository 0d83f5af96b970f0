// What the store costs: CPU per request without one, with SQLite and with PostgreSQL, interleaved, and of one, two and
// three gateways with one PostgreSQL: `node bench/store.mjs [--quick] [--rounds N]`; see README.md. Measures dist/bin.js.
import { fork, spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import * as Store from "../dist/Store.js"
import { cpuOf } from "./gateway/cpu.mjs"
import { load, once, request, steady } from "./gateway/load.mjs"
import * as Postgres from "./replicas/postgres.mjs"

const root = fileURLToPath(new URL("..", import.meta.url))
const quick = process.argv.includes("--quick")
const at = process.argv.indexOf("--rounds")
const rounds = at === -1 ? (quick ? 3 : 15) : Number(process.argv[at + 1])
const most = 1.03

const folder = mkdtempSync(join(tmpdir(), "aicortex-store-"))
const children = new Set()
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL")
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1))

const here = { host: () => "127.0.0.1", start: (_, command, args, options) => spawn(command, args, options) }
const postgres = await Postgres.make(here, "postgres", folder, 21_000 + (process.pid % 9_000))
children.add(postgres)
const upstream = await new Promise((resolve) => {
  const child = fork(join(root, "bench/gateway/upstream.mjs"))
  children.add(child)
  child.once("message", resolve)
})
const config = join(folder, "config.json")
writeFileSync(
  config,
  JSON.stringify({ servers: [{ url: `http://127.0.0.1:${upstream.openai}/v1`, maxInFlight: 10_000 }] })
)

const gateways = new Set()
const stopGateways = () => {
  for (const child of gateways) child.kill("SIGKILL")
}
const start = (store) =>
  new Promise((resolve, reject) => {
    const args = ["--no-memory-reducer", "dist/bin.js", "serve", "--port", "0", "--json", "--config", config]
    const child = spawn(process.execPath, args, {
      cwd: root,
      env: { PATH: process.env.PATH, HOME: folder, AICORTEX_STORE: store },
      stdio: ["ignore", "pipe", "inherit"]
    })
    children.add(child)
    gateways.add(child)
    let text = ""
    child.stdout.on("data", (part) => {
      text += part
      const url = /http:\/\/127\.0\.0\.1:(\d+)/.exec(text)
      if (url !== null) resolve({ pid: child.pid, port: Number(url[1]) })
    })
    child.on("exit", (code) => {
      children.delete(child)
      gateways.delete(child)
      reject(new Error(`a gateway ended (${code}): ${text}`))
    })
  })

const sent = request("/v1/chat/completions", {
  model: "call",
  stream: false,
  messages: [{ role: "user", content: "Why is the sky blue?" }]
})
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1]
const count = quick ? 600 : 2_000
const connections = 16

/** Processes of each kind: two that run the same code may differ by 5 %, as V8 has compiled it. */
const processes = quick ? 2 : 6

/** Requests per second of each gateway where there are several: all of them leave a part of two cores idle. */
const rate = 700

/** CPU per request of these gateways together, in microseconds. */
const measured = async (gateways, each, send) => {
  const before = gateways.map(cpuOf)
  await Promise.all(gateways.map(({ port }) => send(port)))
  return gateways.reduce((sum, gateway, i) => sum + cpuOf(gateway) - before[i], 0) / (each * gateways.length)
}

/** As many requests as one gateway can answer. */
const saturated = (gateways) => measured(gateways, count, (port) => load(port, sent, connections, count))

/** So many per second for each, however many there are: what one does not get because another has the core is no cost of its own. */
const offered = (gateways) => measured(gateways, count / 2, (port) => steady(port, sent, connections, count / 2, rate))

/** Of each variant several groups of gateways, which are measured one after the other: what each costs, by the first. */
const compare = async (variants, base, measure) => {
  const all = Object.entries(variants).flatMap(([name, groups]) =>
    groups.map((gateways) => ({ name, gateways, us: [] }))
  )
  for (const { gateways } of all) {
    for (const { port } of gateways) {
      const { status } = await once(port, sent)
      if (status !== 200) throw new Error(`a gateway answers with ${status}`)
    }
    for (let i = 0; i < (quick ? 1 : 4); i++) await saturated(gateways)
  }
  for (let round = 0; round < rounds; round++) {
    for (const one of round % 2 === 1 ? all.toReversed() : all) one.us.push(await measure(one.gateways))
  }
  const costs = (name) => all.filter((one) => one.name === name).map(({ us }) => median(us))
  const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length
  const error = (values) =>
    Math.sqrt(
      values.reduce((sum, one) => sum + (one - mean(values)) ** 2, 0) / Math.max(1, values.length - 1) / values.length
    )
  return Object.keys(variants).map((name) => {
    const own = costs(name)
    const ratio = mean(own) / mean(costs(base))
    const spread = own.length > 1 ? ` +- ${((error(own) / mean(own)) * ratio).toFixed(3)}` : ""
    console.log(`${name.padEnd(28)} ${mean(own).toFixed(0).padStart(5)} us per request  ${ratio.toFixed(3)}x${spread}`)
    return ratio
  })
}

/** A database of one gateway alone. */
const database = async (name) => {
  const create = Effect.flatMap(Store.make(postgres.url), ({ use }) =>
    use((sql) => sql.unsafe(`CREATE DATABASE ${name}`))
  )
  await Effect.runPromise(Effect.scoped(create))
  return Object.assign(new URL(postgres.url), { pathname: `/${name}` }).href
}
const several = async (store) => {
  const groups = []
  for (let i = 0; i < processes; i++) groups.push([await start(await store(i))])
  return groups
}
const alone = await compare(
  {
    "without a store": await several(() => "off"),
    SQLite: await several((i) => join(folder, `store${i}.db`)),
    PostgreSQL: await several((i) => database(`alone${i}`))
  },
  "without a store",
  saturated
)
stopGateways()

// Two or three gateways, PostgreSQL, the upstream and the load share the cores, and their caches, of one machine: what
// that costs is seen at as many gateways without a store.
const shared = []
const without = []
for (let i = 0; i < 3; i++) {
  shared.push(await start(postgres.url))
  without.push(await start("off"))
}
const groups = {}
for (const [i, name] of ["one gateway", "two gateways", "three gateways"].entries()) {
  groups[`${name}, no store`] = [without.slice(0, i + 1)]
  groups[`${name}, PostgreSQL`] = [shared.slice(0, i + 1)]
}
console.log(`\n${rate} requests per second for each:`)
const ratios = await compare(groups, "one gateway, no store", offered)
const growth = (kind) => [2, 4].map((at) => (ratios[at + kind] / ratios[kind]).toFixed(3))
const holds = alone.every((ratio) => ratio <= most)
console.log(`with a store <= ${most}x without: ${holds ? "ok" : "MISS"}`)
console.log(
  `two and three gateways, by one: ${growth(0).join("x and ")}x without a store, ${growth(1).join("x and ")}x with PostgreSQL`
)
for (const child of children) if (child !== postgres) child.kill("SIGKILL")
await postgres.stop()
process.exit(process.argv.includes("--strict") && !holds ? 1 : 0)
