/** What this process holds of the limits of one key: plain numbers that requests take from and give back to. */
import { alpha, initialAnswerTokens } from "../rateLimits.js"
import { type Amounts, type Grant, replicaLife, type SliceExchange, sliceOf } from "./sharedLimits.js"

/** A slice smaller than this is not refilled ahead of need: what it holds would be missed elsewhere. */
const leastAhead = 4

/** How long other replicas are not asked again after they had nothing, in milliseconds. */
const maxShortage = 250

const kinds = ["requests", "tokens", "slots"] as const
export type Kind = (typeof kinds)[number]

const none: Amounts = { requests: 0, tokens: 0, slots: 0 }

export class KeyLease {
  /** Requests and tokens that may be used; tokens may be overdrawn. */
  private requests = 0
  private tokens = 0
  /** Places, and those that are taken. */
  private held = 0
  private active = 0
  private heldBefore = 0
  /** The most places that were taken since the last `settleDown`. */
  private peak = 0
  /** How many replicas use the key, this one included. */
  replicas = 1
  /** When a request last used it, and when it was last exchanged, in milliseconds. */
  usedAt = 0
  exchangedAt = Number.NEGATIVE_INFINITY
  /** Running average of the tokens per answer. */
  averageAnswer = initialAnswerTokens
  /** What requests wait for, and the least that one of them waits for. */
  private needs = { ...none }
  private least = { ...none }
  /** When there is enough again, and until when the others are not asked before. */
  private readonly readyAt = { requests: 0, tokens: 0 }
  private readonly shortUntil = { requests: 0, tokens: 0 }
  /** Nothing is held, and the others know. */
  isEmpty = true
  /** An exchange that the store may have done or not: it is asked again before any other, so that nothing is lost. */
  private doubtful: { readonly exchange: SliceExchange; readonly since: number } | undefined
  private exchanges = 0

  constructor(public limits: Amounts) {}

  private have(kind: Kind): number {
    return kind === "slots" ? this.held - this.active : this[kind]
  }

  private isLimited(kind: Kind): boolean {
    return this.limits[kind] < Number.POSITIVE_INFINITY
  }

  /** The first of these that there is not enough of. */
  lacks(amounts: Amounts): Kind | undefined {
    for (const kind of kinds) {
      if (amounts[kind] > 0 && this.isLimited(kind) && this.have(kind) < amounts[kind]) return kind
    }
    return undefined
  }

  take(amounts: Amounts): void {
    this.requests -= amounts.requests
    this.tokens -= amounts.tokens
    this.active += amounts.slots
    if (this.active > this.peak) this.peak = this.active
  }

  /** A request has ended: its places are free, and it used these tokens instead of those that were reserved. */
  release(slots: number, reserved: number, used: number | undefined): void {
    this.active -= slots
    if (used !== undefined) this.tokens += reserved - used
  }

  answered(tokens: number): void {
    this.averageAnswer += alpha * (tokens - this.averageAnswer)
  }

  /** Whether the other replicas had none of this a moment ago. */
  isShort(kind: Kind, now: number): boolean {
    return kind !== "slots" && this.shortUntil[kind] > now
  }

  /** How long there is not enough of this, as far as known, in milliseconds. */
  wait(kind: "requests" | "tokens", now: number): number {
    return Math.max(0, this.readyAt[kind] - now)
  }

  /** Whether an exchange ahead of need is worth it: a slice runs out, is far too large, or places are wanted elsewhere. */
  isDue(): boolean {
    if (this.replicas > 1 && this.isLimited("slots") && this.held > this.kept()) return true
    for (const kind of ["requests", "tokens"] as const) {
      if (!this.isLimited(kind)) continue
      const slice = sliceOf(this.limits[kind], this.replicas)
      const have = this[kind]
      if (have < 0 || have > 2 * slice + 1 || (slice >= leastAhead && have < slice / 2)) return true
    }
    return false
  }

  /** A request waits for these. */
  wants(amounts: Amounts): void {
    for (const kind of kinds) {
      const amount = this.isLimited(kind) ? amounts[kind] : 0
      if (amount === 0) continue
      this.needs[kind] += amount
      this.least[kind] = this.least[kind] === 0 ? amount : Math.min(this.least[kind], amount)
    }
  }

