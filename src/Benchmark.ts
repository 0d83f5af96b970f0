/**
 * Measures how fast your servers are: time to first token, prompt tokens and output tokens per second, alone and with
 * several requests at once, by the server's own counters and by our clock.
 *
 * What was measured is what routing knows from then on (`fastest`, `balanced`, the expected wait), until own traffic
 * has been measured.
 *
 * @since 0.3.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Backends } from "./Backend.js"
import { inFlightAt } from "./benchmark/activity.js"
import { Budget } from "./benchmark/budget.js"
import { decodeLoad, type LoadOptions } from "./benchmark/load/options.js"
import type { LoadProgress, LoadReport } from "./benchmark/load/report.js"
import { loadTest } from "./benchmark/load/run.js"
import { targetOf } from "./benchmark/load/target.js"
import { isResult, measure } from "./benchmark/measure.js"
import { decodeOptions, defaults, type Options } from "./benchmark/options.js"
import type { Report, Result, Skipped } from "./benchmark/report.js"
import { select } from "./benchmark/targets.js"
import type { InvalidRequest, ModelNotFound, NoServers } from "./Errors.js"
import { Fleet, maxPlausibleSpeed } from "./Fleet.js"
import * as Prng from "./internal/prng.js"
import { Registry } from "./Registry.js"
import { Router } from "./Router.js"
import { CurrentSettings } from "./Settings.js"

export {
  /**
   * @since 0.3.0
   * @category models
   */
  LoadObjectives,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadOptions,
  /**
   * @since 0.3.0
   * @category constants
   */
  loadDefaults
} from "./benchmark/load/options.js"
export type {
  /**
   * @since 0.3.0
   * @category models
   */
  LoadDistribution,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadEnd,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadGoodput,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadProgress,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadReport,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadRequests,
  /**
   * @since 0.3.0
   * @category models
   */
  LoadStep
} from "./benchmark/load/report.js"
export {
  /**
   * @since 0.3.0
   * @category constants
   */
  defaults,
  /**
   * @since 0.3.0
   * @category models
   */
  Options
} from "./benchmark/options.js"
export {
  /**
   * @since 0.3.0
   * @category combinators
   */
  decodeResults,
  /**
   * @since 0.3.0
   * @category combinators
   */
  encodeResults,
  /**
   * @since 0.3.0
   * @category models
   */
  Percentiles,
  /**
   * @since 0.3.0
   * @category models
   */
  Phase,
  /**
   * @since 0.3.0
   * @category models
   */
  Report,
  /**
   * @since 0.3.0
   * @category models
   */
  Result,
  /**
   * @since 0.3.0
   * @category models
   */
  Skipped
} from "./benchmark/report.js"

/**
 * Measures servers.
 *
 * @since 0.3.0
 * @category models
 */
export interface Service {
  /**
   * Measures models on servers, one after another, within the budget of the options. A server with requests of others
   * in flight is left alone, and so is a model that is not in its server's memory, unless `cold` says otherwise:
   * `skipped` has the reason for each. Fails before anything is measured where an option, a model or a server cannot be
   * used. An interruption stops the servers' work.
   */
  readonly run: (options?: Options) => Effect.Effect<Report, InvalidRequest | ModelNotFound | NoServers>
  /**
   * Loads one server, which need not be one of the settings, and tells how far that is: the last element is `done` and
   * has the whole report. Fails before anything is sent where an option cannot be used. An interruption stops the
   * server's work; `report` of the last element then still has what was measured.
   */
  readonly load: (options: LoadOptions) => Stream.Stream<LoadProgress, InvalidRequest>
}

/**
 * The tag of the service.
 *
 * @since 0.3.0
 * @category tags
 */
export class Benchmark extends Context.Tag("aicortex/Benchmark")<Benchmark, Service>() {}

