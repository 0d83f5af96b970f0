import { type ChildProcess, fork, spawn } from "node:child_process"
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { constants, getPriority, setPriority, tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { table } from "../harness.js"
import { run as attacker, type Order, plans, type Report, type Right } from "./attacks.js"
import type { Damage } from "./connections.js"
import { GoodClient, type Tally } from "./good.js"
import { run as servers } from "./servers.js"

const args = process.argv.slice(2)
const text = (name: string): string | undefined => {
  const at = args.indexOf(`--${name}`)
  return at === -1 ? undefined : args[at + 1]
}
const option = (name: string, otherwise: number): number => Number(text(name) ?? otherwise)
const seconds = option("seconds", 20)
const quietSeconds = option("quiet", 12)
const rate = option("rate", 7)
const serverCount = option("servers", 8)
const maxRatio = option("max-ratio", 2)
const only = text("only")?.split(",")
const self = fileURLToPath(import.meta.url)

/** Those of the README's example. */
const limits = { requestsPerMinute: 600, tokensPerMinute: 500_000, concurrency: 16 }

const at = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
const quantiles = (values: ReadonlyArray<number>) => {
  const sorted = [...values].sort((a, b) => a - b)
  return { p50: at(sorted, 0.5), p99: at(sorted, 0.99) }
}

/** One phase as the good client and the machine saw it. */
interface Phase extends Tally {
  /** The most of the gateway's resident memory, in MB, and how many cores it used. */
  readonly memory: number
  readonly cores: number
}

const main = async (): Promise<boolean> => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-tenants-"))
  const children: Array<ChildProcess> = []
  process.on("exit", () => {
    for (const child of children) child.kill("SIGKILL")
    rmSync(folder, { recursive: true, force: true })
  })
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1))
  const child = (...words: ReadonlyArray<string>): ChildProcess => {
    const started = fork(self, words, { stdio: ["ignore", "inherit", "inherit", "ipc"] })
    children.push(started)
    return started
  }
  const upstream = child("--role", "servers", "--servers", String(serverCount))
  const urls = await new Promise<ReadonlyArray<string>>((resolve) => upstream.once("message", resolve))

  const chosen = plans.flatMap((plan, at) =>
    only === undefined || only.some((word) => `${plan.group}: ${plan.name}`.includes(word))
      ? [{ plan, at, key: keyOf(plan.right, at) }]
      : []
  )
  const config = join(folder, "config.json")
  writeFileSync(
    config,
    JSON.stringify({
      servers: urls.map((url) => ({ url, maxInFlight: 4 })),
      store: join(folder, "store.db"),
      gateway: {
        log: "json",
        keys: [
          { name: "good", key: "sk-good", ...limits },
          ...chosen.flatMap(({ at, key, plan }) =>
            plan.right === "none" ? [] : [{ name: `attacker-${at}`, key, ...(plan.right === "limited" ? limits : {}) }]
          )
        ]
      }
    })
  )
  const words = ["serve", "--port", "0", "--json", "--drain", "2", "--config", config]
  const gateway = spawn(process.execPath, [self, "--role", "gateway", ...words], {
    env: { PATH: process.env["PATH"], HOME: folder },
    stdio: ["ignore", "pipe", openSync(join(folder, "log"), "w")]
  })
  children.push(gateway)
  let ended = false
  const port = await new Promise<number>((resolve, reject) => {
    gateway.stdout?.on("data", (part) => {
      const url = /127\.0\.0\.1:(\d+)/.exec(String(part))
      if (url !== null) resolve(Number(url[1]))
    })
    gateway.once("exit", (code, signal) => {
      ended = true
      reject(new Error(`the gateway ended (${signal ?? code}): ${readFileSync(join(folder, "log"), "utf8")}`))
    })
  })
  const enemy = child("--role", "attacker")
  setPriority(enemy.pid as number, Math.min(constants.priority.PRIORITY_LOW, getPriority() + 10))
  const reportsOf = <A extends Report["is"]>(is: A) =>
    new Promise<Report & { is: A }>((resolve) => {
      const hear = (report: Report) => {
        if (report.is !== is) return
        enemy.off("message", hear)
        resolve(report as Report & { is: A })
      }
      enemy.on("message", hear)
    })
  const order = (order: Order) => enemy.send(order)

  const proc = (file: string) => (ended ? "" : readFileSync(`/proc/${gateway.pid}/${file}`, "utf8"))
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(proc("status"))?.[1] ?? 0) / 1024
  /** Seconds of CPU; the kernel counts in hundredths. */
  const cpu = () => {
    const fields = proc("stat").split(") ")[1]?.split(" ") ?? []
    return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / 100
  }

  const good = new GoodClient(`http://127.0.0.1:${port}`, "sk-good")
  const phase = async (time: number): Promise<Phase> => {
    let most = memory()
    const timer = setInterval(() => {
      most = Math.max(most, memory())
    }, 100)
    const before = cpu()
    const began = performance.now()
    const tally = await good.phase(time, rate)
    clearInterval(timer)
    return { ...tally, memory: most, cores: (cpu() - before) / ((performance.now() - began) / 1_000) }
  }

  await good.prepare(10)
  await phase(Math.min(5, quietSeconds))
  const rows: Array<Array<string>> = []
  const problems: Array<string> = []
  const results: Array<object> = []
  let ok = true
  let before = await phase(quietSeconds)
  for (const { at, key, plan } of chosen) {
    order({ is: "prepare", at, port, key })
    await reportsOf("prepared")
    const done = reportsOf("done")
    order({ is: "attack", seconds: seconds + 1 })
    // The attack is under way when the good client is measured.
    await sleep(500)
    const during = await phase(seconds)
    const { damage } = await done
    await sleep(1_000)
    const after = await phase(quietSeconds)
    const quiet = {
      first: quantiles([...before.first, ...after.first]),
      total: quantiles([...before.total, ...after.total])
    }
    const first = quantiles(during.first)
    const total = quantiles(during.total)
    const ratio = Math.max(first.p99 / quiet.first.p99, total.p99 / quiet.total.p99)
    const failed = during.failed + after.failed
    const lost = during.lost + after.lost
    const held = failed === 0 && lost === 0 && ratio <= maxRatio && !ended
    ok &&= held
    for (const one of [...during.problems, ...after.problems].slice(0, 3)) problems.push(`${plan.name}: ${one}`)
    results.push({
      name: plan.name,
      group: plan.group,
      requests: during.requested,
      failed,
      lost,
      first,
      total,
      quiet,
      ratio,
      memory: during.memory,
      cores: during.cores,
      damage
    })
    rows.push([
      `${plan.group}: ${plan.name}`,
      String(during.requested),
      String(failed),
      String(lost),
      `${first.p50.toFixed(0)}/${first.p99.toFixed(0)}`,
      `${quiet.first.p50.toFixed(0)}/${quiet.first.p99.toFixed(0)}`,
      `${total.p50.toFixed(0)}/${total.p99.toFixed(0)}`,
      `${quiet.total.p50.toFixed(0)}/${quiet.total.p99.toFixed(0)}`,
      `${ratio.toFixed(2)}x`,
      during.memory.toFixed(0),
      during.cores.toFixed(2),
      shown(damage, seconds + 1),
      held ? "ok" : "MISS"
    ])
    if (!args.includes("--json")) {
      console.error(rows.at(-1)?.join("  "))
      for (const one of [...during.problems, ...after.problems].slice(0, 3)) console.error(`    ${one}`)
    }
    before = after
  }
  const last = await good.checkAll()
  if (last.lost > 0 || last.failed > 0) ok = false
  problems.push(...last.problems)
  good.close()
  if (args.includes("--json")) console.log(JSON.stringify({ attacks: results, lost: last.lost, ended, problems }))
  else {
    const header = [
      "attack",
      "requests",
      "failed",
      "lost",
      "first",
      "quiet",
      "total",
      "quiet",
      "p99",
      "MB",
      "cores",
      "what the attacker got",
      ""
    ]
    console.log(
      `One key asks ${rate} times per second beside an attacker; p50/p99 in milliseconds of its streams' first byte, and of whole answers\n`
    )
    console.log(table(header, rows))
    console.log(`\nturns lost at the end, of all sessions: ${last.lost}`)
    for (const problem of problems.slice(0, 40)) console.log(`  ${problem}`)
  }
  return ok && !ended
}

/** Each attack begins with all that a key may use. */
function keyOf(right: Right, at: number): string {
  return right === "none" ? "sk-wrong" : `sk-attacker-${at}`
}

const shown = ({ bytes, connections, statuses }: Damage, time: number): string => {
  const answers = Object.entries(statuses).map(([status, count]) => `${status}: ${count}`)
  return [...answers, `${connections} connections`, `${(bytes / 1e6 / time).toFixed(1)} MB/s`].join(", ")
}

const role = text("role")
if (role === "attacker") attacker()
else if (role === "servers") await servers(serverCount)
else if (role === "gateway") {
  const { main: cli } = await import("../../src/cli/main.js")
  cli(process.argv.slice(4))
} else process.exit((await main()) ? 0 : 1)
