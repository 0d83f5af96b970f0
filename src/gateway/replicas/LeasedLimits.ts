/**
 * Limits of keys over all gateways that use one store, or all workers of one. Each takes small slices of a limit, so
 * that most requests ask no store; all slices together hold at most one percent of it. What is not used goes back after
 * a second, and when the gateway stops. While the store is away, requests are served from the slices that are held.
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { ErrorResponse } from "../http/errorResponse.js"
import * as RateLimits from "../rateLimits.js"
import { inTime } from "../storeTimeout.js"
import { KeyLease, type Kind } from "./KeyLease.js"
import type * as LimitTable from "./limitTable.js"
import { failurePause, maxSilence, StoreSilence } from "./StoreSilence.js"
import type { Amounts } from "./sharedLimits.js"

/** How often unused slices are looked for, and how long they are kept, in milliseconds. */
const interval = 250
const idleTime = 1_000

/** The interval at which a replica that holds slots reports that it is alive, in milliseconds. */
const renewal = 10_000

/** A key that was not used for so long is forgotten, in milliseconds. */
const forgetTime = 600_000

/** How often the store is tried while it is away, in milliseconds. */
const retryInterval = 1_000

/** How often, and how long apart, a place is asked for that another replica may not use any more; in milliseconds. */
const slotAttempts = 12
const slotPause = 50

/** A request waits for so many exchanges at most. */
const maxExchanges = 30

const limitsOf = ({ concurrency, requestsPerMinute, tokensPerMinute }: RateLimits.Allowance): Amounts => ({
  requests: requestsPerMinute,
  tokens: tokensPerMinute,
  slots: concurrency
})

type Decision = ErrorResponse | undefined | Promise<ErrorResponse | undefined>

export class LeasedLimits implements RateLimits.RateLimiter {
  private readonly leases = new Map<string, KeyLease>()
  private readonly running = new Map<string, Promise<boolean>>()
  private readonly next = new Map<string, Promise<boolean>>()
  private readonly replica = randomUUID()
  private lastAttempt = Number.NEGATIVE_INFINITY
  private readonly silence = new StoreSilence()

  constructor(
    private readonly exchangeLimits: LimitTable.ExchangeLimits,
    private readonly log: (text: string) => void,
    private readonly runtime: Runtime.Runtime<never>,
    private readonly now: () => number
  ) {}

  /** Whether the store answers. */
  get available(): boolean {
    return this.silence.available
  }

  acquire(access: RateLimits.Allowance): ReturnType<RateLimits.RateLimiter["acquire"]> {
    if (!RateLimits.isLimited(access)) return undefined
    const allowance = RateLimits.allowance(access)
    const needed = { requests: 1, tokens: 1, slots: 1 }
    const decision = this.admit(allowance, needed, { ...needed, tokens: 0 })
    if (decision instanceof Promise) return decision.then((problem) => problem ?? new LeasedTicket(this, allowance))
    return decision ?? new LeasedTicket(this, allowance)
  }

  /** What is reserved for a request, or the rejection. */
  reserve(
    access: RateLimits.Allowance,
    { answers, maxTokens, param, prompt }: RateLimits.RateDemand,
    taken: (reserved: number) => void
  ): Decision {
    const excess = RateLimits.tooManyAnswers(access, answers, param)
    if (excess !== undefined) return excess
    const more = answers - 1
    const expected = Math.min(maxTokens ?? Number.POSITIVE_INFINITY, 2 * this.of(access).averageAnswer)
    const tokens =
      access.tokensPerMinute === Number.POSITIVE_INFINITY
        ? 0
        : Math.min(Math.ceil(prompt + answers * expected), access.tokensPerMinute)
    if (more === 0 && tokens === 0) return undefined
    const amounts = { requests: more, tokens, slots: more }
    const decision = this.admit(access, amounts, amounts)
    const done = (problem: ErrorResponse | undefined) => {
      if (problem === undefined) taken(tokens)
      return problem
    }
    return decision instanceof Promise ? decision.then(done) : done(decision)
  }

