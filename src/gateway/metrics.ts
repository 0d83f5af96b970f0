/**
 * What Prometheus may know: counters, gauges and histograms, in its text format.
 *
 * @since 0.1.0
 */

const escape = (value: string): string => value.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))

const labelsOf = (labels: { readonly [name: string]: string }): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${escape(value)}"`)
    .join(",")

/** So many combinations of labels are told apart; models are named by whoever asks. */
const maxSeries = 2_000

class Counter {
  private readonly values = new Map<string, number>()

  constructor(
    private readonly name: string,
    private readonly help: string,
    private readonly kind: "counter" | "gauge"
  ) {}

  add(labels: string, by = 1): void {
    const known = this.values.get(labels)
    if (known === undefined && this.values.size >= maxSeries) return
    this.values.set(labels, (known ?? 0) + by)
  }
  write(lines: Array<string>): void {
    lines.push(`# HELP ${this.name} ${this.help}`, `# TYPE ${this.name} ${this.kind}`)
    for (const [labels, value] of this.values) lines.push(`${this.name}${labels === "" ? "" : `{${labels}}`} ${value}`)
  }
}

class Histogram {
  private readonly counts: Float64Array
  private sum = 0
  private count = 0

  constructor(
    private readonly name: string,
    private readonly help: string,
    private readonly bounds: ReadonlyArray<number>
  ) {
    this.counts = new Float64Array(bounds.length)
  }

  observe(value: number): void {
    this.sum += value
    this.count++
    for (let i = 0; i < this.bounds.length; i++) {
      if (value <= (this.bounds[i] as number)) {
        this.counts[i] = (this.counts[i] as number) + 1
        return
      }
    }
  }
  write(lines: Array<string>): void {
    lines.push(`# HELP ${this.name} ${this.help}`, `# TYPE ${this.name} histogram`)
    let below = 0
    this.bounds.forEach((bound, i) => {
      below += this.counts[i] as number
      lines.push(`${this.name}_bucket{le="${bound}"} ${below}`)
    })
    lines.push(
      `${this.name}_bucket{le="+Inf"} ${this.count}`,
      `${this.name}_sum ${this.sum}`,
      `${this.name}_count ${this.count}`
    )
  }
}

const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
const small = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5]

/**
 * A server as it stands now.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerGauge {
  readonly server: string
  readonly up: boolean
  readonly inFlight: number
  readonly models: number
}

/**
 * @since 0.1.0
 * @category models
 */
export class Metrics {
  readonly duration = new Histogram(
    "aicortex_request_duration_seconds",
    "From a request's headers to the end of its answer.",
    seconds
  )
  readonly firstToken = new Histogram(
    "aicortex_time_to_first_token_seconds",
    "From a request's headers to the first piece of its answer.",
    seconds
  )
  readonly overhead = new Histogram(
    "aicortex_overhead_seconds",
    "Time in the gateway's own code, per request: reading, checking, choosing, sending and writing.",
    small
  )
  inFlight = 0
  private readonly requests = new Counter("aicortex_requests_total", "Requests by endpoint and HTTP status.", "counter")
  private readonly tokens = new Counter("aicortex_tokens_total", "Tokens by kind.", "counter")
  private readonly failed = new Counter("aicortex_attempts_failed_total", "Attempts on servers that failed.", "counter")
  private readonly broken = new Counter("aicortex_streams_broken_total", "Streams that ended with an error.", "counter")
  private readonly left = new Counter("aicortex_clients_left_total", "Clients that left before the end.", "counter")
  private readonly routes = new Map<string, string>()

  request(route: string, status: number): void {
    const key = `${route} ${status}`
    let labels = this.routes.get(key)
    if (labels === undefined) {
      labels = labelsOf({ route, status: String(status) })
      this.routes.set(key, labels)
    }
    this.requests.add(labels)
  }
  used(prompt: number, completion: number): void {
    if (prompt > 0) this.tokens.add(`kind="prompt"`, prompt)
    if (completion > 0) this.tokens.add(`kind="completion"`, completion)
  }
  attemptFailed(server: string, reason: string): void {
    this.failed.add(labelsOf({ server, reason }))
  }
  streamBroke(): void {
    this.broken.add("")
  }
  clientLeft(): void {
    this.left.add("")
  }

  /** Everything, in Prometheus' text format. */
  text(servers: ReadonlyArray<ServerGauge>): string {
    const lines: Array<string> = []
    this.requests.write(lines)
    const inFlight = new Counter("aicortex_requests_in_flight", "Requests being answered.", "gauge")
    inFlight.add("", this.inFlight)
    inFlight.write(lines)
    this.duration.write(lines)
    this.firstToken.write(lines)
    this.overhead.write(lines)
    for (const counter of [this.tokens, this.failed, this.broken, this.left]) counter.write(lines)
    const up = new Counter("aicortex_server_up", "Whether a server answers.", "gauge")
    const busy = new Counter("aicortex_server_requests_in_flight", "Requests on a server.", "gauge")
    const models = new Counter("aicortex_server_models", "Models that a server has.", "gauge")
    for (const { inFlight, models: n, server, up: answers } of servers) {
      const labels = labelsOf({ server })
      up.add(labels, answers ? 1 : 0)
      busy.add(labels, inFlight)
      models.add(labels, n)
    }
    for (const gauge of [up, busy, models]) gauge.write(lines)
    const memory = new Counter("process_resident_memory_bytes", "Resident memory.", "gauge")
    memory.add("", process.memoryUsage.rss())
    memory.write(lines)
    return `${lines.join("\n")}\n`
  }
}

/**
 * The figures of several processes as those of one: what they count is added up.
 *
 * @since 0.1.0
 * @category combinators
 */
export const merge = (texts: ReadonlyArray<string>): string => {
  const sums = new Map<string, number>()
  const heads = new Map<string, Array<string>>()
  let group: Array<string> = []
  for (const text of texts) {
    for (const line of text.split("\n")) {
      if (line.startsWith("# HELP ")) {
        const known = heads.get(line)
        if (known === undefined) {
          group = [line]
          heads.set(line, group)
        } else group = known
        continue
      }
      if (line === "") continue
      if (line.startsWith("#")) {
        if (!group.includes(line)) group.push(line)
        continue
      }
      const at = line.lastIndexOf(" ")
      const name = line.slice(0, at)
      const value = Number(line.slice(at + 1))
      if (!sums.has(name)) group.push(name)
      // Every process sees the same servers: that one is up, or has models, is no sum.
      const before = sums.get(name) ?? 0
      const shared = name.startsWith("aicortex_server_up") || name.startsWith("aicortex_server_models")
      sums.set(name, shared ? Math.max(before, value) : before + value)
    }
  }
  const lines: Array<string> = []
  for (const all of heads.values()) {
    for (const line of all) lines.push(line.startsWith("#") ? line : `${line} ${sums.get(line)}`)
  }
  return `${lines.join("\n")}\n`
}
