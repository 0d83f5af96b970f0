/** Where a condition changes its state. */
import type { ConditionsOptions } from "../config/conditions.js"

/**
 * Above these values, or below that of `throughput`, a state gets worse.
 */
export interface Thresholds {
  /** Use of all processors together, in percent; default 80, and 95 for `CRITICAL`. */
  readonly cpu: number
  /** From here the state is `CRITICAL`, in percent; default 95. */
  readonly cpuCritical: number
  /** Use of the memory, or of what the container may have of it, in percent; default 85, and 95 for `CRITICAL`. */
  readonly memory: number
  /** From here the state is `CRITICAL`, in percent; default 95. */
  readonly memoryCritical: number
  /** Load average of the last minute per core; default 4, and 8 for `CRITICAL`. */
  readonly load: number
  /** From here the state is `CRITICAL`; default 8. */
  readonly loadCritical: number
  /** Use of the busiest GPU, in percent; default 85, and 95 for `CRITICAL`. */
  readonly gpu: number
  /** From here the state is `CRITICAL`, in percent; default 95. */
  readonly gpuCritical: number
  /** Round trip to a remote server, in milliseconds; default 200. */
  readonly latency: number
  /** Attempts that did not reach a remote server, in percent; default 10. */
  readonly loss: number
  /** What a line transfers, in megabits per second, where that is known; default 5. */
  readonly throughput: number
  /** How often a remote server is checked, in milliseconds; default 30,000. */
  readonly interval: number
  /** A state changes at most once in this time, in milliseconds; default 30,000. */
  readonly window: number
  /** How far below a threshold a value must be for the way back, in percent of the threshold; default 10. */
  readonly margin: number
}

export const defaultThresholds: Thresholds = {
  cpu: 80,
  cpuCritical: 95,
  memory: 85,
  memoryCritical: 95,
  load: 4,
  loadCritical: 8,
  gpu: 85,
  gpuCritical: 95,
  latency: 200,
  loss: 10,
  throughput: 5,
  interval: 30_000,
  window: 30_000,
  margin: 10
}

/** These, and the defaults of those that are left out. */
export const thresholdsOf = (given: ConditionsOptions): Thresholds => {
  const set = Object.entries(given).filter(([, value]) => value !== undefined)
  return { ...defaultThresholds, ...Object.fromEntries(set) }
}
