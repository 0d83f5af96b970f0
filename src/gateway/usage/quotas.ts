/**
 * Quotas of keys: tokens of prompts and answers per day, week (from Monday) and month, in UTC, over all gateways that use
 * one store.
 *
 * What was used is read from the store at most each second while there is much left, and before each request while there is
 * little. A request is admitted if what it may need is left, or if it is the only one of its key in this process: so each
 * process goes beyond a quota by one request at most. While the store is away, what is known goes on to hold.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type * as Store from "../../Store.js"
import { type ErrorResponse, make as makeError } from "../http/errorResponse.js"
import type { Allowance, RateDemand, RateLimiter, RateTicket, TokenUsage } from "../rateLimits.js"
import { isRejection } from "../rateLimits.js"
import { inTime } from "../storeTimeout.js"
import type { UsageRecorder } from "./UsageRecorder.js"

const dayLength = 86_400_000

/** How old what is known may be while much is left, in milliseconds. */
const maxAge = 1_000

/** Little is left: less than this share, or than this many times what this process used since it last looked. */
const nearEnd = 0.1
const otherGateways = 16

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
  active: number
  averageAnswer: number
  readAt: number
  reading: Promise<void> | undefined
}

const select = (sql: SqlClient, key: string, from: number): Effect.Effect<ReadonlyMap<number, number>, SqlError> =>
  Effect.map(
    sql<{
      day: number
      tokens: number
    }>`SELECT day, tokens FROM aicortex_key_tokens WHERE key_name = ${key} AND day >= ${from}`,
    (rows) => new Map(rows.map(({ day, tokens }) => [day, tokens]))
  )

export class Quotas {
  private readonly keys = new Map<string, KeyTokens>()

  constructor(
    private readonly store: Store.Service,
    private readonly usage: UsageRecorder
  ) {}

  private of(name: string): KeyTokens {
    let known = this.keys.get(name)
    if (known === undefined) {
      known = {
        days: new Map(),
        recent: 0,
        reserved: 0,
        active: 0,
        averageAnswer: initialAnswerTokens,
        readAt: Number.NEGATIVE_INFINITY,
        reading: undefined
      }
      this.keys.set(name, known)
    }
    return known
  }

  private read(name: string, known: KeyTokens, now: number): Promise<void> {
    // The longest period begins at most 31 days ago.
    const from = Math.floor(now / dayLength) - 31
    known.reading ??= Effect.runPromise(
      inTime(
        Effect.zipRight(
          this.usage.flush,
          this.store.use((sql) => select(sql, name, from))
        )
      ).pipe(
        Effect.match({
          onSuccess: (days) => {
            known.days = days
            known.recent = this.usage.unstored(name)
          },
          onFailure: () => {}
        })
      )
    ).finally(() => {
      known.readAt = performance.now()
      known.reading = undefined
    })
    return known.reading
  }

  private used({ days, recent }: KeyTokens, { from }: Period): number {
    let sum = recent
    for (const [day, tokens] of days) if (day >= from) sum += tokens
    return sum
  }

  private isNear(access: Allowance, known: KeyTokens, now: number): boolean {
    return periodsOf(access, now).some(
      (period) =>
        period.limit - this.used(known, period) - known.reserved <
        Math.max(period.limit * nearEnd, otherGateways * (known.recent + known.reserved))
    )
  }

  private rejection(name: string, { limit, next, words }: Period, now: number): ErrorResponse {
    const end = next * dayLength
    const message = `The API key '${name}' has used its quota of ${limit} tokens per ${words}. The next ${words} begins at ${new Date(end).toISOString()}.`
    return makeError(429, message, "quota_exceeded", null, end - now)
  }

  /** The rejection of a request where nothing is left. */
  private check(access: Allowance, known: KeyTokens, now: number): ErrorResponse | undefined {
    const over = periodsOf(access, now).find((period) => this.used(known, period) >= period.limit)
    return over === undefined ? undefined : this.rejection(access.name, over, now)
  }

  /** Admits a request, or returns the rejection; asynchronous where the store has to be asked. */
  acquire(access: Allowance): ErrorResponse | undefined | Promise<ErrorResponse | undefined> {
    const known = this.of(access.name)
    const now = Date.now()
    const age = performance.now() - known.readAt
    const isNear = this.isNear(access, known, now)
    const enter = (): ErrorResponse | undefined => {
      const problem = this.check(access, known, Date.now())
      if (problem === undefined) known.active++
      return problem
    }
    if (isNear || age > maxAge) {
      const reading = this.read(access.name, known, now)
      if (isNear || age === Number.POSITIVE_INFINITY) return reading.then(enter)
    }
    return enter()
  }

  /** Reserves what a request may need, or returns the rejection. */
  reserve(access: Allowance, { answers, maxTokens, prompt }: RateDemand): number | ErrorResponse {
    const known = this.of(access.name)
    const now = Date.now()
    const problem = this.check(access, known, now)
    if (problem !== undefined) return problem
    const tokens = Math.ceil(prompt + answers * (maxTokens ?? 2 * known.averageAnswer))
    const over = periodsOf(access, now).find(
      (period) => this.used(known, period) + known.reserved + tokens > period.limit
    )
    if (over !== undefined && known.active > 1) {
      const message = `What the API key '${access.name}' has left of its quota of ${over.limit} tokens per ${over.words} is reserved by its requests under way.`
      return makeError(429, message, "quota_reserved", null, 1_000)
    }
    known.reserved += tokens
    return tokens
  }

  release(access: Allowance, reserved: number, answers: number, used: TokenUsage | undefined): void {
    const known = this.of(access.name)
    known.active--
    known.reserved -= reserved
    if (used === undefined) return
    known.recent += used.prompt + used.completion
    // Other gateways are to know soon: after this request has been counted.
    if (this.isNear(access, known, Date.now()))
      setImmediate(() => void Effect.runPromise(Effect.ignore(this.usage.flush)))
    if (used.completion > 0) known.averageAnswer += alpha * (used.completion / answers - known.averageAnswer)
  }
}

class QuotaTicket implements RateTicket {
  private reserved = 0
  private answers = 1

  constructor(
    private readonly quotas: Quotas,
    private readonly access: Allowance,
    private readonly inner: RateTicket | undefined
  ) {}

  reserve(demand: RateDemand): ErrorResponse | undefined | Promise<ErrorResponse | undefined> {
    const taken = this.quotas.reserve(this.access, demand)
    if (typeof taken !== "number") return taken
    this.reserved += taken
    this.answers = Math.max(this.answers, demand.answers)
    return this.inner?.reserve(demand)
  }
  release(used: TokenUsage | undefined): void {
    this.inner?.release(used)
    this.quotas.release(this.access, this.reserved, this.answers, used)
  }
}

/** Enforces quotas besides the limits of another limiter. */
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
