/**
 * What several processes tell each other of the servers that they use: requests in flight, circuit breakers, drained
 * servers, speeds and loaded models. Requests only mark a server as changed; changes are sent in batches, and what the
 * others send is kept as plain numbers beside the fleet's own.
 */
import * as Context from "effect/Context"
import type { Breaker, BreakerCause } from "./breaker.js"
import type { ModelState, ServerState } from "./state.js"

/** A circuit breaker. */
interface RestReport {
  /** Until when it rests, in milliseconds from now; 0: it is half-open; absent: it is closed. */
  readonly left?: number | undefined
  /** How long ago that became so, in milliseconds; absent: just now. */
  readonly age?: number | undefined
  /** When an operator did that, in milliseconds since the epoch. */
  readonly at?: number | undefined
  /** How long that rest was to be, in milliseconds; absent: it was ended. */
  readonly rest?: number | undefined
  /** Consecutive failures. */
  readonly failures: number
  readonly unreachable?: true | undefined
  readonly cause?: BreakerCause | undefined
}

/** The report of one process about a model on a server; omitted fields have not changed. */
interface ModelReport {
  readonly model: string
  readonly inFlight?: number | undefined
  readonly rest?: RestReport | undefined
  /** Until when it stays loaded, in milliseconds from now; absent too where it always does. */
  readonly loaded?: number | undefined
  readonly figures?: Figures | undefined
}

interface Figures {
  readonly tokensPerSecond?: number | undefined
  readonly firstTokenTime?: number | undefined
  readonly promptSpeed?: number | undefined
  readonly places?: number | undefined
}

/** Whether an operator lets a server have no new requests. */
interface DrainReport {
  readonly on: boolean
  /** When that was changed, in milliseconds since the epoch; later than any change that was known there. */
  readonly at: number
}

/** The report of one process about a server; omitted fields have not changed. */
export interface ServerReport {
  readonly url: string
  readonly drain?: DrainReport | undefined
  readonly inFlight?: number | undefined
  readonly probing?: boolean | undefined
  readonly rest?: RestReport | undefined
  readonly models?: ReadonlyArray<ModelReport> | undefined
}

/** A fleet, as seen by what connects it with others. */
export interface ReplicatedFleet {
  /** What has changed since it was last called. */
  readonly changes: () => ReadonlyArray<ServerReport>
  /** All that others must know, of servers in use; `known`: also of breakers and speeds. */
  readonly everything: (known: boolean) => ReadonlyArray<ServerReport>
  /** Applies the report of another process; `whole`: it has nothing in flight on servers that it does not name. */
  readonly hear: (from: string, reports: ReadonlyArray<ServerReport>, whole: boolean) => void
  /** Another process is gone. */
  readonly forget: (from: string) => void
  /** Whether requests are under way. */
  readonly isBusy: () => boolean
}

/** Connects the fleets of several processes. */
export interface ReplicaLink {
  /** A fleet takes part from now on. */
  readonly attach: (fleet: ReplicatedFleet) => void
  /** A change has not been sent yet; `urgent`: others must not rely on their old state any longer. */
  readonly wake: (urgent: boolean) => void
}

/** What connects a fleet with those of other processes; default: nothing does. */
export class CurrentReplicaLink extends Context.Reference<CurrentReplicaLink>()("aicortex/Fleet/ReplicaLink", {
  defaultValue: (): ReplicaLink | undefined => undefined
}) {}

/** A change of a model's unload time is sent if it is at least this large, in milliseconds. */
const loadedChange = 10_000

/** A value that differs by less than this share is not sent. */
const figureChange = 0.02

const rounded = (value: number | undefined): number | undefined =>
  value === undefined || !Number.isFinite(value) ? undefined : Number(value.toPrecision(4))

const differs = (a: number | undefined, b: number | undefined): boolean =>
  a === undefined || b === undefined ? a !== b : Math.abs(a - b) > figureChange * Math.abs(b)

