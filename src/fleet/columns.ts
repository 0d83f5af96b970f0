/**
 * What is known of the servers of one model, in columns: one entry per server, kept up to date by the fleet as things
 * happen, so that a routing decision over thousands of servers is one pass over plain numbers.
 *
 * @since 0.1.0
 */
import type { Host, Protocol } from "../Server.js"
import { ModelQueue } from "./queue.js"
import type { SlidingWindow } from "./slidingWindow.js"

/**
 * A model on a server, as those that look for a server to load another one there see it. Times are in milliseconds
 * since the epoch; `ownInFlight` is how many requests of this process are at work there, `queued` how many wait for the model
 * anywhere, `firstTokens` its newest times to first token.
 *
 * @since 0.1.0
 * @category models
 */
export interface ModelOnServer {
  readonly residentUntil: number
  readonly inFlight: number
  readonly usedAt: number
  readonly queued: number
  readonly firstTokens?: SlidingWindow
}

/**
 * The bits of `Columns.flags`: no place is free; the breaker is not closed; the model is not in memory.
 *
 * @since 0.1.0
 * @category constants
 */
export const flag = { full: 1, rests: 2, absent: 4 } as const

const noOtherModels: ReadonlyArray<ModelOnServer> = []

/**
 * Times are in milliseconds, moments in milliseconds since the epoch.
 *
 * - `protocols`: those that its hosts speak
 * - `tier`: lower is tried first: two per `priority`, for servers that are certain to have the model and the others
 * - `weight`: as configured; `maxWeight` is the most
 * - `remoteness`: round trip; NaN where it is not known
 * - `speed`: tokens per second, our own measure or else the registry's; NaN where there is none
 * - `proven`: 1 where the last attempt succeeded
 * - `inFlight`: requests of this process on the server; `ownInFlight`: those for this model; `started`: those that ever began
 * - `free`: how many more it may have for this model; `places`: how many it may have
 * - `restsUntil`: 0, or when the breaker lets a probe through; `probing`: 1 while one runs
 * - `promptSpeed`: EWMA of prompt tokens per second; NaN before the first
 * - `residentUntil`: until when the server holds the model in memory, as far as is known: Infinity for good, 0 not
 * - `loadSince`: since when it is taken to load the model, where it has requests for it and does not hold it
 * - `flags`: what keeps it from being chosen, as bits of `flag`; `provenSpeed`: its speed if that is proven, else 0; `pace`:
 *   milliseconds per prompt token at its present load, or, where its prompt speed is not known, the negative of how many
 *   share it. These follow from the others: see `settle`
 * - `otherModels`: the models on the server, this one (`self`) among them
 *
 * @since 0.1.0
 * @category models
 */
export class Columns {
  readonly size: number
  readonly protocols: ReadonlySet<Protocol>
  readonly tier: Float64Array
  readonly weight: Float64Array
  readonly maxWeight: number
  readonly remoteness: Float64Array
  readonly speed: Float64Array
  readonly proven: Uint8Array
  readonly inFlight: Int32Array
  readonly ownInFlight: Int32Array
  readonly started: Float64Array
  readonly free: Float64Array
  readonly places: Float64Array
  readonly restsUntil: Float64Array
  readonly probing: Uint8Array
  readonly promptSpeed: Float64Array
  readonly residentUntil: Float64Array
  readonly loadSince: Float64Array
  readonly flags: Uint8Array
  readonly provenSpeed: Float64Array
  readonly pace: Float64Array
  readonly otherModels: Array<ReadonlyArray<ModelOnServer>>
  readonly self: Array<ModelOnServer | undefined>
  /** The indices of each tier, the lowest tier first. */
  readonly tiers: ReadonlyArray<Int32Array>
  /** Those whose breaker is not closed. */
  readonly openBreakers: Array<number> = []
  private byUrl: Map<string, number> | undefined
  /** When the first model leaves a memory, as far as is known: then `flags` are no longer true. */
  private expiry = Number.POSITIVE_INFINITY
  /** Requests of routes over this very pool: those that wait, and those that have a place. */
  waiting = 0
  active = 0
  /** Whether the columns are kept up to date. */
  linked = false
  queue: ModelQueue

