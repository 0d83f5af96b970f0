/**
 * What gateways have claimed of a quota: tokens that they may use, and that are not counted in the store yet. Pure
 * functions.
 */

/** How long the claim of a silent gateway counts, in milliseconds. */
export const claimLife = 60_000

/** All claims ahead of need together are at most this share of a quota. */
const aheadShare = 0.01

interface ClaimOf {
  readonly tokens: number
  readonly seen: number
}

/** As the store keeps them. */
export interface Claims {
  readonly claims?: { readonly [replica: string]: ClaimOf } | undefined
}

/** What a gateway wants. */
export interface Wanted {
  readonly replica: string
  /** What it has used that is not counted yet, and reserved. */
  readonly own: number
  /** What it wants beyond that. */
  readonly wanted: number
  /** What is left of the quota by what is counted, and the whole of it. */
  readonly left: number
  readonly quota: number
}

/** The claims afterwards, and how much the gateway may use in all. `now` is in milliseconds since the epoch. */
export const claim = (
  { claims = {} }: Claims,
  { left, own, quota, replica, wanted }: Wanted,
  now: number
): readonly [Claims, number] => {
  const others = Object.entries(claims).filter(([id, { seen }]) => id !== replica && now - seen < claimLife)
  const replicas = others.length + 1
  const free = left - others.reduce((sum, [, { tokens }]) => sum + tokens, 0)
  const needed = own + wanted
  // Less is claimed ahead as the end comes nearer.
  const ahead = Math.floor(Math.min((quota * aheadShare) / replicas, Math.max(0, free - needed) / (2 * replicas)))
  // What is used already is used.
  const claimed = Math.max(own, Math.min(needed + ahead, free))
  const next = claimed === 0 ? others : [...others, [replica, { tokens: claimed, seen: now }] as const]
  return [{ claims: Object.fromEntries(next) }, claimed]
}
