/**
 * The requests to models under way, and those that ended lately: for `GET /requests` and the events `request`. What a
 * request did is only followed while there are watchers.
 */
import type { Usage } from "../../ChatEvent.js"
import type { Decision, Excluded } from "../../Decision.js"
import type { FailureReason, Phase } from "../../Errors.js"
import type { Host } from "../../Server.js"
import type { AttemptWatch, CallListener, Resumption } from "../../Telemetry.js"
import type { Labels } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as FailureTexts from "./failureTexts.js"
import type { EventsHub } from "./hub.js"
import type { AttemptView, DecisionView, RequestEvent, RequestHead, RequestView } from "./views.js"

/** Number of requests that are kept after their end. */
const maxRecent = 200

/**
 * The window in milliseconds in which events are batched; what an attempt does within it is one event: made one
 * after the other, events cost half of what they cost between other work.
 */
const turnTime = 100

/** The most attempts of one request that have events: a call with many answers has many attempts. */
const maxAttempts = 64
const maxCandidates = 20
const maxExcluded = 50

/** Client-chosen names are clipped. */
const longestName = 200

/** An attempt that may still go on. */
type GrowingAttempt = { -readonly [Field in keyof AttemptView]: AttemptView[Field] }

const tenths = (milliseconds: number): number => Math.round(milliseconds * 10) / 10

const resumptions: { readonly [R in Resumption]: string } = {
  continues: "continues",
  trims: "continues",
  echoes: "repeats",
  restarts: "starts over",
  discards: "discards"
}

const clip = (name: string | undefined): string | null => name?.slice(0, longestName) ?? null

const viewOf = ({ asked, candidates, chosen, excluded, reason }: Decision, labels: Labels): DecisionView => {
  const placed = ({ model, reason, server }: Excluded) => ({
    model,
    server: labels.label(server),
    reason: reason === "" ? "" : labels.redact(reason)
  })
  return {
    asked: asked.slice(0, longestName),
    model: chosen.model,
    server: labels.label(chosen.server),
    reason: labels.redact(reason),
    candidates: candidates.slice(0, maxCandidates).map(placed),
    excluded: excluded.slice(0, maxExcluded).map(placed)
  }
}

/** One attempt of a request. */
class WatchedAttempt implements AttemptWatch {
  constructor(
    private readonly owner: WatchedRequest,
    private readonly view: GrowingAttempt
  ) {}

  phase(phase: Phase): void {
    const { owner, view } = this
    if (phase === "first-token") view.connected_ms = owner.elapsed()
    else if (phase === "stream") view.first_token_ms = owner.elapsed()
    owner.tell(view)
  }
  resumes(how: Resumption): void {
    this.view.resumes = resumptions[how]
    this.owner.tell(this.view)
  }
  succeeded(_: number | undefined, tokensPerSecond: number | undefined): void {
    if (tokensPerSecond !== undefined) this.view.tokens_per_second = tenths(tokensPerSecond)
    this.end("success", "stream")
  }
  failed(reason: FailureReason, phase: Phase, status: number | undefined): void {
    this.view.reason = reason
    this.view.why = FailureTexts.ofFailure(reason)
    if (status !== undefined) this.view.status = status
    this.end("failure", phase)
  }
  cancelled(phase: Phase): void {
    this.end("cancelled", phase)
  }
  overtaken(phase: Phase): void {
    this.end("overtaken", phase)
  }

  private end(outcome: NonNullable<GrowingAttempt["outcome"]>, phase: Phase): void {
    const { owner, view } = this
    if (view.outcome !== undefined) return
    view.outcome = outcome
    view.phase = FailureTexts.ofPhase(phase)
    view.ended_ms = owner.elapsed()
    owner.tell(view)
  }
}

/** The events of one request, and of each call that it makes. */
class WatchedRequest implements CallListener {
  readonly attempts: Array<GrowingAttempt> = []
  queued_ms: number | undefined
  dequeued_ms: number | undefined
  cachedTokens = 0
  private over = false
  decision: Decision | undefined

  constructor(
    private readonly log: RequestLog,
    private readonly labels: Labels,
    private readonly live: LiveRequest
  ) {}

  elapsed(): number {
    return tenths(performance.now() - this.live.context.began)
  }
  tell(attempt: GrowingAttempt): void {
    if (!this.over) this.log.tellSoon(attempt, this.live.id, ownerOf(this.live))
  }

