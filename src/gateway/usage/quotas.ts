/**
 * Quotas of keys: tokens of prompts and answers per day, week (from Monday) and month, in UTC, over all gateways that
 * use one store.
 *
 * Each gateway claims in the store what its requests may use until that is counted there, and a little more, so that
 * most requests do not query the store; claims and counts together never exceed the quota. A request is admitted if
 * what it may need is claimed, or if something is and no other one of its key in this process has a part of that: so
 * each process goes beyond a quota by one request at most. While the store is away, requests are served from what is
 * claimed.
 */
import { randomUUID } from "node:crypto"
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Store from "../../Store.js"
import { type ErrorResponse, make as makeError } from "../http/errorResponse.js"
import type { Allowance, RateDemand, RateLimiter, RateTicket, TokenUsage } from "../rateLimits.js"
import { identityOf, isRejection, limitsUnavailable } from "../rateLimits.js"
import * as LimitTable from "../replicas/limitTable.js"
import { type Claims, claim, claimLife } from "../replicas/quotaClaims.js"
import { failurePause, maxSilence, StoreSilence } from "../replicas/StoreSilence.js"
import { inTime } from "../storeTimeout.js"
import type { UsageRecorder } from "./UsageRecorder.js"

const dayLength = 86_400_000

/** How old what is known may be, in milliseconds. */
const maxAge = 1_000

/** When what a request has used is stored, in milliseconds. */
const settleTime = 1_500

/** Expected tokens of an answer that sets no maximum, before any was seen, and the weight of a new one. */
const initialAnswerTokens = 256
const alpha = 0.1

interface Period {
  readonly words: "day" | "week" | "month"
  readonly limit: number
  /** The first day of this one and of the next, in days since the epoch. */
  readonly from: number
  readonly next: number
}

const periodsOf = ({ quota = {} }: Allowance, now: number): ReadonlyArray<Period> => {
  const day = Math.floor(now / dayLength)
  const monday = day - ((day + 3) % 7)
  const date = new Date(now)
  const month = (offset: number) => Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + offset, 1) / dayLength
  const periods: Array<Period> = []
  if (quota.day !== undefined) periods.push({ words: "day", limit: quota.day, from: day, next: day + 1 })
  if (quota.week !== undefined) periods.push({ words: "week", limit: quota.week, from: monday, next: monday + 7 })
  if (quota.month !== undefined) periods.push({ words: "month", limit: quota.month, from: month(0), next: month(1) })
  return periods
}

/** What is known of a key. */
interface KeyTokens {
  /** Tokens in the store, by days. */
  days: ReadonlyMap<number, number>
  /** What this process has counted since. */
  recent: number
  reserved: number
  /** How much of what is not in the store yet this process may use. */
  claimed: number
  /** What requests wait for. */
  wanted: number
  averageAnswer: number
  readAt: number
  reading: Promise<boolean> | undefined
  next: Promise<boolean> | undefined
  timer: ReturnType<typeof setTimeout> | undefined
}

const select = (sql: SqlClient, key: string, from: number): Effect.Effect<ReadonlyMap<number, number>, SqlError> =>
  Effect.map(
    sql<{
      day: number
      tokens: number
    }>`SELECT day, tokens FROM aicortex_key_tokens WHERE key_name = ${key} AND day >= ${from}`,
    (rows) => new Map(rows.map(({ day, tokens }) => [day, tokens]))
  )

const usedIn = (days: ReadonlyMap<number, number>, { from }: Period): number => {
  let sum = 0
  for (const [day, tokens] of days) if (day >= from) sum += tokens
  return sum
}

export class Quotas {
  private readonly keys = new Map<string, KeyTokens>()
  private readonly replica = randomUUID()
  private readonly silence = new StoreSilence()

  constructor(
    private readonly store: Store.Service,
    private readonly usage: UsageRecorder
  ) {}

  private of(identity: string): KeyTokens {
    let known = this.keys.get(identity)
    if (known === undefined) {
      known = {
        days: new Map(),
        recent: 0,
        reserved: 0,
        claimed: 0,
        wanted: 0,
        averageAnswer: initialAnswerTokens,
        readAt: Number.NEGATIVE_INFINITY,
        reading: undefined,
        next: undefined,
        timer: undefined
      }
      this.keys.set(identity, known)
    }
    return known
  }

