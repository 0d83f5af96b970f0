/**
 * Rate limits per API key: requests and tokens per minute, and concurrent requests.
 *
 * A request acquires a slot when it begins and settles its tokens when it ends. Several answers to one request count as
 * several requests, and tokens are reserved before they are generated.
 */

import type { Access } from "../config/gatewaySettings.js"
import { adviceOn, waitFor } from "../errors/advice.js"
import { type ErrorResponse, make } from "./http/errorResponse.js"
import { storeProblem } from "./http/storeRejection.js"

/** Tokens per day, week and month; absent: no limit. */
export interface Quota {
  readonly day?: number | undefined
  readonly week?: number | undefined
  readonly month?: number | undefined
}

/** The limits of a key, without the key itself. */
export interface Allowance extends Pick<Access, "name" | "requestsPerMinute" | "tokensPerMinute" | "concurrency"> {
  /** Of keys in the store: another key may have the same name later. */
  readonly id?: string | undefined
  /** Of keys in the store. */
  readonly quota?: Quota | undefined
}

/** What counts belong to: the id of a key, or the name of one that has none. */
export const identityOf = ({ id, name }: Pick<Allowance, "id" | "name">): string => id ?? name

export const allowance = ({ concurrency, id, name, requestsPerMinute, tokensPerMinute }: Allowance): Allowance => ({
  name,
  ...(id === undefined ? {} : { id }),
  requestsPerMinute,
  tokensPerMinute,
  concurrency
})

export const isLimited = ({ concurrency, requestsPerMinute, tokensPerMinute }: Allowance): boolean =>
  Math.min(concurrency, requestsPerMinute, tokensPerMinute) < Number.POSITIVE_INFINITY

/** What a request needs. */
export interface RateDemand {
  /** Number of answers; the request itself counts for the first. */
  readonly answers: number
  /** The parameter that asks for several. */
  readonly param: string
  /** Estimated tokens of its prompts. */
  readonly prompt: number
  /** Maximum tokens of each answer, if the request sets it. */
  readonly maxTokens: number | undefined
}

/** The tokens that a request has used. */
export interface TokenUsage {
  readonly prompt: number
  readonly completion: number
}

/** An admitted request. */
export interface RateTicket {
  /**
   * Reserves what it needs beyond one answer, or returns the rejection; asynchronous if another process must be asked.
   */
  readonly reserve: (demand: RateDemand) => ErrorResponse | undefined | Promise<ErrorResponse | undefined>
  /**
   * Frees its slots and settles its tokens. With `undefined` the usage is unknown, and the reserved tokens stay taken.
   */
  readonly release: (used: TokenUsage | undefined) => void
}

/**
 * Enforces the limits of keys, for one process or several. `acquire` admits a request, or returns the rejection;
 * asynchronous if another process must be asked. `undefined` if the key has no limits.
 */
export interface RateLimiter {
  readonly acquire: (access: Allowance) => RateTicket | ErrorResponse | undefined | Promise<RateTicket | ErrorResponse>
}

export const isRejection = (ticket: RateTicket | ErrorResponse): ticket is ErrorResponse => "status" in ticket

const minute = 60_000

/**
 * A token bucket that refills steadily over a minute. It may be overdrawn, because the tokens of an answer are known
 * only at its end.
 */
class Bucket {
  private left: number
  private at: number

  constructor(
    private size: number,
    now: number
  ) {
    this.left = size
    this.at = now
  }

  resize(size: number): void {
    this.left = Math.min(this.left, size)
    if (this.size < size) this.left += size - this.size
    this.size = size
  }
  /** Milliseconds until `amount` is available: 0 if it is. */
  wait(amount: number, now: number): number {
    if (this.size === Number.POSITIVE_INFINITY) return 0
    this.left = Math.min(this.size, this.left + ((now - this.at) / minute) * this.size)
    this.at = now
    return this.left >= amount ? 0 : ((amount - this.left) / this.size) * minute
  }
  /** A negative amount is returned to the bucket. */
  take(amount: number): void {
    this.left = Math.min(this.size, this.left - amount)
  }
}

/** Expected tokens of an answer before any was seen. */
export const initialAnswerTokens = 256

/** Weight of a new answer in the average. */
export const alpha = 0.1

interface KeyUsage {
  requests: Bucket
  tokens: Bucket
  active: number
  /** EWMA of the tokens per answer. */
  averageAnswer: number
}

/** The rejection of a request for more answers than the limits ever allow. */
export const tooManyAnswers = (access: Allowance, answers: number, param: string): ErrorResponse | undefined => {
  for (const [limit, what] of [
    [access.concurrency, "requests at once"],
    [access.requestsPerMinute, "requests per minute"]
  ] as const) {
    if (answers <= limit) continue
    const reason = `'${param}' asks for ${answers} answers, each of which counts as a request, and the API key '${access.name}' is limited to ${limit} ${what}`
    return make(400, reason, "limit_exceeded", param)
  }
  return undefined
}