  /** `now` is in milliseconds. */
  constructor(
    readonly hosts: ReadonlyArray<Host>,
    now: () => number = () => 0
  ) {
    this.queue = new ModelQueue(now)
    const size = hosts.length
    this.size = size
    this.protocols = new Set(hosts.map((host) => host.protocol))
    this.tier = new Float64Array(size)
    this.weight = new Float64Array(size)
    this.remoteness = new Float64Array(size).fill(Number.NaN)
    this.speed = new Float64Array(size).fill(Number.NaN)
    this.proven = new Uint8Array(size)
    this.inFlight = new Int32Array(size)
    this.ownInFlight = new Int32Array(size)
    this.started = new Float64Array(size)
    this.free = new Float64Array(size).fill(Number.POSITIVE_INFINITY)
    this.places = new Float64Array(size).fill(Number.POSITIVE_INFINITY)
    this.restsUntil = new Float64Array(size)
    this.probing = new Uint8Array(size)
    this.promptSpeed = new Float64Array(size).fill(Number.NaN)
    this.residentUntil = new Float64Array(size)
    this.loadSince = new Float64Array(size)
    this.flags = new Uint8Array(size).fill(flag.absent)
    this.provenSpeed = new Float64Array(size)
    this.pace = new Float64Array(size)
    this.otherModels = new Array<ReadonlyArray<ModelOnServer>>(size).fill(noOtherModels)
    this.self = new Array<ModelOnServer | undefined>(size).fill(undefined)
    for (let i = 0; i < size; i++) {
      const host = hosts[i]
      if (host === undefined) continue
      this.tier[i] = host.server.priority * 2 + (host.certain ? 0 : 1)
      this.weight[i] = host.server.weight
    }
    this.maxWeight = this.weight.reduce((most, weight) => Math.max(most, weight), 0)
    const tiers = [...new Set(this.tier)].sort((a, b) => a - b)
    this.tiers = tiers.map((tier) => Int32Array.from(hosts.keys()).filter((i) => this.tier[i] === tier))
    for (let i = 0; i < size; i++) this.settle(i, 0)
  }

  /** Brings what follows from an entry's columns up to date; to be called after they have changed. */
  settle(i: number, now: number): void {
    const until = this.residentUntil[i] ?? 0
    const rests = this.restsUntil[i] !== 0
    const before = this.flags[i] ?? 0
    this.flags[i] =
      ((this.free[i] ?? 0) > 0 ? 0 : flag.full) | (rests ? flag.rests : 0) | (until > now ? 0 : flag.absent)
    if (until > now && until < this.expiry) this.expiry = until
    const speed = this.speed[i] ?? 0
    this.provenSpeed[i] = this.proven[i] === 1 && speed > 0 ? speed : 0
    const prompt = this.promptSpeed[i] ?? 0
    const shared = (1 + (this.inFlight[i] ?? 0)) / (this.weight[i] ?? 1)
    this.pace[i] = prompt > 0 ? (1_000 * shared) / prompt : -shared
    if (rests === ((before & flag.rests) !== 0)) return
    if (rests) this.openBreakers.push(i)
    else this.openBreakers.splice(this.openBreakers.indexOf(i), 1)
  }

  /** Takes notice of models that have left a memory since. */
  refresh(now: number): void {
    if (now < this.expiry) return
    this.expiry = Number.POSITIVE_INFINITY
    for (let i = 0; i < this.size; i++) this.settle(i, now)
  }

  /** The index of a server, -1 where it is not here. */
  indexOf(url: string): number {
    this.byUrl ??= new Map(this.hosts.map((host, i) => [host.server.url, i]))
    return this.byUrl.get(url) ?? -1
  }

  /** How many requests wait for a place. */
  get queued(): number {
    return this.queue.length
  }
}
