/** A lease: one attempt's slot on a server, and what is learned from its outcome. */
import type { ServerFailure } from "../Backend.js"
import { lacksMemory } from "../backend/errorText.js"
import { plausible } from "../internal/speed.js"
import type { Transfer } from "../Transport.js"
import { average, floor, peak, sharedAlpha } from "./average.js"
import type { Breaker } from "./breaker.js"
import type { Columns } from "./columns.js"
import { classifyFailure, contactOf, type FaultOwner } from "./failureClass.js"
import type { ModelState, ServerState } from "./state.js"

/**
 * Ollama's default for keeping a model loaded, in milliseconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaultKeepAlive = 300_000

/** Shorter prompts measure latency rather than prompt speed, in tokens. */
const minPromptTokens = 32

/** A partly cached prompt looks faster than it is: one observation counts at most this factor. */
const maxOutlierFactor = 3

/** A time to first token this much above the usual, in milliseconds, means a wait for a slot. */
const minSlotWait = 50

/** Anything faster, in milliseconds, was not a real load: the model was in memory or in the disk cache. */
const minLoadTime = 1_000

/**
 * After this many consecutive rejections of requests that another server then answered, the server is considered
 * faulty.
 */
const maxRejections = 2

/** Upper bound of learned slots per server and model. */
export const maxPlaces = 16

/** How long a server is avoided for a model that it said it lacks memory for, in milliseconds. */
export const refusedFor = 600_000

/**
 * What a finished attempt has shown. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Observation {
  /** From the request to the first piece, measured here. */
  readonly firstTokenTime: number | undefined
  /** The server's own figure if it reports one. */
  readonly tokensPerSecond: number | undefined
  /** How long the server keeps the model loaded from now on. */
  readonly keepAlive: number
  /** Tokens of the prompt, as the server counted them. */
  readonly promptTokens?: number | undefined
  /** Tokens of the answer, as the server counted them. */
  readonly completionTokens?: number | undefined
  /** Prompt tokens actually evaluated (not cached), if reported. */
  readonly promptEvaluated?: number | undefined
  /** How long the evaluation of the prompt took, if reported. */
  readonly promptTime?: number | undefined
  /** How long loading the model took, if reported. */
  readonly loadTime?: number | undefined
  /** How the response arrived, if it was sent as a whole. */
  readonly transfer?: Transfer | undefined
}

/**
 * One attempt's slot on a server. Exactly one of its outcomes counts, the first; each releases the slot.
 *
 * @since 0.1.0
 * @category models
 */
export interface Lease {
  /** Whether the server is known to have to load the model first. */
  readonly cold: boolean
  /** The first token came: the model is loaded. */
  answered(): void
  /** The answer is complete. */
  succeed(observation: Observation): void
  /** The attempt failed. */
  fail(failure: ServerFailure): void
  /**
   * After `fail`: every server failed alike, so the request is at fault; what counted against this one is taken back.
   */
  pardon(): void
  /** After `fail`: another server has answered, so the request was not at fault. */
  contradicted(): void
  /** A hedged attempt won: only a lower bound of the time to first token is learned. */
  overtaken(): void
  /** The caller left: nothing is learned. */
  cancel(): void
}

/**
 * What a lease needs of its fleet: the clock, how long the breaker opens after a failure (in milliseconds), and whom to
 * notify of changes.
 */
export interface LeaseDependencies {
  readonly now: () => number
  readonly rest: number
  readonly changed: (server: ServerState, model: string | undefined, now: number) => void
}

/** Takes a slot. `cached` is the number of prompt tokens assumed to be in the server's cache. */
export class SlotLease implements Lease {
  readonly cold: boolean
  /** It must load the model, as far as known, or waits for another request's load. */
  private loads: boolean
  private readonly probes: boolean
  private readonly began: number
  /** Requests for the model here when it began, including itself; and requests on the whole server. */
  private readonly concurrent: number
  private readonly serverInFlight: number
  private loaded = 0
  private open = true
  /** Its failure and the provisional consequences, until fault is attributed. */
  private failure: ServerFailure | undefined
  private suspect: Breaker | undefined
  private wasProven = false
  private wasResident = 0

