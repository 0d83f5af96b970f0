/** How many tokens remote servers took and gave on a day, for the ceiling of them. */
import * as Context from "effect/Context"
import * as Schema from "effect/Schema"

/** A day, in milliseconds. Days begin at midnight UTC. */
const dayLength = 86_400_000

/**
 * The tokens of remote servers on a day: what is kept of them, and what processes tell each other. `day` counts from the
 * epoch (UTC); `tokens` are those of each process, by a random name.
 */
export const SavedRemoteTokens = Schema.Struct({
  day: Schema.NonNegativeInt,
  tokens: Schema.Record({ key: Schema.NonEmptyString, value: Schema.NonNegativeInt })
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

/** Whether remote servers may not be asked any more on this day. */
export const isExhausted = ({ limit, used }: RemoteTokens): boolean => limit !== undefined && used >= limit

/** Why a remote server is not asked, in words that name none. */
export const exhaustedReason = ({ limit = 0, resetsAt }: RemoteTokens): string =>
  `the ceiling of ${limit} tokens per day on remote servers is reached, until ${new Date(resetsAt).toISOString()}`

const ownName = (): string =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0")).join(
    ""
  )

/** A state of two processes: of each process what is known to be most. */
export const mergeRemoteTokens = (
  a: SavedRemoteTokens | undefined,
  b: SavedRemoteTokens | undefined
): SavedRemoteTokens | undefined => {
  if (a === undefined || b === undefined || a.day !== b.day) return (a?.day ?? -1) >= (b?.day ?? -1) ? a : b
  const tokens = new Map(Object.entries(a.tokens))
  for (const [name, count] of Object.entries(b.tokens)) tokens.set(name, Math.max(tokens.get(name) ?? 0, count))
  return { day: a.day, tokens: Object.fromEntries(tokens) }
}

/**
 * Counts tokens of remote servers by day. Each process counts its own, so that counts of several can be merged in any
 * order and more than once.
 *
 * @since 0.2.0
 * @category models
 */
export class RemoteTokenCounter {
  private day = -1
  private own = 0
  private others: ReadonlyMap<string, number> = new Map()
  private total = 0
  private readonly name = ownName()

  /** Counts these, at a time in milliseconds since the epoch. What is no count is none. */
  add(tokens: number, now: number): void {
    this.turn(now)
    const count = Math.round(tokens)
    if (!Number.isSafeInteger(count) || count <= 0) return
    this.own += count
    this.total += count
  }

  /** How many there were on the day of that time, by all processes that are known of. */
  used(now: number): number {
    this.turn(now)
    return this.total
  }

  /** When the day ends, in milliseconds since the epoch. */
  resetsAt(now: number): number {
    this.turn(now)
    return (this.day + 1) * dayLength
  }

  /** What other processes may be told; `undefined`: nothing was counted. */
  saved(now: number): SavedRemoteTokens | undefined {
    this.turn(now)
    if (this.total === 0) return undefined
    const own = this.own === 0 ? {} : { [this.name]: this.own }
    return { day: this.day, tokens: { ...Object.fromEntries(this.others), ...own } }
  }

  /** Takes over what other processes have counted on the same day. */
  merge(saved: SavedRemoteTokens | undefined, now: number): void {
    this.turn(now)
    if (saved === undefined || saved.day !== this.day) return
    const others = new Map(this.others)
    for (const [name, count] of Object.entries(saved.tokens)) {
      if (name !== this.name) others.set(name, Math.max(others.get(name) ?? 0, count))
    }
    this.others = others
    this.total = this.own
    for (const count of others.values()) this.total += count
  }

  private turn(now: number): void {
    const day = Math.floor(now / dayLength)
    if (day === this.day) return
    this.day = day
    this.own = 0
    this.others = new Map()
    this.total = 0
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