  attempt(host: Host, loads: boolean, hedge: boolean): AttemptWatch {
    const { attempts, labels } = this
    const view: GrowingAttempt = {
      attempt: attempts.length + 1,
      server: labels.label(host.server.url),
      model: host.model,
      began_ms: this.elapsed(),
      loads,
      hedge
    }
    if (attempts.length < maxAttempts) {
      attempts.push(view)
      this.tell(view)
    }
    return new WatchedAttempt(this, view)
  }
  queued(): void {
    this.queued_ms ??= this.elapsed()
    this.log.tell({ kind: "queued", id: this.live.id, queued_ms: this.queued_ms }, ownerOf(this.live))
  }
  dequeued(): void {
    if (this.queued_ms === undefined || this.dequeued_ms !== undefined) return
    this.dequeued_ms = this.elapsed()
    this.log.tell({ kind: "dequeued", id: this.live.id, dequeued_ms: this.dequeued_ms }, ownerOf(this.live))
  }
  used({ cachedTokens = 0 }: Usage): void {
    this.cachedTokens += cachedTokens
  }
  answered({ decision }: { readonly decision?: Decision | undefined }): void {
    this.decision = decision
  }
  failed(): void {}
  closed(): void {}

  /** A stream names the server that began it, and another one may have ended it. */
  get answeredBy(): string | undefined {
    return this.decision === undefined ? undefined : this.labels.label(this.decision.chosen.server)
  }

  /** The request has ended: what its servers still do is being stopped. */
  end(): void {
    this.over = true
    for (const view of this.attempts) {
      this.log.forget(view)
      if (view.outcome !== undefined) continue
      view.outcome = "cancelled"
      view.ended_ms = this.elapsed()
    }
  }

  get decisionView(): DecisionView | undefined {
    return this.decision === undefined ? undefined : viewOf(this.decision, this.labels)
  }
}

/** Distinguishes the requests of several processes. */
const prefix = process.pid.toString(36)

/** A request under way. */
class LiveRequest {
  readonly at = Date.now()
  watched: WatchedRequest | undefined
  told = false

  constructor(
    readonly context: RequestContext,
    /** Later ones have higher numbers. */
    readonly number: number
  ) {}

  get id(): string {
    return `${prefix}-${this.number}`
  }
}

const ownerOf = ({ context }: LiveRequest): string | null => context.caller ?? null

const head = ({ at, context, id }: LiveRequest): RequestHead => ({
  id,
  request_id: context.id,
  at,
  route: context.route,
  key: context.caller ?? null,
  model: clip(context.record.model),
  stream: context.record.streamed
})

/** The next event, made when it is sent. */
interface Untold {
  readonly owner: string | null
  readonly event: () => RequestEvent
}

/** A request that has ended. One literal: several that are spread into each other cost more than all else here. */
const endOf = (live: LiveRequest, status: number, duration: number, disconnected: boolean) => {
  const { at, context, id, watched } = live
  const { record } = context
  return {
    kind: "end",
    id,
    request_id: context.id,
    at,
    route: context.route,
    key: ownerOf(live),
    model: clip(record.model),
    stream: record.streamed,
    attempts: watched?.attempts,
    queued_ms: watched?.queued_ms,
    dequeued_ms: watched?.dequeued_ms,
    decision: watched?.decisionView,
    status,
    duration_ms: tenths(duration),
    first_token_ms: record.firstToken === undefined ? null : tenths(record.firstToken),
    server: watched?.answeredBy ?? record.server ?? null,
    tries: record.attempts,
    cached: record.cached,
    prompt_tokens: record.promptTokens,
    cached_tokens: watched?.cachedTokens ?? 0,
    completion_tokens: record.completionTokens,
    client_left: disconnected,
    warning: record.warning ?? null,
    error: record.error ?? null,
    why: record.error === undefined ? null : FailureTexts.ofError(record.error, status)
  } as const satisfies RequestEvent
}

/** A request, and how long it takes or took. */
type ListedRequest = RequestView & Required<Pick<RequestView, "duration_ms">>

/** Those under way, then those that ended, the latest first. */
export interface ListedRequests {
  readonly running: ReadonlyArray<ListedRequest>
  readonly recent: ReadonlyArray<ListedRequest>
}

/** The key whose requests are all that the caller may see; `undefined`: it may see all. */
export const onlyOf = ({ caller, manages }: Pick<RequestContext, "caller" | "manages">): string | undefined =>
  manages ? undefined : caller

