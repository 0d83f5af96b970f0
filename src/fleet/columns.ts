/**
 * The state of the servers of one model in columns: one entry per server, updated as things happen, so that a routing
 * decision over thousands of servers is one pass over typed arrays.
 */
import type { Host, Protocol } from "../Server.js"
import { ModelQueue } from "./queue.js"
import type { ServerChanges } from "./serverChanges.js"
import type { SlidingWindow } from "./slidingWindow.js"

/**
 * A model on a server, as seen when choosing where to load another one. Times are in milliseconds since the epoch;
 * `ownInFlight` is the number of requests there, `queued` how many wait for the model anywhere,
 * `firstTokens` its latest times to first token.
 */
export interface ModelOnServer {
  readonly residentUntil: number
  readonly inFlight: number
  readonly usedAt: number
  readonly queued: number
  readonly firstTokens?: SlidingWindow
}

/** The bits of `Columns.flags`: no free slot; the breaker is not closed; the model is not loaded. */
export const flag = { full: 1, rests: 2, absent: 4 } as const

const noOtherModels: ReadonlyArray<ModelOnServer> = []

/**
 * Durations are in milliseconds, times in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export class Columns {
  /** How many hosts there are: the length of each column. */
  readonly size: number
  /** How many of them are engines of this machine that do not run: nothing is sent to those. */
  readonly engineFailures: number
  /** Those of its hosts. */
  readonly protocols: ReadonlySet<Protocol>
  /** Lower is tried first: two per `priority`, for servers certain to have the model and the others. */
  readonly tier: Float64Array
  /** As configured; `maxWeight` is the highest. */
  readonly weight: Float64Array
  /** The highest `weight`. */
  readonly maxWeight: number
  /** Round trip; NaN if unknown. */
  readonly remoteness: Float64Array
  /** Tokens per second, measured or else from the registry; NaN if unknown. */
  readonly speed: Float64Array
  /** 1 if the last attempt succeeded. */
  readonly proven: Uint8Array
  /**
   * Requests on the server, those of other processes that this one knows of included; `ownInFlight`: those for this
   * model; `started`: those that this process ever started.
   */
  readonly inFlight: Int32Array
  /** Those of them for this model. */
  readonly ownInFlight: Int32Array
  /** Requests for this model that were ever started. */
  readonly started: Float64Array
  /** Free slots for this model; `places`: all its slots. */
  readonly free: Float64Array
  /** All slots for this model. */
  readonly places: Float64Array
  /** 0, or when the breaker allows a probe; `probing`: 1 while one runs. */
  readonly restsUntil: Float64Array
  /** 1 while a probe of the breaker runs. */
  readonly probing: Uint8Array
  /** EWMA of prompt tokens per second; NaN before the first. */
  readonly promptSpeed: Float64Array
  /** Until when the model stays loaded, as far as known: Infinity if always, 0 if not loaded. */
  readonly residentUntil: Float64Array
  /** Since when it is assumed to load the model, if it has requests for it and has not loaded it. */
  readonly loadSince: Float64Array
  /**
   * Reasons not to choose it, as bits of `flag`; `provenSpeed`: its speed if proven, else 0; `pace`: milliseconds per
   * prompt token at its present load, or, if its prompt speed is unknown, the negative of how many requests share it.
   * These are derived: see `settle`.
   */
  readonly flags: Uint8Array
  /** The server's speed if proven, else 0. Derived, see `settle`. */
  readonly provenSpeed: Float64Array
  /**
   * Milliseconds per prompt token at the present load, or, if the prompt speed is unknown, the negative of how many
   * requests share it. Derived, see `settle`.
   */
  readonly pace: Float64Array
  /** The models on the server, including this one (`self`). */
  readonly otherModels: Array<ReadonlyArray<ModelOnServer>>
  /** This model on the server. */
  readonly self: Array<ModelOnServer | undefined>
  /** The indices of each tier, the lowest tier first. */
  readonly tiers: ReadonlyArray<Int32Array>
  /** Until when it is not to be asked because it said that it lacks memory for the model; 0: it did not. */
  readonly refusedUntil: Float64Array
  /** The latest of them: before it, some server is to be avoided. */
  refusals = 0
  /** Entries whose breaker is not closed. */
  readonly openBreakers: Array<number> = []
  private byUrl: Map<string, number> | undefined
  /** When the first model is unloaded, as far as known: `flags` are stale from then on. */
  private expiry = Number.POSITIVE_INFINITY
  /** Requests of routes over these columns: those that wait, and those that have a slot. */
  waiting = 0
  /** Requests of routes over these columns that have a slot. */
  active = 0
  /** Whether the columns are kept up to date. */
  linked = false
  private changes: ServerChanges | undefined
  private rewrite: (i: number, now: number) => void = () => {}
  /** How many of the changes are written. */
  private written = 0
  /** The calls that wait for the model. */
  queue: ModelQueue

  /** `now` is in milliseconds. */
  constructor(
    /** The servers of the model, in the order of the columns. */
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
    this.refusedUntil = new Float64Array(size)
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
    this.engineFailures = hosts.reduce((sum, { server }) => (server.engineFailure === undefined ? sum : sum + 1), 0)
    this.maxWeight = this.weight.reduce((most, weight) => Math.max(most, weight), 0)
    const tiers = [...new Set(this.tier)].sort((a, b) => a - b)
    this.tiers = tiers.map((tier) => Int32Array.from(hosts.keys()).filter((i) => this.tier[i] === tier))
    for (let i = 0; i < size; i++) this.settle(i, 0)
  }

  /** Recomputes an entry's derived columns; must be called after a change. */
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

  /** Records until when a server is to be avoided for lack of memory. */
  refuse(i: number, until: number): void {
    if (this.refusedUntil[i] === until) return
    this.refusedUntil[i] = until
    this.refusals = this.refusedUntil.reduce((latest, one) => Math.max(latest, one), 0)
  }

  /** All is written: from now on the columns follow these changes, and `rewrite` writes an entry again. */
  follow(changes: ServerChanges, rewrite: (i: number, now: number) => void): void {
    this.changes = changes
    this.rewrite = rewrite
    this.written = changes.sequence
  }

  /** A change was written here when it was noted, with this number. */
  wrote(number: number): void {
    if (this.written === number) this.written++
  }

  /**
   * To be called before the columns are read: what has changed of servers is written, and which models were unloaded.
   */
  refresh(now: number): void {
    const { changes } = this
    if (changes !== undefined && changes.sequence !== this.written) this.catchUp(changes, now)
    if (now < this.expiry) return
    this.expiry = Number.POSITIVE_INFINITY
    for (let i = 0; i < this.size; i++) this.settle(i, now)
  }

  private catchUp(changes: ServerChanges, now: number): void {
    const { sequence } = changes
    if (sequence - this.written > this.size || !changes.keeps(this.written)) {
      for (let i = 0; i < this.size; i++) this.rewrite(i, now)
    } else {
      for (let number = this.written; number < sequence; number++) {
        const i = this.indexOf(changes.at(number))
        if (i >= 0) this.rewrite(i, now)
      }
    }
    this.written = sequence
  }

  /** The index of a server, or -1. */
  indexOf(url: string): number {
    this.byUrl ??= new Map(this.hosts.map((host, i) => [host.server.url, i]))
    return this.byUrl.get(url) ?? -1
  }

  /** Number of requests that wait for a slot. */
  get queued(): number {
    return this.queue.length
  }
}
