/**
 * How much each API key may use: requests and tokens per minute, and answers at once.
 *
 * A request takes its share when it begins and settles it when it ends. Several answers to one request count as several
 * requests, and tokens are reserved before they are written.
 *
 * @since 0.1.0
 */

import type { Access } from "../config/gatewaySettings.js"
import { make, type Problem } from "./http/errorResponse.js"

/**
 * How much a key may use, by its name; without the key itself.
 *
 * @since 0.1.0
 * @category models
 */
export type Allowance = Pick<Access, "name" | "requestsPerMinute" | "tokensPerMinute" | "concurrency">

/**
 * @since 0.1.0
 * @category accessors
 */
export const allowance = ({ concurrency, name, requestsPerMinute, tokensPerMinute }: Access): Allowance => ({
  name,
  requestsPerMinute,
  tokensPerMinute,
  concurrency
})

/**
 * @since 0.1.0
 * @category accessors
 */
export const isLimited = ({ concurrency, requestsPerMinute, tokensPerMinute }: Allowance): boolean =>
  Math.min(concurrency, requestsPerMinute, tokensPerMinute) < Number.POSITIVE_INFINITY

/**
 * What a request asks for.
 *
 * - `answers`: how many; the request itself counts for the first
 * - `param`: the parameter that asks for several
 * - `prompt`: about how many tokens its prompts have
 * - `maxTokens`: how many tokens each answer may have at most, where the request says so
 *
 * @since 0.1.0
 * @category models
 */
export interface Demand {
  readonly answers: number
  readonly param: string
  readonly prompt: number
  readonly maxTokens: number | undefined
}

/**
 * What a request has used, in tokens.
 *
 * @since 0.1.0
 * @category models
 */
export interface Used {
  readonly prompt: number
  readonly completion: number
}

/**
 * A request that was let in.
 *
 * - `reserve`: takes what it asks for besides one answer, or says why not; later where another process has to be asked
 * - `leave`: gives its places back and settles its tokens. `undefined`: it is not known what was used, so that the
 *   reserved tokens stay taken
 *
 * @since 0.1.0
 * @category models
 */
export interface Ticket {
  readonly reserve: (demand: Demand) => Problem | undefined | Promise<Problem | undefined>
  readonly leave: (used: Used | undefined) => void
}

/**
 * What holds keys to their limits: those of one process, or of several together. `enter` lets a request in, or says why
 * not; later where another process has to be asked. `undefined` where the key has no limits.
 *
 * @since 0.1.0
 * @category models
 */
export interface Limiter {
  readonly enter: (access: Access) => Ticket | Problem | undefined | Promise<Ticket | Problem>
}

/**
 * @since 0.1.0
 * @category guards
 */
export const isProblem = (entered: Ticket | Problem): entered is Problem => "status" in entered

const minute = 60_000

/** What may be used within a minute, given back steadily. It may be overdrawn: what an answer takes is known at its end. */
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
  /** How long until `amount` is there, in milliseconds: 0 where it is. */
  wait(amount: number, now: number): number {
    if (this.size === Number.POSITIVE_INFINITY) return 0
    this.left = Math.min(this.size, this.left + ((now - this.at) / minute) * this.size)
    this.at = now
    return this.left >= amount ? 0 : ((amount - this.left) / this.size) * minute
  }
  /** A negative amount is given back. */
  take(amount: number): void {
    this.left = Math.min(this.size, this.left - amount)
  }
}

/** How many tokens an answer is expected to have before any was seen. */
const firstAnswer = 256

/** How much one more answer changes what is expected of the next. */
const alpha = 0.1

interface Use {
  requests: Bucket
  tokens: Bucket
  active: number
  /** EWMA of the tokens of an answer. */
  answer: number
}

/**
 * What has been used of each key's limits, in one place. It is remembered over changes of the settings.
 *
 * @since 0.1.0
 * @category models
 */
export class Limits {
  private readonly uses = new Map<string, Use>()

  /** `now` is in milliseconds. */
  constructor(private readonly now: () => number) {}

