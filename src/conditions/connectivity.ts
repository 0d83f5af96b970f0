/** The line to a remote server, by what attempts and probes have shown. */
import { type Level, levelOf, Settled } from "./hysteresis.js"
import type { Thresholds } from "./thresholds.js"

/**
 * `OPTIMAL`: latency, loss and throughput are within their thresholds. `DEGRADED`: one of them is not. `DISCONNECTED`:
 * the server is not reached.
 *
 * @since 0.2.0
 * @category models
 */
export type LineState = "OPTIMAL" | "DEGRADED" | "DISCONNECTED"

/**
 * The line to a remote server. The state lags behind what was seen: it changes at most once in a window.
 *
 * @since 0.2.0
 * @category models
 */
export interface Line {
  /** The server's address. */
  readonly server: string
  /** How good it is. */
  readonly state: LineState
  /** Why, in words; empty where it is `OPTIMAL`. */
  readonly reason: string
  /** Median round trip of the last checks, in milliseconds; `undefined`: none has answered. */
  readonly latency: number | undefined
  /** Attempts and probes of the last five minutes, at most 20, that did not reach it, in percent. */
  readonly loss: number
  /**
   * What the line transfers, in megabits per second, by the larger bodies of the last five minutes that servers sent as
   * a whole (lists of models, vectors); `undefined`: unknown.
   */
  readonly throughput: number | undefined
  /** When it was last checked, in milliseconds since the epoch. */
  readonly at: number
}

const maxOutcomes = 20
/** How long what was seen of a line counts, in milliseconds. */
export const maxAge = 300_000
/** One slow answer of a busy server is not the line. */
const latencies = 3
/** Of so many the fastest counts: what slows one down need not be the line. */
const throughputs = 3
/** So many in a row that are lost are no coincidence. */
const disconnectedAfter = 2

/** What reached a server, and what did not, since the check before. */
export interface Outcomes {
  readonly reached: number
  readonly lost: number
  /** Round trip of the probe, in milliseconds. */
  readonly latency: number | undefined
  /** What a body that came since showed, in megabits per second. */
  readonly throughput: number | undefined
}

/** Follows the line to one server. */
export class LineTracker {
  private outcomes: Array<{ readonly at: number; readonly reached: boolean }> = []
  private samples: Array<number> = []
  private transfers: Array<{ readonly at: number; readonly throughput: number }> = []
  private readonly levels: { latency: Level; loss: Level; throughput: Level } = { latency: 0, loss: 0, throughput: 0 }
  private readonly settled: Settled<LineState>
  private reason = ""

  constructor(
    private readonly server: string,
    private readonly thresholds: Thresholds
  ) {
    this.settled = new Settled(thresholds.window)
  }

  /** Of those of one check the ones that reached the server count as the earlier ones, unless its probe did. */
  observe({ latency, lost, reached, throughput }: Outcomes, now: number): Line {
    const probed = latency === undefined ? 0 : 1
    const early = Math.max(0, reached - probed)
    for (let i = 0; i < Math.min(early, maxOutcomes); i++) this.outcomes.push({ at: now, reached: true })
    for (let i = 0; i < Math.min(lost, maxOutcomes); i++) this.outcomes.push({ at: now, reached: false })
    if (reached > early) this.outcomes.push({ at: now, reached: true })
    this.outcomes = this.outcomes.filter(({ at }) => now - at < maxAge).slice(-maxOutcomes)
    if (latency !== undefined) this.samples = [...this.samples, latency].slice(-latencies)
    if (throughput !== undefined) this.transfers.push({ at: now, throughput })
    this.transfers = this.transfers.filter(({ at }) => now - at < maxAge).slice(-throughputs)
    return this.judge(now)
  }

  private judge(now: number): Line {
    const { levels, outcomes, samples, server, settled, thresholds, transfers } = this
    const margin = thresholds.margin / 100
    const sorted = [...samples].sort((a, b) => a - b)
    const latency = sorted[Math.floor((sorted.length - 1) / 2)]
    const lost = outcomes.filter(({ reached }) => !reached).length
    const loss = outcomes.length === 0 ? 0 : (100 * lost) / outcomes.length
    const last = outcomes.slice(-disconnectedAfter)
    const gone =
      last.length > 0 &&
      last.every(({ reached }) => !reached) &&
      (last.length === disconnectedAfter || samples.length === 0)
    levels.latency = latency === undefined ? 0 : levelOf(latency, { at: thresholds.latency }, levels.latency, margin)
    // A single lost one proves nothing yet.
    levels.loss = lost < 2 ? 0 : levelOf(loss, { at: thresholds.loss }, levels.loss, margin)
    const throughput = transfers.length === 0 ? undefined : Math.max(...transfers.map(({ throughput }) => throughput))
    // More is better here: what counts is how much is missing.
    levels.throughput =
      throughput === undefined
        ? 0
        : levelOf(1 / throughput, { at: 1 / thresholds.throughput }, levels.throughput, margin)
    const causes = [
      ...(levels.latency > 0 && latency !== undefined ? [`round trip ${Math.round(latency)} ms`] : []),
      ...(levels.loss > 0 ? [`${Math.round(loss)} % of attempts lost`] : []),
      ...(levels.throughput > 0 && throughput !== undefined ? [`${throughput.toFixed(1)} Mbps`] : [])
    ]
    const wanted: LineState = gone ? "DISCONNECTED" : causes.length > 0 ? "DEGRADED" : "OPTIMAL"
    const state = settled.settle(wanted, now)
    if (state === "OPTIMAL") this.reason = ""
    else if (state === wanted) this.reason = gone ? "it is not reached" : causes.join(", ")
    return { server, state, reason: this.reason, latency, loss, throughput, at: now }
  }
}
