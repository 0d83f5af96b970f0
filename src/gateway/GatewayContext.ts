/**
 * One set of services with the settings that they were made from.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as CallDefaults from "../CallDefaults.js"
import { defaults, type Limits, limits, type Routing } from "../ChatRequest.js"
import type { Services } from "../Cortex.js"
import type { ResponseBounds } from "../config/gateway.js"
import type { Settings } from "../config/gatewaySettings.js"
import * as Aliases from "../modelSelection/aliases.js"
import type * as Sessions from "../Sessions.js"
import * as Telemetry from "../Telemetry.js"
import type * as ErrorResponse from "./http/errorResponse.js"
import { Library } from "./library.js"
import type { AccessLog } from "./observability/accessLog.js"
import { Metrics } from "./observability/metrics.js"
import type * as ResponseStore from "./ResponseStore.js"
import { makeMemory } from "./ResponseStore.js"
import * as RateLimits from "./rateLimits.js"

/**
 * What a request is answered with. `limits` are those of every call, and `routing` that of one
 * that does not say; a second server is asked where the fleet's own
 * settings say so. `trace` is where the spans of requests go, if a tracer was set when the gateway was made.
 *
 * @since 0.1.0
 * @category models
 */
export interface GatewayContext {
  readonly library: Library
  readonly settings: Settings
  readonly limits: Limits
  readonly routing: Routing
  /** The gateway's own names for models, and the fleet's. */
  readonly aliases: Aliases.Aliases
  readonly metrics: Metrics
  readonly keyLimits: RateLimits.RateLimiter
  readonly responses: ResponseStore.ResponseStore
  readonly labels: ErrorResponse.Labels
  readonly trace: Telemetry.Trace | undefined
  readonly accessLog: AccessLog
  /** What a gateway has to say to whoever runs it. */
  readonly log: (text: string) => void
}

/**
 * What outlives a change of the settings: what was counted, who has used how much, and the responses that are kept.
 *
 * @since 0.1.0
 * @category models
 */
export interface GatewayState {
  readonly metrics: Metrics
  readonly keyLimits: RateLimits.RateLimiter
  readonly responses: ResponseStore.ResponseStore
  readonly log: (text: string) => void
  readonly accessLog: AccessLog
}

/**
 * What several processes that serve at one address have in common, so that a client does not see which of them it has
 * met: conversations, responses that are kept, and how much of each key's limits was used.
 *
 * @since 0.1.0
 * @category models
 */
export interface SharedState {
  readonly sessions: Sessions.Store
  readonly responses: ResponseStore.ResponseStore
  readonly keyLimits: RateLimits.RateLimiter
}

/**
 * `accessLog` tells of requests; what is not in `shared` is this process' own.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeState = (
  log: (text: string) => void,
  accessLog: AccessLog,
  shared?: Omit<SharedState, "sessions">
): GatewayState => ({
  metrics: new Metrics(),
  keyLimits: shared?.keyLimits ?? RateLimits.makeLocal(new RateLimits.RateLimits(() => performance.now())),
  responses: shared?.responses ?? makeMemory(() => performance.now()),
  log,
  accessLog
})

/** Requests have parents of their own. */
const ownTrace = Effect.withFiberRuntime<Telemetry.Trace | undefined>((fiber) => {
  const trace = Telemetry.traceOf(fiber)
  return Effect.succeed(trace === undefined ? undefined : { ...trace, parent: Option.none(), state: undefined })
})

/** Where responses are not to be kept, those that were are forgotten. */
const noResponses: ResponseBounds = { maxEntries: 0, maxBytes: 0, ttl: 0 }

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = (settings: Settings, state: GatewayState): Effect.Effect<GatewayContext, never, Services> =>
  Effect.map(Effect.zip(Effect.runtime<Services>(), ownTrace), ([runtime, trace]) => {
    const library = new Library(runtime)
    state.responses.bound(settings.responses ?? noResponses)
    const { deadline, firstTokenTimeout, loadTimeout, maxRetries, timeout } = settings
    const callDefaults = { timeout, firstTokenTimeout, loadTimeout, deadline, maxRetries }
    const fleetDefaults = library.settings.defaults
    return {
      ...state,
      library,
      settings,
      limits: limits(CallDefaults.forChat(callDefaults, fleetDefaults), library.settings.hedge),
      aliases: Aliases.over(settings.aliases, library.settings.aliases),
      routing: settings.routing ?? fleetDefaults.routing ?? defaults.routing,
      labels: library.labels(settings.exposeServers),
      trace
    }
  })
