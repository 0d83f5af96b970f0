/**
 * What is known of the servers of one model, in columns: one entry per server, kept up to date by the fleet as things
 * happen, so that a routing decision over thousands of servers is one pass over plain numbers.
 *
 * @since 0.1.0
 */
import type { Host, Protocol } from "../Server.js"

/**
 * - `protocols`: those that its hosts speak
 * - `priority`, `weight`, `certain`: as configured and discovered
 * - `remoteness`: round trip in milliseconds; NaN where it is not known
 * - `speed`: tokens per second, our own measure or else the registry's; NaN where there is none
 * - `proven`: 1 where the last attempt succeeded
 * - `inFlight`: requests of this process on the server; `free`: how many more it may have for this model
 * - `restsUntil`: 0, or when the breaker lets a probe through (milliseconds since the epoch); `probing`: 1 while one runs
 * - `firstToken`: peak EWMA of the time to first token in milliseconds; NaN before the first
 * - `residentUntil`: until when the server holds the model in memory, as far as is known: Infinity for good, 0 not
 * - `loading`: requests under way that wait for the server to load it
 *
 * @since 0.1.0
 * @category models
 */
export class Pool {
  readonly size: number
  readonly protocols: ReadonlySet<Protocol>
  readonly priority: Float64Array
  readonly weight: Float64Array
  readonly certain: Uint8Array
  readonly remoteness: Float64Array
  readonly speed: Float64Array
  readonly proven: Uint8Array
  readonly inFlight: Int32Array
  readonly free: Float64Array
  readonly restsUntil: Float64Array
  readonly probing: Uint8Array
  readonly firstToken: Float64Array
  readonly residentUntil: Float64Array
  readonly loading: Int32Array
  /** Requests that wait for a place, and requests that have one. */
  queued = 0
  active = 0
  /** EWMA of how long a request occupies its place, and of how long a load takes, in milliseconds. */
  serviceTime = 5_000
  loadTime = 15_000

  constructor(readonly hosts: ReadonlyArray<Host>) {
    const size = hosts.length
    this.size = size
    this.protocols = new Set(hosts.map((host) => host.protocol))
    this.priority = new Float64Array(size)
    this.weight = new Float64Array(size)
    this.certain = new Uint8Array(size)
    this.remoteness = new Float64Array(size).fill(Number.NaN)
    this.speed = new Float64Array(size).fill(Number.NaN)
    this.proven = new Uint8Array(size)
    this.inFlight = new Int32Array(size)
    this.free = new Float64Array(size).fill(Number.POSITIVE_INFINITY)
    this.restsUntil = new Float64Array(size)
    this.probing = new Uint8Array(size)
    this.firstToken = new Float64Array(size).fill(Number.NaN)
    this.residentUntil = new Float64Array(size)
    this.loading = new Int32Array(size)
    for (let i = 0; i < size; i++) {
      const host = hosts[i]
      if (host === undefined) continue
      this.priority[i] = host.server.priority
      this.weight[i] = host.server.weight
      this.certain[i] = host.certain ? 1 : 0
    }
  }
}