  /** Claims what requests want; those that ask meanwhile share the next time. Whether the store answered. */
  private read(access: Allowance, known: KeyTokens): Promise<boolean> {
    if (known.next !== undefined) return known.next
    const next = (known.reading ?? Promise.resolve(true)).then(() => {
      known.next = undefined
      known.reading = next
      return this.readNow(access, known).finally(() => {
        if (known.reading === next) known.reading = undefined
      })
    })
    known.next = next
    return next
  }

  /** Asks for so many tokens; waits where the store is slow. Whether it answered. */
  private async ask(access: Allowance, known: KeyTokens, wanted: number): Promise<boolean> {
    const until = performance.now() + maxSilence
    for (;;) {
      known.wanted += wanted
      if (await this.read(access, known)) return true
      if (!this.silence.available || performance.now() >= until) return false
      await new Promise((resume) => setTimeout(resume, failurePause))
    }
  }

  private async readNow(access: Allowance, known: KeyTokens): Promise<boolean> {
    const identity = identityOf(access)
    const now = Date.now()
    const { wanted } = known
    known.wanted = 0
    const periods = periodsOf(access, now)
    // The longest period begins at most 31 days ago.
    const from = Math.floor(now / dayLength) - 31
    const claiming = LimitTable.replaceIn(
      this.store,
      `quota:${identity}`,
      (sql) =>
        Effect.suspend(() => {
          // What is stored while the store is read counts twice rather than not at all.
          known.recent = this.usage.unstored(identity)
          const own = known.recent + known.reserved
          // The claim before may be given up from here on: nothing more is used of it.
          known.claimed = Math.min(known.claimed, own)
          return Effect.map(select(sql, identity, from), (days) => ({ own, days }))
        }),
      (claims: Claims, { days, own }, time) => {
        const left = Math.min(...periods.map((period) => period.limit - usedIn(days, period)))
        const quota = Math.min(...periods.map(({ limit }) => limit))
        const [next, claimed] = claim(claims, { replica: this.replica, own, wanted, left, quota }, time)
        return [next, { days, claimed }] as const
      }
    )
    this.silence.asked(performance.now())
    const done = await Effect.runPromise(Effect.either(inTime(claiming)))
    if (Either.isLeft(done)) {
      this.silence.failed(performance.now(), done.left.uncertain, done.left.reason)
      return false
    }
    this.silence.answered()
    known.days = done.right.days
    known.claimed = done.right.claimed
    known.readAt = performance.now()
    return true
  }

  private used({ days, recent }: KeyTokens, period: Period): number {
    return recent + usedIn(days, period)
  }

  private rejection(name: string, { limit, next, words }: Period, now: number): ErrorResponse {
    const end = next * dayLength
    const message = `The API key '${name}' has used its quota of ${limit} tokens per ${words}. The next ${words} begins at ${new Date(end).toISOString()}.`
    return makeError(429, message, "quota_exceeded", null, end - now)
  }

  /** What may be used now. */
  private left(known: KeyTokens): number {
    // After that, others take the claim for that of a process that is gone.
    if (performance.now() - known.readAt > claimLife / 2) return 0
    return known.claimed - known.recent - known.reserved
  }

  /** The rejection of a request where nothing is left. */
  private check(access: Allowance, known: KeyTokens): ErrorResponse | undefined {
    const now = Date.now()
    const over = periodsOf(access, now).find((period) => this.used(known, period) >= period.limit)
    return over === undefined ? undefined : this.rejection(access.name, over, now)
  }

  /** The rejection of a request for which too little is left, but not nothing. */
  private reservedElsewhere(access: Allowance, known: KeyTokens): ErrorResponse {
    const now = Date.now()
    const [first] = [...periodsOf(access, now)].sort(
      (a, b) => a.limit - this.used(known, a) - (b.limit - this.used(known, b))
    )
    const message = `What the API key '${access.name}' has left of its quota of ${first?.limit ?? 0} tokens per ${first?.words ?? "day"} is reserved by its requests under way.`
    return makeError(429, message, "quota_reserved", null, 1_000)
  }

