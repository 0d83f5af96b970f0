/**
 * What it costs to ask many servers for their models, next to a bare undici loop over the same addresses; and to read
 * large registries, next to `JSON.parse`.
 */
import { fork } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Agent, request } from "undici"
import { createCortex } from "../src/promise.js"

setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc") as () => void

const flags = process.argv.slice(2)
const quick = flags.includes("--quick")
const chosen = flags
  .find((flag) => flag.startsWith("--sizes="))
  ?.slice("--sizes=".length)
  .split(",")
  .map(Number)
const sizes = chosen ?? (quick ? [20, 40, 100] : [100, 400, 800, 2_000])
const recordCounts = quick ? [1_000, 4_000] : [1_000, 10_000, 100_000]
const rounds = quick ? 2 : 5
/** Targets: milliseconds of CPU more than the bare loop, and the growth exponent. */
const targets = { refused: 0.3, living: 1, exponent: 1.1 }

/** As many as the library asks at once. */
const workers = 20

// =============================================================================
// Measuring
// =============================================================================

interface Cost {
  /** Processor time of this process, in milliseconds. */
  readonly cpu: number
  readonly wall: number
  /** The largest resident set seen, above the one before, in MB. */
  readonly peak: number
}

const measured = async (run: () => Promise<unknown>): Promise<Cost> => {
  // What was closed before is gone.
  await new Promise((resolve) => setTimeout(resolve, 50))
  gc()
  const before = process.memoryUsage.rss()
  let peak = before
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }, 20)
  const cpu = process.cpuUsage()
  const began = performance.now()
  await run()
  const wall = performance.now() - began
  const { system, user } = process.cpuUsage(cpu)
  clearInterval(watch)
  peak = Math.max(peak, process.memoryUsage.rss())
  return { cpu: (user + system) / 1_000, wall, peak: (peak - before) / 1e6 }
}

const median = (values: ReadonlyArray<number>): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0

/** The slope of a line through the logarithms: 1 is linear. */
const exponent = (points: ReadonlyArray<readonly [size: number, cost: number]>): number => {
  const logs = points.map(([size, cost]) => [Math.log(size), Math.log(cost)] as const)
  const mean = (at: 0 | 1) => logs.reduce((sum, one) => sum + one[at], 0) / logs.length
  const [x, y] = [mean(0), mean(1)]
  const top = logs.reduce((sum, one) => sum + (one[0] - x) * (one[1] - y), 0)
  return top / logs.reduce((sum, one) => sum + (one[0] - x) ** 2, 0)
}

let missed = false
const verdict = (value: number, target: number): string => {
  if (value <= target) return "ok"
  missed = true
  return "MISS"
}

const print = (line: string): boolean => process.stdout.write(`${line}\n`)

// =============================================================================
// Servers
// =============================================================================

/** The same addresses with nothing but undici: as many at once, each list parsed. */
const bare = async (urls: ReadonlyArray<string>): Promise<readonly [number, Cost]> => {
  const dispatcher = new Agent()
  let found = 0
  let next = 0
  const worker = async () => {
    while (next < urls.length) {
      const url = urls[next++]
      try {
        const { body } = await request(`${url}/api/tags`, { dispatcher })
        const { models } = (await body.json()) as { readonly models: ReadonlyArray<unknown> }
        if (models.length > 0) found++
      } catch {
        // Refused.
      }
    }
  }
  const cost = await measured(() => Promise.all(Array.from({ length: workers }, worker)))
  await dispatcher.destroy()
  return [found, cost]
}

const ours = async (urls: ReadonlyArray<string>): Promise<readonly [number, Cost]> => {
  await using cortex = createCortex({ servers: [...urls], configFile: false, registry: [] })
  // The catalogue is read once, whatever the size of the fleet.
  await cortex.families()
  let statuses: Awaited<ReturnType<typeof cortex.listServers>> = []
  const cost = await measured(async () => {
    statuses = await cortex.listServers()
  })
  if (statuses.length !== urls.length) throw new Error(`${statuses.length} of ${urls.length} servers are listed`)
  if (statuses.some(({ problem, reachable }) => !reachable && problem !== "refused the connection")) {
    throw new Error("a server is listed with the wrong reason")
  }
  return [statuses.filter(({ models }) => models.length === 3).length, cost]
}

