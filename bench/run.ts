/** The bench. `node bench/main.mjs` bundles and starts this; README.md says what it measures. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import * as Os from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import {
  type Child,
  type Measured,
  mean,
  median,
  type Ratio,
  ratio,
  showRatio,
  shuffle,
  startChild,
  table,
  times
} from "./harness.js"
import { type InstallSize, installSizes } from "./installSize.js"
import { type Addresses, expected, type Scenario, tokensPerStream } from "./servers.js"
import { measureStartup, others, type Startup } from "./startup.js"
import { floorOf, type Name, names, variants } from "./variants/index.js"

const root = process.env["BENCH_ROOT"] ?? process.cwd()

const suiteNames = ["call", "stream", "startup"] as const

const usage = (message: string): never => {
  console.error(`${message}
Usage: node bench/main.mjs [--quick] [--only=${suiteNames}] [--rounds N] [--json FILE] [--strict] [--source]`)
  process.exit(2)
}

const readOptions = () => {
  try {
    return parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        only: { type: "string", default: suiteNames.join(",") },
        rounds: { type: "string" },
        json: { type: "string" },
        strict: { type: "boolean", default: false },
        source: { type: "boolean", default: false }
      }
    }).values
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error))
  }
}

const options = readOptions()
const only = options.only.split(",").map((name) => name.trim())
const unknown = only.filter((name) => !suiteNames.some((suite) => suite === name))
const rounds = Number(options.rounds ?? (options.quick ? 2 : 15))
if (unknown.length > 0) usage(`There is no suite ${unknown.join(", ")}.`)
if (!Number.isInteger(rounds) || rounds < 1) usage("--rounds must be a number from 1.")

/** Milliseconds, except `warmups` (rounds that are not counted) and `streams` (at once). */
const plan = options.quick
  ? { batch: 60, warmups: 0, streams: 4, tick: 1 }
  : { batch: 300, warmups: 3, streams: 8, tick: 2 }

/** One thing to measure, for every variant of its suite. */
interface Case {
  readonly id: string
  readonly title: string
  readonly suite: "call" | "stream"
  readonly scenario: Scenario
  readonly concurrency: number
  /** 0 does it once per place of `concurrency`. */
  readonly milliseconds: number
}

const cases: ReadonlyArray<Case> = (
  [
    {
      id: "call-1",
      title: "Call, one at a time",
      suite: "call",
      scenario: "call",
      concurrency: 1,
      milliseconds: plan.batch
    },
    {
      id: "call-32",
      title: "Call, 32 at once",
      suite: "call",
      scenario: "call",
      concurrency: 32,
      milliseconds: plan.batch
    },
    {
      id: "trickle",
      title: `Stream of ${tokensPerStream} tokens, one per network read, ${plan.streams} at once (the server paces them)`,
      suite: "stream",
      scenario: "trickle",
      concurrency: plan.streams,
      milliseconds: 0
    },
    {
      id: "burst",
      title: `Stream of ${tokensPerStream} tokens in one burst, ${plan.streams} at once`,
      suite: "stream",
      scenario: "burst",
      concurrency: plan.streams,
      milliseconds: plan.batch
    }
  ] satisfies ReadonlyArray<Case>
).filter((one) => only.includes(one.suite))

const problems: Array<string> = []
const missing = new Map<Name, string>()
const samples = new Map<string, Array<Measured | undefined>>()
const samplesOf = (one: Case, name: Name): Array<Measured | undefined> => {
  const key = `${one.id} ${name}`
  const found = samples.get(key) ?? []
  samples.set(key, found)
  return found
}

/** CPU per call or token in microseconds, by round; a hole where there is none. */
const cpuOf = (one: Case, name: Name): ReadonlyArray<number> =>
  samplesOf(one, name).map((sample) => (sample === undefined ? Number.NaN : (sample.cpu * 1000) / sample.units))
