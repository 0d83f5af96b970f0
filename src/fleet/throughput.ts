/** The throughput of a connection, from the arrival of a body. */
import type { Transfer } from "../Transport.js"

/** Smaller bodies show the round trip, not the throughput. */
const minBytes = 64 * 1024

/** A new connection may carry so many bytes in its first round trip, and twice as many in each further one. */
const initialWindow = 14_600

/** Shorter times are those of this process rather than of the line, in milliseconds. */
const shortest = 5

/** Only a body that takes so many times as long as its connection needs to get going shows the line's limit. */
const minFactor = 3

/** Whether a body is large enough to show the throughput. */
export const isTelling = ({ bytes }: Transfer): boolean => bytes >= minBytes

/**
 * Megabits per second of a line with this round trip (in milliseconds). A body that came too fast to show a limit tells
 * only that the line transfers at least so much, which is of use where that is `enough`; `undefined`: it tells nothing.
 */
export const throughputOf = (
  { bytes, milliseconds }: Transfer,
  roundTrip: number | undefined,
  enough: number
): number | undefined => {
  const megabits = (bytes * 8) / 1e6
  const atLeast = megabits / (Math.max(shortest, milliseconds) / 1_000)
  if (roundTrip === undefined) return atLeast >= enough ? atLeast : undefined
  const start = roundTrip * Math.max(0, Math.log2(1 + bytes / initialWindow) - 1)
  if (milliseconds >= Math.max(shortest, minFactor * start)) return megabits / ((milliseconds - start) / 1_000)
  return atLeast >= enough ? atLeast : undefined
}