  release(name: string, slots: number, reserved: number, used: RateLimits.TokenUsage | undefined): void {
    const lease = this.leases.get(name)
    if (lease === undefined) return
    lease.release(slots, reserved, used === undefined ? undefined : used.prompt + used.completion)
    if (used !== undefined && used.completion > 0) lease.answered(used.completion / slots)
    this.exchangeIfDue(name, lease)
  }

  private of(access: RateLimits.Allowance): KeyLease {
    let lease = this.leases.get(RateLimits.identityOf(access))
    const limits = limitsOf(access)
    if (lease === undefined) {
      lease = new KeyLease(limits)
      this.leases.set(RateLimits.identityOf(access), lease)
    } else lease.limits = limits
    return lease
  }

  /** Takes amounts where there are enough; asynchronous if the store must be asked. */
  private admit(access: RateLimits.Allowance, needed: Amounts, taken: Amounts): Decision {
    const lease = this.of(access)
    lease.usedAt = this.now()
    const lacking = lease.lacks(needed)
    if (lacking === undefined) {
      lease.take(taken)
      this.exchangeIfDue(RateLimits.identityOf(access), lease)
      return undefined
    }
    if (!this.available && lease.usedAt - this.lastAttempt < retryInterval)
      return RateLimits.limitsUnavailable(this.silence.reason)
    return lease.isShort(lacking, lease.usedAt)
      ? this.rejection(access, lease, lacking)
      : this.wait(access, lease, needed, taken)
  }

  private async wait(
    access: RateLimits.Allowance,
    lease: KeyLease,
    needed: Amounts,
    taken: Amounts
  ): Promise<ErrorResponse | undefined> {
    const until = this.now() + maxSilence
    let slotsAsked = 0
    for (let exchanges = 0; exchanges < maxExchanges; exchanges++) {
      lease.wants(needed)
      const isDone = await this.exchange(RateLimits.identityOf(access), lease)
      const lacking = lease.lacks(needed)
      if (lacking === undefined) {
        lease.take(taken)
        return undefined
      }
      if (!isDone) {
        if (!this.available || this.now() >= until || exchanges === maxExchanges - 1) {
          return RateLimits.limitsUnavailable(this.silence.reason)
        }
        await this.runNow(Effect.sleep(failurePause))
        continue
      }
      if (lacking === "slots") {
        if (lease.replicas === 1 || ++slotsAsked >= slotAttempts) break
        await this.runNow(Effect.sleep(slotPause))
      } else if (lease.isShort(lacking, this.now())) break
    }
    return this.rejection(access, lease, lease.lacks(needed) ?? "slots")
  }

  private rejection(access: RateLimits.Allowance, lease: KeyLease, kind: Kind): ErrorResponse {
    return kind === "slots"
      ? RateLimits.concurrencyReached(access)
      : RateLimits.rateReached(access, kind, lease.wait(kind, this.now()))
  }

  private exchangeIfDue(name: string, lease: KeyLease): void {
    if (this.available && !this.next.has(name) && lease.isDue()) void this.exchange(name, lease)
  }

  /** Exchanges with the other replicas; those that ask during an exchange share the next one. Whether it was done. */
  private exchange(name: string, lease: KeyLease, all = false): Promise<boolean> {
    const planned = this.next.get(name)
    if (planned !== undefined) return all ? planned.then(() => this.exchange(name, lease, all)) : planned
    const before = this.running.get(name) ?? Promise.resolve(true)
    const next = before.then(() => {
      this.next.delete(name)
      this.running.set(name, next)
      return this.exchangeNow(name, lease, all).finally(() => {
        if (this.running.get(name) === next) this.running.delete(name)
      })
    })
    this.next.set(name, next)
    return next
  }

