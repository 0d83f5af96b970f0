/** The fleet's state of each server and each model on it, and how it is written into columns. */

import { maxSpeed, plausible } from "../internal/speed.js"
import type { Host } from "../Server.js"
import * as Telemetry from "../Telemetry.js"
import type { Transfer } from "../Transport.js"
import { Breaker } from "./breaker.js"
import type { Columns, ModelOnServer } from "./columns.js"
import type { PairColumns } from "./pairColumns.js"
import type { ModelQueue } from "./queue.js"
import type { ServerChanges } from "./serverChanges.js"
import { SlidingWindow } from "./slidingWindow.js"
import { isTelling } from "./throughput.js"

/**
 * Upper bound for plausible tokens per second: registries and servers may report impossible values.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxPlausibleSpeed = maxSpeed

/**
 * The first measurement of own traffic replaces the figures of a benchmark older than this, in milliseconds: 1 hour.
 */
const maxBenchmarkAge = 3_600_000

/**
 * What a benchmark has measured of a model on a server; what is left out stays as it was.
 *
 * @since 0.3.0
 * @category models
 */
export interface BenchmarkFigures {
  /** Output tokens per second of one request at a time. */
  readonly tokensPerSecond?: number | undefined
  /** Prompt tokens per second. */
  readonly promptTokensPerSecond?: number | undefined
  /** Time to first token of a short prompt, in milliseconds. */
  readonly firstTokenTime?: number | undefined
}

/** A server's distance as a round trip in milliseconds, given the measured one; NaN if unknown. */
export type Remoteness = (host: Host, roundTrip: number | undefined) => number

/** An entry of a server in columns. */
export interface ColumnEntry {
  readonly pool: Columns
  readonly at: number
  readonly host: Host
  readonly remoteness: Remoteness
}

/** One model on one server. Durations are in milliseconds, times in milliseconds since the epoch. */
export class ModelState implements ModelOnServer {
  readonly breaker: Breaker
  /** Requests in flight here, those of other processes, and requests ever started here. */
  inFlight = 0
  elsewhere = 0
  begun = 0
  /** Maximum of concurrent requests (slots); `learns` is whether observations change it. */
  places = Number.POSITIVE_INFINITY
  learns = false
  /** What it had learned before this process started. */
  keptPlaces: number | undefined
  proven = false
  /** Consecutive requests that it rejected and another server answered. */
  refusals = 0
  tokensPerSecond: number | undefined
  firstTokenTime: number | undefined
  /** Times to first token without a load. */
  readonly firstTokens = new SlidingWindow()
  promptSpeed: number | undefined
  /** When a benchmark last set these figures; `undefined` if own traffic has been measured since, or none ran. */
  benchmarkedAt: number | undefined
  /** The part of the time to first token that is neither load nor prompt nor waiting: the network. */
  overhead: number | undefined
  residentUntil = 0
  loadSince = 0
  usedAt = Number.NEGATIVE_INFINITY
  /** When a request last got its first token here. */
  answeredAt = Number.NEGATIVE_INFINITY
  private line: ModelQueue | undefined
  /** Until when the server is not to be asked for it, because it said that it lacks memory for it; 0: it did not. */
  refusedUntil = 0
  /** Its entry among all pairs of models and servers. */
  pair: { readonly columns: PairColumns; readonly at: number } | undefined
  /** Its entry in the newest columns, and in older ones that still have requests. */
  slots: ReadonlyArray<ColumnEntry> = []

  constructor(
    readonly server: ServerState,
    readonly model: string
  ) {
    this.breaker = new Breaker(Telemetry.breaker(server.url, model))
  }

  get queue(): ModelQueue | undefined {
    return this.line
  }
  set queue(queue: ModelQueue | undefined) {
    if (queue === this.line) return
    if (this.line !== undefined) this.server.queues.delete(this.line)
    if (queue !== undefined) this.server.queues.add(queue)
    this.line = queue
  }

  get queued(): number {
    return this.queue?.length ?? 0
  }

  /** The figures are those of a benchmark from now on. */
  benchmarked({ firstTokenTime, promptTokensPerSecond, tokensPerSecond }: BenchmarkFigures, now: number): void {
    this.tokensPerSecond = plausible(tokensPerSecond) ?? this.tokensPerSecond
    this.firstTokenTime = firstTokenTime ?? this.firstTokenTime
    this.promptSpeed = promptTokensPerSecond ?? this.promptSpeed
    this.benchmarkedAt = now
  }

  /** Own traffic is measured: whether all that was known before is an old benchmark, which then no longer counts. */
  outdated(now: number): boolean {
    const at = this.benchmarkedAt
    this.benchmarkedAt = undefined
    return at !== undefined && now - at > maxBenchmarkAge
  }

  /** It was loaded or unloaded; requests in flight while it is not loaded wait for a load. */
  setResident(until: number, now: number): void {
    if (until <= now && this.residentUntil > now && this.inFlight > 0) this.loadSince = now
    this.residentUntil = until
  }

  write(now: number): void {
    for (const entry of this.slots) this.writeSlot(entry, now)
    this.pair?.columns.write(this.pair.at, this)
  }

