/**
 * What all replicas know of the limits of one key, and how an exchange of one of them changes it: pure functions.
 *
 * Requests and tokens are token buckets that refill steadily over a minute, of which replicas take slices; places for
 * requests at once are held by replicas until they give them back, or have not been heard of for a minute.
 */

const minute = 60_000

/** How long the slots of a silent replica stay taken, in milliseconds. */
export const replicaLife = 60_000

/** Sums of fractions come out a little lower. */
const rounding = 1e-6

/** All slices together hold at most this share of a limit: what one replica holds, another cannot use. */
const heldShare = 0.01

/** A bucket, and when its content was computed, in milliseconds since the epoch by the clock of the store. */
interface Bucket {
  readonly left: number
  readonly at: number
}

/**
 * A replica that uses the key: how many requests at once it may have, when it was last heard of, and what its last
 * exchange gave it, for when it did not learn of that.
 */
interface Holder {
  readonly held: number
  readonly seen: number
  readonly last?: { readonly number: number; readonly requests: number; readonly tokens: number } | undefined
}

/** As the store keeps it. */
export interface SharedLimits {
  readonly requests?: Bucket | undefined
  readonly tokens?: Bucket | undefined
  readonly replicas?: { readonly [id: string]: Holder } | undefined
}

/** Amounts by kind of limit. */
export interface Amounts {
  readonly requests: number
  readonly tokens: number
  readonly slots: number
}

/** What a replica wants and gives. */
export interface SliceExchange {
  /** Its id. */
  readonly replica: string
  /** The limits of the key; Infinity: none. */
  readonly limits: Amounts
  /** Requests and tokens that it gives back; negative: used beyond its slice. */
  readonly give: Pick<Amounts, "requests" | "tokens">
  /** Places that it keeps. */
  readonly keep: number
  /** What it needs beyond what it has. A slice comes on top of it. */
  readonly need: Amounts
  /** The least that is of use of what it needs. */
  readonly least: Amounts
  /** Whether it has no use for the key any more. */
  readonly leaves: boolean
  /** Which of its exchanges this is, counted from 1. */
  readonly number: number
  /** Whether it may have been done already: its result did not arrive. */
  readonly repeats: boolean
}

/** What it gets. */
export interface Grant {
  /** Requests and tokens beyond what it had. */
  readonly requests: number
  readonly tokens: number
  /** All the places that it has now. */
  readonly held: number
  /** How many replicas use the key. */
  readonly replicas: number
  /** Until what it needs can be had, in milliseconds; 0: it was had. */
  readonly wait: Pick<Amounts, "requests" | "tokens">
}

/** How much a replica takes beyond what it needs. */
export const sliceOf = (limit: number, replicas: number): number =>
  Number.isFinite(limit) ? Math.floor((limit * heldShare) / Math.max(1, replicas)) : 0

interface Taken {
  readonly bucket: Bucket | undefined
  readonly granted: number
  readonly wait: number
}

const take = (
  known: Bucket | undefined,
  limit: number,
  {
    give,
    least,
    need,
    replicas
  }: { readonly give: number; readonly least: number; readonly need: number; readonly replicas: number },
  now: number
): Taken => {
  if (!Number.isFinite(limit)) return { bucket: undefined, granted: 0, wait: 0 }
  const { at, left: before } = known ?? { left: limit, at: now }
  // The clock of another machine may have taken over.
  const refilled = Math.min(limit, before + (Math.max(0, now - at) / minute) * limit)
  const left = Math.min(limit, refilled + give)
  const bucket = (granted: number) => ({ left: left - granted, at: Math.max(at, now) })
  if (need <= 0) return { bucket: bucket(0), granted: 0, wait: 0 }
  if (left + rounding < least) return { bucket: bucket(0), granted: 0, wait: ((least - left) / limit) * minute }
  // Slices become smaller as the end comes nearer.
  const slice = Math.min(sliceOf(limit, replicas), Math.floor(Math.max(0, left - need) / (2 * replicas)))
  // A part of a request is of no use to anybody but in the bucket.
  const granted = Math.min(Math.floor(left + rounding), need + slice)
  return { bucket: bucket(granted), granted, wait: granted < need ? ((need - left) / limit) * minute : 0 }
}

/** What a replica gets whose exchange was done before, but whose response was lost. */
const repeated = (
  shared: SharedLimits,
  { held, last }: Pick<Holder, "held" | "last">,
  replicas: number
): readonly [SharedLimits, Grant] => [
  shared,
  { requests: last?.requests ?? 0, tokens: last?.tokens ?? 0, held, replicas, wait: { requests: 0, tokens: 0 } }
]

/** The limits after an exchange, and what the replica gets. `now` is in milliseconds since the epoch. */
export const exchange = (
  shared: SharedLimits,
  { give, keep, least, leaves, limits, need, number, repeats, replica }: SliceExchange,
  now: number
): readonly [SharedLimits, Grant] => {
  const others = Object.entries(shared.replicas ?? {}).filter(
    ([id, { seen }]) => id !== replica && now - seen < replicaLife
  )
  const replicas = others.length + 1
  if (repeats) {
    const known = shared.replicas?.[replica]
    if (known?.last?.number === number) return repeated(shared, known, replicas)
    // It has left.
    if (leaves && known === undefined) return repeated(shared, { held: 0 }, replicas)
  }
  const of = (kind: "requests" | "tokens") =>
    take(shared[kind], limits[kind], { give: give[kind], need: need[kind], least: least[kind], replicas }, now)
  const requests = of("requests")
  const tokens = of("tokens")
  const taken = others.reduce((sum, [, { held }]) => sum + held, 0)
  const free = Math.max(0, limits.slots - taken - keep)
  const held = need.slots > 0 ? keep + Math.min(free, need.slots + sliceOf(limits.slots, replicas)) : keep
  const last = { number, requests: requests.granted, tokens: tokens.granted }
  const next = Object.fromEntries(leaves ? others : [...others, [replica, { held, seen: now, last }]])
  return [
    { requests: requests.bucket, tokens: tokens.bucket, replicas: next },
    {
      requests: requests.granted,
      tokens: tokens.granted,
      held,
      replicas,
      wait: { requests: requests.wait, tokens: tokens.wait }
    }
  ]
}

/** The limits after a replica has ended without giving anything back: its places are free. */
export const without = (shared: SharedLimits, replica: string): SharedLimits => {
  const { [replica]: _, ...replicas } = shared.replicas ?? {}
  return { ...shared, replicas }
}
