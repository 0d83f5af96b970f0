/** The inputs of a routing decision other than the servers' state, and its special results. */
import type { Columns } from "../fleet/columns.js"

/**
 * No suitable slot is free now: the request should wait for one.
 *
 * @since 0.1.0
 * @category constants
 */
export const waitForSlot = -1

/**
 * No server is left.
 *
 * @since 0.1.0
 * @category constants
 */
export const none = -2

/**
 * What a choice of a server depends on, in addition to the columns.
 *
 * @since 0.1.0
 * @category models
 */
export interface PickInput {
  /** The time, in milliseconds since the epoch. */
  readonly now: number
  /** A random number from 0 up to, but not including, 1. */
  readonly random: () => number
  /** The index of the server that served the same conversation last. */
  readonly affinity?: number | undefined
  /** Estimated prompt tokens; `cached`: how many of them that server has in its cache. */
  readonly tokens?: number | undefined
  /** How many of them that server has in its cache. */
  readonly cached?: number | undefined
  /** Whether it is this request's turn; others queue behind those who wait. */
  readonly waited?: boolean | undefined
  /** Whether `fastest` may try a server of unknown speed (default: yes). */
  readonly explore?: boolean | undefined
}

/** Whether an entry should be avoided while there are others: its breaker is open, or its one probe is in flight. */
export const restingAt = (pool: Columns, i: number, now: number): boolean => {
  const until = pool.restsUntil[i] ?? 0
  return until !== 0 && (until > now || pool.probing[i] === 1)
}

/** Whether a load that began at this time is still credible: one that takes far longer than usual is not. */
export const loadingAt = (pool: Columns, i: number, now: number): boolean =>
  (pool.ownInFlight[i] ?? 0) > 0 &&
  (pool.residentUntil[i] ?? 0) <= now &&
  now - (pool.loadSince[i] ?? 0) < 2 * pool.queue.loadTime