/** The same through the pipeline of a registry: `aicortex registry fetch`. */
const fetched = async (urls: ReadonlyArray<string>): Promise<readonly [number, Cost]> => {
  await using cortex = createCortex({ servers: [], configFile: false, registry: [] })
  await cortex.families()
  const sources = [{ name: "addresses", text: urls.join("\n") }]
  let found = 0
  let rejected = 0
  const cost = await measured(async () => {
    const result = await cortex.registry.fetch({ sources, workers, timeout: 5_000 }).catch((error) => ({
      fetched: [],
      // All are refused.
      rejected: error.rejected as ReadonlyArray<{ readonly reason: string }>
    }))
    found = result.fetched.filter(({ models }) => models.length === 3).length
    rejected = result.rejected.filter(({ reason }) => reason === "refused the connection").length
  })
  if (found + rejected !== urls.length) throw new Error(`${found} and ${rejected} of ${urls.length} servers are told`)
  return [found, cost]
}

const compare = async (urls: ReadonlyArray<string>, living: number, way = ours) => {
  const runs = { bare: [] as Array<Cost>, ours: [] as Array<Cost> }
  for (let round = 0; round <= rounds; round++) {
    const order = Math.random() < 0.5 ? (["bare", "ours"] as const) : (["ours", "bare"] as const)
    for (const name of order) {
      const [found, cost] = await (name === "bare" ? bare : way)(urls)
      if (found !== living) throw new Error(`${name} found ${found} of ${living} servers`)
      // The first round warms up.
      if (round > 0) runs[name].push(cost)
    }
  }
  const of = (name: "bare" | "ours", field: keyof Cost) => median(runs[name].map((cost) => cost[field]))
  return {
    bare: of("bare", "cpu"),
    ours: of("ours", "cpu"),
    wall: of("ours", "wall"),
    peak: of("ours", "peak"),
    barePeak: of("bare", "peak"),
    more: median(runs.ours.map(({ cpu }, i) => cpu - (runs.bare[i]?.cpu ?? 0))) / urls.length
  }
}

/** One way of asking servers, over fleets of all sizes. */
const askingRows = async (
  name: string,
  way: typeof ours,
  living: ReadonlyArray<string>,
  refused: ReadonlyArray<string>
): Promise<void> => {
  print(
    `\n${name}\nservers     bare CPU   ours CPU   ratio   ms/server   wall      peak memory (bare)   more per living / refused`
  )
  const points: Array<readonly [number, number]> = []
  let last = { living: 0, refused: 0 }
  for (const size of sizes) {
    const [up, down] = [living.slice(0, size / 2), refused.slice(0, size / 2)]
    const mixed = up.flatMap((url, i) => [url, down[i] ?? url])
    const both = await compare(mixed, up.length, way)
    last = { living: (await compare(up, up.length, way)).more, refused: (await compare(down, 0, way)).more }
    points.push([size, both.ours])
    print(
      `${String(size).padStart(7)} ${both.bare.toFixed(0).padStart(9)} ms ${both.ours.toFixed(0).padStart(7)} ms` +
        ` ${(both.ours / both.bare).toFixed(2).padStart(7)} ${(both.ours / size).toFixed(3).padStart(11)}` +
        ` ${both.wall.toFixed(0).padStart(6)} ms ${both.peak.toFixed(0).padStart(8)} MB (${both.barePeak.toFixed(0)})`.padEnd(
          25
        ) +
        `   ${last.living.toFixed(3)} ms / ${last.refused.toFixed(3)} ms`
    )
  }
  const growth = exponent(points)
  print(`growth exponent ${growth.toFixed(2)} (target ${targets.exponent}): ${verdict(growth, targets.exponent)}`)
  for (const kind of ["living", "refused"] as const) {
    const text = `${last[kind].toFixed(3)} ms more per ${kind} server of ${sizes.at(-1)} (target ${targets[kind]} ms)`
    print(`${text}: ${quick ? "not judged" : verdict(last[kind], targets[kind])}`)
  }
}

