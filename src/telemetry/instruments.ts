/**
 * The metrics, created once per server, model and outcome, then only updated.
 *
 * Names, units and buckets of `gen_ai.*` follow the OpenTelemetry conventions for generative AI. Everything else is
 * `aicortex_*`, in Prometheus style. `@effect/opentelemetry` takes the unit from a `unit` label.
 */
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import type * as MetricKeyType from "effect/MetricKeyType"
import * as MetricLabel from "effect/MetricLabel"
import type * as MetricPair from "effect/MetricPair"
import type { FailureReason } from "../Errors.js"
import type { Host, Protocol } from "../Server.js"
import type { Operation, Resumption } from "./observer.js"
import { type Address, addressOf, perKey, providers } from "./serverAddress.js"

export { type Address, addressOf } from "./serverAddress.js"

type Labels = { readonly [name: string]: string }
type Counter = Metric.Metric.Counter<number>
type Gauge = Metric.Metric.Gauge<number>
type Histogram = Metric.Metric.Histogram<number>

/** The outcome of an attempt. */
export type Outcome = "success" | "failure" | "cancelled" | "overtaken"

/** Without labels of the caller's fiber. */
const none: ReadonlyArray<MetricLabel.MetricLabel> = []

// biome-ignore lint/suspicious/noExplicitAny: the metric's input and output types are irrelevant here.
const tagged = <Type extends MetricKeyType.MetricKeyType<any, any>>(key: MetricKey.MetricKey<Type>, labels: Labels) =>
  Metric.fromMetricKey(
    MetricKey.taggedWithLabels(
      key,
      Object.entries(labels).map(([name, value]) => MetricLabel.make(name, value))
    )
  )

const counter = (name: string, description: string) => MetricKey.counter(name, { description, incremental: true })
const gauge = (name: string, description: string) => MetricKey.gauge(name, { description })
const histogram = (name: string, description: string, bounds: ReadonlyArray<number>) =>
  MetricKey.histogram(name, MetricBoundaries.fromIterable(bounds), description)

// =============================================================================
// The commands
// =============================================================================