/** What was last sent or received about a server or a model. */
interface ReportedState {
  inFlight: number
  probing: boolean
  restsUntil: number
  /** When `restsUntil` changed, here or elsewhere. */
  restChangedAt: number
  /** See `Breaker`, and whether that was the change. */
  setAt: number
  isSet: boolean
  /** See `ServerState`. */
  drainSetAt: number
  residentUntil: number
  figures: Figures
}

const nothingReported = (): ReportedState => ({
  inFlight: 0,
  probing: false,
  restsUntil: 0,
  restChangedAt: 0,
  setAt: 0,
  isSet: false,
  drainSetAt: 0,
  residentUntil: 0,
  figures: {}
})

const isEmpty = (report: object): boolean => Object.values(report).filter((value) => value !== undefined).length < 2

/** Whether the last place of a server, or of a model there, is taken. */
const isFull = (server: ServerState, model: string | undefined): boolean => {
  if (server.inFlight === 0) return false
  if (server.inFlight + server.elsewhere >= server.maxInFlight) return true
  if (model === undefined) return false
  const { elsewhere, inFlight, places } = server.model(model)
  return inFlight > 0 && inFlight + elsewhere >= places
}

interface Dependencies {
  readonly servers: ReadonlyMap<string, ServerState>
  readonly serverState: (url: string) => ServerState
  readonly now: () => number
  /** Publishes a change that another process reported. */
  readonly publish: (server: ServerState, now: number) => void
}

class Replicated implements ReplicatedFleet {
  private readonly reported = new WeakMap<ServerState | ModelState, ReportedState>()
  private dirty = new Set<ServerState>()
  /** What each of the other processes has in flight. */
  private readonly others = new Map<string, Map<string, ServerReport>>()

  constructor(
    private readonly link: ReplicaLink,
    private readonly dependencies: Dependencies
  ) {}

  /** A server has changed, or one of its models. */
  note(server: ServerState, model: string | undefined): void {
    const isFirst = this.dirty.size === 0
    this.dirty.add(server)
    // No other replica may take the last slot.
    if (isFull(server, model)) this.link.wake(true)
    else if (isFirst) this.link.wake(false)
  }

  changes(): ReadonlyArray<ServerReport> {
    const { dirty } = this
    this.dirty = new Set()
    return this.reports(dirty, false)
  }

  everything(known: boolean): ReadonlyArray<ServerReport> {
    const { servers } = this.dependencies
    if (known) return this.reports(servers.values(), true)
    return [...servers.values()].flatMap((server): ReadonlyArray<ServerReport> => {
      if (server.inFlight === 0) return []
      const models = server.models.filter(({ inFlight }) => inFlight > 0)
      const { inFlight, url } = server
      return [{ url, inFlight, models: models.map(({ inFlight, model }) => ({ model, inFlight })) }]
    })
  }

  isBusy(): boolean {
    for (const { inFlight } of this.dependencies.servers.values()) if (inFlight > 0) return true
    return false
  }

  private toldOf(one: ServerState | ModelState): ReportedState {
    let told = this.reported.get(one)
    if (told === undefined) {
      told = nothingReported()
      this.reported.set(one, told)
    }
    return told
  }

  private restOf(breaker: Breaker, told: ReportedState, now: number, all: boolean) {
    const { cause, failures, restsUntil, setAt, setRest, unreachable } = breaker
    // An operator may end a rest that another process has not reported yet.
    const isSet = setAt > told.setAt
    const isChanged = restsUntil !== told.restsUntil
    // Those who were away when it ended hear of it, too.
    const isKnown = all ? restsUntil === 0 && told.restChangedAt === 0 : !isChanged
    if (isKnown && !isSet) return undefined
    if (isSet || isChanged) {
      told.restChangedAt = now
      told.isSet = isSet
    }
    told.setAt = setAt
    told.restsUntil = restsUntil
    const age = now - told.restChangedAt
    return {
      age: age > 0 ? age : undefined,
      at: told.isSet ? setAt : undefined,
      rest: told.isSet && setRest > 0 ? setRest : undefined,
      left: restsUntil === 0 ? undefined : Math.max(0, restsUntil - now),
      failures,
      unreachable: unreachable ? (true as const) : undefined,
      cause: cause === undefined ? undefined : { reason: cause.reason, message: cause.message.slice(0, 200) }
    }
  }