  private of(access: Allowance): Use {
    let use = this.uses.get(access.name)
    const { requestsPerMinute: requests, tokensPerMinute: tokens } = access
    if (use === undefined) {
      const now = this.now()
      use = { requests: new Bucket(requests, now), tokens: new Bucket(tokens, now), active: 0, answer: firstAnswer }
      this.uses.set(access.name, use)
    } else {
      use.requests.resize(requests)
      use.tokens.resize(tokens)
    }
    return use
  }

  /** Takes a place and a request. */
  enter(access: Allowance): Problem | undefined {
    const use = this.of(access)
    const now = this.now()
    if (use.active >= access.concurrency) return atOnce(access)
    const requests = use.requests.wait(1, now)
    if (requests > 0) return perMinute(access, "requests", requests)
    const tokens = use.tokens.wait(1, now)
    if (tokens > 0) return perMinute(access, "tokens", tokens)
    use.requests.take(1)
    use.active++
    return undefined
  }

  /**
   * Takes places and requests for all answers but the first, and tokens: those of the prompt, and for each answer twice
   * as many as the key's answers have on average, but no more than it may have. Gives how many tokens were taken.
   */
  reserve(access: Allowance, { answers, maxTokens, param, prompt }: Demand): Problem | number {
    const use = this.of(access)
    const now = this.now()
    for (const [limit, what] of [
      [access.concurrency, "requests at once"],
      [access.requestsPerMinute, "requests per minute"]
    ] as const) {
      if (answers <= limit) continue
      const reason = `'${param}' asks for ${answers} answers, each of which counts as a request, and the API key '${access.name}' is limited to ${limit} ${what}`
      return make(400, reason, "limit_exceeded", param)
    }
    const more = answers - 1
    if (use.active + more > access.concurrency) return atOnce(access)
    const requests = use.requests.wait(more, now)
    if (requests > 0) return perMinute(access, "requests", requests)
    const expected = Math.min(maxTokens ?? Number.POSITIVE_INFINITY, 2 * use.answer)
    const tokens = Math.min(Math.ceil(prompt + answers * expected), access.tokensPerMinute)
    const wait = use.tokens.wait(tokens, now)
    if (wait > 0) return perMinute(access, "tokens", wait)
    use.requests.take(more)
    use.tokens.take(tokens)
    use.active += more
    return tokens
  }

  // How much is allowed is learned from who enters: who leaves may have come under older settings.
  leave(name: string, places: number): void {
    const use = this.uses.get(name)
    if (use !== undefined) use.active -= places
  }

  settle(name: string, reserved: number, answers: number, { completion, prompt }: Used): void {
    const use = this.uses.get(name)
    if (use === undefined) return
    use.tokens.take(prompt + completion - reserved)
    if (completion > 0) use.answer += alpha * (completion / answers - use.answer)
  }
}

const full = ({ name }: Allowance, what: string, code: string, wait: number): Problem =>
  make(429, `The API key '${name}' has reached its limit of ${what}.`, code, null, Math.max(wait, 1))

const atOnce = (access: Allowance): Problem =>
  full(access, `${access.concurrency} requests at once`, "concurrency_limit_exceeded", 1_000)

const perMinute = (access: Allowance, what: "requests" | "tokens", wait: number): Problem =>
  full(
    access,
    `${what === "tokens" ? access.tokensPerMinute : access.requestsPerMinute} ${what} per minute`,
    "rate_limit_exceeded",
    wait
  )

class LocalTicket implements Ticket {
  private places = 1
  private reserved = 0

  constructor(
    private readonly limits: Limits,
    private readonly access: Allowance
  ) {}

  reserve(demand: Demand): Problem | undefined {
    const taken = this.limits.reserve(this.access, demand)
    if (typeof taken !== "number") return taken
    this.places += demand.answers - 1
    this.reserved += taken
    return undefined
  }
  leave(used: Used | undefined): void {
    const { name } = this.access
    this.limits.leave(name, this.places)
    if (used !== undefined) this.limits.settle(name, this.reserved, this.places, used)
  }
}

/**
 * Holds each key to its limits in this process.
 *
 * @since 0.1.0
 * @category constructors
 */
export const local = (limits: Limits): Limiter => ({
  enter: (access) => (isLimited(access) ? (limits.enter(access) ?? new LocalTicket(limits, access)) : undefined)
})