const present = (values: ReadonlyArray<number>) => values.filter((value) => !Number.isNaN(value))
const compare = (one: Case, name: Name, base: Name): Ratio | undefined => {
  const bases = cpuOf(one, base)
  const pairs = cpuOf(one, name)
    .map((value, index) => [value, bases[index] ?? Number.NaN] as const)
    .filter(([value, floor]) => !Number.isNaN(value) && !Number.isNaN(floor))
  return ratio(
    pairs.map(([value]) => value),
    pairs.map(([, floor]) => floor)
  )
}

const measured = (one: Case): ReadonlyArray<Name> =>
  names.filter((name) => variants[name].suites.some((suite) => suite === one.suite))

const titleOf = (one: Case, name: Name): string =>
  one.suite === "call" ? variants[name].title.replace(", per chunk", "") : variants[name].title

/** Every variant gives the expected text in every scenario, or it is not measured. */
const check = async (workers: ReadonlyMap<Name, Child>) => {
  await Promise.all(
    [...workers].map(async ([name, worker]) => {
      const scenarios = new Set(cases.filter((one) => measured(one).includes(name)).map((one) => one.scenario))
      for (const scenario of scenarios) {
        const reply = await worker.ask({ type: "check", scenario })
        if (reply.type === "checked" && reply.text === expected[scenario]) continue
        if (reply.type === "not built") missing.set(name, "not built")
        else {
          missing.set(name, "failed")
          problems.push(
            `${variants[name].title}, ${scenario}: ${
              reply.type === "checked"
                ? `gave ${JSON.stringify(reply.text)} and not ${JSON.stringify(expected[scenario])}`
                : reply.type === "failed"
                  ? reply.message
                  : reply.type
            }`
          )
        }
        return
      }
    })
  )
}

const measure = async (addresses: Addresses): Promise<void> => {
  const workers = new Map<Name, Child>()
  try {
    const wanted = names.filter((name) => cases.some((one) => measured(one).includes(name)))
    await Promise.all(
      wanted.map(async (name) => {
        const worker = startChild(name, JSON.stringify(addresses))
        workers.set(name, worker)
        const ready = await worker.next()
        if (ready.type === "failed") problems.push(`${variants[name].title}: ${ready.message}`)
      })
    )
    await check(workers)
    for (const name of missing.keys()) {
      await workers.get(name)?.close()
      workers.delete(name)
    }
    // Suite by suite, so that a library's own housekeeping does not fall into another's batch for long.
    for (const suite of ["call", "stream"] as const) {
      const turns = cases
        .filter((one) => one.suite === suite)
        .flatMap((one) =>
          measured(one)
            .filter((name) => workers.has(name))
            .map((name) => ({ one, name }))
        )
      if (turns.length === 0) continue
      for (let round = -plan.warmups; round < rounds; round++) {
        if (process.stderr.isTTY) process.stderr.write(`\r${suite}: round ${Math.max(round + 1, 0)} of ${rounds} `)
        for (const { one, name } of shuffle(turns)) {
          const { concurrency, milliseconds, scenario } = one
          const reply = await workers.get(name)?.ask({ type: "batch", scenario, concurrency, milliseconds })
          if (reply?.type === "failed") problems.push(`${variants[name].title}, ${one.id}: ${reply.message}`)
          if (round >= 0) samplesOf(one, name)[round] = reply?.type === "measured" ? reply : undefined
        }
      }
      if (process.stderr.isTTY) process.stderr.write("\r\x1b[K")
    }
  } finally {
    await Promise.all([...workers.values()].map((worker) => worker.close()))
  }
}

const report = (one: Case): string => {
  const unit = one.suite === "call" ? "call" : "token"
  const paced = one.scenario === "trickle"
  const header = [
    one.title,
    paced ? "tokens/CPU s" : `${unit}s/s`,
    `CPU us/${unit}`,
    "x floor (min–max)",
    "x floor of its protocol",
    ...(one.suite === "stream" ? ["reads/stream"] : [])
  ]
  const readsOf = (name: Name): number =>
    median(samplesOf(one, name).flatMap((sample) => (sample ? [(sample.reads * tokensPerStream) / sample.units] : [])))
  const rows = measured(one).map((name) => {
    const title = titleOf(one, name)
    const absent = missing.get(name)
    if (absent !== undefined) return [title, absent]
    const all = samplesOf(one, name).flatMap((sample) => (sample === undefined ? [] : [sample]))
    const cpu = median(present(cpuOf(one, name)))
    const rate = paced ? 1e6 / cpu : median(all.map((sample) => (sample.units * 1000) / sample.wall))
    return [
      title,
      rate.toFixed(0),
      cpu.toFixed(cpu < 100 ? 2 : 0),
      showRatio(compare(one, name, "floor")),
      showRatio(compare(one, name, floorOf(name))),
      ...(one.suite === "stream" ? [readsOf(name).toFixed(1)] : [])
    ]
  })
  const note =
    paced && readsOf("floor") < tokensPerStream * 0.95
      ? "\nNote: the machine is too busy for one read per token; see the last column."
      : ""
  return `${table(header, rows)}${note}`
}