  constructor(
    private readonly dependencies: LeaseDependencies,
    private readonly pool: Columns,
    private readonly server: ServerState,
    private readonly state: ModelState,
    private readonly cached: number
  ) {
    const now = dependencies.now()
    this.began = now
    this.loads = state.residentUntil <= now
    this.cold = this.loads && server.tellsResident
    if (this.loads && state.inFlight === 0) state.loadSince = now
    server.inFlight++
    state.inFlight++
    state.begun++
    state.usedAt = now
    pool.active++
    this.concurrent = state.inFlight + state.elsewhere
    this.serverInFlight = server.inFlight + server.elsewhere
    const resting = server.breaker.restsUntil !== 0 || state.breaker.restsUntil !== 0
    this.probes = resting && !server.breaker.probing && !state.breaker.probing
    if (this.probes) {
      server.breaker.probe(now)
      state.breaker.probe(now)
    }
    server.write(state, now)
    dependencies.changed(server, state.model, now)
  }

  answered(): void {
    if (!this.open) return
    const { began, server, state } = this
    const now = this.dependencies.now()
    if (this.loads) {
      this.loads = false
      this.loaded = Math.max(0, now - began)
      // If the server does not report its loaded models, this may not have been a load.
      if (this.cold && state.residentUntil <= now) this.learnLoad(now - state.loadSince)
    }
    state.answeredAt = now
    server.answeredAt = now
    server.breaker.answered(began)
    state.breaker.answered(began)
    state.refusedUntil = 0
    // While an answer is in progress the model cannot be unloaded.
    if (state.residentUntil <= now) {
      state.residentUntil = now + defaultKeepAlive
      server.write(state, now)
      this.dependencies.changed(server, state.model, now)
      server.serveQueues()
    } else {
      server.write(state, now)
      this.dependencies.changed(server, state.model, now)
    }
  }

  succeed(observation: Observation): void {
    if (!this.release()) return
    const { server, state } = this
    const now = this.dependencies.now()
    server.reached++
    if (observation.transfer !== undefined) server.transferred(observation.transfer, now)
    server.breaker.succeeded(this.began)
    state.breaker.succeeded(this.began)
    state.proven = true
    state.refusals = 0
    state.usedAt = now
    if (state.residentUntil !== Number.POSITIVE_INFINITY) state.residentUntil = now + observation.keepAlive
    this.learn(observation, now)
    this.settled()
  }

  fail(failure: ServerFailure): void {
    if (!this.release()) return
    const { began, server, state } = this
    const now = this.dependencies.now()
    const { losesMemory: forgets, provisional, unreachable } = classifyFailure(failure)
    const fault = this.faultOf(failure)
    const contact = contactOf(failure)
    if (contact !== undefined) server[contact]++
    this.failure = failure
    this.wasProven = state.proven
    this.wasResident = state.residentUntil
    if (fault === "server" || fault === "model") {
      state.proven = false
      const breaker = fault === "server" ? server.breaker : state.breaker
      if (provisional) {
        this.suspect = breaker
        breaker.suspect()
      } else breaker.confirm()
      breaker.open(began, now, this.dependencies.rest, failure.retryAfter)
      breaker.unreachable = unreachable
      breaker.cause = failure
    }
    if (failure.reason === "model-failed" && lacksMemory(failure.message)) state.refusedUntil = now + refusedFor
    if (forgets) server.forgetResident(now)
    this.settled()
  }

  pardon(): void {
    const { state, suspect } = this
    this.failure = undefined
    if (suspect === undefined) return
    this.suspect = undefined
    state.proven = this.wasProven
    if (state.residentUntil === 0) state.setResident(this.wasResident, this.dependencies.now())
    suspect.pardon()
    this.settled()
  }

  contradicted(): void {
    const { began, failure, state, suspect } = this
    this.failure = undefined
    this.suspect = undefined
    suspect?.confirm()
    if (failure === undefined || classifyFailure(failure).fault !== "request") return
    // A rejection without a message comes from something in between, such as a proxy.
    state.refusals += /^HTTP \d+$/.test(failure.message) ? maxRejections : 1
    if (state.refusals < maxRejections) return
    const now = this.dependencies.now()
    state.proven = false
    state.breaker.confirm()
    state.breaker.open(began, now, this.dependencies.rest, undefined)
    state.breaker.cause = failure
    this.settled()
  }

  overtaken(): void {
    if (!this.release()) return
    const { began, state } = this
    if (!this.loads) {
      const waited = Math.max(0, this.dependencies.now() - began)
      state.firstTokens.add(waited)
      if (waited > (state.firstTokenTime ?? 0)) state.firstTokenTime = waited
    }
    this.settled()
  }

