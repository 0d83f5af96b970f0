/** The services and settings that requests are answered with. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as CallDefaults from "../CallDefaults.js"
import { defaults, type Limits, limits, type Routing } from "../ChatRequest.js"
import type { Services } from "../Cortex.js"
import type { ResponseBounds } from "../config/gateway.js"
import type { Settings } from "../config/gatewaySettings.js"
import type { ShownSetting } from "../config/report.js"
import type { RemoteTokenCounter } from "../Fleet.js"
import { type Prices, pricesOf } from "../fleet/prices.js"
import type { Control } from "../LocalModels.js"
import * as Aliases from "../modelSelection/aliases.js"
import type * as Sessions from "../Sessions.js"
import type * as Store from "../Store.js"
import * as Telemetry from "../Telemetry.js"
import { StoredSessions } from "./dashboard/storedSessions.js"
import * as FleetEvents from "./events/fleetEvents.js"
import { type EventLink, EventsHub } from "./events/hub.js"
import * as Peers from "./events/peers.js"
import { RequestLog } from "./events/requestLog.js"
import { ServerActions } from "./events/serverActions.js"
import type * as ErrorResponse from "./http/errorResponse.js"
import type { KeyCache } from "./keys/KeyCache.js"
import { Library } from "./library.js"
import type { AccessLog } from "./observability/accessLog.js"
import { Metrics } from "./observability/metrics.js"
import type * as ResponseStore from "./ResponseStore.js"
import { makeMemory } from "./ResponseStore.js"
import * as RateLimits from "./rateLimits.js"
import type { ReplicaGroup } from "./replicas/ReplicaGroup.js"
import type { RequestRecorder } from "./requestLog/RequestRecorder.js"
import type { UsageRecorder } from "./usage/UsageRecorder.js"

/** The settings that hold and where each comes from; `file` is the configuration file. */
export interface Explained {
  readonly file: string | undefined
  readonly fleet: ReadonlyArray<ShownSetting>
  readonly gateway: ReadonlyArray<ShownSetting>
}

/** State that survives a change of settings: counters, rate limit usage, stored responses and events. */
export interface GatewayState {
  readonly metrics: Metrics
  readonly keyLimits: RateLimits.RateLimiter
  readonly responses: ResponseStore.ResponseStore
  /** The events for those who watch the gateway. */
  readonly events: EventsHub
  /** What operators do to servers. */
  readonly serverActions: ServerActions
  /** The requests to models under way. */
  readonly requests: RequestLog
  /** The store that outlives the process; `undefined` where there is none. */
  readonly store: Store.Service | undefined
  /** The API keys of the store; `undefined` where there is none. */
  readonly storedKeys: KeyCache | undefined
  /** Browsers that signed in with those; `undefined` where there is none. */
  readonly pageSessions: StoredSessions | undefined
  /** What requests use, counted into the store; `undefined` where there is none. */
  readonly usage: UsageRecorder | undefined
  /** Writes the log of requests into the store; `undefined` where there is none. */
  readonly requestRecorder: RequestRecorder | undefined
  /** The gateways that use the store, or the workers of this one; `undefined` where there are none. */
  readonly replicas: ReplicaGroup | undefined
  readonly accessLog: AccessLog
  /** Writes operator messages. */
  readonly log: (text: string) => void
  /** Why no request can be answered yet; `undefined` once it can. */
  readonly starting: () => string | undefined
  /** Manages the models of this machine; `undefined` where that is not for this gateway to do. */
  readonly local: Control | undefined
}

/**
 * Everything a request is answered with. `limits` are the default limits of every call, `routing` the strategy of a
 * call that names none; hedging follows the fleet's own settings. `trace` is where request spans go, if a tracer was
 * set when the gateway was made.
 */
export interface GatewayContext extends GatewayState {
  readonly library: Library
  readonly settings: Settings
  /** `undefined` where the program gives them that the gateway is a part of. */
  readonly explained: Explained | undefined
  readonly limits: Limits
  readonly routing: Routing
  /** The gateway's own names for models, and the fleet's. */
  readonly aliases: Aliases.Aliases
  /** What models cost; `undefined` where no price is known. */
  readonly prices: Prices | undefined
  readonly labels: ErrorResponse.Labels
  readonly trace: Telemetry.Trace | undefined
}