const reportStartup = (startups: ReadonlyArray<Startup> | undefined): string => {
  const title = "Start of the command line, and imports"
  if (startups === undefined) return table([title, ""], [["aicortex --version", "not built"]])
  const bare = startups[0]?.starts ?? []
  return table(
    [title, "wall ms", "x bare node (min–max)", "CPU ms", "x bare node"],
    startups.map(({ starts, title }) => [
      title,
      median(starts.map((start) => start.wall)).toFixed(0),
      showRatio(
        ratio(
          starts.map((start) => start.wall),
          bare.map((start) => start.wall)
        )
      ),
      mean(starts.map((start) => start.cpu)).toFixed(0),
      times(mean(starts.map((start) => start.cpu)) / mean(bare.map((start) => start.cpu)))
    ])
  )
}

const reportSizes = (sizes: ReadonlyArray<InstallSize>): string =>
  table(
    ["Installed with npm", "MB", "packages"],
    sizes.map(({ bytes, packages, title }) => [title, (bytes / 1e6).toFixed(1), String(packages)])
  )

/** What an import costs above bare Node, next to that of `ai`. */
const importTarget = (startups: ReadonlyArray<Startup> | undefined): Target => {
  const above = (title: string): number => {
    const walls = (wanted: string) =>
      median(startups?.find((one) => one.title === wanted)?.starts.map(({ wall }) => wall) ?? [])
    return walls(title) - walls("node -e 0")
  }
  const figure = startups === undefined ? undefined : above(`import "aicortex/promise"`) / above(`import "ai"`)
  return { name: "startup: import aicortex/promise / import ai, wall above bare node", limit: 2, figure }
}

interface Target {
  readonly name: string
  readonly limit: number
  /** Nothing where it could not be measured. */
  readonly figure: number | undefined
}

const limits: ReadonlyArray<readonly [caseId: string, name: Name, base: Name, limit: number]> = [
  ["call-1", "facade", "floor", 2.5],
  ["call-32", "facade", "floor", 2.5],
  ["call-1", "effect", "floor", 2.5],
  ["call-32", "effect", "floor", 2.5],
  ["trickle", "facade", "floor", 1.5],
  ["burst", "facade", "floor", 2.2],
  ["trickle", "effect", "floor", 3],
  ["burst", "effect", "floor", 5],
  ["call-1", "facade", "ollama", 1],
  ["call-32", "facade", "ollama", 1],
  ["call-1", "effect", "ollama", 1],
  ["call-32", "effect", "ollama", 1]
]

const targetsOf = (startups: ReadonlyArray<Startup> | undefined): ReadonlyArray<Target> => [
  ...limits.flatMap(([id, name, base, limit]): ReadonlyArray<Target> => {
    const one = cases.find((one) => one.id === id)
    if (one === undefined) return []
    const figure = compare(one, name, base)?.median
    return [{ name: `${id}: ${titleOf(one, name)} / ${titleOf(one, base)}`, limit, figure }]
  }),
  ...cases.flatMap((one) =>
    measured(one)
      .filter((name) => variants[name].ours)
      .map((name): Target => {
        const ratios = (["openai", "ai"] as const).map((base) => compare(one, name, base)?.median)
        const known = ratios.filter((figure) => figure !== undefined)
        return {
          name: `${one.id}: ${titleOf(one, name)} / the lower of openai and ai`,
          limit: 1,
          figure: known.length === ratios.length ? Math.max(...known) : undefined
        }
      })
  ),
  ...(only.includes("startup")
    ? [
        {
          name: "startup: aicortex --version / node, wall",
          limit: 3,
          figure: ratio(
            startups?.[1]?.starts.map((start) => start.wall) ?? [],
            startups?.[0]?.starts.map((start) => start.wall) ?? []
          )?.median
        },
        importTarget(startups)
      ]
    : [])
]

