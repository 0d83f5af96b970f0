/** Thresholds of this machine and of the lines to remote servers. */
import * as Schema from "effect/Schema"
import { milliseconds, range, secondOrMore } from "../internal/units.js"

const percent = Schema.optional(range(1, 100))
const perCore = Schema.optional(range(0.1, 1_000))

/** Whatever is left out has its default, `defaultThresholds`. */
export const ConditionsOptions = Schema.Struct({
  /** Use of all processors together, in percent; default 80. */
  cpu: percent,
  /** From here the state is `CRITICAL`, in percent; default 95. */
  cpuCritical: percent,
  /** Use of the memory, or of what the container may have of it, in percent; default 85. */
  memory: percent,
  /** From here the state is `CRITICAL`, in percent; default 95. */
  memoryCritical: percent,
  /** Load average of the last minute per core; default 4. */
  load: perCore,
  /** From here the state is `CRITICAL`; default 8. */
  loadCritical: perCore,
  /** Use of the busiest GPU, in percent; default 85. */
  gpu: percent,
  /** From here the state is `CRITICAL`, in percent; default 95. */
  gpuCritical: percent,
  /** Round trip to a remote server, in milliseconds; default 200. */
  latency: Schema.optional(milliseconds),
  /** Attempts that did not reach a remote server, in percent; default 10. */
  loss: percent,
  /** What a line transfers, in megabits per second, where that is known; default 5. */
  throughput: Schema.optional(range(0.001, 1_000_000)),
  /** How often a remote server is checked, in milliseconds; default 30,000. */
  interval: Schema.optional(secondOrMore),
  /** A state changes at most once in this time, in milliseconds; default 30,000. */
  window: Schema.optional(secondOrMore),
  /** How far below a threshold a value must be for the way back, in percent of the threshold; default 10. */
  margin: Schema.optional(range(0, 90))
})
export type ConditionsOptions = typeof ConditionsOptions.Type
