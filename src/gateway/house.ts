/**
 * One set of services with the settings that they were made from.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Limits, limits } from "../ChatRequest.js"
import type { Services } from "../Cortex.js"
import * as Telemetry from "../Telemetry.js"
import * as Access from "./access.js"
import { Library } from "./fleet.js"
import type { AccessLog } from "./log.js"
import { Metrics } from "./metrics.js"
import type * as Problem from "./problem.js"
import type { Settings } from "./settings.js"

/**
 * What a request is answered with. `limits` are those of every call; a second server is asked where the fleet's own
 * settings say so. `trace` is where the spans of requests go, if a tracer was set when the gateway was made.
 *
 * @since 0.1.0
 * @category models
 */
export interface House {
  readonly library: Library
  readonly settings: Settings
  readonly limits: Limits
  readonly metrics: Metrics
  readonly keyLimits: Access.Limits
  readonly labels: Problem.Labels
  readonly trace: Telemetry.Trace | undefined
  readonly accessLog: AccessLog
  /** What a gateway has to say to whoever runs it. */
  readonly log: (text: string) => void
}

/**
 * What outlives a change of the settings: what was counted, and who has used how much.
 *
 * @since 0.1.0
 * @category models
 */
export interface Memory {
  readonly metrics: Metrics
  readonly keyLimits: Access.Limits
  readonly log: (text: string) => void
  readonly accessLog: AccessLog
}

/**
 * `share` is which part of each key's limits is this process'; `accessLog` tells of requests.
 *
 * @since 0.1.0
 * @category constructors
 */
export const memory = (log: (text: string) => void, accessLog: AccessLog, share = 1): Memory => ({
  metrics: new Metrics(),
  keyLimits: new Access.Limits(() => performance.now(), share),
  log,
  accessLog
})

/** Requests have parents of their own. */
const ownTrace = Effect.withFiberRuntime<Telemetry.Trace | undefined>((fiber) => {
  const trace = Telemetry.traceOf(fiber)
  return Effect.succeed(trace === undefined ? undefined : { ...trace, parent: Option.none(), state: undefined })
})

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (settings: Settings, memory: Memory): Effect.Effect<House, never, Services> =>
  Effect.map(Effect.zip(Effect.runtime<Services>(), ownTrace), ([runtime, trace]) => {
    const library = new Library(runtime)
    const { deadline, firstTokenTimeout, loadTimeout, timeout } = settings
    const ofCalls = limits({ timeout, firstTokenTimeout, loadTimeout, deadline }, library.settings.hedge)
    return { ...memory, library, settings, limits: ofCalls, labels: library.labels(settings.exposeServers), trace }
  })
