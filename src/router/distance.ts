/** A server's speed and distance. */
import type { Snapshot } from "../Fleet.js"
import { plausible } from "../internal/speed.js"
import type { Host, Location } from "../Server.js"

/**
 * A server that may serve a request, with its state at one moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerCandidate {
  /** The server. */
  readonly host: Host
  /** Its state. */
  readonly snapshot: Snapshot
}

/**
 * Tokens per second: measured, else the registry's figure.
 *
 * @since 0.1.0
 * @category accessors
 */
export const speed = (candidate: ServerCandidate): number | undefined => {
  return plausible(candidate.snapshot.tokensPerSecond) ?? plausible(candidate.host.performance?.tokens_per_second)
}

const radians = (degrees: number): number => (degrees * Math.PI) / 180

/**
 * The great-circle distance between two places, in kilometres; `undefined` without coordinates.
 *
 * @since 0.1.0
 * @category accessors
 */
export const distance = (a: Location | undefined, b: Location | undefined): number | undefined => {
  if (a?.latitude === undefined || a.longitude === undefined) return undefined
  if (b?.latitude === undefined || b.longitude === undefined) return undefined
  const dLat = radians(b.latitude - a.latitude)
  const dLon = radians(b.longitude - a.longitude)
  const h =
    Math.sin(dLat / 2) ** 2 + Math.cos(radians(a.latitude)) * Math.cos(radians(b.latitude)) * Math.sin(dLon / 2) ** 2
  return 2 * 6371 * Math.asin(Math.min(1, Math.sqrt(h)))
}

/** Light in fibre covers a round trip of 100 km per millisecond. */
const kilometresPerMillisecond = 100

/**
 * A server's distance as a round trip in milliseconds: from the coordinates if both are known, else as measured, else
 * `undefined`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remoteness = (
  candidate: { readonly host: Host; readonly snapshot: Pick<Snapshot, "roundTrip"> },
  location: Location | undefined
): number | undefined => {
  const { server } = candidate.host
  const kilometres = distance(location, server.coordinates ?? server.location)
  return kilometres === undefined ? candidate.snapshot.roundTrip : kilometres / kilometresPerMillisecond
}

/**
 * Whether a server should be avoided while there are others: its breaker is open, or its one probe is in flight.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resting = ({ snapshot }: ServerCandidate): boolean =>
  snapshot.breaker === "open" || (snapshot.breaker === "half-open" && snapshot.probing)