/** Those of one key; `undefined`: all. */
export const ofKey = (all: ListedRequests, only: string | undefined): ListedRequests =>
  only === undefined
    ? all
    : {
        running: all.running.filter(({ key }) => key === only),
        recent: all.recent.filter(({ key }) => key === only)
      }

/** The requests of several processes. */
export const mergeRequests = (all: readonly [ListedRequests, ...ReadonlyArray<ListedRequests>]): ListedRequests => {
  if (all.length === 1) return all[0]
  const end = ({ at, duration_ms: duration }: ListedRequest) => at + duration
  return {
    running: all.flatMap(({ running }) => running).sort((a, b) => b.at - a.at),
    recent: all
      .flatMap(({ recent }) => recent)
      .sort((a, b) => end(b) - end(a))
      .slice(0, maxRecent)
  }
}

export class RequestLog {
  /**
   * Not a `Map`: where one is added to and removed from all the time, each table that it has outgrown refers to the
   * next one, and all that was ever in it stays until the next full garbage collection, copied by the small ones
   * before.
   */
  private readonly live: Array<LiveRequest> = []
  private readonly recent: Array<ListedRequest> = []
  private count = 0
  /** The events of this window by their subject: an attempt has one. A new map each window, as of `live`. */
  private untold = new Map<object, Untold>()
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(private readonly hub: EventsHub) {}

  tell(event: RequestEvent, owner: string | null): void {
    this.later(event, { owner, event: () => event })
  }

  /** Tells of an attempt of a request, with all that it does in this turn. */
  tellSoon(attempt: GrowingAttempt, id: string, owner: string | null): void {
    if (!this.untold.has(attempt)) this.later(attempt, { owner, event: () => ({ kind: "attempt", id, attempt }) })
  }

  private later(about: object, untold: Untold): void {
    this.untold.set(about, untold)
    if (this.timer !== undefined) return
    this.timer = setTimeout(() => {
      this.timer = undefined
      this.tellAll()
    }, turnTime)
    this.timer.unref()
  }

  private tellAll(): void {
    const { untold } = this
    this.untold = new Map()
    for (const { event, owner } of untold.values()) this.hub.publish("request", event(), owner)
  }

  /** Its request has ended, and that event has all attempts. */
  forget(attempt: GrowingAttempt): void {
    this.untold.delete(attempt)
  }

  /** A request to a model has come. */
  enter(context: RequestContext, labels: Labels): void {
    const live = new LiveRequest(context, ++this.count)
    context.place = this.live.push(live) - 1
    if (this.hub.active) live.watched = new WatchedRequest(this, labels, live)
  }

  /** Its model is known; what listens to its calls, if anybody watches. */
  begin(context: RequestContext): CallListener | undefined {
    const live = this.live[context.place]
    if (live?.watched === undefined) return undefined
    if (!live.told) {
      live.told = true
      this.tell({ kind: "begin", ...head(live) }, ownerOf(live))
    }
    return live.watched
  }

  /** It has ended. */
  leave(context: RequestContext, status: number, duration: number): void {
    const live = context.place === -1 ? undefined : this.live[context.place]
    if (live === undefined) return
    const last = this.live.pop()
    if (last !== undefined && last !== live) {
      this.live[context.place] = last
      last.context.place = context.place
    }
    context.place = -1
    if (!this.hub.active) {
      this.recent.length = 0
      return
    }
    live.watched?.end()
    const { disconnected } = context
    this.later(live, {
      owner: ownerOf(live),
      event: () => {
        const ended = endOf(live, status, duration, disconnected)
        if (this.recent.push(ended) > maxRecent) this.recent.shift()
        return ended
      }
    })
  }

  /** The requests of this process. */
  list(): ListedRequests {
    this.tellAll()
    const running = this.live
      .toSorted((a, b) => b.number - a.number)
      .map((live) => ({
        ...head(live),
        attempts: live.watched?.attempts,
        queued_ms: live.watched?.queued_ms,
        dequeued_ms: live.watched?.dequeued_ms,
        decision: live.watched?.decisionView,
        duration_ms: tenths(performance.now() - live.context.began)
      }))
    return { running, recent: this.recent.toReversed() }
  }

  /** Breaks a request off; `false` if there is none of this id. */
  cancel(id: string): boolean {
    for (const live of this.live) {
      if (live.id !== id && live.context.id !== id) continue
      live.context.cancel()
      return true
    }
    return false
  }
}