  /** Places that are kept: alone, those that were used a moment ago too. */
  private kept(): number {
    if (this.replicas === 1) return Math.min(this.held, this.peak)
    return Math.min(this.held, this.active + sliceOf(this.limits.slots, this.replicas))
  }

  /**
   * Begins an exchange, or again the one before: what is given back is not used any more. `all`: everything that is not
   * in use is given back.
   */
  begin(replica: string, all: boolean, now: number): SliceExchange {
    const again = this.again(now)
    if (again !== undefined) return again
    const { needs, least } = this
    this.needs = { ...none }
    this.least = { ...none }
    const rate = (kind: "requests" | "tokens") => {
      if (!this.isLimited(kind)) return { give: 0, need: 0, least: 0 }
      const slice = sliceOf(this.limits[kind], this.replicas)
      const have = this[kind]
      if (all) return { give: have, need: 0, least: 0 }
      const give = have < 0 ? have : have > 2 * slice + 1 && have > needs[kind] + slice ? have - slice - needs[kind] : 0
      const left = have - give
      const short = Math.max(0, needs[kind] - left)
      const ahead = short === 0 && slice >= leastAhead && left < slice / 2
      return { give, need: ahead ? 1 : short, least: ahead ? 1 : Math.max(0, least[kind] - left) }
    }
    const requests = rate("requests")
    const tokens = rate("tokens")
    this.requests -= requests.give
    this.tokens -= tokens.give
    const isLimited = this.isLimited("slots")
    this.heldBefore = this.held
    const keep = isLimited ? (all ? this.active : Math.max(this.active, this.kept())) : 0
    this.held = keep
    return {
      replica,
      limits: this.limits,
      give: { requests: requests.give, tokens: tokens.give },
      keep,
      need: {
        requests: requests.need,
        tokens: tokens.need,
        slots: isLimited ? Math.max(0, needs.slots - (keep - this.active)) : 0
      },
      least: { requests: requests.least, tokens: tokens.least, slots: 0 },
      leaves: all && this.active === 0,
      number: ++this.exchanges,
      repeats: false
    }
  }

  /** The exchange before, if it is not known what became of it. Those who wait say again what they need. */
  private again(now: number): SliceExchange | undefined {
    if (this.doubtful === undefined) return undefined
    const { exchange, since } = this.doubtful
    if (now - since < replicaLife / 2) {
      this.needs = { ...none }
      this.least = { ...none }
      return { ...exchange, repeats: true }
    }
    // The store may have forgotten it: only a debt is kept, so that nothing is used twice.
    this.doubtful = undefined
    this.requests += Math.min(0, exchange.give.requests)
    this.tokens += Math.min(0, exchange.give.tokens)
    return undefined
  }

  get isDoubtful(): boolean {
    return this.doubtful !== undefined
  }

  end(begun: SliceExchange, grant: Grant, now: number): void {
    this.doubtful = undefined
    this.requests += grant.requests
    this.tokens += grant.tokens
    this.held = grant.held
    this.replicas = grant.replicas
    this.exchangedAt = now
    this.isEmpty = begun.leaves
    for (const kind of ["requests", "tokens"] as const) {
      if (begun.need[kind] === 0) continue
      this.readyAt[kind] = now + grant.wait[kind]
      this.shortUntil[kind] = now + Math.min(maxShortage, grant.wait[kind])
    }
  }

  /** An exchange has failed. `uncertain`: it may have been done all the same; else all is as it was before. */
  fail(begun: SliceExchange, uncertain: boolean, now: number): void {
    if (begun.repeats) return
    if (uncertain) {
      this.doubtful = { exchange: begun, since: now }
      return
    }
    this.requests += begun.give.requests
    this.tokens += begun.give.tokens
    this.held = this.heldBefore
  }

  /** To be called now and then: places that were not used since can be given back. Whether there are any. */
  settleDown(): boolean {
    const spare = this.replicas === 1 && this.isLimited("slots") && this.held > Math.max(this.peak, this.active)
    this.peak = this.active
    return spare
  }

  get isIdle(): boolean {
    return this.active === 0
  }

  get holdsSlots(): boolean {
    return this.held > 0
  }
}
