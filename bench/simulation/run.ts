/** The fleet simulation. `node bench/simulation.mjs` bundles and starts this; README.md says what it shows. */
import { writeFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { isMainThread, parentPort, Worker } from "node:worker_threads"
import { table } from "../harness.js"
import { chart, type Panel } from "./chart.js"
import { contenders } from "./contenders.js"
import { type Measures, objective, type Spread, spread } from "./metrics.js"
import { leastBusy, warm } from "./router.js"
import { scenarios } from "./scenarios.js"
import { type Result, trial } from "./trial.js"
import { requestsFor } from "./world.js"

interface Task {
  readonly scenario: string
  readonly servers: number
  readonly requests: number
  readonly seed: number
  readonly names: ReadonlyArray<string>
}

const perform = (task: Task): ReadonlyArray<Result> => {
  const scenario = scenarios.find(({ name }) => name === task.scenario)
  if (scenario === undefined) throw new Error(`There is no scenario ${task.scenario}.`)
  const chosen = contenders.filter(({ name }) => task.names.includes(name))
  return trial(scenario, task.servers, task.requests, task.seed, chosen)
}

const usage = (message: string): never => {
  console.error(`${message}
Usage: node bench/simulation.mjs [--servers 100|10,100,…|all] [--seeds 20] [--scenario NAME,…] [--policy NAME,…]
         [--quick] [--strict] [--json FILE] [--svg FILE]
Scenarios: ${scenarios.map(({ name }) => name).join(", ")}
Policies: ${contenders.map(({ name }) => name).join(", ")}`)
  process.exit(2)
}

const readOptions = () => {
  try {
    return parseArgs({
      options: {
        servers: { type: "string" },
        seeds: { type: "string" },
        scenario: { type: "string" },
        policy: { type: "string" },
        quick: { type: "boolean", default: false },
        strict: { type: "boolean", default: false },
        json: { type: "string" },
        svg: { type: "string" }
      }
    }).values
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error))
  }
}

/** Spreads the tasks over the machine's cores; the results come in the order of the tasks. */
const performAll = (tasks: ReadonlyArray<Task>): Promise<ReadonlyArray<ReadonlyArray<Result>>> =>
  new Promise((resolve, reject) => {
    const results: Array<ReadonlyArray<Result>> = new Array(tasks.length)
    let next = 0
    let done = 0
    const workers = Array.from({ length: Math.min(tasks.length, availableParallelism()) }, () => {
      const worker = new Worker(new URL(import.meta.url))
      let current = -1
      const give = () => {
        current = next++
        const task = tasks[current]
        if (task !== undefined) worker.postMessage(task)
      }
      worker.on("message", (result: ReadonlyArray<Result>) => {
        results[current] = result
        if (++done < tasks.length) return give()
        for (const other of workers) void other.terminate()
        resolve(results)
      })
      worker.on("error", reject)
      give()
      return worker
    })
  })

const showSpread = (values: Spread, digits: number): string =>
  `${values.median.toFixed(digits)} (${values.min.toFixed(digits)}–${values.max.toFixed(digits)})`