  /** Admits a request, or returns the rejection; asynchronous where the store has to be asked. */
  acquire(access: Allowance): ErrorResponse | undefined | Promise<ErrorResponse | undefined> {
    const known = this.of(identityOf(access))
    if (this.left(known) >= 1) {
      if (performance.now() - known.readAt > maxAge) void this.read(access, known)
      return undefined
    }
    return this.ask(access, known, 1).then((isKnown) => {
      if (this.left(known) >= 1) return undefined
      if (!isKnown) return limitsUnavailable(this.silence.reason)
      return this.check(access, known) ?? this.reservedElsewhere(access, known)
    })
  }

  /** Reserves what a request may need, or returns the rejection. */
  reserve(
    access: Allowance,
    { answers, maxTokens, prompt }: RateDemand,
    taken: (tokens: number) => void
  ): ErrorResponse | undefined | Promise<ErrorResponse | undefined> {
    const known = this.of(identityOf(access))
    const tokens = Math.ceil(prompt + answers * (maxTokens ?? 2 * known.averageAnswer))
    const take = () => {
      known.reserved += tokens
      taken(tokens)
      return undefined
    }
    if (this.left(known) >= tokens) return take()
    return this.ask(access, known, tokens).then((isKnown) => {
      const left = this.left(known)
      // One at a time may go beyond it.
      if (left >= tokens || (left >= 1 && known.reserved === 0)) return take()
      if (!isKnown) return limitsUnavailable(this.silence.reason)
      return this.check(access, known) ?? this.reservedElsewhere(access, known)
    })
  }

  /** Gives back what was reserved for a request that has ended. */
  unreserve(access: Allowance, reserved: number): void {
    this.of(identityOf(access)).reserved -= reserved
  }

  release(access: Allowance, reserved: number, answers: number, used: TokenUsage | undefined): void {
    const known = this.of(identityOf(access))
    known.reserved -= reserved
    if (used === undefined) return
    known.recent += used.prompt + used.completion
    // What is stored by then is not claimed any more.
    known.timer ??= setTimeout(() => {
      known.timer = undefined
      void this.read(access, known)
    }, settleTime).unref()
    if (used.completion > 0) known.averageAnswer += alpha * (used.completion / answers - known.averageAnswer)
  }
}

class QuotaTicket implements RateTicket {
  private reserved = 0
  private answers = 1
  private over = false

  constructor(
    private readonly quotas: Quotas,
    private readonly access: Allowance,
    private readonly inner: RateTicket | undefined
  ) {}

  reserve(demand: RateDemand): ErrorResponse | undefined | Promise<ErrorResponse | undefined> {
    const decision = this.quotas.reserve(this.access, demand, (taken) => {
      // The client left while the store was asked.
      if (this.over) this.quotas.unreserve(this.access, taken)
      else this.reserved += taken
      this.answers = Math.max(this.answers, demand.answers)
    })
    if (decision instanceof Promise) return decision.then((problem) => problem ?? this.inner?.reserve(demand))
    return decision ?? this.inner?.reserve(demand)
  }
  release(used: TokenUsage | undefined): void {
    this.over = true
    this.inner?.release(used)
    this.quotas.release(this.access, this.reserved, this.answers, used)
  }
}

/** Enforces quotas in addition to the limits of another limiter. */
export const limiter = (quotas: Quotas, limits: RateLimiter): RateLimiter => {
  const limited = (access: Allowance): ReturnType<RateLimiter["acquire"]> => {
    const free = (problem: ErrorResponse): ErrorResponse => {
      quotas.release(access, 0, 1, undefined)
      return problem
    }
    const ticketOf = (inner: RateTicket | ErrorResponse | undefined) =>
      inner !== undefined && isRejection(inner) ? free(inner) : new QuotaTicket(quotas, access, inner)
    const inner = limits.acquire(access)
    return inner instanceof Promise ? inner.then(ticketOf) : ticketOf(inner)
  }
  return {
    acquire: (access) => {
      if (access.quota === undefined) return limits.acquire(access)
      const problem = quotas.acquire(access)
      if (!(problem instanceof Promise)) return problem ?? limited(access)
      // A key with a quota always has a ticket, or a rejection.
      return problem.then(
        (found) => found ?? (limited(access) as RateTicket | ErrorResponse | Promise<RateTicket | ErrorResponse>)
      )
    }
  }
}
