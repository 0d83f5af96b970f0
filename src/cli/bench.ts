/** `aicortex bench`: how fast the servers are. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { defaults, Options as Fields } from "../benchmark/options.js"
import { type About, shape } from "./commandLine.js"
import * as Flags from "./flags.js"

const { concurrency, maxRequests, maxTokens, outputTokens, promptTokens, runs, tolerance } = Fields.fields

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
    about: "Requests at the same time in the last part.",
    default: defaults.concurrency
  }),
  promptTokens: Flags.number("prompt-tokens", promptTokens.from, {
    about: "Length of the long prompt, about.",
    default: defaults.promptTokens
  }),
  outputTokens: Flags.number("output-tokens", outputTokens.from, {
    about: "Most tokens of an answer.",
    default: defaults.outputTokens
  }),
  maxTime: Flags.seconds("max-time", { about: "How long all of it may take. Default: 120." }),
  maxRequests: Flags.number("max-requests", maxRequests.from, {
    about: "How many requests in all.",
    default: defaults.maxRequests
  }),
  maxTokens: Flags.number("max-tokens", maxTokens.from, {
    about: "How many tokens of prompts and answers in all.",
    default: defaults.maxTokens
  }),
  tolerance: Flags.number("tolerance", tolerance.from, {
    about: "By what part a server's own speed may differ from ours before that is told.",
    default: defaults.tolerance
  }),
  compare: Flags.flag("compare", { about: "Show what has changed since the last time." }),
  chart: Flags.text("chart", { value: "FILE", about: "Write a bar chart of the results, as SVG." }),
  json: Flags.json
}

const about: About = {
  about: [
    "Measure how fast your servers are: time to first token, prompt and output tokens per second, alone and with several requests at once.",
    "Routing goes by it from then on, until it has measured calls of yours. Models that are not loaded, and servers that are busy, are left out.",
    "Without --model, one model of each server is measured: the default model if it is loaded, else a loaded one."
  ],
  takes: "[SERVER]…",
  examples: [
    "aicortex bench",
    "aicortex bench http://gpu-1:11434 --model llama3.2:3b --compare",
    "aicortex bench --all --cold --max-time 600 --chart speeds.svg"
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