const keys = {
  duration: histogram(
    "gen_ai.client.operation.duration",
    "GenAI operation duration.",
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
  ),
  tokens: histogram(
    "gen_ai.client.token.usage",
    "Number of input and output tokens used.",
    [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
  ),
  firstToken: histogram(
    "gen_ai.server.time_to_first_token",
    "Time to generate first token for successful responses.",
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
  ),
  perToken: histogram(
    "gen_ai.server.time_per_output_token",
    "Time per output token generated after the first token for successful responses.",
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5]
  ),
  attempts: counter("aicortex_attempts_total", "Attempts on servers, by how they ended"),
  inFlight: gauge("aicortex_attempts_in_flight", "Attempts on servers under way"),
  hedges: counter("aicortex_hedges_total", "Attempts made because another one was late, by how they ended"),
  failovers: counter("aicortex_failovers_total", "Attempts that took over where another had failed, by its reason"),
  resumes: counter(
    "aicortex_resumes_total",
    "Interrupted answers that a server resumed to their end, by the way in which it did"
  ),
  loads: counter("aicortex_model_loads_total", "Attempts that had a server load the model"),
  queueLength: gauge("aicortex_queue_length", "Calls that wait for a place on a server"),
  queueWait: histogram(
    "aicortex_queue_wait_seconds",
    "How long calls waited for a place on a server, of those that had to",
    [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
  ),
  overloaded: counter("aicortex_overloaded_total", "Calls refused because too many were waiting"),
  remoteTokens: counter("aicortex_remote_tokens_total", "Tokens of prompts and answers of remote servers"),
  probes: counter("aicortex_probes_total", "Active probes of servers, by whether they were reached"),
  breaker: counter("aicortex_breaker_transitions_total", "Changes of a circuit breaker, by what it became"),
  hits: counter("aicortex_cache_hits_total", "Calls that were given a kept answer"),
  misses: counter("aicortex_cache_misses_total", "Calls with the cache for which a server was asked"),
  shared: counter("aicortex_cache_shared_total", "Calls that shared the answer to an equal call under way")
} as const

/**
 * The metrics of the response cache.
 *
 * @since 0.1.0
 * @category constants
 */
export const cache = {
  hits: Metric.fromMetricKey(keys.hits),
  misses: Metric.fromMetricKey(keys.misses),
  shared: Metric.fromMetricKey(keys.shared)
} as const

const names: ReadonlySet<string> = new Set(Object.values(keys).map(({ name }) => name))

/**
 * A snapshot of the library's own metrics, of everything in the process.
 *
 * @since 0.1.0
 * @category accessors
 */
export const snapshot = (): ReadonlyArray<MetricPair.MetricPair.Untyped> =>
  Metric.unsafeSnapshot().filter(({ metricKey: { name } }) => names.has(name))

const words: { readonly [R in Resumption]: string } = {
  continues: "continued",
  trims: "continued",
  echoes: "echoed",
  restarts: "restarted",
  discards: "discarded"
}

/** How an answer was resumed, as a label and attribute value. */
export const wordFor = (how: Resumption): string => words[how]

// =============================================================================
// By server and model
// =============================================================================

/** The metrics of one model on one server. Times are in seconds. */
export class ServerInstruments {
  readonly address: Address
  readonly provider: string
  private readonly completed: Counter
  private readonly others: (outcome: Outcome) => Counter
  private readonly hedging: (outcome: Outcome) => Counter
  private readonly input: Histogram
  private readonly output: Histogram
  private readonly first: Histogram
  private readonly rest: Histogram
  private readonly inFlight: Gauge
  private readonly answered: Histogram
  private readonly failing: (reason: FailureReason) => Counter
  private readonly resuming: (how: string) => Counter
  private readonly erring: (type: string) => Histogram
  private readonly loading: Counter

  constructor(
    url: string,
    readonly model: string,
    protocol: Protocol,
    operation: Operation
  ) {
    const address = addressOf(url)
    this.address = address
    this.provider = providers[protocol]
    const shared = {
      "gen_ai.operation.name": operation,
      "gen_ai.provider.name": this.provider,
      "gen_ai.request.model": model,
      "gen_ai.response.model": model,
      "server.address": address.name,
      ...(address.port === undefined ? {} : { "server.port": String(address.port) })
    }
    const timed = { ...shared, unit: "s" }
    const counted = { ...shared, unit: "{token}" }
    this.answered = tagged(keys.duration, timed)
    this.erring = perKey((type) => tagged(keys.duration, { ...timed, "error.type": type }))
    this.input = tagged(keys.tokens, { ...counted, "gen_ai.token.type": "input" })
    this.output = tagged(keys.tokens, { ...counted, "gen_ai.token.type": "output" })
    this.first = tagged(keys.firstToken, timed)
    this.rest = tagged(keys.perToken, timed)
    this.inFlight = tagged(keys.inFlight, { server: address.both, model })
    this.completed = this.own(keys.attempts, { outcome: "success" })
    this.others = perKey((outcome) => this.own(keys.attempts, { outcome }))
    this.hedging = perKey((outcome) => this.own(keys.hedges, { outcome }))
    this.failing = perKey((reason) => this.own(keys.attempts, { outcome: "failure", reason }))
    this.resuming = perKey((how) => this.own(keys.resumes, { how }))
    this.loading = this.own(keys.loads, {})
  }

  private own(key: MetricKey.MetricKey.Counter<number>, labels: Labels): Counter {
    return tagged(key, { server: this.address.both, model: this.model, ...labels })
  }

  began(): void {
    this.inFlight.unsafeModify(1, none)
  }
  succeeded(firstToken: number | undefined, perToken: number | undefined): void {
    this.inFlight.unsafeModify(-1, none)
    this.completed.unsafeUpdate(1, none)
    if (firstToken !== undefined) this.first.unsafeUpdate(firstToken, none)
    if (perToken !== undefined) this.rest.unsafeUpdate(perToken, none)
  }
  failed(reason: FailureReason): void {
    this.inFlight.unsafeModify(-1, none)
    this.failing(reason).unsafeUpdate(1, none)
  }
  stopped(outcome: "cancelled" | "overtaken"): void {
    this.inFlight.unsafeModify(-1, none)
    this.others(outcome).unsafeUpdate(1, none)
  }
  hedged(outcome: Outcome): void {
    this.hedging(outcome).unsafeUpdate(1, none)
  }
  resumed(how: Resumption): void {
    this.resuming(wordFor(how)).unsafeUpdate(1, none)
  }
  loaded(): void {
    this.loading.unsafeUpdate(1, none)
  }
  used(input: number | undefined, output: number | undefined): void {
    if (input !== undefined) this.input.unsafeUpdate(input, none)
    if (output !== undefined) this.output.unsafeUpdate(output, none)
  }
  /** A call has ended; `error` is set if it failed. */
  ended(seconds: number, error: string | undefined): void {
    ;(error === undefined ? this.answered : this.erring(error)).unsafeUpdate(seconds, none)
  }
}

type Servers = Map<string, Map<string, ServerInstruments>>
const servers: { readonly [O in Operation]: Servers } = {
  chat: new Map(),
  text_completion: new Map(),
  embeddings: new Map()
}

export const serverInstruments = (
  { model, protocol, server: { url } }: Host,
  operation: Operation
): ServerInstruments => {
  const known = servers[operation]
  let models = known.get(url)
  if (models === undefined) {
    models = new Map()
    known.set(url, models)
  }
  let found = models.get(model)
  // Another program may have taken over the address since.
  if (found === undefined || found.provider !== providers[protocol]) {
    found = new ServerInstruments(url, model, protocol, operation)
    models.set(model, found)
  }
  return found
}

// =============================================================================
// By model
// =============================================================================

/** The metrics of one model over all servers. Times are in seconds. */
export class ModelInstruments {
  private readonly length: Gauge
  private readonly wait: Histogram
  private readonly refused: Counter
  private readonly failover: (reason: FailureReason) => Counter
  private readonly ending: (operation: Operation) => (error: string) => Histogram

  constructor(model: string | undefined) {
    const labels: Labels = model === undefined ? {} : { model }
    this.length = tagged(keys.queueLength, labels)
    this.wait = tagged(keys.queueWait, labels)
    this.refused = tagged(keys.overloaded, labels)
    this.failover = perKey((reason) => tagged(keys.failovers, { ...labels, reason }))
    this.ending = perKey((operation) =>
      perKey((error) =>
        tagged(keys.duration, {
          "gen_ai.operation.name": operation,
          ...(model === undefined ? {} : { "gen_ai.request.model": model }),
          "error.type": error,
          unit: "s"
        })
      )
    )
  }

  queued(): void {
    this.length.unsafeModify(1, none)
  }
  dequeued(seconds: number): void {
    this.length.unsafeModify(-1, none)
    this.wait.unsafeUpdate(seconds, none)
  }
  overloaded(): void {
    this.refused.unsafeUpdate(1, none)
  }
  failedOver(reason: FailureReason): void {
    this.failover(reason).unsafeUpdate(1, none)
  }
  /** A call has ended before any request was sent. */
  ended(operation: Operation, seconds: number, error: string): void {
    this.ending(operation)(error).unsafeUpdate(seconds, none)
  }
}

/** `undefined`: an unknown model. Its name comes from the caller, so the number of names is unbounded. */
export const modelInstruments: (model: string | undefined) => ModelInstruments = perKey(
  (model) => new ModelInstruments(model)
)

// =============================================================================
// By server
// =============================================================================

/**
 * A circuit breaker's new state.
 *
 * @since 0.1.0
 * @category models
 */
export type BreakerChange = "open" | "half-open" | "closed"

/**
 * Counts the transitions of a breaker: of a server, or of one model on it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const breaker = (url: string, model: string | undefined): ((change: BreakerChange) => void) => {
  const of = perKey((to: BreakerChange) =>
    tagged(keys.breaker, { server: addressOf(url).both, ...(model === undefined ? {} : { model }), to })
  )
  return (change) => of(change).unsafeUpdate(1, none)
}

const probes = perKey((url: string) =>
  perKey((outcome: string) => tagged(keys.probes, { server: addressOf(url).both, outcome }))
)

const remoteTokens = Metric.fromMetricKey(keys.remoteTokens)

/**
 * Counts tokens of a remote server.
 *
 * @since 0.2.0
 * @category combinators
 */
export const remoteTokensUsed = (tokens: number): void => remoteTokens.unsafeUpdate(tokens, none)

/**
 * Counts an active probe. `undefined`: the server did not answer, which may mean that it is busy.
 *
 * @since 0.1.0
 * @category combinators
 */
export const probed = (url: string, reached: boolean | undefined): void => {
  const outcome = reached === undefined ? "silent" : reached ? "reached" : "unreachable"
  probes(url)(outcome).unsafeUpdate(1, none)
}
