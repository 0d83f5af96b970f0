/**
 * The state of every model on every server in columns, one entry for each pair, updated as things happen: so that one
 * pass over typed arrays chooses among all of them.
 */
import type { Host } from "../Server.js"

/** As much of a model's state on a server as the columns are written from. */
export interface PairState {
  readonly breaker: { readonly restsUntil: number }
  readonly inFlight: number
  readonly elsewhere: number
  readonly places: number
  readonly refusedUntil: number
  readonly residentUntil: number
  readonly queue: { readonly length: number; readonly serviceTime: number } | undefined
  readonly server: {
    readonly breaker: { readonly restsUntil: number }
    readonly inFlight: number
    readonly elsewhere: number
    readonly maxInFlight: number
    readonly drained: boolean
  }
}

/**
 * Times are in milliseconds since the epoch.
 *
 * @since 0.2.0
 * @category models
 */
export class PairColumns {
  /** Until when the model stays loaded, as far as known: Infinity if always, 0 if not loaded. */
  readonly residentUntil: Float64Array
  /** 0, or when the breaker of the server or of the model there allows a probe. */
  readonly restsUntil: Float64Array
  /** Until when it is not to be asked because the server said that it lacks memory for the model; 0: it did not. */
  readonly refusedUntil: Float64Array
  /** The later of the two: it is not asked before. */
  readonly avoidedUntil: Float64Array
  /** Free slots. */
  readonly free: Float64Array
  private readonly states: Array<PairState | undefined>

  constructor(
    /** The pairs, in the order of the columns. */
    readonly hosts: ReadonlyArray<Host>
  ) {
    const size = hosts.length
    this.residentUntil = new Float64Array(size)
    this.restsUntil = new Float64Array(size)
    this.refusedUntil = new Float64Array(size)
    this.avoidedUntil = new Float64Array(size)
    this.free = new Float64Array(size).fill(Number.POSITIVE_INFINITY)
    this.states = new Array<PairState | undefined>(size).fill(undefined)
    // Only Ollama loads a model when it is asked for it.
    hosts.forEach(({ protocol }, at) => {
      if (protocol !== "ollama") this.residentUntil[at] = Number.POSITIVE_INFINITY
    })
  }

  /** How long a request would wait for a slot there, in milliseconds; 0 where one is free. */
  wait(at: number): number {
    if ((this.free[at] ?? 0) > 0) return 0
    const state = this.states[at]
    if (state?.queue === undefined) return 0
    const { length, serviceTime } = state.queue
    const places = Math.min(state.server.maxInFlight, state.places)
    return ((length + 1) * serviceTime) / Math.max(1, Number.isFinite(places) ? places : 1)
  }

  /** Writes what is known of a pair now. */
  write(at: number, state: PairState): void {
    const { breaker, elsewhere, inFlight, places, refusedUntil, residentUntil, server } = state
    this.states[at] = state
    const host = this.hosts[at]
    if (host?.protocol === "ollama") this.residentUntil[at] = residentUntil
    const restsUntil = Math.max(server.breaker.restsUntil, breaker.restsUntil)
    this.restsUntil[at] = restsUntil
    this.refusedUntil[at] = refusedUntil
    this.avoidedUntil[at] = Math.max(restsUntil, refusedUntil)
    const most = Math.min(server.maxInFlight, host?.server.maxInFlight ?? Number.POSITIVE_INFINITY)
    this.free[at] = server.drained
      ? 0
      : Math.min(most - server.inFlight - server.elsewhere, places - inFlight - elsewhere)
  }
}