  private drainOf({ drainSetAt, drained }: ServerState, told: ReportedState, all: boolean): DrainReport | undefined {
    if (all ? drainSetAt === 0 : drainSetAt === told.drainSetAt) return undefined
    told.drainSetAt = drainSetAt
    return { on: drained, at: drainSetAt }
  }

  private reports(servers: Iterable<ServerState>, all: boolean): ReadonlyArray<ServerReport> {
    const now = this.dependencies.now()
    const reports: Array<ServerReport> = []
    for (const server of servers) {
      const told = this.toldOf(server)
      const models = server.models.flatMap((state) => this.ofModel(state, now, all))
      const { breaker, inFlight, url } = server
      const report: ServerReport = {
        url,
        inFlight: all || inFlight !== told.inFlight ? inFlight : undefined,
        probing: breaker.probing !== told.probing ? breaker.probing : undefined,
        rest: this.restOf(breaker, told, now, all),
        drain: this.drainOf(server, told, all),
        models: models.length === 0 ? undefined : models
      }
      told.inFlight = inFlight
      told.probing = breaker.probing
      if (!isEmpty(report)) reports.push(report)
    }
    return reports
  }

  private ofModel(state: ModelState, now: number, all: boolean): ReadonlyArray<ModelReport> {
    const told = this.toldOf(state)
    const { inFlight, learns, model, residentUntil } = state
    const figures: Figures = {
      tokensPerSecond: rounded(state.tokensPerSecond),
      firstTokenTime: rounded(state.firstTokenTime),
      promptSpeed: rounded(state.promptSpeed),
      places: learns ? state.places : undefined
    }
    const isNews =
      differs(figures.tokensPerSecond, told.figures.tokensPerSecond) ||
      differs(figures.firstTokenTime, told.figures.firstTokenTime) ||
      differs(figures.promptSpeed, told.figures.promptSpeed) ||
      figures.places !== told.figures.places
    const isLoaded = residentUntil > now
    const moved =
      isLoaded !== told.residentUntil > now ||
      (isLoaded && Math.abs(residentUntil - told.residentUntil) >= loadedChange)
    const report: ModelReport = {
      model,
      inFlight: (all && inFlight > 0) || inFlight !== told.inFlight ? inFlight : undefined,
      rest: this.restOf(state.breaker, told, now, all),
      loaded:
        Number.isFinite(residentUntil) && (moved || (all && isLoaded)) ? Math.max(0, residentUntil - now) : undefined,
      figures: isNews || (all && Object.values(figures).some((one) => one !== undefined)) ? figures : undefined
    }
    told.inFlight = inFlight
    if (report.loaded !== undefined) told.residentUntil = residentUntil
    if (report.figures !== undefined) told.figures = figures
    return isEmpty(report) ? [] : [report]
  }

  hear(from: string, reports: ReadonlyArray<ServerReport>, whole: boolean): void {
    const now = this.dependencies.now()
    if (whole) {
      const named = new Set(reports.map(({ url }) => url))
      for (const url of this.others.get(from)?.keys() ?? [])
        if (!named.has(url)) this.count(from, { url, inFlight: 0 }, true)
    }
    for (const report of reports) {
      const server = this.dependencies.serverState(report.url)
      this.count(from, report, whole)
      if (report.probing !== undefined) {
        if (report.probing) server.probedBy.add(from)
        else server.probedBy.delete(from)
      }
      if (report.rest !== undefined) this.adopt(server, server.breaker, report.rest, now)
      if (report.drain !== undefined) this.adoptDrain(server, report.drain)
      for (const { figures, loaded, model, rest } of report.models ?? []) {
        const state = server.model(model)
        if (rest !== undefined) this.adopt(state, state.breaker, rest, now)
        if (figures !== undefined) this.learn(state, figures)
        if (loaded !== undefined && state.residentUntil !== Number.POSITIVE_INFINITY) {
          state.setResident(loaded === 0 ? 0 : now + loaded, now)
          this.toldOf(state).residentUntil = state.residentUntil
        }
      }
      this.settled(server, now)
    }
  }

