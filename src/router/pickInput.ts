/**
 * What a decision depends on besides what is known of the servers, and what it may come to.
 *
 * @since 0.1.0
 */
import type { Columns } from "../fleet/columns.js"

/**
 * No place is free now, or none that is worth it: the request should wait for one.
 *
 * @since 0.1.0
 * @category constants
 */
export const waitForSlot = -1

/**
 * There is no server left.
 *
 * @since 0.1.0
 * @category constants
 */
export const none = -2

/**
 * - `now`: the time, in milliseconds since the epoch
 * - `random`: chance, a number from 0 up to, but not including, 1
 * - `affinity`: the index of the server that served the same conversation last
 * - `tokens`: about how many the prompt has; `cached`: how many of them that server is believed to have in its cache
 * - `waited`: whether it is this request's turn; another one goes behind those who wait
 * - `explore`: whether `fastest` may try a server whose speed is not known (default: it does)
 *
 * @since 0.1.0
 * @category models
 */
export interface PickInput {
  readonly now: number
  readonly random: () => number
  readonly affinity?: number | undefined
  readonly tokens?: number | undefined
  readonly cached?: number | undefined
  readonly waited?: boolean | undefined
  readonly explore?: boolean | undefined
}

/**
 * Whether an entry should be left alone while there are others: it rests after a failure, or its one probe is under way.
 *
 * @since 0.1.0
 * @category accessors
 */
export const restingAt = (pool: Columns, i: number, now: number): boolean => {
  const until = pool.restsUntil[i] ?? 0
  return until !== 0 && (until > now || pool.probing[i] === 1)
}

/**
 * Whether a load there that began so long ago is still believed in: one that takes far longer than usual is not.
 *
 * @since 0.1.0
 * @category accessors
 */
export const loadingAt = (pool: Columns, i: number, now: number): boolean =>
  (pool.ownInFlight[i] ?? 0) > 0 &&
  (pool.residentUntil[i] ?? 0) <= now &&
  now - (pool.loadSince[i] ?? 0) < 2 * pool.queue.loadTime