const discovery = async (): Promise<void> => {
  const half = (sizes.at(-1) ?? 0) / 2
  const child = fork(new URL("../../bench/discovery/fakes.mjs", import.meta.url), [String(half)])
  const { living, refused } = await new Promise<{ living: Array<number>; refused: Array<number> }>(
    (resolve, reject) => {
      child.once("message", resolve as (message: unknown) => void)
      child.once("exit", () => reject(new Error("the fake servers ended")))
    }
  )
  const urls = (ports: ReadonlyArray<number>) => ports.map((port) => `http://127.0.0.1:${port}`)
  const [up, down] = [urls(living), urls(refused)]
  await askingRows("listServers()", ours, up, down)
  await askingRows("registry.fetch(), and so check and refresh", fetched, up, down)
  child.disconnect()
}

// =============================================================================
// Registries
// =============================================================================

const perFile = 25_000

const record = (i: number) => ({
  id: i,
  model_name: `family${i % 40}:${1 + (i % 70)}b-variant${i % 5_000}`,
  model: `family${i % 40}:${1 + (i % 70)}b`,
  family: `family${i % 40}`,
  parameter_size: `${1 + (i % 70)}B`,
  quantization_level: "Q4_K_M",
  format: "gguf",
  size: 4_000_000_000 + i,
  digest: (i * 2_654_435_761).toString(16).padStart(64, "0"),
  ip_port: `http://10.${(i >> 14) & 255}.${(i >> 7) & 127}.${i & 127}:11434`,
  ip_city_name_en: "Frankfurt am Main",
  ip_country_iso_code: "DE",
  ip_country_name_en: "Germany",
  ip_latitude: 50.11,
  ip_longitude: 8.68,
  ip_organization: "Example GmbH",
  perf_status: "success",
  perf_tokens_per_second: 10 + (i % 90),
  perf_last_tested: "2026-01-01T12:00:00Z"
})

const folderOf = (count: number): string => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-bench-"))
  for (let from = 0; from < count; from += perFile) {
    const records = Array.from({ length: Math.min(perFile, count - from) }, (_, i) => record(from + i))
    writeFileSync(join(folder, `part${from / perFile}.json`), JSON.stringify(records))
  }
  return folder
}

const registries = async (): Promise<void> => {
  print("\nrecords     JSON.parse   ours        ratio   µs/record   peak memory")
  const points: Array<readonly [number, number]> = []
  for (const count of recordCounts) {
    const folder = folderOf(count)
    try {
      const runs = { parse: [] as Array<Cost>, ours: [] as Array<Cost> }
      for (let round = 0; round <= rounds; round++) {
        const parse = await measured(async () => {
          for (const file of readdirSync(folder)) JSON.parse(readFileSync(join(folder, file), "utf8"))
        })
        const mine = await measured(async () => {
          await using cortex = createCortex({ servers: [], registry: folder, configFile: false })
          if ((await cortex.families()).length === 0) throw new Error("no family was read")
        })
        if (round === 0) continue
        runs.parse.push(parse)
        runs.ours.push(mine)
      }
      const [parse, mine] = [median(runs.parse.map(({ cpu }) => cpu)), median(runs.ours.map(({ cpu }) => cpu))]
      points.push([count, mine])
      print(
        `${String(count).padStart(7)} ${parse.toFixed(0).padStart(11)} ms ${mine.toFixed(0).padStart(7)} ms` +
          ` ${(mine / parse).toFixed(2).padStart(9)} ${((1_000 * mine) / count).toFixed(1).padStart(11)}` +
          ` ${median(runs.ours.map(({ peak }) => peak))
            .toFixed(0)
            .padStart(8)} MB`
      )
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  const growth = exponent(points)
  print(`growth exponent ${growth.toFixed(2)} (target ${targets.exponent}): ${verdict(growth, targets.exponent)}`)
}

if (!flags.includes("--only=registries")) await discovery()
if (!flags.includes("--only=servers")) await registries()
process.exitCode = missed && flags.includes("--strict") ? 1 : 0