  forget(from: string): void {
    const now = this.dependencies.now()
    for (const url of [...(this.others.get(from)?.keys() ?? [])]) {
      this.count(from, { url, inFlight: 0 }, true)
      this.settled(this.dependencies.serverState(url), now)
    }
    this.others.delete(from)
    for (const server of this.dependencies.servers.values()) {
      if (server.probedBy.delete(from)) this.settled(server, now)
    }
  }

  private settled(server: ServerState, now: number): void {
    server.changed()
    this.dependencies.publish(server, now)
    server.serveQueues()
  }

  /** Requests of another process; `whole`: models that are not named have none. */
  private count(from: string, report: ServerReport, whole: boolean): void {
    let mine = this.others.get(from)
    if (mine === undefined) {
      mine = new Map()
      this.others.set(from, mine)
    }
    const before = mine.get(report.url)
    const server = this.dependencies.serverState(report.url)
    const inFlight = report.inFlight ?? before?.inFlight ?? 0
    const models = new Map(
      before?.models?.map(({ inFlight = 0, model }) => [model, whole || inFlight === 0 ? 0 : inFlight] as const)
    )
    for (const { inFlight, model } of report.models ?? []) if (inFlight !== undefined) models.set(model, inFlight)
    server.elsewhere += inFlight - (before?.inFlight ?? 0)
    for (const [model, count] of models) {
      const known = before?.models?.find((one) => one.model === model)?.inFlight ?? 0
      server.model(model).elsewhere += count - known
      if (count === 0) models.delete(model)
    }
    if (inFlight === 0 && models.size === 0) mine.delete(report.url)
    else {
      const list = [...models].map(([model, inFlight]) => ({ model, inFlight }))
      mine.set(report.url, { url: report.url, inFlight, models: list })
    }
  }

  /** Applies another process's report of a breaker, unless it has changed since: reports may cross each other. */
  private adopt(
    of: ServerState | ModelState,
    breaker: Breaker,
    { age = 0, at, cause, failures, left, rest = 0, unreachable }: RestReport,
    now: number
  ) {
    const told = this.toldOf(of)
    const changedAt = now - age
    if (at !== undefined) {
      if (!breaker.isOutdated(at, rest)) return
    } else if (breaker.restsUntil !== told.restsUntil || changedAt < Math.max(told.restChangedAt, breaker.setAt)) {
      // A change that has not been sent to the others yet is newer.
      return
    }
    breaker.adopt(left === undefined ? 0 : now + left, failures, now)
    breaker.unreachable = unreachable === true
    breaker.cause = cause
    if (at !== undefined) {
      breaker.setAt = at
      breaker.setRest = rest
    }
    told.setAt = breaker.setAt
    told.isSet = at !== undefined
    told.restsUntil = breaker.restsUntil
    told.restChangedAt = changedAt
  }

  /** The last change wins in every process, and of two in the same millisecond the one that drains. */
  private adoptDrain(server: ServerState, { at, on }: DrainReport): void {
    if (at < server.drainSetAt || (at === server.drainSetAt && !on)) return
    server.drained = on
    server.drainSetAt = at
    this.toldOf(server).drainSetAt = at
  }

  private learn(state: ModelState, figures: Figures): void {
    state.tokensPerSecond = figures.tokensPerSecond ?? state.tokensPerSecond
    state.firstTokenTime = figures.firstTokenTime ?? state.firstTokenTime
    state.promptSpeed = figures.promptSpeed ?? state.promptSpeed
    if (state.learns && figures.places !== undefined) state.places = figures.places
    this.toldOf(state).figures = figures
  }
}

/** Connects a fleet with others. `note` is to be called at each change. */
export const make = (
  link: ReplicaLink | undefined,
  dependencies: Dependencies
): { readonly note: (server: ServerState, model: string | undefined) => void } => {
  if (link === undefined) return { note: () => {} }
  const replicated = new Replicated(link, dependencies)
  link.attach(replicated)
  return { note: (server, model) => replicated.note(server, model) }
}