  private exchangeNow(name: string, lease: KeyLease, all: boolean): Promise<boolean> {
    const now = this.now()
    const begun = lease.begin(this.replica, all, now)
    this.lastAttempt = now
    this.silence.asked(now)
    const exchange = inTime(this.exchangeLimits(name, begun)).pipe(
      Effect.match({
        onSuccess: (grant) => {
          lease.end(begun, grant, this.now())
          if (this.silence.answered()) this.log("limits are shared with the other gateways again")
          return true
        },
        onFailure: ({ reason, uncertain }) => {
          lease.fail(begun, uncertain, this.now())
          if (this.silence.failed(this.now(), uncertain, reason))
            this.log(`limits are served from what this gateway holds: ${reason}`)
          return false
        }
      })
    )
    return this.runNow(exchange)
  }

  private runNow<A>(effect: Effect.Effect<A>): Promise<A> {
    return Runtime.runPromise(this.runtime, effect)
  }

  /** Returns what is not used, and reports what is held. */
  private readonly tick = Effect.promise(async () => {
    const now = this.now()
    if (!this.available) {
      const [first] = this.leases
      if (first !== undefined && now - this.lastAttempt >= retryInterval) await this.exchange(...first)
      return
    }
    for (const [name, lease] of this.leases) {
      const idle = now - lease.usedAt
      const hasSpare = lease.settleDown()
      if (lease.isEmpty && lease.isIdle) {
        if (idle > forgetTime) this.leases.delete(name)
      } else if (lease.isDoubtful) await this.exchange(name, lease)
      else if (lease.isIdle && idle >= idleTime) await this.exchange(name, lease, true)
      else if (hasSpare || (lease.holdsSlots && now - lease.exchangedAt > renewal)) await this.exchange(name, lease)
    }
  })

  /** Gives back everything, after the exchange before is known to be done. */
  private async leave(name: string, lease: KeyLease): Promise<void> {
    while ((await this.exchange(name, lease, true)) && lease.isIdle && !lease.isEmpty);
  }

  private readonly giveBack = Effect.promise(() =>
    Promise.all([...this.leases].filter(([, { isEmpty }]) => !isEmpty).map(([name, lease]) => this.leave(name, lease)))
  )

  /** Gives slices back when they are not used, and all of them when the scope closes. */
  readonly run: Effect.Effect<void, never, Scope.Scope> = Effect.suspend(() =>
    Effect.zipRight(
      Effect.addFinalizer(() => this.giveBack),
      Effect.asVoid(Effect.forkScoped(Effect.repeat(this.tick, Schedule.spaced(interval))))
    )
  )
}

/** An admitted request. */
class LeasedTicket implements RateLimits.RateTicket {
  private slots = 1
  private reserved = 0
  private over = false

  constructor(
    private readonly limits: LeasedLimits,
    private readonly access: RateLimits.Allowance
  ) {}

  reserve(demand: RateLimits.RateDemand): Decision {
    return this.limits.reserve(this.access, demand, (reserved) => {
      // The client left while the store was asked.
      if (this.over) {
        this.limits.release(RateLimits.identityOf(this.access), demand.answers - 1, reserved, {
          prompt: 0,
          completion: 0
        })
        return
      }
      this.slots += demand.answers - 1
      this.reserved += reserved
    })
  }

  release(used: RateLimits.TokenUsage | undefined): void {
    this.over = true
    this.limits.release(RateLimits.identityOf(this.access), this.slots, this.reserved, used)
  }
}

/**
 * The limits of keys over all gateways that exchange them in this way, until the scope closes. `now` is in
 * milliseconds.
 */
export const make = (
  exchangeLimits: LimitTable.ExchangeLimits,
  log: (text: string) => void,
  now: () => number = () => performance.now()
): Effect.Effect<LeasedLimits, never, Scope.Scope> =>
  Effect.flatMap(Effect.runtime<never>(), (runtime) => {
    const limits = new LeasedLimits(exchangeLimits, log, runtime, now)
    return Effect.as(limits.run, limits)
  })
