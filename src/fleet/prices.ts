/** What tokens of a model cost. A model without a configured price has no cost, which is not a cost of 0. */
import type { PriceOptions } from "../config/prices.js"
import { fits, type NamePattern, namePattern } from "../internal/namePattern.js"
import { canonical } from "../Model.js"

type ModelPrice = PriceOptions["models"][string]

/** Tokens of a model: `cached` are those of `prompt` that the server had in its cache. */
export interface PricedTokens {
  readonly prompt: number
  readonly cached: number
  readonly completion: number
}

const defaultCurrency = "USD"

/** Names are looked up once: those of models are few, but a client can invent any number. */
const maxKnown = 10_000

/** Of several names that fit a model, its own goes first, then the longest. */
export class Prices {
  readonly currency: string
  private readonly exact: ReadonlyMap<string, ModelPrice>
  private readonly patterns: ReadonlyArray<readonly [NamePattern, ModelPrice]>
  private readonly known = new Map<string, ModelPrice | undefined>()

  constructor({ currency = defaultCurrency, models }: PriceOptions) {
    this.currency = currency
    const all = Object.entries(models).map(([name, price]) => [canonical(name), price] as const)
    this.exact = new Map(all.filter(([name]) => !name.includes("*")))
    this.patterns = all
      .filter(([name]) => name.includes("*"))
      .sort(([a], [b]) => b.length - a.length)
      .map(([name, price]) => [namePattern(name), price] as const)
  }

  private of(model: string): ModelPrice | undefined {
    if (this.known.has(model)) return this.known.get(model)
    const name = canonical(model)
    const price = this.exact.get(name) ?? this.patterns.find(([pattern]) => fits(pattern, name))?.[1]
    if (this.known.size < maxKnown) this.known.set(model, price)
    return price
  }

  /** Whether the price of a model is known. */
  has(model: string): boolean {
    return this.of(model) !== undefined
  }

  /** What these tokens of a model cost; `undefined`: its price is not known. */
  cost(model: string, { cached, completion, prompt }: PricedTokens): number | undefined {
    const price = this.of(model)
    if (price === undefined) return undefined
    const read = Math.min(cached, prompt)
    const { cached: cachedPrice = price.prompt } = price
    return ((prompt - read) * price.prompt + read * cachedPrice + completion * price.completion) / 1e6
  }
}

/** Prices as the settings give them; `undefined` where they give none. */
export const pricesOf = (options: PriceOptions | undefined): Prices | undefined =>
  options === undefined ? undefined : new Prices(options)
