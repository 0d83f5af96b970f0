/** What remote servers had on a day and in a month, tokens and money, for the ceilings of them. */
import * as Context from "effect/Context"
import * as Schema from "effect/Schema"
import { counts, mergeCounts, ownName, type SavedCount, SharedCount } from "./sharedCount.js"

/** A day, in milliseconds. Days begin at midnight UTC. */
const dayLength = 86_400_000

const dayOf = (now: number): number => Math.floor(now / dayLength)

/** Months since the epoch. */
const monthOf = (now: number): number => {
  const date = new Date(now)
  return (date.getUTCFullYear() - 1970) * 12 + date.getUTCMonth()
}

const endOfDay = (now: number): number => (dayOf(now) + 1) * dayLength
const endOfMonth = (now: number): number => Date.UTC(1970, monthOf(now) + 1, 1)

const Amounts = counts(Schema.NonNegative)

/**
 * What remote servers had on a day: what is kept of it, and what processes tell each other. `day` counts from the epoch
 * (UTC), `month` too; `tokens`, `costs` and `monthCosts` are those of each process, by a random name.
 */
export const SavedRemoteTokens = Schema.Struct({
  /** Days since the epoch (UTC). */
  day: Schema.NonNegativeInt,
  /** The tokens of the day, of each process. */
  tokens: counts(Schema.NonNegativeInt),
  /** What they cost, of each process. */
  costs: Schema.optional(Amounts),
  /** Months since the epoch (UTC). */
  month: Schema.optional(Schema.NonNegativeInt),
  /** What the month cost, of each process. */
  monthCosts: Schema.optional(Amounts)
})
export type SavedRemoteTokens = typeof SavedRemoteTokens.Type

/**
 * The tokens of prompts and answers of remote servers on this day, which begins at midnight UTC.
 *
 * @since 0.2.0
 * @category models
 */
export interface RemoteTokens {
  /** How many there were. */
  readonly used: number
  /** How many there may be; `undefined`: as many as wanted. */
  readonly limit: number | undefined
  /** When the count begins again, in milliseconds since the epoch. */
  readonly resetsAt: number
}

/**
 * What remote servers cost in a day or a month (UTC).
 *
 * @since 0.4.0
 * @category models
 */
export interface RemoteCost {
  /** What they cost so far. */
  readonly spent: number
  /** What they may cost; `undefined`: as much as wanted. */
  readonly limit: number | undefined
  /** When the count begins again, in milliseconds since the epoch. */
  readonly resetsAt: number
}

/**
 * What remote servers cost on this day and in this month, in the currency of `prices`.
 *
 * @since 0.4.0
 * @category models
 */
export interface RemoteCosts {
  /** Such as `EUR`. */
  readonly currency: string
  /** On this day (UTC). */
  readonly day: RemoteCost
  /** In this month (UTC). */
  readonly month: RemoteCost
}

const savedOf = (period: number | undefined, all: SavedCount["counts"] | undefined): SavedCount | undefined =>
  period === undefined || all === undefined ? undefined : { period, counts: all }

/** A state of two processes: of each process what is known to be most. */
export const mergeRemoteTokens = (
  a: SavedRemoteTokens | undefined,
  b: SavedRemoteTokens | undefined
): SavedRemoteTokens | undefined => {
  const tokens = mergeCounts(savedOf(a?.day, a?.tokens), savedOf(b?.day, b?.tokens))
  const costs = mergeCounts(savedOf(a?.day, a?.costs), savedOf(b?.day, b?.costs))
  const months = mergeCounts(savedOf(a?.month, a?.monthCosts), savedOf(b?.month, b?.monthCosts))
  return tokens === undefined ? undefined : together(tokens.period, tokens, costs, months)
}

const together = (
  day: number,
  tokens: SavedCount | undefined,
  costs: SavedCount | undefined,
  months: SavedCount | undefined
): SavedRemoteTokens => ({
  day,
  tokens: tokens?.counts ?? {},
  ...(costs?.period === day ? { costs: costs.counts } : {}),
  ...(months === undefined ? {} : { month: months.period, monthCosts: months.counts })
})

/**
 * Counts what remote servers had by day and month. Each process counts its own, so that counts of several can be merged
 * in any order and more than once.
 *
 * @since 0.2.0
 * @category models
 */
export class RemoteTokenCounter {
  private readonly name = ownName()
  private readonly tokens = new SharedCount(this.name)
  private readonly costs = new SharedCount(this.name)
  private readonly monthCosts = new SharedCount(this.name)

  /** Counts these, at a time in milliseconds since the epoch. What is no count is none. */
  add(tokens: number, now: number): void {
    const count = Math.round(tokens)
    if (Number.isSafeInteger(count) && count > 0) this.tokens.add(count, dayOf(now))
  }

  /** Counts what tokens have cost. */
  addCost(cost: number, now: number): void {
    if (!Number.isFinite(cost) || cost <= 0) return
    this.costs.add(cost, dayOf(now))
    this.monthCosts.add(cost, monthOf(now))
  }

  /** How many tokens there were on the day of that time, by all processes that are known of. */
  used(now: number): number {
    return this.tokens.used(dayOf(now))
  }

  /** When the day ends, in milliseconds since the epoch. */
  resetsAt(now: number): number {
    return endOfDay(now)
  }

  /** What was spent on the day and in the month of that time. */
  spent(now: number): { readonly [period in "day" | "month"]: { readonly spent: number; readonly resetsAt: number } } {
    return {
      day: { spent: this.costs.used(dayOf(now)), resetsAt: endOfDay(now) },
      month: { spent: this.monthCosts.used(monthOf(now)), resetsAt: endOfMonth(now) }
    }
  }

  /** What to send to other processes; `undefined`: nothing was counted. */
  saved(now: number): SavedRemoteTokens | undefined {
    const day = dayOf(now)
    const tokens = this.tokens.saved(day)
    const months = this.monthCosts.saved(monthOf(now))
    return tokens === undefined && months === undefined
      ? undefined
      : together(day, tokens, this.costs.saved(day), months)
  }

  /** Takes over what other processes have counted in the same day and month. */
  merge(saved: SavedRemoteTokens | undefined, now: number): void {
    this.tokens.merge(savedOf(saved?.day, saved?.tokens), dayOf(now))
    this.costs.merge(savedOf(saved?.day, saved?.costs), dayOf(now))
    this.monthCosts.merge(savedOf(saved?.month, saved?.monthCosts), monthOf(now))
  }
}

/**
 * What a fleet counts the tokens of remote servers with, where that outlives it or is shared; default: a counter of its
 * own.
 *
 * @since 0.2.0
 * @category tags
 */
export class SharedRemoteTokens extends Context.Reference<SharedRemoteTokens>()("aicortex/Fleet/SharedRemoteTokens", {
  defaultValue: (): RemoteTokenCounter | undefined => undefined
}) {}
