/** Runs `aicortex bench` as a load generator: one server, at a rate or at a concurrency. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Benchmark from "../../Benchmark.js"
import { reasonOf } from "../../config/file.js"
import { CommandFailed } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import { loadChartOf } from "./loadChart.js"
import { type LoadFlags, loadOptionsOf, usage } from "./loadFlags.js"

/** The flags of both ways to measure that this one takes. */
interface Flags extends LoadFlags, Pick<Benchmark.LoadOptions, "maxRequests" | "maxTime" | "maxTokens"> {
  readonly servers: ReadonlyArray<string>
  readonly model: string | undefined
  readonly concurrency?: number | undefined
  readonly promptTokens?: number | undefined
  readonly outputTokens?: number | undefined
  readonly chart: string | undefined
  readonly json: boolean
}

const time = (value: number): string => {
  if (value >= 10_000) return `${(value / 1_000).toFixed(1)} s`
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`
}
const speed = (value: number): string => (value < 100 ? value.toFixed(1) : String(Math.round(value)))
const percent = (part: number): string => `${(part * 100).toFixed(part === 1 ? 0 : 1)} %`

const loadOf = ({ concurrency, profile, rate }: Benchmark.LoadStep): string =>
  rate === undefined ? `${profile}${profile === "concurrent" ? ` ${concurrency}` : ""}` : `${profile} ${speed(rate)}/s`

const row = (step: Benchmark.LoadStep): ReadonlyArray<string> => [
  loadOf(step),
  String(step.requests.succeeded),
  String(step.requests.failed),
  String(step.requests.cancelled),
  speed(step.requestsPerSecond),
  speed(step.outputTokensPerSecond),
  ...(step.goodput === undefined
    ? []
    : [`${speed(step.goodput.requestsPerSecond)} (${percent(step.goodput.attainment)})`]),
  time(step.ttft.p95),
  time(step.latency.p95)
]

const distributions = (step: Benchmark.LoadStep): ReadonlyArray<readonly [string, Benchmark.LoadDistribution]> => [
  ["Time to first token", step.ttft],
  ["Inter-token latency", step.itl],
  ["Time per output token", step.tpot],
  ["Request latency", step.latency],
  ...(step.lateness === undefined ? [] : [["Sent late by", step.lateness] as const])
]

const endings: { readonly [E in Benchmark.LoadEnd]: string | undefined } = {
  complete: undefined,
  stopped: "stopped: these are the results so far",
  time: "ended early: its time is used up; see --max-time",
  requests: "ended early: it may send no more requests; see --max-requests",
  tokens: "ended early: it may spend no more tokens; see --max-tokens",
  "remote-tokens": "ended early: the tokens of remote servers for this day are used up",
  failing: "ended early: nothing but failures"
}

const textOf = (report: Benchmark.LoadReport): string => {
  const { ended, requests, slo, steps, tokens } = report
  const head = [
    "Load",
    "Answered",
    "Failed",
    "Cancelled",
    "Requests/s",
    "Output tokens/s",
    ...(slo === undefined ? [] : ["Goodput/s"]),
    "First token p95",
    "Latency p95"
  ]
  const [only] = steps
  const details =
    only === undefined || steps.length > 1 || only.latency.count === 0
      ? ""
      : `\n${Table.table(
          ["", "mean", "p50", "p90", "p95", "p99", "max"],
          distributions(only).map(([name, { max, mean, p50, p90, p95, p99 }]) => [
            name,
            ...[mean, p50, p90, p95, p99, max].map(time)
          ])
        )}`
  const lines = steps.flatMap((step) => [
    ...step.failures.slice(0, 3).map(({ count, message }) => `${loadOf(step)}: ${count} failed: ${message}`),
    ...step.notes.map((note) => `${loadOf(step)}: ${note}`)
  ])
  const excluded = steps.reduce((sum, step) => sum + step.requests.excluded, 0)
  lines.push(
    `${requests} requests and ${tokens} tokens in all, of which ${excluded} requests of warm-up and cool-down do not count`
  )
  const ending = endings[ended]
  if (ending !== undefined) lines.push(ending)
  const text = lines.map((line) => `${Output.withoutControls(line.replace(/\s+/g, " "))}\n`).join("")
  return `${steps.length === 0 ? "" : Table.table(head, steps.map(row))}${details}${text}`
}

/** Shows on a terminal how far it is: one line on standard error, which is gone at the end. */
class ProgressLine {
  private readonly terminal = Output.isTerminal(process.stderr)

  tell({ ended, failed, inFlight, sent, step, steps }: Benchmark.LoadProgress): void {
    if (!this.terminal) return
    const which = steps === 1 ? "" : `step ${step} of ${steps}: `
    process.stderr.write(`\r\u001b[K${which}${sent} sent, ${ended} ended, ${failed} failed, ${inFlight} in flight`)
  }

  close(): void {
    if (this.terminal) process.stderr.write("\r\u001b[K")
  }
}

const show = Effect.fnUntraced(function* (report: Benchmark.LoadReport, chart: string | undefined, json: boolean) {
  yield* json ? Output.writeJson({ ...report, at: new Date(report.at).toISOString() }) : Output.write(textOf(report))
  if (chart === undefined) return
  const fs = yield* FileSystem.FileSystem
  yield* Effect.mapError(
    fs.writeFileString(chart, loadChartOf(report)),
    (error) => new CommandFailed({ message: `${chart} cannot be written: ${reasonOf(error)}` })
  )
})

export const runLoad = Effect.fnUntraced(function* ({ apiKeyEnv, chart, json, model, servers, ...flags }: Flags) {
  const [url] = servers
  if (url === undefined || servers.length > 1) return yield* usage("name the one server to load")
  if (model === undefined) return yield* usage("name the model to ask, with --model")
  const apiKey = apiKeyEnv === undefined ? undefined : process.env[apiKeyEnv]
  if (apiKeyEnv !== undefined && (apiKey === undefined || apiKey === "")) {
    return yield* usage(`--api-key-env: the environment has no ${apiKeyEnv}`)
  }
  const server = apiKey === undefined ? url : { url, apiKey: Redacted.make(apiKey) }
  const options = { ...(yield* loadOptionsOf(flags)), server, model }
  const line = new ProgressLine()
  let last: Benchmark.LoadProgress | undefined
  const run = Stream.runForEach(Benchmark.loadProgress(options), (progress) =>
    Effect.sync(() => {
      last = progress
      line.tell(progress)
    })
  )
  return yield* run.pipe(
    Effect.ensuring(Effect.sync(() => line.close())),
    // What was measured until an interruption is shown all the same.
    Effect.onInterrupt(() =>
      last === undefined || last.done ? Effect.void : Effect.ignore(show(last.report(), chart, json))
    ),
    Effect.zipRight(
      Effect.suspend(() => (last === undefined ? Effect.dieMessage("no report") : Effect.succeed(last.report())))
    ),
    Effect.tap((report) => show(report, chart, json)),
    Effect.flatMap(({ steps }) =>
      steps.some(({ requests }) => requests.succeeded > 0)
        ? Effect.void
        : new CommandFailed({ message: "no request was answered" })
    ),
    Effect.provide(Fleet.layer)
  )
})
