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
import { Backends } from "./Backend.js"
import { inFlightAt } from "./benchmark/activity.js"
import { Budget } from "./benchmark/budget.js"
import { isResult, measure } from "./benchmark/measure.js"
import { decodeOptions, defaults, type Options } from "./benchmark/options.js"
import type { Report, Result, Skipped } from "./benchmark/report.js"
import { select } from "./benchmark/targets.js"
import type { InvalidRequest, ModelNotFound, NoServers } from "./Errors.js"
import { Fleet, maxBelievableSpeed } from "./Fleet.js"
import * as Prng from "./internal/prng.js"
import { Registry } from "./Registry.js"
import { Router } from "./Router.js"
import { CurrentSettings } from "./Settings.js"

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
   * Measures models on servers, one after another, within the budget of the options. A server with requests of others in
   * flight is left alone, and so is a model that is not in its server's memory, unless `cold` says otherwise: `skipped`
   * has the reason for each. Fails before anything is measured where an option, a model or a server cannot be used. An
   * interruption stops the servers' work.
   */
  readonly run: (options?: Options) => Effect.Effect<Report, InvalidRequest | ModelNotFound | NoServers>
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
        tokensPerSecond: Math.min(outcome.tokensPerSecond, maxBelievableSpeed),
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

  return Benchmark.of({ run })
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