const verdict = ({ figure, limit }: Target) => (figure === undefined ? "not measured" : figure <= limit ? "ok" : "MISS")

const reportTargets = (targets: ReadonlyArray<Target>): string =>
  table(
    ["Target (CPU per call or token, unless it says wall)", "at most", "is", ""],
    targets.map((target) => [
      target.name,
      times(target.limit),
      target.figure === undefined ? "-" : times(target.figure),
      verdict(target)
    ])
  )

/** When the newest file of a folder was written. */
const newest = (folder: string): number =>
  Math.max(
    0,
    ...readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs)
  )

const describeSubject = (): string => {
  switch (process.env["BENCH_SUBJECT"]) {
    case "dist":
      return `dist/${
        newest(join(root, "src")) > newest(join(root, "dist")) ? " (OLDER than src/: build it first)" : ""
      }`
    case "src":
      return "src/, bundled on the fly"
    default:
      return `not built${process.env["BENCH_REASON"] === undefined ? "" : `: ${process.env["BENCH_REASON"]}`}`
  }
}

const versionOf = (name: string): string =>
  `${name} ${
    (JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8")) as { readonly version: string })
      .version
  }`

const main = async () => {
  const began = performance.now()
  const load = Os.loadavg()[0] ?? 0
  console.log(
    `Node ${process.versions.node}, ${Os.cpus().length} cores, load ${load.toFixed(1)}; ${[
      "undici",
      "ollama",
      "openai",
      "ai",
      "effect"
    ]
      .map(versionOf)
      .join(", ")}\naicortex from ${describeSubject()}; ${rounds} rounds\n`
  )

  const servers = startChild("servers", String(plan.tick))
  try {
    const reply = await servers.next()
    if (reply.type !== "addresses") throw new Error("The fake servers did not start.")
    await measure(reply.addresses)
  } finally {
    await servers.close()
  }
  for (const one of cases) console.log(`${report(one)}\n`)

  let startups: ReadonlyArray<Startup> | undefined
  if (only.includes("startup")) {
    try {
      startups = await measureStartup(root, options.quick ? Math.min(rounds, 2) : rounds)
      console.log(`${reportStartup(startups)}\n`)
      if (startups !== undefined) console.log(`${reportSizes(installSizes(root, others))}\n`)
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
    }
  }

  const targets = targetsOf(startups)
  console.log(`${reportTargets(targets)}\n`)
  const seconds = (performance.now() - began) / 1000
  console.log(`Load at the end ${(Os.loadavg()[0] ?? 0).toFixed(1)}; took ${seconds.toFixed(0)} s.`)

  if (options.json !== undefined) {
    const results = cases.flatMap((one) =>
      measured(one).map((name) => ({
        case: one.id,
        variant: name,
        absent: missing.get(name),
        cpuMicroseconds: median(present(cpuOf(one, name))),
        toFloor: compare(one, name, "floor"),
        toFloorOfProtocol: compare(one, name, floorOf(name)),
        samples: samplesOf(one, name)
      }))
    )
    const value = {
      node: process.versions.node,
      subject: process.env["BENCH_SUBJECT"],
      quick: options.quick,
      rounds,
      results,
      startups,
      targets: targets.map((target) => ({ ...target, verdict: verdict(target) })),
      problems
    }
    writeFileSync(options.json, `${JSON.stringify(value, null, 2)}\n`)
  }

  if (problems.length > 0) {
    console.error(`\nOutputs differ:\n${[...new Set(problems)].map((problem) => `- ${problem}`).join("\n")}`)
    return 1
  }
  return options.strict && targets.some((target) => verdict(target) !== "ok") ? 1 : 0
}

process.exitCode = await main()