/** The rejection of a request whose limits cannot be looked up. `reason`: why the store could not be used. */
export const limitsUnavailable = (reason: string): ErrorResponse => {
  const wait = waitFor(reason)
  // Workers without a store have them from the first process, which can only be away.
  const cause = wait === undefined ? `: the store ${storeProblem(reason)}` : `. ${adviceOn(reason)}`
  return make(503, `What this API key may still use cannot be looked up${cause}`, "limits_unavailable", null, wait)
}

/** The usage of each key. It survives a change of settings. */
export class RateLimits {
  private readonly usageByKey = new Map<string, KeyUsage>()

  /** `now` is in milliseconds. */
  constructor(private readonly now: () => number) {}

  private of(access: Allowance): KeyUsage {
    let usage = this.usageByKey.get(identityOf(access))
    const { requestsPerMinute: requests, tokensPerMinute: tokens } = access
    if (usage === undefined) {
      const now = this.now()
      usage = {
        requests: new Bucket(requests, now),
        tokens: new Bucket(tokens, now),
        active: 0,
        averageAnswer: initialAnswerTokens
      }
      this.usageByKey.set(identityOf(access), usage)
    } else {
      usage.requests.resize(requests)
      usage.tokens.resize(tokens)
    }
    return usage
  }

  /** Takes a slot and a request. */
  acquire(access: Allowance): ErrorResponse | undefined {
    const usage = this.of(access)
    const now = this.now()
    if (usage.active >= access.concurrency) return concurrencyReached(access)
    const requests = usage.requests.wait(1, now)
    if (requests > 0) return rateReached(access, "requests", requests)
    const tokens = usage.tokens.wait(1, now)
    if (tokens > 0) return rateReached(access, "tokens", tokens)
    usage.requests.take(1)
    usage.active++
    return undefined
  }

  /**
   * Takes slots and requests for all answers but the first, and tokens: those of the prompt, and for each answer twice
   * the key's average, but at most its maximum. Returns the number of tokens taken.
   */
  reserve(access: Allowance, { answers, maxTokens, param, prompt }: RateDemand): ErrorResponse | number {
    const usage = this.of(access)
    const now = this.now()
    const excess = tooManyAnswers(access, answers, param)
    if (excess !== undefined) return excess
    const more = answers - 1
    if (usage.active + more > access.concurrency) return concurrencyReached(access)
    const requests = usage.requests.wait(more, now)
    if (requests > 0) return rateReached(access, "requests", requests)
    const expected = Math.min(maxTokens ?? Number.POSITIVE_INFINITY, 2 * usage.averageAnswer)
    const tokens = Math.min(Math.ceil(prompt + answers * expected), access.tokensPerMinute)
    const wait = usage.tokens.wait(tokens, now)
    if (wait > 0) return rateReached(access, "tokens", wait)
    usage.requests.take(more)
    usage.tokens.take(tokens)
    usage.active += more
    return tokens
  }

  // Limits are updated by requests that enter: one that leaves may have entered under older settings.
  release(identity: string, slots: number): void {
    const usage = this.usageByKey.get(identity)
    if (usage !== undefined) usage.active -= slots
  }

  settle(identity: string, reserved: number, answers: number, { completion, prompt }: TokenUsage): void {
    const usage = this.usageByKey.get(identity)
    if (usage === undefined) return
    usage.tokens.take(prompt + completion - reserved)
    if (completion > 0) usage.averageAnswer += alpha * (completion / answers - usage.averageAnswer)
  }
}

const limitReached = ({ name }: Allowance, what: string, code: string, wait: number): ErrorResponse =>
  make(429, `The API key '${name}' has reached its limit of ${what}.`, code, null, Math.max(wait, 1))

/** The rejection of a request beyond the limit of requests at once. */
export const concurrencyReached = (access: Allowance): ErrorResponse =>
  limitReached(access, `${access.concurrency} requests at once`, "concurrency_limit_exceeded", 1_000)

/** The rejection of a request beyond a limit per minute, which may come again after `wait` milliseconds. */
export const rateReached = (access: Allowance, what: "requests" | "tokens", wait: number): ErrorResponse =>
  limitReached(
    access,
    `${what === "tokens" ? access.tokensPerMinute : access.requestsPerMinute} ${what} per minute`,
    "rate_limit_exceeded",
    wait
  )

class LocalRateTicket implements RateTicket {
  private slots = 1
  private reserved = 0

  constructor(
    private readonly limits: RateLimits,
    private readonly access: Allowance
  ) {}

  reserve(demand: RateDemand): ErrorResponse | undefined {
    const taken = this.limits.reserve(this.access, demand)
    if (typeof taken !== "number") return taken
    this.slots += demand.answers - 1
    this.reserved += taken
    return undefined
  }
  release(used: TokenUsage | undefined): void {
    const identity = identityOf(this.access)
    this.limits.release(identity, this.slots)
    if (used !== undefined) this.limits.settle(identity, this.reserved, this.slots, used)
  }
}

/** Enforces limits within this process. */
export const makeLocal = (limits: RateLimits): RateLimiter => ({
  acquire: (access) => (isLimited(access) ? (limits.acquire(access) ?? new LocalRateTicket(limits, access)) : undefined)
})
