/** Where `auto` asks first, by what the user prefers and what the conditions are. */
import type { Snapshot } from "../Conditions.js"
import { limitReason, type RemoteLimit } from "../fleet/remoteLimit.js"
import { isLocal, type Server } from "../Server.js"

/**
 * Which servers `auto` asks first where the conditions are good on both sides; `fastest` leaves that to the models and the
 * routing.
 *
 * @since 0.2.0
 * @category models
 */
export type Prefer = "local" | "remote" | "fastest"

/** Where a request goes first. The other servers are asked where none of these can answer at once. */
export interface Placement {
  readonly prefers: (server: Server) => boolean
  /** Why, in words that name no server. */
  readonly reason: string
}

/** The servers there are. */
export interface Sides {
  readonly hasLocal: boolean
  readonly hasRemote: boolean
  /** How many are remote; default: as many as there are lines. */
  readonly remotes?: number | undefined
}

/**
 * - remote servers have had as much as they may have, of tokens or money: the local servers only
 * - this machine is `CRITICAL`, and a line is good: the servers with a good line
 * - no line is good: the local servers; also where this machine is `CRITICAL`, which the reason says
 * - else as `prefer` says, and without servers whose line is not good
 *
 * A line that was not checked yet counts as good, and a machine that cannot be read as available. `undefined`: nothing
 * speaks for one server or another.
 */
export const placementOf = (
  prefer: Prefer,
  { lines, resources }: Snapshot,
  sides: Sides,
  reached?: RemoteLimit
): Placement | undefined => {
  if (!sides.hasRemote) return undefined
  if (reached !== undefined) {
    return { prefers: isLocal, reason: `${limitReason(reached)}: only local servers are asked` }
  }
  const bad = new Map(lines.filter(({ state }) => state !== "OPTIMAL").map((line) => [line.server, line]))
  const isGood = (server: Server): boolean => !isLocal(server) && !bad.has(server.url)
  const allBad = bad.size > 0 && bad.size >= (sides.remotes ?? lines.length)
  const exhausted = resources?.state === "CRITICAL" ? `this machine is at its limit (${resources.reason})` : undefined
  const [first] = bad.values()
  const line =
    lines.every(({ state }) => state === "DISCONNECTED") || first === undefined
      ? "no remote server is reached"
      : `the line to remote servers is bad (${first.reason})`
  if (sides.hasLocal && allBad) {
    const reason =
      exhausted === undefined
        ? `${line}: local servers go first`
        : `${exhausted}, and ${line}: local servers go first all the same`
    return { prefers: isLocal, reason }
  }
  if (sides.hasLocal && exhausted !== undefined) {
    return { prefers: isGood, reason: `${exhausted}: remote servers go first` }
  }
  if (sides.hasLocal && prefer === "local") return { prefers: isLocal, reason: "local servers are preferred" }
  if (sides.hasLocal && prefer === "remote") return { prefers: isGood, reason: "remote servers are preferred" }
  if (bad.size === 0 || allBad) return undefined
  return { prefers: (server) => !bad.has(server.url), reason: "servers with a bad line go last" }
}
