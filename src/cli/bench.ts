/** `aicortex bench`: how fast the servers are. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { LoadOptions as LoadFields, loadDefaults } from "../benchmark/load/options.js"
import { defaults, Options as Fields } from "../benchmark/options.js"
import { options as loadFlags } from "./bench/loadFlags.js"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const { concurrency, maxRequests, maxTokens, runs, tolerance } = Fields.fields
const { outputTokens, promptTokens } = LoadFields.fields

const options = {
  model: Flags.text("model", {
    alias: "m",
    value: "NAME",
    about: "The model to ask."
  }),
  all: Flags.flag("all", { about: "Each model of the servers." }),
  cold: Flags.flag("cold", { about: "Load models that are not loaded, which may unload others." }),
  runs: Flags.number("runs", runs.from, { about: "Requests per prompt.", default: defaults.runs }),
  concurrency: Flags.number("concurrency", concurrency.from, {
    about: "Requests at the same time in the last part, or with --profile concurrent.",
    default: defaults.concurrency
  }),
  promptTokens: Flags.number("prompt-tokens", promptTokens.from, {
    about: `Length of the long prompt, about, at least 100; when loading a server, of each prompt (${loadDefaults.promptTokens}).`,
    default: defaults.promptTokens
  }),
  outputTokens: Flags.number("output-tokens", outputTokens.from, {
    about: "Most tokens of an answer.",
    default: defaults.outputTokens
  }),
  maxTime: Flags.seconds("max-time", {
    about: `How long all of it may take. Default: 120; when loading a server, ${loadDefaults.maxTime / 1_000}.`
  }),
  maxRequests: Flags.number("max-requests", maxRequests.from, {
    about: `How many requests in all; when loading a server, ${loadDefaults.maxRequests}.`,
    default: defaults.maxRequests
  }),
  maxTokens: Flags.number("max-tokens", maxTokens.from, {
    about: `How many tokens of prompts and answers in all; when loading a server, ${loadDefaults.maxTokens}.`,
    default: defaults.maxTokens
  }),
  tolerance: Flags.number("tolerance", tolerance.from, {
    about: "By what part a server's own speed may differ from ours before that is reported.",
    default: defaults.tolerance
  }),
  compare: Flags.flag("compare", { about: "Show what has changed since the last time." }),
  chart: Flags.text("chart", { value: "FILE", about: "Write a bar chart of the results, as SVG." }),
  json: Flags.json,
  ...loadFlags
}

const about: About = {
  about: [
    "Measure how fast your servers are: time to first token, prompt and output tokens per second, alone and with several requests at once.",
    "Routing goes by it from then on, until it has measured calls of yours. Models that are not loaded, and servers that are busy, are left out.",
    "Without --model, one model of each server is measured: the default model if it is loaded, else a loaded one.",
    "With --rate or --profile it is a load generator for one OpenAI-compatible server, of the settings or not: latencies and goodput under load."
  ],
  takes: "[SERVER]…",
  examples: [
    "aicortex bench",
    "aicortex bench http://gpu-1:11434 --model llama3.2:3b --compare",
    "aicortex bench --all --cold --max-time 600 --chart speeds.svg",
    "aicortex bench http://gpu-1:8000 --model llama3.2:3b --rate 5 --slo ttft=200ms,latency=5s"
  ]
}

export const benchShape = shape(about, options)

export const bench = Command.make(
  "bench",
  { ...options, servers: Args.repeated(Args.text({ name: "SERVER" })) },
  (flags) =>
    Effect.flatMap(
      Effect.promise(() => import("./bench/run.js")),
      ({ run }) => run(flags)
    )
).pipe(Command.withDescription(about.about[0] ?? ""))
