/** Counts of a period that several processes exchange, in any order and more than once. */
import * as Schema from "effect/Schema"

/** Amounts of each process by a random name, in one period. Periods are numbered. */
export const counts = <A, I>(amount: Schema.Schema<A, I>) =>
  Schema.Record({ key: Schema.NonEmptyString, value: amount })

/** The amounts of a period, as processes exchange them. */
export interface SavedCount {
  readonly period: number
  readonly counts: { readonly [process: string]: number }
}

/** Of each process what is known to be most, in the later period. */
export const mergeCounts = (a: SavedCount | undefined, b: SavedCount | undefined): SavedCount | undefined => {
  if (a === undefined || b === undefined || a.period !== b.period) return (a?.period ?? -1) >= (b?.period ?? -1) ? a : b
  const all = new Map(Object.entries(a.counts))
  for (const [name, count] of Object.entries(b.counts)) all.set(name, Math.max(all.get(name) ?? 0, count))
  return { period: a.period, counts: Object.fromEntries(all) }
}

export const ownName = (): string =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join(
    ""
  )

/** Counts what this process and others have used in a period; a new period begins with nothing. */
export class SharedCount {
  private period = -1
  private own = 0
  private others: ReadonlyMap<string, number> = new Map()
  private total = 0

  constructor(private readonly name: string) {}

  add(amount: number, period: number): void {
    this.turn(period)
    this.own += amount
    this.total += amount
  }

  /** How much there was in this period, by all processes that are known of. */
  used(period: number): number {
    this.turn(period)
    return this.total
  }

  /** What to send to other processes; `undefined`: nothing was counted. */
  saved(period: number): SavedCount | undefined {
    this.turn(period)
    if (this.total === 0) return undefined
    const own = this.own === 0 ? {} : { [this.name]: this.own }
    return { period, counts: { ...Object.fromEntries(this.others), ...own } }
  }

  /** Takes over what other processes have counted in the same period. */
  merge(saved: SavedCount | undefined, period: number): void {
    this.turn(period)
    if (saved === undefined || saved.period !== period) return
    const others = new Map(this.others)
    for (const [name, count] of Object.entries(saved.counts)) {
      if (name !== this.name) others.set(name, Math.max(others.get(name) ?? 0, count))
    }
    this.others = others
    this.total = this.own
    for (const count of others.values()) this.total += count
  }

  private turn(period: number): void {
    if (period === this.period) return
    this.period = period
    this.own = 0
    this.others = new Map()
    this.total = 0
  }
}
