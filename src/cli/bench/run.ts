/** Runs `aicortex bench`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Benchmark from "../../Benchmark.js"
import { reasonOf } from "../../config/file.js"
import { addServer, CommandFailed, flagOf } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import { chartOf } from "./chart.js"
import * as HistoryFile from "./historyFile.js"
import { runLoad } from "./load.js"
import { type LoadFlags, options as loadOptions, usage } from "./loadFlags.js"

interface MeasureFlags extends Omit<Benchmark.Options, "servers"> {
  readonly servers: ReadonlyArray<string>
  readonly chart: string | undefined
  readonly compare: boolean
  readonly json: boolean
}

const speed = (value: number | undefined): string => (value === undefined ? "-" : value.toFixed(1))

const milliseconds = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`

const percent = (now: number | undefined, before: number | undefined): string =>
  now === undefined || before === undefined || before === 0
    ? "-"
    : `${now < before ? "" : "+"}${Math.round((now / before - 1) * 100)} %`

const alone = ({ phases }: Benchmark.Result) =>
  phases.find(({ concurrency, prompt }) => prompt === "short" && concurrency === 1)

const together = ({ phases }: Benchmark.Result): string => {
  const phase = phases.find(({ concurrency }) => concurrency > 1)
  return phase === undefined ? "-" : `${speed(phase.throughput)} (${phase.concurrency})`
}

const head = [
  "Server",
  "Model",
  "First token",
  "p95",
  "Prompt tokens/s",
  "Output tokens/s",
  "p95",
  "Several at once"
] as const

const row = (result: Benchmark.Result): ReadonlyArray<string> => {
  const phase = alone(result)
  return [
    result.server,
    result.model,
    milliseconds(result.firstTokenTime),
    phase === undefined ? "-" : milliseconds(phase.firstTokenTime.p95),
    speed(result.promptTokensPerSecond),
    speed(result.tokensPerSecond),
    speed(phase?.tokensPerSecond.p95),
    together(result)
  ]
}

/** What has changed since the last time. */
const changes = (result: Benchmark.Result, before: Benchmark.Result | undefined): ReadonlyArray<string> =>
  before === undefined
    ? [result.server, result.model, "-", "-", "-", "never before"]
    : [
        result.server,
        result.model,
        percent(result.firstTokenTime, before.firstTokenTime),
        percent(result.promptTokensPerSecond, before.promptTokensPerSecond),
        percent(result.tokensPerSecond, before.tokensPerSecond),
        new Date(before.at).toISOString()
      ]

const advice: { readonly [R in Benchmark.Skipped["reason"]]?: string } = {
  cold: "; --cold loads it, which may unload others",
  budget: "; see --max-time, --max-requests and --max-tokens"
}

const textOf = ({ results, skipped }: Benchmark.Report, kept: HistoryFile.EarlierResults | undefined): string => {
  const table = results.length === 0 ? "" : Table.table(head, results.map(row))
  const compared =
    kept === undefined || results.length === 0
      ? ""
      : `\n${Table.table(
          ["Since the last time", "Model", "First token", "Prompt tokens/s", "Output tokens/s", "Last time"],
          results.map((result) => changes(result, kept.find(result)))
        )}`
  const notes = results.flatMap(({ model, notes, server }) => notes.map((note) => `${server} ${model}: ${note}`))
  const left = skipped.map(
    ({ message, model, reason, server }) =>
      `${server}${model === undefined ? "" : ` ${model}`}: not measured: ${message}${advice[reason] ?? ""}`
  )
  const lines = [...notes, ...left].map((line) => `${Output.withoutControls(line.replace(/\s+/g, " "))}\n`)
  return table + compared + lines.join("")
}

/** Times are in milliseconds; when something was, in ISO 8601. `null` is what is not known. */
const jsonOf = (report: Benchmark.Report, kept: HistoryFile.EarlierResults | undefined) => {
  const dated = ({ at, ...rest }: Benchmark.Result) => ({ ...rest, at: new Date(at).toISOString() })
  return {
    ...report,
    at: new Date(report.at).toISOString(),
    results: report.results.map((result) => {
      const before = kept?.find(result)
      return {
        ...dated(result),
        ...(kept === undefined ? {} : { before: before === undefined ? null : dated(before) })
      }
    })
  }
}

const writeChart = Effect.fnUntraced(function* (file: string, { at, results }: Benchmark.Report) {
  const fs = yield* FileSystem.FileSystem
  yield* Effect.mapError(
    fs.writeFileString(file, chartOf(results, at)),
    (error) => new CommandFailed({ message: `${file} cannot be written: ${reasonOf(error)}` })
  )
})

const measure = ({ chart, compare, json, servers, ...options }: MeasureFlags) =>
  Effect.gen(function* () {
    const kept = compare ? yield* HistoryFile.load : undefined
    if (!json && Output.isTerminal(process.stderr)) {
      const { maxRequests, maxTime, maxTokens } = { ...Benchmark.defaults, ...given(options) }
      yield* Output.dimNotice(
        `measuring, with at most ${Number(maxTime) / 1_000} s, ${maxRequests} requests and ${maxTokens} tokens`
      )
    }
    const report = yield* Benchmark.run({ ...options, ...(servers.length === 0 ? {} : { servers }) })
    yield* HistoryFile.save(report.results)
    yield* json ? Output.writeJson(jsonOf(report, kept)) : Output.write(textOf(report, kept))
    if (report.results.length > 0) {
      if (chart !== undefined) yield* writeChart(chart, report)
      return
    }
    const message =
      report.skipped.length === 0 ? `no server is known: add one with ${addServer}` : "nothing was measured"
    return yield* new CommandFailed({ message })
  }).pipe(Effect.provide(Fleet.layer))

/** All flags of the command. */
type Flags = MeasureFlags & LoadFlags

/** The flags that only one of the two ways takes. */
const measuresOnly = ["all", "cold", "compare", "runs", "tolerance"] as const
const loadsOnly = Object.keys(loadOptions).filter((name) => name !== "rate" && name !== "profile") as ReadonlyArray<
  keyof LoadFlags
>

/** Measures servers, or loads one. A flag that would have no effect is an error. */
export const run = (flags: Flags) =>
  Effect.gen(function* () {
    const loads = flags.rate !== undefined || flags.profile !== undefined
    const foreign = (loads ? measuresOnly : loadsOnly).find(
      (name) => flags[name] !== undefined && flags[name] !== false
    )
    if (foreign !== undefined) {
      return yield* usage(
        `${flagOf(foreign)} ${loads ? "cannot be combined with --rate or --profile" : "is for loading a server: give --rate or --profile, too"}`
      )
    }
    const { all, cold, compare, runs, tolerance, ...load } = flags
    if (loads) return yield* runLoad({ ...load, model: flags.model ?? undefined })
    const { chart, concurrency, json, maxRequests, maxTime, maxTokens, model, outputTokens, promptTokens, servers } =
      flags
    const budget = { maxRequests, maxTime, maxTokens }
    const sizes = { concurrency, outputTokens, promptTokens, runs, tolerance }
    return yield* measure({ all, cold, compare, chart, json, model, servers, ...budget, ...sizes })
  })

/** Without the flags that were not given. */
const given = <A extends object>(flags: A): Partial<A> =>
  Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) as Partial<A>
