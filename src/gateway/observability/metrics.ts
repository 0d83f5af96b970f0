/** The gateway's own metrics: requests and their durations. Upstream metrics are the library's (`fleetMetrics`). */
import { version } from "../../internal/version.js"
import * as Prometheus from "./prometheus.js"

class Counter {
  private readonly values = new Map<string, number>()

  constructor(
    private readonly name: string,
    private readonly help: string
  ) {}

  add(labels: string, by = 1): void {
    this.values.set(labels, (this.values.get(labels) ?? 0) + by)
  }
  family(): Prometheus.Family {
    const family = Prometheus.family(this.name, "counter", this.help)
    for (const [labels, value] of this.values) Prometheus.add(family, labels, value)
    return family
  }
}

/** One counter per set of labels. */
class Histogram {
  private readonly series = new Map<string, { readonly counts: Float64Array; sum: number; count: number }>()

  constructor(
    private readonly name: string,
    private readonly help: string,
    private readonly bounds: ReadonlyArray<number>
  ) {}

  observe(labels: string, value: number): void {
    let series = this.series.get(labels)
    if (series === undefined) {
      series = { counts: new Float64Array(this.bounds.length), sum: 0, count: 0 }
      this.series.set(labels, series)
    }
    series.sum += value
    series.count++
    for (let i = 0; i < this.bounds.length; i++) {
      if (value <= (this.bounds[i] as number)) {
        series.counts[i] = (series.counts[i] as number) + 1
        return
      }
    }
  }
  family(): Prometheus.Family {
    const family = Prometheus.family(this.name, "histogram", this.help)
    for (const [labels, { count, counts, sum }] of this.series) {
      let below = 0
      const buckets = this.bounds.map((bound, i): [number, number] => {
        below += counts[i] as number
        return [bound, below]
      })
      Prometheus.addHistogram(family, labels, buckets, count, sum)
    }
    return family
  }
}

const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
const small = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5]

interface RouteLabels {
  readonly route: string
  readonly statuses: Map<number, string>
}

/** Route labels are the gateway's route names, never client input: the number of series is bounded. */
export class Metrics {
  readonly firstToken = new Histogram(
    "aicortex_time_to_first_token_seconds",
    "Time to first token of streamed answers, from the request's headers.",
    seconds
  )
  inFlight = 0
  private readonly duration = new Histogram(
    "aicortex_request_duration_seconds",
    "Duration of requests, from the headers to the end of the answer, by endpoint.",
    seconds
  )
  private readonly overhead = new Histogram(
    "aicortex_overhead_seconds",
    "Time spent in the gateway itself, per request.",
    small
  )
  private readonly requests = new Counter("aicortex_requests_total", "Requests by endpoint and HTTP status.")
  private readonly abortedStreams = new Counter("aicortex_streams_broken_total", "Streams that ended with an error.")
  private readonly disconnects = new Counter("aicortex_clients_left_total", "Clients that disconnected before the end.")
  private readonly routes = new Map<string, RouteLabels>()

  constructor() {
    // Series without labels exist from the start, so that their first increase is visible.
    for (const counter of [this.abortedStreams, this.disconnects]) counter.add("", 0)
  }

  /** Records the end of a request; times are in seconds. */
  request(route: string, status: number, duration: number, own: number): void {
    let known = this.routes.get(route)
    if (known === undefined) {
      known = { route: Prometheus.labels([["route", route]]), statuses: new Map() }
      this.routes.set(route, known)
    }
    let labels = known.statuses.get(status)
    if (labels === undefined) {
      labels = `${known.route},${Prometheus.labels([["status", String(status)]])}`
      known.statuses.set(status, labels)
    }
    this.requests.add(labels)
    this.duration.observe(known.route, duration)
    this.overhead.observe("", own)
  }
  streamAborted(): void {
    this.abortedStreams.add("")
  }
  clientDisconnected(): void {
    this.disconnects.add("")
  }

  /** All metrics, including those of the process. */
  families(): ReadonlyArray<Prometheus.Family> {
    const value = (name: string, kind: Prometheus.Kind, help: string, value: number, labels = "") => {
      const family = Prometheus.family(name, kind, help)
      Prometheus.add(family, labels, value)
      return family
    }
    const { system, user } = process.cpuUsage()
    const build = Prometheus.labels([["version", version]])
    return [
      this.requests.family(),
      value("aicortex_requests_in_flight", "gauge", "Requests being answered.", this.inFlight),
      this.duration.family(),
      this.firstToken.family(),
      this.overhead.family(),
      this.abortedStreams.family(),
      this.disconnects.family(),
      value("aicortex_build_info", "gauge", "1, with the version of the gateway.", 1, build),
      value("process_cpu_seconds_total", "counter", "Processor time, of user and system.", (user + system) / 1e6),
      value("process_resident_memory_bytes", "gauge", "Resident memory.", process.memoryUsage.rss())
    ]
  }
}
