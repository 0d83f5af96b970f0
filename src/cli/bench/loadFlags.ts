/** The flags of `aicortex bench` that load one server. */
import * as Effect from "effect/Effect"
import { loadDefaults as defaults, LoadOptions as Fields, profiles, traces } from "../../benchmark/load/options.js"
import * as Duration from "../../internal/duration.js"
import { UsageError } from "../errors.js"
import * as Flags from "../flags.js"
import { options as serverOptions } from "../servers/addFlags.js"

const { cooldown, maxConcurrency, prefixTokens, rate, requests, seed, steps, turns, warmup } = Fields.fields

export const options = {
  rate: Flags.number("rate", rate.from, { about: "Load one server with so many requests per second." }),
  profile: Flags.choice("profile", Flags.words(profiles), {
    about: "How it is loaded. Default: poisson with --rate."
  }),
  duration: Flags.duration("duration", { about: "How long it is loaded (each step of a sweep). Default: 30s." }),
  requests: Flags.number("requests", requests.from, { about: "With how many requests at most." }),
  steps: Flags.number("steps", steps.from, { about: "Steps of a sweep.", default: defaults.steps }),
  trace: Flags.choice("trace", Flags.words(traces), { about: "What is asked. Default: random." }),
  prefixTokens: Flags.number("prefix-tokens", prefixTokens.from, {
    about: "Length of the system prompt that requests share, about."
  }),
  turns: Flags.number("turns", turns.from, {
    about: "Questions of a conversation, with --trace chat.",
    default: defaults.turns
  }),
  slo: Flags.text("slo", {
    value: "LIMITS",
    about: "Time limits of a good request, such as ttft=200ms,itl=50ms,tpot=50ms,latency=5s."
  }),
  seed: Flags.number("seed", seed.from, {
    about: "Makes arrivals and prompts repeatable.",
    default: defaults.seed
  }),
  warmup: Flags.number("warmup", warmup.from, {
    about: "The part of the time at the beginning that does not count.",
    default: defaults.warmup
  }),
  cooldown: Flags.number("cooldown", cooldown.from, {
    about: "The part of the time at the end that does not count.",
    default: defaults.cooldown
  }),
  maxConcurrency: Flags.number("max-concurrency", maxConcurrency.from, {
    about: "The most requests in flight.",
    default: defaults.maxConcurrency
  }),
  requestTimeout: Flags.duration("request-timeout", { about: "A request that takes longer has failed. Default: 2m." }),
  drainTime: Flags.duration("drain-time", { about: "How long the last answers are waited for. Default: 30s." }),
  apiKeyEnv: serverOptions.apiKeyEnv
}

/** What they hold. */
export type LoadFlags = {
  readonly [K in keyof typeof options]: (typeof options)[K] extends import("@effect/cli/Options").Options<infer A>
    ? A
    : never
}

export const usage = (message: string): UsageError => new UsageError({ message, command: ["bench"] })

const limits: ReadonlyArray<string> = ["ttft", "itl", "tpot", "latency"]

/** A time in milliseconds: a duration, or a number of seconds. */
const timeOf = (flag: string, given: number | string | undefined): Effect.Effect<number | undefined, UsageError> => {
  if (given === undefined) return Effect.succeed(undefined)
  const value = typeof given === "number" ? given * 1_000 : Duration.parse(given)
  return value !== undefined && value > 0
    ? Effect.succeed(value)
    : Effect.fail(usage(`--${flag} must be a time above 0, such as 30s, not '${given}'`))
}

const objectivesOf = Effect.fnUntraced(function* (text: string) {
  const objectives: { [limit: string]: number } = {}
  for (const part of text.split(",")) {
    const [name = "", value = ""] = part.split("=", 2).map((side) => side.trim())
    const time = Duration.parse(value)
    if (!limits.includes(name) || time === undefined || time <= 0) {
      return yield* usage(`--slo must be limits such as ttft=200ms,latency=5s (${limits.join(", ")}), not '${part}'`)
    }
    if (name in objectives) return yield* usage(`--slo names ${name} twice`)
    objectives[name] = time
  }
  return objectives
})

/** The options that they are for, without the server, the model and those of the budget. */
export const loadOptionsOf = Effect.fnUntraced(function* (flags: Omit<LoadFlags, "apiKeyEnv">) {
  const { drainTime, duration, requestTimeout, slo, ...rest } = flags
  return {
    ...rest,
    duration: yield* timeOf("duration", duration),
    requestTimeout: yield* timeOf("request-timeout", requestTimeout),
    drainTime: yield* timeOf("drain-time", drainTime),
    slo: slo === undefined ? undefined : yield* objectivesOf(slo)
  }
})
