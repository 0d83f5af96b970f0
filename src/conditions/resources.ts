/** The state of this machine, by what is read of it. */
import { type Level, levelOf, Settled } from "./hysteresis.js"
import type { Thresholds } from "./thresholds.js"

/**
 * `AVAILABLE`: every reading is below its threshold. `CONSTRAINED`: one is not. `CRITICAL`: one has reached its critical
 * threshold.
 *
 * @since 0.2.0
 * @category models
 */
export type ResourceState = "AVAILABLE" | "CONSTRAINED" | "CRITICAL"

/**
 * What was read of a machine; `undefined` is what cannot be read there.
 *
 * @since 0.2.0
 * @category models
 */
export interface Reading {
  /** Use of all processors, or of what the container may have of them, since the reading before, in percent. */
  readonly cpu: number | undefined
  /** Use of the memory, or of what the container may have of it, in percent. */
  readonly memory: number | undefined
  /** Load average of the last minute, per core. */
  readonly load: number | undefined
  /** Use of the busiest GPU, in percent. */
  readonly gpu: number | undefined
}

/**
 * This machine. The state lags behind the readings: it changes at most once in a window.
 *
 * @since 0.2.0
 * @category models
 */
export interface Resources extends Reading {
  /** How much of it is left. */
  readonly state: ResourceState
  /** Why, in words; empty where it is `AVAILABLE`. */
  readonly reason: string
  /** When it was read, in milliseconds since the epoch. */
  readonly at: number
}

const states = ["AVAILABLE", "CONSTRAINED", "CRITICAL"] as const satisfies ReadonlyArray<ResourceState>

type Name = keyof Reading
const names = ["cpu", "memory", "load", "gpu"] as const satisfies ReadonlyArray<Name>

const words: { readonly [N in Name]: (value: number) => string } = {
  cpu: (value) => `CPU ${Math.round(value)} %`,
  memory: (value) => `memory ${Math.round(value)} %`,
  load: (value) => `load ${value.toFixed(1)} per core`,
  gpu: (value) => `GPU ${Math.round(value)} %`
}

/** Follows one machine. */
export class ResourceTracker {
  private readonly levels: { [N in Name]: Level } = { cpu: 0, memory: 0, load: 0, gpu: 0 }
  private readonly settled: Settled<ResourceState>
  private reason = ""

  constructor(private readonly thresholds: Thresholds) {
    this.settled = new Settled(thresholds.window)
  }

  observe(reading: Reading, now: number): Resources {
    const { levels, settled, thresholds } = this
    let worst: Level = 0
    for (const name of names) {
      const value = reading[name]
      const limit = { at: thresholds[name], critical: thresholds[`${name}Critical`] }
      levels[name] = value === undefined ? 0 : levelOf(value, limit, levels[name], thresholds.margin / 100)
      if (levels[name] > worst) worst = levels[name]
    }
    const before = settled.state
    const state = settled.settle(states[worst], now)
    if (state === "AVAILABLE") this.reason = ""
    else if (state === states[worst] || state !== before) {
      const causes = names.flatMap((name) => {
        const value = reading[name]
        return value !== undefined && levels[name] === worst ? [words[name](value)] : []
      })
      this.reason = causes.join(", ")
    }
    return { ...reading, state, reason: this.reason, at: now }
  }
}
