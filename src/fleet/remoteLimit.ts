/** The ceilings of what remote servers may have, tokens a day and money a day and a month, and the one that is reached. */
import type { PriceOptions } from "../config/prices.js"
import { RemoteBudgetExhausted, RemoteTokensExhausted } from "../Errors.js"
import { type PricedTokens, pricesOf } from "./prices.js"
import type { RemoteCosts, RemoteTokenCounter, RemoteTokens } from "./remoteTokens.js"

/**
 * A ceiling that is reached: nothing more may be sent to remote servers until it ends.
 *
 * @since 0.4.0
 * @category models
 */
export interface RemoteLimit {
  /** The currency of `limit` and `used`; `undefined`: they are tokens. */
  readonly currency: string | undefined
  /** What the ceiling is for. */
  readonly period: "day" | "month"
  /** How much there may be. */
  readonly limit: number
  /** How much there was. */
  readonly used: number
  /** When the count begins again, in milliseconds since the epoch. */
  readonly resetsAt: number
}

/** An amount of money, without what binary fractions add. */
export const amountOf = (amount: number, currency: string): string => `${Number(amount.toPrecision(6))} ${currency}`

/** Why a remote server is not asked, in words that name none. */
export const limitReason = ({ currency, limit, period, resetsAt }: RemoteLimit): string => {
  const what =
    currency === undefined
      ? `the ceiling of ${limit} tokens per ${period} on remote servers`
      : `the budget of ${amountOf(limit, currency)} per ${period} for remote servers`
  return `${what} is reached, until ${new Date(resetsAt).toISOString()}`
}

/** Why one is not asked for a model without a price. */
export const unpriced = "remote servers have a budget, and the price of the model is not known"

/** The error of a call that only remote servers could answer. */
export const limitError = (
  { currency, limit, period, resetsAt, used }: RemoteLimit,
  model: string
): RemoteTokensExhausted | RemoteBudgetExhausted =>
  currency === undefined
    ? new RemoteTokensExhausted({ model, limit, used, resetsAt })
    : new RemoteBudgetExhausted({ model, period, currency, limit, spent: used, resetsAt })

interface Ceilings {
  readonly prices?: PriceOptions | undefined
  readonly remoteTokensPerDay?: number | undefined
  readonly remoteCostPerDay?: number | undefined
  readonly remoteCostPerMonth?: number | undefined
}

/** What remote servers had, and may have. */
export const make = (settings: Ceilings, counter: RemoteTokenCounter, now: () => number) => {
  const { remoteCostPerDay, remoteCostPerMonth, remoteTokensPerDay } = settings
  const prices = pricesOf(settings.prices)
  const hasBudget = remoteCostPerDay !== undefined || remoteCostPerMonth !== undefined

  const remoteTokens = (): RemoteTokens => {
    const time = now()
    return { used: counter.used(time), limit: remoteTokensPerDay, resetsAt: counter.resetsAt(time) }
  }
  const remoteCosts = (): RemoteCosts | undefined => {
    if (prices === undefined) return undefined
    const { day, month } = counter.spent(now())
    return {
      currency: prices.currency,
      day: { ...day, limit: remoteCostPerDay },
      month: { ...month, limit: remoteCostPerMonth }
    }
  }
  /** The one that lasts longest. */
  const remoteLimit = (): RemoteLimit | undefined => {
    const costs = remoteCosts()
    for (const period of ["month", "day"] as const) {
      const { limit, resetsAt, spent = 0 } = costs?.[period] ?? {}
      if (limit === undefined || resetsAt === undefined || spent < limit) continue
      return { currency: costs?.currency, period, limit, used: spent, resetsAt }
    }
    const { limit, resetsAt, used } = remoteTokens()
    return limit === undefined || used < limit
      ? undefined
      : { currency: undefined, period: "day", limit, used, resetsAt }
  }

  return {
    remoteTokens,
    remoteCosts,
    remoteLimit: hasBudget || remoteTokensPerDay !== undefined ? remoteLimit : () => undefined,
    lacksPrice: (model: string): boolean => hasBudget && prices?.has(model) !== true,
    spend: (tokens: number, priced: (PricedTokens & { readonly model: string }) | undefined): void => {
      counter.add(tokens, now())
      if (priced !== undefined) counter.addCost(prices?.cost(priced.model, priced) ?? 0, now())
    }
  }
}
