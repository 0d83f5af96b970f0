import { type ChildProcess, fork, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { get } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { run as attacker, type Orders, type Report } from "./attacker.js"

const args = process.argv.slice(2)
const option = (name: string, otherwise: number): number => {
  const at = args.indexOf(`--${name}`)
  return at === -1 ? otherwise : Number(args[at + 1])
}
/** What `/health` may take, and the memory that may be added, in milliseconds and MB. */
const maxHealth = option("max-health", 250)
const maxGrowth = option("max-growth", 400)
const maxStop = option("max-stop", 5_000)

const main = async (): Promise<boolean> => {
  const seed = option("seed", 1)
  const count = option("count", 10_000)
  const longEvery = option("long-every", 250)
  const clients = option("clients", 4)
  const root = fileURLToPath(new URL("../..", import.meta.url))
  const folder = mkdtempSync(join(tmpdir(), "aicortex-schemas-"))
  const children: Array<ChildProcess> = []
  process.on("exit", () => {
    for (const child of children) child.kill("SIGKILL")
    rmSync(folder, { recursive: true, force: true })
  })
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))

  const child = fork(fileURLToPath(import.meta.url), ["--attacker"])
  children.push(child)
  let done = () => {}
  let servers: ReadonlyArray<string> = []
  const listening = new Promise<void>((resolve) => {
    done = resolve
  })
  const seen: Array<Report & { is: "case" }> = []
  child.on("message", (report: Report) => {
    if (report.is === "listening") servers = report.servers
    if (report.is === "case") seen.push(report)
    else done()
  })
  await listening
  const config = join(folder, "config.json")
  writeFileSync(config, JSON.stringify({ servers }))
  const gateway = spawn(process.execPath, ["dist/bin.js", "serve", "--port", "0", "--drain", "2", "--config", config], {
    cwd: root,
    env: { PATH: process.env["PATH"], HOME: folder },
    stdio: ["ignore", "pipe", "pipe"]
  })
  children.push(gateway)
  let said = ""
  const url = await new Promise<string>((resolve, reject) => {
    const hear = (part: Buffer) => {
      said = `${said}${part}`.slice(-2_000)
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0]
      if (found !== undefined) resolve(found)
    }
    gateway.stdout.on("data", hear)
    gateway.stderr.on("data", hear)
    gateway.once("exit", (code) => reject(new Error(`the gateway ended with ${code}: ${said}`)))
  })
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${gateway.pid}/status`, "utf8"))?.[1]) / 1024
  const health = (): Promise<{ readonly began: number; readonly took: number }> =>
    new Promise((resolve, reject) => {
      const began = Date.now()
      const started = performance.now()
      get(`${url}/health`, (response) => {
        response.resume()
        response.on("end", () => resolve({ began, took: performance.now() - started }))
      }).on("error", reject)
    })

  for (let i = 0; i < 20; i++) await health()
  const before = memory()
  let highest = before
  let over = false
  const polls: Array<{ readonly began: number; readonly took: number }> = []
  /** How late a timer of this process is: what the machine adds to each figure. */
  let late = 0
  const poll = async () => {
    while (!over) {
      polls.push(await health())
      highest = Math.max(highest, memory())
      const started = performance.now()
      await sleep(10)
      late = Math.max(late, performance.now() - started - 10)
    }
  }
  const attacked = new Promise<void>((resolve) => {
    done = resolve
  })
  const orders: Orders = { url, seed, count, longEvery, clients }
  const began = performance.now()
  child.send(orders)
  const polling = poll()
  await attacked
  over = true
  await polling
  const seconds = (performance.now() - began) / 1000
  await sleep(1_000)
  const after = memory()

  const statuses: Record<string, number> = {}
  for (const { status } of seen) statuses[status] = (statuses[status] ?? 0) + 1
  const silent = seen.filter(({ status }) => status === 0)
  const took = polls.map((one) => one.took).sort((a, b) => a - b)
  const at = (share: number) => took[Math.min(took.length - 1, Math.floor(took.length * share))] as number
  const slowest = [...polls]
    .sort((a, b) => b.took - a.took)
    .slice(0, 8)
    .map((one) => ({
      ms: Math.round(one.took),
      during: [
        ...new Set(seen.filter((c) => c.began <= one.began + one.took && c.ended >= one.began).map((c) => c.name))
      ].filter((name) => !/^(by chance|mutated)/.test(name))
    }))

  // Told to stop while the attack goes on.
  const stopped = new Promise<number>((resolve) => {
    gateway.removeAllListeners("exit")
    gateway.once("exit", () => resolve(performance.now()))
  })
  child.send({ ...orders, seed: seed + 1, count: 100_000, longEvery: 20 })
  await sleep(1_500)
  const reportedAt = performance.now()
  gateway.kill("SIGTERM")
  const stop = await Promise.race([
    stopped.then((time) => time - reportedAt),
    sleep(60_000).then(() => Number.POSITIVE_INFINITY)
  ])

  const result = {
    seed,
    schemas: seen.length,
    seconds,
    statuses,
    unanswered: silent.map(({ name, problem, began, ended }) => ({ name, problem, ms: ended - began })),
    health: { polls: polls.length, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1), limit: maxHealth, late },
    memory: { before, highest, after, limit: maxGrowth },
    stop: { ms: stop, limit: maxStop },
    slowest
  }
  if (args.includes("--json")) console.log(JSON.stringify(result))
  else {
    const round = (_: string, value: unknown) => (typeof value === "number" ? Math.round(value * 10) / 10 : value)
    console.log(JSON.stringify(result, round, 2))
  }
  const unanswered = statuses["0"] ?? 0
  const failed = Object.keys(statuses).some((status) => Number(status) >= 500)
  return at(1) <= maxHealth && after - before <= maxGrowth && stop <= maxStop && unanswered === 0 && !failed
}

if (args.includes("--attacker")) await attacker()
else process.exit((await main()) ? 0 : 1)