/**
 * The service, over those that it needs.
 *
 * @since 0.3.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const registry = yield* Registry
  const router = yield* Router
  const fleet = yield* Fleet
  const backends = yield* Backends
  const settings = yield* CurrentSettings
  const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  const precise = () => Number(clock.unsafeCurrentTimeNanos() / 1_000n) / 1_000
  const random = Prng.make(
    yield* Effect.flatMap(Effect.random, (random) => random.nextIntBetween(0, Number.MAX_SAFE_INTEGER))
  )

  const run = Effect.fnUntraced(function* (given: Options = {}) {
    const options = yield* decodeOptions(given)
    const began = now()
    const budget = new Budget(
      now,
      began + (options.maxTime ?? defaults.maxTime),
      options.maxRequests ?? defaults.maxRequests,
      options.maxTokens ?? defaults.maxTokens
    )
    const { hosts, skipped } = yield* select(registry, fleet, settings.model, now, options)
    const results: Array<Result> = []
    const left: Array<Skipped> = [...skipped]
    for (const [done, host] of hosts.entries()) {
      budget.share(hosts.length - done)
      const all = yield* registry.locate(host.model)
      const { columns } = router.plan(all, "random")
      const at = columns.hosts.findIndex(({ server }) => server.url === host.server.url)
      if (at === -1) continue
      const inFlight = host.protocol === "openai" ? inFlightAt(client, host.server) : Effect.succeed(undefined)
      const backend = backends.get(host.protocol)
      const outcome = yield* measure(
        { fleet, backend, host, columns, at, budget, options, random, precise, inFlight },
        now
      )
      if (!isResult(outcome)) {
        left.push(outcome)
        continue
      }
      results.push(outcome)
      fleet.benchmarked(host.server.url, host.model, {
        tokensPerSecond: Math.min(outcome.tokensPerSecond, maxPlausibleSpeed),
        promptTokensPerSecond: outcome.promptTokensPerSecond,
        firstTokenTime: outcome.firstTokenTime
      })
    }
    const report: Report = {
      at: began,
      took: now() - began,
      requests: budget.requests,
      tokens: budget.tokens,
      results,
      skipped: left
    }
    return report
  })

  const load = (given: LoadOptions) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const options = yield* decodeLoad(given)
        const server = yield* targetOf(options.server, settings.servers)
        const backend = backends.get(server.protocol ?? "openai")
        return loadTest({ server, backend, fleet, options, now, precise })
      })
    )

  return Benchmark.of({ run, load })
})

/**
 * The service as a layer.
 *
 * @since 0.3.0
 * @category layers
 */
export const layer: Layer.Layer<
  Benchmark,
  never,
  Registry | Router | Fleet | Backends | CurrentSettings | HttpClient.HttpClient
> = Layer.effect(Benchmark, make)

/**
 * Measures models on servers.
 *
 * @example
 * import { Benchmark, Cortex } from "aicortex"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const { results, skipped } = yield* Benchmark.run({ model: "llama3.2:3b", maxTime: "30 seconds" })
 *   for (const { server, tokensPerSecond } of results) yield* Console.log(server, Math.round(tokensPerSecond))
 *   for (const { message, server } of skipped) yield* Console.log(server, message)
 * }).pipe(Effect.provide(Cortex.layer()))
 *
 * @since 0.3.0
 * @category accessors
 */
export const run = (options?: Options): Effect.Effect<Report, InvalidRequest | ModelNotFound | NoServers, Benchmark> =>
  Effect.flatMap(Benchmark, (benchmark) => benchmark.run(options))

/**
 * Loads one OpenAI-compatible server, and emits its progress; see `Service.load`.
 *
 * @since 0.3.0
 * @category accessors
 */
export const loadProgress = (options: LoadOptions): Stream.Stream<LoadProgress, InvalidRequest, Benchmark> =>
  Stream.unwrap(Effect.map(Benchmark, (benchmark) => benchmark.load(options)))

/**
 * Loads one OpenAI-compatible server: requests at a rate or at a concurrency, their latencies, and how many of them
 * kept time limits (goodput).
 *
 * @example
 * import { Benchmark, Cortex } from "aicortex"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const { steps } = yield* Benchmark.load({
 *     server: "http://gpu-1:8000",
 *     model: "llama3.2:3b",
 *     rate: 5,
 *     duration: "30 seconds",
 *     slo: { ttft: 200, itl: 50 }
 *   })
 *   for (const { goodput, ttft } of steps) yield* Console.log(ttft.p95, goodput?.attainment)
 * }).pipe(Effect.provide(Cortex.layer()))
 *
 * @since 0.3.0
 * @category accessors
 */
export const load = (options: LoadOptions): Effect.Effect<LoadReport, InvalidRequest, Benchmark> =>
  Effect.flatMap(Stream.runLast(loadProgress(options)), (last) =>
    Option.match(last, {
      onNone: () => Effect.dieMessage("a load test without an end"),
      onSome: ({ report }) => Effect.sync(report)
    })
  )