  cancel(): void {
    if (this.release()) this.settled()
  }

  /** A server that gives other requests their first token is busy, not hung. */
  private faultOf(failure: ServerFailure): FaultOwner {
    if (failure.reason !== "first-token-timeout") return classifyFailure(failure).fault
    if (this.state.answeredAt > this.began) return "none"
    return this.server.answeredAt > this.began ? "model" : "server"
  }

  private learn(seen: Observation, now: number): void {
    const { state } = this
    const { queue } = this.pool
    const { firstTokenTime, loadTime = 0, promptTime, tokensPerSecond } = seen
    if (!this.cold && this.loaded > 0 && loadTime >= minLoadTime) this.learnLoad(loadTime)
    const speed = plausible(tokensPerSecond)
    const outdated = speed !== undefined && state.benchmarkedAt !== undefined && state.outdated(now)
    state.tokensPerSecond = average(outdated ? undefined : state.tokensPerSecond, speed)
    const loaded = Math.max(this.loaded, this.cold ? loadTime : 0)
    if (loaded === 0) {
      state.firstTokenTime = peak(outdated ? undefined : state.firstTokenTime, firstTokenTime)
      if (firstTokenTime !== undefined && firstTokenTime >= 0) state.firstTokens.add(firstTokenTime)
    }
    this.learnPrompt(seen, loaded, outdated)
    let waited = 0
    if (firstTokenTime !== undefined && promptTime !== undefined && loaded === 0) {
      const rest = Math.max(0, firstTokenTime - loadTime - promptTime)
      waited = rest - (state.overhead ?? rest)
      state.overhead = floor(state.overhead, rest)
      if (state.learns) this.learnPlaces(waited)
    }
    const service = Math.max(0, now - this.began - loaded - Math.max(0, waited))
    queue.serviceTime = queue.observed ? (average(queue.serviceTime, service, sharedAlpha) ?? service) : service
    queue.observed = true
  }

  private learnLoad(took: number): void {
    const { queue } = this.pool
    queue.loadTime = average(queue.loadTime, Math.max(minLoadTime, took)) ?? queue.loadTime
  }

  /** Prompt tokens per second: by the server's own clock, else measured here. */
  private learnPrompt(seen: Observation, loaded: number, outdated: boolean): void {
    const { state } = this
    const { queue } = this.pool
    const tokens = seen.promptEvaluated ?? seen.promptTokens
    // Cached tokens were not evaluated, and not every server reports how many were cached.
    if (tokens === undefined || !(tokens >= minPromptTokens) || (this.cached > 0 && seen.promptEvaluated === undefined))
      return
    const { firstTokenTime } = seen
    const promptTime = seen.promptTime !== undefined && seen.promptTime >= 0 ? seen.promptTime : undefined
    let speed: number
    if (promptTime !== undefined) speed = (tokens * 1_000) / Math.max(1, promptTime)
    else if (firstTokenTime !== undefined && loaded === 0)
      speed = (tokens * 1_000 * this.serverInFlight) / Math.max(1, firstTokenTime)
    else return
    const known = outdated ? undefined : state.promptSpeed
    if (known !== undefined) speed = Math.min(speed, maxOutlierFactor * known)
    state.promptSpeed = average(known, speed)
    queue.promptSpeed = Number.isNaN(queue.promptSpeed)
      ? speed
      : (average(queue.promptSpeed, speed, sharedAlpha) ?? speed)
  }

  /** The real number of slots shows in which requests had to wait at the server. */
  private learnPlaces(waited: number): void {
    const { concurrent, state } = this
    if (waited > minSlotWait) {
      if (concurrent > 1 && concurrent <= state.places) state.places = concurrent - 1
    } else if (concurrent >= state.places && this.pool.queue.length > 0 && state.places < maxPlaces) state.places++
  }

  private release(): boolean {
    if (!this.open) return false
    const { pool, server, state } = this
    this.open = false
    server.inFlight--
    state.inFlight--
    pool.active--
    if (this.probes) {
      server.breaker.probing = false
      state.breaker.probing = false
    }
    return true
  }

  private settled(): void {
    const { dependencies, server, state } = this
    const now = dependencies.now()
    server.write(state, now)
    dependencies.changed(server, server.breaker.restsUntil === 0 ? state.model : undefined, now)
    server.serveQueues()
  }
}