const main = async (): Promise<void> => {
  const options = readOptions()
  const sizes =
    options.servers === "all"
      ? [10, 100, 1_000, 10_000]
      : (options.servers ?? (options.quick ? "20" : "100")).split(",").map(Number)
  if (sizes.some((size) => !Number.isInteger(size) || size < 1)) usage("--servers must be numbers from 1.")
  const seeds = Number(options.seeds ?? (options.quick ? 3 : 20))
  if (!Number.isInteger(seeds) || seeds < 1) usage("--seeds must be a number from 1.")
  const all = contenders.map(({ name }) => name)
  const pick = (known: ReadonlyArray<string>, requested: string | undefined, what: string): ReadonlyArray<string> => {
    if (requested === undefined) return known
    const names = requested.split(",").map((name) => name.trim())
    const unknown = names.filter((name) => !known.includes(name))
    if (unknown.length > 0) usage(`There is no ${what} ${unknown.join(", ")}.`)
    return known.filter((name) => names.includes(name))
  }
  const chosen = pick(
    scenarios.map(({ name }) => name),
    options.scenario,
    "scenario"
  )
  const names = pick(all, options.policy, "policy")
  const requestsOf = (servers: number) => (options.quick ? Math.min(2_000, requestsFor(servers)) : requestsFor(servers))
  const tasks: ReadonlyArray<Task> = sizes.flatMap((servers) =>
    chosen.flatMap((scenario) =>
      Array.from({ length: seeds }, (_, i) => ({
        scenario,
        servers,
        requests: requestsOf(servers),
        seed: i + 1,
        names
      }))
    )
  )
  const results = await performAll(tasks)
  const of = (servers: number, scenario: string, name: string): ReadonlyArray<Result> =>
    tasks.flatMap((task, i) =>
      task.servers === servers && task.scenario === scenario
        ? (results[i] as ReadonlyArray<Result>).filter((result) => result.name === name)
        : []
    )
  const spreadOf = (found: ReadonlyArray<Result>, key: keyof Measures): Spread =>
    spread(found.map(({ measures }) => measures[key]))

  console.log(`Fleet simulation: median of ${seeds} seeds (least–greatest). Times in seconds, from the question to its first
token, with all attempts and queues; a question without one counts as 120 s. lost: failed, although the oracle answers
it. goodput: tokens/s of complete answers that began within ${objective} s. top: share of the busiest tenth of the servers.`)
  const panels: Array<Panel> = []
  const json: Array<unknown> = []
  for (const servers of sizes) {
    const groups: Array<Panel["groups"][number]> = []
    for (const scenario of scenarios.filter(({ name }) => chosen.includes(name))) {
      console.log(`\n${servers} servers, ${requestsOf(servers)} requests: ${scenario.name} – ${scenario.about}\n`)
      const present = names.filter((name) => of(servers, scenario.name, name).length > 0)
      console.log(
        table(
          ["policy", "p50", "p99", "failed", "lost", "loads", "attempts", "goodput", "top"],
          present.map((name) => {
            const found = of(servers, scenario.name, name)
            return [
              name,
              showSpread(spreadOf(found, "p50"), 2),
              showSpread(spreadOf(found, "p99"), 2),
              showSpread(spreadOf(found, "failed"), 0),
              showSpread(spread(found.map(({ lost }) => lost)), 0),
              showSpread(spreadOf(found, "loads"), 0),
              spreadOf(found, "attempts").median.toFixed(0),
              spreadOf(found, "goodput").median.toFixed(0),
              `${(spreadOf(found, "top").median * 100).toFixed(0)} %`
            ]
          })
        )
      )
      groups.push({
        name: scenario.name,
        rows: present.map((name) => {
          const found = of(servers, scenario.name, name)
          return { name, p50: spreadOf(found, "p50"), p99: spreadOf(found, "p99") }
        })
      })
      json.push({
        servers,
        scenario: scenario.name,
        requests: requestsOf(servers),
        policies: Object.fromEntries(present.map((name) => [name, of(servers, scenario.name, name)]))
      })
    }
    panels.push({ title: `${servers} servers`, groups })
  }

  // ---------------------------------------------------------------------------
  // targets
  // ---------------------------------------------------------------------------

  let missed = 0
  const subjects = names.filter((name) => [leastBusy, warm].some((subject) => subject.name === name))
  const rows = sizes.flatMap((servers) =>
    chosen.flatMap((scenario) =>
      subjects.flatMap((name) => {
        const mine = of(servers, scenario, name)
        if (mine.length === 0) return []
        const ratio = (other: string): number => {
          const theirs = of(servers, scenario, other)
          if (theirs.length === 0) return Number.NaN
          return spread(mine.map(({ measures }, i) => measures.p99 / (theirs[i] as Result).measures.p99)).median
        }
        const lost = mine.reduce((sum, result) => sum + result.lost, 0)
        const judge = (value: number, limit: number): string => {
          if (Number.isNaN(value)) return "not measured"
          const good = value <= limit
          if (!good && servers === 100) missed++
          return `${value.toFixed(2)} ${good ? "ok" : "MISS"}`
        }
        const judged = of(servers, scenario, "oracle").length === 0 ? Number.NaN : lost
        return [
          [
            `${servers} ${scenario}`,
            name,
            judge(ratio("oracle"), 1.5),
            judge(ratio("random"), 0.5),
            judge(ratio("round-robin"), 0.5),
            judge(judged, 0).replace(".00", "")
          ]
        ]
      })
    )
  )
  console.log(`
Targets, for 100 servers: p99 of the time to first token, median of the seeds' ratios, at most 1.5 × the oracle's and at
most half of random's and round-robin's; no question fails in any seed that the oracle answers.
`)
  console.log(table(["fleet", "policy", "/ oracle", "/ random", "/ round-robin", "lost"], rows))

  if (options.json !== undefined)
    writeFileSync(options.json, `${JSON.stringify({ seeds, runs: json }, undefined, 1)}\n`)
  const svg = options.svg ?? process.env["BENCH_SVG"]
  if (svg !== undefined) {
    const subtitle = `Rings: p50. Dots: p99, with the range over ${seeds} seeds. Logarithmic; less is better.`
    writeFileSync(svg, chart(panels, names, subtitle))
    console.log(`\nChart: ${options.svg ?? "bench/simulation.svg"}`)
  }
  if (options.strict && missed > 0) process.exitCode = 1
}

if (isMainThread) await main()
else parentPort?.on("message", (task: Task) => parentPort?.postMessage(perform(task)))