/** Whether every request needs an API key. */
export const needsKey = ({ settings, storedKeys }: Pick<GatewayContext, "settings" | "storedKeys">): boolean =>
  settings.keys.length > 0 || storedKeys?.isUsed === true

/**
 * State shared by several processes behind one address, so that a client need not know which one it talks to:
 * conversations, stored responses, rate limit usage and what they tell each other of servers.
 */
export interface SharedState {
  readonly sessions: Sessions.Store
  readonly responses: ResponseStore.ResponseStore
  readonly keyLimits: RateLimits.RateLimiter
  /** Counts the tokens of remote servers. */
  readonly remoteTokens?: RemoteTokenCounter
  /** How this process receives messages of the others without a store. */
  readonly channel?: Store.Messages
  /** Passes events on to the other processes, and theirs to this one; default: they have none. */
  readonly events?: EventLink | undefined
  /** The store that outlives the process, where there is one. */
  readonly store?: Store.Service
  /** The API keys of the store. */
  readonly storedKeys?: KeyCache
  /** Counts into the store what requests use. */
  readonly usage?: UsageRecorder
  /** Writes the log of requests into the store. */
  readonly requestRecorder?: RequestRecorder
  /** The gateways that use the store, or the workers of this one. */
  readonly replicas?: ReplicaGroup
}

/** `accessLog` receives one entry per request; whatever `shared` lacks is local to this process. */
export const makeState = (
  log: (text: string) => void,
  accessLog: AccessLog,
  shared?: Partial<SharedState>,
  starting: GatewayState["starting"] = () => undefined,
  local?: Control
): GatewayState => {
  const events = new EventsHub(shared?.events)
  const { store, storedKeys } = shared ?? {}
  return {
    metrics: new Metrics(),
    keyLimits: shared?.keyLimits ?? RateLimits.makeLocal(new RateLimits.RateLimits(() => performance.now())),
    responses: shared?.responses ?? makeMemory(() => performance.now()),
    store,
    events,
    requests: new RequestLog(events),
    serverActions: new ServerActions(),
    storedKeys,
    pageSessions: store === undefined || storedKeys === undefined ? undefined : new StoredSessions(store, storedKeys),
    usage: shared?.usage,
    requestRecorder: shared?.requestRecorder,
    replicas: shared?.replicas,
    log,
    accessLog,
    starting,
    local
  }
}

/** Each request has its own parent span. */
const ownTrace = Effect.withFiberRuntime<Telemetry.Trace | undefined>((fiber) => {
  const trace = Telemetry.traceOf(fiber)
  return Effect.succeed(trace === undefined ? undefined : { ...trace, parent: Option.none(), state: undefined })
})

/** When responses are not stored, those stored earlier are dropped. */
const noResponses: ResponseBounds = { maxEntries: 0, maxBytes: 0, ttl: 0 }

export const make = (
  settings: Settings,
  state: GatewayState,
  explained?: Explained
): Effect.Effect<GatewayContext, never, Services> =>
  Effect.map(Effect.zip(Effect.runtime<Services>(), ownTrace), ([runtime, trace]) => {
    const library = new Library(runtime)
    state.responses.bound(settings.responses ?? noResponses)
    const { deadline, firstTokenTimeout, loadTimeout, maxRetries, timeout } = settings
    const callDefaults = { timeout, firstTokenTimeout, loadTimeout, deadline, maxRetries }
    const fleetDefaults = library.settings.defaults
    const labels = library.labels(settings.exposeServers)
    state.serverActions.attach(library)
    Peers.attach(library, labels, state)
    state.events.source(() => FleetEvents.start(library, labels, state.events))
    return {
      ...state,
      library,
      settings,
      explained,
      limits: limits(CallDefaults.forChat(callDefaults, fleetDefaults), library.settings.hedge),
      aliases: Aliases.over(settings.aliases, library.settings.aliases),
      routing: settings.routing ?? fleetDefaults.routing ?? defaults.routing,
      prices: pricesOf(library.settings.prices),
      labels,
      trace
    }
  })
