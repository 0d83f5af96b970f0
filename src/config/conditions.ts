/** Thresholds of this machine and of the lines to remote servers. */
import * as Schema from "effect/Schema"
import { milliseconds, range, secondOrMore } from "../internal/units.js"

const percent = Schema.optional(range(1, 100))
const perCore = Schema.optional(range(0.1, 1_000))

/** Whatever is left out has its default, `defaultThresholds`. */
export const ConditionsOptions = Schema.Struct({
  cpu: percent,
  cpuCritical: percent,
  memory: percent,
  memoryCritical: percent,
  load: perCore,
  loadCritical: perCore,
  gpu: percent,
  gpuCritical: percent,
  latency: Schema.optional(milliseconds),
  loss: percent,
  throughput: Schema.optional(range(0.001, 1_000_000)),
  interval: Schema.optional(secondOrMore),
  window: Schema.optional(secondOrMore),
  margin: Schema.optional(range(0, 90))
})
export type ConditionsOptions = typeof ConditionsOptions.Type