  writeSlot({ at, host, pool }: ColumnEntry, now: number): void {
    const { server } = this
    pool.speed[at] = plausible(this.tokensPerSecond) ?? plausible(host.performance?.tokens_per_second) ?? Number.NaN
    pool.proven[at] = this.proven ? 1 : 0
    pool.promptSpeed[at] = this.promptSpeed ?? Number.NaN
    pool.residentUntil[at] = this.residentUntil
    pool.loadSince[at] = this.loadSince
    const inFlight = server.inFlight + server.elsewhere
    const ownInFlight = this.inFlight + this.elsewhere
    pool.inFlight[at] = inFlight
    pool.ownInFlight[at] = ownInFlight
    pool.started[at] = this.begun
    pool.places[at] = Math.min(server.maxInFlight, this.places)
    pool.free[at] = server.drained ? 0 : Math.min(server.maxInFlight - inFlight, this.places - ownInFlight)
    pool.restsUntil[at] = Math.max(server.breaker.restsUntil, this.breaker.restsUntil)
    pool.refuse(at, this.refusedUntil)
    pool.probing[at] = server.breaker.probing || this.breaker.probing || server.probedBy.size > 0 ? 1 : 0
    pool.settle(at, now)
  }
}

/** How a body arrived, and when, in milliseconds since the epoch. */
export interface SeenTransfer extends Transfer {
  readonly at: number
}

/** Number of recent bodies whose arrival is kept. */
const maxTransfers = 8

/** One server. */
export class ServerState {
  readonly breaker: Breaker
  inFlight = 0
  /** Requests of other processes in flight there, and which of them probe it. */
  elsewhere = 0
  readonly probedBy = new Set<string>()
  maxInFlight = Number.POSITIVE_INFINITY
  /** It is to get no new requests. */
  drained = false
  /** When an operator last said so or the opposite, here or at another process, in milliseconds; 0: never. */
  drainSetAt = 0
  roundTrip: number | undefined
  /** It reports its loaded models. */
  tellsResident = false
  answeredAt = Number.NEGATIVE_INFINITY
  /** Attempts that it answered, and those that did not reach it. */
  reached = 0
  lost = 0
  /** How the last larger bodies from here arrived. */
  transfers: ReadonlyArray<SeenTransfer> = []
  readonly models: Array<ModelState> = []
  /** Whose turn it is when models share the server's slots. */
  private turn = 0
  private readonly byName = new Map<string, ModelState>()
  /** Told of each model that becomes known here. */
  onModel: ((state: ModelState) => void) | undefined
  /** Those of its models. */
  readonly queues = new Set<ModelQueue>()

  constructor(
    readonly url: string,
    private readonly changes: ServerChanges,
    /** The queues of all models that are not empty. */
    private readonly busy: ReadonlySet<ModelQueue>
  ) {
    this.breaker = new Breaker(Telemetry.breaker(url, undefined))
  }

  find(model: string): ModelState | undefined {
    return this.byName.get(model)
  }

  model(model: string): ModelState {
    let state = this.byName.get(model)
    if (state === undefined) {
      state = new ModelState(this, model)
      this.byName.set(model, state)
      this.models.push(state)
      this.onModel?.(state)
    }
    return state
  }

  /** It has changed, which counts for each of its models. */
  changed(): void {
    this.changes.note(this.url)
  }

  /** The same, with a model that has changed itself. */
  write(state: ModelState, now: number): void {
    const { changes } = this
    const number = changes.sequence
    changes.note(this.url)
    state.write(now)
    for (const { pool } of state.slots) pool.wrote(number)
  }

  transferred(transfer: Transfer, at: number): void {
    if (isTelling(transfer)) this.transfers = [...this.transfers, { ...transfer, at }].slice(-maxTransfers)
  }

  /** Nothing is loaded any more, except models that are never unloaded. */
  forgetResident(now: number): void {
    for (const state of this.models) {
      if (state.residentUntil !== Number.POSITIVE_INFINITY) state.setResident(0, now)
    }
  }

  /** The clock was set back: no time lies in the future, and no breaker rests longer than it would have. */
  clockWentBack(by: number, now: number): void {
    this.breaker.clockWentBack(now)
    this.answeredAt = Math.min(this.answeredAt, now)
    for (const state of this.models) {
      state.breaker.clockWentBack(now)
      state.residentUntil = Math.max(0, state.residentUntil - by)
      state.refusedUntil = Math.max(0, state.refusedUntil - by)
      state.loadSince = Math.min(state.loadSince, now)
      state.usedAt = Math.min(state.usedAt, now)
      if (state.benchmarkedAt !== undefined) state.benchmarkedAt = Math.min(state.benchmarkedAt, now)
      state.answeredAt = Math.min(state.answeredAt, now)
    }
    this.changed()
  }

  /** A slot may have become free: waiting requests of the models here look, one model after another. */
  serveQueues(): void {
    const { busy, queues } = this
    if (busy.size === 0) return
    const lines: Array<ModelQueue> = []
    for (const line of busy) if (queues.has(line)) lines.push(line)
    const first = this.turn++ % Math.max(1, lines.length)
    for (let k = 0; k < lines.length; k++) {
      const line = lines[(first + k) % lines.length]
      if (line !== undefined && line.length > 0) line.serve()
    }
  }
}
