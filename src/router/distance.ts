/**
 * How fast and how far away a server is.
 *
 * @since 0.1.0
 */
import type { Snapshot } from "../Fleet.js"
import { believable } from "../internal/speed.js"
import type { Host, Location } from "../Server.js"

/**
 * A server that may serve a request, and what is known of it at one moment.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerCandidate {
  readonly host: Host
  readonly snapshot: Snapshot
}

/**
 * Tokens per second: what we measured ourselves, else the registry's figure.
 *
 * @since 0.1.0
 * @category accessors
 */
export const speed = (candidate: ServerCandidate): number | undefined => {
  return believable(candidate.snapshot.tokensPerSecond) ?? believable(candidate.host.performance?.tokens_per_second)
}

const radians = (degrees: number): number => (degrees * Math.PI) / 180

/**
 * The great-circle distance between two places, in kilometres; `undefined` where one of them has no coordinates.
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

/** Light in a fibre goes there and back over 100 km in a millisecond. */
const kilometresPerMillisecond = 100

/**
 * How far away a server is, as a round trip in milliseconds: from its distance where both places are known, else as
 * measured, else `undefined`.
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
 * Whether a server should be left alone while there are others: it rests after a failure, or its one probe is under
 * way.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resting = ({ snapshot }: ServerCandidate): boolean =>
  snapshot.breaker === "open" || (snapshot.breaker === "half-open" && snapshot.probing)
